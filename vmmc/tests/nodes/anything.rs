//! Random sequences of everything that memory goes through, against a model that knows where each byte must be: buffers are allocated, mapped,
//! written, split, sent and dropped, the budget changes under them, redirects of every kind of memory are posted, cancelled and filled, exports
//! are read, fetched and forgotten.

use super::buffers::two;
use super::*;
use proptest::prelude::*;
use vmmc::memory::utlb::{Config, Rule};
use vmmc::{Buffer, Export, Import, PagedBuffer, Received, Redirect};

const EXPORT: usize = 24_000;

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Map(usize),
    /// Writes a part of a buffer.
    Write(usize, usize, usize),
    /// Splits a paged buffer.
    Split(usize, usize),
    /// Sends a part of a buffer, or of its bytes as a slice.
    Send(usize, usize, usize, usize, bool),
    Drop(usize),
    Budget(usize),
    /// Posts a redirect of a range to memory of one of three kinds.
    Redirect(usize, usize, usize),
    Cancel(usize),
    Forget(usize, usize),
    Fetch(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (place, len) = (0..EXPORT, 1..9000usize);
    prop_oneof![
        2 => len.clone().prop_map(Step::Alloc),
        2 => (1..60_000usize).prop_map(Step::Map),
        3 => (any::<usize>(), any::<usize>(), len.clone()).prop_map(|(b, at, len)| Step::Write(b, at, len)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(b, at)| Step::Split(b, at)),
        8 => (any::<usize>(), any::<usize>(), len.clone(), place.clone(), any::<bool>())
            .prop_map(|(b, at, len, to, slice)| Step::Send(b, at, len, to, slice)),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => (0..12usize).prop_map(Step::Budget),
        4 => (place.clone(), len.clone(), 0..3usize).prop_map(|(at, len, kind)| Step::Redirect(at, len, kind)),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => (place.clone(), len.clone()).prop_map(|(at, len)| Step::Forget(at, len)),
        1 => (place, len).prop_map(|(at, len)| Step::Fetch(at, len)),
    ]
}

/// Memory that can be sent.
enum Memory {
    Arena(Buffer),
    Paged(PagedBuffer),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Arena(buffer) => buffer,
            Memory::Paged(buffer) => buffer,
        }
    }
}

/// A redirect, and what it must have got.
enum Posted {
    Vector(Redirect<Vec<u8>>),
    Arena(Redirect<Buffer>),
    Paged(Redirect<PagedBuffer>),
}

impl Posted {
    fn cancel(self) -> (Vec<u8>, Received) {
        match self {
            Posted::Vector(redirect) => redirect.cancel(),
            Posted::Arena(redirect) => {
                let (target, received) = redirect.cancel();
                (target.to_vec(), received)
            }
            Posted::Paged(redirect) => {
                let (target, received) = redirect.cancel();
                (target.to_vec(), received)
            }
        }
    }
}

struct Scene {
    sender: Node,
    receiver: Node,
    inbox: Export,
    remote: Import,
    memory: Vec<(Memory, Vec<u8>)>,
    posted: Vec<(Posted, usize, Vec<Option<u8>>)>,
    /// The default buffer: its bytes, and which of them nobody has taken.
    default: Vec<u8>,
    unclaimed: Vec<bool>,
    salt: u8,
}

/// `len` bytes from `at` on, of those that there are.
fn clip(at: usize, len: usize, all: usize) -> std::ops::Range<usize> {
    let at = at % all.max(1);
    at..(at + len).min(all)
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let page = rustix::param::page_size();
        let config = Config { budget: Some(6 * page), rule: Rule::Pin, ..Config::default() };
        let (sender, receiver) = two(&Network::new(seed, Conditions::default()), |b| b.arena(1 << 20).utlb(config));
        let inbox = receiver.export("inbox").len(EXPORT).key(Key::PUBLIC).readable(true).create().unwrap();
        let remote = super::buffers::import(&sender, "inbox");
        let (default, unclaimed) = (vec![0; EXPORT], vec![false; EXPORT]);
        Scene { sender, receiver, inbox, remote, memory: Vec::new(), posted: Vec::new(), default, unclaimed, salt: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Alloc(len) => {
                if let Ok(buffer) = self.sender.alloc(len) {
                    self.memory.push((Memory::Arena(buffer), vec![0; len]));
                }
            }
            Step::Map(len) => self.memory.push((Memory::Paged(self.sender.map(len).unwrap()), vec![0; len])),
            Step::Budget(pages) => self.sender.utlb().set_budget(pages * rustix::param::page_size()),
            Step::Write(which, at, len) => self.write(which, at, len),
            Step::Split(which, at) => self.split(which, at),
            Step::Send(which, at, len, to, slice) => self.send(which, at, len, to, slice),
            Step::Drop(which) if !self.memory.is_empty() => {
                self.memory.swap_remove(which % self.memory.len());
            }
            Step::Redirect(at, len, kind) => self.redirect(clip(at, len, EXPORT), kind),
            Step::Cancel(which) if !self.posted.is_empty() => {
                // The others keep their order: they are served in that.
                let posted = self.posted.remove(which % self.posted.len());
                Self::check(posted);
            }
            Step::Forget(at, len) => {
                let range = clip(at, len, EXPORT);
                self.inbox.forget(range.start as u64..range.end as u64);
                self.unclaimed[range].fill(false);
            }
            Step::Fetch(at, len) => {
                let range = clip(at, len, EXPORT);
                let bytes = self.remote.fetch(range.start as u64, vec![0; range.len()]).wait().unwrap();
                assert!(bytes == self.default[range]);
            }
            Step::Drop(_) | Step::Cancel(_) => {}
        }
    }

    fn write(&mut self, which: usize, at: usize, len: usize) {
        self.salt = self.salt.wrapping_add(1);
        let count = self.memory.len().max(1);
        let Some((memory, model)) = self.memory.get_mut(which % count) else { return };
        let range = clip(at, len, model.len());
        model[range.clone()].fill(self.salt);
        match memory {
            Memory::Arena(buffer) => buffer[range].fill(self.salt),
            Memory::Paged(buffer) => buffer.write_part(range).unwrap().fill(self.salt),
        }
    }

    fn split(&mut self, which: usize, at: usize) {
        let count = self.memory.len().max(1);
        let Some((Memory::Paged(buffer), model)) = self.memory.get_mut(which % count) else { return };
        let page = rustix::param::page_size();
        let at = at % (model.len() / page + 1) * page;
        let (rest, rest_model) = (buffer.split_off(at).unwrap(), model.split_off(at));
        self.memory.push((Memory::Paged(rest), rest_model));
    }

    fn send(&mut self, which: usize, at: usize, len: usize, to: usize, slice: bool) {
        if self.memory.is_empty() {
            return;
        }
        let which = which % self.memory.len();
        let (memory, model) = self.memory.swap_remove(which);
        assert!(memory.bytes() == model, "a buffer has other bytes");
        let range = clip(at, len.min(EXPORT - to), model.len());
        if range.is_empty() {
            return self.memory.push((memory, model));
        }
        let (bytes, offset) = (model[range.clone()].to_vec(), to as u64);
        let memory = match memory {
            memory if slice => {
                self.remote.send(&memory.bytes()[range], offset).wait().unwrap();
                memory
            }
            Memory::Arena(buffer) => Memory::Arena(self.remote.send(buffer, offset).part(range).wait().unwrap()),
            Memory::Paged(buffer) => Memory::Paged(self.remote.send(buffer, offset).part(range).wait().unwrap()),
        };
        self.memory.push((memory, model));
        for (place, byte) in (to..).zip(bytes) {
            let wants = |(_, start, got): &&mut (Posted, usize, Vec<Option<u8>>)| {
                place.checked_sub(*start).is_some_and(|at| got.get(at) == Some(&None))
            };
            match self.posted.iter_mut().find(wants) {
                Some((_, start, got)) => got[place - *start] = Some(byte),
                None => (self.default[place], self.unclaimed[place]) = (byte, true),
            }
        }
    }

    fn redirect(&mut self, range: std::ops::Range<usize>, kind: usize) {
        let (place, len) = (range.start as u64..range.end as u64, range.len());
        let posted = match kind {
            0 => Posted::Vector(self.inbox.redirect(place, vec![0; len]).unwrap()),
            1 => match self.receiver.alloc(len) {
                Ok(buffer) => Posted::Arena(self.inbox.redirect(place, buffer).unwrap()),
                Err(_) => return,
            },
            _ => Posted::Paged(self.inbox.redirect(place, self.receiver.map(len).unwrap()).unwrap()),
        };
        let moved = range.clone().map(|at| std::mem::take(&mut self.unclaimed[at]).then_some(self.default[at]));
        let got = moved.collect();
        self.posted.push((posted, range.start, got));
    }

    /// A redirect that is taken back has what it must have, and nothing else.
    fn check((posted, _, got): (Posted, usize, Vec<Option<u8>>)) {
        let (target, received) = posted.cancel();
        assert_eq!(received.bytes(), got.iter().flatten().count() as u64);
        assert_eq!(received.prefix(), got.iter().take_while(|byte| byte.is_some()).count() as u64);
        assert!(target.iter().zip(&got).all(|(&byte, want)| byte == want.unwrap_or(0)), "a redirect has other bytes");
    }

    fn end(self) {
        let mut seen = vec![0; EXPORT];
        self.inbox.read(0, &mut seen).unwrap();
        assert!(seen == self.default, "the export has other bytes");
        self.posted.into_iter().for_each(Self::check);
        assert!(self.memory.iter().all(|(memory, model)| memory.bytes() == model), "a buffer has other bytes");
        let free = |node: &Node| node.stats().unwrap().utlb.held;
        assert_eq!((free(&self.sender), free(&self.receiver)), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn memory_is_where_the_model_says(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::new(seed);
        steps.into_iter().for_each(|step| scene.take(step));
        scene.end();
    }
}
