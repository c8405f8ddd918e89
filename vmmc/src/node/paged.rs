//! Paged buffers of a node: making them, sending from them.

use std::ops::Range;
use std::sync::Arc;

use super::source::Source;
use super::source::sealed::{Owned, Sealed};
use super::{Node, Shared};
use crate::error::Error;
use crate::memory::{Arena, DirectSource, Origin, PagedBuffer, PagedHold, Paging};

impl Node {
    /// Makes a paged buffer of `len` bytes, zero: memory of any size to send from, far more than the arena if wanted. It takes memory from the system as it is
    /// touched, and pages of the arena as it is sent, as [`Builder::utlb`](super::Builder::utlb) says. Doesn't block.
    ///
    /// # Errors
    /// When `len` is zero, or the system has no such mapping.
    pub fn map(&self, len: usize) -> Result<PagedBuffer, Error> {
        Ok(self.utlb().map(len)?)
    }

    /// The UTLB that paged buffers are sent through: its counters, its budget.
    pub fn utlb(&self) -> &Paging {
        let shared: &Shared = &self.handle.shared;
        &shared.identity.paging
    }
}

/// The pages are looked up; the bytes are the caller's again as soon as the send has started, and so they are copied.
impl Source for &PagedBuffer {
    type Held = ();

    fn bytes(&self) -> &[u8] {
        self
    }

    fn hold(&self, part: Range<usize>) -> Option<PagedHold<'_>> {
        Some(PagedBuffer::hold(self, part))
    }

    fn into_held(self) {}
}

impl Sealed for &PagedBuffer {}

impl Source for PagedBuffer {
    type Held = PagedBuffer;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn hold(&self, part: Range<usize>) -> Option<PagedHold<'_>> {
        Some(PagedBuffer::hold(self, part))
    }

    fn into_held(self) -> PagedBuffer {
        self
    }

    fn is_in(&self, arena: &Arena) -> bool {
        self.is_over(arena)
    }

    fn into_direct(self, part: Range<usize>) -> Result<DirectSource, (PagedBuffer, Option<PagedHold<'static>>)> {
        let hold = PagedBuffer::hold(&self, part).into_owned();
        if hold.is_pinned() { Ok(DirectSource::of_paged(Arc::new(self), hold)) } else { Err((self, Some(hold))) }
    }
}

impl Sealed for PagedBuffer {}

impl Owned for PagedBuffer {
    fn of_origin(origin: Origin) -> Option<PagedBuffer> {
        Arc::into_inner(Arc::of_origin(origin)?)
    }
}

/// A buffer that several sends share.
impl Source for Arc<PagedBuffer> {
    type Held = Arc<PagedBuffer>;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn hold(&self, part: Range<usize>) -> Option<PagedHold<'_>> {
        Some(PagedBuffer::hold(self, part))
    }

    fn into_held(self) -> Arc<PagedBuffer> {
        self
    }

    fn is_in(&self, arena: &Arena) -> bool {
        self.is_over(arena)
    }

    fn into_direct(self, part: Range<usize>) -> Result<DirectSource, (Arc<PagedBuffer>, Option<PagedHold<'static>>)> {
        let hold = PagedBuffer::hold(&self, part).into_owned();
        if hold.is_pinned() { Ok(DirectSource::of_paged(self, hold)) } else { Err((self, Some(hold))) }
    }
}

impl Sealed for Arc<PagedBuffer> {}

impl Owned for Arc<PagedBuffer> {
    fn of_origin(origin: Origin) -> Option<Arc<PagedBuffer>> {
        match origin {
            Origin::Paged(buffer) => Some(buffer),
            _ => None,
        }
    }
}
