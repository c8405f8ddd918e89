//! The page as a whole: parsed as a browser would, for all the shapes that a report can have.

mod invented;

use std::{env, fs};

use scraper::{ElementRef, Html, Selector};

use super::*;
use crate::figures::figure;
use crate::report::Report;
use crate::spec::{Bench, Spec};

fn page_of(report: &Report, histograms: &Histograms) -> String {
    let facts = vec![("Processor", "Z80 <3> & \"co\"".to_owned()), ("Took", "invented for a test".into())];
    let command = "vmmc-bench versus --html '<script>alert(1)</script>'".into();
    Page { command, facts, rows: &report.rows(), histograms }.html().unwrap()
}

/// What holds for every page.
fn parse(page: &str) -> Html {
    let html = Html::parse_document(page);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    for absent in ["http:", "https:", "NaN", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(absent), "{absent} in the page");
    }
    for svg in all(&html, "figure > svg") {
        let label = svg.attr("aria-label").unwrap();
        assert_eq!(svg.attr("role"), Some("img"));
        assert!(svg.attr("viewBox").is_some());
        let caption = text(all(&html, "figcaption").into_iter().find(|c| label.starts_with(&text(*c))).unwrap());
        assert!(label.len() > caption.len());
        let code = svg.html();
        assert!(!code.contains("\"#"), "a colour that no theme changes in {caption}");
        assert!(!code.contains("inf"), "{caption}");
    }
    html
}

fn all<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: ElementRef) -> String {
    element.text().collect()
}

fn texts(html: &Html, selector: &str) -> Vec<String> {
    all(html, selector).into_iter().map(text).collect()
}

/// Names in the legend of the figure with this caption, or, as bars have none, in its plot.
fn names(html: &Html, caption: &str) -> Vec<String> {
    let figures = all(html, "figure");
    let found = figures.into_iter().find(|f| f.text().any(|t| t == caption)).unwrap_or_else(|| panic!("no {caption}"));
    let legend: Vec<_> = found.select(&Selector::parse(".legend li").unwrap()).map(text).collect();
    if !legend.is_empty() {
        return legend.iter().map(|name| name.trim().to_owned()).collect();
    }
    found.select(&Selector::parse("svg text").unwrap()).map(|t| text(t).trim().to_owned()).collect()
}

fn sizes() -> Vec<usize> {
    (3..=20).map(|power| 1 << power).collect()
}

#[test]
fn a_long_run_has_every_plot_and_every_peer() {
    let (report, histograms) = invented::run(&invented::MTUS, &sizes());
    let page = page_of(&report, &histograms);
    let html = parse(&page);
    for mtu in invented::MTUS {
        let six = ["floor", "vmmc", "tcp", "tcp-nooff", "tcp-block", "ucx"];
        for what in ["Median latency", "99th percentile of latency"] {
            assert_eq!(names(&html, &format!("{what} by message size, MTU {mtu}")), six);
        }
        assert_eq!(names(&html, &format!("Latency by percentile, 64 B, MTU {mtu}")), six);
        let bandwidth = names(&html, &format!("Bandwidth by message size, MTU {mtu}"));
        assert_eq!(bandwidth, ["floor", "vmmc", "tcp", "tcp-nooff", "ucx"]);
        let copied = names(&html, &format!("Bandwidth with copies by message size, MTU {mtu}"));
        assert_eq!(copied, ["floor", "vmmc"]);
        let four = ["floor", "vmmc", "tcp", "tcp-nooff"];
        assert_eq!(names(&html, &format!("Message rate by message size, MTU {mtu}")), four);
        assert_eq!(names(&html, &format!("Goodput, messages of 1 MiB, MTU {mtu}")), four);
        assert_eq!(names(&html, &format!("Share of the lossless goodput, messages of 1 MiB, MTU {mtu}")), four);
    }
    // p50, p99, bw, bw-copy, rate, goodput and kept, once each; percentiles once for each size.
    let plots = 3 * (7 + sizes().len());
    assert_eq!(all(&html, "figure > svg").len(), plots);
    assert_eq!(all(&html, "details figure > svg").len(), 3 * (sizes().len() - 2), "the ends are seen at once");
    assert_eq!(all(&html, "nav a").len(), 5);
    for link in all(&html, "nav a") {
        assert_eq!(all(&html, &format!("section{}", link.attr("href").unwrap())).len(), 1);
    }
    assert!(texts(&html, ".tile").len() >= 5);
    // Every row is in a table, with its ratios.
    assert_eq!(texts(&html, "td").iter().filter(|cell| *cell != "–").count(), report.rows().len());
    assert!(texts(&html, ".ratio").iter().any(|t| t.contains("floor · ") && t.ends_with("× TCP")));
    // Where a browser looks at it: see `cargo xtask browser`.
    if let Some(path) = env::var_os("VMMC_BENCH_PAGE") {
        fs::write(&path, page).unwrap();
    }
}

#[test]
fn texts_are_escaped() {
    let (report, histograms) = invented::run(&[1500], &[64]);
    let html = parse(&page_of(&report, &histograms));
    assert!(texts(&html, "title")[0].contains("<script>alert(1)</script>"));
    assert!(texts(&html, "dd")[0].contains("Z80 <3> & \"co\""));
}

#[test]
fn a_single_size_is_shown_as_bars() {
    let (report, histograms) = invented::run(&[1500], &[64]);
    let html = parse(&page_of(&report, &histograms));
    let names = names(&html, "Median latency, MTU 1500");
    for expected in ["messages of 64 B", "floor", "vmmc", "ucx"] {
        assert!(names.iter().any(|name| name == expected), "{expected} in {names:?}");
    }
    assert!(names.iter().any(|name| name.ends_with(" µs")), "{names:?}");
    assert!(all(&html, "details figure").is_empty());
}

#[test]
fn bars_of_several_mtus_compare_by_their_lengths() {
    let mut report = Report::default();
    for (mtu, rate) in [(1500, 1e6), (9000, 4e6)] {
        let spec = Spec { bench: Bench::Rate, mtu, size: 64, ..Spec::default() };
        report.add_next("vmmc", &spec, vec![figure("rate", "", "packets/s", rate)]);
    }
    let html = parse(&page_of(&report, &Histograms::default()));
    let widths: Vec<f64> =
        all(&html, "figure rect").iter().map(|rect| rect.attr("width").unwrap().parse().unwrap()).collect();
    assert_eq!(widths.len(), 2);
    assert!((widths[1] / widths[0] - 4.0).abs() < 0.05, "{widths:?}");
}

#[test]
fn lines_of_a_table_are_in_the_order_of_sizes() {
    let mut report = Report::default();
    for (size, metric) in [(64, "p50"), (8, "p50"), (4096, "p99"), (8, "p99")] {
        let spec = Spec { bench: Bench::Lat, mtu: 1500, size, ..Spec::default() };
        report.add_next("vmmc", &spec, vec![figure(metric, "", "us", 1.0)]);
    }
    let html = parse(&page_of(&report, &Histograms::default()));
    assert_eq!(texts(&html, "th[scope=row]").join(" "), "median 8 B median 64 B 99% 8 B 99% 4 KiB");
}

#[test]
fn an_empty_report_is_a_page_too() {
    let html = parse(&page_of(&Report::default(), &Histograms::default()));
    assert!(texts(&html, "main p").iter().any(|p| p == "Nothing was measured."));
    assert!(all(&html, "figure").is_empty());
}

#[test]
fn figures_that_are_missing_or_no_numbers_leave_the_rest_as_it_is() {
    let mut report = Report::default();
    let spec = |bench, size| Spec { bench, mtu: 1500, size, ..Spec::default() };
    let gbit = |value| vec![figure("bandwidth", "", "Gbit/s", value)];
    report.add_next("odd & <peer>", &spec(Bench::Bw, 64), gbit(f64::NAN));
    report.add_next("odd & <peer>", &spec(Bench::Bw, 128), gbit(f64::INFINITY));
    report.add_next("odd & <peer>", &spec(Bench::Bw, 256), gbit(0.0));
    report.add_next("vmmc", &spec(Bench::Bw, 128), gbit(3.0));
    report.add_next("vmmc", &spec(Bench::Bw, 4096), gbit(900.0));
    let mut histograms = Histograms::default();
    histograms.add("vmmc", &spec(Bench::Lat, 64), &[]);
    let html = parse(&page_of(&report, &histograms));
    assert_eq!(names(&html, "Bandwidth by message size, MTU 1500"), ["odd & <peer>", "vmmc"]);
    // Without TCP and without a floor nothing is said of them.
    assert!(all(&html, ".ratio").is_empty() && !text(all(&html, ".reading")[0]).contains("AF_XDP"));
}

#[test]
fn benches_of_all_kinds_have_at_least_a_table() {
    let mut report = Report::default();
    let spec = |bench| Spec { bench, mtu: 1500, size: 64, ..Spec::default() };
    for links in ["0 links", "20 links", "256 links"] {
        report.add_next("vmmc", &spec(Bench::Links), vec![figure("p50", links, "us", 3.0)]);
    }
    report.add_next("vmmc", &spec(Bench::Idle), vec![figure("cpu", "host 1", "%", 0.01)]);
    let counts = [("goodput", "Gbit/s"), ("verified", "bytes"), ("messages", "count"), ("p50", "us")];
    report.add_next("vmmc", &spec(Bench::Soak), counts.map(|(m, u)| figure(m, "", u, 1e6)).to_vec());
    for peer in ["vmmc", "tcp"] {
        let figures = [("goodput", "all", "Gbit/s"), ("p99", "all", "us"), ("jain", "all", "index")];
        report.add_next(peer, &spec(Bench::Incast), figures.map(|(m, of, u)| figure(m, of, u, 0.9)).to_vec());
    }
    for (peer, factor) in [("sockets", 2.0), ("tcp", 1.0)] {
        for of in ["1 connection", "32 connections", "1000 connections"] {
            let figures = [("rate", "requests/s", 1e5), ("p99", "us", 90.0), ("cpu", "us", 3.0)];
            let figures = figures.map(|(metric, unit, value)| figure(metric, of, unit, factor * value));
            report.add_next(peer, &spec(Bench::Rr), figures.to_vec());
        }
        report.add_next(peer, &spec(Bench::RrPlain), vec![figure("rate", "", "requests/s", factor * 1e5)]);
        report.add_next(peer, &spec(Bench::Connect), vec![figure("rate", "1 at a time", "connections/s", factor)]);
        report.add_next(peer, &spec(Bench::IdleStreams), vec![figure("memory", "7 connections", "bytes", 4711.0)]);
    }
    let html = parse(&page_of(&report, &Histograms::default()));
    for what in ["Requests per second", "99th percentile of a request’s time"] {
        assert_eq!(names(&html, &format!("{what}, messages of 64 B, MTU 1500")), ["tcp", "sockets"]);
    }
    assert!(names(&html, "Requests per second on one connection, MTU 1500").iter().any(|name| name == "sockets"));
    assert!(
        names(&html, "Connections opened and closed, one after another, MTU 1500").iter().any(|name| name == "tcp")
    );
    assert_eq!(names(&html, "Median round trip beside idle links, messages of 64 B, MTU 1500"), ["vmmc"]);
    assert_eq!(all(&html, "section table").len(), 8);
    assert!(names(&html, "Goodput of all senders together, MTU 1500").iter().any(|name| name == "tcp"));
    assert!(texts(&html, "td").iter().any(|cell| cell == "0.010%"));
}
