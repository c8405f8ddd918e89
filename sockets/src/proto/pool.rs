//! Rings for streams: a buddy allocator of the part of a session export that lies behind the slots.
//!
//! Blocks have 4 KiB to 4 MiB, in powers of two, and lie at multiples of their length. The block with the lowest offset is taken, so that
//! few rings lie close together, and the rest of the export, which is sparse, needs no memory.

use std::collections::BTreeSet;
use std::ops::Range;

use super::layout::{MAX_RING, MIN_RING, RINGS};

const MIN_ORDER: u32 = MIN_RING.ilog2();
const ORDERS: usize = (MAX_RING.ilog2() - MIN_ORDER + 1) as usize;

/// The rings of one session export.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Offsets of the free blocks of 4 KiB, 8 KiB, and so on.
    free: [BTreeSet<u64>; ORDERS],
    start: u64,
    end: u64,
    used: u64,
}

impl Pool {
    /// All rings of an export of `export_len` bytes. Bytes after the last whole 4 KiB are left over.
    pub fn new(export_len: u64) -> Pool {
        let end = export_len - export_len % MIN_RING;
        Pool::over(RINGS..end.max(RINGS))
    }

    /// All rings that lie in these places, whose ends are multiples of 4096.
    pub fn over(places: Range<u64>) -> Pool {
        let mut pool = Pool { free: Default::default(), start: places.start, end: places.end, used: 0 };
        let mut offset = places.start;
        while offset < pool.end {
            // The largest block that begins here: as far as its alignment and the end allow.
            let order = offset.trailing_zeros().min((pool.end - offset).ilog2()).min(MAX_RING.ilog2());
            pool.free[(order - MIN_ORDER) as usize].insert(offset);
            offset += 1 << order;
        }
        pool
    }

    /// Takes a ring of `len` bytes, a power of two from 4 KiB to 4 MiB, and tells its offset. None if there is no such block, or `len`
    /// isn't such a length.
    pub fn alloc(&mut self, len: u64) -> Option<u64> {
        let order = order(len)?;
        let found = (order..ORDERS).find(|&larger| !self.free[larger].is_empty())?;
        let offset = self.free[found].pop_first()?;
        for half in order..found {
            self.free[half].insert(offset + (MIN_RING << half));
        }
        self.used += len;
        Some(offset)
    }

    /// Gives a ring back that [`Pool::alloc`] has given.
    pub fn free(&mut self, offset: u64, len: u64) {
        let Some(order) = order(len) else {
            debug_assert!(false, "{len} is no ring's length");
            return;
        };
        debug_assert!(offset >= self.start && offset.is_multiple_of(len) && offset + len <= self.end);
        let mut offset = offset;
        self.used -= len;
        for order in order..ORDERS {
            let len = MIN_RING << order;
            let joined = order + 1 < ORDERS && self.free[order].remove(&(offset ^ len));
            if !joined {
                let new = self.free[order].insert(offset);
                debug_assert!(new, "{offset} was free already");
                return;
            }
            offset &= !len;
        }
    }

    /// How much is taken, bytes.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// How much there is, taken or not, bytes.
    pub fn total(&self) -> u64 {
        self.end - self.start
    }
}

fn order(len: u64) -> Option<usize> {
    (len.is_power_of_two() && (MIN_RING..=MAX_RING).contains(&len)).then(|| (len.ilog2() - MIN_ORDER) as usize)
}

#[cfg(test)]
mod tests;
