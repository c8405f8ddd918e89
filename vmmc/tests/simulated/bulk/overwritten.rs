//! Others write where a transfer is landing, by the eager lane, as they may. Each byte is one that was sent to its place, and nobody is blamed for damage.

use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::Target;
use vmmc::engine::{RedirectEnd, Send, Wanted};
use vmmc::link;
use vmmc::memory::{Buffer, Region};
use vmmc::port::Port;
use vmmc::port::sim::Conditions;

use super::chaos::{Put, export};
use super::{bad, world};
use crate::lanes::lane;
use crate::world::{World, contents, link_config, options};

const LEN: usize = 300_000;

/// A send by the eager lane.
struct Short {
    at: usize,
    bytes: Vec<u8>,
}

impl Short {
    /// Begins it, if there is room.
    fn send(&self, world: &mut World, from: usize, import: u32) -> bool {
        let (now, host) = (world.now(), &mut world.hosts[from]);
        let mut send = Send::new(&self.bytes, self.at as u64);
        let begun = host.engine.send(now, &mut host.port, import, &mut send).unwrap().is_some();
        assert!(begun || send.done() == 0, "it is short");
        host.port.flush().unwrap();
        begun
    }

    fn range(&self) -> Range<usize> {
        self.at..self.at + self.bytes.len()
    }
}

/// Each byte is the transfer's, or that of a short send to its place.
fn check(region: &Region, long: &[u8], shorts: &[Short]) {
    let memory = contents(region);
    for (at, &byte) in memory.iter().enumerate() {
        let written = || shorts.iter().any(|short| short.range().contains(&at) && short.bytes[at - short.at] == byte);
        assert!(byte == long[at] || written(), "byte {at} is nobody's");
    }
}

/// How much has landed, segments.
fn landed(world: &World) -> u64 {
    world.hosts[1].engine.counters().rx_bulk_segments
}

/// Goes on with a transfer until much of it lies in its other parts' places: a packet that is lost moves all that follow, until it is sent again.
fn land_out_of_place(world: &mut World, put: &mut Put) {
    let mut go_on_to = |world: &mut World, segments| {
        while landed(world) < segments {
            assert!(!put.go_on(world).unwrap());
            world.step();
        }
    };
    go_on_to(world, 20);
    world.network.set_conditions(Conditions { loss: 0.3, ..Conditions::default() });
    go_on_to(world, 60);
    world.network.set_conditions(Conditions::default());
}

#[test]
fn a_put_into_what_has_landed_is_no_damage() {
    // Into one segment, into two, into many, and into the rest in front.
    let ranges = [
        LEN - 100..LEN - 92,
        LEN - 4000..LEN - 2000,
        LEN - 140_000..LEN - 120_000,
        LEN - 8..LEN,
        0..50,
        LEN / 2..LEN / 2 + 1,
    ];
    for (number, range) in ranges.into_iter().enumerate() {
        let mut world = world(3, 1, Some(false));
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let [long, short] = [0, 2].map(|host| world.import(host, 1, "inbox").unwrap());
        let mut put = Put::new(&world, 0, long, 1, LEN, 0, 1);
        while landed(&world) < 100 {
            assert!(!put.go_on(&mut world).unwrap());
            world.step();
        }
        let short_send = Short { at: range.start, bytes: vec![0x77; range.len()] };
        let mut sent = Send::new(&short_send.bytes, range.start as u64);
        while !sent.is_complete() {
            let (now, host) = (world.now(), &mut world.hosts[2]);
            host.engine.send(now, &mut host.port, short, &mut sent).unwrap();
            host.port.flush().unwrap();
            assert!(!put.go_on(&mut world).unwrap(), "{number}");
            world.step();
        }
        put.finish(&mut world).unwrap();
        assert_eq!(world.notification(1, id).tag, 1);
        check(&region, &put.data, &[short_send]);
        let counters = world.hosts[1].engine.counters();
        assert_eq!((counters.bulk_reopened, counters.rx_bulk_abandoned), (0, 0), "{number}: {counters:?}");
        put.give_back();
    }
}

/// What this node sends to itself comes without any packet.
#[test]
fn nor_is_a_send_of_the_receiver_s_own() {
    let mut world = world(2, 1, Some(false));
    let (_, region) = export(&mut world, 1, "inbox", LEN);
    let long = world.import(0, 1, "inbox").unwrap();
    let own = world.import(1, 1, "inbox").unwrap();
    let mut put = Put::new(&world, 0, long, 1, LEN, 0, 1);
    while landed(&world) < 100 {
        assert!(!put.go_on(&mut world).unwrap());
        world.step();
    }
    let short = Short { at: LEN - 3000, bytes: vec![0x77; 8] };
    assert!(short.send(&mut world, 1, own));
    put.finish(&mut world).unwrap();
    check(&region, &put.data, &[short]);
    let counters = world.hosts[1].engine.counters();
    assert_eq!((counters.bulk_reopened, counters.rx_bulk_abandoned), (0, 0), "{counters:?}");
}

/// A packet was lost, so the segments behind it lie in one another's places until the end. What was written there by others stays where it was sent to, or goes; it isn't moved with them.
#[test]
fn it_is_not_moved_with_what_it_was_written_over() {
    for checksum in [true, false] {
        let lanes = (0..3).map(|host| Some(lane(host, true))).collect();
        let config = link::Config { options: options(checksum), ..link_config() };
        let mut world = World::with_lanes(lanes, 3, Conditions::default(), config);
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let [long, short] = [0, 2].map(|host| world.import(host, 1, "inbox").unwrap());
        let mut put = Put::new(&world, 0, long, 1, LEN, 0, 1);
        land_out_of_place(&mut world, &mut put);
        let shorts: Vec<Short> = (0..30).map(|n| Short { at: LEN / 2 + n * 4500, bytes: vec![0x77; 8] }).collect();
        for short_send in &shorts {
            while !short_send.send(&mut world, 2, short) {
                assert!(!put.go_on(&mut world).unwrap());
                world.step();
            }
        }
        put.finish(&mut world).unwrap();
        assert_eq!(world.notification(1, id).tag, 1);
        check(&region, &put.data, &shorts);
        let counters = world.hosts[1].engine.counters();
        assert!(counters.rx_bulk_repaired_bytes > 0, "nothing was moved: {counters:?}");
        assert_eq!(counters.rx_bulk_abandoned, 0);
        put.give_back();
    }
}

/// Who writes there without end doesn't keep a transfer from its end.
#[test]
fn a_transfer_ends_however_often_it_is_written_over() {
    let mut world = world(3, 1, Some(false));
    let (id, region) = export(&mut world, 1, "inbox", LEN);
    let [long, short] = [0, 2].map(|host| world.import(host, 1, "inbox").unwrap());
    let mut put = Put::new(&world, 0, long, 1, LEN, 0, 1);
    let shorts: Vec<Short> = (0..200).map(|n| Short { at: n * (LEN / 200), bytes: vec![n as u8; 8] }).collect();
    let mut next = shorts.iter().cycle();
    let end = world.now() + Duration::from_secs(1);
    while !put.go_on(&mut world).unwrap() {
        if next.clone().next().is_some_and(|short_send| short_send.send(&mut world, 2, short)) {
            next.next();
        }
        assert!(world.now() < end, "it doesn't end: {:?}", world.hosts[1].engine.counters());
        world.step();
    }
    assert_eq!(world.notification(1, id).tag, 1);
    check(&region, &put.data, &shorts);
    put.give_back();
}

/// A redirect takes what others have written before, and nobody has taken. Where a transfer is landing, it takes what is there in the end, and not what lies there until then, and may belong elsewhere.
#[test]
fn a_redirect_takes_nothing_of_a_transfer_that_is_landing() {
    let lanes = (0..3).map(|host| Some(lane(host, true))).collect();
    let mut world = World::with_lanes(lanes, 3, Conditions::default(), link_config());
    let (id, region) = export(&mut world, 1, "inbox", LEN);
    let [long, short] = [0, 2].map(|host| world.import(host, 1, "inbox").unwrap());
    let shorts: Vec<Short> = (0..30).map(|n| Short { at: LEN / 2 + n * 4500, bytes: vec![0x77; 8] }).collect();
    let (before, meanwhile) = shorts.split_at(15);
    for short_send in before {
        while !short_send.send(&mut world, 2, short) {
            world.step();
        }
    }
    world.run(Duration::from_millis(10));
    let mut put = Put::new(&world, 0, long, 1, LEN, 0, 1);
    land_out_of_place(&mut world, &mut put);
    for short_send in meanwhile {
        while !short_send.send(&mut world, 2, short) {
            assert!(!put.go_on(&mut world).unwrap());
            world.step();
        }
    }
    let host = &mut world.hosts[1];
    let target: Box<dyn Target> = Box::new(host.arena.buffer(LEN).unwrap());
    let redirect = host.engine.redirect(id, Wanted::Range(0..LEN as u64), target).unwrap();
    assert_eq!(host.engine.redirect_state(id, redirect), Some((0, None)));
    put.finish(&mut world).unwrap();
    let returned = world.hosts[1].take_redirect(id, redirect).unwrap();
    assert_eq!(returned.end, Some(RedirectEnd::Full));
    let (buffer, _): (Buffer, _) = returned.into_parts();
    for (at, &byte) in buffer.iter().enumerate() {
        let written = || shorts.iter().any(|short| short.range().contains(&at)) && byte == 0x77;
        assert!(byte == put.data[at] || written(), "byte {at} is nobody's");
    }
    check(&region, &put.data, &shorts);
    put.give_back();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// Two send at length to parts of an export, and two others short ones all over it, on any network.
    #[test]
    fn every_byte_is_somebody_s(seed: u64, strip: bool, checked: bool, conditions in bad(), count in 1usize..200) {
        // Where NICs write first all is checked, and so is what may come damaged.
        let checked = checked || !strip;
        let lanes = (0..5).map(|host| Some(lane(host, strip))).collect();
        let config = link::Config {
            options: options(checked),
            peer_timeout: Duration::from_secs(100),
            ..link_config()
        };
        let mut world = World::with_lanes(lanes, seed, Conditions::default(), config);
        let conditions = Conditions { corruption: if checked { conditions.corruption } else { 0.0 }, ..conditions };
        let mut rng = fastrand::Rng::with_seed(seed);
        let (_, region) = export(&mut world, 4, "inbox", 2 * LEN);
        let imports: Vec<u32> = (0..4).map(|host| world.import(host, 4, "inbox").unwrap()).collect();
        world.network.set_conditions(conditions);
        let mut puts = [0, 1].map(|n| Put::new(&world, n, imports[n], seed ^ n as u64, LEN, (n * LEN) as u64, 1));
        let shorts: Vec<Short> = (0..count)
            .map(|n| Short { at: rng.usize(..2 * LEN - 1000), bytes: vec![n as u8; rng.usize(1..1000)] })
            .collect();
        let (mut sent, mut done) = (0, [false; 2]);
        while sent < count || done.contains(&false) {
            for (put, done) in puts.iter_mut().zip(&mut done) {
                *done = *done || put.go_on(&mut world).unwrap();
            }
            let from = 2 + sent % 2;
            if sent < count && rng.u8(..3) == 0 && shorts[sent].send(&mut world, from, imports[from]) {
                sent += 1;
            }
            world.step();
        }
        let long = [&puts[0].data[..], &puts[1].data[..]].concat();
        // What is still on the way arrives.
        world.run(Duration::from_secs(2));
        check(&region, &long, &shorts);
        puts.into_iter().for_each(Put::give_back);
    }
}
