//! Asking for transfers: which sends are to go by the bulk lane, and as how many transfers.
//!
//! A send, or what answers a fetch, is asked for in pieces that fit the lane, a few ahead of what has been granted. Its memory is kept until all of it is done, or is taken back.

use std::ops::Range;

use super::super::peer::Peer;
use super::super::serve::Job;
use super::super::{Engine, EngineCounters, EngineError, Ticket, place_of};
use super::Thresholds;
use super::queue::Transfer;
use super::transfer::{Packets, Parts};
use crate::memory::DirectSource;
use crate::port::Port;
use crate::time::Time;
use crate::wire::record::{BulkRecord, Errand, Notify, Record};

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
}
