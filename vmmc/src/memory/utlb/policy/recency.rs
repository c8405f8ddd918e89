//! LRU and MRU: a doubly linked list through the frames' slots, in the order of their last use.

use std::collections::BTreeSet;

use super::{Policy, slot};

/// No neighbour.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// No page has it.
    #[default]
    Out,
    /// In the list.
    Listed,
    /// Set aside by a search.
    Aside,
    /// Back from there, in `returned`.
    Returned,
}

#[derive(Clone, Default)]
struct Slot {
    older: u32,
    newer: u32,
    /// When it was last used: a count of uses.
    stamp: u64,
    state: State,
}

/// Gives up frames by their last use. What was set aside and came back keeps the place of its last use in a set of its own, because finding that
/// place in the list would mean walking there.
pub(super) struct Recency {
    slots: Vec<Slot>,
    oldest: u32,
    newest: u32,
    clock: u64,
    returned: BTreeSet<(u64, u32)>,
    most: bool,
}

impl Recency {
    /// LRU.
    pub(super) fn least() -> Recency {
        Recency { slots: Vec::new(), oldest: END, newest: END, clock: 0, returned: BTreeSet::new(), most: false }
    }

    /// MRU.
    pub(super) fn most() -> Recency {
        Recency { most: true, ..Recency::least() }
    }

    fn append(&mut self, frame: u32) {
        let older = self.newest;
        let slot = &mut self.slots[frame as usize];
        (slot.older, slot.newer, slot.state) = (older, END, State::Listed);
        match older {
            END => self.oldest = frame,
            older => self.slots[older as usize].newer = frame,
        }
        self.newest = frame;
    }

    fn unlink(&mut self, frame: u32) {
        let Slot { older, newer, .. } = self.slots[frame as usize];
        match older {
            END => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            END => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    /// Takes the frame from where it is.
    fn leave(&mut self, frame: u32) {
        let Slot { stamp, state, .. } = self.slots[frame as usize];
        match state {
            State::Listed => self.unlink(frame),
            State::Returned => {
                self.returned.remove(&(stamp, frame));
            }
            State::Out | State::Aside => {}
        }
    }

    /// The first to go.
    fn first(&self) -> Option<u32> {
        let (listed, returned) = match self.most {
            true => (self.newest, self.returned.last()),
            false => (self.oldest, self.returned.first()),
        };
        let Some(&(stamp, back)) = returned else { return (listed != END).then_some(listed) };
        if listed == END || (stamp < self.slots[listed as usize].stamp) != self.most {
            Some(back)
        } else {
            Some(listed)
        }
    }
}

impl Policy for Recency {
    fn pinned(&mut self, frame: u32) {
        self.clock += 1;
        slot(&mut self.slots, frame).stamp = self.clock;
        self.append(frame);
    }

    fn used(&mut self, frame: u32) {
        self.clock += 1;
        match self.slots[frame as usize].state {
            State::Listed if self.newest == frame => {}
            State::Listed | State::Returned => {
                self.leave(frame);
                self.append(frame);
            }
            State::Out | State::Aside => {}
        }
        self.slots[frame as usize].stamp = self.clock;
    }

    fn unpinned(&mut self, frame: u32) {
        self.leave(frame);
        self.slots[frame as usize].state = State::Out;
    }

    fn victim(&mut self, movable: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        loop {
            let frame = self.first()?;
            if movable(frame) {
                return Some(frame);
            }
            self.leave(frame);
            self.slots[frame as usize].state = State::Aside;
        }
    }

    fn movable_again(&mut self, frame: u32) {
        let slot = &mut self.slots[frame as usize];
        if slot.state == State::Aside {
            slot.state = State::Returned;
            self.returned.insert((slot.stamp, frame));
        }
    }
}
