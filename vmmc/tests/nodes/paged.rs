//! Sends from paged buffers go through the UTLB, and what arrives is what was in them.

use super::buffers::{import, two};
use super::*;
use vmmc::memory::utlb::{Config, Rule};
use vmmc::{Error, PagedBuffer, SendFailed};

/// Two nodes, the first with a budget of so many pages, which are pinned at once.
fn pinning(net: &Network, pages: usize) -> (Node, Node) {
    let budget = Some(pages * rustix::param::page_size());
    two(net, |b| b.utlb(Config { budget, rule: Rule::Pin, ..Config::default() }))
}

fn counting(node: &Node, len: usize) -> PagedBuffer {
    let mut buffer = node.map(len).unwrap();
    buffer.write().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at ^ at >> 8 ^ at >> 16) as u8);
    buffer
}

#[test]
fn borrowed_owned_and_shared() {
    let (a, b) = pinning(&Network::new(11, Conditions::default()), 8);
    let inbox = b.export("inbox").len(1 << 16).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    let mut seen = vec![0; 30_000];
    let buffer = counting(&a, 30_000);
    remote.send(&buffer, 0).wait().unwrap();
    inbox.read(0, &mut seen).unwrap();
    assert!(seen == *buffer);
    let utlb = a.stats().unwrap().utlb;
    assert_eq!((utlb.lookups, utlb.misses, utlb.pins, utlb.pinned, utlb.held, utlb.budget), (8, 8, 8, 8, 0, 8));

    // Its pages are pinned now.
    let address = buffer.as_ptr();
    let mut buffer = remote.send(buffer, 100).part(5000..20_000).wait().unwrap();
    inbox.read(100, &mut seen[..15_000]).unwrap();
    assert!(seen[..15_000] == buffer[5000..20_000]);
    assert_eq!((buffer.as_ptr(), a.utlb().counters().hits), (address, 4));
    buffer.write()[7] = 99;

    let buffer = Arc::new(buffer);
    let pending = [0, 32_768].map(|offset| remote.send(buffer.clone(), offset).start().unwrap());
    for pending in pending {
        pending.wait().unwrap();
    }
    for offset in [0, 32_768] {
        inbox.read(offset, &mut seen).unwrap();
        assert!(seen == **buffer);
    }
    let utlb = a.utlb().counters();
    assert_eq!((utlb.lookups, utlb.hits, utlb.copied, utlb.held), (28, 20, 0, 0));

    // As any bytes: copied without a look-up.
    remote.send(&buffer[..100], 0).wait().unwrap();
    assert_eq!(a.utlb().counters(), utlb);
}

#[test]
fn a_send_that_fails_gives_the_buffer_back_and_holds_nothing() {
    let (a, b) = pinning(&Network::new(12, Conditions::default()), 8);
    let inbox = b.export("inbox").len(1 << 14).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    let buffer = counting(&a, 20_000);
    let SendFailed { error, buffer } = remote.send(buffer, 0).start().unwrap_err();
    assert!(matches!(error, Error::Engine(_)), "{error}");
    let SendFailed { error, buffer } = remote.send(buffer, 0).part(0..20_001).start().unwrap_err();
    assert!(matches!(error, Error::Memory(_)), "{error}");
    let reversed = std::ops::Range { start: 9, end: 5 };
    assert!(remote.send(&buffer, 0).part(reversed).start().is_err());
    assert_eq!(a.utlb().counters().held, 0);
    drop((inbox, remote));
}

#[test]
fn a_buffer_may_outlive_its_node() {
    let (a, b) = pinning(&Network::new(13, Conditions::default()), 8);
    let inbox = b.export("inbox").len(1 << 14).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    let mut buffer = counting(&a, 10_000);
    remote.send(&buffer, 0).wait().unwrap();
    drop((remote, a));
    buffer.write()[0] = 5;
    let mut seen = vec![0; 10_000];
    inbox.read(0, &mut seen).unwrap();
    assert!((seen[0], buffer[0]) == (0, 5) && seen[1..] == buffer[1..]);
}

#[test]
fn the_ski_rental_is_the_default_and_the_budget_changes_at_run_time() {
    let (a, b) = two(&Network::new(14, Conditions::default()), |b| b.arena(1 << 20));
    let inbox = b.export("inbox").len(4096).key(Key::PUBLIC).create().unwrap();
    let remote = import(&a, "inbox");
    let buffer = counting(&a, 4096);
    assert_eq!(a.utlb().counters().budget as usize * a.utlb().page_size(), 1 << 19);
    let sends_until_pinned = |a: &Node| {
        for sends in 0..1000 {
            if a.utlb().counters().pinned > 0 {
                return sends;
            }
            remote.send(&buffer, 0).wait().unwrap();
        }
        panic!("never pinned: {:?}", a.utlb().counters());
    };
    assert!((10..200).contains(&sends_until_pinned(&a)));
    a.utlb().set_budget(0);
    assert_eq!(a.utlb().counters().pinned, 0);
    remote.send(&buffer, 0).wait().unwrap();
    a.utlb().set_budget(1 << 19);
    assert!(sends_until_pinned(&a) > 10, "rent starts again");
    let mut seen = vec![0; 4096];
    inbox.read(0, &mut seen).unwrap();
    assert!(seen == *buffer);
}

#[test]
fn threads_write_and_send_their_own_parts() {
    let (a, b) = pinning(&Network::new(15, Conditions::default()), 3);
    let inbox = b.export("inbox").len(1 << 17).key(Key::PUBLIC).create().unwrap();
    let page = a.utlb().page_size();
    let mut rest = a.map(16 * page).unwrap();
    let mut parts = Vec::new();
    for _ in 0..4 {
        let tail = rest.split_off(4 * page).unwrap();
        parts.push(std::mem::replace(&mut rest, tail));
    }
    std::thread::scope(|scope| {
        for (part, number) in parts.iter_mut().zip(0u64..) {
            let (a, inbox) = (&a, &inbox);
            scope.spawn(move || {
                let remote = import(a, "inbox");
                let offset = number * part.len() as u64;
                for round in 0..40u8 {
                    let value = round ^ (number as u8) << 6;
                    part.write().fill(value);
                    part.write()[round as usize * 100] = !value;
                    remote.send(&*part, offset).wait().unwrap();
                    let mut seen = vec![0; part.len()];
                    inbox.read(offset, &mut seen).unwrap();
                    assert!(seen == **part, "part {number}, round {round}");
                }
            });
        }
    });
    let utlb = a.utlb().counters();
    assert!(utlb.pins > 0 && utlb.pinned <= 3 && utlb.held == 0, "{utlb:?}");
}
