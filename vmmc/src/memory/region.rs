//! A region: a buffer of the arena that several parties may read and write at once.

use std::sync::Arc;

use super::piece::Piece;
use super::{MemoryError, copy};

/// A piece of the arena, shared by whoever has a clone of this handle. It goes back to the arena with the last.
///
/// Reads and writes copy, by relaxed atomic accesses: they may race with each other and with the engine.
#[derive(Clone, Debug)]
pub struct Region {
    piece: Arc<Piece>,
}

impl Region {
    /// Shares a piece.
    pub(super) fn new(piece: Piece) -> Region {
        Region { piece: Arc::new(piece) }
    }

    /// Length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.piece.len()
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// When that reaches past the end; then nothing is written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = self.piece.range(offset, bytes.len())?;
        // SAFETY: `range` has checked that the bytes lie within the piece, which takes whole words of the arena's mapping and keeps that;
        // nobody else has been given it, and all access to a region is by `copy`.
        unsafe { copy::store(at, bytes) };
        Ok(())
    }

    /// Copies bytes from `offset` on to `bytes`, as many as it has room for.
    ///
    /// # Errors
    /// When that reaches past the end; then nothing is read.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let at = self.piece.range(offset, bytes.len())?;
        // SAFETY: as in `write`.
        unsafe { copy::load(at, bytes) };
        Ok(())
    }

    /// Sets every byte to `value`.
    pub fn fill(&self, value: u8) {
        let block = [value; 4096];
        for offset in (0..self.len()).step_by(block.len()) {
            let len = block.len().min(self.len() - offset);
            let written = self.write(offset as u64, &block[..len]);
            debug_assert!(written.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::memory::Arena;

    #[test]
    fn nothing_outside_is_touched() {
        let arena = Arena::new(1 << 16).unwrap();
        let (low, high) = (arena.alloc(100).unwrap(), arena.alloc(100).unwrap());
        low.fill(1);
        for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, usize::MAX)] {
            let bytes = vec![9; len.min(200)];
            if bytes.len() == len {
                assert!(low.write(offset, &bytes).is_err(), "{offset} {len}");
                assert!(low.read(offset, &mut vec![0; len]).is_err());
            } else {
                assert!(low.piece.range(offset, len).is_err());
            }
        }
        let mut seen = [0; 100];
        low.read(0, &mut seen).unwrap();
        assert_eq!(seen, [1; 100]);
        high.read(0, &mut seen).unwrap();
        assert_eq!(seen, [0; 100]);
        assert!(low.write(100, &[]).is_ok());
    }

    #[test]
    fn threads_may_race() {
        let region = Arena::new(1 << 16).unwrap().alloc(4099).unwrap();
        let rounds = if cfg!(miri) { 3 } else { 300 };
        std::thread::scope(|scope| {
            for value in [0x11, 0x22] {
                let region = &region;
                scope.spawn(move || (0..rounds).for_each(|_| region.fill(value)));
            }
            let mut seen = vec![0; 4099];
            for _ in 0..rounds {
                region.read(0, &mut seen).unwrap();
                assert!(seen.iter().all(|b| [0, 0x11, 0x22].contains(b)));
            }
        });
    }
}
