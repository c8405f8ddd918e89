//! Opening and closing a link.
//!
//! The opener sends HELLO, padded to the largest packet it would like to send, and repeats it. When a size gets no
//! answer twice, the next smaller of the usual MTUs is tried: a path that carries 1500 bytes drops a padded HELLO of 9000, and so the
//! answer is the proof of the size. The other side answers with a WELCOME of the size that both can do.
//!
//! A peer that was merely slow to answer would so be left with small packets. Therefore an opener that has sent more than
//! one size goes on for a little: with larger HELLOs, and with one that names the peer's incarnation, to confirm the size of the
//! WELCOME that has arrived. Both sides change to what gets through.
//!
//! CLOSE ends a link once everything sent has been acknowledged. It is answered by CLOSE.

use std::time::Duration;

use tracing::{debug, warn};

use super::{Config, Link, LinkCounters, LinkEnd, State};
use crate::link::receiver::Receiver;
use crate::link::sender::Sender;
use crate::log::provoked;
use crate::port::Port;
use crate::time::Time;
use crate::wire::frame::Path;
use crate::wire::{Flags, HEADER_LEN, Header, Hello, Kind, MAX_MTU, MIN_MTU, WireError};

/// Packet sizes tried in turn, where the interface's own gets no answer.
const LADDER: [usize; 5] = [16384, 9000, 4352, 1500, MIN_MTU];

type Sizes = smallvec::SmallVec<[usize; 8]>;

/// How often each size is tried before the next.
const TRIES: u32 = 2;

/// Between HELLOs of one round.
const HELLO_INTERVAL: Duration = Duration::from_millis(5);

/// Between rounds.
const ROUND_INTERVAL: Duration = Duration::from_millis(100);

/// After how long larger packets are tried once more on an open link; each time four times as long.
const UPGRADE_INTERVAL: Duration = Duration::from_millis(10);
const UPGRADE_TRIES: u32 = 5;

/// How long a HELLO that was answered is remembered before its sender has proved that it is there.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Between CLOSEs, and how many are sent.
const CLOSE_INTERVAL: Duration = Duration::from_millis(10);
const CLOSE_TRIES: u32 = 5;

impl Link {
    /// Begins to open a link. The first HELLO leaves with the next [`Link::tick`].
    ///
    /// # Errors
    /// When the path's two addresses are of different families.
    pub fn open(config: Config, path: Path, incarnation: u64, token: u64, now: Time) -> Result<Link, WireError> {
        let state = State::Opening { attempt: 0, retry_at: now, give_up_at: now + config.connect_timeout };
        Self::new(config, path, incarnation, token, state, now)
    }

    /// Answers a HELLO. The WELCOME leaves with [`Link::welcome`].
    ///
    /// # Errors
    /// When the path's two addresses are of different families.
    pub fn accept(
        config: Config,
        path: Path,
        incarnation: u64,
        token: u64,
        hello: &Hello,
        now: Time,
    ) -> Result<Link, WireError> {
        let state = State::HalfOpen { give_up_at: now + HALF_OPEN_TIMEOUT };
        let mut link = Self::new(config, path, incarnation, token, state, now)?;
        link.meet(hello);
        Ok(link)
    }

    fn new(
        config: Config,
        path: Path,
        incarnation: u64,
        token: u64,
        state: State,
        now: Time,
    ) -> Result<Link, WireError> {
        let mtu = config.mtu.clamp(MIN_MTU, MAX_MTU);
        let config = Config { mtu, ..config };
        let first = token as u32;
        Ok(Link {
            encap: path.encap()?,
            bulk_encap: path.of_bulk().encap()?,
            path,
            incarnation,
            token,
            remote_token: 0,
            peer_incarnation: 0,
            initiated: matches!(state, State::Opening { .. }),
            state,
            upgrade: None,
            mtu,
            options: config.options,
            first,
            sender: Sender::new(beyond_zero(first), config.window, config.target_delay),
            receiver: Receiver::new(0, config.credit),
            promised: 0,
            promised_fetched: 0,
            warned: false,
            collapsed: false,
            untold: false,
            heard_at: now,
            asked_at: None,
            probe_at: now,
            keepalive: config.peer_timeout / 4,
            counters: LinkCounters::default(),
            config,
        })
    }

    /// Whether the peer's token is known: it has answered our HELLO, or sent one.
    pub fn has_met(&self) -> bool {
        self.remote_token != 0
    }

    /// Whether `hello` is of the link's other side, rather than of an earlier or later one at the same address.
    pub fn knows(&self, hello: &Hello) -> bool {
        self.remote_token == hello.token
    }

    /// Learns who is on the other side, and that packets of `hello.mtu` bytes arrive from there. While the link isn't open,
    /// the latest to say so is believed: a WELCOME can only be of somebody who has seen our HELLO.
    pub fn meet(&mut self, hello: &Hello) {
        let size = self.config.mtu.min(hello.mtu.into());
        let opening = matches!(self.state, State::Opening { .. } | State::HalfOpen { .. });
        if opening && !self.knows(hello) {
            (self.remote_token, self.peer_incarnation) = (hello.token, hello.incarnation);
            self.receiver = Receiver::new(beyond_zero(hello.first), self.config.credit);
            // As much as HELLO and WELCOME can have said.
            self.promised = self.receiver.next() + u64::from(self.config.credit);
            self.promised_fetched = self.promised;
            self.mtu = size;
        } else if self.knows(hello) && hello.peer_incarnation == self.incarnation {
            // The opener confirms that a WELCOME of this size has arrived.
            self.grow(size);
        } else if opening {
            // HELLOs may overtake each other, and only the smallest of them may have been answered.
            self.mtu = self.mtu.min(size);
        }
        if opening {
            self.options = self.config.options.agree(hello.options);
        }
    }

    /// Uses larger packets from now on.
    fn grow(&mut self, size: usize) {
        if size > self.mtu {
            provoked!(DEBUG, target: "vmmc::link", peer = %self.peer(), mtu = size, before = self.mtu, "larger packets get through after all");
            self.mtu = size;
        }
    }

    /// Answers a HELLO with a WELCOME of the size that both can do.
    pub fn welcome(&mut self, port: &mut dyn Port, hello: &Hello) {
        // A confirmation needs no answer.
        if hello.peer_incarnation == 0 {
            let size = self.config.mtu.min(hello.mtu.into());
            provoked!(DEBUG, target: "vmmc::link", peer = %self.peer(), mtu = size, offered = hello.mtu, "answering HELLO with WELCOME");
            self.emit_hello(port, Kind::Welcome, size, hello.incarnation);
        }
    }

    /// Takes a WELCOME for this link. Returns whether it belongs here.
    pub fn on_welcome(&mut self, now: Time, port: &mut dyn Port, header: &Header, hello: &Hello) -> bool {
        if hello.peer_incarnation != self.incarnation {
            return false;
        }
        if self.state == State::Open && self.initiated && self.knows(hello) {
            let size = self.config.mtu.min(hello.mtu.into());
            if size > self.mtu {
                self.grow(size);
                self.emit_hello(port, Kind::Hello, size, self.peer_incarnation);
            }
            return true;
        }
        let State::Opening { attempt, .. } = self.state else { return self.knows(hello) };
        self.meet(hello);
        // This is the size that has got through, whatever was heard before.
        self.mtu = self.config.mtu.min(hello.mtu.into());
        self.sender.grant(header.credit);
        debug!(target: "vmmc::link", peer = %self.peer(), mtu = self.mtu, wanted = self.config.mtu, credit = header.credit, attempt, "WELCOME");
        (self.heard_at, self.asked_at) = (now, None);
        if attempt > TRIES || self.mtu < self.config.mtu {
            self.upgrade = Some((0, now));
        }
        self.confirm();
        // The other side is half open until it hears from us.
        self.receiver.want_ack();
        true
    }

    /// Tries larger packets on an open link.
    pub(super) fn tick_upgrade(&mut self, now: Time, port: &mut dyn Port) {
        let Some((attempt, at)) = self.upgrade else { return };
        if now < at {
            return;
        }
        let larger = self.sizes().take_while(|&size| size > self.mtu);
        for size in larger.collect::<Sizes>() {
            self.emit_hello(port, Kind::Hello, size, 0);
        }
        self.emit_hello(port, Kind::Hello, self.mtu, self.peer_incarnation);
        self.upgrade = (attempt < UPGRADE_TRIES).then(|| (attempt + 1, now + UPGRADE_INTERVAL * 4u32.pow(attempt)));
        if self.upgrade.is_none() && self.mtu < self.config.mtu {
            let (peer, mtu, wanted) = (self.peer(), self.mtu, self.config.mtu);
            warn!(target: "vmmc::link", %peer, mtu, wanted, "the path or the peer has no larger MTU");
        }
    }

    /// The packet sizes to try, largest first.
    fn sizes(&self) -> impl Iterator<Item = usize> + use<> {
        let wanted = self.config.mtu;
        std::iter::once(wanted).chain(LADDER.into_iter().filter(move |&size| size < wanted))
    }

    /// The peer has shown that it knows our token.
    pub(super) fn confirm(&mut self) {
        if !matches!(self.state, State::Opening { .. } | State::HalfOpen { .. }) {
            return;
        }
        self.state = State::Open;
        provoked!(INFO, target: "vmmc::link", peer = %self.peer(), mtu = self.mtu, checksum = self.options.checksum,
            initiated = self.initiated, "link open");
    }

    pub(super) fn tick_handshake(&mut self, now: Time, port: &mut dyn Port) -> Option<LinkEnd> {
        match self.state {
            State::Opening { give_up_at, .. } if now >= give_up_at => {
                Some(LinkEnd::NoAnswer(self.config.connect_timeout))
            }
            State::HalfOpen { give_up_at } if now >= give_up_at => Some(LinkEnd::NoAnswer(HALF_OPEN_TIMEOUT)),
            State::Opening { attempt, retry_at, give_up_at } if now >= retry_at => {
                let sizes: Sizes = self.sizes().collect();
                let in_round = attempt % (TRIES * sizes.len() as u32);
                let size = sizes[(in_round / TRIES) as usize];
                // Each size once, and then once a round.
                if in_round == 0 || (in_round == attempt && in_round.is_multiple_of(TRIES)) {
                    debug!(target: "vmmc::link", peer = %self.peer(), mtu = size, attempt, "HELLO");
                }
                self.emit_hello(port, Kind::Hello, size, 0);
                let last = in_round + 1 == TRIES * sizes.len() as u32;
                let retry_at = now + if last { ROUND_INTERVAL } else { HELLO_INTERVAL };
                self.state = State::Opening { attempt: attempt + 1, retry_at, give_up_at };
                None
            }
            _ => None,
        }
    }

    fn emit_hello(&self, port: &mut dyn Port, kind: Kind, mtu: usize, peer_incarnation: u64) {
        let hello = Hello {
            incarnation: self.incarnation,
            token: self.token,
            peer_incarnation,
            first: self.first,
            mtu: mtu as u16,
            options: if kind == Kind::Hello { self.config.options } else { self.options },
        };
        let flags = Flags { checked: true, ..Flags::default() };
        let header = Header {
            kind,
            flags,
            token: self.remote_token,
            sequence: self.first,
            credit: self.receiver.credit(port.rx_headroom()),
            ..Header::default()
        };
        let pad = self.encap.payload_room(mtu).saturating_sub(HEADER_LEN);
        self.emit_control(port, header, &hello.emit(), pad);
    }

    /// Begins to close the link: CLOSE is sent once all DATA has been acknowledged. [`Link::tick`] says when it has ended.
    pub fn close(&mut self, now: Time) {
        if self.state == State::Open {
            self.state = State::Closing { attempt: 0, retry_at: now };
        }
    }

    pub(super) fn tick_close(&mut self, now: Time, port: &mut dyn Port) -> Option<LinkEnd> {
        let State::Closing { attempt, retry_at } = self.state else {
            return None;
        };
        if now < retry_at {
            return None;
        }
        let mut sent = attempt;
        if self.sender.in_flight() == 0 {
            if attempt == CLOSE_TRIES {
                return Some(LinkEnd::Closed);
            }
            self.emit_close(now, port);
            sent += 1;
        }
        self.state = State::Closing { attempt: sent, retry_at: now + CLOSE_INTERVAL };
        None
    }

    fn emit_close(&mut self, now: Time, port: &mut dyn Port) {
        let flags = Flags::default();
        let header = self.header(now, port, Kind::Close, flags, self.sender.next());
        self.emit_control(port, header, &[], 0);
    }

    /// Takes a CLOSE. Returns why the link has ended; `None` when packets sent before the CLOSE are still missing: the
    /// peer will repeat it.
    pub fn on_close(&mut self, now: Time, header: &Header, port: &mut dyn Port) -> Option<LinkEnd> {
        if super::extend(header.sequence, self.receiver.next()) != self.receiver.next() {
            self.receiver.want_ack();
            return None;
        }
        if matches!(self.state, State::Closing { .. }) {
            return Some(LinkEnd::Closed);
        }
        self.emit_close(now, port);
        Some(LinkEnd::ClosedByPeer)
    }

    /// Whether a RESET with this token is about this link: only who has seen our packets knows the token.
    pub fn is_reset_by(&self, token: u64) -> bool {
        self.has_met() && token == self.remote_token
    }
}

/// Internally sequence numbers have 64 bits and never wrap; they start high enough that going back a little is safe.
fn beyond_zero(first: u32) -> u64 {
    (1 << 32) + u64::from(first)
}
