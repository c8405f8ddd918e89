//! The program's decision once more, in Rust and from the formats' own descriptions: what the program
//! in C is compared with.

use std::net::IpAddr;

use crate::packet::Node;

/// The verdict for `frame` at a node whose queue has a socket.
pub(crate) fn verdict(node: Node, port: u16, frame: &[u8]) -> &'static str {
    ethernet(node, port, frame).unwrap_or("truncated")
}

/// `None`, here and below, is a frame that ends too early.
fn ethernet(node: Node, port: u16, frame: &[u8]) -> Option<&'static str> {
    let mut ether_type = u16_at(frame, 12)?;
    let mut rest = &frame[14..];
    let mut vlan = None;
    if ether_type == 0x8100 {
        ether_type = u16_at(rest, 2)?;
        vlan = Some(u16_at(rest, 0)? % 4096).filter(|&id| id != 0);
        rest = &rest[4..];
    }
    if vlan != node.vlan {
        return Some("other_vlan");
    }
    match ether_type {
        0x0800 => ipv4(node.address, port, rest),
        0x86dd => ipv6(node.address, port, rest),
        _ => Some("not_ip"),
    }
}

fn ipv4(address: IpAddr, port: u16, packet: &[u8]) -> Option<&'static str> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let (version, words) = (fixed[0] >> 4, fixed[0] & 15);
    if version != 4 || words < 5 {
        return Some("malformed");
    }
    let segment = packet.get(usize::from(words) * 4..)?;
    let destination: [u8; 4] = fixed[16..20].try_into().unwrap();
    let [more_and_high, low] = [fixed[6], fixed[7]];
    Some(if IpAddr::from(destination) != address {
        "other_address"
    } else if more_and_high & 0x20 != 0 || more_and_high & 0x1f != 0 || low != 0 {
        "fragment"
    } else if fixed[9] != 17 {
        "not_udp"
    } else {
        return udp(port, segment);
    })
}

fn ipv6(address: IpAddr, port: u16, packet: &[u8]) -> Option<&'static str> {
    let (header, segment): (&[u8; 40], _) = packet.split_first_chunk()?;
    if header[0] >> 4 != 6 {
        return Some("malformed");
    }
    let destination: [u8; 16] = header[24..40].try_into().unwrap();
    if IpAddr::from(destination) != address {
        return Some("other_address");
    }
    match header[6] {
        17 => udp(port, segment),
        44 => Some("fragment"),
        0 | 43 | 51 | 60 | 135 => Some("extension_header"),
        _ => Some("not_udp"),
    }
}

fn udp(port: u16, segment: &[u8]) -> Option<&'static str> {
    let header: &[u8; 8] = segment.first_chunk()?;
    Some(if u16_at(header, 2)? == port { "redirected" } else { "other_port" })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
