//! From the rows of a report to its plots: which figures are worth one, and of which kind.
//!
//! Sizes make lines, a single size makes bars; what is lost, or how many links there are, makes lines of its own. All plots of
//! one figure have the same vertical axis, so that those of several MTUs compare.

use vmmc_page::axis::Axis;
use vmmc_page::figure::{Drawing, Figure};
use vmmc_page::plot::{Bar, Bars, Line, Lines};
use vmmc_page::theme::{Series, distinct};
use vmmc_page::units;

use crate::report::Row;

/// A figure, and the MTU that it is of.
pub(super) struct Plotted {
    pub(super) mtu: u32,
    pub(super) figure: Figure,
}

/// The plots of one bench's rows.
pub(super) fn figures(bench: &str, rows: &[&Row], peers: &Series) -> Vec<Plotted> {
    let charts = Charts { rows, peers };
    let lost = "packets lost in each direction";
    let both = match bench {
        "lat" => [charts.by_size("p50", "Median latency", 1), charts.by_size("p99", "99th percentile of latency", 1)],
        "bw" => [charts.by_size("bandwidth", "Bandwidth", 1), Vec::new()],
        "bw-copy" => [charts.by_size("bandwidth", "Bandwidth with copies", 1), Vec::new()],
        "rate" => [charts.by_size("rate", "Message rate", 3), Vec::new()],
        "loss" => [
            charts.by_number("goodput", "Goodput", lost, "%"),
            charts.by_number("kept", "Share of the lossless goodput", lost, "%"),
        ],
        "incast" => [
            charts.bars("goodput all", "Goodput of all senders together"),
            charts.bars("p99 all", "99th percentile of latency, all senders"),
        ],
        "rr" => [
            charts.by_number("rate", "Requests per second", "connections", " connections"),
            charts.by_number("p99", "99th percentile of a request’s time", "connections", " connections"),
        ],
        "rr-plain" => [charts.bars("rate", "Requests per second on one connection"), Vec::new()],
        "connect" => [charts.bars("rate 1 at a time", "Connections opened and closed, one after another"), Vec::new()],
        "links" => [charts.by_number("p50", "Median round trip beside idle links", "idle links", " links"), Vec::new()],
        _ => [Vec::new(), Vec::new()],
    };
    // Side by side where there is room: what both show of one MTU.
    let mut figures: Vec<Plotted> = both.into_iter().flatten().collect();
    figures.sort_by_key(|figure| figure.mtu);
    figures
}

struct Charts<'a> {
    rows: &'a [&'a Row],
    peers: &'a Series,
}

impl Charts<'_> {
    /// A line for each peer over the sizes, a plot for each MTU. Bars where there are no more than `few` sizes.
    fn by_size(&self, metric: &str, what: &str, few: usize) -> Vec<Plotted> {
        let rows: Vec<&Row> = self.rows.iter().copied().filter(|row| row.metric == metric).collect();
        if distinct(rows.iter().map(|row| row.size)).len() <= few {
            return self.bars(metric, what);
        }
        let points = |row: &Row| Some((row.size as f64, units::bytes(row.size as f64)));
        let x = Axis::doubling(rows.iter().map(|row| row.size as f64), "bytes").called("message size, bytes");
        let values = rows.iter().map(|row| row.value);
        let y = match rows[0].unit {
            // As the ratios of latencies are what counts, from small messages to large.
            "us" => Axis::logarithmic(values, "us"),
            unit => Axis::fitting(values, unit),
        };
        let caption = |mtu| format!("{what} by message size, MTU {mtu}");
        self.lines(&rows, (&x, &y), points, |row| row.mtu, caption)
    }

    /// A line for each peer over the number behind the metric's name, as in `goodput 1%`; a plot for each MTU and size.
    fn by_number(&self, metric: &str, what: &str, title: &str, unit: &str) -> Vec<Plotted> {
        let rows: Vec<&Row> = self.rows.iter().copied().filter(|row| number(row, metric).is_some()).collect();
        let numbers = distinct(rows.iter().filter_map(|row| number(row, metric)).map(f64::to_bits));
        if numbers.len() < 2 {
            return Vec::new();
        }
        let values = numbers.into_iter().map(f64::from_bits);
        // From one connection to thousands.
        let x = match unit {
            " connections" => Axis::doubling(values, "count").called(title),
            unit => Axis::linear(values, unit.trim_start_matches(" links")).called(title),
        };
        let points = |row: &Row| number(row, metric).map(|n| (n, format!("{n}{unit}")));
        let y = Axis::fitting(rows.iter().map(|row| row.value), rows[0].unit);
        let y = if metric == "p99" { y.called("time of a request") } else { y };
        let y = if metric == "p50" { y.called("round trip") } else { y };
        let caption = |(mtu, size)| format!("{what}, messages of {}, MTU {mtu}", units::bytes(size as f64));
        self.lines(&rows, (&x, &y), points, |row| (row.mtu, row.size), caption)
    }

    fn lines<K: PartialEq + Copy>(
        &self,
        rows: &[&Row],
        (x, y): (&Axis, &Axis),
        point: impl Fn(&Row) -> Option<(f64, String)>,
        plot: impl Fn(&Row) -> K,
        caption: impl Fn(K) -> String,
    ) -> Vec<Plotted> {
        let one = |key: K| {
            let rows: Vec<&Row> = rows.iter().copied().filter(|row| plot(row) == key).collect();
            let peers = self.present(&rows);
            let line = |peer: &&'static str| {
                let mine = rows.iter().filter(|row| row.peer == *peer);
                let mut marks: Vec<(f64, f64, String)> = mine
                    .filter_map(|row| {
                        let (x, at) = point(row)?;
                        Some((x, row.value, format!("{peer}, {at}: {}", units::value(row.value, row.unit))))
                    })
                    .collect();
                marks.sort_by(|a, b| a.0.total_cmp(&b.0));
                Line { slot: self.peers.slot(peer), points: marks.iter().map(|m| (m.0, m.1)).collect(), marks }
            };
            let lines = Lines { x: x.clone(), y: y.clone(), lines: peers.iter().map(line).collect() };
            Plotted {
                mtu: rows[0].mtu,
                figure: Figure { caption: caption(key), series: peers, drawing: Drawing::Lines(lines) },
            }
        };
        distinct(rows.iter().map(|row| plot(row))).into_iter().map(one).collect()
    }

    /// A bar for each peer, a group for each size, a plot for each MTU.
    fn bars(&self, metric: &str, what: &str) -> Vec<Plotted> {
        let rows: Vec<&Row> = self.rows.iter().copied().filter(|row| row.metric == metric).collect();
        let most = rows.iter().map(|row| row.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
        let one = |mtu: u32| {
            let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.mtu == mtu).collect();
            let peers = self.present(&rows);
            let bar = |row: &&Row| Bar {
                slot: self.peers.slot(row.peer),
                name: row.peer.into(),
                value: row.value,
                text: units::value(row.value, row.unit),
            };
            let group = |size: usize| {
                let heading = format!("messages of {}", units::bytes(size as f64));
                (heading, rows.iter().filter(|row| row.size == size).map(bar).collect())
            };
            let groups = distinct(rows.iter().map(|row| row.size)).into_iter().map(group).collect();
            let drawing = Drawing::Bars(Bars { most, groups });
            Plotted { mtu, figure: Figure { caption: format!("{what}, MTU {mtu}"), series: peers, drawing } }
        };
        distinct(rows.iter().map(|row| row.mtu)).into_iter().map(one).collect()
    }

    /// Whom these rows are of, in the order of all legends.
    fn present(&self, rows: &[&Row]) -> Vec<&'static str> {
        self.peers.names().iter().copied().filter(|peer| rows.iter().any(|row| row.peer == *peer)).collect()
    }
}

/// The number behind the metric's name: 0.5 of `goodput 0.5%`.
fn number(row: &Row, metric: &str) -> Option<f64> {
    let of = row.metric.strip_prefix(metric)?.strip_prefix(' ')?;
    of.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
