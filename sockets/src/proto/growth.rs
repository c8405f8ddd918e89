//! How large a stream's ring should be.
//!
//! A ring that stops its writer although the program reads is too small: it becomes four times as large. So is one that turns over many times in a
//! millisecond, because each time costs credits, but only up to 64 KiB. A stream that has been silent for a second
//! gets the smallest ring. The caller sets the limit, by how much the pool has left; a ring above it shrinks to it.

use super::Receiver;
use super::layout::{MAX_RING, MIN_RING};

/// How long a stream is silent before it gets the smallest ring, microseconds.
pub const IDLE_US: u64 = 1_000_000;

/// A program that takes longer than this to read a whole ring is slow, and has no use for a larger one, microseconds.
const SLOW_US: u64 = 20_000;

/// A ring that turns over [`TURNS`] times within this is busy, microseconds.
const BUSY_US: u64 = 1_000;

const TURNS: u64 = 4;

/// Being busy is no reason for more than this: credits are rare enough then. Bytes.
const BUSY_LEN: u64 = 64 << 10;

/// Decides about one stream's ring.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// When the present observation began, microseconds of the caller's clock.
    since: u64,
    /// What had been consumed then.
    consumed: u64,
    /// How often the ring had been full then.
    fulls: u32,
}

impl Growth {
    /// For a stream that begins at `now`, in microseconds of any monotonic clock.
    pub fn new(now: u64) -> Growth {
        Growth { since: now, consumed: 0, fulls: 0 }
    }

    /// The length in bytes that the stream's ring should have now, if that is another than it has, and can be changed at present. To be asked when
    /// credit is given, and every second or so.
    ///
    /// `limit` is the longest ring that the stream may have, bytes; it is rounded down to a power of two, and between the smallest and the largest ring.
    /// The answer isn't repeated before something new has happened: if it can't be followed it is lost.
    pub fn wants(&mut self, now: u64, receiver: &Receiver, limit: u64) -> Option<u64> {
        if !receiver.can_grant() {
            return None;
        }
        let limit = 1 << limit.clamp(MIN_RING, MAX_RING).ilog2();
        let len = receiver.ring_len();
        let elapsed = now.saturating_sub(self.since);
        let read = receiver.consumed() - self.consumed;
        let full = receiver.fulls() != self.fulls;
        if len > limit {
            self.restart(now, receiver);
            return Some(limit);
        }
        if read == 0 {
            // Nothing read: either silent, or a program that doesn't read. The time runs on.
            let idle = elapsed >= IDLE_US && len > MIN_RING && receiver.readable() == 0;
            if idle {
                self.restart(now, receiver);
            }
            return idle.then_some(MIN_RING);
        }
        let turns = read / len;
        let wanted = if turns >= 1 && full && elapsed <= SLOW_US.saturating_mul(turns) {
            len * 4
        } else if turns >= TURNS && elapsed <= BUSY_US && len < BUSY_LEN {
            (len * 4).min(BUSY_LEN)
        } else {
            len
        };
        let wanted = wanted.min(limit);
        if wanted != len || elapsed >= BUSY_US && turns >= 1 || elapsed >= IDLE_US {
            self.restart(now, receiver);
        }
        (wanted != len).then_some(wanted)
    }

    fn restart(&mut self, now: u64, receiver: &Receiver) {
        *self = Growth { since: now, consumed: receiver.consumed(), fulls: receiver.fulls() };
    }
}

#[cfg(test)]
mod tests;
