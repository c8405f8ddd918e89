//! Faults on demand: a [`FaultPort`] is a port that loses, repeats, reorders and damages packets.
//!
//! It wraps any other port, so that whoever wonders how a program behaves on a bad network can have one, on any interface: in
//! what the node sends, in what it receives, or both ([`Faults::on`]).
//!
//! ```text
//!   submit ─► drop? ─► corrupt? ─► reorder? ───────────────► the port ─► wire
//!                                     │                        ▲
//!                                     └─► held for `delay` ────┘        dup? sends it another time, either way
//!
//!   wire ─► the port ─► drop? ─► corrupt? ─► reorder? ───────────────► receive
//!                                               │                        ▲
//!                                               └─► held for `delay` ────┘        dup? hands it out another time
//! ```
//!
//! No packet is ever written or kept: those to send are their sender's, who wants to send them again whole, and those that
//! arrived are the port's, or the NIC's. What is damaged, repeated or held back is a copy, on the heap. There are at most 1024
//! copies of what is to be sent, and as many of what was received: those that are held back, and those that the node has been handed and
//! hasn't given back. Beyond that, and when the port has no frame to send a copy from, a packet goes on as it is, and is counted
//! as `spared`. So faults take no receive memory from the port, however many packets they hold back.
//!
//! Packets of the [bulk lane](super::bulk) meet with the same as they are sent, but for damage, which is only in their headers; and with nothing as they land, because then they are
//! where they belong, or drops of them would be places that nobody uses: for that, have the other end make faults.
//!
//! A port has no clock, but a delay needs one: this one uses the system's, because it is for real wires. (The network in [`sim`](super::sim)
//! has faults of its own, in its virtual time.) So a seed decides *which* packets meet with what, and not the microsecond. Packets that are
//! due leave with the next [`Port::receive`] or [`Port::flush`], and are received with the next [`Port::receive`]; a timer is among
//! the [descriptors](Port::readable) to sleep on, so that one who sleeps wakes up for them.

mod bulk;
mod fate;
mod receiving;
mod sending;
mod spec;
mod timer;

use std::io;
use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use self::bulk::BulkSending;
use self::receiving::Receiving;
use self::sending::Sending;
pub use self::spec::{Faults, FaultsError, Way};
use self::timer::Timer;
use super::{Descriptors, Port, PortCounters, RxPacket, TxPacket};
use crate::wire::Fragments;

/// The most copies there are at a time, each way.
const COPIES: usize = 1024;

/// How often each fault has been made since the port was opened, in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounters {
    /// Packets lost.
    pub dropped: u64,
    /// Packets sent, or handed out, twice.
    pub duplicated: u64,
    /// Packets held back.
    pub delayed: u64,
    /// Packets damaged.
    pub corrupted: u64,
    /// Packets that were to be copied, and couldn't be: no frame was free, or there were too many copies already.
    pub spared: u64,
}

impl std::ops::Add for FaultCounters {
    type Output = FaultCounters;

    fn add(self, other: FaultCounters) -> FaultCounters {
        FaultCounters {
            dropped: self.dropped + other.dropped,
            duplicated: self.duplicated + other.duplicated,
            delayed: self.delayed + other.delayed,
            corrupted: self.corrupted + other.corrupted,
            spared: self.spared + other.spared,
        }
    }
}

/// A port that makes [`Faults`] in what it sends, what it receives, or both.
pub struct FaultPort {
    inner: Box<dyn Port>,
    sending: Sending,
    /// In what the bulk lane sends.
    bulk: BulkSending,
    receiving: Receiving,
    /// Expires when the first packet that is held back is due.
    timer: Timer,
}

impl FaultPort {
    /// Has a port make faults.
    ///
    /// # Errors
    /// When a share or the delay is out of its range ([`io::ErrorKind::InvalidInput`], see [`Faults::check`]), or the process
    /// has no file descriptor left for a timer.
    pub fn new(inner: Box<dyn Port>, faults: Faults) -> io::Result<FaultPort> {
        faults.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (sending, receiving) = (Sending::new(&faults), Receiving::new(&faults));
        let bulk = BulkSending::new(&faults);
        Ok(FaultPort { inner, sending, bulk, receiving, timer: Timer::new()? })
    }

    fn set_timer(&mut self) {
        let dues = [self.sending.due(), self.bulk.due(), self.receiving.due()];
        self.timer.set(dues.into_iter().flatten().min());
    }

    /// Queues what is due. Returns whether there was any.
    fn release(&mut self) -> bool {
        let eager = self.sending.release(&mut *self.inner);
        let bulk = self.inner.bulk().is_some_and(|lane| self.bulk.release(lane));
        eager || bulk
    }
}

// `Layer` isn't imported: its methods have the names of `Port`'s.
impl super::Layer for FaultPort {
    fn inner(&self) -> &dyn Port {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut *self.inner
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        let sent = self.sending.submit(&mut *self.inner, packet);
        self.set_timer();
        sent
    }

    fn flush(&mut self) -> io::Result<()> {
        self.release();
        self.set_timer();
        self.inner.flush()
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        // One who receives nothing may not flush either.
        if self.release() {
            self.inner.flush()?;
        }
        let received = self.receiving.receive(&mut *self.inner, batch);
        self.set_timer();
        received
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        self.receiving.fragments(packet).unwrap_or_else(|| self.inner.fragments(packet))
    }

    fn recycle(&mut self, packet: RxPacket) {
        if let Some(packet) = self.receiving.recycle(packet) {
            self.inner.recycle(packet);
        }
    }

    fn readable(&self) -> Descriptors<'_> {
        let mut descriptors = self.inner.readable();
        descriptors.push(self.timer.as_fd());
        descriptors
    }

    fn counters(&self) -> PortCounters {
        let (tx_faults, rx_faults) = (self.sending.counters + self.bulk.counters, self.receiving.counters);
        PortCounters { tx_faults, rx_faults, ..self.inner.counters() }
    }

    fn bulk(&mut self) -> Option<&mut dyn super::bulk::BulkPort> {
        self.inner.bulk_ref()?;
        Some(self)
    }

    fn bulk_ref(&self) -> Option<&dyn super::bulk::BulkPort> {
        self.inner.bulk_ref()?;
        Some(self)
    }
}

#[cfg(test)]
mod tests;
