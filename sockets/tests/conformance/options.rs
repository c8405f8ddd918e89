//! Settings: what was set is what is got, by all clones.

use std::io::ErrorKind::{InvalidInput, WouldBlock};
use std::time::Duration;

use crate::sockets::{Listener, Stream};
use crate::world::World;
use crate::{failed, kind};

pub fn a_new_stream_has_std_s_defaults<W: World>(w: &W) {
    let (client, server) = w.pair();
    for stream in [&client, &server] {
        assert_eq!(stream.read_timeout().unwrap(), None);
        assert_eq!(stream.write_timeout().unwrap(), None);
        assert_eq!(stream.linger().unwrap(), None);
        assert!(!stream.nodelay().unwrap());
        assert!(stream.take_error().unwrap().is_none());
    }
}

pub fn timeouts_are_as_set<W: World>(w: &W) {
    let (client, server) = w.pair();
    for timeout in [Some(Duration::from_millis(1500)), Some(Duration::from_secs(100_000)), None] {
        client.set_read_timeout(timeout).unwrap();
        assert_eq!(client.read_timeout().unwrap(), timeout);
        client.set_write_timeout(timeout).unwrap();
        assert_eq!(client.write_timeout().unwrap(), timeout);
    }
    // Each is its own.
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    assert_eq!(client.read_timeout().unwrap(), Some(Duration::from_secs(2)));
    assert_eq!(client.write_timeout().unwrap(), Some(Duration::from_secs(3)));
    assert_eq!(server.read_timeout().unwrap(), None);
    // However short: no timeout is something else.
    client.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
    assert!(client.read_timeout().unwrap().is_some());
    client.set_read_timeout(Some(Duration::MAX)).unwrap();
}

pub fn a_timeout_of_zero_is_refused<W: World>(w: &W) {
    let (client, _server) = w.pair();
    let before = Some(Duration::from_secs(2));
    client.set_read_timeout(before).unwrap();
    client.set_write_timeout(before).unwrap();
    assert_eq!(kind(client.set_read_timeout(Some(Duration::ZERO))), Err(InvalidInput));
    assert_eq!(kind(client.set_write_timeout(Some(Duration::ZERO))), Err(InvalidInput));
    assert_eq!((client.read_timeout().unwrap(), client.write_timeout().unwrap()), (before, before));
}

pub fn nodelay_and_linger_are_as_set<W: World>(w: &W) {
    let (client, server) = w.pair();
    for nodelay in [true, false, true] {
        client.set_nodelay(nodelay).unwrap();
        assert_eq!(client.nodelay().unwrap(), nodelay);
    }
    assert!(!server.nodelay().unwrap());
    for linger in [Some(Duration::from_secs(7)), Some(Duration::ZERO), None] {
        client.set_linger(linger).unwrap();
        assert_eq!(client.linger().unwrap(), linger);
    }
}

pub fn clones_share_their_settings<W: World>(w: &W) {
    let (client, server) = w.pair();
    let clone = client.try_clone().unwrap();
    let (second, third) = (Some(Duration::from_secs(2)), Some(Duration::from_secs(3)));
    client.set_read_timeout(second).unwrap();
    clone.set_write_timeout(third).unwrap();
    client.set_nodelay(true).unwrap();
    clone.set_linger(second).unwrap();
    for stream in [&client, &clone, &client.try_clone().unwrap()] {
        assert_eq!(stream.read_timeout().unwrap(), second);
        assert_eq!(stream.write_timeout().unwrap(), third);
        assert_eq!(stream.linger().unwrap(), second);
        assert!(stream.nodelay().unwrap());
    }
    clone.set_nonblocking(true).unwrap();
    assert_eq!(kind(client.read(&mut [0])), Err(WouldBlock));
    // The other side has its own.
    assert_eq!((server.read_timeout().unwrap(), server.nodelay().unwrap()), (None, false));
}

pub fn clones_share_their_position<W: World>(w: &W) {
    let (client, server) = w.pair();
    let (other_client, other_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    client.write_all(b"one ").unwrap();
    other_client.write_all(b"two ").unwrap();
    client.write_all(b"three").unwrap();
    let mut seen = [0; 13];
    server.read_exact(&mut seen[..2]).unwrap();
    other_server.read_exact(&mut seen[2..9]).unwrap();
    server.read_exact(&mut seen[9..]).unwrap();
    assert_eq!(&seen, b"one two three");
}

pub fn an_accepted_stream_blocks_whatever_its_listener_does<W: World>(w: &W) {
    let listener = w.listen();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(failed(listener.accept()), Some(WouldBlock));
    let client = w.connect(listener.local_addr().unwrap()).unwrap();
    let mut accepted = None;
    crate::common::eventually("a client is accepted", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (server, _) = accepted.unwrap();
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        (server.read(&mut byte).unwrap(), byte)
    });
    // It waits by now; if not, the test is only easier.
    std::thread::sleep(Duration::from_millis(50));
    client.write_all(&[7]).unwrap();
    assert_eq!(reader.join().unwrap(), (1, [7]));
    // And back again.
    listener.set_nonblocking(false).unwrap();
    let next = w.connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(listener.accept().unwrap().1, next.local_addr().unwrap());
}
