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

    /// Whether this is the one in office.
    pub(super) fn is_in_office(&self, number: u64) -> bool {
        self.present.load(Ordering::SeqCst) == number
    }

    /// It begins a turn.
    pub(super) fn enter(&self, waker: &Waker) {
        let mut place = lock(&self.waker);
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
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
