//! Rounds: every peer measured once by every spec, then all again, with another peer first each time,
//! so that neither the machine's drift nor the order favours one of them.
//!
//! Opening a connection takes longer than a short measurement, so in each round a peer is measured by all specs in one sitting
//! that can share a connection. Each round has new processes. Many short rounds say more than a few long ones: what disturbs one of them falls out of the
//! median.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::BenchError;
use crate::figures;
use crate::harness::{Harness, Measured};
use crate::hgrm::Histograms;
use crate::peers::Peer;
use crate::report::Report;
use crate::spec::{Bench, Outcome, Spec};
use crate::utlb;

/// What a run measures.
pub(crate) struct Plan {
    /// Who is measured; each by the specs whose bench it knows.
    pub(crate) peers: Vec<&'static dyn Peer>,
    /// Why others aren't, a line each.
    pub(crate) missing: Vec<String>,
    /// What is measured. Specs of one MTU and topology are neighbours, as they share a lab; so are, among them, those
    /// that share a connection.
    pub(crate) specs: Vec<Spec>,
    /// How often.
    pub(crate) rounds: Rounds,
    /// How often in each round, over one connection. A round's figure is the mean of all turns'.
    pub(crate) turns: usize,
}

/// How often everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// So often.
    Count(usize),
    /// As often as there is time for, making labs included, and at least [`LEAST`] times.
    Time(Duration),
}

/// The fewest rounds of which a median says anything.
pub(crate) const LEAST: usize = 3;

/// What everybody's figures are compared with beside the floor's and TCP's: how that is called, in which bench, which figure, and whose.
const COMPARED: [(&str, Bench, &str, &str); 6] = [
    ("vs nooff", Bench::Bw, "bandwidth", "tcp-nooff"),
    ("vs gather", Bench::Bw, "bandwidth", "floor-gather"),
    ("vs eager", Bench::Bw, "bandwidth", "vmmc-eager"),
    ("vs sockets-eager", Bench::Bw, "bandwidth", "sockets-eager"),
    ("vs eager", Bench::Loss, "goodput", "vmmc-eager"),
    ("rx cpu vs eager", Bench::Bw, "rx cpu", "vmmc-eager-block"),
];

/// What a plan has led to.
pub(crate) struct Results {
    pub(crate) report: Report,
    pub(crate) histograms: Histograms,
    /// The fewest rounds that were made in a lab, and the most.
    pub(crate) rounds: (usize, usize),
}

impl Plan {
    /// What each sitting measures.
    fn sittings(&self) -> impl Iterator<Item = &[Spec]> {
        sittings(&self.specs)
    }

    /// What isn't measured, and why: a line each.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let reason = |(peer, spec): (&dyn Peer, &Spec)| {
            let reason = peer.refuses(spec).filter(|_| peer.measures(spec.bench))?;
            Some(format!(
                "{}, {}, {} bytes at MTU {} is left out: {reason}",
                peer.name(),
                spec.bench,
                spec.size,
                spec.mtu
            ))
        };
        let all = self.peers.iter().flat_map(|&peer| self.specs.iter().map(move |spec| (peer, spec)));
        let small = |peer: &&dyn Peer| {
            let too_small = |spec: &Spec| !peer.measures(spec.bench) || spec.size < peer.least_size();
            self.specs.iter().all(too_small).then(|| {
                let (name, least) = (peer.name(), peer.least_size());
                format!("{name} is left out: it is for messages of {least} bytes and more (--size)")
            })
        };
        let small = self.peers.iter().filter(|peer| peer.least_size() > 0).filter_map(small);
        self.missing.iter().cloned().chain(small).chain(all.filter_map(reason)).collect()
    }

    /// Carries the plan out.
    pub(crate) fn run(&self) -> Result<Results, BenchError> {
        let progress = Progress::new(self);
        let result = self.run_showing(&progress);
        progress.bar.finish_and_clear();
        result
    }

    fn run_showing(&self, progress: &Progress) -> Result<Results, BenchError> {
        let mut results =
            Results { report: Report::default(), histograms: Histograms::default(), rounds: (usize::MAX, 0) };
        let labs: Vec<_> = labs(&self.specs).collect();
        let begin = Instant::now();
        for (place, specs) in labs.iter().enumerate() {
            let left = labs[place..].iter().filter(|specs| !has_few_rounds(specs)).count();
            let mut end = match self.rounds {
                Rounds::Time(_) if has_few_rounds(specs) => End::new(Rounds::Count(LEAST), begin, left),
                rounds => End::new(rounds, begin, left),
            };
            progress.bar.set_message(format!("making a lab of MTU {}", specs[0].mtu));
            let mut harness = Harness::up(&specs[0])?;
            while end.another_round() {
                if end.rounds > 1 {
                    harness.renew()?;
                }
                for sitting in sittings(specs) {
                    // Rounds that are ended by time are many and short.
                    if sitting[0].bench.is_slow() && matches!(self.rounds, Rounds::Time(_)) && end.rounds > 1 {
                        continue;
                    }
                    for peer in order(&self.peers, sitting, end.rounds - 1) {
                        progress.show(&end, peer, sitting);
                        self.sit(&mut harness, peer, sitting, progress, &mut results)?;
                        progress.done(begin);
                    }
                }
            }
            results.rounds = (results.rounds.0.min(end.rounds), results.rounds.1.max(end.rounds));
        }
        results.report.compare("kept", "goodput", &figures::loss(&Spec::default()));
        results.report.compare("slowdown", "p50", &figures::links(0));
        for (name, bench, metric, base) in COMPARED {
            results.report.compare_peers(name, bench, metric, base);
        }
        results.report.compare("vs arena", "bandwidth", "arena");
        results.report.compare("vs copy", "bandwidth", "copy");
        results.report.compare("cpu vs copy", "cpu", "copy");
        results.report.compare("vs put", "p50", "put");
        results.report.compare("pin vs bare", "pin 64", utlb::BARE);
        results.report.compare("unpin vs bare", "unpin 64", utlb::BARE);
        Ok(results)
    }

    /// Has one peer measured by those of some specs that it can be measured by.
    fn sit(
        &self,
        harness: &mut Harness,
        peer: &'static dyn Peer,
        sitting: &[Spec],
        progress: &Progress,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        let specs: Vec<Spec> = sitting.iter().filter(|spec| takes(peer, spec)).cloned().collect();
        if sitting[0].bench.wants_new_processes() {
            harness.renew()?;
        }
        // Where each takes a program of its own, once has to be enough.
        let turns = if sitting[0].bench.shares_connection() && peer.needs().is_none() { self.turns } else { 1 };
        let measured = harness.measure(peer.name(), &vec![specs.clone(); turns].concat());
        for line in harness.warnings() {
            progress.bar.suspend(|| eprintln!("{line}"));
        }
        let measured = measured?;
        for (place, spec) in specs.iter().enumerate() {
            let turns: Vec<&Measured> = measured.iter().skip(place).step_by(specs.len()).collect();
            let found = turns.iter().map(|turn| figures::figures(spec, &turn.outcomes)).collect();
            results.report.add_figures(peer.name(), spec, figures::mean(found));
            for Measured { outcomes, wire } in turns {
                results.report.add_figures(peer.name(), spec, figures::lost(spec, wire));
                for outcome in outcomes {
                    if let Outcome::Latency(counts) | Outcome::Requests { latency: counts, .. } = outcome.found() {
                        results.histograms.add(peer.name(), spec, counts);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a lab's rounds are long ones, of which the fewest are made where time decides.
fn has_few_rounds(specs: &[Spec]) -> bool {
    specs.iter().all(|spec| spec.bench == Bench::Loss)
}

fn takes(peer: &dyn Peer, spec: &Spec) -> bool {
    peer.measures(spec.bench) && spec.size >= peer.least_size() && peer.refuses(spec).is_none()
}

/// Runs of specs that share a lab.
fn labs(specs: &[Spec]) -> impl Iterator<Item = &[Spec]> {
    specs.chunk_by(|a, b| a.mtu == b.mtu && a.topology() == b.topology())
}

/// Runs of specs that share a connection.
fn sittings(specs: &[Spec]) -> impl Iterator<Item = &[Spec]> {
    specs.chunk_by(|a, b| a.mtu == b.mtu && a.bench.shares_connection() && b.bench.shares_connection())
}

/// The peers that can be measured by any of these specs, in this round's order.
fn order(peers: &[&'static dyn Peer], sitting: &[Spec], round: usize) -> Vec<&'static dyn Peer> {
    let mut able: Vec<_> = peers.iter().copied().filter(|&peer| sitting.iter().any(|spec| takes(peer, spec))).collect();
    if !able.is_empty() {
        let first = round % able.len();
        able.rotate_left(first);
    }
    able
}

/// When the rounds in one lab end.
struct End {
    rounds: usize,
    most: Option<usize>,
    deadline: Instant,
    start: Instant,
}

impl End {
    /// Of the first of so many labs that are left, in a run that began then.
    fn new(rounds: Rounds, begin: Instant, labs_left: usize) -> End {
        let start = Instant::now();
        match rounds {
            Rounds::Count(most) => End { rounds: 0, most: Some(most), deadline: start, start },
            Rounds::Time(time) => {
                let left = time.saturating_sub(begin.elapsed());
                End { rounds: 0, most: None, deadline: start + left / labs_left as u32, start }
            }
        }
    }

    /// Whether there is to be another round, which is then counted.
    fn another_round(&mut self) -> bool {
        let more = match self.most {
            Some(most) => self.rounds < most,
            // If it takes as long as those before took on average, the lab's making included.
            None => {
                let each = self.start.elapsed() / self.rounds.max(1) as u32;
                self.rounds < LEAST || Instant::now() + each <= self.deadline
            }
        };
        self.rounds += usize::from(more);
        more
    }
}

/// What is shown on a terminal meanwhile.
struct Progress {
    bar: ProgressBar,
    /// By time, not by what has been done.
    by_time: bool,
}

impl Progress {
    fn new(plan: &Plan) -> Progress {
        let (length, template) = match plan.rounds {
            Rounds::Count(rounds) => {
                let able = |sitting: &[Spec]| order(&plan.peers, sitting, 0).len();
                let sittings = rounds * plan.sittings().map(able).sum::<usize>();
                (sittings as u64, "[{elapsed}] {wide_bar} {pos}/{len} {msg}")
            }
            Rounds::Time(time) => (time.as_millis() as u64, "[{elapsed}] {wide_bar} {msg}"),
        };
        // Shown only where standard error is a terminal.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, by_time: matches!(plan.rounds, Rounds::Time(_)) }
    }

    /// Says what will be measured now. Drawn before the measurement and not during it: both cores are busy then.
    fn show(&self, end: &End, peer: &dyn Peer, sitting: &[Spec]) {
        let of = end.most.map_or(String::new(), |most| format!(" of {most}"));
        let Spec { bench, size, mtu, .. } = sitting[0];
        let what = match sitting.len() {
            1 => format!("{bench}, {size} bytes"),
            n => format!("{n} measurements"),
        };
        self.bar.set_message(format!("MTU {mtu}, round {}{of}: {}, {what}", end.rounds, peer.name()));
    }

    fn done(&self, begin: Instant) {
        if self.by_time {
            self.bar.set_position(begin.elapsed().as_millis() as u64);
        } else {
            self.bar.inc(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{self, PEERS};

    fn spec(bench: Bench, mtu: u32, size: usize) -> Spec {
        Spec { bench, mtu, size, samples: 1, millis: 1, ..Spec::default() }
    }

    #[test]
    fn each_round_begins_with_another_peer() {
        let sitting = [spec(Bench::Bw, 1500, 1 << 20)];
        let firsts: Vec<_> = (0..PEERS.len()).map(|round| order(PEERS, &sitting, round)[0].name()).collect();
        let mut distinct = firsts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), PEERS.len(), "{firsts:?}");
    }

    #[test]
    fn a_peer_is_measured_only_by_what_it_knows() {
        let copies = [spec(Bench::BwCopy, 1500, 64)];
        let able = PEERS.iter().filter(|p| p.measures(Bench::BwCopy)).count();
        assert_eq!(order(PEERS, &copies, 1).len(), able);
        // In a sitting with others it is measured by those.
        let both = [spec(Bench::BwCopy, 1500, 64), spec(Bench::Bw, 1500, 1 << 20)];
        assert_eq!(order(PEERS, &both, 1).len(), PEERS.len());
    }

    #[test]
    fn what_shares_a_connection_is_one_sitting() {
        let specs = [
            spec(Bench::Lat, 1500, 8),
            spec(Bench::Bw, 1500, 8),
            spec(Bench::Lat, 9000, 8),
            spec(Bench::Loss, 9000, 8),
            spec(Bench::Loss, 9000, 9),
        ];
        let lengths: Vec<_> = sittings(&specs).map(<[Spec]>::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
        let lengths: Vec<_> = labs(&specs).map(<[Spec]>::len).collect();
        assert_eq!(lengths, [2, 1, 2]);
    }

    #[test]
    fn rounds_end_with_their_number_or_their_time() {
        let mut end = End::new(Rounds::Count(2), Instant::now(), 1);
        assert_eq!([end.another_round(), end.another_round(), end.another_round()], [true, true, false]);
        // However little time there is.
        let mut end = End::new(Rounds::Time(Duration::ZERO), Instant::now(), 1);
        assert!((0..LEAST).all(|_| end.another_round()) && !end.another_round());
        let mut end = End::new(Rounds::Time(Duration::from_secs(3600)), Instant::now(), 3);
        assert!((0..100).all(|_| end.another_round()));
    }

    #[test]
    fn what_does_not_fit_the_floors_ring_is_left_out_and_named() {
        let specs =
            vec![spec(Bench::Lat, 1500, 1 << 20), spec(Bench::Lat, 1500, 4 << 20), spec(Bench::Bw, 1500, 4 << 20)];
        let plan = Plan { peers: PEERS.to_vec(), missing: Vec::new(), specs, rounds: Rounds::Count(1), turns: 1 };
        let left_out = plan.left_out();
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].starts_with("floor, lat, 4194304 bytes at MTU 1500 is left out: "), "{left_out:?}");
        let floor = peers::find("floor").expect("there always is");
        assert!([1500, 9000, 65535].iter().all(|&mtu| floor.refuses(&spec(Bench::Lat, mtu, 1 << 20)).is_none()));
    }
}
