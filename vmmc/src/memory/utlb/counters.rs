//! What a UTLB counts.

use serde::{Deserialize, Serialize};

/// What a [`Utlb`](super::Utlb) has counted, in pages unless it says calls, and how much it has pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Looked up. Each was a hit or a miss.
    pub lookups: u64,
    /// Of those, how many were pinned already.
    pub hits: u64,
    /// Of those, how many weren't. Each was then pinned or copied.
    pub misses: u64,
    /// Pinned, prefetched ones included.
    pub pins: u64,
    /// Calls that pinned them.
    pub pin_calls: u64,
    /// Of those pinned, how many nobody had asked for: pinned ahead, or with their neighbours.
    pub prefetched: u64,
    /// Unpinned, with their content.
    pub unpins: u64,
    /// Calls that unpinned them.
    pub unpin_calls: u64,
    /// Of those unpinned, how many because others needed their frames; the rest because the budget was lowered.
    pub evictions: u64,
    /// Pinned ones whose mapping went: their frames were given back, their content with them.
    pub dropped: u64,
    /// Misses that were copied instead of pinned.
    pub copied: u64,
    /// Calls of the pager that failed. What they were to pin was copied, what they were to unpin stayed.
    pub failures: u64,
    /// Pinned now.
    pub pinned: u64,
    /// Of those, how many transfers hold now.
    pub held: u64,
    /// How many may be pinned.
    pub budget: u64,
}
