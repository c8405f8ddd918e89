//! Faults on demand: a [`FaultPort`] is a port that loses, repeats, reorders and damages what it is given to send.
//!
//! It wraps any other port, so that whoever wonders how a program behaves on a bad network can have one, on any interface. What a
//! node receives it leaves alone: whoever wants faults both ways asks for them at both ends.
//!
//! ```text
//!   submit ─► drop? ─► corrupt? ─► reorder? ───────────────► the port ─► wire
//!                                     │                        ▲
//!                                     └─► held for `delay` ────┘        dup? sends it another time, either way
//! ```
//!
//! The packet itself is never written: its sender keeps it, to send it again whole. What is damaged, repeated or held back is
//! a copy. Those that are held wait on the heap and take no frames from the port, which may have none to spare. When a fault
//! can't be had (too many packets are held, or the port has no frame for a copy) the packet is sent as it is, and counted as `spared`.
//!
//! A port has no clock, but a delay needs one: this one uses the system's, because it is for real wires. (The network in [`sim`](super::sim)
//! has faults of its own, in its virtual time.) So a seed decides *which* packets meet with what, and not the microsecond. Packets that are
//! due leave with the next [`Port::receive`] or [`Port::flush`]; a timer is among the [descriptors](Port::readable) to sleep on, so that
//! one who sleeps wakes up for them.

mod spec;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

pub use self::spec::{Faults, FaultsError};
use super::{Descriptors, Port, PortCounters, RxPacket, TxPacket};
use crate::wire::Fragments;
use crate::wire::frame::ETHERNET_LEN;

/// The most packets that are held back at a time.
const HELD: usize = 1024;

/// How often each fault has been made since the port was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Packets lost.
    pub dropped: u64,
    /// Packets sent twice.
    pub duplicated: u64,
    /// Packets held back.
    pub delayed: u64,
    /// Packets damaged.
    pub corrupted: u64,
    /// Packets that were to be copied, and couldn't be: no frame was free, or too many were held back already.
    pub spared: u64,
}

/// What becomes of a packet. It is decided before the packet is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Fate {
    dropped: bool,
    twice: bool,
    held: bool,
    /// Which bit is turned over, as a share of its length.
    corrupted: Option<f64>,
}

impl Fate {
    /// Draws as many numbers for each packet, whatever the shares are: that one fault is made more often doesn't move the others.
    fn draw(random: &mut fastrand::Rng, faults: &Faults) -> Fate {
        let mut chance = |share| random.f64() < share;
        let (dropped, twice, held) = (chance(faults.drop), chance(faults.duplicate), chance(faults.reorder));
        let corrupted = chance(faults.corrupt);
        let place = random.f64();
        Fate { dropped, twice, held, corrupted: corrupted.then_some(place) }
    }
}

/// A port that makes [`Faults`] in what it sends.
pub struct FaultPort {
    inner: Box<dyn Port>,
    faults: Faults,
    random: fastrand::Rng,
    /// That of the next packet. One that can't be queued now meets with the same when it is tried again.
    next: Fate,
    /// Packets held back, and until when. All are held equally long, so the first is due first.
    held: VecDeque<(Instant, Vec<u8>)>,
    /// Expires when the first of them is due.
    timer: OwnedFd,
    counters: FaultCounters,
}

impl FaultPort {
    /// Has a port make faults.
    ///
    /// # Errors
    /// When a share or the delay is out of its range ([`io::ErrorKind::InvalidInput`], see [`Faults::check`]), or the process
    /// has no file descriptor left for a timer.
    pub fn new(inner: Box<dyn Port>, faults: Faults) -> io::Result<FaultPort> {
        faults.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut random = fastrand::Rng::with_seed(faults.seed);
        let next = Fate::draw(&mut random, &faults);
        let held = VecDeque::new();
        Ok(FaultPort { inner, faults, random, next, held, timer, counters: FaultCounters::default() })
    }

    /// Lets a packet meet its fate. Returns false when it can't be queued now.
    fn send(&mut self, packet: &TxPacket, fate: Fate) -> bool {
        if fate.dropped {
            self.counters.dropped += 1;
            return true;
        }
        if fate == Fate::default() {
            return self.inner.submit(packet);
        }
        // The look at its head lets the port notice that the kernel is done with the packet.
        if self.inner.head(packet).is_none() {
            return false;
        }
        let Some(mut bytes) = self.inner.contents(packet).map(|fragments| fragments.concat()) else {
            return false;
        };
        let bits = bytes.len().saturating_sub(ETHERNET_LEN) * 8;
        let corrupted = fate.corrupted.filter(|_| bits > 0);
        if let Some(place) = corrupted {
            // A damaged Ethernet header would lead into other hosts, or the switches, and it isn't them who asked for faults.
            let bit = ETHERNET_LEN * 8 + ((place * bits as f64) as usize).min(bits - 1);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = 1 + usize::from(fate.twice);
        if fate.held && self.held.len() + copies <= HELD {
            self.hold(&bytes, copies);
            self.counters.delayed += 1;
            self.counters.corrupted += u64::from(corrupted.is_some());
            self.counters.duplicated += u64::from(fate.twice);
            return true;
        }
        let damaged = corrupted.is_some() && self.send_copy(&bytes);
        if !damaged && !self.inner.submit(packet) {
            return false;
        }
        let no_room = damaged != corrupted.is_some();
        let repeated = fate.twice && !no_room && self.send_copy(&bytes);
        self.counters.corrupted += u64::from(damaged);
        self.counters.duplicated += u64::from(repeated);
        self.counters.spared += u64::from(fate.held || no_room || repeated != fate.twice);
        true
    }

    fn hold(&mut self, bytes: &[u8], copies: usize) {
        let idle = self.held.is_empty();
        let due = Instant::now() + self.faults.delay;
        self.held.extend(std::iter::repeat_n((due, bytes.to_vec()), copies));
        if idle {
            self.set_timer(self.faults.delay);
        }
    }

    /// Submits a packet of its own with these bytes. Returns false when the port has no room for it.
    fn send_copy(&mut self, bytes: &[u8]) -> bool {
        let Some(mut copy) = self.inner.alloc(0) else { return false };
        let sent = self.inner.append(&mut copy, bytes) == bytes.len() && self.inner.submit(&copy);
        self.inner.free(copy);
        sent
    }

    /// Submits what is due. Returns whether there was any.
    fn release(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let now = Instant::now();
        let before = self.held.len();
        while let Some((due, bytes)) = self.held.pop_front() {
            // Without room it stays the first, and the timer tries again.
            if due > now || !self.send_copy(&bytes) {
                self.held.push_front((due, bytes));
                break;
            }
        }
        let released = self.held.len() < before;
        match self.held.front() {
            Some((due, _)) if released || *due <= now => self.set_timer(due.saturating_duration_since(now)),
            Some(_) => {}
            None => self.stop_timer(),
        }
        released
    }

    fn set_timer(&self, after: Duration) {
        // Not at once, even where something is overdue: what it waits for takes longer. And zero would stop the timer.
        let after = after.max(Duration::from_micros(50));
        self.program_timer(Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() });
    }

    /// Also makes it unreadable.
    fn stop_timer(&self) {
        self.program_timer(Timespec { tv_sec: 0, tv_nsec: 0 });
    }

    fn program_timer(&self, it_value: Timespec) {
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        // It fails only for times that can't be, and without it the engine's own timers do, later.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl Port for FaultPort {
    fn max_frame(&self) -> usize {
        self.inner.max_frame()
    }

    fn rx_capacity(&self) -> usize {
        self.inner.rx_capacity()
    }

    fn rx_headroom(&self) -> (usize, usize) {
        self.inner.rx_headroom()
    }

    fn alloc(&mut self, space: usize) -> Option<TxPacket> {
        self.inner.alloc(space)
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        self.inner.append(packet, bytes)
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        self.inner.head(packet)
    }

    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>> {
        self.inner.contents(packet)
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        let sent = self.send(packet, self.next);
        if sent {
            self.next = Fate::draw(&mut self.random, &self.faults);
        }
        sent
    }

    fn free(&mut self, packet: TxPacket) {
        self.inner.free(packet);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.release();
        self.inner.flush()
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        // One who receives nothing may not flush either.
        if self.release() {
            self.inner.flush()?;
        }
        self.inner.receive(batch)
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        self.inner.fragments(packet)
    }

    fn recycle(&mut self, packet: RxPacket) {
        self.inner.recycle(packet);
    }

    fn readable(&self) -> Descriptors<'_> {
        let mut descriptors = self.inner.readable();
        descriptors.push(self.timer.as_fd());
        descriptors
    }

    fn counters(&self) -> PortCounters {
        PortCounters { faults: self.counters, ..self.inner.counters() }
    }
}

#[cfg(test)]
mod tests;
