//! Data arrives, at every MTU, over both versions of IP, in both progress modes, between many.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmmc::{DEFAULT_PORT, Export, Node, Progress};

use crate::hosts::{KEY, PATIENCE, address, lab, open, open_with, pattern};

fn contents(export: &Export, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    export.read(0, &mut bytes).unwrap();
    bytes
}

/// Sends `len` bytes from one node to the other and compares.
fn check(from: &Node, to: &Node, peer: SocketAddr, len: usize) {
    let inbox = to.export("inbox").len(len).key(KEY).notify(true).create().unwrap();
    let remote = from.import(peer, "inbox", KEY).unwrap();
    for salt in 0..3 {
        let data = pattern(len, salt);
        remote.send(&data, 0).notify(salt.into()).wait().unwrap();
        let news = inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!((news.offset, news.length, news.tag), (0, len as u64, salt.into()));
        assert_eq!(news.peer, from.local());
        assert!(contents(&inbox, len) == data, "{len} bytes over a path of MTU {}", from.stats().unwrap().links[0].mtu);
    }
}

#[test]
fn every_mtu() {
    for mtu in [1280, 1500, 3800, 4000, 9000, 65535] {
        let lab = lab(2, mtu);
        let (a, b) = (open(&lab, 1), open(&lab, 2));
        check(&a, &b, address(&lab, 2), 5_000_000);
        let stats = a.stats().unwrap();
        assert_eq!(stats.links[0].mtu, mtu as usize);
        assert_eq!(stats.engine.tx_copied_bytes, 15_000_000, "each byte is copied once at the sender");
        assert_eq!(b.stats().unwrap().engine.rx_copied_bytes, 15_000_000, "and once at the receiver");
        assert_eq!(b.stats().unwrap().engine.refused_puts, 0);
        for rings in [stats.rings, b.stats().unwrap().rings] {
            for queue in rings.receive {
                // The kernel copies, so none is with the driver; nothing is kept, for nothing is under way. A late
                // acknowledgement may have arrived that nobody has taken.
                let waiting = queue.fill + queue.spare + queue.arrived;
                assert_eq!((waiting, queue.driver, queue.kept), (queue.frames, 0, 0), "{queue:?}");
            }
            assert_eq!((rings.send.free + rings.send.kept, rings.send.unsent), (rings.send.frames, 0));
        }
    }
}

#[test]
fn over_ipv6() {
    let lab = lab(2, 1500);
    let at = |host: usize| lab.host(host).address6.into();
    let thread = Progress::Thread { core: None };
    let a = open_with(&lab, 1, |b| b.address(at(1)).progress(thread)).unwrap();
    let b = open_with(&lab, 2, |b| b.address(at(2)).progress(thread)).unwrap();
    check(&a, &b, SocketAddr::new(at(2), DEFAULT_PORT), 1_000_000);
}

#[test]
fn driven_by_the_callers_awake_and_asleep() {
    for spin in [Duration::MAX, Duration::ZERO] {
        let lab = lab(2, 1500);
        let open = |host| open_with(&lab, host, |b| b.spin(spin)).unwrap();
        let (a, b) = (open(1), open(2));
        let ping = b.export("ping").len(64).key(KEY).notify(true).create().unwrap();
        let pong = a.export("pong").len(64).key(KEY).notify(true).create().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut back = None;
                while !done.load(Ordering::Acquire) {
                    let Ok(news) = ping.wait_notification(Duration::from_millis(20)) else { continue };
                    let back = back.get_or_insert_with(|| b.import(news.peer, "pong", KEY).unwrap());
                    back.send(&contents(&ping, 64), 0).notify(news.tag).start().unwrap();
                }
            });
            let there = a.import(address(&lab, 2), "ping", KEY).unwrap();
            for round in 0..500u32 {
                let data = pattern(64, round as u8);
                there.send(&data, 0).notify(round).start().unwrap();
                assert_eq!(pong.wait_notification(PATIENCE).unwrap().tag, round);
                assert_eq!(contents(&pong, 64), data);
            }
            done.store(true, Ordering::Release);
        });
    }
}

#[test]
fn three_hosts_and_many_threads() {
    let lab = lab(3, 1500);
    let nodes: Vec<Node> = (1..=3).map(|host| open(&lab, host)).collect();
    const THREADS: usize = 4;
    const LEN: usize = 100_000;
    let inboxes: Vec<Export> = nodes
        .iter()
        .map(|n| n.export("inbox").len(LEN * 3 * THREADS).key(KEY).notify(true).create().unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (from, node) in nodes.iter().enumerate() {
            for thread in 0..THREADS {
                let lab = &lab;
                scope.spawn(move || {
                    for to in 0..3 {
                        // To itself, too.
                        let remote = node.import(address(lab, to + 1), "inbox", KEY).unwrap();
                        let slot = from * THREADS + thread;
                        let data = pattern(LEN, slot as u8);
                        for _ in 0..3 {
                            remote.send(&data, (slot * LEN) as u64).notify(slot as u32).wait().unwrap();
                        }
                    }
                });
            }
        }
    });
    for inbox in &inboxes {
        let seen = contents(inbox, inbox.len());
        for (slot, bytes) in seen.chunks(LEN).enumerate() {
            assert!(bytes == pattern(LEN, slot as u8), "slot {slot}");
        }
        for _ in 0..9 * THREADS {
            inbox.wait_notification(PATIENCE).unwrap();
        }
        assert!(inbox.try_notification().unwrap().is_none());
    }
}

#[test]
fn one_sided_means_one_sided() {
    let lab = lab(2, 1500);
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    // The owner of this buffer never calls anything again before the data is there.
    let inbox = b.export("inbox").len(100_000).key(KEY).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    remote.send(&pattern(100_000, 1), 0).wait().unwrap();
    assert!(contents(&inbox, 100_000) == pattern(100_000, 1));
}
