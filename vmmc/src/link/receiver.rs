//! The receiving half of a link: puts packets in order, and decides when to acknowledge.
//!
//! A packet that is the next one is processed at once. One that comes early is kept in its RX frames until the gap
//! is filled; one that comes again is acknowledged again. How many packets past the next one are taken is the credit
//! that the sender was given.
//!
//! Acknowledgements ride on data that goes the other way. When there is none, one is sent alone: at once when the
//! sender asks for it or something is out of order, after every [`ACK_EVERY`] packets, else after [`ACK_DELAY`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::port::{Port, RxPacket};
use crate::time::Time;
use crate::wire::{SACK_BITS, Sack};

/// Packets after which an acknowledgement is due.
pub const ACK_EVERY: u32 = 64;

/// How long an acknowledgement may wait for data to ride on.
pub const ACK_DELAY: Duration = Duration::from_micros(200);

/// A packet that waits: for its turn, or for room in the application.
#[derive(Debug)]
pub(crate) struct Held {
    /// The packet.
    pub packet: RxPacket,
    /// Where its unprocessed bytes begin in the Ethernet frame.
    pub start: usize,
    /// How many they are.
    pub length: usize,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    /// With a mark of congestion.
    pub marked: bool,
    /// Perhaps long before this side looked for it.
    pub late: bool,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the next one: process it.
    Next,
    /// It is early: keep it.
    Early,
    /// It has been here before, or is past all credit.
    Refuse,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    next: u64,
    capacity: u16,
    /// The peer gets no more credit for PUTs than it has.
    throttled: bool,
    /// `held[i]` is packet `next + i`.
    held: VecDeque<Option<Held>>,
    /// How many there are.
    early: usize,
    unacked: u32,
    ack_at: Option<Time>,
    ack_now: bool,
    newest_at: Time,
    /// A packet that hasn't been acknowledged may have waited for long before this side looked for it.
    late: bool,
    marks: u16,
}

impl Receiver {
    /// Expects sequence number `first`, takes at most `capacity` packets from there on.
    pub(super) fn new(first: u64, capacity: u16) -> Receiver {
        Receiver {
            next: first,
            capacity,
            throttled: false,
            held: VecDeque::new(),
            early: 0,
            unacked: 0,
            ack_at: None,
            ack_now: false,
            newest_at: Time::ZERO,
            late: false,
            marks: 0,
        }
    }

    /// The next sequence number expected: all before it have been processed.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Packets from `next` on that may come, with receive memory for `free` more: as many as would be kept if all of them came early.
    pub(super) fn credit(&self, free: usize) -> u16 {
        let room = u16::try_from((self.early + free).div_ceil(2)).unwrap_or(u16::MAX);
        room.min(self.capacity)
    }

    /// Whether an early packet may be kept, with receive memory for `free` more. A link keeps no more than it leaves to
    /// others (Choudhury and Hahne's dynamic threshold), so that none can take all the memory, and one alone can take half.
    pub(super) fn may_keep(&self, free: usize) -> bool {
        self.early < free
    }

    /// Packets that are here out of order.
    pub(super) fn early(&self) -> usize {
        self.early
    }

    /// Stops giving credit for PUTs, or begins to give it again and says so at once. What was given before stays good.
    pub(super) fn throttle(&mut self, throttled: bool) {
        self.ack_now |= self.throttled && !throttled;
        self.throttled = throttled;
    }

    /// Whether what credit is given is for FETCHEDs alone.
    pub(super) fn is_throttled(&self) -> bool {
        self.throttled
    }

    /// Packets with a congestion mark that have come.
    pub(super) fn marks(&self) -> u16 {
        self.marks
    }

    /// Decides about a packet that has just arrived.
    pub(super) fn admit(&mut self, now: Time, sequence: u32, arrival: Arrival, ack_now: bool) -> (Admission, u64) {
        let sequence = super::extend(sequence, self.next);
        self.marks = self.marks.wrapping_add(arrival.marked.into());
        self.late |= arrival.late;
        self.ack_now |= ack_now;
        let admission = match sequence.checked_sub(self.next) {
            Some(0) if self.held.front().is_none_or(Option::is_none) => Admission::Next,
            Some(ahead)
                if ahead < self.capacity.into() && self.held.get(ahead as usize).is_none_or(Option::is_none) =>
            {
                Admission::Early
            }
            _ => Admission::Refuse,
        };
        if admission != Admission::Refuse {
            self.newest_at = now;
        }
        self.ack_now |= admission != Admission::Next;
        (admission, sequence)
    }

    /// Keeps a packet until its turn comes.
    pub(super) fn hold(&mut self, sequence: u64, held: Held) {
        let index = (sequence - self.next) as usize;
        while self.held.len() <= index {
            self.held.push_back(None);
        }
        self.early += usize::from(self.held[index].replace(held).is_none());
    }

    /// The next packet, when it is already here.
    pub(super) fn take_ready(&mut self) -> Option<Held> {
        let held = self.held.front_mut()?.take()?;
        self.early -= 1;
        Some(held)
    }

    /// The next packet has been processed.
    pub(super) fn advance(&mut self, now: Time) {
        self.next += 1;
        self.held.pop_front();
        self.unacked += 1;
        self.ack_now |= self.unacked >= ACK_EVERY;
        self.ack_later(now);
    }

    /// Asks for an acknowledgement without waiting for data to carry it.
    pub(super) fn want_ack(&mut self) {
        self.ack_now = true;
    }

    /// Has an acknowledgement sent a little later.
    pub(super) fn ack_later(&mut self, now: Time) {
        self.ack_at.get_or_insert(now + ACK_DELAY);
    }

    /// Has the acknowledgement that is due sent at `at` instead: the port is full.
    pub(super) fn ack_at(&mut self, at: Time) {
        (self.ack_now, self.ack_at) = (false, Some(at));
    }

    /// Whether an acknowledgement should be sent now.
    pub(super) fn ack_due(&self, now: Time) -> bool {
        self.ack_now || self.ack_at.is_some_and(|at| now >= at)
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.ack_now { Some(Time::ZERO) } else { self.ack_at }
    }

    /// An acknowledgement has been sent.
    pub(super) fn acked(&mut self) {
        (self.unacked, self.ack_at, self.ack_now, self.late) = (0, None, false, false);
    }

    /// What the next packet tells of has waited for long before this side looked for it.
    pub(super) fn be_late(&mut self) {
        self.late = true;
    }

    /// Whether the delay of what would now be acknowledged says nothing about the path.
    pub(super) fn late(&self) -> bool {
        self.late
    }

    /// How long the newest packet has waited for its acknowledgement.
    pub(super) fn ack_delay(&self, now: Time) -> Duration {
        if self.unacked > 0 || !self.held.is_empty() { now.since(self.newest_at) } else { Duration::ZERO }
    }

    /// What is here out of order; `None` when nothing is.
    pub(super) fn sack(&self) -> Option<Sack> {
        let mut sack = Sack::default();
        for (i, _) in self.held.iter().enumerate().take(SACK_BITS as usize + 1).filter(|(_, h)| h.is_some()) {
            sack.insert(i as u64);
        }
        (!sack.is_empty()).then_some(sack)
    }

    /// Gives back all packets that wait.
    pub(super) fn clear(&mut self, port: &mut dyn Port) {
        self.held.drain(..).flatten().for_each(|h| port.recycle(h.packet));
        self.early = 0;
    }
}
