//! Peers that keep to no rule of the bulk lane, and lanes that are lost at the worst moment: nobody waits for ever, and nobody's memory or time is theirs to take.

use std::time::Duration;

use vmmc::Target;
use vmmc::port::sim::Conditions;
use vmmc::wire::record::{BulkRecord, Errand, Record};

use super::chaos::{Put, export};
use super::world;
use crate::fetch_hostile::Puppet;

const LEN: usize = 3_000_000;

#[test]
fn a_lane_that_is_lost_in_the_middle_keeps_nobody_waiting() {
    for steps in [5, 10, 20, 30] {
        let mut world = world(3, 1, Some(true));
        export(&mut world, 2, "inbox", 2 * LEN);
        let imports = [0, 1].map(|from| world.import(from, 2, "inbox").unwrap());
        let control = world.hosts[2].port.control().unwrap();
        control.refuse_reopen(true);
        let mut puts = [0, 1].map(|from| Put::new(&world, from, imports[from], 1, LEN, (from * LEN) as u64, 1));
        for _ in 0..steps {
            puts.iter_mut().for_each(|put| assert!(!put.go_on(&mut world).unwrap()));
            world.step();
        }
        control.drop_admitted(1);
        for put in &mut puts {
            put.finish(&mut world).unwrap();
        }
        assert!(world.hosts[2].engine.counters().bulk_reopened > 0, "the lane wasn't lost");
    }
}

#[test]
fn a_sender_whose_lane_is_lost_does_not_spin() {
    let mut world = world(2, 1, Some(true));
    export(&mut world, 0, "inbox", LEN);
    export(&mut world, 1, "inbox", LEN);
    let [there, back] = [0, 1].map(|from| world.import(from, 1 - from, "inbox").unwrap());
    let mut put = Put::new(&world, 0, there, 1, LEN, 0, 1);
    let control = world.hosts[0].port.control().unwrap();
    control.refuse_reopen(true);
    for _ in 0..10 {
        assert!(!put.go_on(&mut world).unwrap());
        world.step();
    }
    let (now, host) = (world.now(), &mut world.hosts[0]);
    host.engine.clear_lane(&mut host.port);
    assert!(!host.engine.is_direct(there, LEN));
    let mut steps = 0;
    world.until("a delivery", |world| {
        steps += 1;
        put.go_on(world).unwrap().then_some(())
    });
    // Half a second has passed, in which there was little to do.
    assert!(world.now().since(now) >= Duration::from_millis(400) && steps < 20_000, "{steps} steps");
    // What is fetched from there doesn't even try.
    let (now, host) = (world.now(), &mut world.hosts[1]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(LEN).unwrap()));
    let fetch = host.engine.fetch(now, &mut host.port, back, 0, &mut target).unwrap().expect("a fetch");
    world.until("a fetch's end", |w| w.hosts[1].fetched(fetch).map_err(|(error, _)| error).unwrap());
    assert!(world.now().since(now) < Duration::from_millis(400), "it took {:?}", world.now().since(now));
}

/// Host 0 fetches from host 1, which has its own way of answering.
fn hostile_exporter() -> (crate::world::World, Puppet, u32) {
    let mut world = world(2, 1, Some(true));
    export(&mut world, 1, "table", LEN);
    let import = world.import(0, 1, "table").unwrap();
    let tap = world.network.tap();
    let (now, host) = (world.now(), &mut world.hosts[0]);
    host.engine.fetch(now, &mut host.port, import, 0, &mut Some(Box::new(vec![0; 1]))).unwrap().unwrap();
    let mut puppet = Puppet::new(&mut world, tap, 1, 0);
    let (now, host) = (world.now(), &mut world.hosts[0]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(LEN).unwrap()));
    let fetch = host.engine.fetch(now, &mut host.port, import, 0, &mut target).unwrap().unwrap();
    world.run(Duration::from_micros(50));
    puppet.told();
    (world, puppet, fetch)
}

fn ask(transfer: u32, request: u32, offset: u64) -> Record {
    let errand = Errand::Fetched { request };
    Record::Bulk(BulkRecord::Ask { transfer, errand, offset, segment: 1000, segments: 100, rest: 0 })
}

#[test]
fn pieces_of_a_fetch_do_not_go_where_a_transfer_lands() {
    let (mut world, mut puppet, fetch) = hostile_exporter();
    puppet.say(&mut world, ask(1, fetch, 0), &[]);
    let told = puppet.told();
    assert!(told.iter().any(|r| matches!(r, Record::Bulk(BulkRecord::Granted { transfer: 1, .. }))), "{told:?}");
    puppet.say(&mut world, Record::Fetched { request: fetch, at: 0, length: 1000 }, &[1; 1000]);
    assert_eq!(world.hosts[0].engine.received(fetch), 0);
    assert!(world.hosts[0].engine.has_ended(fetch), "that is a breach of the protocol");
}

#[test]
fn who_takes_no_answers_is_not_heard() {
    let (mut world, mut puppet, fetch) = hostile_exporter();
    for transfer in 0..3000 {
        puppet.add(&mut world, ask(transfer, fetch, 5), &[]);
        puppet.say(&mut world, Record::Bulk(BulkRecord::Cleared { transfer }), &[]);
    }
    let declined = world.hosts[0].engine.counters().rx_bulk_declined;
    assert!((1..=1300).contains(&declined), "{declined} answers");
}

#[test]
fn who_asks_and_cancels_does_not_keep_the_lane_closed() {
    let (mut world, mut puppet, fetch) = hostile_exporter();
    for transfer in 0..100 {
        puppet.say(&mut world, ask(transfer, fetch, 0), &[]);
        puppet.say(&mut world, Record::Bulk(BulkRecord::Cancel { transfer }), &[]);
        puppet.say(&mut world, Record::Bulk(BulkRecord::Cleared { transfer }), &[]);
        puppet.told();
    }
    let reopened = world.hosts[0].engine.counters().bulk_reopened;
    assert!((1..=2).contains(&reopened), "reopened {reopened} times");
    world.run(Duration::from_secs(2));
    puppet.told();
}

/// Whatever is damaged on the way, no link ends by it: what opens, resets and asks has a checksum, and so has what lands.
#[test]
fn damage_ends_no_link() {
    let seeds = std::env::var("SEEDS").map_or(4, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let mut world = world(3, seed, Some(true));
        export(&mut world, 2, "inbox", 600_000);
        let imports = [0, 1].map(|from| world.import(from, 2, "inbox").unwrap());
        world.network.set_conditions(Conditions { corruption: 0.1, duplication: 0.05, ..Conditions::default() });
        let mut puts = [0, 1].map(|from| Put::new(&world, from, imports[from], seed, 300_000, 0, 1));
        world.until("both deliveries", |world| {
            let [one, other] = &mut puts;
            let done = [one, other].map(|put| put.go_on(world).unwrap_or_else(|error| panic!("{error}, seed {seed}")));
            (done == [true; 2]).then_some(())
        });
        let ended = world.hosts.iter().map(|host| host.engine.counters().links_ended);
        assert_eq!(ended.sum::<u64>(), 0, "seed {seed}");
    }
}
