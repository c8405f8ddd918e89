//! Remote read over real veth pairs: at every MTU, awake and asleep, from a program that does nothing, through damage.

use std::time::Duration;

use vmmc::{Import, Node, Progress};
use vmmc_lab::TempLab;

use crate::hosts::{KEY, address, lab, open, open_with, pattern};

const LEN: usize = 3_000_000;

/// A table on host 2, imported by the node on host 1.
fn import(lab: &TempLab, a: &Node, b: &Node) -> (vmmc::Export, Import) {
    let table = b.export("table").len(LEN).key(KEY).readable(true).writable(false).create().unwrap();
    table.write(0, &pattern(LEN, 1)).unwrap();
    (table, a.import(address(lab, 2), "table", KEY).unwrap())
}

#[test]
fn at_every_mtu() {
    for mtu in [1280, 1500, 4000, 9000, 65535] {
        let lab = lab(2, mtu);
        let (a, b) = (open(&lab, 1), open(&lab, 2));
        // Its owner never calls anything again: one-sided means one-sided.
        let (_table, remote) = import(&lab, &a, &b);
        assert!(remote.fetch(0, vec![0; LEN]).wait().unwrap() == pattern(LEN, 1), "MTU {mtu}");
        for (offset, len) in [(0, 1), (LEN - 1, 1), (17, 64), (4095, 70_000)] {
            assert!(remote.fetch_vec(offset as u64, len).unwrap() == pattern(LEN, 1)[offset..offset + len]);
        }
        let stats = b.stats().unwrap();
        assert_eq!(stats.engine.served_bytes, stats.exports[0].read_bytes);
        assert_eq!(a.stats().unwrap().engine.fetched_bytes, stats.engine.served_bytes);
    }
}

#[test]
fn driven_by_the_callers_awake_and_asleep() {
    for spin in [Duration::MAX, Duration::ZERO] {
        let lab = lab(2, 1500);
        let a = open_with(&lab, 1, |b| b.spin(spin)).unwrap();
        let b = open_with(&lab, 2, |b| b.spin(spin).progress(Progress::Thread { core: None })).unwrap();
        let (_table, remote) = import(&lab, &a, &b);
        let all = pattern(LEN, 1);
        for round in 0..300 {
            assert_eq!(remote.fetch_vec(round, 64).unwrap(), all[round as usize..][..64]);
        }
        let fetches: Vec<_> = (0..300).map(|i| remote.fetch(i * 9000, vec![0; 9000]).start().unwrap()).collect();
        for (i, fetch) in fetches.into_iter().enumerate() {
            assert!(fetch.wait().unwrap() == all[i * 9000..][..9000]);
        }
    }
}

#[test]
fn through_faults_both_ways_while_sends_go_both_ways() {
    let lab = lab(2, 1500);
    let faults = "drop=2%,dup=1%,reorder=2%,corrupt=1%,on=both,seed=7".parse().unwrap();
    let open = |host| open_with(&lab, host, |b| b.faults(faults).progress(Progress::Thread { core: None })).unwrap();
    let nodes = [open(1), open(2)];
    let tables = nodes.each_ref().map(|node| {
        let table = node.export("table").len(LEN).key(KEY).readable(true).create().unwrap();
        table.write(0, &pattern(LEN, 1)).unwrap();
        (table, node.export("inbox").len(LEN).key(KEY).create().unwrap())
    });
    std::thread::scope(|scope| {
        for (here, node) in nodes.iter().enumerate() {
            let peer = address(&lab, 2 - here);
            let [table, inbox] = ["table", "inbox"].map(|name| node.import(peer, name, KEY).unwrap());
            scope.spawn(move || {
                for _ in 0..3 {
                    assert!(table.fetch(0, vec![0; LEN]).wait().unwrap() == pattern(LEN, 1));
                }
            });
            scope.spawn(move || (0..3).for_each(|_| inbox.send(&pattern(LEN, 2), 0).wait().unwrap()));
        }
    });
    for (_, inbox) in &tables {
        let mut bytes = vec![0; LEN];
        inbox.read(0, &mut bytes).unwrap();
        assert!(bytes == pattern(LEN, 2));
    }
}
