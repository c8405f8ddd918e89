//! The arena: one shared mapping, handed out in pieces.
//!
//! Which bytes are whose is for the [allocator](super::alloc) to know; this is where its numbers become memory.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::alloc::{self, ALIGN, Allocator, Block};
use super::backing::Backing;
use super::piece::Piece;
use super::system::available;
use super::{Buffer, HugePages, MemoryError, Region};

/// One shared memory mapping, cut into [`Region`]s and [`Buffer`]s. Cloning it makes another handle on the same memory.
///
/// A child made by `fork` hasn't got it: see the [module](super).
#[derive(Clone, Debug)]
pub struct Arena {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backing: Backing,
    /// The kernel has all pages as they are: none may go.
    registered: AtomicBool,
    allocator: Mutex<Allocator>,
}

/// A buffer that takes less from the system is taken without asking it how much there is.
const LARGE: usize = 16 << 20;

impl Arena {
    /// Maps an arena of `len` bytes, rounded up to whole pages, ordinary ones. Memory is taken from the system as it is touched.
    ///
    /// # Errors
    /// When `len` is zero or the system has no such mapping.
    pub fn new(len: usize) -> Result<Arena, MemoryError> {
        Arena::with(len, HugePages::Never)
    }

    /// Maps an arena of `len` bytes, rounded up to whole pages, in huge pages or not. Huge pages are taken from the system, and cleared, at once.
    ///
    /// # Errors
    /// When `len` is zero, the system has no such mapping, or [`HugePages::Require`] asks for more huge pages than there are.
    pub fn with(len: usize, huge: HugePages) -> Result<Arena, MemoryError> {
        let backing = Backing::new(len, huge)?;
        let allocator = Allocator::new(backing.len(), backing.page_size());
        Ok(Arena {
            inner: Arc::new(Inner { backing, registered: AtomicBool::new(false), allocator: Mutex::new(allocator) }),
        })
    }

    /// How much of an arena a region or buffer of `len` bytes takes at the most unless it is aligned to more than 64, its guard included, bytes: one as long as the sum for all that
    /// are to be made of it has room for them, in any order.
    pub fn footprint(len: usize) -> usize {
        alloc::footprint(len)
    }

    /// Length of the arena, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.inner.backing.len()
    }

    /// Size of the pages that the arena's memory is made of, bytes.
    pub fn page_size(&self) -> usize {
        self.inner.backing.page_size()
    }

    /// Takes a zeroed region of `len` bytes, and the memory for it from the system, so that nobody who writes into it has to wait for
    /// that. It begins at a multiple of 64. It comes back when the last handle on it is dropped.
    ///
    /// # Errors
    /// When `len` is zero, no free piece is long enough, or the machine hasn't so much memory: the system would rather end a process than
    /// say so.
    pub fn alloc(&self, len: usize) -> Result<Region, MemoryError> {
        Ok(Region::new(self.take(len, ALIGN)?))
    }

    /// As [`Arena::alloc`], at a multiple of `align`: a power of two up to [`Arena::page_size`].
    ///
    /// # Errors
    /// As [`Arena::alloc`]; or when `align` is none of these.
    pub fn alloc_aligned(&self, len: usize, align: usize) -> Result<Region, MemoryError> {
        Ok(Region::new(self.take(len, align)?))
    }

    /// Takes a zeroed region of `len` bytes, and no memory for it: that is taken from the system as it is written, or read, and goes back with the region, or
    /// before, with [`Region::discard`]. It begins at a page, if it is as long as one. For regions of which little is used at a time; but if the
    /// machine has no memory left when it is written, the system ends a process, this one or another.
    ///
    /// An arena in huge pages has taken all its memory already, and keeps it: there this is [`Arena::alloc`].
    ///
    /// # Errors
    /// When `len` is zero, or no free piece is long enough.
    pub fn sparse(&self, len: usize) -> Result<Region, MemoryError> {
        let page = self.page_size();
        let align = if self.is_giving() && len >= page { page } else { ALIGN };
        Ok(Region::new(Piece::sparse(self.clone(), self.block(len, align)?, len)))
    }

    /// Takes a zeroed buffer of `len` bytes, as [`Arena::alloc`] does a region. It comes back when it is dropped.
    ///
    /// # Errors
    /// As [`Arena::alloc`].
    pub fn buffer(&self, len: usize) -> Result<Buffer, MemoryError> {
        Ok(Buffer::new(self.take(len, ALIGN)?))
    }

    /// As [`Arena::buffer`], at a multiple of `align`: a power of two up to [`Arena::page_size`].
    ///
    /// # Errors
    /// As [`Arena::alloc_aligned`].
    pub fn buffer_aligned(&self, len: usize, align: usize) -> Result<Buffer, MemoryError> {
        Ok(Buffer::new(self.take(len, align)?))
    }

    fn take(&self, len: usize, align: usize) -> Result<Piece, MemoryError> {
        let block = self.block(len, align)?;
        if len >= LARGE {
            let wanted = self.inner.backing.missing(block.start..block.end);
            if wanted >= LARGE
                && let Some(available) = available().filter(|available| wanted > *available)
            {
                self.free(block);
                return Err(MemoryError::NoMemory { wanted, available });
            }
        }
        Ok(Piece::new(self.clone(), block, len))
    }

    /// Takes addresses.
    fn block(&self, len: usize, align: usize) -> Result<Block, MemoryError> {
        if len == 0 {
            return Err(MemoryError::BadLength { len });
        }
        let page = self.page_size();
        if !align.is_power_of_two() || align > page {
            return Err(MemoryError::BadAlignment { align, page });
        }
        let align = align.max(ALIGN);
        let mut allocator = self.lock();
        allocator.alloc(len, align).ok_or_else(|| {
            let largest = allocator.largest(align);
            MemoryError::Exhausted { wanted: len, largest, arena: self.len() }
        })
    }

    /// Whether these are two handles on the same memory.
    pub(super) fn is(&self, other: &Arena) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether these bytes are its own.
    pub(crate) fn has(&self, bytes: &[u8]) -> bool {
        let start = self.inner.backing.pointer().addr();
        bytes.as_ptr().addr().checked_sub(start).is_some_and(|at| at <= self.len() && bytes.len() <= self.len() - at)
    }

    /// Whether it can give memory back to the system, and take it again as it is touched.
    pub(super) fn is_giving(&self) -> bool {
        self.inner.backing.is_giving() && !self.inner.registered.load(Ordering::Relaxed)
    }

    /// From now on no page goes back to the system: the kernel is about to be told of all of them, and would keep the old one of a page that has gone and
    /// come again.
    pub(crate) fn register(&self) {
        self.inner.registered.store(true, Ordering::Relaxed);
    }

    /// All of its memory: where it begins, and how many bytes it has.
    pub(crate) fn memory(&self) -> (*mut u8, usize) {
        (self.inner.backing.pointer(), self.len())
    }

    /// Gives whole pages back to the system: they are zero from then on. Returns whether it did; otherwise nothing has happened.
    ///
    /// Nobody has them as a slice; who accesses them meanwhile does so by atomic accesses.
    pub(super) fn give_back(&self, pages: Range<usize>) -> bool {
        self.is_giving() && self.inner.backing.give_back(pages)
    }

    /// Takes a block back.
    pub(super) fn free(&self, block: Block) {
        self.lock().free(block);
    }

    /// The address of byte `at`, which the caller has checked to be inside.
    pub(super) fn pointer(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.len());
        self.inner.backing.pointer().wrapping_add(at)
    }

    /// Bytes not handed out.
    pub fn available(&self) -> usize {
        self.lock().available()
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        // Nothing in the allocator panics but on a mistake of its own, and then its memory is at worst not handed out again.
        self.inner.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole pages, for whoever maps them a second time.
impl Arena {
    /// Takes `want` pages in a row (1 or more), or the longest row there is; `None` when no page is free. They hold what they held last.
    /// Nobody else has them until they come back by [`Arena::give_pages`]: they don't by themselves.
    pub(super) fn take_pages(&self, want: usize) -> Option<Range<usize>> {
        self.lock().take_pages(want.max(1))
    }

    /// Takes pages back that were taken, in any portions and order. Whoever had them accesses them no more.
    pub(super) fn give_pages(&self, pages: Range<usize>) {
        self.lock().give_pages(pages);
    }

    /// Where a page lies in the arena's own mapping.
    pub(super) fn page_pointer(&self, page: usize) -> *mut u8 {
        self.pointer(page * self.page_size())
    }

    /// Where a page lies in [`Arena::file`], bytes: there it can be mapped a second time from, shared.
    pub(super) fn page_offset(&self, page: usize) -> u64 {
        (page * self.page_size()) as u64
    }

    /// The file (a memfd) that the arena is a mapping of.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.inner.backing.file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GUARD;
    use proptest::prelude::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri's mappings are all there at once")]
    fn more_than_the_machine_has_is_refused_before_it_is_touched() {
        let arena = Arena::new(1 << 45).unwrap();
        let error = arena.alloc(1 << 44).unwrap_err();
        assert!(matches!(error, MemoryError::NoMemory { wanted, .. } if wanted >= 1 << 44), "{error}");
        // Nothing is lost by that.
        let buffer = arena.alloc(32 << 20).unwrap();
        drop(buffer);
        assert!(arena.alloc(32 << 20).is_ok());
    }

    #[test]
    fn errors_say_what_is_left() {
        let arena = Arena::new(1 << 16).unwrap();
        let error = arena.alloc(1 << 20).unwrap_err();
        assert!(matches!(error, MemoryError::Exhausted { wanted: 1048576, largest: 65280, arena: 65536 }), "{error}");
        assert!(arena.alloc(65280).is_ok());
        assert!(matches!(arena.alloc(0), Err(MemoryError::BadLength { len: 0 })));
        assert!(matches!(Arena::new(0), Err(MemoryError::BadLength { len: 0 })));
        assert!(Arena::new(usize::MAX).is_err());
        assert!(arena.alloc(usize::MAX).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd to map a second time")]
    fn pages_are_taken_and_given_back_in_portions() {
        let arena = Arena::new(1 << 16).unwrap();
        let (page, all) = (arena.page_size(), arena.len() / arena.page_size());
        let buffer = arena.alloc(100).unwrap();
        let first = arena.take_pages(3).unwrap();
        let rest = arena.take_pages(1000).unwrap();
        assert_eq!((first.len(), first.len() + rest.len()), (3, all - 1));
        assert_eq!(arena.take_pages(1), None);
        for page in first.clone().chain(rest.clone()) {
            // SAFETY: the page was given to this test alone.
            unsafe { arena.page_pointer(page).write_bytes(7, arena.page_size()) };
        }
        // Mapped a second time, it is the same memory.
        let mut options = memmap2::MmapOptions::new();
        let second = options.offset(arena.page_offset(rest.start)).len(page).map_raw(&arena.file()).unwrap();
        // SAFETY: as above, and the mapping is one page long.
        unsafe { second.as_mut_ptr().write(8) };
        // SAFETY: as above.
        assert_eq!(unsafe { arena.page_pointer(rest.start).read_volatile() }, 8);
        let mut seen = [1; 100];
        buffer.read(0, &mut seen).unwrap();
        assert_eq!(seen, [0; 100]);
        arena.give_pages(first.start + 1..first.start + 2);
        assert_eq!(arena.take_pages(2), Some(first.start + 1..first.start + 2));
        assert_eq!(arena.page_offset(first.end), (first.end * page) as u64);
        arena.give_pages(rest);
        arena.give_pages(first);
        drop(buffer);
        assert_eq!(arena.available(), arena.len());
    }

    #[test]
    fn threads_take_and_give_back_at_once() {
        let arena = Arena::new(1 << 18).unwrap();
        let rounds = if cfg!(miri) { 5 } else { 2000 };
        std::thread::scope(|scope| {
            for value in 1..=4 {
                let arena = &arena;
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(value.into());
                    let mut held = Vec::new();
                    for _ in 0..rounds {
                        if let Ok(mut buffer) = arena.buffer(rng.usize(1..10_000)) {
                            assert!(buffer.iter().all(|&byte| byte == 0));
                            buffer.fill(value);
                            held.push(buffer);
                        }
                        if held.len() > 8 {
                            let buffer = held.swap_remove(rng.usize(..held.len()));
                            assert!(buffer.iter().all(|&byte| byte == value));
                        }
                    }
                });
            }
        });
        assert_eq!(arena.available(), arena.len());
    }

    proptest! {
        // Miri has no directory to remember failures in, and no time.
        #![proptest_config(match cfg!(miri) {
            true => ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() },
            false => ProptestConfig::default(),
        })]
        #[test]
        fn buffers_never_meet_and_all_memory_comes_back(steps in prop::collection::vec((any::<bool>(), 1usize..5000), 1..if cfg!(miri) { 10 } else { 60 })) {
            let arena = Arena::new(1 << 16).unwrap();
            let mut held: Vec<(Region, u8)> = Vec::new();
            for (i, (take, size)) in steps.into_iter().enumerate() {
                if take || held.is_empty() {
                    if let Ok(region) = arena.alloc(size) {
                        region.fill(i as u8).unwrap();
                        held.push((region, i as u8));
                    }
                } else {
                    held.swap_remove(size % held.len());
                }
                for (region, value) in &held {
                    let mut bytes = vec![0; region.len()];
                    region.read(0, &mut bytes).unwrap();
                    prop_assert!(bytes.iter().all(|b| b == value));
                }
            }
            drop(held);
            prop_assert_eq!(arena.available(), arena.len());
            prop_assert!(arena.alloc(arena.len() - GUARD).is_ok());
        }
    }
}
