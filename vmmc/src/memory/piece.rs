//! A piece of the arena that goes back to it by itself.

use super::alloc::Block;
use super::{Arena, MemoryError};

/// Bytes of an arena that nobody else was given. They go back to it when this is dropped.
#[derive(Debug)]
pub(super) struct Piece {
    arena: Arena,
    /// `None` only while it is being dropped.
    block: Option<Block>,
    start: usize,
    len: usize,
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
        let piece = Piece { arena, block: Some(block), start, len };
        // SAFETY: the bytes are within the arena's mapping (checked above), and are nobody else's: whoever had them before gave
        // them back under the lock under which they have been handed out since.
        unsafe { piece.pointer().write_bytes(0, len) };
        piece
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
        if let Some(block) = self.block.take() {
            self.arena.free(block);
        }
    }
}
