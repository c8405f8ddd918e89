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

use super::rtt::Rtt;
use crate::port::{Port, TxPacket};
use crate::time::Time;
use crate::wire::Sack;

/// A packet that was sent and not acknowledged.
#[derive(Debug)]
struct Sent {
    packet: TxPacket,
    at: Time,
    /// The peer has it, out of order.
    sacked: bool,
    again: bool,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    /// The next sequence number the peer expects, as it stood in the packet.
    pub ack: u32,
    /// Packets from there on that it has room for.
    pub credit: u16,
    /// How long it waited before it said so.
    pub delay: Duration,
    /// It completes no sends yet.
    pub provisional: bool,
    /// The next sequence number the peer will send, or has just sent: all before it are under way.
    pub peer_next: u64,
    pub sack: Option<Sack>,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    next: u64,
    una: u64,
    limit: u64,
    window: u64,
    sent: VecDeque<Sent>,
    rtt: Rtt,
    backoff: u32,
    timer: Option<Time>,
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
    /// Starts at sequence number `first`, with at most `window` packets under way.
    pub(super) fn new(first: u64, window: u64) -> Sender {
        Sender {
            next: first,
            una: first,
            limit: first,
            window,
            sent: VecDeque::new(),
            rtt: Rtt::default(),
            backoff: 0,
            timer: None,
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

    /// How many packets may be sent now.
    pub(super) fn room(&self) -> u64 {
        self.limit.min(self.una + self.window).saturating_sub(self.next)
    }

    /// How many packets may be sent now if credit is no matter.
    pub(super) fn window_room(&self) -> u64 {
        (self.una + self.window).saturating_sub(self.next)
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// When [`Sender::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timer
    }

    /// Grants credit without an acknowledgement: the handshake's.
    pub(super) fn grant(&mut self, credit: u16) {
        self.limit = self.limit.max(self.una + u64::from(credit));
    }

    /// Records that the next packet has been sent.
    pub(super) fn push(&mut self, now: Time, packet: TxPacket) {
        self.sent.push_back(Sent { packet, at: now, sacked: false, again: false });
        self.next += 1;
        if self.timer.is_none() {
            self.timer = Some(now + self.rtt.timeout(self.backoff));
        }
    }

    /// Takes an acknowledgement into account and frees what it covers. Returns false when it is nonsense: it
    /// acknowledges what was never sent.
    pub(super) fn acknowledge(&mut self, now: Time, said: Acknowledgement, port: &mut dyn Port) -> bool {
        let ack = super::extend(said.ack, self.una);
        if ack > self.next {
            return false;
        }
        if ack < self.una {
            return true; // overtaken by a later one
        }
        // The latest-sent packet that this is the first to tell of. One that was known to be there has waited for others,
        // and one sent again may be acknowledged for its first sending: neither tells how long the way is.
        let mut measured = None;
        for _ in self.una..ack {
            let Some(sent) = self.sent.pop_front() else { break };
            self.newest = self.newest.max(sent.at);
            if !sent.again && !sent.sacked {
                measured = measured.max(Some(sent.at));
            }
            port.free(sent.packet);
        }
        let progress = ack > self.una;
        self.una = ack;
        self.limit = self.limit.max(ack + u64::from(said.credit));
        if progress {
            self.backoff = 0;
            self.timer = (self.una < self.next).then(|| now + self.rtt.timeout(0));
        }
        if ack > self.settled && !said.provisional {
            self.settled = ack;
            self.settle_later(ack, said.peer_next);
        }
        if let Some(sack) = said.sack {
            let last = (sack.highest() as usize).min(self.sent.len().saturating_sub(1));
            for distance in 1..=last {
                let sent = &mut self.sent[distance];
                if sack.contains(distance as u64) && !sent.sacked {
                    sent.sacked = true;
                    self.newest = self.newest.max(sent.at);
                    if !sent.again {
                        measured = measured.max(Some(sent.at));
                    }
                }
            }
        }
        if let Some(at) = measured {
            self.rtt.sample(now.since(at).saturating_sub(said.delay));
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

    /// Completes what was waiting for the peer's packets before `received`. Returns whether that changed anything.
    pub(super) fn settle(&mut self, received: u64) -> bool {
        let before = self.completed;
        while let Some((ack, barrier)) = self.settling {
            if received < barrier {
                break;
            }
            self.completed = self.completed.max(ack);
            self.settling = self.settling_next.take();
        }
        self.completed > before
    }

    /// The next packet after `from` that must be sent again because a later-sent one has arrived.
    pub(super) fn lost(&self, from: u64) -> Option<u64> {
        let limit = self.newest - self.rtt.reordering();
        let start = from.max(self.una) - self.una;
        self.sent
            .iter()
            .enumerate()
            .skip(start as usize)
            .find(|(_, s)| !s.sacked && s.at < limit)
            .map(|(i, _)| self.una + i as u64)
    }

    /// Whether the peer has said that it has packets past a gap.
    pub(super) fn has_gap(&self) -> bool {
        self.newest > Time::ZERO && self.sent.front().is_some_and(|s| !s.sacked && s.at < self.newest)
    }

    /// The packet to send again because the timer has expired, if it has.
    pub(super) fn expire(&mut self, now: Time) -> Option<u64> {
        if self.timer.is_none_or(|at| now < at) {
            return None;
        }
        self.backoff += 1;
        self.timer = Some(now + self.rtt.timeout(self.backoff));
        self.sent.iter().position(|s| !s.sacked).map(|i| self.una + i as u64)
    }

    /// The packet of a sequence number under way.
    pub(super) fn packet(&self, sequence: u64) -> Option<&TxPacket> {
        let index = sequence.checked_sub(self.una)?;
        self.sent.get(index as usize).map(|s| &s.packet)
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
        self.timer = None;
    }
}
