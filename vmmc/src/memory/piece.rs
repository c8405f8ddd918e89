//! A piece of the arena that goes back to it by itself.

use std::ops::Range;

use super::alloc::Block;
use super::{Arena, MemoryError, copy};

/// Bytes of an arena that nobody else was given. They go back to it when this is dropped.
#[derive(Debug)]
pub(super) struct Piece {
    arena: Arena,
    /// `None` while it is being dropped, and of no bytes.
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

    /// No bytes: always to be had.
    pub(super) fn empty(arena: Arena) -> Piece {
        Piece { arena, block: None, start: 0, len: 0, sparse: false }
    }

    /// What it is a piece of.
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
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

    /// Where in `arena` it begins; `None` when it is of another one.
    pub(super) fn place(&self, arena: &Arena) -> Option<u64> {
        self.arena.is(arena).then_some(self.start as u64)
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

// Miri has no memory to give back.
#[cfg(all(test, not(miri)))]
mod tests {
    use crate::memory::{Arena, Region};

    const LEN: usize = 8 << 20;

    /// How much memory the system has given for an arena, bytes.
    fn given(arena: &Arena) -> usize {
        rustix::fs::fstat(arena.file()).unwrap().st_blocks as usize * 512
    }

    fn is_zero(region: &Region) -> bool {
        let mut bytes = vec![1; region.len()];
        region.read(0, &mut bytes).unwrap();
        bytes.iter().all(|&byte| byte == 0)
    }

    #[test]
    fn memory_is_taken_as_it_is_written_and_goes_back() {
        let arena = Arena::new(4 * LEN).unwrap();
        let page = arena.page_size();
        let region = arena.sparse(LEN).unwrap();
        assert_eq!(given(&arena), 0);
        assert!(region.pointer().addr().is_multiple_of(page));
        region.write(page as u64 - 1, &[7; 2]).unwrap();
        assert_eq!(given(&arena), 2 * page);
        for at in (0..LEN).step_by(page) {
            region.write(at as u64 + 100, &[9]).unwrap();
        }
        assert_eq!(given(&arena), LEN);
        // Whole pages only; what else there is becomes zero.
        region.discard(page as u64 / 2..4 * page as u64 - 1).unwrap();
        assert_eq!(given(&arena), LEN - 2 * page);
        let mut bytes = vec![1; 5 * page];
        region.read(0, &mut bytes).unwrap();
        let kept: Vec<_> = (0..5 * page).filter(|&at| bytes[at] != 0).collect();
        assert_eq!(kept, [100, 4 * page + 100]);
        // Less than a page is.
        region.discard(100..101).unwrap();
        region.read(0, &mut bytes[..page]).unwrap();
        assert_eq!(bytes[..page], vec![0; page]);
        region.discard(0..LEN as u64).unwrap();
        assert_eq!(given(&arena), 0);
        region.fill(3).unwrap();
        drop(region);
        assert_eq!((given(&arena), arena.available()), (0, arena.len()));
    }

    #[test]
    fn it_is_zero_where_others_have_been() {
        let arena = Arena::new(2 * LEN).unwrap();
        for len in [1, 100, 4095, 4096, 4097, 70_001, LEN - 1, LEN] {
            arena.alloc(2 * LEN - (64 << 10)).unwrap().fill(7).unwrap();
            let before = given(&arena);
            let region = arena.sparse(len).unwrap();
            // Before it is read: that takes memory, too.
            assert!(given(&arena) + len <= before + 2 * arena.page_size(), "{len} bytes");
            assert!(is_zero(&region), "{len} bytes");
            region.fill(8).unwrap();
            drop(region);
            // And for those who take it afterwards.
            let next = arena.alloc(len).unwrap();
            assert!(is_zero(&next), "{len} bytes");
        }
    }

    #[test]
    fn any_region_can_give_memory_back() {
        let arena = Arena::new(2 * LEN).unwrap();
        let region = arena.alloc(LEN).unwrap();
        let before = given(&arena);
        region.fill(7).unwrap();
        region.discard(0..LEN as u64).unwrap();
        assert!(given(&arena) <= before - LEN + 2 * arena.page_size(), "{} of {before}", given(&arena));
        assert!(is_zero(&region));
    }

    #[test]
    fn only_addresses_are_refused() {
        let arena = Arena::new(1 << 45).unwrap();
        // More than any machine has, and nobody asks.
        let region = arena.sparse(1 << 44).unwrap();
        region.write(1 << 43, &[1]).unwrap();
        assert_eq!(given(&arena), arena.page_size());
        assert!(arena.sparse(1 << 45).is_err());
        drop(region);
        // What it has had is still nobody's, and not there to be had.
        assert!(arena.alloc(1 << 44).is_err());
    }

    /// A page that goes while others write to it is zero or what they have written.
    #[test]
    fn threads_write_what_is_discarded() {
        let arena = Arena::new(1 << 20).unwrap();
        let region = arena.sparse(1 << 16).unwrap();
        std::thread::scope(|scope| {
            for value in [0x11, 0x22] {
                let region = &region;
                scope.spawn(move || (0..300).for_each(|_| region.fill(value).unwrap()));
            }
            let mut seen = vec![0; 1 << 16];
            for _ in 0..300 {
                region.discard(1000..60_000).unwrap();
                region.read(0, &mut seen).unwrap();
                assert!(seen.iter().all(|b| [0, 0x11, 0x22].contains(b)));
            }
        });
        region.discard(0..1 << 16).unwrap();
        assert!(is_zero(&region));
    }
}
