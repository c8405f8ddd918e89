//! Nonblocking calls, timeouts, and what ends a wait.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
use std::net::Shutdown;
use std::time::Duration;

use crate::common::{Content, eventually};
use crate::sockets::{Listener, Stream};
use crate::world::World;
use crate::{failed, kind};

/// Long enough for a thread to begin to wait. Where it hasn't, the test is only easier.
const MEANWHILE: Duration = Duration::from_millis(50);

/// Waits until so many bytes are there to be read.
pub fn peeked<S: Stream>(stream: &S, len: usize) {
    let mut buffer = vec![0; len];
    eventually("the bytes arrive", || stream.peek(&mut buffer).unwrap() == len);
}

/// Fills everything between the two: returns how many bytes of the content, from `at` on, that took.
pub fn fill<S: Stream>(stream: &S, content: Content, at: u64) -> u64 {
    stream.set_nonblocking(true).unwrap();
    let (mut written, mut refused) = (0, 0);
    // What the other side takes on arrival makes room again: full is what stays full.
    while refused < 4 {
        match stream.write(&content.bytes(at + written, 50_000)) {
            Ok(n) => (written, refused) = (written + n as u64, 0),
            Err(error) => {
                assert_eq!(error.kind(), WouldBlock);
                refused += 1;
                std::thread::sleep(Duration::from_millis(8));
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    written
}

/// Reads exactly so many bytes, and compares.
pub fn drain<S: Stream>(stream: &S, content: Content, at: u64, len: u64) {
    let mut seen = vec![0; len as usize];
    stream.read_exact(&mut seen).unwrap();
    content.check(at, &seen);
}

pub fn nothing_to_read_would_block<W: World>(w: &W) {
    let (client, server) = w.pair();
    server.set_nonblocking(true).unwrap();
    assert_eq!(kind(server.read(&mut [0])), Err(WouldBlock));
    assert_eq!(kind(server.peek(&mut [0])), Err(WouldBlock));
    client.write_all(b"ab").unwrap();
    let mut byte = [0];
    eventually("a byte arrives", || server.read(&mut byte).is_ok());
    assert_eq!(&byte, b"a");
    eventually("another arrives", || server.read(&mut byte).is_ok());
    assert_eq!(&byte, b"b");
    assert_eq!(kind(server.read(&mut byte)), Err(WouldBlock));
    drop(client);
    // The end isn't waited for, it is there.
    eventually("the end arrives", || kind(server.read(&mut byte)) == Ok(0));
    // Blocking again.
    let (client, server) = w.pair();
    server.set_nonblocking(true).unwrap();
    server.set_nonblocking(false).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(MEANWHILE);
        client.write_all(b"x").unwrap();
    });
    assert_eq!(server.read(&mut byte).unwrap(), 1);
    writer.join().unwrap();
}

pub fn nobody_to_accept_would_block<W: World>(w: &W) {
    let listener = w.listen();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(failed(listener.accept()), Some(WouldBlock));
    let clients = [(); 2].map(|()| w.connect(listener.local_addr().unwrap()).unwrap());
    for client in clients {
        let mut from = None;
        eventually("a client is accepted", || {
            from = listener.accept().ok().map(|(_, from)| from);
            from.is_some()
        });
        assert_eq!(from.unwrap(), client.local_addr().unwrap());
    }
    assert_eq!(failed(listener.accept()), Some(WouldBlock));
}

pub fn full_it_would_block_and_drained_it_goes_on<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(1);
    let mut at = 0;
    for _ in 0..3 {
        let mut len = 0;
        eventually("there is room at first", || {
            len += fill(&client, content, at + len);
            len > 0
        });
        drain(&server, content, at, len);
        at += len;
        eventually("there is room again", || {
            client.set_nonblocking(true).unwrap();
            let written = client.write(&content.bytes(at, 1)).unwrap_or(0);
            client.set_nonblocking(false).unwrap();
            at += written as u64;
            written == 1
        });
        drain(&server, content, at - 1, 1);
    }
}

pub fn reads_time_out<W: World>(w: &W) {
    let (client, server) = w.pair();
    server.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    for _ in 0..3 {
        assert_eq!(kind(server.read(&mut [0])), Err(WouldBlock));
        assert_eq!(kind(server.peek(&mut [0])), Err(WouldBlock));
    }
    // Nothing is lost by that, and what is there is read without waiting.
    client.write_all(b"late").unwrap();
    let mut seen = Vec::new();
    eventually("the bytes arrive", || {
        let mut buffer = [0; 4];
        match server.read(&mut buffer) {
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
            Err(error) => assert_eq!(error.kind(), WouldBlock),
        }
        seen.len() == 4
    });
    assert_eq!(seen, b"late");
    server.set_read_timeout(None).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(2 * MEANWHILE);
        client.write_all(b"x").unwrap();
        client
    });
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 1, "without a timeout it waits for as long as it takes");
    drop(writer.join().unwrap());
    server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    eventually("the end arrives", || kind(server.read(&mut [0])) == Ok(0));
}

pub fn writes_time_out<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(2);
    let mut len = fill(&client, content, 0);
    client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
    // A little may still go on by itself.
    let failed = loop {
        match client.write(&content.bytes(len, 1000)) {
            Ok(n) => len += n as u64,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(failed, WouldBlock);
    client.set_write_timeout(None).unwrap();
    drain(&server, content, 0, len);
    client.write_all(&content.bytes(len, 1000)).unwrap();
    drain(&server, content, len, 1000);
}

pub fn a_timeout_set_by_a_clone_counts<W: World>(w: &W) {
    let (client, server) = w.pair();
    server.try_clone().unwrap().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(kind(server.read(&mut [0])), Err(WouldBlock));
    drop(client);
}

pub fn a_waiting_reader_is_woken_by_data_and_by_the_end<W: World>(w: &W) {
    let (client, server) = w.pair();
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        let first = server.read(&mut byte).unwrap();
        (first, byte, server.read(&mut [0]).unwrap())
    });
    std::thread::sleep(MEANWHILE);
    client.write_all(&[9]).unwrap();
    std::thread::sleep(MEANWHILE);
    drop(client);
    assert_eq!(reader.join().unwrap(), (1, [9], 0));
}

pub fn a_waiting_reader_is_woken_by_reset<W: World>(w: &W) {
    let (client, server) = w.pair();
    let reader = std::thread::spawn(move || kind(server.read(&mut [0])));
    std::thread::sleep(MEANWHILE);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(reader.join().unwrap(), Err(ConnectionReset));
}

pub fn a_waiting_peek_is_woken<W: World>(w: &W) {
    let (client, server) = w.pair();
    let reader = std::thread::spawn(move || (server.peek(&mut [0; 3]).unwrap(), server));
    std::thread::sleep(MEANWHILE);
    client.write_all(&[1]).unwrap();
    let (n, server) = reader.join().unwrap();
    assert_eq!((n, server.read(&mut [0; 3]).unwrap()), (1, 1));
}

pub fn a_waiting_writer_is_woken_by_room<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(3);
    let filled = fill(&client, content, 0);
    let len = filled + 3_000_000;
    let writer = std::thread::spawn(move || {
        client.write_all(&content.bytes(filled, 3_000_000)).unwrap();
        client
    });
    std::thread::sleep(MEANWHILE);
    drain(&server, content, 0, len);
    drop(writer.join().unwrap());
    assert_eq!(server.read_to_end().unwrap(), b"");
}

pub fn a_waiting_writer_is_woken_by_reset<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(4);
    fill(&client, content, 0);
    let writer = std::thread::spawn(move || kind(client.write_all(&content.bytes(0, 5_000_000))));
    std::thread::sleep(MEANWHILE);
    // With unread data.
    drop(server);
    // It may have written a part before: then the next call is told.
    assert_eq!(writer.join().unwrap(), Err(ConnectionReset));
}

pub fn a_write_that_a_reset_has_cut_short_leaves_the_error_to_be_told<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(6);
    let bytes = content.bytes(0, 8 << 20);
    let writer = std::thread::spawn(move || (client.write(&bytes), client));
    // There is room for a part of it only.
    crate::waiting::peeked(&server, 4000);
    std::thread::sleep(MEANWHILE);
    drop(server);
    let (written, client) = writer.join().unwrap();
    match kind(written) {
        Ok(n) => {
            assert!(n < 8 << 20);
            assert_eq!(kind(client.read(&mut [0])), Err(ConnectionReset));
        }
        Err(error) => assert_eq!(error, ConnectionReset),
    }
    assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
}

pub fn a_waiting_reader_is_released_by_a_clone_s_shutdown<W: World>(w: &W) {
    for how in [Shutdown::Both, Shutdown::Read] {
        let (_client, server) = w.pair();
        let clone = server.try_clone().unwrap();
        let reader = std::thread::spawn(move || kind(server.read(&mut [0])));
        std::thread::sleep(MEANWHILE);
        clone.shutdown(how).unwrap();
        assert_eq!(reader.join().unwrap(), Ok(0));
    }
}

pub fn a_waiting_writer_is_released_by_a_clone_s_shutdown<W: World>(w: &W) {
    for how in [Shutdown::Both, Shutdown::Write] {
        let (client, _server) = w.pair();
        let content = Content::new(5);
        fill(&client, content, 0);
        let clone = client.try_clone().unwrap();
        let writer = std::thread::spawn(move || kind(client.write_all(&content.bytes(0, 5_000_000))));
        std::thread::sleep(MEANWHILE);
        clone.shutdown(how).unwrap();
        assert_eq!(writer.join().unwrap(), Err(BrokenPipe));
    }
}

pub fn a_waiting_accept_is_woken_by_a_client_and_not_by_a_clone_s_end<W: World>(w: &W) {
    let listener = w.listen();
    let (at, clone) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
    let accepting = std::thread::spawn(move || listener.accept().unwrap().1);
    std::thread::sleep(MEANWHILE);
    drop(clone);
    std::thread::sleep(MEANWHILE);
    assert!(!accepting.is_finished());
    let client = w.connect(at).unwrap();
    assert_eq!(accepting.join().unwrap(), client.local_addr().unwrap());
}

pub fn several_threads_accept<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let accepting: Vec<_> = (0..4)
        .map(|_| {
            let clone = listener.try_clone().unwrap();
            std::thread::spawn(move || clone.accept().unwrap().1)
        })
        .collect();
    std::thread::sleep(MEANWHILE);
    let clients: Vec<_> = (0..4).map(|_| w.connect(at).unwrap()).collect();
    let mut seen: Vec<_> = accepting.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

pub fn several_threads_read<W: World>(w: &W) {
    // Which of them gets a byte is open; that each byte goes to one of them is not.
    let (client, server) = w.pair();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let clone = server.try_clone().unwrap();
            std::thread::spawn(move || clone.read_to_end().unwrap())
        })
        .collect();
    for byte in 0..=255 {
        client.write_all(&[byte; 20]).unwrap();
    }
    drop(client);
    let mut all: Vec<u8> = readers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    all.sort();
    assert!(all == (0..=255).flat_map(|byte| [byte; 20]).collect::<Vec<u8>>(), "{} bytes", all.len());
}
