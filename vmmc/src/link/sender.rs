//! The sending half of a link: what is under way, what has arrived, what must be sent again.
//!
//! ```text
//!          una                       next               limit
//!   acknowledged | sent, packets kept | may be sent now | no credit yet
//! ```
//!
//! A packet stays in its TX frames until the peer has acknowledged it, so sending it again needs no copy. It is sent
//! again when a packet *sent later* is known to have arrived (RACK, RFC 8985), or when nothing at all has been
//! acknowledged for the retransmission timeout.

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::{Congestion, Delay};
use super::round_trips::RoundTripTimes;
use super::rtt::Rtt;
use crate::port::{Port, TxPacket};
use crate::time::Time;
use crate::wire::{SACK_BITS, Sack};

/// After how many timeouts in a row the network counts as broken.
const BROKEN: u32 = 4;

/// How soon what the port had no room for is tried again.
pub(super) const PORT_RETRY: Duration = Duration::from_micros(5);

/// A packet that was sent and not acknowledged.
#[derive(Debug)]
struct Sent {
    packet: TxPacket,
    at: Time,
    /// The peer has it, out of order.
    sacked: bool,
    again: bool,
}

/// Of the packets that an acknowledgement is the first to tell of:
#[derive(Default)]
struct News {
    /// how many they are,
    count: u64,
    /// when the latest was sent,
    newest: Time,
    /// when the latest was sent of those that tell how long the way is,
    measured: Option<Time>,
    /// when the latest of those that were sent again was sent the last time,
    repeated: Option<Time>,
    /// whether those that follow may have been there for long, behind a gap.
    stale: bool,
}

impl News {
    fn take(&mut self, sent: &Sent, reached: bool) {
        self.count += 1;
        self.newest = self.newest.max(sent.at);
        if sent.again {
            // It may be acknowledged for its first sending.
            self.repeated = self.repeated.max(Some(sent.at));
        } else if reached && !self.stale {
            self.measured = self.measured.max(Some(sent.at));
        }
    }
}

/// What is to be done when nothing has been acknowledged for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Send this packet again.
    Repeat(u64),
    /// Ask the peer for an acknowledgement: it has everything, but what it has said of that, or of its credit, was lost.
    Ask,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement<'a> {
    /// The next sequence number the peer expects, as it stood in the packet.
    pub ack: u32,
    /// Packets from there on that it has room for.
    pub credit: u16,
    /// How long it waited before it said so.
    pub delay: Duration,
    /// It completes no sends yet.
    pub provisional: bool,
    /// The credit is not for sends.
    pub throttled: bool,
    /// The next sequence number the peer will send, or has just sent: all before it are under way.
    pub peer_next: u64,
    /// How many of our packets have reached it with a mark of congestion.
    pub marks: u16,
    /// How long the packets took says nothing about the path: the peer or this side was slow to look for them.
    pub late: bool,
    pub sack: Option<&'a Sack>,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    next: u64,
    una: u64,
    /// Credit for sends ends here,
    limit: u64,
    /// and credit for what the peer has asked for, here.
    fetched_limit: u64,
    /// Memory for packets under way ends here, whatever the path could take.
    most: u64,
    congestion: Congestion,
    /// Sequence number of the last packet that asked for an acknowledgement.
    asked: u64,
    sent: VecDeque<Sent>,
    /// How many of them the peer has, out of order.
    sacked: u64,
    rtt: Rtt,
    round_trips: RoundTripTimes,
    backoff: u32,
    timer: Option<Time>,
    /// When a packet that has been overtaken will count as lost.
    straggler: Option<Time>,
    /// When the latest-sent packet known to have arrived was sent.
    newest: Time,
    /// All packets before this one have been *processed*: see [`Sender::settle`].
    completed: u64,
    /// The latest acknowledgement that wasn't provisional.
    settled: u64,
    /// Acknowledged up to the first number once everything of the peer's before the second has been received.
    settling: Option<(u64, u64)>,
    settling_next: Option<(u64, u64)>,
}

impl Sender {
    /// Starts at sequence number `first`, with at most `most` packets under way, aiming at a delay of `target`.
    pub(super) fn new(first: u64, most: u16, target: Duration) -> Sender {
        Sender {
            next: first,
            una: first,
            limit: first,
            fetched_limit: first,
            most: most.into(),
            congestion: Congestion::new(most, target),
            asked: first,
            sent: VecDeque::new(),
            sacked: 0,
            rtt: Rtt::default(),
            round_trips: RoundTripTimes::default(),
            backoff: 0,
            timer: None,
            straggler: None,
            newest: Time::ZERO,
            completed: first,
            settled: first,
            settling: None,
            settling_next: None,
        }
    }

    /// The next sequence number.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Everything before this number has been received and processed by the peer, and its answers are known.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Packets under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.next - self.una
    }

    /// How many packets may be under way.
    pub(super) fn window(&self) -> u64 {
        self.congestion.window()
    }

    /// How many packets may be sent now.
    pub(super) fn room(&self) -> u64 {
        self.room_within(self.limit)
    }

    /// How many packets may be sent now that carry what the peer has asked for.
    pub(super) fn fetched_room(&self) -> u64 {
        self.room_within(self.fetched_limit)
    }

    /// Whether the peer gives credit, and none of it for sends.
    pub(super) fn sends_lack_credit(&self) -> bool {
        self.limit <= self.next && self.limit < self.fetched_limit
    }

    fn room_within(&self, limit: u64) -> u64 {
        if self.congestion.paced_until().is_some() {
            return 0;
        }
        let window = self.congestion.window().saturating_sub(self.on_the_way());
        window.min(limit.saturating_sub(self.next)).min(self.memory_room())
    }

    /// Packets that may be in some queue of the network.
    fn on_the_way(&self) -> u64 {
        self.in_flight() - self.sacked
    }

    /// How many packets may be sent now if neither credit nor congestion is a matter.
    pub(super) fn memory_room(&self) -> u64 {
        (self.una + self.most).saturating_sub(self.next)
    }

    /// Whether the next packet should ask for an acknowledgement, so that it is here before the sender runs dry.
    pub(super) fn should_ask(&self) -> bool {
        let half = self.congestion.window() / 2;
        self.room() == 1 || self.fetched_room() <= 1 || (self.in_flight() >= half && self.next - self.asked >= half)
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(super) fn round_trips(&self) -> &RoundTripTimes {
        &self.round_trips
    }

    /// Packets that the peer still has room for.
    pub(super) fn credit(&self) -> u64 {
        self.limit.saturating_sub(self.next)
    }

    /// When [`Sender::expire`] has something to do.
    pub(super) fn deadline(&self) -> Time {
        let or_never = |at: Option<Time>| at.unwrap_or(Time::FAR);
        or_never(self.timer).min(or_never(self.straggler)).min(or_never(self.congestion.paced_until()))
    }

    /// Whether a packet that has been overtaken may count as lost by now.
    pub(super) fn straggles(&self, now: Time) -> bool {
        self.straggler.is_some_and(|at| now >= at)
    }

    /// Whether a target delay of more than this would let it send more.
    pub(super) fn is_held_down(&self) -> Option<Duration> {
        let least = self.rtt.least();
        self.congestion.is_held_down(least).then_some(least)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        self.congestion.tick(now);
    }

    /// Grants credit without an acknowledgement: the handshake's.
    pub(super) fn grant(&mut self, credit: u16) {
        self.limit = self.limit.max(self.una + u64::from(credit));
        self.fetched_limit = self.fetched_limit.max(self.limit);
    }

    /// Somebody would like to send and can't. If it is for want of credit, the news that there is some again may get lost: then
    /// nothing is under way that would show it, and the peer is to be asked.
    pub(super) fn want_credit(&mut self, now: Time) {
        if self.sent.is_empty() && self.timer.is_none() && self.limit <= self.next {
            self.timer = Some(now + self.rtt.timeout(self.backoff));
        }
    }

    /// Records that the next packet has been sent, and whether it asks for an acknowledgement.
    pub(super) fn push(&mut self, now: Time, packet: TxPacket, asks: bool) {
        self.sent.push_back(Sent { packet, at: now, sacked: false, again: false });
        self.next += 1;
        if asks {
            self.asked = self.next;
        }
        self.congestion.sent(now, self.on_the_way(), self.rtt.smoothed());
        if self.timer.is_none() {
            self.timer = Some(now + self.rtt.timeout(self.backoff));
        }
    }

    /// Takes an acknowledgement into account and frees what it covers. Returns false when it is nonsense: it
    /// acknowledges what was never sent.
    pub(super) fn acknowledge(&mut self, now: Time, said: Acknowledgement<'_>, port: &mut dyn Port) -> bool {
        let ack = super::extend(said.ack, self.una);
        if ack > self.next {
            return false;
        }
        if ack < self.una {
            return true; // overtaken by a later one
        }
        // Those farther ahead of a gap than an acknowledgement can tell of may have been there for long, too.
        let reach = self.una + SACK_BITS;
        let mut news = News::default();
        for sequence in self.una..ack {
            let Some(sent) = self.sent.pop_front() else { break };
            match sent.sacked {
                true => self.sacked -= 1,
                false => news.take(&sent, sequence <= reach),
            }
            news.stale |= sent.again;
            port.free(sent.packet);
        }
        let progress = ack > self.una;
        self.una = ack;
        let limit = ack + u64::from(said.credit);
        self.fetched_limit = self.fetched_limit.max(limit);
        // Not what was given to fetches meanwhile: this may be older.
        if !said.throttled {
            self.limit = self.limit.max(limit);
        }
        if self.sent.is_empty() && self.limit > self.next {
            self.timer = None;
        }
        if ack > self.settled && !said.provisional {
            self.settled = ack;
            self.settle_later(ack, said.peer_next);
        }
        news.stale = false;
        if let Some(sack) = said.sack {
            for distance in sack.iter() {
                let Some(sent) = self.sent.get_mut(distance as usize) else { break };
                if !std::mem::replace(&mut sent.sacked, true) {
                    self.sacked += 1;
                    news.take(sent, ack + distance <= reach);
                }
            }
        }
        self.newest = self.newest.max(news.newest);
        self.congestion.marks(said.marks);
        let since = |at: Time| now.since(at).saturating_sub(said.delay);
        let repeated = news.repeated.map(since).filter(|&after| self.rtt.repeated(after));
        let delay = news.measured.map(since).or(repeated);
        if let Some(delay) = delay {
            self.rtt.sample(now, delay);
            self.round_trips.add(delay);
            self.backoff = 0;
        }
        let delay = match delay {
            Some(_) if said.late => Delay::Late,
            Some(delay) => Delay::Of(delay),
            None => Delay::Unknown,
        };
        if progress {
            self.timer = (self.una < self.next).then(|| now + self.rtt.timeout(self.backoff));
        }
        if news.count > 0 {
            self.congestion.acknowledged(news.count, self.una, self.next, delay, self.rtt.least());
        }
        true
    }

    /// Remembers that all before `ack` is complete once everything of the peer's before `barrier` has arrived.
    ///
    /// The peer acknowledges a packet after it has processed it, and what it had to say about it (a refusal) it has sent
    /// before `barrier`. That may have been lost, and then the acknowledgement arrives first.
    fn settle_later(&mut self, ack: u64, barrier: u64) {
        match self.settling {
            None => self.settling = Some((ack, barrier)),
            Some(_) => self.settling_next = Some((ack, barrier)),
        }
    }

    /// Completes what was waiting for the peer's packets before `received`.
    pub(super) fn settle(&mut self, received: u64) {
        while let Some((ack, barrier)) = self.settling {
            if received < barrier {
                break;
            }
            self.completed = self.completed.max(ack);
            self.settling = self.settling_next.take();
        }
    }

    /// The next packet from `from` on that must be sent again: one sent later has arrived, and either it was sent too much
    /// later, or this one has had all the time to arrive itself. Of packets farther ahead than an acknowledgement can tell of,
    /// nothing is known.
    pub(super) fn lost(&self, now: Time, from: u64) -> Option<u64> {
        let (limit, straggling) = (self.newest - self.rtt.reordering(), self.rtt.straggling());
        let start = from.max(self.una) - self.una;
        self.overtaken(start as usize)
            .find(|(_, s)| s.at < limit || now >= s.at + straggling)
            .map(|(i, _)| self.una + i as u64)
    }

    /// Packets that haven't arrived, while one sent later has.
    fn overtaken(&self, start: usize) -> impl Iterator<Item = (usize, &Sent)> {
        let reach = self.sent.iter().enumerate().take(SACK_BITS as usize + 1).skip(start);
        // Without repetitions they stand in the order in which they were sent.
        reach.take_while(|(_, s)| s.again || s.at < self.newest).filter(|(_, s)| !s.sacked && s.at < self.newest)
    }

    /// Sets the time at which the first packet that has been overtaken will count as lost.
    pub(super) fn watch(&mut self, now: Time) {
        let first = self.overtaken(0).map(|(_, s)| s.at).min();
        // It is past when the port was too full for a repetition: that is tried again, but not in every turn.
        self.straggler = first.map(|at| (at + self.rtt.straggling()).max(now + PORT_RETRY));
    }

    /// What to do because the timer has expired, if it has.
    pub(super) fn expire(&mut self, now: Time) -> Option<Expired> {
        if self.timer.is_none_or(|at| now < at) {
            return None;
        }
        self.backoff += 1;
        self.timer = Some(now + self.rtt.timeout(self.backoff));
        let Some(first) = self.sent.iter().position(|s| !s.sacked) else { return Some(Expired::Ask) };
        if self.backoff >= BROKEN {
            self.congestion.timed_out();
        }
        Some(Expired::Repeat(self.una + first as u64))
    }

    /// The packet of a sequence number under way.
    pub(super) fn packet(&self, sequence: u64) -> Option<&TxPacket> {
        let index = sequence.checked_sub(self.una)?;
        self.sent.get(index as usize).map(|s| &s.packet)
    }

    /// Records that a packet has been found lost.
    pub(super) fn found_lost(&mut self) {
        self.congestion.lost();
    }

    /// Records that a packet has been sent again.
    pub(super) fn sent_again(&mut self, sequence: u64, now: Time) {
        if let Some(sent) = self.sent.get_mut((sequence - self.una) as usize) {
            (sent.at, sent.again) = (now, true);
        }
    }

    /// Gives up all packets.
    pub(super) fn clear(&mut self, port: &mut dyn Port) {
        self.sent.drain(..).for_each(|s| port.free(s.packet));
        self.sacked = 0;
        (self.timer, self.straggler) = (None, None);
    }
}
