//! From what the sides of a measurement have found to the figures of the report.

use vmmc_histogram::Durations;
use xdp_prog::damage::DamageCounters;

use crate::spec::{Bench, Counts, Outcome, Spec};
use crate::utlb;

/// One figure of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Which figure: `p50`, `bandwidth` ...
    pub(crate) metric: &'static str,
    /// Of what, where there are several of the kind: `1%`, `sender 2`. A line of its own in a table.
    pub(crate) of: String,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// How much. Not a number where this turn can't tell.
    pub(crate) value: f64,
    /// Whether it is steady enough to be divided by another's.
    pub(crate) firm: bool,
}

/// A figure.
pub(crate) fn figure(metric: &'static str, of: impl ToString, unit: &'static str, value: f64) -> Figure {
    Figure { metric, of: of.to_string(), unit, value, firm: true }
}

/// A figure that a turn should have found, and couldn't.
fn unknown(metric: &'static str, of: impl ToString, unit: &'static str) -> Figure {
    Figure { firm: false, ..figure(metric, of, unit, f64::NAN) }
}

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];

/// How many samples must lie beyond a quantile for it to be compared with another: then chance moves it by less than a tenth of them.
/// The median needs none.
const BEYOND: f64 = 200.0;

fn quantiles(times: &Durations, of: impl ToString) -> Vec<Figure> {
    let of = of.to_string();
    let quantile = |(name, q): (&'static str, f64)| {
        // A little more, as a tenth isn't quite one.
        let beyond = times.count() as f64 * (1.0 - q) + 1e-6;
        let known = q <= 0.5 || beyond >= 1.0;
        let value = if known { times.quantile(q) } else { f64::NAN };
        Figure { firm: q <= 0.5 || beyond >= BEYOND, ..figure(name, &of, "us", value) }
    };
    QUANTILES.map(quantile).to_vec()
}

/// Gbit/s.
fn gbit(bytes: u64, nanos: u64) -> f64 {
    bytes as f64 * 8.0 / nanos as f64
}

/// The report's figures of one measurement, from the outcomes of all sides in the order of their hosts. What doesn't
/// answer the spec's bench yields none.
pub(crate) fn figures(spec: &Spec, outcomes: &[Outcome]) -> Vec<Figure> {
    if spec.bench == Bench::Incast {
        return incast(outcomes);
    }
    let of_each = outcomes.iter().zip(1..).flat_map(|(outcome, host)| of_one(spec, outcome.found(), host));
    of_each.chain(processor_time(spec, outcomes)).chain(copies(spec, outcomes)).chain(memory(spec, outcomes)).collect()
}

/// What both sides together used for each round trip, byte or request, and of a stream the receiver for each byte, where they say so.
fn processor_time(spec: &Spec, outcomes: &[Outcome]) -> Vec<Figure> {
    let used: Vec<(u64, u64)> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            &Outcome::Used { cpu, work, .. } => Some((cpu, work)),
            _ => None,
        })
        .collect();
    // The one that knows how much was done.
    let Some(&(cpu, done)) = used.iter().find(|(_, work)| *work > 0) else { return Vec::new() };
    let of_each = |cpu: u64| cpu as f64 / done as f64;
    let both = (used.len() == outcomes.len()).then(|| of_each(used.iter().map(|(cpu, _)| cpu).sum()));
    match spec.bench {
        Bench::Bw => {
            let both = both.map(|each| figure("cpu", "", "ns/KiB", each * 1024.0));
            both.into_iter().chain([figure("rx cpu", "", "ns/KiB", of_each(cpu) * 1024.0)]).collect()
        }
        Bench::Lat | Bench::Rr | Bench::RrPlain | Bench::Connect => {
            both.map(|each| figure("cpu", number(spec), "us", each / 1e3)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// How often the sender's and the receiver's user space copied each byte of a stream, where they say so.
fn copies(spec: &Spec, outcomes: &[Outcome]) -> Vec<Figure> {
    let copies = |outcome: &Outcome, metric, case: &str| {
        outcome.layers().find_map(|layer| match layer {
            &Outcome::Copied { copied, bytes, .. } if bytes > 0 => {
                Some(figure(metric, case, "copies", copied as f64 / bytes as f64))
            }
            _ => None,
        })
    };
    let mut figures = Vec::new();
    for (outcome, metric) in outcomes.iter().zip(["tx copies per byte", "rx copies per byte"]) {
        match (outcome, spec.bench) {
            (Outcome::Several(cases), Bench::Deliver) => {
                figures.extend(cases.iter().filter_map(|(case, outcome)| copies(outcome, metric, case)));
            }
            (_, Bench::Bw) => figures.extend(copies(outcome, metric, "")),
            _ => {}
        }
    }
    figures
}

/// What an idle connection holds, where both sides say so.
fn memory(spec: &Spec, outcomes: &[Outcome]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let (mut own, mut of_kernel) = (0.0, None);
    for (outcome, side) in outcomes.iter().zip(["client", "server"]) {
        let &Outcome::Held { process, arena, slab, buffers } = outcome else { return Vec::new() };
        own += process + arena;
        figures.push(figure("process", side, "bytes", process));
        figures.push(figure("arena", side, "bytes", arena));
        of_kernel = of_kernel.or(slab.zip(buffers));
    }
    let Some((slab, buffers)) = of_kernel else { return Vec::new() };
    figures.push(figure("slab", "both", "bytes", slab));
    figures.push(figure("buffers", "both", "bytes", buffers));
    figures.insert(0, figure("memory", number(spec), "bytes", (own + slab) / 2.0));
    figures
}

/// Of several cases, each with its name.
fn several(spec: &Spec, cases: &[(String, Outcome)]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (case, outcome) in cases {
        match outcome.found() {
            Outcome::Latency(counts) if !counts.is_empty() => {
                figures.extend(quantiles(&Durations::from_counts(counts), case));
            }
            &Outcome::Stream { bytes, nanos, .. } if nanos > 0 => {
                figures.push(figure("bandwidth", case, "Gbit/s", gbit(bytes, nanos)));
            }
            &Outcome::Delivered { bytes, nanos, cpu } if bytes > 0 => {
                figures.push(figure("bandwidth", case, "Gbit/s", gbit(bytes, nanos)));
                figures.push(figure("cpu", case, "ns/KiB", cpu as f64 * 1024.0 / bytes as f64));
            }
            Outcome::TooShort if spec.bench == Bench::Source => figures.push(unknown("bandwidth", case, "Gbit/s")),
            _ => {}
        }
    }
    figures
}

fn of_one(spec: &Spec, outcome: &Outcome, host: usize) -> Vec<Figure> {
    match (outcome, spec.bench) {
        (Outcome::Latency(counts), Bench::Lat) if !counts.is_empty() => quantiles(&Durations::from_counts(counts), ""),
        // A turn that can't tell.
        (Outcome::TooShort, bench) => match bench {
            Bench::Rate => vec![unknown("rate", "", "packets/s")],
            Bench::Bw | Bench::BwCopy => vec![unknown("bandwidth", "", "Gbit/s")],
            Bench::Loss => vec![unknown("goodput", loss(spec), "Gbit/s")],
            _ => Vec::new(),
        },
        (&Outcome::Median { nanos }, Bench::Lat) => vec![figure("p50", "", "us", nanos / 1e3)],
        (Outcome::Stream { messages, nanos, .. }, Bench::Rate) if *nanos > 0 => {
            vec![figure("rate", "", "packets/s", messages * 1e9 / *nanos as f64)]
        }
        (&Outcome::Stream { bytes, nanos, .. }, Bench::Bw | Bench::BwCopy) if nanos > 0 => {
            vec![figure("bandwidth", "", "Gbit/s", gbit(bytes, nanos))]
        }
        (&Outcome::Stream { bytes, nanos, .. }, Bench::Loss) if nanos > 0 => {
            vec![figure("goodput", loss(spec), "Gbit/s", gbit(bytes, nanos))]
        }
        (Outcome::Links { trips, heap }, Bench::Links) if !trips.is_empty() => {
            let mut figures = quantiles(&Durations::from_counts(trips), links(spec.count));
            figures.extend(heap.map(|heap| figure("heap", links(spec.count), "bytes", heap)));
            figures
        }
        (Outcome::Requests { latency, nanos }, Bench::Rr | Bench::RrPlain | Bench::Connect) if *nanos > 0 => {
            let times = Durations::from_counts(latency);
            let unit = if spec.bench == Bench::Connect { "connections/s" } else { "requests/s" };
            let rate = times.count() as f64 * 1e9 / *nanos as f64;
            let mut figures = vec![figure("rate", number(spec), unit, rate)];
            if !latency.is_empty() {
                figures.extend(quantiles(&times, number(spec)));
            }
            figures
        }
        (&Outcome::Idle { cpu, nanos }, Bench::Idle) if nanos > 0 => {
            vec![figure("cpu", format!("host {host}"), "%", 100.0 * cpu as f64 / nanos as f64)]
        }
        (Outcome::Several(cases), _) => several(spec, cases),
        (Outcome::Times(times), Bench::Utlb) => {
            utlb::FIGURES.iter().zip(times).map(|(&(metric, of), &nanos)| figure(metric, of, "ns", nanos)).collect()
        }
        _ => Vec::new(),
    }
}

/// How many packets the network has lost, of those it was given to lose.
pub(crate) fn lost(spec: &Spec, wire: &[DamageCounters]) -> Vec<Figure> {
    let (seen, dropped) = wire.iter().fold((0, 0), |(seen, dropped), w| (seen + w.seen, dropped + w.dropped));
    if seen == 0 {
        return Vec::new();
    }
    vec![figure("lost", loss(spec), "%", 100.0 * dropped as f64 / seen as f64)]
}

/// How a line about this spec's loss is called.
pub(crate) fn loss(spec: &Spec) -> String {
    // To a tenth of a thousandth: what was given as text comes out as that text.
    format!("{}%", (spec.faults.drop * 1e8).round() / 1e6)
}

/// How a line about this many connections is called. Nothing where there is always one.
fn number(spec: &Spec) -> String {
    match (spec.bench, spec.count) {
        (Bench::Rr | Bench::IdleStreams, 1) => "1 connection".into(),
        (Bench::Rr | Bench::IdleStreams, n) => format!("{n} connections"),
        (Bench::Connect, n) => format!("{} at a time", n.max(1)),
        _ => String::new(),
    }
}

/// How a line about this many idle links is called.
pub(crate) fn links(count: u64) -> String {
    format!("{count} links")
}

fn incast(outcomes: &[Outcome]) -> Vec<Figure> {
    let senders: Vec<(f64, &Counts)> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Sender { bytes, nanos, latency } if *nanos > 0 => Some((gbit(*bytes, *nanos), latency)),
            _ => None,
        })
        .collect();
    let mut all = Durations::new();
    let mut figures = Vec::new();
    for (&(goodput, latency), number) in senders.iter().zip(1..) {
        let own = Durations::from_counts(latency);
        all.add(&own);
        let of = format!("sender {number}");
        figures.push(figure("goodput", &of, "Gbit/s", goodput));
        figures.extend(quantiles(&own, of));
    }
    if !senders.is_empty() {
        let goodputs: Vec<f64> = senders.iter().map(|s| s.0).collect();
        figures.push(figure("goodput", "all", "Gbit/s", goodputs.iter().sum()));
        figures.extend(quantiles(&all, "all"));
        figures.push(figure("jain", "all", "index", jain(&goodputs)));
    }
    figures
}

/// Jain's index of fairness: 1 when all have the same, 1/n when one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|s| s * s).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(bench: Bench) -> Spec {
        Spec { bench, ..Spec::default() }
    }

    #[test]
    fn figures_have_the_units_of_the_report() {
        let second = [Outcome::Nothing, Outcome::Stream { messages: 5e5, bytes: 125_000_000, nanos: 1_000_000_000 }];
        assert_eq!(figures(&spec(Bench::Bw), &second), [figure("bandwidth", "", "Gbit/s", 1.0)]);
        assert_eq!(figures(&spec(Bench::Rate), &second), [figure("rate", "", "packets/s", 5e5)]);
        let half = Spec { faults: "drop=0.5%".parse().unwrap(), ..spec(Bench::Loss) };
        assert_eq!(figures(&half, &second), [figure("goodput", "0.5%", "Gbit/s", 1.0)]);
        let latency = [Outcome::Latency(vec![(1000, 999), (9000, 1)])];
        let figures = figures(&spec(Bench::Lat), &latency);
        assert_eq!(figures.iter().map(|f| f.metric).collect::<Vec<_>>(), ["p50", "p99", "p999"]);
        assert!(figures.iter().all(|f| f.unit == "us" && (f.value - 1.0).abs() < 0.01), "{figures:?}");
    }

    #[test]
    fn a_quantile_needs_samples_beyond_it() {
        let known = |samples| {
            let figures = figures(&spec(Bench::Lat), &[Outcome::Latency(vec![(1000, samples)])]);
            figures.iter().map(|f| (!f.value.is_nan(), f.firm)).collect::<Vec<_>>()
        };
        assert_eq!(known(1), [(true, true), (false, false), (false, false)]);
        assert_eq!(known(100), [(true, true), (true, false), (false, false)]);
        assert_eq!(known(20_000), [(true, true), (true, true), (true, false)]);
        assert_eq!(known(200_000), [(true, true); 3]);
    }

    #[test]
    fn what_was_lost_is_told_of_both_directions_together() {
        let wire = |seen, dropped| DamageCounters { seen, dropped, damaged: 0 };
        let spec = Spec { faults: "drop=2%".parse().unwrap(), ..spec(Bench::Loss) };
        assert_eq!(lost(&spec, &[wire(300, 7), wire(100, 1)]), [figure("lost", "2%", "%", 2.0)]);
        assert!(lost(&spec, &[]).is_empty());
    }

    #[test]
    fn an_outcome_that_does_not_answer_the_bench_has_no_figures() {
        assert!(figures(&spec(Bench::Lat), &[Outcome::Nothing]).is_empty());
        assert!(figures(&spec(Bench::Lat), &[Outcome::Latency(Vec::new())]).is_empty());
        assert!(figures(&spec(Bench::Bw), &[Outcome::Stream { messages: 0.0, bytes: 0, nanos: 0 }]).is_empty());
        assert!(figures(&spec(Bench::Incast), &[Outcome::Nothing]).is_empty());
    }

    #[test]
    fn an_incast_has_figures_of_each_sender_and_of_all() {
        let sender = |bytes| Outcome::Sender { bytes, nanos: 1000, latency: vec![(1000, 10)] };
        let figures = figures(&spec(Bench::Incast), &[sender(125), sender(375), Outcome::Nothing]);
        let value = |metric, of| figures.iter().find(|f| f.metric == metric && f.of == of).map(|f| f.value);
        assert_eq!(value("goodput", "sender 1"), Some(1.0));
        assert_eq!(value("goodput", "sender 2"), Some(3.0));
        assert_eq!(value("goodput", "all"), Some(4.0));
        assert_eq!(value("jain", "all"), Some(0.8));
        assert!(value("p99", "sender 2").is_some() && value("p99", "all").is_some());
    }

    #[test]
    fn processor_time_is_of_both_sides_for_each_piece_of_work() {
        let used = |outcome: Outcome, cpu, work| outcome.used(std::time::Duration::from_nanos(cpu), work);
        let latency = Outcome::Latency(vec![(1000, 2)]);
        let sides = [used(latency, 8_000, 4), used(Outcome::Nothing, 4_000, 0)];
        let figures = |bench, sides: &[Outcome]| super::figures(&Spec { count: 32, ..spec(bench) }, sides);
        assert!(figures(Bench::Lat, &sides).contains(&figure("cpu", "", "us", 3.0)));
        let stream = Outcome::Stream { messages: 1.0, bytes: 1, nanos: 8 };
        let sides = [used(Outcome::Nothing, 500, 0), used(stream, 500, 2000)];
        assert_eq!(
            figures(Bench::Bw, &sides),
            [
                figure("bandwidth", "", "Gbit/s", 1.0),
                figure("cpu", "", "ns/KiB", 512.0),
                figure("rx cpu", "", "ns/KiB", 256.0)
            ]
        );
        // Of one side alone nothing is known of both.
        let figures_of_one = figures(Bench::Bw, &[Outcome::Nothing, sides[1].clone()]);
        assert_eq!(figures_of_one[1..], [figure("rx cpu", "", "ns/KiB", 256.0)]);
        let requests = Outcome::Requests { latency: vec![(1000, 500)], nanos: 1_000_000 };
        let sides = [used(requests, 500_000, 1000), used(Outcome::Nothing, 500_000, 0)];
        for (bench, of, unit) in [
            (Bench::Rr, "32 connections", "requests/s"),
            (Bench::RrPlain, "", "requests/s"),
            (Bench::Connect, "32 at a time", "connections/s"),
        ] {
            let figures = figures(bench, &sides);
            assert!(figures.contains(&figure("rate", of, unit, 500_000.0)), "{figures:?}");
            assert!(figures.contains(&figure("cpu", of, "us", 1.0)), "{figures:?}");
            assert!(figures.iter().any(|f| (f.metric, &f.of[..]) == ("p99", of)), "{figures:?}");
        }
        // A round that can't tell says nothing of its processor time either.
        assert_eq!(used(Outcome::TooShort, 1, 1), Outcome::TooShort);
    }

    #[test]
    fn copies_are_told_of_each_side_of_a_stream() {
        let stream = Outcome::Stream { messages: 1.0, bytes: 1, nanos: 8 };
        let receiver = stream.clone().copied(1, 2000).used(std::time::Duration::from_nanos(500), 2000);
        let sides = [Outcome::Nothing.copied(0, 1000), receiver];
        let expected = [
            figure("bandwidth", "", "Gbit/s", 1.0),
            figure("rx cpu", "", "ns/KiB", 256.0),
            figure("tx copies per byte", "", "copies", 0.0),
            figure("rx copies per byte", "", "copies", 0.0005),
        ];
        assert_eq!(figures(&spec(Bench::Bw), &sides), expected);
        assert_eq!(Outcome::TooShort.copied(1, 1), Outcome::TooShort);
    }

    #[test]
    fn memory_is_told_in_its_parts_and_of_one_side_together() {
        let held = |process, arena, kernel: Option<f64>| Outcome::Held {
            process,
            arena,
            slab: kernel,
            buffers: kernel.map(|_| 0.0),
        };
        let spec = Spec { count: 7, ..spec(Bench::IdleStreams) };
        let sides = [held(100.0, 4096.0, Some(3000.0)), held(304.0, 4096.0, None)];
        let found = figures(&spec, &sides);
        assert_eq!(found[0], figure("memory", "7 connections", "bytes", 5798.0));
        for expected in [figure("arena", "client", "bytes", 4096.0), figure("process", "server", "bytes", 304.0)] {
            assert!(found.contains(&expected), "{found:?}");
        }
        assert!(found.contains(&figure("slab", "both", "bytes", 3000.0)));
        assert!(figures(&spec, &[sides[1].clone(), Outcome::Nothing]).is_empty());
    }

    #[test]
    fn idle_time_is_told_of_each_host() {
        let idle = |cpu| Outcome::Idle { cpu, nanos: 1000 };
        let figures = figures(&spec(Bench::Idle), &[idle(5), idle(10)]);
        assert_eq!(figures, [figure("cpu", "host 1", "%", 0.5), figure("cpu", "host 2", "%", 1.0)]);
    }
}
