//! Many connections: at once, one after the other, and before anybody accepts them.

use std::net::Shutdown;

use crate::common::{Content, eventually};
use crate::sockets::{Listener, Stream};
use crate::world::World;

pub fn many_clients_connect_before_the_first_is_accepted<W: World>(w: &W) {
    let listener = w.listen();
    let clients: Vec<_> = (0..100u64)
        .map(|n| {
            let client = w.connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(&Content::new(n).bytes(0, 500)).unwrap();
            client
        })
        .collect();
    for (n, client) in clients.into_iter().enumerate() {
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        drop(client);
        let seen = server.read_to_end().unwrap();
        assert_eq!(seen.len(), 500);
        Content::new(n as u64).check(0, &seen);
    }
}

pub fn hundreds_of_connections_carry_data_at_once<W: World>(w: &W) {
    let listener = w.listen();
    let pairs: Vec<_> = (0..300).map(|_| w.pair_at(&listener)).collect();
    let contents = |n: usize| (Content::new(2 * n as u64), Content::new(2 * n as u64 + 1));
    // More in every round than the smallest rings hold, by several threads.
    for round in 0..3u64 {
        std::thread::scope(|scope| {
            for (part, pairs) in pairs.chunks(100).enumerate() {
                let number = move |n: usize| part * 100 + n;
                scope.spawn(move || {
                    for (n, (client, server)) in pairs.iter().enumerate() {
                        let (there, back) = contents(number(n));
                        client.write_all(&there.bytes(round * 3000, 3000)).unwrap();
                        server.write_all(&back.bytes(round * 3000, 3000)).unwrap();
                    }
                    for (n, (client, server)) in pairs.iter().enumerate().rev() {
                        let (there, back) = contents(number(n));
                        let mut seen = [0; 3000];
                        server.read_exact(&mut seen).unwrap();
                        there.check(round * 3000, &seen);
                        client.read_exact(&mut seen).unwrap();
                        back.check(round * 3000, &seen);
                    }
                });
            }
        });
    }
    for (client, server) in pairs {
        drop(client);
        assert_eq!(server.read_to_end().unwrap(), b"");
    }
}

pub fn connections_come_and_go<W: World>(w: &W) {
    let listener = w.listen();
    for round in 0..300u64 {
        let (client, server) = w.pair_at(&listener);
        let content = Content::new(round);
        client.write_all(&content.bytes(0, 100)).unwrap();
        let mut seen = [0; 100];
        server.read_exact(&mut seen).unwrap();
        content.check(0, &seen);
        // Closed by the one or the other, in order or not.
        match round % 4 {
            0 => drop((client, server)),
            1 => drop((server, client)),
            2 => {
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(server.read_to_end().unwrap(), b"");
            }
            _ => {
                server.write_all(b"unread").unwrap();
                drop(client);
            }
        }
    }
}

pub fn clients_connect_from_many_threads<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            scope.spawn(move || {
                for round in 0..15 {
                    let client = w.connect(at).unwrap();
                    let content = Content::new(thread * 100 + round);
                    client.write_all(&content.bytes(0, 2000)).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                    // It comes back as it was sent.
                    let seen = client.read_to_end().unwrap();
                    assert_eq!(seen.len(), 2000);
                    content.check(0, &seen);
                }
            });
        }
        scope.spawn(|| {
            for stream in listener.incoming().take(6 * 15) {
                let stream = stream.unwrap();
                scope.spawn(move || {
                    let bytes = stream.read_to_end().unwrap();
                    stream.write_all(&bytes).unwrap();
                });
            }
        });
    });
}

pub fn many_listeners_each_get_their_own<W: World>(w: &W) {
    let listeners: Vec<_> = (0..40).map(|_| w.listen()).collect();
    let clients: Vec<_> = listeners.iter().map(|l| w.connect(l.local_addr().unwrap()).unwrap()).collect();
    for (listener, client) in listeners.iter().zip(&clients).rev() {
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(server.local_addr().unwrap(), listener.local_addr().unwrap());
    }
}

pub fn both_hosts_listen_and_connect<W: World>(w: &W) {
    // A host that only connects, and one that only listens, connects to itself meanwhile.
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let mut streams = Vec::new();
    for round in 0..20 {
        let client = if round % 2 == 0 { w.connect(at) } else { w.connect_at_home(at) }.unwrap();
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), if round % 2 == 0 { w.client() } else { w.server() });
        streams.push((client, server));
    }
    for (n, (client, server)) in streams.iter().enumerate() {
        server.write_all(&[n as u8; 50]).unwrap();
        let mut seen = [0; 50];
        client.read_exact(&mut seen).unwrap();
        assert_eq!(seen, [n as u8; 50]);
    }
}

pub fn a_stalled_stream_holds_up_no_other<W: World>(w: &W) {
    let listener = w.listen();
    let (stalled, unread) = w.pair_at(&listener);
    let content = Content::new(1);
    let len = crate::waiting::fill(&stalled, content, 0);
    let (client, server) = w.pair_at(&listener);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&content.bytes(0, 2_000_000)).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let seen = server.read_to_end().unwrap();
        assert_eq!(seen.len(), 2_000_000);
        content.check(0, &seen);
    });
    // And what it has lost nothing.
    crate::waiting::drain(&unread, content, 0, len);
    eventually("it can go on", || stalled.write(b"x").is_ok());
}
