//! What two hosts do with their streams, step by step, and what must have become of it.
//!
//! [`run`] is also the body of the fuzz target `stream`, and an input of one is an input of the other.

use std::collections::BTreeMap;

use vmmc_sockets::proto::Kind;
use vmmc_sockets::proto::layout::{MIN_RING, RINGS, slot_offset};

use crate::host::End;
use crate::memory::Owner;
use crate::world::{EXPORT, World};

/// What happens, and in which order.
#[derive(Clone, Debug)]
pub struct Script {
    pub steps: Vec<Step>,
}

/// One thing that happens, at one host, and mostly to one end of a stream: the `end`th that it has.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub host: usize,
    pub end: usize,
    pub action: Action,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Connect,
    Write {
        max: usize,
    },
    Read {
        max: usize,
    },
    /// A reader posts its buffer.
    Post {
        max: usize,
    },
    /// And takes what has landed in it.
    Take,
    /// As `shutdown(Write)`.
    Finish,
    Close {
        discard: bool,
    },
    Abort,
    Resize {
        log2: u8,
    },
    Grow {
        limit: u64,
        elapsed: u64,
    },
    /// What has to be told is told, if there is room.
    Tell {
        sent: bool,
    },
    /// Bytes on their way to the host arrive in its memory.
    Land {
        count: usize,
    },
    LandWords {
        words: u8,
    },
    /// And are announced.
    Notify {
        count: usize,
    },
    /// Everything is told, lands and is announced.
    Settle,
    /// The peer of the host is mad: one word of a state on its way to it changes.
    Distort {
        word: usize,
        how: u8,
        value: u64,
    },
    /// The peer of the host is mad: it writes anywhere.
    Misplace {
        offset: u64,
        len: usize,
    },
}

/// What every program that can writes at last, bytes: more than once around the smallest ring.
const LAST: usize = 9_000;

impl Step {
    /// The length of a step as bytes.
    pub const LEN: usize = 12;

    /// Any bytes are a step.
    pub fn decode(bytes: &[u8; Step::LEN]) -> Step {
        let a = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        let b = u64::from_le_bytes(bytes[4..].try_into().unwrap());
        // Small ones, and such that fill rings.
        let max = if b & 1 == 0 { a % 100 } else { a };
        let action = match bytes[0] % 64 {
            0..=3 => Action::Connect,
            4..=14 => Action::Write { max },
            15..=23 => Action::Read { max },
            24..=26 => Action::Post { max },
            27..=29 => Action::Take,
            30 => Action::Finish,
            31..=32 => Action::Close { discard: a % 8 == 0 },
            33 if a % 4 == 0 => Action::Abort,
            34..=36 => Action::Resize { log2: (12 + a % 4) as u8 },
            37..=38 => Action::Grow { limit: 1 << (12 + a % 5), elapsed: (b % 2_000_000) >> (a % 20) },
            39..=43 => Action::Tell { sent: a % 4 > 0 },
            44..=47 => Action::Land { count: max },
            48..=49 => Action::LandWords { words: a as u8 },
            50..=53 => Action::Notify { count: 1 + a % 4 },
            54 => Action::Distort { word: a % 5, how: bytes[3], value: b },
            55 if a % 8 == 0 => Action::Misplace { offset: b % (EXPORT - RINGS), len: a / 8 },
            _ => Action::Settle,
        };
        Step { host: usize::from(bytes[1] & 1), end: usize::from(bytes[1] >> 1), action }
    }

    /// The same, or nothing special if only a mad peer would do it.
    #[allow(dead_code)] // the fuzz target has no use for it
    pub fn honest(self) -> Step {
        match self.action {
            Action::Distort { .. } | Action::Misplace { .. } => Step { action: Action::Settle, ..self },
            _ => self,
        }
    }
}

/// Lives through a script.
///
/// # Panics
/// When something happens that must not.
pub fn run(script: &Script) {
    let mut world = World::new();
    for step in &script.steps {
        world.step(step);
    }
    world.conclude();
}

impl World {
    fn step(&mut self, step: &Step) {
        let host = step.host;
        match step.action {
            Action::Connect => self.connect(host),
            Action::Land { count } => _ = self.land(host, count),
            Action::LandWords { words } => self.land_words(host, words),
            Action::Notify { count } => _ = self.notify(host, count),
            Action::Settle => _ = self.settle(),
            Action::Distort { word, how, value } => self.distort(host, word, how, value),
            Action::Misplace { offset, len } => self.misplace(host, step.end as u32 % 4, offset, len),
            action => {
                if let Some(owner) = self.hosts[host].nth(step.end) {
                    self.act(host, owner, action);
                }
            }
        }
    }

    /// Something happens to an end.
    fn act(&mut self, host: usize, owner: Owner, action: Action) {
        let held = self.hosts[host].ends[&owner].held;
        match action {
            Action::Grow { limit, elapsed } => {
                self.now += elapsed;
                self.grow(host, owner, limit);
            }
            Action::Resize { log2 } => self.resize(host, owner, 1 << log2),
            Action::Tell { sent } => _ = self.tell(host, owner, sent),
            _ if !held => {}
            Action::Write { max } => _ = self.write(host, owner, max),
            Action::Read { max } => _ = self.read(host, owner, max),
            Action::Post { max } => self.post(host, owner, max),
            Action::Take => self.take(host, owner),
            Action::Finish => self.end(host, owner).sender.finish(),
            Action::Close { discard } => self.close(host, owner, discard),
            Action::Abort => self.abort(host, owner),
            _ => unreachable!(),
        }
    }

    fn end(&mut self, host: usize, owner: Owner) -> &mut End {
        self.hosts[host].ends.get_mut(&owner).unwrap()
    }

    /// A mad peer of `host` changes what it says in the last state that is on its way.
    fn distort(&mut self, host: usize, word: usize, how: u8, value: u64) {
        let wire = &mut self.wires[host];
        let Some(write) = wire.writes.iter_mut().rev().find(|w| matches!(w.tag.kind, Kind::State | Kind::Done)) else {
            return;
        };
        let at = &mut write.bytes[word * 8..][..8];
        let old = u64::from_be_bytes((&*at).try_into().unwrap());
        let new = match how % 4 {
            0 => old ^ 1 << (value % 64),
            1 => old.wrapping_add(value % 10_000),
            2 => old.wrapping_sub(value % 10_000),
            _ => value,
        };
        at.copy_from_slice(&new.to_be_bytes());
        let index = write.tag.index;
        // It may have landed already: then it has gone mad a little later.
        let (offset, bytes) = (slot_offset(index), write.bytes.clone());
        self.hosts[host].memory.write_slot(offset, &bytes);
        self.mad = Some(1 - host);
        // It may be about a stream to come, and may make the host write to others of the mad peer's.
        self.wild |= self.hosts[host].owner(index).is_none() || word == 0;
        if let Some(owner) = self.hosts[host].owner(index) {
            let id = self.hosts[host].ends[&owner].id;
            self.tainted.insert(id);
        }
    }

    /// A mad peer of `host` writes anywhere.
    fn misplace(&mut self, host: usize, index: u32, offset: u64, len: usize) {
        let offset = RINGS + offset;
        let len = len.min((EXPORT - offset) as usize);
        (self.mad, self.wild) = (Some(1 - host), true);
        self.send(1 - host, vmmc_sockets::proto::Tag::data(index), offset, vec![0xbd; len]);
    }

    /// Everything is told, lands and is announced, until nothing happens any more.
    fn settle(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut more = false;
            for host in 0..2 {
                for owner in self.hosts[host].ends.keys().copied().collect::<Vec<_>>() {
                    if self.hosts[host].ends.contains_key(&owner) {
                        more |= self.tell(host, owner, true);
                    }
                }
                more |= self.land(host, usize::MAX);
                more |= self.notify(host, usize::MAX);
            }
            if !more {
                return any;
            }
            any = true;
        }
    }

    /// The programs read all there is, write something more, which must find room, and then no more. Then every stream must have come to its
    /// end, and nothing must be left.
    fn conclude(&mut self) {
        self.each_held(|world, host, owner| world.take(host, owner));
        let mut wrote = BTreeMap::new();
        self.exhaust(|world, host, owner| {
            let wrote = wrote.entry((host, owner)).or_insert(0);
            let len = world.write(host, owner, LAST - *wrote);
            *wrote += len;
            len > 0
        });
        self.each_held(|world, host, owner| {
            let end = world.end(host, owner);
            let stuck = end.life.is_open() && !end.sender.is_over() && wrote.get(&(host, owner)) != Some(&LAST);
            assert!(!stuck || world.mad.is_some(), "there is no more credit");
        });
        self.exhaust(|world, host, owner| {
            world.end(host, owner).sender.finish();
            false
        });
        self.each_held(|world, host, owner| world.check_end(host, owner));
        self.each_held(|world, host, owner| world.close(host, owner, false));
        self.settle();
        for host in &self.hosts {
            host.check_pool();
            if self.mad.is_none() {
                assert!(host.is_empty() && host.memory.is_free(), "something is left");
            }
        }
    }

    /// Everything arrives and is read, and `act` is done to each end, as long as there is anything.
    fn exhaust(&mut self, mut act: impl FnMut(&mut World, usize, Owner) -> bool) {
        loop {
            let mut more = self.settle();
            self.each_held(|world, host, owner| {
                more |= act(world, host, owner);
                more |= world.read(host, owner, usize::MAX) > 0;
            });
            if !(more | self.settle()) {
                return;
            }
        }
    }

    fn each_held(&mut self, mut act: impl FnMut(&mut World, usize, Owner)) {
        for host in 0..2 {
            let held = self.hosts[host].ends.iter().filter(|(_, end)| end.held);
            for owner in held.map(|(&owner, _)| owner).collect::<Vec<_>>() {
                act(self, host, owner);
            }
        }
    }

    /// All that the peer has written has been read.
    fn check_end(&mut self, host: usize, owner: Owner) {
        let end = &self.hosts[host].ends[&owner];
        let conn = &self.conns[&end.id];
        if self.mad.is_some() || end.refused || conn.may_reset {
            return;
        }
        assert!(end.life.is_open() && !end.life.is_reset());
        assert!(end.receiver.at_end() && end.receiver.readable() == 0, "no end after {}", end.receiver.consumed());
        assert_eq!(end.receiver.consumed(), conn.wrote[1 - host], "bytes are missing");
        assert!(end.receiver.ring_len() >= MIN_RING);
    }
}
