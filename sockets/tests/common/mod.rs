//! What all tests of the sockets share: contents that can be checked anywhere, a watchdog, and simulated hosts.

// Each of the test programs uses a part of it.
#![allow(dead_code)]

pub mod simulated;

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Runs a test case on a thread of its own. One that hangs fails, by its name.
pub fn watched(name: &str, case: impl FnOnce() + Send + 'static) {
    watched_for(PATIENCE, name, case);
}

/// As [`watched`], with a limit of the test's own.
pub fn watched_for(limit: Duration, name: &str, case: impl FnOnce() + Send + 'static) {
    let (done, end) = channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        case();
        // Nobody listens any more if it has taken too long.
        let _ = done.send(());
    });
    let thread = thread.expect("starting a thread");
    if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("{name} hangs: it isn't done after {limit:?}");
    }
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Waits until something holds; when it never does, fails with what was waited for.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE / 4, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes without end that look random and are known at every position: what a stream carries, so that a byte that is lost, repeated,
/// misplaced, or of another stream is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    salt: u64,
}

/// The random bytes that all contents are made of: a prime number, so that they meet each multiple of anything.
const BLOCK: usize = 1_000_003;

fn block() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut bytes = vec![0; BLOCK];
        fastrand::Rng::with_seed(1997).fill(&mut bytes);
        bytes
    })
}

impl Content {
    /// Streams of different salts have different bytes.
    pub fn new(salt: u64) -> Content {
        Content { salt: salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCK as u64 }
    }

    fn pieces(self, at: u64, len: usize) -> impl Iterator<Item = (usize, &'static [u8])> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let place = ((self.salt + at + done as u64) % BLOCK as u64) as usize;
            let piece = &block()[place..];
            let piece = &piece[..piece.len().min(len - done)];
            done += piece.len();
            (!piece.is_empty()).then_some((done - piece.len(), piece))
        })
    }

    /// The `len` bytes from position `at` on.
    pub fn bytes(self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        self.pieces(at, len).for_each(|(_, piece)| bytes.extend_from_slice(piece));
        bytes
    }

    /// Compares what was read at position `at`.
    #[track_caller]
    pub fn check(self, at: u64, seen: &[u8]) {
        for (start, piece) in self.pieces(at, seen.len()) {
            let here = &seen[start..start + piece.len()];
            if here != piece {
                let first = here.iter().zip(piece).take_while(|(a, b)| a == b).count();
                let at = at + (start + first) as u64;
                panic!("at byte {at} of the stream is {:#04x} instead of {:#04x}", here[first], piece[first]);
            }
        }
    }
}
