//! A buffer: memory of the arena that has one owner.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;

use super::piece::Piece;
use super::{Arena, MemoryError, Target};

/// A piece of the arena that nobody but its owner reads or writes: a slice of bytes. It goes back to the arena when it is dropped.
///
/// To be sent it is given away, so it can't be written, freed or sent a second time while it is in flight; it comes back when the send is
/// over. Its length never changes.
///
/// ```
/// use vmmc::memory::Arena;
///
/// let arena = Arena::new(1 << 20)?;
/// let mut buffer = arena.buffer(100)?;
/// buffer[..5].copy_from_slice(b"hello");
/// assert_eq!(&buffer[..6], b"hello\0");
/// assert!(arena.buffer_aligned(4096, 4096)?.as_ptr().addr().is_multiple_of(4096));
/// # Ok::<(), vmmc::memory::MemoryError>(())
/// ```
///
/// Sent, and its owner's again:
///
/// ```no_run
/// # fn send(node: vmmc::Node, remote: vmmc::Import) -> Result<(), vmmc::Error> {
/// let buffer = node.alloc(4096)?;
/// let pending = remote.send(buffer, 0).start()?;
/// let mut buffer = pending.wait()?;
/// buffer[0] = 1;
/// # Ok(())
/// # }
/// ```
///
/// In between, it can't be written:
///
/// ```compile_fail,E0382
/// # fn send(node: vmmc::Node, remote: vmmc::Import) -> Result<(), vmmc::Error> {
/// let mut buffer = node.alloc(4096)?;
/// let pending = remote.send(buffer, 0).start()?;
/// buffer[0] = 1;
/// # Ok(())
/// # }
/// ```
pub struct Buffer {
    piece: Piece,
}

impl Buffer {
    pub(super) fn new(piece: Piece) -> Buffer {
        Buffer { piece }
    }

    /// One of no bytes: always to be had.
    pub(super) fn empty(arena: Arena) -> Buffer {
        Buffer { piece: Piece::empty(arena) }
    }

    /// What it is a piece of.
    pub(super) fn arena(&self) -> &Arena {
        self.piece.arena()
    }

    /// Where in `arena` it begins; `None` when it is of another one.
    pub(super) fn place(&self, arena: &Arena) -> Option<u64> {
        self.piece.place(arena)
    }

    /// Where `len` bytes from `offset` on lie.
    pub(super) fn range(&self, offset: u64, len: usize) -> Result<*mut u8, MemoryError> {
        self.piece.range(offset, len)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the piece's bytes are in a mapping that lives as long as the piece, were initialised when it was made, and nobody else has
        // been given them: whoever writes them does so through `deref_mut`.
        unsafe { slice::from_raw_parts(self.piece.pointer(), self.piece.len()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and this borrow of the only owner excludes all others.
        unsafe { slice::from_raw_parts_mut(self.piece.pointer(), self.piece.len()) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Target for Buffer {
    fn len(&self) -> usize {
        self.piece.len()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.piece.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_is_zero_and_comes_back() {
        let arena = Arena::new(1 << 16).unwrap();
        let mut buffer = arena.buffer(3000).unwrap();
        assert_eq!(*buffer, [0; 3000]);
        buffer.fill(7);
        Target::store(&mut buffer, 2998, &[8, 9]);
        assert_eq!((buffer[2997], &buffer[2998..]), (7, &[8, 9][..]));
        assert_eq!((buffer.as_ref().len(), buffer.as_mut().len(), Target::len(&buffer)), (3000, 3000, 3000));
        assert!(arena.available() < arena.len());
        drop(buffer);
        assert_eq!(arena.available(), arena.len());
        assert_eq!(*arena.buffer(3000).unwrap(), [0; 3000]);
    }

    #[test]
    fn alignment_is_a_power_of_two_up_to_a_page() {
        let arena = Arena::new(1 << 16).unwrap();
        let page = arena.page_size();
        let buffers: Vec<_> = (0..=page.ilog2()).map(|bits| arena.buffer_aligned(10, 1 << bits).unwrap()).collect();
        for (bits, buffer) in buffers.iter().enumerate() {
            assert!(buffer.as_ptr().addr().is_multiple_of(64.max(1 << bits)), "2^{bits}: {:p}", buffer.as_ptr());
        }
        for align in [0, 3, 65, page + 1, 2 * page, usize::MAX] {
            let refused = arena.buffer_aligned(10, align);
            assert!(matches!(refused, Err(MemoryError::BadAlignment { align: a, .. }) if a == align), "{refused:?}");
        }
    }

    #[test]
    fn threads_write_buffers_that_are_next_to_each_other_and_next_to_a_region() {
        let arena = Arena::new(1 << 16).unwrap();
        let region = arena.alloc(33).unwrap();
        let buffers: Vec<_> = (0..4).map(|_| arena.buffer(33).unwrap()).collect();
        let rounds = if cfg!(miri) { 3 } else { 100 };
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = buffers
                .into_iter()
                .zip(1..)
                .map(|(mut buffer, value)| {
                    scope.spawn(move || {
                        (0..rounds).for_each(|_| buffer.fill(value));
                        Arc::new(buffer)
                    })
                })
                .collect();
            (0..rounds).for_each(|_| region.fill(9).unwrap());
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (buffer, value) in done.iter().zip(1..) {
            assert_eq!(***buffer, [value; 33]);
        }
        let mut seen = [0; 33];
        region.read(0, &mut seen).unwrap();
        assert_eq!(seen, [9; 33]);
    }
}
