//! Frames that don't exist: what a UTLB pins to when nothing but its decisions is wanted.
//!
//! They are given out as an allocator would: the shortest free stretch that is long enough, or else the longest. So runs of pages
//! are split where evictions have left holes, as they are in an arena.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use vmmc::memory::MemoryError;
use vmmc::memory::utlb::Pager;

use super::oracle::Clock;

/// Free frames, and who has the others.
pub(crate) struct Frames {
    /// First frame and length of each free stretch.
    free: BTreeMap<u32, u32>,
    clock: Arc<Clock>,
}

impl Frames {
    /// So many, as many as the clock has heard of.
    pub(crate) fn new(count: u32, clock: Arc<Clock>) -> Frames {
        Frames { free: if count > 0 { BTreeMap::from([(0, count)]) } else { BTreeMap::new() }, clock }
    }
}

impl Pager for Frames {
    fn take(&mut self, most: usize) -> Option<Range<u32>> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let long = self.free.iter().filter(|(_, len)| **len >= most).min_by_key(|(_, len)| **len);
        let (&first, &len) = long.or_else(|| self.free.iter().max_by_key(|(_, len)| **len))?;
        let taken = len.min(most);
        self.free.remove(&first);
        if taken < len {
            self.free.insert(first + taken, len - taken);
        }
        Some(first..first + taken)
    }

    fn give(&mut self, frames: Range<u32>) {
        let (mut first, mut end) = (frames.start, frames.end);
        if let Some((&before, &len)) = self.free.range(..first).next_back().filter(|(at, len)| **at + **len == first) {
            self.free.remove(&before);
            first -= len;
        }
        if let Some(len) = self.free.remove(&end) {
            end += len;
        }
        self.free.insert(first, end - first);
    }

    fn pin(&mut self, pages: Range<u64>, frames: Range<u32>) -> Result<(), MemoryError> {
        pages.zip(frames).for_each(|(page, frame)| self.clock.pinned(page as u32, frame));
        Ok(())
    }

    fn unpin(&mut self, _: Range<u64>) -> Result<(), MemoryError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fit_is_taken_and_neighbours_unite() {
        let mut frames = Frames::new(10, Arc::new(Clock::new(10)));
        assert_eq!(frames.take(4), Some(0..4));
        assert_eq!(frames.take(2), Some(4..6));
        assert_eq!(frames.take(1), Some(6..7));
        frames.give(4..6);
        // Not from the three at the end.
        assert_eq!(frames.take(2), Some(4..6));
        frames.give(4..6);
        assert_eq!((frames.take(9), frames.take(9), frames.take(1)), (Some(7..10), Some(4..6), None));
        for frame in [3, 1, 2, 0] {
            frames.give(frame..frame + 1);
        }
        assert_eq!(frames.take(9), Some(0..4));
    }
}
