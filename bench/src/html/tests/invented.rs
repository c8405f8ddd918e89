//! Figures that nobody measured: invented for the tests of the page, of the shape that a long run has.

use vmmc_histogram::Durations;

use crate::figures::figure;
use crate::hgrm::Histograms;
use crate::report::Report;
use crate::spec::{Bench, Outcome, Spec};

pub(super) const MTUS: [u32; 3] = [1500, 9000, 65535];

/// How an invented peer behaves: nanoseconds for a message, for each packet, and for a KiB.
struct Invented {
    name: &'static str,
    message: f64,
    packet: f64,
    kib: f64,
    /// How many small messages share a packet.
    shared: f64,
    /// Its packets have this size whatever the MTU.
    segment: Option<f64>,
    benches: &'static [Bench],
}

const ALL: &[Bench] = &[Bench::Lat, Bench::Bw, Bench::BwCopy, Bench::Rate, Bench::Loss];
const STREAMS: &[Bench] = &[Bench::Lat, Bench::Bw, Bench::Rate, Bench::Loss];

const INVENTED: [Invented; 6] = [
    Invented { name: "floor", message: 900.0, packet: 420.0, kib: 60.0, shared: 1.0, segment: None, benches: ALL },
    Invented { name: "vmmc", message: 1250.0, packet: 560.0, kib: 110.0, shared: 24.0, segment: None, benches: ALL },
    Invented {
        name: "tcp",
        message: 2400.0,
        packet: 900.0,
        kib: 130.0,
        shared: 1.0,
        segment: Some(65536.0),
        benches: STREAMS,
    },
    Invented {
        name: "tcp-nooff",
        message: 2500.0,
        packet: 650.0,
        kib: 140.0,
        shared: 1.0,
        segment: None,
        benches: STREAMS,
    },
    Invented {
        name: "tcp-block",
        message: 31_000.0,
        packet: 900.0,
        kib: 130.0,
        shared: 1.0,
        segment: Some(65536.0),
        benches: &[Bench::Lat],
    },
    Invented {
        name: "ucx",
        message: 9800.0,
        packet: 1100.0,
        kib: 240.0,
        shared: 1.0,
        segment: Some(65536.0),
        benches: &[Bench::Lat, Bench::Bw],
    },
];

impl Invented {
    fn nanos(&self, mtu: u32, size: usize) -> (f64, f64) {
        let packets = (size as f64 / self.segment.unwrap_or(f64::from(mtu)).max(1280.0)).ceil();
        let stream = self.packet * packets + self.kib * size as f64 / 1024.0;
        (self.message + stream, stream / (1400.0 / size as f64).clamp(1.0, self.shared))
    }
}

/// A report and its histograms, as if `versus` had measured these sizes over these MTUs.
pub(super) fn run(mtus: &[u32], sizes: &[usize]) -> (Report, Histograms) {
    let (mut report, mut histograms) = (Report::default(), Histograms::default());
    let mut random = fastrand::Rng::with_seed(7);
    for &mtu in mtus {
        for &bench in &[Bench::Lat, Bench::Bw, Bench::BwCopy, Bench::Rate, Bench::Loss] {
            let large = if bench == Bench::Loss { sizes.len().saturating_sub(1) } else { 0 };
            for &size in &sizes[large..] {
                for round in 0..3 {
                    for peer in INVENTED.iter().filter(|peer| peer.benches.contains(&bench)) {
                        let spec = Spec { bench, mtu, size, ..Spec::default() };
                        // A machine that is slower in some rounds.
                        let drift = 1.0 + 0.2 * f64::from(round) + 0.03 * random.f64();
                        measure(peer, &spec, drift, &mut random, &mut report, &mut histograms);
                    }
                }
            }
        }
    }
    report.compare("kept", "goodput", "0%");
    (report, histograms)
}

fn measure(
    peer: &Invented,
    spec: &Spec,
    drift: f64,
    random: &mut fastrand::Rng,
    report: &mut Report,
    histograms: &mut Histograms,
) {
    let (latency, stream) = peer.nanos(spec.mtu, spec.size);
    let stream = stream * drift;
    let gbit = spec.size as f64 * 8.0 / stream;
    match spec.bench {
        Bench::Lat => {
            let mut times = Durations::new();
            for _ in 0..1500 {
                // Most near the least, some far from it.
                let tail = (0.004 / (random.f64() + 1e-6)).powf(0.9);
                times.record_nanos((latency * drift * (1.0 + 0.08 * random.f64() + tail)) as u64);
            }
            report.add(peer.name, spec, &[Outcome::Latency(times.counts())]);
            histograms.add(peer.name, spec, &times.counts());
        }
        Bench::Rate => report.add_next(peer.name, spec, vec![figure("rate", "", "packets/s", 1e9 / stream)]),
        Bench::Loss => {
            for (lost, kept) in [(0.0, 1.0), (0.5, 0.9), (1.0, 0.8), (5.0, 0.6)] {
                let kept = if peer.name == "tcp" { f64::powf(kept, 6.0) } else { kept };
                let goodput = figure("goodput", format!("{lost}%"), "Gbit/s", gbit * kept);
                report.add_next(peer.name, spec, vec![goodput]);
            }
        }
        _ => report.add_next(peer.name, spec, vec![figure("bandwidth", "", "Gbit/s", gbit)]),
    }
}
