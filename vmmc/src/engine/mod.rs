//! The engine: what the NIC's firmware did. It keeps exports and imports, cuts sends into packets, checks every
//! packet that arrives against the grant it names, and puts its bytes where they belong.
//!
//! Like the [`link`] below it, it does no I/O and reads no clock. It is handed packets
//! ([`Engine::receive`]), the time ([`Engine::tick`]) and a [`Port`] to put packets into. Whoever drives it calls
//! [`Port::flush`] afterwards, and comes back when a packet arrives or [`Engine::deadline`] has come.
//!
//! Nothing a peer sends makes it panic, allocate without bound, or write outside an export that peer was granted.
//! Every table has a limit, and a peer that fills one is refused or held up.

mod error;
mod exports;
mod imports;
mod peer;
mod send;
mod slab;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, trace};

pub use error::EngineError;
pub use exports::{BadKey, ExportOptions, Key, Notification};
pub use send::{Send, Ticket};

use self::exports::Exports;
use self::imports::Imports;
use self::peer::{Peer, Stop};
use crate::link::{self, Admission, Held, Link, LinkCounters, LinkEnd};
use crate::memory::Region;
use crate::port::{Port, RxPacket};
use crate::time::Time;
use crate::wire::frame::{Datagram, Mac, Path};
use crate::wire::record::Record;
use crate::wire::{CHECKSUM_LEN, Fragments, HEADER_LEN, HELLO_LEN, Header, Hello, Kind, Reader, Sack, WireError};

/// How many HELLOs are answered before their senders have proved that they are there.
const MAX_HALF_OPEN: usize = 64;

/// How many RESETs may be sent in [`RESET_SPAN`].
const MAX_RESETS: u32 = 32;
const RESET_SPAN: Duration = Duration::from_millis(10);

/// Of a token, the low bits are the peer's place in the table.
const PLACE_BITS: u32 = 16;

/// An engine's limits and addresses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node's address.
    pub local: SocketAddr,
    /// Its interface's Ethernet address.
    pub mac: Mac,
    /// The VLAN it is in: its frames carry that tag, and those that carry another are refused.
    pub vlan: Option<u16>,
    /// Of each link.
    pub link: link::Config,
    /// The most peers: 1 to 32768.
    pub max_peers: usize,
    /// The most exports: up to 2^20.
    pub max_exports: usize,
    /// The most imports: up to 2^20.
    pub max_imports: usize,
}

/// What an engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Bytes written into exports.
    pub delivered_bytes: u64,
    /// Of those, how many user space copied.
    pub rx_copied_bytes: u64,
    /// Bytes of sends copied into packets.
    pub tx_copied_bytes: u64,
    /// Sends accepted.
    pub sends: u64,
    /// Notifications delivered.
    pub notifications: u64,
    /// Frames that are no packet of this protocol.
    pub rx_malformed: u64,
    /// Packets to another address or port.
    pub rx_foreign: u64,
    /// Packets of another VLAN than the node's, or of one where it is in none, or the other way round.
    pub rx_other_vlan: u64,
    /// Packets with a wrong checksum, or without one where it was agreed on.
    pub rx_damaged: u64,
    /// Packets with a token that no link has, or from another address than the link's peer.
    pub rx_unknown: u64,
    /// PUTs without a valid grant, or past the end of the export.
    pub refused_puts: u64,
    /// HELLOs not answered because the tables were full.
    pub refused_hellos: u64,
    /// Early packets not kept because receive memory ran short.
    pub rx_not_kept: u64,
    /// Links that have ended.
    pub links_ended: u64,
}

/// What is known of one link.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo {
    /// The peer.
    pub peer: SocketAddr,
    /// Whether the link is open.
    pub open: bool,
    /// The largest IP packet agreed on, bytes.
    pub mtu: usize,
    /// Smoothed round-trip time, when measured.
    pub rtt: Option<Duration>,
    /// DATA packets under way.
    pub in_flight: u64,
    /// DATA packets that congestion control allows under way.
    pub window: u64,
    /// DATA packets that may be sent now.
    pub room: u64,
    /// Grants the peer holds.
    pub grants: usize,
    /// What the link has counted.
    pub counters: LinkCounters,
}

/// The engine of one node.
pub struct Engine {
    config: Config,
    incarnation: u64,
    random: Box<dyn FnMut() -> u64 + std::marker::Send>,
    peers: Vec<Option<Box<Peer>>>,
    by_address: HashMap<SocketAddr, u64>,
    half_open: Vec<u64>,
    exports: Exports,
    imports: Imports,
    /// Places of peers to which something may have to be sent.
    listed: Vec<usize>,
    deadline: Time,
    resets: (Time, u32),
    /// All links are being closed, and no new ones are opened.
    closing: bool,
    /// How often an acknowledgement has made room, or completed a send.
    acknowledged: u64,
    counters: EngineCounters,
}

/// A packet that has passed all checks but its link's.
struct Arrived {
    datagram: Datagram,
    header: Header,
    what: What,
    /// Where its records begin in the frame.
    start: usize,
    /// How many bytes they have.
    length: usize,
}

/// What it is.
enum What {
    /// A HELLO or WELCOME.
    Hello(Hello),
    /// A RESET.
    Reset,
    /// For the link its token names.
    Link(Option<Sack>),
    /// For no link there is.
    Unknown,
}

fn place_of(token: u64) -> usize {
    (token & ((1 << PLACE_BITS) - 1)) as usize
}

impl Engine {
    /// An engine without peers. `random` must yield numbers nobody can guess: incarnation and tokens are drawn from it.
    pub fn new(config: Config, mut random: Box<dyn FnMut() -> u64 + std::marker::Send>) -> Engine {
        Engine {
            incarnation: random(),
            random,
            peers: Vec::new(),
            by_address: HashMap::new(),
            half_open: Vec::new(),
            exports: Exports::new(config.max_exports),
            imports: Imports::new(config.max_imports),
            listed: Vec::new(),
            deadline: Time::ZERO,
            resets: (Time::ZERO, 0),
            closing: false,
            acknowledged: 0,
            counters: EngineCounters::default(),
            config,
        }
    }

    /// This node's address.
    pub fn local(&self) -> SocketAddr {
        self.config.local
    }

    /// What it has counted.
    pub fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// All links.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> {
        self.peers.iter().flatten().map(|p| PeerInfo {
            peer: p.link.peer(),
            open: p.link.is_open(),
            mtu: p.link.mtu(),
            rtt: p.link.rtt().smoothed(),
            in_flight: p.link.in_flight(),
            window: p.link.window(),
            room: p.link.room(),
            grants: p.grant_count(),
            counters: p.link.counters(),
        })
    }

    // ---- exports -------------------------------------------------------------------------------------------------

    /// Exports a region.
    ///
    /// # Errors
    /// When the name can't be, is taken, or there are too many exports.
    pub fn export(&mut self, options: ExportOptions, region: Region) -> Result<u32, EngineError> {
        self.exports.insert(options, region)
    }

    /// Takes an export back. From now on nothing is written into it, and its importers are told.
    pub fn unexport(&mut self, now: Time, id: u32) {
        if self.exports.remove(id).is_none() {
            return;
        }
        self.imports.local_revoked(id);
        for place in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[place] {
                peer.revoke(id);
                self.list(place);
            }
        }
        self.deadline = self.deadline.min(now);
    }

    /// The next notification of an export. Whoever was held up because there were too many goes on with the next
    /// [`Engine::tick`].
    pub fn take_notification(&mut self, id: u32) -> Option<Notification> {
        let export = self.exports.get_mut(id)?;
        let notification = export.queue.pop_front()?;
        if std::mem::take(&mut export.starved) {
            self.deadline = Time::ZERO;
        }
        Some(notification)
    }

    /// Changes whenever something has happened that a caller may be waiting for: a notification, an acknowledgement, the answer to an
    /// import, the end of a link. Data alone is nothing to be woken for.
    pub fn news(&self) -> u64 {
        self.acknowledged + self.counters.notifications + self.imports.changes
    }

    /// How many bytes are exported.
    pub fn exported_bytes(&self) -> u64 {
        self.exports.iter().map(|e| e.region.len() as u64).sum()
    }

    // ---- links ---------------------------------------------------------------------------------------------------

    /// Whether there is a link to `peer`, or one is being opened.
    pub fn has_link(&self, peer: SocketAddr) -> bool {
        self.by_address.contains_key(&peer)
    }

    /// Begins to open a link, unless there is one.
    ///
    /// # Errors
    /// When there are too many peers, or the peer's address is of another family.
    pub fn connect(&mut self, now: Time, peer: SocketAddr, next_hop: Mac) -> Result<(), EngineError> {
        if self.has_link(peer) {
            return Ok(());
        }
        let token = self.new_token();
        let token = token.ok_or(EngineError::TooManyPeers { most: self.config.max_peers })?;
        let Config { local, mac, vlan, .. } = self.config;
        let path = Path { local, remote: peer, local_mac: mac, next_hop, vlan };
        let link = Link::open(self.config.link, path, self.incarnation, token, now)
            .map_err(|_| EngineError::Family { local: self.config.local, peer })?;
        self.by_address.insert(peer, token);
        self.peers[place_of(token)] = Some(Box::new(Peer::new(link)));
        self.deadline = self.deadline.min(now);
        Ok(())
    }

    /// A token for a new link: the low bits say where in the table, the rest can't be guessed.
    fn new_token(&mut self) -> Option<u64> {
        let place = match self.peers.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.peers.len() < self.config.max_peers.min(1 << PLACE_BITS) => {
                self.peers.push(None);
                self.peers.len() - 1
            }
            // Who hasn't proved that he is there gives way.
            None => {
                let oldest = *self.half_open.first()?;
                self.half_open.remove(0);
                self.peers[place_of(oldest)] = None;
                place_of(oldest)
            }
        };
        loop {
            let token = (self.random)() >> PLACE_BITS << PLACE_BITS | place as u64;
            if token != 0 {
                return Some(token);
            }
        }
    }

    fn peer(&self, token: u64) -> Option<&Peer> {
        self.peers.get(place_of(token))?.as_deref().filter(|p| p.link.token() == token)
    }

    fn peer_mut(&mut self, token: u64) -> Option<&mut Peer> {
        self.peers.get_mut(place_of(token))?.as_deref_mut().filter(|p| p.link.token() == token)
    }

    fn list(&mut self, place: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(place)
            && !std::mem::replace(&mut peer.listed, true)
        {
            self.listed.push(place);
        }
    }

    /// A link has ended: its imports fail, its packets go back.
    fn end(&mut self, token: u64, end: LinkEnd, port: &mut dyn Port) {
        if self.peer(token).is_none() {
            return;
        }
        let Some(mut peer) = self.peers[place_of(token)].take() else {
            return;
        };
        let address = peer.link.peer();
        if !peer.link.is_half_open() {
            debug!(target: "vmmc::link", peer = %address, %end, "link ended");
            self.counters.links_ended += 1;
        }
        peer.clear(port);
        if self.by_address.get(&address) == Some(&token) {
            self.by_address.remove(&address);
        }
        self.half_open.retain(|&t| t != token);
        self.imports.link_ended(token, end);
    }

    /// Begins to close all links: each ends once what was sent on it is acknowledged.
    pub fn close(&mut self, now: Time) {
        self.closing = true;
        for peer in self.peers.iter_mut().flatten() {
            peer.link.close(now);
        }
        self.deadline = Time::ZERO;
    }

    /// Whether no link is open or waits for the other side to close.
    pub fn is_closed(&self) -> bool {
        self.peers.iter().flatten().all(|p| p.link.is_half_open() || !p.link.has_met())
    }

    // ---- packets -------------------------------------------------------------------------------------------------

    /// Takes a packet that has arrived. It goes back to the port, now or later.
    pub fn receive(&mut self, now: Time, port: &mut dyn Port, packet: RxPacket) {
        if let Some(packet) = self.dispatch(now, port, packet) {
            port.recycle(packet);
        }
    }

    /// Returns the packet unless it was kept.
    fn dispatch(&mut self, now: Time, port: &mut dyn Port, packet: RxPacket) -> Option<RxPacket> {
        let fragments = port.fragments(&packet);
        let arrived = self.examine(&fragments, packet.len());
        drop(fragments);
        let Arrived { datagram, header, what, start, length } = match arrived {
            Ok(arrived) => arrived,
            Err(error) => {
                trace!(target: "vmmc::engine", %error, "packet refused");
                return Some(packet);
            }
        };
        let place = place_of(header.token);
        match what {
            What::Hello(hello) if header.kind == Kind::Hello => self.on_hello(now, port, &datagram, &hello),
            What::Hello(hello) => {
                let peer = self.peer_mut(header.token).filter(|p| p.link.peer() == datagram.source);
                match peer.map(|p| p.link.on_welcome(now, port, &header, &hello)) {
                    Some(true) => self.list(place),
                    Some(false) => {}
                    None => self.counters.rx_unknown += 1,
                }
            }
            What::Reset => self.on_reset(port, &datagram, &header),
            What::Unknown => self.send_reset(now, port, &datagram, &header),
            What::Link(sack) => {
                if !self.promote(now, port, header.token) {
                    return Some(packet);
                }
                self.list(place);
                // Before the handshake says where its numbers begin, nothing can be done with a packet.
                let Some(peer) = self.peers[place].as_deref_mut().filter(|p| p.link.has_met()) else {
                    self.counters.rx_unknown += 1;
                    return Some(packet);
                };
                let before = peer.link.progress();
                peer.link.on_packet(now, &header, sack, port);
                let mut left = Some(packet);
                if header.kind == Kind::Data {
                    left = left.and_then(|packet| {
                        let held = Held { packet, start, length };
                        self.on_data(now, port, place, &header, datagram.congestion, held)
                    });
                } else if header.kind == Kind::Close
                    && let Some(end) = peer.link.on_close(now, &header, port)
                {
                    self.end(header.token, end, port);
                }
                let moved = self.peer(header.token).is_some_and(|p| p.link.progress() != before);
                self.acknowledged += u64::from(moved);
                return left;
            }
        }
        Some(packet)
    }

    /// Finds out what a packet is, and whether it may be what it says. Counts what is wrong.
    fn examine(&mut self, fragments: &Fragments<'_>, total: usize) -> Result<Arrived, WireError> {
        let parse = || {
            let datagram = Datagram::parse(fragments.first().copied().unwrap_or_default(), total)?;
            let mut reader = Reader::new(fragments, datagram.start, datagram.length);
            let mut covered = reader.clone();
            covered.skip(CHECKSUM_LEN);
            let header = Header::parse(&reader.array::<HEADER_LEN>().ok_or(WireError::Truncated("header"))?)?;
            Ok((datagram, header, covered, reader))
        };
        let (datagram, header, covered, mut reader) =
            parse().inspect_err(|_: &WireError| self.counters.rx_malformed += 1)?;
        if datagram.destination != self.config.local {
            self.counters.rx_foreign += 1;
            return Err(WireError::Inconsistent("destination"));
        }
        if datagram.vlan != self.config.vlan {
            self.counters.rx_other_vlan += 1;
            return Err(WireError::Inconsistent("VLAN"));
        }
        let what = match header.kind {
            Kind::Hello | Kind::Welcome => {
                Self::parse_checked(&header, &covered).inspect_err(|_| self.counters.rx_damaged += 1)?;
                let hello = Self::parse_hello(&mut reader, datagram.destination.is_ipv6());
                What::Hello(hello.inspect_err(|_| self.counters.rx_malformed += 1)?)
            }
            Kind::Reset => {
                Self::parse_checked(&header, &covered).inspect_err(|_| self.counters.rx_damaged += 1)?;
                What::Reset
            }
            Kind::Data | Kind::Ack | Kind::Close => {
                match self.peer_mut(header.token).filter(|p| p.link.peer() == datagram.source) {
                    None => {
                        self.counters.rx_unknown += 1;
                        What::Unknown
                    }
                    Some(peer) => {
                        let checked = peer.link.check(&header, covered.slices());
                        checked.inspect_err(|_| self.counters.rx_damaged += 1)?;
                        let sack = Self::parse_sack(&header, &mut reader);
                        What::Link(sack.inspect_err(|_| self.counters.rx_malformed += 1)?)
                    }
                }
            }
        };
        let start = datagram.start + datagram.length - reader.remaining();
        Ok(Arrived { datagram, header, what, start, length: reader.remaining() })
    }

    /// What opens and resets links is always checked, whatever was agreed on.
    fn parse_checked(header: &Header, covered: &Reader<'_, '_>) -> Result<(), WireError> {
        if header.flags.checked { header.verify(covered.slices()) } else { Err(WireError::Checksum("missing")) }
    }

    /// The selective acknowledgements, of which only an ACK has any, and which are all that an ACK may hold.
    fn parse_sack(header: &Header, reader: &mut Reader<'_, '_>) -> Result<Option<Sack>, WireError> {
        let sack = match (header.flags.sack, header.kind) {
            (false, _) => None,
            (true, Kind::Ack) => Some(Sack::parse(reader)?),
            (true, _) => return Err(WireError::Inconsistent("flag of selective acknowledgement")),
        };
        if header.kind != Kind::Data && reader.remaining() > 0 {
            return Err(WireError::Inconsistent("length"));
        }
        Ok(sack)
    }

    fn parse_hello(reader: &mut Reader<'_, '_>, v6: bool) -> Result<Hello, WireError> {
        let length = HEADER_LEN + reader.remaining();
        let bytes = reader.array::<HELLO_LEN>().ok_or(WireError::Truncated("hello"))?;
        let hello = Hello::parse(&bytes)?;
        // The MTU field must tell the truth, or it would prove nothing.
        let headers = if v6 { 48 } else { 28 };
        if usize::from(hello.mtu) != headers + length {
            return Err(WireError::Inconsistent("MTU"));
        }
        Ok(hello)
    }

    fn on_hello(&mut self, now: Time, port: &mut dyn Port, datagram: &Datagram, hello: &Hello) {
        let established = self.by_address.get(&datagram.source).copied();
        let half_open = self.half_open.iter().copied();
        let known = established.into_iter().chain(half_open).find(|&token| {
            self.peer(token).is_some_and(|p| {
                p.link.peer() == datagram.source
                    && (p.link.knows(hello) || (Some(token) == established && !p.link.has_met()))
            })
        });
        let token = match known {
            Some(token) => token,
            None => match (!self.closing).then(|| self.accept(now, port, datagram, hello)).flatten() {
                Some(token) => token,
                None => {
                    self.counters.refused_hellos += 1;
                    return;
                }
            },
        };
        if let Some(peer) = self.peer_mut(token) {
            peer.link.meet(hello);
            peer.link.welcome(port, hello);
        }
    }

    /// Back where a packet came from.
    fn way_back(&self, datagram: &Datagram) -> Path {
        Path {
            local: self.config.local,
            remote: datagram.source,
            local_mac: self.config.mac,
            next_hop: datagram.source_mac,
            vlan: datagram.vlan,
        }
    }

    /// Makes a half-open link for a HELLO.
    fn accept(&mut self, now: Time, port: &mut dyn Port, datagram: &Datagram, hello: &Hello) -> Option<u64> {
        if self.half_open.len() >= MAX_HALF_OPEN {
            let oldest = self.half_open[0];
            self.end(oldest, LinkEnd::NoAnswer(Duration::ZERO), port);
        }
        let token = self.new_token()?;
        let path = self.way_back(datagram);
        let link = Link::accept(self.config.link, path, self.incarnation, token, hello, now).ok()?;
        self.deadline = self.deadline.min(link.deadline());
        self.peers[place_of(token)] = Some(Box::new(Peer::new(link)));
        self.half_open.push(token);
        Some(token)
    }

    /// If this is the first packet on a half-open link, its peer is really there, and this becomes the link to it. Returns
    /// whether the packet is to be processed.
    ///
    /// When both sides open at the same moment, each may have a link of its own making and one of the other's. Both
    /// then keep the one that the lower address made.
    fn promote(&mut self, now: Time, port: &mut dyn Port, token: u64) -> bool {
        let Some(new) = self.peer(token).filter(|p| p.link.is_half_open()) else { return true };
        let (address, incarnation) = (new.link.peer(), new.link.peer_incarnation());
        let local = self.config.local;
        if let Some(&old) = self.by_address.get(&address)
            && let Some(rival) = self.peer_mut(old)
        {
            let unopened = !rival.link.is_open();
            let twin = !unopened && rival.link.is_initiated() && rival.link.peer_incarnation() == incarnation;
            if twin && local < address {
                // Unless the peer has lost it: then it says so, and the next packet gets through.
                rival.link.doubt(now, port);
                self.list(place_of(old));
                return false;
            }
            if unopened || twin {
                self.move_requests(old, token);
            }
            self.end(old, LinkEnd::Restarted, port);
        }
        self.half_open.retain(|&t| t != token);
        self.by_address.insert(address, token);
        true
    }

    /// Imports that wait for an answer on one link ask again on another.
    fn move_requests(&mut self, from: u64, to: u64) {
        for (request, key, name) in self.imports.move_waiting(from, to) {
            let record = Record::Import { request, key: key.to_bytes(), name: name.len() as u16 };
            self.tell(to, record, name.as_bytes());
        }
    }

    fn on_reset(&mut self, port: &mut dyn Port, datagram: &Datagram, header: &Header) {
        let Some(&token) = self.by_address.get(&datagram.source) else {
            return;
        };
        if self.peer(token).is_some_and(|p| p.link.is_reset_by(header.token)) {
            self.end(token, LinkEnd::Restarted, port);
        }
    }

    /// Tells the sender of a packet that its token is unknown here; not too often, for it may be forged.
    fn send_reset(&mut self, now: Time, port: &mut dyn Port, datagram: &Datagram, header: &Header) {
        if now.since(self.resets.0) >= RESET_SPAN {
            self.resets = (now, 0);
        }
        if self.resets.1 == MAX_RESETS {
            return;
        }
        self.resets.1 += 1;
        let path = self.way_back(datagram);
        link::send_reset(&path, header.token, port);
    }

    /// Takes a DATA packet. Returns it unless it was kept.
    fn on_data(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        place: usize,
        header: &Header,
        congestion: bool,
        held: Held,
    ) -> Option<RxPacket> {
        let Some(peer) = self.peers[place].as_deref_mut() else {
            return Some(held.packet);
        };
        let (admission, sequence) = peer.link.admit(now, header, congestion);
        match admission {
            Admission::Refuse => Some(held.packet),
            Admission::Early => {
                if !peer.link.may_keep(port.rx_headroom().0) {
                    self.counters.rx_not_kept += 1;
                    return Some(held.packet);
                }
                peer.link.hold(sequence, held);
                None
            }
            Admission::Next => {
                if self.process(now, port, place, held) {
                    self.process_ready(now, port, place);
                }
                None
            }
        }
    }

    /// Processes the packets of a peer that wait and whose turn has come.
    fn process_ready(&mut self, now: Time, port: &mut dyn Port, place: usize) {
        while let Some(Some(peer)) = self.peers.get_mut(place)
            && let Some(held) = peer.link.take_ready()
            && self.process(now, port, place, held)
        {}
    }

    /// Processes the next packet of a peer. Returns false when it couldn't be processed to its end.
    fn process(&mut self, now: Time, port: &mut dyn Port, place: usize, held: Held) -> bool {
        let Some(peer) = self.peers[place].as_deref_mut() else {
            port.recycle(held.packet);
            return false;
        };
        let sequence = peer.link.expected();
        let fragments = port.fragments(&held.packet);
        let mut reader = Reader::new(&fragments, held.start, held.length);
        let result = peer.process(&mut reader, sequence, &mut self.exports, &mut self.imports, &mut self.counters);
        drop(fragments);
        match result {
            Ok(()) => {
                peer.link.advance(now);
                peer.blocked = false;
                port.recycle(held.packet);
                true
            }
            Err(Stop::Blocked(left)) => {
                peer.blocked = true;
                let start = held.start + held.length - left;
                peer.link.put_back(Held { packet: held.packet, start, length: left });
                false
            }
            Err(Stop::Violation(error)) => {
                port.recycle(held.packet);
                let token = peer.link.token();
                debug!(target: "vmmc::engine", peer = %peer.link.peer(), %error, "protocol violation");
                self.end(token, LinkEnd::Violation(error), port);
                false
            }
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    /// Sends what is due: acknowledgements and control records of peers that were just heard, and, when the deadline
    /// has come, whatever any link wants to do by now.
    pub fn tick(&mut self, now: Time, port: &mut dyn Port) {
        if now >= self.deadline {
            self.deadline = now + Duration::from_secs(3600);
            for place in 0..self.peers.len() {
                let Some(peer) = &mut self.peers[place] else { continue };
                let token = peer.link.token();
                let before = peer.link.progress();
                let end = peer.link.tick(now, port);
                self.acknowledged += u64::from(peer.link.progress() != before);
                match end {
                    Some(end) => self.end(token, end, port),
                    None => self.list(place),
                }
            }
        }
        while let Some(place) = self.listed.pop() {
            let Some(peer) = &mut self.peers[place] else { continue };
            peer.listed = false;
            if peer.blocked && peer.is_told() {
                self.process_ready(now, port, place);
            }
            let Some(peer) = &mut self.peers[place] else { continue };
            peer.relent(&mut self.exports);
            peer.seal(now, port);
            peer.pump(now, port);
            peer.link.acknowledge(now, port);
            // What couldn't be sent now is tried again when the peer or the port has moved.
            self.deadline = self.deadline.min(peer.link.deadline());
        }
    }

    /// When [`Engine::tick`] has something to do, packets that arrive apart.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Queues a control record for a peer.
    fn tell(&mut self, token: u64, record: Record, body: &[u8]) {
        if let Some(peer) = self.peer_mut(token) {
            peer.tell(record, body);
            self.list(place_of(token));
            self.deadline = Time::ZERO;
        }
    }
}
