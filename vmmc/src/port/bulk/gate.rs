//! The steering program's [gate](xdp_prog::gate), mapped into memory.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};
use xdp_prog::gate::Gate;

use super::{Landing, Run};
use crate::wire::BULK_CHECKED;

/// The gate of a program that is loaded, or, in tests, of none.
pub(super) struct GateMap {
    map: MmapRaw,
}

impl GateMap {
    /// Maps the gate whose map this is.
    ///
    /// # Errors
    /// When the descriptor is of no such map.
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<GateMap> {
        Ok(GateMap { map: MmapOptions::new().len(size_of::<Gate>()).map_raw(map.as_raw_fd())? })
    }

    /// Says for whom the places `first..end` are. What was in that `slot` before is used up, or the same but for its end.
    pub(super) fn set(&self, slot: usize, run: &Run, first: u64, end: u64) {
        let Run { token, peer, grant, segment } = *run;
        self.set_run(slot, &xdp_prog::gate::Run { places: first..end, token, grant, segment, source: peer });
    }

    /// What the header of the packet said that has landed at place `number`.
    pub(super) fn landing(&self, number: u64) -> Landing {
        let entry = self.entry(number);
        let checksum = (entry.flags & BULK_CHECKED != 0).then_some(entry.checksum);
        Landing { place: number, grant: entry.grant, segment: entry.segment, checksum }
    }
}

impl Deref for GateMap {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        // SAFETY: the mapping begins at a page, is as long as a gate (`new`), shared and writable, and lives as long as the borrow. A gate is atomics,
        // which any bytes are, and which others, the program among them, may change.
        unsafe { &*self.map.as_ptr().cast::<Gate>() }
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! A gate in ordinary memory, and a program that lets in what it is told.

    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use xdp_prog::gate::{LOG, RUNS};

    use super::*;

    impl GateMap {
        pub(crate) fn in_memory() -> GateMap {
            GateMap { map: MmapOptions::new().len(size_of::<Gate>()).map_anon().unwrap().into() }
        }

        /// As the program does, lets in a packet. Whom it is from, and of what length, isn't looked at.
        pub(crate) fn let_in(&self, grant: u32, segment: u32, checksum: Option<u32>) {
            const USED: usize = 8;
            const ENTRIES: usize = 64 + 56 * RUNS;
            let used = self.used();
            assert!(used < self.posted(), "the gate is closed");
            let at = self.map.as_mut_ptr();
            let flags = if checksum.is_some() { u32::from(BULK_CHECKED) } else { 0 };
            for (i, value) in [grant, segment, checksum.unwrap_or(0), flags].into_iter().enumerate() {
                let offset = ENTRIES + (used as usize % LOG) * 16 + i * 4;
                // SAFETY: within the mapping, and aligned; all others access it as atomics, too.
                unsafe { AtomicU32::from_ptr(at.add(offset).cast()) }.store(value, Ordering::Relaxed);
            }
            // SAFETY: as above.
            unsafe { AtomicU64::from_ptr(at.add(USED).cast()) }.store(used + 1, Ordering::Release);
        }
    }
}
