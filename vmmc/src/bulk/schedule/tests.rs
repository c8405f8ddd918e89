//! The order of grants, against what was promised of it.

use proptest::prelude::*;

use super::*;

const ENTRIES: u32 = 100;
const FEW: u32 = 10;

fn request(peer: u64, transfer: u32, range: Range<u64>) -> Request {
    Request { peer, transfer, entries: 10, segment: 100, arena: 0, range }
}

fn apart(peer: u64, transfer: u32) -> Request {
    let start = (peer << 32) + (u64::from(transfer) << 8);
    request(peer, transfer, start..start + 256)
}

fn next(schedule: &mut Schedule, room: u32, unused: u32) -> Option<(u64, u32)> {
    schedule.next(room, unused, None, |_| true).map(|request| (request.peer, request.transfer))
}

#[test]
fn several_of_one_peer_are_open_until_another_waits() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    let all = MAX_OPEN as u32;
    for transfer in 0..all + 3 {
        schedule.request(apart(1, transfer)).unwrap();
    }
    for transfer in 0..all {
        assert_eq!(next(&mut schedule, ENTRIES, 100), Some((1, transfer)));
    }
    assert_eq!(next(&mut schedule, ENTRIES, 0), None, "so many are open");
    assert!(!schedule.others_wait(1) && schedule.others_wait(2));
    schedule.request(apart(2, 0)).unwrap();
    assert!(schedule.others_wait(1));
    assert!(schedule.closed(1, 0));
    assert_eq!(next(&mut schedule, ENTRIES, FEW), Some((1, all)), "it was before the other in the queue");
    (1..=all).for_each(|transfer| assert!(schedule.closed(1, transfer)));
    assert_eq!(next(&mut schedule, ENTRIES, FEW), Some((2, 0)));
    assert_eq!(next(&mut schedule, ENTRIES, FEW + 1), None, "its places would be behind many unused");
    assert!(!schedule.closed(1, all));
    assert_eq!(next(&mut schedule, ENTRIES, FEW), Some((1, all + 1)));
}

#[test]
fn all_that_is_posted_is_of_one_length() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    schedule.request(Request { segment: 200, ..apart(1, 0) }).unwrap();
    let mut next = |posted| schedule.next(ENTRIES, 0, posted, |_| true).is_some();
    assert!(!next(Some(100)) && !next(Some(201)));
    assert!(next(Some(200)));
}

#[test]
fn who_is_not_ready_keeps_nobody_waiting() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    for peer in [1, 2, 1] {
        schedule.request(apart(peer, schedule.waiting.len() as u32)).unwrap();
    }
    let mut next = |unready| schedule.next(ENTRIES, 0, None, |request| request.peer != unready).map(|r| r.peer);
    assert_eq!([next(1), next(1), next(2), next(0), next(0)], [Some(2), None, Some(1), Some(1), None]);
}

#[test]
fn what_overlaps_or_finds_no_room_waits() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    schedule.request(request(1, 0, 0..100)).unwrap();
    schedule.request(request(1, 1, 99..100)).unwrap();
    assert_eq!(next(&mut schedule, 9, 0), None);
    assert_eq!(next(&mut schedule, 10, 0), Some((1, 0)));
    assert_eq!(next(&mut schedule, ENTRIES, 0), None);
    schedule.closed(1, 0);
    assert_eq!(next(&mut schedule, ENTRIES, 0), Some((1, 1)));
    schedule.request(Request { arena: 1, ..request(1, 2, 0..100) }).unwrap();
    assert_eq!(next(&mut schedule, ENTRIES, 0), Some((1, 2)), "another arena is other memory");
}

#[test]
fn who_withdraws_waits_for_nothing() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    for (peer, transfer) in [(1, 0), (1, 1), (2, 0)] {
        schedule.request(apart(peer, transfer)).unwrap();
    }
    assert_eq!(schedule.withdraw(1), [apart(1, 0), apart(1, 1)]);
    assert_eq!(next(&mut schedule, ENTRIES, 0), Some((2, 0)));
    assert_eq!(schedule.withdraw(1), []);
    assert_eq!(schedule.forget(2), [apart(2, 0)]);
    assert!(schedule.open.is_empty());
}

#[test]
fn what_is_too_much_is_declined() {
    let mut schedule = Schedule::new(ENTRIES, FEW);
    for entries in [0, ENTRIES + 1, u32::MAX] {
        let declined = schedule.request(Request { entries, ..apart(1, 0) });
        assert_eq!(declined, Err(Declined::Entries { entries, limit: ENTRIES }));
    }
    for transfer in 0..MAX_WAITING as u32 {
        assert_eq!(schedule.request(apart(1, transfer)), Ok(()));
        assert_eq!(schedule.request(apart(1, transfer)), Err(Declined::Again(transfer)));
    }
    assert_eq!(schedule.request(apart(1, 99)), Err(Declined::Full));
    assert_eq!(schedule.request(apart(2, 99)), Ok(()), "it doesn't fill another's");
    assert!(schedule.next(ENTRIES, 0, None, |_| true).is_some());
    assert_eq!(schedule.request(apart(1, 0)), Err(Declined::Again(0)), "it is open");
    assert_eq!(schedule.request(apart(1, 99)), Ok(()));
}

#[derive(Clone, Debug)]
enum Step {
    Request { peer: u64, transfer: u32, entries: u32, arena: u64, range: Range<u64> },
    Next { room: u32, unused: u32 },
    Close(usize),
    Closed(u64, u32),
    Forget(u64),
    Cancel(u64, u32),
    Withdraw(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let peer = || prop_oneof![9 => 0u64..4, 1 => any::<u64>()];
    let entries = prop_oneof![9 => 1..=ENTRIES, 1 => any::<u32>()];
    let range = prop_oneof![9 => (0u64..8, 0u64..8).prop_map(|(start, end)| start..end), 1 => any::<Range<u64>>()];
    prop_oneof![
        6 => (peer(), 0u32..40, entries, 0u64..2, range)
            .prop_map(|(peer, transfer, entries, arena, range)| Step::Request { peer, transfer, entries, arena, range }),
        4 => (0..=ENTRIES, 0..2 * FEW).prop_map(|(room, unused)| Step::Next { room, unused }),
        3 => any::<usize>().prop_map(Step::Close),
        1 => (peer(), 0u32..40).prop_map(|(peer, transfer)| Step::Closed(peer, transfer)),
        1 => peer().prop_map(Step::Forget),
        1 => (peer(), 0u32..40).prop_map(|(peer, transfer)| Step::Cancel(peer, transfer)),
        1 => peer().prop_map(Step::Withdraw),
    ]
}

/// The requests taken, in the order they came.
#[derive(Default)]
struct Model {
    waiting: Vec<Request>,
    open: Vec<Request>,
}

impl Model {
    fn opened(&mut self, request: &Request, room: u32, unused: u32) {
        let first = self.waiting.iter().position(|waiting| waiting.peer == request.peer).unwrap();
        assert_eq!(self.waiting.remove(first), *request, "a peer's are granted in order");
        assert!(request.entries <= room);
        for open in &self.open {
            assert!(open.arena != request.arena || disjoint(&open.range, &request.range));
            assert!(open.peer == request.peer || unused <= FEW);
        }
        self.open.push(request.clone());
        assert!(self.open.len() <= MAX_OPEN);
    }
}

proptest! {
    #[test]
    fn any_calls(steps in prop::collection::vec(steps(), 0..200)) {
        let mut schedule = Schedule::new(ENTRIES, FEW);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Request { peer, transfer, entries, arena, range } => {
                    let request = Request { peer, transfer, entries, segment: 100, arena, range };
                    if schedule.request(request.clone()).is_ok() {
                        model.waiting.push(request);
                    }
                }
                Step::Next { room, unused } => {
                    if let Some(request) = schedule.next(room, unused, None, |_| true) {
                        model.opened(&request, room, unused);
                    }
                }
                Step::Close(index) if !model.open.is_empty() => {
                    let open = model.open.remove(index % model.open.len());
                    assert!(schedule.closed(open.peer, open.transfer));
                }
                Step::Close(_) => {}
                Step::Closed(peer, transfer) => {
                    let before = model.open.len();
                    model.open.retain(|open| (open.peer, open.transfer) != (peer, transfer));
                    prop_assert_eq!(schedule.closed(peer, transfer), model.open.len() < before);
                }
                Step::Forget(peer) => {
                    model.waiting.retain(|waiting| waiting.peer != peer);
                    let theirs = model.open.extract_if(.., |open| open.peer == peer).collect::<Vec<_>>();
                    prop_assert_eq!(schedule.forget(peer), theirs);
                }
                Step::Cancel(peer, transfer) => {
                    model.waiting.retain(|waiting| (waiting.peer, waiting.transfer) != (peer, transfer));
                    schedule.cancel(peer, transfer);
                }
                Step::Withdraw(peer) => {
                    let theirs = model.waiting.extract_if(.., |waiting| waiting.peer == peer).collect::<Vec<_>>();
                    prop_assert_eq!(schedule.withdraw(peer), theirs);
                }
            }
            prop_assert_eq!(&schedule.open, &model.open);
            let waiting = schedule.waiting.iter().map(|(_, queue)| queue.len()).collect::<Vec<_>>();
            prop_assert!(waiting.iter().all(|&waiting| (1..=MAX_WAITING).contains(&waiting)));
            prop_assert_eq!(waiting.iter().sum::<usize>(), model.waiting.len());
            prop_assert_eq!(schedule.is_empty(), model.waiting.is_empty());
        }
        // With room, and when each is closed in time, all come, and in turns.
        for open in std::mem::take(&mut model.open) {
            schedule.closed(open.peer, open.transfer);
        }
        let mut turns = Vec::new();
        while let Some(request) = schedule.next(ENTRIES, 0, None, |_| true) {
            model.opened(&request, ENTRIES, 0);
            model.open.clear();
            schedule.closed(request.peer, request.transfer);
            let waiting = model.waiting.iter().map(|waiting| waiting.peer).collect::<Vec<_>>();
            turns.push((request.peer, waiting));
        }
        prop_assert!(model.waiting.is_empty() && schedule.is_empty());
        // Who waits isn't passed over twice by the same peer.
        for (turn, (peer, waiting)) in turns.iter().enumerate() {
            if let Some(again) = turns[turn + 1..].iter().position(|(other, _)| other == peer) {
                let between = &turns[turn + 1..turn + 1 + again];
                prop_assert!(waiting.iter().all(|other| other == peer || between.iter().any(|(turn, _)| turn == other)));
            }
        }
    }
}
