//! Remote read: what is fetched is what is there, byte for byte, whatever the network does.

use std::time::Duration;

use proptest::prelude::*;
use vmmc::LinkEnd;
use vmmc::Target;
use vmmc::engine::{EngineError, ExportOptions, Send};
use vmmc::memory::Region;
use vmmc::port::sim::Conditions;
use vmmc::wire::record::MAX_FETCHES;

use crate::world::{World, contents, export_options, key, link_config, seed};

/// An export that may be fetched from, with bytes of its own in it.
pub fn table(world: &mut World, host: usize, len: usize) -> (u32, Region) {
    let (id, region) =
        world.export_as(host, ExportOptions { readable: true, ..export_options("table", key(), 10) }, len);
    let bytes: Vec<u8> = (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8 ^ host as u8).collect();
    region.write(0, &bytes).unwrap();
    (id, region)
}

/// Begins a fetch, stepping as long as there are too many.
pub fn begin(world: &mut World, from: usize, import: u32, offset: u64, len: usize) -> Result<u32, EngineError> {
    let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0u8; len]));
    let begun = world.until("a fetch's begin", |w| {
        let (now, host) = (w.now(), &mut w.hosts[from]);
        host.engine.fetch(now, &mut host.port, import, offset, &mut target).transpose()
    });
    assert_eq!(target.is_some(), begun.is_err(), "what hasn't begun keeps its target");
    begun
}

pub fn bytes(target: Box<dyn Target>) -> Vec<u8> {
    target.downcast()
}

/// Waits for the end of a fetch.
pub fn end(world: &mut World, from: usize, fetch: u32) -> Result<Vec<u8>, EngineError> {
    world.until("a fetch's end", |w| match w.hosts[from].fetched(fetch) {
        Ok(target) => target.map(|target| Ok(bytes(target))),
        Err((error, _)) => Some(Err(error)),
    })
}

fn fetch(world: &mut World, from: usize, import: u32, offset: u64, len: usize) -> Result<Vec<u8>, EngineError> {
    let fetch = begin(world, from, import, offset, len)?;
    end(world, from, fetch)
}

/// Nothing of fetches is left on any link.
fn nothing_is_left(world: &mut World) {
    world.run(Duration::from_millis(5));
    for (number, host) in world.hosts.iter().enumerate() {
        for link in host.engine.peers() {
            assert_eq!((link.jobs, link.fetching), (0, 0), "host {number}");
        }
        assert_eq!(host.engine.counters().rx_unasked, 0, "host {number}");
    }
}

#[test]
fn fetches_of_every_length_around_a_packet() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = table(&mut world, 1, 70_000);
    let import = world.import(0, 1, "table").unwrap();
    let all = contents(&region);
    // 1500 - 28 (IP, UDP) - 32 (header) - 16 (FETCHED) bytes fill a packet.
    for len in [0, 1, 64, 1423, 1424, 1425, 2847, 2848, 2849, 60_000] {
        for offset in [0, 1, 7, 9999] {
            let got = fetch(&mut world, 0, import, offset, len).unwrap();
            assert!(got == all[offset as usize..][..len], "{len} bytes from {offset}");
        }
    }
    let counters = world.hosts[0].engine.counters();
    assert_eq!((counters.fetches, world.hosts[1].engine.counters().served_bytes), (40, counters.fetched_bytes));
    let export = world.hosts[1].engine.exports().next().unwrap();
    assert_eq!((export.readable, export.read_bytes, export.bytes), (true, counters.fetched_bytes, 0));
    nothing_is_left(&mut world);
}

#[test]
fn a_small_fetch_takes_as_long_as_a_small_send() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 10_000);
    let import = world.import(0, 1, "table").unwrap();
    world.run(Duration::from_millis(5));
    let start = world.now();
    let mut send = Send::new(&[1; 64], 0);
    send.urgent = true;
    let ticket = world.submit(0, import, send).unwrap();
    world.delivered(0, ticket).unwrap();
    let put = world.now().since(start);
    for _ in 0..10 {
        let start = world.now();
        fetch(&mut world, 0, import, 0, 64).unwrap();
        let took = world.now().since(start);
        assert!(took <= put, "{took:?}, and a send {put:?}: the network's time, without any of the hosts'");
    }
}

#[test]
fn a_large_fetch_takes_about_as_long_as_a_large_send() {
    let mut world = World::new(2, seed(), Conditions { rate: Some(10_000_000_000), ..Conditions::default() });
    table(&mut world, 1, 8_000_000);
    let import = world.import(0, 1, "table").unwrap();
    let data = vec![1; 8_000_000];
    // The first of each finds the window.
    let times = [false, true, false, true].map(|fetches| {
        let start = world.now();
        if fetches {
            fetch(&mut world, 0, import, 0, data.len()).unwrap();
        } else {
            let ticket = world.send(0, import, &data, 0, None).unwrap();
            world.delivered(0, ticket).unwrap();
        }
        world.now().since(start)
    });
    assert!(times[3] < times[2] * 11 / 10, "send, fetch, send, fetch: {times:?}");
}

#[test]
fn a_node_fetches_from_itself() {
    let mut world = World::new(1, seed(), Conditions::default());
    let (export, region) = table(&mut world, 0, 10_000);
    let import = world.import(0, 0, "table").unwrap();
    assert_eq!(fetch(&mut world, 0, import, 17, 9000).unwrap(), contents(&region)[17..9017]);
    assert!(matches!(fetch(&mut world, 0, import, 9000, 1001), Err(EngineError::OutOfRange { .. })));
    world.hosts[0].engine.unexport(export);
    assert!(matches!(fetch(&mut world, 0, import, 0, 1), Err(EngineError::Revoked { .. })));
}

#[test]
fn what_may_not_be_is_refused_before_anything_is_sent() {
    let mut world = World::new(2, seed(), Conditions::default());
    let options = |name, readable, writable| ExportOptions { readable, writable, ..export_options(name, key(), 10) };
    world.export_as(1, options("write-only", false, true), 100);
    world.export_as(1, options("read-only", true, false), 100);
    let [write_only, read_only] = ["write-only", "read-only"].map(|name| world.import(0, 1, name).unwrap());
    world.run(Duration::from_millis(5));
    let sent = |w: &World| w.hosts[0].engine.peers().next().unwrap().counters.tx_data;
    let before = sent(&world);
    let refused = fetch(&mut world, 0, write_only, 0, 1);
    assert!(matches!(refused, Err(EngineError::NotReadable { .. })), "{refused:?}");
    let refused = world.send(0, read_only, b"x", 0, None);
    assert!(matches!(refused, Err(EngineError::NotWritable { .. })), "{refused:?}");
    for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1)] {
        let refused = fetch(&mut world, 0, read_only, offset, len);
        assert!(matches!(refused, Err(EngineError::OutOfRange { .. })), "{offset} {len}: {refused:?}");
    }
    assert_eq!(sent(&world), before);
    assert_eq!(fetch(&mut world, 0, read_only, 40, 60), Ok(vec![0; 60]));
    assert_eq!(world.hosts[0].engine.counters().fetches, 1);
}

#[test]
fn a_fetch_sees_what_was_sent_before_it() {
    let mut world = World::new(2, seed(), Conditions { loss: 0.1, reordering: 0.2, ..Conditions::default() });
    table(&mut world, 1, 20_000);
    let import = world.import(0, 1, "table").unwrap();
    for round in 0..100u8 {
        // The last of them leaves its packet open for more.
        let data = vec![round; 10_000];
        world.submit(0, import, Send::new(&data, 0)).unwrap();
        let mut send = Send::new(&data[..100], 10_000);
        send.queued = true;
        world.submit(0, import, send).unwrap();
        assert!(fetch(&mut world, 0, import, 0, 10_100).unwrap() == [round; 10_100], "round {round}");
    }
}

#[test]
fn many_are_under_way_and_small_ones_share_packets() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = table(&mut world, 1, 100_000);
    let import = world.import(0, 1, "table").unwrap();
    let all = contents(&region);
    let before = world.hosts[1].engine.peers().next().unwrap().counters.tx_data;
    let fetches: Vec<(u64, u32)> = (0..1000)
        .map(|i| {
            let offset = i * 97 % 99_000;
            (offset, begin(&mut world, 0, import, offset, 64).unwrap())
        })
        .collect();
    for (offset, fetch) in fetches {
        assert!(end(&mut world, 0, fetch).unwrap() == all[offset as usize..][..64]);
    }
    let packets = world.hosts[1].engine.peers().next().unwrap().counters.tx_data - before;
    assert!(packets < 200, "{packets} packets for 1000 answers of 80 bytes");
    nothing_is_left(&mut world);
}

#[test]
fn a_node_asks_for_no_more_than_its_peer_takes() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 100_000);
    let import = world.import(0, 1, "table").unwrap();
    let fetches: Vec<u32> = (0..MAX_FETCHES).map(|_| begin(&mut world, 0, import, 0, 100_000).unwrap()).collect();
    let (now, host) = (world.now(), &mut world.hosts[0]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0; 1]));
    assert_eq!(host.engine.fetch(now, &mut host.port, import, 0, &mut target), Ok(None));
    for fetch in fetches {
        end(&mut world, 0, fetch).unwrap();
    }
    assert_eq!(world.hosts[1].engine.counters().refused_fetches, 0);
    nothing_is_left(&mut world);
}

#[test]
fn a_small_fetch_doesn_t_wait_behind_large_ones() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 4_000_000);
    let import = world.import(0, 1, "table").unwrap();
    let large: Vec<u32> = (0..3).map(|_| begin(&mut world, 0, import, 0, 4_000_000).unwrap()).collect();
    world.run(Duration::from_micros(100));
    fetch(&mut world, 0, import, 0, 64).unwrap();
    for &fetch in &large {
        let received = world.hosts[0].engine.received(fetch);
        assert!((1..2_000_000).contains(&received), "{received} of 4000000 bytes had come before 64 had");
    }
    let spread: Vec<u64> = large.iter().map(|&fetch| world.hosts[0].engine.received(fetch)).collect();
    assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() < 10_000, "{spread:?}: they take turns");
}

#[test]
fn fetches_and_sends_share_the_room() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 4_000_000);
    let (_, inbox) = world.export(0, "inbox", 4_000_000, 10);
    let import = world.import(0, 1, "table").unwrap();
    let back = world.import(1, 0, "inbox").unwrap();
    let reading = begin(&mut world, 0, import, 0, 4_000_000).unwrap();
    let data = vec![7; 4_000_000];
    let mut send = Send::new(&data, 0);
    let half = 2_000_000;
    world.until("half of either", |w| {
        let (now, host) = (w.now(), &mut w.hosts[1]);
        host.engine.send(now, &mut host.port, back, &mut send).unwrap();
        (send.done() >= half || w.hosts[0].engine.received(reading) >= half as u64).then_some(())
    });
    let (sent, read) = (send.done(), world.hosts[0].engine.received(reading) as usize);
    assert!(sent.min(read) > half * 3 / 4, "{sent} bytes were sent, and {read} fetched meanwhile");
    // A send that is given up holds nobody up.
    end(&mut world, 0, reading).unwrap();
    assert_eq!(contents(&inbox)[..sent - 300_000], data[..sent - 300_000]);
}

#[test]
fn sends_that_share_packets_leave_room_to_fetches() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 4_000_000);
    world.export(0, "inbox", 200, 10);
    let import = world.import(0, 1, "table").unwrap();
    let back = world.import(1, 0, "inbox").unwrap();
    let reading = begin(&mut world, 0, import, 0, 4_000_000).unwrap();
    let (mut sent, half) = (0, 2_000_000);
    world.until("half of either", |w| {
        let (now, host) = (w.now(), &mut w.hosts[1]);
        loop {
            let mut send = Send::new(&[7; 200], 0);
            send.queued = true;
            let coalesced = host.engine.coalesce(&mut host.port, back, &mut send).unwrap();
            if coalesced.is_none() && host.engine.send(now, &mut host.port, back, &mut send).unwrap().is_none() {
                break;
            }
            sent += 200;
        }
        (sent >= half || w.hosts[0].engine.received(reading) >= half).then_some(())
    });
    let read = world.hosts[0].engine.received(reading);
    assert!(sent.min(read) > half / 2, "{sent} bytes were sent, and {read} fetched meanwhile");
}

/// Fetches would make room for sends, but what these lack is for the other program to give.
#[test]
fn a_send_that_has_no_credit_doesn_t_hold_up_fetches() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = table(&mut world, 1, 1_000_000);
    world.export(0, "inbox", 100, 4);
    let import = world.import(0, 1, "table").unwrap();
    let back = world.import(1, 0, "inbox").unwrap();
    let notify = |w: &mut World| {
        let mut send = Send::new(b"x", 0);
        send.notify = Some(1);
        let (now, host) = (w.now(), &mut w.hosts[1]);
        host.engine.send(now, &mut host.port, back, &mut send).unwrap()
    };
    while notify(&mut world).is_some() {
        world.run(Duration::from_micros(100));
    }
    let reading = begin(&mut world, 0, import, 0, 1_000_000).unwrap();
    let start = world.now();
    // It tries again and again.
    let bytes = world.until("the end of a fetch", |w| {
        notify(w);
        assert!(w.now() < start + Duration::from_secs(1), "{} bytes in a second", w.hosts[0].engine.received(reading));
        w.hosts[0].fetched(reading).unwrap_or_else(|_| panic!("it has failed")).map(bytes)
    });
    assert!(bytes == contents(&region));
}

/// Panics when it is written to beyond its first half.
struct Fragile(Vec<u8>);

impl Target for Fragile {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        assert!(at < self.len() / 2, "this target is meant to panic");
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn a_target_that_panics_comes_back_and_harms_nobody() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = table(&mut world, 1, 100_000);
    for from in [0, 1] {
        let import = world.import(from, 1, "table").unwrap();
        let mut target: Option<Box<dyn Target>> = Some(Box::new(Fragile(vec![0; 100_000])));
        let (now, host) = (world.now(), &mut world.hosts[from]);
        let (error, target) = match host.engine.fetch(now, &mut host.port, import, 0, &mut target) {
            Ok(fetch) => world.until("the end of a fetch", |w| w.hosts[from].fetched(fetch.unwrap()).err()),
            // From itself a node fetches at once.
            Err(error) => (error, target.take().unwrap()),
        };
        assert!(matches!(error, EngineError::TargetPanicked), "{error}");
        assert!(target.downcast::<Fragile>().0[..40_000] == contents(&region)[..40_000]);
        assert!(fetch(&mut world, from, import, 0, 100_000).unwrap() == contents(&region));
    }
    nothing_is_left(&mut world);
}

/// A program that fetches what it was notified of, before it takes the next notification.
#[test]
fn a_full_queue_of_notifications_doesn_t_hold_up_fetches() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = table(&mut world, 1, 1_000_000);
    let (inbox, _) = world.export(0, "inbox", 100, 4);
    let import = world.import(0, 1, "table").unwrap();
    let back = world.import(1, 0, "inbox").unwrap();
    let mut tag = 0;
    for _ in 0..20 {
        // As many as the other takes.
        loop {
            let mut send = Send::new(b"x", 0);
            send.notify = Some(tag);
            let (now, host) = (world.now(), &mut world.hosts[1]);
            match host.engine.send(now, &mut host.port, back, &mut send).unwrap() {
                Some(_) => tag += 1,
                None => break,
            }
            world.run(Duration::from_micros(100));
        }
        assert!(fetch(&mut world, 0, import, 0, 1_000_000).unwrap() == contents(&region));
        assert!(world.hosts[0].engine.take_notification(inbox).is_some());
    }
    assert!(tag < 4 + 220 + 20, "{tag} sends were let through: the queue holds 4, and credit is for 200");
}

#[test]
fn a_fetch_that_is_given_up_ends_on_both_sides() {
    let mut world = World::new(2, seed(), Conditions { loss: 0.05, ..Conditions::default() });
    let (_, region) = table(&mut world, 1, 4_000_000);
    let import = world.import(0, 1, "table").unwrap();
    for wait in [0, 20, 100, 200] {
        let large = begin(&mut world, 0, import, 0, 4_000_000).unwrap();
        let small = begin(&mut world, 0, import, 0, 100).unwrap();
        world.run(Duration::from_micros(wait));
        let got = world.hosts[0].engine.received(large) as usize;
        let kept = bytes(world.hosts[0].cancel_fetch(large).unwrap());
        assert!(kept[..got] == contents(&region)[..got] && kept[got..].iter().all(|&b| b == 0));
        assert!(got < 4_000_000);
        assert_eq!(world.hosts[0].cancel_fetch(small).map(|t| t.len()), Some(100));
        assert!(matches!(world.hosts[0].fetched(large), Ok(None)));
        // Their numbers aren't used again while something may still come.
        assert_eq!(fetch(&mut world, 0, import, 5, 5000).unwrap(), contents(&region)[5..5005]);
        world.run(Duration::from_millis(50));
        nothing_is_left(&mut world);
    }
    assert!(world.hosts[1].engine.counters().served_bytes < 8_000_000, "what nobody wants is not sent to the end");
}

#[test]
fn a_revoked_export_ends_the_fetches_from_it() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, _) = table(&mut world, 1, 4_000_000);
    let import = world.import(0, 1, "table").unwrap();
    let fetches: Vec<u32> = (0..5).map(|_| begin(&mut world, 0, import, 0, 4_000_000).unwrap()).collect();
    world.run(Duration::from_micros(200));
    assert!(world.hosts[0].engine.received(fetches[0]) > 0);
    world.hosts[1].engine.unexport(export);
    for fetch in fetches {
        let ended = end(&mut world, 0, fetch);
        assert!(matches!(ended, Err(EngineError::Revoked { .. })), "{ended:?}");
    }
    assert!(matches!(begin(&mut world, 0, import, 0, 1), Err(EngineError::Revoked { .. })));
    nothing_is_left(&mut world);
    table(&mut world, 1, 100);
    let import = world.import(0, 1, "table").unwrap();
    fetch(&mut world, 0, import, 0, 100).unwrap();
}

#[test]
fn a_grant_that_is_given_back_ends_the_fetches_under_it() {
    let mut world = World::new(2, seed(), Conditions::default());
    table(&mut world, 1, 4_000_000);
    let import = world.import(0, 1, "table").unwrap();
    let fetch = begin(&mut world, 0, import, 0, 4_000_000).unwrap();
    world.run(Duration::from_micros(100));
    world.hosts[0].engine.unimport(import);
    assert_eq!(end(&mut world, 0, fetch), Err(EngineError::Dropped));
    nothing_is_left(&mut world);
}

#[test]
fn a_peer_that_dies_or_starts_anew_ends_the_fetches_from_it() {
    for dies in [false, true] {
        let mut world = World::new(2, seed(), Conditions::default());
        table(&mut world, 1, 4_000_000);
        let import = world.import(0, 1, "table").unwrap();
        let fetch = begin(&mut world, 0, import, 0, 4_000_000).unwrap();
        world.run(Duration::from_micros(100));
        assert!(world.hosts[0].engine.received(fetch) > 0);
        match dies {
            true => world.hosts[1].on = false,
            false => world.restart(1, link_config()),
        }
        match end(&mut world, 0, fetch) {
            Err(EngineError::LinkEnded { end: LinkEnd::Silent(_), .. }) if dies => {}
            Err(EngineError::LinkEnded { end: LinkEnd::Restarted, .. }) if !dies => {}
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        }
    }
}

#[test]
fn many_fetch_from_one_and_one_from_many() {
    let mut world = World::new(6, seed(), Conditions { loss: 0.02, ..Conditions::default() });
    let regions: Vec<Vec<u8>> = (0..6).map(|host| contents(&table(&mut world, host, 300_000).1)).collect();
    let mut fetches = Vec::new();
    for from in 0..6 {
        for to in 0..6 {
            let import = world.import(from, to, "table").unwrap();
            fetches.push((from, to, begin(&mut world, from, import, 0, 300_000).unwrap()));
        }
    }
    for (from, to, fetch) in fetches {
        assert!(end(&mut world, from, fetch).unwrap() == regions[to], "host {from} has fetched other bytes from {to}");
    }
    nothing_is_left(&mut world);
}

#[test]
fn at_every_mtu() {
    for mtu in [1280, 3800, 9000, 65535] {
        let link = vmmc::link::Config { mtu, ..link_config() };
        let conditions = Conditions { max_frame: mtu + 18, loss: 0.01, ..Conditions::default() };
        let mut world = World::with(2, seed(), conditions, link);
        let (_, region) = table(&mut world, 1, 1_000_000);
        let import = world.import(0, 1, "table").unwrap();
        assert!(fetch(&mut world, 0, import, 0, 1_000_000).unwrap() == contents(&region), "MTU {mtu}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Fetches both ways over a bad network, while sends go both ways, and some fetches are given up.
    #[test]
    fn a_bad_network_changes_nothing(
        seed: u64,
        loss in 0.0..0.2f64,
        duplication in 0.0..0.1f64,
        reordering in 0.0..0.3f64,
        corruption in 0.0..0.05f64,
        detour in 1u64..500,
        steps in prop::collection::vec((any::<bool>(), 0u8..4, 0usize..50_000, 0usize..30_000), 1..50),
    ) {
        let detour = Duration::from_micros(detour);
        let conditions = Conditions { loss, duplication, reordering, corruption, detour, ..Conditions::default() };
        // Opening a link over such a network has tests of its own.
        let mut world = World::new(2, seed, Conditions::default());
        let tables: Vec<Vec<u8>> = (0..2).map(|host| contents(&table(&mut world, host, 80_000).1)).collect();
        let inboxes: Vec<Region> = (0..2).map(|host| world.export(host, "inbox", 80_000, 10).1).collect();
        let imports = [0, 1].map(|from| ["table", "inbox"].map(|name| world.import(from, 1 - from, name).unwrap()));
        world.network.set_conditions(conditions);
        let (mut models, mut fetches, mut tickets) = ([vec![0; 80_000], vec![0; 80_000]], Vec::new(), Vec::new());
        for (n, &(forth, what, offset, len)) in steps.iter().enumerate() {
            let from = usize::from(forth);
            match what {
                0 => {
                    let data = vec![n as u8; len + 1];
                    models[1 - from][offset..offset + len + 1].copy_from_slice(&data);
                    tickets.push((from, world.send(from, imports[from][1], &data, offset as u64, None).unwrap()));
                }
                1 => {
                    let fetch = begin(&mut world, from, imports[from][0], offset as u64, len).unwrap();
                    world.run(Duration::from_micros(len as u64 % 300));
                    prop_assert!(world.hosts[from].cancel_fetch(fetch).is_some());
                }
                _ => fetches.push((from, offset, len, begin(&mut world, from, imports[from][0], offset as u64, len).unwrap())),
            }
        }
        for (from, offset, len, fetch) in fetches {
            prop_assert!(end(&mut world, from, fetch).unwrap() == tables[1 - from][offset..offset + len]);
        }
        for (from, ticket) in tickets {
            world.delivered(from, ticket).unwrap();
        }
        for host in 0..2 {
            prop_assert!(contents(&inboxes[host]) == models[host]);
        }
        world.run(Duration::from_secs(2));
        nothing_is_left(&mut world);
        for host in &world.hosts {
            prop_assert_eq!(vmmc::port::Port::rx_headroom(&host.port), vmmc::port::Port::rx_capacity(&host.port));
        }
    }
}
