//! Nodes with an arena for the bulk lane alone, beside a large and sparse one; and sends by the lane that never wait.

use std::sync::Arc;
use std::time::Duration;

use vmmc::memory::Origin;
use vmmc::{Buffer, Bulk, DirectSource, HugePages, Key, Node, Progress};
use vmmc_lab::TempLab;

use crate::hosts::lab;

const LEN: usize = 6 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn open(lab: &TempLab, host: usize, bulk: Bulk) -> Node {
    let host = lab.host(host);
    let settings = Node::builder().interface(&host.interface).bulk(bulk).bulk_mtu(1280);
    // So long an arena is never pinned unless that is demanded.
    let settings = settings
        .progress(Progress::Thread { core: None })
        .arena(4 << 30)
        .huge_pages(HugePages::Never)
        .bulk_arena(4 * LEN, HugePages::WhenFree);
    host.enter(|| settings.open().unwrap()).unwrap()
}

fn peer(lab: &TempLab) -> std::net::SocketAddr {
    (lab.host(2).address, vmmc::DEFAULT_PORT).into()
}

fn fill(mut buffer: Buffer, seed: u64) -> Buffer {
    fastrand::Rng::with_seed(seed).fill(&mut buffer);
    buffer
}

#[test]
fn only_what_is_of_it_goes_by_the_lane() {
    let lab = lab(2, 9000);
    let (from, to) = (open(&lab, 1, Bulk::WhenPossible), open(&lab, 2, Bulk::WhenPossible));
    let inbox = |name: &str, direct: bool| {
        let export = to.export(name).len(LEN).key(Key::PUBLIC).notify(true);
        if direct { export.direct(true) } else { export.sparse(true) }.create().unwrap()
    };
    let exports = [inbox("direct", true), inbox("sparse", false)];
    let remotes = ["direct", "sparse"].map(|name| from.import(peer(&lab), name, Key::PUBLIC).unwrap());
    let landed = || to.stats().unwrap().engine.rx_bulk_bytes;
    for (export, remote) in exports.iter().zip(&remotes) {
        for direct in [true, false] {
            let buffer = if direct { from.alloc_direct(LEN) } else { from.alloc(LEN) }.unwrap();
            assert_eq!(from.has_direct(&buffer), direct);
            let before = landed();
            let buffer = remote.send(fill(buffer, 7), 0).notify(1).timeout(PATIENCE).wait().unwrap();
            assert_eq!(export.wait_notification(PATIENCE).unwrap().length, LEN as u64);
            let mut seen = vec![0; LEN];
            export.read(0, &mut seen).unwrap();
            assert!(seen == buffer[..]);
            assert_eq!(landed() > before, direct && remote.name() == "direct");
        }
    }
}

#[test]
fn only_what_is_of_it_is_fetched_by_the_lane() {
    let lab = lab(2, 9000);
    let (from, to) = (open(&lab, 1, Bulk::Require), open(&lab, 2, Bulk::Require));
    let asked = || to.stats().unwrap().engine.tx_bulk_transfers;
    for direct in [true, false] {
        let name = if direct { "direct" } else { "elsewhere" };
        let export = to.export(name).len(LEN).key(Key::PUBLIC).direct(direct).readable(true).create().unwrap();
        let content = fill(to.alloc(LEN).unwrap(), 9);
        export.write(0, &content).unwrap();
        let remote = from.import(peer(&lab), name, Key::PUBLIC).unwrap();
        let before = asked();
        let fetched = remote.fetch(0, from.alloc_direct(LEN).unwrap()).timeout(PATIENCE).wait().unwrap();
        assert!(fetched[..] == content[..]);
        assert_eq!(asked() > before, direct, "{name}");
    }
}

#[test]
fn sends_that_never_wait_take_what_there_is_room_for() {
    let lab = lab(2, 9000);
    let (from, to) = (open(&lab, 1, Bulk::Require), open(&lab, 2, Bulk::Require));
    let inbox = to.export("inbox").len(2 * LEN).direct(true).key(Key::PUBLIC).notify(true).create().unwrap();
    let remote = from.import(peer(&lab), "inbox", Key::PUBLIC).unwrap();
    let events = from.events();
    remote.report_to(&events, 5).unwrap();
    assert_eq!(remote.direct_from(), Some(64 << 10));
    let source = DirectSource::of_buffer(Arc::new(fill(from.alloc_direct(2 * LEN).unwrap(), 8)));
    let (mut at, mut last, mut batch) = (0, None, Vec::new());
    while at < 2 * LEN || !remote.is_delivered(&last.unwrap()).unwrap() {
        if at < 2 * LEN && remote.has_direct_room() {
            let sent = remote.try_send_direct(&source, at..2 * LEN, at as u64).notify(3).now().unwrap();
            assert_eq!(sent.complete, at + sent.bytes == 2 * LEN);
            (at, last) = (at + sent.bytes, sent.ticket.or(last));
            continue;
        }
        events.wait(&mut batch, Duration::ZERO, PATIENCE).unwrap();
        assert!(!batch.is_empty(), "no event, with {at} bytes sent");
        batch.clear();
    }
    let mut announced = 0;
    while announced < 2 * LEN as u64 {
        let news = inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!((news.offset, news.tag), (announced, 3));
        announced += news.length;
    }
    let Ok(Origin::Buffer(buffer)) = remote.take_back(source) else {
        panic!("somebody keeps a buffer that has arrived")
    };
    let mut seen = vec![0; 2 * LEN];
    inbox.read(0, &mut seen).unwrap();
    assert!(seen == buffer[..]);
    assert!(to.stats().unwrap().engine.rx_bulk_bytes > 0);
}

#[test]
fn what_can_not_be_is_refused() {
    let lab = lab(2, 9000);
    let (from, to) = (open(&lab, 1, Bulk::Require), open(&lab, 2, Bulk::Never));
    let _inbox = to.export("inbox").len(LEN).direct(true).key(Key::PUBLIC).create().unwrap();
    let remote = from.import(peer(&lab), "inbox", Key::PUBLIC).unwrap();
    assert_eq!((remote.direct_from(), to.has_direct(&to.alloc_direct(10).unwrap())), (None, false));
    let refused = |buffer: Buffer, part: std::ops::Range<usize>| {
        let source = DirectSource::of_buffer(Arc::new(buffer));
        let error = remote.try_send_direct(&source, part, 0).now().unwrap_err().to_string();
        assert!(remote.take_back(source).is_ok());
        error
    };
    let direct = || from.alloc_direct(1 << 20).unwrap();
    assert!(refused(direct(), 0..1 << 20).contains("no bulk lane"), "{}", refused(direct(), 0..1 << 20));
    refused(direct(), 1..(1 << 20) + 1);
    let nothing = refused(direct(), 7..7);
    assert!(nothing.contains("here are none"), "{nothing}");
    refused(from.alloc(1 << 20).unwrap(), 0..1 << 20);
    let none = Node::builder().interface("vh1").bulk_arena(0, HugePages::Never).open().unwrap_err();
    assert!(none.to_string().contains('0'), "{none}");
}
