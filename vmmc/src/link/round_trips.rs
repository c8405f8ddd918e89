//! How long all round trips of a link have taken: for people to look at, where [`Rtt`](super::Rtt) is for the protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::time::nanos;

/// Spans that differ by less than this, ns, may be counted as one.
const FINEST: u64 = 128;

/// The longest that is counted as what it is, ns: 10 s.
const LONGEST: u64 = 10_000_000_000;

/// All of them, to two digits. It takes no memory before the first, then 1 KiB for those up to 32 us, and half a KiB more each time that the longest
/// doubles.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoundTripTimes {
    /// The latest: so few that none of its small counters overflows.
    latest: Option<Box<Histogram<u32>>>,
    /// Those before, as (nanoseconds, how many), in ascending order: empty for hours or days.
    before: Vec<(u64, u64)>,
}

impl RoundTripTimes {
    pub(crate) fn add(&mut self, rtt: Duration) {
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).min(LONGEST);
        if self.latest.is_none() {
            self.latest = begin();
        }
        if let Some(histogram) = &mut self.latest {
            // It grows as it must, so that this can't fail.
            let _ = histogram.record(nanos);
            if histogram.len() == u64::from(u32::MAX) {
                self.put_by();
            }
        }
    }

    /// How many took how many nanoseconds, in ascending order.
    fn counts(&self) -> Vec<(u64, u64)> {
        let latest = self.latest.iter().flat_map(|histogram| histogram.iter_recorded());
        let latest = latest.map(|v| (v.value_iterated_to(), v.count_since_last_iteration()));
        if self.before.is_empty() {
            return latest.collect();
        }
        let mut all: BTreeMap<u64, u64> = self.before.iter().copied().collect();
        latest.for_each(|(nanos, n)| *all.entry(nanos).or_default() += n);
        all.into_iter().collect()
    }

    /// Begins anew with the small counters.
    #[cold]
    fn put_by(&mut self) {
        self.before = self.counts();
        self.latest = begin();
    }

    /// What they were, percentiles and all. Takes microseconds.
    pub(crate) fn sum_up(&self) -> RoundTrips {
        RoundTrips::of(self.counts())
    }
}

#[cold]
fn begin() -> Option<Box<Histogram<u32>>> {
    let mut histogram = Histogram::new_with_bounds(FINEST, 2 * FINEST, 2).ok()?;
    histogram.auto(true);
    Some(Box::new(histogram))
}

/// How long round trips took: a packet's way to the peer and its acknowledgement's way back, without the time the peer took to say so. In steps of
/// 128 ns, or 1% of themselves. All zero when there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// How many were measured.
    pub count: u64,
    /// The shortest.
    #[serde(rename = "min_ns", with = "nanos")]
    pub min: Duration,
    /// Half of them took at most this.
    #[serde(rename = "p50_ns", with = "nanos")]
    pub p50: Duration,
    /// 90% of them took at most this.
    #[serde(rename = "p90_ns", with = "nanos")]
    pub p90: Duration,
    /// 99% of them took at most this.
    #[serde(rename = "p99_ns", with = "nanos")]
    pub p99: Duration,
    /// 99.9% of them took at most this.
    #[serde(rename = "p999_ns", with = "nanos")]
    pub p999: Duration,
    /// The longest; those over 10 s count as 10 s.
    #[serde(rename = "max_ns", with = "nanos")]
    pub max: Duration,
    /// How many took how many nanoseconds, in ascending order. Left out of answers to requests that don't ask for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<(u64, u64)>,
}

impl RoundTrips {
    /// Sums up so many of each length, in ascending order.
    pub fn of(counts: Vec<(u64, u64)>) -> RoundTrips {
        let count = counts.iter().map(|(_, n)| n).sum();
        let edge = |place: Option<&(u64, u64)>| Duration::from_nanos(place.map_or(0, |(nanos, _)| *nanos));
        let within = |share: f64| {
            let (wanted, mut seen) = ((count as f64 * share).ceil().max(1.0) as u64, 0);
            edge(counts.iter().find(|(_, n)| {
                seen += n;
                seen >= wanted
            }))
        };
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(within);
        RoundTrips { count, min: edge(counts.first()), p50, p90, p99, p999, max: edge(counts.last()), counts }
    }

    /// Those that have been added since `earlier`, of which these must be the continuation. Both need their `counts`.
    pub fn since(&self, earlier: &RoundTrips) -> RoundTrips {
        let before =
            |nanos: u64| earlier.counts.binary_search_by_key(&nanos, |c| c.0).map_or(0, |i| earlier.counts[i].1);
        let new = self.counts.iter().map(|&(nanos, n)| (nanos, n.saturating_sub(before(nanos))));
        RoundTrips::of(new.filter(|(_, n)| *n > 0).collect())
    }

    /// How many took at most this long, to the precision of `counts`.
    pub fn within(&self, span: Duration) -> u64 {
        self.counts.iter().take_while(|(nanos, _)| Duration::from_nanos(*nanos) <= span).map(|(_, n)| n).sum()
    }

    /// How long they took, all together, to the precision of `counts`.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.counts.iter().map(|(nanos, n)| nanos.saturating_mul(*n)).fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(micros: impl Iterator<Item = u64>) -> RoundTripTimes {
        let mut times = RoundTripTimes::default();
        micros.for_each(|n| times.add(Duration::from_micros(n)));
        times
    }

    fn near(a: Duration, micros: u64) -> bool {
        let (a, b) = (a.as_nanos() as u64, micros * 1000);
        a.abs_diff(b) <= FINEST + b / 100
    }

    #[test]
    fn percentiles_are_what_they_say() {
        let sum = recorded(1..=1000).sum_up();
        assert_eq!(sum.count, 1000);
        let percentiles =
            [(sum.min, 1), (sum.p50, 500), (sum.p90, 900), (sum.p99, 990), (sum.p999, 999), (sum.max, 1000)];
        for (at, expected) in percentiles {
            assert!(near(at, expected), "{at:?} {expected}");
        }
        let half = sum.within(Duration::from_micros(500));
        assert!(half.abs_diff(500) <= 5, "{half}");
        assert!(near(sum.total() / 1000, 501), "{:?}", sum.total());
    }

    #[test]
    fn nothing_and_anything_can_be_summed_up() {
        assert_eq!(RoundTripTimes::default().sum_up(), RoundTrips::default());
        let mut times = RoundTripTimes::default();
        times.add(Duration::ZERO);
        times.add(Duration::MAX);
        let sum = times.sum_up();
        assert_eq!((sum.count, sum.min < Duration::from_micros(1)), (2, true));
        assert!(near(sum.max, 10_000_000), "{:?}", sum.max);
    }

    #[test]
    fn the_latest_can_be_told_from_those_before() {
        let before = recorded(1..=100).sum_up();
        let after = recorded((1..=100).chain((0..50).map(|_| 7000))).sum_up();
        let new = after.since(&before);
        assert_eq!((new.count, new.min), (50, new.max));
        assert!(near(new.p50, 7000), "{:?}", new.p50);
        assert_eq!(after.since(&after), RoundTrips::default());
    }

    #[test]
    fn more_than_small_counters_hold_are_counted() {
        let mut times = recorded([5, 7].into_iter());
        let most = u64::from(u32::MAX);
        let add = |times: &mut RoundTripTimes, n: u64| {
            times.latest.as_mut().unwrap().record_n(5_000, (n - 1) as u32).unwrap();
            times.add(Duration::from_micros(5));
        };
        add(&mut times, most - 2);
        let first = times.sum_up();
        assert_eq!((first.count, times.latest.as_ref().unwrap().len()), (most, 0));
        times.add(Duration::from_micros(9));
        add(&mut times, most - 1);
        add(&mut times, 3);
        let sum = times.sum_up();
        assert_eq!((sum.count, sum.counts.len()), (2 * most + 3, 3));
        assert!(sum.counts.is_sorted() && near(sum.p50, 5) && near(sum.max, 9), "{sum:?}");
        assert_eq!(sum.since(&first).count, most + 3);
    }

    #[test]
    fn an_idle_link_s_are_small() {
        let size = |times: &RoundTripTimes| times.latest.as_ref().map_or(0, |h| h.distinct_values() * 4);
        assert_eq!(size(&RoundTripTimes::default()), 0);
        assert!(size(&recorded(1..30)) <= 1024);
        assert!(size(&recorded(1..250)) <= 3 * 1024);
        assert!(size(&recorded([9_999_999].into_iter())) <= 12 * 1024);
    }
}
