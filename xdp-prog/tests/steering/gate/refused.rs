//! What isn't let in, and what isn't for the gate at all. In either case nothing changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, UdpHeader};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use xdp_prog::{
    Program, Storage,
    gate::{Entry, Run},
};

use super::{
    packet, payload, shapes,
    shared::{GRANT, Lane, SOURCE_PORT, TOKEN, run},
};
use crate::{
    packet::{BULK_HEADER, Node, PORT, bulk, ip, node_v4, nodes},
    trial::{tried, verdict},
};

#[test]
fn what_is_of_another_sender_link_or_grant() {
    for node in nodes() {
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        let good = run(node, 0, 10, 200);
        let mut others: Vec<Run> = vec![
            Run { grant: GRANT + 1, ..good.clone() },
            Run { grant: GRANT.swap_bytes(), ..good.clone() },
            Run { token: TOKEN - 1, ..good.clone() },
            Run { token: TOKEN.swap_bytes(), ..good.clone() },
            Run { token: TOKEN.rotate_left(32), ..good.clone() },
            Run { source: (good.source.ip(), SOURCE_PORT + 1).into(), ..good.clone() },
            Run { source: (good.source.ip(), SOURCE_PORT.swap_bytes()).into(), ..good.clone() },
        ];
        // Each bit of the address counts.
        let addresses: Vec<IpAddr> = match good.source.ip() {
            IpAddr::V4(v4) => (0..32).map(|bit| Ipv4Addr::from(u32::from(v4) ^ 1 << bit).into()).collect(),
            IpAddr::V6(v6) => (0..128).map(|bit| Ipv6Addr::from(u128::from(v6) ^ 1 << bit).into()).collect(),
        };
        others.extend(addresses.into_iter().map(|ip| Run { source: (ip, SOURCE_PORT).into(), ..good.clone() }));
        // The same four bytes, in the other family.
        if let IpAddr::V4(v4) = good.source.ip() {
            let compatible = Ipv6Addr::from(u128::from(u32::from(v4)));
            others.push(Run { source: (compatible, SOURCE_PORT).into(), ..good.clone() });
        }
        lane.gate.admit(10);
        let frames = shapes(node, 3, &payload(200));
        for other in &others {
            lane.gate.set_run(0, other);
            for frame in &frames {
                assert_eq!(tried(&lane.program, None, frame), ("bulk_stale", frame.clone()), "{other:?}, {node:?}");
            }
        }
        assert_eq!((lane.gate.used(), lane.gate.entry(0)), (0, Entry::default()));
        lane.gate.set_run(0, &good);
        assert_eq!(verdict(&lane.program, &frames[0]), "bulk_admitted");
    }
}

#[test]
fn what_is_longer_or_shorter_than_its_place() {
    for node in nodes() {
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        lane.post(node, 200);
        for length in [0, 1, 100, 199, 201, 202, 1400] {
            for frame in shapes(node, 3, &payload(length)) {
                assert_eq!(tried(&lane.program, None, &frame), ("bulk_length", frame.clone()), "{length}, {node:?}");
            }
        }
        // Whatever it says of itself: what it is counts.
        for frame in shapes(node, 3, &payload(200)) {
            let longer = [&frame[..], &[0]].concat();
            assert_eq!(verdict(&lane.program, &longer), "bulk_length");
            assert_eq!(verdict(&lane.program, &frame[..frame.len() - 1]), "bulk_length");
        }
        assert_eq!((lane.gate.used(), lane.gate.entry(0)), (0, Entry::default()));
    }
}

#[test]
fn what_has_no_bulk_header_goes_to_the_kernel() {
    for node in nodes() {
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        lane.post(node, 200);
        for frame in shapes(node, 3, &payload(200)) {
            let headers = frame.len() - 200;
            let (version, kind) = (headers - BULK_HEADER + 4, headers - BULK_HEADER + 5);
            for (at, value) in [(version, 6), (version, 8), (version, 0), (kind, 6), (kind, 8), (kind, 0)] {
                let mut other = frame.clone();
                other[at] = value;
                assert_eq!(tried(&lane.program, None, &other), ("other_port", other.clone()), "{node:?}");
            }
            for short in headers - BULK_HEADER..headers {
                assert_eq!(verdict(&lane.program, &frame[..short]), "other_port", "{short} bytes, {node:?}");
            }
            assert_eq!(verdict(&lane.program, &frame[..headers - BULK_HEADER - 1]), "truncated", "{node:?}");
        }
        assert_eq!(lane.gate.used(), 0);
    }
}

#[test]
fn the_same_at_other_ports_and_addresses_is_not_for_the_gate() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, 64);
    let mut packet = bulk(SOURCE_PORT, TOKEN, GRANT, 1, &payload(64));
    let elsewhere = ip([10, 77, 0, 9].into(), IpNumber::UDP, &packet);
    assert_eq!(verdict(&lane.program, &elsewhere), "other_address");
    for (port, expected) in [(PORT, "no_socket"), (PORT + 2, "other_port"), (PORT - 1, "other_port")] {
        packet[2..4].copy_from_slice(&port.to_be_bytes());
        assert_eq!(verdict(&lane.program, &ip(node.address, IpNumber::UDP, &packet)), expected);
    }
    assert_eq!(lane.gate.used(), 0);
}

#[test]
fn after_the_last_port_there_is_none() {
    let mut storage = Storage::new();
    let program = Program::load(&mut storage, node_v4(), u16::MAX, None).unwrap();
    let mut packet = bulk(SOURCE_PORT, TOKEN, GRANT, 1, &payload(64));
    packet[..8].copy_from_slice(&UdpHeader::without_ipv4_checksum(SOURCE_PORT, 0, 88).unwrap().to_bytes());
    assert_eq!(verdict(&program, &ip(node_v4(), IpNumber::UDP, &packet)), "other_port");
}

#[test]
fn a_packet_for_another_vlan() {
    let [plain, _, tagged, _] = nodes();
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, tagged);
    lane.post(tagged, 64);
    assert_eq!(verdict(&lane.program, &packet(plain, 1, &payload(64))), "other_vlan");
    let other = Node { vlan: Some(43), ..tagged };
    assert_eq!(verdict(&lane.program, &packet(other, 1, &payload(64))), "other_vlan");
    assert_eq!(verdict(&lane.program, &packet(tagged, 1, &payload(64))), "bulk_admitted");
}

#[test]
fn the_kernel_takes_the_program_from_who_has_two_capabilities() {
    // And is stricter with it than with root's.
    let load = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets).expect("these tests need root"); // of this thread only
        Program::load(&mut Storage::new(), node_v4(), PORT, None).map(drop)
    };
    std::thread::scope(|scope| scope.spawn(load).join().unwrap()).unwrap();
}
