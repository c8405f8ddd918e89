//! The report of many sizes as tables for a terminal: one for each bench and MTU, a line for each size or number of connections, a column for each
//! peer, and what VMMC is in relation to the floor and to kernel TCP. Stream sockets have tables of their own, beside those they compete with.

use std::fmt::Write;

use crate::report::{Report, Row, rival};

/// What is shown, in this order: of which bench, which metric, under which title.
const SHOWN: [(&str, &str, &str); 9] = [
    ("lat", "p50", "one-way latency, median (us)"),
    ("lat", "p99", "one-way latency, 99% (us)"),
    ("bw", "bandwidth", "bandwidth (Gbit/s of payload)"),
    ("bw-copy", "bandwidth", "bandwidth, payload copied in and out (Gbit/s)"),
    ("bw", "rx cpu", "processor time of a stream's receiver that sleeps in between (ns/KiB)"),
    ("bw", "tx copies per byte", "copies of each byte in the sender's user space"),
    ("bw", "rx copies per byte", "copies of each byte in the receiver's user space"),
    ("rate", "rate", "messages per second"),
    ("loss", "goodput", "goodput of a stream that loses packets (Gbit/s of payload)"),
];

/// The same of stream sockets. All processor time is that of both sides.
const STREAMS: [(&str, &str, &str); 15] = [
    ("lat", "p50", "one-way latency, median (us)"),
    ("lat", "p99", "one-way latency, 99% (us)"),
    ("lat", "cpu", "processor time for a round trip (us)"),
    ("bw", "bandwidth", "bandwidth (Gbit/s of payload)"),
    ("bw", "cpu", "processor time (ns/KiB)"),
    ("rate", "rate", "messages per second"),
    ("rr", "rate", "requests per second"),
    ("rr", "p50", "time of a request, median (us)"),
    ("rr", "p99", "time of a request, 99% (us)"),
    ("rr", "cpu", "processor time for a request (us)"),
    ("rr-plain", "rate", "requests per second, by calls that wait for one connection"),
    ("rr-plain", "cpu", "processor time for such a request (us)"),
    ("connect", "rate", "connections opened and closed per second"),
    ("connect", "cpu", "processor time for a connection (us)"),
    ("idle-streams", "memory", "memory of an idle connection (bytes)"),
];

/// Whose ratios are shown, unless nobody of that name was measured.
const SUBJECT: &str = "vmmc";

/// Whose processor time is compared with whose, where a stream's receiver sleeps in between.
const RECEIVERS: (&str, &str) = ("vmmc-block", "vmmc-eager-block");

/// Who competes with whom where stream sockets do.
const RIVALS: [(&str, &str); 7] = [
    ("sockets", "floor"),
    ("sockets", "sockets-eager"),
    ("sockets", "tcp"),
    ("sockets", "tcp-nooff"),
    ("sockets-owned", "floor-gather"),
    ("sockets-owned", "tcp"),
    ("sockets-block", "tcp-block"),
];

/// The tables, and how far the turns differ.
pub(crate) fn tables(report: &Report) -> String {
    let rows = report.rows();
    let mut peers: Vec<&str> = Vec::new();
    let mut mtus: Vec<u32> = Vec::new();
    for row in &rows {
        remember(&mut peers, row.peer);
        remember(&mut mtus, row.mtu);
    }
    let streams = |peer: &str| peer.starts_with("sockets");
    let others = peers.iter().copied().filter(|peer| !["floor", "tcp"].contains(peer) && !streams(peer));
    let subject = [SUBJECT].into_iter().chain(others).find(|name| peers.contains(name));
    let subjects: Vec<(&str, &str)> =
        subject.map(|name| [(name, "floor"), (name, "tcp")]).into_iter().flatten().collect();
    let mut text = String::new();
    for mtu in mtus {
        let of = |bench: &str, metric: &str| -> Vec<&Row> {
            rows.iter().filter(|row| (row.bench, kind(&row.metric).0, row.mtu) == (bench, metric, mtu)).collect()
        };
        for (bench, metric, title) in SHOWN {
            let mut shown = of(bench, metric);
            shown.retain(|row| !streams(row.peer));
            if !shown.is_empty() {
                let _ = writeln!(text, "\n{title}, MTU {mtu}");
                let others = match metric {
                    "bandwidth" => {
                        vec![("floor-gather", of(bench, "vs gather")), ("vmmc-eager", of(bench, "vs eager"))]
                    }
                    "goodput" => vec![("vmmc-eager", of(bench, "vs eager"))],
                    "rx cpu" => vec![(RECEIVERS.1, of(bench, "rx cpu vs eager"))],
                    _ => Vec::new(),
                };
                let mine = others.iter().flat_map(|(base, _)| subject.map(|name| (name, *base)));
                let wanted: Vec<_> = subjects.iter().copied().chain(mine).chain([RECEIVERS]).collect();
                write_table(&mut text, &shown, &wanted, &others);
            }
        }
        for (bench, metric, title) in STREAMS {
            let mut shown = of(bench, metric);
            // Those that are in the other tables, too, only if there is something to hold against them.
            if SHOWN.iter().any(|(other, ..)| *other == bench) && !shown.iter().any(|row| streams(row.peer)) {
                continue;
            }
            shown.retain(|row| streams(row.peer) || RIVALS.iter().any(|(_, rival)| *rival == row.peer));
            let theirs: Vec<String> = shown.iter().filter(|row| streams(row.peer)).map(|row| label(row)).collect();
            shown.retain(|row| theirs.is_empty() || theirs.contains(&label(row)));
            if !shown.is_empty() {
                let _ = writeln!(text, "\nstreams: {title}, MTU {mtu}");
                let others =
                    [("tcp-nooff", "vs nooff"), ("sockets-eager", "vs sockets-eager"), ("floor-gather", "vs gather")];
                let others = others.map(|(name, metric)| (name, of(bench, metric)));
                write_table(&mut text, &shown, &RIVALS, &others);
            }
        }
    }
    if let Some(spread) = report.spread() {
        let (typical, widest) = (50.0 * spread.typical, 50.0 * spread.widest);
        let _ = writeln!(
            text,
            "\nFrom turn to turn: half of a ratio's values are within {typical:.1}% of its median, in the median of all ratios; \
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

/// A metric, and of what: `p99` and `32 connections`.
pub(crate) fn kind(metric: &str) -> (&str, &str) {
    /// How the names of metrics begin that have spaces themselves. These are never of several things in one table.
    const SPACED: [&str; 3] = ["vs", "rx", "tx"];
    /// The one that is, at several losses.
    const AT: &str = "vs eager ";
    match metric.split_once(' ') {
        _ if metric.starts_with(AT) => (AT.trim_end(), &metric[AT.len()..]),
        Some((first, _)) if SPACED.contains(&first) => (metric, ""),
        Some(parts) => parts,
        None => (metric, ""),
    }
}

/// How the line of a row is called.
fn label(row: &Row) -> String {
    match kind(&row.metric).1 {
        "" => size_text(row.size),
        // There the size is what was asked for.
        of if row.bench == "rr" => format!("{of}, {}", size_text(row.size)),
        of => of.into(),
    }
}

/// Of some peers that others are compared with: its name, and the rows that say what others are of its figure.
type Others<'a> = [(&'static str, Vec<&'a Row>)];

/// What a row is of the same figure of another peer. Of some there are rows of their own.
fn ratio(row: &Row, base: &str, others: &Others) -> Option<f64> {
    match (base, others.iter().find(|(name, _)| *name == base)) {
        ("floor", _) => row.vs_floor,
        (_, Some((_, rows))) => {
            let key = |row: &Row| (row.peer, row.size, kind(&row.metric).1.to_owned());
            rows.iter().find(|other| key(other) == key(row)).map(|row| row.value)
        }
        _ => row.vs_tcp.filter(|_| rival(row.peer) == base),
    }
}

fn write_table(text: &mut String, rows: &[&Row], wanted: &[(&str, &str)], others: &Others) {
    let mut peers: Vec<&str> = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    // Who couldn't tell the figure of the first size comes later with the others: sizes go down all the same.
    let mut ascending = rows.to_vec();
    ascending.sort_by_key(|row| row.size);
    for row in rows {
        remember(&mut peers, row.peer);
    }
    for row in ascending {
        remember(&mut labels, label(row));
    }
    let find = |peer: &str, line: &str| rows.iter().find(|row| row.peer == peer && label(row) == line);
    let there =
        |&(name, base): &(&str, &str)| rows.iter().any(|row| row.peer == name && ratio(row, base, others).is_some());
    let ratios: Vec<(String, &str, &str)> =
        wanted.iter().copied().filter(there).map(|(name, base)| (format!("{name}/{base}"), name, base)).collect();
    let width = |name: &str| (name.len() + 2).max(10);
    let first = labels.iter().map(String::len).max().unwrap_or(0).max(9);
    let sized = rows.iter().all(|row| kind(&row.metric).1.is_empty());

    // Writing to a String cannot fail.
    let _ = write!(text, "{:>first$}", if sized { "size" } else { "" });
    for peer in &peers {
        let _ = write!(text, "{peer:>0$}", width(peer));
    }
    for (title, ..) in &ratios {
        let _ = write!(text, "{title:>0$}", width(title) + 1);
    }
    text.push('\n');
    for line in labels {
        let _ = write!(text, "{line:>first$}");
        for peer in &peers {
            let value = find(peer, &line).map_or("-".into(), |row| number(row.value, row.unit));
            let _ = write!(text, "{value:>0$}", width(peer));
        }
        for (title, name, base) in &ratios {
            let ratio = find(name, &line).and_then(|row| ratio(row, base, others));
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
            let _ = write!(text, "{ratio:>0$}", width(title) + 1);
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

/// Three or four digits that matter; rates are large numbers, everything else small ones. A copy of one byte in a thousand is to be seen.
fn number(value: f64, unit: &str) -> String {
    match value {
        v if unit == "copies" => format!("{v:.4}"),
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
            for (peer, factor) in [("floor", 1), ("vmmc", 2), ("tcp", 4)] {
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
    fn stream_sockets_have_tables_of_their_own_beside_their_rivals() {
        let mut report = report();
        for (peer, factor) in [("sockets", 3), ("sockets-block", 10), ("tcp-block", 20), ("tcp-nooff", 5)] {
            let spec = Spec { bench: Bench::Lat, mtu: 1500, size: 8, ..Spec::default() };
            for round in [1, 2, 3] {
                report.add(peer, &spec, &[Outcome::Latency(vec![(1000 * factor * round, 100)])]);
                let stream = Outcome::Stream { messages: 1.0, bytes: 125 * factor, nanos: 1000 };
                report.add(peer, &Spec { bench: Bench::Bw, ..spec.clone() }, &[stream]);
                for count in [1, 32] {
                    let spec = Spec { bench: Bench::Rr, size: 1024, count, ..spec.clone() };
                    let requests = Outcome::Requests { latency: vec![(1000, 100 * factor)], nanos: 1_000_000_000 };
                    report.add(peer, &spec, &[requests.used(std::time::Duration::from_micros(100), 50)]);
                }
            }
        }
        report.compare_peers("vs nooff", &["vmmc", "sockets"], Bench::Bw, "bandwidth", "tcp-nooff");
        let text = tables(&report);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let has = |line: &str| lines.contains(&line.split_whitespace().collect());
        for line in [
            "size floor vmmc tcp ucx tcp-block tcp-nooff vmmc/floor vmmc/tcp",
            "size floor tcp sockets sockets-block tcp-block tcp-nooff sockets/floor sockets/tcp sockets-block/tcp-block",
            "8 B 2.00 8.00 6.00 20.02 40.03 10.01 3.00x 0.75x 0.50x",
            "size sockets sockets-block tcp-block tcp-nooff sockets/tcp-nooff sockets-block/tcp-block",
            "8 B 3.00 10.00 20.00 5.00 0.60x 0.50x",
            "sockets sockets-block tcp-block tcp-nooff sockets-block/tcp-block",
            "32 connections, 1 KiB 300.0 1000 2000 500.0 0.50x",
            "streams: time of a request, 99% (us), MTU 1500",
        ] {
            assert!(has(line), "{line}: {text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn what_the_bulk_lane_saves_is_told_beside_what_goes_without() {
        let mut report = report();
        for (peer, factor) in
            [("vmmc", 3), ("vmmc-eager", 2), ("floor-gather", 4), ("vmmc-block", 1), ("vmmc-eager-block", 5)]
        {
            let spec = Spec { bench: Bench::Bw, mtu: 9000, size: 1 << 20, ..Spec::default() };
            let stream = Outcome::Stream { messages: 1.0, bytes: 125 * factor, nanos: 1000 };
            let used = std::time::Duration::from_micros(100 * factor);
            report.add(peer, &spec, &[Outcome::Nothing, stream.clone().used(used, 1024)]);
            for percent in [0.0, 1.0] {
                let faults = vmmc::port::fault::Faults { drop: percent / 100.0, ..Default::default() };
                let bytes = if percent == 0.0 { 125 } else { 125 * factor };
                let stream = Outcome::Stream { messages: 1.0, bytes, nanos: 1000 };
                report.add(peer, &Spec { bench: Bench::Loss, faults, ..spec.clone() }, &[stream]);
            }
        }
        report.compare_peers("vs gather", &["vmmc", "sockets"], Bench::Bw, "bandwidth", "floor-gather");
        report.compare_peers("vs eager", &["vmmc", "sockets"], Bench::Bw, "bandwidth", "vmmc-eager");
        report.compare_peers("vs eager", &["vmmc", "sockets"], Bench::Loss, "goodput", "vmmc-eager");
        report.compare_peers("rx cpu vs eager", &["vmmc", "sockets"], Bench::Bw, "rx cpu", "vmmc-eager-block");
        let text = tables(&report);
        let has = |line: &str| text.lines().any(|known| known.split_whitespace().eq(line.split_whitespace()));
        for line in [
            "1 MiB 3.00 2.00 4.00 1.00 5.00 0.75x 1.50x",
            "goodput of a stream that loses packets (Gbit/s of payload), MTU 9000",
            "0% 1.00 1.00 1.00 1.00 1.00 1.00x",
            "1% 3.00 2.00 4.00 1.00 5.00 1.50x",
        ] {
            assert!(has(line), "{line}: {text}");
        }
        let lines: Vec<&str> = text.lines().collect();
        let at =
            lines.iter().position(|line| line.starts_with("processor time of a stream's receiver")).expect("a table");
        assert!(lines[at + 1].ends_with("vmmc-block/vmmc-eager-block") && lines[at + 2].ends_with("0.20x"), "{text}");
    }

    #[test]
    fn sizes_go_down_though_not_everybody_has_the_first() {
        let mut report = Report::default();
        for (peer, sizes) in [("floor", &[4096][..]), ("vmmc", &[8, 4096])] {
            for &size in sizes {
                let spec = Spec { bench: Bench::Lat, mtu: 1500, size, ..Spec::default() };
                report.add(peer, &spec, &[Outcome::Latency(vec![(1000, 100)])]);
            }
        }
        let text = tables(&report);
        assert!(text.find("8 B").expect("a line") < text.find("4 KiB").expect("a line"), "{text}");
    }

    #[test]
    fn sizes_are_written_as_people_do() {
        assert_eq!([8, 1024, 1500, 65536, 1 << 20].map(size_text), ["8 B", "1 KiB", "1500 B", "64 KiB", "1 MiB"]);
    }
}
