//! Nodes, with their threads and their sleep, over the simulated network. Nothing here asserts a time: what fails, hangs.
mod anything;
mod buffers;
mod events;
mod fetch;
mod lend;
mod mute;
mod paged;
mod redirect;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vmmc::link::LinkState;
use vmmc::node::Resolve;
use vmmc::port::sim::{Conditions, Network, SimPort};
use vmmc::port::{Layer, Port};
use vmmc::time::Time;
use vmmc::{Builder, EngineError, Error, Key, Lane, Node, Progress};

struct Fixed([u8; 6]);
impl Resolve for Fixed {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<[u8; 6], Error> {
        Ok(self.0)
    }
}

/// A SimPort whose wire can be cut.
struct Wire {
    port: SimPort,
    cut: Arc<AtomicBool>,
}
impl Layer for Wire {
    fn inner(&self) -> &dyn Port {
        &self.port
    }
    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut self.port
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(6)) } else { self.port.flush() }
    }
}

fn node(net: &Network, n: u8, cut: &Arc<AtomicBool>, builder: Builder) -> Node {
    let mac = |n| [2, 0, 0, 0, 0, n];
    let lane = Lane {
        port: Box::new(Wire { port: net.attach(mac(n)), cut: cut.clone() }),
        address: IpAddr::from([10, 0, 0, n]),
        udp_port: 7000,
        interface: None,
        mac: mac(n),
        vlan: None,
        mtu: 1500,
        // Nodes come in pairs: 1 and 2, 3 and 4.
        resolver: Box::new(Fixed(mac(((n - 1) ^ 1) + 1))),
        steering: None,
        binding: None,
        arena: None,
        no_bulk: None,
    };
    builder.open_on(lane).unwrap()
}

fn run(net: &Network) {
    let net = net.clone();
    std::thread::spawn(move || {
        let start = Instant::now();
        loop {
            net.advance(Time::from_nanos(start.elapsed().as_nanos() as u64));
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_local_send_wakes_the_sleeping_leader() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let no = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &no, Node::builder());
    let inbox = n.export("a").key(Key::PUBLIC).notify(true).create().unwrap();
    let me = n.import("10.0.0.1:7000".parse().unwrap(), "a", Key::PUBLIC).unwrap();
    let waiter = std::thread::spawn(move || inbox.wait_notification(PATIENCE));
    // It has gone to sleep by then; if not, the test is only easier.
    std::thread::sleep(Duration::from_millis(300));
    me.send(b"x", 0).notify(1).wait().unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().tag, 1);
}

#[test]
fn a_local_send_that_waits_for_room_is_woken() {
    for progress in [Progress::Caller, Progress::Thread { core: None }] {
        let net = Network::new(1, Conditions::default());
        run(&net);
        let n = node(&net, 1, &Arc::default(), Node::builder().progress(progress));
        let inbox = n.export("a").key(Key::PUBLIC).notify(true).queue(1).create().unwrap();
        let me = n.import(n.local(), "a", Key::PUBLIC).unwrap();
        me.send(b"x", 0).notify(1).wait().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| me.send(b"y", 0).notify(2).wait());
            // It has gone to sleep by then; if not, the test is only easier.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(inbox.wait_notification(PATIENCE).unwrap().tag, 1);
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(inbox.wait_notification(PATIENCE).unwrap().tag, 2);
    }
}

#[test]
fn waiters_learn_that_the_thread_has_ended() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let cut = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &cut, Node::builder().progress(Progress::Thread { core: None }));
    let inbox = n.export("a").key(Key::PUBLIC).notify(true).create().unwrap();
    let other = n.export("b").key(Key::PUBLIC).notify(true).create().unwrap();
    let waiter = std::thread::spawn(move || inbox.wait_notification(PATIENCE));
    cut.store(true, Ordering::Relaxed);
    // Something to send, so that the thread finds out.
    let import = n.import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC);
    assert!(matches!(import, Err(Error::Wire(_))), "{import:?}");
    for told in [waiter.join().unwrap(), other.wait_notification(PATIENCE)] {
        assert!(matches!(told, Err(Error::Wire(_))), "{told:?}");
    }
    let failure = n.stats().unwrap().failure;
    assert!(failure.as_ref().is_some_and(|text| text.contains("AF_XDP socket failed")), "{failure:?}");
}

#[test]
fn an_import_that_is_never_answered_ends() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    mute::run(&net, [2, 0, 0, 0, 0, 2]);
    let (no, short) = (Arc::new(AtomicBool::new(false)), Duration::from_millis(200));
    let n = node(&net, 1, &no, Node::builder().connect_timeout(short).peer_timeout(short));
    let import = n.import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC);
    assert!(matches!(import, Err(Error::Timeout { what: "answer to an import", .. })), "{import:?}");
    // The peer is there: that is not why.
    let stats = n.stats().unwrap();
    assert!(stats.links.iter().any(|p| p.state == LinkState::Open), "{stats:?}");
}

#[test]
fn what_is_revoked_keeps_nobody_waiting() {
    for progress in [Progress::Caller, Progress::Thread { core: None }] {
        let net = Network::new(1, Conditions::default());
        run(&net);
        let n = node(&net, 1, &Arc::default(), Node::builder().progress(progress));
        let inbox = n.export("a").key(Key::PUBLIC).notify(true).create().unwrap();
        inbox.write(0, b"still").unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| inbox.wait_notification(PATIENCE));
            // It has gone to sleep by then; if not, the test is only easier.
            std::thread::sleep(Duration::from_millis(200));
            inbox.revoke();
            let told = waiter.join().unwrap();
            assert!(matches!(told, Err(Error::Engine(EngineError::Dropped))), "{told:?}");
        });
        assert!(matches!(inbox.try_notification(), Err(Error::Engine(EngineError::Dropped))));
        let mut bytes = [0; 5];
        inbox.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"still");
        inbox.revoke();
    }
}

#[test]
fn a_slice_comes_back_from_an_export_that_is_revoked_meanwhile() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let n = node(&net, 1, &Arc::default(), Node::builder());
    let old = n.export("a").len(64).key(Key::PUBLIC).create().unwrap();
    let me = n.import(n.local(), "a", Key::PUBLIC).unwrap();
    let mut bytes = [0; 64];
    let (new, received) = old
        .redirect_scoped(0..64, &mut bytes, |_| {
            me.send(&[7; 10], 0).wait().unwrap();
            old.revoke();
            n.export("a").len(64).create().unwrap()
        })
        .unwrap();
    new.write(0, &[9; 64]).unwrap();
    assert_eq!((&bytes[..10], bytes[10], received.bytes()), (&[7; 10][..], 0, 10));
}

#[test]
fn what_is_revoked_is_no_other_export() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let n = node(&net, 1, &Arc::default(), Node::builder());
    let old = n.export("a").len(64).notify(true).create().unwrap();
    old.revoke();
    // So many times that its number is given out again.
    for _ in 1..4096 {
        n.export("a").len(64).create().unwrap();
    }
    let new = n.export("a").len(64).key(Key::PUBLIC).notify(true).create().unwrap();
    let me = n.import(n.local(), "a", Key::PUBLIC).unwrap();
    me.send(&[7; 64], 0).notify(1).wait().unwrap();
    assert!(old.try_notification().is_err());
    old.forget(0..64);
    old.discard(0..64).unwrap();
    let lent = old.lend(0..64).map(|loan| loan[0]);
    assert!(matches!(lent, Err(Error::Engine(EngineError::Dropped))), "{lent:?}");
    assert!(old.redirect(0..64, vec![0; 64]).is_err());
    assert!(old.redirect_scoped(0..64, &mut [0; 64], |_| ()).is_err());
    let (bytes, received) = new.redirect(0..64, vec![0; 64]).unwrap().cancel();
    assert_eq!((bytes, received.bytes()), (vec![7; 64], 64));
    assert_eq!(new.try_notification().unwrap().unwrap().tag, 1);
}

#[test]
fn a_node_settles_when_all_has_arrived() {
    let net = Network::new(1, Conditions { loss: 0.1, ..Conditions::default() });
    run(&net);
    for (first, progress) in [(1, Progress::Caller), (3, Progress::Thread { core: None })] {
        let cut = Arc::new(AtomicBool::new(false));
        // There is nothing to sleep on: a simulated packet wakes nobody.
        let threaded = || Node::builder().progress(Progress::Thread { core: None }).spin(Duration::MAX);
        let a = node(&net, first, &cut, Node::builder().progress(progress).spin(Duration::MAX));
        let b = node(&net, first + 1, &Arc::default(), threaded());
        let inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).create().unwrap();
        let remote = a.import(b.local(), "inbox", Key::PUBLIC).unwrap();
        assert!(a.settle(PATIENCE).unwrap(), "nothing was sent");
        for at in 0..3 {
            remote.send(&[1; 20_000], at * 20_000).start().unwrap();
            remote.send(b"x", 60_000 + at).queue().unwrap();
            // It may find no room: packets are lost.
            if !remote.try_send(b"y", 60_010 + at).queued().now().unwrap().complete {
                remote.send(b"y", 60_010 + at).queue().unwrap();
            }
        }
        assert!(a.settle(PATIENCE).unwrap());
        let mut bytes = vec![0; 60_013];
        inbox.read(0, &mut bytes).unwrap();
        assert!(bytes[..60_000].iter().all(|&byte| byte == 1));
        assert_eq!((&bytes[60_000..60_003], &bytes[60_010..]), (&b"xxx"[..], &b"yyy"[..]));
        // Nobody but the calls drives the first: what is queued is still there when the wire is cut.
        if first == 1 {
            remote.send(b"z", 0).queue().unwrap();
            remote.try_send(b"z", 0).queued().now().unwrap();
            cut.store(true, Ordering::Relaxed);
            assert!(matches!(a.settle(PATIENCE), Err(Error::Wire(_))));
        }
    }
}

#[test]
fn statistics_say_what_has_happened() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let no = Arc::new(AtomicBool::new(false));
    // There is nothing to sleep on: a simulated packet wakes nobody.
    let threaded = || Node::builder().progress(Progress::Thread { core: None }).spin(Duration::MAX);
    let (a, b) = (node(&net, 1, &no, threaded()), node(&net, 2, &no, threaded()));
    let inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).notify(true).queue(8).create().unwrap();
    let _secret = b.export("secret").create().unwrap();
    let remote = a.import("10.0.0.2:7000".parse().unwrap(), "inbox", Key::PUBLIC).unwrap();
    for tag in 0..3 {
        remote.send(&[7; 10_000], 0).notify(tag).wait().unwrap();
    }
    remote.send(&[7; 500], 0).wait().unwrap();
    assert!(remote.send(&[7; 500], 1 << 16).wait().is_err(), "past the end, and no send");
    inbox.wait_notification(PATIENCE).unwrap();

    let (here, there) = (a.stats().unwrap(), b.stats().unwrap());
    let [import] = &here.imports[..] else { panic!("{here:?}") };
    assert_eq!((import.peer, import.name.as_str(), import.length), (there.local, "inbox", 1 << 16));
    assert_eq!((import.ready, import.sends, import.bytes), (true, 4, 30_500));
    let [export, secret] = &there.exports[..] else { panic!("{there:?}") };
    assert_eq!((export.name.as_str(), export.length, export.public, export.notify), ("inbox", 1 << 16, true, true));
    assert_eq!((export.bytes, export.importers), (30_500, 1));
    assert_eq!((export.notifications, export.waiting, export.queue), (3, 2, 8));
    assert_eq!((secret.public, secret.importers, secret.bytes), (false, 0, 0));

    let ([ab], [ba]) = (&here.links[..], &there.links[..]) else { panic!("{here:?} {there:?}") };
    assert_eq!((ab.peer, ab.peer_incarnation, ab.state), (there.local, there.incarnation, LinkState::Open));
    assert_eq!((ab.initiated, ba.initiated, ab.mtu, ab.checksum), (true, false, 1500, true));
    assert_eq!((ab.grants, ab.grants_held, ba.grants, ba.grants_held), (0, 1, 1, 0));
    // 30,500 bytes in packets of 1500, and each has headers.
    assert!(ab.counters.tx_data > 20 && ab.counters.tx_bytes > 30_500 + 50 * ab.counters.tx_data, "{ab:?}");
    assert_eq!((ba.counters.rx_data, ba.counters.rx_bytes), (ab.counters.tx_data, ab.counters.tx_bytes));
    let times = &ab.round_trips;
    assert!(times.count > 0 && times.min > Duration::ZERO && times.min <= times.p50 && times.p999 <= times.max);
    assert!(ab.credit_received > 0 && ba.credit_given >= ab.credit_received, "{ab:?} {ba:?}");

    let [receive] = here.rings.receive[..] else { panic!("{here:?}") };
    assert_eq!((receive.fill + receive.kept, receive.frames > 0), (receive.frames, true));
    drop(remote);
    let start = Instant::now();
    while b.stats().unwrap().exports[0].importers > 0 {
        assert!(start.elapsed() < PATIENCE, "a grant that was given back is still counted");
    }
    let another = a.import("10.0.0.2:7000".parse().unwrap(), "inbox", Key::PUBLIC).unwrap();
    assert_eq!(b.stats().unwrap().exports[0].importers, 1);
    drop((another, a));
    while b.stats().unwrap().exports[0].importers > 0 {
        assert!(start.elapsed() < PATIENCE, "the grant of a link that has ended is still counted");
    }
}
