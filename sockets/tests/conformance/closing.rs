//! shutdown, drop, linger: how streams end, and what each side sees of it.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, WouldBlock};
use std::net::Shutdown;
use std::time::Duration;

use crate::common::{Content, eventually};
use crate::kind;
use crate::sockets::{Listener, Stream};
use crate::world::World;

/// Writes until that fails; returns how.
fn write_until_error<S: Stream>(stream: &S) -> std::io::ErrorKind {
    let mut failed = None;
    eventually("a write to a closed peer fails", || {
        failed = kind(stream.write(b"anybody there?")).err();
        failed.is_some()
    });
    failed.unwrap()
}

pub fn the_end_comes_after_the_data<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(1);
    client.write_all(&content.bytes(0, 30_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let seen = server.read_to_end().unwrap();
    assert_eq!(seen.len(), 30_000);
    content.check(0, &seen);
}

pub fn after_the_end_nothing_can_be_written<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
        assert_eq!(kind(client.write_all(b"x")), Err(BrokenPipe));
        assert_eq!(kind(client.write_vectored(&[std::io::IoSlice::new(b"x")])), Err(BrokenPipe));
    }
    assert_eq!(server.read_to_end().unwrap(), b"", "and nothing was");
}

pub fn half_closed_streams_go_on_the_other_way<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end().unwrap(), b"question");
    // The answer takes its time, and is large.
    let content = Content::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..2_000_000).step_by(100_000) {
                server.write_all(&content.bytes(at, 100_000)).unwrap();
            }
            server.shutdown(Shutdown::Write).unwrap();
        });
        let seen = client.read_to_end().unwrap();
        assert_eq!(seen.len(), 2_000_000);
        content.check(0, &seen);
    });
}

pub fn a_direction_can_be_ended_twice<W: World>(w: &W) {
    let (client, server) = w.pair();
    for _ in 0..2 {
        client.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Read).unwrap();
        client.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(server.read_to_end().unwrap(), b"");
}

pub fn no_more_reading_ends_reading_here<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.shutdown(Shutdown::Read).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(client.peek(&mut [0; 8]).unwrap(), 0);
    // The other direction is as it was.
    client.write_all(b"I only write").unwrap();
    let mut seen = [0; 12];
    server.read_exact(&mut seen).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end().unwrap(), b"");
}

pub fn no_more_reading_leaves_what_has_come<W: World>(w: &W) {
    let (client, server) = w.pair();
    server.write_all(b"early").unwrap();
    crate::waiting::peeked(&client, 5);
    client.shutdown(Shutdown::Read).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

pub fn who_reads_no_more_may_be_written_to<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.shutdown(Shutdown::Read).unwrap();
    // Once it is known there.
    client.write_all(b"k").unwrap();
    server.read_exact(&mut [0]).unwrap();
    assert_eq!(server.write(b"in vain").unwrap(), 7);
}

pub fn both_ends_at_once<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
    assert_eq!(server.read_to_end().unwrap(), b"last words");
}

pub fn ended_on_both_sides_it_is_over<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_eq!(server.read_to_end().unwrap(), b"");
    for stream in [&client, &server] {
        assert_eq!(kind(stream.write(b"x")), Err(BrokenPipe));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert!(stream.take_error().unwrap().is_none());
    }
}

pub fn who_writes_to_a_closed_peer_learns_it<W: World>(w: &W) {
    let (client, server) = w.pair();
    drop(server);
    let error = write_until_error(&client);
    assert!([BrokenPipe, ConnectionReset].contains(&error), "{error:?}");
    let next = kind(client.write(b"x"));
    assert_eq!(next, Err(BrokenPipe), "and it stays so");
}

pub fn a_write_after_the_peer_s_end_is_answered_by_reset<W: World>(w: &W) {
    let (client, server) = w.pair();
    drop(server);
    assert_eq!(client.read_to_end().unwrap(), b"", "it is closed in order");
    // The first write can't know that nobody reads; it makes the peer say so.
    let first = kind(client.write(b"x"));
    assert!(matches!(first, Ok(1) | Err(BrokenPipe | ConnectionReset)), "{first:?}");
    let error = write_until_error(&client);
    assert!([BrokenPipe, ConnectionReset].contains(&error), "{error:?}");
}

pub fn dropped_after_all_was_read_it_ends_in_order<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"read me").unwrap();
    server.read_exact(&mut [0; 7]).unwrap();
    drop(server);
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert!(client.take_error().unwrap().is_none());
}

pub fn dropped_with_unread_data_it_resets<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"read me").unwrap();
    crate::waiting::peeked(&server, 7);
    drop(server);
    assert_eq!(kind(client.read(&mut [0; 8])), Err(ConnectionReset));
    // That was told once; then it is over.
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
    assert!(client.take_error().unwrap().is_none());
}

pub fn a_reset_can_be_told_by_write<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"read me").unwrap();
    crate::waiting::peeked(&server, 7);
    drop(server);
    // Whoever looks first is told.
    assert_eq!(write_until_error(&client), ConnectionReset);
    assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

pub fn a_reset_can_be_taken_as_the_error<W: World>(w: &W) {
    let (client, server) = w.pair();
    assert!(client.take_error().unwrap().is_none());
    client.write_all(b"read me").unwrap();
    crate::waiting::peeked(&server, 7);
    drop(server);
    let mut taken = None;
    eventually("the error is there", || {
        taken = client.take_error().unwrap();
        taken.is_some()
    });
    assert_eq!(taken.unwrap().kind(), ConnectionReset);
    assert!(client.take_error().unwrap().is_none(), "it is taken once");
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

pub fn after_a_reset_there_is_nothing_to_shut_down<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"read me").unwrap();
    crate::waiting::peeked(&server, 7);
    drop(server);
    assert_eq!(kind(client.read(&mut [0; 8])), Err(ConnectionReset));
    assert_eq!(kind(client.shutdown(Shutdown::Both)), Err(NotConnected));
    assert_eq!(kind(client.peer_addr()), Err(NotConnected));
    client.local_addr().unwrap();
}

pub fn what_was_written_before_the_drop_arrives<W: World>(w: &W) {
    let listener = w.listen();
    for len in [1, 1000, 10_000, 60_000] {
        let (client, server) = w.pair_at(&listener);
        let content = Content::new(len as u64);
        client.write_all(&content.bytes(0, len)).unwrap();
        drop(client);
        let seen = server.read_to_end().unwrap();
        assert_eq!(seen.len(), len);
        content.check(0, &seen);
    }
}

pub fn what_was_written_before_the_drop_arrives_when_it_is_read_late<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.set_nonblocking(true).unwrap();
    // As much as there is room for, at both ends.
    let (content, mut len) = (Content::new(4), 0);
    while let Ok(n) = client.write(&content.bytes(len, 50_000)) {
        len += n as u64;
    }
    drop(client);
    std::thread::sleep(Duration::from_millis(20));
    let seen = server.read_to_end().unwrap();
    assert_eq!(seen.len() as u64, len);
    content.check(0, &seen);
}

pub fn lingering_for_no_time_resets<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(kind(server.read(&mut [0; 8])), Err(ConnectionReset));
}

pub fn lingering_waits_for_the_data_to_arrive<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.set_linger(Some(Duration::from_secs(20))).unwrap();
    let content = Content::new(5);
    let reader = std::thread::spawn(move || server.read_to_end().unwrap());
    client.write_all(&content.bytes(0, 500_000)).unwrap();
    drop(client);
    let seen = reader.join().unwrap();
    assert_eq!(seen.len(), 500_000);
    content.check(0, &seen);
}

pub fn a_client_that_has_sent_and_gone_is_accepted<W: World>(w: &W) {
    let listener = w.listen();
    let client = w.connect(listener.local_addr().unwrap()).unwrap();
    let from = client.local_addr().unwrap();
    client.write_all(b"I was here").unwrap();
    drop(client);
    let (server, seen) = listener.accept().unwrap();
    assert_eq!(seen, from);
    assert_eq!(server.read_to_end().unwrap(), b"I was here");
}

pub fn a_client_that_has_reset_is_accepted_or_forgotten<W: World>(w: &W) {
    let listener = w.listen();
    let gone = w.connect(listener.local_addr().unwrap()).unwrap();
    gone.set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    let next = w.connect(listener.local_addr().unwrap()).unwrap();
    let (server, from) = listener.accept().unwrap();
    if from != next.local_addr().unwrap() {
        let error = kind(server.read(&mut [0]));
        assert_eq!(error, Err(ConnectionReset));
        assert_eq!(listener.accept().unwrap().1, next.local_addr().unwrap());
    }
}

pub fn a_dropped_clone_closes_nothing<W: World>(w: &W) {
    let (client, server) = w.pair();
    drop(client.try_clone().unwrap());
    drop(server.try_clone().unwrap());
    client.write_all(b"still here").unwrap();
    server.read_exact(&mut [0; 10]).unwrap();
    server.set_nonblocking(true).unwrap();
    assert_eq!(kind(server.read(&mut [0])), Err(WouldBlock));
    server.set_nonblocking(false).unwrap();
    // The last one does.
    let clone = client.try_clone().unwrap();
    drop(client);
    clone.write_all(b"me too").unwrap();
    drop(clone);
    assert_eq!(server.read_to_end().unwrap(), b"me too");
}

pub fn a_clone_s_shutdown_is_everybody_s<W: World>(w: &W) {
    let (client, server) = w.pair();
    let clone = client.try_clone().unwrap();
    clone.shutdown(Shutdown::Write).unwrap();
    assert_eq!(kind(client.write(b"x")), Err(BrokenPipe));
    assert_eq!(server.read_to_end().unwrap(), b"");
}
