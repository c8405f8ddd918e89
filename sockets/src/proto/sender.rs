//! The writing side of a stream: where the next byte goes in the peer's ring, and how many there is room for.
//!
//! Positions count the bytes of a stream from its beginning. The byte at position p of the ring that was begun at position *base* is at
//! (p - base) modulo the ring's length in it. Up to the larger of base and what the peer has consumed, plus the ring's length,
//! may be written: what the peer hasn't consumed of an earlier ring lies elsewhere, and takes no room in this one.

use super::slot::{Confirm, RingGrant, State};
use super::stream::Progress;
use super::{Piece, Violation};

/// The writing side of a stream.
#[derive(Debug)]
pub struct Sender {
    /// Where the stream stands: how many bytes were written.
    position: u64,
    /// Up to where may be written.
    limit: u64,
    ring: Piece,
    /// The position of the first byte in `ring`.
    base: u64,
    /// Up to where the peer has read.
    consumed: u64,
    /// What `ring` was made of; None before the peer has answered.
    grant: Option<RingGrant>,
    finish: Option<u64>,
    stopped: bool,
}

/// What a peer's state has changed for its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// There is more room than before.
    pub room: bool,
    /// The peer has granted another ring: it has to be told of the switch.
    pub switched: bool,
}

impl Sender {
    /// The sender of a new stream. Without a grant it has room for nothing before the peer's first state.
    pub fn new(grant: Option<RingGrant>) -> Sender {
        let mut sender = Sender {
            position: 0,
            limit: 0,
            ring: Piece::default(),
            base: 0,
            consumed: 0,
            grant: None,
            finish: None,
            stopped: false,
        };
        if let Some(grant) = grant {
            sender.begin(grant);
        }
        sender
    }

    /// How much may be written now, bytes. None of it, once the stream is finished or stopped.
    pub fn writable(&self) -> usize {
        // A ring has at most 4 MiB.
        (self.limit - self.position) as usize
    }

    /// Where to write next: one piece, of `max` bytes at the most. None if there is no room, or `max` is 0.
    pub fn next(&self, max: usize) -> Option<Piece> {
        let at = (self.position - self.base) as usize & self.ring.len.wrapping_sub(1);
        let len = max.min(self.writable()).min(self.ring.len - at);
        (len > 0).then(|| Piece { offset: self.ring.offset + at as u64, len })
    }

    /// So many bytes were written where [`Sender::next`] has said, and not more than it has said.
    pub fn wrote(&mut self, len: usize) {
        debug_assert!(len <= self.writable());
        self.position += (len as u64).min(self.limit - self.position);
    }

    /// How many bytes were written since the stream began.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes were written and, as far as is known, not yet read by the peer's program.
    pub fn unread(&self) -> u64 {
        self.position - self.consumed
    }

    /// The length of the ring that is written to, bytes; 0 if there is none yet.
    pub fn ring_len(&self) -> u64 {
        self.ring.len as u64
    }

    /// Nothing more will be written: the stream ends here. Does nothing if that was so already.
    pub fn finish(&mut self) {
        if !self.stopped && self.finish.is_none() {
            self.finish = Some(self.position);
        }
        self.limit = self.position;
    }

    /// Nothing more will be written, because the stream was reset, or its reader has closed it.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.limit = self.position;
    }

    /// Whether the stream was finished or stopped.
    pub fn is_over(&self) -> bool {
        self.stopped || self.finish.is_some()
    }

    /// What the peer has to know of this side.
    pub fn progress(&self) -> Progress {
        let epoch = self.grant.map_or(0, |grant| grant.epoch);
        Progress { finish: self.finish, confirm: Confirm::new(epoch, self.base), over: self.is_over() }
    }

    /// Takes what the peer says: credit, another ring, that it reads no more. A new ring is used at once.
    ///
    /// # Errors
    /// A [`Violation`] if it cannot be so. Nothing has changed then.
    pub fn on_state(&mut self, state: &State) -> Result<Granted, Violation> {
        if state.consumed < self.consumed {
            return Err(Violation::CreditBack { known: self.consumed, found: state.consumed });
        }
        if state.consumed > self.position {
            return Err(Violation::CreditBeyond { sent: self.position, found: state.consumed });
        }
        let before = self.writable();
        let mut switched = false;
        match (self.grant, state.grant) {
            (old, new) if old == new => {}
            // The answer may have been rewritten with a second ring before it was seen.
            (None, Some(new)) if new.epoch <= 1 => {
                self.begin(new);
                switched = new.epoch == 1;
            }
            (None, Some(new)) => return Err(Violation::GrantEpoch { expected: 0, found: new.epoch }),
            (Some(old), Some(new)) if new.epoch == old.next_epoch() => {
                self.begin(new);
                switched = true;
            }
            (Some(old), Some(new)) if new.epoch != old.epoch => {
                return Err(Violation::GrantEpoch { expected: old.next_epoch(), found: new.epoch });
            }
            (old, _) => return Err(Violation::GrantChanged { epoch: old.map_or(0, |old| old.epoch) }),
        }
        self.consumed = state.consumed;
        self.stopped |= state.stop || state.reset;
        self.limit = match self.is_over() {
            true => self.position,
            false => self.consumed.max(self.base) + self.ring.len as u64,
        };
        Ok(Granted { room: self.writable() > before, switched })
    }

    fn begin(&mut self, grant: RingGrant) {
        self.base = self.position;
        self.ring = Piece { offset: grant.offset, len: grant.bytes() as usize };
        self.grant = Some(grant);
        self.limit = self.base + grant.bytes();
    }
}

#[cfg(test)]
mod tests;
