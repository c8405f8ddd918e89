//! Figures as people read them at a glance: three digits and a unit. Those who need all digits have `--json`.

use std::time::Duration;

/// A number: exactly up to 99,999, then 123 k, 4.56 M.
pub(crate) fn count(n: u64) -> String {
    if n < 100_000 { n.to_string() } else { scaled(n as f64, 1000.0, &["", " k", " M", " G", " T", " P"]) }
}

/// Bytes: 512 B, 4.00 KiB, 1.21 GiB.
pub(crate) fn bytes(n: u64) -> String {
    if n < 1024 { format!("{n} B") } else { scaled(n as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"]) }
}

/// So many a second: 0, 12.3, 456, 1.21 M.
pub(crate) fn rate(per_second: f64) -> String {
    scaled(per_second, 1000.0, &["", " k", " M", " G", " T"])
}

/// Bits a second, from bytes a second: 1.21 Gbit/s.
pub(crate) fn bits(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, 1000.0, &[" bit/s", " kbit/s", " Mbit/s", " Gbit/s", " Tbit/s"])
}

/// A duration: 850 ns, 12.3 us, 4.56 ms, 7.89 s, 3 min 5 s, 2 h 10 min.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => scaled(span.as_nanos() as f64, 1000.0, &[" ns", " us", " ms", " s"]),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A part of a whole, in percent; "-" of nothing.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    match part / whole {
        share if !share.is_finite() => "-".to_owned(),
        0.0 => "0%".to_owned(),
        share if share < 0.0001 => "<0.01%".to_owned(),
        share if share < 0.1 => format!("{:.2}%", share * 100.0),
        share => format!("{:.0}%", share * 100.0),
    }
}

/// Three digits, and the unit that takes no more.
fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // Where it would be rounded to a fourth digit.
    while value >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let decimals = match value {
        0.0 => 0,
        v if unit == 0 && v.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

/// Text that another process has chosen, as one may print it: no control characters, and not longer than `most`.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (n, text) in [(0, "0"), (99_999, "99999"), (100_000, "100 k"), (1_234_567, "1.23 M"), (999_600, "1.00 M")] {
            assert_eq!(count(n), text);
        }
        assert_eq!(count(u64::MAX), "18447 P");
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (4096, "4.00 KiB"), (1_300_000_000, "1.21 GiB")] {
            assert_eq!(bytes(n), text);
        }
        for (n, text) in [(0.0, "0"), (0.5, "0.50"), (12.34, "12.3"), (99.97, "100"), (1e6, "1.00 M")] {
            assert_eq!(rate(n), text);
        }
        assert_eq!(bits(1.25e9), "10.0 Gbit/s");
    }

    #[test]
    fn durations_and_shares() {
        for (nanos, text) in [(0, "0 ns"), (850, "850 ns"), (12_340, "12.3 us"), (1_000_000_000, "1.00 s")] {
            assert_eq!(span(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(span(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(span(Duration::from_secs(7800)), "2 h 10 min");
        assert_eq!(span(Duration::from_secs(200_000)), "2 days");
        for (part, whole, text) in [(0.0, 0.0, "-"), (0.0, 9.0, "0%"), (1.0, 1e6, "<0.01%"), (1.0, 80.0, "1.25%")] {
            assert_eq!(percent(part, whole), text);
        }
        assert_eq!(percent(1.0, 2.0), "50%");
    }

    #[test]
    fn other_people_s_text_does_no_harm() {
        assert_eq!(plain("in\x1b[2Jbox\n", 20), "in?[2Jbox?");
        assert_eq!(plain("größer", 6), "größer");
        assert_eq!(plain("größere", 6), "größe…");
    }
}
