//! The bulk lane: long sends go from memory to memory, and nobody in user space copies a byte.
//!
//! [`transfer`] cuts sends into transfers, [`sending`] is the sender's half, [`receiving`] the receiver's, and [`granted`] one transfer that has been granted. What belongs where,
//! what is missing and whose turn it is they ask [`crate::bulk`]; the memory is kept by the [port](crate::port::bulk) for as long as the kernel may touch it.

mod granted;
mod receiving;
mod sending;
mod transfer;

use std::collections::HashMap;

pub(super) use receiving::HeardTransfer;
pub use sending::DirectSend;
pub(super) use sending::Transfers;

use self::granted::Granted;
use self::receiving::Asked;
use self::transfer::{Packets, Parts};
use crate::bulk::schedule::Schedule;
use crate::link::Link;
use crate::port::bulk::Landing;

/// Shorter sends than this aren't worth a round trip before they begin, bytes.
pub const THRESHOLD: usize = 64 << 10;

/// The least that it may be set to.
pub const LEAST_THRESHOLD: usize = 4096;

/// At a smaller MTU than this, bytes, a packet of several fragments costs the kernel more than copying it into one costs the sender.
pub const LEAST_MTU: usize = 8000;

/// Which sends take the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkUse {
    /// Those of so many bytes and more.
    pub threshold: usize,
    /// To peers with which packets of so many bytes and more have been agreed on.
    pub least_mtu: usize,
}

impl BulkUse {
    /// None.
    pub(super) const NONE: BulkUse = BulkUse { threshold: usize::MAX, least_mtu: usize::MAX };

    /// Whether a send of so many bytes does.
    pub(super) fn takes(&self, link: &Link, length: u64) -> bool {
        let options = link.options();
        // Where packets have to fill NIC buffers, there are links, or sends, too small for one.
        let fits = || Parts::of(usize::try_from(length).unwrap_or(usize::MAX), Packets::of(link, usize::MAX)).is_some();
        options.bulk
            && length >= self.threshold as u64
            && link.mtu() >= self.least_mtu
            && (!options.whole_buffers || fits())
    }
}

impl Default for BulkUse {
    fn default() -> BulkUse {
        BulkUse { threshold: THRESHOLD, least_mtu: LEAST_MTU }
    }
}

/// A request of another peer is granted when no more than so many entries of the fill ring are unused.
const FEW_ENTRIES: u32 = 256;

/// The receiver's half of an engine's lane.
pub(super) struct BulkLane {
    schedule: Schedule,
    asked: HashMap<(u64, u32), Asked>,
    open: Vec<Granted>,
    batch: Vec<Landing>,
    last_grant: u32,
    /// It couldn't be opened again.
    broken: bool,
    /// Which sends take it.
    pub(super) used: BulkUse,
}

impl BulkLane {
    /// A lane that takes these sends.
    pub(super) fn new(used: BulkUse) -> BulkLane {
        BulkLane {
            schedule: Schedule::new(transfer::MOST_ENTRIES as u32, FEW_ENTRIES),
            asked: HashMap::new(),
            open: Vec::new(),
            batch: Vec::new(),
            last_grant: 0,
            broken: false,
            used,
        }
    }

    /// Whether it still works.
    fn is_usable(&self) -> bool {
        !self.broken
    }

    /// Whether anything may land.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}
