//! What happens to a packet that arrives: it is examined, handed to the link it is for, and its records are processed when its
//! turn has come.

use super::peer::Stop;
use super::{Engine, place_of};
use crate::link::{Admission, Arrival, Held, LinkEnd};
use crate::log::provoked;
use crate::port::{Port, RxPacket};
use crate::time::Time;
use crate::wire::frame::Datagram;
use crate::wire::{CHECKSUM_LEN, Fragments, HEADER_LEN, HELLO_LEN, Header, Hello, Kind, Reader, Sack, WireError};

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
    /// For the link its token names. Selective acknowledgements that it has are in the engine's `sack`.
    Link { sack: bool },
    /// For no link there is.
    Unknown,
}

impl Engine {
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
                provoked!(TRACE, target: "vmmc::engine", %error, length = packet.len(), "packet refused");
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
            What::Link { sack } => {
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
                peer.heard_late = self.late || header.flags.late;
                peer.link.on_packet(now, &header, sack.then_some(&self.sack), self.late, port);
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
                        let plain = header.kind == Kind::Data && !header.flags.sack;
                        let sack = if plain { Ok(false) } else { self.parse_sack(&header, &mut reader) };
                        What::Link { sack: sack.inspect_err(|_| self.counters.rx_malformed += 1)? }
                    }
                }
            }
        };
        let start = datagram.start + datagram.length - reader.remaining();
        Ok(Arrived { datagram, header, what, start, length: reader.remaining() })
    }

    /// What opens and resets links is always checked, whatever was agreed on.
    #[cold]
    fn parse_checked(header: &Header, covered: &Reader<'_, '_>) -> Result<(), WireError> {
        if header.flags.checked { header.verify(covered.slices()) } else { Err(WireError::Checksum("missing")) }
    }

    /// The selective acknowledgements, of which only an ACK has any, and which are all that an ACK may hold.
    /// Returns whether there are any.
    #[inline(never)]
    fn parse_sack(&mut self, header: &Header, reader: &mut Reader<'_, '_>) -> Result<bool, WireError> {
        match (header.flags.sack, header.kind) {
            (false, _) => {}
            (true, Kind::Ack) => self.sack = Sack::parse(reader)?,
            (true, _) => return Err(WireError::Inconsistent("flag of selective acknowledgement")),
        }
        if header.kind != Kind::Data && reader.remaining() > 0 {
            return Err(WireError::Inconsistent("length"));
        }
        Ok(header.flags.sack)
    }

    #[cold]
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
        let arrival = Arrival { marked: congestion, late: self.late };
        let (admission, sequence) = peer.link.admit(now, header, arrival);
        match admission {
            Admission::Refuse => Some(held.packet),
            Admission::Early => {
                if !peer.link.may_keep(port.rx_headroom()) {
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
    pub(super) fn process_ready(&mut self, now: Time, port: &mut dyn Port, place: usize) {
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
                peer.link.advance(now, held.packet.len());
                peer.blocked = false;
                port.recycle(held.packet);
                if peer.heard_transfers.is_empty() {
                    return true;
                }
                let token = peer.link.token();
                let heard = self.hear_transfers(now, port, place);
                if let Err(error) = heard {
                    provoked!(DEBUG, target: "vmmc::engine", %error, "protocol violation");
                    self.end(token, LinkEnd::Violation(error), port);
                    return false;
                }
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
                provoked!(DEBUG, target: "vmmc::engine", peer = %peer.link.peer(), %error, "protocol violation");
                self.end(token, LinkEnd::Violation(error), port);
                false
            }
        }
    }
}
