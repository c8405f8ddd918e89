//! When a ring becomes larger, and when smaller.

use super::*;
use crate::proto::layout::RINGS;

const LIMIT: u64 = 1 << 20;

/// A stream whose writer fills the ring each time, and whose reader empties it, in one piece.
struct Busy {
    receiver: Receiver,
    growth: Growth,
    now: u64,
    len: u64,
    base: u64,
}

impl Busy {
    fn new() -> Busy {
        let growth = Growth::new(0);
        Busy { receiver: Receiver::new(RINGS, MIN_RING), growth, now: 0, len: MIN_RING, base: RINGS }
    }

    /// Around once, `parts` messages, after `elapsed`; all is read before the next message, if the ring is not to get full.
    fn turn(&mut self, parts: u64, elapsed: u64, full: bool) -> Option<u64> {
        self.now += elapsed;
        for part in 0..parts {
            self.receiver.on_data(self.base + part * (self.len / parts), self.len / parts).unwrap();
            if !full {
                self.receiver.consume(self.receiver.readable());
                self.receiver.told(self.receiver.consumed());
            }
        }
        self.receiver.consume(self.receiver.readable());
        self.receiver.told(self.receiver.consumed());
        self.growth.wants(self.now, &self.receiver, LIMIT)
    }

    fn change(&mut self, len: u64) {
        let base = RINGS + len;
        assert!(self.receiver.grant(base, len));
        (self.base, self.len) = (base, len);
        for half in [base, base + len / 2] {
            self.receiver.on_data(half, len / 2).unwrap();
            self.receiver.consume(len as usize / 2);
            self.receiver.told(self.receiver.consumed());
        }
        self.receiver.free_ring().unwrap();
    }
}

#[test]
fn full_rings_grow_to_the_limit_while_the_reader_keeps_up() {
    let mut busy = Busy::new();
    while busy.len < LIMIT {
        let wanted = busy.turn(1, 50, true).or_else(|| busy.turn(1, 50, true)).expect("a larger ring");
        assert_eq!(wanted, busy.len * 4);
        busy.change(wanted);
    }
    for _ in 0..10 {
        assert_eq!(busy.turn(1, 50, true), None);
    }
}

#[test]
fn a_slow_reader_gets_no_larger_ring() {
    let mut busy = Busy::new();
    for _ in 0..20 {
        assert_eq!(busy.turn(1, 2 * SLOW_US, true), None);
    }
}

#[test]
fn a_busy_stream_that_is_never_full_grows_a_little() {
    let mut busy = Busy::new();
    for expected in [16 << 10, 64 << 10] {
        let wanted = (0..20).find_map(|_| busy.turn(4, 30, false));
        assert_eq!(wanted, Some(expected));
        busy.change(expected);
    }
    assert_eq!((0..100).find_map(|_| busy.turn(4, 30, false)), None);
}

#[test]
fn a_quiet_stream_stays_small() {
    let mut busy = Busy::new();
    assert_eq!((0..100).find_map(|_| busy.turn(4, 2 * BUSY_US, false)), None);
}

#[test]
fn a_silent_stream_becomes_small_unless_something_is_unread() {
    let mut busy = Busy::new();
    busy.change(LIMIT);
    assert_eq!(busy.growth.wants(10, &busy.receiver, LIMIT), None);
    let silent = 3 * IDLE_US;
    busy.growth.wants(silent, &busy.receiver, LIMIT);
    busy.receiver.on_data(busy.base, 1).unwrap();
    assert_eq!(busy.growth.wants(silent + IDLE_US, &busy.receiver, LIMIT), None);
    busy.receiver.consume(1);
    assert_eq!(busy.growth.wants(silent + IDLE_US, &busy.receiver, LIMIT), None, "it has just been read");
    assert_eq!(busy.growth.wants(silent + 3 * IDLE_US, &busy.receiver, LIMIT), Some(MIN_RING));
    assert_eq!(busy.growth.wants(silent + 3 * IDLE_US, &busy.receiver, LIMIT), None, "it was said");
}

#[test]
fn a_limit_that_falls_is_followed_at_once() {
    let mut busy = Busy::new();
    busy.change(LIMIT);
    assert_eq!(busy.growth.wants(1, &busy.receiver, 100_000), Some(64 << 10));
    assert_eq!(busy.growth.wants(2, &busy.receiver, 0), Some(MIN_RING));
}
