//! The memory behind an arena: a memfd, mapped.

use std::io;
use std::os::fd::BorrowedFd;
#[cfg(not(miri))]
use std::os::fd::{AsFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};

use super::MemoryError;

/// A shared mapping of a file in memory that has no name.
#[derive(Debug)]
pub(super) struct Backing {
    map: MmapRaw,
    #[cfg(not(miri))]
    file: OwnedFd,
    page: usize,
}

impl Backing {
    /// Maps `len` bytes, rounded up to whole pages.
    pub(super) fn new(len: usize) -> Result<Backing, MemoryError> {
        let page = rustix::param::page_size();
        let len = match len.checked_next_multiple_of(page) {
            Some(rounded) if rounded > 0 && isize::try_from(rounded).is_ok() => rounded,
            _ => return Err(MemoryError::BadLength { len }),
        };
        Self::map(len, page).map_err(|source| MemoryError::Map { len, source })
    }

    #[cfg(not(miri))]
    fn map(len: usize, page: usize) -> io::Result<Backing> {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

        let file = memfd_create("vmmc-arena", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Backing { map, file, page })
    }

    /// Miri has no memfd: the mapping is an anonymous one.
    #[cfg(miri)]
    fn map(len: usize, page: usize) -> io::Result<Backing> {
        Ok(Backing { map: MmapOptions::new().len(len).map_anon()?.into(), page })
    }

    /// Length, bytes.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Size of its pages, bytes.
    pub(super) fn page_size(&self) -> usize {
        self.page
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
