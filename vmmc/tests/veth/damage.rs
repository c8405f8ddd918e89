//! A network that loses and damages: an XDP program on the ports of the bridge between two nodes.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vmmc::port::fault::Faults;
use vmmc::{Node, Progress};
use xdp_prog::damage::{Damage, DamageError, Shares};

use crate::hosts::{KEY, PATIENCE, address, lab, open, open_with, pattern};

const LENGTH: usize = 8 << 20;

/// Damages what the host sends, on the port of the bridge that it is plugged into.
pub(crate) fn damage(lab: &vmmc_lab::TempLab, port: &str, shares: Shares) -> Result<Damage, DamageError> {
    let namespace = File::open(format!("/run/netns/{}-switch", lab.name())).expect("a lab of three hosts has a switch");
    // On a thread of its own, which ends there.
    let attach = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering needs root");
        Damage::attach(port, shares)
    };
    std::thread::scope(|scope| scope.spawn(attach).join().expect("attaching doesn't panic"))
}

/// Puts 8 MiB from one node to the other, and compares.
fn put(lab: &vmmc_lab::TempLab, from: &Node, to: &Node) {
    let inbox = to.export("inbox").len(LENGTH).key(KEY).notify(true).create().unwrap();
    let remote = from.import(address(lab, 2), "inbox", KEY).unwrap();
    let data = pattern(LENGTH, 5);
    remote.send(&data, 0).notify(1).wait().unwrap();
    inbox.wait_notification(PATIENCE).unwrap();
    let mut seen = vec![0; LENGTH];
    inbox.read(0, &mut seen).unwrap();
    assert!(seen == data, "other bytes have arrived");
}

#[test]
fn data_survives_loss_and_damage_on_the_way() {
    survives(1500, Shares { dropped: 0.01, damaged: 0.005 });
}

#[test]
fn frames_of_several_buffers_do_too() {
    // There are fewer of them, and some are to be damaged.
    survives(9000, Shares { dropped: 0.02, damaged: 0.02 });
}

fn survives(mtu: u32, shares: Shares) {
    let lab = lab(3, mtu);
    // Of host 1 it meets the data, of host 2 the acknowledgements.
    let (data, acks) = (damage(&lab, "port1", shares).unwrap(), damage(&lab, "port2", shares).unwrap());
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    put(&lab, &a, &b);
    let (data, acks) = (data.counters().unwrap(), acks.counters().unwrap());
    assert!(data.dropped > 0 && data.damaged > 0 && data.dropped < data.seen / 10, "{data:?}");
    assert!(acks.seen > 0, "{acks:?}");
    let (sent, received) = (a.stats().unwrap(), b.stats().unwrap());
    assert!(sent.links[0].counters.tx_retransmitted > 0, "{sent:?}");
    // What is damaged in its token belongs to no link, and what is damaged in its first bytes is no packet of ours.
    let engine = received.engine;
    let refused = received.links[0].counters.rx_damaged + engine.rx_damaged + engine.rx_malformed + engine.rx_unknown;
    assert!(refused > 0, "{received:?}");
}

#[test]
fn nothing_passes_where_all_is_lost_and_all_does_after_that() {
    let lab = lab(3, 1500);
    let all = damage(&lab, "port1", Shares { dropped: 1.0, damaged: 0.0 }).unwrap();
    let (a, b) = (open(&lab, 1), open(&lab, 2));
    let _inbox = b.export("inbox").key(KEY).create().unwrap();
    a.import(address(&lab, 2), "inbox", KEY).unwrap_err();
    let counted = all.counters().unwrap();
    assert!(counted.seen > 0 && counted.dropped == counted.seen && counted.damaged == 0, "{counted:?}");
    drop(all);
    a.import(address(&lab, 2), "inbox", KEY).unwrap();
}

#[test]
fn damage_that_can_t_be_done_is_explained() {
    let lab = lab(3, 1500);
    let absent = damage(&lab, "port9", Shares::default()).unwrap_err();
    assert!(matches!(absent, DamageError::NoInterface { .. }), "{absent}");
    let share = damage(&lab, "port1", Shares { dropped: 1.5, damaged: 0.0 }).unwrap_err();
    assert!(matches!(share, DamageError::Share(_)), "{share}");
    let _first = damage(&lab, "port1", Shares::default()).unwrap();
    let second = damage(&lab, "port1", Shares::default()).unwrap_err();
    assert!(matches!(second, DamageError::Attach { .. }), "{second}");
}

#[test]
fn data_survives_faults_on_demand() {
    let lab = lab(2, 1500);
    let faults: Faults = "drop=1%,dup=1%,reorder=2%,corrupt=0.5%,on=both".parse().unwrap();
    let thread = Progress::Thread { core: None };
    let open = |host, seed| open_with(&lab, host, |b| b.progress(thread).faults(Faults { seed, ..faults })).unwrap();
    let (a, b) = (open(1, 1), open(2, 2));
    put(&lab, &a, &b);
    let stats = a.stats().unwrap();
    for made in [stats.port.tx_faults, b.stats().unwrap().port.rx_faults] {
        assert!(made.dropped > 0 && made.duplicated > 0 && made.delayed > 0 && made.corrupted > 0, "{made:?}");
    }
    assert!(stats.links[0].counters.tx_retransmitted > 0, "{stats:?}");
}

#[test]
fn what_is_held_back_leaves_while_the_node_sleeps() {
    let lab = lab(2, 1500);
    // Every packet is held, at both ends, of the handshake too, and meanwhile both nodes sleep.
    let faults: Faults = "reorder=100%,delay=10ms,on=both".parse().unwrap();
    let settings = |b: vmmc::Builder| b.progress(Progress::Thread { core: None }).faults(faults);
    let (a, b) = (open_with(&lab, 1, settings).unwrap(), open_with(&lab, 2, settings).unwrap());
    let _inbox = b.export("inbox").len(100).key(KEY).create().unwrap();
    let remote = a.import(address(&lab, 2), "inbox", KEY).unwrap();
    for _ in 0..10 {
        remote.send(b"hello", 0).wait().unwrap();
    }
    let port = a.stats().unwrap().port;
    assert!(port.tx_faults.delayed > 10 && port.rx_faults.delayed > 10, "{port:?}");
}
