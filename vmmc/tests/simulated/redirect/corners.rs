//! One thing at a time: redirects that are too large, too small, too late, taken back too early, or of nothing.

use std::time::Duration;

use vmmc::engine::{
    EngineError, Landed, Notification, Piece, Place, Received, RedirectEnd, RedirectId, Returned, Send, Ticket, Wanted,
};
use vmmc::memory::Region;
use vmmc::port::sim::Conditions;

use crate::world::{World, contents, seed};

const LEN: usize = 50_000;

fn bad() -> Conditions {
    Conditions { loss: 0.02, reordering: 0.05, ..Conditions::default() }
}

struct Scene {
    world: World,
    export: u32,
    region: Region,
    import: u32,
}

fn data(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add((i >> 8) as u8) ^ salt | 1).collect()
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::new(3, seed(), Conditions::default());
        let (export, region) = world.export(1, "inbox", LEN, 100);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(bad());
        Scene { world, export, region, import }
    }

    fn try_post(&mut self, wanted: Wanted, room: usize) -> Result<RedirectId, (EngineError, Returned)> {
        self.world.hosts[1].engine.redirect(self.export, wanted, Box::new(vec![0; room]))
    }

    fn post(&mut self, wanted: Wanted) -> RedirectId {
        let room = wanted.len() as usize;
        self.try_post(wanted, room).unwrap()
    }

    fn take(&mut self, id: RedirectId) -> (Vec<u8>, Received, Option<RedirectEnd>) {
        let returned = self.world.hosts[1].take_redirect(self.export, id).unwrap();
        let end = returned.end;
        let (target, received) = returned.into_parts();
        (target, received, end)
    }

    fn bytes(&self) -> u64 {
        self.world.hosts[1].engine.exports().next().unwrap().bytes
    }

    fn start(&mut self, bytes: &[u8], offset: u64, tag: u32) -> Ticket {
        self.world.send(0, self.import, bytes, offset, Some(tag)).unwrap()
    }

    fn news(&mut self) -> Notification {
        self.world.notification(1, self.export)
    }

    fn send(&mut self, bytes: &[u8], offset: u64) -> Landed {
        let ticket = self.start(bytes, offset, 1);
        self.world.delivered(0, ticket).unwrap();
        let news = self.news();
        assert_eq!((news.offset, news.length), (offset, bytes.len() as u64));
        news.landed
    }

    /// Sends as much as congestion control lets a new link have under way, and sees it arrive.
    fn half<'a>(&mut self, bytes: &'a [u8]) -> Send<'a> {
        self.world.network.set_conditions(Conditions::default());
        let mut send = Send::new(bytes, 0);
        send.notify = Some(1);
        let (now, host) = (self.world.now(), &mut self.world.hosts[0]);
        let begun = host.engine.send(now, &mut host.port, self.import, &mut send);
        assert_eq!(begun, Ok(None));
        let sent = send.done() as u64;
        self.world.until("half of it", |w| {
            let bytes = w.hosts[1].engine.exports().next().unwrap().bytes;
            (bytes >= sent).then_some(())
        });
        assert!(sent > 0 && sent < bytes.len() as u64, "{sent}");
        self.world.network.set_conditions(bad());
        send
    }

    fn rest(&mut self, send: Send<'_>) {
        let ticket = self.world.submit(0, self.import, send).unwrap();
        self.world.delivered(0, ticket).unwrap();
    }
}

fn whole(redirect: RedirectId) -> Landed {
    Landed::Redirect { redirect, at: 0 }
}

fn pieces(list: &[(std::ops::Range<u64>, Place)]) -> Landed {
    Landed::Pieces(list.iter().map(|(range, place)| Piece { range: range.clone(), place: *place }).collect())
}

fn there(redirect: RedirectId, at: u64) -> Place {
    Place::Redirect { redirect, at }
}

#[test]
fn what_is_redirected_is_not_in_the_export() {
    let mut scene = Scene::new();
    let message = data(20_000, 0);
    let id = scene.post(Wanted::Range(100..20_100));
    assert_eq!(scene.send(&message, 100), whole(id));
    let (target, received, end) = scene.take(id);
    assert!(target == message);
    assert_eq!((received.bytes(), received.prefix(), end), (20_000, 20_000, Some(RedirectEnd::Full)));
    assert!(contents(&scene.region).iter().all(|&b| b == 0));
    // It was for once.
    assert_eq!(scene.send(&message, 100), Landed::Default);
    assert!(contents(&scene.region)[100..20_100] == message);
    let counters = scene.world.hosts[1].engine.counters();
    assert_eq!((counters.rx_copied_bytes, counters.redirected_bytes, counters.rx_moved_bytes), (40_000, 20_000, 0));
}

#[test]
fn a_redirect_longer_than_the_message() {
    let mut scene = Scene::new();
    let next = scene.post(Wanted::Next(10_000));
    assert_eq!(scene.send(&data(3000, 1), 500), whole(next));
    assert_eq!(scene.send(&data(3000, 2), 40_000), Landed::Redirect { redirect: next, at: 3000 });
    let state = scene.world.hosts[1].engine.redirect_state(scene.export, next);
    assert_eq!(state, Some((6000, None)), "it waits for more");
    let (target, received, end) = scene.take(next);
    assert!(target[..6000] == [data(3000, 1), data(3000, 2)].concat() && target[6000..].iter().all(|&b| b == 0));
    assert_eq!((received.ranges().collect::<Vec<_>>(), end), (std::iter::once(0..6000).collect(), None));
}

#[test]
fn a_redirect_shorter_than_the_message() {
    let mut scene = Scene::new();
    let message = data(10_000, 3);
    let (first, second) = (scene.post(Wanted::Next(1000)), scene.post(Wanted::Range(4000..5000)));
    let landed = scene.send(&message, 0);
    let expected = [
        (0..1000, there(first, 0)),
        (1000..4000, Place::Default),
        (4000..5000, there(second, 0)),
        (5000..10_000, Place::Default),
    ];
    assert_eq!(landed, pieces(&expected));
    assert!(scene.take(first).0 == message[..1000] && scene.take(second).0 == message[4000..5000]);
    let seen = contents(&scene.region);
    assert!(seen[1000..4000] == message[1000..4000] && seen[5000..10_000] == message[5000..]);
    assert!(seen[..1000].iter().chain(&seen[4000..5000]).all(|&b| b == 0));
}

#[test]
fn overlapping_redirects_take_turns() {
    let mut scene = Scene::new();
    let (first, second) = (scene.post(Wanted::Range(0..2000)), scene.post(Wanted::Range(1000..3000)));
    let third = scene.post(Wanted::Range(0..3000));
    let message = |salt| data(3000, salt);
    assert_eq!(scene.send(&message(1), 0), pieces(&[(0..2000, there(first, 0)), (2000..3000, there(second, 1000))]));
    let landed = scene.send(&message(2), 0);
    assert_eq!(
        landed,
        pieces(&[(0..1000, there(third, 0)), (1000..2000, there(second, 0)), (2000..3000, there(third, 2000))])
    );
    let landed = scene.send(&message(3), 0);
    assert_eq!(
        landed,
        pieces(&[(0..1000, Place::Default), (1000..2000, there(third, 1000)), (2000..3000, Place::Default)])
    );
    assert!(scene.take(first).0 == message(1)[..2000]);
    assert!(scene.take(second).0 == [&message(2)[1000..2000], &message(1)[2000..]].concat());
    assert!(scene.take(third).0 == [&message(2)[..1000], &message(3)[1000..2000], &message(2)[2000..]].concat());
}

#[test]
fn posted_after_arrival_and_in_its_midst() {
    for part in [0..LEN as u64, 0..30_000, 7..20_007] {
        let mut scene = Scene::new();
        let message = data(LEN, 5);
        let send = scene.half(&message);
        let moved = scene.bytes().clamp(part.start, part.end) - part.start;
        let id = scene.post(Wanted::Range(part.clone()));
        assert_eq!(scene.world.hosts[1].engine.counters().rx_moved_bytes, moved);
        scene.rest(send);
        let (target, _, end) = scene.take(id);
        assert!(target == message[part.start as usize..part.end as usize], "{part:?}");
        assert_eq!(end, Some(RedirectEnd::Full));
        // It says where it is, though the redirect is gone.
        let news = scene.news();
        let redirected: Vec<Piece> = news.pieces().filter(|p| p.place != Place::Default).collect();
        assert_eq!(redirected, [Piece { range: part.clone(), place: there(id, 0) }]);
    }
}

#[test]
fn a_notification_that_waits_follows_its_data() {
    let mut scene = Scene::new();
    for tag in 0..3 {
        let bytes = data(1000, tag as u8);
        let ticket = scene.start(&bytes, u64::from(tag) * 1000, tag);
        scene.world.delivered(0, ticket).unwrap();
    }
    // The first is taken: it is the program's, and no redirect's.
    assert_eq!(scene.news().landed, Landed::Default);
    let next = scene.post(Wanted::Next(1500));
    let whole_export = scene.post(Wanted::Range(0..LEN as u64));
    assert_eq!(scene.news().landed, whole(next));
    let landed = scene.news().landed;
    assert_eq!(landed, pieces(&[(0..500, there(next, 1000)), (500..1000, there(whole_export, 2500))]));
    let (target, received, _) = scene.take(whole_export);
    assert_eq!(received.ranges().collect::<Vec<_>>(), std::iter::once(2500..3000).collect::<Vec<_>>());
    assert!(target[2500..3000] == data(1000, 2)[500..]);
    // What was redirected, and what was forgotten, is there for nobody any more.
    let ticket = scene.start(&data(1000, 9), 5000, 9);
    scene.world.delivered(0, ticket).unwrap();
    scene.world.hosts[1].engine.forget(scene.export, 5000..u64::MAX);
    let late = scene.post(Wanted::Next(100));
    assert_eq!(scene.take(late).1.bytes(), 0);
}

#[test]
fn taken_back_in_the_middle_of_a_message() {
    let mut scene = Scene::new();
    let message = data(LEN, 6);
    let id = scene.post(Wanted::Range(0..LEN as u64));
    let send = scene.half(&message);
    let arrived = scene.bytes();
    let (target, received, end) = scene.take(id);
    assert_eq!((received.bytes(), received.prefix(), end), (arrived, arrived, None));
    scene.rest(send);
    let n = arrived as usize;
    assert!(target[..n] == message[..n] && target[n..].iter().all(|&b| b == 0));
    let seen = contents(&scene.region);
    assert!(seen[n..] == message[n..] && seen[..n].iter().all(|&b| b == 0));
    let expected = [(0..arrived, there(id, 0)), (arrived..LEN as u64, Place::Default)];
    assert_eq!(scene.news().landed, pieces(&expected));
}

#[test]
fn a_ring_is_read_in_the_order_it_was_written() {
    let mut scene = Scene::new();
    let stream = data(10 * LEN, 7);
    let (mut sent, mut seen) = (0, Vec::new());
    let lengths = [30_000, 20_000, 10_000, 45_000, 777, 12_345, 40_000, 20_000];
    for length in lengths {
        for part in stream[sent..sent + length].chunks(LEN - sent % LEN) {
            let ticket = scene.world.send(0, scene.import, part, (sent % LEN) as u64, None).unwrap();
            scene.world.delivered(0, ticket).unwrap();
            sent += part.len();
        }
        // It begins anywhere, and goes round.
        let id = scene.post(Wanted::Next(length as u64 - 500));
        let (target, received, _) = scene.take(id);
        assert_eq!(received.bytes(), length as u64 - 500);
        seen.extend(target);
        let rest = scene.post(Wanted::Next(1000));
        let (target, received, _) = scene.take(rest);
        assert_eq!(received.bytes(), 500);
        seen.extend(&target[..500]);
    }
    assert!(seen == stream[..sent]);
}

#[test]
fn what_can_t_be_redirected_is_explained_and_comes_back() {
    let mut scene = Scene::new();
    let len = LEN as u64;
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..len + 1, len + 1..len + 1, 10..5, u64::MAX - 1..u64::MAX] {
        let (error, returned) = scene.try_post(Wanted::Range(range), 77).unwrap_err();
        assert!(matches!(error, EngineError::RedirectOutside { export, .. } if export == len), "{error}");
        assert_eq!(returned.into_parts::<Vec<u8>>().0.len(), 77);
    }
    let (error, _) = scene.try_post(Wanted::Range(0..100), 99).unwrap_err();
    assert_eq!(error, EngineError::RedirectTarget { wanted: 100, target: 99 });
    let longer = scene.try_post(Wanted::Range(0..100), 101).unwrap();
    assert_eq!(scene.send(&data(100, 0), 0), whole(longer));
    for nothing in [Wanted::Range(len..len), Wanted::Next(0)] {
        let id = scene.post(nothing);
        assert_eq!(scene.take(id).2, Some(RedirectEnd::Full));
    }
    let export = scene.export;
    let engine = &mut scene.world.hosts[1].engine;
    engine.unexport(export);
    let (error, _) = engine.redirect(export, Wanted::Next(1), Box::new(vec![0; 1])).unwrap_err();
    assert_eq!(error, EngineError::Dropped);
    // None of these means anything, or does any harm.
    engine.stop_redirect(export, longer);
    engine.forget(export, 0..len);
    assert_eq!(engine.take_notification_in(export, longer), Err(EngineError::RedirectRevoked));
}

#[test]
fn an_export_goes_and_its_redirects_come_back() {
    let mut scene = Scene::new();
    let message = data(LEN, 8);
    let (full, open) = (scene.post(Wanted::Next(100)), scene.post(Wanted::Range(0..LEN as u64)));
    scene.half(&message);
    let arrived = scene.bytes();
    let news = scene.world.hosts[1].engine.news();
    scene.world.hosts[1].engine.unexport(scene.export);
    assert_ne!(scene.world.hosts[1].engine.news(), news, "who waits is woken");
    // Later packets find nothing.
    scene.world.run(Duration::from_secs(1));
    let state = |id| scene.world.hosts[1].engine.redirect_state(scene.export, id);
    assert_eq!(state(full), Some((100, Some(RedirectEnd::Full))));
    assert_eq!(state(open), Some((arrived - 100, Some(RedirectEnd::Revoked))));
    assert!(scene.take(full).0 == message[..100]);
    let (target, received, _) = scene.take(open);
    assert_eq!(received.ranges().collect::<Vec<_>>(), std::iter::once(100..arrived).collect::<Vec<_>>());
    assert!(target[100..arrived as usize] == message[100..arrived as usize]);
}

#[test]
fn a_dead_sender_leaves_its_redirect_to_others() {
    let mut scene = Scene::new();
    let (one, other) = (data(LEN, 1), data(LEN, 2));
    let id = scene.post(Wanted::Range(0..LEN as u64));
    scene.half(&one);
    scene.world.hosts[0].on = false;
    scene.world.run(Duration::from_secs(10));
    let arrived = scene.bytes();
    let state = scene.world.hosts[1].engine.redirect_state(scene.export, id);
    assert_eq!(state, Some((arrived, None)));
    let import = scene.world.import(2, 1, "inbox").unwrap();
    let ticket = scene.world.send(2, import, &other, 0, Some(5)).unwrap();
    scene.world.delivered(2, ticket).unwrap();
    // What the dead one has sent was taken, and stays; the other fills what is left.
    let landed = scene.news().landed;
    assert_eq!(landed, pieces(&[(0..arrived, Place::Default), (arrived..LEN as u64, there(id, arrived))]));
    let n = arrived as usize;
    assert!(scene.take(id).0 == [&one[..n], &other[n..]].concat());
    assert!(contents(&scene.region)[..n] == other[..n]);
}

#[test]
fn a_node_s_sends_to_itself_are_redirected() {
    let mut scene = Scene::new();
    let import = scene.world.import(1, 1, "inbox").unwrap();
    let id = scene.post(Wanted::Range(10..20));
    let news = scene.world.hosts[1].engine.news();
    scene.world.send(1, import, &data(30, 0), 0, None).unwrap();
    assert_ne!(scene.world.hosts[1].engine.news(), news, "it is full");
    scene.world.send(1, import, &data(10, 1), 10, Some(1)).unwrap();
    assert_eq!(scene.news().landed, Landed::Default);
    assert!(scene.take(id).0 == data(30, 0)[10..20]);
    let seen = contents(&scene.region);
    assert!(seen[..10] == data(30, 0)[..10] && seen[10..20] == data(10, 1) && seen[20..30] == data(30, 0)[20..]);
}
