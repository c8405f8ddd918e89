//! Many senders into one receiver: the link is full, everybody has an equal share, and the queue stays short.

use std::time::Duration;

use vmmc::engine::Send;
use vmmc::link::TARGET_DELAY;
use vmmc::port::Port;
use vmmc::port::sim::Conditions;

use crate::world::{World, link_config, seed};

const RECEIVER: usize = 0;
const PUT: usize = 100_000;

#[derive(Debug)]
struct Outcome {
    /// What arrived, of what the link can carry.
    load: f64,
    /// Jain's index: 1 when all shares are equal, 1/n when one has everything.
    fairness: f64,
    least: f64,
    /// Delay in the switch's queue that 99% of the time isn't exceeded.
    queueing: Duration,
    repeated: f64,
}

fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = (shares.iter().sum::<f64>(), shares.iter().map(|s| s * s).sum::<f64>());
    sum * sum / squares / shares.len() as f64
}

/// Every sender sends all it can for `span`, after as long to settle.
fn incast(senders: usize, conditions: Conditions, span: Duration, seed: u64) -> Outcome {
    let rate = conditions.rate.unwrap() as f64;
    let perfect = Conditions { rate: None, queue: None, mark: None, ..conditions };
    let mut world = World::with(senders + 1, seed, perfect, link_config());
    let mut imports = Vec::new();
    for sender in 1..=senders {
        world.export(RECEIVER, &format!("inbox{sender}"), PUT, 1);
        imports.push(world.import(sender, RECEIVER, &format!("inbox{sender}")).unwrap());
    }
    world.network.set_conditions(conditions);
    let data = vec![0; PUT];
    let mut sends: Vec<Send> = imports.iter().map(|_| Send::new(&data, 0)).collect();
    let arrived = |w: &World| {
        let mut packets: Vec<_> = w.hosts[RECEIVER].engine.peers().map(|p| (p.peer, p.counters.rx_data)).collect();
        packets.sort();
        packets
    };
    let repeated = |w: &World| -> u64 {
        w.hosts[1..].iter().flat_map(|h| h.engine.peers()).map(|p| p.counters.tx_retransmitted).sum()
    };
    let bytes = |w: &World| w.hosts[RECEIVER].port.counters().rx_bytes;
    let start = world.now();
    let mut before = None;
    let mut waits = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    while world.now() < start + 2 * span {
        for (sender, (import, send)) in imports.iter().zip(&mut sends).enumerate() {
            let (now, host) = (world.now(), &mut world.hosts[sender + 1]);
            // They don't all begin at once.
            while now >= start + span * sender as u32 / (4 * senders as u32)
                && host.engine.send(now, &mut host.port, *import, send).unwrap().is_some()
            {
                *send = Send::new(&data, 0);
            }
        }
        let (now, wait) = (world.now(), world.network.backlog(world.hosts[RECEIVER].mac));
        world.step();
        if now >= start + span {
            before.get_or_insert_with(|| (now, arrived(&world), bytes(&world), repeated(&world)));
            waits.record_n(wait.as_nanos() as u64, world.now().since(now).as_nanos() as u64).unwrap();
        }
    }
    let (since, before, bytes_before, repeated_before) = before.unwrap();
    let after = arrived(&world);
    let shares: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a.1 - b.1) as f64).collect();
    let sum: f64 = shares.iter().sum();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    Outcome {
        load: (bytes(&world) - bytes_before) as f64 * 8.0 / rate / world.now().since(since).as_secs_f64(),
        fairness: jain(&shares),
        least: least * senders as f64 / sum,
        queueing: Duration::from_nanos(waits.value_at_quantile(0.99)),
        repeated: (repeated(&world) - repeated_before) as f64 / sum,
    }
}

const GIGABIT: u64 = 1_000_000_000;

fn network(rate: u64) -> Conditions {
    Conditions { rate: Some(rate), ..Conditions::default() }
}

fn run(senders: usize, conditions: Conditions, millis: u64) -> Outcome {
    let outcome = incast(senders, conditions, Duration::from_millis(millis), seed());
    println!("{senders} senders, {conditions:?}:\n{outcome:?}");
    outcome
}

/// The link is full, shares are even, and what waits in the switch is within twice the target.
fn is_good(outcome: &Outcome) -> bool {
    outcome.load >= 0.95 && outcome.fairness >= 0.98 && outcome.queueing <= 2 * TARGET_DELAY
}

#[test]
fn eight_senders_share_a_link() {
    assert!(is_good(&run(8, network(10 * GIGABIT), 50)));
}

#[test]
fn sixty_four_senders_share_a_link() {
    assert!(is_good(&run(64, network(10 * GIGABIT), 50)));
}

#[test]
fn senders_share_a_link_that_loses() {
    let outcome = run(8, Conditions { loss: 0.01, ..network(10 * GIGABIT) }, 50);
    assert!(outcome.load >= 0.95 && outcome.fairness >= 0.95 && outcome.queueing <= 2 * TARGET_DELAY);
}

/// A queue of less than one packet for each: windows fall below one, and packets are spaced.
#[test]
fn more_senders_than_the_queue_should_hold_packets() {
    let outcome = run(64, network(GIGABIT), 300);
    assert!(outcome.load >= 0.9 && outcome.fairness >= 0.8 && outcome.least >= 0.5);
    assert!(outcome.queueing <= 8 * TARGET_DELAY);
}

/// Packets that wait because a host is busy elsewhere don't wait in the network: sending less would not help them.
#[test]
fn a_slow_host_is_no_congestion() {
    for slow in [0, 1] {
        let mut world = World::with(2, seed(), network(10 * GIGABIT), link_config());
        world.export(RECEIVER, "inbox", PUT, 1);
        let import = world.import(1, RECEIVER, "inbox").unwrap();
        world.hosts[slow].looks_every = Some(Duration::from_millis(1));
        let last = (0..100).map(|_| world.send(1, import, &[0; PUT], 0, None).unwrap()).last().unwrap();
        world.delivered(1, last).unwrap();
        let window = world.hosts[1].engine.peers().next().unwrap().window;
        assert!(window >= 100, "with host {slow} slow the window is {window}");
    }
}

#[test]
fn marks_keep_the_queue_shorter() {
    let mark = Some(Duration::from_micros(65));
    let outcome = run(8, Conditions { mark, ..network(10 * GIGABIT) }, 50);
    assert!(outcome.load >= 0.95 && outcome.fairness >= 0.9 && outcome.queueing <= TARGET_DELAY);
}

/// The queue drops before it delays as much as the target, so loss is all there is to go by.
#[test]
fn a_shallow_queue_is_shared_too() {
    let queue = Some(Duration::from_micros(100));
    let outcome = run(8, Conditions { queue, ..network(10 * GIGABIT) }, 50);
    assert!(outcome.load >= 0.95 && outcome.fairness >= 0.9 && outcome.repeated <= 0.1);
    let outcome = run(64, Conditions { queue, ..network(10 * GIGABIT) }, 50);
    assert!(outcome.load >= 0.95 && outcome.fairness >= 0.8 && outcome.least >= 0.2);
}

/// Whoever comes when the queue is standing has never seen the path without it, and gets no more than his share all the same.
#[test]
fn latecomers_share_too() {
    let senders = 8;
    let mut world = World::with(senders + 1, seed(), network(10 * GIGABIT), link_config());
    let data = vec![0; PUT];
    let (mut imports, mut sends) = (Vec::new(), Vec::new());
    let start = world.now();
    let mut before: Option<Vec<u64>> = None;
    let done = |w: &World| -> Vec<u64> {
        (1..=senders).map(|s| w.hosts[s].engine.peers().map(|p| p.counters.tx_data).sum()).collect()
    };
    while world.now() < start + Duration::from_millis(200) {
        let age = world.now().since(start);
        if imports.len() < senders && age >= Duration::from_millis(10) * imports.len() as u32 {
            let sender = imports.len() + 1;
            world.export(RECEIVER, &format!("inbox{sender}"), PUT, 1);
            imports.push(world.begin_import(sender, RECEIVER, &format!("inbox{sender}"), crate::world::key()).unwrap());
            sends.push(Send::new(&data, 0));
        }
        for (sender, (import, send)) in imports.iter().zip(&mut sends).enumerate() {
            let (now, host) = (world.now(), &mut world.hosts[sender + 1]);
            while host.engine.send(now, &mut host.port, *import, send).unwrap().is_some() {
                *send = Send::new(&data, 0);
            }
        }
        if age >= Duration::from_millis(100) && before.is_none() {
            before = Some(done(&world));
        }
        world.step();
    }
    let (before, after) = (before.unwrap(), done(&world));
    let shares: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) as f64).collect();
    let fairness = jain(&shares);
    assert!(fairness >= 0.9, "{fairness}: {shares:?}");
}
