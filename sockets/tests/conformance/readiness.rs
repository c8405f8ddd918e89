//! The descriptor, as poll(2) and epoll see it: readable and writable when the stream is.

use std::io::ErrorKind::{ConnectionReset, WouldBlock};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::common::{Content, PATIENCE, eventually};
use crate::deviations::Deviation;
use crate::kind;
use crate::sockets::{Listener, Stream};
use crate::waiting::{drain, fill};
use crate::world::World;

const ALL: PollFlags = PollFlags::IN.union(PollFlags::OUT).union(PollFlags::RDHUP);

/// What poll(2) says now.
fn events(fd: &impl AsFd) -> PollFlags {
    let mut polled = [PollFd::new(fd, ALL)];
    poll(&mut polled, Some(&Timespec::default())).unwrap();
    polled[0].revents()
}

/// Sleeps in poll(2) until one of `wanted` is there; false if none is for long.
fn sleep_until(fd: &impl AsFd, wanted: PollFlags, limit: Duration) -> bool {
    let mut polled = [PollFd::new(fd, wanted)];
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut polled, Some(&limit)).unwrap() == 1
}

#[track_caller]
fn wait_for(fd: &impl AsFd, wanted: PollFlags) {
    assert!(sleep_until(fd, wanted, PATIENCE / 4), "never: {wanted:?}, but {:?}", events(fd));
}

pub fn a_new_stream_is_writable_and_not_readable<W: World>(w: &W) {
    let (client, server) = w.pair();
    for stream in [&client, &server] {
        assert_eq!(events(stream), PollFlags::OUT);
        assert!(!sleep_until(stream, PollFlags::IN, Duration::from_millis(30)));
        assert_eq!(stream.as_fd().as_raw_fd(), stream.as_raw_fd());
    }
    assert_ne!(client.as_raw_fd(), client.try_clone().unwrap().as_raw_fd(), "clones have descriptors of their own");
}

pub fn readable_while_there_is_data<W: World>(w: &W) {
    let (client, server) = w.pair();
    assert_eq!(events(&server), PollFlags::OUT);
    for round in 0..5u8 {
        client.write_all(&[round; 4]).unwrap();
        wait_for(&server, PollFlags::IN);
        assert_eq!(events(&server), PollFlags::IN | PollFlags::OUT);
        // It stays so: after a look, and after a part was read.
        server.peek(&mut [0]).unwrap();
        assert!(events(&server).contains(PollFlags::IN));
        let mut seen = [0; 4];
        server.read_exact(&mut seen[..3]).unwrap();
        eventually("the last byte arrives", || events(&server).contains(PollFlags::IN));
        server.read_exact(&mut seen[3..]).unwrap();
        assert_eq!(seen, [round; 4]);
        // Drained, it isn't any more.
        assert_eq!(events(&server), PollFlags::OUT);
    }
}

pub fn not_readable_after_a_read_would_block<W: World>(w: &W) {
    let (client, server) = w.pair();
    server.set_nonblocking(true).unwrap();
    for round in 0..20u8 {
        client.write_all(&[round]).unwrap();
        wait_for(&server, PollFlags::IN);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 1, "what is readable can be read without waiting");
        assert_eq!(kind(server.read(&mut [0; 8])), Err(WouldBlock));
        assert!(!events(&server).contains(PollFlags::IN));
    }
}

pub fn data_wakes_a_sleeper<W: World>(w: &W) {
    let (client, server) = w.pair();
    // Readiness was asked for before, and without.
    for ask in [true, false] {
        if ask {
            assert_eq!(events(&server), PollFlags::OUT);
        }
        let clone = server.try_clone().unwrap();
        let sleeper = std::thread::spawn(move || wait_for(&clone, PollFlags::IN));
        std::thread::sleep(Duration::from_millis(50));
        client.write_all(b"x").unwrap();
        sleeper.join().unwrap();
        server.read_exact(&mut [0]).unwrap();
    }
}

pub fn the_peer_s_end_is_readable<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    wait_for(&server, PollFlags::RDHUP);
    assert_eq!(events(&server), PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP);
    server.read_exact(&mut [0]).unwrap();
    // The end can be read, again and again.
    for _ in 0..2 {
        assert_eq!(events(&server), PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(
        events(&client),
        PollFlags::OUT,
        "who has ended is told nothing new, and a write wouldn't block but fail"
    );
}

pub fn ended_both_ways_it_has_hung_up<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    for stream in [&client, &server] {
        eventually("both ends are known", || events(stream).contains(PollFlags::HUP));
        assert_eq!(events(stream), ALL | PollFlags::HUP);
    }
}

pub fn a_reset_is_an_error_until_it_is_told<W: World>(w: &W) {
    let (client, server) = w.pair();
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually("the reset is seen", || events(&server).contains(ALL | PollFlags::HUP));
    w.differs(Deviation::PollOfReset, events(&server));
    assert_eq!(kind(server.read(&mut [0])), Err(ConnectionReset));
    assert_eq!(events(&server), ALL | PollFlags::HUP);
}

pub fn what_was_shut_down_here_is_ready<W: World>(w: &W) {
    let (client, _server) = w.pair();
    client.shutdown(Shutdown::Read).unwrap();
    assert_eq!(events(&client), ALL, "a read would return the end at once");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(events(&client), ALL | PollFlags::HUP);
}

pub fn not_writable_when_full_and_writable_when_drained<W: World>(w: &W) {
    let (client, server) = w.pair();
    let content = Content::new(1);
    let mut at = 0;
    for _ in 0..3 {
        // A window may open a little by itself.
        let mut len = 0;
        eventually("it is full", || {
            len += fill(&client, content, at + len);
            !sleep_until(&client, PollFlags::OUT, Duration::from_millis(30))
        });
        assert_eq!(events(&client), PollFlags::empty());
        let clone = client.try_clone().unwrap();
        let sleeper = std::thread::spawn(move || wait_for(&clone, PollFlags::OUT));
        drain(&server, content, at, len);
        at += len;
        sleeper.join().unwrap();
        // What is writable takes something without waiting, but for moments in which others that share the link have filled it.
        client.set_nonblocking(true).unwrap();
        eventually("a byte is taken", || {
            wait_for(&client, PollFlags::OUT);
            let taken = client.write(&content.bytes(at, 1)).unwrap_or(0);
            at += taken as u64;
            taken == 1
        });
        drain(&server, content, at - 1, 1);
    }
}

pub fn a_listener_is_readable_while_somebody_waits<W: World>(w: &W) {
    let listener = w.listen();
    assert_eq!(events(&listener), PollFlags::empty());
    let clone = listener.try_clone().unwrap();
    let sleeper = std::thread::spawn(move || wait_for(&clone, PollFlags::IN));
    std::thread::sleep(Duration::from_millis(50));
    let clients = [(); 2].map(|()| w.connect(listener.local_addr().unwrap()).unwrap());
    sleeper.join().unwrap();
    for client in &clients {
        // That a client is connected it knows before the server has to.
        wait_for(&listener, PollFlags::IN);
        assert_eq!(events(&listener), PollFlags::IN);
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    }
    assert_eq!(events(&listener), PollFlags::empty());
}

/// An epoll instance.
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        Epoll(epoll::create(epoll::CreateFlags::CLOEXEC).unwrap())
    }

    fn add(&self, fd: &impl AsFd, token: u64, flags: epoll::EventFlags) {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), flags).unwrap();
    }

    /// Events that come within so many milliseconds.
    fn wait(&self, millis: i64) -> Vec<(u64, epoll::EventFlags)> {
        let mut events = Vec::with_capacity(16);
        let limit = Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
        epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&limit)).unwrap();
        events.iter().map(|event| (event.data.u64(), event.flags)).collect()
    }

    /// Waits for an event of this token and kind.
    #[track_caller]
    fn expect(&self, fd: &impl AsFd, token: u64, flags: epoll::EventFlags) {
        let mut seen = Vec::new();
        let start = Instant::now();
        while start.elapsed() < PATIENCE / 4 {
            seen = self.wait(100);
            if seen.iter().any(|(t, f)| *t == token && f.contains(flags)) {
                return;
            }
        }
        panic!("no event {flags:?} of {token}, but {seen:?}; poll(2) sees {:?}", events(fd));
    }
}

pub fn epoll_tells_who_is_ready<W: World>(w: &W) {
    use epoll::EventFlags;
    let listener = w.listen();
    let epoll = Epoll::new();
    epoll.add(&listener, 100, EventFlags::IN);
    assert_eq!(epoll.wait(0), []);
    let pairs: Vec<_> = (0..3)
        .map(|n| {
            let client = w.connect(listener.local_addr().unwrap()).unwrap();
            epoll.expect(&listener, 100, EventFlags::IN);
            let (server, _) = listener.accept().unwrap();
            epoll.add(&server, n, EventFlags::IN | EventFlags::RDHUP);
            (client, server)
        })
        .collect();
    assert_eq!(epoll.wait(0), []);
    pairs[1].0.write_all(b"me").unwrap();
    epoll.expect(&pairs[1].1, 1, EventFlags::IN);
    // Level-triggered: until it is read.
    assert_eq!(epoll.wait(0), [(1, EventFlags::IN)]);
    pairs[1].1.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(epoll.wait(0), []);
    pairs[2].0.shutdown(Shutdown::Write).unwrap();
    epoll.expect(&pairs[2].1, 2, EventFlags::IN | EventFlags::RDHUP);
    // What is dropped is forgotten; a thread that looks after descriptors may have it in its hands for a moment longer.
    drop(pairs);
    eventually("what is dropped is forgotten", || epoll.wait(0).is_empty());
}

pub fn edge_triggered_epoll_tells_of_news<W: World>(w: &W) {
    use epoll::EventFlags;
    let (client, server) = w.pair();
    server.set_nonblocking(true).unwrap();
    let epoll = Epoll::new();
    epoll.add(&server, 1, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET);
    epoll.expect(&server, 1, EventFlags::OUT);
    for round in 0..20u8 {
        client.write_all(&[round; 10]).unwrap();
        epoll.expect(&server, 1, EventFlags::IN);
        // As mio's users do: read until it would block.
        let (mut seen, mut buffer) = (0, [0; 3]);
        while seen < 10 {
            match server.read(&mut buffer) {
                Ok(n) => {
                    assert!(buffer[..n].iter().all(|byte| *byte == round));
                    seen += n;
                }
                Err(error) => {
                    assert_eq!(error.kind(), WouldBlock);
                    epoll.expect(&server, 1, EventFlags::IN);
                }
            }
        }
        assert_eq!(kind(server.read(&mut buffer)), Err(WouldBlock));
    }
    drop(client);
    epoll.expect(&server, 1, EventFlags::IN | EventFlags::RDHUP);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

pub fn edge_triggered_epoll_tells_of_room<W: World>(w: &W) {
    use epoll::EventFlags;
    let (client, server) = w.pair();
    let epoll = Epoll::new();
    epoll.add(&client, 1, EventFlags::OUT | EventFlags::ET);
    let content = Content::new(2);
    let mut at = 0;
    for _ in 0..3 {
        let mut len = fill(&client, content, at);
        // Of room that was there meanwhile it may have told; a write that would block asks for news again.
        epoll.wait(0);
        len += fill(&client, content, at + len);
        drain(&server, content, at, len);
        at += len;
        epoll.expect(&client, 1, EventFlags::OUT);
    }
}

pub fn edge_triggered_epoll_tells_of_clients<W: World>(w: &W) {
    use epoll::EventFlags;
    let listener = w.listen();
    listener.set_nonblocking(true).unwrap();
    let epoll = Epoll::new();
    epoll.add(&listener, 1, EventFlags::IN | EventFlags::ET);
    for _ in 0..5 {
        let clients = [(); 3].map(|()| w.connect(listener.local_addr().unwrap()).unwrap());
        let mut accepted = 0;
        while accepted < 3 {
            epoll.expect(&listener, 1, EventFlags::IN);
            while listener.accept().is_ok() {
                accepted += 1;
            }
        }
        drop(clients);
    }
}
