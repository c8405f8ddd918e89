//! The pager that moves real pages: between their homes and the arena.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::copy_nonoverlapping;
use std::sync::Arc;

use rustix::io::Errno;

use super::fragments::Fragments;
use super::mapping::{Mapping, huge, twin};
use crate::memory::utlb::Pager;
use crate::memory::{Arena, MemoryError};

/// Moves pages of mappings into the arena and back.
#[derive(Debug)]
pub(super) struct ArenaPager {
    arena: Arena,
    /// By first page.
    mappings: BTreeMap<u64, Arc<Mapping>>,
    fragments: Fragments,
}

impl ArenaPager {
    pub(super) fn new(arena: Arena) -> ArenaPager {
        ArenaPager { arena, mappings: BTreeMap::new(), fragments: Fragments::new() }
    }

    pub(super) fn add(&mut self, mapping: &Arc<Mapping>) {
        self.mappings.insert(mapping.pages().start, mapping.clone());
    }

    /// The mapping goes with the last that knows it.
    pub(super) fn remove(&mut self, mapping: &Mapping) {
        self.mappings.remove(&mapping.pages().start);
        self.fragments.unpinned(&mapping.pages());
    }

    /// The mapping that has these pages, and which of its pages they are.
    fn find(&self, pages: &Range<u64>) -> Result<(&Mapping, Range<usize>), Errno> {
        let found = self.mappings.range(..=pages.start).next_back().map(|(_, mapping)| (&**mapping, mapping.pages()));
        match found {
            Some((mapping, all)) if pages.end <= all.end => {
                Ok((mapping, (pages.start - all.start) as usize..(pages.end - all.start) as usize))
            }
            _ => Err(Errno::FAULT),
        }
    }

    fn error(&self, pages: Range<u64>, source: Errno) -> MemoryError {
        MemoryError::Paged { len: (pages.end - pages.start) as usize * self.arena.page_size(), source: source.into() }
    }

    fn try_pin(&self, pages: &Range<u64>, frames: &Range<u32>) -> Result<(), Errno> {
        let (mapping, own) = self.find(pages)?;
        let (page, first) = (self.arena.page_size(), frames.start as usize);
        let (from, frame) = (mapping.visible(&own), self.arena.page_pointer(first));
        // SAFETY: the frames are the pager's, so nobody else accesses them, and there are as many as pages. The pages are mapped, and nobody
        // writes them: the UTLB doesn't move those that are excluded, and others are only read.
        unsafe { copy_nonoverlapping(from, frame, own.len() * page) };
        mapping.mount(&own, |at, len| {
            if page > rustix::param::page_size() {
                // SAFETY: `at` and `len` are whole pages of the mapping, and the file has the frames there, which have the same bytes.
                unsafe { huge(self.arena.file(), self.arena.page_offset(first), at, len) }
            } else {
                // SAFETY: `at` and `len` are whole pages of the mapping, and `frame` is in the arena's shared mapping, with the same bytes.
                unsafe { twin(frame, at, len) }
            }
        })
    }

    fn try_unpin(&self, pages: &Range<u64>) -> Result<(), Errno> {
        let (mapping, own) = self.find(pages)?;
        // SAFETY: both are mapped. Nobody else knows the home of a pinned page, and nobody writes the page itself: the UTLB doesn't move those
        // that are excluded.
        unsafe {
            copy_nonoverlapping(mapping.visible(&own), mapping.home(&own), own.len() * self.arena.page_size());
        }
        mapping.mount_home(own)
    }
}

impl Pager for ArenaPager {
    fn take(&mut self, most: usize) -> Option<Range<u32>> {
        // As if there were no frames: then others make way.
        if self.fragments.are_full() {
            return None;
        }
        let pages = self.arena.take_pages(most)?;
        match (u32::try_from(pages.start), u32::try_from(pages.end)) {
            (Ok(start), Ok(end)) => Some(start..end),
            _ => {
                self.arena.give_pages(pages);
                None
            }
        }
    }

    fn give(&mut self, frames: Range<u32>) {
        self.arena.give_pages(frames.start as usize..frames.end as usize);
    }

    fn pin(&mut self, pages: Range<u64>, frames: Range<u32>) -> Result<(), MemoryError> {
        self.try_pin(&pages, &frames).map_err(|source| self.error(pages.clone(), source))?;
        self.fragments.pinned(pages, frames.start);
        Ok(())
    }

    fn unpin(&mut self, pages: Range<u64>) -> Result<(), MemoryError> {
        if !self.fragments.may_unpin(&pages) {
            return Err(self.error(pages, Errno::NOMEM));
        }
        self.try_unpin(&pages).map_err(|source| self.error(pages.clone(), source))?;
        self.fragments.unpinned(&pages);
        Ok(())
    }
}
