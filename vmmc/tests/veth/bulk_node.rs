//! Nodes with a bulk lane on a veth pair: what is sent is what arrives, wherever it is sent to and however it gets there.

use std::sync::Arc;
use std::time::Duration;

use vmmc::{Bulk, Export, Key, Node, Progress};
use vmmc_lab::TempLab;

use crate::hosts::lab;

const LEN: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn open(lab: &TempLab, host: usize, bulk: Bulk) -> Node {
    let host = lab.host(host);
    let settings = Node::builder().interface(&host.interface).bulk(bulk).bulk_mtu(1280).arena(6 * LEN);
    let settings = settings.progress(Progress::Thread { core: None });
    host.enter(|| settings.open().unwrap()).unwrap()
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn contents(export: &Export, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    export.read(at, &mut bytes).unwrap();
    bytes
}

fn peer(lab: &TempLab) -> std::net::SocketAddr {
    (lab.host(2).address, vmmc::DEFAULT_PORT).into()
}

/// Puts, to the export and to a redirect, and a fetch, without a copy at either end. Where a host has too much to do, a peer may be taken for one that leaves its places unused, and what it
/// sends then goes by the eager lane, or the kernel may drop a packet: that is tried again.
fn everything_goes_by_the_lane(mtu: u32) {
    let all = (0..10).any(|_| goes_by_the_lane(mtu));
    assert!(all, "something went by the eager lane each time");
}

/// Returns whether nothing was declined.
fn goes_by_the_lane(mtu: u32) -> bool {
    let lab = lab(2, mtu);
    let (from, to) = (open(&lab, 1, Bulk::Require), open(&lab, 2, Bulk::Require));
    let inbox = to.export("inbox").len(LEN).key(Key::PUBLIC).notify(true).readable(true).create().unwrap();
    let remote = from.import(peer(&lab), "inbox", Key::PUBLIC).unwrap();
    let mut buffer = from.alloc(LEN).unwrap();
    for (round, (offset, len)) in [(0, LEN), (1, LEN - 1), (4096, 1 << 20), (777, 300_001)].into_iter().enumerate() {
        let sent = bytes(len, round as u64);
        buffer[..len].copy_from_slice(&sent);
        inbox.write(0, &vec![0xee; LEN]).unwrap();
        buffer = remote.send(buffer, offset as u64).part(0..len).notify(round as u32).timeout(PATIENCE).wait().unwrap();
        let news = inbox.wait_notification(PATIENCE).unwrap();
        assert_eq!((news.offset, news.length, news.tag), (offset as u64, len as u64, round as u32));
        let all = contents(&inbox, 0, LEN);
        assert!(all[offset..offset + len] == sent, "round {round}");
        assert!(all[..offset].iter().chain(&all[offset + len..]).all(|&byte| byte == 0xee), "round {round}");
    }
    // To a redirect.
    let target = to.alloc(1 << 20).unwrap();
    let posted = inbox.redirect(0..1 << 20, target).unwrap();
    let shared = Arc::new(buffer);
    remote.send(shared.clone(), 0).part(0..1 << 20).timeout(PATIENCE).wait().unwrap();
    let target = posted.wait(PATIENCE).unwrap();
    assert!(target[..] == shared[..1 << 20]);
    // And back.
    inbox.write(0, &bytes(LEN, 99)).unwrap();
    let fetched = remote.fetch(0, from.alloc(LEN).unwrap()).timeout(PATIENCE).wait().unwrap();
    assert!(fetched[..] == bytes(LEN, 99)[..]);
    let (from, to) = (from.stats().unwrap(), to.stats().unwrap());
    // What was lost on the way has had others land in its place.
    let lost = from.engine.rx_bulk_missing + to.engine.rx_bulk_missing;
    if from.engine.tx_bulk_declined + to.engine.tx_bulk_declined + lost > 0 {
        return false;
    }
    // What is left over in front of segments travels with the requests.
    let copied = from.engine.tx_copied_bytes as f64 / to.engine.delivered_bytes as f64;
    assert!(copied > 0.0 && copied <= 0.001, "{copied} of the bytes copied");
    let copied = to.engine.rx_copied_bytes as f64 / to.engine.delivered_bytes as f64;
    assert!(copied <= 0.001, "{copied} of the bytes copied");
    assert!(to.engine.rx_bulk_bytes > 2 * LEN as u64 && from.engine.rx_bulk_bytes == LEN as u64);
    assert_eq!((to.engine.bulk_reopened, to.engine.rx_bulk_abandoned), (0, 0));
    true
}

#[test]
fn everything_goes_by_the_lane_at_1500() {
    everything_goes_by_the_lane(1500);
}

#[test]
fn everything_goes_by_the_lane_at_9000() {
    everything_goes_by_the_lane(9000);
}

#[test]
fn everything_goes_by_the_lane_at_65535() {
    everything_goes_by_the_lane(65535);
}
