//! Links: opened from here or from there, promoted once their peer has proved that it is there, ended.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::debug;

use super::bulk::Thresholds;
use super::peer::Peer;
use super::{Config, Engine, EngineError, PLACE_BITS, place_of};
use crate::link::{self, Link, LinkEnd};
use crate::log::{ShowMac, provoked};
use crate::port::Port;
use crate::time::Time;
use crate::wire::frame::{Datagram, Mac, Path};
use crate::wire::record::Record;
use crate::wire::{Header, Hello};

/// How many HELLOs are answered before their senders have proved that they are there.
const MAX_HALF_OPEN: usize = 64;

/// How many RESETs may be sent in [`RESET_SPAN`].
const MAX_RESETS: u32 = 32;
const RESET_SPAN: Duration = Duration::from_millis(10);

impl Engine {
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
        debug!(target: "vmmc::link", %peer, %local, next_hop = %ShowMac(next_hop), ?vlan, "opening a link");
        self.by_address.insert(peer, token);
        let bulk = self.lane.as_ref().map_or(Thresholds::NONE, |lane| lane.used.clone());
        self.peers[place_of(token)] = Some(Box::new(Peer::new(link, bulk)));
        self.timers.set(place_of(token), now);
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
    /// A link has ended: its imports fail, its packets go back.
    #[cold]
    pub(super) fn end(&mut self, token: u64, end: LinkEnd, port: &mut dyn Port) {
        if self.peer(token).is_none() {
            return;
        }
        let Some(mut peer) = self.peers[place_of(token)].take() else {
            return;
        };
        let address = peer.link.peer();
        let half_open = peer.link.is_half_open();
        if !half_open {
            let link::LinkCounters { tx_data, tx_retransmitted, timeouts, rx_data, rx_damaged, .. } =
                peer.link.counters();
            let (rtt, in_flight) = (peer.link.rtt().smoothed(), peer.link.in_flight());
            provoked!(INFO, target: "vmmc::link", peer = %address, %end, tx_data, tx_retransmitted, timeouts, rx_data, rx_damaged, ?rtt,
                in_flight, "link ended");
            self.counters.links_ended += 1;
        } else {
            provoked!(DEBUG, target: "vmmc::link", peer = %address, "who sent a HELLO has never used the link");
        }
        peer.clear(port);
        self.end_transfers(port, token, address.ip());
        peer.end_grants(&mut self.exports);
        if self.by_address.get(&address) == Some(&token) {
            self.by_address.remove(&address);
        }
        self.half_open.retain(|&t| t != token);
        if !half_open {
            self.imports.link_ended(token, address, end);
        }
    }

    /// Begins to close all links: each ends once what was sent on it is acknowledged.
    pub fn close(&mut self, now: Time) {
        self.closing = true;
        debug!(target: "vmmc::engine", links = self.by_address.len(), "closing all links");
        for (place, peer) in self.peers.iter_mut().enumerate() {
            if let Some(peer) = peer {
                // Others follow when that is done.
                if !peer.transfers.are_sending() {
                    peer.link.close(now);
                }
                self.timers.set(place, now);
            }
        }
    }

    /// Whether everything that was sent has been acknowledged.
    pub fn is_settled(&self) -> bool {
        self.peers
            .iter()
            .flatten()
            .all(|p| p.open.is_none() && p.is_told() && !p.transfers.are_sending() && p.link.in_flight() == 0)
    }

    /// Whether no link is open or waits for the other side to close.
    pub fn is_closed(&self) -> bool {
        self.peers.iter().flatten().all(|p| p.link.is_half_open() || !p.link.has_met())
    }

    #[cold]
    pub(super) fn on_hello(&mut self, now: Time, port: &mut dyn Port, datagram: &Datagram, hello: &Hello) {
        let established = self.by_address.get(&datagram.source).copied();
        let half_open = self.half_open.iter().copied();
        let known = established.into_iter().chain(half_open).find(|&token| {
            self.peer(token).is_some_and(|p| {
                p.link.peer() == datagram.source
                    && (p.link.knows(hello) || (Some(token) == established && !p.link.has_met()))
            })
        });
        // Checksums don't cover Ethernet's headers: the first HELLO's may have been damaged, and the answer have gone to nobody.
        let astray = known.filter(|&token| {
            self.peer(token).is_some_and(|p| p.link.is_half_open() && p.link.path().next_hop != datagram.source_mac)
        });
        if let Some(token) = astray {
            self.end(token, LinkEnd::NoAnswer(Duration::ZERO), port);
        }
        let token = match known.filter(|_| astray.is_none()) {
            Some(token) => token,
            None => match (!self.closing).then(|| self.accept(now, port, datagram, hello)).flatten() {
                Some(token) => token,
                None => {
                    self.counters.refused_hellos += 1;
                    let (peer, closing) = (datagram.source, self.closing);
                    provoked!(DEBUG, target: "vmmc::link", %peer, closing, "HELLO refused: closing, or as many peers as max_peers allows");
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
        self.timers.set(place_of(token), link.deadline());
        let bulk = self.lane.as_ref().map_or(Thresholds::NONE, |lane| lane.used.clone());
        self.peers[place_of(token)] = Some(Box::new(Peer::new(link, bulk)));
        self.half_open.push(token);
        Some(token)
    }

    /// If this is the first packet on a half-open link, its peer is really there, and this becomes the link to it. Returns
    /// whether the packet is to be processed.
    ///
    /// When both sides open at the same moment, each may have a link of its own making and one of the other's. Both
    /// then keep the one that the lower address made.
    pub(super) fn promote(&mut self, now: Time, port: &mut dyn Port, token: u64) -> bool {
        let Some(new) = self.peer(token).filter(|p| p.link.is_half_open()) else { return true };
        let (address, incarnation) = (new.link.peer(), new.link.peer_incarnation());
        let local = self.config.local;
        if let Some(&old) = self.by_address.get(&address)
            && let Some(rival) = self.peer_mut(old)
        {
            let unopened = !rival.link.is_open();
            let twin = !unopened && rival.link.is_initiated() && rival.link.peer_incarnation() == incarnation;
            if twin && local < address {
                provoked!(DEBUG, target: "vmmc::link", peer = %address, "both sides have opened a link: keeping the one made here");
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

    #[cold]
    pub(super) fn on_reset(&mut self, port: &mut dyn Port, datagram: &Datagram, header: &Header) {
        let Some(&token) = self.by_address.get(&datagram.source) else {
            return;
        };
        if self.peer(token).is_some_and(|p| p.link.is_reset_by(header.token)) {
            provoked!(DEBUG, target: "vmmc::link", peer = %datagram.source, "RESET: the peer doesn't know this link");
            self.end(token, LinkEnd::Restarted, port);
        }
    }

    /// Tells the sender of a packet that its token is unknown here; not too often, for it may be forged.
    #[cold]
    pub(super) fn send_reset(&mut self, now: Time, port: &mut dyn Port, datagram: &Datagram, header: &Header) {
        if now.since(self.resets.0) >= RESET_SPAN {
            self.resets = (now, 0);
        }
        if self.resets.1 == MAX_RESETS {
            return;
        }
        self.resets.1 += 1;
        provoked!(DEBUG, target: "vmmc::link", peer = %datagram.source, kind = ?header.kind, "packet for a link there isn't: sending RESET");
        let path = self.way_back(datagram);
        link::send_reset(&path, header.token, port);
    }
}
