//! Receiving on the bulk lane: what peers ask for is granted in turn, and what lands is checked and comes to where it belongs.
//!
//! Nothing here trusts a peer. One that asks for what it may not have is refused as for a PUT; one that is granted places and [makes no use of them](super::attending) loses them, and
//! for a while gets no others; and whatever packets it sends, the steering program lets in only those for which there is a place.

use std::ops::Range;

use super::super::exports::Exports;
use super::super::peer::Peer;
use super::super::{Engine, place_of};
use super::granted::{Granted, Home, Outcome};
use super::transfer::{LONGEST_SEGMENT, entries};
use crate::bulk::incoming::Incoming;
use crate::bulk::schedule::Request;
use crate::memory::DirectTarget;
use crate::port::Port;
use crate::port::bulk::Run;
use crate::time::Time;
use crate::wire::WireError;
use crate::wire::record::{BulkRecord, Declined, Errand, Record, Refusal};

/// Of so short a segment, bytes, each takes one entry of the fill ring.
const SMALL: usize = 64;

/// What a peer has asked for, and isn't granted yet.
#[derive(Debug)]
pub(super) struct Asked {
    errand: Errand,
    offset: u64,
    segment: u32,
    segments: u32,
    rest: Box<[u8]>,
    /// The packet's that asked.
    sequence: u64,
}

impl Asked {
    fn len(&self) -> u64 {
        self.rest.len() as u64 + u64::from(self.segment) * u64::from(self.segments)
    }

    /// Whether there is room for its notification. Until then it waits, as PUTs do that get no credit, and keeps nobody else waiting.
    fn has_room(&self, token: u64, peers: &[Option<Box<Peer>>], exports: &mut Exports) -> bool {
        let Errand::Put { grant, notify } = self.errand else { return true };
        let Some(peer) = peers.get(place_of(token)).and_then(Option::as_deref) else { return true };
        let export = peer.granted(grant).and_then(|id| exports.get_mut(id));
        !peer.is_throttled()
            && export.is_none_or(|export| notify.is_none() || !export.options.notify || export.has_room())
    }
}

/// What a peer's packet said about transfers. It is heard once all of the packet has been processed.
#[derive(Debug)]
pub(in crate::engine) struct HeardTransfer {
    pub record: BulkRecord,
    /// What follows it in the packet: the bytes of a request, or ranges.
    pub body: Box<[u8]>,
    pub ranges: Vec<Range<u32>>,
    pub sequence: u64,
}

impl Engine {
    /// Hears what a peer's packet said about transfers.
    ///
    /// # Errors
    /// When that can't be.
    pub(in crate::engine) fn hear_transfers(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        place: usize,
    ) -> Result<(), WireError> {
        let Some(peer) = self.peers[place].as_deref_mut() else { return Ok(()) };
        for heard in std::mem::take(&mut peer.heard_transfers) {
            let HeardTransfer { record, body, ranges, sequence } = heard;
            match record {
                BulkRecord::Ask { transfer, errand, offset, segment, segments, .. } => {
                    let asked = Asked { errand, offset, segment, segments, rest: body, sequence };
                    self.asked_for(now, port, place, transfer, asked);
                }
                BulkRecord::Cleared { .. } => {
                    if let Some(peer) = self.peers[place].as_deref_mut() {
                        peer.declining = peer.declining.saturating_sub(1);
                    }
                }
                BulkRecord::Sent { grant, questions } => {
                    let token = self.peers[place].as_deref().map(|peer| peer.link.token());
                    let open = self.lane.iter_mut().flat_map(|lane| &mut lane.open);
                    open.filter(|g| g.run.grant == grant && Some(g.run.token) == token)
                        .for_each(|g| g.all_sent(now, questions));
                }
                BulkRecord::Cancel { transfer } => self.cancelled(now, port, place, transfer),
                _ => self.hear_receiver(now, place, record, &ranges)?,
            }
        }
        Ok(())
    }

    /// Answers what a peer has said or sent. One that takes no answers is heard no further: else it could have any number of them kept for it.
    pub(super) fn answer(&mut self, token: u64, record: BulkRecord, body: &[u8]) {
        self.tell(token, Record::Bulk(record), body);
        // How many reports there are depends on the places it was granted, and that was answered.
        if !matches!(record, BulkRecord::Landed { .. })
            && let Some(peer) = self.peer_mut(token)
        {
            peer.has_answered();
        }
    }

    /// A peer sends no more of a transfer. It is told when that is over.
    fn cancelled(&mut self, now: Time, port: &mut dyn Port, place: usize, transfer: u32) {
        let Some(token) = self.peers[place].as_deref().map(|peer| peer.link.token()) else { return };
        // If it is done, or declined, the sender knows by now, or will.
        let Some(taken_back) = self.drop_transfer(port, token, transfer) else { return };
        let reason = Declined::Unwanted;
        self.answer(token, BulkRecord::Declined { transfer, reason }, &[]);
        if taken_back {
            // Nobody does anything else while places are taken back: not as often as it likes.
            self.blame(token);
        }
        self.grant_transfers(now, port);
    }

    /// A peer asks for a transfer.
    fn asked_for(&mut self, now: Time, port: &mut dyn Port, place: usize, transfer: u32, asked: Asked) {
        let Some(peer) = self.peers[place].as_deref_mut() else { return };
        // It was asked for before the sender knew.
        if peer.declining > 0 {
            return;
        }
        let token = peer.link.token();
        // What may not be open at the same time: parts of the same export, by their place in it.
        let arena = match asked.errand {
            Errand::Put { grant, .. } => u64::from(peer.granted(grant).unwrap_or(u32::MAX)),
            Errand::Fetched { request } => 1 << 32 | u64::from(request),
        };
        let range = asked.offset..asked.offset + asked.len();
        let entries = u32::try_from(entries(asked.segment, asked.segments)).unwrap_or(u32::MAX);
        let request = Request { peer: token, transfer, entries, segment: asked.segment, arena, range };
        let (fits, host) = (asked.segment as usize <= LONGEST_SEGMENT, peer.link.peer().ip());
        let lane = self.lane.as_mut().filter(|lane| fits && lane.is_usable() && lane.trust.trusts(now, host));
        if let Some(lane) = lane
            && lane.schedule.request(request).is_ok()
        {
            lane.asked.insert((token, transfer), asked);
            self.grant_transfers(now, port);
        } else {
            // What it has asked for before waits on.
            self.say_declined(token, transfer);
        }
    }

    /// Declines a transfer, and all that the same peer has asked for after it and isn't granted: that is, all of it that waits.
    pub(super) fn decline(&mut self, token: u64, transfer: u32) {
        if let Some(lane) = &mut self.lane {
            lane.asked.retain(|&(of, _), _| of != token);
            lane.schedule.withdraw(token);
        }
        self.say_declined(token, transfer);
    }

    fn say_declined(&mut self, token: u64, transfer: u32) {
        let Some(peer) = self.peer_mut(token) else { return };
        peer.declining += 1;
        self.counters.rx_bulk_declined += 1;
        self.answer(token, BulkRecord::Declined { transfer, reason: Declined::Unable }, &[]);
    }

    /// Grants what may be granted now.
    pub(super) fn grant_transfers(&mut self, now: Time, port: &mut dyn Port) {
        loop {
            let Some(lane) = self.lane.as_mut().filter(|lane| lane.is_usable()) else { return };
            let Some(bulk) = port.bulk() else { return };
            let unused: u32 =
                lane.open.iter().map(|granted| entries(granted.run.segment, granted.incoming.unused()) as u32).sum();
            let (asked, peers, exports) = (&lane.asked, &self.peers, &mut self.exports);
            let ready = |request: &Request| {
                asked
                    .get(&(request.peer, request.transfer))
                    .is_none_or(|asked| asked.has_room(request.peer, peers, exports))
            };
            let Some(wanted) = lane.wanted() else { return };
            let Some(request) = lane.schedule.next(bulk.room(SMALL) as u32, unused, wanted, ready) else { return };
            let (token, transfer) = (request.peer, request.transfer);
            let Some(asked) = lane.asked.remove(&(token, transfer)) else {
                lane.schedule.closed(token, transfer);
                continue;
            };
            match self.grant_transfer(now, port, token, transfer, asked) {
                Ok(grant) => self.answer(token, BulkRecord::Granted { transfer, grant }, &[]),
                Err(reason) => {
                    if let Some(lane) = &mut self.lane {
                        lane.schedule.closed(token, transfer);
                    }
                    match reason {
                        Declined::Unable => self.decline(token, transfer),
                        Declined::Unwanted => self.answer(token, BulkRecord::Declined { transfer, reason }, &[]),
                    }
                }
            }
        }
    }

    /// Posts the places of a transfer.
    fn grant_transfer(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        token: u64,
        transfer: u32,
        asked: Asked,
    ) -> Result<u32, Declined> {
        let (place, overlap) = (place_of(token), port.bulk().map_or(0, |bulk| bulk.overlap()));
        // The lowest segment's headers fall on what came with the request, and on nothing else.
        if asked.rest.len() < overlap {
            return Err(Declined::Unable);
        }
        let incoming = Incoming::new(asked.segments, overlap, now).ok_or(Declined::Unable)?;
        let (home, target, start) = self.find_home(token, &asked)?;
        let (Some(lane), Some(peer), Some(bulk)) = (self.lane.as_mut(), self.peers[place].as_deref_mut(), port.bulk())
        else {
            return Err(Declined::Unable);
        };
        lane.last_grant = lane.last_grant.wrapping_add(1);
        let Asked { errand, segment, segments, rest, .. } = asked;
        let run = Run { token, peer: peer.link.peer(), grant: lane.last_grant, segment };
        let mut granted =
            Granted::new(run, (transfer, errand), home, (target, start), incoming, (rest.len(), segments));
        let whole = granted.begin(&rest).is_ok() && granted.post(bulk, lane.posted()).is_ok();
        let posted = granted.incoming.unused();
        if posted == 0 {
            self.leave_home(granted);
            return Err(Declined::Unable);
        }
        lane.open.push(granted);
        if !whole || posted < segments {
            // What is posted is taken back before anything is let in.
            self.abandon(None, port, |granted| granted.run == run, false);
            return Err(Declined::Unable);
        }
        if let Some(Granted { home: Home::Export { id, reserved }, .. }) = lane.open.last()
            && let Some(export) = self.exports.get_mut(*id)
        {
            export.landing.begin(reserved);
        }
        bulk.admit();
        self.counters.rx_bulk_grants += 1;
        Ok(run.grant)
    }

    /// Where a transfer belongs, if it may go there.
    fn find_home(&mut self, token: u64, asked: &Asked) -> Result<(Home, DirectTarget, usize), Declined> {
        let length = asked.len();
        let Some(peer) = self.peers[place_of(token)].as_deref_mut() else { return Err(Declined::Unable) };
        match asked.errand {
            Errand::Put { grant, .. } => {
                let id = peer.granted(grant);
                let run = asked.offset..asked.offset + length;
                let result = match id.and_then(|id| self.exports.get_mut(id)) {
                    None => Err(Refusal::NoGrant),
                    Some(export) => export.allows(&run).map(|()| export),
                };
                let export = match result {
                    Ok(export) => export,
                    Err(reason) => {
                        self.counters.refused_puts += 1;
                        peer.refuse(reason, grant, asked.sequence);
                        return Err(Declined::Unwanted);
                    }
                };
                let reserved = export.landing.reserve(&export.region, run).ok_or(Declined::Unable)?;
                let (target, start) = (reserved.target.clone(), reserved.at as usize);
                Ok((Home::Export { id: export.id, reserved }, target, start))
            }
            Errand::Fetched { request } => {
                let target = self.imports.fetches.land(token, request, asked.offset, length)?;
                Ok((Home::Fetch { request }, target, asked.offset as usize))
            }
        }
    }

    /// Takes what has landed. Returns whether anything has: then this was a [look](Engine::look), too.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn land(&mut self, now: impl FnOnce() -> Time, port: &mut dyn Port) -> std::io::Result<bool> {
        let Some(lane) = self.lane.as_mut().filter(|lane| lane.is_open()) else { return Ok(false) };
        let Some(bulk) = port.bulk() else { return Ok(false) };
        bulk.receive(&mut lane.batch)?;
        if lane.batch.is_empty() {
            return Ok(false);
        }
        let now = now();
        self.look(now);
        let Some(lane) = self.lane.as_mut() else { return Ok(false) };
        let (peers, late) = (&self.peers, self.late);
        if bulk.is_watched() {
            lane.show(peers, bulk);
        }
        for landing in lane.batch.drain(..) {
            let mut outcome = Outcome::Foreign;
            for number in 0..lane.open.len() {
                let granted = &mut lane.open[number];
                let peer = peers.get(place_of(granted.run.token)).and_then(Option::as_deref);
                let checked = peer.is_none_or(|peer| peer.link.options().checksum);
                outcome = granted.land(now, &landing, checked);
                if !matches!(outcome, Outcome::Foreign) {
                    granted.late |= late;
                    if matches!(outcome, Outcome::Kept) {
                        lane.turn.landed(granted.run.token, granted.run.segment);
                    }
                    // Nothing is let in for those behind it until its places are used.
                    lane.open[number + 1..].iter_mut().for_each(|granted| granted.incoming.held_up(now));
                    break;
                }
            }
            match outcome {
                Outcome::Kept => self.counters.rx_bulk_segments += 1,
                Outcome::Wasted | Outcome::Foreign => self.counters.rx_bulk_wasted += 1,
            }
        }
        Ok(true)
    }

    /// All of a transfer has landed.
    pub(super) fn complete(&mut self, mut granted: Granted) {
        let length = granted.len();
        let copied = granted.order().unwrap_or_default();
        let peer = granted.run.peer;
        self.counters.rx_copied_bytes += copied + granted.rest as u64;
        self.counters.rx_bulk_transfers += 1;
        self.counters.rx_bulk_bytes += length;
        self.counters.rx_bulk_repaired_bytes += copied;
        let Granted { run, home, errand, target, .. } = granted;
        // Or what it is of couldn't be given back.
        drop(target);
        match (home, errand) {
            (Home::Export { id, reserved }, Errand::Put { notify, .. }) => {
                let end = reserved.run.end;
                let Some(export) = self.exports.get_mut(id) else { return };
                let copied = export.landing.commit(&mut export.region, reserved, &mut self.counters);
                export.bytes += length;
                self.counters.delivered_bytes += length;
                self.counters.rx_copied_bytes += copied.unwrap_or_default();
                if let Some(notify) = notify.filter(|_| export.options.notify)
                    && let Some(from) = self.peers[place_of(run.token)].as_deref_mut()
                {
                    self.counters.notifications += 1;
                    export.notify((end - notify.total, notify.total), notify.tag, peer, &mut self.imports.events);
                    from.watch_queue(export);
                }
            }
            (Home::Fetch { request }, _) => {
                let last = self.imports.fetches.landed(run.token, request, length);
                self.counters.fetched_bytes += length;
                self.imports.changes += u64::from(last);
                if let Some(from) = self.peers[place_of(run.token)].as_deref_mut()
                    && last
                {
                    from.fetching = from.fetching.saturating_sub(1);
                }
            }
            (Home::Export { .. }, Errand::Fetched { .. }) => {}
        }
    }
}
