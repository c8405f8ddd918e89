//! Round-trip time: estimated as RFC 6298 does, in nanoseconds, and turned into a retransmission timeout.

use std::time::Duration;

/// The shortest timeout. A peer that shares its core with others may not run for that long.
pub const MIN_RTO: Duration = Duration::from_millis(4);

/// The shortest time before a probe: longer than a peer may delay an acknowledgement.
pub const MIN_PROBE: Duration = Duration::from_micros(500);

/// The longest, backoff included.
pub const MAX_RTO: Duration = Duration::from_millis(250);

/// Timeout while nothing has been measured.
pub const INITIAL_RTO: Duration = Duration::from_millis(20);

/// Smoothed round-trip time and its variation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtt {
    smoothed: u64,
    variation: u64,
    least: u64,
}

impl Rtt {
    /// Takes a measurement into account.
    pub fn sample(&mut self, rtt: Duration) {
        let rtt = (rtt.as_nanos() as u64).max(1);
        if self.smoothed == 0 {
            (self.smoothed, self.variation, self.least) = (rtt, rtt / 2, rtt);
            return;
        }
        self.variation = (3 * self.variation + self.smoothed.abs_diff(rtt)) / 4;
        self.smoothed = (7 * self.smoothed + rtt) / 8;
        self.least = self.least.min(rtt);
    }

    /// The smoothed round-trip time; `None` before the first measurement.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.smoothed > 0).then(|| Duration::from_nanos(self.smoothed))
    }

    /// How long to wait for an acknowledgement after `backoff` timeouts in a row. The first is a probe (as RFC 8985's): it
    /// costs one packet, and where the last packets of many are lost it is what finds out. Only those after it take the
    /// network for broken.
    pub fn timeout(&self, backoff: u32) -> Duration {
        let base = match self.smoothed {
            0 => INITIAL_RTO,
            smoothed => Duration::from_nanos(smoothed + 4 * self.variation),
        };
        match backoff.checked_sub(1) {
            None => (2 * base).clamp(MIN_PROBE, MAX_RTO),
            Some(more) => base.max(MIN_RTO).saturating_mul(1 << more.min(16)).min(MAX_RTO),
        }
    }

    /// How much later than its successors a packet may arrive before it counts as lost.
    pub fn reordering(&self) -> Duration {
        Duration::from_nanos(self.smoothed / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_converges_and_backs_off() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(1), INITIAL_RTO);
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(10));
        }
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(10)));
        assert!(rtt.timeout(1) >= Duration::from_millis(10) && rtt.timeout(1) < Duration::from_millis(11));
        assert_eq!(rtt.timeout(2), 2 * rtt.timeout(1));
        assert_eq!(rtt.timeout(0), 2 * rtt.timeout(1));
        assert_eq!(rtt.timeout(60), MAX_RTO);
        rtt.sample(Duration::ZERO);
        assert!(rtt.smoothed() < Some(Duration::from_millis(10)));
    }
}
