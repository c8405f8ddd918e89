//! The life of a stream: open, half-closed, reset, over; and when the peer has to be told of it.
//!
//! ```text
//!   requester: asked ----accepted----> open ---- both directions over ----> DONE said ---- DONE heard ----> free
//!                 \----refused, busy (with DONE) -------------------------------------------------------> free
//!   acceptor:                          open (the first state is the answer), then likewise
//! ```
//!
//! A direction is over when its writer has finished and everything has come, or its reader has closed it, or the stream was reset. A side says DONE when both
//! are: from then on it writes nothing more about the stream. When it has also heard it, the index and the rings can
//! be used for another stream, because the peer won't write there any more, and everything it has written has been taken.

use super::Violation;
use super::layout::{Kind, Tag};
use super::slot::{Confirm, RingGrant, State, Status};

/// What came of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream is open.
    Accepted,
    /// Nobody listens at that port.
    Refused,
    /// The listener's backlog is full, or the host has no room.
    Busy,
}

/// What a state of the peer has changed. Room and data are told by `Sender` and `Receiver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The request has been answered: its slot is free again.
    pub answered: Option<Answer>,
    /// The peer has closed the stream, and reads no more.
    pub stopped: bool,
    /// The peer has aborted the stream.
    pub reset: bool,
}

/// What the `Sender` contributes to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The position of the end, once there is one.
    pub finish: Option<u64>,
    /// The ring that is written to.
    pub confirm: Confirm,
    /// Whether nothing more will be written.
    pub over: bool,
}

/// What the `Receiver` contributes to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Up to where the program has read.
    pub consumed: u64,
    /// Whether that alone is worth a state.
    pub credit_due: bool,
    /// The ring that the peer may write to.
    pub grant: RingGrant,
    /// Whether everything has come, up to the end.
    pub ended: bool,
}

/// A state to be written to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// In the slot of its stream of this index.
    pub slot: u32,
    /// With this tag.
    pub tag: Tag,
    /// This.
    pub state: State,
}

/// The life of one stream.
#[derive(Debug)]
pub struct Life {
    /// The own index of the stream, by which the peer writes to it.
    index: u32,
    /// The peer's, once it is known.
    peer: Option<u32>,
    /// Whether this side has asked for the stream.
    requester: bool,
    /// The peer's answer, if this side has asked.
    answer: Status,
    stop_said: bool,
    stop_heard: bool,
    reset_said: bool,
    reset_heard: bool,
    done_said: bool,
    done_heard: bool,
    /// What the peer was told last.
    told: Option<State>,
}

impl Life {
    /// A stream that this side asks for, with its own index, and `grant`, which go into the request.
    pub fn requested(index: u32, grant: RingGrant) -> Life {
        Life { told: Some(State { peer: index, grant: Some(grant), ..State::default() }), ..Life::new(index, None) }
    }

    /// A stream that the peer has asked for, and that gets an index here. Its first state is the answer.
    pub fn accepted(index: u32, peer: u32) -> Life {
        Life::new(index, Some(peer))
    }

    fn new(index: u32, peer: Option<u32>) -> Life {
        Life {
            index,
            peer,
            requester: peer.is_none(),
            answer: Status::None,
            stop_said: false,
            stop_heard: false,
            reset_said: false,
            reset_heard: false,
            done_said: false,
            done_heard: false,
            told: None,
        }
    }

    /// The answer to a request that isn't accepted. No stream is made for it.
    pub fn refusal(peer: u32, busy: bool) -> Outgoing {
        let status = if busy { Status::Busy } else { Status::Refused };
        Outgoing { slot: peer, tag: Tag { kind: Kind::Done, index: peer }, state: State { status, ..State::default() } }
    }

    /// The peer's index of this stream, to which data are written. None before the request was accepted.
    pub fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// Takes the flags and the answer out of what the peer says.
    ///
    /// # Errors
    /// A [`Violation`] if it cannot be so. Nothing has changed then.
    pub fn on_state(&mut self, state: &State) -> Result<Changes, Violation> {
        let due = match (self.requester, self.answer, state.status) {
            // The first answer may be any.
            (true, Status::None, Status::Accepted | Status::Refused | Status::Busy) => state.status,
            (true, Status::None, _) => Status::Accepted,
            _ => self.answer,
        };
        // A requester's states are no answer. An acceptor's are all the same.
        if state.status != due {
            return Err(Violation::Status { known: due, found: state.status });
        }
        let open = !self.requester || due == Status::Accepted;
        if open && state.grant.is_none() {
            return Err(Violation::NoRing);
        }
        if let Some(known) = self.peer.filter(|&known| known != state.peer) {
            return Err(Violation::Peer { known, found: state.peer });
        }
        if self.stop_heard && !state.stop || self.reset_heard && !state.reset {
            return Err(Violation::FlagsBack);
        }
        let answered = self.requester && self.answer == Status::None;
        let changes = Changes {
            answered: match due {
                _ if !answered => None,
                Status::Accepted | Status::None => Some(Answer::Accepted),
                Status::Refused => Some(Answer::Refused),
                Status::Busy => Some(Answer::Busy),
            },
            stopped: state.stop && !self.stop_heard,
            reset: state.reset && !self.reset_heard,
        };
        self.answer = due;
        self.stop_heard = state.stop;
        self.reset_heard = state.reset;
        if open {
            self.peer = Some(state.peer);
        }
        Ok(changes)
    }

    /// The peer has said DONE: it writes nothing more about this stream. To be called after the state that came with it was taken. `ended` is
    /// [`Receiver::ended`](super::Receiver::ended), `over` is [`Sender::is_over`](super::Sender::is_over).
    ///
    /// # Errors
    /// [`Violation::DoneEarly`] if the stream hadn't come to an end. It is done nevertheless.
    pub fn on_done(&mut self, ended: bool, over: bool) -> Result<(), Violation> {
        self.done_heard = true;
        let refused = matches!(self.answer, Status::Refused | Status::Busy);
        let reset = self.reset_said || self.reset_heard;
        let read = ended || self.stop_said;
        if refused || reset || (read && over) { Ok(()) } else { Err(Violation::DoneEarly) }
    }

    /// The program has dropped the stream. `unread`: with data that it hasn't read; `discard`: it wants no linger (`SO_LINGER` of 0). In both
    /// cases the stream is reset, and so is one whose request hasn't been answered. Otherwise it is closed in order:
    /// what was written still arrives, and then the end.
    ///
    /// With this go [`Receiver::stop`](super::Receiver::stop), and [`Sender::stop`](super::Sender::stop) for a reset, which this returns true for;
    /// else [`Sender::finish`](super::Sender::finish), when the last byte was written.
    pub fn close(&mut self, unread: bool, discard: bool) -> bool {
        self.stop_said = true;
        let reset = unread || discard || self.peer.is_none();
        if reset {
            self.abort();
        }
        reset
    }

    /// The stream is reset, because the peer has broken the protocol, has written to a closed stream, or the program wants it. With this goes
    /// [`Sender::stop`](super::Sender::stop).
    pub fn abort(&mut self) {
        // Once DONE was said there is nobody to be told. Both directions were over then.
        self.reset_said |= !self.done_said;
    }

    /// What has to be written to the peer now; None if nothing has changed that it should know.
    pub fn outgoing(&self, receipt: Receipt, progress: Progress) -> Option<Outgoing> {
        let slot = self.peer.filter(|_| !self.done_said)?;
        let state = State {
            peer: self.index,
            status: if self.requester { Status::None } else { Status::Accepted },
            stop: self.stop_said,
            reset: self.reset_said,
            consumed: receipt.consumed,
            grant: Some(receipt.grant),
            finish: progress.finish,
            confirm: progress.confirm,
        };
        let reset = self.reset_said || self.reset_heard;
        let done = progress.over && (receipt.ended || reset || self.done_heard);
        let changed = match self.told {
            None => true,
            Some(told) => State { consumed: told.consumed, ..state } != told,
        };
        if !done && !changed && !receipt.credit_due {
            return None;
        }
        let kind = if done { Kind::Done } else { Kind::State };
        Some(Outgoing { slot, tag: Tag { kind, index: slot }, state })
    }

    /// Whether a state tells the peer nothing but how much was read: nobody waits for it who wouldn't go on without.
    pub fn is_only_credit(&self, outgoing: &Outgoing) -> bool {
        let told = self.told.map(|told| State { consumed: outgoing.state.consumed, ..told });
        outgoing.tag.kind == Kind::State && told == Some(outgoing.state)
    }

    /// That was written to the peer.
    pub fn sent(&mut self, outgoing: &Outgoing) {
        self.told = Some(outgoing.state);
        self.done_said |= outgoing.tag.kind == Kind::Done;
    }

    /// Whether the request has been accepted, or came from the peer.
    pub fn is_open(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether the stream was reset, by this side or the other.
    pub fn is_reset(&self) -> bool {
        self.reset_said || self.reset_heard
    }

    /// Whether the peer has reset the stream.
    pub fn is_reset_by_peer(&self) -> bool {
        self.reset_heard
    }

    /// Whether the peer has closed the stream, and reads no more.
    pub fn is_stopped(&self) -> bool {
        self.stop_heard
    }

    /// Whether the program has dropped the stream.
    pub fn is_closed(&self) -> bool {
        self.stop_said
    }

    /// Whether both sides have said all: the index can be used for another stream, and so can the rings, once the program has no use
    /// for what they hold.
    pub fn is_done(&self) -> bool {
        self.done_heard && (self.done_said || self.peer.is_none())
    }
}

#[cfg(test)]
mod tests;
