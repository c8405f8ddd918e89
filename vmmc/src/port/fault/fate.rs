//! What becomes of each packet: decided by the seed, before the packet is known.

use super::Faults;
use crate::wire::frame::{ETHERNET_LEN, VLAN_LEN};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fate {
    pub dropped: bool,
    pub twice: bool,
    pub held: bool,
    /// Which bit is turned over, as a share of its length.
    pub corrupted: Option<f64>,
}

/// The fates of one packet after the other.
pub(super) struct Fates {
    faults: Faults,
    random: fastrand::Rng,
    /// That of the next packet. One that can't be queued now meets with the same when it is tried again.
    pub next: Fate,
}

impl Fates {
    pub fn new(faults: Faults, seed: u64) -> Fates {
        let mut fates = Fates { faults, random: fastrand::Rng::with_seed(seed), next: Fate::default() };
        fates.advance();
        fates
    }

    /// To the next packet. Returns the fate of this one.
    ///
    /// Draws as many numbers for each packet, whatever the shares are: that one fault is made more often doesn't move the others.
    pub fn advance(&mut self) -> Fate {
        let Fates { faults, random, .. } = self;
        let mut chance = |share| random.f64() < share;
        let (dropped, twice, held) = (chance(faults.drop), chance(faults.duplicate), chance(faults.reorder));
        let corrupted = chance(faults.corrupt);
        let place = random.f64();
        let next = Fate { dropped, twice, held, corrupted: corrupted.then_some(place) };
        std::mem::replace(&mut self.next, next)
    }
}

impl Fate {
    /// Turns over a bit of a frame, if it is to be damaged. Returns whether it was: one that is all header is not.
    ///
    /// The Ethernet header and a VLAN tag are spared. Damaged they would lead into other hosts, or the switches, and it
    /// isn't them who asked for faults.
    pub fn damage(&self, frame: &mut [u8]) -> bool {
        let tagged = frame.get(12..14) == Some(&[0x81, 0x00]);
        let spared = if tagged { ETHERNET_LEN + VLAN_LEN } else { ETHERNET_LEN };
        let end = frame.len();
        self.damage_any(&mut frame[spared.min(end)..])
    }

    /// Turns over any bit of these bytes, if there is to be damage. Returns whether it was done.
    pub fn damage_any(&self, bytes: &mut [u8]) -> bool {
        let bits = bytes.len() * 8;
        let Some(place) = self.corrupted.filter(|_| bits > 0) else { return false };
        let bit = ((place * bits as f64) as usize).min(bits - 1);
        bytes[bit / 8] ^= 1 << (bit % 8);
        true
    }
}
