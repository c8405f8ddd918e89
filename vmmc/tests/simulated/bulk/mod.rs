//! The bulk lane: whatever the network does, and the kernel, what comes of a program is what would come of it without.

mod program;
mod scene;

use std::time::Duration;

use proptest::prelude::*;
use vmmc::link;
use vmmc::port::sim::Conditions;

use self::program::Program;
use self::scene::{Outcome, Scene};
use crate::lanes::lane;
use crate::world::{World, link_config};

fn world(hosts: usize, seed: u64, strip: Option<bool>) -> World {
    let lanes = (0..hosts).map(|host| strip.map(|strip| lane(host, strip))).collect();
    // On such networks a link of little patience would be taken for dead now and then.
    let link = link::Config { peer_timeout: Duration::from_secs(100), ..link_config() };
    World::with_lanes(lanes, seed, Conditions::default(), link)
}

/// Runs a program, with bulk lanes of one kind or the other or without.
fn run(program: &Program, seed: u64, conditions: Conditions, strip: Option<bool>) -> (Outcome, World) {
    let scene = Scene::new(world(program.senders + 1, seed, strip), program);
    scene.world.network.set_conditions(conditions);
    scene.run(program)
}

fn compare(a: &Outcome, b: &Outcome) {
    let first = |a: &[u8], b: &[u8]| a.iter().zip(b).position(|(a, b)| a != b);
    assert_eq!(a.told, b.told, "notifications");
    for (number, (a, b)) in a.redirects.iter().zip(&b.redirects).enumerate() {
        assert_eq!(a.0, b.0, "redirect {number}");
        assert!(a.1 == b.1, "redirect {number} from byte {:?}", first(&a.1, &b.1));
    }
    for (number, (a, b)) in a.regions.iter().zip(&b.regions).enumerate() {
        assert!(a == b, "export {number} from byte {:?}", first(a, b));
    }
    assert!(a == b, "reads");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn it_makes_no_difference(
        seed: u64,
        senders in 1usize..4,
        strip: bool,
        loss in 0.0..0.2f64,
        duplication in 0.0..0.1f64,
        reordering in 0.0..0.3f64,
        corruption in 0.0..0.1f64,
        detour in 1u64..500,
    ) {
        let detour = Duration::from_micros(detour);
        let worse = Conditions { loss, duplication, reordering, corruption, detour, ..Conditions::default() };
        let program = Program::draw(seed, senders, 4, 100_000);
        let (expected, _) = run(&program, seed, Conditions::default(), None);
        let (seen, _) = run(&program, seed, worse, Some(strip));
        compare(&seen, &expected);
    }
}
