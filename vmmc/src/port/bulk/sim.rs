//! A bulk port on the network in memory: the same places, gate and landings, and the same trouble, with no kernel and no privilege.
//!
//! A [`SimBulk`] stands beside a [`SimPort`] at one Ethernet address: what is sent to the UDP port after the node's goes to it. Frames are lost,
//! doubled, delayed and damaged on the way as all others are. They land when the network delivers them, whether anybody looks or not.
//!
//! Two kinds of NIC are there to choose from. Where [`SimBulkConfig::strip`] is set, headers are taken off before a payload is written. Where it isn't,
//! each frame is written whole, so that its payload comes to lie in its place and its headers on what is below; and frames that are refused have been written, too. Their places are used again, behind all others.
//!
//! [`SimBulk::control`] makes things go wrong that only a kernel gets wrong, and says what the gate has refused.

mod kernel;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::kernel::Kernel;
pub use self::kernel::Verdicts;
use self::kernel::{Admitting, CHUNK, HEADROOM, Place, chunks};
use super::{BulkCounters, BulkPort, BulkRings, LEAST_ENTRIES, Landing, MAX_SEGMENT, Run};
use crate::memory::{Arena, DirectSource, DirectTarget};
use crate::port::sim::{Network, SimPort};
use crate::wire::frame::{ETHERNET_LEN, Encap};
use crate::wire::{BULK_CHECKED, BULK_HEADER_LEN};

/// The shortest payload: what is left of a frame without its headers must be a frame still.
const MIN_SEGMENT: usize = 14;

/// How many runs the gate knows at a time.
const RUNS: usize = 16;

/// The most chunks of places: there is one entry in the log for each.
const MAX_RING: usize = 4096;

/// How a simulated bulk port is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimBulkConfig {
    /// The node's address. The lane's is the UDP port after it.
    pub local: SocketAddr,
    /// Whether headers are taken off before a packet is written into its place.
    pub strip: bool,
    /// How many chunks of places there may be, [`LEAST_ENTRIES`] to 4096. A packet takes one for each 3840 bytes, from when its place is posted until it has been received.
    pub ring: usize,
    /// How many pieces may be queued for sending. A packet takes one for its headers, and one for each 4096 bytes.
    pub tx_ring: usize,
}

impl SimBulkConfig {
    /// Takes headers off, and has rings of 2048.
    pub fn new(local: SocketAddr) -> SimBulkConfig {
        SimBulkConfig { local, strip: true, ring: 2048, tx_ring: 2048 }
    }
}

/// A packet that is queued.
struct Queued {
    headers: Vec<u8>,
    source: DirectSource,
    at: usize,
    len: usize,
}

/// A bulk port of a [`Network`].
pub struct SimBulk {
    network: Network,
    arena: Arena,
    config: SimBulkConfig,
    overlap: usize,
    kernel: Arc<Mutex<Kernel>>,
    /// What the gate knows, and what it is to know next.
    runs: Vec<Admitting>,
    /// The number of the next place to be posted.
    next: u64,
    /// The number of the next to be received.
    received: u64,
    queue: Vec<Queued>,
    is_open: bool,
    counters: BulkCounters,
}

impl SimBulk {
    /// Gives `port`'s Ethernet address a bulk lane, whose packet memory is `arena`. It takes over from one that was there.
    ///
    /// # Panics
    /// When the ring is smaller than any bulk port's may be.
    pub fn new(port: &SimPort, arena: &Arena, config: SimBulkConfig) -> SimBulk {
        assert!(config.ring >= LEAST_ENTRIES, "a ring of {}: the least is {LEAST_ENTRIES}", config.ring);
        arena.register();
        let local = SocketAddr::new(config.local.ip(), config.local.port().wrapping_add(1));
        let encap = if local.is_ipv4() { ETHERNET_LEN + 20 + 8 } else { ETHERNET_LEN + 40 + 8 };
        let overlap = if config.strip { 0 } else { encap + BULK_HEADER_LEN };
        let kernel = Arc::new(Mutex::new(Kernel::new(local, overlap)));
        let network = port.attach_bulk(&kernel);
        SimBulk {
            network,
            arena: arena.clone(),
            config: SimBulkConfig { ring: config.ring.min(MAX_RING), ..config },
            overlap,
            kernel,
            runs: Vec::new(),
            next: 0,
            received: 0,
            queue: Vec::new(),
            is_open: true,
            counters: BulkCounters::default(),
        }
    }

    /// A handle to make things go wrong with, and to see what has.
    pub fn control(&self) -> SimBulkControl {
        SimBulkControl { kernel: self.kernel.clone() }
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        lock(&self.kernel)
    }

    /// Whether the kernel takes a place there: all of each chunk lies in the arena.
    fn fits(&self, place: u64, segment: usize) -> bool {
        let chunks = chunks(segment + self.overlap);
        let last = (chunks - 1) * (CHUNK - HEADROOM) + CHUNK;
        place
            .checked_sub((HEADROOM + self.overlap) as u64)
            .is_some_and(|first| first + last as u64 <= self.arena.len() as u64)
    }

    /// Has the gate know of a place for packets of `run`, once it is told.
    fn add(&mut self, run: &Run) -> bool {
        let used = self.kernel().used;
        let next = self.next;
        if let Some(last) = self.runs.last_mut().filter(|last| last.run == *run && last.end == next) {
            last.end += 1;
            return true;
        }
        self.runs.retain(|run| run.end > used);
        let has_room = self.runs.len() < RUNS;
        if has_room {
            self.runs.push(Admitting { run: *run, first: next, end: next + 1 });
        }
        has_room
    }

    fn tx_pieces(&self) -> usize {
        self.queue.iter().map(|queued| pieces(queued.len)).sum()
    }
}

/// How many entries of the ring a packet to send takes.
fn pieces(len: usize) -> usize {
    1 + len.div_ceil(CHUNK)
}

fn lock(kernel: &Mutex<Kernel>) -> MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BulkPort for SimBulk {
    fn why_copied(&self) -> Option<String> {
        (self.overlap == 0).then(|| "it is simulated so".to_owned())
    }

    fn overlap(&self) -> usize {
        self.overlap
    }

    fn max_segment(&self) -> usize {
        MAX_SEGMENT
    }

    fn room(&self, segment: usize) -> usize {
        if !self.is_open {
            return 0;
        }
        self.config.ring.saturating_sub(self.kernel().chunks()) / chunks(segment + self.overlap)
    }

    fn post(&mut self, run: &Run, target: &DirectTarget, at: usize) -> Option<u64> {
        let segment = run.segment as usize;
        let place = target.place(&self.arena, at, segment)?;
        let is_segment = (MIN_SEGMENT..=MAX_SEGMENT).contains(&segment);
        if !is_segment || self.room(segment) == 0 || !self.fits(place, segment) || !self.add(run) {
            return None;
        }
        self.kernel().fill.push_back(Place { target: target.clone(), at, segment, number: self.next });
        self.counters.places += 1;
        let number = self.next;
        self.next += 1;
        Some(number)
    }

    fn admit(&mut self) {
        let mut kernel = lock(&self.kernel);
        kernel.runs.clone_from(&self.runs);
        kernel.posted = self.next;
    }

    fn receive(&mut self, batch: &mut Vec<Landing>) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        while self.is_open
            && let Some(place) = kernel.landed.pop_front()
        {
            // There are at least as many entries as packets, and whoever has dropped one doesn't say which.
            let Some(entry) = kernel.log.pop_front() else { break };
            let checksum = (entry.flags & BULK_CHECKED != 0).then_some(entry.checksum);
            batch.push(Landing { place: self.received, grant: entry.grant, segment: entry.segment, checksum });
            self.received += 1;
            self.counters.rx_packets += 1;
            self.counters.rx_bytes += place.segment as u64;
        }
        Ok(())
    }

    fn is_consistent(&mut self) -> bool {
        self.is_open && !self.kernel().has_dropped
    }

    fn distrust(&mut self) {
        self.kernel().has_dropped = true;
    }

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        if self.tx_room(len) == 0 || source.runs(&self.arena, at, len).is_none() {
            return false;
        }
        let mut headers = vec![0; encap.len()];
        encap.write(&mut headers, header.len() + len);
        headers.extend_from_slice(header);
        self.queue.push(Queued { headers, source: source.clone(), at, len });
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += len as u64;
        true
    }

    fn reaches(&self, source: &DirectSource) -> bool {
        source.runs(&self.arena, 0, 0).is_some()
    }

    fn tx_room(&self, segment: usize) -> usize {
        if !self.is_open {
            return 0;
        }
        self.config.tx_ring.saturating_sub(self.tx_pieces()) / pieces(segment)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.counters.wakeups += u64::from(!self.queue.is_empty());
        for Queued { headers: mut frame, source, at, len } in self.queue.drain(..) {
            source.for_each(at, len, |bytes| frame.extend_from_slice(bytes));
            self.network.send(frame);
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        self.is_open = !kernel.refuses_reopen;
        if self.is_open {
            kernel.reset();
        } else {
            // Nobody has proved that the kernel doesn't touch it.
            kernel.close();
        }
        (self.next, self.received) = (kernel.used, kernel.used);
        drop(kernel);
        self.runs.clear();
        self.queue.clear();
        self.counters.reopened += 1;
        if self.is_open { Ok(()) } else { Err(io::ErrorKind::AddrInUse.into()) }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&self) -> BulkCounters {
        self.counters
    }

    fn rings(&self) -> BulkRings {
        let kernel = self.kernel();
        let entries = |places: &std::collections::VecDeque<kernel::Place>| {
            places.iter().map(|place| chunks(place.segment + self.overlap)).sum::<usize>()
        };
        let (fill, arrived) = (entries(&kernel.fill), entries(&kernel.landed));
        BulkRings {
            ring: self.config.ring,
            places: kernel.fill.len() + kernel.landed.len(),
            posted: fill + arrived,
            fill,
            arrived,
            send_ring: self.config.tx_ring,
            slots: self.config.tx_ring,
            sending: self.queue.len(),
            unsent: self.tx_pieces(),
            ..BulkRings::default()
        }
    }
}

impl Drop for SimBulk {
    fn drop(&mut self) {
        self.kernel().reset();
    }
}

/// What a test knows of a [`SimBulk`], and can do to it, while an engine has it.
#[derive(Clone)]
pub struct SimBulkControl {
    kernel: Arc<Mutex<Kernel>>,
}

impl SimBulkControl {
    /// Has the kernel drop the next `count` packets that are let in, after it has written them.
    pub fn drop_admitted(&self, count: u64) {
        lock(&self.kernel).to_drop = count;
    }

    /// Whether reopening fails from now on.
    pub fn refuse_reopen(&self, refuse: bool) {
        lock(&self.kernel).refuses_reopen = refuse;
    }

    /// What the gate has said to each packet so far.
    pub fn verdicts(&self) -> Verdicts {
        lock(&self.kernel).verdicts
    }

    /// How many places are posted that no packet has used.
    pub fn posted(&self) -> usize {
        lock(&self.kernel).fill.len()
    }
}

#[cfg(test)]
mod tests;
