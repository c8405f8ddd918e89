//! Each policy against an obvious one that looks at everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is known of a frame: when it was pinned, when it was last used, how often.
#[derive(Clone, Copy, Debug)]
struct Known {
    pinned: u64,
    used: u64,
    uses: u64,
}

/// The victim by definition.
fn expected(kind: PolicyKind, frames: &BTreeMap<u32, Known>, movable: impl Fn(u32) -> bool) -> Option<u32> {
    let candidates = frames.iter().filter(|(frame, _)| movable(**frame));
    let found = match kind {
        PolicyKind::Lru => candidates.min_by_key(|(_, known)| known.used),
        PolicyKind::Mru => candidates.max_by_key(|(_, known)| known.used),
        PolicyKind::Lfu => candidates.min_by_key(|(_, known)| (known.uses, known.used)),
        PolicyKind::Fifo => candidates.min_by_key(|(_, known)| known.pinned),
        PolicyKind::Random => unreachable!("any may go"),
    };
    found.map(|(&frame, _)| frame)
}

#[derive(Clone, Debug)]
enum Step {
    Pin(u32),
    Use(u32),
    Unpin(u32),
    Keep(u32),
    LetGo(u32),
    Victim,
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    let frame = 0u32..24;
    prop_oneof![
        4 => frame.clone().prop_map(Step::Pin),
        6 => frame.clone().prop_map(Step::Use),
        1 => frame.clone().prop_map(Step::Unpin),
        3 => frame.clone().prop_map(Step::Keep),
        3 => frame.prop_map(Step::LetGo),
        2 => Just(Step::Victim),
        2 => Just(Step::Evict),
    ]
}

fn check(kind: PolicyKind, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut policy = kind.policy(7);
    let mut frames: BTreeMap<u32, Known> = BTreeMap::new();
    let mut kept = [false; 24];
    let mut aside = [false; 24];
    for (clock, step) in (1..).zip(steps) {
        match step {
            Step::Pin(frame) if !frames.contains_key(&frame) => {
                policy.pinned(frame);
                frames.insert(frame, Known { pinned: clock, used: clock, uses: 1 });
                (kept[frame as usize], aside[frame as usize]) = (false, false);
            }
            Step::Use(frame) => {
                if let Some(known) = frames.get_mut(&frame) {
                    policy.used(frame);
                    (known.used, known.uses) = (clock, known.uses + 1);
                }
            }
            Step::Unpin(frame) if frames.remove(&frame).is_some() => policy.unpinned(frame),
            Step::Keep(frame) => kept[frame as usize] = true,
            Step::LetGo(frame) => {
                kept[frame as usize] = false;
                if frames.contains_key(&frame) && std::mem::take(&mut aside[frame as usize]) {
                    policy.movable_again(frame);
                }
            }
            Step::Victim | Step::Evict => {
                let mut asked = 0;
                let victim = policy.victim(&mut |frame| {
                    asked += 1;
                    assert!(!aside[frame as usize], "a frame that was set aside is asked for again");
                    aside[frame as usize] = kept[frame as usize];
                    !kept[frame as usize]
                });
                prop_assert!(asked <= frames.len() + 1);
                if kind == PolicyKind::Random {
                    let any = frames.keys().any(|&frame| !kept[frame as usize]);
                    prop_assert_eq!(victim.is_some(), any);
                    prop_assert!(victim.is_none_or(|frame| frames.contains_key(&frame) && !kept[frame as usize]));
                } else {
                    prop_assert_eq!(victim, expected(kind, &frames, |frame| !kept[frame as usize]));
                }
                if let (Step::Evict, Some(frame)) = (&step, victim) {
                    policy.unpinned(frame);
                    frames.remove(&frame);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 512 }))]
    #[test]
    fn victims_are_those_of_the_definition(kind in prop::sample::select(&PolicyKind::ALL[..]), steps in prop::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 150 })) {
        check(kind, steps)?;
    }
}

#[test]
fn any_may_go_at_random() {
    let mut policy = PolicyKind::Random.policy(1);
    (0..8).for_each(|frame| policy.pinned(frame));
    let mut chosen = [0; 8];
    for _ in 0..800 {
        chosen[policy.victim(&mut |_| true).unwrap() as usize] += 1;
    }
    assert!(chosen.iter().all(|&times| times > 50), "{chosen:?}");
}

#[test]
fn names() {
    for kind in PolicyKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "clock".parse::<PolicyKind>().unwrap_err();
    assert_eq!(error.to_string(), "there is no policy \"clock\": choose lru, mru, lfu, fifo, random");
}
