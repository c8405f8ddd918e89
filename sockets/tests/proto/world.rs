//! Two hosts and what is on its way between them: in order, but with any delay; in memory before it is announced; a slot word by word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use vmmc_sockets::proto::layout::RINGS;
use vmmc_sockets::proto::{Kind, Tag};

use crate::host::Host;
use crate::memory::Owner;

/// Length of the export of each host: 32 of the smallest rings.
pub const EXPORT: u64 = RINGS + (128 << 10);

/// A remote write.
#[derive(Clone, Debug)]
pub struct Write {
    pub tag: Tag,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// What is on its way to one host.
#[derive(Default)]
pub struct Wire {
    pub writes: VecDeque<Write>,
    /// How many of them are in memory, and not announced.
    landed: usize,
    /// How many bytes of the next, if that is data.
    part: usize,
}

/// A stream, as both its programs should see it. Indices are hosts.
#[derive(Default)]
pub struct Conn {
    /// How much each has written.
    pub wrote: [u64; 2],
    /// Whether somebody has done what resets it.
    pub may_reset: bool,
}

/// Everything.
pub struct World {
    pub hosts: [Host; 2],
    /// By the host that they lead to.
    pub wires: [Wire; 2],
    pub conns: BTreeMap<u32, Conn>,
    /// Streams that a mad peer has meddled with.
    pub tainted: BTreeSet<u32>,
    /// The host that doesn't keep to the protocol.
    pub mad: Option<usize>,
    /// It writes anywhere, so no memory of its session is what it should be.
    pub wild: bool,
    pub now: u64,
}

/// The byte at `position` of what host `writer` writes into stream `id`.
pub fn content(id: u32, writer: usize, position: u64) -> u8 {
    let seed = u64::from(id) << 33 ^ (writer as u64) << 32 ^ position;
    (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl World {
    pub fn new() -> World {
        World {
            hosts: [Host::new(0), Host::new(1)],
            wires: Default::default(),
            conns: BTreeMap::new(),
            tainted: BTreeSet::new(),
            mad: None,
            wild: false,
            now: 0,
        }
    }

    /// Whether what host `host` sees of stream `id` must be right.
    pub fn trusted(&self, host: usize, id: u32) -> bool {
        !self.wild && self.mad != Some(host) && !self.tainted.contains(&id)
    }

    /// Up to `count` bytes of data, or slots, on their way to `host` land.
    pub fn land(&mut self, host: usize, mut count: usize) -> bool {
        let mut any = false;
        while count > 0 && self.wires[host].landed < self.wires[host].writes.len() {
            any = true;
            let wire = &mut self.wires[host];
            let write = wire.writes[wire.landed].clone();
            if write.tag.kind != Kind::Data {
                if self.mad.is_none() && write.tag.kind != Kind::Request {
                    assert!(self.hosts[host].owner(write.tag.index).is_some(), "{write:?} is about no stream");
                }
                self.hosts[host].memory.write_slot(write.offset, &write.bytes);
                (wire.landed, count) = (wire.landed + 1, count - 1);
                continue;
            }
            let owner = self.data_owner(host, write.tag.index);
            let wire = &mut self.wires[host];
            let part = count.min(write.bytes.len() - wire.part);
            for at in wire.part..wire.part + part {
                self.hosts[host].memory.land(write.offset + at as u64, write.bytes[at], owner);
            }
            wire.part += part;
            count -= part;
            if wire.part == write.bytes.len() {
                (wire.landed, wire.part) = (wire.landed + 1, 0);
            }
        }
        any
    }

    /// Whose ring data for stream `index` must go to, if anybody has to keep to that.
    fn data_owner(&self, host: usize, index: u32) -> Option<Owner> {
        if self.mad.is_some() {
            return None;
        }
        Some(self.hosts[host].owner(index).expect("data for a stream that isn't there"))
    }

    /// If the next write to `host` is a state, some of its words are in memory already.
    pub fn land_words(&mut self, host: usize, words: u8) {
        let wire = &self.wires[host];
        let Some(write) = wire.writes.get(wire.landed).filter(|w| matches!(w.tag.kind, Kind::State | Kind::Done))
        else {
            return;
        };
        for (at, word) in write.bytes.chunks(8).enumerate().filter(|(at, _)| words >> at & 1 != 0) {
            self.hosts[host].memory.write_slot(write.offset + 8 * at as u64, word);
        }
    }

    /// Up to `count` writes to `host` that have landed are announced.
    pub fn notify(&mut self, host: usize, count: usize) -> bool {
        let mut any = false;
        for _ in 0..count.min(self.wires[host].landed) {
            self.wires[host].landed -= 1;
            let write = self.wires[host].writes.pop_front().unwrap();
            self.on_notification(host, &write);
            any = true;
        }
        any
    }

    /// Puts a write on its way to the peer of `from`.
    pub fn send(&mut self, from: usize, tag: Tag, offset: u64, bytes: Vec<u8>) {
        self.wires[1 - from].writes.push_back(Write { tag, offset, bytes });
    }
}
