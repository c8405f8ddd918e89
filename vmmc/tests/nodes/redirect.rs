//! Redirects between threads: who waits is woken, whoever has ended it.

use std::sync::Arc;
use std::time::Duration;

use vmmc::port::sim::{Conditions, Network};
use vmmc::{EngineError, Error, Export, Import, Key, Landed, Node, Progress, Target};

use super::{PATIENCE, node, run};

/// A node that is driven by its calls, or by a thread, and imports its own export.
fn alone(progress: Progress) -> (Node, Export, Import) {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let n = node(&net, 1, &Arc::default(), Node::builder().progress(progress));
    let inbox = n.export("a").len(10_000).key(Key::PUBLIC).notify(true).create().unwrap();
    let me = n.import(n.local(), "a", Key::PUBLIC).unwrap();
    (n, inbox, me)
}

const BOTH: [Progress; 2] = [Progress::Caller, Progress::Thread { core: None }];

/// Whoever waits has gone to sleep by then; if not, the test is only easier.
fn sleepy() {
    std::thread::sleep(Duration::from_millis(200));
}

#[test]
fn one_that_becomes_full_wakes_who_waits() {
    for progress in BOTH {
        let (_node, inbox, me) = alone(progress);
        let first = inbox.redirect(10..20, vec![0; 10]).unwrap();
        let second = inbox.redirect_next(vec![0; 10].into_boxed_slice()).unwrap();
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| first.wait_full(PATIENCE));
            let follower = scope.spawn(|| second.wait_full(PATIENCE));
            sleepy();
            // Without notification.
            me.send(&[7; 20], 5).wait().unwrap();
            leader.join().unwrap().unwrap();
            follower.join().unwrap().unwrap();
        });
        assert!(first.is_full() && second.is_full());
        assert_eq!(first.wait(None).unwrap(), [7; 10]);
        assert_eq!(*second.wait(None).unwrap(), [7; 10]);
        let mut rest = [1; 20];
        inbox.read(0, &mut rest).unwrap();
        assert_eq!(rest, [0; 20], "all of it went to the two");
    }
}

#[test]
fn where_nothing_looks_back_what_has_come_stays() {
    let (node, _, _) = alone(Progress::Caller);
    for look_back in [true, false] {
        let export = node.export("b").key(Key::PUBLIC).notify(true).look_back(look_back).create().unwrap();
        let me = node.import(node.local(), "b", Key::PUBLIC).unwrap();
        me.send(&[1; 10], 0).notify(1).wait().unwrap();
        let posted = export.redirect(0..30, vec![0; 30]).unwrap();
        assert_eq!(posted.received(), if look_back { 10 } else { 0 });
        me.send(&[2; 10], 10).notify(2).wait().unwrap();
        let (target, received) = posted.cancel();
        let expected = if look_back { 0..20 } else { 10..20 };
        assert_eq!(received.ranges().collect::<Vec<_>>(), [expected]);
        assert_eq!(target[10..20], [2; 10]);
        assert_eq!(target[..10] == [1; 10], look_back);
    }
}

#[test]
fn another_thread_stops_it() {
    for progress in BOTH {
        let (_node, inbox, me) = alone(progress);
        let posted = inbox.redirect(0..100, vec![0; 100]).unwrap();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| posted.wait_full(PATIENCE))).collect();
            me.send(&[7; 30], 20).wait().unwrap();
            sleepy();
            posted.stop();
            for waiter in waiters {
                let error = waiter.join().unwrap().unwrap_err();
                assert!(matches!(error, Error::Engine(EngineError::RedirectStopped)), "{error}");
            }
        });
        me.send(&[8; 30], 0).wait().unwrap();
        assert_eq!((posted.received(), posted.is_full()), (30, false));
        let failed = posted.wait(PATIENCE).unwrap_err();
        assert!(matches!(failed.error, Error::Engine(EngineError::RedirectStopped)), "{failed:?}");
        assert_eq!(failed.received.ranges().collect::<Vec<_>>(), std::iter::once(20..50).collect::<Vec<_>>());
        assert_eq!((failed.received.prefix(), &failed.target[20..50]), (0, &[7; 30][..]));
        let mut seen = [0; 40];
        inbox.read(0, &mut seen).unwrap();
        assert_eq!(seen[..], [[8; 30].as_slice(), &[0; 10]].concat());
    }
}

#[test]
fn the_export_goes_while_somebody_waits() {
    for progress in BOTH {
        let (node, inbox, me) = alone(progress);
        let posted = inbox.redirect_next(vec![0; 100]).unwrap();
        let full = inbox.redirect(200..200, Vec::new()).unwrap();
        me.send(&[7; 30], 0).wait().unwrap();
        // Has all its bytes, and waits for the notification of which nobody knows that it will never come.
        let silent = inbox.redirect(0..0, Vec::new()).unwrap();
        let waiter = std::thread::spawn(move || posted.wait(PATIENCE));
        let other = std::thread::spawn(move || silent.wait_notification(PATIENCE));
        sleepy();
        drop((inbox, node, me));
        let failed = other.join().unwrap().unwrap_err();
        assert!(matches!(failed.error, Error::Engine(EngineError::RedirectRevoked)), "{failed:?}");
        let failed = waiter.join().unwrap().unwrap_err();
        assert!(matches!(failed.error, Error::Engine(EngineError::RedirectRevoked)), "{failed:?}");
        assert_eq!((failed.received.prefix(), &failed.target[..30]), (30, &[7; 30][..]));
        // The last handle: with it the node closes.
        assert_eq!(full.wait(None).unwrap().len(), 0);
    }
}

#[test]
fn a_timeout_ends_only_what_is_to_be_taken() {
    let (_node, inbox, me) = alone(Progress::Caller);
    let posted = inbox.redirect(0..10, vec![0; 10]).unwrap();
    let short = Duration::from_millis(1);
    assert!(matches!(posted.wait_full(short), Err(Error::Timeout { .. })));
    me.send(&[3; 4], 0).wait().unwrap();
    assert_eq!(posted.received(), 4);
    let failed = posted.wait(short).unwrap_err();
    assert!(matches!(failed.error, Error::Timeout { .. }), "{failed:?}");
    assert_eq!((failed.received.bytes(), failed.target), (4, vec![3, 3, 3, 3, 0, 0, 0, 0, 0, 0]));
    let none = inbox.redirect_next(vec![0; 1]).unwrap().wait_notification(short).unwrap_err();
    assert!(matches!(none.error, Error::Timeout { .. }), "{none:?}");
    // Bad ranges and targets come back, too.
    let failed = inbox.redirect(9_999..10_001, vec![5; 2]).unwrap_err();
    assert_eq!((failed.target, failed.received.bytes()), (vec![5; 2], 0));
    assert!(failed.error.to_string().contains("it has 10000 bytes"), "{}", failed.error);
    assert!(inbox.redirect(0..3, vec![5; 2]).is_err());
}

#[test]
fn a_message_and_its_notification_are_taken_together() {
    let (_node, inbox, me) = alone(Progress::Caller);
    me.send(b"before", 0).notify(1).wait().unwrap();
    inbox.forget(0..6);
    let posted = inbox.redirect_next(vec![0; 1000]).unwrap();
    let id = posted.id();
    me.send(b"hello", 500).notify(2).wait().unwrap();
    let (news, bytes, received) = posted.wait_notification(PATIENCE).unwrap();
    assert_eq!((news.tag, news.landed), (2, Landed::Redirect { redirect: id, at: 0 }));
    assert_eq!(&bytes[..received.prefix() as usize], b"hello");
    let other = inbox.wait_notification(PATIENCE).unwrap();
    assert_eq!((other.tag, other.landed), (1, Landed::Default), "it has kept waiting");
}

/// Memory that is a nuisance when it is dropped.
struct Chatty(Node, Vec<u8>);

impl Target for Chatty {
    fn len(&self) -> usize {
        Target::len(&self.1)
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.1.store(at, bytes);
    }
}

impl Drop for Chatty {
    fn drop(&mut self) {
        self.0.stats().unwrap();
    }
}

#[test]
fn a_dropped_redirect_is_over() {
    let (node, inbox, me) = alone(Progress::Caller);
    let posted = inbox.redirect(0..100, Chatty(node.clone(), vec![0; 100])).unwrap();
    me.send(&[7; 50], 0).wait().unwrap();
    let open = |n: &Node| n.stats().unwrap().exports[0].redirects;
    assert_eq!(open(&node), 1);
    drop(posted);
    assert_eq!(open(&node), 0);
    me.send(&[8; 50], 50).wait().unwrap();
    let mut seen = [0; 100];
    inbox.read(0, &mut seen).unwrap();
    assert_eq!(seen[..], [[0; 50], [8; 50]].concat(), "what it had is gone");
    let stats = node.stats().unwrap();
    assert_eq!((stats.exports[0].redirected_bytes, stats.exports[0].bytes), (50, 100));
    assert_eq!((stats.engine.redirects, stats.engine.redirects_ended), (1, 1));
}

#[test]
fn a_stream_comes_whole_through_redirects_that_are_given_up() {
    const LEN: usize = 1 << 20;
    let net = Network::new(1, Conditions::default());
    run(&net);
    let no = Arc::default();
    // There is nothing to sleep on: a simulated packet wakes nobody.
    let threaded = || Node::builder().progress(Progress::Thread { core: None }).spin(Duration::MAX);
    let (a, b) = (node(&net, 1, &no, threaded()), node(&net, 2, &no, threaded()));
    let inbox = b.export("inbox").len(LEN).key(Key::PUBLIC).create().unwrap();
    let remote = a.import("10.0.0.2:7000".parse().unwrap(), "inbox", Key::PUBLIC).unwrap();
    let data: Vec<u8> = (0..LEN).map(|i| (i * 7 + (i >> 8) * 3) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (n, part) in data.chunks(3333).enumerate() {
                remote.send(part, n as u64 * 3333).start().unwrap();
            }
        });
        let mut seen: Vec<u8> = Vec::new();
        while seen.len() < LEN {
            // Some become full, some are given up in the middle of a packet's time, and some are stopped by another thread.
            let posted = inbox.redirect_next(vec![0; 50_000]).unwrap();
            let stopped = std::thread::scope(|scope| {
                scope.spawn(|| seen.len().is_multiple_of(2).then(|| posted.stop()));
                posted.wait_full(Duration::from_micros(300)).is_err()
            });
            assert!(stopped || posted.is_full());
            let (target, received) = posted.cancel();
            assert_eq!(received.bytes(), received.prefix());
            seen.extend(&target[..received.prefix() as usize]);
        }
        assert!(seen == data);
    });
    let stats = b.stats().unwrap();
    assert_eq!(stats.engine.redirected_bytes + stats.engine.rx_moved_bytes, LEN as u64);
}
