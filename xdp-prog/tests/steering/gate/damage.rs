//! A bad network in front of the gate: its packets are lost and damaged like all others, and what is let in is accounted for.

use std::{net::UdpSocket, os::fd::AsFd};

use xdp_prog::{
    Steering,
    damage::{Damage, Shares},
    gate::Entry,
};

use super::{
    payload,
    shared::{GRANT, Mapped, SOURCE_PORT, TOKEN, run},
};
use crate::{
    netns::{Namespace, target},
    packet::{BULK_HEADER, PORT, bulk, node_v4, nodes},
    receiver::Receiver,
    trial::eventually,
};

const PACKETS: u32 = 60;

/// What has become of packets of so many bytes.
struct Outcome {
    /// Turned over by the bad network, of those it let through.
    damaged: u64,
    lost: u64,
    /// Refused by the gate, or by then no packets of the lane at all.
    refused: u64,
    landed: Vec<(Entry, Vec<u8>)>,
}

fn through(shares: Shares, mtu: u32, length: usize) -> Outcome {
    // A host at v1, a switch with p1 and p0, and a host at v0.
    let (here, switch, there) = (Namespace::new(), Namespace::new(), Namespace::new());
    switch.ip("link add bridge0 type bridge");
    switch.ip("link set bridge0 up");
    for (host, own, port) in [(&here, "v0", "p0"), (&there, "v1", "p1")] {
        switch.ip(&format!("link add {port} mtu {mtu} type veth peer name {own} mtu {mtu} netns {}", host.name));
        switch.ip(&format!("link set {port} master bridge0 up"));
        let octet = if own == "v0" { 1 } else { 2 };
        host.ip(&format!("addr add 10.77.0.{octet}/24 dev {own}"));
        host.ip(&format!("link set {own} up"));
    }
    let steering = here.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    let mut receiver = here.run(|| Receiver::bind("v0"));
    steering.register(0, receiver.as_fd()).unwrap();
    let gate = Mapped::of(steering.gate());
    gate.set_lane(0, true);
    gate.set_run(0, &run(nodes()[0], 0, PACKETS.into(), length as u32));
    gate.admit(PACKETS.into());
    let sender = there.run(|| UdpSocket::bind(("10.77.0.2", SOURCE_PORT))).unwrap();

    let damage = switch.run(|| Damage::attach("p1", shares)).unwrap();
    let seen = || {
        let now = steering.counters().unwrap();
        now.bulk_admitted + now.bulk_stale + now.bulk_length + now.bulk_no_place + now.bulk_other_queue + now.other_port
    };
    let mut landed = Vec::new();
    for segment in 0..PACKETS {
        let packet = bulk(SOURCE_PORT, TOKEN, GRANT, segment, &payload(length));
        sender.send_to(&packet[8..], (node_v4(), PORT + 1)).unwrap(); // the UDP header is the kernel's
        // One at a time: there are more packets than frames to receive them in.
        eventually(|| {
            let counters = damage.counters().unwrap();
            counters.seen == u64::from(segment) + 1 && counters.dropped + seen() == counters.seen
        });
        while (landed.len() as u64) < gate.used() {
            landed.push((gate.entry(landed.len() as u64), receiver.receive()));
        }
    }
    let (counters, verdicts) = (damage.counters().unwrap(), steering.counters().unwrap());
    assert_eq!(verdicts.bulk_admitted, landed.len() as u64);
    Outcome { damaged: counters.damaged, lost: counters.dropped, refused: seen() - verdicts.bulk_admitted, landed }
}

/// Sizes of one buffer and of several.
const SIZES: [(u32, usize); 3] = [(1500, 1400), (9000, 8900), (16_000, 15_900)];

#[test]
fn what_is_lost_is_not_let_in_and_the_rest_is_whole() {
    for (mtu, length) in SIZES {
        let outcome = through(Shares { dropped: 0.3, damaged: 0.0 }, mtu, length);
        assert!(outcome.lost > 0 && outcome.refused == 0 && outcome.damaged == 0, "{} lost", outcome.lost);
        assert_eq!(outcome.lost + outcome.landed.len() as u64, PACKETS.into());
        let mut before = None;
        for (entry, bytes) in &outcome.landed {
            assert!(before < Some(entry.segment), "{before:?}, then {entry:?}");
            assert!(*bytes == payload(length), "segment {} has arrived as other bytes", entry.segment);
            before = Some(entry.segment);
        }
    }
}

#[test]
fn what_is_damaged_differs_by_one_bit_in_what_was_let_in() {
    for (mtu, length) in SIZES {
        let outcome = through(Shares { dropped: 0.0, damaged: 1.0 }, mtu, length);
        assert_eq!((outcome.lost, outcome.damaged), (0, PACKETS.into()));
        assert_eq!(outcome.refused + outcome.landed.len() as u64, PACKETS.into());
        assert!(!outcome.landed.is_empty());
        let good = bulk(SOURCE_PORT, TOKEN, GRANT, 0, &[]);
        let word = |at: usize| u32::from_be_bytes(good[8 + at..][..4].try_into().unwrap());
        let mut in_the_payload = 0;
        for (entry, bytes) in &outcome.landed {
            assert_eq!((entry.grant, bytes.len()), (GRANT, length));
            let turned: u32 = bytes.iter().zip(payload(length)).map(|(found, sent)| (found ^ sent).count_ones()).sum();
            in_the_payload += turned;
            let in_the_header = (entry.checksum ^ word(0)).count_ones() + (entry.flags ^ good[8 + 6]).count_ones();
            // Whether the segment's number is right can't be known from one packet; nor what the reserved byte was.
            assert!(
                turned + in_the_header <= 1,
                "{entry:?}: {turned} bits of the payload, {in_the_header} of the header"
            );
        }
        assert!(in_the_payload > 0 && BULK_HEADER * 10 < length, "{in_the_payload}");
    }
}
