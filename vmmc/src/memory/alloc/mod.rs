//! Which bytes of an arena are whose: numbers only, no memory.
//!
//! The arena is divided into units of [`UNIT`] bytes.

mod runs;

use std::ops::Range;

use self::runs::Runs;

/// Bytes that are handed out together at the least: what all page sizes are multiples of.
pub(super) const UNIT: usize = 4096;

/// Bytes kept free in front of every buffer.
pub const GUARD: usize = 256;

/// What an allocator has given out, and must get back.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its bytes for use begin; [`GUARD`] bytes before that are free.
    pub start: usize,
    units: Range<usize>,
}

impl Block {
    /// Where the memory ends that it takes.
    pub(super) fn end(&self) -> usize {
        self.units.end * UNIT
    }
}

/// Hands out the bytes of an arena.
#[derive(Debug)]
pub(super) struct Allocator {
    runs: Runs,
    /// Units in a page of the arena's memory.
    page: usize,
}

impl Allocator {
    /// For an arena of `len` bytes in pages of `page` bytes, multiples of [`UNIT`].
    pub(super) fn new(len: usize, page: usize) -> Allocator {
        Allocator { runs: Runs::new(len / UNIT), page: page / UNIT }
    }

    /// A block with room for `len` bytes that begin at a multiple of `align`, a power of two of at least 64.
    pub(super) fn alloc(&mut self, len: usize, align: usize) -> Option<Block> {
        let front = GUARD.max(align.min(UNIT));
        let units = front.checked_add(len)?.div_ceil(UNIT);
        let units = self.runs.take(units, align.div_ceil(UNIT), front / UNIT)?;
        Some(Block { start: units.start * UNIT + front, units })
    }

    /// The longest block that could be had, bytes for use.
    pub(super) fn largest(&self, align: usize) -> usize {
        let front = GUARD.max(align.min(UNIT));
        (self.runs.longest(align.div_ceil(UNIT), front / UNIT) * UNIT).saturating_sub(front)
    }

    /// Takes a block back.
    pub(super) fn free(&mut self, block: Block) {
        self.runs.give(block.units);
    }

    /// Bytes not handed out.
    pub(super) fn available(&self) -> usize {
        self.runs.free() * UNIT
    }

    /// Takes `want` pages in a row, or the longest row there is.
    pub(super) fn take_pages(&mut self, want: usize) -> Option<Range<usize>> {
        let units = self.runs.take_some(want.checked_mul(self.page)?, self.page)?;
        Some(units.start / self.page..units.end / self.page)
    }

    /// Takes pages back, some or all that were taken.
    pub(super) fn give_pages(&mut self, pages: Range<usize>) {
        if !pages.is_empty() {
            self.runs.give(pages.start * self.page..pages.end * self.page);
        }
    }
}
