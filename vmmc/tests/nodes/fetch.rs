//! Remote read by nodes with threads, sleep and memory of the program's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmmc::engine::EngineError;
use vmmc::port::sim::{Conditions, Network};
use vmmc::{Error, Export, Import, Key, LinkEnd, Node, Progress, Target};

use crate::{mute, node, run};

const LEN: usize = 1 << 18;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

/// Two nodes, of which the second has a table that the first has imported.
fn pair(net: &Network, progress: Progress) -> (Node, Node, Export, Import) {
    run(net);
    let no = Arc::new(AtomicBool::new(false));
    // There is nothing to sleep on: a simulated packet wakes nobody.
    let builder = |progress| Node::builder().progress(progress).spin(Duration::MAX);
    let (a, b) = (node(net, 1, &no, builder(progress)), node(net, 2, &no, builder(Progress::Thread { core: None })));
    let table = b.export("table").len(LEN).key(Key::PUBLIC).readable(true).create().unwrap();
    table.write(0, &bytes(LEN)).unwrap();
    let remote = a.import("10.0.0.2:7000".parse().unwrap(), "table", Key::PUBLIC).unwrap();
    (a, b, table, remote)
}

/// A target that is no vector, and says when it goes.
struct Halves {
    low: [u8; 500],
    high: [u8; 500],
    gone: Arc<AtomicBool>,
}

impl Halves {
    fn new(gone: &Arc<AtomicBool>) -> Halves {
        Halves { low: [0; 500], high: [0; 500], gone: gone.clone() }
    }
}

impl Target for Halves {
    fn len(&self) -> usize {
        1000
    }
    fn store(&mut self, at: usize, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            let half = if at + i < 500 { &mut self.low } else { &mut self.high };
            half[(at + i) % 500] = byte;
        }
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

#[test]
fn targets_of_every_kind_come_back_filled() {
    for progress in [Progress::Caller, Progress::Thread { core: None }] {
        let net = Network::new(1, Conditions::default());
        let (_a, _b, _table, remote) = pair(&net, progress);
        let all = bytes(LEN);
        assert!(remote.fetch(0, vec![0; LEN]).wait().unwrap() == all);
        assert!(remote.fetch_vec(3, 5000).unwrap() == all[3..5003]);
        let boxed: Box<[u8]> = remote.fetch(100, vec![0; 70].into_boxed_slice()).wait().unwrap();
        assert_eq!(*boxed, all[100..170]);
        let gone = Arc::new(AtomicBool::new(false));
        let halves = remote.fetch(7, Halves::new(&gone)).wait().unwrap();
        assert!(halves.low[..] == all[7..507] && halves.high[..] == all[507..1007]);
        assert!(!gone.load(Ordering::Relaxed));
        assert_eq!(remote.fetch_vec(LEN as u64, 0).unwrap().len(), 0);
    }
}

#[test]
fn threads_fetch_and_send_at_once() {
    let net = Network::new(1, Conditions { loss: 0.01, ..Conditions::default() });
    let (_a, b, _table, remote) = pair(&net, Progress::Thread { core: None });
    let log = b.export("log").len(LEN).key(Key::PUBLIC).readable(true).create().unwrap();
    let log_remote = _a.import("10.0.0.2:7000".parse().unwrap(), "log", Key::PUBLIC).unwrap();
    let all = bytes(LEN);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (remote, log_remote, all) = (&remote, &log_remote, &all);
            scope.spawn(move || {
                for round in 0..20 {
                    let (offset, mine) = (thread * 1000 + round, (thread * 1000) as u64);
                    // More than may be under way.
                    let fetches: Vec<_> =
                        (0..50).map(|_| remote.fetch(offset as u64, vec![0; 3000]).start().unwrap()).collect();
                    log_remote.send(&[round as u8; 1000], mine).start().unwrap();
                    // It sees what was sent before.
                    assert_eq!(log_remote.fetch_vec(mine, 1000).unwrap(), [round as u8; 1000]);
                    for fetch in fetches {
                        assert!(fetch.wait().unwrap() == all[offset..offset + 3000]);
                    }
                }
            });
        }
    });
    let stats = _a.stats().unwrap();
    assert_eq!((stats.engine.fetches, stats.links[0].fetching), (4 * 20 * 51, 0));
    assert_eq!(stats.engine.fetched_bytes, 4 * 20 * (50 * 3000 + 1000));
    let served: u64 = b.stats().unwrap().exports.iter().map(|export| export.read_bytes).sum();
    assert_eq!((served, log.len()), (stats.engine.fetched_bytes, LEN));
}

#[test]
fn a_fetch_that_is_given_up_gives_its_memory_back_or_frees_it() {
    let net = Network::new(1, Conditions::default());
    let (a, b, _table, remote) = pair(&net, Progress::Caller);
    let gone = Arc::new(AtomicBool::new(false));
    let pending = remote.fetch(0, Halves::new(&gone)).start().unwrap();
    assert!(!pending.is_done(), "nobody has looked for packets");
    let back = pending.cancel();
    assert!(!gone.load(Ordering::Relaxed) && back.low == [0; 500]);
    drop(back);
    gone.store(false, Ordering::Relaxed);
    drop(remote.fetch(0, Halves::new(&gone)).start().unwrap());
    assert!(gone.load(Ordering::Relaxed), "a fetch that is dropped frees its target");
    // One that has ended, and that nobody asks for.
    gone.store(false, Ordering::Relaxed);
    let pending = remote.fetch(0, Halves::new(&gone)).start().unwrap();
    remote.fetch_vec(0, 10).unwrap();
    assert!(pending.is_done());
    drop(pending);
    assert!(gone.load(Ordering::Relaxed));
    remote.fetch_vec(0, LEN).unwrap();
    assert_eq!(a.stats().unwrap().links[0].fetching, 0);
    assert_eq!(b.stats().unwrap().links[0].jobs, 0);
}

#[test]
fn what_may_not_be_is_said_at_once() {
    let net = Network::new(1, Conditions::default());
    let (a, b, _table, remote) = pair(&net, Progress::Caller);
    let failed = remote.fetch(1, vec![7; LEN]).start().unwrap_err();
    assert!(matches!(failed.error, Error::Engine(EngineError::OutOfRange { .. })), "{failed}");
    assert!(failed.target == vec![7; LEN], "the target comes back");
    assert!(matches!(remote.fetch_vec(0, usize::MAX), Err(Error::Engine(EngineError::OutOfRange { .. }))));
    let _plain = b.export("plain").key(Key::PUBLIC).writable(false).create().unwrap();
    let plain = a.import(b.local(), "plain", Key::PUBLIC).unwrap();
    let unreadable = plain.fetch_vec(0, 1).unwrap_err();
    assert!(unreadable.to_string().contains("readable(true)"), "{unreadable}");
    let unwritable = plain.send(b"x", 0).wait().unwrap_err();
    assert!(unwritable.to_string().contains("writable(true)"), "{unwritable}");
}

#[test]
fn an_exporter_that_revokes_or_closes_ends_the_wait() {
    let net = Network::new(1, Conditions::default());
    let (_a, b, table, remote) = pair(&net, Progress::Thread { core: None });
    let pending = remote.fetch(0, vec![0; LEN]).start().unwrap();
    drop(table);
    let failed = pending.wait().unwrap_err();
    assert!(matches!(failed.error, Error::Engine(EngineError::Revoked { .. })), "{failed}");
    assert_eq!(failed.target.len(), LEN);

    let table = b.export("table").len(LEN).key(Key::PUBLIC).readable(true).create().unwrap();
    let remote = _a.import(b.local(), "table", Key::PUBLIC).unwrap();
    let pending = remote.fetch(0, vec![0; LEN]).start().unwrap();
    drop((table, b));
    let error = Error::from(pending.wait().unwrap_err());
    let ended = |end: &LinkEnd| matches!(end, LinkEnd::ClosedByPeer);
    match &error {
        Error::Engine(EngineError::Revoked { .. }) => {}
        Error::Engine(EngineError::LinkEnded { end, .. }) if ended(end) => {}
        other => panic!("{other}"),
    }
}

/// The peer acknowledges everything, and answers nothing.
#[test]
fn a_peer_that_never_answers_is_given_up() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    mute::run_granting(&net, [2, 0, 0, 0, 0, 2]);
    let (no, short) = (Arc::new(AtomicBool::new(false)), Duration::from_millis(200));
    let n = node(&net, 1, &no, Node::builder().connect_timeout(short).peer_timeout(short));
    let remote = n.import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC).unwrap();
    let failed = remote.fetch(0, vec![7; 100]).timeout(Duration::from_millis(20)).wait().unwrap_err();
    assert!(matches!(failed.error, Error::Timeout { what: "answer to a fetch", .. }), "{failed}");
    assert_eq!(failed.target, [7; 100]);
    let patient = remote.fetch(0, vec![7; 100]).wait().unwrap_err();
    assert!(matches!(patient.error, Error::Timeout { .. }), "{patient}");
    // Those it owes an answer to count until it gives one; then no more are begun, and that is said, too.
    let mut begun = Vec::new();
    let refused = loop {
        match remote.fetch(0, vec![0; 1]).timeout(Duration::from_millis(20)).start() {
            Ok(pending) => begun.push(pending),
            Err(failed) => break failed,
        }
    };
    assert_eq!(begun.len(), 126);
    assert!(refused.to_string().starts_with("no end of one of 128 fetches"), "{refused}");
    assert_eq!(n.stats().unwrap().links[0].fetching, 128);
}

/// A target with a mistake in it.
struct Broken(usize);

impl Target for Broken {
    fn len(&self) -> usize {
        self.0
    }
    fn store(&mut self, at: usize, _: &[u8]) {
        assert!(at < 3000, "a mistake of the program's (this message is expected)");
    }
}

#[test]
fn a_target_that_panics_fails_its_fetch_and_nothing_else() {
    let net = Network::new(1, Conditions::default());
    for progress in [Progress::Caller, Progress::Thread { core: None }] {
        let (a, b, _table, remote) = pair(&net, progress);
        let (broken, whole) =
            (remote.fetch(0, Broken(20_000)).start().unwrap(), remote.fetch(0, vec![0; LEN]).start().unwrap());
        let failed = broken.wait().err().expect("its target has panicked");
        assert!(matches!(failed.error, Error::Engine(EngineError::TargetPanicked)), "{}", failed.error);
        assert_eq!(failed.target.0, 20_000);
        assert_eq!(whole.wait().unwrap(), bytes(LEN));
        let own = b.import(b.local(), "table", Key::PUBLIC).unwrap();
        let failed = own.fetch(0, Broken(20_000)).wait().err().expect("its target has panicked");
        assert!(matches!(failed.error, Error::Engine(EngineError::TargetPanicked)), "{}", failed.error);
        drop(a);
    }
}
