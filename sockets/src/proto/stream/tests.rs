//! Lives, step by step. All orders of events are in `tests/proto`.

use super::*;
use crate::proto::layout::RINGS;

const GRANT: RingGrant = RingGrant { offset: RINGS, log2: 12, epoch: 0 };
const RECEIPT: Receipt = Receipt { consumed: 0, credit_due: false, grant: GRANT, ended: false };
const PROGRESS: Progress = Progress { finish: None, confirm: Confirm { epoch: 0, base: 0 }, over: false };
const FINISHED: Progress = Progress { finish: Some(10), over: true, ..PROGRESS };
const STOPPED: Progress = Progress { over: true, ..PROGRESS };
const ENDED: Receipt = Receipt { ended: true, ..RECEIPT };

fn say(life: &mut Life, receipt: Receipt, progress: Progress) -> Option<(Kind, State)> {
    let out = life.outgoing(receipt, progress)?;
    assert_eq!((out.slot, out.tag.index), (life.peer().unwrap(), life.peer().unwrap()));
    life.sent(&out);
    Some((out.tag.kind, out.state))
}

/// A requester with index 3, and an acceptor with index 8.
fn pair() -> (Life, Life) {
    let mut requester = Life::requested(3, GRANT);
    let mut acceptor = Life::accepted(8, 3);
    assert_eq!(requester.outgoing(RECEIPT, PROGRESS), None, "the peer's index isn't known yet");
    let (kind, answer) = say(&mut acceptor, RECEIPT, PROGRESS).unwrap();
    assert_eq!((kind, answer.status, answer.peer), (Kind::State, Status::Accepted, 8));
    let changes = requester.on_state(&answer).unwrap();
    assert_eq!(changes, Changes { answered: Some(Answer::Accepted), ..Changes::default() });
    assert_eq!(requester.on_state(&answer), Ok(Changes::default()));
    assert_eq!(requester.outgoing(RECEIPT, PROGRESS), None, "the request has said it all");
    (requester, acceptor)
}

#[test]
fn closed_by_one_and_then_by_the_other() {
    let (mut a, mut b) = pair();
    assert!(!a.close(false, false));
    let (kind, state) = say(&mut a, RECEIPT, FINISHED).unwrap();
    assert_eq!((kind, state.stop, state.finish, state.reset), (Kind::State, true, Some(10), false));
    assert_eq!(say(&mut a, RECEIPT, FINISHED), None);
    assert_eq!(b.on_state(&state), Ok(Changes { stopped: true, ..Changes::default() }));
    // Its writer has nobody to write to: once everything has come, that is all.
    assert_eq!(say(&mut b, RECEIPT, STOPPED), None);
    let (kind, state) = say(&mut b, ENDED, STOPPED).unwrap();
    assert_eq!(kind, Kind::Done);
    a.on_state(&state).unwrap();
    a.on_done(false, true).unwrap();
    assert!(!a.is_done() && !b.is_done());
    let (kind, state) = say(&mut a, RECEIPT, FINISHED).unwrap();
    assert_eq!(kind, Kind::Done);
    b.on_state(&state).unwrap();
    b.on_done(true, true).unwrap();
    assert!(a.is_done() && b.is_done());
    assert!(!a.is_reset() && !b.is_reset());
}

#[test]
fn dropped_with_unread_data() {
    let (mut a, mut b) = pair();
    assert!(a.close(true, false));
    let (kind, state) = say(&mut a, RECEIPT, STOPPED).unwrap();
    assert_eq!((kind, state.reset), (Kind::Done, true));
    assert_eq!(b.on_state(&state), Ok(Changes { stopped: true, reset: true, answered: None }));
    b.on_done(false, true).unwrap();
    let (kind, state) = say(&mut b, RECEIPT, STOPPED).unwrap();
    assert_eq!((kind, state.reset), (Kind::Done, false));
    assert!(b.is_done() && !a.is_done());
    a.on_done(false, true).unwrap();
    assert!(a.is_done());
}

#[test]
fn dropped_before_the_answer() {
    let mut a = Life::requested(3, GRANT);
    assert!(a.close(false, false));
    assert!(!a.is_done());
    let answer = State { peer: 8, status: Status::Accepted, grant: Some(GRANT), ..State::default() };
    a.on_state(&answer).unwrap();
    let (kind, state) = say(&mut a, RECEIPT, STOPPED).unwrap();
    assert_eq!((kind, state.reset), (Kind::Done, true));
}

#[test]
fn refused() {
    for (busy, answer) in [(false, Answer::Refused), (true, Answer::Busy)] {
        let out = Life::refusal(3, busy);
        assert_eq!((out.slot, out.tag), (3, Tag { kind: Kind::Done, index: 3 }));
        let mut a = Life::requested(3, GRANT);
        assert_eq!(a.on_state(&out.state).unwrap().answered, Some(answer));
        a.on_done(false, false).unwrap();
        assert!(a.is_done() && !a.is_open());
        assert_eq!(a.outgoing(RECEIPT, PROGRESS), None);
    }
}

#[test]
fn what_could_not_be_sent_is_said_again_and_credit_alone_when_it_is_due() {
    let (mut a, _) = pair();
    let finished = a.outgoing(RECEIPT, FINISHED).unwrap();
    assert_eq!(a.outgoing(RECEIPT, FINISHED), Some(finished));
    a.sent(&finished);
    let read = Receipt { consumed: 5, ..RECEIPT };
    assert_eq!(a.outgoing(read, FINISHED), None);
    assert_eq!(a.outgoing(Receipt { credit_due: true, ..read }, FINISHED).unwrap().state.consumed, 5);
    let grant = RingGrant { epoch: 1, ..GRANT };
    let other = a.outgoing(Receipt { grant, ..read }, FINISHED).unwrap();
    assert_eq!((other.state.grant, other.state.consumed), (Some(grant), 5));
}

#[test]
fn what_cannot_be() {
    let (mut a, mut b) = pair();
    let answer = State { peer: 8, status: Status::Accepted, grant: Some(GRANT), ..State::default() };
    let plain = State { peer: 3, status: Status::None, ..answer };
    let status = |known, found| Err(Violation::Status { known, found });
    assert_eq!(a.on_state(&State { status: Status::Refused, ..answer }), status(Status::Accepted, Status::Refused));
    assert_eq!(b.on_state(&State { status: Status::Accepted, ..plain }), status(Status::None, Status::Accepted));
    assert_eq!(
        Life::requested(3, GRANT).on_state(&State { status: Status::None, ..answer }),
        status(Status::Accepted, Status::None)
    );
    assert_eq!(a.on_state(&State { peer: 9, ..answer }), Err(Violation::Peer { known: 8, found: 9 }));
    assert_eq!(b.on_state(&State { grant: None, ..plain }), Err(Violation::NoRing));
    b.on_state(&State { stop: true, ..plain }).unwrap();
    assert_eq!(b.on_state(&plain), Err(Violation::FlagsBack));
    assert_eq!(a.on_done(false, true), Err(Violation::DoneEarly));
    assert_eq!(a.on_done(true, false), Err(Violation::DoneEarly));
    a.abort();
    assert_eq!(a.on_done(false, true), Ok(()));
}
