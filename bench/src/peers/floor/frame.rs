//! The frames the floor sends: Ethernet, IPv4 and UDP to a port, as VMMC's are, so that the
//! steering program and the kernel do the same work for both.

use crate::spec::Endpoint;

/// Ethernet, IPv4 and UDP header, bytes.
pub(crate) const HEADERS: usize = 14 + 20 + 8;

/// UDP port the floor listens on and sends from.
pub(crate) const PORT: u16 = 7000;

/// Bytes of UDP payload that fit a packet of `mtu` bytes.
pub(crate) fn full_payload(mtu: u32) -> usize {
    mtu as usize - (HEADERS - 14)
}

/// The headers of a packet that carries `payload` bytes from `source` to `target`.
///
/// The UDP checksum is zero, which for IPv4 means that there is none.
pub(crate) fn headers(source: &Endpoint, target: &Endpoint, payload: usize) -> [u8; HEADERS] {
    let udp_len = (8 + payload) as u16;
    let ip_len = 20 + udp_len;
    let mut h = [0; HEADERS];
    h[0..6].copy_from_slice(&target.mac);
    h[6..12].copy_from_slice(&source.mac);
    h[12..14].copy_from_slice(&0x0800u16.to_be_bytes());

    let ip = &mut h[14..34];
    ip[0] = 0x45; // version 4, five words of header
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64; // time to live
    ip[9] = 17; // UDP
    ip[12..16].copy_from_slice(&source.address.octets());
    ip[16..20].copy_from_slice(&target.address.octets());
    let sum = checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let udp = &mut h[34..42];
    udp[0..2].copy_from_slice(&PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    h
}

/// The Internet checksum of a header of an even number of bytes.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Endpoint, Endpoint) {
        let end = |n| Endpoint { interface: format!("vh{n}"), address: [10, 77, 0, n].into(), mac: [2, 0, 0, 0, 0, n] };
        (end(1), end(2))
    }

    #[test]
    fn the_headers_say_what_follows() {
        let (a, b) = ends();
        let h = headers(&a, &b, 64);
        assert_eq!((&h[0..6], &h[6..12]), (&b.mac[..], &a.mac[..]));
        assert_eq!(h[12..14], [0x08, 0x00]);
        assert_eq!(h[16..18], 92u16.to_be_bytes(), "IP length");
        assert_eq!((h[14], h[23]), (0x45, 17));
        assert_eq!(h[26..30], a.address.octets());
        assert_eq!(h[30..34], b.address.octets());
        assert_eq!(h[36..38], PORT.to_be_bytes(), "destination port");
        assert_eq!(h[38..40], 72u16.to_be_bytes(), "UDP length");
    }

    #[test]
    fn the_checksum_is_the_one_of_the_standard_example() {
        let example = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
            0x00, 0xc7,
        ];
        assert_eq!(checksum(&example), 0xb861);
        let (a, b) = ends();
        // A header with its checksum in place sums to nothing.
        assert_eq!(checksum(&headers(&a, &b, 1000)[14..34]), 0);
    }

    #[test]
    fn the_largest_packet_fits_its_length_fields() {
        let payload = full_payload(65535);
        let (a, b) = ends();
        let h = headers(&a, &b, payload);
        assert_eq!(h[16..18], 65535u16.to_be_bytes());
        assert_eq!(full_payload(1500), 1472);
    }
}
