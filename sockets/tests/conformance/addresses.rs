//! bind, connect, accept: who is where, and what can't be.

use std::collections::HashSet;
use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, ConnectionRefused, InvalidInput, TimedOut, WouldBlock};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::common::PATIENCE;
use crate::failed;
use crate::sockets::{Listener, Stream};
use crate::world::World;

/// An address at which nobody listens, on the server.
fn closed_port<W: World>(w: &W) -> SocketAddr {
    w.listen().local_addr().unwrap()
}

pub fn port_0_means_any_free_port<W: World>(w: &W) {
    let listeners = [(); 20].map(|()| w.listen());
    let ports: HashSet<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), listeners.len(), "each has a port of its own");
    assert!(!ports.contains(&0));
    assert!(listeners.iter().all(|l| l.local_addr().unwrap().ip() == w.server()));
}

pub fn a_port_can_be_chosen<W: World>(w: &W) {
    for port in [80, 7000, 65535] {
        let at = SocketAddr::new(w.server(), port);
        let listener = w.bind(at).unwrap();
        assert_eq!(listener.local_addr().unwrap(), at);
        let (client, server) = w.pair_at(&listener);
        assert_eq!((client.peer_addr().unwrap(), server.local_addr().unwrap()), (at, at));
    }
}

pub fn a_port_in_use_is_refused<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    assert_eq!(failed(w.bind(at)), Some(AddrInUse));
    assert_eq!(failed(w.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port()))), Some(AddrInUse));
    // The first isn't disturbed, and nor is a port of the same number on another host.
    w.pair_at(&listener);
}

pub fn a_port_is_free_again_when_its_listener_is_gone<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let (client, server) = w.pair_at(&listener);
    let clone = listener.try_clone().unwrap();
    drop(listener);
    assert_eq!(failed(w.bind(at)), Some(AddrInUse), "a clone listens still");
    drop(clone);
    // Its connections live on, and aren't in the way.
    let listener = w.bind(at).unwrap();
    client.write_all(b"before").unwrap();
    let (other, _) = w.pair_at(&listener);
    drop(other);
    server.read_exact(&mut [0; 6]).unwrap();
    // Connections that have been closed aren't, either, whoever closed them.
    drop((client, server));
    drop(listener);
    w.bind(at).unwrap();
}

pub fn an_address_of_another_host_can_t_be_bound<W: World>(w: &W) {
    assert_eq!(failed(w.bind(SocketAddr::new(w.client(), 0))), Some(AddrNotAvailable));
    assert_eq!(failed(w.bind("192.0.2.1:80".parse().unwrap())), Some(AddrNotAvailable));
}

pub fn the_unspecified_address_means_all<W: World>(w: &W) {
    let listener = w.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)).unwrap();
    let at = listener.local_addr().unwrap();
    assert!(at.ip().is_unspecified() && at.port() != 0, "{at}");
    let client = w.connect(SocketAddr::new(w.server(), at.port())).unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!(server.local_addr().unwrap(), SocketAddr::new(w.server(), at.port()));
    assert_eq!(from, client.local_addr().unwrap());
}

pub fn bind_takes_the_first_address_that_works<W: World>(w: &W) {
    let foreign = SocketAddr::new(w.client(), 0);
    let taken = w.listen();
    let good = SocketAddr::new(w.server(), 0);
    let listener = w.bind_first(&[foreign, taken.local_addr().unwrap(), good]).unwrap();
    assert_eq!(listener.local_addr().unwrap().ip(), w.server());
    // When none does, the error is the last one's.
    assert_eq!(failed(w.bind_first(&[taken.local_addr().unwrap(), foreign])), Some(AddrNotAvailable));
    assert_eq!(failed(w.bind_first(&[foreign, taken.local_addr().unwrap()])), Some(AddrInUse));
    assert_eq!(failed(w.bind_first(&[])), Some(InvalidInput));
}

pub fn connect_takes_the_first_address_that_answers<W: World>(w: &W) {
    let closed = closed_port(w);
    let listener = w.listen();
    let stream = w.connect_first(&[closed, listener.local_addr().unwrap(), closed]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(failed(w.connect_first(&[closed, closed])), Some(ConnectionRefused));
    assert_eq!(failed(w.connect_first(&[])), Some(InvalidInput));
}

pub fn a_closed_port_refuses<W: World>(w: &W) {
    let closed = closed_port(w);
    for _ in 0..3 {
        assert_eq!(failed(w.connect(closed)), Some(ConnectionRefused));
        assert_eq!(failed(w.connect_timeout(closed, PATIENCE)), Some(ConnectionRefused));
    }
    assert_eq!(failed(w.connect_at_home(closed)), Some(ConnectionRefused));
    // Nobody can listen at port 0.
    let zero = failed(w.connect(SocketAddr::new(w.server(), 0))).unwrap();
    assert!([ConnectionRefused, AddrNotAvailable, InvalidInput].contains(&zero), "{zero:?}");
}

pub fn a_timeout_of_zero_can_t_be<W: World>(w: &W) {
    let listener = w.listen();
    assert_eq!(failed(w.connect_timeout(listener.local_addr().unwrap(), Duration::ZERO)), Some(InvalidInput));
}

pub fn connect_with_a_timeout_connects<W: World>(w: &W) {
    let listener = w.listen();
    for timeout in [PATIENCE, Duration::MAX] {
        let client = w.connect_timeout(listener.local_addr().unwrap(), timeout).unwrap();
        let (server, _) = listener.accept().unwrap();
        // It is a blocking stream, as others are.
        let reader = std::thread::spawn(move || {
            let mut byte = [0];
            server.read(&mut byte).map(|n| (n, byte))
        });
        client.write_all(&[7]).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), (1, [7]));
        assert_eq!(client.read_timeout().unwrap(), None);
    }
}

pub fn connect_gives_up_when_its_time_has_passed<W: World>(w: &W) {
    let nobody = SocketAddr::new(w.nobody(), 80);
    assert_eq!(failed(w.connect_timeout(nobody, Duration::from_millis(100))), Some(TimedOut));
    // And the host can connect to others as before.
    w.pair();
}

pub fn an_address_of_the_other_version_of_ip_can_t_be_reached<W: World>(w: &W) {
    w.connect("[fd99::1]:80".parse().unwrap()).unwrap_err();
    w.bind("[fd99::1]:80".parse().unwrap()).unwrap_err();
    w.pair();
}

pub fn both_sides_know_both_addresses<W: World>(w: &W) {
    let listener = w.listen();
    let client = w.connect(listener.local_addr().unwrap()).unwrap();
    let (server, from) = listener.accept().unwrap();
    let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!((near.ip(), far), (w.client(), listener.local_addr().unwrap()));
    assert_ne!(near.port(), 0);
    assert_eq!((server.peer_addr().unwrap(), server.local_addr().unwrap(), from), (near, far, near));
    // Of clones, too.
    let clone = server.try_clone().unwrap();
    assert_eq!((clone.peer_addr().unwrap(), clone.local_addr().unwrap()), (near, far));
    assert_eq!(listener.try_clone().unwrap().local_addr().unwrap(), far);
    // They are known after the end.
    drop(client);
    assert_eq!(server.read_to_end().unwrap(), b"");
    assert_eq!((server.local_addr().unwrap(), server.peer_addr().unwrap()), (far, near));
}

pub fn clients_have_ports_of_their_own<W: World>(w: &W) {
    let (one, other) = (w.listen(), w.listen());
    let mut pairs: Vec<_> = (0..30).map(|_| w.pair_at(&one)).collect();
    pairs.extend((0..30).map(|_| w.pair_at(&other)));
    let quadruples: HashSet<_> = pairs.iter().map(|(c, _)| (c.local_addr().unwrap(), c.peer_addr().unwrap())).collect();
    assert_eq!(quadruples.len(), 60, "no two connections have the same four numbers");
    // They lead to whom they say.
    for (client, server) in &pairs {
        assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
        client.write_all(&client.local_addr().unwrap().port().to_be_bytes()).unwrap();
        let mut port = [0; 2];
        server.read_exact(&mut port).unwrap();
        assert_eq!(u16::from_be_bytes(port), server.peer_addr().unwrap().port());
    }
}

pub fn debug_shows_the_addresses<W: World>(w: &W) {
    let listener = w.listen();
    let (client, _server) = w.pair_at(&listener);
    let text = format!("{client:?}");
    for at in [client.local_addr().unwrap(), client.peer_addr().unwrap()] {
        assert!(text.contains(&at.to_string()), "{text} doesn't contain {at}");
    }
    let (text, at) = (format!("{listener:?}"), listener.local_addr().unwrap());
    assert!(text.contains(&at.to_string()), "{text} doesn't contain {at}");
}

pub fn a_host_connects_to_itself<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let client = w.connect_at_home(at).unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!((client.peer_addr().unwrap(), from), (at, client.local_addr().unwrap()));
    assert_eq!(from.ip(), w.server());
    for (a, b) in [(&client, &server), (&server, &client)] {
        a.write_all(b"to myself").unwrap();
        let mut seen = [0; 9];
        b.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"to myself");
    }
    drop(client);
    assert_eq!(server.read_to_end().unwrap(), b"");
}

pub fn incoming_yields_every_stream<W: World>(w: &W) {
    let listener = w.listen();
    let clients = [(); 3].map(|()| w.connect(listener.local_addr().unwrap()).unwrap());
    let mut ports: Vec<u16> =
        listener.incoming().take(3).map(|stream| stream.unwrap().peer_addr().unwrap().port()).collect();
    let mut expected = clients.each_ref().map(|c| c.local_addr().unwrap().port());
    assert_eq!(ports.len(), 3);
    ports.sort();
    expected.sort();
    assert_eq!(ports, expected);
    // It has no end: a listener that doesn't block yields errors meanwhile.
    listener.set_nonblocking(true).unwrap();
    assert_eq!(failed(listener.incoming().next().unwrap()), Some(WouldBlock));
}

pub fn into_incoming_yields_every_stream<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let clients = [(); 3].map(|()| w.connect(at).unwrap());
    let mut incoming = listener.into_incoming();
    for _ in &clients {
        let port = incoming.next().unwrap().unwrap().peer_addr().unwrap().port();
        assert!(clients.iter().any(|c| c.local_addr().unwrap().port() == port));
    }
    drop(incoming);
    assert_eq!(failed(w.connect(at)), Some(ConnectionRefused), "it has taken the listener with it");
}

pub fn clients_that_wait_are_accepted_in_their_order<W: World>(w: &W) {
    let listener = w.listen();
    let clients: Vec<_> = (0..20u8)
        .map(|n| {
            let client = w.connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(&[n]).unwrap();
            client
        })
        .collect();
    for (n, client) in clients.iter().enumerate() {
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), n);
    }
}

pub fn clones_of_a_listener_share_its_clients<W: World>(w: &W) {
    let listener = w.listen();
    let clone = listener.try_clone().unwrap();
    let clients = [(); 4].map(|()| w.connect(listener.local_addr().unwrap()).unwrap());
    let accepted = [&listener, &clone, &clone, &listener].map(|l| l.accept().unwrap().1);
    assert_eq!(accepted, clients.each_ref().map(|c| c.local_addr().unwrap()));
    // Whether it blocks is of both.
    clone.set_nonblocking(true).unwrap();
    assert_eq!(failed(listener.accept()), Some(WouldBlock));
    // The other listens on when one is gone.
    drop(listener);
    let client = w.connect(clone.local_addr().unwrap()).unwrap();
    crate::common::eventually("the clone accepts", || clone.accept().is_ok());
    drop(client);
}

pub fn a_listener_s_end_refuses_who_comes_and_resets_who_waits<W: World>(w: &W) {
    let listener = w.listen();
    let at = listener.local_addr().unwrap();
    let (client, server) = w.pair_at(&listener);
    let waiting = [(); 3].map(|()| w.connect(at).unwrap());
    drop(listener);
    assert_eq!(failed(w.connect(at)), Some(ConnectionRefused));
    for stream in &waiting {
        assert_eq!(failed(stream.read(&mut [0])), Some(std::io::ErrorKind::ConnectionReset));
    }
    // Those that were accepted aren't concerned.
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
}

pub fn a_listener_has_no_error<W: World>(w: &W) {
    let listener = w.listen();
    assert!(listener.take_error().unwrap().is_none());
    w.pair_at(&listener);
    assert!(listener.take_error().unwrap().is_none());
}

pub fn loopback_leads_to_no_other_host<W: World>(w: &W) {
    let listener = w.listen();
    let home = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port());
    assert_eq!(failed(w.connect(home)), Some(ConnectionRefused));
    w.pair_at(&listener);
}
