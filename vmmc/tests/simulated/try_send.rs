//! Sends that never wait: what found room is complete and announced, and an event tells of more.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::{EngineError, Event, Send, Ticket};
use vmmc::port::Port;
use vmmc::port::sim::Conditions;

use crate::fetch::{begin, table};
use crate::world::{World, contents, export_options, key, link_config, seed};

/// Sends as much as there is room for: how much, and whether that is all.
fn try_send(world: &mut World, host: usize, import: u32, send: &mut Send<'_>) -> Result<Option<Ticket>, EngineError> {
    let now = world.now();
    let host = &mut world.hosts[host];
    if send.queued
        && let Some(ticket) = host.engine.coalesce(&mut host.port, import, send)?
    {
        return Ok(Some(ticket));
    }
    let mut ticket = None;
    loop {
        let before = send.done();
        ticket = host.engine.try_send(now, &mut host.port, import, send)?.or(ticket);
        if send.is_complete() || send.done() == before {
            return Ok(ticket);
        }
    }
}

/// A send of which every part is announced.
fn piecewise(data: &[u8], offset: u64, tag: Option<u32>) -> Send<'_> {
    let mut send = Send::new(data, offset);
    (send.notify, send.piecewise) = (tag, true);
    send
}

fn room(world: &mut World, host: usize, queue: u64, token: u64) {
    world.until("room", |w| {
        let mut events = Vec::new();
        w.hosts[host].engine.take_events(queue, &mut events);
        assert!(events.iter().all(|event| *event == Event::Import { token }), "{events:?}");
        assert!(events.len() <= 1, "one at a time: {events:?}");
        (!events.is_empty()).then_some(())
    });
}

/// An import by host 0 of an export of host 1, which reports, and has told of its answer.
fn reporting(world: &mut World, name: &str, len: usize, notifications: usize, token: u64, queue: u64) -> (u32, u32) {
    let (export, _) = world.export_as(1, export_options(name, key(), notifications), len);
    let import = world.import(0, 1, name).unwrap();
    world.hosts[0].engine.report_import(import, queue, token).unwrap();
    room(world, 0, queue, token);
    (export, import)
}

#[test]
fn one_that_finds_room_is_as_any_other() {
    let mut world = World::new(2, seed(), Conditions::default());
    let queue = world.hosts[0].engine.open_events();
    let (export, import) = reporting(&mut world, "inbox", 5000, 10, 1, queue);
    let ticket = try_send(&mut world, 0, import, &mut piecewise(b"hello", 7, Some(3))).unwrap().unwrap();
    world.delivered(0, ticket).unwrap();
    let news = world.notification(1, export);
    assert_eq!((news.offset, news.length, news.tag), (7, 5, 3));
    // Packet by packet.
    let ticket = try_send(&mut world, 0, import, &mut piecewise(&[1; 3000], 100, Some(4))).unwrap().unwrap();
    world.delivered(0, ticket).unwrap();
    let news: Vec<_> = (0..3).map(|_| world.notification(1, export)).map(|n| (n.offset, n.length, n.tag)).collect();
    assert_eq!(news, [(100, 1408, 4), (1508, 1408, 4), (2916, 184, 4)]);
    // Without bytes.
    let mut empty = piecewise(b"", 9, Some(5));
    assert!(try_send(&mut world, 0, import, &mut empty).unwrap().is_some() && empty.is_complete());
    let news = world.notification(1, export);
    assert_eq!((news.offset, news.length, news.tag), (9, 0, 5));
    // Without notification.
    let ticket = try_send(&mut world, 0, import, &mut piecewise(&[2; 2000], 0, None)).unwrap().unwrap();
    world.delivered(0, ticket).unwrap();
    assert_eq!(world.hosts[1].engine.take_notification(export), None);
    // What can't be.
    let refused = try_send(&mut world, 0, import, &mut piecewise(b"", 0, None));
    assert_eq!(refused, Err(EngineError::Empty));
    let refused = try_send(&mut world, 0, import, &mut piecewise(&[0; 5000], 1, None));
    assert!(matches!(refused, Err(EngineError::OutOfRange { .. })), "{refused:?}");
    let info = world.hosts[0].engine.imports().next().unwrap();
    assert_eq!((info.sends, info.bytes, world.hosts[0].engine.counters().sends), (4, 5005, 4));
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[0].engine.take_events(queue, &mut Vec::new()), 0, "nobody had to wait");
}

#[test]
fn one_before_the_answer_finds_none_and_the_answer_is_the_event() {
    let mut world = World::new(2, seed(), Conditions::default());
    world.export(1, "inbox", 100, 10);
    let queue = world.hosts[0].engine.open_events();
    let import = world.begin_import(0, 1, "inbox", key()).unwrap();
    world.hosts[0].engine.report_import(import, queue, 1).unwrap();
    let mut send = piecewise(b"x", 0, Some(1));
    assert_eq!(try_send(&mut world, 0, import, &mut send), Ok(None));
    assert_eq!((send.done(), send.is_complete()), (0, false));
    room(&mut world, 0, queue, 1);
    assert!(try_send(&mut world, 0, import, &mut send).unwrap().is_some());
}

/// Fills the window, and then tells whether an event says when it is open again.
fn fill(world: &mut World, import: u32) -> usize {
    let data = vec![9; 1 << 20];
    let mut send = piecewise(&data, 0, None);
    try_send(world, 0, import, &mut send).unwrap();
    assert!(!send.is_complete());
    send.done()
}

#[test]
fn a_receiver_that_comes_back_makes_room() {
    for loss in [0.0, 0.3] {
        let mut world = World::new(2, seed(), Conditions { loss, ..Conditions::default() });
        let queue = world.hosts[0].engine.open_events();
        let (_, import) = reporting(&mut world, "inbox", 1 << 20, 10, 1, queue);
        world.hosts[1].on = false;
        fill(&mut world, import);
        world.run(Duration::from_secs(2));
        assert_eq!(world.hosts[0].engine.take_events(queue, &mut Vec::new()), 0, "there is no room");
        world.hosts[1].on = true;
        room(&mut world, 0, queue, 1);
        assert!(fill(&mut world, import) > 0);
        // Nobody comes: the end is an event, too.
        world.hosts[1].on = false;
        fill(&mut world, import);
        room(&mut world, 0, queue, 1);
        assert!(world.hosts[0].engine.imported(import).is_err());
    }
}

#[test]
fn a_throttled_sender_is_told_when_notifications_are_taken() {
    // The message that says so may be lost, again and again.
    for loss in [0.0, 0.5] {
        // Such a network isn't to count as a dead peer.
        let link = vmmc::link::Config { peer_timeout: Duration::from_secs(300), ..link_config() };
        let mut world = World::with(2, seed(), Conditions { loss, ..Conditions::default() }, link);
        let (queue, news) = (world.hosts[0].engine.open_events(), world.hosts[1].engine.open_events());
        let (export, import) = reporting(&mut world, "inbox", 100, 4, 1, queue);
        world.hosts[1].engine.report_export(export, news, 2).unwrap();
        let mut sent = 0;
        for round in 0..5 {
            // Whoever waits for events tries again when there is one, and not before.
            let (mut may, mut quiet) = (true, 0);
            while quiet < 100 {
                if may {
                    let mut send = piecewise(b"x", 0, Some(round));
                    try_send(&mut world, 0, import, &mut send).unwrap();
                    sent += usize::from(send.is_complete());
                    may = send.is_complete();
                } else {
                    let before = world.now();
                    while world.now() < before + Duration::from_millis(100) && !may {
                        world.step();
                        may = world.hosts[0].engine.take_events(queue, &mut Vec::new()) > 0;
                    }
                    quiet = if may { 0 } else { quiet + 1 };
                }
            }
            // All but the first few are credit that was given before.
            let mut taken = Vec::new();
            world.hosts[1].engine.take_events(news, &mut taken);
            assert_eq!(taken.len(), std::mem::take(&mut sent));
            let before = world.now();
            room(&mut world, 0, queue, 1);
            assert!(world.now().since(before) < Duration::from_secs(30), "that isn't found out by chance");
        }
    }
}

#[test]
fn imports_of_one_link_have_room_in_turn() {
    let mut world = World::new(2, seed(), Conditions { rate: Some(1_000_000_000), ..Conditions::default() });
    let queue = world.hosts[0].engine.open_events();
    let imports: Vec<_> =
        (0..3).map(|i| reporting(&mut world, &format!("inbox{i}"), 1 << 20, 10, i, queue).1).collect();
    let data = vec![1; 1 << 20];
    let mut sent = [0; 3];
    for &import in &imports {
        try_send(&mut world, 0, import, &mut piecewise(&data, 0, None)).unwrap();
    }
    let end = world.now() + Duration::from_millis(100);
    while world.now() < end {
        let mut events = Vec::new();
        world.hosts[0].engine.take_events(queue, &mut events);
        for event in events {
            let Event::Import { token } = event else { panic!("{event:?}") };
            let mut send = piecewise(&data, 0, None);
            try_send(&mut world, 0, imports[token as usize], &mut send).unwrap();
            sent[token as usize] += send.done();
        }
        world.step();
    }
    let (least, most) = (*sent.iter().min().unwrap(), *sent.iter().max().unwrap());
    assert!(least > most / 20, "one has had none of the room, or next to none: {sent:?}");
}

#[test]
fn what_the_peer_fetches_leaves_half_of_the_room() {
    let mut world = World::new(2, seed(), Conditions { rate: Some(1_000_000_000), ..Conditions::default() });
    let queue = world.hosts[0].engine.open_events();
    let (_, import) = reporting(&mut world, "inbox", 1 << 20, 10, 1, queue);
    table(&mut world, 0, 100_000);
    let back = world.import(1, 0, "table").unwrap();
    let mut fetches: VecDeque<u32> = (0..3).map(|_| begin(&mut world, 1, back, 0, 100_000).unwrap()).collect();
    let data = vec![1; 1 << 20];
    let (mut may, mut sent, mut fetched) = (true, 0, 0);
    let end_at = world.now() + Duration::from_millis(100);
    while world.now() < end_at {
        may |= world.hosts[0].engine.take_events(queue, &mut Vec::new()) > 0;
        if std::mem::take(&mut may) {
            let mut send = piecewise(&data, 0, None);
            try_send(&mut world, 0, import, &mut send).unwrap();
            sent += send.done();
        }
        if let Ok(Some(_)) = world.hosts[1].fetched(fetches[0]) {
            fetched += 100_000;
            fetches.pop_front();
            fetches.push_back(begin(&mut world, 1, back, 0, 100_000).unwrap());
        }
        world.step();
    }
    assert!(sent > fetched / 2 && fetched > sent / 2, "{sent} bytes sent, {fetched} fetched");
}

#[test]
fn a_port_without_frames_makes_room_later() {
    let mut world = World::new(2, seed(), Conditions::default());
    let queue = world.hosts[0].engine.open_events();
    let (_, import) = reporting(&mut world, "inbox", 1000, 10, 1, queue);
    world.run(Duration::from_secs(1));
    let port = &mut world.hosts[0].port;
    let all: Vec<_> = std::iter::from_fn(|| port.alloc(64)).collect();
    let mut send = piecewise(b"x", 0, Some(1));
    try_send(&mut world, 0, import, &mut send).unwrap();
    assert!(!send.is_complete());
    let (now, host) = (world.now(), &mut world.hosts[0]);
    for _ in 0..3 {
        host.engine.tick(now, &mut host.port);
    }
    assert!(host.engine.deadline() < now + Duration::from_millis(1), "nothing but a look at the port tells");
    assert_eq!(host.engine.take_events(queue, &mut Vec::new()), 0);
    all.into_iter().for_each(|packet| host.port.free(packet));
    room(&mut world, 0, queue, 1);
    try_send(&mut world, 0, import, &mut send).unwrap();
    assert!(send.is_complete());
}

#[test]
fn a_node_s_own_full_queue_makes_room() {
    let mut world = World::new(1, seed(), Conditions::default());
    let queue = world.hosts[0].engine.open_events();
    let (export, _) = world.export(0, "mine", 100, 1);
    let (other, _) = world.export(0, "other", 100, 1);
    let [import, aside] = ["mine", "other"].map(|name| world.import(0, 0, name).unwrap());
    for (import, token) in [(import, 1), (aside, 2)] {
        world.hosts[0].engine.report_import(import, queue, token).unwrap();
        room(&mut world, 0, queue, token);
    }
    for import in [import, aside] {
        assert!(try_send(&mut world, 0, import, &mut piecewise(b"a", 0, Some(1))).unwrap().is_some());
        assert!(try_send(&mut world, 0, import, &mut piecewise(b"b", 0, Some(2))).unwrap().is_none());
    }
    assert_eq!(world.hosts[0].engine.take_events(queue, &mut Vec::new()), 0);
    world.hosts[0].engine.take_notification(export).unwrap();
    room(&mut world, 0, queue, 1);
    assert!(try_send(&mut world, 0, import, &mut piecewise(b"b", 0, Some(2))).unwrap().is_some());
    assert_eq!(world.hosts[0].engine.take_events(queue, &mut Vec::new()), 0, "the other queue is as full as it was");
    world.hosts[0].engine.unexport(other);
    room(&mut world, 0, queue, 2);
    // An import that waits may go, and so may a queue.
    assert!(try_send(&mut world, 0, import, &mut piecewise(b"c", 0, Some(3))).unwrap().is_none());
    world.hosts[0].engine.unimport(import);
    world.hosts[0].engine.take_notification(export).unwrap();
    assert_eq!(world.hosts[0].engine.take_events(queue, &mut Vec::new()), 0);
}

/// How a stream is written and read.
#[derive(Clone, Debug)]
struct Stream {
    /// Length of each write, and whether it is queued.
    writes: Vec<(usize, bool)>,
    /// How many notifications may wait.
    notifications: usize,
    merge: bool,
    /// The reader looks only so often.
    looks: Duration,
}

/// Writes a stream into an export, waiting for nothing but events, and reads it as it is announced.
fn stream(seed: u64, conditions: Conditions, parameters: &Stream) {
    let link = vmmc::link::Config { credit: 40, window: 30, ..link_config() };
    let mut world = World::with(2, seed, conditions, link);
    let all: usize = parameters.writes.iter().map(|(len, _)| len).sum();
    let data: Vec<u8> = (0..all).map(|i| (i * 31 + (i >> 8)) as u8).collect();
    let (room, news) = (world.hosts[0].engine.open_events(), world.hosts[1].engine.open_events());
    let (export, region) = world.export(1, "ring", all.max(1), parameters.notifications);
    world.hosts[1].engine.report_export(export, news, 1).unwrap();
    world.hosts[1].engine.merge_notifications(export, parameters.merge).unwrap();
    let import = world.begin_import(0, 1, "ring", key()).unwrap();
    world.hosts[0].engine.report_import(import, room, 2).unwrap();

    let (mut at, mut read, mut look_at, mut counted) = (0, 0, world.now(), 0);
    let mut writes = parameters.writes.iter().copied();
    let mut write = writes.next();
    let (mut may_write, mut last) = (true, None);
    world.until("the end of the stream", |w| {
        let mut events = Vec::new();
        may_write |= w.hosts[0].engine.take_events(room, &mut events) > 0;
        while may_write && let Some((len, queued)) = write {
            let mut send = piecewise(&data[at..at + len], at as u64, Some(7));
            send.queued = queued;
            last = try_send(w, 0, import, &mut send).unwrap().or(last);
            at += send.done();
            if send.is_complete() {
                write = writes.next();
            } else {
                write = Some((len - send.done(), queued));
                may_write = false;
            }
        }
        if w.now() >= look_at {
            look_at = w.now() + parameters.looks;
            let mut events = Vec::new();
            w.hosts[1].engine.take_events(news, &mut events);
            for event in events {
                let Event::Notification { token: 1, notification } = event else { panic!("{event:?}") };
                assert_eq!((notification.offset, notification.tag), (read as u64, 7), "in order, and each byte once");
                let mut bytes = vec![0; notification.length as usize];
                region.read(notification.offset, &mut bytes).unwrap();
                read += bytes.len();
                assert!(bytes == data[read - bytes.len()..read], "announced before it was there");
                counted += 1;
            }
        }
        (read == all && write.is_none()).then_some(())
    });
    assert!(contents(&region)[..all] == data);
    world.delivered(0, last.unwrap()).unwrap();
    let info = world.hosts[0].engine.imports().next().unwrap();
    assert_eq!(info.bytes, all as u64);
    let announced = world.hosts[1].engine.counters().notifications;
    assert!(if parameters.merge { counted <= announced } else { counted == announced });
    world.run(Duration::from_secs(1));
    for host in &world.hosts {
        assert_eq!(host.port.rx_headroom(), host.port.rx_capacity(), "a received packet was not given back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_arrives_in_order_and_is_announced_once(
        seed: u64,
        loss in 0.0..0.2f64,
        duplication in 0.0..0.1f64,
        reordering in 0.0..0.3f64,
        writes in prop::collection::vec((prop_oneof![1..200usize, 1300..3000usize, 1..200_000usize], any::<bool>()), 1..30),
        notifications in prop_oneof![1..8usize, Just(1000)],
        merge: bool,
        looks in 0u64..3000,
    ) {
        let looks = Duration::from_micros(looks);
        let conditions = Conditions { loss, duplication, reordering, ..Conditions::default() };
        stream(seed, conditions, &Stream { writes, notifications, merge, looks });
    }
}
