//! The wire, the network card and the program in front of the lane, as they may behave at worst.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use fastrand::Rng;
use proptest::prelude::*;

/// How likely is what, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub loss: f64,
    pub twice: f64,
    pub late: f64,
    pub damage: f64,
    /// A frame that isn't of the lane, which the card writes all the same, before it gives the place back for later.
    pub stray: f64,
    /// A packet that the kernel drops after the program has let it in.
    pub dropped: f64,
    pub reopen: f64,
}

/// Mostly none of a fault, else up to `most`.
fn fault(most: f64) -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(0.0), 3 => 0.0..most]
}

prop_compose! {
    pub fn faults()(
        loss in fault(0.3), twice in fault(0.2), late in fault(0.3), damage in fault(0.2),
        stray in fault(0.2), dropped in fault(0.02), reopen in fault(0.003),
    ) -> Faults {
        Faults { loss, twice, late, damage, stray, dropped, reopen }
    }
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub peer: u64,
    pub grant: u32,
    pub segment: u32,
    pub checksum: u64,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn new(peer: u64, grant: u32, segment: u32, payload: Vec<u8>) -> Packet {
        Packet { peer, grant, segment, checksum: checksum(segment, &payload), payload }
    }
}

/// Of what a packet's checksum is, near enough.
pub fn checksum(segment: u32, payload: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ u64::from(segment);
    for &byte in payload {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Packets under way, by when they arrive.
#[derive(Default)]
pub struct Wire {
    packets: BTreeMap<(u64, u64), Packet>,
    sent: u64,
}

impl Wire {
    pub fn send(&mut self, now: u64, rng: &mut Rng, faults: &Faults, mut packet: Packet) {
        if rng.f64() < faults.loss {
            return;
        }
        if rng.f64() < faults.damage {
            match rng.bool() {
                true => packet.segment = rng.u32(..) >> rng.u8(0..32),
                false => *rng.choice(&mut packet.payload).unwrap() ^= 1 << rng.u8(0..8),
            }
        }
        for _ in 0..if rng.f64() < faults.twice { 2 } else { 1 } {
            let delay = if rng.f64() < faults.late { rng.u64(1..80) } else { 5 };
            self.sent += 1;
            self.packets.insert((now + delay, self.sent), packet.clone());
        }
    }

    pub fn arrived(&mut self, now: u64) -> Option<Packet> {
        let first = self.packets.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// What has landed, as the lane would say.
pub struct Landing {
    pub place: u64,
    pub grant: u32,
    pub segment: u32,
    pub checksum: u64,
}

/// The receiving half of a lane. Every place is as long as every other.
pub struct Lane {
    pub overlap: usize,
    /// The fill ring: the numbers of places and their addresses, in the order in which the card uses them.
    fill: VecDeque<(u64, usize)>,
    /// Whose packets the program lets in: of which peer and grant, by number of the place.
    runs: Vec<(u64, u32)>,
    used: u64,
    /// What the program has written down of what it let in, and the places that packets have landed in: the first goes with the first.
    log: VecDeque<(u32, u32, u64)>,
    landed: VecDeque<u64>,
    pub consistent: bool,
    pub reopened: u64,
}

impl Lane {
    pub fn new(overlap: usize) -> Lane {
        Lane {
            overlap,
            fill: VecDeque::new(),
            runs: Vec::new(),
            used: 0,
            log: VecDeque::new(),
            landed: VecDeque::new(),
            consistent: true,
            reopened: 0,
        }
    }

    pub fn post(&mut self, peer: u64, grant: u32, address: usize) -> u64 {
        let place = self.runs.len() as u64;
        self.runs.push((peer, grant));
        self.fill.push_back((place, address));
        place
    }

    /// A packet comes in from the wire. Only this writes to the memory.
    pub fn arrive(&mut self, rng: &mut Rng, faults: &Faults, memory: &mut [u8], packet: &Packet) {
        if self.overlap > 0 && rng.f64() < faults.stray {
            self.stray(rng, memory, packet.payload.len());
        }
        if self.runs.get(self.used as usize) != Some(&(packet.peer, packet.grant)) || self.fill.is_empty() {
            if self.overlap > 0 {
                self.stray(rng, memory, packet.payload.len());
            }
            return;
        }
        self.used += 1;
        self.log.push_back((packet.grant, packet.segment, packet.checksum));
        if self.overlap == 0 && rng.f64() < faults.dropped {
            self.consistent = false;
            return;
        }
        let (place, address) = self.fill.pop_front().unwrap();
        self.headers(rng, memory, address);
        memory[address..address + packet.payload.len()].copy_from_slice(&packet.payload);
        self.landed.push_back(place);
    }

    /// The card writes before any program runs. When the program drops the frame, the place is used again, now or later.
    fn stray(&mut self, rng: &mut Rng, memory: &mut [u8], len: usize) {
        let Some(&(place, address)) = self.fill.front() else { return };
        self.headers(rng, memory, address);
        let written = rng.usize(0..=len);
        rng.fill(&mut memory[address..address + written]);
        if rng.bool() {
            self.fill.pop_front();
            let later = rng.usize(0..=self.fill.len().min(4));
            self.fill.insert(later, (place, address));
        }
    }

    fn headers(&self, rng: &mut Rng, memory: &mut [u8], address: usize) {
        rng.fill(&mut memory[address - self.overlap..address]);
    }

    pub fn receive(&mut self) -> Vec<Landing> {
        let landed = self.landed.drain(..).collect::<Vec<_>>();
        landed
            .into_iter()
            .map(|place| {
                let (grant, segment, checksum) = self.log.pop_front().unwrap();
                Landing { place, grant, segment, checksum }
            })
            .collect()
    }

    pub fn reopen(&mut self) {
        self.fill.clear();
        self.log.clear();
        self.landed.clear();
        // Numbers go on behind those used: others are given again.
        self.runs.truncate(self.used as usize);
        self.consistent = true;
        self.reopened += 1;
    }
}

/// What is told by records, reliably and in order.
#[derive(Debug)]
pub enum Record {
    Put { at: usize, bytes: Vec<u8> },
    Bulk { transfer: u32, at: usize, segments: u32 },
    Granted { transfer: u32, grant: u32 },
    Declined { transfer: u32 },
    Landed { grant: u32, count: u32 },
    Missing { grant: u32, ranges: Vec<Range<u32>> },
    Done { transfer: u32 },
}

#[derive(Default)]
pub struct Records(pub VecDeque<(u64, Record)>);

impl Records {
    pub fn send(&mut self, now: u64, record: Record) {
        self.0.push_back((now + 7, record));
    }

    pub fn next(&mut self, now: u64) -> Option<Record> {
        if self.0.front()?.0 > now {
            return None;
        }
        self.0.pop_front().map(|(_, record)| record)
    }
}
