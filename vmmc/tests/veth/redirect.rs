//! Redirects on real sockets, over a network that loses and damages: posted before the data, after it, and in its midst.

use std::time::Instant;

use vmmc::{Export, Landed, Place};
use xdp_prog::damage::Shares;

use crate::damage::damage;
use crate::hosts::{KEY, PATIENCE, address, lab, open, pattern};

const LENGTH: usize = 4 << 20;
const ALL: std::ops::Range<u64> = 0..LENGTH as u64;

fn contents(export: &Export) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    export.read(0, &mut bytes).unwrap();
    bytes
}

fn redirected(mtu: u32, shares: Shares) {
    let lab = lab(3, mtu);
    // Of host 1 it meets the data, of host 2 the acknowledgements.
    let ports = ["port1", "port2"].map(|port| damage(&lab, port, shares).unwrap());
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    let inbox = b.export("inbox").len(LENGTH).key(KEY).notify(true).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    assert_eq!(a.stats().unwrap().links[0].mtu, mtu as usize);
    let counted = || {
        let engine = b.stats().unwrap().engine;
        (engine.redirected_bytes, engine.rx_moved_bytes)
    };
    let send = |salt: u8| remote.send(&pattern(LENGTH, salt), 0).notify(salt.into()).wait().unwrap();
    let some_has_come = || {
        let (start, before) = (Instant::now(), b.stats().unwrap().exports[0].bytes);
        while b.stats().unwrap().exports[0].bytes < before + 100_000 {
            assert!(start.elapsed() < PATIENCE, "nothing arrives");
        }
    };

    // Before.
    let posted = inbox.redirect(ALL, vec![0; LENGTH]).unwrap();
    let id = posted.id();
    send(1);
    assert!(posted.wait(PATIENCE).unwrap() == pattern(LENGTH, 1));
    assert_eq!(inbox.wait_notification(PATIENCE).unwrap().landed, Landed::Redirect { redirect: id, at: 0 });
    assert!(contents(&inbox).iter().all(|&b| b == 0));
    assert_eq!(counted(), (LENGTH as u64, 0));
    assert_eq!(b.stats().unwrap().engine.rx_copied_bytes, LENGTH as u64, "each byte is copied once");

    // After.
    send(2);
    let posted = inbox.redirect_next(vec![0; LENGTH]).unwrap();
    assert!(posted.is_full());
    let (news, target, _) = posted.wait_notification(PATIENCE).unwrap();
    assert!(target == pattern(LENGTH, 2) && news.tag == 2);
    assert_eq!(counted(), (LENGTH as u64, LENGTH as u64));

    // In its midst.
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(3));
        some_has_come();
        let posted = inbox.redirect(ALL, vec![0; LENGTH].into_boxed_slice()).unwrap();
        let id = posted.id();
        let (news, target, received) = posted.wait_notification(PATIENCE).unwrap();
        assert!(*target == pattern(LENGTH, 3));
        assert_eq!((received.bytes(), news.landed), (LENGTH as u64, Landed::Redirect { redirect: id, at: 0 }));
        let (straight, moved) = counted();
        assert_eq!(straight + moved, 3 * LENGTH as u64);
        assert!(moved > LENGTH as u64, "some was there before");
        sender.join().unwrap();
    });

    // Taken back in the midst.
    let posted = inbox.redirect(ALL, vec![0; LENGTH]).unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(4));
        some_has_come();
        let (target, received) = posted.cancel();
        let news = inbox.wait_notification(PATIENCE).unwrap();
        sender.join().unwrap();
        let (seen, data, n) = (contents(&inbox), pattern(LENGTH, 4), received.prefix() as usize);
        assert_eq!(received.bytes(), n as u64);
        assert!(n >= 100_000 && target[..n] == data[..n] && seen[n..] == data[n..]);
        let default: u64 =
            news.pieces().filter(|p| p.place == Place::Default).map(|p| p.range.end - p.range.start).sum();
        assert_eq!(default, (LENGTH - n) as u64);
    });

    let harm = ports[0].counters().unwrap();
    assert!(harm.dropped > 0 && harm.damaged > 0, "the network was too good: {harm:?}");
}

#[test]
fn over_a_bad_network() {
    redirected(1500, Shares { dropped: 0.01, damaged: 0.005 });
}

#[test]
fn over_a_bad_network_with_frames_of_several_buffers() {
    redirected(9000, Shares { dropped: 0.02, damaged: 0.02 });
}
