//! LFU and FIFO: frames by a rank that only ever rises, in a heap that is put in order when somebody looks.
//!
//! A use only writes the frame's new rank into its slot. The heap still has an older one, which is lower; when that comes to the top, the frame is
//! put back under its present one. What is on the top under its present rank is the lowest of all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Policy, slot};

/// What orders frames: how often they were used, then when.
type Rank = (u64, u64);

#[derive(Clone, Default)]
struct Slot {
    rank: Rank,
    /// Which stay of the frame an element of the heap is of: others are left over from earlier ones.
    stay: u64,
    pinned: bool,
    /// Set aside by a search: not in the heap.
    aside: bool,
}

/// Gives up frames by rank, lowest first.
pub(super) struct Ranked {
    slots: Vec<Slot>,
    heap: BinaryHeap<Reverse<(Rank, u64, u32)>>,
    clock: u64,
    pinned: usize,
    /// Whether uses count.
    frequency: bool,
}

impl Ranked {
    /// LFU.
    pub(super) fn by_frequency() -> Ranked {
        Ranked { slots: Vec::new(), heap: BinaryHeap::new(), clock: 0, pinned: 0, frequency: true }
    }

    /// FIFO.
    pub(super) fn by_age() -> Ranked {
        Ranked { frequency: false, ..Ranked::by_frequency() }
    }

    fn push(&mut self, frame: u32) {
        let Slot { rank, stay, .. } = self.slots[frame as usize];
        self.heap.push(Reverse((rank, stay, frame)));
    }

    /// Throws away what is left over when that is most of the heap.
    fn tidy(&mut self) {
        if self.heap.len() > 2 * self.pinned + 64 {
            let slots = &self.slots;
            self.heap.retain(|Reverse((_, stay, frame))| {
                let slot = &slots[*frame as usize];
                slot.pinned && slot.stay == *stay && !slot.aside
            });
        }
    }
}

impl Policy for Ranked {
    fn pinned(&mut self, frame: u32) {
        self.clock += 1;
        let stay = self.clock;
        let rank = if self.frequency { (1, stay) } else { (0, stay) };
        *slot(&mut self.slots, frame) = Slot { rank, stay, pinned: true, aside: false };
        self.pinned += 1;
        self.push(frame);
    }

    fn used(&mut self, frame: u32) {
        if self.frequency {
            self.clock += 1;
            let slot = &mut self.slots[frame as usize];
            slot.rank = (slot.rank.0 + 1, self.clock);
        }
    }

    fn unpinned(&mut self, frame: u32) {
        self.slots[frame as usize].pinned = false;
        self.pinned -= 1;
        self.tidy();
    }

    fn victim(&mut self, movable: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        loop {
            let &Reverse((rank, stay, frame)) = self.heap.peek()?;
            let slot = &mut self.slots[frame as usize];
            if !slot.pinned || slot.stay != stay {
                self.heap.pop();
            } else if slot.rank != rank {
                self.heap.pop();
                self.push(frame);
            } else if movable(frame) {
                return Some(frame);
            } else {
                slot.aside = true;
                self.heap.pop();
            }
        }
    }

    fn movable_again(&mut self, frame: u32) {
        let slot = &mut self.slots[frame as usize];
        if slot.pinned && std::mem::take(&mut slot.aside) {
            self.push(frame);
        }
    }
}
