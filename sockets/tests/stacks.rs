//! What stacks do when several things happen to them at once, between hosts of a simulated network, in one process. Nothing here asserts a time: what
//! fails, hangs.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use vmmc::port::sim::Conditions;
use vmmc::{Export, Key, Node, Progress};
use vmmc_sockets::proto::layout::{REQUESTS, SESSION_LEN, VERSION};
use vmmc_sockets::{Poller, Stack, VmmcListener, VmmcStream};

use common::simulated::{Hosts, PERFECT};
use common::{PATIENCE, eventually, watched};

fn stack(hosts: &Hosts, n: u8) -> Stack {
    Stack::builder().peer_timeout(Duration::from_secs(2)).open_on(hosts.lane(n)).expect("a stack on a wire")
}

fn listen(stack: &Stack) -> VmmcListener {
    stack.bind(SocketAddr::new(stack.local().ip(), 0)).expect("a listener")
}

/// Two streams that are connected: the client's and the server's.
fn pair(client: &Stack, listener: &VmmcListener) -> (VmmcStream, VmmcStream) {
    let stream = client.connect(listener.local_addr().unwrap()).expect("connecting");
    (stream, listener.accept().expect("accepting").0)
}

/// Long enough that a thread that was to wait by now does.
fn let_it_wait() {
    std::thread::sleep(Duration::from_millis(100));
}

#[test]
fn the_end_reaches_all_readers_though_one_awaits_it_in_his_buffer() {
    watched("the_end_reaches_all_readers", || {
        let hosts = Hosts::new(1, PERFECT);
        let (server, client) = (stack(&hosts, 2), stack(&hosts, 1));
        let (mut sender, mut receiver) = pair(&client, &listen(&server));
        // Unread for a while, it gets a ring that is worth it.
        sender.write_all(&[1; 100_000]).unwrap();
        receiver.read_exact(&mut [0; 100_000]).unwrap();
        // The first one takes events, and finds the second one's place taken.
        let readers = [1, 32 << 10].map(|len| {
            let mut stream = receiver.try_clone().unwrap();
            let reader = std::thread::spawn(move || stream.read(&mut vec![0; len]).unwrap());
            let_it_wait();
            reader
        });
        sender.shutdown(Shutdown::Write).unwrap();
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 0));
    });
}

#[test]
fn a_stack_that_closes_has_told_its_streams_ends() {
    watched("a_stack_that_closes_has_told_its_streams_ends", || {
        let hosts = Hosts::new(1, PERFECT);
        let (server, client) = (stack(&hosts, 2), stack(&hosts, 1));
        let listener = listen(&server);
        let mut streams: Vec<_> = (0..40).map(|_| pair(&client, &listener)).collect();
        // Unread, they get rings that hold more together than the link does.
        streams.iter_mut().for_each(|(sender, _)| sender.write_all(&[1; 4096]).unwrap());
        let_it_wait();
        hosts.set_conditions(Conditions { loss: 1.0, ..PERFECT });
        let mut receivers = Vec::new();
        for (mut sender, receiver) in streams {
            sender.set_nonblocking(true).unwrap();
            let written: usize = std::iter::from_fn(|| sender.write(&[1; 10_000]).ok()).sum();
            receivers.push((receiver, 4096 + written));
            // There is no room for its end.
        }
        let closing = std::thread::spawn(|| drop(client));
        let_it_wait();
        hosts.set_conditions(PERFECT);
        for (mut receiver, written) in receivers {
            assert_eq!(receiver.read_to_end(&mut Vec::new()).ok(), Some(written));
        }
        closing.join().unwrap();
    });
}

/// Host 2 with a node that takes part in a session with host 1, and answers no connect.
struct Silent {
    node: Node,
    door: Export,
    _memory: Export,
}

impl Silent {
    fn new(hosts: &Hosts) -> Silent {
        let node = Node::builder().progress(Progress::Thread { core: None }).arena(80 << 20);
        let node = node.open_on(hosts.lane(2)).unwrap();
        let door = node.export("streams").len(64).key(Key::PUBLIC).notify(true).create().unwrap();
        let memory = node.export(&format!("streams/{}", Hosts::node_address(1))).len(SESSION_LEN as usize);
        let memory = memory.sparse(true).key(Key::PUBLIC).notify(true).create().unwrap();
        Silent { node, door, _memory: memory }
    }

    /// Says that it is ready, as who has been knocked at does.
    fn begin(&self) {
        let name = format!("streams/{}", Hosts::node_address(2));
        let import = self.node.import(Hosts::node_address(1), &name, Key::PUBLIC).unwrap();
        import.send(&[0], 0).notify(0x5000_0000 | VERSION).wait().unwrap();
    }
}

#[test]
fn who_waits_for_his_turn_to_connect_outlives_a_peer_s_restart() {
    watched("who_waits_for_his_turn_to_connect_outlives_a_peer_s_restart", || {
        let hosts = Hosts::new(1, PERFECT);
        let client = Stack::builder().peer_timeout(Duration::from_secs(1)).connect_timeout(Duration::from_secs(20));
        let client = client.open_on(hosts.lane(1)).unwrap();
        let silent = Silent::new(&hosts);
        let address = SocketAddr::new(Hosts::address(2), 80);
        let connecting: Vec<_> = (0..REQUESTS + 6)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || {
                    loop {
                        match client.connect(address) {
                            // The peer is back, and its listener isn't yet.
                            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::thread::yield_now(),
                            outcome => break outcome,
                        }
                    }
                })
            })
            .collect();
        silent.door.wait_notification(PATIENCE).unwrap();
        silent.begin();
        let_it_wait();
        drop(silent);
        let server = stack(&hosts, 2);
        let listener = server.bind(address).unwrap();
        connecting.into_iter().for_each(|client| drop(client.join().unwrap().expect("connecting")));
        drop(listener);
    });
}

#[test]
fn who_asks_for_the_lead_and_does_not_come_leaves_nobody_waiting() {
    watched("who_asks_for_the_lead_and_does_not_come_leaves_nobody_waiting", || {
        let hosts = Hosts::new(1, PERFECT);
        // Without rings that may become shorter nothing has to be looked after, and whoever sleeps does so until he is woken.
        let server = Stack::builder().largest_ring(4096).open_on(hosts.lane(2)).expect("a stack on a wire");
        let client = stack(&hosts, 1);
        let listener = listen(&server);
        let (_sender, receiver) = pair(&client, &listener);
        let address = listener.local_addr().unwrap();
        let accepting = std::thread::spawn(move || listener.accept().map(drop));
        // It leads, and sleeps, and so does the thread that stands by.
        let_it_wait();
        // One look, which asks it to make way; and never another.
        assert_eq!(receiver.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let_it_wait();
        client.connect(address).expect("connecting to one who makes way for nobody");
        accepting.join().unwrap().unwrap();
    });
}

#[test]
fn a_peer_that_has_not_opened_is_knocked_at_again() {
    watched("a_peer_that_has_not_opened_is_knocked_at_again", || {
        let hosts = Hosts::new(1, PERFECT);
        let client = stack(&hosts, 1);
        let silent = Silent::new(&hosts);
        let address = SocketAddr::new(Hosts::address(2), 80);
        for _ in 0..3 {
            let error = client.connect_timeout(address, Duration::from_millis(200)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(silent.door.wait_notification(PATIENCE).unwrap().tag, VERSION);
        }
    });
}

#[test]
fn whoever_waits_learns_that_the_interface_has_gone() {
    watched("whoever_waits_learns_that_the_interface_has_gone", || {
        let hosts = Hosts::new(1, PERFECT);
        let (server, client) = (stack(&hosts, 2), stack(&hosts, 1));
        let listener = listen(&server);
        let (_sender, mut receiver) = pair(&client, &listener);
        let polled = listener.try_clone().unwrap();
        let polls = std::thread::spawn(move || {
            let mut descriptors = [PollFd::new(&polled, PollFlags::IN)];
            poll(&mut descriptors, None).unwrap();
        });
        let watching = std::thread::spawn(move || {
            let poller = Poller::new(&server);
            poller.add_listener(&listener, 7).unwrap();
            let waited = poller.wait(&mut Vec::new(), None);
            (waited.is_err() || listener.accept().is_err()) && server.connect(listener.local_addr().unwrap()).is_err()
        });
        let reads = std::thread::spawn(move || receiver.read(&mut [0]).unwrap_err());
        let_it_wait();
        hosts.take_away(2);
        polls.join().unwrap();
        reads.join().unwrap();
        assert!(watching.join().unwrap());
    });
}

#[test]
fn connects_never_fail_because_the_peer_has_been_restarted() {
    watched("connects_never_fail_because_the_peer_has_been_restarted", || {
        let hosts = Hosts::new(1, PERFECT);
        let client = stack(&hosts, 1);
        let address = SocketAddr::new(Hosts::address(2), 80);
        let (over, connected) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let connecting: Vec<_> = (0..8)
            .map(|_| {
                let (client, over, connected) = (client.clone(), over.clone(), connected.clone());
                std::thread::spawn(move || {
                    while !over.load(SeqCst) {
                        match client.connect(address) {
                            Ok(_) => _ = connected.fetch_add(1, SeqCst),
                            // It has no listener yet.
                            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
                        }
                    }
                })
            })
            .collect();
        // As if they had been killed: each takes the place of the one before.
        let mut servers = Vec::new();
        for _ in 0..10 {
            let server = stack(&hosts, 2);
            let listener = server.bind(address).unwrap();
            let (accepting, before) = (listener.try_clone().unwrap(), connected.load(SeqCst));
            std::thread::spawn(move || accepting.incoming().flatten().for_each(drop));
            eventually("it is connected to", || connected.load(SeqCst) > before + 30);
            servers.push((server, listener));
        }
        over.store(true, SeqCst);
        connecting.into_iter().for_each(|client| client.join().unwrap());
    });
}
