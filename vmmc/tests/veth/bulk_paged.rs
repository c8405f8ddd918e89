//! Paged buffers on the bulk lane: sent from where their pages are pinned, if all are, and copied as ever if not.

use std::sync::Arc;
use std::time::Instant;

use vmmc::memory::utlb::{Config, Rule};
use vmmc::{Bulk, Node, PagedBuffer, Progress};
use vmmc_lab::TempLab;

use crate::hosts::{KEY, PATIENCE, address, lab, open_with};

const MIB: usize = 1 << 20;
const LEN: usize = 2 * MIB;

/// Nodes with bulk lanes, of which the first may pin so many bytes, and does at once.
fn pair(mtu: u32, budget: usize) -> (TempLab, Node, Node) {
    let lab = lab(2, mtu);
    let config = Config { rule: Rule::Pin, budget: Some(budget), ..Config::default() };
    let open = |host, config| {
        let thread = Progress::Thread { core: None };
        open_with(&lab, host, |b| {
            b.bulk(Bulk::Require).bulk_threshold(64 << 10).arena(16 * MIB).utlb(config).progress(thread)
        })
        .unwrap()
    };
    let (from, to) = (open(1, config), open(2, Config::default()));
    (lab, from, to)
}

/// A paged buffer of random bytes.
fn paged(node: &Node, len: usize, seed: u64) -> PagedBuffer {
    let mut buffer = node.map(len).unwrap();
    fastrand::Rng::with_seed(seed).fill(&mut buffer.write());
    buffer
}

/// Pins the pages of a buffer one by one, in no order: few of them are neighbours in the arena.
fn scatter(node: &Node, buffer: &PagedBuffer) {
    let page = node.utlb().page_size();
    let mut order: Vec<usize> = (0..buffer.len() / page).collect();
    fastrand::Rng::with_seed(3).shuffle(&mut order);
    order.into_iter().for_each(|number| drop(buffer.hold(number * page..(number + 1) * page)));
}

/// Sends whole buffers and parts, of pages in a row and of others here and there. Returns whether the receiver has trusted its lane all the time: on a machine that is so busy that
/// nothing lands for long it takes the places back, and what it declines then is copied, as it should be.
fn is_sent_without_a_copy(mtu: u32) -> bool {
    let (lab, from, to) = pair(mtu, 2 * LEN);
    let inbox = to.export("inbox").len(LEN).key(KEY).notify(true).create().unwrap();
    let remote = from.import(address(&lab, 2), "inbox", KEY).unwrap();
    let (in_a_row, scattered) = (paged(&from, LEN, 1), paged(&from, LEN, 2));
    scatter(&from, &scattered);
    let pinned = from.utlb().counters();
    assert_eq!((pinned.pinned * 4096, pinned.evictions), (LEN as u64, 0));
    let (mut seen, mut expected) = (vec![0; LEN], 0);
    for (round, mut buffer) in [in_a_row, scattered].into_iter().enumerate() {
        let parts = [(0, 0..LEN), (1, 0..LEN - 1), (4096, 1000..MIB + 333), (99, 4096..4096 + 300_001)];
        for (tag, (offset, part)) in parts.into_iter().enumerate() {
            inbox.write(0, &vec![0xee; LEN]).unwrap();
            let at = buffer.as_ptr();
            let send = remote.send(buffer, offset as u64).part(part.clone()).notify(tag as u32);
            buffer = send.timeout(PATIENCE).wait().unwrap();
            let news = inbox.wait_notification(PATIENCE).unwrap();
            assert_eq!((news.offset, news.length, news.tag), (offset as u64, part.len() as u64, tag as u32));
            inbox.read(0, &mut seen).unwrap();
            let (before, rest) = seen.split_at(offset);
            let (sent, after) = rest.split_at(part.len());
            assert!(sent == &buffer[part.clone()], "round {round}, send {tag}");
            assert!(before.iter().chain(after).all(|&byte| byte == 0xee), "round {round}, send {tag}");
            // It is the program's again, to write and to have its pages moved.
            assert_eq!((buffer.as_ptr(), from.utlb().counters().held), (at, 0));
            buffer.write()[part.start] ^= 1;
            expected += part.len() as u64;
        }
        // Several sends at a time share it.
        let buffer = Arc::new(buffer);
        let halves = [0..MIB, MIB..LEN];
        let pending = halves.map(|half| remote.send(buffer.clone(), half.start as u64).part(half).start().unwrap());
        for pending in pending {
            pending.wait().unwrap();
        }
        inbox.read(0, &mut seen).unwrap();
        assert!(seen == buffer[..]);
        assert!(Arc::into_inner(buffer).is_some(), "the sends have given it back");
        expected += LEN as u64;
    }
    let (utlb, from, to) = (from.utlb().counters(), from.stats().unwrap(), to.stats().unwrap());
    assert_eq!((utlb.copied, utlb.failures, utlb.held, utlb.evictions), (0, 0, 0, 0));
    assert_eq!(to.engine.delivered_bytes, expected);
    if to.engine.bulk_reopened > 0 {
        return false;
    }
    let (copied, sent) = (from.engine.tx_copied_bytes, from.engine.tx_bulk_bytes);
    assert!(copied < sent / 500, "{copied} of {sent} bytes were copied: {:?} {:?}", from.engine, to.engine);
    assert!(to.engine.rx_bulk_bytes > expected / 100 * 99, "{} of {expected}", to.engine.rx_bulk_bytes);
    assert_eq!(from.engine.tx_bulk_declined, 0);
    true
}

fn nothing_is_copied(mtu: u32) {
    assert!((0..10).any(|_| is_sent_without_a_copy(mtu)), "the lane was never trusted from beginning to end");
}

#[test]
fn nothing_is_copied_at_9000() {
    nothing_is_copied(9000);
}

#[test]
fn nothing_is_copied_at_65535() {
    nothing_is_copied(65535);
}

/// There is room for one of them and a half, and three are sent at a time: the first has its pages pinned as long as it is under way, whatever the others evict, and they are copied.
#[test]
fn others_want_the_pages_of_sends_in_flight() {
    let budget = MIB + MIB / 2;
    let (lab, from, to) = pair(9000, budget);
    let inbox = to.export("inbox").len(3 * MIB).key(KEY).create().unwrap();
    let remote = from.import(address(&lab, 2), "inbox", KEY).unwrap();
    let mut buffers: Vec<PagedBuffer> = (0..3).map(|seed| paged(&from, MIB, seed)).collect();
    let mut seen = vec![0; 3 * MIB];
    let mut wishes = 0;
    for round in 0..30u8 {
        let pending = buffers.into_iter().zip([0, MIB as u64, 2 * MIB as u64]);
        let pending: Vec<_> =
            pending.into_iter().map(|(buffer, at)| remote.send(buffer, at).start().unwrap()).collect();
        // The pages are wanted by one that isn't sent, too, and there shall be fewer of them.
        let other = paged(&from, MIB, 99);
        let hold = other.hold(0..MIB);
        wishes += hold.runs().filter(|run| run.frame.is_none()).count();
        from.utlb().set_budget(0);
        assert_eq!(from.utlb().counters().held * 4096, budget as u64);
        from.utlb().set_budget(budget);
        drop(hold);
        buffers = pending.into_iter().map(|pending| pending.wait().unwrap()).collect();
        inbox.read(0, &mut seen).unwrap();
        for (number, (buffer, seen)) in buffers.iter_mut().zip(seen.chunks(MIB)).enumerate() {
            assert!(*seen == buffer[..], "round {round}, buffer {number}");
            buffer.write()[usize::from(round) * 5000..][..5000].fill(round);
        }
        let utlb = from.utlb().counters();
        assert_eq!((utlb.held, utlb.failures), (0, 0));
        assert!(utlb.pinned * 4096 <= budget as u64);
        // Another is the first, and evicts what was pinned.
        buffers.rotate_left(1);
    }
    let (utlb, from, to) = (from.utlb().counters(), from.stats().unwrap(), to.stats().unwrap());
    assert!(utlb.copied > 0 && utlb.evictions > 0 && wishes > 0, "{utlb:?}");
    assert!(from.engine.tx_copied_bytes > MIB as u64 && to.engine.rx_bulk_bytes > 10 * MIB as u64);
    assert_eq!(to.engine.delivered_bytes, 90 * MIB as u64);
}

/// Memory that isn't the arena's can't be landed in: then the same pages are sent as ordinary packets.
#[test]
fn what_is_declined_is_copied() {
    let (lab, from, to) = pair(9000, 2 * LEN);
    let inbox = to.export("inbox").len(LEN).key(KEY).create().unwrap();
    let remote = from.import(address(&lab, 2), "inbox", KEY).unwrap();
    let mut buffer = paged(&from, LEN, 7);
    scatter(&from, &buffer);
    for round in 1..=3 {
        let posted = inbox.redirect(0..LEN as u64, vec![0; LEN]).unwrap();
        buffer = remote.send(buffer, 0).timeout(PATIENCE).wait().unwrap();
        assert!(posted.wait(PATIENCE).unwrap() == buffer[..], "round {round}");
        assert_eq!(from.utlb().counters().held, 0);
        let engine = from.stats().unwrap().engine;
        assert!(engine.tx_bulk_declined >= round && engine.tx_copied_bytes >= round * (LEN / 2) as u64, "{engine:?}");
    }
    // And back on the lane, as soon as the receiver trusts it.
    let (begin, mut seen) = (Instant::now(), vec![0; LEN]);
    loop {
        let before = from.stats().unwrap().engine.tx_copied_bytes;
        buffer = remote.send(buffer, 0).timeout(PATIENCE).wait().unwrap();
        inbox.read(0, &mut seen).unwrap();
        assert!(seen == buffer[..]);
        if from.stats().unwrap().engine.tx_copied_bytes < before + LEN as u64 / 100 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it is always copied");
        buffer.write()[5] ^= 1;
    }
}

/// A send that nobody waits for goes on, and its pages come back when it is over; one that comes to nothing gives its buffer back at once.
#[test]
fn pages_come_back_whatever_becomes_of_the_send() {
    let (lab, from, to) = pair(9000, 2 * LEN);
    let inbox = to.export("inbox").len(LEN).key(KEY).notify(true).create().unwrap();
    let remote = from.import(address(&lab, 2), "inbox", KEY).unwrap();
    let buffer = paged(&from, LEN, 1);
    let sent = buffer.to_vec();
    drop(remote.send(buffer, 0).notify(1).start().unwrap());
    inbox.wait_notification(PATIENCE).unwrap();
    let mut seen = vec![0; LEN];
    inbox.read(0, &mut seen).unwrap();
    assert!(seen == sent);
    let begin = Instant::now();
    while from.utlb().counters().pinned > 0 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", from.utlb().counters());
        std::thread::yield_now();
    }
    let failed = remote.send(paged(&from, LEN, 2), 1).start().unwrap_err();
    assert_eq!((failed.buffer.len(), from.utlb().counters().held), (LEN, 0));
    let failed = remote.send(failed.buffer, 0).part(0..LEN + 1).start().unwrap_err();
    assert!(matches!(failed.error, vmmc::Error::Memory(_)), "{}", failed.error);
    // The peer goes: what is under way comes to nothing.
    let pending = remote.send(failed.buffer, 0).start().unwrap();
    drop((inbox, to));
    match pending.wait() {
        Ok(buffer) => assert_eq!(buffer.len(), LEN),
        Err(failed) => assert_eq!(failed.buffer.len(), LEN),
    }
    assert_eq!(from.utlb().counters().held, 0);
}
