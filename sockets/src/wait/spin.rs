//! How long to spin before sleeping: as long as it has paid lately.
//!
//! Sleeping costs a system call, a wakeup and a cold core: as much time as spinning for a few tens of microseconds. So a wait that is going to end within that time is
//! better spun through, and one that isn't had better sleep at once. Which it will be the last ones tell: the paper's authors showed that spin, then
//! block comes close to the better of the two; this remembers which of the two it was.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What spinning may cost at the most: about what sleeping costs.
const WORTH: Duration = Duration::from_micros(50);

/// The score of a wait that spinning would have covered, in the running mean.
const FULL: u32 = 1 << 16;

/// Spinning pays when more than one wait in eight ends within [`WORTH`].
const ENOUGH: u32 = FULL / 8;

/// Of one who waits again and again for the same thing.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Running mean over the last waits, [`FULL`] for each that was short.
    score: AtomicU32,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        Spin { score: AtomicU32::new(FULL / 2) }
    }

    /// How long to spin now, if `most` was configured.
    pub(crate) fn allowance(&self, most: Option<Duration>) -> Duration {
        match most {
            Some(most) => most,
            None if self.score.load(Ordering::Relaxed) >= ENOUGH => WORTH,
            None => Duration::ZERO,
        }
    }

    /// Whether waits have been short lately: whoever waits here is likely to be back soon.
    pub(crate) fn is_hot(&self) -> bool {
        self.score.load(Ordering::Relaxed) >= ENOUGH
    }

    /// A wait is over.
    pub(crate) fn learn(&self, short: bool) {
        let score = self.score.load(Ordering::Relaxed);
        let new = score - score / 16 + if short { FULL / 16 } else { 0 };
        // Two threads at once may lose one of two samples: no matter.
        self.score.store(new.min(FULL), Ordering::Relaxed);
    }

    /// Whether a wait that ended after `waited` in sleep would have been over while spinning. Waking up takes a while itself.
    pub(crate) fn is_short(waited: Duration) -> bool {
        waited < 2 * WORTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_pays() {
        let spin = Spin::new();
        assert_eq!(spin.allowance(None), WORTH);
        (0..100).for_each(|_| spin.learn(false));
        assert_eq!(spin.allowance(None), Duration::ZERO);
        assert_eq!(spin.allowance(Some(Duration::MAX)), Duration::MAX);
        // A few short ones, and it is worth a try again.
        (0..3).for_each(|_| spin.learn(true));
        assert_eq!(spin.allowance(None), WORTH);
        // Nothing overflows, nothing sticks.
        (0..10_000).for_each(|_| spin.learn(true));
        assert!(spin.score.load(Ordering::Relaxed) <= FULL);
        (0..100).for_each(|_| spin.learn(false));
        assert_eq!(spin.allowance(None), Duration::ZERO);
    }
}
