//! The injector over a simulated network: what arrives, in which order, and that nobody else's packet changes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::port::sim::{Conditions, Network, SimPort};
use crate::time::Time;
use crate::wire::frame::{ETHERNET_LEN, VLAN_LEN};

const ETHERNET: [u8; ETHERNET_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
const BODY: usize = 1000;

struct Pair {
    network: Network,
    sender: FaultPort,
    receiver: SimPort,
    now: u64,
}

impl Pair {
    fn new(faults: &str) -> Pair {
        let network = Network::new(1, Conditions::default());
        let sender = Box::new(network.attach([2, 0, 0, 0, 0, 1]));
        let receiver = network.attach([2, 0, 0, 0, 0, 2]);
        let sender = FaultPort::new(sender, faults.parse().unwrap()).unwrap();
        Pair { network, sender, receiver, now: 0 }
    }

    /// Sends packet number `n`, and checks that it is none the worse for it.
    fn send(&mut self, n: u32) {
        let mut packet = self.sender.alloc(0).unwrap();
        let frame = [&ETHERNET[..], &n.to_be_bytes(), &[7; BODY]].concat();
        self.sender.append(&mut packet, &frame);
        assert!(self.sender.submit(&packet));
        assert_eq!(self.sender.contents(&packet).unwrap().concat(), frame);
        self.sender.free(packet);
    }

    /// What has arrived, whole or not, without Ethernet header.
    fn arrived(&mut self) -> Vec<Vec<u8>> {
        self.now += 1_000_000;
        self.network.advance(Time::from_nanos(self.now));
        let mut batch = Vec::new();
        loop {
            let before = batch.len();
            self.receiver.receive(&mut batch).unwrap();
            if batch.len() == before {
                break;
            }
        }
        let take = |packet| {
            let frame = self.receiver.fragments(&packet).concat();
            assert_eq!(frame[..ETHERNET_LEN], ETHERNET);
            self.receiver.recycle(packet);
            frame[ETHERNET_LEN..].to_vec()
        };
        batch.into_iter().map(take).collect()
    }

    /// Lets out what was held back. If nothing woke one who sleeps this would hang.
    fn settle(&mut self) {
        while self.sender.sending.due().is_some() {
            crate::port::wait(&self.sender.readable(), None).unwrap();
            self.sender.receive(&mut Vec::new()).unwrap();
        }
        assert_stopped(&self.sender);
    }

    fn counted(&self) -> FaultCounters {
        self.sender.counters().tx_faults
    }
}

fn assert_stopped(port: &FaultPort) {
    let timer = rustix::time::timerfd_gettime(port.timer.as_fd()).unwrap();
    assert_eq!((timer.it_value.tv_sec, timer.it_value.tv_nsec), (0, 0), "the timer is still running");
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[..4].try_into().unwrap())
}

#[test]
fn without_faults_it_is_the_port() {
    let mut pair = Pair::new("seed=3");
    (0..100).for_each(|n| pair.send(n));
    assert!(pair.arrived().iter().map(|p| number(p)).eq(0..100));
    assert_eq!(pair.counted(), FaultCounters::default());
}

/// Of 2000 packets a fifth were lost and a tenth repeated, and that is all.
fn assert_shares(mut numbers: Vec<u32>, counted: FaultCounters) {
    assert!((300..500).contains(&counted.dropped) && (100..220).contains(&counted.duplicated), "{counted:?}");
    assert_eq!(numbers.len() as u64, 2000 - counted.dropped + counted.duplicated);
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len() as u64, 2000 - counted.dropped);
    assert_eq!((counted.corrupted, counted.delayed, counted.spared), (0, 0, 0));
}

#[test]
fn drops_a_share_and_repeats_a_share() {
    let mut pair = Pair::new("drop=20%,dup=10%");
    let mut numbers = Vec::new();
    for n in 0..2000 {
        pair.send(n);
        numbers.extend(pair.arrived().iter().map(|p| number(p)));
    }
    assert_shares(numbers, pair.counted());
}

#[test]
fn damages_one_bit_of_a_copy() {
    let mut pair = Pair::new("corrupt=30%,dup=5%");
    let mut damaged = 0;
    for n in 0..500u32 {
        pair.send(n);
        let whole = [&n.to_be_bytes()[..], &[7; BODY]].concat();
        for (copy, packet) in pair.arrived().iter().enumerate() {
            let bits: u32 = packet.iter().zip(&whole).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!(bits <= 1 && packet.len() == whole.len());
            damaged += u64::from(bits == 1 && copy == 0);
        }
    }
    assert_eq!(damaged, pair.counted().corrupted);
    assert!((100..200).contains(&damaged), "{damaged}");
}

#[test]
fn holds_some_back_and_lets_them_out_later() {
    let mut pair = Pair::new("reorder=10%,delay=200ms");
    (0..200).for_each(|n| pair.send(n));
    let first: Vec<u32> = pair.arrived().iter().map(|p| number(p)).collect();
    let delayed = pair.counted().delayed;
    assert!((5..40).contains(&delayed), "{delayed}");
    pair.settle();
    let late: Vec<u32> = pair.arrived().iter().map(|p| number(p)).collect();
    assert_eq!(late.len() as u64, delayed);
    assert!(late.is_sorted(), "all are held equally long: {late:?}");
    let mut all = [first, late].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..200), "each arrives once");
}

#[test]
fn a_longer_path_keeps_the_order() {
    let mut pair = Pair::new("reorder=100%,delay=1ms");
    (0..100).for_each(|n| pair.send(n));
    pair.settle();
    assert!(pair.arrived().iter().map(|p| number(p)).eq(0..100));
}

#[test]
fn holds_no_more_than_it_may_and_says_so() {
    let mut pair = Pair::new("reorder=100%,delay=10s");
    (0..COPIES as u32 + 50).for_each(|n| pair.send(n));
    assert_eq!(pair.arrived().len(), 50);
    let counted = pair.counted();
    assert_eq!((counted.delayed, counted.spared), (COPIES as u64, 50));
}

#[test]
fn a_port_without_room_spares_the_packet() {
    let mut pair = Pair::new("dup=100%,corrupt=100%");
    let mut packet = pair.sender.alloc(0).unwrap();
    pair.sender.append(&mut packet, &[&ETHERNET[..], &[7; BODY]].concat());
    let all: Vec<TxPacket> = std::iter::from_fn(|| pair.sender.alloc(0)).collect();
    assert!(pair.sender.submit(&packet));
    assert_eq!(pair.arrived(), [vec![7; BODY]]);
    assert_eq!(pair.counted(), FaultCounters { spared: 1, ..FaultCounters::default() });
    all.into_iter().chain([packet]).for_each(|p| pair.sender.free(p));
}

#[test]
fn the_seed_decides() {
    let run = |seed: u64| {
        let mut pair = Pair::new(&format!("drop=10%,dup=10%,corrupt=10%,seed={seed}"));
        (0..300).for_each(|n| pair.send(n));
        pair.arrived()
    };
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}

#[test]
fn shares_that_can_t_be_are_refused() {
    let network = Network::new(1, Conditions::default());
    let port = || Box::new(network.attach([2, 0, 0, 0, 0, 1]));
    let error = FaultPort::new(port(), Faults { drop: 1.5, ..Faults::default() }).err().unwrap();
    assert!(error.to_string().contains("drop=150%"), "{error}");
}

/// A sender, and a receiver with faults.
struct Arrivals {
    network: Network,
    sender: SimPort,
    receiver: FaultPort,
    now: u64,
}

impl Arrivals {
    fn new(faults: &str) -> Arrivals {
        let network = Network::new(1, Conditions::default());
        let sender = network.attach([2, 0, 0, 0, 0, 1]);
        let receiver = Box::new(network.attach([2, 0, 0, 0, 0, 2]));
        let receiver = FaultPort::new(receiver, format!("{faults},on=receive").parse().unwrap()).unwrap();
        Arrivals { network, sender, receiver, now: 0 }
    }

    fn send(&mut self, numbers: std::ops::Range<u32>) {
        for n in numbers {
            let mut packet = self.sender.alloc(0).unwrap();
            self.sender.append(&mut packet, &[&ETHERNET[..], &n.to_be_bytes(), &[7; BODY]].concat());
            assert!(self.sender.submit(&packet));
            self.sender.free(packet);
        }
        self.now += 1_000_000;
        self.network.advance(Time::from_nanos(self.now));
    }

    /// What is handed out in so many goes, to be kept or given back.
    fn receive(&mut self, goes: usize) -> Vec<RxPacket> {
        let mut batch = Vec::new();
        (0..goes).for_each(|_| self.receiver.receive(&mut batch).unwrap());
        batch
    }

    /// What a packet holds, without Ethernet header. Gives it back.
    fn take(&mut self, packet: RxPacket) -> Vec<u8> {
        let frame = self.receiver.fragments(&packet).concat();
        assert_eq!((frame.len(), &frame[..ETHERNET_LEN]), (packet.len(), &ETHERNET[..]));
        self.receiver.recycle(packet);
        frame[ETHERNET_LEN..].to_vec()
    }

    fn arrived(&mut self) -> Vec<Vec<u8>> {
        let packets = self.receive(40);
        packets.into_iter().map(|packet| self.take(packet)).collect()
    }

    /// Waits for what is held back, in a poll like one who sleeps, and receives it.
    fn settle(&mut self) -> Vec<Vec<u8>> {
        let mut late = Vec::new();
        while self.receiver.receiving.due().is_some() {
            crate::port::wait(&self.receiver.readable(), None).unwrap();
            late.extend(self.arrived());
        }
        assert_stopped(&self.receiver);
        late
    }

    fn counted(&self) -> FaultCounters {
        self.receiver.counters().rx_faults
    }

    /// The port has all of its frames back, and the injector all copies.
    fn assert_all_given_back(&self) {
        let (free, all) = (self.receiver.rx_headroom(), self.receiver.rx_capacity());
        assert_eq!((free, self.receiver.receiving.room()), (all, COPIES));
    }
}

#[test]
fn faults_are_made_the_way_they_are_asked_for() {
    let mut pair = Arrivals::new("drop=100%");
    pair.send(0..10);
    assert_eq!(pair.arrived().len(), 0);
    assert_eq!((pair.counted().dropped, pair.receiver.counters().rx_packets), (10, 10));
    let mut packet = pair.receiver.alloc(0).unwrap();
    pair.receiver.append(&mut packet, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 7]);
    assert!(pair.receiver.submit(&packet));
    pair.receiver.free(packet);
    let counters = pair.receiver.counters();
    assert_eq!((counters.tx_packets, counters.tx_faults), (1, FaultCounters::default()));
    pair.assert_all_given_back();
}

#[test]
fn loses_and_repeats_what_arrives() {
    let mut pair = Arrivals::new("drop=20%,dup=10%");
    let mut numbers = Vec::new();
    for n in 0..20 {
        pair.send(n * 100..n * 100 + 100);
        numbers.extend(pair.arrived().iter().map(|p| number(p)));
    }
    assert_shares(numbers, pair.counted());
    pair.assert_all_given_back();
}

#[test]
fn damages_one_bit_of_what_arrives() {
    let mut pair = Arrivals::new("corrupt=30%");
    pair.send(0..500);
    let arrived = pair.arrived();
    assert_eq!(arrived.len(), 500);
    let mut damaged = 0;
    for (n, packet) in (0u32..).zip(arrived) {
        let whole = [&n.to_be_bytes()[..], &[7; BODY]].concat();
        let bits: u32 = packet.iter().zip(&whole).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!(bits <= 1);
        damaged += u64::from(bits);
    }
    assert_eq!(damaged, pair.counted().corrupted);
    assert!((100..200).contains(&damaged), "{damaged}");
    pair.assert_all_given_back();
}

#[test]
fn a_packet_and_its_repetition_are_given_back_one_by_one() {
    let mut pair = Arrivals::new("dup=100%");
    pair.send(0..3);
    let first = pair.receive(1);
    assert_eq!(first.len(), 6);
    pair.send(3..5);
    // Later ones first, and others arrive meanwhile: each still holds its own bytes.
    let both: Vec<RxPacket> = first.into_iter().chain(pair.receive(1)).rev().collect();
    let numbers: Vec<u32> = both.into_iter().map(|packet| number(&pair.take(packet))).collect();
    assert_eq!(numbers, [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]);
    pair.assert_all_given_back();
}

#[test]
fn holds_back_what_arrives_and_takes_no_memory_from_the_port() {
    let mut pair = Arrivals::new("reorder=10%,delay=200ms");
    pair.send(0..200);
    let first: Vec<u32> = pair.arrived().iter().map(|p| number(p)).collect();
    let delayed = pair.counted().delayed;
    assert!((5..40).contains(&delayed), "{delayed}");
    let (free, all) = (pair.receiver.rx_headroom(), pair.receiver.rx_capacity());
    assert_eq!(free, all, "what is held back lies elsewhere");
    let late: Vec<u32> = pair.settle().iter().map(|p| number(p)).collect();
    assert_eq!(late.len() as u64, delayed);
    assert!(late.is_sorted(), "all are held equally long: {late:?}");
    let mut all = [first, late].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..200), "each arrives once");
    pair.assert_all_given_back();
}

#[test]
fn a_longer_way_in_keeps_the_order() {
    let mut pair = Arrivals::new("reorder=100%,delay=1ms");
    pair.send(0..300);
    let all = [pair.arrived(), pair.settle()].concat();
    assert!(all.iter().map(|p| number(p)).eq(0..300));
}

#[test]
fn makes_no_more_copies_than_it_may_and_says_so() {
    let mut pair = Arrivals::new("reorder=100%,delay=10s");
    pair.send(0..COPIES as u32 + 50);
    assert_eq!(pair.arrived().len(), 50, "the rest arrives as it is");
    let counted = pair.counted();
    assert_eq!((counted.delayed, counted.spared), (COPIES as u64, 50));
    // A node that gives nothing back: what it has been handed counts, too.
    let mut pair = Arrivals::new("dup=100%,corrupt=100%");
    pair.send(0..600);
    let kept = pair.receive(40);
    assert_eq!(kept.len(), 600 + COPIES / 2);
    assert_eq!((pair.counted().corrupted, pair.counted().spared), (COPIES as u64 / 2, 600 - COPIES as u64 / 2));
    kept.into_iter().for_each(|packet| drop(pair.take(packet)));
    pair.assert_all_given_back();
}

#[test]
fn the_seed_decides_about_arrivals_and_not_as_about_what_is_sent() {
    let run = |faults: &str| {
        let mut pair = Arrivals::new(faults);
        pair.send(0..300);
        pair.arrived()
    };
    assert!(run("drop=10%,dup=10%,corrupt=10%,seed=1") == run("drop=10%,dup=10%,corrupt=10%,seed=1"));
    assert!(run("drop=10%,dup=10%,corrupt=10%,seed=1") != run("drop=10%,dup=10%,corrupt=10%,seed=2"));
    let mut pair = Pair::new("drop=10%,seed=1");
    (0..300).for_each(|n| pair.send(n));
    let sent: Vec<Vec<u8>> = pair.arrived();
    assert!(run("drop=10%,seed=1") != sent);
}

#[test]
fn a_vlan_tag_is_spared_like_the_ethernet_header() {
    let head = [&ETHERNET[..12], &[0x81, 0, 0, 5]].concat();
    for place in [0.0, 0.01, 0.5, 1.0] {
        let fate = fate::Fate { corrupted: Some(place), ..fate::Fate::default() };
        let whole = [&head[..], &[8, 0], &[7; 20]].concat();
        let mut frame = whole.clone();
        assert!(fate.damage(&mut frame));
        assert!(frame != whole && frame[..ETHERNET_LEN + VLAN_LEN] == whole[..ETHERNET_LEN + VLAN_LEN]);
        let mut bare = whole[..ETHERNET_LEN + VLAN_LEN].to_vec();
        assert!(!fate.damage(&mut bare));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the shares and in whatever order packets are given back: each packet that wasn't dropped comes once, or
    /// twice if it was repeated, damaged in one bit at the most; and all memory is free again.
    #[test]
    fn what_arrives_is_accounted_for(
        shares in prop::array::uniform4(0u8..=60), seed: u64, rounds in prop::collection::vec((0u32..150, 0usize..200), 1..8),
    ) {
        let [drop, dup, reorder, corrupt] = shares;
        let faults = format!("drop={drop}%,dup={dup}%,reorder={reorder}%,corrupt={corrupt}%,seed={seed}");
        let mut pair = Arrivals::new(&faults);
        let (mut sent, mut kept, mut seen) = (0, VecDeque::new(), Vec::new());
        for (count, keep) in rounds {
            pair.send(sent..sent + count);
            sent += count;
            kept.extend(pair.receive(4));
            while kept.len() > keep {
                let packet = kept.pop_front().unwrap();
                seen.push(pair.take(packet));
            }
        }
        seen.extend(pair.settle());
        let packets: Vec<RxPacket> = kept.into_iter().chain(pair.receive(40)).collect();
        seen.extend(packets.into_iter().map(|packet| pair.take(packet)));
        let counted = pair.counted();
        prop_assert_eq!(seen.len() as u64, u64::from(sent) - counted.dropped + counted.duplicated);
        // A number that was damaged itself is that of no packet, or of a wrong one.
        let mut damaged = 0;
        let mut times = vec![0; sent as usize];
        for packet in seen {
            let changed: u32 = packet[4..].iter().map(|b| (b ^ 7).count_ones()).sum();
            prop_assert!(changed <= 1);
            damaged += u64::from(changed);
            if let Some(times) = times.get_mut(number(&packet) as usize) {
                *times += 1;
            }
        }
        prop_assert!(damaged <= 2 * counted.corrupted);
        let wrong = 2 * counted.corrupted;
        prop_assert!(times.iter().filter(|&&n| n > 2).count() as u64 <= wrong);
        prop_assert!(times.iter().filter(|&&n| n == 0).count() as u64 <= counted.dropped + wrong);
        pair.assert_all_given_back();
    }
}
