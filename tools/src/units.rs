//! Sizes, peers and checksums, as people write and read them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A number of bytes. Its text form is a number and perhaps a unit, a power of 1024: 64, 4K, 256MiB, 1G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("bytes", 0)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => Some(0),
            "k" | "kib" => Some(10),
            "m" | "mib" => Some(20),
            "g" | "gib" => Some(30),
            "t" | "tib" => Some(40),
            _ => None,
        };
        let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(n, s)| n.checked_mul(1 << s));
        bytes
            .map(Size)
            .ok_or_else(|| "a size is a number of bytes, KiB, MiB, GiB or TiB: 64, 4K, 256MiB, 1G".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exactly, if need be in bytes: two sizes that differ never look the same.
        let unit = UNITS.iter().find(|(_, shift)| self.0 >> shift << shift == self.0 && self.0 >> shift > 0);
        let (name, shift) = unit.unwrap_or(&("bytes", 0));
        write!(f, "{} {name}", self.0 >> shift)
    }
}

/// Parses `IP`, `IP:PORT` or `[IPv6]:PORT`.
pub(crate) fn parse_peer(text: &str) -> Result<SocketAddr, String> {
    if let Ok(peer) = text.parse::<SocketAddr>() {
        return match peer.port() {
            0 => Err("a peer's port is 1 to 65535".to_owned()),
            _ => Ok(peer),
        };
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().map_err(|_| "a peer is IP or IP:PORT: 10.77.0.2, 10.77.0.2:7000, [fd77::2]:7000")?;
    Ok(SocketAddr::new(address, vmmc::DEFAULT_PORT))
}

/// The address as `parse_peer` takes it, without the port where that is the default.
pub(crate) fn short_peer(peer: SocketAddr) -> String {
    match peer.port() {
        vmmc::DEFAULT_PORT => peer.ip().to_string(),
        _ => peer.to_string(),
    }
}

/// A SHA-256 checksum. Its text form is the usual 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sha256Sum(pub(crate) [u8; 32]);

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("64", 64), ("4K", 4096), ("4 KiB", 4096), ("1MiB", 1 << 20), ("1g", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "K", "-1", "1.5M", "1MB", "1 parsec", "99999999999999999999", "16777216T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        for (bytes, text) in [(0, "0 bytes"), (1500, "1500 bytes"), (2048, "2 KiB"), ((5 << 20) + 1, "5242881 bytes")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn peers_have_a_default_port() {
        for (text, peer) in [
            ("10.77.0.2", "10.77.0.2:7000"),
            ("10.77.0.2:9", "10.77.0.2:9"),
            ("fd77::2", "[fd77::2]:7000"),
            ("[fd77::2]", "[fd77::2]:7000"),
            ("[fd77::2]:9", "[fd77::2]:9"),
        ] {
            assert_eq!(parse_peer(text), Ok(peer.parse().unwrap()), "{text}");
        }
        for bad in ["", "host", "10.77.0.2:0", "10.77.0.2:70000", "[10.77.0.2", "10.77.0"] {
            assert!(parse_peer(bad).is_err(), "{bad}");
        }
        assert_eq!(short_peer("10.77.0.2:7000".parse().unwrap()), "10.77.0.2");
        assert_eq!(short_peer("[fd77::2]:9".parse().unwrap()), "[fd77::2]:9");
    }
}
