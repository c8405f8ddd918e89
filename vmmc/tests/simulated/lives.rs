//! Peers that aren't there, die, restart, close, or open a link at the same moment.

use std::time::Duration;

use vmmc::LinkEnd;
use vmmc::engine::EngineError;
use vmmc::port::sim::Conditions;

use crate::world::{World, key, link_config, seed};

fn ended(result: Result<(), EngineError>) -> LinkEnd {
    match result {
        Err(EngineError::LinkEnded { end, .. }) => end,
        other => panic!("expected the link's end, not {other:?}"),
    }
}

#[test]
fn nobody_answers() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.hosts[1].on = false;
    let refused = world.import(0, 1, "inbox").map(drop);
    assert_eq!(ended(refused), LinkEnd::NoAnswer(Duration::from_secs(2)));
    assert_eq!(world.hosts[0].engine.peers().count(), 0, "nothing is left of it");
    // It is there after all: the next try works.
    world.hosts[1].on = true;
    world.export(1, "inbox", 100, 10);
    world.import(0, 1, "inbox").unwrap();
}

#[test]
fn a_dead_peer_ends_what_is_pending() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    world.hosts[1].on = false;
    let ticket = world.send(0, import, b"hello", 0, None).unwrap();
    let before = world.now();
    assert!(matches!(ended(world.delivered(0, ticket)), LinkEnd::Silent(_)));
    let took = world.now().since(before);
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
    assert!(matches!(world.send(0, import, b"x", 0, None), Err(EngineError::LinkEnded { .. })));
}

#[test]
fn an_idle_dead_peer_is_noticed_and_an_idle_live_one_kept() {
    let mut world = World::new(3, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    world.export(2, "inbox", 100, 10);
    let dead = world.import(0, 1, "inbox").unwrap();
    let live = world.import(0, 2, "inbox").unwrap();
    world.hosts[1].on = false;
    world.run(Duration::from_secs(60));
    assert!(world.hosts[0].engine.imported(dead).is_err());
    assert!(world.hosts[0].engine.imported(live).is_ok());
    assert_eq!(world.hosts[2].engine.peers().count(), 1);
}

#[test]
fn a_restarted_peer_is_recognised_and_nothing_stale_is_delivered() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    world.restart(1, link_config());
    let (_, region) = world.export(1, "inbox", 100, 10);
    let ticket = world.send(0, import, b"for the old life", 0, None).unwrap();
    assert_eq!(ended(world.delivered(0, ticket)), LinkEnd::Restarted);
    assert!(crate::world::contents(&region).iter().all(|&b| b == 0));
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, b"for the new life", 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
}

#[test]
fn a_restarted_importer_replaces_its_old_link() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    world.export(0, "back", 100, 10);
    world.import(0, 1, "inbox").unwrap();
    let back = world.import(1, 0, "back").unwrap();
    world.restart(0, link_config());
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, b"hello", 0, None).unwrap();
    world.delivered(0, ticket).unwrap();
    assert_eq!(world.hosts[1].engine.peers().count(), 1);
    let stale = world.hosts[1].engine.imported(back);
    assert!(matches!(stale, Err(EngineError::LinkEnded { end: LinkEnd::Restarted, .. })), "{stale:?}");
}

#[test]
fn both_open_at_nearly_the_same_moment_and_share_one_link() {
    let seed = seed();
    for round in 0..400u64 {
        let bad = round % 2 == 1;
        let conditions = Conditions {
            loss: if bad { 0.2 } else { 0.0 },
            reordering: if bad { 0.2 } else { 0.0 },
            detour: Duration::from_millis(3),
            ..Conditions::default()
        };
        let mut world = World::new(2, seed.wrapping_add(round), conditions);
        world.export(0, "inbox", 100, 10);
        world.export(1, "inbox", 100, 10);
        let a = world.begin_import(0, 1, "inbox", key()).unwrap();
        // The other side begins while the first's HELLO, the answer, or the answer's answer is under way.
        world.run(Duration::from_micros(round / 2 % 50));
        let b = world.begin_import(1, 0, "inbox", key()).unwrap();
        world.until("both imports", |w| {
            let ready = |host: usize, id| w.hosts[host].engine.imported(id).unwrap().is_some();
            (ready(0, a) && ready(1, b)).then_some(())
        });
        let (there, back) = (world.send(0, a, b"there", 0, None).unwrap(), world.send(1, b, b"back", 0, None).unwrap());
        world.delivered(0, there).unwrap();
        world.delivered(1, back).unwrap();
        world.run(Duration::from_secs(4));
        let links = [0, 1].map(|host| world.hosts[host].engine.peers().count());
        assert_eq!(links, [1, 1], "seed {}, round {round}", seed.wrapping_add(round));
    }
}

#[test]
fn closing_delivers_what_was_sent() {
    let mut world = World::new(2, seed(), Conditions { loss: 0.05, ..Conditions::default() });
    let (export, _) = world.export(1, "inbox", 100_000, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    world.send(0, import, &[1; 100_000], 0, Some(9)).unwrap();
    let now = world.now();
    world.hosts[0].engine.close(now);
    world.until("the close", |w| w.hosts[0].engine.is_closed().then_some(()));
    assert_eq!(world.notification(1, export).tag, 9);
    world.until("the other side's end", |w| (w.hosts[1].engine.peers().count() == 0).then_some(()));
}

#[test]
fn the_peer_of_a_closed_node_is_told() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let import = world.import(0, 1, "inbox").unwrap();
    let now = world.now();
    world.hosts[1].engine.close(now);
    world.run(Duration::from_millis(100));
    assert_eq!(ended(world.hosts[0].engine.imported(import).map(drop)), LinkEnd::ClosedByPeer);
}
