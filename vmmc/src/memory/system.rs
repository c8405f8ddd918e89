//! What the machine says of its memory: `/proc/meminfo`.

use std::fs::read_to_string;

const MEMINFO: &str = "/proc/meminfo";

/// How much memory the machine can give without taking it from anybody, bytes; `None` where it doesn't say.
pub fn available() -> Option<usize> {
    kibibytes(&read_to_string(MEMINFO).ok()?, "MemAvailable:")
}

/// The machine's huge pages, of the usual size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Huge {
    /// Size of one, bytes.
    pub size: usize,
    /// How many there are.
    pub total: usize,
    /// Of those, how many are nobody's, and promised to nobody.
    pub free: usize,
}

/// The machine's huge pages; `None` where there can't be any.
pub(super) fn huge_pages() -> Option<Huge> {
    parse(&read_to_string(MEMINFO).ok()?)
}

fn parse(text: &str) -> Option<Huge> {
    let size = kibibytes(text, "Hugepagesize:").filter(|size| size.is_power_of_two())?;
    let count = |name| value(text, name)?.parse::<usize>().ok();
    let free = count("HugePages_Free:")?.saturating_sub(count("HugePages_Rsvd:")?);
    Some(Huge { size, total: count("HugePages_Total:")?, free })
}

fn kibibytes(text: &str, name: &str) -> Option<usize> {
    value(text, name)?.strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_not_free() {
        let text = "MemTotal: 9 kB\nMemAvailable:   24059904 kB\nAnonHugePages:         0 kB\nHugePages_Total:      12\n\
                    HugePages_Free:       10\nHugePages_Rsvd:        3\nHugePages_Surp:        0\nHugepagesize:       2048 kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(24059904 << 10));
        assert_eq!(parse(text), Some(Huge { size: 2 << 20, total: 12, free: 7 }));
        assert_eq!(parse("MemAvailable:   24059904 kB\n"), None);
        assert_eq!(parse(&text.replace("2048 kB", "0 kB")), None);
    }
}
