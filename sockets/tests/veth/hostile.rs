//! A peer that uses plain `vmmc` to write what it likes to where stacks let their peers write: the stack must survive, and so must the streams of
//! others. On a simulated network, so that much of it can be tried.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmmc::{Error, Export, Import, Key, Node, Progress};
use vmmc_sockets::proto::layout::{RINGS, SESSION_LEN, STREAMS, VERSION, request_offset, slot_offset};
use vmmc_sockets::{Stack, VmmcListener, VmmcStream};

use crate::common::simulated::{Hosts, PERFECT};
use crate::common::{Content, PATIENCE, watched};

/// A server, which gives back to its clients what they send, and an honest client of it.
struct Scene {
    hosts: Hosts,
    client: Stack,
    server: Stack,
    listener: VmmcListener,
    old: VmmcStream,
    seed: u64,
}

impl Scene {
    fn new() -> Scene {
        let seed = fastrand::u64(..);
        println!("the seed is {seed}");
        let hosts = Hosts::new(seed, PERFECT);
        let [server, client] = [2, 1].map(|n| {
            let stack = Stack::builder().peer_timeout(Duration::from_secs(2));
            stack.open_on(hosts.lane(n)).expect("opening a stack")
        });
        let listener = server.bind(SocketAddr::new(Hosts::address(2), 80)).unwrap();
        let clone = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in clone.incoming() {
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 30_000];
                    while let Ok(n @ 1..) = (&stream).read(&mut buffer) {
                        if (&stream).write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let old = client.connect(listener.local_addr().unwrap()).unwrap();
        Scene { hosts, client, server, listener, old, seed }
    }

    /// Honest streams, old and new, in both directions, until `over`, and at least once.
    fn go_on_until(&self, over: &AtomicBool) {
        let mut round = 0;
        let mut at = 0;
        while !over.load(Ordering::Acquire) || round < 3 {
            round += 1;
            let content = Content::new(7);
            exchange(&self.old, content, at);
            at += 3000;
            let new = self.client.connect(self.listener.local_addr().unwrap()).unwrap();
            exchange(&new, Content::new(round), 0);
            new.shutdown(Shutdown::Write).unwrap();
            assert_eq!((&new).read(&mut [0]).unwrap(), 0);
            let own = self.server.connect(self.listener.local_addr().unwrap()).unwrap();
            exchange(&own, Content::new(round), 0);
        }
    }

    /// The hostile peer's node.
    fn attacker(&self) -> Node {
        let builder = Node::builder().progress(Progress::Thread { core: None }).arena(80 << 20);
        builder.open_on(self.hosts.lane(3)).unwrap()
    }

    /// Has an attacker do its work while honest streams go on, and checks that they still do afterwards.
    fn survives(self, attack: impl FnOnce(&Node, &mut fastrand::Rng) + Send + 'static) {
        let over = Arc::new(AtomicBool::new(false));
        let (node, told, mut random) = (self.attacker(), over.clone(), fastrand::Rng::with_seed(self.seed));
        let attacking = std::thread::spawn(move || {
            attack(&node, &mut random);
            told.store(true, Ordering::Release);
        });
        self.go_on_until(&over);
        attacking.join().unwrap();
        self.go_on_until(&over);
    }
}

/// Sends, and gets back.
fn exchange(stream: &VmmcStream, content: Content, at: u64) {
    let mut stream = stream;
    stream.write_all(&content.bytes(at, 3000)).unwrap();
    let mut seen = [0; 3000];
    stream.read_exact(&mut seen).unwrap();
    content.check(at, &seen);
}

/// What a stack has with its peers, in the wrong hands.
struct Session {
    import: Import,
    // What the stack writes to us.
    _export: Export,
}

const SERVER: u8 = 2;
const ATTACKER: u8 = 3;

/// Knocks as a stack does, and takes part in a session.
fn session(node: &Node) -> Session {
    let server = Hosts::node_address(SERVER);
    let start = Instant::now();
    let export = node.export(&format!("streams/{server}")).len(SESSION_LEN as usize).sparse(true).key(Key::PUBLIC);
    let export = export.notify(true).queue(1 << 20).create().unwrap();
    let door = node.import(server, "streams", Key::PUBLIC).unwrap();
    door.send(&[0], 0).notify(VERSION).wait().unwrap();
    let name = format!("streams/{}", Hosts::node_address(ATTACKER));
    loop {
        match node.import(server, &name, Key::PUBLIC) {
            Ok(import) => return Session { import, _export: export },
            Err(error) => assert!(start.elapsed() < PATIENCE / 4, "no session: {error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A number that may mean something: small, at an edge, or anything.
fn number(random: &mut fastrand::Rng) -> u64 {
    match random.u8(..5) {
        0 => random.u64(..4),
        1 => 1 << random.u32(..64),
        2 => (1 << random.u32(..64)) - 1,
        3 => random.u64(..100_000),
        _ => random.u64(..),
    }
}

/// One write of anything to anywhere; half of them look like what a stack would write.
fn write_anything(session: &Session, random: &mut fastrand::Rng) -> Result<(), Error> {
    let index = if random.bool() { random.u32(..4) } else { random.u32(..STREAMS) };
    let kind = random.u32(..6);
    let (offset, bytes) = match random.u8(..6) {
        // A slot, with words that may be read.
        0 | 1 => {
            let status = random.u64(..4) << 24;
            let mut words = [index.into(), number(random), number(random), number(random), number(random)];
            words[0] = words[0] << 32 | status | random.u64(..4) << 16;
            if random.bool() {
                // A ring that could be.
                words[2] = (RINGS / 4096 + random.u64(..16_000)) << 32 | random.u64(10..24) << 24 | random.u64(..3);
            }
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            (slot_offset(index), bytes)
        }
        // A request for a port that somebody listens at, or for another.
        2 | 3 => {
            let port = if random.bool() { 80 } else { random.u64(..65536) };
            let head = u64::from(index) << 32 | random.u64(..65536) << 16 | port;
            let ring = (RINGS / 4096 + random.u64(..16_000)) << 32 | random.u64(12..23) << 24;
            let index = random.u32(..64);
            let bytes: Vec<u8> = [head, ring].iter().flat_map(|word| word.to_be_bytes()).collect();
            return send(session, &bytes, request_offset(index), 3 << 28 | index);
        }
        // Data, in some ring.
        4 => {
            let len = random.usize(1..5000);
            (random.u64(RINGS..SESSION_LEN - 5000), (0..len).map(|_| random.u8(..)).collect())
        }
        _ => {
            let len = random.usize(1..200);
            (random.u64(..SESSION_LEN - 200), (0..len).map(|_| random.u8(..)).collect())
        }
    };
    let tag = if random.u8(..8) == 0 { random.u32(..) } else { kind << 28 | index };
    send(session, &bytes, offset, tag)
}

fn send(session: &Session, bytes: &[u8], offset: u64, tag: u32) -> Result<(), Error> {
    session.import.send(bytes, offset).notify(tag).start().map(|_| ())
}

#[test]
fn garbage_in_a_session_harms_nobody_else() {
    watched("garbage_in_a_session_harms_nobody_else", || {
        Scene::new().survives(|node, random| {
            for _ in 0..6 {
                let session = session(node);
                for _ in 0..1500 {
                    // The stack may end a session with whom writes garbage.
                    if write_anything(&session, random).is_err() {
                        break;
                    }
                }
            }
        });
    });
}

#[test]
fn garbage_at_the_door_harms_nobody() {
    watched("garbage_at_the_door_harms_nobody", || {
        Scene::new().survives(|node, random| {
            let door = node.import(Hosts::node_address(SERVER), "streams", Key::PUBLIC).unwrap();
            for _ in 0..2000 {
                let (len, tag) = (random.usize(1..=64), if random.bool() { VERSION } else { random.u32(..) });
                // It knocks, and exports nothing to who looks.
                door.send(&vec![random.u8(..); len], 0).notify(tag).start().unwrap();
            }
        });
    });
}

#[test]
fn who_opens_streams_without_end_gets_no_more_than_there_are() {
    watched("who_opens_streams_without_end_gets_no_more_than_there_are", || {
        Scene::new().survives(|node, _| {
            let session = session(node);
            // More than a session has, and nothing is ever read or closed.
            for number in 0..STREAMS + 1000 {
                let (index, slot) = (number % STREAMS, number % 64);
                let head = u64::from(index) << 32 | u64::from(1 + number % 60_000) << 16 | 80;
                let ring = (RINGS / 4096) << 32 | 12 << 24;
                let bytes: Vec<u8> = [head, ring].iter().flat_map(|word| word.to_be_bytes()).collect();
                if send(&session, &bytes, request_offset(slot), 3 << 28 | slot).is_err() {
                    break;
                }
            }
        });
    });
}

#[test]
fn who_says_nothing_holds_up_nobody() {
    watched("who_says_nothing_holds_up_nobody", || {
        Scene::new().survives(|node, random| {
            // Sessions in which nothing happens, or that end in the middle of something.
            for round in 0..10 {
                let session = session(node);
                for _ in 0..round * 10 {
                    let _ = write_anything(&session, random);
                }
            }
        });
    });
}
