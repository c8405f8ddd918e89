//! Slabs: runs of units cut into slots of one size, for small blocks.
//!
//! Slot sizes are four to the doubling, so that a block gets at most a quarter more than it needs. Of the slabs with room the lowest is
//! filled first: so the others empty, and go back to the free runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::UNIT;

/// Slot sizes, bytes. Each is a multiple of 64, up to 2048 there is one that is a multiple of each power of two, and 4096 is one.
const SIZES: [usize; 18] =
    [320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144];

/// Of a slab at most this part is left over behind the last slot.
const LEFT_OVER: usize = 8;

/// A slot size, as an index into [`SIZES`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Class(usize);

impl Class {
    /// The smallest whose slots hold `need` bytes and begin at multiples of `align`. `None` when that is for a run of its own.
    pub(super) fn of(need: usize, align: usize) -> Option<Class> {
        SIZES.iter().position(|&size| size >= need && size.is_multiple_of(align)).map(Class)
    }

    /// Size of a slot, bytes.
    pub(super) fn size(self) -> usize {
        SIZES[self.0]
    }

    /// Length of a slab, units: the shortest of which little is left over.
    pub(super) fn units(self) -> usize {
        let little = |&units: &usize| (units * UNIT) % self.size() <= units * UNIT / LEFT_OVER;
        (1..=4).filter(|units| units * UNIT >= self.size()).find(little).unwrap_or(4)
    }

    /// Length of a slab that has a slot and no more, units.
    pub(super) fn least_units(self) -> usize {
        self.size().div_ceil(UNIT)
    }
}

/// Slots in use and free.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    /// First unit -> slab.
    slabs: BTreeMap<usize, Slab>,
    /// For each class, the slabs with a free slot.
    room: [BTreeSet<usize>; SIZES.len()],
    /// Bytes in free slots.
    free: usize,
}

#[derive(Debug)]
struct Slab {
    class: Class,
    units: usize,
    /// The free slots, as bits.
    free: u64,
}

impl Slab {
    /// As many low bits as it has slots: 12 at the most.
    fn all(&self) -> u64 {
        (1 << (self.units * UNIT / self.class.size())) - 1
    }
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Slot {
    slab: usize,
    index: u32,
}

impl Slabs {
    /// Makes a slab of a run.
    pub(super) fn add(&mut self, class: Class, run: Range<usize>) {
        let mut slab = Slab { class, units: run.len(), free: 0 };
        slab.free = slab.all();
        self.free += slab.free.count_ones() as usize * class.size();
        self.room[class.0].insert(run.start);
        self.slabs.insert(run.start, slab);
    }

    /// Takes a slot of `class` if one is free, and says which bytes it has.
    pub(super) fn take(&mut self, class: Class) -> Option<(Slot, Range<usize>)> {
        let &start = self.room[class.0].first()?;
        let slab = self.slabs.get_mut(&start)?;
        let index = slab.free.trailing_zeros();
        slab.free &= slab.free - 1;
        if slab.free == 0 {
            self.room[class.0].remove(&start);
        }
        self.free -= class.size();
        let at = start * UNIT + index as usize * class.size();
        Some((Slot { slab: start, index }, at..at + class.size()))
    }

    /// Takes a slot of a class larger than `class`, the smallest that there is at a multiple of `align`.
    pub(super) fn take_larger(&mut self, class: Class, align: usize) -> Option<(Slot, Range<usize>)> {
        let larger = (class.0 + 1..SIZES.len()).map(Class);
        let class = larger.into_iter().find(|c| c.size().is_multiple_of(align) && !self.room[c.0].is_empty())?;
        self.take(class)
    }

    /// Size of the largest free slot at a multiple of `align`, bytes; 0 if there is none.
    pub(super) fn largest(&self, align: usize) -> usize {
        let sizes = SIZES.iter().zip(&self.room).rev();
        sizes
            .filter(|(size, room)| size.is_multiple_of(align) && !room.is_empty())
            .map(|(&size, _)| size)
            .next()
            .unwrap_or(0)
    }

    /// Bytes in free slots.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Takes a slot back. If its slab is empty now, that is a slab no more: here is its run.
    pub(super) fn give(&mut self, slot: Slot) -> Option<Range<usize>> {
        let start = slot.slab;
        let slab = self.slabs.get_mut(&start)?;
        debug_assert!(slab.free & 1 << slot.index == 0, "{slot:?} comes back and is free");
        slab.free |= 1 << slot.index;
        self.free += slab.class.size();
        let (class, units, empty) = (slab.class, slab.units, slab.free == slab.all());
        self.room[class.0].insert(start);
        if !empty {
            return None;
        }
        self.free -= slab.free.count_ones() as usize * class.size();
        self.room[class.0].remove(&start);
        self.slabs.remove(&start);
        Some(start..start + units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_quarter_apart_and_waste_little() {
        for pair in SIZES.windows(2) {
            assert!(pair[1] > pair[0] && pair[1] * 4 <= pair[0] * 5, "{pair:?}");
        }
        for class in (0..SIZES.len()).map(Class) {
            assert!(class.size().is_multiple_of(64));
            let bytes = class.units() * UNIT;
            assert!(bytes % class.size() * LEFT_OVER <= bytes, "{class:?}: {} units", class.units());
            assert!(bytes / class.size() <= 64);
        }
        for align in [64, 128, 256, 512, 1024, 2048, 4096] {
            let class = Class::of(align, align).unwrap();
            assert!(class.size().is_multiple_of(align) && class.size() >= align);
        }
        assert!(Class::of(6145, 64).is_none() && Class::of(1, 8192).is_none());
    }

    #[test]
    fn the_lowest_slab_is_filled_and_an_empty_one_goes_back() {
        let mut slabs = Slabs::default();
        let class = Class::of(2000, 64).unwrap();
        assert!(slabs.take(class).is_none());
        slabs.add(class, 7..8);
        slabs.add(class, 3..4);
        let mut taken: Vec<_> = (0..4).map(|_| slabs.take(class).unwrap()).collect();
        let places: Vec<_> = taken.iter().map(|(_, bytes)| bytes.start).collect();
        assert_eq!(places, [3 * UNIT, 3 * UNIT + 2048, 7 * UNIT, 7 * UNIT + 2048]);
        assert!(slabs.take(class).is_none());
        assert_eq!((slabs.largest(64), slabs.free()), (0, 0));
        assert_eq!(slabs.give(taken.pop().unwrap().0), None);
        assert_eq!((slabs.largest(2048), slabs.largest(4096), slabs.free()), (2048, 0, 2048));
        let (slot, _) = slabs.take_larger(Class::of(100, 64).unwrap(), 256).unwrap();
        assert_eq!(slabs.give(slot), None);
        assert_eq!(slabs.give(taken.pop().unwrap().0), Some(7..8));
        assert_eq!(slabs.free(), 0);
    }
}
