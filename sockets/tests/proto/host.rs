//! One host's part: a small stack around the protocol, as the real one is, and the programs that use its streams.

use std::collections::BTreeMap;

use vmmc_sockets::proto::layout::{MIN_RING, request_offset, slot_offset};
use vmmc_sockets::proto::slot::{REQUEST_LEN, STATE_LEN};
use vmmc_sockets::proto::{
    Answer, Growth, Kind, Life, Pool, Receiver, Request, RingGrant, Sender, State, Tag, Violation,
};

use crate::memory::{Memory, Owner};
use crate::world::{EXPORT, World, Write, content};

/// So few that they are used again soon.
const INDICES: u32 = 4;
const REQUESTS: u32 = 2;

/// One end of a stream.
pub struct End {
    pub id: u32,
    pub life: Life,
    pub sender: Sender,
    pub receiver: Receiver,
    growth: Growth,
    /// None when the index was given back.
    index: Option<u32>,
    request: Option<u32>,
    /// Whether a program has it.
    pub held: bool,
    pub refused: bool,
}

/// One host.
pub struct Host {
    me: usize,
    pub memory: Memory,
    pub pool: Pool,
    indices: BTreeMap<u32, Owner>,
    requests: [bool; REQUESTS as usize],
    pub ends: BTreeMap<Owner, End>,
    next_owner: Owner,
}

impl Host {
    pub fn new(me: usize) -> Host {
        Host {
            me,
            memory: Memory::new(EXPORT),
            pool: Pool::new(EXPORT),
            indices: BTreeMap::new(),
            requests: [false; REQUESTS as usize],
            ends: BTreeMap::new(),
            next_owner: 0,
        }
    }

    /// Which end has the index.
    pub fn owner(&self, index: u32) -> Option<Owner> {
        self.indices.get(&index).copied()
    }

    /// The key of the `nth` end.
    pub fn nth(&self, nth: usize) -> Option<Owner> {
        self.ends.keys().nth(nth % self.ends.len().max(1)).copied()
    }

    fn free_index(&self) -> Option<u32> {
        (0..INDICES).find(|index| !self.indices.contains_key(index))
    }

    /// Memory for an end, and its key.
    fn ring(&mut self) -> Option<(Owner, u64)> {
        let offset = self.pool.alloc(MIN_RING)?;
        self.next_owner += 1;
        self.memory.own(self.next_owner, (offset, MIN_RING));
        Some((self.next_owner, offset))
    }

    fn give_back(&mut self, owner: Owner, ring: (u64, u64)) {
        self.memory.disown(owner, ring);
        self.pool.free(ring.0, ring.1);
    }

    /// Nothing is left of anything.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.indices.is_empty() && !self.requests.contains(&true) && self.pool.used() == 0
    }

    /// What is taken from the pool belongs to an end.
    pub fn check_pool(&self) {
        let rings = self.ends.values().flat_map(|end| end.receiver.rings().collect::<Vec<_>>());
        assert_eq!(self.pool.used(), rings.map(|(_, len)| len).sum::<u64>(), "rings are lost at {}", self.me);
    }
}

impl World {
    /// A program connects.
    pub fn connect(&mut self, me: usize) {
        let id = self.conns.len() as u32;
        let host = &mut self.hosts[me];
        let Some(index) = host.free_index() else { return };
        let Some(request) = (0..REQUESTS).find(|&request| !host.requests[request as usize]) else { return };
        let Some((owner, offset)) = host.ring() else { return };
        let grant = RingGrant::new(offset, MIN_RING, 0);
        host.requests[request as usize] = true;
        host.indices.insert(index, owner);
        host.ends.insert(
            owner,
            End {
                id,
                life: Life::requested(index, grant),
                sender: Sender::new(None),
                receiver: Receiver::new(offset, MIN_RING),
                growth: Growth::new(self.now),
                index: Some(index),
                request: Some(request),
                held: true,
                refused: false,
            },
        );
        self.conns.entry(id).or_default();
        let message = Request { peer: index, from: (id >> 16) as u16, to: id as u16, grant };
        self.send(me, Tag::request(request), request_offset(request), message.emit().to_vec());
    }

    fn on_request(&mut self, me: usize, slot: u32) {
        let host = &mut self.hosts[me];
        let bytes: [u8; REQUEST_LEN] = host.memory.slot(request_offset(slot), REQUEST_LEN).try_into().unwrap();
        let Ok(request) = Request::parse(&bytes, EXPORT) else {
            assert!(self.mad == Some(1 - me), "an honest request is refused");
            return;
        };
        let id = u32::from(request.from) << 16 | u32::from(request.to);
        let Some(index) = host.free_index().filter(|_| !(id + 1).is_multiple_of(5)) else {
            let out = Life::refusal(request.peer, id.is_multiple_of(2));
            return self.send(me, out.tag, slot_offset(out.slot), out.state.emit().to_vec());
        };
        let Some((owner, offset)) = host.ring() else {
            let out = Life::refusal(request.peer, true);
            return self.send(me, out.tag, slot_offset(out.slot), out.state.emit().to_vec());
        };
        host.indices.insert(index, owner);
        host.ends.insert(
            owner,
            End {
                id,
                life: Life::accepted(index, request.peer),
                sender: Sender::new(Some(request.grant)),
                receiver: Receiver::new(offset, MIN_RING),
                growth: Growth::new(self.now),
                index: Some(index),
                request: None,
                held: true,
                refused: false,
            },
        );
        self.tell(me, owner, true);
    }

    /// A write has been announced to `me`.
    pub fn on_notification(&mut self, me: usize, write: &Write) {
        let Tag { kind, index } = write.tag;
        if kind == Kind::Request {
            return self.on_request(me, index);
        }
        let Some(owner) = self.hosts[me].owner(index) else {
            assert!(self.mad.is_some(), "a notification about no stream");
            return;
        };
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        let result = match kind {
            Kind::Data => end.receiver.on_data(write.offset, write.bytes.len() as u64),
            _ => self.on_slot(me, owner, index),
        };
        if let Err(violation) = result {
            self.violated(me, owner, violation);
        }
        if kind == Kind::Done {
            let end = self.hosts[me].ends.get_mut(&owner).unwrap();
            if let Err(violation) = end.life.on_done(end.receiver.ended(), end.sender.is_over()) {
                self.violated(me, owner, violation);
            }
        }
        self.tidy(me, owner);
    }

    fn on_slot(&mut self, me: usize, owner: Owner, index: u32) -> Result<(), Violation> {
        let host = &mut self.hosts[me];
        let end = host.ends.get_mut(&owner).unwrap();
        let bytes: [u8; STATE_LEN] = host.memory.slot(slot_offset(index), STATE_LEN).try_into().unwrap();
        let state = State::parse(&bytes, EXPORT)?;
        let changes = end.life.on_state(&state)?;
        end.sender.on_state(&state)?;
        assert!(end.sender.is_over() || !changes.stopped && !changes.reset, "nobody would read it");
        end.receiver.on_state(&state)?;
        if let Some(answer) = changes.answered {
            end.refused = answer != Answer::Accepted;
            let request = end.request.take().expect("answered twice");
            assert!(std::mem::take(&mut host.requests[request as usize]));
        }
        if changes.reset && self.mad.is_none() {
            assert!(self.conns[&end.id].may_reset, "stream {} is reset without reason", end.id);
        }
        Ok(())
    }

    fn violated(&mut self, me: usize, owner: Owner, violation: Violation) {
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        if self.mad.is_none() {
            assert!(matches!(violation, Violation::Unwanted { .. }) && end.life.is_closed(), "{violation}");
        }
        self.conns.entry(end.id).or_default().may_reset = true;
        end.life.abort();
        end.sender.stop();
    }

    /// Gives back what isn't needed any more.
    pub fn tidy(&mut self, me: usize, owner: Owner) {
        let host = &mut self.hosts[me];
        let end = host.ends.get_mut(&owner).unwrap();
        if let Some(ring) = end.receiver.free_ring() {
            host.give_back(owner, ring);
        }
        let end = host.ends.get_mut(&owner).unwrap();
        if end.life.is_done()
            && let Some(index) = end.index.take()
        {
            host.indices.remove(&index);
            // Only a mad peer ends a request without an answer.
            if let Some(request) = end.request.take() {
                assert!(self.mad.is_some());
                host.requests[request as usize] = false;
            }
        }
        if end.index.is_none() && !end.held {
            let end = host.ends.remove(&owner).unwrap();
            for ring in end.receiver.rings() {
                host.give_back(owner, ring);
            }
        }
    }

    /// Tells the peer what it should know. Without `sent` there is no room for it, and it has to be done again.
    pub fn tell(&mut self, me: usize, owner: Owner, sent: bool) -> bool {
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        let receipt = end.receiver.receipt();
        let progress = end.sender.progress();
        let Some(out) = end.life.outgoing(receipt, progress) else { return false };
        if !sent {
            return false;
        }
        end.life.sent(&out);
        end.receiver.told(out.state.consumed);
        if end.life.is_reset() && self.mad.is_none() {
            assert!(self.conns[&end.id].may_reset, "stream {} resets without reason", end.id);
        }
        self.send(me, out.tag, slot_offset(out.slot), out.state.emit().to_vec());
        self.tidy(me, owner);
        true
    }

    /// A program writes up to `max` bytes, in two pieces where that is necessary.
    pub fn write(&mut self, me: usize, owner: Owner, max: usize) -> usize {
        let mut wrote = 0;
        while let Some(piece) = self.hosts[me].ends[&owner].sender.next(max - wrote) {
            let end = self.hosts[me].ends.get_mut(&owner).unwrap();
            let start = end.sender.position();
            let bytes = (start..start + piece.len as u64).map(|at| content(end.id, me, at)).collect();
            let tag = Tag::data(end.life.peer().expect("room before the answer"));
            end.sender.wrote(piece.len);
            wrote += piece.len;
            self.conns.entry(end.id).or_default().wrote[me] += piece.len as u64;
            self.send(me, tag, piece.offset, bytes);
        }
        wrote
    }

    /// A program reads up to `max` bytes.
    pub fn read(&mut self, me: usize, owner: Owner, max: usize) -> usize {
        let trusted = self.trusted(me, self.hosts[me].ends[&owner].id);
        let host = &mut self.hosts[me];
        let end = host.ends.get_mut(&owner).unwrap();
        if host.memory.redirects.iter().any(|redirect| redirect.owner == owner) {
            return 0;
        }
        let both = end.receiver.pieces();
        assert_eq!(both[0], end.receiver.front().unwrap_or_default());
        assert!(both[0].len + both[1].len <= end.receiver.readable());
        let mut read = 0;
        while let Some(piece) = end.receiver.front() {
            let len = piece.len.min(max - read);
            if len == 0 {
                break;
            }
            let start = end.receiver.consumed();
            for at in 0..len as u64 {
                let byte = host.memory.read(piece.offset + at, owner);
                assert!(!trusted || byte == Some(content(end.id, 1 - me, start + at)), "byte {} is wrong", start + at);
            }
            end.receiver.consume(len);
            read += len;
        }
        assert!(read > 0 || max == 0 || end.receiver.readable() == 0);
        self.tidy(me, owner);
        read
    }

    /// A program waits for data with a buffer of `max` bytes, which becomes a redirect.
    pub fn post(&mut self, me: usize, owner: Owner, max: usize) {
        let host = &mut self.hosts[me];
        let end = host.ends.get_mut(&owner).unwrap();
        let Some(place) = end.receiver.expected_place(max) else { return };
        assert_eq!(host.memory.owner(place.offset), Some(owner));
        assert_eq!(host.memory.owner(place.offset + place.len as u64 - 1), Some(owner));
        host.memory.redirect(owner, place.offset, place.len as u64);
    }

    /// The redirect is over.
    pub fn take(&mut self, me: usize, owner: Owner) {
        let host = &mut self.hosts[me];
        let Some(at) = host.memory.redirects.iter().position(|redirect| redirect.owner == owner) else { return };
        let redirect = host.memory.redirects.remove(at);
        let end = host.ends.get_mut(&owner).unwrap();
        let (id, start) = (end.id, end.receiver.consumed());
        end.receiver.consume_ahead(redirect.taken.len());
        for (at, &byte) in redirect.taken.iter().enumerate() {
            let right = content(id, 1 - me, start + at as u64);
            assert!(!self.trusted(me, id) || byte == right, "byte {} is wrong", start + at as u64);
        }
        self.tidy(me, owner);
    }

    /// The stream gets another ring.
    pub fn resize(&mut self, me: usize, owner: Owner, len: u64) {
        let host = &mut self.hosts[me];
        let end = host.ends.get_mut(&owner).unwrap();
        if end.life.is_done() || !end.receiver.can_grant() {
            return;
        }
        let Some(offset) = host.pool.alloc(len) else { return };
        host.memory.own(owner, (offset, len));
        assert!(end.receiver.grant(offset, len));
    }

    /// The stream gets another ring if that seems right.
    pub fn grow(&mut self, me: usize, owner: Owner, limit: u64) {
        let now = self.now;
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        if let Some(len) = end.growth.wants(now, &end.receiver, limit) {
            assert_ne!(len, end.receiver.ring_len());
            self.resize(me, owner, len);
        }
    }

    /// A program drops the stream.
    pub fn close(&mut self, me: usize, owner: Owner, discard: bool) {
        self.take(me, owner);
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        if !std::mem::take(&mut end.held) {
            return;
        }
        end.receiver.stop();
        if end.life.close(end.receiver.readable() > 0, discard) {
            self.conns.entry(end.id).or_default().may_reset = true;
            end.sender.stop();
        } else {
            end.sender.finish();
        }
        self.tidy(me, owner);
    }

    /// A program wants the stream to be reset.
    pub fn abort(&mut self, me: usize, owner: Owner) {
        let end = self.hosts[me].ends.get_mut(&owner).unwrap();
        self.conns.entry(end.id).or_default().may_reset = true;
        end.life.abort();
        end.sender.stop();
    }
}
