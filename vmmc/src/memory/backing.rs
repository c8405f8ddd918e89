//! The memory behind an arena: a memfd, mapped, in huge pages or ordinary ones, and out of reach of children.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
#[cfg(not(miri))]
use std::os::fd::{AsFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};

use super::MemoryError;
use super::system::{self, Huge};

/// Whether an arena's memory is in huge pages (2 MiB on most machines): the processor finds its way through them
/// with fewer look-ups. They are memory that the system keeps for the purpose (`sysctl vm.nr_hugepages=N`). An arena takes them from it
/// when it is made, all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages.
    Never,
    /// Huge pages where the system has enough of them free for the whole arena, and that is as long as one or longer; else ordinary pages.
    #[default]
    WhenFree,
    /// Huge pages or an error.
    Require,
}

/// A shared mapping of a file in memory that has no name.
#[derive(Debug)]
pub(super) struct Backing {
    map: MmapRaw,
    #[cfg(not(miri))]
    file: OwnedFd,
    page: usize,
    huge: bool,
}

impl Backing {
    /// Maps `len` bytes, rounded up to whole pages.
    pub(super) fn new(len: usize, huge: HugePages) -> Result<Backing, MemoryError> {
        match huge {
            HugePages::Never => {}
            HugePages::WhenFree => {
                if let Some(huge) = system::huge_pages().filter(|huge| huge.size <= len)
                    && let Ok(backing) = Self::with(len, huge.size, true)
                {
                    return Ok(backing);
                }
            }
            HugePages::Require => return Self::required(len),
        }
        Self::with(len, rustix::param::page_size(), false)
    }

    fn required(len: usize) -> Result<Backing, MemoryError> {
        let Some(Huge { size, .. }) = system::huge_pages() else {
            let source = io::Error::new(io::ErrorKind::Unsupported, "this system has no huge pages");
            return Err(MemoryError::Map { len, source });
        };
        Self::with(len, size, true).map_err(|error| match (error, system::huge_pages()) {
            (MemoryError::Map { len, .. }, Some(Huge { total, free, .. })) if free < len / size => {
                let needed = len / size;
                MemoryError::NoHugePages { len, size, needed, free, set: total.saturating_add(needed - free) }
            }
            (error, _) => error,
        })
    }

    fn with(len: usize, page: usize, huge: bool) -> Result<Backing, MemoryError> {
        let len = match len.checked_next_multiple_of(page) {
            Some(rounded) if rounded > 0 && isize::try_from(rounded).is_ok() => rounded,
            _ => return Err(MemoryError::BadLength { len }),
        };
        Self::map(len, page, huge).map_err(|source| MemoryError::Map { len, source })
    }

    #[cfg(not(miri))]
    fn map(len: usize, page: usize, huge: bool) -> io::Result<Backing> {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        use rustix::io::Errno;
        use rustix::mm::{Advice, madvise};

        let flags = if huge { MemfdFlags::HUGETLB } else { MemfdFlags::empty() };
        let file = memfd_create("vmmc-arena", MemfdFlags::CLOEXEC | flags)?;
        ftruncate(&file, len as u64)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        let advise = |advice| {
            // SAFETY: the range is the mapping made above, which nobody has seen yet. Neither advice takes memory away from
            // this process.
            unsafe { madvise(map.as_mut_ptr().cast(), len, advice) }
        };
        advise(Advice::LinuxDontFork)?;
        if huge {
            // By now they are promised. But a promise can't always be kept (it knows nothing of NUMA policies, for one), and whoever
            // touches the memory then is ended by a signal. So all of them are taken here, where that is an error; they are
            // nobody else's anyway. Linux before 5.14 can't do that.
            match advise(Advice::LinuxPopulateWrite) {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Backing { map, file, page, huge })
    }

    /// Miri has no memfd: the mapping is an anonymous one.
    #[cfg(miri)]
    fn map(len: usize, page: usize, huge: bool) -> io::Result<Backing> {
        Ok(Backing { map: MmapOptions::new().len(len).map_anon()?.into(), page, huge })
    }

    /// Length, bytes.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Size of its pages, bytes.
    pub(super) fn page_size(&self) -> usize {
        self.page
    }

    /// Whether memory can go back to the system. Huge pages are kept: who gives one back has no claim on another.
    pub(super) fn is_giving(&self) -> bool {
        cfg!(not(miri)) && !self.huge
    }

    /// Gives whole pages back to the system. Returns whether it did.
    #[cfg(not(miri))]
    pub(super) fn give_back(&self, pages: Range<usize>) -> bool {
        use rustix::fs::{FallocateFlags, fallocate};
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.is_giving() && fallocate(&self.file, hole, pages.start as u64, pages.len() as u64).is_ok()
    }

    #[cfg(miri)]
    pub(super) fn give_back(&self, _: Range<usize>) -> bool {
        false
    }

    /// For how many of these bytes the system hasn't given memory yet: it does as they are touched, if it has any.
    #[cfg(not(miri))]
    pub(super) fn missing(&self, range: Range<usize>) -> usize {
        use rustix::fs::{SeekFrom, seek};
        let (mut at, end, mut missing) = (range.start as u64, range.end as u64, 0);
        while !self.huge && at < end {
            // Beyond the last data there is an error.
            let data = seek(&self.file, SeekFrom::Data(at)).map_or(end, |data| data.min(end));
            missing += data - at;
            at = seek(&self.file, SeekFrom::Hole(data)).map_or(end, |hole| hole.max(data));
        }
        missing as usize
    }

    #[cfg(miri)]
    pub(super) fn missing(&self, _: Range<usize>) -> usize {
        0
    }

    /// Where it begins.
    pub(super) fn pointer(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The file.
    #[cfg(not(miri))]
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[cfg(miri)]
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        unimplemented!("Miri has no memfd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no huge pages")]
    fn more_huge_pages_than_there_are_is_an_error_that_says_how_many() {
        let Huge { size, total, free } = system::huge_pages().expect("this kernel has no huge pages");
        let len = 1 << 45;
        let error = Backing::new(len, HugePages::Require).unwrap_err();
        let needed = len / size;
        assert!(
            matches!(error, MemoryError::NoHugePages { needed: n, size: s, .. } if n == needed && s == size),
            "{error} ({total} pages, {free} free)"
        );
        assert!(error.to_string().contains("sysctl vm.nr_hugepages="), "{error}");
        // With ordinary pages it can be mapped; memory is taken as it is touched.
        let backing = Backing::new(len, HugePages::WhenFree).unwrap();
        assert_eq!((backing.page_size(), backing.len()), (rustix::param::page_size(), len));
        for huge in [HugePages::Never, HugePages::WhenFree, HugePages::Require] {
            assert!(matches!(Backing::new(0, huge), Err(MemoryError::BadLength { len: 0 })), "{huge:?}");
            assert!(matches!(Backing::new(usize::MAX, huge), Err(MemoryError::BadLength { .. })), "{huge:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no huge pages")]
    fn an_arena_shorter_than_a_huge_page_has_ordinary_ones() {
        let backing = Backing::new(1 << 16, HugePages::WhenFree).unwrap();
        assert_eq!((backing.len(), backing.page_size()), (1 << 16, rustix::param::page_size()));
    }
}
