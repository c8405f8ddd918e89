//! read, write, peek, and their vectored kinds: bytes arrive whole, in order, once.

use std::io::{BufRead, BufReader, BufWriter, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;

use crate::common::Content;
use crate::kind;
use crate::sockets::Stream;
use crate::world::World;

/// Writes all, and ends this direction.
fn send<S: Stream>(stream: &S, content: Content, len: usize) {
    stream.write_all(&content.bytes(0, len)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end, in pieces of at most `piece` bytes, and compares.
fn receive<S: Stream>(stream: &S, content: Content, len: usize, piece: usize) {
    let (mut buffer, mut at) = (vec![0; piece], 0);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            n => {
                content.check(at, &buffer[..n]);
                at += n as u64;
            }
        }
    }
    assert_eq!(at, len as u64);
}

pub fn what_is_written_is_read<W: World>(w: &W) {
    let (client, server) = w.pair();
    for (a, b, salt) in [(&client, &server, 1), (&server, &client, 2)] {
        a.write_all(b"hello").unwrap();
        let mut seen = [0; 5];
        b.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"hello");
        let content = Content::new(salt);
        a.write_all(&content.bytes(0, 3000)).unwrap();
        let mut seen = [0; 3000];
        b.read_exact(&mut seen).unwrap();
        content.check(0, &seen);
    }
}

pub fn a_read_takes_what_there_is<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"abc").unwrap();
    // Once one byte is there, all of a small write is, or comes in pieces: a stream keeps no boundaries, but no order is changed.
    let (mut seen, mut buffer) = (Vec::new(), [0; 100]);
    while seen.len() < 3 {
        let n = server.read(&mut buffer).unwrap();
        assert!((1..=3).contains(&n));
        seen.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(seen, b"abc");
    // And what a small buffer leaves is there for the next read.
    client.write_all(b"0123456789").unwrap();
    crate::waiting::peeked(&server, 10);
    let mut small = [0; 4];
    assert_eq!(server.read(&mut small).unwrap(), 4);
    assert_eq!(&small, b"0123");
    assert_eq!(server.read(&mut small).unwrap(), 4);
    assert_eq!(&small, b"4567");
    assert_eq!(server.read(&mut small).unwrap(), 2);
    assert_eq!(&small[..2], b"89");
}

pub fn small_writes_may_be_read_as_one<W: World>(w: &W) {
    let (client, server) = w.pair();
    for byte in 0..100 {
        client.write_all(&[byte]).unwrap();
    }
    crate::waiting::peeked(&server, 100);
    let mut seen = [0; 100];
    assert_eq!(server.read(&mut seen).unwrap(), 100);
    assert!(seen.iter().enumerate().all(|(n, &byte)| n == usize::from(byte)));
}

pub fn the_end_is_read_as_0_again_and_again<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"last").unwrap();
    drop(client);
    assert_eq!(server.read_to_end().unwrap(), b"last");
    for _ in 0..3 {
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(server.peek(&mut [0; 8]).unwrap(), 0);
        assert_eq!(server.read_to_end().unwrap(), b"");
        assert_eq!(kind(server.read_exact(&mut [0])), Err(std::io::ErrorKind::UnexpectedEof));
    }
}

pub fn an_empty_buffer_takes_nothing<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"x").unwrap();
    crate::waiting::peeked(&server, 1);
    assert_eq!(server.read(&mut []).unwrap(), 0);
    assert_eq!(server.peek(&mut []).unwrap(), 0);
    assert_eq!(server.read_vectored(&mut []).unwrap(), 0);
    let mut byte = [0];
    assert_eq!((server.read(&mut byte).unwrap(), byte), (1, *b"x"));
    server.set_nonblocking(true).unwrap();
    w.differs(crate::deviations::Deviation::EmptyRead, kind(server.read(&mut [])));
}

pub fn nothing_can_be_written<W: World>(w: &W) {
    let (client, server) = w.pair();
    assert_eq!(client.write(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])]).unwrap(), 0);
    client.write_all(&[]).unwrap();
    client.flush().unwrap();
    // The other side sees nothing of it, and no end.
    server.set_nonblocking(true).unwrap();
    assert_eq!(kind(server.read(&mut [0])), Err(std::io::ErrorKind::WouldBlock));
    drop(client);
    server.set_nonblocking(false).unwrap();
    assert_eq!(server.read_to_end().unwrap(), b"");
}

pub fn a_peek_leaves_what_it_sees<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"peekaboo").unwrap();
    let mut seen = [0; 8];
    for _ in 0..3 {
        crate::waiting::peeked(&server, 8);
        assert_eq!(server.peek(&mut seen).unwrap(), 8);
        assert_eq!(&seen, b"peekaboo");
        assert_eq!(server.peek(&mut seen[..3]).unwrap(), 3, "a smaller buffer sees less");
    }
    server.read_exact(&mut seen[..4]).unwrap();
    assert_eq!(server.peek(&mut seen).unwrap(), 4);
    assert_eq!(&seen[..4], b"aboo");
    server.read_exact(&mut seen[..4]).unwrap();
    drop(client);
    assert_eq!(server.peek(&mut seen).unwrap(), 0, "at the end there is nothing to see");
}

pub fn vectored_writes_are_one_after_the_other<W: World>(w: &W) {
    let (client, server) = w.pair();
    let parts = [&b"one"[..], b"", b"two, ", b"three"];
    let n = client.write_vectored(&parts.map(IoSlice::new)).unwrap();
    assert_eq!(n, 13);
    let mut seen = [0; 13];
    server.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"onetwo, three");
    // More slices than the kernel takes at once: std's writes take some, and say how many bytes that were.
    let content = Content::new(3);
    let bytes = content.bytes(0, 5000);
    let slices: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    let n = client.write_vectored(&slices).unwrap();
    assert!((1..=5000).contains(&n));
    let mut seen = vec![0; n];
    server.read_exact(&mut seen).unwrap();
    content.check(0, &seen);
}

pub fn vectored_reads_fill_one_after_the_other<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"abcdefgh").unwrap();
    crate::waiting::peeked(&server, 8);
    let (mut a, mut b, mut c) = ([0; 3], [0; 0], [0; 10]);
    let n =
        server.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b), IoSliceMut::new(&mut c)]).unwrap();
    assert_eq!(n, 8);
    assert_eq!((&a, &c[..5]), (b"abc", &b"defgh"[..]));
    client.write_all(b"ij").unwrap();
    crate::waiting::peeked(&server, 2);
    let n = server.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut c)]).unwrap();
    assert_eq!((n, &a[..2]), (2, &b"ij"[..]));
    drop(client);
    assert_eq!(server.read_vectored(&mut [IoSliceMut::new(&mut a)]).unwrap(), 0);
}

/// Lengths around those at which something changes: packets, pages, rings.
const LENGTHS: [usize; 14] =
    [1, 2, 1400, 1460, 1500, 4095, 4096, 4097, 16_384, 65_535, 65_536, 100_000, 300_001, 1_048_577];

pub fn streams_of_every_length<W: World>(w: &W) {
    let listener = w.listen();
    for (salt, len) in LENGTHS.into_iter().enumerate() {
        let (client, server) = w.pair_at(&listener);
        let content = Content::new(salt as u64);
        std::thread::scope(|scope| {
            scope.spawn(|| send(&client, content, len));
            receive(&server, content, len, 70_000);
        });
    }
}

pub fn pieces_of_every_length<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(9);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            for len in LENGTHS.into_iter().chain(LENGTHS.into_iter().rev()).filter(|len| *len < 200_000) {
                client.write_all(&content.bytes(at, len)).unwrap();
                at += len as u64;
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        let len = 2 * LENGTHS.iter().filter(|len| **len < 200_000).sum::<usize>();
        // A prime number, so that the pieces don't meet those written.
        receive(&server, content, len, 4099);
    });
}

pub fn a_short_write_says_how_much<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(5);
    let bytes = content.bytes(0, 8 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while at < bytes.len() {
                let n = client.write(&bytes[at..]).unwrap();
                assert!((1..=bytes.len() - at).contains(&n));
                at += n;
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        receive(&server, content, bytes.len(), 300_000);
    });
}

pub fn single_bytes_arrive_in_order<W: World>(w: &W) {
    for nodelay in [false, true] {
        let (client, server) = w.pair();
        client.set_nodelay(nodelay).unwrap();
        let content = Content::new(6);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in content.bytes(0, 3000) {
                    client.write_all(&[byte]).unwrap();
                }
                client.shutdown(Shutdown::Write).unwrap();
            });
            receive(&server, content, 3000, 1000);
        });
    }
}

pub fn questions_and_answers<W: World>(w: &W) {
    let (client, server) = w.pair();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut question = [0; 64];
            while server.peek(&mut [0]).unwrap() > 0 {
                server.read_exact(&mut question).unwrap();
                question.reverse();
                server.write_all(&question).unwrap();
            }
        });
        for round in 0..300 {
            let mut bytes = Content::new(8).bytes(round * 64, 64);
            client.write_all(&bytes).unwrap();
            let mut answer = [0; 64];
            client.read_exact(&mut answer).unwrap();
            bytes.reverse();
            assert_eq!(&answer[..], bytes);
        }
        client.shutdown(Shutdown::Write).unwrap();
    });
}

pub fn std_s_readers_and_writers_work<W: World>(w: &W) {
    let (client, server) = w.pair();
    let sender = std::thread::spawn(move || {
        let mut writer = BufWriter::new(client);
        for n in 0..1000 {
            writeln!(writer, "line {n}").unwrap();
        }
        writer.flush().unwrap();
        writer.into_inner().unwrap()
    });
    let mut reader = BufReader::new(server);
    for n in 0..1000 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("line {n}\n"));
    }
    // By value and by exclusive reference, too.
    let (mut client, mut server) = (sender.join().unwrap(), reader.into_inner());
    Write::write_all(&mut client, b"copied").unwrap();
    drop(client);
    let mut seen = Vec::new();
    std::io::copy(&mut Read::by_ref(&mut server), &mut seen).unwrap();
    assert_eq!(seen, b"copied");
}
