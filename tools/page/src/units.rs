//! Numbers as people read them: three significant digits, with the unit that suits their size.

/// A value of the report with its unit, as in `1.60 µs` or `12.1 M/s`.
pub fn value(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    match unit {
        "us" if value >= 1e6 => format!("{} s", digits(value / 1e6)),
        "us" if value >= 1e3 => format!("{} ms", digits(value / 1e3)),
        "us" if value < 0.1 && value > 0.0 => format!("{} ns", digits(value * 1e3)),
        "us" => format!("{} µs", digits(value)),
        "Gbit/s" if value < 0.1 && value > 0.0 => format!("{} Mbit/s", digits(value * 1e3)),
        "packets/s" | "requests/s" | "connections/s" => match thousands(value) {
            (number, "") => format!("{number}/s"),
            (number, prefix) => format!("{number} {prefix}/s"),
        },
        "bytes" => bytes(value),
        "%" => format!("{}%", digits(value)),
        "ratio" => ratio(value),
        "index" => format!("{value:.3}"),
        "count" => grouped(value),
        unit => format!("{} {unit}", digits(value)),
    }
}

/// A ratio, as in `0.56×`.
pub fn ratio(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

/// A size in bytes with a binary prefix, as in `64 B`, `4 KiB` or `1.5 MiB`.
pub fn bytes(bytes: f64) -> String {
    let steps = ["KiB", "MiB", "GiB", "TiB"];
    // What is no round number of KiB is one that was chosen for its bytes: 1472, 8972.
    let round = bytes % 1024.0 == 0.0 || bytes >= 65536.0;
    let (mut value, mut unit) = (bytes, "B");
    for step in steps {
        if value < 1024.0 || !round {
            break;
        }
        (value, unit) = (value / 1024.0, step);
    }
    let value = if value < 1e4 && value.fract() == 0.0 { format!("{value}") } else { digits(value) };
    format!("{value} {unit}")
}

/// A mark on an axis: short, because there are many. Where the axis's title has the unit it is left out.
pub fn tick(value: f64, unit: &str) -> String {
    match unit {
        "us" if value >= 1e6 => format!("{} s", plain(value / 1e6)),
        "us" if value >= 1e3 => format!("{} ms", plain(value / 1e3)),
        "us" => format!("{} µs", plain(value)),
        "packets/s" | "requests/s" | "connections/s" => {
            let (number, prefix) = thousands(value);
            let number = number.parse().map_or(number, plain);
            format!("{number}{prefix}")
        }
        "bytes" => match value {
            v if v >= (1 << 30) as f64 => format!("{}G", plain(v / (1 << 30) as f64)),
            v if v >= (1 << 20) as f64 => format!("{}M", plain(v / (1 << 20) as f64)),
            v if v >= 1024.0 => format!("{}K", plain(v / 1024.0)),
            v => plain(v),
        },
        "%" => format!("{}%", plain(value)),
        "ratio" => format!("{}×", plain(value)),
        _ => plain(value),
    }
}

/// What is said of an axis whose marks have this unit.
pub fn name(unit: &str) -> &str {
    match unit {
        "us" => "latency",
        "ratio" => "",
        "Gbit/s" => "Gbit/s of payload",
        "packets/s" => "messages per second",
        "requests/s" => "requests per second",
        unit => unit,
    }
}

/// Three significant digits; all digits of the whole part.
fn digits(value: f64) -> String {
    match value.abs() {
        a if a >= 99.95 => format!("{value:.0}"),
        a if a >= 9.995 => format!("{value:.1}"),
        a if a >= 0.0995 || a == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Without zeros behind the last digit that matters.
fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(value: f64) -> (String, &'static str) {
    match value {
        v if v >= 1e9 => (digits(v / 1e9), "G"),
        v if v >= 1e6 => (digits(v / 1e6), "M"),
        v if v >= 1e3 => (digits(v / 1e3), "k"),
        v => (digits(v), ""),
    }
}

/// Groups of three digits, which no line break separates.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        for (number, unit, text) in [
            (1.598, "us", "1.60 µs"),
            (34.06, "us", "34.1 µs"),
            (2458.4, "us", "2.46 ms"),
            (3.2e6, "us", "3.20 s"),
            (0.042, "us", "42.0 ns"),
            (50.24, "Gbit/s", "50.2 Gbit/s"),
            (0.0125, "Gbit/s", "12.5 Mbit/s"),
            (12_106_889.0, "packets/s", "12.1 M/s"),
            (337_427.0, "packets/s", "337 k/s"),
            (12.0, "packets/s", "12.0/s"),
            (51_234.0, "requests/s", "51.2 k/s"),
            (1740.8, "bytes", "1741 B"),
            (1048576.0, "bytes", "1 MiB"),
            (0.014, "%", "0.014%"),
            (0.5634, "ratio", "0.56×"),
            (0.9812, "index", "0.981"),
            (7_600_000.0, "count", "7\u{202f}600\u{202f}000"),
            (f64::NAN, "us", "–"),
            (0.0, "us", "0.00 µs"),
            (3.0, "furlongs", "3.00 furlongs"),
        ] {
            assert_eq!(value(number, unit), text);
        }
    }

    #[test]
    fn sizes() {
        for (size, text) in [(8, "8 B"), (1024, "1 KiB"), (1472, "1472 B"), (8972, "8972 B"), (65536, "64 KiB")] {
            assert_eq!(bytes(f64::from(size)), text);
        }
        assert_eq!(bytes(10.0 * (1u64 << 30) as f64), "10 GiB");
    }

    #[test]
    fn marks_are_short() {
        let marks = [
            (0.5, "us", "0.5 µs"),
            (2000.0, "us", "2 ms"),
            (10.0, "Gbit/s", "10"),
            (2.5e6, "packets/s", "2.5M"),
            (65536.0, "bytes", "64K"),
            (5.0, "%", "5%"),
        ];
        for (number, unit, text) in marks {
            assert_eq!(tick(number, unit), text);
        }
    }
}
