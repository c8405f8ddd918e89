//! Several threads on one stream: one reads while another writes, and much goes both ways at once.

use std::net::Shutdown;

use crate::common::Content;
use crate::sockets::Stream;
use crate::world::World;

/// Writes the whole content from a clone, and ends the direction.
fn write<S: Stream>(stream: S, content: Content, len: u64, piece: usize) {
    let mut at = 0;
    while at < len {
        let bytes = content.bytes(at, piece.min((len - at) as usize));
        stream.write_all(&bytes).unwrap();
        at += bytes.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads and compares until the end.
fn read<S: Stream>(stream: S, content: Content, len: u64, piece: usize) {
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
    assert_eq!(at, len);
}

fn both_ways<S: Stream>(client: S, server: S, len: u64, pieces: [usize; 2]) {
    let (there, back) = (Content::new(1), Content::new(2));
    std::thread::scope(|scope| {
        let [small, large] = pieces;
        let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        scope.spawn(move || write(client, there, len, large));
        scope.spawn(move || read(client2, back, len, small));
        scope.spawn(move || write(server, back, len, small));
        scope.spawn(move || read(server2, there, len, large));
    });
}

pub fn much_goes_both_ways_at_once<W: World>(w: &W) {
    let (client, server) = w.pair();
    both_ways(client, server, 16 << 20, [10_000, 200_000]);
}

pub fn a_little_goes_both_ways_in_small_pieces<W: World>(w: &W) {
    let (client, server) = w.pair();
    both_ways(client, server, 50_000, [7, 100]);
}

pub fn many_streams_go_both_ways_at_once<W: World>(w: &W) {
    let listener = w.listen();
    let pairs: Vec<_> = (0..8).map(|_| w.pair_at(&listener)).collect();
    std::thread::scope(|scope| {
        for (client, server) in pairs {
            scope.spawn(|| both_ways(client, server, 500_000, [3000, 30_000]));
        }
    });
}

pub fn several_threads_write<W: World>(w: &W) {
    // Whose bytes come first is open; that each arrives once is not.
    let (client, server) = w.pair();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let clone = client.try_clone().unwrap();
            scope.spawn(move || {
                for _ in 0..200 {
                    clone.write_all(&[thread; 100]).unwrap();
                }
            });
        }
        drop(client);
        let seen = server.read_to_end().unwrap();
        for thread in 0..4 {
            assert_eq!(seen.iter().filter(|byte| **byte == thread).count(), 20_000);
        }
    });
}

pub fn a_stream_is_moved_between_threads<W: World>(w: &W) {
    let (mut client, mut server) = w.pair();
    for round in 0..20 {
        let content = Content::new(round);
        let writer = std::thread::spawn(move || {
            client.write_all(&content.bytes(0, 10_000)).unwrap();
            client
        });
        let reader = std::thread::spawn(move || {
            let mut seen = vec![0; 10_000];
            server.read_exact(&mut seen).unwrap();
            content.check(0, &seen);
            server
        });
        (client, server) = (writer.join().unwrap(), reader.join().unwrap());
    }
}

pub fn the_default_stream_of_data_is_slow_and_fast<W: World>(w: &W) {
    // Alternately more is written than is read, and the other way around: rings fill, empty, grow and shrink.
    let (client, server) = w.pair();
    let content = Content::new(3);
    let len = 6_000_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            for round in 0.. {
                if round % 10 == 5 {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                let bytes = content.bytes(at, 200_000.min((len - at) as usize));
                if bytes.is_empty() {
                    break;
                }
                client.write_all(&bytes).unwrap();
                at += bytes.len() as u64;
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        let (mut buffer, mut at) = (vec![0; 150_000], 0);
        for round in 0.. {
            if round % 10 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let n = server.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            content.check(at, &buffer[..n]);
            at += n as u64;
        }
        assert_eq!(at, len);
    });
}
