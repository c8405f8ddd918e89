//! Engines whose ports make faults on demand, in what they send and in what they receive: every byte still arrives exactly once.
//!
//! The network itself is a good one here. Time is virtual, except that the injector holds packets back by the system's clock: where
//! none are held, the same seed gives the same run.

use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::{Config, Engine, Send};
use vmmc::memory::{Arena, Region};
use vmmc::port::fault::{FaultPort, Faults};
use vmmc::port::sim::{Conditions, Network};
use vmmc::port::{Port, PortCounters};
use vmmc::time::Time;

use crate::world::{address, contents, export_options, key, link_config, seed};

const LENGTH: usize = 40_000;
const SENDS: u32 = 12;

struct Host {
    engine: Engine,
    port: FaultPort,
    /// What it exports.
    region: Region,
    export: u32,
}

struct Pair {
    network: Network,
    hosts: [Host; 2],
}

impl Pair {
    fn new(faults: [Faults; 2]) -> Pair {
        let network = Network::new(1, Conditions::default());
        let boot = |host: usize| {
            let mac = [2, 0, 0, 0, 0, host as u8 + 1];
            let mut random = fastrand::Rng::with_seed(host as u64);
            let (local, link) = (address(host), link_config());
            let config = Config { local, mac, vlan: None, link, max_peers: 10, max_exports: 10, max_imports: 10 };
            let mut engine = Engine::new(config, Box::new(move || random.u64(..)));
            let region = Arena::new(LENGTH).unwrap().alloc(LENGTH).unwrap();
            let export = engine.export(export_options("inbox", key(), 64), region.clone()).unwrap();
            let port = FaultPort::new(Box::new(network.attach(mac)), faults[host]).unwrap();
            Host { engine, port, region, export }
        };
        Pair { hosts: [boot(0), boot(1)], network }
    }

    fn now(&self) -> Time {
        self.network.now()
    }

    /// Lets time pass until the next thing happens.
    fn step(&mut self) {
        let next = self.hosts.iter().map(|h| h.engine.deadline()).chain(self.network.next_arrival()).min();
        let now = next.unwrap_or(Time::ZERO).max(self.now() + Duration::from_micros(1));
        self.network.advance(now);
        for host in &mut self.hosts {
            // A batch of which all was dropped is empty, and more may have arrived.
            let mut batch = Vec::new();
            (0..4).for_each(|_| host.port.receive(&mut batch).unwrap());
            for packet in batch {
                host.engine.receive(now, &mut host.port, packet);
            }
            host.engine.tick(now, &mut host.port);
            host.port.flush().unwrap();
        }
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Pair) -> Option<T>) -> T {
        let end = self.now() + Duration::from_secs(600);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(self.now() < end, "it didn't happen: {:?}", self.counters());
            self.step();
        }
    }

    fn import(&mut self, from: usize) -> u32 {
        let (now, to) = (self.now(), 1 - from);
        let mac = [2, 0, 0, 0, 0, to as u8 + 1];
        self.hosts[from].engine.connect(now, address(to), mac).unwrap();
        let import = self.hosts[from].engine.import(address(to), "inbox", key()).unwrap();
        self.until(|p| p.hosts[from].engine.imported(import).unwrap());
        import
    }

    fn counters(&self) -> [PortCounters; 2] {
        [0, 1].map(|host| self.hosts[host].port.counters())
    }
}

/// Both hosts write into each other's memory; then all of it is there, once. Returns what the ports have counted.
fn exchange(faults: [Faults; 2]) -> [PortCounters; 2] {
    let mut pair = Pair::new(faults);
    let imports = [pair.import(0), pair.import(1)];
    let mut model = vec![0; LENGTH];
    for n in 0..SENDS {
        // Each overlaps the one before, so that a byte written late, or again, would show.
        let (at, len) = (n as usize * 1500, 20_000);
        let data: Vec<u8> = (0..len).map(|i| (i as u32 * 7 + n) as u8).collect();
        model[at..at + len].copy_from_slice(&data);
        for from in [0, 1] {
            let mut send = Send::new(&data, at as u64);
            send.notify = Some(n);
            pair.until(|p| {
                let now = p.now();
                let host = &mut p.hosts[from];
                host.engine.send(now, &mut host.port, imports[from], &mut send).unwrap()
            });
        }
    }
    for to in [0, 1] {
        let export = pair.hosts[to].export;
        for n in 0..SENDS {
            let news = pair.until(|p| p.hosts[to].engine.take_notification(export));
            assert_eq!((news.tag, news.offset, news.length), (n, u64::from(n) * 1500, 20_000));
        }
    }
    // What is still under way has no effect.
    let end = pair.now() + Duration::from_secs(2);
    pair.until(|p| (p.now() >= end).then_some(()));
    for host in &mut pair.hosts {
        assert!(host.engine.take_notification(host.export).is_none());
        assert_eq!(host.engine.counters().delivered_bytes, u64::from(SENDS) * 20_000);
        assert_eq!(host.engine.counters().links_ended, 0);
        assert!(contents(&host.region) == model, "other bytes have arrived");
    }
    pair.counters()
}

fn faults(text: &str, seed: u64) -> Faults {
    Faults { seed, ..text.parse().unwrap() }
}

#[test]
fn of_every_kind_both_ways_at_both_ends() {
    let seed = seed();
    let both = |seed| faults("drop=2%,dup=3%,reorder=3%,delay=20us,corrupt=2%,on=both", seed);
    for counters in exchange([both(seed), both(!seed)]) {
        for made in [counters.tx_faults, counters.rx_faults] {
            let kinds = [made.dropped, made.duplicated, made.delayed, made.corrupted];
            assert!(kinds.iter().sum::<u64>() > 0, "{counters:?}");
        }
    }
}

#[test]
fn at_the_receiver_alone() {
    let counters = exchange([faults("seed=1", 1), faults("drop=5%,dup=5%,corrupt=5%,on=receive", 3)]);
    let made = counters[1].rx_faults;
    assert!(made.dropped > 0 && made.duplicated > 0 && made.corrupted > 0, "{made:?}");
    assert_eq!(counters.map(|c| c.tx_faults), [Default::default(); 2]);
    assert_eq!(counters[0].rx_faults, Default::default());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let both = |seed| [faults("drop=3%,dup=3%,corrupt=3%,on=both", seed), faults("drop=3%,dup=3%,on=both", seed + 1)];
    assert_eq!(exchange(both(7)), exchange(both(7)));
    assert_ne!(exchange(both(7)), exchange(both(9)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn of_any_share_either_way(shares in prop::array::uniform8(0u8..=10), ways in prop::array::uniform2(0usize..3), seed: u64) {
        let side = |at: usize, way: usize| {
            let [drop, dup, reorder, corrupt] = shares[at..at + 4] else { unreachable!() };
            let way = ["send", "receive", "both"][way];
            let shares = format!("drop={drop}%,dup={dup}%,reorder={reorder}%,corrupt={corrupt}%,on={way}");
            Faults { delay: Duration::from_micros(20), ..faults(&shares, seed ^ at as u64) }
        };
        exchange([side(0, ways[0]), side(4, ways[1])]);
    }
}
