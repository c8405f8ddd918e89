//! The bulk lane: whatever the network does, and the kernel, what comes of a program is what would come of it without.

mod captured;
mod chaos;
mod hostile;
mod overwritten;
mod patience;
mod pieces;
mod program;
mod races;
mod scene;

use std::any::Any;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::Target;
use vmmc::engine::Wanted;
use vmmc::link;
use vmmc::memory::Buffer;
use vmmc::port::bulk::sim::SimBulkConfig;
use vmmc::port::sim::Conditions;

use self::chaos::{Put, export as readable};
use self::program::Program;
use self::scene::{Outcome, Scene};
use crate::lanes::lane;
use crate::world::{World, contents, link_config};

/// Hosts that all have bulk lanes of one kind, or none.
fn world(hosts: usize, seed: u64, strip: Option<bool>) -> World {
    world_with((0..hosts).map(|host| strip.map(|strip| lane(host, strip))).collect(), seed, 1500)
}

fn world_with(lanes: Vec<Option<SimBulkConfig>>, seed: u64, mtu: usize) -> World {
    // On a bad network a link of little patience would be taken for dead now and then.
    let mut link = link::Config { mtu, peer_timeout: Duration::from_secs(100), ..link_config() };
    // Where they can, packets fill NIC buffers for those who need it.
    link.options.whole_buffers = mtu > 8000 && lanes.iter().flatten().any(|lane| !lane.strip);
    let conditions = Conditions { max_frame: mtu + 18, ..Conditions::default() };
    World::with_lanes(lanes, seed, conditions, link)
}

/// Networks that do all that networks do, more or less of it.
fn bad() -> impl Strategy<Value = Conditions> {
    // With more damage a link is reset now and then: addresses have a weaker checksum, or none.
    let shares = (0.0..0.2f64, 0.0..0.1f64, 0.0..0.3f64, 0.0..0.03f64, 1u64..500);
    let bad = shares.prop_map(|(loss, duplication, reordering, corruption, detour)| {
        let detour = Duration::from_micros(detour);
        Conditions { loss, duplication, reordering, corruption, detour, ..Conditions::default() }
    });
    prop_oneof![1 => Just(Conditions::default()), 3 => bad]
}

fn into_bytes(target: Box<dyn Target>) -> Vec<u8> {
    let any: &dyn Any = &*target;
    if any.is::<Buffer>() { target.downcast::<Buffer>().to_vec() } else { target.downcast() }
}

fn compare(a: &Outcome, b: &Outcome) {
    let first = |a: &[u8], b: &[u8]| a.iter().zip(b).position(|(a, b)| a != b);
    for (number, (a, b)) in a.told.iter().zip(&b.told).enumerate() {
        assert_eq!(a, b, "notification {number}");
    }
    assert_eq!(a.told.len(), b.told.len(), "notifications");
    for (number, (a, b)) in a.redirects.iter().zip(&b.redirects).enumerate() {
        assert_eq!(a.0, b.0, "redirect {number}");
        assert!(a.1 == b.1, "redirect {number} from byte {:?}", first(&a.1, &b.1));
    }
    for (number, (a, b)) in a.regions.iter().zip(&b.regions).enumerate() {
        assert!(a == b, "export {number} from byte {:?}", first(a, b));
    }
    assert!(a == b, "reads");
}

/// What is different from a program's run without bulk lanes.
#[derive(Clone, Debug)]
struct Setting {
    /// Of each host: whether it has one, and whether that takes headers off.
    lanes: Vec<Option<bool>>,
    mtu: usize,
    ring: usize,
    tx_ring: usize,
    /// The kernels drop what was let in.
    drops: bool,
}

fn setting() -> impl Strategy<Value = Setting> {
    let lanes = prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 4);
    let rings = (prop::sample::select(vec![1024, 2048]), prop::sample::select(vec![8, 2048]));
    (lanes, prop::sample::select(vec![1280, 1500, 9000]), rings, any::<bool>())
        .prop_map(|(lanes, mtu, (ring, tx_ring), drops)| Setting { lanes, mtu, ring, tx_ring, drops })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn it_makes_no_difference(seed: u64, senders in 1usize..4, conditions in bad(), setting in setting()) {
        let program = Program::draw(seed, senders, 4, 100_000);
        let (expected, _) = Scene::new(world(senders + 1, seed, None), &program).run(&program);
        let ring = |lane| SimBulkConfig { ring: setting.ring, tx_ring: setting.tx_ring, ..lane };
        let lanes = (0..=senders).map(|host| setting.lanes[host].map(|strip| ring(lane(host, strip)))).collect();
        let mut scene = Scene::new(world_with(lanes, seed, setting.mtu), &program);
        scene.drops = setting.drops.then(|| fastrand::Rng::with_seed(seed));
        scene.world.network.set_conditions(Conditions { max_frame: setting.mtu + 18, ..conditions });
        let (seen, _) = scene.run(&program);
        compare(&seen, &expected);
    }
}

/// Where nothing is in its way, the lane takes all that is long enough, and nobody copies it.
#[test]
fn long_sends_take_it() {
    const LEN: usize = 3_500_000;
    for (strip, mtu) in [(true, 1500), (false, 1500), (true, 9000), (false, 9000)] {
        let lanes = (0..2).map(|host| Some(lane(host, strip))).collect();
        let mut world = world_with(lanes, 1, mtu);
        let (id, region) = readable(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        let send = |world: &mut World, tag: u32| {
            let mut put = Put::new(world, 0, import, tag.into(), LEN, 0, tag);
            put.finish(world).unwrap();
            assert_eq!(world.notification(1, id).tag, tag);
            let data = put.data.clone();
            put.give_back();
            data
        };
        for tag in 0..2 {
            let data = send(&mut world, tag);
            assert!(contents(&region) == data);
        }
        let default = contents(&region);
        let host = &mut world.hosts[1];
        let target = Box::new(host.arena.buffer(LEN).unwrap());
        let redirect = host.engine.redirect(id, Wanted::Next(LEN as u64), target).unwrap();
        let data = send(&mut world, 2);
        let returned = world.hosts[1].take_redirect(id, redirect).unwrap();
        assert!(into_bytes(returned.target) == data && contents(&region) == default);
        let (sent, received) = (world.hosts[0].engine.counters(), world.hosts[1].engine.counters());
        assert_eq!((received.delivered_bytes, received.redirected_bytes), (3 * LEN as u64, LEN as u64));
        // What is left over in front of each transfer travels with the request.
        assert!(received.rx_bulk_bytes > 3 * LEN as u64 * 99 / 100, "{received:?}");
        assert!(sent.tx_copied_bytes + received.rx_copied_bytes < LEN as u64 / 10, "{sent:?} {received:?}");
        assert_eq!((received.bulk_reopened, received.rx_bulk_missing, sent.tx_bulk_declined), (0, 0, 0));
        let lanes = [0, 1].map(|host| world.hosts[host].port.bulk_counters());
        assert_eq!((lanes[0].tx_packets, lanes[1].rx_packets), (lanes[1].places, lanes[1].places));
        // And all that is fetched.
        let (now, host) = (world.now(), &mut world.hosts[0]);
        let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(LEN).unwrap()));
        let fetch = host.engine.fetch(now, &mut host.port, import, 0, &mut target).unwrap().expect("a fetch");
        let fetched = world.until("a fetch's end", |w| w.hosts[0].fetched(fetch).map_err(|(error, _)| error).unwrap());
        assert!(into_bytes(fetched) == default);
        let counters = world.hosts[0].engine.counters();
        assert!(counters.rx_bulk_bytes > LEN as u64 * 99 / 100, "{counters:?}");
    }
}
