//! From the figures of all rounds to what people and programs read: medians, ratios, a table, JSON.
//!
//! The speed of a machine drifts by more than what is measured differs, so figures are compared only
//! within a turn, in which the peers are measured one after another: a ratio is the mean of the middle half of all turns' ratios.

use std::fmt::Write;

use serde::Serialize;

use crate::figures::Figure;
use crate::spec::{Bench, Spec};

/// One figure of the report. The keys of the JSON are these fields, no more and no fewer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// What was measured: `lat`, `bw`, `bw-copy`, `rate`, `loss` ...
    pub(crate) bench: &'static str,
    /// Who was measured.
    pub(crate) peer: &'static str,
    /// MTU of the interfaces, bytes.
    pub(crate) mtu: u32,
    /// Payload of one message, bytes.
    pub(crate) size: usize,
    /// Which figure: `p50`, `p99`, `p999`, `bandwidth`, `rate`; with what it is of, where there are several of the kind:
    /// `goodput 1%`, `p99 sender 2`; or `rx cpu`, `tx copies per byte`, `vs gather` ...
    pub(crate) metric: String,
    /// Median over all turns; of a ratio, the mean of their middle half.
    pub(crate) value: f64,
    /// `us`, `ns`, `Gbit/s`, `ns/KiB`, `packets/s`, `copies`, `bytes`, `%`, `ratio`, `index` or `count`.
    pub(crate) unit: &'static str,
    /// Value divided by the floor's in the same turn, mean of the middle half of all turns. Null where the floor was not measured, for a percentile that too few
    /// samples lie beyond, and of what is a ratio itself.
    pub(crate) vs_floor: Option<f64>,
    /// The same with kernel TCP's: that of `tcp`, or, of `sockets-block`, that of `tcp-block`, which may sleep as it may. Null as `vs_floor` is.
    pub(crate) vs_tcp: Option<f64>,
}

/// The unit of what is a ratio.
pub(crate) const RATIO: &str = "ratio";

/// One figure of one peer in every turn.
#[derive(Clone, Debug)]
struct Series {
    bench: Bench,
    peer: &'static str,
    mtu: u32,
    size: usize,
    metric: &'static str,
    of: String,
    unit: &'static str,
    /// Not a number where a turn couldn't tell.
    turns: Vec<f64>,
    /// In how many turns it was steady enough to be compared.
    firm: usize,
}

impl Series {
    /// Whether most turns can tell.
    fn is_known(&self) -> bool {
        2 * self.turns.iter().filter(|value| !value.is_nan()).count() > self.turns.len()
    }

    /// Whether a ratio of it says anything.
    fn has_ratio(&self) -> bool {
        2 * self.firm > self.turns.len()
    }

    fn comparable(&self, other: &Series) -> bool {
        let key = |s: &Series| (s.bench, s.mtu, s.size, s.metric);
        key(self) == key(other) && self.of == other.of
    }
}

/// Everything measured so far.
#[derive(Default)]
pub(crate) struct Report {
    series: Vec<Series>,
}

impl Report {
    /// Takes in what all sides of one peer have found in their next turn.
    #[cfg(test)]
    pub(crate) fn add(&mut self, peer: &'static str, spec: &Spec, outcomes: &[crate::spec::Outcome]) {
        self.add_next(peer, spec, crate::figures::figures(spec, outcomes));
    }

    /// Takes in the figures of one peer in its next turn.
    #[cfg(test)]
    pub(crate) fn add_next(&mut self, peer: &'static str, spec: &Spec, figures: Vec<Figure>) {
        for figure in figures {
            let turn = self.series_of(peer, spec, &figure).turns.len();
            self.add_figures(peer, spec, turn, vec![figure]);
        }
    }

    /// Takes in the figures of one peer in one turn. Turns count from 0, and may be missing.
    pub(crate) fn add_figures(&mut self, peer: &'static str, spec: &Spec, turn: usize, figures: Vec<Figure>) {
        for figure in figures {
            let series = self.series_of(peer, spec, &figure);
            series.turns.resize(turn, f64::NAN);
            series.turns.push(figure.value);
            series.firm += usize::from(figure.firm);
        }
    }

    fn series_of(&mut self, peer: &'static str, spec: &Spec, figure: &Figure) -> &mut Series {
        let (&Spec { bench, mtu, size, .. }, &Figure { metric, unit, .. }) = (spec, figure);
        let new = Series { bench, peer, mtu, size, metric, of: figure.of.clone(), unit, turns: Vec::new(), firm: 0 };
        let place = self.series.iter().position(|s| s.peer == new.peer && s.comparable(&new));
        let place = place.unwrap_or_else(|| {
            self.series.push(new);
            self.series.len() - 1
        });
        &mut self.series[place]
    }

    /// Adds a figure called `name`: how `metric` compares, within each turn, to the same peer's `metric` of `base`.
    pub(crate) fn compare(&mut self, name: &'static str, metric: &str, base: &str) {
        let compared = |s: &&Series| s.metric == metric && s.of != base;
        for series in self.series.iter().filter(compared).cloned().collect::<Vec<_>>() {
            let of_base = Series { of: base.into(), ..series.clone() };
            if let Some(base) = self.series.iter().find(|s| s.peer == series.peer && s.comparable(&of_base)) {
                let turns = ratios(&series, base);
                self.series.push(Series { metric: name, unit: RATIO, firm: turns.len(), turns, ..series });
            }
        }
    }

    /// Adds a figure called `name`: how the `metric` of all peers whose names begin with one of `whose` compares, within each turn, to the
    /// peer `base`'s, in one bench.
    pub(crate) fn compare_peers(&mut self, name: &'static str, whose: &[&str], bench: Bench, metric: &str, base: &str) {
        let is_meant = |peer: &str| peer != base && whose.iter().any(|name| peer.starts_with(name));
        let compared = |s: &&Series| (s.bench, s.metric) == (bench, metric) && is_meant(s.peer);
        for series in self.series.iter().filter(compared).cloned().collect::<Vec<_>>() {
            if let Some(turns) = self.ratios(&series, base) {
                self.series.push(Series { metric: name, unit: RATIO, firm: turns.len(), turns, ..series });
            }
        }
    }

    /// The rows, in the order in which their measurements were first made.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.known().map(|s| self.row(s)).collect()
    }

    /// Of which streams too little arrived in most turns: a line each.
    pub(crate) fn too_short(&self) -> impl Iterator<Item = String> {
        let streamed = |s: &&Series| matches!(s.metric, "rate" | "bandwidth" | "goodput") && !s.is_known();
        self.series.iter().filter(streamed).map(|Series { bench, peer, mtu, size, .. }| {
            format!(
                "{peer}, {bench}, {size} bytes at MTU {mtu} is left out: in most turns hardly anything arrived in time; \
                 let nothing else run, or measure for longer (--duration)"
            )
        })
    }

    fn known(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.is_known())
    }

    fn row(&self, s: &Series) -> Row {
        Row {
            bench: s.bench.name(),
            peer: s.peer,
            mtu: s.mtu,
            size: s.size,
            metric: format!("{} {}", s.metric, s.of).trim_end().into(),
            value: if s.unit == RATIO { middle(&s.turns) } else { median(&s.turns) },
            unit: s.unit,
            vs_floor: self.ratio(s, "floor"),
            vs_tcp: self.ratio(s, rival(s.peer)),
        }
    }

    fn ratio(&self, series: &Series, reference: &str) -> Option<f64> {
        Some(middle(&self.ratios(series, reference)?)).filter(|r| r.is_finite())
    }

    /// The turns' ratios to another peer's figure. None where there is none, or not steady enough, and of ratios.
    fn ratios(&self, series: &Series, reference: &str) -> Option<Vec<f64>> {
        if series.unit == RATIO {
            return None;
        }
        let other = self.series.iter().find(|s| s.peer == reference && s.comparable(series))?;
        (series.has_ratio() && other.has_ratio()).then(|| ratios(series, other))
    }

    /// How far apart the turns' ratios are. None where there is none, or but one turn.
    pub(crate) fn spread(&self) -> Option<Spread> {
        let mut all: Vec<(f64, String)> = Vec::new();
        for series in &self.series {
            for base in ["floor", rival(series.peer)].iter().filter(|base| **base != series.peer) {
                let mut ratios = self.ratios(series, base).unwrap_or_default();
                ratios.retain(|ratio| ratio.is_finite());
                if ratios.len() > 1 {
                    let Series { bench, peer, mtu, size, .. } = series;
                    let of = format!("{peer}/{base}, {bench}, {size} bytes at MTU {mtu}");
                    all.push((quartiles_apart(&ratios) / middle(&ratios), of));
                }
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let typical = median(&all.iter().map(|(spread, _)| *spread).collect::<Vec<_>>());
        let (widest, of) = all.pop()?;
        Some(Spread { typical, widest, of })
    }

    /// The rows as one flat JSON array, a row a line.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<String> =
            self.rows().iter().map(|row| serde_json::to_string(row).expect("a row is plain data")).collect();
        format!("[\n{}\n]\n", rows.join(",\n"))
    }

    /// The rows as tables for a terminal: one for each bench, MTU and size, a line for each peer and what the figures are of.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut lines: Vec<(&Series, Row)> = self.known().map(|series| (series, self.row(series))).collect();
        // Stable, so the peers stay in order.
        let key = |s: &Series| (s.bench, s.mtu, s.size);
        lines.sort_by_key(|(series, _)| key(series));
        for table in lines.chunk_by(|a, b| key(a.0) == key(b.0)) {
            write_table(&mut text, table);
        }
        text
    }
}

/// The kernel TCP that a peer is compared with. One that may sleep isn't held against one that never does.
pub(crate) fn rival(peer: &str) -> &'static str {
    if peer == "sockets-block" { "tcp-block" } else { "tcp" }
}

/// How far apart the first and the third quartile of each ratio are, in relation to the ratio.
pub(crate) struct Spread {
    /// The median over all ratios.
    pub(crate) typical: f64,
    /// The largest.
    pub(crate) widest: f64,
    /// Whose that is.
    pub(crate) of: String,
}

/// The mean of the middle half: as deaf to outliers as the median, and, of values that keep to two places as those of short
/// measurements do, it doesn't jump from one to the other. Of three values it is the median. NaN of nothing.
fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.retain(|value| !value.is_nan());
    sorted.sort_by(f64::total_cmp);
    let outside = sorted.len().div_ceil(4).min(sorted.len().saturating_sub(1) / 2);
    let inside = &sorted[outside..sorted.len() - outside];
    inside.iter().sum::<f64>() / inside.len() as f64
}

/// The third quartile less the first. Of one value at least.
fn quartiles_apart(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    sorted[(last * 3).div_ceil(4)] - sorted[last / 4]
}

/// What is in `of` divided by what is in `base`, turn by turn.
fn ratios(of: &Series, base: &Series) -> Vec<f64> {
    of.turns.iter().zip(&base.turns).map(|(a, b)| a / b).collect()
}

fn write_table(text: &mut String, table: &[(&Series, Row)]) {
    let (mut metrics, mut lines) = (Vec::new(), Vec::new());
    for (series, _) in table {
        if !metrics.contains(&series.metric) {
            metrics.push(series.metric);
        }
        if !lines.contains(&(series.peer, &series.of)) {
            lines.push((series.peer, &series.of));
        }
    }
    let Series { bench, mtu, size, .. } = table[0].0;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{}, {size} bytes, MTU {mtu}", bench.title());
    let width = lines.iter().map(|(peer, of)| peer.len() + of.len() + 1).max().unwrap_or(0).max(14);
    let _ = write!(text, "  {:<width$}", "peer");
    let column = |metric: &str| (metric.len() + 2).max(12);
    for metric in &metrics {
        let _ = write!(text, "{metric:>0$}", column(metric));
    }
    let _ = writeln!(text, "{:>12}{:>12}", "vs floor", "vs tcp");
    for (peer, of) in lines {
        let line: Vec<_> = table.iter().filter(|(s, _)| s.peer == peer && s.of == *of).collect();
        let _ = write!(text, "  {:<width$}", format!("{peer} {of}"));
        for metric in &metrics {
            let width = column(metric);
            let _ = match line.iter().find(|(s, _)| s.metric == *metric) {
                // A copy of one byte in a thousand is to be seen.
                Some((_, row)) if row.unit == "copies" => write!(text, "{:>width$.4}", row.value),
                // Rates are large numbers, everything else small ones.
                Some((_, row)) if row.value >= 1000.0 => write!(text, "{:>width$.0}", row.value),
                Some((_, row)) => write!(text, "{:>width$.2}", row.value),
                None => write!(text, "{:>width$}", "-"),
            };
        }
        let ratio = |r: Option<f64>| r.map_or("-".into(), |r| format!("{r:.2}x"));
        let _ = writeln!(text, "{:>12}{:>12}", ratio(line[0].1.vs_floor), ratio(line[0].1.vs_tcp));
    }
}

/// The middle value, or the mean of the middle two, of those that are numbers. NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Outcome;

    fn spec(bench: Bench, size: usize) -> Spec {
        Spec { bench, mtu: 1500, size, samples: 1, millis: 1, ..Spec::default() }
    }

    fn gbit(value: u64) -> Outcome {
        Outcome::Stream { messages: 1.0, bytes: value * 125, nanos: 1000 }
    }

    fn report(rounds: &[(u64, u64, u64)]) -> Report {
        let mut report = Report::default();
        for &(floor, vmmc, tcp) in rounds {
            report.add("floor", &spec(Bench::Bw, 100), &[gbit(floor)]);
            report.add("vmmc", &spec(Bench::Bw, 100), &[gbit(vmmc)]);
            report.add("tcp", &spec(Bench::Bw, 100), &[gbit(tcp)]);
        }
        report
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[5.0]), 5.0);
        assert_eq!(median(&[5.0, f64::NAN, 7.0]), 6.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_stream_that_most_rounds_could_not_measure_is_left_out_and_named() {
        let mut report = Report::default();
        for (round, tcp) in [gbit(20), Outcome::TooShort, gbit(10), Outcome::TooShort].into_iter().enumerate() {
            report.add("floor", &spec(Bench::Bw, 100), &[gbit(10)]);
            report.add("tcp", &spec(Bench::Bw, 100), &[tcp]);
            let left_out: Vec<_> = report.too_short().collect();
            assert_eq!(left_out.len(), usize::from(round % 2 == 1), "{left_out:?}");
        }
        assert!(report.rows().iter().all(|row| row.peer == "floor" && row.vs_tcp.is_none()));
        report.add("floor", &spec(Bench::Bw, 100), &[gbit(10)]);
        report.add("tcp", &spec(Bench::Bw, 100), &[gbit(15)]);
        let rows = report.rows();
        let tcp = rows.iter().find(|row| row.peer == "tcp").expect("three of five rounds can tell");
        // Within the rounds that know: twice, once, one and a half times.
        assert_eq!((tcp.value, tcp.vs_floor), (15.0, Some(1.5)));
    }

    #[test]
    fn the_middle_half_is_what_a_ratio_comes_from() {
        assert_eq!(middle(&[3.0, 1.0, 90.0]), 3.0);
        assert_eq!(middle(&[4.0, 2.0]), 3.0);
        assert_eq!(middle(&[5.0, f64::NAN]), 5.0);
        assert_eq!(middle(&[0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 900.0]), 2.0);
        assert!(middle(&[]).is_nan());
    }

    #[test]
    fn a_percentile_with_nothing_beyond_it_is_left_out_and_one_with_little_is_not_compared() {
        let mut report = Report::default();
        for peer in ["floor", "vmmc"] {
            for samples in [90, 110, 20_000, 150, 120] {
                report.add(peer, &spec(Bench::Lat, 64), &[Outcome::Latency(vec![(1000, samples)])]);
            }
        }
        let rows = report.rows();
        let of_vmmc: Vec<_> =
            rows.iter().filter(|r| r.peer == "vmmc").map(|r| (&r.metric[..], r.vs_floor.is_some())).collect();
        assert_eq!(of_vmmc, [("p50", true), ("p99", false)]);
        assert!(!report.json().contains("p999") && !report.table().contains("p999"));
    }

    #[test]
    fn who_may_sleep_is_compared_with_a_tcp_that_may() {
        let mut report = Report::default();
        for (peer, value) in [("sockets", 10), ("sockets-block", 6), ("tcp", 5), ("tcp-block", 2), ("tcp-nooff", 4)] {
            report.add(peer, &spec(Bench::Bw, 100), &[gbit(value)]);
        }
        report.compare_peers("vs nooff", &["sockets"], Bench::Bw, "bandwidth", "tcp-nooff");
        let rows = report.rows();
        let of = |peer, metric| rows.iter().find(|row| (row.peer, &row.metric[..]) == (peer, metric));
        let vs_tcp = |peer| of(peer, "bandwidth").and_then(|row| row.vs_tcp);
        assert_eq!(
            (vs_tcp("sockets"), vs_tcp("sockets-block"), vs_tcp("tcp-block")),
            (Some(2.0), Some(3.0), Some(0.4))
        );
        assert_eq!(of("sockets", "vs nooff").map(|row| (row.value, row.unit)), Some((2.5, "ratio")));
        assert_eq!(of("tcp-nooff", "vs nooff"), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine runs at half speed in the second round and at double speed in the third.
        let rows = report(&[(10, 8, 20), (5, 4, 10), (20, 16, 40)]).rows();
        let vmmc = rows.iter().find(|r| r.peer == "vmmc").unwrap();
        assert_eq!(vmmc.value, 8.0);
        assert_eq!(vmmc.vs_floor, Some(0.8));
        assert_eq!(vmmc.vs_tcp, Some(0.4));
        let floor = rows.iter().find(|r| r.peer == "floor").unwrap();
        assert_eq!((floor.vs_floor, floor.vs_tcp), (Some(1.0), Some(0.5)));
    }

    #[test]
    fn there_is_no_ratio_to_what_was_not_measured() {
        let mut report = report(&[(10, 8, 20)]);
        report.add("floor", &spec(Bench::Bw, 200), &[gbit(9)]);
        report.add("vmmc", &spec(Bench::BwCopy, 100), &[gbit(9)]);
        let rows = report.rows();
        assert_eq!((rows[3].vs_floor, rows[3].vs_tcp), (Some(1.0), None));
        assert_eq!((rows[4].vs_floor, rows[4].vs_tcp), (None, None));
    }

    #[test]
    fn a_peer_is_compared_with_itself_within_a_round() {
        let mut report = Report::default();
        let lossy = |drop: &str| Spec { faults: format!("drop={drop}").parse().unwrap(), ..spec(Bench::Loss, 100) };
        for (lossless, lossy_one) in [(10, 9), (20, 10), (4, 3)] {
            report.add("vmmc", &lossy("0%"), &[gbit(lossless)]);
            report.add("vmmc", &lossy("1%"), &[gbit(lossy_one)]);
            report.add("tcp", &lossy("1%"), &[gbit(9)]);
        }
        report.compare("kept", "goodput", "0%");
        let rows = report.rows();
        let kept: Vec<_> = rows.iter().filter(|r| r.metric.starts_with("kept")).collect();
        assert_eq!(kept.len(), 1, "{rows:?}");
        assert_eq!(
            (&kept[0].metric[..], kept[0].peer, kept[0].value, kept[0].unit),
            ("kept 1%", "vmmc", 0.75, "ratio")
        );
        let table = report.table();
        assert!(table.contains("vmmc 0%") && table.contains("vmmc 1%") && table.contains("0.75"), "{table}");
    }

    #[test]
    fn the_json_has_exactly_the_agreed_keys() {
        let mut report = report(&[(10, 8, 20)]);
        report.add("vmmc", &spec(Bench::BwCopy, 100), &[gbit(9)]);
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(rows.len(), 4);
        for row in &rows {
            let mut keys: Vec<_> = row.keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, ["bench", "metric", "mtu", "peer", "size", "unit", "value", "vs_floor", "vs_tcp"]);
        }
        assert!(rows[3]["vs_tcp"].is_null());
        assert!(serde_json::from_str::<Vec<u8>>(&Report::default().json()).unwrap().is_empty());
    }

    #[test]
    fn the_table_has_a_line_for_every_peer() {
        let mut report = report(&[(10, 8, 20)]);
        let latency = Outcome::Latency(vec![(1500, 1000)]);
        report.add("floor", &spec(Bench::Lat, 64), &[latency]);
        let table = report.table();
        for words in ["bandwidth", "0.80x", "0.40x", "p999", "1.50", "MTU 1500", "64 bytes"] {
            assert!(table.contains(words), "{words} in {table}");
        }
    }
}
