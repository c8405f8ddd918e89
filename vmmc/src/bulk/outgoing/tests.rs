//! What is sent, and when, against a receiver that is honest, and one that says anything.
#![allow(clippy::single_range_in_vec_init)] // one range is what is meant

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Sends all that may be sent now.
fn send(outgoing: &mut Outgoing, window: u64) -> Vec<(u32, u32)> {
    let mut sent = Vec::new();
    while let Some(next) = outgoing.next_segment(window) {
        outgoing.sent(&next);
        sent.push((next.grant, next.segment));
    }
    sent
}

/// The transfers that aren't finished.
fn numbers(outgoing: &Outgoing) -> Vec<u32> {
    outgoing.transfers.iter().map(|transfer| transfer.number).collect()
}

#[test]
fn segments_go_highest_first_and_what_is_missing_before_them() {
    let mut outgoing = Outgoing::default();
    let (first, second) = (outgoing.ask(4).unwrap(), outgoing.ask(2).unwrap());
    assert_eq!(send(&mut outgoing, 10), []);
    outgoing.on_granted(first, 70).unwrap();
    outgoing.on_granted(second, 71).unwrap();
    assert_eq!(send(&mut outgoing, 3), [(70, 3), (70, 2), (70, 1)]);
    outgoing.on_missing(70, &[2..4, 0..1]).unwrap();
    assert_eq!(outgoing.in_flight(), 1);
    assert_eq!(send(&mut outgoing, 10), [(70, 3), (70, 2), (70, 0), (71, 1), (71, 0)]);
    assert_eq!(outgoing.on_missing(70, &[2..3]), Ok(2));
    outgoing.on_landed(70, 4).unwrap();
    assert_eq!(outgoing.in_flight(), 0);
    assert_eq!(send(&mut outgoing, 10), [(71, 1), (71, 0)], "all of the first have landed");
    assert_eq!(outgoing.on_done(first), Ok(false));
    assert_eq!(outgoing.on_done(second), Ok(false));
    assert!(outgoing.transfers.is_empty());
}

#[test]
fn what_had_landed_and_is_missing_after_all_is_sent_again() {
    let mut outgoing = Outgoing::default();
    let transfer = outgoing.ask(3).unwrap();
    outgoing.on_granted(transfer, 1).unwrap();
    assert_eq!(send(&mut outgoing, 10), [(1, 2), (1, 1), (1, 0)]);
    outgoing.on_landed(1, 3).unwrap();
    // Its receiver has found that what landed wasn't what it was taken for.
    outgoing.on_missing(1, &[1..3]).unwrap();
    assert_eq!(send(&mut outgoing, 10), [(1, 2), (1, 1)]);
    assert_eq!(outgoing.on_done(transfer), Ok(false));
}

#[test]
fn what_is_granted_first_goes_first() {
    let mut outgoing = Outgoing::default();
    let (first, second) = (outgoing.ask(1).unwrap(), outgoing.ask(1).unwrap());
    outgoing.on_granted(second, 5).unwrap();
    outgoing.on_granted(first, 6).unwrap();
    assert_eq!(send(&mut outgoing, 10), [(5, 0), (6, 0)]);
}

#[test]
fn only_so_many_are_asked_for_ahead() {
    let mut outgoing = Outgoing::default();
    assert_eq!((outgoing.ask(0), outgoing.ask(MAX_SEGMENTS + 1)), (None, None));
    for number in 0..MAX_AHEAD as u32 {
        assert_eq!(outgoing.ask(MAX_SEGMENTS), Some(number));
    }
    assert_eq!(outgoing.ask(1), None);
    assert_eq!(outgoing.on_declined(2), Ok(false));
    assert_eq!(outgoing.ask(1), Some(MAX_AHEAD as u32));
    let others = (0..=MAX_AHEAD as u32).filter(|number| *number != 2);
    assert_eq!(numbers(&outgoing), others.collect::<Vec<_>>());
}

#[test]
fn what_is_cancelled_is_sent_no_more_and_remembered() {
    let mut outgoing = Outgoing::default();
    let transfer = outgoing.ask(3).unwrap();
    outgoing.on_granted(transfer, 1).unwrap();
    assert_eq!(send(&mut outgoing, 1), [(1, 2)]);
    assert!(outgoing.cancel(transfer) && !outgoing.cancel(transfer + 1));
    outgoing.on_landed(1, 1).unwrap();
    outgoing.on_missing(1, &[0..3]).unwrap();
    assert_eq!(send(&mut outgoing, 10), []);
    assert_eq!(numbers(&outgoing), [transfer]);
    assert_eq!(outgoing.on_declined(transfer), Ok(true));
    assert!(outgoing.transfers.is_empty());
}

#[test]
fn what_lies_behind_something_missing_is_lost_too() {
    let mut outgoing = Outgoing::default();
    for grant in 0..4 {
        let transfer = outgoing.ask(3).unwrap();
        outgoing.on_granted(transfer, grant).unwrap();
    }
    assert_eq!(send(&mut outgoing, 8), [(0, 2), (0, 1), (0, 0), (1, 2), (1, 1), (1, 0), (2, 2), (2, 1)]);
    outgoing.on_landed(0, 2).unwrap();
    // What of the second has landed all the same it needn't have again.
    assert_eq!(outgoing.on_missing(0, &[1..2]), Ok(5));
    assert_eq!(outgoing.in_flight(), 0);
    assert_eq!((outgoing.is_sent(0), outgoing.is_sent(1)), (None, None));
    outgoing.on_landed(1, 2).unwrap();
    assert_eq!(send(&mut outgoing, 4), [(0, 1), (1, 0), (2, 2), (2, 1)]);
    // It is there before it has been sent again, and then it isn't lost a second time.
    outgoing.on_landed(2, 2).unwrap();
    assert_eq!(outgoing.on_missing(1, &[0..1]), Ok(0));
    assert_eq!(outgoing.on_landed(3, 1), Err(Nonsense::Landed { grant: 3, landed: 1, sent: 0 }));
    assert_eq!(send(&mut outgoing, 10), [(1, 0), (2, 0), (3, 2), (3, 1), (3, 0)]);
    for transfer in 0..4 {
        assert_eq!(outgoing.on_done(transfer), Ok(false));
    }
}

#[test]
fn what_was_taken_for_lost_may_be_done() {
    let mut outgoing = Outgoing::default();
    for grant in 0..2 {
        let transfer = outgoing.ask(2).unwrap();
        outgoing.on_granted(transfer, grant).unwrap();
    }
    assert_eq!(send(&mut outgoing, 4), [(0, 1), (0, 0), (1, 1), (1, 0)]);
    assert_eq!(outgoing.on_missing(0, &[0..1]), Ok(2));
    assert_eq!(outgoing.on_done(0), Ok(false));
    assert_eq!(outgoing.on_done(1), Ok(false));
}

#[test]
fn nonsense_is_refused() {
    let mut outgoing = Outgoing::default();
    let transfer = outgoing.ask(3).unwrap();
    assert_eq!(outgoing.on_granted(9, 0), Err(Nonsense::Transfer(9)));
    assert_eq!(outgoing.on_done(transfer), Err(Nonsense::Transfer(transfer)), "it wasn't granted");
    outgoing.on_granted(transfer, 0).unwrap();
    assert_eq!(outgoing.on_granted(transfer, 1), Err(Nonsense::Transfer(transfer)));
    assert_eq!(outgoing.on_granted(transfer, 0), Err(Nonsense::Grant(0)));
    assert_eq!(outgoing.on_done(transfer), Err(Nonsense::Transfer(transfer)), "it wasn't sent");
    assert_eq!(outgoing.on_landed(0, 1), Err(Nonsense::Landed { grant: 0, landed: 1, sent: 0 }));
    assert_eq!(outgoing.on_landed(1, 0), Err(Nonsense::Grant(1)));
    send(&mut outgoing, 10);
    outgoing.on_landed(0, 2).unwrap();
    let landed = 2 + u64::from(u32::MAX);
    assert_eq!(outgoing.on_landed(0, u32::MAX), Err(Nonsense::Landed { grant: 0, landed, sent: 3 }));
    let reversed = Range { start: 2, end: 1 };
    for ranges in [&[1..1][..], &[reversed], &[0..4], &[0..1, 1..2], &[1..2, 0..2], &[4..u32::MAX]] {
        let refused = outgoing.on_missing(0, ranges).unwrap_err();
        assert!(matches!(refused, Nonsense::Missing { segments: 3, .. }), "{ranges:?}: {refused}");
    }
    assert_eq!(send(&mut outgoing, 10), []);
    assert_eq!(outgoing.on_missing(1, &[]), Err(Nonsense::Grant(1)));
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u32),
    Granted(u32, u32),
    Declined(u32),
    Landed(u32, u32),
    Missing(u32, Vec<Range<u32>>),
    Done(u32),
    Cancel(u32),
    Send(u64, u8),
    Sent(Next),
}

fn steps() -> impl Strategy<Value = Step> {
    let transfer = || prop_oneof![9 => 0u32..8, 1 => any::<u32>()];
    let segment = || prop_oneof![9 => 0u32..12, 1 => any::<u32>()];
    let range = prop_oneof![
        9 => (0u32..12, 0u32..12).prop_map(|(one, other)| one.min(other)..one.max(other) + 1),
        1 => (segment(), segment()).prop_map(|(start, end)| start..end),
    ];
    let next = (transfer(), transfer(), segment(), any::<bool>()).prop_map(|(transfer, grant, segment, again)| Next {
        transfer,
        grant,
        segment,
        again,
    });
    prop_oneof![
        3 => segment().prop_map(Step::Ask),
        3 => (transfer(), transfer()).prop_map(|(transfer, grant)| Step::Granted(transfer, grant)),
        1 => transfer().prop_map(Step::Declined),
        2 => (transfer(), segment()).prop_map(|(grant, count)| Step::Landed(grant, count)),
        4 => (transfer(), prop::collection::vec(range, 0..3)).prop_map(|(grant, ranges)| Step::Missing(grant, ranges)),
        1 => transfer().prop_map(Step::Done),
        1 => transfer().prop_map(Step::Cancel),
        6 => (0u64..20, any::<u8>()).prop_map(|(window, count)| Step::Send(window, count)),
        1 => next.prop_map(Step::Sent),
    ]
}

proptest! {
    /// Whatever the peer says, it is taken or refused, and nothing grows.
    #[test]
    fn any_calls(steps in prop::collection::vec(steps(), 0..200)) {
        let mut outgoing = Outgoing::default();
        for step in steps {
            let numbers = numbers(&outgoing);
            let existing = |number: u32| numbers.get(number as usize).copied().unwrap_or(number);
            match step {
                Step::Ask(segments) => _ = outgoing.ask(segments),
                Step::Granted(transfer, grant) => _ = outgoing.on_granted(existing(transfer), grant),
                Step::Declined(transfer) => _ = outgoing.on_declined(existing(transfer)),
                Step::Landed(grant, count) => _ = outgoing.on_landed(grant, count),
                Step::Missing(grant, ranges) => {
                    let before = format!("{outgoing:?}");
                    if outgoing.on_missing(grant, &ranges).is_err() {
                        prop_assert_eq!(before, format!("{outgoing:?}"));
                    }
                }
                Step::Done(transfer) => _ = outgoing.on_done(existing(transfer)),
                Step::Cancel(transfer) => _ = outgoing.cancel(existing(transfer)),
                Step::Send(window, count) => {
                    for _ in 0..count {
                        let Some(next) = outgoing.next_segment(window) else { break };
                        let of = outgoing.transfers.iter().find(|transfer| transfer.number == next.transfer).unwrap();
                        prop_assert!(outgoing.in_flight() < window || of.in_flight() == 0);
                        prop_assert_eq!(outgoing.next_segment(window), Some(next));
                        let transfer = outgoing.granted(next.grant).unwrap();
                        prop_assert!(transfer.number == next.transfer && !transfer.cancelled);
                        outgoing.sent(&next);
                        prop_assert_ne!(outgoing.next_segment(u64::MAX), Some(next));
                    }
                }
                Step::Sent(next) => _ = outgoing.sent(&next),
            }
            prop_assert!(outgoing.transfers.len() <= MAX_AHEAD);
            for transfer in &outgoing.transfers {
                prop_assert!(transfer.unsent <= transfer.segments && transfer.landed <= transfer.segments - transfer.unsent);
                let mut again = transfer.again.iter().copied().collect::<Vec<_>>();
                again.sort_unstable();
                let marked = (0..transfer.segments).filter(|&segment| transfer.is_again[segment as usize]);
                prop_assert!(marked.eq(again.iter().copied()), "each once, and marked");
                prop_assert!(again.iter().all(|segment| (transfer.unsent..transfer.segments).contains(segment)));
            }
        }
    }

    /// With a receiver that says what it sees, what is under way is known to the packet, and stays in the window.
    #[test]
    fn the_window_holds(
        segments in prop::collection::vec(1u32..40, 1..4), window in 1u64..20, fates in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let mut outgoing = Outgoing::default();
        for (number, &segments) in segments.iter().enumerate() {
            let transfer = outgoing.ask(segments).unwrap();
            outgoing.on_granted(transfer, 100 + number as u32).unwrap();
        }
        let mut fates = fates.into_iter().cycle();
        let mut here: HashMap<u32, Vec<bool>> =
            (100..).zip(segments.iter().map(|&segments| vec![false; segments as usize])).collect();
        let mut under_way = VecDeque::new();
        let mut lost = 0;
        while !outgoing.transfers.is_empty() {
            while let Some(next) = outgoing.next_segment(window) {
                outgoing.sent(&next);
                under_way.push_back(next);
                // Of each transfer one may be beyond it.
                prop_assert!(under_way.len() as u64 <= window + outgoing.transfers.len() as u64);
            }
            prop_assert_eq!(outgoing.in_flight(), under_way.len() as u64);
            let next: Next = under_way.pop_front().expect("something is under way while not all is done");
            if fates.next().unwrap() < 64 && lost < 200 {
                lost += 1;
                let behind = outgoing.on_missing(next.grant, &[next.segment..next.segment + 1]).unwrap();
                let before = under_way.len();
                under_way.retain(|other: &Next| other.grant <= next.grant || here[&other.grant].contains(&true));
                prop_assert_eq!(before - under_way.len(), behind as usize, "what finds no place");
                continue;
            }
            let segments = here.get_mut(&next.grant).unwrap();
            prop_assert!(!std::mem::replace(&mut segments[next.segment as usize], true), "it was sent twice for nothing");
            outgoing.on_landed(next.grant, 1).unwrap();
            if segments.iter().all(|&here| here) {
                prop_assert_eq!(outgoing.on_done(next.transfer), Ok(false));
            }
        }
    }
}
