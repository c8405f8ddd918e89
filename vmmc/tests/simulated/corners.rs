//! Corner cases of completion, flow control and the handshake, each of which went wrong once.

use crate::world::{World, address, contents, forge, key, link_config};
use std::time::Duration;
use vmmc::port::Port;
use vmmc::port::sim::Conditions;
use vmmc::wire::{Header, Hello, Kind};

fn loss(p: f64) -> Conditions {
    Conditions { loss: p, ..Conditions::default() }
}

/// a repeated DATA packet carries an up-to-date ack and an old sequence number.
#[test]
fn a_repetition_doesn_t_complete_a_refused_send() {
    let mut w = World::new(2, 1, loss(0.0));
    let (export, region) = w.export(1, "inbox", 100, 10);
    w.export(0, "back", 100, 10);
    let a = w.import(0, 1, "inbox").unwrap();
    let b = w.import(1, 0, "back").unwrap();
    w.run(Duration::from_millis(1));
    w.network.set_conditions(loss(1.0));
    w.send(1, b, b"x", 0, None).unwrap(); // s, lost
    let now = w.now();
    w.hosts[1].engine.unexport(export);
    {
        let h = &mut w.hosts[1];
        h.engine.tick(now, &mut h.port);
    } // REVOKED s+1, lost
    w.run(Duration::from_micros(500));
    w.network.set_conditions(loss(0.0));
    let ticket = w.send(0, a, b"PUT", 0, None).unwrap();
    w.network.set_conditions(loss(1.0));
    w.run(Duration::from_micros(500)); // B refuses; REFUSED and ACK are lost
    assert_eq!(w.hosts[1].engine.counters().refused_puts, 1);
    w.network.set_conditions(loss(0.0));
    let r = w.delivered(0, ticket);
    assert_eq!(&contents(&region)[..3], &[0, 0, 0]);
    assert!(r.is_err(), "is_delivered said {r:?} about a refused send");
}

/// the REFUSED has no room yet, the acknowledgement goes out all the same.
#[test]
fn an_acknowledgement_doesn_t_overtake_a_refusal() {
    let mut w = World::new(2, 1, loss(0.0));
    let (export, region) = w.export(1, "inbox", 100, 10);
    w.export(0, "back", 1000, 10);
    let a = w.import(0, 1, "inbox").unwrap();
    let b = w.import(1, 0, "back").unwrap();
    w.run(Duration::from_millis(1));
    w.network.set_conditions(Conditions { delay: Duration::from_millis(3), ..Conditions::default() });
    for _ in 0..128 {
        w.send(1, b, b"x", 0, None).unwrap();
    }
    w.network.set_conditions(loss(0.0));
    w.hosts[1].engine.unexport(export);
    let ticket = w.send(0, a, b"PUT", 0, None).unwrap();
    let r = w.delivered(0, ticket);
    assert_eq!(&contents(&region)[..3], &[0, 0, 0]);
    assert!(r.is_err(), "is_delivered said {r:?} about a refused send");
}

/// both have no room and more than 256 control records of their own.
#[test]
fn records_of_one_s_own_don_t_block_receiving() {
    let mut w = World::new(2, 1, loss(0.0));
    w.export(1, "inbox", 100, 10);
    w.export(0, "inbox", 100, 10);
    let a: Vec<_> = (0..300).map(|_| w.import(0, 1, "inbox").unwrap()).collect();
    let b: Vec<_> = (0..300).map(|_| w.import(1, 0, "inbox").unwrap()).collect();
    w.run(Duration::from_millis(1));
    let ta = (0..128).map(|_| w.send(0, a[0], b"x", 0, None).unwrap()).last().unwrap();
    let tb = (0..128).map(|_| w.send(1, b[0], b"x", 0, None).unwrap()).last().unwrap();
    for &i in &a[1..] {
        w.hosts[0].engine.unimport(i);
    }
    for &i in &b[1..] {
        w.hosts[1].engine.unimport(i);
    }
    w.run(Duration::from_secs(60));
    assert_eq!((w.hosts[0].engine.is_delivered(&ta), w.hosts[1].engine.is_delivered(&tb)), (Ok(true), Ok(true)));
}

/// one's own full notification queue holds up one's own sends and imports.
#[test]
fn one_s_own_full_queue_holds_up_nothing_of_one_s_own() {
    let mut w = World::new(2, 1, loss(0.0));
    let (_, region) = w.export(1, "inbox", 100, 10);
    w.export(1, "other", 100, 10);
    w.export(0, "inbox", 100, 4);
    let a = w.import(0, 1, "inbox").unwrap();
    let b = w.import(1, 0, "inbox").unwrap();
    for t in 0..10 {
        w.send(1, b, b"x", 0, Some(t)).unwrap();
    }
    w.run(Duration::from_millis(1));
    let t = w.send(0, a, b"hello", 0, None).unwrap();
    let i = w.begin_import(0, 1, "other", key()).unwrap();
    w.run(Duration::from_secs(60));
    assert_eq!(&contents(&region)[..5], b"hello", "it did arrive");
    assert_eq!(w.hosts[0].engine.is_delivered(&t), Ok(true));
    assert!(w.hosts[0].engine.imported(i).unwrap().is_some());
}

/// a round trip longer than 10 ms leaves the two sides with different MTUs.
#[test]
fn both_sides_agree_on_the_mtu_of_a_long_path() {
    let link = vmmc::link::Config { mtu: 9000, ..link_config() };
    let c = Conditions { max_frame: 9018, delay: Duration::from_millis(15), ..Conditions::default() };
    let mut w = World::with(2, 1, c, link);
    w.export(1, "inbox", 100, 10);
    w.import(0, 1, "inbox").unwrap();
    w.run(Duration::from_secs(1));
    let m: Vec<usize> = (0..2).map(|h| w.hosts[h].engine.peers().next().unwrap().mtu).collect();
    assert_eq!(m, [9000, 9000]);
}

/// A frame from host 1 to host 0.
fn frame(header: Header, body: &[u8]) -> Vec<u8> {
    forge(address(1), [2, 0, 0, 0, 0, 2], 0, header, body)
}

/// DATA before WELCOME is kept, and then forgotten with its frames.
#[test]
fn data_before_the_welcome_leaks_no_frames() {
    let mut w = World::new(2, 1, loss(0.0));
    w.hosts[1].on = false;
    let (before, all) = (w.hosts[0].port.rx_headroom(), w.hosts[0].port.rx_capacity());
    let import = w.begin_import(0, 1, "inbox", key()).unwrap();
    w.run(Duration::from_millis(1));
    let mut got = Vec::new();
    w.hosts[1].port.receive(&mut got).unwrap();
    let bytes = w.hosts[1].port.fragments(&got[0]).concat();
    let body: [u8; 40] = bytes[42 + 32..][..40].try_into().unwrap();
    let hello = Hello::parse(&body).unwrap();
    for seq in 1..150 {
        w.network.inject(&frame(
            Header { kind: Kind::Data, token: hello.token, sequence: seq, ..Header::default() },
            &[9; 8],
        ));
    }
    w.run(Duration::from_millis(1));
    let welcome = Hello {
        incarnation: 7,
        token: 77,
        peer_incarnation: hello.incarnation,
        first: 0,
        mtu: 1280,
        options: hello.options,
    };
    let mut body = welcome.emit().to_vec();
    body.resize(1280 - 28 - 32, 0);
    w.network.inject(&frame(Header { kind: Kind::Welcome, token: hello.token, ..Header::default() }, &body));
    w.run(Duration::from_secs(30));
    assert!(w.hosts[0].engine.imported(import).is_err());
    assert_eq!(w.hosts[0].engine.peers().count(), 0, "the link is gone");
    assert_eq!((w.hosts[0].port.rx_headroom(), w.hosts[0].port.rx_capacity()), (before, all));
}

/// forged HELLOs take the places that connect() needs.
#[test]
fn forged_hellos_shut_nobody_out() {
    use vmmc::engine::{Config, Engine};
    let net = vmmc::port::sim::Network::new(1, loss(0.0));
    let mut port = net.attach([2, 0, 0, 0, 0, 1]);
    let mut r = fastrand::Rng::with_seed(3);
    let config = Config {
        local: address(0),
        mac: [2, 0, 0, 0, 0, 1],
        vlan: None,
        link: link_config(),
        max_peers: 16,
        max_exports: 1,
        max_imports: 1,
    };
    let mut e = Engine::new(config, Box::new(move || r.u64(..)));
    for i in 0..16u8 {
        let mut body = Hello { incarnation: 1, token: 1 + u64::from(i), mtu: 1280, ..Hello::default() }.emit().to_vec();
        body.resize(1280 - 28 - 32, 0);
        let source = format!("10.9.0.{i}:7000").parse().unwrap();
        let header = Header { kind: Kind::Hello, ..Header::default() };
        net.inject(&forge(source, [2; 6], 0, header, &body));
    }
    let now = vmmc::time::Time::from_nanos(1_000_000);
    net.advance(now);
    let mut batch = Vec::new();
    port.receive(&mut batch).unwrap();
    for p in batch {
        e.receive(now, &mut port, p);
    }
    assert_eq!(e.connect(now, address(1), [2; 6]), Ok(()));
}

/// an off-path forger turns checksums on for one side only while the link is being opened.
#[test]
fn a_forged_hello_doesn_t_change_the_options() {
    let link = vmmc::link::Config { options: crate::world::options(false), ..link_config() };
    let mut w = World::with(2, 1, loss(0.0), link);
    w.export(1, "inbox", 100, 10);
    let i = w.begin_import(0, 1, "inbox", key()).unwrap();
    let mut body =
        Hello { incarnation: 5, token: 5, mtu: 1280, options: crate::world::options(true), ..Hello::default() }
            .emit()
            .to_vec();
    body.resize(1280 - 28 - 32, 0);
    w.network.inject(&frame(Header { kind: Kind::Hello, ..Header::default() }, &body));
    w.run(Duration::from_secs(3));
    assert_eq!(w.hosts[0].engine.imported(i), Ok(Some(100)));
}

#[test]
fn an_import_over_an_idle_link_goes_out_at_once() {
    let mut world = World::new(2, 1, Conditions::default());
    world.export(1, "inbox", 100, 10);
    world.import(0, 1, "inbox").unwrap();
    world.run(Duration::from_millis(100));
    let before = world.now();
    world.import(0, 1, "inbox").unwrap();
    assert!(world.now().since(before) < Duration::from_millis(1), "virtual time, so this is exact");
}
