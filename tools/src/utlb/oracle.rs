//! Belady's optimum: the page goes that will not be used for the longest time.
//!
//! Nobody can know that but a simulator, which has the whole trace. It is a [`Policy`] as the others are, so that the same UTLB
//! runs it, and differs in that it looks into the [`Future`]. A policy is told of frames only; which page is in a frame, and how
//! far the trace has come, it reads from a [`Clock`] that the simulator sets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmmc::memory::utlb::Policy;

/// When each page is sent: the indices of the sends, in ascending order.
pub(crate) struct Future {
    /// Where a page's part of `times` begins; that of the next one is its end.
    starts: Vec<u32>,
    times: Vec<u32>,
}

/// Later than all sends.
const NEVER: u32 = u32::MAX;

impl Future {
    /// Of these sends, whose pages are all below `end`.
    pub(crate) fn new(sends: &[(u32, u32)], end: u32) -> Future {
        let mut starts = vec![0; end as usize + 1];
        for &(page, count) in sends {
            starts[page as usize + 1..(page + count) as usize + 1].iter_mut().for_each(|start| *start += 1);
        }
        for page in 1..starts.len() {
            starts[page] += starts[page - 1];
        }
        let mut times = vec![0; starts[end as usize] as usize];
        let mut next = starts.clone();
        for (time, &(page, count)) in sends.iter().enumerate() {
            for page in page..page + count {
                times[next[page as usize] as usize] = time as u32;
                next[page as usize] += 1;
            }
        }
        Future { starts, times }
    }
}

/// Where a simulation is: which send it has come to, and which page is in which frame. Set by one part of one thread, read by another.
pub(crate) struct Clock {
    now: AtomicU32,
    pages: Box<[AtomicU32]>,
}

impl Clock {
    /// For so many frames.
    pub(crate) fn new(frames: u32) -> Clock {
        Clock { now: AtomicU32::new(0), pages: (0..frames).map(|_| AtomicU32::new(0)).collect() }
    }

    /// The send of this index is next.
    pub(crate) fn set(&self, now: u32) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// A page has been pinned to a frame.
    pub(crate) fn pinned(&self, page: u32, frame: u32) {
        self.pages[frame as usize].store(page, Ordering::Relaxed);
    }
}

/// What the oracle knows of a frame.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// When its page is sent next.
    next: u32,
    pinned: bool,
    /// Set aside by a search: not in the order.
    aside: bool,
}

/// The optimum.
pub(crate) struct Oracle {
    future: Arc<Future>,
    clock: Arc<Clock>,
    /// How much of each page's times is past.
    past: Vec<u32>,
    slots: Vec<Slot>,
    /// Next use and frame of those that may go.
    order: BTreeSet<(u32, u32)>,
}

impl Oracle {
    /// With nothing pinned.
    pub(crate) fn new(future: Arc<Future>, clock: Arc<Clock>) -> Oracle {
        let (past, slots) = (future.starts.clone(), vec![Slot::default(); clock.pages.len()]);
        Oracle { future, clock, past, slots, order: BTreeSet::new() }
    }

    /// When the frame's page will be sent, this send not counted.
    fn next(&mut self, frame: u32) -> u32 {
        let now = self.clock.now.load(Ordering::Relaxed);
        let page = self.clock.pages[frame as usize].load(Ordering::Relaxed) as usize;
        let end = self.future.starts[page + 1];
        let past = &mut self.past[page];
        while *past < end && self.future.times[*past as usize] <= now {
            *past += 1;
        }
        if *past < end { self.future.times[*past as usize] } else { NEVER }
    }
}

impl Policy for Oracle {
    fn pinned(&mut self, frame: u32) {
        let next = self.next(frame);
        self.slots[frame as usize] = Slot { next, pinned: true, aside: false };
        self.order.insert((next, frame));
    }

    fn used(&mut self, frame: u32) {
        let next = self.next(frame);
        let slot = &mut self.slots[frame as usize];
        let old = std::mem::replace(&mut slot.next, next);
        if !slot.aside {
            self.order.remove(&(old, frame));
            self.order.insert((next, frame));
        }
    }

    fn unpinned(&mut self, frame: u32) {
        let slot = std::mem::take(&mut self.slots[frame as usize]);
        self.order.remove(&(slot.next, frame));
    }

    fn victim(&mut self, movable: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        while let Some(&(next, frame)) = self.order.last() {
            if movable(frame) {
                return Some(frame);
            }
            self.order.remove(&(next, frame));
            self.slots[frame as usize].aside = true;
        }
        None
    }

    fn movable_again(&mut self, frame: u32) {
        let slot = &mut self.slots[frame as usize];
        if slot.pinned && slot.aside {
            slot.aside = false;
            self.order.insert((slot.next, frame));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_is_what_will_come() {
        let sends = [(0, 1), (1, 2), (0, 3), (2, 1)];
        let future = Future::new(&sends, 4);
        assert_eq!(future.starts, [0, 2, 4, 7, 7]);
        assert_eq!(future.times, [0, 2, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn who_is_used_last_goes_first_unless_he_must_stay() {
        let sends = [(0, 1), (1, 1), (2, 1), (1, 1), (0, 1), (1, 1)];
        let clock = Arc::new(Clock::new(3));
        let mut oracle = Oracle::new(Arc::new(Future::new(&sends, 3)), clock.clone());
        // The page is another than the frame.
        for (time, (page, frame)) in [(0, 2), (1, 1), (2, 0)].into_iter().enumerate() {
            clock.set(time as u32);
            clock.pinned(page, frame);
            oracle.pinned(frame);
        }
        // Page 2 never again, page 0 at 4, page 1 at 3.
        assert_eq!(oracle.victim(&mut |_| true), Some(0));
        assert_eq!(oracle.victim(&mut |frame| frame != 0), Some(2));
        oracle.movable_again(0);
        assert_eq!(oracle.victim(&mut |_| true), Some(0));
        oracle.unpinned(0);
        clock.set(3);
        oracle.used(1);
        assert_eq!(oracle.victim(&mut |_| true), Some(1), "page 1 at 5, page 0 at 4");
        assert_eq!(oracle.victim(&mut |_| false), None);
    }
}
