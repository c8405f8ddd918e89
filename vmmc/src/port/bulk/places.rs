//! The receiving side: places in the fill ring, and what has landed in them.
//!
//! A place is filled by one packet. The kernel cuts that into fragments of 3840 bytes, each of which takes an entry of the fill ring: an address, 256 bytes after which it
//! writes. So a place that begins at `at` is entries `at - 256`, `at - 256 + 3840`, and so on, and comes back as as many descriptors, in that order.
//!
//! All the kernel may do with an entry is to write those bytes. It is certain that it does no more, and what is where, only as long as the descriptors that come are those expected;
//! when one isn't, this is `lost`, and tells of no landing any more until the socket has been opened anew.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use xdp_prog::gate::{MIN_SEGMENT, RUNS};

use super::gate::GateMap;
use super::rings::{Consumer, Producer, SharedDescriptor};
use super::socket::{CHUNK, RX_RING};
use super::{Landing, MAX_SEGMENT, Run};
use crate::memory::{Arena, DirectTarget};

/// What the kernel leaves free at the start of each fill entry.
pub(super) const HEADROOM: u64 = 256;
/// What it writes behind that at the most.
pub(super) const FRAGMENT: usize = CHUNK as usize - HEADROOM as usize;
/// By so many bytes the headers over IPv6 are longer than those over IPv4.
const V6_MORE: usize = 20;
/// A descriptor's option: the next one is of the same packet.
pub(super) const CONTINUED: u32 = 1;
/// In unaligned mode a descriptor's address is that of the fill entry, and the offset from there in the upper 16 bits.
pub(super) const OFFSET_SHIFT: u32 = 48;

/// A place that is posted, and in which nothing has landed.
struct Place {
    /// Keeps the memory, until the kernel is done with it.
    _target: DirectTarget,
    /// Where a packet begins that lands here: its payload, or its headers if these aren't taken off.
    at: u64,
    /// How long that is, bytes.
    length: usize,
    /// Of these its payload.
    segment: usize,
}

/// A run, in the gate or about to be.
struct Booked {
    run: Run,
    first: u64,
    end: u64,
    /// The end that the gate knows.
    told: u64,
}

/// The places of a lane.
pub(super) struct Places {
    waiting: VecDeque<Place>,
    /// The number that the next place gets.
    next: u64,
    /// Places that packets are let into: those below.
    admitted: u64,
    /// Fill entries of those that wait: as many descriptors may come.
    entries: usize,
    /// Descriptors seen of the first that waits.
    arrived: usize,
    runs: [Option<Booked>; RUNS],
    /// The run posted last.
    last: usize,
    /// How many bytes of headers come before the payload over IPv6; over IPv4 fewer. 0 where they are taken off.
    pub headers: usize,
    /// No entry may cross a multiple of this: the NIC writes by addresses of its own, in which only so much memory is in one piece.
    pub piece: u64,
    lost: bool,
}

impl Places {
    /// None, of which the first gets the number `next`.
    pub(super) fn new(next: u64) -> Places {
        let runs = [const { None }; RUNS];
        let waiting = VecDeque::new();
        let piece = u64::MAX;
        Places { waiting, next, admitted: next, entries: 0, arrived: 0, runs, last: 0, headers: 0, piece, lost: false }
    }

    /// Forgets all that wait, and goes on at the number `next`. The kernel has none of them any more.
    pub(super) fn restart(&mut self, next: u64) {
        let (headers, piece) = (self.headers, self.piece);
        *self = Places { headers, piece, ..Places::new(next) };
    }

    /// Whether none wait.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait, and how many entries of the fill ring they take.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.entries)
    }

    /// Whether something came that can't be.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// What has landed isn't to be believed.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// How many bytes of headers those of a run have that aren't taken off.
    fn headers_of(&self, run: &Run) -> usize {
        if run.peer.is_ipv4() { self.headers.saturating_sub(V6_MORE) } else { self.headers }
    }

    /// How many packets of so many bytes may be posted.
    pub(super) fn room(&self, segment: usize, fill: &Producer<AtomicU64>, gate: &GateMap) -> usize {
        if self.lost || !is_segment(segment) || self.free_run(gate).is_none() {
            return 0;
        }
        (RX_RING as usize - self.entries).min(fill.free()) / (segment + self.headers).div_ceil(FRAGMENT)
    }

    fn free_run(&self, gate: &GateMap) -> Option<usize> {
        let used = gate.used();
        self.runs.iter().position(|run| run.as_ref().is_none_or(|run| run.end <= used))
    }

    /// Posts bytes `at..at + run.segment` of `target`; returns the place's number. Nothing is let in there before [`Places::admit`].
    pub(super) fn post(
        &mut self,
        run: &Run,
        target: &DirectTarget,
        at: usize,
        arena: &Arena,
        fill: &mut Producer<AtomicU64>,
        gate: &GateMap,
    ) -> Option<u64> {
        let segment = run.segment as usize;
        if self.lost || !is_segment(segment) {
            return None;
        }
        let headers = self.headers_of(run);
        let length = segment + headers;
        // A NIC that writes by itself writes before the program has looked, and so as much as there arrives: the entries have room for this packet, and for nothing else.
        if headers > 0 && !length.is_multiple_of(FRAGMENT) {
            return None;
        }
        let at = target.place(arena, at, segment)?.checked_sub(headers as u64)?;
        let start = at.checked_sub(HEADROOM)?;
        let entries = length.div_ceil(FRAGMENT);
        let addresses = (0..entries as u64).map(|i| start + i * FRAGMENT as u64);
        let fits = |entry: u64| {
            let end = entry + u64::from(CHUNK);
            end <= arena.len() as u64 && entry / self.piece == (end - 1) / self.piece
        };
        if !addresses.clone().all(fits) || self.entries + entries > RX_RING as usize || !fill.has_room(entries) {
            return None;
        }
        self.book(run, gate)?;
        for address in addresses {
            let written = fill.push(address);
            debug_assert!(written, "there was room");
        }
        self.entries += entries;
        self.waiting.push_back(Place { _target: target.clone(), at, length, segment });
        let number = self.next;
        self.next += 1;
        Some(number)
    }

    /// Makes the next place one of `run`.
    fn book(&mut self, run: &Run, gate: &GateMap) -> Option<()> {
        let next = self.next;
        match &mut self.runs[self.last] {
            Some(last) if last.run == *run && last.end == next => last.end += 1,
            _ => {
                self.last = self.free_run(gate)?;
                self.runs[self.last] = Some(Booked { run: *run, first: next, end: next + 1, told: 0 });
            }
        }
        Some(())
    }

    /// Lets packets into all places posted. The fill ring comes first: whatever is let in has a place there.
    pub(super) fn admit(&mut self, fill: &mut Producer<AtomicU64>, gate: &GateMap) {
        if self.admitted == self.next {
            return;
        }
        fill.publish();
        for (slot, booked) in self.runs.iter_mut().enumerate() {
            if let Some(Booked { run, first, end, told }) = booked.as_mut().filter(|booked| booked.told != booked.end) {
                gate.set(slot, run, *first, *end);
                *told = *end;
            }
        }
        gate.admit(self.next);
        self.admitted = self.next;
    }

    /// Moves what has landed to the end of `batch`. Returns how many bytes of payload that is.
    pub(super) fn receive(
        &mut self,
        rx: &mut Consumer<SharedDescriptor>,
        gate: &GateMap,
        batch: &mut Vec<Landing>,
    ) -> usize {
        let (mut bytes, mut used) = (0, 0);
        while let Some(descriptor) = rx.pop() {
            let Some(place) = self.waiting.front().filter(|_| !self.lost) else {
                self.lost = true;
                continue;
            };
            let done = self.arrived * FRAGMENT;
            let rest = place.length - done;
            let address = (descriptor.address & ((1 << OFFSET_SHIFT) - 1)) + (descriptor.address >> OFFSET_SHIFT);
            if address != place.at + done as u64
                || descriptor.length as usize != rest.min(FRAGMENT)
                || (descriptor.options & CONTINUED != 0) != (rest > FRAGMENT)
            {
                self.lost = true;
                continue;
            }
            self.arrived += 1;
            if rest > FRAGMENT {
                continue;
            }
            let number = self.next - self.waiting.len() as u64;
            if used <= number {
                used = gate.used();
            }
            if used <= number || number >= self.admitted {
                self.lost = true;
                continue;
            }
            batch.push(gate.landing(number));
            bytes += place.segment;
            self.entries -= self.arrived;
            self.arrived = 0;
            self.waiting.pop_front();
        }
        rx.release();
        bytes
    }

    /// Never lets go of what waits: the kernel may still write there.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.waiting));
    }
}

/// Whether packets can have so many bytes of payload.
fn is_segment(segment: usize) -> bool {
    (MIN_SEGMENT as usize..=MAX_SEGMENT).contains(&segment)
}

#[cfg(test)]
mod tests;
