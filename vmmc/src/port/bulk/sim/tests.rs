//! The simulated lane: what the gate lets in, where it lands, who keeps what, and what goes wrong.

use std::time::Duration;

use super::*;
use crate::memory::{MemoryError, Region};
use crate::port::Port;
use crate::port::sim::Conditions;
use crate::time::Time;
use crate::wire::BulkHeader;
use crate::wire::frame::Path;

const SEGMENT: usize = 1000;
const TOKEN: u64 = 0x1122_3344_5566_7788;

fn mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, host]
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 7000))
}

fn run(grant: u32) -> Run {
    Run { token: TOKEN, peer: address(1), grant, segment: SEGMENT as u32 }
}

/// Host 1 sends to host 2.
struct Pair {
    network: Network,
    sender: SimBulk,
    receiver: SimBulk,
    /// The receiver's other lane.
    eager: SimPort,
    source: DirectSource,
    region: Region,
    target: DirectTarget,
    now: Time,
}

impl Pair {
    fn new(conditions: Conditions, strip: bool) -> Pair {
        Pair::with(conditions, SimBulkConfig { strip, ..SimBulkConfig::new(address(2)) })
    }

    fn with(conditions: Conditions, config: SimBulkConfig) -> Pair {
        let network = Network::new(7, conditions);
        let arenas = [Arena::new(1 << 16).unwrap(), Arena::new(1 << 16).unwrap()];
        let sender = SimBulk::new(&network.attach(mac(1)), &arenas[0], SimBulkConfig::new(address(1)));
        let eager = network.attach(mac(2));
        let receiver = SimBulk::new(&eager, &arenas[1], config);
        let mut buffer = arenas[0].buffer(8 * SEGMENT).unwrap();
        buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / SEGMENT + 1) as u8);
        // The first chunk of an arena has no room for headers in front.
        let _first = arenas[1].buffer(5000).unwrap();
        let region = arenas[1].alloc(8 * SEGMENT).unwrap();
        Pair {
            network,
            sender,
            receiver,
            eager,
            source: DirectSource::of_buffer(Arc::new(buffer)),
            target: DirectTarget::of_region(region.clone()),
            region,
            now: Time::ZERO,
        }
    }

    /// Posts places for segments, in this order.
    fn post(&mut self, grant: u32, segments: impl IntoIterator<Item = usize>) {
        for segment in segments {
            self.receiver.post(&run(grant), &self.target, segment * SEGMENT).unwrap();
        }
        self.receiver.admit();
    }

    fn submit(&mut self, grant: u32, segment: usize) -> bool {
        self.submit_as(TOKEN, grant, segment, SEGMENT, address(1))
    }

    fn submit_as(&mut self, token: u64, grant: u32, segment: usize, len: usize, from: SocketAddr) -> bool {
        let remote = SocketAddr::new(address(2).ip(), 7001);
        let path = Path { local: from, remote, local_mac: mac(1), next_hop: mac(2), vlan: None };
        let (source, at) = (self.source.clone(), segment * SEGMENT);
        let header = BulkHeader { token, grant, segment: segment as u32 };
        let header = header.emit(Some(|take: &mut dyn FnMut(&[u8])| source.for_each(at, len, take)));
        self.sender.submit(&path.encap().unwrap(), &header, &self.source.clone(), at, len)
    }

    /// Sends segments, and lets them arrive.
    fn send(&mut self, grant: u32, segments: impl IntoIterator<Item = usize>) {
        for segment in segments {
            assert!(self.submit(grant, segment));
        }
        self.arrive();
    }

    fn arrive(&mut self) {
        self.sender.flush().unwrap();
        self.now = self.now + Duration::from_millis(1);
        self.network.advance(self.now);
    }

    /// What has landed: place, grant and segment.
    fn landings(&mut self) -> Vec<(u64, u32, u32)> {
        let mut batch = Vec::new();
        self.receiver.receive(&mut batch).unwrap();
        batch.iter().map(|landing| (landing.place, landing.grant, landing.segment)).collect()
    }

    /// What lies in each of the target's segments, by its first byte and its last.
    fn seen(&self) -> Vec<(u8, u8)> {
        let mut bytes = vec![0; self.region.len()];
        self.region.read(0, &mut bytes).unwrap();
        bytes.chunks(SEGMENT).map(|segment| (segment[0], segment[SEGMENT - 1])).collect()
    }

    fn verdicts(&self) -> Verdicts {
        self.receiver.control().verdicts()
    }
}

#[test]
fn each_packet_takes_the_next_place_whatever_it_is() {
    let mut pair = Pair::new(Conditions::default(), true);
    pair.post(5, [3, 2, 1, 0]);
    pair.send(5, [3, 1, 0]);
    assert_eq!(pair.landings(), [(0, 5, 3), (1, 5, 1), (2, 5, 0)]);
    let zero = (0, 0);
    assert_eq!(pair.seen(), [zero, (1, 1), (2, 2), (4, 4), zero, zero, zero, zero]);
    pair.send(5, [2, 2]);
    assert_eq!(pair.landings(), [(3, 5, 2)]);
    assert_eq!(pair.seen()[..2], [(3, 3), (1, 1)]);
    assert_eq!(pair.verdicts(), Verdicts { admitted: 4, no_place: 1, ..Verdicts::default() });
    let counters = pair.receiver.counters();
    assert_eq!((counters.rx_packets, counters.rx_bytes, counters.places), (4, 4000, 4));
    let counters = pair.sender.counters();
    assert_eq!((counters.tx_packets, counters.tx_bytes, counters.wakeups), (5, 5000, 2));
}

#[test]
fn runs_are_used_one_after_the_other() {
    let mut pair = Pair::new(Conditions::default(), true);
    pair.post(5, [1, 0]);
    pair.post(6, [5, 4]);
    // The first one's places come first: nobody else is let into them.
    pair.send(6, [5]);
    pair.send(5, [1, 0, 0]);
    pair.send(6, [5, 4]);
    assert_eq!(pair.landings(), [(0, 5, 1), (1, 5, 0), (2, 6, 5), (3, 6, 4)]);
    assert_eq!(pair.verdicts(), Verdicts { admitted: 4, stale: 2, ..Verdicts::default() });
}

#[test]
fn the_gate_lets_nobody_else_in() {
    for strip in [true, false] {
        let mut pair = Pair::new(Conditions::default(), strip);
        // Posted isn't admitted.
        pair.receiver.post(&run(5), &pair.target, SEGMENT).unwrap();
        pair.send(5, [1]);
        pair.receiver.admit();
        let (other_host, other_port) = (address(3), SocketAddr::new(address(1).ip(), 7001));
        for (token, grant, len, from) in [
            (TOKEN ^ 1, 5, SEGMENT, address(1)),
            (TOKEN ^ 1 << 63, 5, SEGMENT, address(1)),
            (TOKEN, 4, SEGMENT, address(1)),
            (TOKEN, 5, SEGMENT, other_host),
            (TOKEN, 5, SEGMENT, other_port),
            (TOKEN, 5, SEGMENT - 1, address(1)),
            (TOKEN, 5, SEGMENT + 1, address(1)),
            (TOKEN, 5, 0, address(1)),
        ] {
            assert!(pair.submit_as(token, grant, 1, len, from));
        }
        pair.arrive();
        assert_eq!(pair.landings(), []);
        assert_eq!(pair.verdicts(), Verdicts { no_place: 1, stale: 5, length: 3, ..Verdicts::default() });
        if strip {
            assert!(pair.seen().iter().all(|&segment| segment == (0, 0)));
        } else {
            // They were written before they were refused, and nothing behind the place was.
            assert_eq!(pair.seen()[1..3], [(2, 2), (0, 0)]);
        }
        assert!(pair.receiver.is_consistent());
        pair.send(5, [0]);
        assert_eq!(pair.landings(), [(0, 5, 0)]);
        assert_eq!(pair.seen()[1..3], [(1, 1), (0, 0)]);
    }
}

#[test]
fn a_stray_frame_has_a_nic_that_writes_first_use_places_in_another_order() {
    let mut pair = Pair::new(Conditions::default(), false);
    pair.post(5, [3, 2]);
    // Segment 8 of an older grant: it lands in the first place, which comes again behind the second.
    pair.send(4, [7]);
    assert_eq!(pair.seen()[2..5], [(0, 7), (8, 8), (0, 0)], "its headers lie below, and nothing behind it");
    assert!(pair.receiver.is_consistent(), "nobody was let in");
    pair.send(5, [3]);
    assert_eq!((pair.landings(), pair.receiver.is_consistent()), (vec![], false));
    pair.receiver.reopen().unwrap();
    pair.post(5, [3, 2]);
    pair.send(5, [3, 2]);
    let landings: Vec<_> = pair.landings().into_iter().map(|(_, grant, segment)| (grant, segment)).collect();
    assert_eq!((landings, pair.receiver.is_consistent()), (vec![(5, 3), (5, 2)], true));
    assert_eq!(pair.seen()[2..5], [(3, 3), (4, 4), (0, 0)]);
}

#[test]
fn headers_stay_where_the_nic_can_not_take_them_off() {
    let mut pair = Pair::new(Conditions::default(), false);
    let overlap = pair.receiver.overlap();
    assert_eq!(overlap, 14 + 20 + 8 + BULK_HEADER_LEN);
    pair.region.fill(9).unwrap();
    pair.post(5, [3, 2]);
    pair.send(5, [3, 2]);
    let mut bytes = vec![0; 8 * SEGMENT];
    pair.region.read(0, &mut bytes).unwrap();
    // That of segment 3 was written over by segment 2.
    assert_eq!(bytes[2 * SEGMENT..4 * SEGMENT], [[3; SEGMENT], [4; SEGMENT]].concat());
    let below = 2 * SEGMENT - overlap;
    assert!(bytes[..below].iter().all(|&byte| byte == 9));
    assert_eq!(bytes[below..below + 6], mac(2));
    assert_eq!(bytes[2 * SEGMENT - 4..2 * SEGMENT], 2u32.to_be_bytes());
    // In front of all of it is the guard.
    pair.post(6, [0]);
    pair.send(6, [0]);
    assert_eq!(pair.landings(), [(0, 5, 3), (1, 5, 2), (2, 6, 0)]);
    assert_eq!(pair.seen()[0], (1, 1));
}

#[test]
fn memory_is_kept_as_long_as_the_kernel_has_it() {
    let mut pair = Pair::new(Conditions::default(), true);
    pair.post(5, [1, 0]);
    pair.send(5, [1]);
    assert!(!pair.target.is_free());
    assert_eq!(pair.landings().len(), 1);
    assert!(!pair.target.is_free());
    pair.send(5, [0]);
    assert!(!pair.target.is_free(), "it has landed, and nobody has looked");
    assert_eq!(pair.landings().len(), 1);
    assert!(pair.target.is_free());
    pair.post(6, [1, 0]);
    pair.send(6, [1]);
    pair.receiver.reopen().unwrap();
    assert!(pair.target.is_free());
    assert_eq!(pair.landings(), []);
    // Nor does it write any more.
    pair.region.fill(9).unwrap();
    pair.send(6, [0]);
    assert!(pair.seen().iter().all(|&segment| segment == (9, 9)));
    assert_eq!(pair.verdicts(), Verdicts { admitted: 3, no_place: 1, ..Verdicts::default() });
    // Numbers go on from what was used.
    assert_eq!(pair.receiver.post(&run(7), &pair.target, 0), Some(3));
    pair.receiver.admit();
    pair.send(7, [4]);
    assert_eq!(pair.landings(), [(3, 7, 4)]);
    assert_eq!(pair.receiver.counters().reopened, 1);
    pair.post(8, [0]);
    let control = pair.receiver.control();
    drop(pair.receiver);
    assert!(pair.target.is_free() && control.posted() == 0);
}

#[test]
fn what_is_sent_is_read_when_it_is_flushed() {
    let arena = Arena::new(1 << 16).unwrap();
    let mut pair = Pair::new(Conditions::default(), true);
    assert!(!pair.sender.submit(&encap(), &[0; BULK_HEADER_LEN], &source(&arena), 0, 10), "another arena");
    let region = pair.sender.arena.alloc(SEGMENT).unwrap();
    pair.source = DirectSource::of_region(region.clone());
    pair.post(5, [0]);
    assert!(pair.submit(5, 0));
    assert!(!pair.submit(5, 1), "there is no such segment");
    region.fill(8).unwrap();
    pair.arrive();
    assert_eq!(pair.seen()[0], (8, 8));
    // Of a buffer there is no clone left either.
    let buffer = Arc::new(pair.sender.arena.buffer(SEGMENT).unwrap());
    pair.source = DirectSource::of_buffer(buffer.clone());
    assert!(pair.submit(5, 0));
    pair.source = source(&pair.sender.arena);
    assert_eq!(Arc::strong_count(&buffer), 2);
    pair.sender.flush().unwrap();
    assert_eq!(Arc::strong_count(&buffer), 1);
}

fn source(arena: &Arena) -> DirectSource {
    DirectSource::of_region(arena.alloc(SEGMENT).unwrap())
}

fn encap() -> Encap {
    let remote = SocketAddr::new(address(2).ip(), 7001);
    Path { local: address(1), remote, local_mac: mac(1), next_hop: mac(2), vlan: None }.encap().unwrap()
}

#[test]
fn rings_are_full_at_some_time() {
    let mut pair = Pair::new(Conditions::default(), true);
    pair.receiver.config.ring = 4;
    assert_eq!((pair.receiver.room(SEGMENT), pair.receiver.room(3841)), (4, 2));
    pair.post(5, [3, 2, 1, 0]);
    assert_eq!((pair.receiver.room(SEGMENT), pair.receiver.post(&run(5), &pair.target, 0)), (0, None));
    pair.send(5, [3]);
    assert_eq!(pair.receiver.room(SEGMENT), 0, "it lies in the other ring");
    pair.landings();
    assert_eq!(pair.receiver.room(SEGMENT), 1);
    // As many runs as the gate knows.
    let mut pair = Pair::new(Conditions::default(), true);
    (0..16).for_each(|grant| pair.post(grant, [0]));
    assert_eq!(pair.receiver.post(&run(16), &pair.target, 0), None);
    pair.send(0, [0]);
    pair.post(16, [0]);
    pair.sender.config.tx_ring = 5;
    assert_eq!((pair.sender.tx_room(SEGMENT), pair.sender.tx_room(4097)), (2, 1));
    assert!(pair.submit(1, 0) && pair.submit(1, 0) && !pair.submit(1, 0));
    pair.arrive();
    assert!(pair.submit(1, 0));
}

#[test]
fn places_lie_in_the_arena_with_all_their_chunks() {
    let mut pair = Pair::new(Conditions::default(), true);
    let other = Arena::new(1 << 16).unwrap();
    let elsewhere = DirectTarget::of_region(other.alloc(SEGMENT).unwrap());
    assert_eq!(pair.receiver.post(&run(5), &elsewhere, 0), None);
    assert_eq!(pair.receiver.post(&run(5), &pair.target, 7 * SEGMENT + 1), None);
    // Its last place is nearer to the arena's end than a chunk is long.
    let arena = pair.receiver.arena.clone();
    let Err(MemoryError::Exhausted { largest, .. }) = arena.buffer(arena.len()) else { panic!("that was too much") };
    let rest = DirectTarget::of_buffer(arena.buffer(largest).unwrap());
    let start = rest.place(&arena, 0, largest).unwrap() as usize;
    let last = arena.len() + HEADROOM - CHUNK - start;
    assert!(last + 1 + SEGMENT <= rest.len());
    assert_eq!(pair.receiver.post(&run(5), &rest, last + 1), None);
    assert_eq!(pair.receiver.post(&run(5), &rest, last), Some(0));
}

#[test]
fn the_kernel_may_drop_what_was_let_in() {
    let mut pair = Pair::new(Conditions::default(), true);
    let control = pair.receiver.control();
    control.drop_admitted(1);
    pair.post(5, [3, 2, 1, 0]);
    pair.send(5, [3, 2, 1]);
    // The account is wrong from then on: 2 and 1 have landed.
    assert_eq!(pair.landings(), [(0, 5, 3), (1, 5, 2)]);
    assert_eq!(pair.seen()[2..4], [(2, 2), (3, 3)]);
    assert!(!pair.receiver.is_consistent());
    assert_eq!(control.posted(), 2);
    pair.receiver.reopen().unwrap();
    assert!(pair.receiver.is_consistent());
    pair.post(6, [1, 0]);
    pair.send(6, [1, 0]);
    assert_eq!(pair.landings(), [(3, 6, 1), (4, 6, 0)]);
    control.refuse_reopen(true);
    pair.post(7, [0]);
    assert!(pair.receiver.reopen().is_err());
    assert!(!pair.target.is_free(), "who knows");
    pair.send(7, [0]);
    assert_eq!((pair.landings(), pair.receiver.is_consistent()), (vec![], false));
    assert_eq!((pair.receiver.room(SEGMENT), pair.receiver.tx_room(SEGMENT)), (0, 0));
    assert_eq!(pair.receiver.post(&run(8), &pair.target, 0), None);
    control.refuse_reopen(false);
    pair.receiver.reopen().unwrap();
    assert!(pair.target.is_free());
    pair.post(9, [0]);
    let short = Run { segment: MIN_SEGMENT as u32 - 1, ..run(9) };
    assert_eq!(pair.receiver.post(&short, &pair.target, 0), None);
}

/// One bit of each packet is turned over: it is refused, goes astray, or its checksum tells. But there may be none any more.
#[test]
fn damage_is_found_by_the_gate_or_by_the_checksum() {
    for strip in [true, false] {
        let mut pair = Pair::new(Conditions { corruption: 1.0, ..Conditions::default() }, strip);
        let (mut intact, mut damaged, mut unchecked) = (0, 0, 0);
        for round in 0..2000 {
            pair.receiver.reopen().unwrap();
            pair.post(round, [7]);
            pair.send(round, [7]);
            let mut batch = Vec::new();
            pair.receiver.receive(&mut batch).unwrap();
            for landing in batch {
                let header = BulkHeader { token: TOKEN, grant: landing.grant, segment: landing.segment };
                let payload =
                    |take: &mut dyn FnMut(&[u8])| pair.target.for_each(7 * SEGMENT, SEGMENT, |bytes| take(bytes));
                match landing.checksum {
                    None => unchecked += 1,
                    Some(checksum) if checksum == header.checksum(BULK_CHECKED, payload) => {
                        // The bit was in what nobody looks at.
                        assert_eq!((landing.segment, pair.seen()[7]), (7, (8, 8)));
                        intact += 1;
                    }
                    Some(_) => damaged += 1,
                }
            }
        }
        let verdicts = pair.verdicts();
        let mut astray = Vec::new();
        while pair.eager.receive(&mut astray).is_ok_and(|()| !astray.is_empty()) {
            astray.drain(..).for_each(|packet| pair.eager.recycle(packet));
        }
        assert_eq!(verdicts.admitted, intact + damaged + unchecked);
        assert!(intact > 0 && damaged > 1500 && verdicts.stale > 0, "{intact} {damaged} {unchecked} {verdicts:?}");
        assert!(pair.eager.counters().rx_packets > 0);
    }
}

#[test]
fn other_packets_are_not_its_own() {
    let mut pair = Pair::new(Conditions::default(), true);
    pair.post(5, [0]);
    let frame = |port: u16, payload: &[u8]| {
        let remote = SocketAddr::new(address(2).ip(), port);
        let path = Path { local: address(1), remote, local_mac: mac(1), next_hop: mac(2), vlan: None };
        let encap = path.encap().unwrap();
        let mut frame = vec![0; encap.len()];
        encap.write(&mut frame, payload.len());
        [&frame, payload].concat()
    };
    let header = BulkHeader { token: TOKEN, grant: 5, segment: 0 }.emit(None::<fn(&mut dyn FnMut(&[u8]))>);
    let mut packet = header.to_vec();
    packet.extend([7; SEGMENT]);
    pair.network.inject(&frame(7000, &packet));
    pair.network.inject(&frame(7001, &packet[..BULK_HEADER_LEN - 1]));
    packet[5] = 3;
    pair.network.inject(&frame(7001, &packet));
    for len in 12..40 {
        pair.network.inject(&frame(7001, &packet)[..len]);
    }
    pair.arrive();
    assert_eq!(pair.verdicts(), Verdicts { foreign: 2, ..Verdicts::default() });
    packet[5] = 7;
    pair.network.inject(&frame(7001, &packet));
    pair.arrive();
    assert_eq!(pair.landings(), [(0, 5, 0)]);
    let mut batch = Vec::new();
    pair.eager.receive(&mut batch).unwrap();
    assert_eq!(batch.len(), 29);
}

#[test]
fn the_network_does_to_it_what_it_does_to_all() {
    let conditions = Conditions { loss: 0.1, duplication: 0.1, reordering: 0.1, ..Conditions::default() };
    let landed = || {
        let mut pair = Pair::new(conditions, true);
        pair.post(5, (0..1000).map(|place| 7 - place % 8));
        for _ in 0..125 {
            pair.send(5, (0..8).rev());
        }
        (pair.landings(), pair.verdicts())
    };
    let (landings, verdicts) = landed();
    assert_eq!((landings.clone(), verdicts), landed());
    let out_of_order = landings.windows(2).filter(|pair| pair[1].2 > pair[0].2 && pair[0].2 != 0).count();
    assert!(out_of_order > 50 && (900..=1000).contains(&landings.len()), "{} {}", out_of_order, landings.len());
}

#[test]
fn headers_have_no_room_before_the_first_chunk() {
    let network = Network::new(7, Conditions::default());
    let arena = Arena::new(1 << 16).unwrap();
    let target = DirectTarget::of_region(arena.alloc(8 * SEGMENT).unwrap());
    let config = SimBulkConfig::new(address(2));
    let mut port = SimBulk::new(&network.attach(mac(2)), &arena, config);
    assert_eq!(port.post(&run(5), &target, 0), Some(0));
    let mut port = SimBulk::new(&network.attach(mac(2)), &arena, SimBulkConfig { strip: false, ..config });
    assert_eq!(port.post(&run(5), &target, 0), None);
    assert_eq!(port.post(&run(5), &target, port.overlap()), Some(0));
}
