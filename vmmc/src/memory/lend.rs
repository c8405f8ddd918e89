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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::{Arena, Writer};

    fn region(len: usize) -> (Arena, Region, Writer) {
        let arena = Arena::new(1 << 16).unwrap();
        let region = arena.alloc(len).unwrap();
        let writer = region.writer().unwrap();
        (arena, region, writer)
    }

    #[test]
    fn nobody_writes_what_is_lent() {
        let (_arena, region, mut writer) = region(100);
        region.fill(1).unwrap();
        let loan = writer.lend(13..29).unwrap();
        let again = writer.lend(20..40).unwrap();
        assert_eq!((loan.range(), &loan[..], again.len()), (13..29, &[1; 16][..], 20));
        for (at, len) in [(13, 1), (28, 1), (0, 14), (0, 100), (39, 1), (39, 61)] {
            let bytes = vec![2; len];
            let end = at + len as u64;
            let lent = |result| matches!(result, Err(MemoryError::Lent { start, end: e }) if start == at && e == end);
            assert!(lent(region.write(at, &bytes)) && lent(writer.put(at, &bytes)) && lent(region.discard(at..end)));
            assert!(writer.has_lent(at..end));
        }
        // Beside it, in the same word, and nothing at all, also inside.
        region.write(10, &[3; 3]).unwrap();
        writer.put(40, &[3; 3]).unwrap();
        writer.put(20, &[]).unwrap();
        region.discard(50..60).unwrap();
        region.discard(20..20).unwrap();
        assert_eq!((&loan[..], &again[..]), (&[1; 16][..], &[1; 20][..]));
        drop(loan);
        assert!(writer.put(20, &[4]).is_err());
        writer.put(13, &[4; 7]).unwrap();
        drop(again);
        region.fill(5).unwrap();
        writer.put(0, &[6; 100]).unwrap();
    }

    #[test]
    fn a_loan_keeps_the_memory() {
        let (arena, region, mut writer) = region(1000);
        region.write(0, &[7; 1000]).unwrap();
        let loan = writer.lend(0..1000).unwrap();
        drop((region, writer));
        let mut others = Vec::new();
        while let Ok(mut buffer) = arena.buffer(1000) {
            buffer.fill(9);
            others.push(buffer);
        }
        let loan = std::thread::spawn(move || {
            assert_eq!(*loan, [7; 1000]);
            loan
        });
        drop(loan.join().unwrap());
        drop(others);
        assert_eq!(arena.available(), arena.len());
    }

    #[test]
    fn there_is_one_writer_at_a_time_and_it_knows_the_loans_of_the_one_before() {
        let (_arena, region, mut writer) = region(100);
        let loan = writer.lend(0..10).unwrap();
        assert!(region.writer().is_none());
        drop(writer);
        let mut writer = region.writer().unwrap();
        assert!(writer.put(9, &[1]).is_err());
        drop(loan);
        writer.put(9, &[1]).unwrap();
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn ranges_that_are_not_there_are_not_lent() {
        let (_arena, region, mut writer) = region(100);
        for range in [0..101, 50..40, 101..101, u64::MAX - 1..u64::MAX] {
            assert!(matches!(writer.lend(range.clone()), Err(MemoryError::NoRange { .. })), "{range:?}");
            assert!(matches!(region.discard(range.clone()), Err(MemoryError::NoRange { .. })), "{range:?}");
        }
        let nothing = [writer.lend(100..100).unwrap(), writer.lend(0..0).unwrap()];
        assert!(nothing.iter().all(|loan| loan.is_empty()));
        region.fill(1).unwrap();
    }

    /// A thread lends and reads, two write, each in its own way: whatever is lent doesn't change.
    #[test]
    fn threads_lend_and_write_at_once() {
        let (_arena, region, writer) = region(203);
        let rounds = if cfg!(miri) { 20 } else { 300 };
        let writer = std::sync::Mutex::new(writer);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(1);
                while !done.load(Ordering::Relaxed) {
                    let _ = region.write(rng.u64(..180), &[rng.u8(..); 23]);
                }
            });
            scope.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(2);
                while !done.load(Ordering::Relaxed) {
                    let _ = writer.lock().unwrap().put(rng.u64(..180), &[rng.u8(..); 23]);
                }
            });
            let mut rng = fastrand::Rng::with_seed(3);
            for _ in 0..rounds {
                let start = rng.u64(..190);
                let loan = writer.lock().unwrap().lend(start..start + 13).unwrap();
                let before = loan.to_vec();
                std::thread::yield_now();
                assert_eq!(*loan, before);
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "numbers alone")]
        fn the_map_of_loans_is_as_if_each_byte_were_counted(steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..40), 1..60)) {
            let (mut cuts, mut model) = (Cuts::default(), [0usize; 40]);
            let mut loans = Vec::new();
            for (lend, a, b) in steps {
                let range = a.min(b)..a.max(b);
                if lend && !range.is_empty() {
                    cuts.lend(&range);
                    model[range.start as usize..range.end as usize].iter_mut().for_each(|n| *n += 1);
                    loans.push(range);
                } else if !loans.is_empty() {
                    let range = loans.swap_remove(a as usize % loans.len());
                    cuts.end(&range);
                    model[range.start as usize..range.end as usize].iter_mut().for_each(|n| *n -= 1);
                }
                for start in 0..40 {
                    for end in (start..=40).step_by(3) {
                        let lent = model[start..end].iter().any(|&n| n > 0);
                        prop_assert_eq!(cuts.has(&(start as u64..end as u64)), lent, "{:?} {}..{}", cuts, start, end);
                    }
                }
                let changes = (0..=40).filter(|&at| {
                    let count = |at: usize| model.get(at).copied().unwrap_or(0);
                    count(at) != at.checked_sub(1).map_or(0, count)
                });
                prop_assert_eq!(cuts.0.len(), changes.count(), "{:?}", cuts);
            }
        }
    }
}
