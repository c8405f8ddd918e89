//! Faults in what is received.
//!
//! A packet that has arrived lies in memory that is the NIC's again as soon as it is given back, and it isn't written here at
//! all. What is damaged, repeated or held back is a copy, which is handed out as a packet of the injector's own; the original of one that is
//! damaged or held goes back to the port at once. So the port's receive memory is in use no longer than without faults, and
//! however many packets are held back it can't run short for that.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::fate::{Fate, Fates};
use super::{COPIES, FaultCounters, Faults};
use crate::port::{Port, PortId, RxPacket};
use crate::wire::Fragments;

/// The most held packets that are let out in one go, as a port hands out no more from a queue.
const BATCH: usize = 64;

pub(super) struct Receiving {
    /// By which the packets are known that are copies.
    id: PortId,
    fates: Fates,
    delay: Duration,
    copies: Copies,
    /// Copies held back, and until when: the first is due first.
    held: VecDeque<(Instant, RxPacket)>,
    /// What has just arrived.
    arrived: Vec<RxPacket>,
    pub counters: FaultCounters,
}

/// The bytes of the copies there are, by number, and the numbers that are free.
#[derive(Default)]
struct Copies {
    bytes: Vec<Vec<u8>>,
    free: Vec<u32>,
}

impl Receiving {
    pub fn new(faults: &Faults) -> Receiving {
        Receiving {
            id: PortId::new(),
            // Other fates than those of what is sent.
            fates: Fates::new(faults.on_receiving(), !faults.seed),
            delay: faults.delay,
            copies: Copies::default(),
            held: VecDeque::new(),
            arrived: Vec::new(),
            counters: FaultCounters::default(),
        }
    }

    /// When something is to be released.
    pub fn due(&self) -> Option<Instant> {
        self.held.front().map(|(due, _)| *due)
    }

    /// Lets what has arrived meet its fate, after what has been held back until now.
    pub fn receive(&mut self, port: &mut dyn Port, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        self.release(batch);
        let mut arrived = std::mem::take(&mut self.arrived);
        let received = port.receive(&mut arrived);
        for packet in arrived.drain(..) {
            let fate = self.fates.advance();
            self.meet(fate, port, packet, batch);
        }
        self.arrived = arrived;
        received
    }

    fn release(&mut self, batch: &mut Vec<RxPacket>) {
        if self.held.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..BATCH {
            match self.held.pop_front() {
                Some((due, packet)) if due <= now => batch.push(packet),
                Some(early) => return self.held.push_front(early),
                None => return,
            }
        }
    }

    fn meet(&mut self, fate: Fate, port: &mut dyn Port, packet: RxPacket, batch: &mut Vec<RxPacket>) {
        if fate.dropped {
            self.counters.dropped += 1;
            return port.recycle(packet);
        }
        let replaced = fate.held || fate.corrupted.is_some();
        let needed = usize::from(replaced) + usize::from(fate.twice);
        if needed > self.room() {
            self.counters.spared += 1;
            return batch.push(packet);
        }
        if needed == 0 {
            return batch.push(packet);
        }
        let mut bytes = port.fragments(&packet).concat();
        let corrupted = fate.damage(&mut bytes);
        let repeated = fate.twice.then(|| self.copy(bytes.clone()));
        let packet = if replaced {
            port.recycle(packet);
            self.copy(bytes)
        } else {
            packet
        };
        let packets = std::iter::once(packet).chain(repeated);
        if fate.held {
            let due = Instant::now() + self.delay;
            self.held.extend(packets.map(|packet| (due, packet)));
        } else {
            batch.extend(packets);
        }
        self.counters.delayed += u64::from(fate.held);
        self.counters.corrupted += u64::from(corrupted);
        self.counters.duplicated += u64::from(fate.twice);
    }

    fn copy(&mut self, bytes: Vec<u8>) -> RxPacket {
        let len = bytes.len() as u32;
        RxPacket { port: self.id, first: self.copies.insert(bytes), len }
    }

    /// How many more copies there may be.
    pub fn room(&self) -> usize {
        COPIES - self.copies.bytes.len() + self.copies.free.len()
    }

    /// The bytes of a packet, if it is a copy.
    pub fn fragments(&self, packet: &RxPacket) -> Option<Fragments<'_>> {
        (packet.port == self.id).then(|| [self.copies.bytes[packet.first as usize].as_slice()].into_iter().collect())
    }

    /// Takes a packet back, if it is a copy; otherwise returns it.
    pub fn recycle(&mut self, packet: RxPacket) -> Option<RxPacket> {
        if packet.port != self.id {
            return Some(packet);
        }
        self.copies.remove(packet.first);
        None
    }
}

impl Copies {
    /// There must be room.
    fn insert(&mut self, bytes: Vec<u8>) -> u32 {
        if let Some(number) = self.free.pop() {
            self.bytes[number as usize] = bytes;
            return number;
        }
        self.bytes.push(bytes);
        self.bytes.len() as u32 - 1
    }

    fn remove(&mut self, number: u32) {
        self.bytes[number as usize] = Vec::new();
        self.free.push(number);
    }
}
