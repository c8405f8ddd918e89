//! Peers: the things that are measured. Each is one file that knows how to play both ends of a
//! ping-pong and of a stream; the harness gives all of them the same hosts, cores, sizes and rounds.
//! To add one, write its file and enter it in [`PEERS`].

mod floor;
mod offloads;
mod tcp;
mod vmmc;

use std::time::{Duration, Instant};

use vmmc_histogram::Durations;

use crate::spec::{Bench, Outcome, Side, Spec};
use crate::worker::Session;

/// Every peer, in the order in which a round measures and a table shows them.
pub(crate) static PEERS: &[&dyn Peer] = &[
    &floor::Floor,
    &vmmc::Vmmc { checksum: true },
    &vmmc::Vmmc { checksum: false },
    &tcp::Tcp { offloads: true },
    &tcp::Tcp { offloads: false },
];

/// Why a side of a measurement could not be played. It travels to the parent as text.
pub(crate) type PeerError = Box<dyn std::error::Error + Send + Sync>;

/// Something whose latency and bandwidth can be measured between two hosts.
///
/// Each call opens what it needs and closes it again before it returns, because the next peer may need
/// the interface for itself. The server calls [`Session::ready`] once, and ends when
/// [`Session::stopped`] says so or the client is evidently done.
pub(crate) trait Peer: Sync {
    /// Name in reports and on the command line.
    fn name(&self) -> &'static str;

    /// Whether this peer can be measured by `bench`.
    fn measures(&self, bench: Bench) -> bool;

    /// One side of a ping-pong of `spec.size` bytes each way: `spec.warmup_samples()` round trips, then
    /// `spec.samples` whose halves the client returns in nanoseconds (see [`RoundTrips`]).
    fn latency(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError>;

    /// One side of a stream of messages of `spec.size` bytes for `spec.duration()`; usually the server
    /// counts what arrives (see [`Meter`]). With [`Bench::BwCopy`] the payload is copied at both ends.
    fn stream(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError>;

    /// One side of an incast of messages of `spec.size` bytes: `spec.count` clients, which begin at the same moment (see
    /// [`Session::start_together`]) and each send for `spec.duration()`, some messages ahead; one server. A client returns
    /// what got through, and how long each message took (see [`SendMeter`]). Everybody sleeps who has nothing to do.
    fn incast(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// Round trips on a link beside `spec.count` idle ones, in one process.
    fn links(&self, spec: &Spec) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of a link that is up and idle for `spec.duration()`: returns the processor time that took.
    fn idle(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of a [soak](crate::soak).
    fn soak(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// That this peer can't be measured so. [`Peer::measures`] says so beforehand.
    fn cannot(&self, spec: &Spec) -> Result<Outcome, PeerError> {
        Err(format!("{} has no {}", self.name(), spec.bench).into())
    }
}

/// The peer called `name`.
pub(crate) fn find(name: &str) -> Option<&'static dyn Peer> {
    PEERS.iter().copied().find(|p| p.name() == name)
}

/// Payload of the largest packet the floor sends at this MTU, bytes.
pub(crate) fn full_payload(mtu: u32) -> usize {
    floor::full_payload(mtu)
}

/// All names, or those of the peers that can be measured by `bench`: for messages.
pub(crate) fn names(bench: Option<Bench>) -> String {
    let able = PEERS.iter().filter(|p| bench.is_none_or(|bench| p.measures(bench)));
    able.map(|p| p.name()).collect::<Vec<_>>().join(", ")
}

/// The client's record of a ping-pong.
pub(crate) struct RoundTrips {
    times: Durations,
    warmup: u64,
    samples: u64,
}

impl RoundTrips {
    /// An empty record.
    pub(crate) fn new(spec: &Spec) -> Self {
        Self { times: Durations::new(), warmup: spec.warmup_samples(), samples: spec.samples }
    }

    /// Makes all round trips of the warm-up and of the measurement by calling `round_trip`, and times them.
    pub(crate) fn measure(
        mut self,
        mut round_trip: impl FnMut() -> Result<(), PeerError>,
    ) -> Result<Outcome, PeerError> {
        for _ in 0..self.warmup {
            round_trip()?;
        }
        for _ in 0..self.samples {
            let start = Instant::now();
            round_trip()?;
            let nanos = start.elapsed().as_nanos() as u64;
            self.times.record_nanos(nanos / 2);
        }
        Ok(Outcome::Latency(self.times.counts()))
    }
}

/// The receiver's record of a stream: bytes that arrive after the warm-up, and between when and when.
pub(crate) struct Meter {
    warmup: Duration,
    duration: Duration,
    lossy: bool,
    size: usize,
    first: Option<Instant>,
    counting: Option<Instant>,
    last: Option<Instant>,
    bytes: u64,
}

impl Meter {
    /// A meter that has seen nothing yet.
    pub(crate) fn new(spec: &Spec) -> Self {
        Self {
            warmup: spec.warmup(),
            duration: spec.duration(),
            lossy: spec.faults.drop > 0.0,
            size: spec.size,
            first: None,
            counting: None,
            last: None,
            bytes: 0,
        }
    }

    /// Says that `bytes` of payload have arrived just now.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.add_at(bytes, Instant::now());
    }

    fn add_at(&mut self, bytes: usize, now: Instant) {
        if self.counting.is_some() {
            self.bytes += bytes as u64;
            self.last = Some(now);
        } else if now.duration_since(*self.first.get_or_insert(now)) >= self.warmup {
            // These bytes came before the clock starts.
            self.counting = Some(now);
        }
    }

    /// What was measured.
    pub(crate) fn outcome(&self) -> Result<Outcome, PeerError> {
        match (self.counting, self.last) {
            (Some(from), Some(to)) if to > from => Ok(Outcome::Stream {
                messages: self.bytes as f64 / self.size as f64,
                bytes: self.bytes,
                nanos: to.duration_since(from).as_nanos() as u64,
            }),
            // A stream that stalls for as long as it has is a result where packets are lost.
            _ if self.first.is_some() && self.lossy => {
                Ok(Outcome::Stream { messages: 0.0, bytes: 0, nanos: self.duration.as_nanos() as u64 })
            }
            _ if self.first.is_some() => Err("the stream ended before its warm-up did; measure for longer".into()),
            _ => Err("the stream was sent, but none of it arrived".into()),
        }
    }
}

/// One sender's record of an incast: what was acknowledged between the end of the warm-up and the end of the run.
pub(crate) struct SendMeter {
    times: Durations,
    warmup: Duration,
    duration: Duration,
    start: Instant,
    bytes: u64,
}

impl SendMeter {
    /// How many messages a sender sends ahead of what is acknowledged.
    pub(crate) const AHEAD: usize = 8;

    /// A record that begins now.
    pub(crate) fn start(spec: &Spec) -> Self {
        let (warmup, duration) = (spec.warmup(), spec.duration());
        Self { times: Durations::new(), warmup, duration, start: Instant::now(), bytes: 0 }
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.duration
    }

    /// Says that a message of `bytes`, which was begun then, is acknowledged now.
    pub(crate) fn add(&mut self, begun: Instant, bytes: usize) {
        self.add_at(begun, bytes, Instant::now());
    }

    fn add_at(&mut self, begun: Instant, bytes: usize, now: Instant) {
        if (self.warmup..self.duration).contains(&now.duration_since(self.start)) {
            self.bytes += bytes as u64;
            self.times.record(now.duration_since(begun));
        }
    }

    /// What was measured.
    pub(crate) fn outcome(&self) -> Outcome {
        let nanos = (self.duration - self.warmup).as_nanos() as u64;
        Outcome::Sender { bytes: self.bytes, nanos, latency: self.times.counts() }
    }
}

/// Bounds a wait that spins: an error instead of a hang when what is waited for never comes.
pub(crate) struct Patience {
    what: &'static str,
    spins: u32,
    since: Option<Instant>,
}

impl Patience {
    /// How long anything may take that normally takes microseconds. TCP that loses packets may well take seconds.
    const LIMIT: Duration = Duration::from_secs(10);

    /// Starts waiting for `what`, a noun phrase for the error message.
    #[inline]
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, spins: 0, since: None }
    }

    /// To be called at every turn. Looks at the clock only now and then.
    #[inline]
    pub(crate) fn spin(&mut self) -> Result<(), PeerError> {
        self.spins = self.spins.wrapping_add(1);
        if self.spins.is_multiple_of(1 << 14) { self.look_at_clock() } else { Ok(()) }
    }

    #[cold]
    fn look_at_clock(&mut self) -> Result<(), PeerError> {
        if self.since.get_or_insert_with(Instant::now).elapsed() < Self::LIMIT {
            return Ok(());
        }
        Err(format!("waited {} s for {} in vain", Self::LIMIT.as_secs(), self.what).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(samples: u64, millis: u64) -> Spec {
        Spec { bench: Bench::Bw, mtu: 1500, size: 100, samples, millis, ..Spec::default() }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = PEERS.iter().map(|p| p.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
    }

    #[test]
    fn only_samples_after_the_warm_up_count() {
        let spec = spec(50, 0);
        let mut calls = 0;
        let outcome = RoundTrips::new(&spec)
            .measure(|| {
                calls += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(calls, 250);
        let Outcome::Latency(counts) = outcome else { panic!("not a latency") };
        assert_eq!(counts.iter().map(|c| c.1).sum::<u64>(), 50);
    }

    #[test]
    fn a_meter_counts_from_the_end_of_the_warm_up_to_the_last_arrival() {
        let mut meter = Meter::new(&spec(0, 100));
        let start = Instant::now();
        for ms in 0..=100 {
            meter.add_at(200, start + Duration::from_millis(ms));
        }
        let outcome = meter.outcome().unwrap();
        assert_eq!(outcome, Outcome::Stream { messages: 180.0, bytes: 18_000, nanos: 90_000_000 });
    }

    #[test]
    fn a_sender_counts_what_is_acknowledged_between_warm_up_and_end() {
        let mut meter = SendMeter::start(&spec(0, 100));
        let start = meter.start;
        for ms in [5, 20, 99, 100] {
            meter.add_at(start + Duration::from_millis(ms - 3), 7, start + Duration::from_millis(ms));
        }
        let Outcome::Sender { bytes: 14, nanos: 90_000_000, latency } = meter.outcome() else {
            panic!("not two of four")
        };
        assert!(latency.iter().all(|(nanos, _)| nanos.abs_diff(3_000_000) < 3_000), "{latency:?}");
    }

    #[test]
    fn a_stream_that_did_not_arrive_is_an_error() {
        let mut meter = Meter::new(&spec(0, 100));
        assert!(meter.outcome().unwrap_err().to_string().contains("none of it arrived"));
        meter.add(1);
        assert!(meter.outcome().unwrap_err().to_string().contains("warm-up"));
        meter.lossy = true;
        assert!(matches!(meter.outcome(), Ok(Outcome::Stream { bytes: 0, .. })));
    }
}
