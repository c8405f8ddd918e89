//! Ethernet, VLAN, IPv4/IPv6 and UDP around a packet: RFC 894, IEEE 802.1Q, RFC 791, RFC 8200, RFC 768.
//!
//! A [`Path`] holds everything that is the same in all packets to one peer, and writes it in front of each. On
//! the way in, [`Datagram::parse`] takes it off again and checks it.
//!
//! The UDP checksum is zero, over IPv6 as well: RFC 6935 and 6936 allow that to a protocol with an integrity
//! check of its own, which this has (CRC32C). Fragmentation is forbidden ("don't fragment"): the handshake finds a
//! size that the path carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::WireError;

/// Length of an Ethernet header without VLAN tag, bytes.
pub const ETHERNET_LEN: usize = 14;

/// Length of a VLAN tag, bytes.
pub const VLAN_LEN: usize = 4;

/// The most bytes that stand before a packet: Ethernet, VLAN, IPv6, UDP.
pub const MAX_ENCAP_LEN: usize = ETHERNET_LEN + VLAN_LEN + 40 + UDP_LEN;

/// The EtherType of a customer's tag (802.1Q). A provider's (802.1ad) is none of ours.
const VLAN_TAG: u16 = 0x8100;
const UDP_LEN: usize = 8;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;
const ECT0: u8 = 0b10;
const ECN_MASK: u8 = 0b11;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The UDP port of a node's bulk lane: the one after its own.
pub const fn bulk_port(port: u16) -> u16 {
    port.wrapping_add(1)
}

/// Where packets to a peer go, and how they get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Our interface's Ethernet address.
    pub local_mac: Mac,
    /// That of the next hop.
    pub next_hop: Mac,
    /// VLAN identifier, when frames are to carry a tag. Their priority is 0.
    pub vlan: Option<u16>,
}

/// A [`Path`] as the bytes in front of each packet.
#[derive(Clone, Debug)]
pub struct Encap {
    template: [u8; MAX_ENCAP_LEN],
    len: usize,
    ip_at: usize,
    v6: bool,
    partial_checksum: u32,
}

impl Path {
    /// That of packets of the bulk lane: they go to the port after the peer's.
    pub fn of_bulk(&self) -> Path {
        let mut path = self.clone();
        path.remote.set_port(bulk_port(path.remote.port()));
        path
    }

    /// That of packets of the bulk lane that come from there, as the peer sees it; where there are routers in between, with the last one's Ethernet address for its.
    pub fn back_on_bulk(&self) -> Path {
        let mut local = self.local;
        local.set_port(bulk_port(local.port()));
        Path { local: self.remote, remote: local, local_mac: self.next_hop, next_hop: self.local_mac, vlan: self.vlan }
    }

    /// The bytes to put in front of each packet.
    ///
    /// # Errors
    /// When one address is IPv4 and the other IPv6.
    pub fn encap(&self) -> Result<Encap, WireError> {
        let mut out = [0; MAX_ENCAP_LEN];
        out[..6].copy_from_slice(&self.next_hop);
        out[6..12].copy_from_slice(&self.local_mac);
        let mut at = 12;
        if let Some(vlan) = self.vlan {
            out[12..14].copy_from_slice(&VLAN_TAG.to_be_bytes());
            out[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
            at = 16;
        }
        let ip_at = at + 2;
        let (v6, udp_at) = match (self.local.ip(), self.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                out[at..ip_at].copy_from_slice(&0x0800u16.to_be_bytes());
                let ip = &mut out[ip_at..ip_at + IPV4_LEN];
                (ip[0], ip[1], ip[6], ip[8], ip[9]) = (0x45, ECT0, 0x40, HOP_LIMIT, UDP);
                ip[12..16].copy_from_slice(&local.octets());
                ip[16..20].copy_from_slice(&remote.octets());
                (false, ip_at + IPV4_LEN)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                out[at..ip_at].copy_from_slice(&0x86ddu16.to_be_bytes());
                let ip = &mut out[ip_at..ip_at + IPV6_LEN];
                (ip[0], ip[1], ip[6], ip[7]) = (0x60 | ECT0 >> 4, ECT0 << 4, UDP, HOP_LIMIT);
                ip[8..24].copy_from_slice(&local.octets());
                ip[24..40].copy_from_slice(&remote.octets());
                (true, ip_at + IPV6_LEN)
            }
            _ => return Err(WireError::Inconsistent("address family")),
        };
        out[udp_at..udp_at + 2].copy_from_slice(&self.local.port().to_be_bytes());
        out[udp_at + 2..udp_at + 4].copy_from_slice(&self.remote.port().to_be_bytes());
        let partial_checksum = if v6 { 0 } else { sum(&out[ip_at..udp_at]) };
        Ok(Encap { template: out, len: udp_at + UDP_LEN, ip_at, v6, partial_checksum })
    }
}

impl Encap {
    /// Bytes in front of each packet.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many bytes of an IP packet of `mtu` bytes are left for ours.
    pub fn payload_room(&self, mtu: usize) -> usize {
        mtu.saturating_sub(self.len - self.ip_at)
    }

    /// The length of the IP packet around `payload` bytes.
    pub fn ip_len(&self, payload: usize) -> usize {
        self.len - self.ip_at + payload
    }

    /// Writes the encapsulation of a packet of `payload` bytes to the start of `out`, which must have room.
    pub fn write(&self, out: &mut [u8], payload: usize) {
        out[..self.len].copy_from_slice(&self.template[..self.len]);
        let udp_at = self.len - UDP_LEN;
        let udp_len = (UDP_LEN + payload) as u16;
        out[udp_at + 4..udp_at + 6].copy_from_slice(&udp_len.to_be_bytes());
        if self.v6 {
            out[self.ip_at + 4..self.ip_at + 6].copy_from_slice(&udp_len.to_be_bytes());
        } else {
            let total = udp_len + IPV4_LEN as u16;
            out[self.ip_at + 2..self.ip_at + 4].copy_from_slice(&total.to_be_bytes());
            let checksum = !fold(self.partial_checksum + u32::from(total));
            out[self.ip_at + 10..self.ip_at + 12].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// The Internet checksum's sum, not yet folded: RFC 1071.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Marks a frame as a congested switch does (RFC 3168), if its sender has said that it may.
pub(crate) fn mark(frame: &mut [u8]) {
    let word = |frame: &[u8], at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let tagged = word(frame, 12) == Some(0x8100);
    let ip_at = if tagged { ETHERNET_LEN + VLAN_LEN } else { ETHERNET_LEN };
    match (word(frame, ip_at - 2), frame.get_mut(ip_at..)) {
        (Some(0x0800), Some(ip)) if ip.len() >= IPV4_LEN && ip[1] & ECN_MASK == ECT0 => {
            ip[1] |= ECN_MASK;
            ip[10..12].fill(0);
            let checksum = !fold(sum(&ip[..IPV4_LEN]));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (Some(0x86dd), Some(ip)) if ip.len() >= IPV6_LEN && ip[1] >> 4 & ECN_MASK == ECT0 => ip[1] |= ECN_MASK << 4,
        _ => {}
    }
}

/// What stood around a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The last hop's Ethernet address: an answer may go back through it.
    pub source_mac: Mac,
    /// The VLAN whose tag it carried. A tag that says no more than a priority (VLAN 0) is as good as none.
    pub vlan: Option<u16>,
    /// Whether it carries the ECN mark "congestion experienced" (RFC 3168).
    pub congestion: bool,
    /// Where in the frame our packet begins.
    pub start: usize,
    /// The packet's length, bytes.
    pub length: usize,
}

impl Datagram {
    /// Parses the start of a frame: `first` is its first fragment, `total` the length of all of them.
    ///
    /// # Errors
    /// When it isn't a whole UDP datagram in one unfragmented IP packet.
    pub fn parse(first: &[u8], total: usize) -> Result<Datagram, WireError> {
        let field = |at: usize, len: usize| first.get(at..at + len).ok_or(WireError::Truncated("frame's headers"));
        let word = |at: usize| field(at, 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let source_mac: Mac = field(6, 6)?.try_into().map_err(|_| WireError::Truncated("Ethernet header"))?;
        let (mut vlan, mut ip_at) = (None, ETHERNET_LEN);
        if word(12)? == VLAN_TAG {
            vlan = Some(word(14)? & 0x0fff).filter(|&id| id != 0);
            ip_at += VLAN_LEN;
        }
        let (source, destination, ecn, udp_at, ip_len) = match word(ip_at - 2)? {
            0x0800 => {
                let ip = field(ip_at, IPV4_LEN)?;
                let header_len = usize::from(ip[0] & 0xf) * 4;
                if ip[0] >> 4 != 4 || header_len < IPV4_LEN {
                    return Err(WireError::Inconsistent("IPv4 header"));
                }
                if fold(sum(field(ip_at, header_len)?)) != 0xffff {
                    return Err(WireError::Checksum("IPv4 header"));
                }
                if word(ip_at + 6)? & 0x3fff != 0 || ip[9] != UDP {
                    return Err(WireError::Inconsistent("IPv4 protocol"));
                }
                let address = |at: usize| {
                    let octets: [u8; 4] = ip[at..at + 4].try_into().unwrap_or_default();
                    IpAddr::V4(Ipv4Addr::from(octets))
                };
                let ip_len = usize::from(word(ip_at + 2)?);
                (address(12), address(16), ip[1], ip_at + header_len, ip_len)
            }
            0x86dd => {
                let ip = field(ip_at, IPV6_LEN)?;
                if ip[0] >> 4 != 6 || ip[6] != UDP {
                    return Err(WireError::Inconsistent("IPv6 header"));
                }
                let address = |at: usize| {
                    let octets: [u8; 16] = ip[at..at + 16].try_into().unwrap_or_default();
                    IpAddr::V6(Ipv6Addr::from(octets))
                };
                let ip_len = IPV6_LEN + usize::from(word(ip_at + 4)?);
                (address(8), address(24), ip[1] >> 4, ip_at + IPV6_LEN, ip_len)
            }
            other => {
                return Err(WireError::Unknown { field: "ethertype", value: other.into() });
            }
        };
        let udp_len = usize::from(word(udp_at + 4)?);
        let start = udp_at + UDP_LEN;
        // Ethernet pads short frames, so what arrived may be longer than what was sent, never shorter.
        if udp_len < UDP_LEN || udp_at + udp_len != ip_at + ip_len || ip_at + ip_len > total {
            return Err(WireError::Inconsistent("UDP length"));
        }
        Ok(Datagram {
            source: SocketAddr::new(source, word(udp_at)?),
            destination: SocketAddr::new(destination, word(udp_at + 2)?),
            source_mac,
            vlan,
            congestion: ecn & ECN_MASK == 0b11,
            start,
            length: udp_len - UDP_LEN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(v6: bool, vlan: Option<u16>) -> Path {
        let (local, remote) =
            if v6 { ("[fd77::1]:7000", "[fd77::2]:7001") } else { ("10.77.0.1:7000", "10.77.0.2:7001") };
        Path {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            local_mac: [2, 0, 0, 0, 0, 1],
            next_hop: [2, 0, 0, 0, 0, 2],
            vlan,
        }
    }

    fn frame(path: &Path, payload: &[u8]) -> Vec<u8> {
        let encap = path.encap().unwrap();
        let mut frame = vec![0; encap.len()];
        encap.write(&mut frame, payload.len());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn what_was_wrapped_is_unwrapped() {
        for v6 in [false, true] {
            for vlan in [None, Some(10)] {
                for length in [0, 1, 1000, 60000] {
                    let path = path(v6, vlan);
                    let mut bytes = frame(&path, &vec![7; length]);
                    bytes.resize(bytes.len().max(60), 0); // Ethernet's padding
                    let datagram = Datagram::parse(&bytes, bytes.len()).unwrap();
                    assert_eq!((datagram.source, datagram.destination), (path.local, path.remote));
                    assert_eq!((datagram.source_mac, datagram.vlan), (path.local_mac, vlan));
                    assert_eq!((datagram.length, datagram.congestion), (length, false));
                    assert!(bytes[datagram.start..][..length].iter().all(|&b| b == 7));
                }
            }
        }
    }

    #[test]
    fn a_tag_without_vlan_is_none_and_a_provider_s_is_not_ours() {
        let mut bytes = frame(&path(false, Some(10)), &[7; 10]);
        assert_eq!(bytes[12..16], [0x81, 0, 0, 10], "priority 0");
        bytes[14..16].copy_from_slice(&[0xe0, 0]);
        assert_eq!(Datagram::parse(&bytes, bytes.len()).unwrap().vlan, None);
        bytes[14..16].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(Datagram::parse(&bytes, bytes.len()).unwrap().vlan, Some(4095));
        bytes[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert!(Datagram::parse(&bytes, bytes.len()).is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        for v6 in [false, true] {
            let bytes = frame(&path(v6, Some(3)), &[7; 10]);
            for length in 0..bytes.len() {
                assert!(Datagram::parse(&bytes[..length], length).is_err(), "{length} bytes");
            }
            // The payload may lie in later fragments, the headers may not.
            let headers = bytes.len() - 10;
            assert!(Datagram::parse(&bytes[..headers], bytes.len()).is_ok());
        }
    }

    #[test]
    fn a_congestion_mark_is_seen() {
        let mut bytes = frame(&path(true, None), &[]);
        bytes[15] |= 0b11 << 4;
        assert!(Datagram::parse(&bytes, bytes.len()).unwrap().congestion);
    }

    #[test]
    fn damaged_ipv4_headers_are_refused() {
        let bytes = frame(&path(false, None), &[7; 10]);
        for at in 14..34 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Datagram::parse(&bad, bad.len()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn families_must_agree() {
        let mixed = Path { remote: "[fd77::2]:7000".parse().unwrap(), ..path(false, None) };
        assert!(mixed.encap().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0..3) {
            if bytes.len() > 20 && kind > 0 {
                bytes[12..15].copy_from_slice(if kind == 1 { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] });
            }
            if let Ok(d) = Datagram::parse(&bytes, bytes.len()) {
                prop_assert!(d.start + d.length <= bytes.len());
            }
        }
    }
}
