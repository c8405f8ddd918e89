//! RANDOM: any frame may go, each with the same probability.

use super::{Policy, slot};

/// Gives up frames at random.
pub(super) struct Random {
    generator: fastrand::Rng,
    /// Those that may go.
    frames: Vec<u32>,
    /// Where each of them is in `frames`.
    places: Vec<Option<u32>>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random { generator: fastrand::Rng::with_seed(seed), frames: Vec::new(), places: Vec::new() }
    }
}

impl Policy for Random {
    fn pinned(&mut self, frame: u32) {
        *slot(&mut self.places, frame) = Some(self.frames.len() as u32);
        self.frames.push(frame);
    }

    fn used(&mut self, _: u32) {}

    fn unpinned(&mut self, frame: u32) {
        if let Some(place) = self.places[frame as usize].take() {
            self.frames.swap_remove(place as usize);
            if let Some(&moved) = self.frames.get(place as usize) {
                self.places[moved as usize] = Some(place);
            }
        }
    }

    fn victim(&mut self, movable: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        while !self.frames.is_empty() {
            let frame = self.frames[self.generator.usize(..self.frames.len())];
            if movable(frame) {
                return Some(frame);
            }
            self.unpinned(frame);
        }
        None
    }

    fn movable_again(&mut self, frame: u32) {
        if self.places[frame as usize].is_none() {
            self.pinned(frame);
        }
    }
}
