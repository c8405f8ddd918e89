//! Whose transfer the receiver grants next.
//!
//! The lane has one fill ring, and its places are used in the order posted. So another peer's grant is opened when the places of those that are open are nearly used up. Of one peer
//! several are open at a time, as long as nobody else waits: it needn't wait for a round trip between them, nor until a receiver looks that shares its core with others. Peers take turns,
//! and each peer's requests are granted in the order they came.
//!
//! All places that are posted at a time are of one length. The gate counts packets, and the kernel drops one now and then that was let in: then the next lands one place earlier than the gate
//! believes. If that was of a shorter grant, it would be written past the end.

use std::collections::VecDeque;
use std::ops::Range;

/// Requests of one peer that wait, at most.
const MAX_WAITING: usize = 16;

/// Open grants at most. What a sender may ask for ahead is no more.
const MAX_OPEN: usize = 8;

/// What a peer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The peer: our token of the link.
    pub peer: u64,
    /// Its number of the transfer.
    pub transfer: u32,
    /// Entries of the fill ring that it takes.
    pub entries: u32,
    /// How long its segments are, bytes.
    pub segment: u32,
    /// The arena it lands in, any number that tells it from others.
    pub arena: u64,
    /// Where in it; what headers may fall on included.
    pub range: Range<u64>,
}

/// Why a request is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Declined {
    /// It has too many waiting.
    #[error("{MAX_WAITING} bulk transfers of the peer wait for a grant: no more are taken")]
    Full,
    /// It needs none, or more than the lane ever has.
    #[error("a bulk transfer needs {entries} places, of 1 to {limit}")]
    Entries {
        /// How many it needs.
        entries: u32,
        /// How many there are.
        limit: u32,
    },
    /// It has one of that number.
    #[error("the peer's bulk transfer {0} waits for a grant, or has one")]
    Again(u32),
}

/// Requests that wait, and those that are open.
#[derive(Debug)]
pub(crate) struct Schedule {
    entries: u32,
    few: u32,
    /// Peers that have requests waiting. The first is next.
    waiting: VecDeque<(u64, VecDeque<Request>)>,
    open: Vec<Request>,
}

impl Schedule {
    /// For a lane that grants at most `entries` entries of the fill ring to one transfer. Another peer's is opened when not more than `few` entries of the open
    /// ones are unused.
    pub(crate) fn new(entries: u32, few: u32) -> Schedule {
        Schedule { entries, few, waiting: VecDeque::new(), open: Vec::new() }
    }

    /// A peer asks for a grant.
    ///
    /// # Errors
    /// Why it gets none.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Declined> {
        if !(1..=self.entries).contains(&request.entries) {
            return Err(Declined::Entries { entries: request.entries, limit: self.entries });
        }
        let mut known = self.waiting.iter().flat_map(|(_, queue)| queue).chain(&self.open);
        if known.any(|known| (known.peer, known.transfer) == (request.peer, request.transfer)) {
            return Err(Declined::Again(request.transfer));
        }
        match self.waiting.iter_mut().find(|(peer, _)| *peer == request.peer) {
            Some((_, queue)) if queue.len() >= MAX_WAITING => return Err(Declined::Full),
            Some((_, queue)) => queue.push_back(request),
            None => self.waiting.push_back((request.peer, VecDeque::from([request]))),
        }
        Ok(())
    }

    /// The request to grant now, if any. It is open from now on, until it is [`closed`](Schedule::closed). There are `room` entries free, and `unused` of those of the
    /// open ones haven't been used: those are for packets of `posted` bytes, if there are any. A peer whose first request
    /// isn't `ready` is passed over. Otherwise nothing overtakes a request that waits for room.
    pub(crate) fn next(
        &mut self,
        room: u32,
        unused: u32,
        posted: Option<u32>,
        mut ready: impl FnMut(&Request) -> bool,
    ) -> Option<Request> {
        let turn = self.waiting.iter().position(|(_, queue)| queue.front().is_some_and(&mut ready))?;
        let (peer, queue) = &self.waiting[turn];
        let request = queue.front()?;
        let same = self.open.iter().all(|open| open.peer == *peer);
        let apart = self.open.iter().all(|open| open.arena != request.arena || disjoint(&open.range, &request.range));
        let may = self.open.len() < MAX_OPEN
            && (same || unused <= self.few)
            && posted.is_none_or(|posted| posted == request.segment)
            && apart
            && request.entries <= room;
        if !may {
            return None;
        }
        let (peer, mut queue) = self.waiting.remove(turn)?;
        let request = queue.pop_front()?;
        if !queue.is_empty() {
            self.waiting.push_back((peer, queue));
        }
        self.open.push(request.clone());
        Some(request)
    }

    /// A grant is no more: the transfer is complete, was abandoned, or couldn't be granted after all. Returns whether it was open.
    pub(crate) fn closed(&mut self, peer: u64, transfer: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|open| (open.peer, open.transfer) != (peer, transfer));
        self.open.len() < before
    }

    /// Whether no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The peer whose turn is next, and the first transfer that it waits for.
    pub(crate) fn first_waiting(&self) -> Option<(u64, u32)> {
        let (peer, queue) = self.waiting.front()?;
        Some((*peer, queue.front()?.transfer))
    }

    /// Whether others than this peer have requests that wait, or are open.
    pub(crate) fn others_wait(&self, peer: u64) -> bool {
        self.waiting.iter().any(|(other, _)| *other != peer) || self.open.iter().any(|open| open.peer != peer)
    }

    /// One of the transfers that wait is waited for no more.
    pub(crate) fn cancel(&mut self, peer: u64, transfer: u32) {
        for (_, queue) in self.waiting.iter_mut().filter(|(of, _)| *of == peer) {
            queue.retain(|request| request.transfer != transfer);
        }
        self.waiting.retain(|(_, queue)| !queue.is_empty());
    }

    /// What a peer has waiting is waited for no more, and returned.
    pub(crate) fn withdraw(&mut self, peer: u64) -> Vec<Request> {
        self.take_waiting(peer)
    }

    /// The peer is gone. Returns those of its requests that were open: their memory isn't free before the port was reopened.
    pub(crate) fn forget(&mut self, peer: u64) -> Vec<Request> {
        self.take_waiting(peer);
        self.open.extract_if(.., |open| open.peer == peer).collect()
    }

    fn take_waiting(&mut self, peer: u64) -> Vec<Request> {
        let index = self.waiting.iter().position(|(other, _)| *other == peer);
        index.and_then(|index| self.waiting.remove(index)).map_or_else(Vec::new, |(_, queue)| queue.into())
    }
}

fn disjoint(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.end <= other.start || other.end <= one.start
}

#[cfg(test)]
mod tests;
