//! Faults in what is sent.
//!
//! The packet itself is never written: its sender keeps it, to send it again whole. What is damaged, repeated or held back is
//! a copy. Those that are held wait on the heap and take no frames from the port, which may have none to spare.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::fate::{Fate, Fates};
use super::{COPIES, FaultCounters, Faults};
use crate::port::{Port, TxPacket};

pub(super) struct Sending {
    fates: Fates,
    delay: Duration,
    /// Packets held back, and until when. All are held equally long, so the first is due first.
    held: VecDeque<(Instant, Vec<u8>)>,
    pub counters: FaultCounters,
}

impl Sending {
    pub fn new(faults: &Faults) -> Sending {
        let fates = Fates::new(faults.on_sending(), faults.seed);
        Sending { fates, delay: faults.delay, held: VecDeque::new(), counters: FaultCounters::default() }
    }

    /// When something is to be released.
    pub fn due(&self) -> Option<Instant> {
        self.held.front().map(|(due, _)| *due)
    }

    /// Lets a packet meet its fate. Returns false when it can't be queued now.
    pub fn submit(&mut self, port: &mut dyn Port, packet: &TxPacket) -> bool {
        let sent = self.send(port, packet, self.fates.next);
        if sent {
            self.fates.advance();
        }
        sent
    }

    fn send(&mut self, port: &mut dyn Port, packet: &TxPacket, fate: Fate) -> bool {
        if fate.dropped {
            self.counters.dropped += 1;
            return true;
        }
        if fate == Fate::default() {
            return port.submit(packet);
        }
        // The look at its head lets the port notice that the kernel is done with the packet.
        if port.head(packet).is_none() {
            return false;
        }
        let Some(mut bytes) = port.contents(packet).map(|fragments| fragments.concat()) else {
            return false;
        };
        let corrupted = fate.damage(&mut bytes);
        let copies = 1 + usize::from(fate.twice);
        if fate.held && self.held.len() + copies <= COPIES {
            let due = Instant::now() + self.delay;
            self.held.extend(std::iter::repeat_n((due, bytes), copies));
            self.counters.delayed += 1;
            self.counters.corrupted += u64::from(corrupted);
            self.counters.duplicated += u64::from(fate.twice);
            return true;
        }
        let damaged = corrupted && send_copy(port, &bytes);
        if !damaged && !port.submit(packet) {
            return false;
        }
        let no_room = damaged != corrupted;
        let repeated = fate.twice && !no_room && send_copy(port, &bytes);
        self.counters.corrupted += u64::from(damaged);
        self.counters.duplicated += u64::from(repeated);
        self.counters.spared += u64::from(fate.held || no_room || repeated != fate.twice);
        true
    }

    /// Submits what is due. Returns whether there was any.
    pub fn release(&mut self, port: &mut dyn Port) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let (now, before) = (Instant::now(), self.held.len());
        // Without room it stays the first, and is tried again.
        while self.held.front().is_some_and(|(due, bytes)| *due <= now && send_copy(port, bytes)) {
            self.held.pop_front();
        }
        self.held.len() < before
    }
}

/// Submits a packet of its own with these bytes. Returns false when the port has no room for it.
fn send_copy(port: &mut dyn Port, bytes: &[u8]) -> bool {
    let Some(mut copy) = port.alloc(0) else { return false };
    let sent = port.append(&mut copy, bytes) == bytes.len() && port.submit(&copy);
    port.free(copy);
    sent
}
