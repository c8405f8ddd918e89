//! What one measurement is and what comes out of it: the vocabulary that the commands, the parent
//! process, the workers and the peers share. Everything here travels between processes as JSON.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Memory, in bytes, that a copying stream walks through on either side. Larger than a core's own caches,
/// so that a copy costs what it costs a program that has other things to do.
pub(crate) const WORKING_SET: usize = 16 << 20;

/// What is measured. The name is what the report's `bench` column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bench {
    /// One-way latency: half of each round trip of a ping-pong.
    Lat,
    /// Payload of a one-way stream, counted where it arrives, in whatever way is cheapest for the peer.
    Bw,
    /// The same, with the payload copied from ordinary memory at the sender and to it at the receiver.
    BwCopy,
    /// Messages per second of a one-way stream.
    Rate,
}

impl Bench {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bench::Lat => "lat",
            Bench::Bw => "bw",
            Bench::BwCopy => "bw-copy",
            Bench::Rate => "rate",
        }
    }

    /// What a person reads above a table of this bench.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Bench::Lat => "one-way latency (us)",
            Bench::Bw => "bandwidth (Gbit/s of payload)",
            Bench::BwCopy => "bandwidth, payload copied in and out (Gbit/s of payload)",
            Bench::Rate => "message rate (packets/s)",
        }
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One measurement, but for the peer that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// What is measured.
    pub(crate) bench: Bench,
    /// MTU of the interfaces, bytes.
    pub(crate) mtu: u32,
    /// Payload of one message, bytes.
    pub(crate) size: usize,
    /// Latency: round trips that count.
    pub(crate) samples: u64,
    /// Streams: how long the sender sends, milliseconds. The first tenth does not count.
    pub(crate) millis: u64,
}

impl Spec {
    /// Round trips made before the first one that counts.
    pub(crate) fn warmup_samples(&self) -> u64 {
        (self.samples / 10).max(200)
    }

    /// How long a stream's sender sends.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// How long a stream runs before its bytes count.
    pub(crate) fn warmup(&self) -> Duration {
        self.duration() / 10
    }
}

/// Which end of a measurement a worker plays. The server is ready before the client starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// Answers pings; receives streams.
    Server,
    /// Sends pings and times them; sends streams.
    Client,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Server => "server",
            Side::Client => "client",
        })
    }
}

/// Where one host's traffic goes in and out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// Name of the interface inside the host's namespace.
    pub(crate) interface: String,
    /// Its IPv4 address.
    pub(crate) address: Ipv4Addr,
    /// Its MAC address.
    pub(crate) mac: [u8; 6],
}

/// What one side of a measurement has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The other side has the figures.
    Nothing,
    /// A histogram as (nanoseconds one way, how many samples).
    Latency(Vec<(u64, u64)>),
    /// What arrived after the warm-up, and in how long.
    Stream { messages: f64, bytes: u64, nanos: u64 },
}

impl Outcome {
    /// The outcome that carries `histogram`, whose values are nanoseconds one way.
    pub(crate) fn latency(histogram: &Histogram<u64>) -> Outcome {
        Outcome::Latency(histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect())
    }

    /// The report's figures: (metric, unit, value). Empty when the outcome doesn't answer `bench`.
    pub(crate) fn figures(&self, bench: Bench) -> Vec<(&'static str, &'static str, f64)> {
        match (self, bench) {
            (Outcome::Latency(counts), Bench::Lat) if !counts.is_empty() => {
                let histogram = histogram(counts);
                [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)]
                    .map(|(name, q)| (name, "us", histogram.value_at_quantile(q) as f64 / 1e3))
                    .to_vec()
            }
            (Outcome::Stream { messages, nanos, .. }, Bench::Rate) if *nanos > 0 => {
                vec![("rate", "packets/s", messages * 1e9 / *nanos as f64)]
            }
            (Outcome::Stream { bytes, nanos, .. }, Bench::Bw | Bench::BwCopy) if *nanos > 0 => {
                vec![("bandwidth", "Gbit/s", *bytes as f64 * 8.0 / *nanos as f64)]
            }
            _ => Vec::new(),
        }
    }
}

/// An empty histogram of nanoseconds, three significant digits, as every latency here is kept.
pub(crate) fn new_histogram() -> Histogram<u64> {
    // One hour: longer than any measurement may last, so recording never fails nor allocates.
    Histogram::new_with_max(3_600_000_000_000, 3).expect("a valid range and precision")
}

/// The histogram that `counts`, from [`Outcome::Latency`], came from.
pub(crate) fn histogram(counts: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = new_histogram();
    for &(value, count) in counts {
        histogram.saturating_record_n(value, count);
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_the_journey() {
        let mut before = new_histogram();
        for ns in 1..10_000 {
            before.record(ns).unwrap();
        }
        let Outcome::Latency(counts) = Outcome::latency(&before) else { panic!("not a latency") };
        let after = histogram(&counts);
        assert_eq!(after.len(), before.len());
        for q in [0.0, 0.5, 0.99, 0.999, 1.0] {
            assert_eq!(after.value_at_quantile(q), before.value_at_quantile(q), "quantile {q}");
        }
    }

    #[test]
    fn figures_have_the_units_of_the_report() {
        let second = Outcome::Stream { messages: 5e5, bytes: 125_000_000, nanos: 1_000_000_000 };
        assert_eq!(second.figures(Bench::Bw), [("bandwidth", "Gbit/s", 1.0)]);
        assert_eq!(second.figures(Bench::Rate), [("rate", "packets/s", 5e5)]);
        let latency = Outcome::Latency(vec![(1000, 999), (9000, 1)]);
        let figures = latency.figures(Bench::Lat);
        assert_eq!(figures.iter().map(|f| f.0).collect::<Vec<_>>(), ["p50", "p99", "p999"]);
        assert!(figures.iter().all(|f| f.1 == "us" && (f.2 - 1.0).abs() < 0.01), "{figures:?}");
    }

    #[test]
    fn an_outcome_that_does_not_answer_the_bench_has_no_figures() {
        assert!(Outcome::Nothing.figures(Bench::Lat).is_empty());
        assert!(Outcome::Latency(Vec::new()).figures(Bench::Lat).is_empty());
        assert!(Outcome::Stream { messages: 0.0, bytes: 0, nanos: 0 }.figures(Bench::Bw).is_empty());
    }
}
