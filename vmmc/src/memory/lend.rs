//! Lending: bytes of a region as a slice, in place, while nobody writes them.
//!
//! A [`Region`] is written by whoever has a handle on it, so it has no slices to give. A [`Loan`] is the exception: it says which bytes nobody may
//! write as long as it lives. Three kinds of writers there are, and each is held to that in its own way:
//!
//! ```text
//!     Region::write, Region::discard     any thread    hold the map of loans for reading, from the look at it to the last byte
//!     Writer::put                        its owner     only the owner's own calls lend, so between look and last byte nobody can
//!     the arena, zeroing what it frees   the last one  a loan is a handle on the region: it goes back only after that
//! ```
//!
//! To lend is to hold the map for writing: that waits for writers of the first kind, and those of the second can't be at it. So nothing that writes is
//! under way when a loan begins, and none begins that would touch its bytes before it ends. And a write touches the bytes it is about and no
//! others: see [`copy`](super::copy).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{MemoryError, Region};

/// Which bytes of a region are lent, and how often: where each stretch begins, and how many loans it is part of, up to the next.
#[derive(Debug, Default)]
pub(super) struct Cuts(BTreeMap<u64, usize>);

impl Cuts {
    /// How often the byte before `at` is lent. (Before the first stretch: not at all.)
    fn before(&self, at: u64) -> usize {
        self.0.range(..at).next_back().map_or(0, |(_, &loans)| loans)
    }

    /// Has a stretch begin at `at`.
    fn cut(&mut self, at: u64) {
        let loans = self.before(at);
        self.0.entry(at).or_insert(loans);
    }

    /// Has no stretch begin at `at` that is as the one before.
    fn join(&mut self, at: u64) {
        if self.0.get(&at) == Some(&self.before(at)) {
            self.0.remove(&at);
        }
    }

    fn lend(&mut self, range: &Range<u64>) {
        self.cut(range.start);
        self.cut(range.end);
        self.0.range_mut(range.clone()).for_each(|(_, loans)| *loans += 1);
        self.join(range.start);
        self.join(range.end);
    }

    /// Undoes a [`Cuts::lend`] of the same range.
    fn end(&mut self, range: &Range<u64>) {
        self.cut(range.start);
        self.cut(range.end);
        self.0.range_mut(range.clone()).for_each(|(_, loans)| *loans -= 1);
        self.join(range.start);
        self.join(range.end);
    }

    /// Whether any of these bytes is lent.
    fn has(&self, range: &Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let first = self.0.range(..=range.start).next_back().is_some_and(|(_, &loans)| loans > 0);
        first || self.0.range(range.clone()).any(|(_, &loans)| loans > 0)
    }
}

/// What is lent of a region.
#[derive(Debug, Default)]
pub(super) struct Lending {
    /// How many loans there are. It grows only while the map is held for writing.
    loans: AtomicUsize,
    cuts: RwLock<Cuts>,
}

impl Lending {
    /// Has nothing be lent, of `range` of a region that is `region` bytes long, as long as this is held.
    ///
    /// # Errors
    /// When some of it is lent.
    pub(super) fn hold(&self, range: Range<u64>) -> Result<RwLockReadGuard<'_, Cuts>, MemoryError> {
        // Nothing that is done under the lock panics but on a mistake of its own.
        let cuts = self.cuts.read().unwrap_or_else(PoisonError::into_inner);
        if cuts.has(&range) { Err(MemoryError::Lent { start: range.start, end: range.end }) } else { Ok(cuts) }
    }

    /// Whether any of these bytes is lent. That nothing is, is known without a look at the map.
    ///
    /// What loans that have ended have read, they have read before this returns (the last of them has said so by a store that this load
    /// sees, or under the lock).
    #[inline]
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.loans.load(Ordering::Acquire) > 0 && self.look(range)
    }

    #[cold]
    fn look(&self, range: &Range<u64>) -> bool {
        self.cuts.read().unwrap_or_else(PoisonError::into_inner).has(range)
    }
}

/// Bytes of an export, or another region of the arena, in place: a slice that nobody writes as long as this lives.
///
/// It keeps the memory, also when the export is dropped meanwhile. Loans of the same bytes may live side by side. While one does, whoever wants to
/// write them is refused: peers that send there, this node's own sends, [`Export::write`](crate::Export::write),
/// [`Export::discard`](crate::Export::discard). See [`Export::lend`](crate::Export::lend).
pub struct Loan {
    region: Region,
    /// It lies inside the region.
    range: Range<u64>,
}

impl Loan {
    /// Lends bytes of a region. The caller owns the region's [`Writer`](super::Writer), and doesn't use it meanwhile.
    ///
    /// # Errors
    /// When the region has no such range.
    pub(super) fn new(region: &Region, range: Range<u64>) -> Result<Loan, MemoryError> {
        let Range { start, end } = range;
        if start > end || end > region.len() as u64 {
            return Err(MemoryError::NoRange { start, end, region: region.len() });
        }
        if start < end {
            let lending = region.lending();
            let mut cuts = lending.cuts.write().unwrap_or_else(PoisonError::into_inner);
            cuts.lend(&range);
            lending.loans.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Loan { region: region.clone(), range })
    }

    /// Where in the export it lies.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let len = (self.range.end - self.range.start) as usize;
        // SAFETY: `new` has checked that the bytes lie inside the region, whose memory lives as long as this handle on it, and has been initialised.
        // From then on until `drop` the range is in the map of loans, and nobody writes its bytes: see the top of this file. Those who read them
        // meanwhile, by `copy`, only read.
        unsafe { slice::from_raw_parts(self.region.pointer().wrapping_add(self.range.start as usize), len) }
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("range", &self.range).finish_non_exhaustive()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.range.is_empty() {
            let lending = self.region.lending();
            let mut cuts = lending.cuts.write().unwrap_or_else(PoisonError::into_inner);
            cuts.end(&self.range);
            // Whoever sees this without the lock may write what was lent here: after all that was read.
            lending.loans.fetch_sub(1, Ordering::Release);
        }
    }
}
