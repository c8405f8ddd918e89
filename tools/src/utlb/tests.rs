//! Small traces with figures that were reckoned by hand, laws that hold for every trace, and the guarantee of ski rental.

use std::sync::Arc;

use proptest::prelude::*;
use vmmc::memory::utlb::{Costs, PolicyKind, Rule};
use vmmc_traces::Reference;

use super::load::Trace;
use super::oracle::Future;
use super::outcome::Results;
use super::shipped;
use super::simulate::{Outcome, Policy, Setup, simulate, simulate_all};

const LRU: Policy = Policy::Real(PolicyKind::Lru);
const FIFO: Policy = Policy::Real(PolicyKind::Fifo);

/// Single pages in this order.
fn trace(pages: &[u64]) -> Trace {
    Trace::new("test", 4096, pages.iter().map(|&page| Reference { page, count: 1 }).collect()).expect("references")
}

fn setup(policy: Policy, budget: u32) -> Setup {
    Setup { policy: Some(policy), rule: Rule::Pin, budget, prefetch: 0, costs: Costs::default(), seed: 1 }
}

fn run(trace: &Trace, setup: Setup) -> Outcome {
    simulate(trace, &Arc::new(Future::new(&trace.sends, trace.end)), setup, &|_| {})
}

fn misses(trace: &Trace, policy: Policy, budget: u32) -> u64 {
    run(trace, setup(policy, budget)).counters.misses
}

/// The reference string of Belady, Nelson and Shedler, 1969.
const BELADY: [u64; 12] = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];

#[test]
fn fifo_has_beladys_anomaly_and_the_others_have_not() {
    let trace = trace(&BELADY);
    assert_eq!([3, 4].map(|budget| misses(&trace, FIFO, budget)), [9, 10]);
    assert_eq!([3, 4].map(|budget| misses(&trace, LRU, budget)), [10, 8]);
    assert_eq!([3, 4].map(|budget| misses(&trace, Policy::Opt, budget)), [7, 6]);
}

#[test]
fn each_policy_misses_as_reckoned_by_hand() {
    use PolicyKind::{Fifo, Lfu, Lru, Mru};
    let of = |pages: &[u64], budget| {
        let trace = trace(pages);
        let real = [Lru, Mru, Lfu, Fifo].map(|kind| misses(&trace, Policy::Real(kind), budget));
        (real, misses(&trace, Policy::Opt, budget))
    };
    // A loop over one page more than there is room for: LRU and FIFO always drop the one that comes next. MRU misses 1, 2, 3, 4,
    // for which 3 goes, then 3, for which 2 goes, and then 2.
    assert_eq!(of(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4], 3), ([12, 6, 12, 12], 6));
    // 1 is used often, and then 2, 3 and 4 come by: LFU keeps it for that, MRU because it wasn't the last, LRU and FIFO lose it.
    assert_eq!(of(&[1, 1, 1, 2, 3, 4, 1], 2), ([5, 4, 4, 5], 4));
    // FIFO drops 1 for its age, though it was used just now, and MRU because it was.
    assert_eq!(of(&[1, 2, 1, 3, 1], 2), ([3, 4, 3, 4], 3));
}

#[test]
fn random_is_random_by_its_seed() {
    let trace = trace(&(0..4000).map(|n| n * 7919 % 97).collect::<Vec<_>>());
    let of = |seed| run(&trace, Setup { seed, ..setup(Policy::Real(PolicyKind::Random), 40) }).counters.misses;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // On a loop it does better than LRU, which always misses.
    assert!(of(1) < misses(&trace, LRU, 40));
}

#[test]
fn every_figure_of_a_small_trace_is_right() {
    let costs = Costs { pin_call: 1000, pin_page: 100, unpin_call: 2000, unpin_page: 200, copy_page: 10 };
    // Two neighbours at once, one of them again, another pair for which both go, and the first again.
    let sends = [(0, 2), (1, 1), (8, 2), (0, 1)].map(|(page, count)| Reference { page, count });
    let trace = Trace::new("small", 4096, sends.to_vec()).unwrap();
    let pin = run(&trace, Setup { costs, ..setup(LRU, 2) });
    let counted = pin.counters;
    assert_eq!((counted.lookups, counted.hits, counted.misses), (6, 1, 5));
    assert_eq!((counted.pins, counted.pin_calls, counted.unpins, counted.unpin_calls), (5, 3, 3, 2));
    // 3 calls and 5 pages in, 2 calls and 3 pages out.
    assert_eq!(pin.cost_us(), (3 * 1000 + 5 * 100 + 2 * 2000 + 3 * 200) as f64 / 1000.0);
    let copy = run(&trace, Setup { policy: None, rule: Rule::Copy, costs, ..setup(LRU, 2) });
    assert_eq!((copy.counters.copied, copy.counters.pins, copy.cost_us()), (6, 0, 0.06));
    assert_eq!(copy.miss_ratio(), 1.0);
    // With two pages ahead 1 and 2 come with 0, as far as there is room.
    let ahead = run(&super::tests::trace(&[0, 1, 2, 3]), Setup { prefetch: 2, costs, ..setup(LRU, 4) });
    assert_eq!((ahead.counters.misses, ahead.counters.pins, ahead.counters.prefetched), (2, 4, 2));
}

#[test]
fn ski_rental_is_compared_with_the_better_of_the_others() {
    let costs = Costs { pin_call: 0, pin_page: 50, unpin_call: 0, unpin_page: 50, copy_page: 10 };
    let trace = trace(&[7; 20]);
    let pin = setup(LRU, 4);
    let setups = [
        Setup { policy: None, rule: Rule::Copy, costs, ..pin },
        Setup { costs, ..pin },
        Setup { rule: Rule::SkiRental, costs, ..pin },
    ];
    let outcomes = simulate_all(&trace, &setups, &|_| {});
    let results = Results::new(trace, outcomes);
    let [copy, pin, ski] = [0, 1, 2].map(|at| &results.outcomes[at]);
    assert_eq!((copy.cost_us(), pin.cost_us()), (0.2, 0.05));
    // Five copies for 10 each, then it is pinned for 50.
    assert_eq!((ski.counters.copied, ski.cost_us()), (5, 0.1));
    assert_eq!((results.of_better(ski), results.of_better(pin), results.of_better(copy)), (Some(2.0), None, None));
    assert_eq!(results.worst().map(|worst| worst.0), Some(2.0));
}

/// The guarantee, where it is promised: on every shipped trace, for every policy, with small budgets and large ones.
#[test]
fn ski_rental_costs_at_most_twice_the_better_of_pin_and_copy() {
    let mut compared = 0;
    for shipped in &shipped::ALL {
        let trace = shipped.trace().expect("it makes sense");
        assert_eq!(trace.name, shipped.name);
        let pin = setup(LRU, 1);
        let mut setups = vec![Setup { policy: None, rule: Rule::Copy, ..pin }];
        for budget in [16, 64, 256, 1024, 4096] {
            // All that there are would take a minute.
            let policies = if [64, 1024].contains(&budget) { &PolicyKind::ALL[..] } else { &[PolicyKind::Lru] };
            for &policy in policies {
                let pin = setup(Policy::Real(policy), budget);
                setups.extend([pin, Setup { rule: Rule::SkiRental, ..pin }]);
            }
        }
        let outcomes = simulate_all(&trace, &setups, &|_| {});
        let results = Results::new(trace, outcomes);
        for outcome in &results.outcomes {
            if let Some(ratio) = results.of_better(outcome) {
                assert!(ratio <= 2.0, "{}: {ratio:.3} with {:?}", results.name, outcome.setup);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, shipped::ALL.len() * (2 * 5 + 3));
}

/// The optimum is one on the shipped traces, too, whose pages are sent one by one.
#[test]
fn no_policy_beats_the_optimum_on_a_shipped_trace() {
    for name in ["zipf", "transpose", "sort"] {
        let shipped = shipped::ALL.iter().find(|shipped| shipped.name == name).expect("it is there");
        let trace = shipped.trace().expect("it makes sense");
        let opt = misses(&trace, Policy::Opt, 64);
        for kind in PolicyKind::ALL {
            let real = misses(&trace, Policy::Real(kind), 64);
            assert!(opt < real, "{name}: {kind} misses {real}, the optimum {opt}");
        }
    }
}

/// Belady's optimum, reckoned the slow way.
fn optimum(pages: &[u64], budget: usize) -> u64 {
    let (mut pinned, mut misses) = (Vec::new(), 0);
    for (at, page) in pages.iter().enumerate() {
        if pinned.contains(page) {
            continue;
        }
        misses += 1;
        if pinned.len() == budget {
            let next = |page: &u64| pages[at..].iter().position(|p| p == page).unwrap_or(usize::MAX);
            let last = (0..budget).max_by_key(|&slot| next(&pinned[slot])).expect("a budget");
            pinned.swap_remove(last);
        }
        pinned.push(*page);
    }
    misses
}

proptest! {
    #[test]
    fn lru_and_the_optimum_never_miss_more_with_more_room(pages in prop::collection::vec(0u64..20, 1..200)) {
        let trace = trace(&pages);
        for policy in [LRU, Policy::Opt] {
            let curve: Vec<u64> = (1..=20).map(|budget| misses(&trace, policy, budget)).collect();
            prop_assert!(curve.windows(2).all(|pair| pair[0] >= pair[1]), "{policy}: {curve:?}");
            // With room for all each page misses once.
            prop_assert_eq!(curve[19], trace.touched);
        }
    }

    #[test]
    fn the_optimum_is_one(pages in prop::collection::vec(0u64..16, 1..150), budget in 1u32..12) {
        let trace = trace(&pages);
        let opt = misses(&trace, Policy::Opt, budget);
        prop_assert_eq!(opt, optimum(&pages, budget as usize));
        for kind in PolicyKind::ALL {
            prop_assert!(opt <= misses(&trace, Policy::Real(kind), budget), "{kind}");
        }
    }

    /// Whatever is sent, in whatever pieces: look-ups are hits or misses, misses are pinned or copied, and the budget is kept.
    #[test]
    fn books_are_kept(
        sends in prop::collection::vec((0u64..64, 1u32..9), 1..100),
        budget in 1u32..40,
        prefetch in 0u32..5,
        policy in prop::sample::select(Policy::ALL.to_vec()),
        rule in prop::sample::select(Rule::ALL.to_vec()),
    ) {
        let references = sends.iter().map(|&(page, count)| Reference { page, count });
        let trace = Trace::new("any", 4096, references.collect()).expect("references");
        let counted = run(&trace, Setup { rule, prefetch, ..setup(policy, budget) }).counters;
        prop_assert_eq!(counted.lookups, trace.lookups);
        prop_assert_eq!(counted.hits + counted.misses, counted.lookups);
        prop_assert_eq!(counted.misses, counted.pins - counted.prefetched + counted.copied);
        prop_assert_eq!(counted.pins, counted.unpins + counted.pinned);
        prop_assert!(counted.pinned <= u64::from(budget) && counted.held == 0);
        prop_assert!(counted.pin_calls <= counted.pins && counted.failures == 0);
    }
}
