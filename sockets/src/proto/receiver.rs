//! The reading side of a stream: which bytes of the ring can be read, what credit is due for those that were, and the change of rings.
//!
//! Three positions: up to `announced` notifications have come, up to `consumed` the program has read, and of that the peer was told up to
//! `told`. Commonly told <= consumed <= announced. But a reader may also take bytes as they land, before they are announced (by a redirect
//! on [`Receiver::expected_place`]): then consumed is ahead of announced for a while.
//!
//! Two rings at the most: the first, and after [`Receiver::grant`] a second. The peer's writer changes over at a position of its choice, which
//! becomes known when it tells, or when it has written into the second. Everything before lies in the first, which is given back when
//! it is read: [`Receiver::free_ring`].

use super::layout::SESSION_LEN;
use super::slot::{RingGrant, State};
use super::stream::Receipt;
use super::{Piece, Violation};

/// No position: a switch or an end that isn't known.
const NEVER: u64 = u64::MAX;

/// The reading side of a stream.
#[derive(Debug)]
pub struct Receiver {
    announced: u64,
    consumed: u64,
    told: u64,
    first: Ring,
    /// What follows `first`. Its base is [`NEVER`] when it was granted and the switch isn't known, or when there is none.
    second: Ring,
    /// Where the stream ends, or [`NEVER`].
    finish: u64,
    /// The length of the place that a redirect may be posted on; 0 if none is.
    posted: usize,
    stopped: bool,
    /// The newest grant: that of `second` if there is one.
    grant: RingGrant,
    fulls: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ring {
    offset: u64,
    /// 0: there is no such ring.
    len: u64,
    /// The position of its first byte.
    base: u64,
}

impl Ring {
    const NONE: Ring = Ring { offset: 0, len: 0, base: NEVER };

    /// The place of `position`, and the bytes from there to the end of the ring.
    fn place(&self, position: u64) -> (u64, u64) {
        let at = (position - self.base) & (self.len - 1);
        (self.offset + at, self.len - at)
    }
}

impl Receiver {
    /// The receiver of a new stream, with the ring of `len` bytes (a power of two) at `offset`.
    pub fn new(offset: u64, len: u64) -> Receiver {
        Receiver {
            announced: 0,
            consumed: 0,
            told: 0,
            first: Ring { offset, len, base: 0 },
            second: Ring::NONE,
            finish: NEVER,
            posted: 0,
            stopped: false,
            grant: RingGrant::new(offset, len, 0),
            fulls: 0,
        }
    }

    /// `len` bytes were written at `offset`, and announced.
    ///
    /// # Errors
    /// A [`Violation`] if they don't continue the stream, or there was no room for them, or [`Receiver::stop`] was called. Nothing has
    /// changed then.
    pub fn on_data(&mut self, offset: u64, len: u64) -> Result<(), Violation> {
        if self.announced >= self.second.base {
            return self.announce(self.second, self.finish, offset, len);
        }
        let begins_second = self.second.len > 0
            && self.second.base == NEVER
            && offset == self.second.offset
            && self.consumed <= self.announced;
        if begins_second {
            let second = Ring { base: self.announced, ..self.second };
            self.announce(second, self.finish, offset, len)?;
            self.second = second;
            return Ok(());
        }
        self.announce(self.first, self.finish.min(self.second.base), offset, len)
    }

    /// Bytes written into `ring`, in which at the most the position `until` is reached.
    #[inline]
    fn announce(&mut self, ring: Ring, until: u64, offset: u64, len: u64) -> Result<(), Violation> {
        let (expected, run) = ring.place(self.announced);
        let limit = self.consumed.max(ring.base) + ring.len;
        // When consumed is ahead, its ring may be another, and the limit of this one is that of `until`.
        let room = run.min(limit.min(until) - self.announced);
        if self.stopped {
            return Err(Violation::Unwanted { len });
        }
        if offset != expected {
            return Err(Violation::Place { expected, found: offset, len });
        }
        if len == 0 || len > room {
            return Err(Violation::Overrun { room, len });
        }
        self.announced += len;
        if self.announced >= self.told.max(ring.base) + ring.len {
            self.fulls = self.fulls.saturating_add(1);
        }
        Ok(())
    }

    /// Takes what the peer says of its writing side: the switch of rings, the end of the stream.
    ///
    /// # Errors
    /// A [`Violation`] if it cannot be so. Nothing has changed then.
    pub fn on_state(&mut self, state: &State) -> Result<(), Violation> {
        let base = self.confirmed(state)?;
        self.finish = self.finished(state, base)?;
        self.second.base = base;
        Ok(())
    }

    /// The base of the second ring, after what `state` says.
    fn confirmed(&self, state: &State) -> Result<u64, Violation> {
        let (confirm, base) = (state.confirm, self.second.base);
        let (newest, changes) = (self.grant.epoch, self.second.len > 0);
        // What has come into the second was written after the change.
        let before = changes && self.announced < base && next(confirm.epoch) == newest;
        if before {
            return Ok(base);
        }
        if confirm.epoch != newest {
            return Err(Violation::ConfirmEpoch { current: newest, found: confirm.epoch });
        }
        let sent = self.high();
        let (least, most) = match (changes, base) {
            (false, _) => (self.first.base, self.first.base),
            (true, NEVER) => (sent, self.limit_of(self.first).min(self.finish)),
            (true, base) => (base, base),
        };
        let found = confirm.base_from(least);
        if found > most {
            return Err(Violation::ConfirmBase { sent, found });
        }
        Ok(if changes { found } else { NEVER })
    }

    /// The end of the stream, after what `state` says; the base of the second ring is `base`.
    fn finished(&self, state: &State, base: u64) -> Result<u64, Violation> {
        let sent = self.high();
        let Some(found) = state.finish else {
            return if self.finish == NEVER { Ok(NEVER) } else { Err(Violation::FinishBack) };
        };
        let limit = match (self.second.len, base) {
            (0, _) => self.limit_of(self.first),
            (len, NEVER) => self.limit_of(self.first) + len,
            (_, base) => self.limit_of(Ring { base, ..self.second }),
        };
        let least = if base == NEVER { sent } else { sent.max(base) };
        let valid = if self.finish == NEVER { (least..=limit).contains(&found) } else { found == self.finish };
        if valid { Ok(found) } else { Err(Violation::Finish { sent, found }) }
    }

    /// Up to where there is room in `ring`.
    fn limit_of(&self, ring: Ring) -> u64 {
        self.consumed.max(ring.base) + ring.len
    }

    /// Up to where the peer has written, as far as is known here.
    fn high(&self) -> u64 {
        self.announced.max(self.consumed)
    }

    /// The ring in which `position` lies, as far as is known, and where that ring ends for now.
    fn ring_at(&self, position: u64) -> (Ring, u64) {
        if position >= self.second.base { (self.second, NEVER) } else { (self.first, self.second.base) }
    }

    /// How many bytes can be read now: announced, and not consumed.
    pub fn readable(&self) -> usize {
        // They fit into two rings.
        self.announced.saturating_sub(self.consumed) as usize
    }

    /// The first bytes that can be read, as far as they lie in one piece.
    pub fn front(&self) -> Option<Piece> {
        self.piece(self.consumed)
    }

    /// The first two pieces of what can be read, in order; empty ones if there is less. There may be more, up to four, where the ring
    /// wraps around and is changed.
    pub fn pieces(&self) -> [Piece; 2] {
        let first = self.front().unwrap_or_default();
        [first, self.piece(self.consumed + first.len as u64).unwrap_or_default()]
    }

    fn piece(&self, position: u64) -> Option<Piece> {
        let (ring, until) = self.ring_at(position);
        let unread = self.announced.min(until).checked_sub(position).filter(|&unread| unread > 0)?;
        let (offset, run) = ring.place(position);
        Some(Piece { offset, len: unread.min(run) as usize })
    }

    /// The program has read `len` bytes, at most [`Receiver::readable`].
    pub fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.readable());
        self.consumed += len.min(self.readable()) as u64;
    }

    /// Where the next bytes will be put, as far as they go into one piece, at most `max`: a redirect may be posted there. Then the place is in use up to
    /// [`Receiver::consume_ahead`], and nothing else may be read in between.
    ///
    /// None if there is something to read, a place is in use already, nothing more will come, or `max` is 0. That the peer hasn't
    /// changed rings by then isn't certain: bytes that it puts elsewhere are announced, and read, as ever.
    pub fn expected_place(&mut self, max: usize) -> Option<Piece> {
        if self.readable() > 0 || self.posted > 0 || self.stopped {
            return None;
        }
        let (ring, until) = self.ring_at(self.consumed);
        let (offset, run) = ring.place(self.consumed);
        let rest = until.min(self.finish).saturating_sub(self.consumed);
        let len = run.min(rest).min(max as u64) as usize;
        self.posted = len;
        (len > 0).then_some(Piece { offset, len })
    }

    /// The redirect on the place that [`Receiver::expected_place`] has told is over, and has taken the first `len` bytes, announced or not.
    pub fn consume_ahead(&mut self, len: usize) {
        debug_assert!(len <= self.posted);
        self.consumed += len.min(self.posted) as u64;
        self.posted = 0;
        let (ring, _) = self.ring_at(self.consumed);
        if len > 0 && self.consumed > self.announced && self.consumed >= self.told.max(ring.base) + ring.len {
            self.fulls = self.fulls.saturating_add(1);
        }
    }

    /// How many bytes the program has read since the stream began.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether the peer should be told what was consumed: it knows of room for half of the ring at the most, and would learn of another
    /// quarter; or it would learn of another half.
    ///
    /// So a writer that is stopped by a full ring goes on when a quarter of it has been read, and one whose bytes are always read at once is told
    /// twice for each time around.
    pub fn credit_due(&self) -> bool {
        let ring = if self.second.base == NEVER { self.first } else { self.second };
        let told = self.told.max(ring.base);
        let unknown = self.consumed.saturating_sub(told);
        if unknown < ring.len / 4 || self.finish != NEVER || self.stopped {
            return false;
        }
        unknown >= ring.len / 2 || self.high() - told >= ring.len / 2
    }

    /// The peer was told that up to `consumed` was read.
    pub fn told(&mut self, consumed: u64) {
        debug_assert!(consumed <= self.consumed);
        self.told = self.told.max(consumed);
    }

    /// What the peer has to know of this side.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            consumed: self.consumed,
            credit_due: self.credit_due(),
            grant: self.grant,
            ended: self.announced >= self.finish,
        }
    }

    /// Whether another ring may be granted now: the last change is over, and more data may come.
    pub fn can_grant(&self) -> bool {
        self.second.len == 0 && self.finish == NEVER && !self.stopped
    }

    /// The stream shall have another ring, of `len` bytes (a power of two) at `offset`. The peer is told by the next state. Returns false, and does
    /// nothing, unless [`Receiver::can_grant`].
    #[must_use]
    pub fn grant(&mut self, offset: u64, len: u64) -> bool {
        if !self.can_grant() {
            return false;
        }
        self.grant = RingGrant::new(offset, len, self.grant.next_epoch());
        self.second = Ring { offset, len, base: NEVER };
        true
    }

    /// The ring that isn't needed any more, after a change: its offset and length. It belongs to the pool from now on.
    pub fn free_ring(&mut self) -> Option<(u64, u64)> {
        let drained = self.second.base <= self.announced.min(self.consumed);
        if !drained || self.posted > 0 {
            return None;
        }
        let old = std::mem::replace(&mut self.first, std::mem::replace(&mut self.second, Ring::NONE));
        Some((old.offset, old.len))
    }

    /// All rings, offset and length, for the end: when [`Life::is_done`](super::Life::is_done), the program has gone, and no redirect
    /// is posted.
    pub fn rings(&self) -> impl Iterator<Item = (u64, u64)> {
        [self.first, self.second].into_iter().filter(|ring| ring.len > 0).map(|ring| (ring.offset, ring.len))
    }

    /// The length of the newest ring, bytes.
    pub fn ring_len(&self) -> u64 {
        self.grant.bytes()
    }

    /// Whether the newest ring lies in the direct export.
    pub fn is_direct(&self) -> bool {
        self.grant.offset >= SESSION_LEN
    }

    /// How often the peer has filled the ring, or what it knew of it, since the stream began.
    pub fn fulls(&self) -> u32 {
        self.fulls
    }

    /// The program reads no more. What arrives from now on is [`Violation::Unwanted`].
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether everything up to the end that the peer has made has been read.
    pub fn at_end(&self) -> bool {
        self.consumed >= self.finish
    }

    /// Whether everything up to the end has come, read or not.
    pub fn ended(&self) -> bool {
        self.announced >= self.finish
    }
}

fn next(epoch: u32) -> u32 {
    epoch.wrapping_add(1) & 0xff_ffff
}

#[cfg(test)]
mod tests;
