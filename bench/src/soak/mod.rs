//! `vmmc-bench soak`: gigabytes over a bad network, every byte of them checked.
//!
//! ```text
//!   host 1                       bridge                       host 2
//!   sender ─ FaultPort ─ veth ─ XDP: loss, damage ─ veth ─ receiver
//!            reorders, repeats                              checks
//!          ◄─────────────── and the same on the way back ────────
//! ```
//!
//! [`traffic`] says what is sent, [`check`] judges what arrives, [`sides`] has the two processes; this is the parent: it shows
//! how far they have got, kills receivers where that was asked for, and reports.

mod check;
mod sides;
mod traffic;

use std::fmt::Write;
use std::slice;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use vmmc_histogram::Durations;

pub(crate) use self::sides::{receive, send};
pub(crate) use self::traffic::LARGEST;
use crate::error::BenchError;
use crate::figures::{Figure, figure};
use crate::harness::Harness;
use crate::peers::Peer;
use crate::run::{Measured, Next, Run};
use crate::spec::{Counts, Outcome, SoakSide, Spec};

/// Runs a soak, and says what came of it. Any byte, notification or link that isn't as it must be is an error.
pub(crate) fn run(peer: &'static dyn Peer, spec: &Spec) -> Result<Soak, BenchError> {
    let bar = progress_bar(spec);
    let result = run_showing(peer, spec, &bar);
    bar.finish_and_clear();
    result
}

fn run_showing(peer: &'static dyn Peer, spec: &Spec, bar: &ProgressBar) -> Result<Soak, BenchError> {
    let mut harness = Harness::up(spec)?;
    let mut killed = 0;
    let watch = |bytes: u64| {
        let share = if spec.bytes < u64::MAX {
            bar.set_position(bytes.min(spec.bytes));
            bytes as f64 / spec.bytes as f64
        } else {
            bar.set_position(bytes);
            bar.elapsed().as_secs_f64() / spec.duration().as_secs_f64()
        };
        // Evenly over the run, the last one well before its end.
        if killed < spec.count && share >= (killed + 1) as f64 / (spec.count + 1) as f64 {
            killed += 1;
            bar.set_message(format!(", {killed} of {} receivers killed", spec.count));
            return Next::RestartServer;
        }
        Next::GoOn
    };
    let measured = measure(&mut harness, peer, spec, watch);
    for line in harness.warnings() {
        // That faults are on is what was asked for.
        if !line.contains("faults are on") {
            bar.suspend(|| eprintln!("{line}"));
        }
    }
    let soak = Soak::new(measured?)?;
    let lost = soak.sender.restarts;
    if lost != spec.count {
        return Err(BenchError::Restarts { killed: spec.count, lost });
    }
    Ok(soak)
}

fn measure(
    harness: &mut Harness,
    peer: &'static dyn Peer,
    spec: &Spec,
    watch: impl FnMut(u64) -> Next,
) -> Result<Measured, BenchError> {
    let mut run = Run::begin(harness, peer.name(), slice::from_ref(spec))?;
    run.connect(harness)?;
    run.connected(harness)?;
    run.measure(harness, 0, watch)
}

/// What came of a soak.
pub(crate) struct Soak {
    sender: SoakSide,
    receiver: SoakSide,
    dropped: u64,
    damaged: u64,
    packets: u64,
}

impl Soak {
    fn new(measured: Measured) -> Result<Soak, BenchError> {
        let mut sides = measured.outcomes.into_iter().filter_map(|outcome| match outcome {
            Outcome::Soak(side) => Some(*side),
            _ => None,
        });
        let (Some(sender), Some(receiver)) = (sides.next(), sides.next()) else {
            return Err(BenchError::NoAccount);
        };
        let sum = |f: &dyn Fn(&xdp_prog::damage::DamageCounters) -> u64| measured.wire.iter().map(f).sum();
        let (packets, dropped, damaged) = (sum(&|w| w.seen), sum(&|w| w.dropped), sum(&|w| w.damaged));
        Ok(Soak { sender, receiver, dropped, damaged, packets })
    }

    /// For a person.
    pub(crate) fn text(&self, spec: &Spec) -> String {
        let (sender, receiver) = (&self.sender, &self.receiver);
        let mut text = String::new();
        let seconds = sender.nanos as f64 / 1e9;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "soak over MTU {} with {} in both directions: every byte right\n\n  \
             verified         {} bytes in {} messages, {seconds:.1} s, goodput {:.2} Gbit/s",
            spec.mtu,
            spec.faults,
            sender.bytes,
            sender.messages,
            self.goodput()
        );
        let _ = writeln!(
            text,
            "  network          {} packets, of which {} lost and {} damaged on the wire; {} reordered and {} repeated \
             by the ports",
            self.packets,
            self.dropped,
            self.damaged,
            sender.reordered + receiver.reordered,
            sender.duplicated + receiver.duplicated
        );
        let side = |name, side: &SoakSide| {
            format!(
                "  {name:<16} {} data packets sent, {} sent again, {} timeouts; {} damaged packets detected, {} that \
                 had come before refused\n",
                side.packets, side.retransmitted, side.timeouts, side.damaged, side.refused
            )
        };
        text += &side("sender", sender);
        text += &side("receiver", receiver);
        let _ = writeln!(
            text,
            "  bulk lane        {} bytes sent, {} segments of them sent again, {} transfers declined; the receiver's opened anew {} times",
            sender.bulk, sender.asked_again, sender.declined, receiver.reopened
        );
        if spec.count > 0 {
            let _ =
                writeln!(text, "  restarts         {} (counters above are of the last link's time)", sender.restarts);
        }
        text + &latency(&sender.latency)
    }

    /// The figures of the report.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let (sender, receiver) = (&self.sender, &self.receiver);
        let count = |metric, number: u64| figure(metric, "", "count", number as f64);
        let latency = Durations::from_counts(&sender.latency);
        let quantile = |metric, q| figure(metric, "", "us", latency.quantile(q));
        vec![
            figure("goodput", "", "Gbit/s", self.goodput()),
            figure("verified", "", "bytes", sender.bytes as f64),
            count("messages", sender.messages),
            count("packets", self.packets),
            count("dropped", self.dropped),
            count("damaged", self.damaged),
            count("reordered", sender.reordered + receiver.reordered),
            count("duplicated", sender.duplicated + receiver.duplicated),
            count("retransmitted", sender.retransmitted + receiver.retransmitted),
            figure("bulk", "", "bytes", sender.bulk as f64),
            count("asked again", sender.asked_again),
            count("declined", sender.declined),
            count("reopened", receiver.reopened),
            count("detected", sender.damaged + receiver.damaged),
            count("restarts", sender.restarts),
            quantile("p50", 0.5),
            quantile("p99", 0.99),
            quantile("p999", 0.999),
        ]
    }

    fn goodput(&self) -> f64 {
        self.sender.bytes as f64 * 8.0 / self.sender.nanos.max(1) as f64
    }
}

/// The distribution of the latencies as bars, a line for each doubling.
fn latency(counts: &Counts) -> String {
    const WIDTH: f64 = 50.0;
    let durations = Durations::from_counts(counts);
    let mut text =
        "\n  latency of a put with notification, from the call until its acknowledgement was seen\n\n".to_owned();
    for q in [0.5, 0.9, 0.99, 0.999, 1.0] {
        let _ = write!(text, "  {}% {:.0} us", q * 100.0, durations.quantile(q));
    }
    text += "\n\n";
    let bins: Vec<_> = durations.doublings().collect();
    let most = bins.iter().map(|bin| bin.1).max().unwrap_or(0).max(1);
    for (below, count) in bins.iter().skip_while(|bin| bin.1 == 0) {
        let bar = "#".repeat((*count as f64 / most as f64 * WIDTH).ceil() as usize);
        let _ = writeln!(text, "  {below:>10.0} us {count:>9} {bar}");
    }
    text
}

fn progress_bar(spec: &Spec) -> ProgressBar {
    let (bar, template) = if spec.bytes < u64::MAX {
        let template = "{bar:40} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left{msg}";
        (ProgressBar::new(spec.bytes), template)
    } else {
        (ProgressBar::new_spinner(), "[{elapsed}] {binary_bytes} {binary_bytes_per_sec}{msg}")
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_has_every_sample() {
        let text = latency(&vec![(1_500, 10), (3_000_000, 7), (90_000, 2)]);
        let counts: u64 = text
            .lines()
            .filter(|l| l.contains('#'))
            .filter_map(|l| l.split_whitespace().nth(2)?.parse::<u64>().ok())
            .sum();
        assert_eq!(counts, 19, "{text}");
        assert!(text.contains("100% 3"), "{text}");
        assert!(!latency(&Vec::new()).contains('#'));
    }
}
