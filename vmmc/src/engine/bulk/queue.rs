//! The transfers to a peer that aren't done: in the order they were asked for, and what waits until they are.

use std::collections::VecDeque;

use super::super::serve::Job;
use super::transfer::Parts;
use crate::bulk::outgoing::{MAX_AHEAD, Outgoing};
use crate::link::Pace;
use crate::memory::DirectSource;
use crate::time::Time;
use crate::wire::record::{Errand, FetchRefusal, Record};

/// How many transfers to a peer may be asked for and not done. Where hosts share their cores with others, it may be some milliseconds until the receiver looks.
const AHEAD: usize = MAX_AHEAD;

/// Of those, how many may answer fetches: so that a long one leaves room for sends.
const AHEAD_OF_FETCHES: usize = AHEAD - 1;

/// A transfer that isn't done.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) number: u32,
    pub(super) import: u32,
    /// `None` when it has been cancelled: nothing more is sent.
    pub(super) source: Option<DirectSource>,
    /// Where in the source it begins.
    pub(super) start: usize,
    pub(super) parts: Parts,
    pub(super) offset: u64,
    pub(super) errand: Errand,
    /// What it serves, as it was before.
    pub(super) job: Option<Job>,
    /// The grant by which all has been sent, and the peer not been told so.
    pub(super) untold: Option<u32>,
    /// It goes as PUTs: so many bytes have been put into packets, the last of them this one.
    pub(super) declined: Option<(usize, u64)>,
    /// All of it has been put into packets.
    pub(super) sent: bool,
    /// PUTs don't wait for it.
    pub(super) piecewise: bool,
}

/// The end of a fetch that has transfers: it is told of once these have ended. Before, its number would be taken for another's.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) request: u32,
    pub(super) reason: FetchRefusal,
    /// Some of it doesn't come. Of what has come to its end all the same the peer is told nothing.
    pub(super) due: bool,
}

impl Transfer {
    pub(super) fn serves(&self, request: u32) -> bool {
        self.errand == Errand::Fetched { request }
    }
}

/// The bytes of a part of a fetch don't come.
pub(super) fn spoil(endings: &mut [Ending], errand: Errand) {
    let of = |ending: &&mut Ending| errand == (Errand::Fetched { request: ending.request });
    endings.iter_mut().filter(of).for_each(|ending| ending.due = true);
}

/// The transfers to a peer.
#[derive(Debug, Default)]
pub(in crate::engine) struct Transfers {
    pub(super) outgoing: Outgoing,
    pub(super) queue: VecDeque<Transfer>,
    /// How many packets may be under way; from the first grant on.
    pub(super) pace: Option<Pace>,
    /// What the peer is to be told once PUTs don't have to wait.
    pub(super) behind: Vec<Record>,
    /// Fetches that are to end.
    pub(super) endings: Vec<Ending>,
    /// Until when no more is asked for, because a send that isn't a transfer waits for its turn: [`Time::FAR`] while it can't have it.
    pub(super) turn: Option<Time>,
    /// Imports whose programs send piecewise, and are to hear when a transfer is over.
    pub(super) listening: Vec<u32>,
    /// One is.
    pub(super) over: bool,
}

impl Transfers {
    /// Whether PUTs have to wait.
    pub(in crate::engine) fn hold(&self) -> bool {
        self.queue.iter().any(|transfer| matches!(transfer.errand, Errand::Put { .. }) && !transfer.piecewise)
    }

    /// Whether any send isn't done.
    pub(in crate::engine) fn are_sending(&self) -> bool {
        self.queue.iter().any(|transfer| matches!(transfer.errand, Errand::Put { .. }))
    }

    /// Whether there are none.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are.
    pub(in crate::engine) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether one more may be asked for.
    fn may_ask(&self) -> bool {
        let declined = self.queue.back().is_some_and(|transfer| transfer.declined.is_some());
        self.queue.len() < AHEAD && !declined && self.outgoing.may_ask()
    }

    /// Whether one more that is a send may be. Whatever waits for those that there are has its turn first: else it would wait for ever where many send.
    pub(super) fn may_ask_for_send(&self, now: Time) -> bool {
        self.may_ask() && self.behind.is_empty() && self.turn.is_none_or(|until| until <= now)
    }

    /// Whether one more of a piecewise send may be. It holds nobody up.
    pub(super) fn may_ask_for_piece(&self) -> bool {
        self.may_ask() && self.behind.is_empty()
    }

    /// Whether one more that answers a fetch may be.
    pub(super) fn may_ask_for_job(&self) -> bool {
        let jobs = self.queue.iter().filter(|transfer| transfer.job.is_some()).count();
        self.may_ask() && jobs < AHEAD_OF_FETCHES
    }

    /// A send of another kind has to wait.
    pub(in crate::engine) fn want_turn(&mut self) {
        self.turn = Some(Time::FAR);
    }

    /// It has had its turn. Returns whether others have waited for that.
    pub(in crate::engine) fn had_turn(&mut self) -> bool {
        self.turn.take().is_some()
    }

    /// Whether parts of what the peer fetches by this request haven't ended.
    pub(in crate::engine) fn serve(&self, request: u32) -> bool {
        self.queue.iter().any(|transfer| transfer.serves(request))
    }

    /// Whether the peer has all of a transfer.
    pub(super) fn is_done(&self, number: u32) -> bool {
        self.queue.iter().all(|transfer| transfer.number != number)
    }

    pub(super) fn find(&mut self, number: u32) -> Option<&mut Transfer> {
        self.queue.iter_mut().find(|transfer| transfer.number == number)
    }
}
