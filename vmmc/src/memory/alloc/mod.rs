//! The allocator: which bytes of an arena are whose. Numbers only, no memory.
//!
//! ```text
//!     arena   | run in use | free run | slab of 320 | page, mapped elsewhere | free run ...
//!     slab    | guard data | guard data | guard data | free slot | ... left over |
//!     run     | guard data ................................ up to a whole unit |
//! ```
//!
//! The arena is divided into units of 4 KiB. Large blocks, pages and slabs are [runs] of units; small blocks are slots of
//! [slabs]. All that comes back is joined to what is free beside it at once. Nothing is rounded up to a power of two:
//! a slot is at most a quarter larger than needed, a run less than a unit longer.
//!
//! In front of every block stands a guard of [`GUARD`] bytes that is nobody's: what runs over the start of a buffer never touches
//! the one below, and where a packet lands directly in a buffer its headers have a place.

mod runs;
mod slabs;

// Numbers only, and many of them: nothing for Miri.
#[cfg(all(test, not(miri)))]
mod model;
#[cfg(all(test, not(miri)))]
mod workloads;

use std::ops::Range;

use self::runs::Runs;
use self::slabs::{Class, Slabs, Slot};

/// Bytes in a unit: all page sizes are multiples of it.
pub(super) const UNIT: usize = 4096;

/// Bytes kept free in front of every buffer.
pub const GUARD: usize = 256;

/// Blocks begin at multiples of this many bytes at the least: a cache line. Their memory ends at one, too.
pub(super) const ALIGN: usize = 64;

/// What an allocator has given out, and must get back.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its bytes for use begin. The [`GUARD`] bytes before that are its own, too.
    pub start: usize,
    /// Where they end.
    pub end: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Run(Range<usize>),
    Slot(Slot),
}

/// Hands out the bytes of an arena.
#[derive(Debug)]
pub(super) struct Allocator {
    runs: Runs,
    slabs: Slabs,
    /// Units in a page of the arena's memory.
    page: usize,
}

impl Allocator {
    /// For an arena of `len` bytes in pages of `page` bytes, multiples of [`UNIT`].
    pub(super) fn new(len: usize, page: usize) -> Allocator {
        Allocator { runs: Runs::new(len / UNIT), slabs: Slabs::default(), page: page / UNIT }
    }

    /// A block with room for `len` bytes that begin at a multiple of `align`, a power of two of at least [`ALIGN`].
    pub(super) fn alloc(&mut self, len: usize, align: usize) -> Option<Block> {
        let front = front(align);
        let need = front.checked_add(len)?;
        if let Some(class) = Class::of(need, align) {
            let (slot, bytes) = self.slot(class, align)?;
            return Some(Block { start: bytes.start + front, end: bytes.end, place: Place::Slot(slot) });
        }
        let run = self.runs.take(need.div_ceil(UNIT), align.div_ceil(UNIT), front / UNIT)?;
        Some(Block { start: run.start * UNIT + front, end: run.end * UNIT, place: Place::Run(run) })
    }

    /// A slot: of its class if that can be, or else of whatever has room.
    fn slot(&mut self, class: Class, align: usize) -> Option<(Slot, Range<usize>)> {
        if let Some(slot) = self.slabs.take(class) {
            return Some(slot);
        }
        let run = self.runs.take(class.units(), 1, 0).or_else(|| self.runs.take(class.least_units(), 1, 0));
        let Some(run) = run else {
            return self.slabs.take_larger(class, align);
        };
        self.slabs.add(class, run);
        self.slabs.take(class)
    }

    /// The longest block that [`Allocator::alloc`] could give, and it could give every shorter one; bytes for use.
    pub(super) fn largest(&self, align: usize) -> usize {
        let front = front(align);
        let run = self.runs.longest(align.div_ceil(UNIT), front / UNIT) * UNIT;
        run.max(self.slabs.largest(align)).saturating_sub(front)
    }

    /// Takes a block back.
    pub(super) fn free(&mut self, block: Block) {
        let run = match block.place {
            Place::Run(run) => Some(run),
            Place::Slot(slot) => self.slabs.give(slot),
        };
        if let Some(run) = run {
            self.runs.give(run);
        }
    }

    /// Bytes not handed out: in free runs and free slots.
    pub(super) fn available(&self) -> usize {
        self.runs.free() * UNIT + self.slabs.free()
    }

    /// Takes `want` pages in a row, or the longest row there is.
    pub(super) fn take_pages(&mut self, want: usize) -> Option<Range<usize>> {
        let units = self.runs.take_some(want.saturating_mul(self.page), self.page)?;
        Some(units.start / self.page..units.end / self.page)
    }

    /// Takes pages back, some or all that were taken.
    pub(super) fn give_pages(&mut self, pages: Range<usize>) {
        if !pages.is_empty() {
            self.runs.give(pages.start * self.page..pages.end * self.page);
        }
    }
}

/// How many bytes of an arena a block of `len` bytes takes at the most, if nothing has been freed yet.
pub(super) fn footprint(len: usize) -> usize {
    let need = len.saturating_add(GUARD);
    Class::of(need, ALIGN).map_or(need.div_ceil(UNIT), Class::units).saturating_mul(UNIT)
}

/// How far behind the beginning of its slot or run a block begins that is aligned to `align`. What is aligned to more than a unit has a
/// unit in front, and its run begins where that fits.
fn front(align: usize) -> usize {
    align.clamp(GUARD, UNIT)
}
