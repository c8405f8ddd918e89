//! The sending side: headers in slots of their own, payload where it lies, and whose turn it is to touch them.
//!
//! A packet is a chain of descriptors: one of its headers, which are written into a slot, and one for each piece of its payload. All of them come back by
//! the completion ring when the kernel is done with them, in any order. Which packet one is of stands in its address: in unaligned mode that has
//! 16 upper bits for an offset, and comes back as it was given, so the slot's number is put there, and taken off the rest.

use std::sync::atomic::AtomicU64;

use super::MAX_SEGMENT;
use super::places::{CONTINUED, OFFSET_SHIFT};
use super::rings::{Consumer, Descriptor, Producer, SharedDescriptor};
use super::socket::{CHUNK, TX_RING};
use crate::memory::{Arena, DirectSource, GUARD, MemoryError, Region};
use crate::wire::frame::{Encap, MAX_ENCAP_LEN};

/// How many packets may be with the kernel at a time.
const SLOTS: usize = 256;
/// Bytes in one: more than all headers have.
const SLOT: usize = 256;
/// Pieces that a packet's payload may be in: the kernel's packets have so many fragments (`MAX_SKB_FRAGS`) beside their first part, where the headers are.
const MAX_PIECES: usize = 17;
/// The longest IP packet, bytes.
const MAX_IP: usize = 65535;

const _: () = assert!((MAX_SEGMENT - 1).div_ceil(CHUNK as usize) < MAX_PIECES, "wherever pages begin");

// An address is never less than the number that is taken off it: nothing in an arena begins in its first guard.
const _: () = assert!(SLOTS <= GUARD);

/// The packets of a lane that are being sent.
pub(super) struct Slots {
    headers: Region,
    /// Where in the arena they begin.
    start: u64,
    packets: Vec<Packet>,
    free: Vec<u8>,
    /// Descriptors in the TX ring, with the kernel, or in the completion ring.
    out: usize,
    /// Pieces end at pages: the NIC reads by addresses of its own, in which only these are certainly in one piece.
    pub paged: bool,
    /// The longest payload, bytes.
    pub longest: usize,
}

#[derive(Default)]
struct Packet {
    /// Keeps the payload, until the kernel is done with it.
    source: Option<DirectSource>,
    /// Descriptors that haven't come back.
    left: usize,
}

impl Slots {
    /// Takes memory for the headers from `arena`.
    ///
    /// # Errors
    /// When there isn't so much.
    pub(super) fn new(arena: &Arena) -> Result<Slots, MemoryError> {
        let headers = arena.alloc(SLOTS * SLOT)?;
        let start = DirectSource::of_region(headers.clone()).place(arena, 0, SLOTS * SLOT).unwrap_or_default();
        let packets = (0..SLOTS).map(|_| Packet::default()).collect();
        let free = (0..SLOTS).rev().map(|slot| slot as u8).collect();
        Ok(Slots { headers, start, packets, free, out: 0, paged: false, longest: MAX_SEGMENT })
    }

    /// Lets go of all that is being sent: the socket is closed.
    pub(super) fn restart(&mut self) {
        self.packets.iter_mut().for_each(|packet| *packet = Packet::default());
        self.free = (0..SLOTS).rev().map(|slot| slot as u8).collect();
        self.out = 0;
    }

    /// How many packets more there is room for, of so many bytes of payload.
    pub(super) fn room(&self, segment: usize) -> usize {
        let most = 1 + segment.div_ceil(CHUNK as usize) + usize::from(self.paged);
        self.free.len().min((TX_RING as usize - self.out) / most)
    }

    /// Writes a packet into the ring: `encap` and `header`, then bytes `at..at + len` of `source`. The kernel isn't told yet. Returns false, and
    /// has done nothing, when there is no room, it is longer than packets are, or the source is of another arena.
    #[allow(clippy::too_many_arguments)] // what a packet is made of, and where it goes
    pub(super) fn submit(
        &mut self,
        tx: &mut Producer<SharedDescriptor>,
        arena: &Arena,
        encap: &Encap,
        header: &[u8],
        source: &DirectSource,
        at: usize,
        len: usize,
    ) -> bool {
        let Some(payload) = source.place(arena, at, len) else { return false };
        let head = encap.len() + header.len();
        let count = 1 + pieces(payload, len, self.paged).count();
        if !(1..=self.longest).contains(&len)
            || header.len() > SLOT - MAX_ENCAP_LEN
            || encap.ip_len(header.len() + len) > MAX_IP
            || self.out + count > TX_RING as usize
            || !tx.has_room(count)
        {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let mut bytes = [0; SLOT];
        encap.write(&mut bytes, header.len() + len);
        bytes[encap.len()..head].copy_from_slice(header);
        let place = usize::from(slot) * SLOT;
        // It has been taken so long that it can't be refused.
        if self.headers.write(place as u64, &bytes[..head]).is_err() {
            self.free.push(slot);
            return false;
        }
        let parts = std::iter::once((self.start + place as u64, head)).chain(pieces(payload, len, self.paged));
        for (i, (address, length)) in parts.enumerate() {
            let address = (address - u64::from(slot)) | u64::from(slot) << OFFSET_SHIFT;
            let options = if i + 1 < count { CONTINUED } else { 0 };
            let written = tx.push(Descriptor { address, length: length as u32, options });
            debug_assert!(written);
        }
        self.out += count;
        self.packets[usize::from(slot)] = Packet { source: Some(source.clone()), left: count };
        true
    }

    /// Lets go of what has come back.
    pub(super) fn reap(&mut self, completion: &mut Consumer<AtomicU64>) {
        while let Some(address) = completion.pop() {
            let slot = (address >> OFFSET_SHIFT) as usize;
            let Some(packet) = self.packets.get_mut(slot).filter(|packet| packet.left > 0) else { continue };
            packet.left -= 1;
            self.out -= 1;
            if packet.left == 0 {
                packet.source = None;
                self.free.push(slot as u8);
            }
        }
        completion.release();
    }
}

/// The pieces that a payload is sent in: where each begins, and how long it is. None is longer than a chunk.
///
/// Where the kernel copies them, as few as possible: each costs it a page, and it doesn't matter to it where pages begin.
fn pieces(start: u64, len: usize, paged: bool) -> impl Iterator<Item = (u64, usize)> {
    let chunk = CHUNK as usize;
    let (mut at, mut rest) = (start, len);
    std::iter::from_fn(move || {
        let most = if paged { chunk - at as usize % chunk } else { chunk };
        let (piece, length) = (at, rest.min(most));
        at += length as u64;
        rest -= length;
        (length > 0).then_some((piece, length))
    })
}
