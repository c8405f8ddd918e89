//! Latency distributions on the scale of HdrHistogram's plots: the closer to 100%, the wider.

use vmmc_page::axis::Axis;
use vmmc_page::figure::{Drawing, Figure};
use vmmc_page::plot::{Line, Lines};
use vmmc_page::theme::{Series, distinct};
use vmmc_page::units;

use crate::hgrm::Histograms;
use crate::spec::{Bench, Spec};

/// How many points a curve has from 0% to 90%, from 90% to 99%, and so on.
const POINTS: f64 = 30.0;

/// A plot for each MTU and size. The first of each pair says whether it is one of those to be seen at once: of an MTU's sizes the
/// one next to 64 bytes, and the largest.
pub(super) fn figures(histograms: &Histograms, peers: &Series) -> Vec<(bool, Figure)> {
    let latencies = histograms.iter().filter(|(_, spec, _)| spec.bench == Bench::Lat);
    let plots = distinct(latencies.map(|(_, spec, _)| (spec.mtu, spec.size)));
    let ends = |mtu| {
        let sizes = || plots.iter().filter(move |plot| plot.0 == mtu).map(|plot| plot.1);
        [sizes().min_by_key(|size| size.abs_diff(64)), sizes().max()]
    };
    plots.iter().map(|&(mtu, size)| (ends(mtu).contains(&Some(size)), figure(histograms, peers, mtu, size))).collect()
}

fn figure(histograms: &Histograms, peers: &Series, mtu: u32, size: usize) -> Figure {
    let here = |peer: &str| {
        let same = |spec: &Spec| (spec.bench, spec.mtu, spec.size) == (Bench::Lat, mtu, size);
        let found = histograms.iter().find(|(p, spec, _)| *p == peer && same(spec));
        found.map(|(_, _, durations)| durations).filter(|durations| durations.count() > 0)
    };
    let present: Vec<(&'static str, _)> = peers.names().iter().filter_map(|p| Some((*p, here(p)?))).collect();
    let most = present.iter().map(|(_, durations)| durations.count()).max().unwrap_or(0) as f64;
    let x = Axis::percentiles(most);
    // The median too, for whose name there is no room on the axis.
    let marked: Vec<f64> = [2.0].into_iter().chain(x.marked()).filter(|x| *x > 1.0).collect();
    let mut lines = Vec::new();
    for (peer, durations) in &present {
        let most = durations.count() as f64;
        let marked: Vec<f64> = marked.iter().copied().filter(|x| *x <= most).collect();
        // Beyond it is the one longest of all, whose place on this scale is infinitely far away.
        let curve = (0..).map(|n| 10f64.powf(f64::from(n) / POINTS)).take_while(|x| *x < most);
        let mut curve: Vec<f64> = curve.chain(marked.iter().copied()).chain([most.max(1.0)]).collect();
        curve.sort_by(f64::total_cmp);
        let at = |x: f64| durations.quantile(1.0 - 1.0 / x);
        let points = curve.into_iter().map(|x| (x, at(x))).collect();
        let mark = |x: f64| {
            let us = at(x);
            (x, us, format!("{peer}, {}: {}", x_text(x), units::value(us, "us")))
        };
        let marks = marked.into_iter().map(mark).collect();
        lines.push(Line { slot: peers.slot(peer), points, marks });
    }
    let values = lines.iter().flat_map(|line| line.points.iter().map(|p| p.1));
    let y = Axis::logarithmic(values, "us");
    Figure {
        caption: format!("Latency by percentile, {}, MTU {mtu}", units::bytes(size as f64)),
        series: present.iter().map(|p| p.0).collect(),
        drawing: Drawing::Lines(Lines { x, y, lines }),
    }
}

/// 10 is 90%.
fn x_text(x: f64) -> String {
    let percent = format!("{:.5}", 100.0 - 100.0 / x);
    format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
}
