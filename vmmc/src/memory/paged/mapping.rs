//! Where a paged buffer lies, and where its pages are at home.
//!
//! Its bytes are at home in a file of their own in memory (a memfd, which is swapped like any memory). They are mapped twice:
//!
//! ```text
//!   the arena's mapping      ... | frame 7 | frame 8 | ...
//!                                     |  pinned
//!   where the program reads  | page 0 | page 1 | page 2 | guard
//!   and writes them              |                  |  not pinned
//!   the alias                | page 0 | page 1 | page 2 |      both are the home file
//! ```
//!
//! The program knows the upper mapping. To pin a page, its bytes are copied to a frame and the frame is mapped over the page; to unpin it, they are
//! copied home through the alias and home is mapped over it. Both happen in one step for whoever reads there: an access meets the old
//! mapping or the new one, which hold the same. The kernel joins neighbours that are at home into one mapping again, which it wouldn't do for anonymous
//! memory that was moved there; what is pinned here and there has a [limit](super::fragments). So a program can't run out of mappings by sending.
//!
//! Nothing of this exists in a child made by `fork`.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mremap_fixed, munmap};

use crate::memory::MemoryError;

/// Addresses that are this value's to map things to.
#[derive(Debug)]
struct Reserve {
    start: *mut u8,
    len: usize,
}

impl Reserve {
    /// Addresses without memory.
    fn new(len: usize) -> Result<Reserve, Errno> {
        // SAFETY: the kernel chooses addresses where nothing is.
        let start = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags)?
        };
        let reserve = Reserve { start: start.cast(), len };
        reserve.not_for_children()?;
        Ok(reserve)
    }

    fn not_for_children(&self) -> Result<(), Errno> {
        // SAFETY: the addresses are ours, and this process isn't concerned by what its children get.
        unsafe { madvise(self.start.cast(), self.len, Advice::LinuxDontFork) }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // SAFETY: the addresses are ours; whoever drops this accesses them no more. It can't fail for a whole mapping, and if it did,
        // addresses would be lost and nothing else.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// The memory of a paged buffer: home, and the addresses that the program uses.
#[derive(Debug)]
pub(super) struct Mapping {
    /// The upper mapping, with room for its alignment and a guard behind it: no two mappings' pages are neighbours.
    _visible: Reserve,
    alias: Reserve,
    start: *mut u8,
    page: usize,
    /// Buffers that are parts of it.
    parts: AtomicUsize,
}

// SAFETY: these are addresses, valid in every thread; who accesses what is behind them is for `PagedBuffer` and the pager to order.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory for `len` bytes, zero, in pages of `page` bytes.
    pub(super) fn new(len: usize, page: usize) -> Result<Mapping, MemoryError> {
        let rounded = len.checked_next_multiple_of(page).filter(|&rounded| rounded > 0);
        let reserved = rounded.and_then(|rounded| rounded.checked_add(2 * page));
        let (Some(rounded), Some(reserved)) = (rounded, reserved.filter(|&r| isize::try_from(r).is_ok())) else {
            return Err(MemoryError::BadLength { len });
        };
        Self::map(rounded, reserved, page).map_err(|source| MemoryError::Paged { len, source: source.into() })
    }

    fn map(len: usize, reserved: usize, page: usize) -> Result<Mapping, Errno> {
        let home = memfd_create("vmmc-paged", MemfdFlags::CLOEXEC)?;
        ftruncate(&home, len as u64)?;
        // SAFETY: the kernel chooses addresses where nothing is, and the file is nobody else's.
        let alias =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &home, 0)? };
        let alias = Reserve { start: alias.cast(), len };
        alias.not_for_children()?;
        let visible = Reserve::new(reserved)?;
        let start = visible.start.wrapping_add(visible.start.align_offset(page));
        let mapping = Mapping { _visible: visible, alias, start, page, parts: AtomicUsize::new(1) };
        mapping.mount_home(0..len / page)?;
        Ok(mapping)
    }

    /// There is one part more.
    pub(super) fn join(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }

    /// There is one part less. Returns whether it was the last.
    pub(super) fn leave(&self) -> bool {
        self.parts.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Where it begins.
    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }

    /// The number of its first page in the address space.
    pub(super) fn first_page(&self) -> u64 {
        (self.start.addr() >> self.page.ilog2()) as u64
    }

    /// Its page numbers in the address space.
    pub(super) fn pages(&self) -> Range<u64> {
        let first = self.first_page();
        first..first + (self.alias.len / self.page) as u64
    }

    /// Where these pages are for the program.
    pub(super) fn visible(&self, pages: &Range<usize>) -> *mut u8 {
        self.start.wrapping_add(pages.start * self.page)
    }

    /// Where these pages are at home.
    pub(super) fn home(&self, pages: &Range<usize>) -> *mut u8 {
        self.alias.start.wrapping_add(pages.start * self.page)
    }

    /// Maps home over these pages.
    pub(super) fn mount_home(&self, pages: Range<usize>) -> Result<(), Errno> {
        let (at, len) = (self.visible(&pages), pages.len() * self.page);
        // SAFETY: the addresses are ours, and `home` is a shared mapping of as much.
        let mounted = unsafe { twin(self.home(&pages), at, len) };
        mounted.or_else(|error| if self.mend(&pages) { Ok(()) } else { Err(error) })
    }

    /// Maps memory that has the same bytes as home over these pages: `twin` or `huge` of this module, in `map`. When that fails, nothing has
    /// changed.
    pub(super) fn mount(
        &self,
        pages: &Range<usize>,
        map: impl FnOnce(*mut u8, usize) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        map(self.visible(pages), pages.len() * self.page).inspect_err(|_| {
            self.mend(pages);
        })
    }

    /// After a call that has failed: the kernel refuses before it changes anything, unless it runs out of memory for its own books in the middle.
    /// Then nothing is there, and home, which has the same bytes, comes back. Returns whether it was so.
    fn mend(&self, pages: &Range<usize>) -> bool {
        let (at, len) = (self.visible(pages), pages.len() * self.page);
        // SAFETY: advice that is the default anyway. It fails where nothing is mapped.
        if unsafe { madvise(at.cast(), len, Advice::Normal) } != Err(Errno::NOMEM) {
            return false;
        }
        // SAFETY: the addresses are ours, and `home` is a shared mapping of as much.
        if let Err(error) = unsafe { twin(self.home(pages), at, len) } {
            // The program reads and writes there, and whatever is mapped next may come to lie there: nothing can go on from here.
            eprintln!(
                "vmmc: {len} bytes of a paged buffer can't be mapped any more ({error}): aborting, for they would be somebody else's"
            );
            std::process::abort();
        }
        true
    }

    /// Gives the memory of these pages, by number in the address space, back to the system. Nobody asks for their bytes any more.
    pub(super) fn forget(&self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        let first = self.pages().start;
        let own = (pages.start - first) as usize..(pages.end - first) as usize;
        // SAFETY: the range is within the home file's mapping, and the caller vouches for its bytes being nobody's.
        // If it fails, the memory is freed with the mapping.
        let _ = unsafe { madvise(self.home(&own).cast(), own.len() * self.page, Advice::LinuxRemove) };
    }
}

/// Maps the memory behind `of`, part of a shared mapping, at `at` as well, with the same protection from `fork`.
///
/// # Safety
/// Whatever is at `at` may be replaced, and `of` is a shared mapping of ordinary pages, `len` bytes at least.
pub(super) unsafe fn twin(of: *mut u8, at: *mut u8, len: usize) -> Result<(), Errno> {
    // An old length of zero makes a second mapping instead of moving the first.
    // SAFETY: by the caller.
    unsafe { mremap_fixed(of.cast(), 0, len, MremapFlags::MAYMOVE, at.cast()) }?;
    Ok(())
}

/// As [`twin`], of huge pages, from their file: the kernel makes no second mappings of those.
///
/// # Safety
/// Whatever is at `at` may be replaced; `offset` and `len` are multiples of the huge page.
pub(super) unsafe fn huge(file: impl std::os::fd::AsFd, offset: u64, at: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: the kernel chooses addresses where nothing is.
    let from =
        unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)? };
    let from = Reserve { start: from.cast(), len };
    from.not_for_children()?;
    // SAFETY: the mapping made above moves to where the caller wants it, so its old addresses are nobody's.
    unsafe { mremap_fixed(from.start.cast(), len, len, MremapFlags::MAYMOVE, at.cast()) }?;
    std::mem::forget(from);
    Ok(())
}
