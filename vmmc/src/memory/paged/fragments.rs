//! In how many pieces a node's pinned pages are mapped.
//!
//! The system gives a process so many mappings (`vm.max_map_count`, usually 65,530) and no more: then it can neither allocate nor start threads. A run of pages
//! that is pinned to frames in a row is one mapping, and what is at home beside it another. Many pages that are sent here and there would use
//! them all up, and unpinning needs some, too. So there is a limit to runs, as there is one to frames.

use std::collections::BTreeMap;
use std::ops::Range;

/// As much as the system allows unless told otherwise.
const USUAL: usize = 65_530;

/// The runs of pages that are pinned to frames in a row.
#[derive(Debug)]
pub(super) struct Fragments {
    /// First page -> end, and how far its frame is from it.
    runs: BTreeMap<u64, (u64, u64)>,
    /// With so many runs nothing more is pinned: a quarter of all mappings. With twice as many none is cut in two by unpinning its middle.
    most: usize,
}

impl Fragments {
    /// None so far, and as many as this system has room for.
    pub(super) fn new() -> Fragments {
        let limit =
            std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
        Fragments::with(limit.unwrap_or(USUAL) / 8)
    }

    fn with(most: usize) -> Fragments {
        Fragments { runs: BTreeMap::new(), most: most.max(1) }
    }

    /// Whether no more should be pinned.
    pub(super) fn are_full(&self) -> bool {
        self.runs.len() >= self.most
    }

    /// Whether these pages, which are pinned, may be unpinned.
    pub(super) fn may_unpin(&self, pages: &Range<u64>) -> bool {
        let around = self.runs.range(..pages.start).next_back().is_some_and(|(_, &(end, _))| end > pages.end);
        !around || self.runs.len() < 2 * self.most
    }

    /// These pages are pinned to frames from `frame` on.
    pub(super) fn pinned(&mut self, pages: Range<u64>, frame: u32) {
        self.unpinned(&pages);
        let Range { mut start, mut end } = pages;
        let apart = u64::from(frame).wrapping_sub(start);
        if let Some((&before, _)) = self.runs.range(..start).next_back().filter(|(_, run)| **run == (start, apart)) {
            start = before;
        }
        if let Some(&(after, _)) = self.runs.get(&end).filter(|(_, other)| *other == apart) {
            self.runs.remove(&end);
            end = after;
        }
        self.runs.insert(start, (end, apart));
    }

    /// What is pinned of these pages is so no more.
    pub(super) fn unpinned(&mut self, pages: &Range<u64>) {
        while let Some((&start, &(end, apart))) =
            self.runs.range(..pages.end).next_back().filter(|(_, run)| run.0 > pages.start)
        {
            self.runs.remove(&start);
            if end > pages.end {
                self.runs.insert(pages.end, (end, apart));
            }
            if start < pages.start {
                self.runs.insert(start, (pages.start, apart));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_is_not_cut_when_there_are_many() {
        let mut fragments = Fragments::with(1);
        assert!(!fragments.are_full());
        fragments.pinned(10..30, 0);
        assert!(fragments.are_full() && fragments.may_unpin(&(15..16)));
        fragments.unpinned(&(15..16));
        assert!(!fragments.may_unpin(&(20..21)) && !fragments.may_unpin(&(11..14)));
        assert!([10..12, 14..15, 10..15, 29..30, 14..17, 10..30].iter().all(|pages| fragments.may_unpin(pages)));
        fragments.unpinned(&(0..100));
        assert!(!fragments.are_full());
    }

    proptest! {
        #[test]
        fn runs_are_as_long_as_can_be(steps in prop::collection::vec((0u64..40, 1u64..8, 0u32..3, any::<bool>()), 0..80)) {
            let mut fragments = Fragments::with(1000);
            let mut frames: BTreeMap<u64, u64> = BTreeMap::new();
            for (start, len, place, pin) in steps {
                let pages = start..start + len;
                if pin {
                    let frame = place * 100 + start as u32;
                    fragments.pinned(pages.clone(), frame);
                    frames.extend(pages.zip(u64::from(frame)..));
                } else {
                    fragments.unpinned(&pages);
                    frames.retain(|page, _| !pages.contains(page));
                }
                let first = |page: u64, frame: u64| page == 0 || frame == 0 || frames.get(&(page - 1)) != Some(&(frame - 1));
                let starts: Vec<u64> = frames.iter().filter(|&(&page, &frame)| first(page, frame)).map(|(&page, _)| page).collect();
                prop_assert_eq!(fragments.runs.keys().copied().collect::<Vec<_>>(), starts);
                let pages: u64 = fragments.runs.iter().map(|(start, (end, _))| end - start).sum();
                prop_assert_eq!(pages, frames.len() as u64);
            }
        }
    }
}
