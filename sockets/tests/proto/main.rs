//! The stream protocol between two hosts, without a network: every order of events that a link allows, against a model of each byte.
mod host;
mod memory;
mod parse;
mod script;
mod world;

use proptest::prelude::*;

use self::script::{Script, Step};

/// Steps as the fuzzer would read them, but none that only a peer gone mad would take.
fn honest(steps: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Script> {
    let step = any::<[u8; Step::LEN]>().prop_map(|bytes| Step::decode(&bytes)).prop_map(Step::honest);
    prop::collection::vec(step, steps).prop_map(|steps| Script { steps })
}

fn any_script(steps: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Script> {
    let step = any::<[u8; Step::LEN]>().prop_map(|bytes| Step::decode(&bytes));
    prop::collection::vec(step, steps).prop_map(|steps| Script { steps })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn two_hosts_short(script in honest(1..60)) {
        script::run(&script);
    }

    #[test]
    fn a_mad_peer_harms_its_own_streams_at_most(script in any_script(1..150)) {
        script::run(&script);
    }

    #[test]
    fn slots_and_tags(bytes: [u8; 48]) {
        parse::check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn two_hosts_long(script in honest(300..600)) {
        script::run(&script);
    }
}
