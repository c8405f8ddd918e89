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

use std::ops::Range;
use std::time::Duration;

use super::super::imports::Imports;
use super::super::peer::Peer;
use super::super::send::Send;
use super::super::{Engine, EngineCounters};
use super::BulkLane;
use super::queue::{Ending, Transfer, Transfers, spoil};
use super::transfer::Parts;
use crate::log::provoked;
use crate::port::Port;
use crate::time::Time;
use crate::wire::record::{BulkRecord, Declined, Errand, FetchRefusal, Record};
use crate::wire::{BulkHeader, WireError};

/// How long nothing more is asked for, once a send of another kind may go that has waited: it may have been given up.
const TURN: Duration = Duration::from_micros(500);

/// How soon a port that has no frame left is tried again, when no acknowledgement will tell that it has.
const PORT_RETRY: Duration = Duration::from_micros(50);

/// Bytes to a peer that are put into the lane before others have their turn.
const BATCH: usize = 256 << 10;

impl Engine {
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
