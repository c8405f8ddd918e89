//! Without copies: readers whose own buffers take what they wait for, loans of what has come, buffers of the arena.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use common::simulated::{BAD, Hosts, PERFECT};
use common::{Content, eventually, watched};
use vmmc::port::sim::Conditions;
use vmmc_sockets::{Stack, VmmcStream};

/// The server's stack and stream, and the client's.
struct Pair {
    server: (Stack, VmmcStream),
    client: (Stack, VmmcStream),
    _hosts: Hosts,
}

fn pair(conditions: Conditions) -> Pair {
    let hosts = Hosts::new(7, conditions);
    let [server, client] = [2, 1].map(|n| Stack::builder().open_on(hosts.lane(n)).expect("opening a stack"));
    let listener = server.bind(SocketAddr::new(Hosts::address(2), 0)).unwrap();
    let connected = client.connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    Pair { server: (server, accepted), client: (client, connected), _hosts: hosts }
}

/// Large reads of much data: what comes while a reader waits goes to its buffer, the rest by way of the ring, and nobody can tell.
fn waiting_readers(conditions: Conditions, total: usize) {
    let Pair { server: (stack, mut reader), client: (_client, mut writer), _hosts } = pair(conditions);
    let content = Content::new(11);
    let writing = std::thread::spawn(move || {
        let mut at = 0;
        // Pieces of all lengths, with pauses in which the reader comes to wait.
        for turn in 0.. {
            let len = (1 + turn * 7919 % 150_000).min(total - at);
            if len == 0 {
                break;
            }
            writer.write_all(&content.bytes(at as u64, len)).unwrap();
            at += len;
            if turn % 8 == 0 {
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        }
    });
    let (mut at, mut buffer) = (0, vec![0; 200_000]);
    for turn in 0.. {
        let len = 1 + turn * 104_729 % buffer.len();
        let read = reader.read(&mut buffer[..len]).unwrap();
        if read == 0 {
            break;
        }
        content.check(at as u64, &buffer[..read]);
        at += read;
    }
    assert_eq!(at, total);
    writing.join().unwrap();
    let counters = stack.node().stats().unwrap().engine;
    assert!(counters.redirected_bytes > 0, "no reader's buffer has taken anything: {counters:?}");
    assert_eq!(counters.redirects, counters.redirects_ended, "every redirect has been taken back");
}

#[test]
fn waiting_readers_get_data_in_their_buffers() {
    watched("waiting readers", || waiting_readers(PERFECT, 20_000_000));
}

#[test]
fn waiting_readers_get_data_in_their_buffers_over_a_bad_network() {
    watched("waiting readers, bad network", || waiting_readers(BAD, 3_000_000));
}

#[test]
fn a_waiting_reader_s_timeout_loses_nothing() {
    watched("timeouts", || {
        let Pair { server: (_server, mut reader), client: (_client, mut writer), _hosts } = pair(PERFECT);
        reader.set_read_timeout(Some(std::time::Duration::from_micros(200))).unwrap();
        let (content, total) = (Content::new(3), 3_000_000);
        let writing = std::thread::spawn(move || {
            for at in (0..total).step_by(30_000) {
                writer.write_all(&content.bytes(at as u64, 30_000)).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(250));
            }
        });
        let (mut at, mut buffer, mut timeouts) = (0, vec![0; 100_000], 0);
        while at < total {
            match reader.read(&mut buffer) {
                Ok(read) => {
                    content.check(at as u64, &buffer[..read]);
                    at += read;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => timeouts += 1,
                Err(error) => panic!("{error}"),
            }
        }
        writing.join().unwrap();
        assert!(timeouts > 0, "it has never had to wait for long");
    });
}

#[test]
fn a_loan_is_what_has_come_and_stays_as_it_is() {
    watched("loans", || {
        let Pair { server: (_server, mut reader), client: (_client, mut writer), _hosts } = pair(PERFECT);
        let content = Content::new(5);
        writer.write_all(&content.bytes(0, 1000)).unwrap();
        let mut all = [0; 1000];
        eventually("all has come", || reader.peek(&mut all).unwrap() == 1000);
        let loan = reader.read_loaned().unwrap();
        content.check(0, &loan);
        let lent = loan.len();
        // Nothing else reads meanwhile, and the peer may write on.
        assert_eq!(reader.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        writer.write_all(&content.bytes(1000, 2000)).unwrap();
        content.check(0, &loan);
        // Part of it is read, the rest can be read again.
        loan.consume(10);
        let mut rest = vec![0; 2990];
        reader.read_exact(&mut rest).unwrap();
        content.check(10, &rest);
        assert!(lent > 10);
        // A waiting loan, and the end.
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            writer.write_all(b"late").unwrap();
        });
        assert_eq!(&*reader.read_loaned().unwrap(), b"late");
        late.join().unwrap();
        assert!(reader.read_loaned().unwrap().is_empty());
        assert!(reader.read_loaned().unwrap().is_empty());
    });
}

#[test]
fn much_is_read_by_loans_while_the_ring_goes_round() {
    watched("many loans", || {
        let Pair { server: (_server, reader), client: (_client, mut writer), _hosts } = pair(BAD);
        let (content, total) = (Content::new(9), 2_000_000);
        let writing = std::thread::spawn(move || writer.write_all(&content.bytes(0, total)).unwrap());
        let mut at = 0;
        for turn in 0.. {
            let loan = reader.read_loaned().unwrap();
            if loan.is_empty() {
                break;
            }
            content.check(at as u64, &loan);
            let part = 1 + turn * 31 % loan.len();
            at += part;
            loan.consume(part);
        }
        assert_eq!(at, total);
        writing.join().unwrap();
    });
}

#[test]
fn an_owned_buffer_comes_back() {
    watched("owned buffers", || {
        let Pair { server: (_server, mut reader), client: (client, writer), _hosts } = pair(PERFECT);
        let content = Content::new(2);
        let mut buffer = client.node().alloc(500_000).unwrap();
        buffer.copy_from_slice(&content.bytes(0, 500_000));
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 500_000];
            reader.read_exact(&mut bytes).unwrap();
            content.check(0, &bytes);
            // Closed with nothing unread.
        });
        let buffer = writer.write_owned(buffer).unwrap();
        content.check(0, &buffer);
        reading.join().unwrap();
        // It comes back from a failure, too.
        let failed = loop {
            match writer.write_owned(client.node().alloc(1000).unwrap()) {
                Ok(_) => std::thread::yield_now(),
                Err(failed) => break failed,
            }
        };
        assert!(matches!(failed.error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{failed}");
        assert_eq!(failed.buffer.len(), 1000);
    });
}
