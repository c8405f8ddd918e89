//! Free runs of units: which are free, by address and by length.
//!
//! Best fit: the shortest run that is long enough is cut, at its low end, and of several the lowest. What comes back is joined to its
//! neighbours at once, so two free runs are never adjacent, and the longest of them is the longest there could be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The free runs among a number of units.
#[derive(Debug)]
pub(super) struct Runs {
    /// Start -> length.
    by_start: BTreeMap<usize, usize>,
    /// (length, start), of the same runs.
    by_length: BTreeSet<(usize, usize)>,
    /// Units in all of them.
    free: usize,
}

impl Runs {
    /// `units` of them, all free.
    pub(super) fn new(units: usize) -> Runs {
        let mut runs = Runs { by_start: BTreeMap::new(), by_length: BTreeSet::new(), free: 0 };
        runs.give(0..units);
        runs
    }

    /// How many units are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Takes `len` units, 1 or more, such that the one after the first `front` of them is a multiple of `align`.
    pub(super) fn take(&mut self, len: usize, align: usize, front: usize) -> Option<Range<usize>> {
        let mut fitting = self.by_length.range((len, 0)..);
        let (start, length, at) = fitting.find_map(|&(length, start)| {
            let at = aligned(start, align, front);
            (at + len <= start + length).then_some((start, length, at))
        })?;
        self.remove(start, length);
        self.insert(start, at - start);
        self.insert(at + len, start + length - (at + len));
        Some(at..at + len)
    }

    /// Takes a run of `want` units, or else the longest there is. It begins and ends at multiples of `align`, as `want` must.
    pub(super) fn take_some(&mut self, want: usize, align: usize) -> Option<Range<usize>> {
        if let Some(run) = self.take(want, align, 0) {
            return Some(run);
        }
        let longest = self.longest(align, 0) / align * align;
        if longest == 0 { None } else { self.take(longest, align, 0) }
    }

    /// The longest run that [`Runs::take`] could give, units.
    pub(super) fn longest(&self, align: usize, front: usize) -> usize {
        let mut longest = 0;
        for &(length, start) in self.by_length.iter().rev() {
            if length <= longest {
                break;
            }
            longest = longest.max((start + length).saturating_sub(aligned(start, align, front)));
        }
        longest
    }

    /// Takes units back, which must have been taken.
    pub(super) fn give(&mut self, run: Range<usize>) {
        let (mut start, mut length) = (run.start, run.len());
        if let Some((&before, &len)) = self.by_start.range(..start).next_back() {
            debug_assert!(before + len <= start, "units {run:?} come back and are free");
            if before + len == start {
                self.remove(before, len);
                start = before;
                length += len;
            }
        }
        if let Some((&after, &len)) = self.by_start.range(start..).next() {
            debug_assert!(run.end <= after, "units {run:?} come back and are free");
            if after == run.end {
                self.remove(after, len);
                length += len;
            }
        }
        self.insert(start, length);
    }

    fn insert(&mut self, start: usize, length: usize) {
        if length > 0 {
            self.by_start.insert(start, length);
            self.by_length.insert((length, start));
            self.free += length;
        }
    }

    fn remove(&mut self, start: usize, length: usize) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
        self.free -= length;
    }
}

/// The first place from `start` on that is `front` units short of a multiple of `align`.
fn aligned(start: usize, align: usize, front: usize) -> usize {
    (start + front).next_multiple_of(align) - front
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units 0 to 99, of which 10 to 14, 20 to 27 and 90 to 99 are free.
    fn some() -> Runs {
        let mut runs = Runs::new(100);
        assert_eq!(runs.take(100, 1, 0), Some(0..100));
        for run in [10..15, 20..28, 90..100] {
            runs.give(run);
        }
        assert_eq!(runs.free(), 23);
        runs
    }

    #[test]
    fn the_shortest_that_is_long_enough_is_cut() {
        let mut runs = some();
        assert_eq!(runs.take(6, 1, 0), Some(20..26));
        assert_eq!(runs.take(2, 1, 0), Some(26..28));
        assert_eq!(runs.take(6, 1, 0), Some(90..96));
        assert_eq!(runs.take(6, 1, 0), None);
        assert_eq!(runs.longest(1, 0), 5);
    }

    #[test]
    fn what_comes_back_joins_its_neighbours() {
        let mut runs = some();
        runs.give(15..20);
        assert_eq!(runs.longest(1, 0), 18);
        runs.give(0..4);
        runs.give(4..10);
        runs.give(40..90);
        runs.give(28..40);
        assert_eq!((runs.longest(1, 0), runs.free()), (100, 100));
    }

    #[test]
    fn alignment_counts_from_behind_the_front() {
        let mut runs = some();
        assert_eq!(runs.longest(8, 1), 5); // 23 to 27: 24 is a multiple of 8
        assert_eq!(runs.longest(8, 0), 4);
        assert_eq!(runs.take(5, 8, 1), Some(23..28));
        assert_eq!(runs.take(2, 8, 1), Some(95..97));
        assert_eq!(runs.take(1, 64, 0), None);
    }

    #[test]
    fn less_than_was_wanted_is_the_longest_there_is() {
        let mut runs = some();
        assert_eq!(runs.take_some(3, 1), Some(10..13));
        assert_eq!(runs.take_some(50, 1), Some(90..100));
        assert_eq!(runs.take_some(8, 4), Some(20..28));
        assert_eq!(runs.take_some(4, 4), None);
        assert_eq!(runs.take_some(4, 1), Some(13..15));
        assert_eq!(runs.take_some(1, 1), None);
    }
}
