//! The report of many sizes as tables for a terminal: one for each bench and MTU, a line for each size, a column for each
//! peer, and what VMMC is in relation to the floor and to kernel TCP.

use std::fmt::Write;

use crate::report::{Report, Row};

/// What is shown, in this order: of which bench, which metric, under which title.
const SHOWN: [(&str, &str, &str); 5] = [
    ("lat", "p50", "one-way latency, median (us)"),
    ("lat", "p99", "one-way latency, 99% (us)"),
    ("bw", "bandwidth", "bandwidth (Gbit/s of payload)"),
    ("bw-copy", "bandwidth", "bandwidth, payload copied in and out (Gbit/s)"),
    ("rate", "rate", "messages per second"),
];

/// Whose ratios are shown, unless nobody of that name was measured.
const SUBJECT: &str = "vmmc";

/// One of a row's ratios.
type Ratio = fn(&Row) -> Option<f64>;

/// The tables, and how far the rounds differ.
pub(crate) fn tables(report: &Report) -> String {
    let rows = report.rows();
    let mut peers: Vec<&str> = Vec::new();
    let mut mtus: Vec<u32> = Vec::new();
    for row in &rows {
        remember(&mut peers, row.peer);
        remember(&mut mtus, row.mtu);
    }
    // In the order of the command line, not in that of the last round.
    peers.sort_by_key(|peer| crate::peers::place(peer));
    let subject = [SUBJECT].into_iter().chain(peers.iter().copied().filter(|p| !["floor", "tcp"].contains(p)));
    let subject = subject.into_iter().find(|name| peers.contains(name));
    let mut text = String::new();
    for mtu in mtus {
        for (bench, metric, title) in SHOWN {
            let shown: Vec<&Row> =
                rows.iter().filter(|r| (r.bench, &r.metric[..], r.mtu) == (bench, metric, mtu)).collect();
            if !shown.is_empty() {
                let _ = writeln!(text, "\n{title}, MTU {mtu}");
                write_table(&mut text, &shown, &peers, subject);
            }
        }
    }
    if let Some(spread) = report.spread() {
        let (typical, widest) = (50.0 * spread.typical, 50.0 * spread.widest);
        let _ = writeln!(
            text,
            "\nFrom round to round: half of a ratio's values are within {typical:.1}% of its median, in the median of all ratios; \
             within {widest:.1}% of the least steady ({}).",
            spread.of
        );
    }
    text
}

fn remember<T: PartialEq>(seen: &mut Vec<T>, new: T) {
    if !seen.contains(&new) {
        seen.push(new);
    }
}

fn write_table(text: &mut String, rows: &[&Row], peers: &[&str], subject: Option<&str>) {
    let peers: Vec<&str> = peers.iter().copied().filter(|peer| rows.iter().any(|row| row.peer == *peer)).collect();
    let mut sizes: Vec<usize> = Vec::new();
    rows.iter().for_each(|row| remember(&mut sizes, row.size));
    let find = |peer: &str, size: usize| rows.iter().find(|row| row.peer == peer && row.size == size);
    let ratios: Vec<(String, Ratio)> = match subject {
        Some(name) => {
            let all: [(&str, Ratio); 2] = [("floor", |row| row.vs_floor), ("tcp", |row| row.vs_tcp)];
            let there = |of: Ratio| rows.iter().any(|row| row.peer == name && of(row).is_some());
            all.into_iter().filter(|(_, of)| there(*of)).map(|(base, of)| (format!("{name}/{base}"), of)).collect()
        }
        None => Vec::new(),
    };
    let width = |name: &str| (name.len() + 2).max(10);

    // Writing to a String cannot fail.
    let _ = write!(text, "{:>9}", "size");
    for peer in &peers {
        let _ = write!(text, "{peer:>0$}", width(peer));
    }
    for (name, _) in &ratios {
        let _ = write!(text, "{name:>0$}", width(name) + 1);
    }
    text.push('\n');
    for size in sizes {
        let _ = write!(text, "{:>9}", size_text(size));
        for peer in &peers {
            let value = find(peer, size).map_or("-".into(), |row| number(row.value));
            let _ = write!(text, "{value:>0$}", width(peer));
        }
        for (name, of) in &ratios {
            let ratio = subject.and_then(|subject| find(subject, size)).and_then(|row| of(row));
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
            let _ = write!(text, "{ratio:>0$}", width(name) + 1);
        }
        text.push('\n');
    }
}

/// A size as people write it.
pub(crate) fn size_text(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// Three or four digits that matter; rates are large numbers, everything else small ones.
fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Bench, Outcome, Spec};

    fn report() -> Report {
        let mut report = Report::default();
        for round in [1, 2, 3] {
            for (peer, factor) in [("tcp", 4), ("floor", 1), ("vmmc", 2)] {
                for (mtu, size) in [(1500, 8), (1500, 65536), (9000, 8)] {
                    let spec = Spec { bench: Bench::Lat, mtu, size, ..Spec::default() };
                    report.add(peer, &spec, &[Outcome::Latency(vec![(1000 * factor * round, 100)])]);
                }
            }
        }
        let spec = Spec { bench: Bench::Lat, mtu: 1500, size: 8, ..Spec::default() };
        report.add("ucx", &spec, &[Outcome::Median { nanos: 8000.0 }]);
        report
    }

    #[test]
    fn sizes_are_lines_and_peers_are_columns() {
        let text = tables(&report());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let at =
            |words: &[&str]| lines.iter().position(|line| line == words).unwrap_or_else(|| panic!("{words:?}: {text}"));
        let header = at(&["size", "floor", "vmmc", "tcp", "ucx", "vmmc/floor", "vmmc/tcp"]);
        assert!(header < at(&["8", "B", "2.00", "4.00", "8.00", "8.00", "2.00x", "0.50x"]));
        assert!(header < at(&["64", "KiB", "2.00", "4.00", "8.00", "-", "2.00x", "0.50x"]));
        // One table of medians for each MTU, and one of what 99% stay below.
        assert_eq!(text.matches("one-way latency, median").count(), 2, "{text}");
        assert_eq!(text.matches("one-way latency, 99%").count(), 2, "{text}");
        assert!(!text.contains("bandwidth"), "{text}");
    }

    #[test]
    fn sizes_are_written_as_people_do() {
        assert_eq!([8, 1024, 1500, 65536, 1 << 20].map(size_text), ["8 B", "1 KiB", "1500 B", "64 KiB", "1 MiB"]);
    }
}
