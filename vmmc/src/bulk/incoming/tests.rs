//! What is asked for and when, what is saved, and that no order of calls confuses the account.
#![allow(clippy::single_range_in_vec_init)] // one range is what is meant

use proptest::prelude::*;

use super::*;

const STALL: Duration = Duration::from_nanos(100);

fn at(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

/// The segments that aren't here, as ranges, highest first.
fn missing(incoming: &Incoming) -> Vec<Range<u32>> {
    let numbers = 0..incoming.segments.len() as u32;
    ranges(numbers.rev().filter(|&number| incoming.segments[number as usize].landed == 0), usize::MAX).0
}

/// All positions posted; position `p` of `segments` is place `segments - 1 - p`.
fn posted(segments: u32, overlap: usize) -> Incoming {
    let mut incoming = Incoming::new(segments, overlap, Time::ZERO).unwrap();
    for place in 0..u64::from(segments) {
        let position = incoming.next_to_post().unwrap();
        assert_eq!(u64::from(position), u64::from(segments) - 1 - place);
        assert_eq!(incoming.needs_saving(position), overlap > 0 && position == 0);
        assert!(incoming.posted(position, place));
    }
    assert_eq!(incoming.next_to_post(), None);
    incoming
}

/// These segments land one after another, in the places from `place` on.
fn land(incoming: &mut Incoming, nanos: u64, place: u64, segments: impl IntoIterator<Item = u32>) {
    for (place, segment) in (place..).zip(segments) {
        assert!(incoming.landed(at(nanos), place, segment, true).unwrap().kept);
    }
}

#[test]
fn segments_in_order_need_nothing() {
    let mut incoming = posted(4, 0);
    land(&mut incoming, 1, 0, [3, 2, 1]);
    assert_eq!((incoming.report(), incoming.report()), (3, 0));
    assert_eq!(missing(&incoming), [0..1]);
    assert_eq!((incoming.moves(), incoming.is_complete()), (vec![], false));
    land(&mut incoming, 2, 3, [0]);
    assert_eq!((incoming.moves(), incoming.is_complete()), (vec![], true));
    assert_eq!((incoming.unreported(), incoming.unused()), (1, 0));
    assert_eq!((incoming.deadline(STALL), incoming.ask(Time::FAR, STALL, 9)), (None, vec![]));
}

#[test]
fn what_is_overtaken_by_three_is_asked_for() {
    let mut incoming = posted(10, 0);
    land(&mut incoming, 1, 0, [9, 6]);
    assert_eq!(incoming.ask(at(1), STALL, 9), []);
    land(&mut incoming, 2, 2, [5]);
    assert_eq!(incoming.ask(at(2), STALL, 9), []);
    land(&mut incoming, 3, 3, [3]);
    assert_eq!(incoming.ask(at(3), STALL, 9), [7..9], "and not 4, which only one has overtaken");
    assert_eq!(incoming.ask(at(4), STALL, 9), []);
    land(&mut incoming, 5, 4, [2, 0]);
    assert_eq!(incoming.ask(at(5), STALL, 9), [4..5, 1..2], "no more than one can overtake 1");
    land(&mut incoming, 6, 6, [7, 4]);
    assert_eq!(incoming.ask(at(102), STALL, 9), [], "8 was asked for at 3");
    assert_eq!(incoming.ask(at(103), STALL, 9), [8..9]);
    land(&mut incoming, 104, 8, [1, 8]);
    assert!(incoming.is_complete());
    let moved = incoming.moves().iter().filter(|step| !matches!(step, Move::Save(_))).count();
    assert_eq!(moved, 8, "all but 9 and 1 lie elsewhere");
}

#[test]
fn a_silence_is_answered_ever_later() {
    let mut incoming = posted(4, 0);
    land(&mut incoming, 50, 0, [3]);
    let mut asked = Vec::new();
    for nanos in 50..1000 {
        let due = incoming.deadline(STALL).unwrap() <= at(nanos);
        let ranges = incoming.ask(at(nanos), STALL, 9);
        assert_eq!(due, !ranges.is_empty());
        if due {
            assert_eq!(ranges, [0..3]);
            asked.push(nanos);
        }
    }
    assert_eq!(asked, [150, 350, 750]);
    assert_eq!(incoming.quiet(at(1000)), Duration::from_nanos(950));
    land(&mut incoming, 1000, 1, [2]);
    assert_eq!(incoming.deadline(STALL), Some(at(1100)), "it begins anew");
    incoming.held_up(at(1050));
    assert_eq!((incoming.deadline(STALL), incoming.quiet(at(1060))), (Some(at(1150)), Duration::from_nanos(10)));
}

#[test]
fn so_many_ranges_at_a_time() {
    let mut incoming = posted(9, 0);
    land(&mut incoming, 0, 0, [7, 5, 3, 1]);
    assert_eq!(incoming.ask(at(100), STALL, 2), [8..9, 6..7]);
    assert_eq!(incoming.ask(at(100), STALL, 2), [4..5, 2..3]);
    assert_eq!(incoming.ask(at(100), STALL, 2), [0..1]);
    assert_eq!(incoming.ask(at(100), STALL, 2), []);
}

#[test]
fn what_is_worth_nothing_uses_up_its_place() {
    let mut incoming = posted(3, 0);
    let again = |position| Some(Landed { position, kept: false, restore: false, damaged: None });
    assert_eq!(incoming.landed(at(1), 0, 2, false), again(2));
    land(&mut incoming, 1, 1, [2]);
    assert_eq!(incoming.landed(at(1), 2, 2, true), again(0), "it is here");
    assert_eq!(incoming.landed(at(1), 2, 1, true), None, "the place was used");
    for (place, segment) in [(7, 3), (8, u32::MAX)] {
        assert_eq!(incoming.next_to_post(), Some(2));
        assert!(incoming.posted(2, place));
        assert_eq!(incoming.position_of(place), Some(2));
        assert_eq!(incoming.landed(at(1), place, segment, true), again(2), "there is no such segment");
    }
    assert!(!incoming.posted(1, 9), "it isn't free");
    assert!(incoming.posted(2, 9) && !incoming.posted(0, 9) && incoming.posted(0, 10));
    land(&mut incoming, 1, 9, [0, 1]);
    assert!(incoming.is_complete());
}

#[test]
fn what_lies_below_a_place_is_saved() {
    let mut incoming = posted(3, 66);
    land(&mut incoming, 1, 0, [2]);
    let landed = incoming.landed(at(1), 1, 1, false).unwrap();
    assert_eq!((landed.position, landed.kept, landed.restore), (1, false, false));
    assert_eq!(incoming.next_to_post(), None, "what lands in 0 is still to come");
    let landed = incoming.landed(at(1), 2, 0, true).unwrap();
    assert_eq!((landed.position, landed.kept, landed.restore), (0, true, true), "its headers fell below all");
    assert_eq!(incoming.next_to_post(), Some(1));
    assert!(incoming.needs_saving(1) && incoming.posted(1, 3));
    let mut reopened = Incoming { positions: incoming.positions.clone(), ..posted(3, 66) };
    reopened.posted = incoming.posted.clone();
    assert_eq!(
        incoming.landed(at(2), 3, 1, true),
        Some(Landed { position: 1, kept: true, restore: true, damaged: None })
    );
    assert!(incoming.is_complete());
    assert_eq!(reopened.reopened(true), [1], "something may have landed there");
}

#[test]
fn a_place_that_is_used_late_damages_what_lies_below() {
    let mut incoming = posted(4, 66);
    land(&mut incoming, 1, 0, [3]);
    land(&mut incoming, 1, 2, [2]);
    let landed = incoming.landed(at(2), 1, 1, true).unwrap();
    assert_eq!(landed, Landed { position: 2, kept: true, restore: false, damaged: Some(1) });
    assert_eq!(incoming.report(), 2);
    assert_eq!(missing(&incoming), [2..3, 0..1]);
    let mut incoming = posted(4, 66);
    land(&mut incoming, 1, 0, [3]);
    land(&mut incoming, 1, 2, [2]);
    assert_eq!(incoming.report(), 2);
    assert_eq!(incoming.reopened(true), [0], "nobody saw whether anything landed in 2");
    assert_eq!(missing(&incoming), [0..3]);
    assert_eq!(incoming.unreported(), 0, "nobody is told of it twice");
}

#[test]
fn what_was_not_trusted_is_gone() {
    let mut incoming = posted(4, 0);
    land(&mut incoming, 1, 0, [3]);
    incoming.trust();
    land(&mut incoming, 1, 1, [1]);
    assert!(incoming.reopened(true).is_empty());
    assert_eq!(missing(&incoming), [2..3, 0..1]);
    assert!(incoming.reopened(false).is_empty());
    assert_eq!(missing(&incoming), [0..3]);
    assert_eq!(incoming.next_to_post(), Some(2));
}

#[derive(Clone, Debug)]
enum Step {
    PostNext,
    Posted(u32, u64),
    LandFirst(u32, bool),
    Landed(u64, u32, bool),
    Trust,
    Reopened(bool),
    Report,
    HeldUp,
    Ask(u64, usize),
    Later(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let segment = || prop_oneof![9 => 0u32..12, 1 => any::<u32>()];
    let place = || prop_oneof![9 => 0u64..60, 1 => any::<u64>()];
    prop_oneof![
        8 => Just(Step::PostNext),
        1 => (segment(), place()).prop_map(|(position, place)| Step::Posted(position, place)),
        8 => (segment(), prop::bool::weighted(0.9)).prop_map(|(segment, intact)| Step::LandFirst(segment, intact)),
        2 => (place(), segment(), any::<bool>()).prop_map(|(place, segment, intact)| Step::Landed(place, segment, intact)),
        1 => Just(Step::Trust),
        1 => any::<bool>().prop_map(Step::Reopened),
        1 => Just(Step::Report),
        1 => Just(Step::HeldUp),
        2 => (prop_oneof![0u64..200, any::<u64>()], 0usize..4).prop_map(|(stall, limit)| Step::Ask(stall, limit)),
        2 => prop_oneof![9 => 0u64..200, 1 => any::<u64>()].prop_map(Step::Later),
    ]
}

/// That the account agrees with itself.
fn check(incoming: &mut Incoming, segments: u32) {
    let count = |is: fn(&Position) -> bool| incoming.positions.iter().filter(|position| is(position)).count();
    let held = count(|position| matches!(position, Position::Held(_)));
    let free = count(|position| *position == Position::Free);
    assert_eq!(incoming.positions.len(), segments as usize);
    assert_eq!(held, incoming.here as usize);
    assert_eq!(incoming.posted.len() + held + free, segments as usize);
    let landed = |segment: &Segment| segment.landed > 0;
    assert_eq!(incoming.segments.iter().filter(|segment| landed(segment)).count(), held);
    for position in &incoming.positions {
        let Position::Held(segment) = position else { continue };
        assert!(incoming.segments[*segment as usize].landed > 0 && *segment >= incoming.lowest);
    }
    for &(place, position) in &incoming.posted {
        assert!(matches!(incoming.positions[position as usize], Position::Posted { .. }));
        assert_eq!(incoming.position_of(place), Some(position));
    }
    assert!(incoming.posted.iter().is_sorted_by(|(one, _), (other, _)| one < other));
    assert!(incoming.reported <= segments);
    assert_eq!(incoming.is_complete(), missing(incoming).is_empty());
    let missing = missing(incoming).into_iter().map(|range| range.len()).sum::<usize>();
    assert_eq!(missing, segments as usize - held);
    assert!(incoming.moves().len() <= segments as usize * 3 / 2);
    let next = incoming.next_to_post();
    assert!(next.is_some() || free == 0 || (incoming.overlap && incoming.unused() > 0), "what is free can be posted");
}

proptest! {
    #[test]
    fn any_calls(segments in 1u32..12, overlap in 0usize..2, steps in prop::collection::vec(steps(), 0..200)) {
        let mut incoming = Incoming::new(segments, overlap, Time::ZERO).unwrap();
        let (mut now, mut place) = (Time::ZERO, 0);
        for step in steps {
            match step {
                Step::PostNext => {
                    if let Some(position) = incoming.next_to_post() {
                        place = incoming.posted.back().map_or(place, |&(last, _)| last.max(place)).saturating_add(1);
                        let last = incoming.posted.back().is_some_and(|&(last, _)| last == u64::MAX);
                        prop_assert_eq!(incoming.posted(position, place), !last);
                    }
                }
                Step::Posted(position, place) => _ = incoming.posted(position, place),
                Step::LandFirst(segment, intact) => {
                    if let Some(&(place, position)) = incoming.posted.front() {
                        let landed = incoming.landed(now, place, segment, intact).unwrap();
                        prop_assert_eq!(landed.position, position);
                        prop_assert!(!landed.kept || (intact && segment < segments));
                        prop_assert!(!landed.restore || landed.damaged.is_none());
                    }
                }
                Step::Landed(place, segment, intact) => {
                    let known = incoming.position_of(place);
                    let landed = incoming.landed(now, place, segment, intact);
                    prop_assert_eq!(landed.map(|landed| landed.position), known);
                }
                Step::Trust => incoming.trust(),
                Step::Reopened(consistent) => {
                    incoming.reopened(consistent);
                    prop_assert_eq!(incoming.unused(), 0);
                }
                Step::Report => {
                    let here = incoming.here;
                    prop_assert!(incoming.report() <= here);
                }
                Step::HeldUp => incoming.held_up(now),
                Step::Ask(stall, limit) => {
                    let ranges = incoming.ask(now, Duration::from_nanos(stall), limit);
                    prop_assert!(ranges.len() <= limit);
                    prop_assert!(ranges.is_sorted_by(|one, other| one.start > other.end), "apart, highest first");
                    prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= segments));
                    let mut asked = ranges.into_iter().flatten();
                    prop_assert!(asked.all(|segment| incoming.segments[segment as usize].landed == 0));
                    let again = incoming.ask(now, Duration::from_nanos(stall.max(1)), 0);
                    prop_assert_eq!(again, []);
                }
                Step::Later(nanos) => now = now + Duration::from_nanos(nanos),
            }
            check(&mut incoming, segments);
        }
    }

    #[test]
    fn only_so_many_segments(segments: u32) {
        prop_assert_eq!(Incoming::new(segments, 0, Time::ZERO).is_some(), (1..=MAX_SEGMENTS).contains(&segments));
    }
}
