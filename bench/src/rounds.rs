//! Rounds: every peer measured once by every spec, then all again, with another peer first each time,
//! so that neither the machine's drift nor the order favours one of them.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::BenchError;
use crate::figures;
use crate::harness::{Harness, Measured};
use crate::hgrm::Histograms;
use crate::peers::Peer;
use crate::report::Report;
use crate::spec::{Outcome, Spec};

/// What a run measures.
pub(crate) struct Plan {
    /// Who is measured; each by the specs whose bench it knows.
    pub(crate) peers: Vec<&'static dyn Peer>,
    /// What is measured. Specs of one MTU and topology are neighbours, as they share a lab.
    pub(crate) specs: Vec<Spec>,
    /// How often.
    pub(crate) rounds: usize,
}

impl Plan {
    fn measurements(&self) -> usize {
        let able = |spec: &Spec| self.peers.iter().filter(|p| p.measures(spec.bench)).count();
        self.rounds * self.specs.iter().map(able).sum::<usize>()
    }

    /// Carries the plan out.
    pub(crate) fn run(&self) -> Result<(Report, Histograms), BenchError> {
        let progress = progress(self.measurements() as u64);
        let result = self.run_showing(&progress);
        progress.finish_and_clear();
        result
    }

    fn run_showing(&self, progress: &ProgressBar) -> Result<(Report, Histograms), BenchError> {
        let mut report = Report::default();
        let mut histograms = Histograms::default();
        for specs in self.specs.chunk_by(|a, b| a.mtu == b.mtu && a.topology() == b.topology()) {
            progress.set_message(format!("making a lab of MTU {}", specs[0].mtu));
            let mut harness = Harness::up(&specs[0])?;
            for round in 0..self.rounds {
                for spec in specs {
                    for peer in order(&self.peers, spec, round) {
                        // Drawn before the measurement and not during it: both cores are busy then.
                        progress.set_message(format!(
                            "round {} of {}: {} {}, {} bytes",
                            round + 1,
                            self.rounds,
                            peer.name(),
                            spec.bench,
                            spec.size
                        ));
                        let measured = harness.measure(peer.name(), spec);
                        for line in harness.warnings() {
                            progress.suspend(|| eprintln!("{line}"));
                        }
                        let Measured { outcomes, wire } = measured?;
                        report.add(peer.name(), spec, &outcomes);
                        report.add_figures(peer.name(), spec, figures::lost(spec, &wire));
                        for outcome in &outcomes {
                            if let Outcome::Latency(counts) = outcome {
                                histograms.add(peer.name(), spec, counts);
                            }
                        }
                        progress.inc(1);
                    }
                }
            }
        }
        report.compare("kept", "goodput", &figures::loss(&Spec::default()));
        report.compare("slowdown", "p50", &figures::links(0));
        Ok((report, histograms))
    }
}

/// The peers that `spec` measures, in this round's order.
fn order(peers: &[&'static dyn Peer], spec: &Spec, round: usize) -> Vec<&'static dyn Peer> {
    let mut able: Vec<_> = peers.iter().copied().filter(|p| p.measures(spec.bench)).collect();
    if !able.is_empty() {
        let first = round % able.len();
        able.rotate_left(first);
    }
    able
}

fn progress(length: u64) -> ProgressBar {
    // Shown only where standard error is a terminal.
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("[{elapsed}] {wide_bar} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;
    use crate::spec::Bench;

    #[test]
    fn each_round_begins_with_another_peer() {
        let spec = Spec { bench: Bench::Bw, mtu: 1500, size: 64, samples: 1, millis: 1, ..Spec::default() };
        let firsts: Vec<_> = (0..PEERS.len()).map(|round| order(PEERS, &spec, round)[0].name()).collect();
        let mut distinct = firsts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), PEERS.len(), "{firsts:?}");
    }

    #[test]
    fn a_peer_is_measured_only_by_what_it_knows() {
        let spec = Spec { bench: Bench::BwCopy, mtu: 1500, size: 64, samples: 1, millis: 1, ..Spec::default() };
        let plan = Plan { peers: PEERS.to_vec(), specs: vec![spec.clone()], rounds: 3 };
        let able = PEERS.iter().filter(|p| p.measures(Bench::BwCopy)).count();
        assert_eq!(plan.measurements(), 3 * able);
        assert_eq!(order(PEERS, &spec, 1).len(), able);
    }
}
