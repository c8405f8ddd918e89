//! A third host floods two that are busy: with garbage as fast as it can, and with forgeries of their packets as fast as their
//! engines can look at them. (Beyond that it is packets lost in a full queue that the link has to cope with, and its congestion
//! control gives way to those who don't care.)
//!
//! The attacker sees what the two send, and sends whatever frames it likes, at their addresses and in their names, but from its own
//! Ethernet address: with theirs it would lead the switch astray, against which no protocol helps. These tests have a process of
//! their own, one at a time, because they watch how much memory it has.

mod attacker;
#[path = "../veth/hosts.rs"]
#[allow(dead_code)]
mod hosts;
mod tap;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmmc::{DEFAULT_PORT, Lane, Node, Progress, Stats};
use vmmc_lab::TempLab;

use crate::attacker::Attacker;
use crate::hosts::{KEY, PATIENCE, address, lab, pattern};
use crate::tap::Tapped;

const LENGTH: usize = 4 << 20;
const ROUNDS: u8 = 8;
/// Half-open links take memory, and what is touched first, but no more than this.
const GROWTH: usize = 8 << 20;
/// So that the attacker sends some 20,000 frames in a second: tests are built without optimization.
const PAUSE: Duration = Duration::from_millis(1);
/// The most half-open links a node has.
const HALF_OPEN: usize = 64;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node of which the attacker sees what it sends.
fn open_tapped(lab: &TempLab, number: usize) -> (Node, Tapped) {
    let host = lab.host(number);
    let open = || {
        let mut lane = Lane::open(&host.interface, None, Some(host.address.into()), DEFAULT_PORT, None, None).unwrap();
        let tapped;
        (lane.port, tapped) = tap::tap(lane.port);
        // It is not about how soon a peer counts as dead, and the machine is busy.
        let settings = Node::builder().progress(Progress::Thread { core: None }).peer_timeout(PATIENCE);
        (settings.open_on(lane).unwrap(), tapped)
    };
    host.enter(open).unwrap()
}

/// Bytes of memory this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// Has host 1 put a pattern into the memory of host 2 eight times, and compares, while `attack` goes on until it is told that
/// they are done. The attacker pauses for `pause` after every 32 frames. Returns what both nodes have counted then, and how many
/// frames the attacker has sent.
fn under(pause: Duration, attack: impl Fn(&mut Attacker, &mut fastrand::Rng) + Sync) -> ([Stats; 2], u64) {
    let _alone = alone();
    let lab = lab(3, 1500);
    let ((a, from_a), (b, from_b)) = (open_tapped(&lab, 1), open_tapped(&lab, 2));
    let inbox = b.export("inbox").len(LENGTH).key(KEY).notify(true).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    let put = |salt: u8| {
        remote.send(&pattern(LENGTH, salt), 0).notify(salt.into()).timeout(4 * PATIENCE).wait().unwrap();
        let news = inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!((news.tag, news.offset, news.length), (salt.into(), 0, LENGTH as u64));
        let mut seen = vec![0; LENGTH];
        inbox.read(0, &mut seen).unwrap();
        assert!(seen == pattern(LENGTH, salt), "other bytes have arrived");
    };
    // So that all memory has been touched that has to be, and the attacker has seen something.
    put(200);
    let hosts = [lab.host(1), lab.host(2)];
    let mut attacker = lab.host(3).enter(|| Attacker::new(lab.host(3), hosts, [&from_a, &from_b], pause)).unwrap();
    let (before, done) = (resident(), AtomicBool::new(false));
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(1);
            while !done.load(Ordering::Acquire) {
                attack(&mut attacker, &mut random);
            }
            attacker.sent()
        });
        // Ended by a panic, too.
        let end = Ending(&done);
        (0..ROUNDS).for_each(put);
        drop(end);
        flood.join().unwrap()
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more");
    let stats = [a.stats().unwrap(), b.stats().unwrap()];
    for (stats, tapped) in stats.iter().zip([&from_a, &from_b]) {
        assert!(stats.links.len() <= 1 + HALF_OPEN, "{} links", stats.links.len());
        assert_eq!(stats.engine.links_ended, 0, "{stats:?}");
        assert_eq!(tapped.tokens(), 1, "it was one and the same link all the time");
    }
    assert_eq!(stats[1].engine.delivered_bytes, (u64::from(ROUNDS) + 1) * LENGTH as u64);
    assert_eq!(stats[1].engine.refused_puts, 0);
    assert_eq!(inbox.try_notification().unwrap(), None);
    // Those who never proved that they are there are forgotten.
    let start = Instant::now();
    while [&a, &b].iter().any(|node| node.stats().unwrap().links.len() > 1) {
        assert!(start.elapsed() < PATIENCE, "half-open links stay");
        std::thread::sleep(Duration::from_millis(20));
    }
    (stats, sent)
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn of_garbage() {
    let ([_, b], sent) = under(Duration::ZERO, |attacker, random| attacker.garbage(random));
    let engine = b.engine;
    assert!(engine.rx_malformed > 1000 && engine.rx_malformed <= sent, "{engine:?}, {sent} sent");
}

#[test]
fn of_forged_packets() {
    let (stats, sent) = under(PAUSE, |attacker, random| match random.u8(..8) {
        0 => attacker.wrong_tokens(random),
        1 => attacker.replay(random),
        2 => attacker.damaged(random),
        3 => attacker.hello(random),
        4 => attacker.truncated(random),
        5 => attacker.oversized(random),
        6 => attacker.reset(random),
        _ => attacker.garbage(random),
    });
    for Stats { engine, .. } in stats {
        let refused = [engine.rx_malformed, engine.rx_damaged, engine.rx_unknown];
        assert!(refused.iter().all(|&n| n > 100), "{engine:?}, {sent} sent");
    }
}

#[test]
fn of_replayed_packets_alone() {
    // Those that were sent last are the likeliest to be taken for new ones.
    let (stats, _) = under(PAUSE, |attacker, random| attacker.replay(random));
    assert!(stats[1].links[0].counters.rx_refused > 100, "{stats:?}");
}

#[test]
fn of_hellos_from_everywhere() {
    let ([_, b], sent) = under(PAUSE, |attacker, random| attacker.hello(random));
    let port = b.port;
    assert!(port.tx_packets > 1000, "they are answered: {b:?}, {sent} sent");
    assert!(port.tx_bytes < port.rx_bytes, "with no more than they were: {port:?}");
}
