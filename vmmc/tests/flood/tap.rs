//! A port whose wire can be listened to.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use vmmc::port::{Descriptors, Port, PortCounters, RxPacket, TxPacket};
use vmmc::wire::{Fragments, Header, Kind};

/// Where in a frame the packet begins: after Ethernet, IPv4 and UDP.
pub const PACKET: usize = 42;
/// How many frames are remembered: the last.
const FRAMES: usize = 256;

/// What has gone by, for whoever listens. Cloning it makes another handle.
#[derive(Clone, Default)]
pub struct Tapped(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    frames: VecDeque<Vec<u8>>,
    /// Those of handshakes, which come first.
    hellos: Vec<Vec<u8>>,
    /// Of all packets that belong to a link.
    tokens: BTreeSet<u64>,
}

impl Tapped {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    fn keep(&self, frame: Vec<u8>) {
        let Ok(header) = Header::parse(&frame[PACKET..]) else { return };
        let mut seen = self.seen();
        match header.kind {
            Kind::Hello if seen.hellos.len() < FRAMES => seen.hellos.push(frame),
            Kind::Data | Kind::Ack => {
                seen.tokens.insert(header.token);
                if seen.frames.len() == FRAMES {
                    seen.frames.pop_front();
                }
                seen.frames.push_back(frame);
            }
            // Answers to what was forged.
            _ => {}
        }
    }

    /// How many links there have been.
    pub fn tokens(&self) -> usize {
        self.seen().tokens.len()
    }

    /// One of the frames that have gone by.
    pub fn any(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let seen = self.seen();
        let (hellos, frames) = (seen.hellos.len(), seen.frames.len());
        let at = random.usize(..hellos + frames);
        seen.hellos.get(at).unwrap_or_else(|| &seen.frames[at - hellos]).clone()
    }
}

struct Tap {
    port: Box<dyn Port>,
    tapped: Tapped,
}

/// Listens to what a port sends.
pub fn tap(port: Box<dyn Port>) -> (Box<dyn Port>, Tapped) {
    let tapped = Tapped::default();
    (Box::new(Tap { port, tapped: tapped.clone() }), tapped)
}

impl Port for Tap {
    fn max_frame(&self) -> usize {
        self.port.max_frame()
    }

    fn rx_capacity(&self) -> usize {
        self.port.rx_capacity()
    }

    fn rx_headroom(&self) -> usize {
        self.port.rx_headroom()
    }

    fn tx_headroom(&self) -> usize {
        self.port.tx_headroom()
    }

    fn alloc(&mut self, space: usize) -> Option<TxPacket> {
        self.port.alloc(space)
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        self.port.append(packet, bytes)
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        self.port.head(packet)
    }

    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>> {
        self.port.contents(packet)
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        let frame = self.port.contents(packet).map(|fragments| fragments.concat());
        let sent = self.port.submit(packet);
        if let Some(frame) = frame.filter(|_| sent) {
            self.tapped.keep(frame);
        }
        sent
    }

    fn free(&mut self, packet: TxPacket) {
        self.port.free(packet);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.port.flush()
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        self.port.receive(batch)
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        self.port.fragments(packet)
    }

    fn recycle(&mut self, packet: RxPacket) {
        self.port.recycle(packet);
    }

    fn readable(&self) -> Descriptors<'_> {
        self.port.readable()
    }

    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
}
