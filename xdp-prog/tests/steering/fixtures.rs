//! Known frames and their verdicts, for a node with an IPv4 and one with an IPv6 address.

use std::{net::IpAddr, os::fd::AsFd};

use etherparse::{EtherType, IpFragOffset, IpNumber, Ipv4Options};
use xdp_prog::{Program, SteeringError, Storage};

use crate::{
    oracle,
    packet::{
        Node, PAYLOAD, PORT, VLAN, arp, ethernet, extension, ip, ip_with, node_v4, node_v6, nodes, tagged, tcp_to, udp,
        udp_to,
    },
    trial::{eventually, verdict, xdp_socket},
};

const TAG: EtherType = EtherType::VLAN_TAGGED_FRAME;
const PROVIDER: EtherType = EtherType::PROVIDER_BRIDGING;

type Fixture = (&'static str, Vec<u8>, &'static str);

/// A frame as it is in the node's VLAN.
fn at_home(node: Node, frame: Vec<u8>) -> Vec<u8> {
    node.vlan.map_or(frame.clone(), |vlan| tagged(TAG, vlan, &frame))
}

/// The node's own frames, in every shape in which it accepts them.
pub(crate) fn ours(node: Node) -> Vec<Fixture> {
    let to = node.address;
    let mut frames = vec![("plain", udp_to(to, PORT))];
    if to.is_ipv4() {
        for length in [4, 40] {
            let options = Ipv4Options::try_from(&[1; 40][..length]).unwrap();
            frames.push(("options", ip_with(to, IpNumber::UDP, &udp(PORT), |ip| ip.options = options)));
        }
        frames.push(("don't fragment", ip_with(to, IpNumber::UDP, &udp(PORT), |ip| ip.dont_fragment = true)));
    }
    if node.vlan.is_none() {
        frames.push(("a tag with a priority and no VLAN", tagged(TAG, 0, &udp_to(to, PORT))));
    }
    frames.into_iter().map(|(name, frame)| (name, at_home(node, frame), "redirected")).collect()
}

/// What isn't the node's.
pub(crate) fn others(node: Node) -> Vec<Fixture> {
    let plain = udp_to(node.address, PORT);
    let at_home = |(name, frame, verdict)| (name, at_home(node, frame), verdict);
    let mut fixtures: Vec<Fixture> = others_at_home(node.address).into_iter().map(at_home).collect();
    let twice = tagged(TAG, VLAN, &tagged(TAG, VLAN, &plain));
    // A provider's tag is none of ours, and whatever lies behind it isn't looked at.
    let provided = if node.vlan.is_some() { "other_vlan" } else { "not_ip" };
    fixtures.extend(match node.vlan {
        None => vec![("a tag", tagged(TAG, VLAN, &plain), "other_vlan")],
        Some(_) => {
            vec![("no tag", plain.clone(), "other_vlan"), ("a tag without VLAN", tagged(TAG, 0, &plain), "other_vlan")]
        }
    });
    fixtures.extend([
        ("the tag of another VLAN", tagged(TAG, VLAN + 1, &plain), "other_vlan"),
        ("of another VLAN, in the high bits", tagged(TAG, VLAN + 0x800, &plain), "other_vlan"),
        ("ARP in another VLAN", tagged(TAG, VLAN + 1, &arp()), "other_vlan"),
        ("a provider's tag", tagged(PROVIDER, VLAN, &plain), provided),
        ("two tags", tagged(PROVIDER, VLAN, &tagged(TAG, VLAN, &plain)), provided),
        ("the same tag twice", twice, if node.vlan.is_some() { "not_ip" } else { "other_vlan" }),
    ]);
    fixtures
}

/// Of those, the ones that are in the node's VLAN.
fn others_at_home(node: IpAddr) -> Vec<Fixture> {
    let plain = udp_to(node, PORT);
    // The last one begins with the same four bytes as the node's own.
    let (neighbour, other_family, lookalike): (IpAddr, IpAddr, IpAddr) = match node {
        IpAddr::V4(_) => ([10, 77, 0, 9].into(), node_v6(), "0a4d:0001::".parse().unwrap()),
        IpAddr::V6(_) => ("fd77::9".parse().unwrap(), node_v4(), [0xfd, 0x77, 0, 0].into()),
    };
    let broken = |at: usize, value: u8| {
        let mut frame = plain.clone();
        frame[at] = value;
        frame
    };
    let mut fixtures = vec![
        ("another port", udp_to(node, PORT + 1), "other_port"),
        ("port in the wrong byte order", udp_to(node, PORT.swap_bytes()), "other_port"),
        ("another address", udp_to(neighbour, PORT), "other_address"),
        ("the other family", udp_to(other_family, PORT), "other_address"),
        ("the other family, same bytes", udp_to(lookalike, PORT), "other_address"),
        ("TCP to our port", tcp_to(node, PORT), "not_udp"),
        ("ICMP", ip(node, IpNumber::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), "not_udp"),
        ("UDP-Lite", ip(node, IpNumber(136), &udp(PORT)), "not_udp"),
        ("ARP", arp(), "not_ip"),
        ("LLDP", ethernet(EtherType(0x88cc), [0; 46]), "not_ip"),
        ("an 802.3 length", ethernet(EtherType(46), [0; 46]), "not_ip"),
        ("an Ethernet header and no more", ethernet(EtherType::IPV4, []), "truncated"),
    ];
    if node.is_ipv4() {
        let fragment = |more: bool, offset: u16| {
            ip_with(node, IpNumber::UDP, &udp(PORT), |ip| {
                ip.more_fragments = more;
                ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            })
        };
        let cut = ip_with(node, IpNumber::UDP, &[], |ip| ip.total_len = 60);
        fixtures.extend([
            ("first fragment", fragment(true, 0), "fragment"),
            ("middle fragment", fragment(true, 8), "fragment"),
            ("last fragment", fragment(false, 8), "fragment"),
            ("last fragment, highest offset", fragment(false, 0x1fff), "fragment"),
            ("last fragment, offset in the high byte only", fragment(false, 0x0100), "fragment"),
            ("header length 0", broken(14, 0x40), "malformed"),
            ("header length 16", broken(14, 0x44), "malformed"),
            (
                "header length past the frame",
                {
                    let mut f = cut.clone();
                    f[14] = 0x4f;
                    f
                },
                "truncated",
            ),
            ("version 6 as IPv4", broken(14, 0x65), "malformed"),
            ("version 0", broken(14, 0x05), "malformed"),
        ]);
    } else {
        let behind = |kind, next: IpNumber| ip(node, kind, &extension(next, &udp(PORT)));
        fixtures.extend([
            ("first or later fragment", behind(IpNumber::IPV6_FRAGMENTATION_HEADER, IpNumber::UDP), "fragment"),
            ("hop-by-hop options", behind(IpNumber::IPV6_HEADER_HOP_BY_HOP, IpNumber::UDP), "extension_header"),
            ("routing header", behind(IpNumber::IPV6_ROUTE_HEADER, IpNumber::UDP), "extension_header"),
            ("destination options", behind(IpNumber::IPV6_DESTINATION_OPTIONS, IpNumber::UDP), "extension_header"),
            ("authentication", behind(IpNumber::AUTHENTICATION_HEADER, IpNumber::UDP), "extension_header"),
            ("mobility", behind(IpNumber::MOBILITY_HEADER, IpNumber::UDP), "extension_header"),
            ("no next header", ip(node, IpNumber::IPV6_NO_NEXT_HEADER, &[]), "not_udp"),
            ("encrypted", ip(node, IpNumber::ENCAPSULATING_SECURITY_PAYLOAD, &udp(PORT)), "not_udp"),
            ("version 4 as IPv6", broken(14, 0x45), "malformed"),
        ]);
    }
    fixtures
}

/// Loads the program for `node`, with a socket on queue 0 or without.
fn with_program(node: Node, socket: bool, test: impl FnOnce(&Program<'_>)) {
    let mut storage = Storage::new();
    let program = Program::load(&mut storage, node.address, PORT, node.vlan).expect("these tests need root");
    let xsk = socket.then(xdp_socket);
    if let Some(xsk) = &xsk {
        program.maps().register(0, xsk.as_fd()).unwrap();
    }
    test(&program);
}

#[test]
fn every_fixture_gets_its_verdict() {
    for node in nodes() {
        with_program(node, true, |program| {
            for (name, frame, expected) in ours(node).into_iter().chain(others(node)) {
                assert_eq!(verdict(program, &frame), expected, "{name}, {node:?}");
            }
        });
    }
}

#[test]
fn without_a_socket_everything_goes_to_the_kernel() {
    for node in nodes() {
        with_program(node, false, |program| {
            for (name, frame, _) in ours(node) {
                assert_eq!(verdict(program, &frame), "no_socket", "{name}, {node:?}");
            }
            for (name, frame, expected) in others(node) {
                assert_eq!(verdict(program, &frame), expected, "{name}, {node:?}");
            }
        });
    }
}

#[test]
fn only_the_queue_of_the_frame_counts_and_a_closed_socket_is_none() {
    with_program(nodes()[0], false, |program| {
        let frame = udp_to(node_v4(), PORT);
        let xsk = xdp_socket();
        program.maps().register(1, xsk.as_fd()).unwrap();
        assert_eq!(verdict(program, &frame), "no_socket");
        program.maps().register(0, xsk.as_fd()).unwrap();
        assert_eq!(verdict(program, &frame), "redirected");
        drop(xsk);
        // Another test that is just starting a process keeps the socket open for that moment.
        eventually(|| verdict(program, &frame) == "no_socket");
    });
}

#[test]
fn our_frames_cut_anywhere_are_truncated_until_the_headers_are_whole() {
    for node in nodes() {
        with_program(node, true, |program| {
            for (name, frame, _) in ours(node) {
                // 14: what the kernel wants at least of a frame that it runs a program on.
                for length in 14..=frame.len() {
                    let whole = length >= frame.len() - PAYLOAD;
                    let expected = if whole { "redirected" } else { "truncated" };
                    let found = verdict(program, &frame[..length]);
                    assert_eq!(found, expected, "{length} bytes of {name}, {node:?}");
                }
            }
        });
    }
}

#[test]
fn other_frames_cut_anywhere_are_what_is_left_of_them() {
    for node in nodes() {
        with_program(node, true, |program| {
            for (name, frame, _) in others(node) {
                for length in 14..=frame.len() {
                    let cut = &frame[..length];
                    let expected = oracle::verdict(node, PORT, cut);
                    assert_eq!(verdict(program, cut), expected, "{length} bytes of {name}, {node:?}");
                }
            }
        });
    }
}

#[test]
fn frames_of_several_buffers_are_steered_too() {
    with_program(nodes()[0], true, |program| {
        for length in [4096, 9000, 65535] {
            let mut frame = udp_to(node_v4(), PORT);
            frame.resize(length, 0);
            assert_eq!(verdict(program, &frame), "redirected", "{length} bytes");
        }
    });
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
    let address = "::ffff:10.77.0.1".parse().unwrap();
    with_program(Node { address, vlan: None }, true, |program| {
        assert_eq!(verdict(program, &udp_to(node_v4(), PORT)), "redirected");
    });
}

#[test]
fn less_than_an_ethernet_header_is_an_error_not_a_verdict() {
    with_program(nodes()[0], true, |program| {
        let error = program.run(&[0; 13]).unwrap_err();
        assert!(matches!(error, SteeringError::Run { length: 13, .. }), "{error}");
        assert_eq!(program.maps().counters().unwrap().total(), 0);
    });
}
