//! Buffers of the arena are away while they are in flight, and come back, whatever becomes of the send.

use super::*;
use vmmc::memory::MemoryError;
use vmmc::{Buffer, EngineError, Import, SendFailed};

/// Two nodes with threads of their own, the first with settings of the test's.
pub fn two(net: &Network, settings: impl FnOnce(Builder) -> Builder) -> (Node, Node) {
    run(net);
    let no = Arc::new(AtomicBool::new(false));
    // There is nothing to sleep on: a simulated packet wakes nobody.
    let threaded = || Node::builder().progress(Progress::Thread { core: None }).spin(Duration::MAX);
    (node(net, 1, &no, settings(threaded())), node(net, 2, &no, threaded()))
}

pub fn import(node: &Node, name: &str) -> Import {
    node.import("10.0.0.2:7000".parse().unwrap(), name, Key::PUBLIC).unwrap()
}

/// A buffer that holds 0, 1, 2 ...
fn counting(node: &Node, len: usize) -> Buffer {
    let mut buffer = node.alloc(len).unwrap();
    buffer.iter_mut().zip((0..=255).cycle()).for_each(|(byte, value)| *byte = value);
    buffer
}

#[test]
fn a_buffer_comes_back_when_it_has_been_delivered() {
    let (a, b) = two(&Network::new(1, Conditions::default()), |b| b);
    let inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    let buffer = counting(&a, 20_000);
    let address = buffer.as_ptr();
    let mut buffer = remote.send(buffer, 100).wait().unwrap();
    assert_eq!((buffer.as_ptr(), buffer.len(), buffer[1]), (address, 20_000, 1));
    let mut seen = vec![0; 20_000];
    inbox.read(100, &mut seen).unwrap();
    assert_eq!(seen, *buffer);

    // Only a part of it, and queued; then borrowed.
    buffer.fill(9);
    let pending = remote.send(buffer, 0).part(10..20).queue().unwrap();
    let buffer = pending.wait().unwrap();
    inbox.read(0, &mut seen[..11]).unwrap();
    assert_eq!(seen[..11], [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0]);
    remote.send(&buffer, 40_000).wait().unwrap();
    let SendFailed { error, buffer } = remote.send(buffer, 0).part(19_999..20_001).start().unwrap_err();
    assert!(matches!(error, Error::Memory(MemoryError::OutOfRange { .. })), "{error}");
    assert_eq!(buffer.len(), 20_000);
}

#[test]
fn a_shared_buffer_goes_to_two_at_once() {
    let (a, b) = two(&Network::new(2, Conditions::default()), |b| b);
    let inboxes = ["x", "y"].map(|name| b.export(name).len(1 << 16).key(Key::PUBLIC).create().unwrap());
    let remotes = ["x", "y"].map(|name| import(&a, name));
    let buffer = Arc::new(counting(&a, 30_000));
    let pending = remotes.each_ref().map(|remote| remote.send(buffer.clone(), 0).start().unwrap());
    let buffers = pending.map(|pending| pending.wait().unwrap());
    for inbox in &inboxes {
        let mut seen = vec![0; 30_000];
        inbox.read(0, &mut seen).unwrap();
        assert_eq!(seen, **buffer);
    }
    // With the last send over it is its only owner's again, to write.
    let failed = Arc::try_unwrap(buffer).unwrap_err();
    drop((failed, inboxes));
    let [one, other] = buffers;
    drop(other);
    Arc::try_unwrap(one).unwrap().fill(0);
}

#[test]
fn a_buffer_comes_back_when_its_peer_has_gone() {
    let net = Network::new(3, Conditions::default());
    let (a, b) = two(&net, |b| b);
    let inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    drop((inbox, b));
    let mut buffer = counting(&a, 5000);
    // The goodbye may arrive after the send has started: then it is the waiting that fails.
    let start = Instant::now();
    let failed = loop {
        match remote.send(buffer, 0).wait() {
            Err(failed) => break failed,
            Ok(back) => buffer = back,
        }
        assert!(start.elapsed() < PATIENCE, "sends to a node that has closed are delivered");
    };
    assert!(matches!(failed.error, Error::Engine(_)), "{failed}");
    assert_eq!((failed.buffer.len(), failed.buffer[255]), (5000, 255));
    let shared = Arc::new(failed.buffer);
    let failed = remote.send(shared.clone(), 0).start().unwrap_err();
    assert!(Arc::ptr_eq(&failed.buffer, &shared));
    assert!(matches!(Error::from(failed), Error::Engine(_)));
}

#[test]
fn a_buffer_in_flight_comes_back_when_its_peer_falls_silent() {
    let net = Network::new(4, Conditions::default());
    run(&net);
    let no = Arc::new(AtomicBool::new(false));
    let short = Node::builder().peer_timeout(Duration::from_millis(200));
    let a = node(&net, 1, &no, short.progress(Progress::Thread { core: None }).spin(Duration::MAX));
    let b = node(&net, 2, &no, Node::builder());
    let _inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).create().unwrap();
    let done = AtomicBool::new(false);
    // The peer works until the import is there, and then never again.
    let remote = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                b.progress().unwrap();
            }
        });
        let remote = import(&a, "inbox");
        done.store(true, Ordering::Relaxed);
        remote
    });
    let pending = remote.send(counting(&a, 3000), 0).start().unwrap();
    let SendFailed { error, buffer } = pending.wait().unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::LinkEnded { .. })), "{error}");
    assert_eq!((buffer.len(), buffer[2]), (3000, 2));
}

#[test]
fn buffers_are_the_arenas() {
    let net = Network::new(5, Conditions::default());
    let no = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &no, Node::builder().arena(1 << 20));
    assert!(n.alloc_aligned(5000, 4096).unwrap().as_ptr().addr().is_multiple_of(4096));
    let big = n.alloc(900 << 10).unwrap();
    let refused = n.export("e").len(200 << 10).create().unwrap_err();
    assert!(matches!(refused, Error::Memory(MemoryError::Exhausted { .. })), "{refused}");
    drop(big);
    n.export("e").len(200 << 10).create().unwrap();
    assert!(matches!(n.alloc(0), Err(Error::Memory(MemoryError::BadLength { len: 0 }))));
    // It may outlive the node's last handle.
    let mut last = n.alloc(10).unwrap();
    drop(n);
    last.fill(1);
    let stats_of = |huge| node(&net, 2, &no, Node::builder().arena(1 << 16).huge_pages(huge)).stats().unwrap();
    let stats = stats_of(vmmc::HugePages::WhenFree);
    assert_eq!((stats.arena_bytes, stats.arena_page_bytes), (1 << 16, rustix::param::page_size() as u64));
}
