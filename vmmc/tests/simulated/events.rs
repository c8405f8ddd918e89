//! Queues of events: many exports and imports report to one, in order, and nothing is lost when one of them goes.

use std::time::Duration;

use vmmc::engine::{EngineError, Event, Landed, Notification, Piece, Place, Wanted};
use vmmc::port::sim::Conditions;

use crate::world::{World, address, export_options, key, seed};

/// A queue of a host's events, taken from until there is nothing.
fn events(world: &mut World, host: usize, queue: u64) -> Vec<Event> {
    let mut into = Vec::new();
    let count = world.hosts[host].engine.take_events(queue, &mut into);
    assert_eq!(count, into.len());
    into
}

fn notifications(events: Vec<Event>) -> Vec<(u64, Notification)> {
    let news = events.into_iter().map(|event| match event {
        Event::Notification { token, notification } => (token, notification),
        other => panic!("{other:?} is no notification"),
    });
    news.collect()
}

/// Steps until there are events: these.
fn until(world: &mut World, host: usize, queue: u64) -> Vec<Event> {
    world.until("an event", |w| Some(events(w, host, queue)).filter(|events| !events.is_empty()))
}

/// An export of host 1 that reports to `queue`, and an import of it by host 0.
fn pair(world: &mut World, name: &str, queue: u64, token: u64, merge: bool) -> (u32, u32) {
    let (export, _) = world.export(1, name, 1000, 100);
    let engine = &mut world.hosts[1].engine;
    engine.report_export(export, queue, token).unwrap();
    engine.merge_notifications(export, merge).unwrap();
    (export, world.import(0, 1, name).unwrap())
}

fn deliver(world: &mut World, import: u32, data: &[u8], offset: u64, tag: u32) {
    let ticket = world.send(0, import, data, offset, Some(tag)).unwrap();
    world.delivered(0, ticket).unwrap();
}

/// Offset, length and tag of each.
fn outline(news: Vec<(u64, Notification)>) -> Vec<(u64, u64, u32)> {
    news.into_iter().map(|(_, n)| (n.offset, n.length, n.tag)).collect()
}

#[test]
fn many_exports_report_to_one_queue_in_order() {
    let mut world = World::new(2, seed(), Conditions { loss: 0.1, ..Conditions::default() });
    let queue = world.hosts[1].engine.open_events();
    let other = world.hosts[1].engine.open_events();
    let pairs: Vec<_> = (0..5).map(|i| pair(&mut world, &format!("inbox{i}"), queue, 100 + i, false)).collect();
    let (elsewhere, aside) = pair(&mut world, "elsewhere", other, 7, false);
    let news = world.hosts[1].engine.news();
    let order: Vec<usize> = (0..40).map(|_| fastrand::usize(..pairs.len())).collect();
    let mut last = None;
    for (tag, &to) in order.iter().enumerate() {
        last = Some(world.send(0, pairs[to].1, b"hello", 5, Some(tag as u32)).unwrap());
    }
    world.delivered(0, last.unwrap()).unwrap();
    deliver(&mut world, aside, b"x", 0, 3);
    assert!(world.hosts[1].engine.news() > news, "whoever sleeps is woken");
    assert!(world.hosts[1].engine.take_notification(pairs[0].0).is_none(), "they don't go to the export's own queue");
    let waiting: usize = world.hosts[1].engine.exports().map(|export| export.waiting).sum();
    assert_eq!(waiting, 41);
    let seen = notifications(events(&mut world, 1, queue));
    let seen: Vec<_> = seen.into_iter().map(|(token, n)| (token, n.tag, n.peer)).collect();
    let expected: Vec<_> =
        order.iter().enumerate().map(|(tag, &to)| (100 + to as u64, tag as u32, address(0))).collect();
    assert_eq!(seen, expected);
    let aside = notifications(events(&mut world, 1, other));
    assert_eq!((aside.len(), aside[0].0, aside[0].1.tag), (1, 7, 3));
    assert!(world.hosts[1].engine.exports().all(|export| export.waiting == 0));
    // What waits for an export that goes, goes with it; the others' stays.
    deliver(&mut world, pairs[0].1, b"x", 0, 1);
    deliver(&mut world, pairs[1].1, b"x", 0, 2);
    world.hosts[1].engine.unexport(pairs[0].0);
    let left = notifications(events(&mut world, 1, queue));
    assert_eq!((left.len(), left[0].1.tag), (1, 2));
    world.hosts[1].engine.unexport(elsewhere);
}

#[test]
fn notifications_of_a_byte_stream_become_one() {
    let mut world = World::new(3, seed(), Conditions::default());
    let queue = world.hosts[1].engine.open_events();
    let (_, stream) = pair(&mut world, "stream", queue, 1, true);
    let (_, plain) = pair(&mut world, "plain", queue, 2, false);
    let theirs = world.import(2, 1, "stream").unwrap();
    for (offset, length) in [(0, 10), (10, 1), (11, 100)] {
        deliver(&mut world, stream, &vec![1; length], offset, 5);
    }
    assert_eq!(outline(notifications(events(&mut world, 1, queue))), [(0, 111, 5)]);
    // What was taken doesn't grow any more; and these don't go together: tags, a gap, going back, sends without bytes, other events between.
    for (offset, length, tag) in [(111, 9, 5), (120, 10, 6), (131, 9, 6), (140, 0, 6), (140, 5, 6), (130, 5, 6)] {
        deliver(&mut world, stream, &vec![2; length], offset, tag);
    }
    deliver(&mut world, plain, b"x", 0, 6);
    deliver(&mut world, stream, b"x", 135, 6);
    let ticket = world.send(2, theirs, b"y", 136, Some(6)).unwrap();
    world.delivered(2, ticket).unwrap();
    let seen = outline(notifications(events(&mut world, 1, queue)));
    let apart = [(111, 9, 5), (120, 10, 6), (131, 9, 6), (140, 0, 6), (140, 5, 6), (130, 5, 6)];
    assert_eq!(seen, [&apart[..], &[(0, 1, 6), (135, 1, 6), (136, 1, 6)]].concat());
    // One that isn't a stream stays as it is.
    for offset in 0..3 {
        deliver(&mut world, plain, b"z", offset, 0);
    }
    assert_eq!(outline(notifications(events(&mut world, 1, queue))), [(0, 1, 0), (1, 1, 0), (2, 1, 0)]);
}

#[test]
fn an_export_s_own_queue_merges_too() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, _) = world.export(1, "inbox", 1000, 10);
    world.hosts[1].engine.merge_notifications(export, true).unwrap();
    let import = world.import(0, 1, "inbox").unwrap();
    for offset in 0..50 {
        deliver(&mut world, import, b"x", offset, 0);
    }
    deliver(&mut world, import, b"x", 50, 1);
    let engine = &mut world.hosts[1].engine;
    let first = engine.take_notification(export).unwrap();
    let second = engine.take_notification(export).unwrap();
    assert_eq!(((first.offset, first.length), (second.offset, second.length)), ((0, 50), (50, 1)));
    assert_eq!(engine.take_notification(export), None);
}

#[test]
fn redirects_take_what_events_announce() {
    let mut world = World::new(2, seed(), Conditions::default());
    let queue = world.hosts[1].engine.open_events();
    let (export, import) = pair(&mut world, "inbox", queue, 1, true);
    // In time: such a notification is merged with none, and none with it.
    let engine = &mut world.hosts[1].engine;
    let early = engine.redirect(export, Wanted::Range(10..20), Box::new(vec![0; 10])).unwrap();
    for offset in [0, 10, 20, 30] {
        deliver(&mut world, import, &[1; 10], offset, 0);
    }
    // Later: two that wait as one are corrected.
    let engine = &mut world.hosts[1].engine;
    let late = engine.redirect(export, Wanted::Range(25..35), Box::new(vec![0; 10])).unwrap();
    let seen = notifications(events(&mut world, 1, queue));
    let place = |redirect| Place::Redirect { redirect, at: 0 };
    assert_eq!((seen[0].1.offset, seen[0].1.length, &seen[0].1.landed), (0, 10, &Landed::Default));
    assert_eq!((seen[1].1.offset, &seen[1].1.landed), (10, &Landed::Redirect { redirect: early, at: 0 }));
    assert_eq!((seen[2].1.offset, seen[2].1.length, seen.len()), (20, 20, 3));
    let pieces: Vec<Piece> = seen[2].1.pieces().collect();
    let expected = [(0..5, Place::Default), (5..15, place(late)), (15..20, Place::Default)];
    assert_eq!(pieces, expected.map(|(range, place)| Piece { range, place }));
    // What was taken as an event is taken: a redirect that comes after it finds nothing.
    let engine = &mut world.hosts[1].engine;
    let none = engine.redirect(export, Wanted::Range(0..10), Box::new(vec![0; 10])).unwrap();
    assert_eq!(engine.redirect_state(export, none).unwrap().0, 0);
    // One may be waited for alone.
    for offset in [50, 0, 60] {
        deliver(&mut world, import, &[2; 5], offset, 9);
    }
    let engine = &mut world.hosts[1].engine;
    assert_eq!(engine.take_notification_in(export, none).unwrap().unwrap().offset, 0);
    assert_eq!(engine.take_notification_in(export, none).unwrap(), None);
    assert_eq!(outline(notifications(events(&mut world, 1, queue))), [(50, 5, 9), (60, 5, 9)]);
}

#[test]
fn imports_tell_of_their_changes() {
    let mut world = World::new(3, seed(), Conditions { loss: 0.1, ..Conditions::default() });
    let (inbox, _) = world.export(1, "inbox", 100, 10);
    world.export(2, "other", 100, 10);
    let queue = world.hosts[0].engine.open_events();
    let import = |world: &mut World, to, name, token| {
        let import = world.begin_import(0, to, name, key()).unwrap();
        world.hosts[0].engine.report_import(import, queue, token).unwrap();
        import
    };
    let good = import(&mut world, 1, "inbox", 1);
    let bad = import(&mut world, 1, "nothing", 2);
    let far = import(&mut world, 2, "other", 3);
    assert_eq!(events(&mut world, 0, queue), [], "nothing has changed yet");
    let mut seen = Vec::new();
    world.until("three answers", |w| {
        let before = w.hosts[0].engine.news();
        seen.extend(events(w, 0, queue));
        assert_eq!(before, w.hosts[0].engine.news());
        (seen.len() == 3).then_some(())
    });
    for token in 1..=3 {
        assert!(seen.contains(&Event::Import { token }), "{seen:?}");
    }
    let engine = &world.hosts[0].engine;
    assert!(matches!(engine.imported(bad), Err(EngineError::UnknownName { .. })));
    assert_eq!((engine.imported(good), engine.imported(far)), (Ok(Some(100)), Ok(Some(100))));
    // Whoever reports only when it is ready learns so at once, also under another token, and once.
    let engine = &mut world.hosts[0].engine;
    engine.report_import(good, queue, 4).unwrap();
    engine.report_import(good, queue, 5).unwrap();
    assert_eq!(events(&mut world, 0, queue), [Event::Import { token: 5 }]);
    // Revoked,
    world.hosts[1].engine.unexport(inbox);
    assert_eq!(until(&mut world, 0, queue), [Event::Import { token: 5 }]);
    assert!(matches!(world.hosts[0].engine.imported(good), Err(EngineError::Revoked { .. })));
    // and the end of the link. What has failed before says nothing more.
    world.hosts[2].on = false;
    world.hosts[1].on = false;
    assert_eq!(until(&mut world, 0, queue), [Event::Import { token: 3 }]);
    assert!(matches!(world.hosts[0].engine.imported(far), Err(EngineError::LinkEnded { .. })));
    world.run(Duration::from_secs(20));
    assert_eq!(events(&mut world, 0, queue), []);
    // One that was refused before it reported, and one that is dropped while its event waits.
    let engine = &mut world.hosts[0].engine;
    engine.report_import(bad, queue, 6).unwrap();
    engine.report_import(far, queue, 7).unwrap();
    engine.unimport(bad);
    assert_eq!(events(&mut world, 0, queue), [Event::Import { token: 7 }]);
}

#[test]
fn a_slow_application_holds_its_peer_up_by_its_events_too() {
    let mut world = World::new(2, seed(), Conditions::default());
    let queue = world.hosts[1].engine.open_events();
    let (export, _) = world.export_as(1, export_options("inbox", key(), 4), 100);
    world.hosts[1].engine.report_export(export, queue, 1).unwrap();
    let import = world.import(0, 1, "inbox").unwrap();
    let put = |world: &mut World, tag: u32| {
        let mut send = vmmc::engine::Send::new(b"x", 0);
        send.notify = Some(tag);
        let now = world.now();
        let host = &mut world.hosts[0];
        host.engine.send(now, &mut host.port, import, &mut send).unwrap()
    };
    let mut sent = 0;
    for _ in 0..20_000 {
        while put(&mut world, sent).is_some() {
            sent += 1;
        }
        world.run(Duration::from_millis(1));
    }
    assert!((4..=404).contains(&sent), "{sent} sends were let through: the queue holds 4, and credit is for 200");
    let mut expected = 0;
    while expected < 1000 {
        for (_, news) in notifications(events(&mut world, 1, queue)) {
            assert_eq!(news.tag, expected);
            expected += 1;
        }
        while sent < 1000 && put(&mut world, sent).is_some() {
            sent += 1;
        }
        world.step();
    }
}

#[test]
fn a_dropped_queue_holds_nobody_up() {
    let mut world = World::new(2, seed(), Conditions::default());
    let queue = world.hosts[1].engine.open_events();
    let (export, _) = world.export_as(1, export_options("inbox", key(), 2), 100);
    world.hosts[1].engine.report_export(export, queue, 1).unwrap();
    let own = world.begin_import(1, 1, "inbox", key()).unwrap();
    world.hosts[1].engine.report_import(own, queue, 2).unwrap();
    let import = world.import(0, 1, "inbox").unwrap();
    for _ in 0..2 {
        deliver(&mut world, import, b"x", 0, 0);
    }
    // The third is under way for want of room, until the queue has gone.
    let mut third = vmmc::engine::Send::new(b"y", 1);
    third.notify = Some(1);
    world.run(Duration::from_secs(1));
    let now = world.now();
    let host = &mut world.hosts[0];
    while host.engine.send(now, &mut host.port, import, &mut third).unwrap().is_some() {
        third = vmmc::engine::Send::new(b"y", 1);
        third.notify = Some(1);
    }
    world.hosts[1].engine.close_events(queue);
    for _ in 0..1000 {
        deliver(&mut world, import, b"z", 2, 2);
    }
    let engine = &mut world.hosts[1].engine;
    let info = engine.exports().next().unwrap();
    assert_eq!(info.waiting, 0);
    assert!(info.notifications >= 1003);
    assert_eq!((engine.take_events(queue, &mut Vec::new()), engine.take_notification(export)), (0, None));
    assert_eq!(engine.report_export(export, queue, 1), Err(EngineError::Dropped));
    assert_eq!(engine.report_import(own, queue, 1), Err(EngineError::Dropped));
    assert_eq!(engine.await_events(queue, &mut Vec::new()), None);
    engine.interrupt_events(queue);
    engine.unexport(export);
}

#[test]
fn an_interruption_counts_once() {
    let mut world = World::new(1, seed(), Conditions::default());
    let engine = &mut world.hosts[0].engine;
    let (queue, other, mut into) = (engine.open_events(), engine.open_events(), Vec::new());
    assert_eq!(engine.await_events(queue, &mut into), None);
    let news = engine.news();
    engine.interrupt_events(queue);
    engine.interrupt_events(queue);
    assert!(engine.news() > news);
    assert_eq!(engine.take_events(queue, &mut into), 0, "who doesn't wait isn't interrupted");
    assert_eq!(engine.await_events(other, &mut into), None);
    assert_eq!(engine.await_events(queue, &mut into), Some(0));
    assert_eq!(engine.await_events(queue, &mut into), None);
}
