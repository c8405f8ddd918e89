//! A region: a buffer of the arena that several parties may read and write at once.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lend::{Lending, Loan};
use super::piece::Piece;
use super::{Arena, MemoryError, copy};

/// A piece of the arena, shared by whoever has a clone of this handle. It goes back to the arena with the last.
///
/// Reads and writes copy, by relaxed atomic accesses: they may race with each other and with the engine.
#[derive(Clone, Debug)]
pub struct Region {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    piece: Piece,
    lending: Lending,
    /// There is a [`Writer`].
    has_writer: AtomicBool,
}

impl Region {
    /// Shares a piece.
    pub(super) fn new(piece: Piece) -> Region {
        let shared = Shared { piece, lending: Lending::default(), has_writer: AtomicBool::new(false) };
        Region { shared: Arc::new(shared) }
    }

    /// Length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.shared.piece.len()
    }

    pub(super) fn lending(&self) -> &Lending {
        &self.shared.lending
    }

    /// Where it begins.
    pub(super) fn pointer(&self) -> *mut u8 {
        self.shared.piece.pointer()
    }

    /// What it is a piece of.
    pub(super) fn arena(&self) -> &Arena {
        self.shared.piece.arena()
    }

    /// Where in `arena` it begins; `None` when it is of another one.
    pub(super) fn place(&self, arena: &Arena) -> Option<u64> {
        self.shared.piece.place(arena)
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// When that reaches past the end, or some of it is [lent](Loan); then nothing is written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = self.shared.piece.range(offset, bytes.len())?;
        let _unlent = self.lending().hold(offset..offset + bytes.len() as u64)?;
        // SAFETY: `range` has checked that the bytes lie within the piece, which this keeps; nobody else has been given it. All access to
        // a region is by `copy`, but for loans of other bytes: nobody lends these while the map of loans is held.
        unsafe { copy::store(at, bytes) };
        Ok(())
    }

    /// Copies bytes from `offset` on to `bytes`, as many as it has room for.
    ///
    /// # Errors
    /// When that reaches past the end; then nothing is read.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let at = self.shared.piece.range(offset, bytes.len())?;
        // SAFETY: as in `write`; and who reads bytes that are lent does no harm.
        unsafe { copy::load(at, bytes) };
        Ok(())
    }

    /// Sets every byte to `value`.
    ///
    /// # Errors
    /// When some are [lent](Loan); then those before them may have been set.
    pub fn fill(&self, value: u8) -> Result<(), MemoryError> {
        let block = [value; 4096];
        for offset in (0..self.len()).step_by(block.len()) {
            let len = block.len().min(self.len() - offset);
            self.write(offset as u64, &block[..len])?;
        }
        Ok(())
    }

    /// Gives the memory of the whole pages in `range` back to the system, and sets what else there is of it to zero: all of it reads as zeros from
    /// then on. Memory is taken again as it is written or read. Of an arena in huge pages, and where the system can't, nothing is given back.
    ///
    /// Others may write the same bytes meanwhile: what they have written is there, or zeros.
    ///
    /// # Errors
    /// When there is no such range, or some of it is [lent](Loan); then nothing has happened.
    pub fn discard(&self, range: Range<u64>) -> Result<(), MemoryError> {
        let Range { start, end } = range;
        if start > end || end > self.len() as u64 {
            return Err(MemoryError::NoRange { start, end, region: self.len() });
        }
        let _unlent = self.lending().hold(range)?;
        self.shared.piece.discard(start as usize..end as usize);
        Ok(())
    }

    /// Its only writer that needs no lock; `None` when it has one already.
    pub(crate) fn writer(&self) -> Option<Writer> {
        let had = self.shared.has_writer.swap(true, Ordering::Acquire);
        (!had).then(|| Writer { region: self.clone() })
    }
}

/// The one who writes a region without asking each time whether it has been lent: only he lends it.
#[derive(Debug)]
pub(crate) struct Writer {
    region: Region,
}

impl Writer {
    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// When that reaches past the end, or some of it is lent; then nothing is written.
    #[inline]
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = self.region.shared.piece.range(offset, bytes.len())?;
        let (start, end) = (offset, offset + bytes.len() as u64);
        if self.region.lending().has(&(start..end)) {
            return Err(MemoryError::Lent { start, end });
        }
        // SAFETY: as in `Region::write`. Nobody lends these bytes meanwhile, because `lend` needs this writer, of which there is one, for itself.
        unsafe { copy::store(at, bytes) };
        Ok(())
    }

    /// Whether any of these bytes is lent.
    #[inline]
    pub(crate) fn has_lent(&self, range: Range<u64>) -> bool {
        self.region.lending().has(&range)
    }

    /// Lends bytes. Waits for those who are writing into the region.
    ///
    /// # Errors
    /// When the region has no such range.
    pub(crate) fn lend(&mut self, range: Range<u64>) -> Result<Loan, MemoryError> {
        Loan::new(&self.region, range)
    }
}

impl Deref for Writer {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.region.shared.has_writer.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use crate::memory::Arena;

    #[test]
    fn nothing_outside_is_touched() {
        let arena = Arena::new(1 << 16).unwrap();
        let (low, high) = (arena.alloc(100).unwrap(), arena.alloc(100).unwrap());
        low.fill(1).unwrap();
        for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, usize::MAX)] {
            let bytes = vec![9; len.min(200)];
            if bytes.len() == len {
                assert!(low.write(offset, &bytes).is_err(), "{offset} {len}");
                assert!(low.read(offset, &mut vec![0; len]).is_err());
            } else {
                assert!(low.shared.piece.range(offset, len).is_err());
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
                scope.spawn(move || (0..rounds).for_each(|_| region.fill(value).unwrap()));
            }
            let mut seen = vec![0; 4099];
            for _ in 0..rounds {
                region.read(0, &mut seen).unwrap();
                assert!(seen.iter().all(|b| [0, 0x11, 0x22].contains(b)));
            }
        });
    }
}
