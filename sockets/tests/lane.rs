//! Streams between hosts with bulk lanes, on a simulated network: whatever goes by the lane, and whatever doesn't, is read as it was written.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use common::simulated::{BAD, Hosts, PERFECT};
use common::{Content, eventually, watched, watched_for};
use proptest::prelude::*;
use vmmc::port::sim::Conditions;
use vmmc_sockets::{Stack, VmmcStream, Writing};

/// The server's stack and stream, and the client's. Those that have a lane let long writes take it.
struct Pair {
    stacks: [Stack; 2],
    streams: [VmmcStream; 2],
    hosts: Hosts,
}

fn pair(seed: u64, conditions: Conditions, lanes: [bool; 2]) -> Pair {
    let hosts = Hosts::new(seed, conditions);
    let builder = Stack::builder().bulk_owned(64 << 10).bulk_writes(64 << 10).node(|node| node.bulk_mtu(1280));
    let stack = |n: u8| {
        let lane = if lanes[usize::from(n - 1)] { hosts.lane_with_bulk(n) } else { hosts.lane(n) };
        builder.clone().open_on(lane).expect("opening a stack")
    };
    let stacks = [stack(1), stack(2)];
    let listener = stacks[1].bind(SocketAddr::new(Hosts::address(2), 0)).unwrap();
    let connected = stacks[0].connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    Pair { stacks, streams: [connected, accepted], hosts }
}

/// Bytes that a stack has received by the lane.
fn landed(stack: &Stack) -> u64 {
    stack.node().stats().unwrap().engine.rx_bulk_bytes
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Write(usize),
    /// A buffer that is given away, and may come back later.
    Owned(usize),
    Pause,
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        3 => (1..5000usize).prop_map(Piece::Write),
        3 => (60_000..900_000usize).prop_map(Piece::Write),
        3 => (1..900_000usize).prop_map(Piece::Owned),
        1 => Just(Piece::Pause),
    ]
}

/// What one side writes, and how the other reads it.
#[derive(Clone, Debug)]
struct Way {
    pieces: Vec<Piece>,
    read: usize,
    loans: bool,
    salt: u64,
}

fn way() -> impl Strategy<Value = Way> {
    let read = prop_oneof![1..5000usize, 100_000..1_000_000usize];
    (prop::collection::vec(piece(), 1..14), read, any::<bool>(), any::<u64>())
        .prop_map(|(pieces, read, loans, salt)| Way { pieces, read, loans, salt })
}

fn total(pieces: &[Piece]) -> u64 {
    let len = |piece: &Piece| if let Piece::Write(len) | Piece::Owned(len) = piece { *len as u64 } else { 0 };
    pieces.iter().map(len).sum()
}

fn write(mut stream: &VmmcStream, way: &Way) {
    let (content, mut at) = (Content::new(way.salt), 0);
    let mut away: Vec<Writing> = Vec::new();
    for piece in &way.pieces {
        match *piece {
            Piece::Write(len) => stream.write_all(&content.bytes(at, len)).unwrap(),
            Piece::Owned(len) => {
                let mut buffer = stream.stack().node().alloc_direct(len).unwrap();
                buffer.copy_from_slice(&content.bytes(at, len));
                away.push(stream.start_write_owned(buffer).unwrap());
            }
            Piece::Pause => std::thread::sleep(Duration::from_millis(1)),
        }
        at += if let Piece::Write(len) | Piece::Owned(len) = piece { *len as u64 } else { 0 };
        if away.len() > 2 {
            // It is the program's again: nothing of it is sent any more.
            away.remove(0).wait().unwrap().fill(0xee);
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
    drop(away);
}

fn read(mut stream: &VmmcStream, way: &Way) {
    let (content, mut at, mut buffer) = (Content::new(way.salt), 0, vec![0; way.read]);
    loop {
        let len = if way.loans {
            let loan = stream.read_loaned().unwrap();
            content.check(at, &loan);
            loan.len()
        } else {
            let len = stream.read(&mut buffer).unwrap();
            content.check(at, &buffer[..len]);
            len
        };
        if len == 0 {
            break;
        }
        at += len as u64;
    }
    assert_eq!(at, total(&way.pieces));
}

#[test]
fn any_mixture_is_read_as_it_was_written() {
    let by_lane = AtomicU64::new(0);
    let conditions = prop_oneof![Just(PERFECT), Just(BAD)];
    let lanes = prop_oneof![3 => Just([true, true]), 1 => Just([true, false]), 1 => Just([false, true])];
    let config =
        ProptestConfig { cases: 40, max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(seed: u64, conditions in conditions, lanes in lanes, ways in [way(), way()])| {
        let landed = std::sync::Arc::new(AtomicU64::new(0));
        let seen = landed.clone();
        watched_for(3 * common::PATIENCE, "a mixture", move || {
            let Pair { stacks, streams, hosts: _hosts } = pair(seed, conditions, lanes);
            std::thread::scope(|scope| {
                for side in 0..2 {
                    let (ways, streams) = (&ways, &streams);
                    scope.spawn(move || write(&streams[side], &ways[side]));
                    scope.spawn(move || read(&streams[1 - side], &ways[side]));
                }
            });
            seen.fetch_add(stacks.iter().map(self::landed).sum(), Ordering::Relaxed);
        });
        let landed = landed.load(Ordering::Relaxed);
        prop_assert!(landed == 0 || lanes == [true; 2]);
        by_lane.fetch_add(landed, Ordering::Relaxed);
    });
    assert!(by_lane.into_inner() > 0, "nothing has gone by the lane");
}

/// Writes and reads so much that some of it goes by the lane, for as long as that takes, from `at` on. Returns where it ended.
fn until_landed(pair: &Pair, content: Content, mut at: u64) -> u64 {
    let before = landed(&pair.stacks[1]);
    eventually("data by the lane", || {
        let bytes = content.bytes(at, 1_000_000);
        std::thread::scope(|scope| {
            scope.spawn(|| (&pair.streams[0]).write_all(&bytes).unwrap());
            let mut seen = vec![0; bytes.len()];
            (&pair.streams[1]).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
        });
        at += bytes.len() as u64;
        landed(&pair.stacks[1]) > before
    });
    at
}

/// Has the kernel of the reader's host lose packets that were let in, while much is written. Returns how often the lane was opened anew.
fn damage(pair: &Pair, content: Content, at: u64, len: usize) -> u64 {
    let reopened = || pair.stacks[1].node().stats().unwrap().engine.bulk_reopened;
    let before = reopened();
    std::thread::scope(|scope| {
        scope.spawn(|| (&pair.streams[0]).write_all(&content.bytes(at, len)).unwrap());
        for at in (at..at + len as u64).step_by(500_000) {
            pair.hosts.control(2).drop_admitted(1);
            let mut seen = vec![0; 500_000];
            (&pair.streams[1]).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
        }
    });
    pair.hosts.control(2).drop_admitted(0);
    reopened() - before
}

#[test]
fn a_lane_that_is_opened_anew_goes_on() {
    watched("opened anew", || {
        let pair = pair(3, PERFECT, [true; 2]);
        let content = Content::new(4);
        let at = until_landed(&pair, content, 0);
        assert!(damage(&pair, content, at, 5_000_000) > 0, "the lane was never opened anew");
        until_landed(&pair, content, at + 5_000_000);
    });
}

#[test]
fn a_lane_that_is_lost_for_good_loses_no_byte() {
    watched("lost for good", || {
        let pair = pair(7, PERFECT, [true; 2]);
        let content = Content::new(8);
        let mut at = until_landed(&pair, content, 0);
        pair.hosts.control(2).refuse_reopen(true);
        assert!(damage(&pair, content, at, 5_000_000) > 0, "the lane was never tried to be opened anew");
        at += 5_000_000;
        let before = landed(&pair.stacks[1]);
        assert_eq!(damage(&pair, content, at, 5_000_000), 0);
        assert_eq!(landed(&pair.stacks[1]), before, "it wasn't lost");
    });
}

#[test]
fn headers_between_long_buffers_make_a_stream_go_the_other_way_and_come_back() {
    watched("headers", || {
        let pair = pair(5, PERFECT, [true; 2]);
        let content = Content::new(6);
        let mut at = until_landed(&pair, content, 0);
        let reading = |at: u64, len: usize| {
            let mut seen = vec![0; len];
            (&pair.streams[1]).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
        };
        // Each of them waits for the buffer before it, until it doesn't pay any more.
        let mut quiet = 0;
        while quiet < 60 {
            let before = landed(&pair.stacks[1]);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (&pair.streams[0]).write_all(&content.bytes(at, 16)).unwrap();
                    (&pair.streams[0]).write_all(&content.bytes(at + 16, 200_000)).unwrap();
                });
                reading(at, 200_016);
            });
            at += 200_016;
            quiet = if landed(&pair.stacks[1]) == before { quiet + 1 } else { 0 };
        }
        until_landed(&pair, content, at);
    });
}

#[test]
fn a_buffer_that_went_as_packets_comes_back_without_the_reader() {
    watched("as packets", || {
        let Pair { stacks, streams, hosts: _hosts } = pair(11, PERFECT, [true, false]);
        let (content, len) = (Content::new(12), 70_000);
        for at in (0..4).map(|n| n * len as u64) {
            let mut buffer = stacks[0].node().alloc_direct(len).unwrap();
            buffer.copy_from_slice(&content.bytes(at, len));
            // Nobody reads, and so the peer has nothing to say: an acknowledgement is no news.
            streams[0].write_owned(buffer).unwrap().fill(0xee);
            let mut seen = vec![0; len];
            (&streams[1]).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
        }
    });
}

#[test]
fn whoever_waits_for_a_buffer_keeps_nobody_from_writing() {
    watched("asked for", || {
        let slow = Conditions { delay: Duration::from_millis(20), ..PERFECT };
        let pair = pair(13, slow, [true; 2]);
        let content = Content::new(14);
        let mut at = until_landed(&pair, content, 0);
        let len = 100_000;
        eventually("a buffer that is under way", || {
            let mut buffer = pair.stacks[0].node().alloc_direct(len).unwrap();
            buffer.copy_from_slice(&content.bytes(at, len));
            let writing = pair.streams[0].start_write_owned(buffer).unwrap();
            // There is room in the ring for several.
            let was_away = !writing.is_done();
            let writable = pair.streams[0].poll_write_ready(&mut Context::from_waker(Waker::noop())).is_ready();
            let is_away = !writing.is_done();
            assert!(writable || !is_away, "nobody else may write");
            let mut seen = vec![0; len];
            (&pair.streams[1]).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
            at += len as u64;
            drop(writing.wait().unwrap());
            was_away && is_away
        });
    });
}
