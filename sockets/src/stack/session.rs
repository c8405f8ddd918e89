//! A session: what two stacks have between them, whatever the number of their streams.
//!
//! Each exports one buffer to the other, with the slots and rings of all streams, and imports the other's. Who wants to connect *knocks* first: an empty
//! send to the other's door, a public export that every stack has.
//!
//! ```text
//!   A                                          B
//!   exports streams/B, imports the door ------>
//!   knock -----------------------------------> exports streams/A, imports streams/B
//!   imports streams/A <----------------------- hello, into streams/B
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use vmmc::{Export, Import};

use super::Inner;
use super::direct::Direct;
use crate::connection::Connection;
use crate::error::SocketError;
use crate::proto::layout::{DIRECT_LEN, MIN_RING, REQUESTS, SESSION_LEN, STREAMS};
use crate::proto::{Outgoing, Pool, RingGrant};
use crate::wait::{Watch, lock};

/// The length of a stream's first ring, bytes, as long as there is plenty of room: credit is given rarely, and an idle stream has it no longer than a second.
const FIRST_RING: u64 = 16 << 10;

/// How far it has come.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The peer hasn't answered yet.
    Opening,
    /// Streams can be opened.
    Ready,
    /// It is over, for this reason.
    Dead(Arc<vmmc::Error>),
}

/// The streams of a session.
#[derive(Debug)]
pub(super) struct Streams {
    slots: Vec<Option<Arc<Connection>>>,
    free: Vec<u32>,
    pub pool: Pool,
    /// Of the direct export.
    pub direct: Pool,
    requests: Vec<u32>,
    /// The session is over.
    closed: bool,
    /// Answers to connects that found no room on the link.
    pub refusals: VecDeque<Outgoing>,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: u64,
    /// The peer's node.
    pub peer: SocketAddr,
    pub export: Export,
    /// The length of the longest ring that a stream may have, bytes.
    largest: u64,
    pub import: OnceLock<Import>,
    pub direct: Direct,
    /// The peer's door, until the peer has come through ours.
    pub door: OnceLock<Import>,
    opening: AtomicBool,
    pub knocked: AtomicBool,
    phase: Mutex<Phase>,
    /// Who waits for it to be open, or for a request slot.
    pub opened: Watch,
    pub(super) streams: Mutex<Streams>,
    /// Streams that have something to say and found no room on the link.
    pub(super) mute: Mutex<Vec<u32>>,
    /// Streams whose writers found none.
    pub(super) stuck: Mutex<Vec<u32>>,
    /// Streams some of whose writers wait until something has arrived. Others may write meanwhile, and so these don't count as stuck.
    pub(super) awaiting: Mutex<Vec<u32>>,
    /// Streams with rings that are larger than the smallest.
    pub large: AtomicUsize,
}

/// A request slot, given back when the connect was answered.
#[derive(Debug)]
pub(crate) struct RequestSlot(pub u32);

impl Session {
    pub(super) fn new(id: u64, peer: SocketAddr, export: Export, largest: u64) -> Session {
        let pool = Pool::new(export.len() as u64);
        let streams = Streams {
            slots: Vec::new(),
            free: Vec::new(),
            pool,
            direct: Pool::over(SESSION_LEN..SESSION_LEN + DIRECT_LEN),
            requests: (0..REQUESTS).rev().collect(),
            closed: false,
            refusals: VecDeque::new(),
        };
        Session {
            id,
            peer,
            export,
            largest,
            import: OnceLock::new(),
            direct: Direct::default(),
            door: OnceLock::new(),
            opening: AtomicBool::new(false),
            knocked: AtomicBool::new(false),
            phase: Mutex::new(Phase::Opening),
            opened: Watch::default(),
            streams: Mutex::new(streams),
            mute: Mutex::default(),
            stuck: Mutex::default(),
            awaiting: Mutex::default(),
            large: AtomicUsize::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    /// Whether nobody has begun to open it.
    pub(super) fn begin_opening(&self) -> bool {
        matches!(self.phase(), Phase::Opening) && !self.opening.swap(true, Ordering::SeqCst)
    }

    /// The next who wants it open knocks once more.
    pub(super) fn open_again(&self) {
        self.knocked.store(false, Ordering::SeqCst);
        self.opening.store(false, Ordering::SeqCst);
    }

    /// Lets go of the streams. There won't be others.
    pub(super) fn clear(&self) -> Vec<Arc<Connection>> {
        let mut streams = lock(&self.streams);
        streams.closed = true;
        std::mem::take(&mut streams.slots).into_iter().flatten().collect()
    }

    /// The import is there: streams can be opened. Returns whether that is news.
    pub(super) fn set_ready(&self) -> bool {
        let mut phase = lock(&self.phase);
        let news = matches!(*phase, Phase::Opening);
        if news {
            *phase = Phase::Ready;
        }
        news
    }

    /// It is over. Returns whether that is news.
    pub(super) fn set_dead(&self, error: Arc<vmmc::Error>) -> bool {
        let mut phase = lock(&self.phase);
        let news = !matches!(*phase, Phase::Dead(_));
        if news {
            *phase = Phase::Dead(error);
        }
        news
    }

    /// The stream of this index.
    pub(crate) fn stream(&self, index: u32) -> Option<Arc<Connection>> {
        lock(&self.streams).slots.get(index as usize)?.clone()
    }

    /// All streams.
    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        lock(&self.streams).slots.iter().flatten().cloned().collect()
    }

    /// Makes a stream, with an index and a ring of its own. `None` when there are too many, or the session is over.
    pub(super) fn add(&self, make: impl FnOnce(u32, RingGrant) -> Arc<Connection>) -> Option<Arc<Connection>> {
        let mut streams = lock(&self.streams);
        if streams.closed {
            return None;
        }
        let index = match streams.free.pop() {
            Some(index) => index,
            None if streams.slots.len() < STREAMS as usize => {
                streams.slots.push(None);
                streams.slots.len() as u32 - 1
            }
            None => return None,
        };
        // Where there is enough for all it is no waste: memory is taken only as it is written.
        let plenty = streams.pool.used() < streams.pool.total() / 2;
        let lengths = [if plenty { FIRST_RING.min(self.largest) } else { MIN_RING }, MIN_RING];
        let ring = lengths.into_iter().find_map(|len| Some(RingGrant::new(streams.pool.alloc(len)?, len, 0)));
        let Some(ring) = ring else {
            streams.free.push(index);
            return None;
        };
        if ring.bytes() > MIN_RING {
            self.large.fetch_add(1, Ordering::Relaxed);
        }
        let connection = make(index, ring);
        streams.slots[index as usize] = Some(connection.clone());
        Some(connection)
    }

    /// Both sides have said all about a stream, and nobody reads it any more: its index and rings are free.
    pub(crate) fn remove(&self, index: u32, rings: impl Iterator<Item = (u64, u64)>) {
        let mut streams = lock(&self.streams);
        let Some(connection) = streams.slots.get_mut(index as usize).and_then(Option::take) else { return };
        for ring in rings {
            self.give_back(&mut streams, ring, true);
        }
        // The next stream of this index is another.
        self.unstick(index);
        streams.free.push(index);
        drop(streams);
        drop(connection);
    }

    /// A ring isn't needed any more.
    pub(crate) fn free_ring(&self, offset: u64, len: u64) {
        self.give_back(&mut lock(&self.streams), (offset, len), false);
    }

    /// With `keep` its memory is left in the pool: the next stream is likely to want it soon.
    fn give_back(&self, streams: &mut Streams, (offset, len): (u64, u64), keep: bool) {
        if len > MIN_RING {
            self.large.fetch_sub(1, Ordering::Relaxed);
            if !keep || len > FIRST_RING {
                // If it can't be it is only memory that isn't saved.
                let _ = self.discard(offset..offset + len);
            }
        }
        if offset >= SESSION_LEN { streams.direct.free(offset, len) } else { streams.pool.free(offset, len) }
    }

    /// A ring of this length, if there is room.
    pub(crate) fn ring(&self, len: u64) -> Option<u64> {
        self.ring_in(len, false)
    }

    /// Likewise, in the direct export or not.
    pub(super) fn ring_in(&self, len: u64, direct: bool) -> Option<u64> {
        let mut streams = lock(&self.streams);
        let offset = if direct { streams.direct.alloc(len) } else { streams.pool.alloc(len) }?;
        drop(streams);
        if len > MIN_RING {
            self.large.fetch_add(1, Ordering::Relaxed);
        }
        Some(offset)
    }

    /// The longest ring that a stream may have now: an eighth of what is free.
    pub(crate) fn ring_limit(&self) -> u64 {
        let streams = lock(&self.streams);
        let free = streams.pool.total() - streams.pool.used();
        (free / 8).min(self.largest)
    }

    /// A slot for a connect, if there is one.
    pub(crate) fn take_request(&self) -> Option<RequestSlot> {
        lock(&self.streams).requests.pop().map(RequestSlot)
    }

    /// The connect was answered.
    pub(crate) fn give_request(&self, slot: RequestSlot, inner: &Inner) {
        lock(&self.streams).requests.push(slot.0);
        self.opened.wake(&inner.waiting, &mut Vec::new());
    }

    /// A stream that has something to say found no room. Returns whether that is news: then it has to try again, because there may be room since.
    pub(crate) fn is_mute(&self, index: u32) -> bool {
        note(&self.mute, index)
    }

    /// Likewise for its writers.
    pub(crate) fn is_stuck(&self, index: u32) -> bool {
        note(&self.stuck, index)
    }

    /// Likewise for writers who wait until something has arrived that was sent by the bulk lane.
    pub(crate) fn is_awaiting(&self, index: u32) -> bool {
        note(&self.awaiting, index)
    }

    /// This stream's writers have found room again.
    pub(crate) fn unstick(&self, index: u32) {
        lock(&self.stuck).retain(|other| *other != index);
    }

    /// Whether this stream's writers found no room.
    pub(crate) fn was_stuck(&self, index: u32) -> bool {
        lock(&self.stuck).contains(&index)
    }

    /// Whether no stream has anything to say for which there was no room.
    pub(super) fn has_said_all(&self) -> bool {
        let silent = || lock(&self.mute).is_empty() && lock(&self.streams).refusals.is_empty();
        matches!(self.phase(), Phase::Dead(_)) || silent()
    }

    /// Why a stream of a dead session is over.
    pub(crate) fn loss(&self, peer: SocketAddr) -> SocketError {
        match self.phase() {
            Phase::Dead(why) => SocketError::Lost { peer, why: why.to_string() },
            _ => SocketError::Reset { peer },
        }
    }
}

fn note(list: &Mutex<Vec<u32>>, index: u32) -> bool {
    let mut list = lock(list);
    let news = !list.contains(&index);
    if news {
        list.push(index);
    }
    news
}
