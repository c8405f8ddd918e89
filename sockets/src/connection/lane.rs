//! Writing by the bulk lane: long writes go into a ring that the lane writes by itself, from where they lie, or, if the stack is to do that, from a copy that is made once.
//!
//! What goes by the lane and what doesn't may overtake each other, and a stream's bytes may not. So as long as something of a stream is on the lane nothing of it
//! goes another way, and the peer isn't told of its end. Other streams don't care.
//!
//! ```text
//!   write     20 B      1 MiB        20 B                  1 MiB
//!             packets   lane, lane   waits ... packets     lane, lane
//! ```
//!
//! A short write that has to wait costs more than the lane saves. So the more often that happens, the longer is a write that takes the lane.

use std::sync::{Arc, Mutex};

use vmmc::memory::Origin;
use vmmc::{Buffer, DirectSource, Import, Node, Ticket};

use super::{Connection, Tx};
use crate::proto::layout::SESSION_LEN;
use crate::proto::{Kind, Outgoing, Tag};
use crate::stack::Inner;
use crate::wait::lock;

/// What is shorter isn't worth a transfer, unless it would have to wait otherwise. Bytes.
const WORTH: usize = 64 << 10;

/// The least that goes by the lane at all, bytes.
const TINY: usize = 1 << 10;

/// Whatever comes between them, writes as long as this are worth it. Bytes.
const HIGHEST_FLOOR: usize = 8 << 20;

/// After so many bytes what didn't pay is tried again: the peer may have room by now, and the program may write otherwise.
const TRY_AGAIN: u64 = 64 << 20;

/// When so many bytes have gone the other way the peer is told that a ring that the lane writes is of no use.
const GIVE_UP: u64 = 8 << 20;

/// How much is copied, and sent, at once: so little that all that is under way stays in a processor's cache. Bytes.
const CHUNK: usize = 256 << 10;

/// How many chunks a stack has at the most.
const CHUNKS: usize = 16;

/// Where bytes lie that can be sent from there, and which of them is the first.
pub(crate) type Owned<'a> = (&'a DirectSource, usize);

/// What is to become of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// So many of its bytes go by the lane.
    Lane(usize),
    /// It has to wait.
    Wait,
    /// It goes as packets.
    Packets,
}

/// What a stream has on the lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Of what was sent last, if that may not have arrived.
    last: Option<Ticket>,
    /// The shortest write that goes by it, bytes.
    floor: usize,
    /// A short write waits for the lane.
    waits: bool,
    /// When the peer was asked for a ring that the lane writes: in which epoch, at which position.
    asked: Option<(u32, u64)>,
    /// How many bytes have gone the other way since.
    beside: u64,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { last: None, floor: WORTH, waits: false, asked: None, beside: 0 }
    }
}

/// Memory that long writes are copied to, and sent from.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    /// Those used last are at the end.
    chunks: Mutex<Vec<DirectSource>>,
}

/// A buffer that was sent from.
fn buffer(origin: Origin) -> Option<Buffer> {
    match origin {
        Origin::Buffer(buffer) => Arc::into_inner(buffer),
        _ => None,
    }
}

impl Staging {
    /// A chunk that nobody uses: the one that was used last, because it is the likeliest to be in the cache.
    fn take(&self, node: &Node, import: &Import) -> Option<Buffer> {
        let mut chunks = lock(&self.chunks);
        let free = |chunks: &[DirectSource]| chunks.iter().rposition(DirectSource::is_free);
        // What the kernel has given back may not have been looked for.
        let look = || chunks.first().is_some_and(|chunk| import.has_let_go(chunk));
        if let Some(at) = free(&chunks).or_else(|| look().then(|| free(&chunks)).flatten()) {
            return chunks.remove(at).into_origin().ok().and_then(buffer);
        }
        let more = chunks.len() < CHUNKS;
        drop(chunks);
        more.then(|| node.alloc_direct(CHUNK).ok()).flatten()
    }

    /// It is in use, or free again.
    fn give(&self, chunk: DirectSource) {
        lock(&self.chunks).push(chunk);
    }
}

impl Connection {
    /// Whether all has arrived that was sent by the lane.
    fn is_lane_idle(&self, lane: &mut Lane) -> bool {
        if let Some(last) = &lane.last {
            let import = self.session.direct.import();
            // What a lost session had under way doesn't arrive any more.
            if import.is_none_or(|import| import.is_delivered(last).unwrap_or(true)) {
                lane.last = None;
            }
        }
        lane.last.is_none()
    }

    /// Whether the peer mustn't hear this yet: it says that no more comes, and more does.
    pub(super) fn must_wait(&self, out: &Outgoing) -> bool {
        let end = out.tag.kind == Kind::Done || out.state.reset || out.state.finish.is_some();
        end && !self.is_lane_idle(&mut lock(&self.tx).lane)
    }

    /// Writes the first of these bytes by the lane, if they are to go by it. `owned` is where they lie, if they can be sent from there.
    pub(super) fn write_by_lane(
        &self,
        inner: &Inner,
        tx: &mut Tx,
        bytes: &[u8],
        owned: Option<Owned<'_>>,
        tag: u32,
    ) -> Result<Way, vmmc::Error> {
        let busy = !self.is_lane_idle(&mut tx.lane);
        let otherwise = if busy { Way::Wait } else { Way::Packets };
        let least = if owned.is_some() { inner.settings.bulk_owned } else { inner.settings.bulk_writes };
        let long =
            bytes.len() >= tx.lane.floor.max(least) && self.session.lane_from().is_some_and(|from| bytes.len() >= from);
        if long {
            self.ask_for_ring(tx);
        }
        let Some(import) = self.session.direct.import() else { return Ok(otherwise) };
        let goes = long || busy && bytes.len() >= TINY && least < usize::MAX;
        if !goes {
            if busy && !std::mem::replace(&mut tx.lane.waits, true) {
                tx.lane.floor = (tx.lane.floor * 2).min(HIGHEST_FLOOR);
            }
            return Ok(otherwise);
        }
        let wanted = match owned {
            Some(_) => bytes.len(),
            // Pieces of one length, rather than long ones and a short one.
            None => bytes.len().div_ceil(bytes.len().div_ceil(CHUNK).max(1)),
        };
        let Some(piece) = tx.sender.next(wanted).filter(|piece| piece.offset >= SESSION_LEN) else {
            return Ok(otherwise);
        };
        // Up to where the ring goes round it is no use to wait for more room.
        let is_cut = piece.len < wanted.min(tx.sender.writable());
        if piece.len < wanted.min(WORTH) && !(is_cut && busy && piece.len >= TINY) {
            return Ok(otherwise);
        }
        if import.direct_from().is_none() {
            return Ok(otherwise);
        }
        let turns = &self.session.direct.turns;
        if busy && turns.are_awaited() {
            return Ok(Way::Wait);
        }
        if !import.has_direct_room() {
            if !busy {
                turns.await_one();
            }
            return Ok(Way::Wait);
        }
        let offset = piece.offset - SESSION_LEN;
        let sent = match owned {
            Some((source, at)) => import.try_send_direct(source, at..at + piece.len, offset).notify(tag).now(),
            None => {
                let Some(mut chunk) = inner.staging.take(&inner.node, import) else { return Ok(otherwise) };
                chunk[..piece.len].copy_from_slice(&bytes[..piece.len]);
                let source = DirectSource::of_buffer(Arc::new(chunk));
                let sent = import.try_send_direct(&source, 0..piece.len, offset).notify(tag).now();
                inner.staging.give(source);
                sent
            }
        };
        let sent = match sent {
            // It has just been lost.
            Err(_) if import.direct_from().is_none() => return Ok(otherwise),
            sent => sent?,
        };
        if sent.bytes == 0 {
            // Somebody else was faster, or it is too short for this lane.
            return Ok(otherwise);
        }
        (tx.last, tx.lane.last) = (sent.ticket, sent.ticket);
        (tx.lane.waits, tx.lane.beside) = (false, 0);
        tx.lane.floor = (tx.lane.floor - tx.lane.floor / 16).max(WORTH);
        Ok(Way::Lane(sent.bytes))
    }

    /// So many bytes have been written as packets.
    pub(super) fn wrote_packets(&self, tx: &mut Tx, bytes: usize) {
        let before = tx.lane.beside;
        tx.lane.waits = false;
        tx.lane.beside += bytes as u64;
        let is_direct = || tx.sender.next(1).is_some_and(|piece| piece.offset >= SESSION_LEN);
        if before / GIVE_UP != tx.lane.beside / GIVE_UP && is_direct() {
            // If there is no room for that now it is said later.
            self.say(tx, Tag::short);
        }
        if before / TRY_AGAIN != tx.lane.beside / TRY_AGAIN {
            tx.lane.floor = (tx.lane.floor / 2).max(WORTH);
        }
    }

    /// Asks the peer for a ring that the lane writes, unless it has one, or was asked.
    fn ask_for_ring(&self, tx: &mut Tx) {
        let Some(piece) = tx.sender.next(1) else { return };
        let (epoch, at) = (tx.sender.progress().confirm.epoch, tx.sender.position());
        let was_asked = tx.lane.asked.is_some_and(|(of, when)| of == epoch && at < when + TRY_AGAIN);
        // If there is no room for that now, the next long write asks.
        if piece.offset < SESSION_LEN && !was_asked && self.say(tx, Tag::long) {
            tx.lane.asked = Some((epoch, at));
        }
    }

    /// Says something about the stream that has no bytes. Returns whether there was room for that.
    fn say(&self, tx: &Tx, what: impl Fn(u32) -> Tag) -> bool {
        let (Some(import), Some(target)) = (self.import(), tx.target) else { return false };
        import.try_send(&[], 0).notify(what(target).to_u32()).now().is_ok_and(|sent| sent.complete)
    }

    /// What was written last by the lane, and may not have arrived. What has gone as packets since then was copied.
    pub(crate) fn last_by_lane(&self) -> Option<Ticket> {
        lock(&self.tx).lane.last
    }

    /// Whether that has arrived, or never will. If not, writers are woken when it may have.
    pub(crate) fn has_arrived(&self, sent: &Option<Ticket>) -> bool {
        let (Some(sent), Some(import)) = (sent, self.session.direct.import()) else { return true };
        let arrived = || import.is_delivered(sent).unwrap_or(true);
        // It may have arrived before the stream was on the list.
        arrived() || self.session.is_awaiting(self.index) && arrived()
    }

    /// A buffer that was written from, once [that has arrived](Connection::has_arrived), or never will.
    ///
    /// # Panics
    /// When somebody else has it, too: that would be a mistake of this library.
    pub(crate) fn take_back(&self, source: DirectSource) -> Buffer {
        let source = match self.session.direct.import() {
            Some(import) => import.take_back(source),
            None => source.into_origin(),
        };
        source.ok().and_then(buffer).expect("a buffer that was written from is still in use")
    }
}
