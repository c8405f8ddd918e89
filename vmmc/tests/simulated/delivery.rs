//! What is sent arrives: every byte once, in order, whatever the network does.

use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::EngineError;
use vmmc::port::Port;
use vmmc::port::sim::Conditions;

use crate::world::{World, contents, key, link_config, options, seed};

fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ salt).collect()
}

#[test]
fn one_put_with_notification() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, region) = world.export(1, "inbox", 10_000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let data = pattern(5000, 0);
    let ticket = world.send(0, import, &data, 123, Some(42)).unwrap();
    world.delivered(0, ticket).unwrap();
    let news = world.notification(1, export);
    assert_eq!((news.offset, news.length, news.tag, news.peer), (123, 5000, 42, world.hosts[0].address));
    let seen = contents(&region);
    assert_eq!(seen[123..5123], data);
    assert!(seen[..123].iter().chain(&seen[5123..]).all(|&b| b == 0), "nothing outside the send is touched");
}

#[test]
fn sends_of_every_length_around_a_packet() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, region) = world.export(1, "inbox", 5000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    // 1500 - 28 (IP, UDP) - 32 (header) - 16 (PUT) - 16 (notification) bytes fill a packet.
    for len in [0, 1, 1407, 1408, 1409, 1423, 1424, 1425, 2847, 2848, 2849, 5000] {
        for notify in [true, false] {
            let data = pattern(len, len as u8);
            let sent = world.send(0, import, &data, 0, notify.then_some(len as u32));
            if len == 0 && !notify {
                assert_eq!(sent, Err(EngineError::Empty));
                continue;
            }
            world.delivered(0, sent.unwrap()).unwrap();
            assert_eq!(contents(&region)[..len], data, "{len} bytes");
            if notify {
                let news = world.notification(1, export);
                assert_eq!((news.offset, news.length, news.tag), (0, len as u64, len as u32));
            }
            assert_eq!(world.hosts[1].engine.take_notification(export), None);
        }
    }
}

#[test]
fn a_node_imports_its_own_export() {
    let mut world = World::new(1, seed(), Conditions::default());
    let (export, region) = world.export(0, "mine", 100, 1);
    let import = world.import(0, 0, "mine").unwrap();
    let ticket = world.send(0, import, b"hello", 3, Some(1)).unwrap();
    world.delivered(0, ticket).unwrap();
    assert_eq!(&contents(&region)[3..8], b"hello");
    // The queue holds one: the second waits for the application.
    let mut second = vmmc::engine::Send::new(b"again", 0);
    second.notify = Some(2);
    let now = world.now();
    let host = &mut world.hosts[0];
    assert_eq!(host.engine.send(now, &mut host.port, import, &mut second), Ok(None));
    assert_eq!(host.engine.take_notification(export).unwrap().tag, 1);
    assert!(host.engine.send(now, &mut host.port, import, &mut second).unwrap().is_some());
    assert_eq!(host.engine.take_notification(export).unwrap().tag, 2);
    host.engine.unexport(export);
    let revoked = host.engine.send(now, &mut host.port, import, &mut vmmc::engine::Send::new(b"x", 0));
    assert!(matches!(revoked, Err(EngineError::Revoked { .. })), "{revoked:?}");
}

#[test]
fn imports_are_checked() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let denied = world.begin_import(0, 1, "inbox", vmmc::Key::PUBLIC).unwrap();
    let unknown = world.begin_import(0, 1, "outbox", key()).unwrap();
    world.run(Duration::from_millis(100));
    let engine = &world.hosts[0].engine;
    assert!(matches!(engine.imported(denied), Err(EngineError::Denied { .. })), "{:?}", engine.imported(denied));
    assert!(matches!(engine.imported(unknown), Err(EngineError::UnknownName { .. })));
    let good = world.import(0, 1, "inbox").unwrap();
    for (offset, length) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1)] {
        let refused = world.send(0, good, &vec![1; length], offset, Some(0));
        assert!(matches!(refused, Err(EngineError::OutOfRange { .. })), "{offset} {length}: {refused:?}");
    }
    assert!(matches!(world.begin_import(0, 1, "", key()), Err(EngineError::BadName { .. })));
    assert!(matches!(world.begin_import(0, 1, &"x".repeat(129), key()), Err(EngineError::BadName { .. })));
}

#[test]
fn a_slow_application_holds_its_peer_up_and_loses_nothing() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, _) = world.export(1, "inbox", 100, 4);
    let import = world.import(0, 1, "inbox").unwrap();
    let put = |world: &mut World, tag: u32| {
        let mut send = vmmc::engine::Send::new(b"x", 0);
        send.notify = Some(tag);
        let now = world.now();
        let host = &mut world.hosts[0];
        host.engine.send(now, &mut host.port, import, &mut send).unwrap()
    };
    let mut sent = 0;
    let mut last = None;
    // Much longer than the peer timeout: being slow isn't being dead.
    for _ in 0..20_000 {
        while let Some(ticket) = put(&mut world, sent) {
            (sent, last) = (sent + 1, Some(ticket));
        }
        world.run(Duration::from_millis(1));
    }
    assert!((4..=404).contains(&sent), "{sent} sends were let through: the queue holds 4, and credit is for 200");
    for tag in 0..1000 {
        let news = world.until("a notification", |w| {
            while sent < 1000
                && let Some(ticket) = put(w, sent)
            {
                (sent, last) = (sent + 1, Some(ticket));
            }
            w.hosts[1].engine.take_notification(export)
        });
        assert_eq!(news.tag, tag);
    }
    world.delivered(0, last.unwrap()).unwrap();
}

#[test]
fn a_revoked_export_is_left_alone_and_the_sender_is_told() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, region) = world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let early = world.send(0, import, &[1; 10], 0, None).unwrap();
    world.delivered(0, early).unwrap();
    // These two are under way when the export goes.
    let late = world.send(0, import, &[2; 10], 20, None).unwrap();
    world.hosts[1].engine.unexport(export);
    let told = world.delivered(0, late);
    assert!(matches!(told, Err(EngineError::Revoked { .. })), "{told:?}");
    assert_eq!(world.hosts[0].engine.is_delivered(&early), Ok(true), "what arrived before stays delivered");
    assert!(contents(&region)[20..].iter().all(|&b| b == 0), "nothing is written after the revocation");
    assert_eq!(world.hosts[1].engine.counters().refused_puts, 1);
    let after = world.send(0, import, &[3; 10], 0, None);
    assert!(matches!(after, Err(EngineError::Revoked { .. })), "{after:?}");
    // The name is free again, and a new import works.
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, &[4; 10], 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
}

#[test]
fn the_smaller_mtu_wins() {
    let large = link_config();
    let mut world = World::with(2, seed(), Conditions { max_frame: 9018, ..Conditions::default() }, large);
    for (host, mtu) in [(0, 9000), (1, 1400)] {
        world.restart(host, vmmc::link::Config { mtu, ..large });
    }
    world.export(1, "inbox", 100_000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, &pattern(100_000, 1), 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
    assert!(world.hosts[0].engine.peers().all(|p| p.mtu == 1400));
    assert!(world.hosts[1].engine.peers().all(|p| p.mtu == 1400));
}

#[test]
fn a_path_with_a_smaller_mtu_is_found_out() {
    // Both interfaces could do 9000, and a switch between them does 1500.
    let link = vmmc::link::Config { mtu: 9000, ..link_config() };
    let mut world = World::with(2, seed(), Conditions { max_frame: 1518, ..Conditions::default() }, link);
    world.export(1, "inbox", 100_000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, &pattern(100_000, 1), 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
    assert!(world.hosts[0].engine.peers().all(|p| p.mtu == 1500));
}

#[test]
fn a_peer_that_is_slow_to_answer_still_gets_large_packets() {
    // The first HELLOs, of the larger sizes, meet nobody.
    let link = vmmc::link::Config { mtu: 9000, ..link_config() };
    let mut world = World::with(2, seed(), Conditions { max_frame: 9018, ..Conditions::default() }, link);
    world.export(1, "inbox", 100_000, 10);
    world.hosts[1].on = false;
    let import = world.begin_import(0, 1, "inbox", key()).unwrap();
    world.run(Duration::from_millis(24));
    world.hosts[1].on = true;
    world.until("the import", |w| w.hosts[0].engine.imported(import).unwrap());
    world.run(Duration::from_millis(50));
    assert_eq!(world.hosts[0].engine.peers().map(|p| p.mtu).collect::<Vec<_>>(), [9000]);
    assert_eq!(world.hosts[1].engine.peers().map(|p| p.mtu).collect::<Vec<_>>(), [9000]);
}

#[test]
fn queued_sends_share_packets_and_stay_in_order() {
    let mut world = World::new(2, seed(), Conditions { loss: 0.1, ..Conditions::default() });
    let (export, region) = world.export(1, "inbox", 10_000, 2000);
    let import = world.import(0, 1, "inbox").unwrap();
    let before = world.hosts[0].engine.peers().next().unwrap().counters.tx_data;
    let mut model = vec![0; 10_000];
    let mut tickets = Vec::new();
    for i in 0..1000u32 {
        let data = pattern(1 + (i as usize * 7) % 60, i as u8);
        let offset = (i as usize * 131) % 9000;
        let mut send = vmmc::engine::Send::new(&data, offset as u64);
        (send.queued, send.notify) = (true, (i % 3 == 0).then_some(i));
        let ticket = world.submit(0, import, send).unwrap();
        model[offset..offset + data.len()].copy_from_slice(&data);
        tickets.push(ticket);
    }
    for ticket in tickets {
        world.delivered(0, ticket).unwrap();
    }
    assert!(contents(&region) == model);
    for tag in (0..1000).filter(|i| i % 3 == 0) {
        assert_eq!(world.hosts[1].engine.take_notification(export).unwrap().tag, tag);
    }
    let packets = world.hosts[0].engine.peers().next().unwrap().counters.tx_data - before;
    assert!(packets < 100, "{packets} packets for 1000 sends of 30 bytes on average");
}

#[test]
fn without_checksums_when_both_agree() {
    let link = vmmc::link::Config { options: options(false), ..link_config() };
    let mut world = World::with(2, seed(), Conditions::default(), link);
    let (export, region) = world.export(1, "inbox", 5000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    world.send(0, import, &pattern(5000, 1), 0, Some(1)).unwrap();
    world.notification(1, export);
    assert_eq!(contents(&region), pattern(5000, 1));
}

/// Random sends over a bad network, both ways, against a model: the bytes are those of the sends in order, and the
/// notifications come in order, each after its data.
fn survives(seed: u64, conditions: Conditions, sends: &[(bool, usize, usize)]) {
    const LEN: usize = 20_000;
    let mut world = World::new(2, seed, conditions);
    let ends: Vec<_> = (0..2).map(|host| world.export(host, "inbox", LEN, 1000)).collect();
    let imports = [world.import(0, 1, "inbox").unwrap(), world.import(1, 0, "inbox").unwrap()];
    let mut models = [vec![0; LEN], vec![0; LEN]];
    let mut expected = [Vec::new(), Vec::new()];
    let mut tickets = Vec::new();
    for (tag, &(forth, offset, len)) in sends.iter().enumerate() {
        let (from, to) = if forth { (0, 1) } else { (1, 0) };
        let (offset, len) = (offset % LEN, 1 + len % (LEN - offset % LEN));
        let data = pattern(len, tag as u8);
        let mut send = vmmc::engine::Send::new(&data, offset as u64);
        (send.notify, send.queued) = (Some(tag as u32), tag % 2 == 1);
        let ticket = world.submit(from, imports[from], send).unwrap();
        tickets.push((from, ticket));
        models[to][offset..offset + len].copy_from_slice(&data);
        expected[to].push((offset as u64, len as u64, tag as u32));
    }
    for (from, ticket) in tickets {
        world.delivered(from, ticket).unwrap();
    }
    for host in 0..2 {
        assert!(contents(&ends[host].1) == models[host], "host {host} has other bytes than were sent, seed {seed}");
        for &(offset, length, tag) in &expected[host] {
            let news = world.hosts[host].engine.take_notification(ends[host].0).expect("a notification is missing");
            assert_eq!((news.offset, news.length, news.tag), (offset, length, tag), "seed {seed}");
        }
        assert_eq!(world.hosts[host].engine.take_notification(ends[host].0), None);
    }
    // All packets have gone back to their ports.
    world.run(Duration::from_secs(1));
    for host in &world.hosts {
        assert_eq!(host.port.rx_headroom(), host.port.rx_capacity(), "a received packet was not given back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_bad_network_changes_nothing(
        seed: u64,
        loss in 0.0..0.2f64,
        duplication in 0.0..0.1f64,
        reordering in 0.0..0.3f64,
        corruption in 0.0..0.05f64,
        detour in 1u64..500,
        sends in prop::collection::vec((any::<bool>(), any::<usize>(), any::<usize>()), 1..40),
    ) {
        let detour = Duration::from_micros(detour);
        survives(seed, Conditions { loss, duplication, reordering, corruption, detour, ..Conditions::default() }, &sends);
    }
}
