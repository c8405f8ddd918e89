//! Paged buffers: memory of any size, far more than the arena if wanted, that is sent from through the [UTLB](super::utlb).
//!
//! [`Paging`] is a node's UTLB with the pager that moves real pages, and what makes [`PagedBuffer`]s.

mod buffer;
mod fragments;
mod mapping;
mod measure;
mod pager;
mod pinned;
mod remapping;
#[cfg(all(test, not(miri)))]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::buffer::{PagedBuffer, PagedMut};
use self::mapping::Mapping;
use self::pager::ArenaPager;
pub(super) use self::pinned::PinnedPart;
pub use self::remapping::{RemapTimes, Remapping};
use super::utlb::{Config, Counters, Hold, Run, Utlb};
use super::{Arena, MemoryError};

/// The UTLB of a node's arena: a handle, of which clones are the same UTLB.
///
/// ```
/// use vmmc::memory::{Arena, Paging, utlb::{Config, Rule}};
///
/// let paging = Paging::new(Arena::new(1 << 20)?, Config { rule: Rule::Pin, ..Config::default() });
/// let mut buffer = paging.map(1 << 30)?; // a thousand times the arena
/// buffer.write()[..5].copy_from_slice(b"hello");
/// let hold = buffer.hold(0..5); // what a send does
/// assert_eq!(paging.counters().pinned, 1);
/// assert_eq!(&buffer[..5], b"hello");
/// drop(hold);
/// paging.set_budget(0);
/// assert_eq!((paging.counters().pinned, &buffer[..5]), (0, &b"hello"[..]));
/// # Ok::<(), vmmc::memory::MemoryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Paging {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    arena: Arena,
    page: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    utlb: Utlb,
    pager: ArenaPager,
}

impl Paging {
    /// A UTLB that pins to pages of `arena`. Without a budget in `config` it may have half of them. The costs in `config` are those of pages of 4096
    /// bytes.
    pub fn new(arena: Arena, config: Config) -> Paging {
        let page = arena.page_size();
        let budget = config.budget.unwrap_or(arena.len() / 2);
        let config = Config { budget: Some(budget), costs: config.costs.for_page_size(page), ..config };
        let state = State { utlb: Utlb::new(budget / page, config), pager: ArenaPager::new(arena.clone()) };
        Paging { inner: Arc::new(Inner { arena, page, state: Mutex::new(state) }) }
    }

    /// Makes a paged buffer of `len` bytes, zero, at an address that never changes and is a multiple of [`Paging::page_size`]. Memory is taken from
    /// the system as it is touched, by reading too.
    ///
    /// # Errors
    /// When `len` is zero, or the system has no such mapping.
    pub fn map(&self, len: usize) -> Result<PagedBuffer, MemoryError> {
        let mapping = Arc::new(Mapping::new(len, self.inner.page)?);
        let mut state = self.lock();
        state.pager.add(&mapping);
        state.utlb.map(mapping.pages());
        drop(state);
        Ok(PagedBuffer::new(self.clone(), mapping, len))
    }

    /// What is pinned and moved at a time, bytes: the arena's page.
    pub fn page_size(&self) -> usize {
        self.inner.page
    }

    /// The settings; the budget is that of the start.
    pub fn config(&self) -> Config {
        *self.lock().utlb.config()
    }

    /// What has been counted, in pages of [`Paging::page_size`].
    pub fn counters(&self) -> Counters {
        self.lock().utlb.counters()
    }

    /// Changes how much may be pinned, bytes; parts of a page don't count. When that is less than there is, the rest is unpinned at once; what transfers
    /// hold, or somebody writes at the moment, as soon as they don't any more. More than the arena has room for can't be pinned, whatever
    /// the budget: then it is copied. Takes microseconds per page that is unpinned.
    pub fn set_budget(&self, bytes: usize) {
        let State { utlb, pager } = &mut *self.lock();
        utlb.set_budget(bytes / self.inner.page, pager);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug of this library. What it leaves is at worst pages that stay where they are.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, pages: Range<u64>) -> PagedHold<'_> {
        let State { utlb, pager } = &mut *self.lock();
        PagedHold { hold: utlb.hold(pages, pager), paging: Cow::Borrowed(self) }
    }

    fn exclude(&self, pages: Range<u64>) {
        self.lock().utlb.exclude(pages);
    }

    fn include(&self, pages: Range<u64>) {
        let State { utlb, pager } = &mut *self.lock();
        utlb.include(pages, pager);
    }

    /// A part of a mapping has gone: its frames come back, and nobody moves its pages any more.
    fn unmap(&self, pages: Range<u64>) {
        let State { utlb, pager } = &mut *self.lock();
        utlb.unmap(pages, pager);
    }

    /// The last part of a mapping has gone.
    fn remove(&self, mapping: &Mapping) {
        self.lock().pager.remove(mapping);
    }
}

/// Pages of a paged buffer that are in use by a transfer: those that are pinned stay so until this is dropped.
#[derive(Debug)]
#[must_use = "pages are held as long as this lives"]
pub struct PagedHold<'b> {
    hold: Hold,
    // Counting one handle more costs as much as half of the look-up, and most holds are over before their buffer is.
    paging: Cow<'b, Paging>,
}

impl PagedHold<'_> {
    /// The pages by number, and the arena's pages that they are pinned to; those without have to be copied.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.hold.runs()
    }

    /// Whether all of them are pinned.
    pub(crate) fn is_pinned(&self) -> bool {
        self.runs().all(|run| run.frame.is_some())
    }

    fn slice(&self) -> &[Run] {
        self.hold.slice()
    }

    /// The same hold, which the buffer may be dropped before.
    pub fn into_owned(mut self) -> PagedHold<'static> {
        PagedHold { hold: std::mem::take(&mut self.hold), paging: Cow::Owned((*self.paging).clone()) }
    }
}

impl Drop for PagedHold<'_> {
    fn drop(&mut self) {
        let hold = std::mem::take(&mut self.hold);
        if hold.runs().next().is_some() {
            let State { utlb, pager } = &mut *self.paging.lock();
            utlb.release(hold, pager);
        }
    }
}
