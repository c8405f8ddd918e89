//! Memory of an export in place, and slices as targets, between two nodes with threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vmmc::memory::MemoryError;
use vmmc::port::sim::{Conditions, Network};
use vmmc::{EngineError, Error, Export, Import, Key, Landed, Node, Progress};

use super::buffers::{import, two};
use super::{PATIENCE, node, run};

const LEN: usize = 1 << 20;

/// A node with a sparse export, and another that has imported it.
fn pair() -> (Node, Export, Node, Import) {
    let (there, here) = two(&Network::new(1, Conditions::default()), |builder| builder);
    let inbox = here.export("a").len(LEN).key(Key::PUBLIC).notify(true).sparse(true).only(there.local());
    let inbox = inbox.create().unwrap();
    let remote = import(&there, "a");
    (here, inbox, there, remote)
}

/// A node that is driven by its calls, or by a thread, and imports its own export.
fn alone(progress: Progress) -> (Node, Export, Import) {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let n = node(&net, 1, &Arc::default(), Node::builder().progress(progress));
    let inbox = n.export("a").len(LEN).key(Key::PUBLIC).notify(true).sparse(true).only(n.local()).create().unwrap();
    let me = n.import(n.local(), "a", Key::PUBLIC).unwrap();
    (n, inbox, me)
}

#[test]
fn what_is_lent_is_read_in_place_and_written_by_nobody() {
    let (here, inbox, there, remote) = pair();
    remote.send(&[7; 5000], 100).notify(1).wait().unwrap();
    let news = inbox.wait_notification(PATIENCE).unwrap();
    let loan = inbox.lend(news.offset..news.offset + news.length).unwrap();
    assert_eq!((loan.range(), &loan[..]), (100..5100, &[7; 5000][..]));

    let lent = |result| matches!(result, Err(Error::Memory(MemoryError::Lent { .. })));
    assert!(lent(inbox.write(5099, &[1, 1])) && lent(inbox.discard(0..4096)));
    let own = here.import(here.local(), "a", Key::PUBLIC);
    assert!(matches!(own, Err(Error::Engine(EngineError::Denied { .. }))), "{own:?}");
    remote.send(&[8; 100], 5100).wait().unwrap();
    let refused = remote.send(&[9; 1], 100).wait().unwrap_err();
    assert!(matches!(refused, Error::Engine(EngineError::RefusedLent { .. })), "{refused}");
    assert_eq!(here.stats().unwrap().engine.refused_puts, 1);

    let out = inbox.lend(0..LEN as u64 + 1).unwrap_err();
    assert!(matches!(out, Error::Engine(EngineError::LentOutside { .. })), "{out}");
    let out = inbox.discard(1..LEN as u64 + 1).unwrap_err();
    assert!(matches!(out, Error::Memory(MemoryError::NoRange { .. })), "{out}");

    // A loan outlives its export, and another export of the same name is another.
    drop(inbox);
    let inbox = here.export("a").len(LEN).key(Key::PUBLIC).sparse(true).create().unwrap();
    let remote = import(&there, "a");
    remote.send(&[1; 5000], 100).wait().unwrap();
    assert_eq!(loan[..], [7; 5000]);
    drop((here, inbox, there, remote));
    assert_eq!(loan[..], [7; 5000]);
}

#[test]
fn what_is_discarded_is_zero_and_moved_to_nobody() {
    let (_here, inbox, _there, remote) = pair();
    remote.send(&vec![7; 100_000], 0).wait().unwrap();
    inbox.discard(1000..90_000).unwrap();
    let mut bytes = vec![1; 100_000];
    inbox.read(0, &mut bytes).unwrap();
    assert!((0..100_000).all(|at| bytes[at] == if (1000..90_000).contains(&at) { 0 } else { 7 }));
    let (_, received) = inbox.redirect(0..100_000, vec![0; 100_000]).unwrap().cancel();
    assert_eq!(received.ranges().collect::<Vec<_>>(), [0..1000, 90_000..100_000]);
    // It can be written and lent again.
    remote.send(&[8; 100], 50_000).wait().unwrap();
    assert_eq!(inbox.lend(50_000..50_101).unwrap()[..], [[8; 100].as_slice(), &[0]].concat());
}

#[test]
fn a_slice_takes_what_comes_while_the_work_is_done() {
    let local = [Progress::Caller, Progress::Thread { core: None }].map(|progress| {
        let (node, inbox, me) = alone(progress);
        (node, inbox, None, me)
    });
    let (here, inbox, there, remote) = pair();
    for (_here, inbox, _there, remote) in local.into_iter().chain([(here, inbox, Some(there), remote)]) {
        let mut bytes = [0; 1100];
        // What is there before the work begins, what comes while it goes on, and what comes too late.
        remote.send(&[1; 300], 900).notify(1).wait().unwrap();
        inbox.wait_notification(PATIENCE).map(|news| assert_eq!(news.landed, Landed::Default)).unwrap();
        remote.send(&[2; 100], 1200).wait().unwrap();
        while inbox.lend(1299..1300).unwrap()[0] == 0 {
            inbox.try_notification().unwrap();
        }
        let (at, received) = inbox
            .redirect_scoped(1000..2000, &mut bytes, |posted| {
                assert_eq!((posted.received(), posted.is_full()), (100, false));
                remote.send(&[3; 500], 1300).notify(3).wait().unwrap();
                let news = inbox.wait_notification(PATIENCE).unwrap();
                assert_eq!(posted.received(), 600);
                let Landed::Redirect { redirect, at } = news.landed else { panic!("{news:?}") };
                assert_eq!(redirect, posted.id());
                at
            })
            .unwrap();
        remote.send(&[4; 500], 1500).notify(4).wait().unwrap();
        let late = inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!((at, late.landed), (300, Landed::Default));
        assert_eq!(received.ranges().collect::<Vec<_>>(), std::iter::once(200..800).collect::<Vec<_>>());
        let expected = [&[0; 200][..], &[2; 100], &[3; 500], &[0; 300]].concat();
        assert_eq!(bytes[..], expected);
        let full = inbox.redirect_scoped(1500..1500, &mut [], |posted| posted.is_full()).unwrap();
        assert_eq!((full.0, full.1.bytes()), (true, 0));
    }
}

#[test]
fn a_slice_comes_back_from_work_that_panics_and_is_not_posted_where_it_does_not_fit() {
    let (here, inbox, _there, remote) = pair();
    let mut bytes = vec![0; 100];
    let result = catch_unwind(AssertUnwindSafe(|| {
        inbox.redirect_scoped(0..100, &mut bytes, |_| {
            remote.send(&[1; 50], 0).wait().unwrap();
            panic!("this work is meant to panic");
        })
    }));
    assert!(result.is_err());
    remote.send(&[2; 100], 0).wait().unwrap();
    assert_eq!(bytes, [[1; 50], [0; 50]].concat());
    let engine = here.stats().unwrap().engine;
    assert_eq!((engine.redirects, engine.redirects_ended), (1, 1));

    for (range, short) in [(0..101, true), (LEN as u64 - 50..LEN as u64 + 50, false)] {
        let refused = inbox.redirect_scoped(range, &mut bytes, |_| panic!("nothing was posted")).unwrap_err();
        match refused {
            Error::Engine(EngineError::RedirectTarget { wanted: 101, target: 100 }) if short => {}
            Error::Engine(EngineError::RedirectOutside { .. }) if !short => {}
            other => panic!("{other}"),
        }
    }
}

/// Slices of several threads, one within the other's work, and a peer that doesn't stop: each byte goes to where it was wanted, or to the export.
#[test]
fn slices_come_and_go_under_traffic() {
    let (_here, inbox, _there, remote) = pair();
    let sent = std::thread::spawn(move || {
        for round in 0..300u64 {
            remote.send(&[(round % 250) as u8 + 1; 3000], 3000 * (round % 4)).wait().unwrap();
        }
        remote.send(b"", 0).notify(1).wait().unwrap();
        remote
    });
    let mut received = 0;
    loop {
        let (mut outer, mut inner) = (vec![0; 3000], vec![0; 2000]);
        let ((done, within), around) = inbox
            .redirect_scoped(3000..6000, &mut outer, |_| {
                inbox.redirect_scoped(4000..6000, &mut inner, |_| inbox.try_notification().unwrap()).unwrap()
            })
            .unwrap();
        for (slice, has) in [(outer, around), (inner, within)] {
            received += has.bytes();
            let filled: Vec<bool> = slice.iter().map(|&byte| byte != 0).collect();
            let mut model = vec![false; slice.len()];
            has.ranges().for_each(|run| model[run.start as usize..run.end as usize].fill(true));
            assert_eq!(filled, model);
        }
        if done.is_some() {
            break;
        }
    }
    assert!(received <= 75 * 3000);
    sent.join().unwrap();
}
