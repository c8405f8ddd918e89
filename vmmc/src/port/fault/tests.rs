//! The injector over a simulated network: what arrives, in which order, and that the sender's packet stays whole.

use super::*;
use crate::port::sim::{Conditions, Network, SimPort};
use crate::time::Time;

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
        while !self.sender.held.is_empty() {
            crate::port::wait(&self.sender.readable(), None).unwrap();
            self.sender.receive(&mut Vec::new()).unwrap();
        }
        let timer = rustix::time::timerfd_gettime(&self.sender.timer).unwrap();
        assert_eq!((timer.it_value.tv_sec, timer.it_value.tv_nsec), (0, 0), "the timer is still running");
    }

    fn counted(&self) -> FaultCounters {
        self.sender.counters().faults
    }
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

#[test]
fn drops_a_share_and_repeats_a_share() {
    let mut pair = Pair::new("drop=20%,dup=10%");
    let mut numbers = Vec::new();
    for n in 0..2000 {
        pair.send(n);
        numbers.extend(pair.arrived().iter().map(|p| number(p)));
    }
    let counted = pair.counted();
    assert!((300..500).contains(&counted.dropped) && (100..220).contains(&counted.duplicated), "{counted:?}");
    assert_eq!(numbers.len() as u64, 2000 - counted.dropped + counted.duplicated);
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len() as u64, 2000 - counted.dropped);
    assert_eq!((counted.corrupted, counted.delayed, counted.spared), (0, 0, 0));
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
    (0..HELD as u32 + 50).for_each(|n| pair.send(n));
    assert_eq!(pair.arrived().len(), 50);
    let counted = pair.counted();
    assert_eq!((counted.delayed, counted.spared), (HELD as u64, 50));
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
