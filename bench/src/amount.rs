//! Amounts on the command line: bytes with the suffixes that people write, and percentages.

use crate::peers::BULKY;

/// Reads a size: 64, 4k, 4KiB, 1MiB. Powers of two, whichever way they are written.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    const MOST: u64 = 256 << 20;
    amount(text)
        .and_then(|bytes| if bytes <= MOST { Ok(bytes as usize) } else { Err("a message has up to 256 MiB".into()) })
}

/// The same, of the smallest send that takes the bulk lane.
pub(crate) fn bulk_size(text: &str) -> Result<usize, String> {
    size(text).and_then(|bytes| if bytes >= 4096 { Ok(bytes) } else { Err("choose 4 KiB or more".into()) })
}

/// The same, of a message that is sent from the arena.
pub(crate) fn arena_size(text: &str) -> Result<usize, String> {
    size(text).and_then(|bytes| if bytes >= BULKY { Ok(bytes) } else { Err("choose 16 KiB or more".into()) })
}

/// Reads a percentage, with or without its sign.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|n| (0.0..=100.0).contains(n)).ok_or_else(|| "give a percentage from 0 to 100, as in 0.5".into())
}

/// Reads a number of bytes, 1 or more, as [`size`] does.
pub(crate) fn amount(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..].to_ascii_lowercase()[..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        suffix => return Err(format!("{suffix:?} is no unit; use none, KiB, MiB or GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "give a number of bytes, as in 64 or 1MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|n| (1..=1 << 50).contains(n))
        .ok_or_else(|| "choose between 1 byte and a million GiB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("64", 64), ("1MiB", 1 << 20), ("4k", 4096), ("2KB", 2048), ("1", 1)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(amount("10GB"), Ok(10 << 30));
        for text in ["", "0", "-1", "x", "1GiB", "64 bytes", "1é", "99999999999999999999", "1000MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
