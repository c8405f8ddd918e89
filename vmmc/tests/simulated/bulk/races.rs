//! Records that cross, and ends that come while transfers are open: nothing hangs, nothing is taken for another, and nothing that was refused counts as delivered.

use std::time::Duration;

use proptest::prelude::*;
use vmmc::Target;
use vmmc::engine::{EngineError, Send, Wanted};
use vmmc::port::Port;

use super::chaos::{Put, export};
use super::{bad, into_bytes, world};
use crate::world::{World, contents, export_options, key};

/// So long that it takes several transfers.
const LONG: usize = 2_500_000;

fn fetch(world: &mut World, from: usize, import: u32, range: std::ops::Range<usize>) -> Option<u32> {
    let (now, host) = (world.now(), &mut world.hosts[from]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(range.len()).unwrap()));
    let fetch = host.engine.fetch(now, &mut host.port, import, range.start as u64, &mut target).unwrap();
    host.port.flush().unwrap();
    fetch
}

fn fetched(world: &mut World, host: usize, fetch: u32) -> Vec<u8> {
    let end = |w: &mut World| w.hosts[host].fetched(fetch).map_err(|(error, _)| error).unwrap();
    into_bytes(world.until("a fetch's end", end))
}

/// A table that may be read.
fn table(world: &mut World, host: usize, len: usize) -> Vec<u8> {
    let (_, region) = export(world, host, "inbox", len);
    let mut table = vec![0; len];
    fastrand::Rng::with_seed(host as u64).fill(&mut table);
    region.write(0, &table).unwrap();
    table
}

#[test]
fn a_node_that_closes_waits_for_its_transfers_and_not_longer() {
    let mut world = world(2, 1, Some(true));
    let (id, region) = export(&mut world, 1, "inbox", LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    let mut put = Put::new(&world, 0, import, 1, 300_000, 0, 1);
    assert!(!put.steps(&mut world, 4).unwrap());
    let start = world.now();
    world.hosts[0].engine.close(start);
    world.until("the end of all links", |world| world.hosts[0].engine.is_closed().then_some(()));
    assert!(world.now() < start + Duration::from_secs(1), "it has been waited for nothing");
    assert_eq!(world.notification(1, id).length, 300_000);
    assert!(contents(&region)[..300_000] == put.data);
}

#[test]
fn what_was_declined_and_then_refused_is_not_delivered() {
    let mut world = world(2, 1, Some(true));
    let (id, _) = export(&mut world, 1, "inbox", LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    // Packets can't land there.
    world.hosts[1].engine.redirect(id, Wanted::Range(0..LONG as u64), Box::new(vec![0; LONG])).unwrap();
    let mut put = Put::new(&world, 0, import, 1, 300_000, 0, 1);
    while world.hosts[0].engine.counters().tx_bulk_declined == 0 {
        assert!(!put.go_on(&mut world).unwrap());
        world.step();
    }
    world.hosts[1].engine.unexport(id);
    assert!(matches!(put.finish(&mut world), Err(EngineError::Revoked { .. })));
    put.give_back();
}

#[test]
fn a_fetch_whose_end_can_not_land_comes_in_order() {
    for strip in [true, false] {
        let mut world = world(2, 1, Some(strip));
        let table = table(&mut world, 1, LONG);
        let import = world.import(0, 1, "inbox").unwrap();
        // Nothing can be posted at an arena's end.
        let arena = &world.hosts[0].arena;
        let filler = arena.buffer(arena.available() - LONG).unwrap();
        let len = (0..LONG / 64).map(|n| LONG - 64 * n).find(|&len| arena.buffer(len).is_ok()).unwrap();
        let fetch = fetch(&mut world, 0, import, 0..len).unwrap();
        assert!(fetched(&mut world, 0, fetch) == table[..len]);
        assert!(world.hosts[1].engine.counters().tx_bulk_declined > 0, "it could be posted after all");
        assert_eq!(world.hosts[0].engine.counters().links_ended, 0);
        drop(filler);
    }
}

#[test]
fn others_have_their_turn_between_transfers() {
    let mut world = world(2, 1, Some(true));
    let (id, region) = export(&mut world, 1, "inbox", LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    let mut puts: Vec<Put> = (0..4).map(|n| Put::new(&world, 0, import, n, 300_000, 0, 1)).collect();
    for _ in 0..20 {
        puts.iter_mut().for_each(|put| _ = put.go_on(&mut world).unwrap());
        world.step();
    }
    let data = [0x33; 100];
    let (mut send, mut done) = (Send::new(&data, LONG as u64 - 100), 0);
    let mut reading = None;
    loop {
        // Who sends at length is always first.
        for put in &mut puts {
            if put.go_on(&mut world).unwrap() {
                done += 1;
                *put = Put::new(&world, 0, import, done, 300_000, 0, 1);
                let _ = put.go_on(&mut world).unwrap();
            }
        }
        while world.hosts[1].engine.take_notification(id).is_some() {}
        let (now, host) = (world.now(), &mut world.hosts[0]);
        if !send.is_complete() {
            host.engine.send(now, &mut host.port, import, &mut send).unwrap();
            host.port.flush().unwrap();
        } else if reading.is_none() {
            reading = Some(fetch(&mut world, 0, import, LONG - 100..LONG).unwrap());
        }
        if reading.is_some_and(|fetch| world.hosts[0].engine.has_ended(fetch)) {
            break;
        }
        assert!(done < 40, "it never comes to short ones: sent {}", send.is_complete());
        world.step();
    }
    assert!(contents(&region)[LONG - 100..] == data);
    let before = done;
    while done < before + 8 {
        for put in &mut puts {
            if put.go_on(&mut world).unwrap() {
                done += 1;
                *put = Put::new(&world, 0, import, done, 300_000, 0, 1);
            }
        }
        while world.hosts[1].engine.take_notification(id).is_some() {}
        world.step();
    }
}

#[test]
fn a_send_that_was_given_up_does_not_stop_transfers() {
    let mut world = world(2, 1, Some(true));
    let (id, _) = export(&mut world, 1, "inbox", LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    let mut put = Put::new(&world, 0, import, 1, LONG, 0, 1);
    assert!(!put.steps(&mut world, 4).unwrap());
    let data = [0x33; 100];
    let (now, host) = (world.now(), &mut world.hosts[0]);
    // It has no room, and isn't tried again.
    assert!(host.engine.send(now, &mut host.port, import, &mut Send::new(&data, 0)).unwrap().is_none());
    put.finish(&mut world).unwrap();
    put.give_back();
    let mut put = Put::new(&world, 0, import, 1, LONG, 0, 1);
    let start = world.now();
    put.finish(&mut world).unwrap();
    put.give_back();
    assert!(world.now() < start + Duration::from_secs(1), "it has waited for nobody");
    assert_eq!(world.notification(1, id).length, LONG as u64);
}

#[test]
fn who_does_not_take_notifications_gets_no_more() {
    let mut world = world(2, 1, Some(true));
    let (id, _) = world.export_as(1, export_options("inbox", key(), 10), LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    let mut sent = 0;
    let mut put = Put::new(&world, 0, import, 0, 20_000, 0, 1);
    let end = world.now() + Duration::from_secs(5);
    while world.now() < end && sent < 400 {
        if put.go_on(&mut world).unwrap() {
            sent += 1;
            put = Put::new(&world, 0, import, sent, 20_000, 0, 1);
        }
        world.step();
    }
    assert!(sent < 60, "{sent} sends with room for 10 notifications");
    // And goes on when some are taken.
    let goal = sent + 100;
    world.until("more", |world| {
        while world.hosts[1].engine.take_notification(id).is_some() {}
        if put.go_on(world).unwrap() {
            sent += 1;
            put = Put::new(world, 0, import, sent, 20_000, 0, 1);
        }
        (sent >= goal).then_some(())
    });
}

/// The window is what it was when transfers have been abandoned while segments were under way.
#[test]
fn what_is_abandoned_does_not_count_as_under_way() {
    let mut world = world(2, 1, Some(true));
    let (id, _) = export(&mut world, 1, "inbox", LONG);
    let import = world.import(0, 1, "inbox").unwrap();
    let time = |world: &mut World| {
        let mut busy = Duration::ZERO;
        for n in 0..20 {
            world.run(Duration::from_millis(20));
            let start = world.now();
            let mut put = Put::new(world, 0, import, n, 300_000, 0, 1);
            put.finish(world).unwrap();
            busy += world.now().since(start);
            let _ = world.notification(1, id);
        }
        busy
    };
    let before = time(&mut world);
    for n in 0..5 {
        let mut put = Put::new(&world, 0, import, n, 300_000, 0, 1);
        let from = world.hosts[0].engine.counters().tx_bulk_bytes;
        while world.hosts[0].engine.counters().tx_bulk_bytes < from + 50_000 {
            assert!(!put.go_on(&mut world).unwrap());
            world.step();
        }
        drop(world.hosts[1].lend(id, 0..LONG as u64).unwrap());
        put.finish(&mut world).unwrap();
        let _ = world.notification(1, id);
    }
    assert!(world.hosts[1].engine.counters().rx_bulk_abandoned >= 5);
    let after = time(&mut world);
    assert!(after < before * 2, "{after:?} instead of {before:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn fetches_given_up_are_not_taken_for_others(seed: u64, strip: bool, conditions in bad(), rounds in 1usize..8) {
        let mut world = world(3, seed, Some(strip));
        let mut rng = fastrand::Rng::with_seed(seed);
        let tables = [1, 2].map(|host| table(&mut world, host, 2 * LONG));
        let imports = [1, 2].map(|host| world.import(0, host, "inbox").unwrap());
        world.network.set_conditions(conditions);
        for _ in 0..rounds {
            let len = |rng: &mut fastrand::Rng| if rng.bool() { LONG } else { 2 * LONG - 1000 };
            let mut begun = Vec::new();
            for which in [0, 1, 0] {
                let len = len(&mut rng);
                let start = rng.usize(..1000);
                if let Some(id) = fetch(&mut world, 0, imports[which], start..start + len.min(LONG)) {
                    begun.push((which, start..start + len.min(LONG), id));
                }
            }
            (0..rng.usize(..150)).for_each(|_| world.step());
            let kept = begun.remove(rng.usize(..begun.len()));
            let mut given_up = Vec::new();
            for (_, _, id) in begun {
                given_up.extend(world.hosts[0].cancel_fetch(id).map(into_bytes));
            }
            drop(given_up);
            (0..rng.usize(..20)).for_each(|_| world.step());
            let which = rng.usize(..2);
            let range = 5000..5000 + LONG;
            let again = fetch(&mut world, 0, imports[which], range.clone()).unwrap();
            prop_assert!(fetched(&mut world, 0, again) == tables[which][range]);
            prop_assert!(fetched(&mut world, 0, kept.2) == tables[kept.0][kept.1]);
        }
        prop_assert_eq!(world.hosts[0].engine.counters().links_ended, 0);
        // All numbers are to be had again.
        world.network.set_conditions(Default::default());
        world.run(Duration::from_secs(5));
        for import in imports {
            let all: Vec<u32> = (0..128).map(|_| fetch(&mut world, 0, import, 0..10).expect("a fetch")).collect();
            all.into_iter().for_each(|id| drop(fetched(&mut world, 0, id)));
        }
    }

    #[test]
    fn a_lane_that_is_lost_leaves_nobody_waiting(seed: u64, conditions in bad(), steps in 0usize..400) {
        // Where a NIC writes before the gate looks, it may go on doing so: nobody could take the places back.
        let mut world = world(3, seed, Some(true));
        let (id, region) = export(&mut world, 2, "inbox", 2 * LONG);
        let imports = [0, 1].map(|host| world.import(host, 2, "inbox").unwrap());
        world.network.set_conditions(conditions);
        let mut puts = [0, 1].map(|n| Put::new(&world, n, imports[n], seed ^ n as u64, LONG, (n * LONG) as u64, 1));
        for _ in 0..steps {
            let [a, b] = &mut puts;
            if a.go_on(&mut world).unwrap() | b.go_on(&mut world).unwrap() {
                break;
            }
            world.step();
        }
        let control = world.hosts[2].port.control().unwrap();
        control.refuse_reopen(true);
        control.drop_admitted(1);
        match world.hosts[2].lend(id, LONG as u64 - 1..LONG as u64 - 1) {
            Ok(loan) => drop(loan),
            Err(error) => prop_assert!(matches!(error, EngineError::LendLost { .. }), "{error}"),
        }
        for put in &mut puts {
            put.finish(&mut world).unwrap();
        }
        let memory = contents(&region);
        for (n, put) in puts.into_iter().enumerate() {
            let first = (0..LONG).find(|&at| memory[n * LONG + at] != put.data[at]);
            let last = (0..LONG).rev().find(|&at| memory[n * LONG + at] != put.data[at]);
            prop_assert!(first.is_none(), "bytes {first:?} to {last:?} of sender {n}");
        }
    }
}

/// Where a NIC writes before anybody has looked, a frame that isn't for a place may have been written over what had landed.
#[test]
fn what_is_written_over_after_it_has_landed_is_asked_for_again() {
    const LEN: usize = 300_000;
    for at in [LEN - 1, LEN - 1400, LEN - 5000, LEN / 2] {
        let mut world = world(2, 1, Some(false));
        let (id, region) = export(&mut world, 1, "inbox", LONG);
        let import = world.import(0, 1, "inbox").unwrap();
        let mut put = Put::new(&world, 0, import, 1, LEN, 0, 1);
        // It lands from the highest address down: when so much has landed below, the receiver has seen it.
        while contents(&region)[at - 10_000..][..100] != put.data[at - 10_000..][..100] {
            assert!(!put.go_on(&mut world).unwrap(), "{at}");
            world.step();
        }
        assert_eq!(world.hosts[1].engine.counters().notifications, 0, "it is all there");
        region.write(at as u64, &[!put.data[at]]).unwrap();
        put.finish(&mut world).unwrap();
        assert_eq!(world.notification(1, id).tag, 1);
        assert!(contents(&region)[..LEN] == put.data, "byte {at} is wrong");
        let counters = world.hosts[1].engine.counters();
        assert_eq!((counters.bulk_reopened, counters.rx_bulk_abandoned), (1, 0), "{at}");
        assert!(counters.rx_bulk_missing >= LEN as u64 / 1500, "{counters:?}");
        put.give_back();
    }
}
