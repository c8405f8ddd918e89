//! Bad input and bad circumstances: a typed error that says what to do, no hang, nothing left behind.

use std::process::Command;
use std::time::Duration;

use vmmc::memory::MemoryError;
use vmmc::port::eager::PortError;
use vmmc::route::RouteError;
use vmmc::{EngineError, Error, Key, LinkEnd, Node, Progress};

use crate::hosts::{KEY, PATIENCE, address, lab, open, open_with, pattern};

fn xdp_program(lab: &vmmc_lab::TempLab, host: usize) -> bool {
    let host = lab.host(host);
    let output =
        Command::new("ip").args(["-n", &host.namespace, "-d", "link", "show", &host.interface]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

#[test]
fn the_interface_is_absent_or_down_or_has_another_address() {
    let lab = lab(2, 1500);
    let absent = open_with(&lab, 1, |b| b.interface("nic9")).unwrap_err();
    assert!(matches!(absent, Error::Route(RouteError::NoSuchInterface { .. })), "{absent:?}");
    assert!(absent.to_string().contains("nic9") && absent.to_string().contains("vh1"), "{absent}");
    let foreign = open_with(&lab, 1, |b| b.address("10.1.2.3".parse().unwrap())).unwrap_err();
    assert!(matches!(foreign, Error::NoSuchAddress { .. }), "{foreign:?}");
    assert!(foreign.to_string().contains("10.77.0.1"), "{foreign}");
    lab.host(1).set_link(false).unwrap();
    let down = open_with(&lab, 1, |b| b).unwrap_err();
    assert!(matches!(down, Error::Route(RouteError::InterfaceDown { .. })), "{down:?}");
    assert!(down.to_string().contains("ip link set"), "{down}");
    assert!(!xdp_program(&lab, 1), "no program is left behind");
}

#[test]
fn settings_that_can_t_be() {
    let lab = lab(2, 1500);
    for (settings, word) in [
        (Node::builder(), "interface"),
        (Node::builder().interface("vh1").port(0), "port"),
        (Node::builder().interface("vh1").mtu(9000), "1500"),
        (Node::builder().interface("vh1").mtu(100), "1280"),
        (Node::builder().interface("vh1").max_peers(0), "max_peers"),
        (Node::builder().interface("vh1").window(5000), "window"),
        (Node::builder().interface("vh1").progress(Progress::Thread { core: Some(4096) }), "4096"),
        (Node::builder().interface("vh1").peer_timeout(Duration::ZERO), "10 ms"),
    ] {
        let error = lab.host(1).enter(|| settings.open()).unwrap().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let queue = open_with(&lab, 1, |b| b.queue(7)).unwrap_err();
    assert!(matches!(queue, Error::Port(PortError::NoQueue { .. })), "{queue:?}");
    assert!(!xdp_program(&lab, 1), "no program is left behind");
    let memory = open_with(&lab, 1, |b| b.arena(0)).unwrap_err();
    assert!(matches!(memory, Error::Memory(MemoryError::BadLength { .. })), "{memory:?}");
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let lab = lab(2, 1500);
    let error = lab
        .host(1)
        .enter(|| {
            // Of this thread alone, which ends here.
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
            Node::builder().interface("vh1").open()
        })
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("CAP_"), "{error}");
}

#[test]
fn a_second_node_on_the_interface_is_told_who_has_it() {
    let lab = lab(2, 1500);
    let first = open(&lab, 1);
    let second = open_with(&lab, 1, |b| b.port(7001)).unwrap_err();
    assert!(matches!(second, Error::Steering(_)), "{second:?}");
    assert!(second.to_string().contains("vh1"), "{second}");
    // The first isn't disturbed.
    let other = open(&lab, 2);
    let _inbox = first.export("inbox").key(KEY).create().unwrap();
    other.import(address(&lab, 1), "inbox", KEY).unwrap().send(b"hello", 0).wait().unwrap();
    drop((first, _inbox));
    assert!(!xdp_program(&lab, 1), "no program is left behind");
    open(&lab, 1);
}

#[test]
fn exports_that_can_t_be() {
    let lab = lab(2, 1500);
    let node = open_with(&lab, 1, |b| b.arena(1 << 20)).unwrap();
    let large = node.export("large").len(2 << 20).create().unwrap_err();
    assert!(matches!(large, Error::Memory(MemoryError::Exhausted { .. })), "{large:?}");
    let empty = node.export("empty").len(0).create().unwrap_err();
    assert!(matches!(empty, Error::Memory(MemoryError::BadLength { .. })), "{empty:?}");
    let _kept = node.export("twice").create().unwrap();
    let twice = node.export("twice").create().unwrap_err();
    assert!(matches!(twice, Error::Engine(EngineError::NameTaken { .. })), "{twice:?}");
    let nameless = node.export("").create().unwrap_err();
    assert!(matches!(nameless, Error::Engine(EngineError::BadName { .. })), "{nameless:?}");
}

#[test]
fn imports_and_sends_that_can_t_be() {
    let lab = lab(2, 1500);
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    let there = address(&lab, 2);
    let inbox = b.export("inbox").len(100).key(KEY).create().unwrap();
    let denied = a.import(there, "inbox", Key::PUBLIC).unwrap_err();
    assert!(matches!(denied, Error::Engine(EngineError::Denied { .. })), "{denied:?}");
    let unknown = a.import(there, "outbox", KEY).unwrap_err();
    assert!(matches!(unknown, Error::Engine(EngineError::UnknownName { .. })), "{unknown:?}");
    let remote = a.import(there, "inbox", KEY).unwrap();
    assert_eq!(remote.len(), 100);
    let past = remote.send(&[0; 50], 51).wait().unwrap_err();
    assert!(matches!(past, Error::Engine(EngineError::OutOfRange { .. })), "{past:?}");
    let nothing = remote.send(&[], 0).wait().unwrap_err();
    assert!(matches!(nothing, Error::Engine(EngineError::Empty)), "{nothing:?}");
    let silent = remote.send(b"x", 0).notify(1).wait().unwrap_err();
    assert!(matches!(silent, Error::Engine(EngineError::NoNotifications { .. })), "{silent:?}");
    assert!(matches!(inbox.wait_notification(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    drop(inbox);
    // The exporter tells us, now or when we send.
    let revoked = loop {
        match remote.send(b"x", 0).wait() {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(revoked, Error::Engine(EngineError::Revoked { .. })), "{revoked:?}");
}

#[test]
fn nobody_is_there() {
    let lab = lab(2, 1500);
    let a = open_with(&lab, 1, |b| b.connect_timeout(Duration::from_millis(300))).unwrap();
    // No such host: the neighbour table says so.
    let error = a.import("10.77.0.99:7000".parse().unwrap(), "inbox", KEY).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::NoAnswer { .. })), "{error:?}");
    assert!(error.to_string().contains("10.77.0.99"), "{error}");
    // No way there at all.
    let error = a.import("192.0.2.1:7000".parse().unwrap(), "inbox", KEY).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::NoRoute { .. })), "{error:?}");
    // A host without a node.
    let error = a.import(address(&lab, 2), "inbox", KEY).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Engine(EngineError::LinkEnded { end: LinkEnd::NoAnswer(_), .. })), "{error:?}");
    assert!(text.contains("10.77.0.2"), "{text}");
    // The other family.
    let error = a.import("[fd77::2]:7000".parse().unwrap(), "inbox", KEY).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::FamilyMismatch { .. })), "{error:?}");
}

#[test]
fn hosts_of_different_mtu_use_the_smaller() {
    let lab = lab(2, 9000);
    lab.host(2).set_mtu(1500).unwrap();
    for (from, to) in [(1, 2), (2, 1)] {
        let (a, b) = (open(&lab, from), open(&lab, to));
        let inbox = b.export("inbox").len(200_000).key(KEY).notify(true).create().unwrap();
        let remote = a.import(address(&lab, to), "inbox", KEY).unwrap();
        remote.send(&pattern(200_000, 3), 0).notify(1).wait().unwrap();
        inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!(a.stats().unwrap().links[0].mtu, 1500);
        assert_eq!(b.stats().unwrap().links[0].mtu, 1500);
    }
}

#[test]
fn a_peer_that_vanishes_ends_what_is_pending() {
    let lab = lab(2, 1500);
    let a = open_with(&lab, 1, |b| b.peer_timeout(Duration::from_millis(500))).unwrap();
    let b = open(&lab, 2);
    let _inbox = b.export("inbox").len(64 << 10).key(KEY).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    remote.send(b"hello", 0).wait().unwrap();
    lab.host(2).set_link(false).unwrap();
    let error = remote.send(&[1; 64 << 10], 0).wait().unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::LinkEnded { end: LinkEnd::Silent(_), .. })), "{error:?}");
    // With the interface up again a new import works.
    lab.host(2).set_link(true).unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    remote.send(b"again", 0).wait().unwrap();
}

#[test]
fn a_peer_that_has_restarted_is_imported_from_at_once() {
    let lab = lab(2, 1500);
    let a = open(&lab, 1);
    for round in 0..3 {
        let b = open(&lab, 2);
        let inbox = b.export("inbox").key(KEY).create().unwrap();
        let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
        remote.send(&[round; 8], 0).wait().unwrap();
        // The old import keeps the old link in use; killed nodes don't say that they close.
        lab.host(2).set_link(false).unwrap();
        drop((inbox, b));
        lab.host(2).set_link(true).unwrap();
        std::mem::forget(remote);
    }
}

#[test]
fn a_closed_peer_is_noticed_at_once() {
    let lab = lab(2, 1500);
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    let inbox = b.export("inbox").key(KEY).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    drop((inbox, b));
    let error = loop {
        match remote.send(b"x", 0).wait() {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    let closed = matches!(
        error,
        Error::Engine(EngineError::LinkEnded { end: LinkEnd::ClosedByPeer, .. } | EngineError::Revoked { .. })
    );
    assert!(closed, "{error:?}");
}
