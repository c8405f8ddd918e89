//! The attacker: frames of all kinds, out of an AF_XDP socket of its own.
//!
//! A method is one frame, to one of the two hosts, in the name of the other or of nobody.

use std::net::SocketAddr;
use std::time::Duration;

use vmmc::DEFAULT_PORT;
use vmmc::port::Port;
use vmmc::port::eager::EagerPort;
use vmmc::wire::frame::Path;
use vmmc::wire::record::Record;
use vmmc::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Hello, Kind, checksum};
use vmmc_lab::Host;

use crate::tap::{PACKET, Tapped};

/// What one packet may have behind its headers.
const MOST: usize = 1500 - 28;
/// Frames put into the TX ring before the kernel is told.
const BATCH: u64 = 32;

pub struct Attacker<'a> {
    port: EagerPort,
    mac: [u8; 6],
    hosts: [&'a Host; 2],
    /// What each of them sends.
    tapped: [&'a Tapped; 2],
    sent: u64,
    pause: Duration,
}

impl<'a> Attacker<'a> {
    /// One that pauses after every batch of frames.
    pub fn new(own: &Host, hosts: [&'a Host; 2], tapped: [&'a Tapped; 2], pause: Duration) -> Attacker<'a> {
        let port = EagerPort::open(&own.interface, &[0], 1500).expect("the attacker needs an AF_XDP socket");
        Attacker { port, mac: own.mac, hosts, tapped, sent: 0, pause }
    }

    /// How many frames it has sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn send(&mut self, frame: &[u8]) {
        let mut packet = loop {
            match self.port.alloc(0) {
                Some(packet) => break packet,
                None => self.port.flush().unwrap(),
            }
        };
        self.port.append(&mut packet, frame);
        while !self.port.submit(&packet) {
            self.port.flush().unwrap();
        }
        self.port.free(packet);
        self.sent += 1;
        if self.sent.is_multiple_of(BATCH) {
            self.port.flush().unwrap();
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
        }
    }

    fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::new(self.hosts[host].address.into(), DEFAULT_PORT)
    }

    /// Sends a datagram to one of the hosts.
    fn datagram(&mut self, to: usize, source: SocketAddr, payload: &[u8]) {
        let (remote, next_hop) = (self.address(to), self.hosts[to].mac);
        let path = Path { local: source, remote, local_mac: self.mac, next_hop, vlan: None };
        let encap = path.encap().unwrap();
        let mut frame = vec![0; encap.len()];
        encap.write(&mut frame, payload.len());
        frame.extend_from_slice(payload);
        self.send(&frame);
    }

    /// Sends a packet to one of the hosts, with a right checksum.
    fn packet(&mut self, to: usize, source: SocketAddr, header: Header, body: &[u8]) {
        let header = Header { flags: Flags { checked: true, ..header.flags }, ..header };
        let header = Header { checksum: checksum([&header.emit()[CHECKSUM_LEN..], body]), ..header };
        self.datagram(to, source, &[&header.emit()[..], body].concat());
    }

    /// A frame of one host to the other as it has gone by, but for its source.
    fn genuine(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut frame = self.tapped[random.usize(..2)].any(random);
        frame[6..12].copy_from_slice(&self.mac);
        frame
    }

    /// Random bytes. Some begin like a packet of ours.
    pub fn garbage(&mut self, random: &mut fastrand::Rng) {
        let mut bytes = vec![0; random.usize(..=MOST)];
        random.fill(&mut bytes);
        if random.bool() && bytes.len() > 8 {
            bytes[4..8].copy_from_slice(&[2, random.u8(1..=6), 4, 0]);
        }
        let source = if random.bool() { self.address(0) } else { SocketAddr::from(([10, 77, 0, 3], DEFAULT_PORT)) };
        self.datagram(1, source, &bytes);
    }

    /// A packet in the peer's name, with a token that no link has.
    pub fn wrong_tokens(&mut self, random: &mut fastrand::Rng) {
        let to = random.usize(..2);
        let kinds = [Kind::Data, Kind::Ack, Kind::Close, Kind::Welcome];
        let kind = kinds[random.usize(..kinds.len())];
        let put = Record::Put { grant: random.u32(..), offset: random.u64(..1000), length: 4, notify: None };
        let body = if kind == Kind::Data { [put.emit().as_ref(), b"evil"].concat() } else { Vec::new() };
        // Half of them for a place in the table where there may be a link.
        let token = if random.bool() { random.u64(..) } else { random.u64(..) & !0xffff | random.u64(..3) };
        let header = Header { kind, token, sequence: random.u32(..), ack: random.u32(..), ..Header::default() };
        self.packet(to, self.address(1 - to), header, &body);
    }

    /// What was sent before, once more.
    pub fn replay(&mut self, random: &mut fastrand::Rng) {
        let frame = self.genuine(random);
        self.send(&frame);
    }

    /// What was sent before, with one bit turned over.
    pub fn damaged(&mut self, random: &mut fastrand::Rng) {
        let mut frame = self.genuine(random);
        let at = random.usize(14..frame.len());
        frame[at] ^= 1 << random.u8(..8);
        self.send(&frame);
    }

    /// The start of what was sent before. What its headers say of its length is right in half of them.
    pub fn truncated(&mut self, random: &mut fastrand::Rng) {
        let frame = self.genuine(random);
        let to = usize::from(frame[..6] == self.hosts[1].mac);
        if random.bool() {
            let source = self.address(1 - to);
            let length = random.usize(..frame.len() - PACKET);
            return self.datagram(to, source, &frame[PACKET..PACKET + length]);
        }
        self.send(&frame[..random.usize(14..frame.len())]);
    }

    /// What was sent before, and more: up to a few bytes more than an IP packet may have here, and headers that promise
    /// what isn't there.
    pub fn oversized(&mut self, random: &mut fastrand::Rng) {
        let mut frame = self.genuine(random);
        let to = usize::from(frame[..6] == self.hosts[1].mac);
        match random.u8(..3) {
            0 => {
                let mut payload = frame[PACKET..].to_vec();
                payload.resize(MOST + random.usize(1..=4), 7);
                return self.datagram(to, self.address(1 - to), &payload);
            }
            1 => frame.resize(1518, 7),
            _ => {
                // The datagram's length alone: that of the IP packet has a checksum.
                let length = random.u16(1500..);
                frame[38..40].copy_from_slice(&length.to_be_bytes());
            }
        }
        self.send(&frame);
    }

    /// Somebody who wants to open a link, from thousands of addresses, the peer's among them.
    pub fn hello(&mut self, random: &mut fastrand::Rng) {
        let to = random.usize(..2);
        let source = match random.u8(..10) {
            0 => self.address(1 - to),
            _ => SocketAddr::from(([10, 77, random.u8(1..40), random.u8(1..255)], random.u16(1..))),
        };
        let mtu = random.u16(1280..=1500);
        let hello = Hello { incarnation: random.u64(..), token: random.u64(1..), mtu, ..Hello::default() };
        let mut body = hello.emit().to_vec();
        body.resize(usize::from(mtu) - 28 - HEADER_LEN, 0);
        self.packet(to, source, Header { kind: Kind::Hello, ..Header::default() }, &body);
    }

    /// A RESET in the peer's name, for a guessed token.
    pub fn reset(&mut self, random: &mut fastrand::Rng) {
        let to = random.usize(..2);
        let token = if random.bool() { random.u64(..) } else { random.u64(..) & !0xffff | random.u64(..3) };
        self.packet(to, self.address(1 - to), Header { kind: Kind::Reset, token, ..Header::default() }, &[]);
    }
}
