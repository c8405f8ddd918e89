//! The reliable data link between two nodes: every record exactly once, in order, or an error that says why not.
//!
//! One link serves all exports and imports of a pair of nodes. It is a state machine without I/O or clock: it is handed
//! packets, the time and a [`Port`] to put packets into, and says when it wants to be called again.
//!
//! ```text
//!            open()                    WELCOME, or any packet with our token
//!   nothing --------> Opening ------------------------------------------> Open ----> ended (LinkEnd)
//!            HELLO ->                                                      ^
//!   nothing --------> Half open -------------------------------------------'
//!            accept()     a packet with our token: the peer really is at its address
//!            WELCOME ->
//! ```
//!
//! Each side draws a 64-bit *incarnation* when its node opens, and a 64-bit *token* for each link. A packet is for a
//! link when it carries the token and comes from the peer's address. So a packet of an earlier life of either side, or
//! of somebody who can't see the traffic, is refused; and a peer that has restarted is noticed, because it opens a new link,
//! or answers RESET to packets of the old one.

mod congestion;
mod emit;
mod handshake;
mod life;
mod notice;
mod pace;
mod receiver;
mod round_trips;
mod rtt;
mod sender;

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, trace};

pub use congestion::{LOSS_TOLERATED, TARGET_DELAY};
pub(crate) use emit::send_reset;
pub use life::{LinkCounters, LinkEnd, LinkState};
pub(crate) use pace::Pace;
pub use receiver::{ACK_DELAY, ACK_EVERY};
pub(crate) use receiver::{Admission, Arrival, Held};
pub(crate) use round_trips::RoundTripTimes;
pub use round_trips::RoundTrips;
pub use rtt::{INITIAL_RTO, MAX_RTO, Rtt};

use self::receiver::Receiver;
use self::sender::{Acknowledgement, Expired, PORT_RETRY, Sender};
use crate::port::Port;
use crate::time::Time;
use crate::wire::frame::{Encap, Path};
use crate::wire::{HEADER_LEN, Header, Kind, Options, Sack, WireError};

/// How long a link waits, how much it sends ahead.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The largest IP packet to send, bytes: [`MIN_MTU`](crate::wire::MIN_MTU) to [`MAX_MTU`](crate::wire::MAX_MTU).
    pub mtu: usize,
    /// The most packets under way without acknowledgement. How many there are is for congestion control to find.
    pub window: u16,
    /// The delay that congestion control aims at: a round trip, queues included.
    pub target_delay: Duration,
    /// The most packets a peer may send ahead; set it to what the port has room for.
    pub credit: u16,
    /// How long a HELLO is repeated before the peer is given up.
    pub connect_timeout: Duration,
    /// How long a peer may be silent before it counts as dead. An idle peer is asked four times in that time.
    pub peer_timeout: Duration,
    /// What to offer in the handshake.
    pub options: Options,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mtu: 1500,
            window: 1024,
            target_delay: TARGET_DELAY,
            credit: 1024,
            connect_timeout: Duration::from_secs(2),
            peer_timeout: Duration::from_secs(5),
            options: Options { checksum: true, ..Options::default() },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening { attempt: u32, retry_at: Time, give_up_at: Time },
    HalfOpen { give_up_at: Time },
    Open,
    Closing { attempt: u32, retry_at: Time },
}

/// One side of a link.
#[derive(Debug)]
pub struct Link {
    config: Config,
    path: Path,
    encap: Encap,
    /// The same for packets of the bulk lane: to the port after the peer's.
    bulk_encap: Encap,
    incarnation: u64,
    token: u64,
    remote_token: u64,
    peer_incarnation: u64,
    /// This side sent the first HELLO.
    initiated: bool,
    state: State,
    /// When to try larger packets than the handshake got through, and for the how manieth time.
    upgrade: Option<(u32, Time)>,
    mtu: usize,
    options: Options,
    first: u32,
    sender: Sender,
    receiver: Receiver,
    /// The peer has never had credit for this packet, or any after it, to carry PUTs.
    promised: u64,
    /// Likewise to carry FETCHEDs.
    promised_fetched: u64,
    /// Something is to be told about packets that have been processed, and hasn't been sent.
    pub(crate) untold: bool,
    /// When the peer was last heard.
    heard_at: Time,
    /// When something was first sent to it since then that it must answer.
    asked_at: Option<Time>,
    probe_at: Time,
    /// It has been said that the target delay is too short for this path.
    warned: bool,
    /// It has been said that the window has collapsed.
    collapsed: bool,
    /// After how long a silence it is asked.
    keepalive: Duration,
    counters: LinkCounters,
}

/// The number nearest to `near` whose low 32 bits are `low`.
fn extend(low: u32, near: u64) -> u64 {
    let distance = low.wrapping_sub(near as u32) as i32;
    near.wrapping_add_signed(distance.into())
}

impl Link {
    /// The token that packets to us carry on this link.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Congestion control for packets of the bulk lane.
    pub(crate) fn bulk_pace(&self) -> Pace {
        Pace::new(self.config.window, self.config.target_delay)
    }

    /// The token that packets to the peer carry on this link.
    pub(crate) fn remote_token(&self) -> u64 {
        self.remote_token
    }

    /// The way to the peer.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in front of packets of the bulk lane.
    pub(crate) fn bulk_encap(&self) -> &Encap {
        &self.bulk_encap
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.path.remote
    }

    /// How far it has come.
    pub fn state(&self) -> LinkState {
        match self.state {
            State::Opening { .. } => LinkState::Opening,
            State::HalfOpen { .. } => LinkState::HalfOpen,
            State::Open => LinkState::Open,
            State::Closing { .. } => LinkState::Closing,
        }
    }

    /// Whether DATA may be exchanged.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether this side opened the link.
    pub fn is_initiated(&self) -> bool {
        self.initiated
    }

    /// The peer's incarnation; 0 while it isn't known.
    pub fn peer_incarnation(&self) -> u64 {
        self.peer_incarnation
    }

    /// Whether this side has only answered a HELLO so far.
    pub fn is_half_open(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// The largest IP packet on this link, bytes; what is agreed on once the link is open.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// What was agreed on.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Counters.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// The round-trip time as measured.
    pub fn rtt(&self) -> &Rtt {
        self.sender.rtt()
    }

    /// All round-trip times measured.
    pub(crate) fn round_trips(&self) -> &RoundTripTimes {
        self.sender.round_trips()
    }

    /// How many DATA packets the peer still has room for.
    pub fn credit_received(&self) -> u64 {
        self.sender.credit()
    }

    /// How many DATA packets the peer has been told there is room for, and hasn't sent.
    pub fn credit_given(&self) -> u64 {
        self.promised.saturating_sub(self.receiver.next())
    }

    /// How many DATA packets are kept that came before one that is missing.
    pub fn early(&self) -> usize {
        self.receiver.early()
    }

    /// For how long the peer has been silent.
    pub fn silence(&self, now: Time) -> Duration {
        now.since(self.heard_at)
    }

    /// What changes when senders get on: packets under way, the room for more, and what is complete.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        (self.in_flight(), self.room(), self.completed())
    }

    /// DATA packets under way.
    pub fn in_flight(&self) -> u64 {
        self.sender.in_flight()
    }

    /// How many DATA packets may be sent now.
    pub fn room(&self) -> u64 {
        if self.state == State::Open { self.sender.room() } else { 0 }
    }

    /// How many DATA packets may be sent now that answer fetches: the peer has asked for them, and doesn't hold them up when it does sends.
    pub fn fetched_room(&self) -> u64 {
        if self.state == State::Open { self.sender.fetched_room() } else { 0 }
    }

    /// Whether sends lack credit that fetches don't need: then it makes no difference to them how much is fetched.
    pub fn sends_lack_credit(&self) -> bool {
        self.sender.sends_lack_credit()
    }

    /// How many DATA packets congestion control allows under way.
    pub fn window(&self) -> u64 {
        self.sender.window()
    }

    /// How many DATA packets may be sent now if neither the peer's credit nor congestion is a matter: records that answer, or will
    /// be answered, are few, and the peer always has room for them.
    pub fn control_room(&self) -> u64 {
        if self.state == State::Open { self.sender.memory_room() } else { 0 }
    }

    /// Somebody would like to send and there is no room.
    pub fn want_room(&mut self, now: Time) {
        if self.state == State::Open {
            self.sender.want_credit(now);
        }
    }

    /// Whether the peer was ever given credit for this packet, to carry PUTs.
    pub(crate) fn has_promised(&self, sequence: u64) -> bool {
        sequence < self.promised
    }

    /// Whether the peer was ever given credit for this packet, to carry FETCHEDs.
    pub(crate) fn has_promised_fetched(&self, sequence: u64) -> bool {
        sequence < self.promised_fetched
    }

    /// What the next packet says to have arrived may have come long before this side looked for it.
    pub(crate) fn be_late(&mut self) {
        self.receiver.be_late();
    }

    /// Stops giving the peer credit for PUTs, or begins again.
    pub fn throttle(&mut self, throttled: bool) {
        self.receiver.throttle(throttled);
    }

    /// Bytes of records that one DATA packet holds.
    pub fn body_room(&self) -> usize {
        self.encap.payload_room(self.mtu).saturating_sub(HEADER_LEN)
    }

    /// Everything sent before this sequence number has been processed by the peer, and what it had to say about it
    /// has arrived.
    pub fn completed(&self) -> u64 {
        self.sender.completed()
    }

    /// The sequence number of the next DATA packet.
    pub fn next_sequence(&self) -> u64 {
        self.sender.next()
    }

    /// The number nearest to the packets under way whose low 32 bits are `sequence`.
    pub fn sent_sequence(&self, sequence: u32) -> u64 {
        extend(sequence, self.sender.next())
    }

    /// Checks what every packet of an open link must satisfy: its checksum.
    ///
    /// # Errors
    /// When the checksum is wrong, or missing where one was agreed on.
    pub fn check<'a>(&mut self, header: &Header, covered: impl IntoIterator<Item = &'a [u8]>) -> Result<(), WireError> {
        let demanded = self.options.checksum && !header.flags.checked;
        let result = if demanded { Err(WireError::Checksum("missing")) } else { header.verify(covered) };
        if result.is_err() {
            self.counters.rx_damaged += 1;
        }
        result
    }

    /// Takes note of a packet with our token, from the peer's address, that [`Link::check`] has passed.
    ///
    /// Sends again what the peer says it hasn't got. With `late` it may have come long before this side looked for it.
    pub fn on_packet(&mut self, now: Time, header: &Header, sack: Option<&Sack>, late: bool, port: &mut dyn Port) {
        (self.heard_at, self.asked_at) = (now, None);
        self.confirm();
        let peer_next = extend(header.sequence, self.receiver.next());
        let said = Acknowledgement {
            ack: header.ack,
            credit: header.credit,
            delay: Duration::from_micros(header.ack_delay.into()),
            provisional: header.flags.provisional,
            throttled: header.flags.throttled,
            peer_next: if header.kind == Kind::Data { peer_next + 1 } else { peer_next },
            marks: header.marks,
            late: late || header.flags.late,
            sack,
        };
        if !self.sender.acknowledge(now, said, port) {
            self.counters.rx_nonsense += 1;
            return;
        }
        if header.kind == Kind::Ack && header.flags.ack_now {
            self.receiver.want_ack();
        }
        if self.sender.in_flight() > 0 {
            self.asked_at = Some(now);
            self.repair(now, port);
        }
        self.sender.settle(self.receiver.next());
    }

    /// Sends again what a later-sent packet has overtaken.
    fn repair(&mut self, now: Time, port: &mut dyn Port) {
        let mut from = 0;
        while let Some(sequence) = self.sender.lost(now, from) {
            if !self.resend(now, sequence, port) {
                break;
            }
            self.sender.found_lost();
            from = sequence + 1;
        }
        self.sender.watch(now);
    }

    /// Decides about a DATA packet. Its sequence number comes back in full.
    pub(crate) fn admit(&mut self, now: Time, header: &Header, arrival: Arrival) -> (Admission, u64) {
        let (admission, sequence) = self.receiver.admit(now, header.sequence, arrival, header.flags.ack_now);
        if admission == Admission::Refuse {
            self.counters.rx_refused += 1;
        }
        (admission, sequence)
    }

    /// Whether an early packet may be kept, with receive memory for `free` more.
    pub(crate) fn may_keep(&self, free: usize) -> bool {
        self.receiver.may_keep(free)
    }

    /// Keeps a packet for later.
    pub(crate) fn hold(&mut self, sequence: u64, held: Held) {
        self.counters.rx_early += 1;
        self.receiver.hold(sequence, held);
    }

    /// Puts the next packet back: the application has no room for all of it.
    pub(crate) fn put_back(&mut self, held: Held) {
        self.receiver.hold(self.receiver.next(), held);
    }

    /// The next packet, when it is already here.
    pub(crate) fn take_ready(&mut self) -> Option<Held> {
        self.receiver.take_ready()
    }

    /// The next packet has been processed: a frame of this many bytes.
    pub fn advance(&mut self, now: Time, bytes: usize) {
        self.counters.rx_data += 1;
        self.counters.rx_bytes += bytes as u64;
        self.receiver.advance(now);
        self.sender.settle(self.receiver.next());
    }

    /// The sequence number expected next, as it stands in packets.
    pub fn expected(&self) -> u64 {
        self.receiver.next()
    }

    /// Sends an acknowledgement if one is due.
    pub fn acknowledge(&mut self, now: Time, port: &mut dyn Port) {
        if self.has_met() && self.receiver.ack_due(now) && !self.emit_ack(now, port, false) {
            self.receiver.ack_at(now + PORT_RETRY);
        }
    }

    /// Does what the time says: repeats, asks, acknowledges, gives up. Returns why the link has ended, if it has.
    pub fn tick(&mut self, now: Time, port: &mut dyn Port) -> Option<LinkEnd> {
        match self.state {
            State::Opening { .. } | State::HalfOpen { .. } => return self.tick_handshake(now, port),
            State::Open | State::Closing { .. } => {}
        }
        if let Some(asked_at) = self.asked_at
            && now.since(asked_at) >= self.config.peer_timeout
        {
            return Some(LinkEnd::Silent(now.since(asked_at)));
        }
        if let Some(end) = self.tick_close(now, port) {
            return Some(end);
        }
        self.tick_upgrade(now, port);
        self.sender.tick(now);
        if let Some(least) = self.sender.is_held_down().filter(|_| !self.warned) {
            self.warned = true;
            let (peer, target) = (self.peer(), self.config.target_delay);
            // Not a warning: a host that is slow all the time looks the same.
            info!(target: "vmmc::link", %peer, ?least, ?target,
                "round trips never take less than the target delay, so little is sent: unless a host is slow, Builder::target_delay should be longer");
        }
        self.watch_window();
        if self.sender.straggles(now) {
            self.repair(now, port);
        }
        match self.sender.expire(now) {
            Some(Expired::Repeat(sequence)) => {
                self.counters.timeouts += 1;
                self.say_timeout(sequence);
                self.resend(now, sequence, port);
            }
            Some(Expired::Ask) => self.probe(now, port),
            None => {}
        }
        if now >= self.heard_at.max(self.probe_at) + self.keepalive {
            self.probe(now, port);
        }
        self.acknowledge(now, port);
        None
    }

    /// Asks the peer whether it is there: it answers with an acknowledgement, or RESET when it has lost the link.
    fn probe(&mut self, now: Time, port: &mut dyn Port) {
        self.probe_at = now;
        if self.asked_at.is_none() {
            let silent = now.since(self.heard_at);
            trace!(target: "vmmc::link", peer = %self.peer(), ?silent, "asking whether it is there");
        }
        self.asked_at.get_or_insert(now);
        self.emit_ack(now, port, true);
    }

    /// There is reason to doubt that the peer still has the link: asks it, but not all the time.
    pub fn doubt(&mut self, now: Time, port: &mut dyn Port) {
        if now.since(self.probe_at) >= INITIAL_RTO {
            self.probe(now, port);
        }
    }

    /// When [`Link::tick`] has something to do.
    pub fn deadline(&self) -> Time {
        match self.state {
            State::Opening { retry_at, give_up_at, .. } => retry_at.min(give_up_at),
            State::HalfOpen { give_up_at } => give_up_at,
            State::Open | State::Closing { .. } => {
                let or_never = |at: Option<Time>| at.unwrap_or(Time::FAR);
                let closing = if let State::Closing { retry_at, .. } = self.state { retry_at } else { Time::FAR };
                (self.heard_at.max(self.probe_at) + self.keepalive)
                    .min(or_never(self.asked_at.map(|at| at + self.config.peer_timeout)))
                    .min(or_never(self.upgrade.map(|(_, at)| at)))
                    .min(or_never(self.receiver.deadline()))
                    .min(self.sender.deadline())
                    .min(closing)
            }
        }
    }

    /// Gives all packets back to the port: the link has ended.
    pub fn clear(&mut self, port: &mut dyn Port) {
        self.sender.clear(port);
        self.receiver.clear(port);
    }
}
