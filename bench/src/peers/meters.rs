//! What peers count and time with, so that all of them mean the same: round trips, streams, senders of an incast, processor time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use vmmc_histogram::Durations;

use super::PeerError;
use crate::spec::{Outcome, Spec};

/// The client's record of a ping-pong.
pub(crate) struct RoundTrips {
    times: Durations,
    warmup: (u64, Duration),
    measured: (u64, Duration),
    /// Into how many ways each is divided.
    ways: u32,
}

impl RoundTrips {
    /// An empty record.
    pub(crate) fn new(spec: &Spec) -> Self {
        Self {
            times: Durations::new(),
            warmup: (spec.warmup_samples(), spec.warmup()),
            measured: (spec.samples, spec.duration() - spec.warmup()),
            ways: 2,
        }
    }

    /// Has the whole of each round trip recorded.
    pub(crate) fn whole(self) -> Self {
        Self { ways: 1, ..self }
    }

    /// Makes all round trips of the warm-up and of the measurement by calling `round_trip`, and times them. Each of the two
    /// ends after so many round trips or so much time, whichever comes first.
    pub(crate) fn measure(
        mut self,
        mut round_trip: impl FnMut() -> Result<(), PeerError>,
    ) -> Result<Outcome, PeerError> {
        let begin = Instant::now();
        for _ in 0..self.warmup.0 {
            round_trip()?;
            if begin.elapsed() >= self.warmup.1 {
                break;
            }
        }
        let begin = Instant::now();
        for _ in 0..self.measured.0 {
            let start = Instant::now();
            round_trip()?;
            let end = Instant::now();
            self.times.record((end - start) / self.ways);
            if end - begin >= self.measured.1 {
                break;
            }
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
        if self.first.is_none() {
            return Err("the stream was sent, but none of it arrived".into());
        }
        let counted = self.counting.zip(self.last).map_or(Duration::ZERO, |(from, to)| to.duration_since(from));
        // What comes in a moment after a receiver has been kept from looking has been waiting in a ring: that is no rate. Where
        // packets are lost, a stream that stalls for as long as it lasts is a result.
        if self.lossy && counted.is_zero() {
            return Ok(Outcome::Stream { messages: 0.0, bytes: 0, nanos: self.duration.as_nanos() as u64 });
        }
        if !self.lossy && counted < (self.duration - self.warmup) / 2 {
            return Ok(Outcome::TooShort);
        }
        Ok(Outcome::Stream {
            messages: self.bytes as f64 / self.size as f64,
            bytes: self.bytes,
            nanos: counted.as_nanos() as u64,
        })
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

/// What this process has used so far, user and system.
pub(crate) fn processor_time() -> Duration {
    used(ClockId::ProcessCPUTime)
}

/// What this thread has used so far, user and system.
pub(crate) fn thread_time() -> Duration {
    used(ClockId::ThreadCPUTime)
}

fn used(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Bench;

    fn spec(samples: u64, millis: u64) -> Spec {
        Spec { bench: Bench::Bw, mtu: 1500, size: 100, samples, millis, ..Spec::default() }
    }

    #[test]
    fn only_samples_after_the_warm_up_count() {
        let spec = spec(50, 60_000);
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
    fn round_trips_end_when_the_time_is_over() {
        let nap = || {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        };
        let Outcome::Latency(counts) = RoundTrips::new(&spec(u64::MAX, 20)).measure(nap).unwrap() else {
            panic!("not a latency")
        };
        assert!((1..=9).contains(&counts.iter().map(|c| c.1).sum::<u64>()), "{counts:?}");
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
    fn what_comes_all_at_once_is_no_rate() {
        let mut meter = Meter::new(&spec(0, 100));
        let start = Instant::now();
        for ms in [0, 90, 91, 92] {
            meter.add_at(200, start + Duration::from_millis(ms));
        }
        assert_eq!(meter.outcome().unwrap(), Outcome::TooShort);
        meter.lossy = true;
        assert!(matches!(meter.outcome(), Ok(Outcome::Stream { bytes: 400, .. })));
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
        assert_eq!(meter.outcome().unwrap(), Outcome::TooShort);
        meter.lossy = true;
        assert!(matches!(meter.outcome(), Ok(Outcome::Stream { bytes: 0, .. })));
    }
}
