//! What moving pages costs on this machine, without the UTLB around it.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::mapping::Mapping;
use super::pager::ArenaPager;
use crate::memory::utlb::Pager;
use crate::memory::{Arena, MemoryError};

/// How long moving a run of pages takes: once, or a page of it, as the caller divides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemapTimes {
    /// To copy them to frames, and to map those over them.
    pub pin: Duration,
    /// To copy them home, and to map home over them.
    pub unpin: Duration,
}

/// Moves a run of `pages` pages of `arena` to frames and back, again and again: the bare work that pinning and unpinning consist of, without
/// looking anything up or choosing a victim. What the [UTLB](super::super::utlb) adds to that can be told by comparison, and its
/// [costs](super::super::utlb::Costs) be set to what this machine takes.
///
/// # Examples
/// ```
/// let arena = vmmc::memory::Arena::new(1 << 20)?;
/// let mut bench = vmmc::memory::Remapping::new(&arena, 64)?;
/// let times = bench.once()?;
/// println!("{:?} to pin 64 pages, {:?} to unpin them", times.pin, times.unpin);
/// # Ok::<(), vmmc::memory::MemoryError>(())
/// ```
#[derive(Debug)]
pub struct Remapping {
    pager: ArenaPager,
    pages: Range<u64>,
    frames: Range<u32>,
}

impl Remapping {
    /// Takes the memory for it: a run of `pages` pages, and as many of the arena's.
    ///
    /// # Errors
    /// When the arena has no run that long, or the system no memory.
    pub fn new(arena: &Arena, pages: usize) -> Result<Remapping, MemoryError> {
        let page = arena.page_size();
        let mapping = std::sync::Arc::new(Mapping::new(pages.saturating_mul(page), page)?);
        let mut pager = ArenaPager::new(arena.clone());
        pager.add(&mapping);
        let frames = pager.take(pages).unwrap_or_default();
        if frames.len() < pages {
            let largest = frames.len() * page;
            pager.give(frames);
            return Err(MemoryError::Exhausted { wanted: pages * page, largest, arena: arena.len() });
        }
        let pages = mapping.pages();
        Ok(Remapping { pager, pages, frames })
    }

    /// Pins them and unpins them, once.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn once(&mut self) -> Result<RemapTimes, MemoryError> {
        let begin = Instant::now();
        self.pager.pin(self.pages.clone(), self.frames.clone())?;
        let pinned = Instant::now();
        self.pager.unpin(self.pages.clone())?;
        Ok(RemapTimes { pin: pinned - begin, unpin: pinned.elapsed() })
    }
}

impl Drop for Remapping {
    fn drop(&mut self) {
        self.pager.give(self.frames.clone());
    }
}
