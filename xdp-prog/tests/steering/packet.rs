//! Frames, layer by layer: any layer can be put around anything, sensible or not.

use std::net::IpAddr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, Ipv6RawExtHeader,
    SingleVlanHeader, TcpHeader, UdpHeader,
};

/// The port of the node in all tests.
pub(crate) const PORT: u16 = 7000;
/// What the UDP packets carry, in bytes.
pub(crate) const PAYLOAD: usize = 18;

/// Length of the bulk lane's header, in bytes.
pub(crate) const BULK_HEADER: usize = 24;

/// A node for which the program is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) address: IpAddr,
    pub(crate) vlan: Option<u16>,
}

/// The VLAN of the node, when it is in one.
pub(crate) const VLAN: u16 = 42;

/// Nodes of every kind.
pub(crate) fn nodes() -> [Node; 4] {
    let node = |address, vlan| Node { address, vlan };
    [node(node_v4(), None), node(node_v6(), None), node(node_v4(), Some(VLAN)), node(node_v6(), Some(VLAN))]
}

/// Where all packets to that node come from.
pub(crate) fn peer_of(node: IpAddr) -> IpAddr {
    if node.is_ipv4() { [10, 77, 0, 2].into() } else { "fd77::2".parse().unwrap() }
}

/// The address of the node, when it has an IPv4 one.
pub(crate) fn node_v4() -> IpAddr {
    [10, 77, 0, 1].into()
}

/// The address of the node, when it has an IPv6 one.
pub(crate) fn node_v6() -> IpAddr {
    "fd77::1".parse().unwrap()
}

pub(crate) fn ethernet(ether_type: EtherType, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let header = Ethernet2Header { source: [2, 0, 0, 0, 0, 2], destination: [2, 0, 0, 0, 0, 1], ether_type };
    [&header.to_bytes()[..], payload.as_ref()].concat()
}

/// Puts a tag of the given kind and VLAN into an Ethernet frame, outside of any that it has.
pub(crate) fn tagged(kind: EtherType, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let inner = EtherType(u16::from_be_bytes([rest[0], rest[1]]));
    let tag = SingleVlanHeader {
        pcp: 3.try_into().unwrap(),
        vlan_id: vlan.try_into().unwrap(),
        ether_type: inner,
        ..Default::default()
    };
    [addresses, &kind.0.to_be_bytes(), &tag.to_bytes(), &rest[2..]].concat()
}

/// A frame with an IP header of the kind of `to`; `change` may spoil an IPv4 header.
pub(crate) fn ip_with(to: IpAddr, protocol: IpNumber, payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    match to {
        IpAddr::V4(to) => {
            let length = payload.len().try_into().unwrap();
            let mut header = Ipv4Header::new(length, 64, protocol, [10, 77, 0, 2], to.octets()).unwrap();
            change(&mut header);
            header.header_checksum = header.calc_header_checksum();
            ethernet(EtherType::IPV4, [&header.to_bytes()[..], payload].concat())
        }
        IpAddr::V6(to) => {
            let header = Ipv6Header {
                payload_length: payload.len().try_into().unwrap(),
                next_header: protocol,
                hop_limit: 64,
                source: "fd77::2".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                destination: to.octets(),
                ..Default::default()
            };
            ethernet(EtherType::IPV6, [&header.to_bytes()[..], payload].concat())
        }
    }
}

pub(crate) fn ip(to: IpAddr, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    ip_with(to, protocol, payload, |_| ())
}

/// A UDP header and `PAYLOAD` bytes.
pub(crate) fn udp(port: u16) -> Vec<u8> {
    let header = UdpHeader::without_ipv4_checksum(40000, port, PAYLOAD).unwrap();
    [&header.to_bytes()[..], &[0x5a; PAYLOAD]].concat()
}

/// A UDP header and a bulk packet's, and its payload. What the header says is the gate's business: here are bytes.
pub(crate) fn bulk(source_port: u16, token: u64, grant: u32, segment: u32, payload: &[u8]) -> Vec<u8> {
    let length = BULK_HEADER + payload.len();
    let udp = UdpHeader::without_ipv4_checksum(source_port, PORT + 1, length).unwrap();
    let mut packet = udp.to_bytes().to_vec();
    packet.extend([0xc0, 0xc1, 0xc2, 0xc3, 7, 7, 4, 0]); // checksum, version, kind, flags, reserved
    packet.extend(token.to_be_bytes());
    packet.extend(grant.to_be_bytes());
    packet.extend(segment.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A whole frame: UDP to that address and port.
pub(crate) fn udp_to(to: IpAddr, port: u16) -> Vec<u8> {
    ip(to, IpNumber::UDP, &udp(port))
}

pub(crate) fn tcp_to(to: IpAddr, port: u16) -> Vec<u8> {
    ip(to, IpNumber::TCP, &TcpHeader::new(40000, port, 1, 1024).to_bytes())
}

/// An IPv6 extension header of 8 bytes, and what comes behind it.
pub(crate) fn extension(next: IpNumber, behind: &[u8]) -> Vec<u8> {
    let header = Ipv6RawExtHeader::new_raw(next, &[0; 6]).unwrap();
    [&header.to_bytes()[..], behind].concat()
}

pub(crate) fn arp() -> Vec<u8> {
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: [2, 0, 0, 0, 0, 2],
        sender_ipv4: [10, 77, 0, 2],
        target_mac: [0; 6],
        target_ipv4: [10, 77, 0, 1],
    };
    ethernet(EtherType::ARP, request.to_bytes())
}
