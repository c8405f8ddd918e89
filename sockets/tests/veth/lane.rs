//! Streams that carry much, between stacks with a bulk lane, and without: what is read is what was written, whichever way it went.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vmmc::Bulk;
use vmmc_lab::{LabConfig, TempLab};
use vmmc_sockets::{Stack, VmmcStream, Writing};
use xdp_prog::damage::{Damage, Shares};

use crate::common::{Content, PATIENCE, eventually, watched, watched_for};
use crate::process::{Family, Process};

/// More than any stream needs to get a long ring.
const MUCH: usize = 24 << 20;

fn lab(mtu: u32, queues: u32) -> TempLab {
    lab_of(2, mtu, queues)
}

fn lab_of(hosts: usize, mtu: u32, queues: u32) -> TempLab {
    TempLab::new(&LabConfig { hosts, mtu, queues, ..LabConfig::default() })
        .unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"))
}

/// Two stacks, and a stream between them.
struct Pair {
    server: (Stack, VmmcStream),
    client: (Stack, VmmcStream),
    _lab: TempLab,
}

/// A stack on a host: `bulk` is whether it has a lane.
fn stack(lab: &TempLab, n: usize, bulk: Bulk) -> Stack {
    let host = lab.host(n);
    let builder = Stack::builder().interface(&host.interface).bulk_owned(64 << 10).bulk_writes(64 << 10);
    let builder = builder.node(|node| node.bulk(bulk).bulk_mtu(1280));
    host.enter(|| builder.open().expect("opening a stack")).expect("entering a host")
}

fn stream(server: &Stack, client: &Stack) -> (VmmcStream, VmmcStream) {
    let listener = server.bind(SocketAddr::new(server.local().ip(), 0)).unwrap();
    let connected = client.connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, connected)
}

fn pair(mtu: u32) -> Pair {
    let lab = lab(mtu, 2);
    let (server, client) = (stack(&lab, 2, Bulk::Require), stack(&lab, 1, Bulk::Require));
    let (accepted, connected) = stream(&server, &client);
    Pair { server: (server, accepted), client: (client, connected), _lab: lab }
}

/// Bytes that a stack has received by the lane.
fn landed(stack: &Stack) -> u64 {
    stack.node().stats().unwrap().engine.rx_bulk_bytes
}

/// Writes `total` bytes, in writes of all lengths; with `short` ones among them.
fn write_much(mut stream: &VmmcStream, content: Content, total: usize, short: bool) {
    let mut at = 0;
    for turn in 0.. {
        let long = 300_000 + turn * 104_729 % 1_500_000;
        let len = if short && turn % 3 == 2 { 1 + turn * 7919 % 3000 } else { long }.min(total - at);
        if len == 0 {
            return;
        }
        stream.write_all(&content.bytes(at as u64, len)).unwrap();
        at += len;
    }
}

/// Reads to the end, in reads of all lengths.
#[track_caller]
fn read_much(stream: &VmmcStream, content: Content, total: usize) {
    read_much_counting(stream, content, total, &AtomicU64::new(0));
}

#[track_caller]
fn read_much_counting(mut stream: &VmmcStream, content: Content, total: usize, got: &AtomicU64) {
    let (mut at, mut buffer) = (0, vec![0; 1_000_000]);
    for turn in 0.. {
        let len = 1 + turn * 15_485_863 % buffer.len();
        let read = stream.read(&mut buffer[..len]).unwrap();
        if read == 0 {
            break;
        }
        content.check(at as u64, &buffer[..read]);
        at += read;
        got.store(at as u64, Ordering::Relaxed);
    }
    assert_eq!(at, total);
}

/// Both directions at once. Returns how many bytes each stack has received by the lane.
fn both_ways(mtu: u32, queues: u32, bulk: [Bulk; 2], short: bool) -> [u64; 2] {
    both_ways_in(&lab(mtu, queues), bulk, short)
}

fn both_ways_in(lab: &TempLab, bulk: [Bulk; 2], short: bool) -> [u64; 2] {
    let (server, client) = (stack(lab, 2, bulk[0]), stack(lab, 1, bulk[1]));
    let (there, here) = stream(&server, &client);
    std::thread::scope(|scope| {
        for (number, stream) in [(1, &there), (2, &here)] {
            scope.spawn(move || {
                write_much(stream, Content::new(number), MUCH, short);
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
        }
        scope.spawn(|| read_much(&here, Content::new(1), MUCH));
        scope.spawn(|| read_much(&there, Content::new(2), MUCH));
    });
    [landed(&server), landed(&client)]
}

/// At every MTU, with short writes between the long ones or without.
fn goes_by_the_lane(what: &'static str, short: bool) {
    for mtu in [1500, 9000, 65535] {
        watched(what, move || {
            let landed = both_ways(mtu, 2, [Bulk::Require; 2], short);
            assert!(landed.iter().all(|&bytes| bytes > 0), "MTU {mtu}: {landed:?} bytes by the lane");
        });
    }
}

#[test]
fn much_goes_by_the_lane_both_ways() {
    goes_by_the_lane("both ways", false);
}

#[test]
fn short_writes_between_long_ones_stay_in_their_places() {
    goes_by_the_lane("long and short", true);
}

#[test]
fn without_a_lane_on_either_side_it_goes_the_other_way() {
    for bulk in [[Bulk::Never; 2], [Bulk::Require, Bulk::Never], [Bulk::Never, Bulk::Require]] {
        watched("no lane", move || assert_eq!(both_ways(9000, 2, bulk, true), [0, 0]));
    }
    watched("one queue", || assert_eq!(both_ways(1500, 1, [Bulk::WhenPossible; 2], true), [0, 0]));
}

#[test]
fn a_stack_that_is_told_nothing_has_owned_buffers_take_the_lane_where_packets_are_long() {
    const LEN: usize = 1 << 20;
    for mtu in [1500, 9000] {
        watched("as it comes", move || {
            let lab = lab(mtu, 2);
            let [server, client] = [2, 1].map(|n| {
                let host = lab.host(n);
                let open = || Stack::builder().interface(&host.interface).open().expect("opening a stack");
                host.enter(open).expect("entering a host")
            });
            let (there, mut here) = stream(&server, &client);
            let content = Content::new(mtu.into());
            let (plain, owned) = (5_000_000, 20);
            std::thread::scope(|scope| {
                scope.spawn(|| read_much(&there, content, plain + owned * LEN));
                here.write_all(&content.bytes(0, plain)).unwrap();
                assert_eq!(landed(&server), 0, "plain writes go as packets");
                for n in 0..owned {
                    let mut buffer = client.node().alloc_direct(LEN).unwrap();
                    buffer.copy_from_slice(&content.bytes((plain + n * LEN) as u64, LEN));
                    here.write_owned(buffer).unwrap();
                }
                here.shutdown(std::net::Shutdown::Write).unwrap();
            });
            assert_eq!(landed(&server) > 0, mtu == 9000, "{} bytes by the lane", landed(&server));
        });
    }
}

#[test]
fn owned_buffers_are_not_copied() {
    watched("owned", || {
        let Pair { server: (server, there), client: (client, here), _lab } = pair(9000);
        let content = Content::new(5);
        let reading = std::thread::spawn(move || read_much(&there, content, 40 * 1_000_000));
        let mut buffer = client.node().alloc_direct(1_000_000).unwrap();
        let mut copied = 0;
        for turn in 0..40u64 {
            if turn == 20 {
                // It is under way by now.
                eventually("data by the lane", || landed(&server) > 0);
                copied = client.node().stats().unwrap().engine.tx_copied_bytes;
            }
            buffer.copy_from_slice(&content.bytes(turn * 1_000_000, 1_000_000));
            buffer = here.write_owned(buffer).unwrap();
            // It is the program's again: nothing of it is sent any more.
            buffer.fill(0xee);
        }
        here.shutdown(std::net::Shutdown::Write).unwrap();
        reading.join().unwrap();
        let copied = client.node().stats().unwrap().engine.tx_copied_bytes - copied;
        assert!(copied < 20_000_000 / 10, "{copied} of 20,000,000 bytes were copied");
    });
}

/// Has a stream carry so much that it goes by the lane.
fn warm_up(server: &Stack, there: &VmmcStream, here: &VmmcStream, content: Content) -> u64 {
    let before = landed(server);
    let mut at = 0;
    while landed(server) == before {
        let bytes = content.bytes(at, 2_000_000);
        std::thread::scope(|scope| {
            scope.spawn(|| (&*here).write_all(&bytes).unwrap());
            let mut seen = vec![0; 2_000_000];
            (&*there).read_exact(&mut seen).unwrap();
            content.check(at, &seen);
        });
        at += 2_000_000;
        assert!(at < 200_000_000, "nothing goes by the lane");
    }
    at
}

#[test]
fn a_reader_that_goes_in_the_middle_of_it_resets_the_stream_and_no_other() {
    watched("reset", || {
        let Pair { server: (server, there), client: (client, here), _lab } = pair(9000);
        let content = Content::new(3);
        warm_up(&server, &there, &here, content);
        let writing = std::thread::spawn(move || {
            loop {
                if let Err(error) = (&here).write_all(&vec![1; 3_000_000]) {
                    return (error, here);
                }
            }
        });
        let mut some = [0; 1000];
        (&there).read_exact(&mut some).unwrap();
        drop(there);
        let (error, here) = writing.join().unwrap();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        // An owned buffer comes back all the same.
        let failed = here.write_owned(client.node().alloc_direct(1 << 20).unwrap()).unwrap_err();
        assert_eq!((failed.written, failed.buffer.len()), (0, 1 << 20));
        drop(here);
        let (there, here) = stream(&server, &client);
        warm_up(&server, &there, &here, Content::new(4));
    });
}

#[test]
fn a_writer_that_drops_its_stream_has_it_all_delivered() {
    watched("dropped", || {
        let Pair { server: (server, there), client: (_client, here), _lab } = pair(65535);
        let content = Content::new(9);
        let at = warm_up(&server, &there, &here, content);
        let writing = std::thread::spawn(move || {
            (&here).write_all(&content.bytes(at, 5_000_000)).unwrap();
            drop(here);
        });
        let mut rest = Vec::new();
        (&there).read_to_end(&mut rest).unwrap();
        content.check(at, &rest);
        assert_eq!(rest.len(), 5_000_000);
        writing.join().unwrap();
    });
}

#[test]
fn a_loan_stays_as_it_is_while_the_lane_goes_on() {
    watched("loan", || {
        let Pair { server: (server, there), client: (_client, here), _lab } = pair(65535);
        let content = Content::new(8);
        let mut at = warm_up(&server, &there, &here, content);
        let end = at + 20_000_000;
        let begin = at;
        let writing = std::thread::spawn(move || {
            (&here).write_all(&content.bytes(begin, 20_000_000)).unwrap();
            here
        });
        while at < end {
            let loan = there.read_loaned().unwrap();
            content.check(at, &loan);
            if at.is_multiple_of(3) {
                std::thread::sleep(Duration::from_millis(1));
                content.check(at, &loan);
            }
            at += loan.len() as u64;
        }
        drop(writing.join().unwrap());
        assert!(there.read_loaned().unwrap().is_empty());
    });
}

#[test]
fn small_streams_go_on_beside_a_large_one() {
    watched("beside", || {
        let Pair { server: (server, there), client: (client, here), _lab } = pair(9000);
        let content = Content::new(7);
        warm_up(&server, &there, &here, content);
        let (there_small, here_small) = stream(&server, &client);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let block = vec![5; 2_000_000];
                while !done.load(Ordering::Relaxed) {
                    (&here).write_all(&block).unwrap();
                }
                here.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(|| {
                let mut buffer = vec![0; 500_000];
                while (&there).read(&mut buffer).unwrap() > 0 {}
            });
            scope.spawn(|| {
                let mut bytes = [0; 100];
                while (&there_small).read_exact(&mut bytes).is_ok() {
                    (&there_small).write_all(&bytes).unwrap();
                }
            });
            for round in 0..200u8 {
                (&here_small).write_all(&[round; 100]).unwrap();
                let mut echo = [0; 100];
                (&here_small).read_exact(&mut echo).unwrap();
                assert_eq!(echo, [round; 100]);
            }
            done.store(true, Ordering::Relaxed);
            here_small.shutdown(std::net::Shutdown::Write).unwrap();
        });
        assert!(landed(&server) > 0);
    });
}

#[test]
fn a_peer_that_is_killed_in_the_middle_of_it_is_noticed_and_its_successor_served() {
    watched("killed", || {
        let lab = lab(9000, 2);
        let server = stack(&lab, 2, Bulk::Require);
        let listener = server.bind(SocketAddr::new(server.local().ip(), 0)).unwrap();
        let at = listener.local_addr().unwrap();
        for round in 0..3 {
            let client = Process::start(Family::Vmmc, lab.host(1));
            client.ok(format!("connect a {at}"));
            let (mut stream, _) = listener.accept().unwrap();
            drop(client.give(format!("write_long a {round} 1000000000000")));
            let (content, mut at, mut buffer) = (Content::new(round), 0, vec![0; 400_000]);
            while at < 20_000_000 {
                let read = stream.read(&mut buffer).unwrap();
                content.check(at, &buffer[..read]);
                at += read as u64;
            }
            client.kill();
            // What had come can be read; then it is lost.
            let error = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => panic!("that was no end"),
                    Ok(read) => {
                        content.check(at, &buffer[..read]);
                        at += read as u64;
                    }
                    Err(error) => break error,
                }
            };
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::TimedOut), "{error}");
        }
        assert!(landed(&server) > 0, "none of them has sent anything by the lane");
    });
}

#[test]
fn a_reader_that_is_killed_in_the_middle_of_it_gives_the_writer_its_buffers_back() {
    watched("reader killed", || {
        let lab = lab(9000, 2);
        let server = Process::start(Family::Vmmc, lab.host(2));
        let at = server.ok("listen l 0");
        let client = stack(&lab, 1, Bulk::Require);
        let here = client.connect(at.parse().unwrap()).unwrap();
        server.ok("accept l a");
        drop(server.give("end a"));
        let mut server = Some(server);
        let (mut away, mut sent) = (VecDeque::new(), 0);
        let failed = loop {
            let buffer = match away.pop_front() {
                Some(writing) if away.len() == 3 => Writing::wait(writing).unwrap(),
                first => {
                    away.extend(first);
                    client.node().alloc_direct(1 << 20).unwrap()
                }
            };
            match here.start_write_owned(buffer) {
                Ok(writing) => away.push_back(writing),
                Err(failed) => break failed,
            }
            sent += 1;
            if sent == 20 {
                server.take().unwrap().kill();
            }
        };
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut];
        assert!(kinds.contains(&failed.error.kind()), "{failed}");
        assert_eq!(failed.buffer.len(), 1 << 20);
        away.into_iter().for_each(|writing| assert_eq!(writing.wait().unwrap().len(), 1 << 20));
        assert!(client.node().stats().unwrap().engine.tx_bulk_bytes > 0);
    });
}

#[test]
fn streams_survive_loss_and_damage() {
    watched_for(3 * PATIENCE, "loss", || {
        let lab = lab_of(3, 9000, 2);
        let shares = Shares { dropped: 0.01, damaged: 0.003 };
        let damages = [1, 2].map(|host| {
            let attach = |port: &str| Damage::attach(port, shares).expect("attaching the damaging program");
            lab.host(host).enter_port(attach).expect("a lab of three hosts has a switch")
        });
        let landed = both_ways_in(&lab, [Bulk::Require; 2], true);
        assert!(landed.iter().sum::<u64>() > 0, "{landed:?} bytes by the lane");
        assert!(damages.iter().all(|damage| damage.counters().unwrap().dropped > 0));
    });
}

#[test]
fn many_streams_with_long_writes_all_get_on() {
    /// As many as there are rings for.
    const STREAMS: usize = 4;
    const LEN: usize = 16 << 20;
    watched_for(3 * PATIENCE, "many", || {
        let lab = lab(9000, 2);
        let (server, client) = (stack(&lab, 2, Bulk::Require), stack(&lab, 1, Bulk::Require));
        let streams: Vec<_> = (0..STREAMS).map(|_| stream(&server, &client)).collect();
        let got: Vec<AtomicU64> = (0..STREAMS).map(|_| AtomicU64::new(0)).collect();
        // How much the others had got when the first had all.
        let first = OnceLock::new();
        std::thread::scope(|scope| {
            for (n, (there, here)) in streams.iter().enumerate() {
                let (got, first) = (&got, &first);
                scope.spawn(move || {
                    write_much(here, Content::new(n as u64), LEN, n % 2 == 0);
                    here.shutdown(std::net::Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    read_much_counting(there, Content::new(n as u64), LEN, &got[n]);
                    first.get_or_init(|| got.iter().map(|got| got.load(Ordering::Relaxed)).collect::<Vec<_>>());
                });
            }
        });
        let first = first.into_inner().unwrap();
        assert!(first.iter().all(|&got| got > LEN as u64 / 20), "when one had all the others had {first:?}");
        assert!(landed(&server) > 0);
    });
}
