//! The ski-rental rule keeps its promise.

use proptest::prelude::*;

use super::*;

fn costs() -> impl Strategy<Value = Costs> {
    (0u64..200, 0u64..50, 0u64..200, 0u64..50, 1u64..20).prop_map(
        |(pin_call, pin_page, unpin_call, unpin_page, copy_page)| Costs {
            pin_call,
            pin_page,
            unpin_call,
            unpin_page,
            copy_page,
        },
    )
}

/// References: mostly to few pages, so that some are worth pinning, in runs of different lengths.
fn trace() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let places = prop_oneof![3 => 0u64..6, 2 => 0u64..24, 1 => 0u64..96];
    prop::collection::vec((places, prop_oneof![2 => Just(1u64), 1 => 1u64..9]), 1..if cfg!(miri) { 30 } else { 600 })
}

fn run(utlb: &mut Utlb, pager: &mut Counting, trace: &[(u64, u64)]) -> u64 {
    for &(page, len) in trace {
        touch(utlb, page..page + len, pager);
    }
    utlb.config.costs.total(&utlb.counters())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 300 }))]

    /// For every trace, policy, budget and price. What nobody has paid is what the last ones owe.
    #[test]
    fn at_most_twice_what_copying_costs(
        trace in trace(), costs in costs(), policy in prop::sample::select(&PolicyKind::ALL[..]),
        budget in 1usize..40, scattered in any::<bool>(),
    ) {
        let mut utlb = Utlb::new(budget, Config { policy, costs, ..Config::default() });
        let mut pager = Counting { scattered, ..Counting::new(64) };
        let cost = run(&mut utlb, &mut pager, &trace);
        let copies = costs.copy(utlb.counters().lookups);
        prop_assert!(cost <= 2 * copies + utlb.ledger.debt(), "{} for copies of {}: {:?}", cost, copies, utlb);
        // And that is bounded, however long the trace: what is pinned before the budget is used up, and one run more.
        let most = (costs.unpin(1) + costs.pin_call) * (budget as u64 + 140);
        prop_assert!(utlb.ledger.debt() <= most, "{} of {}", utlb.ledger.debt(), most);
    }

    /// Page by page, with LRU: pages go no sooner than when all are pinned at once.
    #[test]
    fn at_most_twice_what_pinning_costs(trace in trace(), costs in costs(), budget in 1usize..40) {
        let trace: Vec<_> = trace.into_iter().map(|(page, _)| (3 * page, 1)).collect();
        let mut rental = Utlb::new(budget, Config { costs, ..Config::default() });
        let mut pin = Utlb::new(budget, Config { rule: Rule::Pin, costs, ..Config::default() });
        let cost = run(&mut rental, &mut Counting::new(64), &trace);
        let pinning = run(&mut pin, &mut Counting::new(64), &trace);
        // A page is looked at once too often before it is pinned.
        prop_assert!(cost <= 2 * pinning, "{} for {}: {:?}, {:?}", cost, pinning, rental, pin);
    }
}

#[test]
fn one_page_is_pinned_when_the_rent_reaches_the_price() {
    let costs = Costs { pin_call: 90, pin_page: 10, unpin_call: 50, unpin_page: 50, copy_page: 10 };
    let config = Config { costs, ..Config::default() };
    let (mut utlb, mut pager) = (Utlb::new(1, config), Counting::new(8));
    // 100 for pinning: ten copies.
    for _ in 0..10 {
        assert_eq!(touch(&mut utlb, 5..6, &mut pager), 0);
    }
    assert_eq!(touch(&mut utlb, 5..6, &mut pager), 1);
    // The next one has to evict it, which costs 100 that nobody has paid yet: the one after that pays.
    for _ in 0..10 {
        assert_eq!(touch(&mut utlb, 7..8, &mut pager), 0);
    }
    assert_eq!(touch(&mut utlb, 7..8, &mut pager), 1);
    for _ in 0..20 {
        assert_eq!(touch(&mut utlb, 9..10, &mut pager), 0);
    }
    assert_eq!(touch(&mut utlb, 9..10, &mut pager), 1);
    assert_eq!(costs.total(&utlb.counters()), 40 * 10 + 3 * 100 + 2 * 100);
}

#[test]
fn neighbours_that_have_paid_are_pinned_in_the_same_call() {
    let costs = Costs { pin_call: 1000, pin_page: 10, unpin_call: 0, unpin_page: 0, copy_page: 10 };
    let (mut utlb, mut pager) = (Utlb::new(64, Config { costs, ..Config::default() }), Counting::new(64));
    // Sent as a whole once, then page by page: always pinning would have pinned all in one call.
    touch(&mut utlb, 0..16, &mut pager);
    let mut sent = 0;
    while utlb.counters().pinned == 0 {
        touch(&mut utlb, sent % 16..sent % 16 + 1, &mut pager);
        sent += 1;
        assert!(sent < 1000);
    }
    assert_eq!((utlb.counters().pinned, utlb.counters().pin_calls), (16, 1));
    assert!((100..=120).contains(&(sent + 16)), "{sent}");
    // One that was never sent again stays out.
    touch(&mut utlb, 20..21, &mut pager);
    assert_eq!(utlb.frame(20), None);
}

#[test]
fn prices_without_measure_do_no_harm() {
    for price in [0, u64::MAX] {
        let costs = Costs { pin_call: price, pin_page: price, unpin_call: price, unpin_page: price, copy_page: price };
        let mut utlb = Utlb::new(4, Config { costs: costs.for_page_size(1 << 21), ..Config::default() });
        let mut pager = Counting::new(8);
        for page in (0..100).map(|i| i * 7 % 20) {
            touch(&mut utlb, page..page + 3, &mut pager);
        }
        let counters = utlb.counters();
        assert_eq!(counters.copied + counters.hits + counters.pins - counters.prefetched, counters.lookups);
        assert!(utlb.config.costs.total(&counters) >= price);
    }
}
