//! The arena: one shared mapping, handed out in pieces.
//!
//! Free pieces are kept by address and merged with their neighbours when a buffer comes back; the first that is
//! long enough is taken. In front of every buffer stands a guard of [`GUARD`] bytes, so that what runs over the
//! start of one never touches the one below.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::{MemoryError, Region};

/// Bytes kept free in front of every buffer.
pub const GUARD: usize = 256;

/// Buffers begin at multiples of this many bytes: a cache line.
const ALIGN: usize = 64;

/// One shared memory mapping, cut into [`Region`]s. Cloning it makes another handle on the same memory.
#[derive(Clone, Debug)]
pub struct Arena {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    map: MmapRaw,
    /// Free pieces: start -> length, never two adjacent ones.
    free: Mutex<BTreeMap<usize, usize>>,
    /// Memory from here on has never been handed out, so the system hasn't given any for it yet.
    fresh: AtomicUsize,
}

/// A buffer that takes less from the system is taken without asking it how much there is.
const LARGE: usize = 16 << 20;

/// How much memory the machine can give without taking it from anybody, bytes; `None` where it doesn't say.
pub fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

impl Arena {
    /// Maps an arena of `len` bytes, rounded up to whole pages. Memory is taken from the system as it is touched.
    ///
    /// # Errors
    /// When `len` is zero or the system has no such mapping.
    pub fn new(len: usize) -> Result<Arena, MemoryError> {
        let page = rustix::param::page_size();
        let len = match len.checked_next_multiple_of(page) {
            Some(rounded) if rounded > 0 && isize::try_from(rounded).is_ok() => rounded,
            _ => return Err(MemoryError::BadLength { len }),
        };
        let map = Self::map(len).map_err(|source| MemoryError::Map { len, source })?;
        Ok(Arena {
            inner: Arc::new(Inner { map, free: Mutex::new(BTreeMap::from([(0, len)])), fresh: AtomicUsize::new(0) }),
        })
    }

    fn map(len: usize) -> io::Result<MmapRaw> {
        let file = memfd_create("vmmc-arena", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        MmapOptions::new().len(len).map_raw(&file)
    }

    /// Length of the arena, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.inner.map.len()
    }

    /// Takes a zeroed buffer of `len` bytes, and the memory for it from the system, so that nobody who writes into it has to wait for
    /// that. It comes back when the region is dropped.
    ///
    /// # Errors
    /// When `len` is zero, no free piece is long enough, or the machine hasn't so much memory: the system would rather end a process than
    /// say so.
    pub fn alloc(&self, len: usize) -> Result<Region, MemoryError> {
        if len == 0 {
            return Err(MemoryError::BadLength { len });
        }
        let mut free = self.lock();
        let need = len.checked_next_multiple_of(ALIGN).and_then(|n| n.checked_add(GUARD));
        let found = need.and_then(|n| free.iter().find(|&(_, &l)| l >= n).map(|(&at, &l)| (at, l, n)));
        let Some((at, piece, need)) = found else {
            let largest = free.values().max().copied().unwrap_or(0).saturating_sub(GUARD);
            return Err(MemoryError::Exhausted { wanted: len, largest, arena: self.len() });
        };
        let end = at + need;
        let wanted = end.saturating_sub(at.max(self.inner.fresh.load(Ordering::Relaxed)));
        if wanted >= LARGE
            && let Some(available) = available().filter(|available| wanted > *available)
        {
            return Err(MemoryError::NoMemory { wanted, available });
        }
        self.inner.fresh.fetch_max(end, Ordering::Relaxed);
        free.remove(&at);
        if piece > need {
            free.insert(at + need, piece - need);
        }
        drop(free);
        let region = Region::new(self.clone(), at + GUARD, len);
        region.fill(0);
        Ok(region)
    }

    /// Takes back the buffer of `len` bytes at `start`.
    pub(super) fn free(&self, start: usize, len: usize) {
        let mut at = start - GUARD;
        let mut len = len.next_multiple_of(ALIGN) + GUARD;
        let mut free = self.lock();
        if let Some((&before, &length)) = free.range(..at).next_back()
            && before + length == at
        {
            free.remove(&before);
            at = before;
            len += length;
        }
        if let Some(after) = free.remove(&(at + len)) {
            len += after;
        }
        free.insert(at, len);
    }

    /// The address of byte `at`, which the caller has checked to be inside.
    pub(super) fn pointer(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.len());
        self.inner.map.as_mut_ptr().wrapping_add(at)
    }

    /// Bytes not handed out.
    pub fn available(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        // A thread that panics while it holds the lock leaves the map whole: each change is a single insert or remove
        // after the last thing that can fail.
        self.inner.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
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

    proptest! {
        #[test]
        fn buffers_never_meet_and_all_memory_comes_back(steps in prop::collection::vec((any::<bool>(), 1usize..5000), 1..60)) {
            let arena = Arena::new(1 << 16).unwrap();
            let mut held: Vec<(Region, u8)> = Vec::new();
            for (i, (take, size)) in steps.into_iter().enumerate() {
                if take || held.is_empty() {
                    if let Ok(region) = arena.alloc(size) {
                        region.fill(i as u8);
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
