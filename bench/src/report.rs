//! From the figures of all rounds to what people and programs read: medians, ratios, a table, JSON.
//!
//! The speed of a machine drifts by more than what is measured differs, so figures are compared only
//! within a round, where the peers take turns: a ratio is the median of each round's ratio.

use std::fmt::Write;

use serde::Serialize;

use crate::spec::{Bench, Outcome, Spec};

/// One figure of the report. The keys of the JSON are these fields, no more and no fewer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// What was measured: `lat`, `bw`, `bw-copy`, `rate`.
    pub(crate) bench: &'static str,
    /// Who was measured.
    pub(crate) peer: &'static str,
    /// MTU of the interfaces, bytes.
    pub(crate) mtu: u32,
    /// Payload of one message, bytes.
    pub(crate) size: usize,
    /// Which figure: `p50`, `p99`, `p999`, `bandwidth`, `rate`.
    pub(crate) metric: &'static str,
    /// Median over the rounds.
    pub(crate) value: f64,
    /// `us`, `Gbit/s` or `packets/s`.
    pub(crate) unit: &'static str,
    /// Value divided by the floor's in the same round, median. Null where the floor was not measured.
    pub(crate) vs_floor: Option<f64>,
    /// Value divided by kernel TCP's in the same round, median. Null where TCP was not measured.
    pub(crate) vs_tcp: Option<f64>,
}

/// One figure of one peer in every round.
#[derive(Clone, Debug)]
struct Series {
    bench: Bench,
    peer: &'static str,
    mtu: u32,
    size: usize,
    metric: &'static str,
    unit: &'static str,
    rounds: Vec<f64>,
}

impl Series {
    fn comparable(&self, other: &Series) -> bool {
        (self.bench, self.mtu, self.size, self.metric) == (other.bench, other.mtu, other.size, other.metric)
    }
}

/// Everything measured so far.
#[derive(Default)]
pub(crate) struct Report {
    series: Vec<Series>,
}

impl Report {
    /// Takes in what one peer did in one round.
    pub(crate) fn add(&mut self, peer: &'static str, spec: &Spec, outcome: &Outcome) {
        for (metric, unit, value) in outcome.figures(spec.bench) {
            let new =
                Series { bench: spec.bench, peer, mtu: spec.mtu, size: spec.size, metric, unit, rounds: Vec::new() };
            let same = |s: &Series| s.peer == peer && s.comparable(&new);
            let at = self.series.iter().position(same).unwrap_or_else(|| {
                self.series.push(new.clone());
                self.series.len() - 1
            });
            self.series[at].rounds.push(value);
        }
    }

    /// The rows, in the order in which their measurements were first made.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.series
            .iter()
            .map(|s| Row {
                bench: s.bench.name(),
                peer: s.peer,
                mtu: s.mtu,
                size: s.size,
                metric: s.metric,
                value: median(&s.rounds),
                unit: s.unit,
                vs_floor: self.ratio(s, "floor"),
                vs_tcp: self.ratio(s, "tcp"),
            })
            .collect()
    }

    fn ratio(&self, series: &Series, reference: &str) -> Option<f64> {
        let other = self.series.iter().find(|s| s.peer == reference && s.comparable(series))?;
        let ratios: Vec<f64> = series.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b).collect();
        Some(median(&ratios)).filter(|r| r.is_finite())
    }

    /// The rows as one flat JSON array, a row a line.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<String> =
            self.rows().iter().map(|row| serde_json::to_string(row).expect("a row is plain data")).collect();
        format!("[\n{}\n]\n", rows.join(",\n"))
    }

    /// The rows as tables for a terminal: one for each bench, MTU and size, a line for each peer.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut rows: Vec<(Bench, Row)> = self.series.iter().map(|s| s.bench).zip(self.rows()).collect();
        // Stable, so the peers stay in order.
        rows.sort_by_key(|(bench, row)| (*bench, row.mtu, row.size));
        let same = |a: &(Bench, Row), b: &(Bench, Row)| (a.0, a.1.mtu, a.1.size) == (b.0, b.1.mtu, b.1.size);
        for table in rows.chunk_by(same) {
            let rows: Vec<&Row> = table.iter().map(|(_, row)| row).collect();
            write_table(&mut text, &rows, table[0].0.title());
        }
        text
    }
}

fn write_table(text: &mut String, table: &[&Row], title: &str) {
    let metrics: Vec<&str> = table.iter().filter(|r| r.peer == table[0].peer).map(|r| r.metric).collect();
    let &Row { mtu, size, .. } = table[0];
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{title}, {size} bytes, MTU {mtu}");
    let _ = write!(text, "  {:<14}", "peer");
    for metric in &metrics {
        let _ = write!(text, "{metric:>12}");
    }
    let _ = writeln!(text, "{:>12}{:>12}", "vs floor", "vs tcp");
    for peer in table.chunk_by(|a, b| a.peer == b.peer) {
        let _ = write!(text, "  {:<14}", peer[0].peer);
        for row in peer {
            // Rates are large numbers, everything else small ones.
            let digits = if row.value >= 1000.0 { 0 } else { 2 };
            let _ = write!(text, "{:>12.digits$}", row.value);
        }
        let ratio = |r: Option<f64>| r.map_or("-".into(), |r| format!("{r:.2}x"));
        let _ = writeln!(text, "{:>12}{:>12}", ratio(peer[0].vs_floor), ratio(peer[0].vs_tcp));
    }
}

/// The middle value, or the mean of the middle two. NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
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

    fn spec(bench: Bench, size: usize) -> Spec {
        Spec { bench, mtu: 1500, size, samples: 1, millis: 1 }
    }

    fn gbit(value: u64) -> Outcome {
        Outcome::Stream { messages: 1.0, bytes: value * 125, nanos: 1000 }
    }

    fn report(rounds: &[(u64, u64, u64)]) -> Report {
        let mut report = Report::default();
        for &(floor, vmmc, tcp) in rounds {
            report.add("floor", &spec(Bench::Bw, 100), &gbit(floor));
            report.add("vmmc", &spec(Bench::Bw, 100), &gbit(vmmc));
            report.add("tcp", &spec(Bench::Bw, 100), &gbit(tcp));
        }
        report
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[5.0]), 5.0);
        assert!(median(&[]).is_nan());
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
        report.add("floor", &spec(Bench::Bw, 200), &gbit(9));
        report.add("vmmc", &spec(Bench::BwCopy, 100), &gbit(9));
        let rows = report.rows();
        assert_eq!((rows[3].vs_floor, rows[3].vs_tcp), (Some(1.0), None));
        assert_eq!((rows[4].vs_floor, rows[4].vs_tcp), (None, None));
    }

    #[test]
    fn the_json_has_exactly_the_agreed_keys() {
        let mut report = report(&[(10, 8, 20)]);
        report.add("vmmc", &spec(Bench::BwCopy, 100), &gbit(9));
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
        report.add("floor", &spec(Bench::Lat, 64), &latency);
        let table = report.table();
        for words in ["bandwidth", "0.80x", "0.40x", "p999", "1.50", "MTU 1500", "64 bytes"] {
            assert!(table.contains(words), "{words} in {table}");
        }
    }
}
