//! The paged buffer.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::slice;
use std::sync::Arc;

use super::mapping::Mapping;
use super::{PagedHold, Paging};
use crate::memory::{Arena, MemoryError, Target};

/// Memory that can be sent from, of any size, at an address that never changes.
///
/// It reads as a slice. To be written it is asked for a [guard](PagedBuffer::write), as long as which lives none of the pages is moved; pages move
/// between memory of their own and the arena when they are sent or others need the arena. Threads that write and send different parts
/// at the same time [split](PagedBuffer::split_off) it first.
///
/// What goes round the processor's page tables must have a guard, also to read: a file opened with `O_DIRECT` or a device may take bytes from the
/// memory that was behind an address when it began, and without a guard that may be another page's by then. Write such a file from `&guard[..]`, not from
/// `&buffer[..]`.
///
/// Given away to be sent, itself or as an `Arc<PagedBuffer>`, it isn't copied where the node and its peer have a bulk lane, the send is long enough for that, and the UTLB has all pages of what is
/// sent pinned after it has looked them up: then they are sent from where they lie, and held there until the send is over. If one isn't pinned, for want of room or because that wouldn't
/// pay yet, all of it is copied. A send of `&buffer` goes through the UTLB as well, and is copied always, since the buffer is the caller's again at once. (It isn't `AsRef<[u8]>`: `&buffer[..]` is
/// copied like any bytes, without a look-up.)
///
/// A child made by `fork` hasn't got it: see [`memory`](crate::memory).
pub struct PagedBuffer {
    paging: Paging,
    mapping: Arc<Mapping>,
    /// Which bytes of the mapping this part has. All of it but the end of the last part lies at page boundaries.
    part: Range<usize>,
    /// The pages that a guard keeps where they are, or did when it was forgotten.
    excluded: Option<Range<u64>>,
}

impl PagedBuffer {
    pub(super) fn new(paging: Paging, mapping: Arc<Mapping>, len: usize) -> PagedBuffer {
        PagedBuffer { paging, mapping, part: 0..len, excluded: None }
    }

    /// Lends all of it to be written.
    pub fn write(&mut self) -> PagedMut<'_> {
        self.lend(self.part.clone())
    }

    /// Lends some bytes to be written; others may be moved meanwhile.
    ///
    /// # Errors
    /// When they reach past the end.
    pub fn write_part(&mut self, bytes: Range<usize>) -> Result<PagedMut<'_>, MemoryError> {
        let inside = self.inside(bytes)?;
        Ok(self.lend(inside))
    }

    fn lend(&mut self, inside: Range<usize>) -> PagedMut<'_> {
        self.settle();
        let pages = self.pages(&inside);
        self.paging.exclude(pages.clone());
        self.excluded = Some(pages);
        PagedMut { buffer: self, inside }
    }

    /// Ends what a guard has begun.
    fn settle(&mut self) {
        if let Some(pages) = self.excluded.take() {
            self.paging.include(pages);
        }
    }

    /// Splits it in two at byte `at`, a multiple of the [page size](Paging::page_size): it keeps what is before, and the rest is returned. Both have the
    /// addresses they had. The memory behind is freed part by part.
    ///
    /// # Errors
    /// When `at` is past the end, or in the middle of a page. Then nothing has changed.
    pub fn split_off(&mut self, at: usize) -> Result<PagedBuffer, MemoryError> {
        let page = self.paging.page_size();
        let inside = self.inside(at..self.len())?;
        if !at.is_multiple_of(page) && at != self.len() {
            return Err(MemoryError::InsidePage { at, page });
        }
        self.settle();
        self.part.end = inside.start;
        self.mapping.join();
        Ok(PagedBuffer { paging: self.paging.clone(), mapping: self.mapping.clone(), part: inside, excluded: None })
    }

    /// Takes back a part that was [split off](PagedBuffer::split_off) its end.
    ///
    /// # Errors
    /// When `after` isn't what follows; then it is given back.
    pub fn unsplit(&mut self, mut after: PagedBuffer) -> Result<(), PagedBuffer> {
        if !Arc::ptr_eq(&self.mapping, &after.mapping) || self.part.end != after.part.start {
            return Err(after);
        }
        after.settle();
        self.settle();
        self.part.end = after.part.end;
        // So that dropping it frees nothing.
        after.part.start = after.part.end;
        Ok(())
    }

    /// Has the UTLB look up the pages of `bytes`, pin them if its rule says so, and keep those that are pinned where they are. What a send does.
    ///
    /// # Panics
    /// When `bytes` reaches past the end, as slices do.
    pub fn hold(&self, bytes: Range<usize>) -> PagedHold<'_> {
        let _ = &self[bytes.clone()];
        self.paging.hold(self.pages(&(self.part.start + bytes.start..self.part.start + bytes.end)))
    }

    /// Length, bytes.
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether there is nothing in it: one end of a split at the other.
    pub fn is_empty(&self) -> bool {
        self.part.is_empty()
    }

    /// Whether its pages are pinned to pages of this arena.
    pub(crate) fn is_over(&self, arena: &Arena) -> bool {
        self.paging.inner.arena.is(arena)
    }

    /// Its address, which never changes.
    pub fn as_ptr(&self) -> *const u8 {
        self.pointer(self.part.start)
    }

    /// Where byte `at` of the mapping is.
    fn pointer(&self, at: usize) -> *mut u8 {
        self.mapping.start().wrapping_add(at)
    }

    /// Bytes of this part as bytes of the mapping.
    fn inside(&self, bytes: Range<usize>) -> Result<Range<usize>, MemoryError> {
        let Range { start, end } = bytes;
        if start > end || end > self.len() {
            let len = end.saturating_sub(start);
            return Err(MemoryError::OutOfRange { offset: start as u64, len, region: self.len() });
        }
        Ok(self.part.start + start..self.part.start + end)
    }

    /// The pages of these bytes of the mapping.
    fn pages(&self, inside: &Range<usize>) -> Range<u64> {
        let (page, first) = (self.paging.page_size(), self.mapping.first_page());
        if inside.is_empty() {
            return first..first;
        }
        // A power of two: dividing by it would take longer than the look-up.
        let shift = page.ilog2();
        first + (inside.start >> shift) as u64..first + ((inside.end + page - 1) >> shift) as u64
    }
}

impl Deref for PagedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the part lies in the mapping, which lives as long as it, and is initialised: new pages are zero. Parts don't overlap,
        // and whoever writes this one does so through `PagedMut`, which borrows it. The pager replaces pages by others with the same bytes, in
        // one step.
        unsafe { slice::from_raw_parts(self.pointer(self.part.start), self.part.len()) }
    }
}

impl Target for PagedBuffer {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let end = self.part.start + at + bytes.len();
        assert!(end <= self.part.end, "a store past the end of its target");
        self.lend(self.part.start + at..end).copy_from_slice(bytes);
    }
}

impl Drop for PagedBuffer {
    fn drop(&mut self) {
        self.settle();
        let own = self.pages(&self.part);
        // The frames go back first: after that nobody moves these pages, nor pins them ahead for the part before, though others may have the
        // frames now that still are behind their addresses.
        self.paging.unmap(own.clone());
        if self.mapping.leave() {
            self.paging.remove(&self.mapping);
        } else {
            self.mapping.forget(own);
        }
    }
}

impl fmt::Debug for PagedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedBuffer").field("at", &self.as_ptr()).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Bytes of a [`PagedBuffer`] to be written. None of their pages is moved while it lives.
pub struct PagedMut<'b> {
    buffer: &'b mut PagedBuffer,
    inside: Range<usize>,
}

impl Deref for PagedMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `PagedBuffer`; the range was checked when this was made.
        unsafe { slice::from_raw_parts(self.buffer.pointer(self.inside.start), self.inside.len()) }
    }
}

impl DerefMut for PagedMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `PagedBuffer`. The part's only owner is borrowed for writing, so nobody else reads or writes here, and because the pages
        // are excluded, the pager doesn't either.
        unsafe { slice::from_raw_parts_mut(self.buffer.pointer(self.inside.start), self.inside.len()) }
    }
}

impl Drop for PagedMut<'_> {
    fn drop(&mut self) {
        self.buffer.settle();
    }
}

impl fmt::Debug for PagedMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedMut").field("len", &self.len()).finish_non_exhaustive()
    }
}
