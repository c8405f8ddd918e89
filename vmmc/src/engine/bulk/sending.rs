//! Sending on the bulk lane: a long send is asked for, and its segments go straight from the sender's memory once the receiver has places for them.
//!
//! ```text
//!   send_direct    BULK_ASK ->            <- BULK_GRANTED      segments ->         <- BULK_DONE
//!   a few may be asked for ahead                               <- BULK_LANDED, BULK_MISSING
//!                                         <- BULK_DECLINED     BULK_CLEARED, PUTs ->
//! ```
//!
//! Transfers to one peer are done in the order they were asked for, and as long as one isn't, no PUT goes to that peer: so what is sent arrives as if it had all
//! gone one way. Those of a send that is *piecewise* keep that order among each other only: PUTs don't wait for them. One that is declined goes as PUTs, when its turn has come, and
//! all behind it do, too.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::super::imports::Imports;
use super::super::peer::Peer;
use super::super::send::Send;
use super::super::serve::Job;
use super::super::{Engine, EngineCounters, EngineError, Ticket, place_of};
use super::transfer::{Packets, Parts};
use super::{BulkLane, Thresholds};
use crate::bulk::outgoing::{MAX_AHEAD, Outgoing};
use crate::link::Pace;
use crate::log::provoked;
use crate::memory::DirectSource;
use crate::port::Port;
use crate::time::Time;
use crate::wire::record::{BulkRecord, Declined, Errand, FetchRefusal, Notify, Record};
use crate::wire::{BulkHeader, WireError};

/// How many transfers to a peer may be asked for and not done. Where hosts share their cores with others, it may be some milliseconds until the receiver looks.
const AHEAD: usize = MAX_AHEAD;

/// Of those, how many may answer fetches: so that a long one leaves room for sends.
const AHEAD_OF_FETCHES: usize = AHEAD - 1;

/// How long nothing more is asked for, once a send of another kind may go that has waited: it may have been given up.
const TURN: Duration = Duration::from_micros(500);

/// How soon a port that has no frame left is tried again, when no acknowledgement will tell that it has.
const PORT_RETRY: Duration = Duration::from_micros(50);

/// Bytes to a peer that are put into the lane before others have their turn.
const BATCH: usize = 256 << 10;

/// A send from memory of the arena, and how much of it has been asked for.
#[derive(Clone, Debug)]
pub struct DirectSend {
    /// The memory.
    pub source: DirectSource,
    /// Which bytes of it.
    pub part: Range<usize>,
    /// Where in the export they shall go.
    pub offset: u64,
    /// Notify with this tag.
    pub notify: Option<u32>,
    /// It needn't be asked for in whole. Each transfer is a send of its own, which announces its own bytes, and PUTs don't wait for it.
    pub piecewise: bool,
    done: usize,
    counted: bool,
    last: u32,
}

impl DirectSend {
    /// Bytes that have been asked for.
    pub fn done(&self) -> usize {
        self.done
    }

    /// A send of a part of `source` to `offset`.
    pub fn new(source: DirectSource, part: Range<usize>, offset: u64, notify: Option<u32>) -> DirectSend {
        DirectSend { source, part, offset, notify, piecewise: false, done: 0, counted: false, last: 0 }
    }
}

/// A transfer that isn't done.
#[derive(Debug)]
struct Transfer {
    number: u32,
    import: u32,
    /// `None` when it has been cancelled: nothing more is sent.
    source: Option<DirectSource>,
    /// Where in the source it begins.
    start: usize,
    parts: Parts,
    offset: u64,
    errand: Errand,
    /// What it serves, as it was before.
    job: Option<Job>,
    /// The grant by which all has been sent, and the peer not been told so.
    untold: Option<u32>,
    /// It goes as PUTs: so many bytes have been put into packets, the last of them this one.
    declined: Option<(usize, u64)>,
    /// All of it has been put into packets.
    sent: bool,
    /// PUTs don't wait for it.
    piecewise: bool,
}

/// The end of a fetch that has transfers: it is told of once these have ended. Before, its number would be taken for another's.
#[derive(Debug)]
struct Ending {
    request: u32,
    reason: FetchRefusal,
    /// Some of it doesn't come. Of what has come to its end all the same the peer is told nothing.
    due: bool,
}

impl Transfer {
    fn serves(&self, request: u32) -> bool {
        self.errand == Errand::Fetched { request }
    }
}

/// The bytes of a part of a fetch don't come.
fn spoil(endings: &mut [Ending], errand: Errand) {
    let of = |ending: &&mut Ending| errand == (Errand::Fetched { request: ending.request });
    endings.iter_mut().filter(of).for_each(|ending| ending.due = true);
}

/// The transfers to a peer.
#[derive(Debug, Default)]
pub(in crate::engine) struct Transfers {
    outgoing: Outgoing,
    queue: VecDeque<Transfer>,
    /// How many packets may be under way; from the first grant on.
    pace: Option<Pace>,
    /// What the peer is to be told once PUTs don't have to wait.
    behind: Vec<Record>,
    /// Fetches that are to end.
    endings: Vec<Ending>,
    /// Until when no more is asked for, because a send that isn't a transfer waits for its turn: [`Time::FAR`] while it can't have it.
    turn: Option<Time>,
    /// Imports whose programs send piecewise, and are to hear when a transfer is over.
    listening: Vec<u32>,
    /// One is.
    over: bool,
}

impl Transfers {
    /// Whether PUTs have to wait.
    pub(in crate::engine) fn hold(&self) -> bool {
        self.queue.iter().any(|transfer| matches!(transfer.errand, Errand::Put { .. }) && !transfer.piecewise)
    }

    /// Whether any send isn't done.
    pub(in crate::engine) fn are_sending(&self) -> bool {
        self.queue.iter().any(|transfer| matches!(transfer.errand, Errand::Put { .. }))
    }

    /// Whether there are none.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are.
    pub(in crate::engine) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether one more may be asked for.
    fn may_ask(&self) -> bool {
        let declined = self.queue.back().is_some_and(|transfer| transfer.declined.is_some());
        self.queue.len() < AHEAD && !declined && self.outgoing.may_ask()
    }

    /// Whether one more that is a send may be. Whatever waits for those that there are has its turn first: else it would wait for ever where many send.
    fn may_ask_for_send(&self, now: Time) -> bool {
        self.may_ask() && self.behind.is_empty() && self.turn.is_none_or(|until| until <= now)
    }

    /// Whether one more of a piecewise send may be. It holds nobody up.
    fn may_ask_for_piece(&self) -> bool {
        self.may_ask() && self.behind.is_empty()
    }

    /// Whether one more that answers a fetch may be.
    fn may_ask_for_job(&self) -> bool {
        let jobs = self.queue.iter().filter(|transfer| transfer.job.is_some()).count();
        self.may_ask() && jobs < AHEAD_OF_FETCHES
    }

    /// A send of another kind has to wait.
    pub(in crate::engine) fn want_turn(&mut self) {
        self.turn = Some(Time::FAR);
    }

    /// It has had its turn. Returns whether others have waited for that.
    pub(in crate::engine) fn had_turn(&mut self) -> bool {
        self.turn.take().is_some()
    }

    /// Whether parts of what the peer fetches by this request haven't ended.
    pub(in crate::engine) fn serve(&self, request: u32) -> bool {
        self.queue.iter().any(|transfer| transfer.serves(request))
    }

    /// Whether the peer has all of a transfer.
    fn is_done(&self, number: u32) -> bool {
        self.queue.iter().all(|transfer| transfer.number != number)
    }

    fn find(&mut self, number: u32) -> Option<&mut Transfer> {
        self.queue.iter_mut().find(|transfer| transfer.number == number)
    }
}

impl Engine {
    /// Whether a send of so many bytes would go by the bulk lane, as far as is known now.
    pub fn is_direct(&self, id: u32, length: usize) -> bool {
        self.direct_from(id).is_some_and(|from| length >= from)
    }

    /// The shortest send that would go by it, bytes; `None` if none would.
    pub fn direct_from(&self, id: u32) -> Option<usize> {
        self.peer(self.imports.get(id)?.link)?.lane_from()
    }

    /// Whether a piece of a send by the bulk lane may be asked for now. If not, and the import reports to a queue, an event of it says when that may have changed.
    pub fn has_direct_room(&mut self, id: u32) -> bool {
        let Some(link) = self.imports.get(id).map(|import| import.link) else { return false };
        let Some(peer) = self.peer_mut(link) else { return false };
        if peer.transfers.may_ask_for_piece() && peer.link.control_room() > 0 {
            return true;
        }
        self.await_direct_room(place_of(link), id);
        false
    }

    /// Has an event come when a transfer to a peer is over; if there is none, when the link has room.
    fn await_direct_room(&mut self, place: usize, id: u32) {
        let Some(peer) = self.peers[place].as_deref_mut() else { return };
        if !peer.transfers.listening.contains(&id) {
            peer.transfers.listening.push(id);
        }
        if peer.transfers.is_idle() {
            self.await_room(id);
        }
    }

    /// Asks for as much of a send as may be asked for now. Returns a ticket once all of it has been, or with a piecewise one for what has been asked for so far: its memory is kept until that is
    /// [delivered](Engine::is_delivered), or never will be. Only for sends that [are direct](Engine::is_direct), of memory of this node's arena; others are for [`Engine::send`].
    ///
    /// # Errors
    /// As [`Engine::send`].
    pub fn send_direct(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        id: u32,
        send: &mut DirectSend,
    ) -> Result<Option<Ticket>, EngineError> {
        let length = send.part.len();
        let (link, grant) = match self.may_send(id, send.offset, length as u64, send.notify.is_some())? {
            Some(remote) => remote,
            None => return Ok(None),
        };
        let (place, before) = (place_of(link), send.done);
        let most = port.bulk().map_or(0, |bulk| bulk.max_segment());
        let (peers, counters) = (&mut self.peers, &mut self.counters);
        let peer = peers.get_mut(place).and_then(Option::as_deref_mut).filter(|peer| peer.link.token() == link);
        let Some(peer) = peer else { return Err(EngineError::Dropped) };
        while send.done < length {
            let transfers = &peer.transfers;
            let may = if send.piecewise { transfers.may_ask_for_piece() } else { transfers.may_ask_for_send(now) };
            if !may || peer.link.control_room() == 0 {
                break;
            }
            let parts = Parts::of(length - send.done, Packets::of(&peer.link, most));
            let Some(parts) = parts else { break };
            let (start, offset) = (send.part.start + send.done, send.offset + send.done as u64);
            let total = if send.piecewise { parts.len() } else { length } as u64;
            let notify = send.notify.filter(|_| send.piecewise || send.done + parts.len() == length);
            let errand = Errand::Put { grant, notify: notify.map(|tag| Notify { tag, total }) };
            let source = (send.source.clone(), send.piecewise);
            let asked = peer.ask(id, source, (start, offset), parts, errand, None, counters);
            let Some(number) = asked else { break };
            send.last = number;
            send.done += parts.len();
        }
        peer.pump(now, port);
        if send.done > before {
            self.count(id, (send.done - before) as u64, !std::mem::replace(&mut send.counted, true));
        }
        if send.piecewise {
            self.await_direct_room(place, id);
        }
        self.list(place);
        self.timers.set(place, now);
        let last = self.peer(link).map_or(0, |peer| peer.link.next_sequence());
        let is_begun = send.done == length || send.piecewise && send.done > before;
        Ok(is_begun.then_some(Ticket { import: id, link, last, transfer: Some(send.last) }))
    }

    /// Sends nothing more from this memory. What is under way may still land; its receiver is told that no more will come.
    pub fn cancel_direct(&mut self, now: Time, port: &mut dyn Port, source: &DirectSource) {
        for place in 0..self.peers.len() {
            let Some(peer) = self.peers[place].as_deref_mut() else { continue };
            let mut cancelled = Vec::new();
            for transfer in &mut peer.transfers.queue {
                if transfer.source.as_ref().is_some_and(|of| of.is(source)) {
                    transfer.source = None;
                    cancelled.push((transfer.number, transfer.declined.is_some()));
                }
            }
            if cancelled.is_empty() {
                continue;
            }
            for (transfer, declined) in cancelled {
                peer.transfers.outgoing.cancel(transfer);
                if !declined {
                    peer.tell(Record::Bulk(BulkRecord::Cancel { transfer }), &[]);
                }
            }
            peer.pump(now, port);
            self.list(place);
        }
    }

    /// Whether the peer has all of a transfer, and what came before.
    pub(in crate::engine) fn has_transferred(&self, link: u64, number: u32) -> bool {
        self.peer(link).is_some_and(|peer| peer.transfers.is_done(number))
    }

    /// Hears what a receiver says about a transfer.
    ///
    /// # Errors
    /// When that can't be.
    pub(super) fn hear_receiver(
        &mut self,
        now: Time,
        place: usize,
        record: BulkRecord,
        ranges: &[Range<u32>],
    ) -> Result<(), WireError> {
        let Some(peer) = self.peers[place].as_deref_mut() else { return Ok(()) };
        let nonsense = || WireError::Inconsistent("record about a transfer");
        let (transfers, late) = (&mut peer.transfers, peer.heard_late);
        let pace = transfers.pace.get_or_insert_with(|| peer.link.bulk_pace());
        let before = transfers.outgoing.in_flight();
        match record {
            BulkRecord::Granted { transfer, grant } => {
                // It may have been withdrawn meanwhile, or have been declined with one before it.
                if transfers.find(transfer).is_some_and(|t| t.declined.is_none()) {
                    transfers.outgoing.on_granted(transfer, grant).map_err(|_| nonsense())?;
                }
            }
            BulkRecord::Landed { grant, packets } => {
                transfers.outgoing.on_landed(grant, packets).map_err(|_| nonsense())?;
                pace.landed(now, before.saturating_sub(transfers.outgoing.in_flight()), late);
            }
            BulkRecord::Missing { grant, .. } => {
                let behind = transfers.outgoing.on_missing(grant, ranges).map_err(|_| nonsense())?;
                pace.gone(behind);
                pace.lost(before.saturating_sub(transfers.outgoing.in_flight() + behind));
                self.counters.tx_bulk_asked_again +=
                    ranges.iter().map(|range| u64::from(range.end - range.start)).sum::<u64>();
            }
            BulkRecord::Done { transfer } => {
                let Some(at) = transfers.queue.iter().position(|t| t.number == transfer) else {
                    return Err(nonsense());
                };
                if transfers.queue[at].declined.is_some() {
                    return Err(nonsense());
                }
                transfers.outgoing.on_done(transfer).map_err(|_| nonsense())?;
                transfers.over = true;
                self.counters.tx_bulk_done += 1;
                pace.landed(now, before.saturating_sub(transfers.outgoing.in_flight()), late);
                if let Some(Transfer { job: Some(job), parts, .. }) = transfers.queue.remove(at) {
                    self.counters.served_bytes += parts.len() as u64;
                    if let Some(export) = peer.granted(job.grant).and_then(|id| self.exports.get_mut(id)) {
                        export.read_bytes += parts.len() as u64;
                    }
                }
                self.acknowledged += 1;
                peer.tell_endings();
            }
            BulkRecord::Declined { transfer, reason: Declined::Unable } => {
                provoked!(DEBUG, target: "vmmc::bulk", peer = %peer.link.peer(), transfer, "transfer declined: it goes by the eager lane");
                // It may itself have ended: those behind it are meant all the same, for the receiver has passed over what asked for them.
                let meant = |t: &Transfer| t.number.wrapping_sub(transfer) as i32 >= 0 && t.declined.is_none();
                for transfer in transfers.queue.iter_mut().filter(|t| meant(t)) {
                    let _ = transfers.outgoing.on_declined(transfer.number);
                    transfer.declined = Some((0, 0));
                    self.counters.tx_bulk_declined += 1;
                    match transfer.job {
                        Some(job) if transfer.source.is_some() => peer.jobs.resume(job),
                        Some(_) => spoil(&mut transfers.endings, transfer.errand),
                        None => {}
                    }
                }
                transfers.queue.retain(|transfer| transfer.declined.is_none() || transfer.job.is_none());
                transfers.over = true;
                pace.gone(before.saturating_sub(transfers.outgoing.in_flight()));
                self.acknowledged += 1;
                peer.tell(Record::Bulk(BulkRecord::Cleared { transfer }), &[]);
                peer.tell_endings();
            }
            BulkRecord::Declined { transfer, reason: Declined::Unwanted } => {
                let _ = transfers.outgoing.on_declined(transfer);
                pace.gone(before.saturating_sub(transfers.outgoing.in_flight()));
                let gone = transfers.queue.iter().position(|t| t.number == transfer);
                transfers.over = true;
                if let Some(gone) = gone.and_then(|at| transfers.queue.remove(at)) {
                    spoil(&mut transfers.endings, gone.errand);
                    if let Some(import) = self.imports.get_mut(gone.import)
                        && matches!(gone.errand, Errand::Put { .. })
                        && gone.source.is_some()
                    {
                        import.unwanted_from.get_or_insert(transfer);
                    }
                    self.acknowledged += 1;
                }
                peer.tell_endings();
            }
            BulkRecord::Ask { .. }
            | BulkRecord::Cleared { .. }
            | BulkRecord::Cancel { .. }
            | BulkRecord::Sent { .. } => {}
        }
        self.list(place);
        Ok(())
    }

    /// Sends what a peer has granted, and what it has declined, as far as there is room. Returns whether there may be more to do at once.
    pub(in crate::engine) fn send_transfers(&mut self, now: Time, port: &mut dyn Port, place: usize) -> bool {
        // A lane that is lost takes nothing, however often it is tried: the receiver loses its patience, and then they go as PUTs.
        let is_usable = self.lane.as_ref().is_some_and(BulkLane::is_usable);
        let Some(peer) = self.peers[place].as_deref_mut() else { return false };
        let mut again = false;
        if !peer.transfers.is_idle() {
            again |= is_usable && peer.send_segments(now, port, &mut self.counters);
            again |= self.send_declined(now, port, place);
        }
        let Some(peer) = self.peers[place].as_deref_mut() else { return false };
        let behind = peer.tell_behind();
        if std::mem::take(&mut peer.transfers.over) {
            let Transfers { queue, listening, .. } = &mut peer.transfers;
            let Imports { slab, events, .. } = &mut self.imports;
            for &id in &*listening {
                if let Some(import) = slab.get_mut(id) {
                    import.announce(id, events);
                }
            }
            // Others listen again when they have found no room.
            listening.retain(|id| queue.iter().any(|transfer| transfer.import == *id && transfer.piecewise));
        }
        if self.closing && peer.link.is_open() && !peer.transfers.are_sending() && !behind {
            peer.link.close(now);
            self.timers.set(place, now);
        }
        self.acknowledged += u64::from(behind);
        match peer.transfers.turn {
            Some(Time::FAR) if !peer.transfers.hold() => {
                peer.transfers.turn = Some(now + TURN);
                self.timers.set(place, now + TURN);
            }
            Some(until) if until <= now => {
                peer.transfers.turn = None;
                self.acknowledged += 1;
            }
            _ => {}
        }
        again | behind
    }

    /// Sends the transfer whose turn it is as PUTs, if it was declined.
    fn send_declined(&mut self, now: Time, port: &mut dyn Port, place: usize) -> bool {
        let Some(peer) = self.peers[place].as_deref_mut() else { return false };
        let (completed, mut again) = (peer.link.completed(), false);
        while let Some(&Transfer { declined: Some((_, last)), sent: true, number, import, .. }) =
            peer.transfers.queue.front()
            && completed > last
        {
            peer.transfers.queue.pop_front();
            peer.transfers.over = true;
            if let Some(import) = self.imports.get_mut(import)
                && import.refused_from.is_some_and(|from| from <= last)
            {
                import.unwanted_from.get_or_insert(number);
            }
            self.acknowledged += 1;
            // What the peer fetches may have waited for that.
            again = true;
        }
        let unsent = peer.transfers.queue.iter().position(|transfer| !transfer.sent);
        let Some(at) = unsent.filter(|&at| peer.transfers.queue[at].declined.is_some()) else { return again };
        // What is in front of it is declined, too: if one isn't done, nothing behind it is sent.
        if peer.transfers.queue.iter().take(at).any(|transfer| transfer.declined.is_none()) || !peer.is_told() {
            return again;
        }
        let Some(mut transfer) = peer.transfers.queue.remove(at) else { return false };
        let (token, Some((done, _))) = (peer.link.token(), transfer.declined) else { return false };
        if let (Errand::Put { grant, notify }, Some(source)) = (transfer.errand, &transfer.source)
            && let Some(bytes) = source.bytes()
        {
            let bytes = &bytes[transfer.start..transfer.start + transfer.parts.len()];
            let total = notify.map(|notify| notify.total);
            let mut send = Send::resume(bytes, transfer.offset, done, notify.map(|notify| notify.tag), total);
            again |= matches!(self.send_remote(now, port, token, grant, &mut send), Ok(true)) && !send.is_complete();
            transfer.declined = Some((send.done(), send.last()));
            transfer.sent = send.is_complete();
        } else {
            transfer.sent = true;
        }
        if let Some(peer) = self.peers[place].as_deref_mut() {
            if !transfer.sent && peer.link.in_flight() == 0 && port.tx_headroom() == 0 {
                // Others have all the frames, and nothing comes from this peer that would show when they haven't.
                self.timers.set(place, now + PORT_RETRY);
            }
            peer.transfers.queue.insert(at, transfer);
        }
        again
    }
}

impl Peer {
    /// The least sends to it that take the lane, bytes; `None` if none does.
    pub(in crate::engine) fn lane_from(&self) -> Option<usize> {
        let from = if self.link.options().bulk { self.bulk.at(self.link.mtu()) } else { None };
        Some(from?.max(Packets::of(&self.link, usize::MAX).least()?))
    }

    /// Asks for a transfer of the next part of a job. Returns how long it is; `None` when it has to go in pieces, or to wait.
    pub(in crate::engine) fn ask_for_job(
        &mut self,
        most: usize,
        source: DirectSource,
        job: &Job,
        counters: &mut EngineCounters,
    ) -> Option<u64> {
        if self.bulk == Thresholds::NONE || !self.transfers.may_ask_for_job() || self.link.control_room() == 0 {
            return None;
        }
        let left = usize::try_from(job.length - job.done).ok()?;
        let parts = Parts::of(left, Packets::of(&self.link, most))?;
        let start = usize::try_from(job.offset + job.done).ok()?;
        let errand = Errand::Fetched { request: job.request };
        self.ask(0, (source, false), (start, job.done), parts, errand, Some(*job), counters)?;
        Some(parts.len() as u64)
    }

    /// Queues a record that the peer must not hear before it has all that is sent to it by the bulk lane.
    pub(in crate::engine) fn tell_in_order(&mut self, record: Record) {
        if self.transfers.are_sending() {
            self.transfers.behind.push(record);
        } else {
            self.tell_behind();
            self.tell(record, &[]);
        }
    }

    /// Queues a record that gives a fetch up, behind the one that asks for it.
    pub(in crate::engine) fn tell_cancel(&mut self, request: u32) {
        let cancel = Record::FetchCancel { request };
        let asks = |record: &Record| matches!(record, Record::Fetch { request: of, .. } if *of == request);
        if self.transfers.behind.iter().any(asks) {
            self.transfers.behind.push(cancel);
        } else {
            self.tell(cancel, &[]);
        }
    }

    /// Ends what the peer fetches by a request: no more of it is sent. With `unasked` parts of it haven't been asked for yet.
    pub(in crate::engine) fn end_fetch(&mut self, request: u32, reason: FetchRefusal, unasked: bool) {
        match self.transfers.endings.iter_mut().find(|ending| ending.request == request) {
            Some(ending) => ending.due |= unasked,
            None => self.transfers.endings.push(Ending { request, reason, due: unasked }),
        }
        let Transfers { queue, outgoing, .. } = &mut self.transfers;
        let mut cancelled = Vec::new();
        for transfer in queue.iter_mut().filter(|transfer| transfer.serves(request)) {
            if transfer.source.take().is_some() {
                outgoing.cancel(transfer.number);
                cancelled.push(transfer.number);
            }
        }
        for transfer in cancelled {
            self.tell(Record::Bulk(BulkRecord::Cancel { transfer }), &[]);
        }
        self.tell_endings();
    }

    /// Tells of the fetches that have ended, once nothing more is said of their transfers.
    fn tell_endings(&mut self) {
        let Transfers { queue, endings, .. } = &mut self.transfers;
        let over = |ending: &mut Ending| queue.iter().all(|transfer| !transfer.serves(ending.request));
        for Ending { request, reason, due } in endings.extract_if(.., over).collect::<Vec<_>>() {
            if due {
                self.answer(Record::FetchRefused { reason, request });
            }
        }
    }

    /// Queues those records, if the peer has all. Returns whether there were any.
    fn tell_behind(&mut self) -> bool {
        if self.transfers.are_sending() || self.transfers.behind.is_empty() {
            return false;
        }
        std::mem::take(&mut self.transfers.behind).into_iter().for_each(|record| self.tell(record, &[]));
        true
    }

    /// Asks for a transfer.
    #[allow(clippy::too_many_arguments)] // what a transfer is made of
    fn ask(
        &mut self,
        import: u32,
        (source, piecewise): (DirectSource, bool),
        (start, offset): (usize, u64),
        parts: Parts,
        errand: Errand,
        job: Option<Job>,
        counters: &mut EngineCounters,
    ) -> Option<u32> {
        let number = self.transfers.outgoing.ask(parts.segments as u32)?;
        let Parts { rest, segment, segments } = parts;
        let record = BulkRecord::Ask {
            transfer: number,
            errand,
            offset,
            segment: segment as u32,
            segments: segments as u32,
            rest: rest as u16,
        };
        let mut body = Vec::with_capacity(rest);
        source.for_each(start, rest, |bytes| body.extend_from_slice(bytes));
        counters.tx_bulk_transfers += 1;
        counters.tx_copied_bytes += rest as u64;
        self.tell(Record::Bulk(record), &body);
        let transfer = Transfer {
            number,
            import,
            source: Some(source),
            start,
            parts,
            offset,
            errand,
            job,
            untold: None,
            declined: None,
            sent: false,
            piecewise,
        };
        self.transfers.queue.push_back(transfer);
        Some(number)
    }

    /// Sends segments that have been granted. Returns whether there is more to do at once.
    fn send_segments(&mut self, now: Time, port: &mut dyn Port, counters: &mut EngineCounters) -> bool {
        self.tell_sent(now, port);
        let Some(lane) = port.bulk() else { return false };
        let token = self.link.remote_token();
        let checked = self.link.options().checksum;
        let Peer { link, transfers, .. } = self;
        let encap = link.bulk_encap();
        let mut bytes = 0;
        while bytes < BATCH {
            let Some(pace) = &mut transfers.pace else { return false };
            let next = transfers.outgoing.next_segment(pace.window());
            let Some(next) = next else { return transfers.queue.iter().any(|transfer| transfer.untold.is_some()) };
            let (grant, segment) = (next.grant, next.segment);
            let found = transfers.queue.iter_mut().find(|transfer| transfer.number == next.transfer);
            let Some(transfer) = found else { return false };
            let Parts { rest, segment: length, .. } = transfer.parts;
            let at = transfer.start + rest + segment as usize * length;
            let header = BulkHeader { token, grant, segment };
            let Some(source) = &transfer.source else { return false };
            let payload =
                checked.then_some(|take: &mut dyn FnMut(&[u8])| source.for_each(at, length, |bytes| take(bytes)));
            let header = header.emit(payload);
            if !lane.submit(encap, &header, source, at, length) {
                // The next flush makes room.
                return true;
            }
            counters.tx_bulk_bytes += length as u64;
            bytes += length;
            if transfers.outgoing.sent(&next) {
                pace.sent(now);
            }
            if transfers.outgoing.is_sent(grant).is_some() {
                transfer.untold = Some(grant);
            }
        }
        true
    }

    /// Tells of the grants of which all has been sent: in the turn after the packets, so that it doesn't overtake them.
    fn tell_sent(&mut self, now: Time, port: &mut dyn Port) {
        for number in 0..self.transfers.queue.len() {
            if let Some(grant) = self.transfers.queue[number].untold.take()
                && let Some(questions) = self.transfers.outgoing.is_sent(grant)
            {
                self.tell(Record::Bulk(BulkRecord::Sent { grant, questions }), &[]);
            }
        }
        self.pump(now, port);
    }
}
