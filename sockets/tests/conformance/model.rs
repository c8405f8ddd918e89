//! Random sequences of everything that can be done to streams, from both sides, against a model of what must come of it: what a write has
//! accepted is read in its order, once; an end and a reset are seen by whom they concern, and by nobody else.
//!
//! Nothing waits here: all streams are nonblocking, and the model allows for what is still under way. What must arrive in the end is waited for
//! by [`Step::Settle`], and at the end of each sequence. The model is tried over the kernel's TCP as well: so it claims no more than that keeps.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, WouldBlock};
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;

use proptest::prelude::*;

use crate::common::{Content, PATIENCE, eventually};
use crate::kind;
use crate::sockets::Stream;
use crate::world::World;

#[derive(Clone, Debug)]
enum Step {
    /// Opens one more connection.
    Open,
    /// The number of a connection, modulo how many there are, and which of its sides.
    On(usize, Side, Action),
    /// Waits until all that must arrive has.
    Settle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Write(usize),
    /// As two slices.
    WriteVectored(usize, usize),
    Read(usize),
    ReadVectored(usize, usize),
    Peek(usize),
    Shutdown(Shutdown),
    /// Goes on with a clone, and drops the handle that was there.
    Clone,
    Nodelay(bool),
    Close,
}

fn action() -> impl Strategy<Value = Action> {
    let len = || prop_oneof![4 => 1..3000usize, 3 => 3000..40_000usize, 1 => 100_000..600_000usize];
    prop_oneof![
        12 => len().prop_map(Action::Write),
        2 => (0..5000usize, len()).prop_map(|(a, b)| Action::WriteVectored(a, b)),
        14 => len().prop_map(Action::Read),
        2 => (0..5000usize, len()).prop_map(|(a, b)| Action::ReadVectored(a, b)),
        4 => len().prop_map(Action::Peek),
        1 => prop_oneof![4 => Just(Shutdown::Write), 1 => Just(Shutdown::Read), 1 => Just(Shutdown::Both)]
            .prop_map(Action::Shutdown),
        1 => Just(Action::Clone),
        1 => any::<bool>().prop_map(Action::Nodelay),
        1 => Just(Action::Close),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Client), Just(Side::Server)];
    prop_oneof![
        2 => Just(Step::Open),
        40 => (0..8usize, side, action()).prop_map(|(which, side, action)| Step::On(which, side, action)),
        2 => Just(Step::Settle),
    ]
}

/// One side of a connection, and what the model knows of it.
struct End<S> {
    stream: Option<S>,
    /// What it writes.
    content: Content,
    /// How many bytes its writes have accepted, and its reads have returned.
    written: u64,
    read: u64,
    /// It has said that it writes no more.
    ended: bool,
    /// It has said that it reads no more.
    deaf: bool,
    /// It may be told of a reset: the other has closed with unread data, or will be written to though it doesn't read.
    may_reset: bool,
    /// It has been told.
    over: bool,
}

impl<S: Stream> End<S> {
    fn new(stream: S, salt: u64) -> End<S> {
        stream.set_nonblocking(true).unwrap();
        let content = Content::new(salt);
        let (ended, deaf, may_reset, over) = (false, false, false, false);
        End { stream: Some(stream), content, written: 0, read: 0, ended, deaf, may_reset, over }
    }

    /// What has become of a write of `len` bytes.
    fn wrote(&mut self, other: &mut End<S>, len: usize, result: std::io::Result<usize>) {
        let unheard = other.stream.is_none() || other.deaf;
        self.may_reset |= unheard;
        // A reset ends both ways.
        other.may_reset |= unheard && other.deaf;
        match kind(result) {
            Ok(n) => {
                assert!(!self.ended && !self.over, "{n} bytes were written after the end");
                assert!((1..=len).contains(&n), "a write of {len} bytes has accepted {n}");
                self.written += n as u64;
            }
            Err(WouldBlock | Interrupted) => assert!(!self.ended && !self.over, "a write would block after the end"),
            Err(BrokenPipe) => {
                assert!(self.ended || self.may_reset, "a broken pipe, and nobody broke it");
                self.over |= !self.ended;
            }
            Err(ConnectionReset) => {
                assert!(self.may_reset && !self.over, "a reset that can't be");
                self.over = true;
            }
            Err(other) => panic!("a write fails: {other:?}"),
        }
    }

    /// What has become of a read, or a peek, into `buffer`.
    fn got(&mut self, other: &End<S>, buffer: &[u8], peek: bool, result: std::io::Result<usize>) {
        match kind(result) {
            Ok(0) => {
                let in_order = other.ended && self.read == other.written;
                assert!(
                    in_order || self.deaf || self.may_reset,
                    "the end after {} of {} bytes",
                    self.read,
                    other.written
                );
            }
            Ok(n) => {
                assert!(self.read + n as u64 <= other.written, "bytes that nobody has written");
                other.content.check(self.read, &buffer[..n]);
                if !peek {
                    self.read += n as u64;
                }
            }
            Err(WouldBlock | Interrupted) => assert!(!self.over && !self.deaf, "a read would block after the end"),
            Err(ConnectionReset) => {
                assert!(self.may_reset && !self.over, "a reset that can't be");
                self.over = true;
            }
            Err(other) => panic!("a read fails: {other:?}"),
        }
    }

    fn act(&mut self, other: &mut End<S>, action: Action) {
        let Some(stream) = self.stream.take() else { return };
        match action {
            Action::Write(len) => {
                let result = stream.write(&self.content.bytes(self.written, len));
                self.wrote(other, len, result);
            }
            Action::WriteVectored(a, b) => {
                let bytes = self.content.bytes(self.written, a + b);
                let result = stream.write_vectored(&[IoSlice::new(&bytes[..a]), IoSlice::new(&bytes[a..])]);
                self.wrote(other, a + b, result);
            }
            Action::Read(len) => {
                let mut buffer = vec![0; len];
                let result = stream.read(&mut buffer);
                self.got(other, &buffer, false, result);
            }
            Action::ReadVectored(a, b) => {
                let mut buffer = vec![0; a + b];
                let (first, second) = buffer.split_at_mut(a);
                let result = stream.read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]);
                self.got(other, &buffer, false, result);
            }
            Action::Peek(len) => {
                let mut buffer = vec![0; len];
                let result = stream.peek(&mut buffer);
                self.got(other, &buffer, true, result);
            }
            Action::Shutdown(how) => {
                let result = kind(stream.shutdown(how));
                // There may be nothing left to shut down: when it was reset, or both have ended.
                let gone = self.may_reset || (self.ended && other.ended);
                assert!(result.is_ok() || gone && result == Err(std::io::ErrorKind::NotConnected), "{result:?}");
                self.ended |= matches!(how, Shutdown::Write | Shutdown::Both);
                self.deaf |= matches!(how, Shutdown::Read | Shutdown::Both);
                // What is under way meets nobody who would read it.
                let unheard = self.deaf && other.written > self.read;
                self.may_reset |= unheard;
                other.may_reset |= unheard;
            }
            Action::Clone => {
                self.stream = Some(stream.try_clone().unwrap());
                return;
            }
            Action::Nodelay(nodelay) => stream.set_nodelay(nodelay).unwrap(),
            Action::Close => {
                other.may_reset |= other.written > self.read || self.deaf;
                self.ended = true;
                return;
            }
        }
        self.stream = Some(stream);
    }

    /// Whether all that must have arrived has: what it is to read is there, or the end.
    fn is_settled(&mut self, other: &End<S>) -> bool {
        let Some(stream) = &self.stream else { return true };
        if self.may_reset || self.deaf || (self.read == other.written && !other.ended) {
            return true;
        }
        let mut byte = [0];
        let result = stream.peek(&mut byte);
        let settled = result.is_ok();
        self.got(other, &byte, true, result);
        settled
    }

    fn say_the_end(&mut self, other: &mut End<S>) {
        if !self.ended {
            self.act(other, Action::Shutdown(Shutdown::Write));
        }
    }

    /// Reads what there is. Whether that is all, and the end has come.
    fn finish(&mut self, other: &End<S>) -> bool {
        let Some(stream) = self.stream.take() else { return true };
        let mut buffer = vec![0; 100_000];
        let result = stream.read(&mut buffer);
        let end = matches!(kind(result.as_ref().map(|n| *n).map_err(|e| e.kind().into())), Ok(0));
        self.got(other, &buffer, false, result);
        self.stream = Some(stream);
        end || self.over
    }
}

struct Scene<'a, W: World> {
    world: &'a W,
    listener: W::Listener,
    streams: Vec<[End<W::Stream>; 2]>,
}

impl<W: World> Scene<'_, W> {
    fn open(&mut self) {
        let (client, server) = self.world.pair_at(&self.listener);
        let salt = 2 * self.streams.len() as u64;
        self.streams.push([End::new(client, salt), End::new(server, salt + 1)]);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open => self.open(),
            Step::Settle => self.streams.iter_mut().for_each(|[a, b]| {
                eventually("what was written arrives", || a.is_settled(b));
                eventually("what was written arrives", || b.is_settled(a));
            }),
            Step::On(which, side, action) => {
                let which = which % self.streams.len();
                let [a, b] = &mut self.streams[which];
                match side {
                    Side::Client => a.act(b, action),
                    Side::Server => b.act(a, action),
                }
            }
        }
    }

    fn end(mut self) {
        for [a, b] in &mut self.streams {
            a.say_the_end(b);
            b.say_the_end(a);
        }
        for [a, b] in &mut self.streams {
            eventually("all is read", || {
                let one = a.finish(b);
                b.finish(a) && one
            });
            for (near, far) in [(&a, &b), (&b, &a)] {
                if near.stream.is_some() && !near.may_reset && !near.deaf {
                    assert_eq!(near.read, far.written);
                }
            }
        }
        self.streams.clear();
        // Nothing of that has hurt the hosts.
        self.open();
        self.take(Step::On(0, Side::Client, Action::Write(1000)));
        self.take(Step::Settle);
    }
}

/// As many sequences as asked for, each on hosts of its own.
fn try_sequences<W: World>(sequences: u32) {
    // A sequence that fails by hanging takes long to shrink.
    let max_shrink_time = 60_000;
    let config =
        ProptestConfig { cases: sequences, max_shrink_time, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..150))| {
        let world = W::new(seed);
        let mut scene = Scene { world: &world, listener: world.listen(), streams: Vec::new() };
        scene.open();
        steps.into_iter().for_each(|step| scene.take(step));
        scene.end();
    });
}

#[test]
fn tcp() {
    crate::common::watched_for(5 * PATIENCE, "model::tcp", || {
        // One for all sequences.
        let _lab = crate::world::shared_lab();
        try_sequences::<crate::world::Tcp>(60);
    });
}

#[test]
fn simulated() {
    crate::common::watched_for(5 * PATIENCE, "model::simulated", || try_sequences::<crate::world::Simulated>(40));
}

#[test]
fn lossy() {
    crate::common::watched_for(5 * PATIENCE, "model::lossy", || try_sequences::<crate::world::Lossy>(40));
}

#[test]
fn laned() {
    crate::common::watched_for(5 * PATIENCE, "model::laned", || try_sequences::<crate::world::Laned>(40));
}
