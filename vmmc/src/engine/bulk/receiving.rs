//! Receiving on the bulk lane: what peers ask for is granted in turn, what lands is checked and put in order, and what doesn't come is asked for again.
//!
//! Nothing here trusts a peer. One that asks for what it may not have is refused as for a PUT; one that is granted places and leaves them unused loses them, and
//! for a while gets no others; and whatever packets it sends, the steering program lets in only those for which there is a place.

use std::ops::Range;
use std::time::Duration;

use super::super::peer::Peer;
use super::super::{Engine, RedirectId, place_of};
use super::BulkUse;
use super::granted::{Granted, Home, Outcome};
use super::transfer::{LONGEST_SEGMENT, entries};
use crate::bulk::incoming::Incoming;
use crate::bulk::schedule::Request;
use crate::log::provoked;
use crate::memory::DirectTarget;
use crate::port::Port;
use crate::port::bulk::Run;
use crate::time::Time;
use crate::wire::WireError;
use crate::wire::record::{BulkRecord, Declined, Errand, Record, Refusal};

/// The least time without a landing after which what is missing is asked for again.
const LEAST_STALL: Duration = Duration::from_millis(10);

/// How long a peer may leave its places unused.
const PATIENCE: Duration = Duration::from_millis(500);

/// Of so short a segment, bytes, each takes one entry of the fill ring.
const SMALL: usize = 64;

/// How often the lane is tried to be opened again.
const TRIES: usize = 5;

/// How long one that did gets no others.
const DISTRUST: Duration = Duration::from_secs(1);

/// The sender is told of landings once so many haven't been reported, and at most once a turn. Its window may be as small.
const REPORT_EVERY: u32 = 4;

/// And of fewer when nothing more has landed for so long.
const REPORT_WITHIN: Duration = Duration::from_micros(50);

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
                BulkRecord::Sent { grant } => {
                    let token = self.peers[place].as_deref().map(|peer| peer.link.token());
                    let open = self.lane.iter_mut().flat_map(|lane| &mut lane.open);
                    open.filter(|g| g.run.grant == grant && Some(g.run.token) == token).for_each(|g| g.all_sent(now));
                }
                BulkRecord::Cancel { transfer } => self.cancelled(now, port, place, transfer),
                _ => self.hear_receiver(now, place, record, &ranges)?,
            }
        }
        Ok(())
    }

    /// Answers what a peer has said or sent. One that takes no answers is heard no further: else it could have any number of them kept for it.
    fn answer(&mut self, token: u64, record: BulkRecord, body: &[u8]) {
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
        let Some(lane) = &mut self.lane else { return };
        let of = |granted: &Granted| (granted.run.token, granted.transfer) == (token, transfer);
        let known = lane.asked.remove(&(token, transfer)).is_some();
        let is_open = lane.open.iter().any(of);
        if is_open {
            self.remove(of, false);
            self.reopen(port);
        } else if known {
            lane.schedule.cancel(token, transfer);
        } else {
            // Done, or declined: the sender knows by now, or will.
            return;
        }
        let reason = Declined::Unwanted;
        self.answer(token, BulkRecord::Declined { transfer, reason }, &[]);
        if is_open {
            // It has left places unused, too, and nobody does anything else while they are taken back: not as often as it likes.
            let waiting = self.distrust(now, token);
            if let Some(next) = waiting.first() {
                self.decline(token, next.transfer);
            }
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
        let request = Request { peer: token, transfer, entries, arena, range };
        let fits = asked.segment as usize <= LONGEST_SEGMENT;
        let lane = self.lane.as_mut().filter(|lane| fits && lane.is_usable());
        if let Some(lane) = lane
            && lane.schedule.request(now, request).is_ok()
        {
            lane.asked.insert((token, transfer), asked);
            self.grant_transfers(now, port);
        } else {
            // What it has asked for before waits on.
            self.say_declined(token, transfer);
        }
    }

    /// Declines a transfer, and all that the same peer has asked for after it and isn't granted: that is, all of it that waits.
    fn decline(&mut self, token: u64, transfer: u32) {
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
    fn grant_transfers(&mut self, now: Time, port: &mut dyn Port) {
        loop {
            let Some(lane) = self.lane.as_mut().filter(|lane| lane.is_usable()) else { return };
            let Some(bulk) = port.bulk() else { return };
            let unused: u32 = lane
                .open
                .iter()
                .map(|granted| super::transfer::entries(granted.run.segment, granted.incoming.unused()) as u32)
                .sum();
            let Some(request) = lane.schedule.next(bulk.room(SMALL) as u32, unused) else { return };
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
        let whole = granted.begin(&rest).is_ok() && granted.post(bulk).is_ok();
        let posted = granted.incoming.unused();
        if posted == 0 {
            self.leave_home(granted);
            return Err(Declined::Unable);
        }
        lane.open.push(granted);
        if !whole || posted < segments {
            // What is posted is taken back before anything is let in.
            self.abandon(port, |granted| granted.run == run, false);
            return Err(Declined::Unable);
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
            Errand::Put { grant, notify } => {
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
                // As it would get no credit for PUTs: these wait for it.
                if peer.is_throttled() {
                    return Err(Declined::Unable);
                }
                // As many notifications wait as there is room for, and then the sender has to.
                if notify.is_some() && export.options.notify && !export.has_room() {
                    return Err(Declined::Unable);
                }
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

    /// Takes what has landed. Returns whether anything has.
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
        let peers = &self.peers;
        for landing in lane.batch.drain(..) {
            let mut outcome = Outcome::Foreign;
            for number in 0..lane.open.len() {
                let granted = &mut lane.open[number];
                let peer = peers.get(place_of(granted.run.token)).and_then(Option::as_deref);
                let checked = peer.is_none_or(|peer| peer.link.options().checksum);
                outcome = granted.land(now, &landing, checked);
                if !matches!(outcome, Outcome::Foreign) {
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

    /// Does what is due on the lane: completes, asks, gives up, grants.
    pub(in crate::engine) fn attend_lane(&mut self, now: Time, port: &mut dyn Port) {
        let Some(lane) = &mut self.lane else { return };
        if lane.open.is_empty() && lane.schedule.is_empty() {
            return;
        }
        // Those behind the one whose places come first wait for its sender.
        let first = lane.open.iter().filter_map(|granted| granted.incoming.next_place()).min();
        let late = |granted: &Granted| {
            let is_held_up = granted.incoming.next_place().is_some_and(|place| Some(place) != first);
            granted.condemned || !is_held_up && granted.incoming.quiet(now) >= PATIENCE
        };
        if lane.open.iter().any(late) {
            let peers: Vec<u64> = lane.open.iter().filter(|g| late(g) && !g.condemned).map(|g| g.run.token).collect();
            self.abandon(port, late, true);
            for token in peers {
                self.distrust(now, token);
            }
            let open = self.lane.iter_mut().flat_map(|lane| &mut lane.open);
            open.for_each(|granted| granted.incoming.held_up(now));
        }
        self.complete_transfers(now, port);
        let Some(lane) = &mut self.lane else { return };
        let mut told = smallvec::SmallVec::<[(u64, BulkRecord, Vec<u8>); 4]>::new();
        let (mut unpostable, mut inconsistent) = (false, false);
        for granted in &mut lane.open {
            let (token, grant) = (granted.run.token, granted.run.grant);
            let peer = self.peers.get(place_of(token)).and_then(Option::as_deref);
            let stall = peer.map_or(LEAST_STALL, stall);
            if let Some(bulk) = port.bulk() {
                match granted.post(bulk) {
                    Ok(true) => bulk.admit(),
                    Ok(false) => {}
                    Err(_) => (granted.condemned, unpostable) = (true, true),
                }
            }
            let ranges = granted.ask(now, stall);
            // When the kernel has dropped what was let in, there is one place less than the program thinks, and nothing more is let in.
            inconsistent |= !ranges.is_empty() && port.bulk().is_some_and(|bulk| !bulk.is_consistent());
            let unreported = granted.incoming.unreported();
            // A smaller window is full without them.
            let waits = unreported > 0 && granted.incoming.quiet(now) >= REPORT_WITHIN;
            if unreported >= REPORT_EVERY || waits {
                let packets = granted.incoming.report();
                told.push((token, BulkRecord::Landed { grant, packets }, Vec::new()));
            }
            if !ranges.is_empty() {
                let body = BulkRecord::missing_body(&ranges);
                self.counters.rx_bulk_missing += ranges.iter().map(|r| u64::from(r.end - r.start)).sum::<u64>();
                told.push((token, BulkRecord::Missing { grant, ranges: ranges.len() as u16 }, body));
            }
        }
        for (token, record, body) in told {
            self.answer(token, record, &body);
        }
        if unpostable {
            self.abandon(port, |granted| granted.condemned, true);
        } else if inconsistent {
            self.reopen(port);
        }
        self.grant_transfers(now, port);
    }

    /// When the lane has something to do, landings apart.
    pub(in crate::engine) fn lane_deadline(&self) -> Time {
        let Some(lane) = &self.lane else { return Time::FAR };
        let first = lane.open.iter().filter_map(|granted| granted.incoming.next_place()).min();
        let deadline = |granted: &Granted| {
            let peer = self.peers.get(place_of(granted.run.token)).and_then(Option::as_deref);
            let ask = granted.ask_at(peer.map_or(LEAST_STALL, stall)).unwrap_or(Time::FAR);
            let report =
                if granted.incoming.unreported() > 0 { granted.incoming.landed_at() + REPORT_WITHIN } else { ask };
            let is_held_up = granted.incoming.next_place().is_some_and(|place| Some(place) != first);
            let late = if is_held_up { Time::FAR } else { granted.incoming.landed_at() + PATIENCE };
            if granted.condemned { Time::ZERO } else { ask.min(report).min(late) }
        };
        lane.open.iter().map(deadline).min().unwrap_or(Time::FAR)
    }

    /// Completes the transfers of which all has landed, those of a peer in order.
    fn complete_transfers(&mut self, now: Time, port: &mut dyn Port) {
        loop {
            let Some(lane) = &mut self.lane else { return };
            let first = |number: usize| {
                let token = lane.open[number].run.token;
                lane.open[..number].iter().all(|granted| granted.run.token != token)
            };
            let ready = (0..lane.open.len()).find(|&n| lane.open[n].incoming.is_complete() && first(n));
            let Some(number) = ready else { return };
            let Some(bulk) = port.bulk() else { return };
            // Else what its headers said may have been said of others.
            if !bulk.is_consistent() {
                self.reopen(port);
                continue;
            }
            // Where a NIC writes before anybody has looked, what has landed may have been written over.
            let granted = &mut lane.open[number];
            if bulk.overlap() > 0 && !granted.is_whole() {
                granted.incoming.distrust();
                bulk.distrust();
                self.reopen(port);
                continue;
            }
            lane.open.iter_mut().for_each(|granted| granted.incoming.trust());
            let granted = lane.open.remove(number);
            let (token, transfer) = (granted.run.token, granted.transfer);
            lane.schedule.closed(token, transfer);
            self.complete(granted);
            self.answer(token, BulkRecord::Done { transfer }, &[]);
            self.grant_transfers(now, port);
        }
    }

    /// All of a transfer has landed.
    fn complete(&mut self, mut granted: Granted) {
        let length = granted.len();
        let copied = granted.order().unwrap_or_default();
        let peer = granted.run.peer;
        self.counters.rx_copied_bytes += copied + granted.rest as u64;
        self.counters.rx_bulk_bytes += length;
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

    /// Takes back all places, and posts those again that are still wanted.
    fn reopen(&mut self, port: &mut dyn Port) {
        let (Some(lane), Some(bulk)) = (&mut self.lane, port.bulk()) else { return };
        self.counters.bulk_reopened += 1;
        let consistent = bulk.is_consistent();
        // Each try lasts for a second at the most. On a host with much to do one may not be enough.
        let mut result = bulk.reopen();
        for _ in 1..TRIES {
            if result.is_ok() {
                break;
            }
            result = bulk.reopen();
        }
        for granted in &mut lane.open {
            granted.reopened(consistent);
        }
        if let Err(error) = result {
            tracing::warn!(target: "vmmc::bulk", %error, "the bulk lane couldn't be opened again: everything goes by the eager lane from now on");
            lane.broken = true;
            lane.used = BulkUse::NONE;
            // What they fetch goes by the eager lane, too.
            self.peers.iter_mut().flatten().for_each(|peer| peer.bulk = BulkUse::NONE);
            for (token, transfer) in self.remove(|_| true, true) {
                self.decline(token, transfer);
            }
            // Who waits for a grant would wait for ever.
            while let Some((token, transfer)) = self.lane.as_ref().and_then(|lane| lane.schedule.first_waiting()) {
                self.decline(token, transfer);
            }
            return;
        }
        let mut unpostable = false;
        for granted in &mut lane.open {
            granted.condemned |= granted.post(bulk).is_err();
            unpostable |= granted.condemned;
        }
        bulk.admit();
        if unpostable {
            // It will be seen to in the next turn.
            self.awake = true;
        }
    }

    /// Abandons transfers, and those of the same peers that were granted after them: their memory is free when this returns. They come by the eager lane, and with `decline` their
    /// senders are told so.
    fn abandon(&mut self, port: &mut dyn Port, which: impl Fn(&Granted) -> bool, decline: bool) {
        let removed = self.remove(which, true);
        if removed.is_empty() {
            return;
        }
        for (token, transfer) in removed {
            provoked!(DEBUG, target: "vmmc::bulk", transfer, "transfer abandoned");
            if decline {
                self.decline(token, transfer);
            }
        }
        self.reopen(port);
    }

    /// Takes transfers out of the lane, and with `all` those of the same peers behind them: the first of each peer. Their places are still posted.
    fn remove(&mut self, which: impl Fn(&Granted) -> bool, all: bool) -> Vec<(u64, u32)> {
        let Some(lane) = &mut self.lane else { return Vec::new() };
        let mut firsts: Vec<(u64, u32)> = Vec::new();
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for granted in std::mem::take(&mut lane.open) {
            let token = granted.run.token;
            let follows = all && firsts.iter().any(|&(of, _)| of == token);
            if !follows && !which(&granted) {
                kept.push(granted);
                continue;
            }
            if !follows {
                firsts.push((token, granted.transfer));
            }
            lane.schedule.closed(token, granted.transfer);
            gone.push(granted);
        }
        lane.open = kept;
        // The last one's room was reserved behind the others': so none leaves a hole.
        for granted in gone.into_iter().rev() {
            self.counters.rx_bulk_abandoned += 1;
            self.leave_home(granted);
        }
        firsts
    }

    /// Nothing of a transfer comes to where it belongs.
    fn leave_home(&mut self, granted: Granted) {
        match granted.home {
            Home::Export { id, reserved } => {
                drop(granted.target);
                if let Some(export) = self.exports.get_mut(id) {
                    export.landing.release(reserved);
                }
            }
            Home::Fetch { request } => {
                self.imports.fetches.unland(granted.run.token, request, granted.start as u64);
            }
        }
    }

    /// Takes back all that the kernel may still touch: places, and what is to be sent. What is still wanted is posted again.
    pub fn clear_lane(&mut self, port: &mut dyn Port) {
        self.reopen(port);
    }

    /// A peer has left its places unused. Returns what it waits for: it is to be declined.
    fn distrust(&mut self, now: Time, token: u64) -> Vec<Request> {
        let Some(lane) = &mut self.lane else { return Vec::new() };
        let waiting = lane.schedule.distrust(now, token, now + DISTRUST);
        for request in &waiting {
            lane.asked.remove(&(token, request.transfer));
        }
        if let Some(peer) = self.peer(token) {
            provoked!(DEBUG, target: "vmmc::bulk", peer = %peer.link.peer(), "a peer leaves its places unused: it gets none for a while");
        }
        waiting
    }

    /// A link has ended: what it was granted is abandoned.
    pub(in crate::engine) fn end_transfers(&mut self, port: &mut dyn Port, token: u64) {
        let Some(lane) = &mut self.lane else { return };
        lane.asked.retain(|&(of, _), _| of != token);
        lane.schedule.withdraw(token);
        self.abandon(port, |granted| granted.run.token == token, false);
        if let Some(lane) = &mut self.lane {
            lane.schedule.forget(token);
        }
    }

    /// Before a part of an export is lent: nothing lands in it any more.
    pub(in crate::engine) fn clear_range(&mut self, port: &mut dyn Port, export: u32, range: &Range<u64>) {
        let within = |granted: &Granted| match &granted.home {
            Home::Export { id, reserved } => {
                let Range { start, end } = reserved.run;
                *id == export && reserved.redirect.is_none() && start < range.end && range.start < end
            }
            Home::Fetch { .. } => false,
        };
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(within)) {
            self.abandon(port, within, true);
        }
    }

    /// Before what was to be fetched is given back: nothing lands in it any more.
    pub(in crate::engine) fn clear_fetch(&mut self, port: &mut dyn Port, fetch: u32) {
        let of = |granted: &Granted| matches!(granted.home, Home::Fetch { request } if request == fetch);
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(of)) {
            self.abandon(port, of, true);
        }
    }

    /// An export has gone: nothing may land in it any more.
    pub(in crate::engine) fn condemn(&mut self, export: u32) {
        let Some(lane) = &mut self.lane else { return };
        for granted in &mut lane.open {
            granted.condemned |= matches!(granted.home, Home::Export { id, .. } if id == export);
        }
        self.awake = true;
    }

    /// Before a redirect's memory is given back: nothing lands in it any more.
    pub(in crate::engine) fn clear_redirect(&mut self, port: &mut dyn Port, export: u32, id: RedirectId) {
        let of = |granted: &Granted| match &granted.home {
            Home::Export { id: of, reserved } => *of == export && reserved.redirect == Some(id),
            Home::Fetch { .. } => false,
        };
        if self.lane.as_ref().is_some_and(|lane| lane.open.iter().any(of)) {
            self.abandon(port, of, true);
        }
    }
}

/// How long nothing may land before it is asked for again.
fn stall(peer: &Peer) -> Duration {
    peer.link.rtt().timeout(0).max(LEAST_STALL)
}
