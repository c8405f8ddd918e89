//! Where bytes go, and what isn't believed.

use super::*;
use crate::proto::layout::RINGS;
use crate::proto::slot::State;

const LEN: usize = 4096;

fn ring(page: u64, epoch: u32) -> RingGrant {
    RingGrant::new(RINGS + page * 4096, LEN as u64, epoch)
}

fn state(consumed: u64, grant: RingGrant) -> State {
    State { consumed, grant: Some(grant), ..State::default() }
}

fn write(sender: &mut Sender, max: usize) -> Piece {
    let piece = sender.next(max).unwrap();
    sender.wrote(piece.len);
    piece
}

#[test]
fn pieces_end_where_the_ring_does_and_room_where_credit_does() {
    let mut sender = Sender::new(Some(ring(0, 0)));
    assert_eq!(sender.next(0), None);
    assert_eq!(write(&mut sender, 4000), Piece { offset: RINGS, len: 4000 });
    sender.on_state(&state(3000, ring(0, 0))).unwrap();
    assert_eq!(sender.writable(), 3096);
    assert_eq!(write(&mut sender, 1000), Piece { offset: RINGS + 4000, len: 96 });
    assert_eq!(write(&mut sender, usize::MAX), Piece { offset: RINGS, len: 3000 });
    assert_eq!((sender.writable(), sender.next(1)), (0, None));
    assert_eq!(sender.unread(), 4096);
}

#[test]
fn another_ring_is_used_at_once_and_all_of_it() {
    let mut sender = Sender::new(Some(ring(0, 0)));
    write(&mut sender, 4096);
    let granted = sender.on_state(&state(0, ring(5, 1))).unwrap();
    assert_eq!(granted, Granted { room: true, switched: true });
    assert_eq!(sender.progress().confirm, Confirm::new(1, 4096));
    assert_eq!(write(&mut sender, 5000), Piece { offset: RINGS + 5 * 4096, len: 4096 });
    // What lies in the old ring takes no room in the new one.
    assert_eq!(sender.on_state(&state(4096, ring(5, 1))), Ok(Granted::default()));
    assert!(sender.on_state(&state(4097, ring(5, 1))).unwrap().room);
    assert_eq!(write(&mut sender, 10), Piece { offset: RINGS + 5 * 4096, len: 1 });
}

#[test]
fn nothing_before_the_answer_and_nothing_after_the_end() {
    let mut sender = Sender::new(None);
    assert_eq!((sender.writable(), sender.next(1)), (0, None));
    assert!(sender.on_state(&state(0, ring(0, 0))).unwrap().room);
    write(&mut sender, 10);
    sender.finish();
    sender.finish();
    assert_eq!((sender.writable(), sender.next(1)), (0, None));
    assert!(!sender.on_state(&state(10, ring(0, 0))).unwrap().room);
    assert_eq!(sender.progress().finish, Some(10));
    assert!(sender.progress().over);
}

#[test]
fn a_stopped_stream_has_no_end() {
    for stop in [State { stop: true, ..state(0, ring(0, 0)) }, State { reset: true, ..state(0, ring(0, 0)) }] {
        let mut sender = Sender::new(Some(ring(0, 0)));
        sender.on_state(&stop).unwrap();
        sender.finish();
        assert_eq!((sender.writable(), sender.next(1)), (0, None));
        assert_eq!((sender.progress().finish, sender.progress().over), (None, true));
    }
}

#[test]
fn what_cannot_be_changes_nothing() {
    let mut sender = Sender::new(Some(ring(0, 0)));
    write(&mut sender, 100);
    sender.on_state(&state(50, ring(0, 0))).unwrap();
    let before = format!("{sender:?}");
    for (bad, violation) in [
        (state(49, ring(0, 0)), Violation::CreditBack { known: 50, found: 49 }),
        (state(101, ring(0, 0)), Violation::CreditBeyond { sent: 100, found: 101 }),
        (state(60, ring(1, 0)), Violation::GrantChanged { epoch: 0 }),
        (state(60, ring(1, 2)), Violation::GrantEpoch { expected: 1, found: 2 }),
        (state(60, ring(0, 0xff_ffff)), Violation::GrantEpoch { expected: 1, found: 0xff_ffff }),
        (State { grant: None, ..state(60, ring(0, 0)) }, Violation::GrantChanged { epoch: 0 }),
    ] {
        assert_eq!(sender.on_state(&bad), Err(violation));
        assert_eq!(format!("{sender:?}"), before);
    }
    assert_eq!(Sender::new(None).on_state(&state(0, ring(0, 2))), Err(Violation::GrantEpoch { expected: 0, found: 2 }));
}

#[test]
fn epochs_begin_again() {
    let mut sender = Sender::new(Some(ring(0, 0xff_ffff)));
    assert!(sender.on_state(&state(0, ring(1, 0))).unwrap().switched);
}
