//! Events between threads and nodes: whoever waits is woken, by whatever it waits for, and nothing that was sent is missing.

use vmmc::{EngineError, Event, Events, Import, LinkEnd, Sent};

use super::buffers::two;
use super::*;

/// A node alone, driven by its calls or by a thread.
fn alone(progress: Progress) -> Node {
    let net = Network::new(1, Conditions::default());
    run(&net);
    node(&net, 1, &Arc::default(), Node::builder().progress(progress))
}

const BOTH: [Progress; 2] = [Progress::Caller, Progress::Thread { core: None }];

/// Whoever waits has gone to sleep by then; if not, the test is only easier.
fn sleepy() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Waits asleep.
fn wait(events: &Events) -> Vec<Event> {
    let mut into = Vec::new();
    let count = events.wait(&mut into, Duration::ZERO, PATIENCE).unwrap();
    assert_eq!(count, into.len());
    into
}

/// Waits for an event of an import.
fn changed(events: &Events, token: u64) {
    let mut into = Vec::new();
    events.wait(&mut into, Duration::MAX, PATIENCE).unwrap();
    assert_eq!(into, [Event::Import { token }]);
}

fn tag(event: &Event) -> (u64, u32) {
    match event {
        Event::Notification { token, notification } => (*token, notification.tag),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_waits_for_many_exports() {
    for progress in BOTH {
        let n = alone(progress);
        let events = n.events();
        let exports: Vec<_> = (0..3u64)
            .map(|i| {
                let export = n.export(&format!("inbox{i}")).key(Key::PUBLIC).notify(true);
                export.report_to(&events, i).create().unwrap()
            })
            .collect();
        let imports: Vec<_> = exports.iter().map(|e| n.import(n.local(), e.name(), Key::PUBLIC).unwrap()).collect();
        let mut into = Vec::new();
        assert_eq!(events.poll(&mut into).unwrap(), 0);
        assert_eq!(events.wait(&mut into, Duration::ZERO, Duration::from_millis(1)).unwrap(), 0, "in vain");
        // One thread leads, and one follows it.
        let other = n.export("other").notify(true).create().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(other.wait_notification(Duration::from_secs(2)).is_err()));
            for (tag_, import) in imports.iter().enumerate() {
                let waiter = scope.spawn(|| wait(&events));
                sleepy();
                import.send(b"x", 0).notify(tag_ as u32).wait().unwrap();
                let seen = waiter.join().unwrap();
                assert_eq!(seen.iter().map(tag).collect::<Vec<_>>(), [(tag_ as u64, tag_ as u32)]);
            }
        });
        // Several at once, behind what is in the vector already.
        for import in imports.iter().rev() {
            import.send(b"x", 0).notify(7).wait().unwrap();
        }
        let mut into = wait(&events);
        imports[0].send(b"x", 0).notify(8).wait().unwrap();
        assert_eq!(events.poll(&mut into).unwrap(), 1);
        assert_eq!(into.iter().map(tag).collect::<Vec<_>>(), [(2, 7), (1, 7), (0, 7), (0, 8)]);
        for asked in [exports[0].try_notification().map(drop), exports[0].wait_notification(None).map(drop)] {
            assert!(matches!(asked, Err(Error::Engine(EngineError::Reported { .. }))), "{asked:?}");
        }
    }
}

#[test]
fn a_wait_is_interrupted_or_the_next_one() {
    for progress in BOTH {
        let n = alone(progress);
        let events = n.events();
        let other = n.export("other").notify(true).create().unwrap();
        std::thread::scope(|scope| {
            for spin in [Duration::ZERO, Duration::MAX] {
                let events = &events;
                let waiter = scope.spawn(move || events_wait(events, spin));
                sleepy();
                events.interrupt();
                assert_eq!(waiter.join().unwrap(), 0);
            }
            // While another thread leads.
            let leader = scope.spawn(|| other.wait_notification(Duration::from_secs(1)));
            sleepy();
            let waiter = scope.spawn(|| events_wait(&events, Duration::ZERO));
            sleepy();
            events.interrupt();
            assert_eq!(waiter.join().unwrap(), 0);
            assert!(matches!(leader.join().unwrap(), Err(Error::Timeout { .. })), "which sleeps on");
        });
        // Before it has begun; and that counts once.
        events.interrupt();
        events.interrupt();
        assert_eq!(events.poll(&mut Vec::new()).unwrap(), 0);
        assert_eq!(events_wait(&events, Duration::MAX), 0);
        assert_eq!(events.wait(&mut Vec::new(), Duration::MAX, Duration::from_millis(1)).unwrap(), 0);
    }
}

/// Waits for as long as it takes.
fn events_wait(events: &Events, spin: Duration) -> usize {
    events.wait(&mut Vec::new(), spin, None).unwrap()
}

#[test]
fn waiters_for_events_learn_that_the_thread_has_ended() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let cut = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &cut, Node::builder().progress(Progress::Thread { core: None }));
    let (events, import) = {
        let _inbox = n.export("a").key(Key::PUBLIC).create().unwrap();
        (n.events(), n.import(n.local(), "a", Key::PUBLIC).unwrap())
    };
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| events.wait(&mut Vec::new(), Duration::ZERO, PATIENCE));
        sleepy();
        cut.store(true, Ordering::Relaxed);
        let started = n.start_import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC);
        assert!(matches!(started, Err(Error::Wire(_))), "{started:?}");
        assert!(matches!(waiter.join().unwrap(), Err(Error::Wire(_))));
    });
    assert!(matches!(events.poll(&mut Vec::new()), Err(Error::Wire(_))));
    assert!(matches!(import.try_send(b"x", 0).now(), Err(Error::Wire(_))));
}

#[test]
fn an_import_that_is_started_tells_of_its_answer() {
    let (a, b) = two(&Network::new(1, Conditions::default()), |b| b.connect_timeout(Duration::from_millis(200)));
    let there = b.local();
    let inbox = b.export("inbox").len(5000).key(Key::PUBLIC).create().unwrap();
    let events = a.events();
    // The first opens the link.
    for round in 0..2 {
        let import = a.start_import(there, "inbox", Key::PUBLIC).unwrap();
        import.report_to(&events, round).unwrap();
        changed(&events, round);
        assert_eq!((import.check().unwrap(), import.len()), (Some(5000), 5000));
        assert_eq!((import.peer(), import.name()), (there, "inbox"));
        assert!(import.send(b"x", 0).wait().is_ok());
    }
    let import = a.start_import(there, "inbox", Key::PUBLIC).unwrap();
    let refused = a.start_import(there, "nothing", Key::PUBLIC).unwrap();
    refused.report_to(&events, 5).unwrap();
    changed(&events, 5);
    let why = refused.check();
    assert!(matches!(why, Err(Error::Engine(EngineError::UnknownName { .. }))), "{why:?}");
    assert!(matches!(refused.try_send(b"x", 0).now(), Err(Error::Engine(EngineError::UnknownName { .. }))));
    assert_eq!(refused.len(), 0);
    // It was asked for before, so it has been answered.
    import.report_to(&events, 6).unwrap();
    changed(&events, 6);
    drop(inbox);
    changed(&events, 6);
    let why = import.check();
    assert!(matches!(why, Err(Error::Engine(EngineError::Revoked { .. }))), "{why:?}");
    assert_eq!(import.len(), 0, "nobody had asked while it was known");
    // Nobody is there.
    drop(b);
    let lost = a.start_import("10.0.0.3:7000".parse().unwrap(), "inbox", Key::PUBLIC).unwrap();
    assert!(matches!(lost.check(), Ok(None)));
    lost.report_to(&events, 7).unwrap();
    changed(&events, 7);
    let why = lost.check();
    let Err(Error::Engine(EngineError::LinkEnded { end: LinkEnd::NoAnswer(_), .. })) = why else { panic!("{why:?}") };
    // One's own are known at once.
    let own = a.start_import(a.local(), "mine", Key::PUBLIC);
    assert!(matches!(own, Err(Error::Engine(EngineError::UnknownName { .. }))), "{own:?}");
}

#[test]
fn a_node_s_events_are_its_own() {
    let (a, b) = two(&Network::new(1, Conditions::default()), |b| b);
    let events = a.events();
    let wrong = b.export("inbox").report_to(&events, 1).create();
    assert!(matches!(&wrong, Err(Error::Config(text)) if text.contains("10.0.0.1:7000")), "{wrong:?}");
    let _inbox = b.export("inbox").key(Key::PUBLIC).create().unwrap();
    let import = b.import(b.local(), "inbox", Key::PUBLIC).unwrap();
    assert!(matches!(import.report_to(&events, 1), Err(Error::Config(_))));
}

/// Writes all of `data` from where the export begins, waiting for nothing but events.
fn write(events: &Events, import: &Import, data: &[u8], queued: bool) -> Option<vmmc::Ticket> {
    let (mut at, mut last) = (0, None);
    while at < data.len() {
        let send = import.try_send(&data[at..], at as u64).notify(1);
        let Sent { bytes, complete, ticket, .. } = if queued { send.queued() } else { send }.now().unwrap();
        assert_eq!((complete, bytes > 0), (at + bytes == data.len(), ticket.is_some()));
        at += bytes;
        last = ticket.or(last);
        if !complete {
            let mut into = Vec::new();
            assert_eq!(events.wait(&mut into, Duration::MAX, PATIENCE).unwrap(), 1);
            assert_eq!(into, [Event::Import { token: 9 }]);
        }
    }
    last
}

#[test]
fn a_stream_that_waits_for_room_alone_gets_through() {
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ i >> 8) as u8).collect();
    for (progress, merge) in BOTH.into_iter().zip([true, false]) {
        let net = Network::new(1, Conditions { loss: 0.02, ..Conditions::default() });
        run(&net);
        // There is nothing to sleep on: a simulated packet wakes nobody.
        let builder = || Node::builder().progress(progress).spin(Duration::MAX);
        let [a, b] = [1, 2].map(|n| node(&net, n, &Arc::default(), builder()));
        let (out, incoming) = (a.events(), b.events());
        let inbox = b.export("inbox").len(data.len()).key(Key::PUBLIC).notify(true).queue(50).merge(merge);
        let inbox = inbox.report_to(&incoming, 3).create().unwrap();
        let remote = a.start_import(b.local(), "inbox", Key::PUBLIC).unwrap();
        remote.report_to(&out, 9).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let last = write(&out, &remote, &data, merge).unwrap();
                let start = Instant::now();
                while !remote.is_delivered(&last).unwrap() {
                    assert!(start.elapsed() < PATIENCE, "what has come is never acknowledged");
                    a.progress().unwrap();
                }
            });
            let (mut at, mut seen, mut bytes) = (0, Vec::new(), vec![0; data.len()]);
            while at < data.len() {
                assert!(incoming.wait(&mut seen, Duration::MAX, PATIENCE).unwrap() > 0, "{at} bytes have come");
                for event in seen.drain(..) {
                    let Event::Notification { token: 3, notification } = event else { panic!("{event:?}") };
                    assert_eq!(notification.offset, at as u64);
                    at += notification.length as usize;
                    inbox.read(notification.offset, &mut bytes[notification.offset as usize..at]).unwrap();
                }
            }
            assert!(bytes == data);
            while !writer.is_finished() {
                b.progress().unwrap();
            }
            writer.join().unwrap();
        });
    }
}

#[test]
fn one_s_own_full_queue_tells_of_room() {
    for progress in BOTH {
        let n = alone(progress);
        let (events, news) = (n.events(), n.events());
        let inbox = n.export("inbox").key(Key::PUBLIC).notify(true).queue(1).report_to(&news, 1).create().unwrap();
        let me = n.import(n.local(), "inbox", Key::PUBLIC).unwrap();
        me.report_to(&events, 2).unwrap();
        assert_eq!(wait(&events), [Event::Import { token: 2 }]);
        assert!(me.try_send(b"x", 0).notify(1).now().unwrap().complete);
        let sent = me.try_send(b"y", 0).notify(2).now().unwrap();
        assert_eq!((sent.bytes, sent.complete, sent.ticket), (0, false, None));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&events));
            sleepy();
            assert_eq!(wait(&news).len(), 1);
            assert_eq!(waiter.join().unwrap(), [Event::Import { token: 2 }]);
        });
        let sent = me.try_send(b"", 3).notify(2).now().unwrap();
        assert_eq!((sent.bytes, sent.complete), (0, true));
        // The export goes while its notification and somebody for room wait.
        assert!(!me.try_send(b"z", 0).notify(3).now().unwrap().complete);
        drop(inbox);
        assert_eq!(wait(&events), [Event::Import { token: 2 }]);
        assert_eq!(news.poll(&mut Vec::new()).unwrap(), 0);
        assert!(matches!(me.check(), Err(Error::Engine(EngineError::Revoked { .. }))));
    }
}

#[test]
fn a_send_that_has_gone_in_whole_waits_for_no_room() {
    let n = alone(Progress::Caller);
    let events = n.events();
    let inbox = n.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).queue(1).create().unwrap();
    let [long, short] = [1, 2].map(|token| {
        let me = n.import(n.local(), "inbox", Key::PUBLIC).unwrap();
        me.report_to(&events, token).unwrap();
        changed(&events, token);
        me
    });
    assert!(long.try_send(&[7; 1 << 20], 0).now().unwrap().complete);
    assert!(short.try_send(b"x", 0).notify(1).now().unwrap().complete);
    assert!(!short.try_send(b"y", 0).notify(2).now().unwrap().complete);
    inbox.wait_notification(PATIENCE).unwrap();
    changed(&events, 2);
}

/// Events of the node's own, without end, don't keep from it what others send.
#[test]
fn one_s_own_events_leave_the_wire_its_turn() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let threaded = Node::builder().progress(Progress::Thread { core: None }).spin(Duration::MAX);
    let (a, b) = (node(&net, 1, &Arc::default(), Node::builder()), node(&net, 2, &Arc::default(), threaded));
    let events = a.events();
    let report = |name, token| a.export(name).key(Key::PUBLIC).notify(true).report_to(&events, token).create().unwrap();
    let (_own, _theirs) = (report("own", 1), report("theirs", 2));
    let me = a.import(a.local(), "own", Key::PUBLIC).unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let remote = b.import(a.local(), "theirs", Key::PUBLIC).unwrap();
            remote.send(b"x", 0).notify(7).wait().unwrap();
        });
        let (start, mut into, mut seen) = (Instant::now(), Vec::new(), false);
        while !(seen && sender.is_finished()) {
            assert!(start.elapsed() < PATIENCE, "nobody looks at the wire");
            me.try_send(b"y", 0).notify(1).now().unwrap();
            let count =
                if fastrand::bool() { events.poll(&mut into) } else { events.wait(&mut into, Duration::MAX, None) };
            assert!(count.unwrap() > 0);
            seen |= into.drain(..).any(|event| tag(&event) == (2, 7));
        }
        sender.join().unwrap();
    });
}

#[test]
fn dropped_events_hold_no_sender_up() {
    let (a, b) = two(&Network::new(1, Conditions::default()), |b| b);
    let events = b.events();
    let inbox = b.export("inbox").key(Key::PUBLIC).notify(true).queue(1).report_to(&events, 1).create().unwrap();
    let remote = super::buffers::import(&a, "inbox");
    remote.send(b"x", 0).notify(1).wait().unwrap();
    std::thread::scope(|scope| {
        // More than there ever is credit for.
        let sender = scope.spawn(|| (0..5000).try_for_each(|tag| remote.send(b"y", 0).notify(tag).start().map(drop)));
        sleepy();
        assert!(!sender.is_finished());
        drop(events);
        sender.join().unwrap().unwrap();
    });
    remote.send(b"z", 0).notify(0).wait().unwrap();
    let info = &b.stats().unwrap().exports[0];
    assert_eq!((info.waiting, info.notifications), (0, 5002));
    assert!(matches!(inbox.try_notification(), Err(Error::Engine(EngineError::Reported { .. }))));
}
