//! A task that leads, among the tasks of the runtime that wait.
//!
//! When what has come concerns several tasks, the thread that stands by wakes them and then this one, and leaves the lead to it: the runtime's
//! own threads are at work now, and whoever has to be woken would come too late.
//!
//! ```text
//!   standing by:  sleeps ... packets: wakes A, B, C and the driver     (stands back)            sleeps ...
//!   the runtime:                      A   B   C   driver   D   E   driver   A   driver: nothing
//!                                     |   |   |     |      |   |     |
//!                                    writes wait,  leave, and more has come
//! ```
//!
//! It takes its turn behind those that it has woken. So what they write leaves together, by one system call, and costs no latency: nobody who is
//! through with his part had better make that call while others haven't begun with theirs. When a turn has found nothing it rests, and what is
//! written leaves at once.
//!
//! A runtime that doesn't run its tasks holds up nobody: the thread that stands by sees that nobody leads, does, and dismisses the driver. The next
//! task that waits brings one from its own runtime.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use super::Cork;
use super::watch::lock;

/// What everybody knows of the driver.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    /// The number of the one that is in office; 0 for none.
    present: AtomicU64,
    /// How many there have been.
    #[cfg(feature = "tokio")]
    count: AtomicU64,
    /// It is going to take a turn.
    due: AtomicBool,
    /// Something was written that waits for that.
    corked: AtomicBool,
    /// By which it is woken, once it has had its first turn.
    waker: Mutex<Option<Waker>>,
}

impl Driver {
    /// Whether there is one.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_present(&self) -> bool {
        self.present.load(Ordering::SeqCst) != 0
    }

    /// The number of a new one, if there is none.
    #[cfg(feature = "tokio")]
    pub(crate) fn appoint(&self) -> Option<u64> {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.present.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst).is_ok().then_some(number)
    }

    /// The one of this number begins a turn. Returns whether it is in office.
    #[cfg(feature = "tokio")]
    pub(super) fn enter(&self, number: u64, waker: &Waker) -> bool {
        let mut place = lock(&self.waker);
        // With the lock: whoever dismisses it takes the waker after that, and finds this one, or none is left here.
        if self.present.load(Ordering::SeqCst) != number {
            return false;
        }
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
        true
    }

    /// Has it take a turn. Returns whether it will, and wouldn't have.
    pub(super) fn summon(&self) -> bool {
        let Some(waker) = lock(&self.waker).clone() else { return false };
        let news = !self.due.swap(true, Ordering::SeqCst);
        if news {
            waker.wake();
        }
        news
    }

    /// It takes no turn, unless it is summoned.
    pub(super) fn rest(&self) {
        self.due.store(false, Ordering::SeqCst);
    }

    /// Whether it is going to take a turn.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::SeqCst)
    }

    /// Whether something has been written since this was last asked that waits for its turn.
    #[cfg(feature = "tokio")]
    pub(super) fn take_corked(&self) -> bool {
        self.corked.swap(false, Ordering::SeqCst)
    }

    /// It is in office no longer, unless it was so already.
    pub(super) fn dismiss(&self, number: u64) {
        if self.present.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.rest();
            let waker = lock(&self.waker).take();
            // It ends when it sees that.
            waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Whoever is in office isn't any longer.
    pub(super) fn dismiss_present(&self) {
        self.dismiss(self.present.load(Ordering::SeqCst));
    }

    /// Calls `write`. What it writes waits for the driver's turn, if one is due; if it isn't any more afterwards, `leave` has to see to it.
    pub(crate) fn corked<T>(&self, write: impl FnOnce() -> T, leave: impl FnOnce()) -> T {
        if !self.is_due() {
            return write();
        }
        let before = Cork::set(true);
        let result = write();
        Cork::set(before);
        self.corked.store(true, Ordering::SeqCst);
        if !self.is_due() {
            leave();
        }
        result
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::wait::counter::Counter;

    #[test]
    fn it_is_woken_once_for_each_turn() {
        let (driver, counter) = (Driver::default(), Arc::<Counter>::default());
        // Nobody is there, or hasn't come to work yet.
        assert!(!driver.summon());
        assert_eq!(driver.appoint(), Some(1));
        assert_eq!(driver.appoint(), None);
        assert!(!driver.summon() && !driver.is_due());

        assert!(driver.enter(1, &Waker::from(counter.clone())));
        assert!(driver.summon());
        assert!(!driver.summon() && driver.is_due());
        assert_eq!(counter.count(), 1);
        driver.rest();
        assert!(driver.summon());
        assert_eq!(counter.count(), 2);
    }

    #[test]
    fn what_is_written_waits_for_a_turn_that_is_due_and_for_no_other() {
        let (driver, counter) = (Driver::default(), Arc::<Counter>::default());
        assert!(driver.appoint().is_some());
        assert!(driver.enter(1, &Waker::from(counter)));
        assert!(!driver.corked(Cork::is_in, || unreachable!("nothing waits")));
        assert!(!driver.take_corked());

        assert!(driver.summon());
        assert!(driver.corked(Cork::is_in, || unreachable!("the driver sees to it")));
        assert!(!Cork::is_in());
        assert!(driver.take_corked() && !driver.take_corked());

        // It has come to rest meanwhile: whoever wrote has to see to it himself.
        let left = AtomicUsize::new(0);
        driver.corked(|| driver.rest(), || left.store(1, Ordering::Relaxed));
        assert_eq!(left.into_inner(), 1);
    }

    #[test]
    fn one_that_was_dismissed_learns_of_it_and_has_a_successor() {
        let (driver, counters) = (Driver::default(), [Arc::<Counter>::default(), Arc::default()]);
        assert_eq!(driver.appoint(), Some(1));
        assert!(driver.enter(1, &Waker::from(counters[0].clone())));
        assert!(driver.summon());
        driver.dismiss_present();
        assert!(!driver.is_due() && !driver.summon());
        assert_eq!((counters[0].count(), Arc::strong_count(&counters[0])), (2, 1));
        // It was about to begin a turn: it isn't summoned for ever after in place of whoever comes next.
        assert!(!driver.enter(1, &Waker::from(counters[0].clone())));
        assert!(!driver.summon() && !driver.is_due());

        assert_eq!(driver.appoint(), Some(2));
        assert!(driver.enter(2, &Waker::from(counters[1].clone())));
        assert!(!driver.enter(1, &Waker::from(counters[0].clone())));
        // The first one leaves only now: that's no concern of the second.
        driver.dismiss(1);
        assert!(driver.is_present() && driver.summon());
        assert_eq!(counters.map(|counter| counter.count()), [2, 1]);
    }
}
