//! The program's decision once more, in Rust and from the formats' own descriptions: what the program
//! in C is compared with.

use std::net::{IpAddr, SocketAddr};

use crate::packet::Node;

/// What a packet with the header of the bulk lane says, and its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk<'frame> {
    pub(crate) source: SocketAddr,
    pub(crate) checksum: u32,
    pub(crate) flags: u8,
    pub(crate) token: u64,
    pub(crate) grant: u32,
    pub(crate) segment: u32,
    pub(crate) payload: &'frame [u8],
}

/// The verdict for `frame` at a node whose queue has a socket, and no bulk lane.
pub(crate) fn verdict(node: Node, port: u16, frame: &[u8]) -> &'static str {
    verdict_or_bulk(node, port, frame).unwrap_or("bulk_other_queue")
}

/// The same, or what the gate is to decide on.
pub(crate) fn verdict_or_bulk(node: Node, port: u16, frame: &[u8]) -> Result<&'static str, Bulk<'_>> {
    match ethernet(node, port, frame) {
        None => Ok("truncated"),
        Some(Ok(verdict)) => Ok(verdict),
        Some(Err(bulk)) => Err(bulk),
    }
}

type Found<'frame> = Option<Result<&'static str, Bulk<'frame>>>;

/// `None`, here and below, is a frame that ends too early.
fn ethernet(node: Node, port: u16, frame: &[u8]) -> Found<'_> {
    let mut ether_type = u16_at(frame, 12)?;
    let mut rest = &frame[14..];
    let mut vlan = None;
    if ether_type == 0x8100 {
        ether_type = u16_at(rest, 2)?;
        vlan = Some(u16_at(rest, 0)? % 4096).filter(|&id| id != 0);
        rest = &rest[4..];
    }
    if vlan != node.vlan {
        return Some(Ok("other_vlan"));
    }
    match ether_type {
        0x0800 => ipv4(node.address, port, rest),
        0x86dd => ipv6(node.address, port, rest),
        _ => Some(Ok("not_ip")),
    }
}

fn ipv4(address: IpAddr, port: u16, packet: &[u8]) -> Found<'_> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let (version, words) = (fixed[0] >> 4, fixed[0] & 15);
    if version != 4 || words < 5 {
        return Some(Ok("malformed"));
    }
    let segment = packet.get(usize::from(words) * 4..)?;
    let destination: [u8; 4] = fixed[16..20].try_into().unwrap();
    let [more_and_high, low] = [fixed[6], fixed[7]];
    let source: [u8; 4] = fixed[12..16].try_into().unwrap();
    Some(Ok(if IpAddr::from(destination) != address {
        "other_address"
    } else if more_and_high & 0x20 != 0 || more_and_high & 0x1f != 0 || low != 0 {
        "fragment"
    } else if fixed[9] != 17 {
        "not_udp"
    } else {
        return udp(port, source.into(), segment);
    }))
}

fn ipv6(address: IpAddr, port: u16, packet: &[u8]) -> Found<'_> {
    let (header, segment): (&[u8; 40], _) = packet.split_first_chunk()?;
    if header[0] >> 4 != 6 {
        return Some(Ok("malformed"));
    }
    let source: [u8; 16] = header[8..24].try_into().unwrap();
    let destination: [u8; 16] = header[24..40].try_into().unwrap();
    if IpAddr::from(destination) != address {
        return Some(Ok("other_address"));
    }
    match header[6] {
        17 => udp(port, source.into(), segment),
        44 => Some(Ok("fragment")),
        0 | 43 | 51 | 60 | 135 => Some(Ok("extension_header")),
        _ => Some(Ok("not_udp")),
    }
}

fn udp(port: u16, source: IpAddr, segment: &[u8]) -> Found<'_> {
    let (header, carried): (&[u8; 8], _) = segment.split_first_chunk()?;
    let to = u16_at(header, 2)?;
    Some(if to == port {
        Ok("redirected")
    } else if Some(to) != port.checked_add(1) {
        Ok("other_port")
    } else {
        bulk(SocketAddr::new(source, u16_at(header, 0)?), carried).map_or(Ok("other_port"), Err)
    })
}

fn bulk(source: SocketAddr, carried: &[u8]) -> Option<Bulk<'_>> {
    let (header, payload): (&[u8; 24], _) = carried.split_first_chunk()?;
    let word = |at| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let token = u64::from_be_bytes(header[8..16].try_into().unwrap());
    let bulk = Bulk { source, checksum: word(0), flags: header[6], token, grant: word(16), segment: word(20), payload };
    (header[4..6] == [7, 7]).then_some(bulk)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
