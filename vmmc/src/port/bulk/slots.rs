//! The sending side: headers in slots of their own, payload where it lies, and whose turn it is to touch them.
//!
//! A packet is a chain of descriptors: one of its headers, which are written into a slot, and one for each piece of its payload. All of them come back by
//! the completion ring when the kernel is done with them, in any order. Which packet one is of stands in its address: in unaligned mode that has
//! 16 upper bits for an offset, and comes back as it was given, so the slot's number is put there, and taken off the rest.

use std::sync::atomic::AtomicU64;

use smallvec::SmallVec;

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
/// What a lane takes of its arena, bytes: the slots.
pub(crate) const OWN: usize = SLOTS * SLOT;
/// Pieces that a packet's payload may be in: the kernel's packets have so many fragments (`MAX_SKB_FRAGS`) beside their first part, where the headers are.
const MAX_PIECES: usize = 17;
/// The longest IP packet, bytes.
const MAX_IP: usize = 65535;

const _: () =
    assert!((MAX_SEGMENT - 1).div_ceil(CHUNK as usize) < MAX_PIECES, "wherever pages begin, and wherever they are");

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
        let headers = arena.alloc(OWN)?;
        let place = DirectSource::of_region(headers.clone());
        let start = place.runs(arena, 0, OWN).and_then(|mut runs| runs.next()).map_or(0, |(start, _)| start);
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

    /// Whether nothing is being sent.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0
    }

    /// How many packets there may be at a time, and how many there are.
    pub(super) fn packets(&self) -> (usize, usize) {
        (SLOTS, SLOTS - self.free.len())
    }

    /// Never lets go of what is being sent: the NIC may still read it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.packets));
        std::mem::forget(self.headers.clone());
    }

    /// How many packets more there is room for, of so many bytes of payload.
    pub(super) fn room(&self, segment: usize) -> usize {
        let most = 1 + most_pieces(segment);
        self.free.len().min((TX_RING as usize - self.out) / most)
    }

    /// Writes a packet into the ring: `encap` and `header`, then bytes `at..at + len` of `source`. The kernel isn't told yet. Returns false, and
    /// has done nothing, when there is no room, it is longer than packets are, or the source isn't all in this arena.
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
        if !(1..=self.longest).contains(&len) {
            return false;
        }
        let Some(runs) = source.runs(arena, at, len) else { return false };
        let payload: SmallVec<[_; MAX_PIECES]> = runs.flat_map(|(start, len)| pieces(start, len, self.paged)).collect();
        let head = encap.len() + header.len();
        let count = 1 + payload.len();
        if payload.len() > MAX_PIECES
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
        let parts = std::iter::once((self.start + place as u64, head)).chain(payload);
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

/// The most pieces that a payload is sent in: one for each page that it may touch.
fn most_pieces(len: usize) -> usize {
    1 + len.saturating_sub(1).div_ceil(CHUNK as usize)
}

/// The pieces that a run of a payload is sent in: where each begins, and how long it is. None is longer than a chunk.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::rings::testing::Memory;
    use super::*;
    use crate::memory::Paging;
    use crate::memory::utlb::{Config, Rule};
    use crate::wire::frame::{Datagram, Path};

    fn encap() -> Encap {
        let (local, remote) = ("[fd77::1]:7000".parse().unwrap(), "[fd77::2]:7001".parse().unwrap());
        Path { local, remote, local_mac: [2; 6], next_hop: [4; 6], vlan: Some(5) }.encap().unwrap()
    }

    #[test]
    fn a_packet_is_its_headers_and_its_payload_where_it_lies() {
        let (tx, back) = (Memory::descriptors(TX_RING as usize, 0), Memory::addresses(TX_RING as usize, 7));
        // SAFETY: both outlive what is made of them here.
        let ((mut tx, mut kernel), (mut done, mut completion)) = unsafe { (tx.sides(), back.sides()) };
        let arena = Arena::new(1 << 20).unwrap();
        let mut slots = Slots::new(&arena).unwrap();
        let (first, second) = (Arc::new(arena.buffer(70_000).unwrap()), Arc::new(arena.buffer(10).unwrap()));
        let sources = [&first, &second].map(|buffer| DirectSource::of_buffer(buffer.clone()));
        let (begin, _) = sources[0].runs(&arena, 0, 1).unwrap().next().unwrap();
        assert!(slots.submit(&mut tx, &arena, &encap(), &[7; 24], &sources[0], 33, 9000));
        assert!(slots.submit(&mut tx, &arena, &encap(), &[8; 24], &sources[1], 0, 10));
        drop(sources);
        assert_eq!(kernel.pop(), None);
        tx.publish();
        let descriptors: Vec<_> = std::iter::from_fn(|| kernel.pop()).collect();
        let at = |d: &Descriptor| (d.address & ((1 << OFFSET_SHIFT) - 1)) + (d.address >> OFFSET_SHIFT);
        let said: Vec<_> = descriptors.iter().map(|d| (at(d), d.length, d.options)).collect();
        let [(slot, 90, CONTINUED), .., (last_slot, 90, CONTINUED), (_, 10, 0)] = said[..] else { panic!("{said:?}") };
        let pieces = [(begin + 33, 4096, CONTINUED), (begin + 33 + 4096, 4096, CONTINUED), (begin + 33 + 8192, 808, 0)];
        assert_eq!(said[1..4], pieces);
        assert!((slots.start..slots.start + (SLOTS * SLOT) as u64).contains(&slot) && slot != last_slot);
        let mut headers = [0; 90];
        slots.headers.read(slot - slots.start, &mut headers).unwrap();
        let datagram = Datagram::parse(&headers, 90 + 9000).unwrap();
        assert_eq!((datagram.length, datagram.start, &headers[66..]), (9024, 66, &[7; 24][..]));
        // They come back in any order, and not all at once.
        let room = slots.room(10);
        for (i, held) in [(5, 2), (1, 2), (3, 2), (0, 2), (2, 1)] {
            done.push(descriptors[i].address);
            done.publish();
            slots.reap(&mut completion);
            assert_eq!(Arc::strong_count(&first), held, "after {i}");
        }
        assert_eq!((Arc::strong_count(&second), slots.room(10)), (2, room + 1));
        // What nobody has sent changes nothing.
        for address in [descriptors[0].address, 200 << OFFSET_SHIFT, u64::MAX] {
            done.push(address);
        }
        done.push(descriptors[4].address);
        done.publish();
        slots.reap(&mut completion);
        assert_eq!((Arc::strong_count(&second), slots.out, slots.free.len()), (1, 0, SLOTS));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd to map a second time")]
    fn pages_here_and_there_are_a_packet_and_never_too_many_pieces() {
        let arena = Arena::new(1 << 20).unwrap();
        let page = arena.page_size();
        let paging = Paging::new(arena.clone(), Config { rule: Rule::Pin, ..Config::default() });
        let pages = paging.map(20 * page).unwrap();
        // From the last one on, so that no two are in a row, but for two.
        (0..18).rev().for_each(|number| drop(pages.hold(number * page..(number + 1) * page)));
        drop(pages.hold(18 * page..20 * page));
        let pages = Arc::new(pages);
        let source = DirectSource::of_paged(pages.clone(), pages.hold(0..pages.len()).into_owned());
        for (paged, at, len, count) in [
            (false, 0, page, 1),
            (false, 5, page, 2),
            (true, 4000, 97, 2),
            (false, 18 * page, 2 * page, 2),
            (false, 18 * page + 1, page, 1),
            (true, 18 * page + 1, page, 2),
            (false, 1, MAX_SEGMENT, 16),
            (false, 4000, MAX_SEGMENT, 17),
            (true, page - 1, MAX_SEGMENT, 17),
        ] {
            let memory = Memory::descriptors(TX_RING as usize, 0);
            // SAFETY: it outlives what is made of it here.
            let (mut tx, mut kernel) = unsafe { memory.sides() };
            let mut slots = Slots { paged, ..Slots::new(&arena).unwrap() };
            assert!(slots.submit(&mut tx, &arena, &encap(), &[0; 24], &source, at, len), "{len} from {at}");
            tx.publish();
            let descriptors: Vec<_> = std::iter::from_fn(|| kernel.pop()).skip(1).collect();
            assert_eq!(descriptors.len(), count, "{len} from {at}");
            let mut next = at;
            for (number, descriptor) in descriptors.iter().enumerate() {
                let address = (descriptor.address & ((1 << OFFSET_SHIFT) - 1)) + (descriptor.address >> OFFSET_SHIFT);
                let length = descriptor.length as usize;
                let mut runs = source.runs(&arena, next, length).unwrap();
                assert_eq!((runs.next(), runs.next()), (Some((address, length)), None));
                assert_eq!(descriptor.options, if number + 1 < count { CONTINUED } else { 0 });
                next += length;
            }
            assert_eq!(next, at + len);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri needs minutes for it, and it is about numbers")]
    fn there_is_room_for_as_many_packets_as_there_are_slots_and_entries() {
        let arena = Arena::new(1 << 20).unwrap();
        let buffer = Arc::new(arena.buffer(MAX_SEGMENT + 1).unwrap());
        for (paged, len) in [(false, 1), (false, 4096), (true, 4096), (false, MAX_SEGMENT), (true, MAX_SEGMENT)] {
            let memory = Memory::descriptors(TX_RING as usize, 0);
            // SAFETY: it outlives what is made of it here.
            let (mut tx, _kernel) = unsafe { memory.sides() };
            let mut slots = Slots { paged, ..Slots::new(&arena).unwrap() };
            let source = DirectSource::of_buffer(buffer.clone());
            let promised = slots.room(len);
            let mut sent = 0;
            while slots.submit(&mut tx, &arena, &encap(), &[0; 24], &source, 1, len) {
                sent += 1;
            }
            assert!((promised..=promised + promised / 17 + 1).contains(&sent) && sent > 0, "{sent} of {promised}");
            drop(source);
            slots.restart();
            assert_eq!((Arc::strong_count(&buffer), slots.room(len)), (1, promised));
        }
    }

    proptest! {
        // Miri has no directory to remember failures in, and no time.
        #![proptest_config(match cfg!(miri) {
            true => ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() },
            false => ProptestConfig::default(),
        })]
        #[test]
        fn pieces_are_all_of_it_in_order(start in 0u64..1 << 40, len in 1..=MAX_SEGMENT, paged: bool) {
            let (mut at, mut count) = (start, 0);
            for (piece, length) in pieces(start, len, paged) {
                prop_assert_eq!(piece, at);
                prop_assert!((1..=4096).contains(&length));
                prop_assert!(!paged || piece / 4096 == (piece + length as u64 - 1) / 4096);
                at += length as u64;
                count += 1;
            }
            prop_assert_eq!(at, start + len as u64);
            prop_assert!(count <= MAX_PIECES && (paged || count == len.div_ceil(4096)));
        }
    }
}
