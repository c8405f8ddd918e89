//! Whose transfer the receiver grants next.
//!
//! The lane has one fill ring, and its places are used in the order posted. So there are few open grants at a time: two of one peer, so that it needn't wait
//! for a round trip between them; or another peer's when the former's places are nearly used up. Peers take turns, and each peer's requests are granted in the
//! order they came.

use std::collections::VecDeque;
use std::ops::Range;

use crate::time::Time;

/// Requests of one peer that wait, at most.
const MAX_WAITING: usize = 16;

/// Open grants at most.
const MAX_OPEN: usize = 2;

/// What a peer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The peer: our token of the link.
    pub peer: u64,
    /// Its number of the transfer.
    pub transfer: u32,
    /// Entries of the fill ring that it takes.
    pub entries: u32,
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
    /// It has not long ago left a grant unused.
    #[error("the peer left a grant unused not long ago")]
    Distrusted,
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
    distrusted: Vec<(u64, Time)>,
}

impl Schedule {
    /// For a lane that grants at most `entries` entries of the fill ring to one transfer. Another peer's is opened when not more than `few` entries of the open
    /// ones are unused.
    pub(crate) fn new(entries: u32, few: u32) -> Schedule {
        Schedule { entries, few, waiting: VecDeque::new(), open: Vec::new(), distrusted: Vec::new() }
    }

    /// A peer asks for a grant.
    ///
    /// # Errors
    /// Why it gets none.
    pub(crate) fn request(&mut self, now: Time, request: Request) -> Result<(), Declined> {
        self.distrusted.retain(|&(_, until)| now < until);
        if self.distrusted.iter().any(|&(peer, _)| peer == request.peer) {
            return Err(Declined::Distrusted);
        }
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
    /// open ones haven't been used. Nothing overtakes a request that waits for room.
    pub(crate) fn next(&mut self, room: u32, unused: u32) -> Option<Request> {
        let (peer, queue) = self.waiting.front()?;
        let request = queue.front()?;
        let same = self.open.iter().all(|open| open.peer == *peer);
        let apart = self.open.iter().all(|open| open.arena != request.arena || disjoint(&open.range, &request.range));
        let may = self.open.len() < MAX_OPEN && (same || unused <= self.few) && apart && request.entries <= room;
        if !may {
            return None;
        }
        let (peer, mut queue) = self.waiting.pop_front()?;
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

    /// The peer gets no grants before `until`. Returns what it had waiting, which is to be declined. What is open stays so.
    pub(crate) fn distrust(&mut self, now: Time, peer: u64, until: Time) -> Vec<Request> {
        self.distrusted.retain(|&(other, until)| other != peer && now < until);
        self.distrusted.push((peer, until));
        self.take_waiting(peer)
    }

    /// Of each peer that has transfers waiting, the first.
    pub(crate) fn first_waiting(&self) -> Vec<(u64, u32)> {
        let first = |(peer, queue): &(u64, VecDeque<Request>)| Some((*peer, queue.front()?.transfer));
        self.waiting.iter().filter_map(first).collect()
    }

    /// One of the transfers that wait is waited for no more.
    pub(crate) fn cancel(&mut self, peer: u64, transfer: u32) {
        for (_, queue) in self.waiting.iter_mut().filter(|(of, _)| *of == peer) {
            queue.retain(|request| request.transfer != transfer);
        }
        self.waiting.retain(|(_, queue)| !queue.is_empty());
    }

    /// What a peer has waiting is waited for no more.
    pub(crate) fn withdraw(&mut self, peer: u64) {
        self.take_waiting(peer);
    }

    /// The peer is gone. Returns those of its requests that were open: their memory isn't free before the port was reopened.
    pub(crate) fn forget(&mut self, peer: u64) -> Vec<Request> {
        self.distrusted.retain(|&(other, _)| other != peer);
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
