//! The bulk lane: long sends go from memory to memory, and nobody in user space copies a byte.
//!
//! [`thresholds`] says which sends take it, [`transfer`] cuts these into transfers, [`asking`] asks for them, [`queue`] has those that aren't done, and [`sending`] sends them. Of the receiver's, [`receiving`] grants and takes what lands, [`attending`] does what is due,
//! [`retreat`] takes places back, and [`granted`] is one transfer that has been granted. What belongs where,
//! what is missing and whose turn it is they ask [`crate::bulk`]; the memory is kept by the [port](crate::port::bulk) for as long as the kernel may touch it.

mod asking;
mod attending;
mod granted;
mod queue;
mod receiving;
mod retreat;
mod sending;
mod shown;
mod thresholds;
mod transfer;

use std::collections::HashMap;
use std::ops::Range;

pub use asking::DirectSend;
pub(super) use queue::Transfers;
pub(super) use receiving::HeardTransfer;
pub use thresholds::{LEAST_THRESHOLD, MOST_STEPS, Thresholds, ThresholdsError};

use self::granted::Granted;
use self::receiving::Asked;
use crate::bulk::schedule::Schedule;
use crate::bulk::trust::Trust;
use crate::bulk::turn::Turn;
use crate::port::bulk::{BulkPort, Landing};
use crate::time::Time;

/// A request of another peer is granted when no more than so many entries of the fill ring are unused.
const FEW_ENTRIES: u32 = 256;

/// The receiver's half of an engine's lane.
pub(super) struct BulkLane {
    schedule: Schedule,
    asked: HashMap<(u64, u32), Asked>,
    open: Vec<Granted>,
    batch: Vec<Landing>,
    last_grant: u32,
    trust: Trust,
    turn: Turn,
    /// When it was last attended to.
    seen: Time,
    /// How often in a row its books were wrong.
    mistaken: u32,
    /// Parts of exports that are nobody's any more, and where places are still posted: until it has been opened again.
    unclear: Vec<(u32, Range<u64>)>,
    /// It couldn't be opened again.
    broken: bool,
    /// Which sends take it.
    pub(super) used: Thresholds,
}

impl BulkLane {
    /// A lane that takes these sends.
    pub(super) fn new(used: Thresholds) -> BulkLane {
        BulkLane {
            schedule: Schedule::new(transfer::MOST_ENTRIES as u32, FEW_ENTRIES),
            asked: HashMap::new(),
            open: Vec::new(),
            batch: Vec::new(),
            last_grant: 0,
            trust: Trust::default(),
            turn: Turn::default(),
            seen: Time::ZERO,
            mistaken: 0,
            unclear: Vec::new(),
            broken: false,
            used,
        }
    }

    /// Whether it still works.
    fn is_usable(&self) -> bool {
        !self.broken
    }

    /// How many transfers a peer has asked for that aren't complete.
    pub(super) fn transfers_of(&self, token: u64) -> usize {
        let asked = self.asked.keys().filter(|&&(of, _)| of == token).count();
        asked + self.open.iter().filter(|granted| granted.run.token == token).count()
    }

    /// The place that is used next.
    fn first_place(&self) -> Option<u64> {
        self.open.iter().filter_map(|granted| granted.incoming.next_place()).min()
    }

    /// How long packets are that the places posted are for.
    fn posted(&self) -> Option<u32> {
        self.open.iter().find_map(Granted::posted)
    }

    /// Posts places that are free, and lets packets in. Returns whether some couldn't be posted: what they are of is condemned.
    fn post(&mut self, port: &mut dyn BulkPort) -> bool {
        let (mut posted, mut any, mut unpostable) = (self.posted(), false, false);
        for granted in &mut self.open {
            match granted.post(port, posted) {
                Ok(new) => any |= new,
                Err(_) => (granted.condemned, unpostable) = (true, true),
            }
            posted = posted.or_else(|| granted.posted());
        }
        if any {
            port.admit();
        }
        unpostable
    }

    /// How long packets are that the places are for that are posted, or are still to be; `None` if there are any of several lengths.
    ///
    /// What lacks a place now, because one was used for nothing, would else have to wait until others ask for nothing more.
    fn wanted(&self) -> Option<Option<u32>> {
        let mut lengths = self.open.iter().filter(|g| !g.incoming.is_complete()).map(|granted| granted.run.segment);
        let first = lengths.next();
        lengths.all(|length| Some(length) == first).then_some(first)
    }

    /// Whether anything may land.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}
