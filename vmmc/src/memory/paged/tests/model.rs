//! Random maps, writes, holds, budgets, splits and drops, against a vector of bytes.

use proptest::prelude::*;

use super::*;
use crate::memory::PagedHold;

/// The places that bytes are written and looked at: many of them at the edges of pages.
fn place() -> impl Strategy<Value = usize> {
    (0usize..12, prop_oneof![Just(0), Just(1), Just(4095), 0usize..4096]).prop_map(|(page, at)| page * page_size() + at)
}

#[derive(Clone, Debug)]
enum Step {
    Map(usize),
    Write(usize, usize, u8),
    Hold(usize, usize, usize),
    Release(usize),
    HoldWhileWriting(usize, usize, usize),
    Budget(usize),
    Split(usize, usize),
    Join(usize, usize),
    Drop(usize),
    Take(usize),
    GiveBack,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..6;
    prop_oneof![
        2 => place().prop_map(Step::Map),
        6 => (which.clone(), place(), any::<u8>()).prop_map(|(w, at, value)| Step::Write(w, at, value)),
        8 => (which.clone(), place(), place()).prop_map(|(w, at, len)| Step::Hold(w, at, len)),
        6 => which.clone().prop_map(Step::Release),
        2 => (which.clone(), which.clone(), place()).prop_map(|(w, other, at)| Step::HoldWhileWriting(w, other, at)),
        2 => (0usize..20).prop_map(Step::Budget),
        2 => (which.clone(), 0usize..12).prop_map(|(w, page)| Step::Split(w, page)),
        1 => (which.clone(), which.clone()).prop_map(|(w, other)| Step::Join(w, other)),
        1 => which.prop_map(Step::Drop),
        1 => (1usize..12).prop_map(Step::Take),
        1 => Just(Step::GiveBack),
    ]
}

/// A buffer, and the bytes that it should have.
struct Pair {
    real: PagedBuffer,
    model: Vec<u8>,
}

fn check(config: Config, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (arena, paging) = paging(16, config);
    let page = page_size();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut holds: Vec<PagedHold<'static>> = Vec::new();
    let mut taken = Vec::new();
    for step in steps {
        let count = pairs.len().max(1);
        match step {
            Step::Map(len) if pairs.len() < 6 => {
                let len = len + 1;
                pairs.push(Pair { real: paging.map(len).unwrap(), model: vec![0; len] });
            }
            Step::Write(which, at, value) => {
                if let Some(Pair { real, model }) = pairs.get_mut(which % count) {
                    let start = at.min(model.len());
                    let end = (start + 3 * page / 2).min(model.len());
                    real.write_part(start..end).unwrap().fill(value);
                    model[start..end].fill(value);
                }
            }
            Step::Hold(which, at, len) => {
                if let Some(Pair { real, model }) = pairs.get(which % count) {
                    let start = at.min(model.len());
                    holds.push(real.hold(start..(start + len).min(model.len())).into_owned());
                }
            }
            Step::Release(which) if !holds.is_empty() => drop(holds.swap_remove(which % holds.len())),
            Step::HoldWhileWriting(which, other, at) if pairs.len() > 1 => {
                let (which, other) = (which % count, other % count);
                if which != other {
                    let mut pair = pairs.swap_remove(which);
                    let other = &pairs[other % pairs.len()];
                    let mut guard = pair.real.write();
                    let hold = other.real.hold(0..other.model.len());
                    let at = at % guard.len().max(1);
                    if at < guard.len() {
                        (guard[at], pair.model[at]) = (77, 77);
                    }
                    drop((hold, guard));
                    pairs.push(pair);
                }
            }
            Step::Budget(pages) => paging.set_budget(pages * page),
            Step::Split(which, at) if pairs.len() < 6 => {
                if let Some(Pair { real, model }) = pairs.get_mut(which % count)
                    && at * page <= model.len()
                {
                    let part = Pair { real: real.split_off(at * page).unwrap(), model: model.split_off(at * page) };
                    pairs.push(part);
                }
            }
            Step::Join(which, other) if pairs.len() > 1 => {
                let Pair { real, model } = pairs.swap_remove(other % count);
                let to = which % pairs.len();
                match pairs[to].real.unsplit(real) {
                    Ok(()) => pairs[to].model.extend(model),
                    Err(real) => pairs.push(Pair { real, model }),
                }
            }
            Step::Drop(which) if !pairs.is_empty() => drop(pairs.swap_remove(which % count)),
            Step::Take(pages) => taken.extend(arena.buffer(pages * page - 300)),
            Step::GiveBack => taken.clear(),
            _ => {}
        }
        for Pair { real, model } in &pairs {
            prop_assert!(**real == model[..]);
        }
        let counters = paging.counters();
        prop_assert!(counters.pinned <= counters.budget.max(counters.held), "{:?}", counters);
        prop_assert_eq!(counters.hits + counters.misses, counters.lookups);
        prop_assert_eq!(counters.failures, 0);
    }
    drop((holds, pairs, taken));
    prop_assert_eq!(paging.counters().pinned, 0);
    prop_assert_eq!(arena.available(), arena.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn bytes_are_what_was_written(
        policy in prop::sample::select(&PolicyKind::ALL[..]),
        rule in prop_oneof![3 => Just(Rule::Pin), 1 => Just(Rule::SkiRental)],
        prefetch in 0u32..4,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut config = Config { policy, rule, prefetch, ..always(6) };
        // So that the ski rental comes to its end within a test.
        config.costs.copy_page = 4000;
        check(config, steps)?;
    }
}
