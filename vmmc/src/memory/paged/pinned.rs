//! Part of a paged buffer that is in the arena, page by page: it can be sent from where it lies.
//!
//! ```text
//!   the part        | page 0 | page 1 | page 2 | page 3 |
//!   the arena       ... | page 2 | ... | page 0 | page 1 | ... | page 3 | ...      three runs
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::{PagedBuffer, PagedHold};
use crate::memory::Arena;

/// A paged buffer, and the hold of those of its pages that are sent.
#[derive(Debug)]
pub(in crate::memory) struct PinnedPart {
    buffer: Arc<PagedBuffer>,
    hold: PagedHold<'static>,
}

impl PinnedPart {
    /// The pages that `hold` has, one that was made of `buffer`: all of them [are pinned](PagedHold::is_pinned).
    pub(in crate::memory) fn new(buffer: Arc<PagedBuffer>, hold: PagedHold<'static>) -> PinnedPart {
        debug_assert!(hold.is_pinned());
        PinnedPart { buffer, hold }
    }

    /// All of the buffer.
    pub(in crate::memory) fn buffer(&self) -> &PagedBuffer {
        &self.buffer
    }

    /// The buffer. Its pages may move again.
    pub(in crate::memory) fn into_buffer(self) -> Arc<PagedBuffer> {
        self.buffer
    }

    /// Where in `arena` bytes `at..at + len` of the buffer, which it has, lie: where each run begins, and its length, bytes. None of them continues the one before it. `None` when some
    /// aren't held, or it is another arena.
    pub(in crate::memory) fn runs(
        &self,
        arena: &Arena,
        at: usize,
        len: usize,
    ) -> Option<impl Iterator<Item = (u64, usize)>> {
        if !self.buffer.is_over(arena) {
            return None;
        }
        let page = arena.page_size() as u64;
        // By the program's addresses: pages are numbered by these.
        let start = (self.buffer.as_ptr().addr() + at) as u64;
        let bytes = start..start + len as u64;
        let runs = self.hold.slice();
        let first = runs.partition_point(|run| run.pages.end * page <= bytes.start);
        let held = runs.get(first)?.pages.start * page..runs.last()?.pages.end * page;
        let inside = held.start <= bytes.start && bytes.end <= held.end;
        inside.then(|| {
            runs[first..].iter().map_while(move |run| {
                let Range { start, end } = run.pages;
                let own = bytes.start.max(start * page)..bytes.end.min(end * page);
                let frame = u64::from(run.frame?) * page;
                (!own.is_empty()).then(|| (frame + own.start - start * page, (own.end - own.start) as usize))
            })
        })
    }
}
