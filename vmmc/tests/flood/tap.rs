//! A port whose wire can be listened to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use vmmc::port::{Layer, Port, TxPacket};
use vmmc::wire::{Header, Kind};

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

impl Layer for Tap {
    fn inner(&self) -> &dyn Port {
        &*self.port
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut *self.port
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        let frame = self.port.contents(packet).map(|fragments| fragments.concat());
        let sent = self.port.submit(packet);
        if let Some(frame) = frame.filter(|_| sent) {
            self.tapped.keep(frame);
        }
        sent
    }
}
