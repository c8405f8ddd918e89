//! What is due on the lane: transfers are completed, what doesn't come is asked for again, and who uses the lane badly loses it.
//!
//! How long a receiver waits isn't a matter of the clock alone. A sender that is slow, or that its machine lets do nothing for a while, keeps what it was granted as long as its link lives. It loses that
//!
//! - when it lives, is asked for what is missing again and again, and nothing comes: then it lies, or the lane's packets don't get through;
//! - when [others wait](crate::bulk::turn), and it takes much longer than its bytes need;
//! - when what comes is damaged so often that somebody must be writing it at the same time, where it comes from or where it lands. As a copy it would come whole.
//!
//! What is lost goes by the eager lane, at once.

use std::time::Duration;

use smallvec::SmallVec;

use super::super::peer::Peer;
use super::super::{Engine, place_of};
use super::BulkLane;
use super::granted::{Granted, Home, Look};
use crate::bulk::turn::{Verdict, allowance};
use crate::port::Port;
use crate::time::Time;
use crate::wire::record::BulkRecord;

/// The least time without a landing after which what is missing is asked for again.
const LEAST_STALL: Duration = Duration::from_millis(10);

/// The sender is told of landings once so many haven't been reported, and at most once a turn. Its window may be as small.
const REPORT_EVERY: u32 = 4;

/// And of fewer when nothing more has landed for so long.
const REPORT_WITHIN: Duration = Duration::from_micros(50);

/// How often in a row the port's books may be wrong, and nothing be completed, before the lane is given up.
const MOST_MISTAKEN: u32 = 8;

/// Whether a transfer's packets can't land now, because the place that comes first is for others.
fn is_held_up(granted: &Granted, first: Option<u64>) -> bool {
    first.is_some() && granted.incoming.next_place() != first
}

impl BulkLane {
    /// Whether what a peer was granted has kept others waiting for too long, in however many turns.
    fn is_out_of_time(&self, token: u64) -> bool {
        let of = || self.open.iter().filter(|granted| granted.run.token == token);
        of().map(|granted| granted.held).sum::<Duration>() > allowance(of().map(Granted::len).sum())
    }
}

impl Engine {
    /// Does what is due on the lane: completes, asks, gives up, grants.
    pub(in crate::engine) fn attend_lane(&mut self, now: Time, port: &mut dyn Port) {
        let Some(lane) = &mut self.lane else { return };
        lane.seen = now;
        if lane.open.is_empty() && lane.schedule.is_empty() {
            lane.turn.attend(now, None);
            return;
        }
        self.note_writes();
        self.lose_patience(now, port);
        self.complete_transfers(now, port);
        self.ask_and_tell(now, port);
        self.grant_transfers(now, port);
    }

    /// Peers and this node itself may have written where transfers are landing, by the eager lane.
    fn note_writes(&mut self) {
        let Some(lane) = &mut self.lane else { return };
        for granted in &mut lane.open {
            let Home::Export { id, reserved } = &granted.home else { continue };
            let landing = self.exports.get_mut(*id).map(|export| &mut export.landing);
            if let Some(written) = landing.and_then(|landing| landing.take_written(&reserved.run)) {
                written.runs().for_each(|bytes| granted.written(bytes));
            }
        }
    }

    /// Takes back what was granted to those who make no use of it.
    fn lose_patience(&mut self, now: Time, port: &mut dyn Port) {
        let Some(lane) = &mut self.lane else { return };
        let first = lane.first_place();
        let mut holder = None;
        if let Some(granted) = lane.open.iter_mut().find(|g| first.is_some() && g.incoming.next_place() == first) {
            let token = granted.run.token;
            granted.held += lane.turn.step(now, token);
            holder = Some(token);
        }
        let verdict = lane.turn.attend(now, holder.filter(|&token| lane.schedule.others_wait(token)));
        let mut guilty = SmallVec::<[u64; 2]>::new();
        guilty.extend(holder.filter(|&token| verdict == Verdict::Over || lane.is_out_of_time(token)));
        for granted in &lane.open {
            let token = granted.run.token;
            let peer = self.peers.get(place_of(token)).and_then(Option::as_deref);
            let silence = peer.map_or(Duration::ZERO, |peer| peer.link.silence(now));
            let is_hopeless = !is_held_up(granted, first) && granted.is_hopeless(now, stall(peer), silence);
            let is_guilty = is_hopeless || granted.is_spoilt() && !granted.incoming.is_complete();
            // Once, whatever it has done.
            if is_guilty && !guilty.contains(&token) {
                guilty.push(token);
            }
        }
        if !guilty.is_empty() {
            self.abandon(Some(now), port, |granted| guilty.contains(&granted.run.token), true);
            guilty.into_iter().for_each(|token| self.blame(token));
        }
        self.abandon(Some(now), port, |granted| granted.condemned, true);
        if let Some(holder) = holder.filter(|_| verdict == Verdict::Slow) {
            self.blame(holder);
        }
    }

    /// Posts places again that were used for nothing, asks for what is missing, and tells of what has landed.
    fn ask_and_tell(&mut self, now: Time, port: &mut dyn Port) {
        let Some(lane) = &mut self.lane else { return };
        let mut told = SmallVec::<[(u64, BulkRecord, Vec<u8>, bool); 4]>::new();
        let (mut unpostable, mut inconsistent) = (false, false);
        if let Some(bulk) = port.bulk() {
            unpostable = lane.post(bulk);
        }
        let first = lane.first_place();
        for number in 0..lane.open.len() {
            let granted = &mut lane.open[number];
            let (token, grant) = (granted.run.token, granted.run.grant);
            let peer = self.peers.get(place_of(token)).and_then(Option::as_deref);
            let silence = peer.map(|peer| peer.link.silence(now)).filter(|_| !is_held_up(granted, first));
            let ranges = granted.ask(now, stall(peer), silence);
            // When the kernel has dropped what was let in, there is one place less than the program thinks, and nothing more is let in.
            inconsistent |= !ranges.is_empty() && port.bulk().is_some_and(|bulk| !bulk.is_consistent());
            let unreported = granted.incoming.unreported();
            // A smaller window is full without them.
            let waits = unreported > 0 && granted.incoming.quiet(now) >= REPORT_WITHIN;
            if unreported >= REPORT_EVERY || waits {
                let packets = granted.incoming.report();
                let late = std::mem::take(&mut granted.late);
                told.push((token, BulkRecord::Landed { grant, packets }, Vec::new(), late));
            }
            if !ranges.is_empty() {
                let body = BulkRecord::missing_body(&ranges);
                self.counters.rx_bulk_missing += ranges.iter().map(|r| u64::from(r.end - r.start)).sum::<u64>();
                told.push((token, BulkRecord::Missing { grant, ranges: ranges.len() as u16 }, body, false));
                let behind = lane.open[number + 1..].iter_mut().filter(|other| other.run.token == token);
                behind.for_each(Granted::begin_again);
            }
        }
        for (token, record, body, late) in told {
            self.answer(token, record, &body);
            if late {
                self.say_late(token);
            }
        }
        if unpostable {
            self.abandon(Some(now), port, |granted| granted.condemned, true);
        } else if inconsistent {
            self.mend_books(port);
        }
    }

    /// What a peer has just been told to have landed may have waited for long before anybody looked.
    fn say_late(&mut self, token: u64) {
        if let Some(peer) = self.peer_mut(token) {
            peer.be_late();
        }
    }

    /// When the lane has something to do, landings apart.
    pub(in crate::engine) fn lane_deadline(&self) -> Time {
        let Some(lane) = &self.lane else { return Time::FAR };
        let deadline = |granted: &Granted| {
            let peer = self.peers.get(place_of(granted.run.token)).and_then(Option::as_deref);
            let ask = granted.ask_at(stall(peer)).unwrap_or(Time::FAR);
            let reports = granted.incoming.unreported() > 0;
            let report = if reports { granted.incoming.landed_at() + REPORT_WITHIN } else { Time::FAR };
            if granted.condemned { Time::ZERO } else { ask.min(report) }
        };
        lane.open.iter().map(deadline).chain(lane.turn.deadline()).min().unwrap_or(Time::FAR)
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
                self.mend_books(port);
                continue;
            }
            let granted = &mut lane.open[number];
            match granted.look_again() {
                Look::Whole => {}
                // It isn't complete any more.
                Look::WrittenOver => continue,
                Look::Damaged => {
                    granted.incoming.distrust();
                    bulk.distrust();
                    self.mend_books(port);
                    continue;
                }
            }
            lane.mistaken = 0;
            lane.open.iter_mut().for_each(|granted| granted.incoming.trust());
            let granted = lane.open.remove(number);
            let (token, transfer, late) = (granted.run.token, granted.transfer, granted.late);
            lane.schedule.closed(token, transfer);
            self.complete(granted);
            self.answer(token, BulkRecord::Done { transfer }, &[]);
            if late {
                self.say_late(token);
            }
            self.grant_transfers(now, port);
        }
    }

    /// The port's books are wrong: all places are posted anew. Where that is of no use, the lane is given up.
    fn mend_books(&mut self, port: &mut dyn Port) {
        let Some(lane) = &mut self.lane else { return };
        lane.mistaken += 1;
        let hopeless = lane.mistaken > MOST_MISTAKEN;
        if hopeless {
            self.give_up_lane(
                &"the kernel's statistics say again and again that packets were dropped, or can't be read",
            );
        }
        // After that: so nothing is posted again that nobody takes back any more.
        self.reopen(port);
    }
}

/// How long nothing may land before it is asked for again.
fn stall(peer: Option<&Peer>) -> Duration {
    peer.map_or(LEAST_STALL, |peer| peer.link.rtt().timeout(0).max(LEAST_STALL))
}
