//! Remote read, the exporter's half: what a peer fetches is kept as jobs, and sent as the link has room.
//!
//! A FETCH becomes a job at once, and is served in the same turn of the engine: what is small costs one round trip. What is large
//! is sent like a send, under congestion control and credit. Jobs take turns packet by packet, so that a small one doesn't wait
//! behind a large one; and while this node's own sends want the room, too, each side gets half of it ([`Share`]).
//!
//! A peer has no more than [`MAX_FETCHES`] jobs. They end with their last byte, with their grant, by a FETCH_CANCEL, or with the link.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::exports::{Export, Exports};
use super::peer::Peer;
use super::{Engine, EngineCounters};
use crate::log::provoked;
use crate::memory::DirectSource;
use crate::port::bulk::BulkPort;
use crate::port::{Port, TxPacket};
use crate::time::Time;
use crate::wire::record::{FETCHED_LEN, FetchRefusal, MAX_FETCHES, Record};

/// Packets of a peer's jobs that are put into the port before others have their turn.
const BATCH: usize = 32;

/// How many packets either side may be ahead of the other, of those who share a link's room.
const LEAD: i32 = 16;

/// How long a send that found no room counts as waiting, unless it says so again: it may have been given up.
const PATIENCE: Duration = Duration::from_micros(500);

/// How soon a port that has no frame left is tried again, when no acknowledgement will tell that it has.
const PORT_RETRY: Duration = Duration::from_micros(50);

/// Bytes that are copied from an export to a packet at once: they are in the nearest cache still for the second half of the way.
pub(super) const CHUNK: usize = 4096;

/// What a peer has asked for, and hasn't got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub request: u32,
    pub grant: u32,
    /// Where in the export it begins.
    pub offset: u64,
    pub length: u64,
    /// How many of these bytes have been put into packets, or asked to go by the bulk lane.
    pub done: u64,
    /// The rest goes by the bulk lane.
    pub direct: bool,
}

/// Who may use a link's room: this node's own sends, or what its peer fetches. While both want it, each gets half.
#[derive(Debug, Default)]
struct Share {
    /// Packets of fetches less packets of sends, while both wanted room.
    ahead: i32,
    /// Until when a send that has found no room is taken to wait for it.
    waits_until: Time,
}

/// All that a peer has asked for.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<Job>,
    share: Share,
}

impl Jobs {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a send must leave its turn to them.
    pub(super) fn are_behind(&self) -> bool {
        self.share.ahead <= -LEAD && self.have_pieces()
    }

    /// Whether there are any that share the room with sends: those of the bulk lane don't.
    fn have_pieces(&self) -> bool {
        self.queue.iter().any(|job| !job.direct)
    }

    /// A send has used a packet's room.
    pub(super) fn sent(&mut self) {
        self.share.ahead = if self.have_pieces() { self.share.ahead - 1 } else { 0 };
    }

    /// A send has found no room.
    pub(super) fn send_waits(&mut self, now: Time) {
        self.share.waits_until = now + PATIENCE;
    }

    /// They have used a packet's room. Returns whether a send waits for its turn.
    fn served(&mut self, now: Time) -> bool {
        let waits = now < self.share.waits_until;
        self.share.ahead = if waits { self.share.ahead + 1 } else { 0 };
        waits
    }

    /// Until when they must leave their turn to a send, if they must.
    fn held_until(&self, now: Time) -> Option<Time> {
        Some(self.share.waits_until).filter(|&until| self.share.ahead >= LEAD && now < until)
    }

    /// The bulk lane doesn't take this one, from here on.
    pub(super) fn resume(&mut self, job: Job) {
        let request = job.request;
        match self.queue.iter_mut().find(|other| other.request == request) {
            Some(other) => (other.done, other.direct) = (other.done.min(job.done), false),
            None => self.queue.push_back(Job { direct: false, ..job }),
        }
    }

    /// Takes away those for which `ended` holds: their numbers.
    fn end(&mut self, ended: impl Fn(&Job) -> bool) -> SmallVec<[u32; 2]> {
        let requests = self.queue.iter().filter(|job| ended(job)).map(|job| job.request).collect();
        self.queue.retain(|job| !ended(job));
        requests
    }
}

/// Why no more of a peer's jobs could be served.
enum Served {
    /// There are none.
    All,
    /// Others have their turn.
    Turn,
    /// The peer's next packet will tell when to go on.
    Blocked,
    /// They go on at this time, unless they can before.
    Until(Time),
}

impl Peer {
    /// Takes a FETCH.
    pub(super) fn take_fetch(
        &mut self,
        (request, grant): (u32, u32),
        (offset, length): (u64, u64),
        exports: &mut Exports,
        counters: &mut EngineCounters,
    ) {
        let allowed = match self.readable(grant, exports) {
            Err(reason) => Err(reason),
            // `Record::parse` has checked that this doesn't overflow.
            Ok(export) if offset + length > export.region.len() as u64 => Err(FetchRefusal::OutOfRange),
            Ok(_) if self.jobs.len() >= MAX_FETCHES => Err(FetchRefusal::TooMany),
            Ok(_) => Ok(()),
        };
        match allowed {
            Ok(()) => {
                let direct = self.lane_from().is_some_and(|from| length >= from as u64);
                self.jobs.queue.push_back(Job { request, grant, offset, length, done: 0, direct });
            }
            Err(reason) => self.refuse_fetch(request, reason, counters),
        }
    }

    /// The export that a grant allows to read.
    fn readable<'e>(&self, grant: u32, exports: &'e mut Exports) -> Result<&'e mut Export, FetchRefusal> {
        let export = self.granted(grant).and_then(|id| exports.get_mut(id)).ok_or(FetchRefusal::NoGrant)?;
        if export.options.readable { Ok(export) } else { Err(FetchRefusal::NotReadable) }
    }

    #[cold]
    fn refuse_fetch(&mut self, request: u32, reason: FetchRefusal, counters: &mut EngineCounters) {
        counters.refused_fetches += 1;
        provoked!(DEBUG, target: "vmmc::engine", peer = %self.link.peer(), request, ?reason, "fetch refused");
        self.end_fetch(request, reason, true);
    }

    /// The peer wants no more of a job. If it is done already, the peer has got all of it, or will, and knows.
    #[cold]
    pub(super) fn cancel_job(&mut self, request: u32) {
        let unasked = !self.jobs.end(|job| job.request == request).is_empty();
        self.end_fetch(request, FetchRefusal::Cancelled, unasked);
    }

    /// A grant has ended, and what was asked for under it.
    pub(super) fn end_jobs(&mut self, grant: u32) {
        for request in self.jobs.end(|job| job.grant == grant) {
            self.end_fetch(request, FetchRefusal::NoGrant, true);
        }
    }

    /// Sends what the peer has asked for, as far as there is room, a batch at the most. Sets `awaited` when a send waits that may now
    /// go on.
    fn serve(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        exports: &mut Exports,
        counters: &mut EngineCounters,
        chunk: &mut [u8],
        awaited: &mut bool,
    ) -> Served {
        for _ in 0..BATCH {
            // What ends them is told, but a PUT past the end ends a grant in the midst of a packet.
            while let Some(job) = self.jobs.queue.front()
                && let Err(reason) = self.readable(job.grant, exports)
            {
                let request = job.request;
                self.jobs.queue.pop_front();
                self.refuse_fetch(request, reason, counters);
            }
            if self.jobs.queue.is_empty() {
                return Served::All;
            }
            match self.serve_directly(port.bulk_ref(), exports, counters) {
                Some(true) => continue,
                Some(false) => return Served::Blocked,
                None => {}
            }
            // Pieces come in order: those before may still be on their way by the bulk lane.
            if self.jobs.queue.front().is_some_and(|job| self.transfers.serve(job.request)) {
                if !self.has_ready_job() {
                    return Served::Blocked;
                }
                self.jobs.queue.rotate_left(1);
                continue;
            }
            if let Some(until) = self.jobs.held_until(now) {
                return Served::Until(until);
            }
            // As for sends: no link keeps more packets than it leaves frames for.
            if self.link.in_flight() > port.tx_headroom() as u64 {
                return Served::Blocked;
            }
            // The packet that sends share is older.
            self.seal(now, port);
            if self.link.fetched_room() == 0 {
                self.link.want_room(now);
                return Served::Blocked;
            }
            let Some(mut packet) = self.link.begin(port) else { return Served::Until(now + PORT_RETRY) };
            match self.fill(port, &mut packet, exports, chunk) {
                Some(plan) => self.apply(&plan, exports, counters),
                None => {
                    port.free(packet);
                    return Served::Until(now + PORT_RETRY);
                }
            }
            self.link.seal(now, port, packet, false);
            *awaited |= self.jobs.served(now);
        }
        if self.jobs.queue.is_empty() { Served::All } else { Served::Turn }
    }

    /// Whether there is one of which a piece may be sent now.
    fn has_ready_job(&self) -> bool {
        self.jobs.queue.iter().any(|job| !job.direct && !self.transfers.serve(job.request))
    }

    /// Has the first job's next part go by the bulk lane, if it is to. Returns whether it does; if not, the lane takes no more now.
    fn serve_directly(
        &mut self,
        lane: Option<&dyn BulkPort>,
        exports: &mut Exports,
        counters: &mut EngineCounters,
    ) -> Option<bool> {
        // What goes in pieces goes behind what is on its way.
        let waits = |job: &Job| !job.direct && self.transfers.serve(job.request);
        if self.jobs.queue.front().is_some_and(waits) {
            if self.jobs.queue.iter().all(waits) {
                return Some(false);
            }
            self.jobs.queue.rotate_left(1);
            return Some(true);
        }
        let mut job = *self.jobs.queue.front().filter(|job| job.direct)?;
        let Ok(export) = self.readable(job.grant, exports) else { return Some(false) };
        let source = DirectSource::of_region(export.region.clone());
        let Some(lane) = lane.filter(|lane| lane.reaches(&source)) else {
            // It lies in another arena than the lane's.
            self.jobs.resume(job);
            return None;
        };
        let length = match self.ask_for_job(lane.max_segment(), source, &job, counters) {
            Some(length) => length,
            None if self.transfers.is_idle() => {
                self.jobs.resume(job);
                return None;
            }
            None => {
                // Others that go in pieces needn't wait.
                if !self.has_ready_job() {
                    return Some(false);
                }
                self.jobs.queue.rotate_left(1);
                return Some(true);
            }
        };
        job.done += length;
        self.jobs.queue.pop_front();
        if job.done < job.length {
            self.jobs.queue.push_back(job);
        }
        Some(true)
    }

    /// Fills a packet with the next piece of the first job; when that is its last, with pieces of those that follow, too. Returns
    /// how many bytes each gets; `None` when the port has no more memory.
    fn fill(
        &self,
        port: &mut dyn Port,
        packet: &mut TxPacket,
        exports: &mut Exports,
        chunk: &mut [u8],
    ) -> Option<SmallVec<[u64; 8]>> {
        let mut plan = SmallVec::new();
        let mut room = self.link.body_room();
        for job in self.jobs.queue.iter().take_while(|job| !job.direct && !self.transfers.serve(job.request)) {
            let Ok(export) = self.readable(job.grant, exports) else { break };
            if room <= FETCHED_LEN {
                break;
            }
            let left = job.length - job.done;
            // A record's length has 16 bits, and a packet may be about as long.
            let most = (room - FETCHED_LEN).min(u16::MAX.into());
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(most);
            let record = Record::Fetched { request: job.request, at: job.done, length: length as u16 };
            let fixed = record.emit();
            if port.append(packet, fixed.as_ref()) < fixed.as_ref().len() {
                return None;
            }
            let (mut at, end) = (job.offset + job.done, job.offset + job.done + length as u64);
            while at < end {
                let part = ((end - at) as usize).min(chunk.len());
                let bytes = &mut chunk[..part];
                // It lies within the export: that was checked when it was asked for.
                if export.region.read(at, bytes).is_err() || port.append(packet, bytes) < bytes.len() {
                    return None;
                }
                at += bytes.len() as u64;
            }
            room -= FETCHED_LEN + length;
            plan.push(length as u64);
            if (length as u64) < left {
                break;
            }
        }
        Some(plan)
    }

    /// These many bytes of the first jobs have been put into a packet. All but the last of these are done; if that isn't, it is
    /// the others' turn.
    fn apply(&mut self, plan: &[u64], exports: &mut Exports, counters: &mut EngineCounters) {
        for &length in plan {
            let Some(mut job) = self.jobs.queue.pop_front() else { break };
            job.done += length;
            counters.served_bytes += length;
            counters.tx_copied_bytes += length;
            if let Ok(export) = self.readable(job.grant, exports) {
                export.read_bytes += length;
            }
            if job.done < job.length {
                self.jobs.queue.push_back(job);
            }
        }
    }
}

impl Engine {
    /// Serves what a peer has asked for. Returns whether it is to have another turn, once others have had theirs.
    pub(super) fn serve(&mut self, now: Time, port: &mut dyn Port, place: usize) -> bool {
        let Some(peer) = self.peers[place].as_deref_mut().filter(|peer| peer.jobs.len() > 0) else { return false };
        let mut awaited = false;
        let served = peer.serve(now, port, &mut self.exports, &mut self.counters, &mut self.chunk[..], &mut awaited);
        // Refusals that this has brought about.
        peer.pump(now, port);
        // Whoever sleeps because there was no room may have his turn now.
        self.acknowledged += u64::from(awaited);
        match served {
            Served::Turn => return true,
            Served::Until(at) => self.timers.set(place, at),
            Served::All | Served::Blocked => {}
        }
        false
    }
}
