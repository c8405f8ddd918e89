//! Places, credit, the change of rings, and what isn't believed.

use super::*;
use crate::proto::layout::RINGS;
use crate::proto::slot::{Confirm, State};

const LEN: u64 = 4096;
const OTHER: u64 = RINGS + 8 * LEN;

fn receiver() -> Receiver {
    Receiver::new(RINGS, LEN)
}

fn piece(offset: u64, len: usize) -> Piece {
    Piece { offset, len }
}

fn confirm(epoch: u32, base: u64) -> State {
    State { confirm: Confirm::new(epoch, base), ..State::default() }
}

#[test]
fn data_are_read_where_they_were_written_and_wrap_around() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 4000).unwrap();
    receiver.consume(3500);
    receiver.on_data(RINGS + 4000, 96).unwrap();
    receiver.on_data(RINGS, 200).unwrap();
    assert_eq!(receiver.readable(), 796);
    assert_eq!(receiver.pieces(), [piece(RINGS + 3500, 596), piece(RINGS, 200)]);
    receiver.consume(596);
    assert_eq!(receiver.front(), Some(piece(RINGS, 200)));
    receiver.consume(200);
    assert_eq!((receiver.front(), receiver.pieces()), (None, [Piece::default(); 2]));
}

#[test]
fn data_that_cannot_be_change_nothing() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 4000).unwrap();
    receiver.consume(10);
    let before = format!("{receiver:?}");
    for (offset, len, violation) in [
        (RINGS, 1, Violation::Place { expected: RINGS + 4000, found: RINGS, len: 1 }),
        (0, 1, Violation::Place { expected: RINGS + 4000, found: 0, len: 1 }),
        (RINGS + 4000, 0, Violation::Overrun { room: 96, len: 0 }),
        (RINGS + 4000, 97, Violation::Overrun { room: 96, len: 97 }),
        (RINGS + 4000, u64::MAX, Violation::Overrun { room: 96, len: u64::MAX }),
    ] {
        assert_eq!(receiver.on_data(offset, len), Err(violation));
        assert_eq!(format!("{receiver:?}"), before);
    }
    receiver.on_data(RINGS + 4000, 96).unwrap();
    assert_eq!(receiver.on_data(RINGS, 11), Err(Violation::Overrun { room: 10, len: 11 }));
    receiver.on_data(RINGS, 10).unwrap();
    assert_eq!(receiver.on_data(RINGS + 10, 1), Err(Violation::Overrun { room: 0, len: 1 }));
    receiver.stop();
    assert_eq!(receiver.on_data(RINGS + 10, 1), Err(Violation::Unwanted { len: 1 }));
}

#[test]
fn credit_for_half_a_ring_or_a_quarter_when_it_is_half_full() {
    let mut ponged = receiver();
    for at in 0..32 {
        assert!(!ponged.credit_due(), "after {at} messages");
        ponged.on_data(RINGS + 64 * at, 64).unwrap();
        ponged.consume(64);
    }
    assert!(ponged.credit_due());
    ponged.told(ponged.consumed());
    assert!(!ponged.credit_due());

    let mut full = receiver();
    full.on_data(RINGS, 4096).unwrap();
    assert_eq!(full.fulls(), 1);
    full.consume(1023);
    assert!(!full.credit_due());
    full.consume(1);
    assert!(full.credit_due());
    // What was read of an earlier ring is no credit for the next one.
    assert!(full.grant(OTHER, LEN));
    full.on_data(OTHER, 1500).unwrap();
    full.consume(3072 + 1000);
    assert!(!full.credit_due());
    full.consume(24);
    assert!(!full.credit_due(), "a quarter, but the ring isn't half full");
    full.on_data(OTHER + 1500, 548).unwrap();
    assert!(full.credit_due());
    // Nobody waits for credit when all has come.
    full.on_state(&State { finish: Some(4096 + 2048), ..confirm(1, 4096) }).unwrap();
    assert!(!full.credit_due());
}

#[test]
fn a_change_of_rings_told_by_the_data() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 100).unwrap();
    assert!(receiver.grant(OTHER, 2 * LEN));
    assert!(!receiver.can_grant() && !receiver.grant(OTHER, LEN));
    receiver.on_data(RINGS + 100, 50).unwrap();
    assert_eq!(receiver.free_ring(), None);
    receiver.on_data(OTHER, 8192).unwrap();
    assert_eq!(receiver.readable(), 150 + 8192);
    assert_eq!(receiver.pieces(), [piece(RINGS, 150), piece(OTHER, 8192)]);
    // It isn't in the first any more.
    assert!(matches!(receiver.on_state(&confirm(0, 0)), Err(Violation::ConfirmEpoch { .. })));
    receiver.on_state(&confirm(1, 150)).unwrap();
    receiver.consume(149);
    assert_eq!(receiver.free_ring(), None);
    receiver.consume(1);
    assert_eq!(receiver.free_ring(), Some((RINGS, LEN)));
    assert_eq!(receiver.free_ring(), None);
    assert_eq!(receiver.rings().collect::<Vec<_>>(), [(OTHER, 2 * LEN)]);
    receiver.on_state(&confirm(1, 150)).unwrap();
    assert!(receiver.can_grant());
    assert_eq!(receiver.front(), Some(piece(OTHER, 8192)));
}

#[test]
fn a_change_of_rings_told_before_the_data() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 100).unwrap();
    assert!(receiver.grant(OTHER, LEN));
    receiver.on_state(&confirm(1, 150)).unwrap();
    receiver.consume(100);
    assert_eq!(receiver.free_ring(), None, "fifty bytes are still to come");
    assert_eq!(receiver.expected_place(1000), Some(piece(RINGS + 100, 50)));
    receiver.consume_ahead(50);
    assert_eq!(receiver.free_ring(), None, "nor were they announced");
    assert_eq!(receiver.expected_place(1000), Some(piece(OTHER, 1000)));
    receiver.consume_ahead(10);
    assert_eq!(receiver.on_data(RINGS + 100, 51), Err(Violation::Overrun { room: 50, len: 51 }));
    receiver.on_data(RINGS + 100, 50).unwrap();
    assert_eq!(receiver.free_ring(), Some((RINGS, LEN)));
    receiver.on_data(OTHER, 20).unwrap();
    assert_eq!(receiver.front(), Some(piece(OTHER + 10, 10)));
}

#[test]
fn confirmations_that_cannot_be() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 100).unwrap();
    assert!(matches!(receiver.on_state(&confirm(0, 1)), Err(Violation::ConfirmBase { .. })));
    assert!(matches!(receiver.on_state(&confirm(1, 0)), Err(Violation::ConfirmEpoch { .. })));
    assert!(receiver.grant(OTHER, LEN));
    assert!(matches!(receiver.on_state(&confirm(2, 100)), Err(Violation::ConfirmEpoch { .. })));
    // Before what was written, and beyond what there is room for.
    for base in [99, 4097] {
        assert!(matches!(receiver.on_state(&confirm(1, base)), Err(Violation::ConfirmBase { .. })), "{base}");
    }
    receiver.on_state(&confirm(0, 0)).unwrap();
    receiver.on_state(&confirm(1, 4096)).unwrap();
    assert!(matches!(receiver.on_state(&confirm(1, 4095)), Err(Violation::ConfirmBase { .. })));
    // The second isn't reached before the first is full.
    assert!(matches!(receiver.on_data(OTHER, 1), Err(Violation::Place { .. })));
}

#[test]
fn a_place_in_use_is_not_given_away() {
    let mut receiver = receiver();
    assert_eq!(receiver.expected_place(0), None);
    assert_eq!(receiver.expected_place(10_000), Some(piece(RINGS, 4096)));
    assert_eq!(receiver.expected_place(1), None, "one at a time");
    assert!(receiver.grant(OTHER, LEN));
    receiver.on_state(&confirm(1, 0)).unwrap();
    assert_eq!(receiver.free_ring(), None);
    receiver.consume_ahead(0);
    assert_eq!(receiver.free_ring(), Some((RINGS, LEN)));
}

#[test]
fn no_place_while_there_is_something_to_read() {
    let mut receiver = receiver();
    receiver.on_data(RINGS, 10).unwrap();
    assert_eq!(receiver.expected_place(100), None);
    receiver.consume(10);
    assert_eq!(receiver.expected_place(100), Some(piece(RINGS + 10, 100)));
}

#[test]
fn what_was_taken_ahead_has_been_written() {
    let mut receiver = receiver();
    receiver.expected_place(100).unwrap();
    receiver.consume_ahead(100);
    let finish = State { finish: Some(99), ..State::default() };
    assert_eq!(receiver.on_state(&finish), Err(Violation::Finish { sent: 100, found: 99 }));
    assert!(receiver.grant(OTHER, LEN));
    assert!(matches!(receiver.on_state(&confirm(1, 99)), Err(Violation::ConfirmBase { .. })));
    assert!(matches!(receiver.on_data(OTHER, 1), Err(Violation::Place { .. })));
    receiver.on_state(&confirm(1, 100)).unwrap();
}

#[test]
fn an_end_in_the_next_ring_may_be_seen_before_the_change() {
    let at = |position| State { finish: Some(position), ..confirm(0, 0) };
    let mut receiver = receiver();
    assert!(receiver.grant(OTHER, LEN));
    assert!(matches!(receiver.on_state(&at(8193)), Err(Violation::Finish { .. })));
    receiver.on_state(&at(8192)).unwrap();
    receiver.on_data(RINGS, 4096).unwrap();
    receiver.on_data(OTHER, 4096).unwrap();
    assert!(receiver.ended());
}

#[test]
fn bytes_taken_ahead_are_credited_and_announced_later() {
    let mut receiver = receiver();
    let place = receiver.expected_place(3000).unwrap();
    receiver.consume_ahead(place.len);
    assert_eq!((receiver.readable(), receiver.consumed()), (0, 3000));
    assert!(receiver.credit_due());
    assert_eq!(receiver.expected_place(3000), Some(piece(RINGS + 3000, 1096)));
    receiver.consume_ahead(0);
    receiver.on_data(RINGS, 3000).unwrap();
    assert_eq!(receiver.readable(), 0);
    receiver.on_data(RINGS + 3000, 1096).unwrap();
    receiver.on_data(RINGS, 3000).unwrap();
    assert_eq!(receiver.pieces(), [piece(RINGS + 3000, 1096), piece(RINGS, 3000)]);
}

#[test]
fn the_end() {
    let at = |position| State { finish: Some(position), ..State::default() };
    let mut receiver = receiver();
    receiver.on_data(RINGS, 100).unwrap();
    for bad in [0, 99, 4097, u64::MAX - 1] {
        assert_eq!(receiver.on_state(&at(bad)), Err(Violation::Finish { sent: 100, found: bad }));
    }
    receiver.on_state(&at(150)).unwrap();
    assert!(!receiver.at_end() && !receiver.ended() && !receiver.can_grant());
    assert_eq!(receiver.on_state(&at(151)), Err(Violation::Finish { sent: 100, found: 151 }));
    assert_eq!(receiver.on_state(&State::default()), Err(Violation::FinishBack));
    assert_eq!(receiver.on_data(RINGS + 100, 51), Err(Violation::Overrun { room: 50, len: 51 }));
    receiver.on_data(RINGS + 100, 50).unwrap();
    assert!(receiver.ended() && !receiver.at_end());
    receiver.consume(150);
    assert!(receiver.at_end());
    assert_eq!(receiver.expected_place(10), None);
}
