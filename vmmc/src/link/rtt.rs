//! Round-trip time: estimated as RFC 6298 does, in nanoseconds, and turned into a retransmission timeout.

use std::time::Duration;

use super::ACK_DELAY;
use crate::time::Time;

/// The longest, backoff included.
pub const MAX_RTO: Duration = Duration::from_millis(250);

/// Timeout while nothing has been measured.
pub const INITIAL_RTO: Duration = Duration::from_millis(20);

/// Smoothed round-trip time and its variation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtt {
    smoothed: u64,
    variation: u64,
    /// The shortest of the last span or two.
    least: u64,
    least_now: u64,
    span_end: Time,
    /// Into how many quarters of a round trip later packets may overtake, beyond the first.
    patience: u32,
    /// Repetitions that were needed, since the last that wasn't.
    needed: u32,
}

/// How long the shortest round trip counts: the path may have become longer.
const LEAST_SPAN: Duration = Duration::from_secs(10);

/// How many quarters of a round trip a packet may be late at the most.
const MOST_PATIENCE: u32 = 8;

/// After how many needed repetitions patience is given up again (RFC 8985, section 6.2, does after 16 recoveries).
const CALM: u32 = 64;

impl Rtt {
    /// Takes a measurement into account.
    pub fn sample(&mut self, now: Time, rtt: Duration) {
        let rtt = (rtt.as_nanos() as u64).max(1);
        if self.smoothed == 0 {
            (self.smoothed, self.variation, self.least) = (rtt, rtt / 2, rtt);
            (self.least_now, self.span_end) = (rtt, now + LEAST_SPAN);
            return;
        }
        self.variation = (3 * self.variation + self.smoothed.abs_diff(rtt)) / 4;
        self.smoothed = (7 * self.smoothed + rtt) / 8;
        if now >= self.span_end {
            (self.least, self.least_now, self.span_end) = (self.least_now, rtt, now + LEAST_SPAN);
        }
        self.least_now = self.least_now.min(rtt);
        self.least = self.least.min(rtt);
    }

    /// The shortest measured lately; zero before the first measurement.
    pub fn least(&self) -> Duration {
        Duration::from_nanos(self.least)
    }

    /// A packet that was sent again has been acknowledged, so long after its repetition. Returns whether that can be the
    /// repetition's round trip. If it is sooner than anything could be, the acknowledgement is of its first sending: it was late,
    /// not lost, and more patience is needed.
    pub fn repeated(&mut self, after: Duration) -> bool {
        let needed = after.as_nanos() as u64 >= self.least;
        if !needed {
            (self.patience, self.needed) = ((self.patience + 1).min(MOST_PATIENCE - 1), 0);
        } else {
            self.needed += 1;
            if self.needed >= CALM {
                (self.patience, self.needed) = (0, 0);
            }
        }
        needed
    }

    /// The smoothed round-trip time; `None` before the first measurement.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.smoothed > 0).then(|| Duration::from_nanos(self.smoothed))
    }

    /// How long to wait for an acknowledgement after `backoff` timeouts in a row. What is repeated then is one packet, so the
    /// first timeouts may be short (as RFC 8985's probes are): where the last packets of many are lost they are what finds out,
    /// and where a peer merely wasn't running they cost little.
    pub fn timeout(&self, backoff: u32) -> Duration {
        let base = match self.smoothed {
            0 => INITIAL_RTO,
            smoothed => 2 * Duration::from_nanos(smoothed + 4 * self.variation) + ACK_DELAY,
        };
        base.saturating_mul(1 << backoff.min(16)).min(MAX_RTO)
    }

    /// How long after it was sent a packet that others have overtaken counts as lost, even if none was sent so much later.
    pub fn straggling(&self) -> Duration {
        Duration::from_nanos(self.smoothed + 4 * self.variation) + self.reordering()
    }

    /// How much later than its successors a packet may arrive before it counts as lost.
    pub fn reordering(&self) -> Duration {
        Duration::from_nanos(self.smoothed / 4 * u64::from(1 + self.patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_converges_and_backs_off() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), INITIAL_RTO);
        for _ in 0..100 {
            rtt.sample(Time::ZERO, Duration::from_millis(10));
        }
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(10)));
        assert_eq!(rtt.timeout(0), Duration::from_millis(20) + ACK_DELAY);
        assert_eq!(rtt.timeout(1), 2 * rtt.timeout(0));
        assert_eq!(rtt.timeout(60), MAX_RTO);
        rtt.sample(Time::ZERO, Duration::ZERO);
        assert!(rtt.smoothed() < Some(Duration::from_millis(10)));
    }
    #[test]
    fn a_path_that_has_become_longer_is_noticed() {
        let mut rtt = Rtt::default();
        rtt.sample(Time::ZERO, Duration::from_micros(20));
        for second in 1..30 {
            rtt.sample(Time::ZERO + Duration::from_secs(second), Duration::from_millis(1));
        }
        assert_eq!(rtt.least(), Duration::from_millis(1));
    }
}
