//! The frames in use: which page each has, how many hold it, and which pages somebody writes at present.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::policy::Policy;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// No page has it.
    #[default]
    Free,
    /// A page is pinned to it.
    Pinned,
    /// The page it had is gone, and a transfer still holds it.
    Orphan,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    pub page: u64,
    pub holds: u32,
    pub state: State,
    /// The policy has set it aside.
    aside: bool,
}

/// The frames, and what keeps them from being moved.
pub(super) struct Frames {
    frames: Vec<Frame>,
    /// Those with a page, and orphans.
    pub in_use: usize,
    /// Those that transfers hold.
    pub held: usize,
    /// Pages that must not move: start -> end, none overlapping.
    excluded: BTreeMap<u64, u64>,
    /// Pages whose frames the policy has set aside.
    aside: BTreeSet<u64>,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames { frames: Vec::new(), in_use: 0, held: 0, excluded: BTreeMap::new(), aside: BTreeSet::new() }
    }

    pub(super) fn get(&self, frame: u32) -> Frame {
        self.frames[frame as usize]
    }

    /// A page has been pinned to this frame.
    pub(super) fn pinned(&mut self, frame: u32, page: u64) {
        let at = frame as usize;
        if at >= self.frames.len() {
            self.frames.resize(at + 1, Frame::default());
        }
        debug_assert_eq!(self.frames[at].state, State::Free);
        self.frames[at] = Frame { page, holds: 0, state: State::Pinned, aside: false };
        self.in_use += 1;
    }

    /// The frame has no page any more. Not for one that is held.
    pub(super) fn freed(&mut self, frame: u32) {
        let slot = &mut self.frames[frame as usize];
        debug_assert_eq!(slot.holds, 0);
        if slot.aside {
            self.aside.remove(&slot.page);
        }
        *slot = Frame::default();
        self.in_use -= 1;
    }

    /// The frame's page is gone, but the frame is held.
    pub(super) fn orphaned(&mut self, frame: u32) {
        let slot = &mut self.frames[frame as usize];
        slot.state = State::Orphan;
        if std::mem::take(&mut slot.aside) {
            self.aside.remove(&slot.page);
        }
    }

    pub(super) fn hold(&mut self, frame: u32) {
        let slot = &mut self.frames[frame as usize];
        slot.holds += 1;
        self.held += usize::from(slot.holds == 1);
    }

    /// Releases it once. Returns what it then is, if that was the last hold.
    pub(super) fn release(&mut self, frame: u32, policy: &mut dyn Policy) -> Option<State> {
        let slot = &mut self.frames[frame as usize];
        debug_assert!(slot.holds > 0, "frame {frame} is released more often than it was held");
        slot.holds = slot.holds.saturating_sub(1);
        if slot.holds > 0 {
            return None;
        }
        let Frame { page, state, aside, .. } = *slot;
        self.held -= 1;
        if aside && !self.is_excluded(page) {
            self.back(page, frame, policy);
        }
        Some(state)
    }

    /// The policy's next victim.
    pub(super) fn victim(&mut self, policy: &mut dyn Policy) -> Option<u32> {
        let Frames { frames, excluded, aside, .. } = self;
        policy.victim(&mut |frame| {
            let slot = &mut frames[frame as usize];
            let movable = slot.holds == 0 && !covers(excluded, slot.page);
            if !movable {
                slot.aside = true;
                aside.insert(slot.page);
            }
            movable
        })
    }

    fn back(&mut self, page: u64, frame: u32, policy: &mut dyn Policy) {
        self.frames[frame as usize].aside = false;
        self.aside.remove(&page);
        policy.movable_again(frame);
    }

    pub(super) fn exclude(&mut self, pages: Range<u64>) {
        if !pages.is_empty() {
            debug_assert!(self.next_excluded(&pages).is_none(), "pages are excluded twice");
            self.excluded.insert(pages.start, pages.end);
        }
    }

    /// Ends an exclusion. `frame` says which frame a page is pinned to.
    pub(super) fn include(
        &mut self,
        pages: Range<u64>,
        policy: &mut dyn Policy,
        mut frame: impl FnMut(u64) -> Option<u32>,
    ) {
        if pages.is_empty() || self.excluded.remove(&pages.start).is_none() {
            return;
        }
        let aside: Vec<u64> = self.aside.range(pages).copied().collect();
        for page in aside {
            if let Some(frame) = frame(page).filter(|&frame| self.get(frame).holds == 0) {
                self.back(page, frame, policy);
            }
        }
    }

    pub(super) fn is_excluded(&self, page: u64) -> bool {
        covers(&self.excluded, page)
    }

    /// The first page of `pages` that is excluded.
    pub(super) fn next_excluded(&self, pages: &Range<u64>) -> Option<u64> {
        if self.is_excluded(pages.start) {
            return Some(pages.start);
        }
        self.excluded.range(pages.clone()).next().map(|(&start, _)| start)
    }
}

/// Whether one of the ranges has this page.
fn covers(ranges: &BTreeMap<u64, u64>, page: u64) -> bool {
    // Mostly nobody writes.
    !ranges.is_empty() && ranges.range(..=page).next_back().is_some_and(|(_, &end)| page < end)
}
