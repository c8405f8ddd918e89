//! A piece of the arena that goes back to it by itself.

use std::ops::Range;

use super::alloc::Block;
use super::{Arena, MemoryError, copy};

/// Bytes of an arena that nobody else was given. They go back to it when this is dropped.
#[derive(Debug)]
pub(super) struct Piece {
    arena: Arena,
    /// `None` only while it is being dropped.
    block: Option<Block>,
    start: usize,
    len: usize,
    /// Its memory goes back to the system with it, and is taken from there as it is written.
    sparse: bool,
}

impl Piece {
    /// The first `len` bytes of a block, which is `arena`'s and has as many. They become zero, and the memory for them is
    /// taken from the system.
    pub(super) fn new(arena: Arena, block: Block, len: usize) -> Piece {
        let start = block.start;
        assert!(
            start.checked_add(len).is_some_and(|end| end <= block.end) && block.end <= arena.len(),
            "a piece reaches past its block"
        );
        let piece = Piece { arena, block: Some(block), start, len, sparse: false };
        // SAFETY: the bytes are within the arena's mapping (checked above), and are nobody else's: whoever had them before gave
        // them back under the lock under which they have been handed out since.
        unsafe { piece.pointer().write_bytes(0, len) };
        piece
    }

    /// The same, but for the memory: what there is goes back to the system, and it is taken as it is touched. In an arena that can't give memory
    /// back it is as [`Piece::new`].
    pub(super) fn sparse(arena: Arena, block: Block, len: usize) -> Piece {
        if !arena.is_giving() {
            return Piece::new(arena, block, len);
        }
        let start = block.start;
        assert!(
            start.checked_add(len).is_some_and(|end| end <= block.end) && block.end <= arena.len(),
            "a piece reaches past its block"
        );
        let piece = Piece { arena, block: Some(block), start, len, sparse: true };
        piece.discard(0..len);
        piece
    }

    /// Makes bytes zero. The whole pages among them go back to the system.
    ///
    /// Others may access them meanwhile, by [`copy`].
    pub(super) fn discard(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is not in a piece of {} bytes", self.len);
        let range = self.start + range.start..self.start + range.end;
        let page = self.arena.page_size();
        let pages = range.start.next_multiple_of(page)..range.end / page * page;
        if pages.is_empty() || !self.arena.give_back(pages.clone()) {
            return self.zero(range);
        }
        self.zero(range.start..pages.start);
        self.zero(pages.end..range.end);
    }

    /// Sets bytes of the arena that are this piece's to zero.
    fn zero(&self, range: Range<usize>) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for at in range.clone().step_by(ZEROS.len()) {
            let zeros = &ZEROS[..ZEROS.len().min(range.end - at)];
            // SAFETY: the bytes are the piece's, and in the arena's mapping as long as it lives. Whoever accesses them meanwhile does so by `copy`.
            unsafe { copy::store(self.arena.pointer(at), zeros) };
        }
    }

    /// Length, bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where it begins: at least 64 bytes aligned. Valid as long as this lives, for [`Piece::len`] bytes rounded up to a multiple of 64.
    pub(super) fn pointer(&self) -> *mut u8 {
        self.arena.pointer(self.start)
    }

    /// Where `len` bytes from `offset` on lie.
    pub(super) fn range(&self, offset: u64, len: usize) -> Result<*mut u8, MemoryError> {
        let error = MemoryError::OutOfRange { offset, len, region: self.len };
        let start = usize::try_from(offset).ok().filter(|&o| o <= self.len && len <= self.len - o);
        Ok(self.arena.pointer(self.start + start.ok_or(error)?))
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.sparse {
            let page = self.arena.page_size();
            let pages = self.start.next_multiple_of(page)..(self.start + self.len) / page * page;
            // If it keeps them, they are zeroed for whoever is next.
            let _ = !pages.is_empty() && self.arena.give_back(pages);
        }
        if let Some(block) = self.block.take() {
            self.arena.free(block);
        }
    }
}
