//! Garbage, forgeries and replays: counted, refused, and without effect on anything.

use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::{Config, Engine};
use vmmc::port::Port;
use vmmc::port::sim::{Conditions, Network};
use vmmc::time::Time;
use vmmc::wire::frame::Datagram;
use vmmc::wire::record::Record;
use vmmc::wire::{HEADER_LEN, Header, Hello, Kind};

use crate::world::{World, address, contents, forge, link_config, seed};

/// A frame to host 1 that claims to be from `source`. Answers to it reach nobody.
fn frame(source: &str, header: Header, body: &[u8]) -> Vec<u8> {
    forge(source.parse().unwrap(), [2, 0, 0, 0, 0, 99], 1, header, body)
}

fn hello(source: &str, token: u64, mtu: u16) -> Vec<u8> {
    let hello = Hello { incarnation: 1, token, mtu, ..Hello::default() };
    let mut body = hello.emit().to_vec();
    body.resize(usize::from(mtu) - 28 - 32, 0);
    frame(source, Header { kind: Kind::Hello, ..Header::default() }, &body)
}

#[test]
fn a_flood_of_hellos_takes_bounded_room_and_shuts_nobody_out() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    for i in 0..2000u32 {
        world.network.inject(&hello(&format!("10.9.{}.{}:7000", i / 250, i % 250), u64::from(i) + 1, 1500));
        if i % 50 == 0 {
            world.run(Duration::from_micros(50));
        }
    }
    world.run(Duration::from_millis(5));
    assert!(world.hosts[1].engine.peers().count() <= 65);
    let ticket = world.send(0, import, b"hello", 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
    world.run(Duration::from_secs(5));
    assert_eq!(world.hosts[1].engine.peers().count(), 1, "half-open links go away by themselves");
}

#[test]
fn a_forged_hello_doesn_t_end_a_link() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    world.network.inject(&hello("10.0.0.1:7000", 12345, 1500));
    world.run(Duration::from_secs(10));
    let ticket = world.send(0, import, b"hello", 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
}

#[test]
fn frames_of_another_vlan_are_refused() {
    let tagged =
        |id: u16, frame: &[u8]| [&frame[..12], &[0x81, 0], &(0xe000 | id).to_be_bytes(), &frame[12..]].concat();
    for (vlan, ours) in [(None, 0), (Some(5), 5)] {
        let network = Network::new(1, Conditions { max_frame: 1522, ..Conditions::default() });
        let mut port = network.attach([2, 0, 0, 0, 0, 2]);
        let answers = network.tap();
        let (local, mac, link) = (address(1), [2, 0, 0, 0, 0, 2], link_config());
        let config = Config { local, mac, vlan, link, max_peers: 16, max_exports: 1, max_imports: 1 };
        let mut random = fastrand::Rng::with_seed(1);
        let mut engine = Engine::new(config, Box::new(move || random.u64(..)));
        let bare = hello("10.0.0.1:7000", 5, 1500);
        // With a priority alone a frame is of no VLAN.
        let frames = [bare.clone(), tagged(0, &bare), tagged(5, &bare), tagged(6, &bare)];
        let (mut refused, now) = (0, Time::from_nanos(1_000_000));
        for (frame, of) in frames.iter().zip([0, 0, 5, 6]) {
            network.inject(frame);
            network.advance(network.now() + Duration::from_millis(1));
            let mut batch = Vec::new();
            port.receive(&mut batch).unwrap();
            batch.into_iter().for_each(|packet| engine.receive(now, &mut port, packet));
            engine.tick(now, &mut port);
            refused += u64::from(of != ours);
            assert_eq!(engine.counters().rx_other_vlan, refused);
            let tag = |answer: Vec<u8>| Datagram::parse(&answer, answer.len()).unwrap().vlan;
            let answered: Vec<_> = answers.try_iter().map(tag).collect();
            assert_eq!(answered, if of == ours { vec![vlan] } else { vec![] }, "of VLAN {of}");
        }
        assert_eq!(engine.peers().count(), 1);
    }
}

#[test]
fn a_hello_that_lies_about_its_length_is_refused() {
    let mut world = World::new(2, seed(), Conditions::default());
    let mut body = Hello { incarnation: 1, token: 5, mtu: 9000, ..Hello::default() }.emit().to_vec();
    body.resize(1400, 0);
    world.network.inject(&frame("10.0.0.1:7000", Header { kind: Kind::Hello, ..Header::default() }, &body));
    world.run(Duration::from_millis(1));
    assert_eq!(world.hosts[1].engine.counters().rx_malformed, 1);
    assert_eq!(world.hosts[1].engine.peers().count(), 0);
}

#[test]
fn forged_data_is_refused_whatever_it_says() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (_, region) = world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let put = Record::Put { grant: 1 << 20, offset: 0, length: 4, notify: None };
    let body = [put.emit().as_ref(), b"evil"].concat();
    for kind in [Kind::Data, Kind::Ack, Kind::Close, Kind::Reset, Kind::Welcome] {
        for token in [0, 1, u64::MAX] {
            for source in ["10.0.0.1:7000", "10.0.0.9:7000"] {
                let body = if kind == Kind::Data { &body[..] } else { &[] };
                world.network.inject(&frame(source, Header { kind, token, ..Header::default() }, body));
            }
        }
    }
    world.run(Duration::from_millis(1));
    assert!(contents(&region).iter().all(|&b| b == 0));
    let ticket = world.send(0, import, b"good", 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
    assert_eq!(&contents(&region)[..4], b"good");
}

#[test]
fn resets_are_not_an_amplifier() {
    let mut world = World::new(2, seed(), Conditions::default());
    for i in 0..1000 {
        world.network.inject(&frame("10.0.0.1:7000", Header { kind: Kind::Ack, token: i, ..Header::default() }, &[]));
    }
    world.run(Duration::from_millis(1));
    let counters = world.hosts[1].engine.counters();
    let sent = vmmc::port::Port::counters(&world.hosts[1].port).tx_packets;
    assert_eq!(counters.rx_unknown, 1000);
    assert!(sent <= 33, "{sent} answers");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Random bytes behind plausible headers, thrown into a live link.
    #[test]
    fn garbage_has_no_effect(seed: u64, frames in prop::collection::vec((0u8..7, any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 1..60)) {
        let mut world = World::new(2, seed, Conditions::default());
        let (_, region) = world.export(1, "inbox", 100, 10);
        let import = world.import(0, 1, "inbox").unwrap();
        for (kind, token, bytes) in frames {
            let kinds = [Kind::Hello, Kind::Welcome, Kind::Data, Kind::Ack, Kind::Close, Kind::Reset];
            let raw = match kinds.get(usize::from(kind)) {
                Some(&kind) => frame("10.0.0.1:7000", Header { kind, token, ..Header::default() }, &bytes),
                None => [&[2, 0, 0, 0, 0, 2][..], &bytes].concat(),
            };
            world.network.inject(&raw);
        }
        world.run(Duration::from_millis(1));
        let ticket = world.send(0, import, b"good", 0, None).unwrap();
        prop_assert_eq!(world.delivered(0, ticket), Ok(()));
        let seen = contents(&region);
        prop_assert_eq!(&seen[..4], b"good");
        prop_assert!(seen[4..].iter().all(|&b| b == 0));
    }
}

/// A peer that sends on without credit, while nobody takes its notifications: they are not kept without bound.
#[test]
fn credit_is_enforced() {
    let queue = 4;
    let mut w = World::new(2, seed(), Conditions::default());
    let (export, _) = w.export(1, "inbox", 64, queue);
    let import = w.import(0, 1, "inbox").unwrap();
    let tap = w.network.tap();
    let ticket = w.send(0, import, b"x", 0, Some(1)).unwrap();
    w.delivered(0, ticket).unwrap();
    // Its last packet with data, to be sent again and again with the next number each time.
    let genuine = tap.try_iter().filter_map(|frame| {
        let datagram = Datagram::parse(&frame, frame.len()).ok()?;
        let packet = &frame[datagram.start..][..datagram.length];
        let header = Header::parse(packet[..HEADER_LEN].try_into().ok()?).ok()?;
        (header.kind == Kind::Data && datagram.source == address(0)).then(|| (header, packet[HEADER_LEN..].to_vec()))
    });
    let (header, body) = genuine.last().unwrap();
    w.hosts[0].on = false;
    for ahead in 1..=1000 {
        let header = Header { sequence: header.sequence.wrapping_add(ahead), ..header };
        w.network.inject(&forge(address(0), w.hosts[0].mac, 1, header, &body));
        w.run(Duration::from_micros(20));
    }
    assert_eq!(w.hosts[1].engine.peers().count(), 0, "the link has outlived its peer's breach");
    let kept = std::iter::from_fn(|| w.hosts[1].engine.take_notification(export)).count();
    assert!((queue..=queue + 200).contains(&kept), "{kept} notifications were kept");
}
