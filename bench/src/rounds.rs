//! Rounds: every peer measured by every spec, then all again, with another peer first each time, so that neither the machine's drift
//! nor the order favours one of them.
//!
//! What a machine can do changes from second to second, and from one opening of a connection to the next. So in each round all peers are open at the same
//! time, each in a lab of its own, and take turns by single measurements: what is compared was measured within a fraction of a second. And
//! each round has new processes and new connections. What can't share a connection, or is a program of its own, is measured peer by peer.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::BenchError;
use crate::figures;
use crate::harness::Harness;
use crate::hgrm::Histograms;
use crate::peers::Peer;
use crate::report::Report;
use crate::run::Measured;
use crate::spec::{Bench, Outcome, Spec};
use crate::turns::{Round, Seat, is_able, takes};
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
    /// How often in each round, over one connection.
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

/// What else figures are compared with than the floor's and TCP's: how that is called, whose figures (how these peers' names begin), in which
/// bench, which figure, and with whose.
const COMPARED: [(&str, &[&str], Bench, &str, &str); 9] = [
    ("vs nooff", &["vmmc", "sockets"], Bench::Bw, "bandwidth", "tcp-nooff"),
    ("vs gather", &["vmmc", "sockets"], Bench::Bw, "bandwidth", "floor-gather"),
    ("vs eager", &["vmmc"], Bench::Bw, "bandwidth", "vmmc-eager"),
    ("vs sockets-eager", &["sockets"], Bench::Bw, "bandwidth", "sockets-eager"),
    ("vs eager", &["vmmc"], Bench::Loss, "goodput", "vmmc-eager"),
    ("rx cpu vs eager", &["vmmc"], Bench::Bw, "rx cpu", "vmmc-eager-block"),
    ("vs unwatched", &["vmmc-watched"], Bench::Lat, "p50", "vmmc"),
    ("vs unwatched", &["vmmc-watched"], Bench::Bw, "bandwidth", "vmmc"),
    ("vs unwatched", &["vmmc-watched"], Bench::Rate, "rate", "vmmc"),
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
            let left = labs[place..].iter().filter(|specs| !has_few_rounds(specs));
            let left: Duration = left.map(|specs| self.round_lasts(specs)).sum();
            let mut end = match self.rounds {
                Rounds::Time(_) if has_few_rounds(specs) => End::new(Rounds::Count(LEAST), begin, 1.0),
                rounds => End::new(rounds, begin, self.round_lasts(specs).div_duration_f64(left)),
            };
            progress.bar.set_message(format!("making a lab of MTU {}", specs[0].mtu));
            let mut seats = self.seats(specs)?;
            while end.another_round() {
                if end.rounds > 1 {
                    seats.iter_mut().try_for_each(|seat| seat.harness.renew())?;
                }
                for sitting in sittings(specs) {
                    // Rounds that are ended by time are many and short.
                    if sitting[0].bench.is_slow() && matches!(self.rounds, Rounds::Time(_)) && end.rounds > 1 {
                        continue;
                    }
                    let show = &mut |what: &str| progress.show(&end, begin, sitting[0].mtu, what);
                    let mut round = Round { number: end.rounds - 1, turns: self.turns, show, results: &mut results };
                    round.sit(&mut seats, sitting)?;
                    for Seat { peer, harness } in &seats {
                        let warnings = harness.warnings();
                        warnings.iter().for_each(|line| progress.bar.suspend(|| eprintln!("{}, {line}", peer.name())));
                    }
                }
            }
            results.rounds = (results.rounds.0.min(end.rounds), results.rounds.1.max(end.rounds));
        }
        results.report.compare("kept", "goodput", &figures::loss(&Spec::default()));
        results.report.compare("slowdown", "p50", &figures::links(0));
        for (name, whose, bench, metric, base) in COMPARED {
            results.report.compare_peers(name, whose, bench, metric, base);
        }
        results.report.compare("vs arena", "bandwidth", "arena");
        results.report.compare("vs copy", "bandwidth", "copy");
        results.report.compare("cpu vs copy", "cpu", "copy");
        results.report.compare("vs put", "p50", "put");
        results.report.compare("pin vs bare", "pin 64", utlb::BARE);
        results.report.compare("unpin vs bare", "unpin 64", utlb::BARE);
        Ok(results)
    }

    /// How long a round of these specs lasts, about: what is opened takes as long as a few measurements.
    fn round_lasts(&self, specs: &[Spec]) -> Duration {
        let each = specs.iter().filter(|spec| !spec.bench.is_slow());
        each.map(|spec| spec.duration() * self.peers.iter().filter(|&&peer| takes(peer, spec)).count() as u32).sum()
    }

    /// A lab for each peer that is measured by any of these specs.
    fn seats(&self, specs: &[Spec]) -> Result<Vec<Seat>, BenchError> {
        let able = self.peers.iter().filter(|&&peer| is_able(peer, specs));
        able.map(|&peer| Ok(Seat { peer, harness: Harness::up(&specs[0])? })).collect()
    }
}

impl Results {
    /// Takes in what the turns of one peer in one round have found, of which the first has this number.
    pub(crate) fn take(&mut self, peer: &'static dyn Peer, spec: &Spec, found: &[Measured], first: usize) {
        for (turn, Measured { outcomes, wire }) in (first..).zip(found) {
            self.report.add_figures(peer.name(), spec, turn, figures::figures(spec, outcomes));
            self.report.add_figures(peer.name(), spec, turn, figures::lost(spec, wire));
        }
        for outcome in found.iter().flat_map(|turn| &turn.outcomes) {
            if let Outcome::Latency(counts) | Outcome::Requests { latency: counts, .. } = outcome.found() {
                self.histograms.add(peer.name(), spec, counts);
            }
        }
    }
}

/// Whether a lab's rounds are long ones, of which the fewest are made where time decides.
fn has_few_rounds(specs: &[Spec]) -> bool {
    specs.iter().all(|spec| spec.bench == Bench::Loss)
}

/// Runs of specs that share a lab.
fn labs(specs: &[Spec]) -> impl Iterator<Item = &[Spec]> {
    specs.chunk_by(|a, b| a.mtu == b.mtu && a.topology() == b.topology())
}

/// Runs of specs that share a connection.
fn sittings(specs: &[Spec]) -> impl Iterator<Item = &[Spec]> {
    specs.chunk_by(|a, b| a.mtu == b.mtu && a.bench.shares_connection() && b.bench.shares_connection())
}

/// When the rounds in one lab end.
struct End {
    rounds: usize,
    most: Option<usize>,
    deadline: Instant,
    /// When the round that is under way began; at first, when labs were begun to be made.
    begun: Instant,
    longest: Duration,
}

impl End {
    /// Of a lab that is to have this share of the time that is left to a run that began then.
    fn new(rounds: Rounds, begin: Instant, share: f64) -> End {
        let begun = Instant::now();
        let (most, deadline) = match rounds {
            Rounds::Count(most) => (Some(most), begun),
            Rounds::Time(time) => (None, begun + time.saturating_sub(begin.elapsed()).mul_f64(share)),
        };
        End { rounds: 0, most, deadline, begun, longest: Duration::ZERO }
    }

    /// Whether there is to be another round, which is then counted.
    fn another_round(&mut self) -> bool {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.begun);
        let more = match self.most {
            Some(most) => self.rounds < most,
            // If it will be over in time though it takes as long as the longest yet.
            None => self.rounds < LEAST || now + self.longest <= self.deadline,
        };
        self.begun = now;
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
                let steps = |sitting: &[Spec]| {
                    let able = plan.peers.iter().filter(|&&peer| is_able(peer, sitting));
                    let turns = if sitting[0].bench.shares_connection() { plan.turns } else { able.count() };
                    sitting.len() * turns
                };
                let steps = rounds * plan.sittings().map(steps).sum::<usize>();
                (steps as u64, "[{elapsed}] {wide_bar} {pos}/{len} {msg}")
            }
            Rounds::Time(time) => (time.as_millis() as u64, "[{elapsed}] {wide_bar} {msg}"),
        };
        // Shown only where standard error is a terminal.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, by_time: matches!(plan.rounds, Rounds::Time(_)) }
    }

    /// Says what will be done now.
    fn show(&self, end: &End, begin: Instant, mtu: u32, what: &str) {
        let of = end.most.map_or(String::new(), |most| format!(" of {most}"));
        self.bar.set_message(format!("MTU {mtu}, round {}{of}: {what}", end.rounds));
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
        let mut end = End::new(Rounds::Count(2), Instant::now(), 1.0);
        assert_eq!([end.another_round(), end.another_round(), end.another_round()], [true, true, false]);
        // However little time there is.
        let mut end = End::new(Rounds::Time(Duration::ZERO), Instant::now(), 1.0);
        assert!((0..LEAST).all(|_| end.another_round()) && !end.another_round());
        let mut end = End::new(Rounds::Time(Duration::from_secs(3600)), Instant::now(), 0.3);
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
