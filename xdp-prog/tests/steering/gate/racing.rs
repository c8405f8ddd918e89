//! Runs are set while packets come: each place is for the packets of its own run, at any moment.

use std::{
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
};

use etherparse::IpNumber;
use xdp_prog::{
    Storage,
    gate::{Gate, RUNS, Run},
};

use super::{
    payload,
    shared::{GRANT, Lane, SOURCE_PORT, TOKEN, run},
};
use crate::packet::{Node, bulk, ip, nodes};

/// Places of each run, and how many there are in all.
const PLACES: u64 = 2;
const POSTED: u64 = 5_000;

/// Runs are of three kinds, one after the other, which differ in everything.
const KINDS: u64 = 3;

fn kind_of(place: u64) -> u64 {
    place / PLACES % KINDS
}

fn token(kind: u64) -> u64 {
    TOKEN ^ kind
}

fn length(kind: u64) -> u32 {
    64 + 16 * kind as u32
}

/// Sets runs as slots become free, and posts their places, until all are posted, or the other thread has failed.
fn post(gate: &Gate, node: Node, other: &Receiver<()>) {
    for n in 0..POSTED / PLACES {
        let first = n * PLACES;
        // The run that was in this slot before must be used up.
        while first + PLACES > gate.used() + RUNS as u64 * PLACES {
            if other.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            thread::yield_now();
        }
        let kind = kind_of(first);
        let usual = run(node, first, first + PLACES, length(kind));
        gate.set_run(n as usize % RUNS, &Run { token: token(kind), grant: GRANT + kind as u32, ..usual });
        gate.admit(first + PLACES);
    }
}

#[test]
fn runs_are_set_while_packets_come() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    let frames: Vec<_> = (0..KINDS)
        .map(|kind| bulk(SOURCE_PORT, token(kind), GRANT + kind as u32, kind as u32, &payload(length(kind) as usize)))
        .map(|packet| ip(node.address, IpNumber::UDP, &packet))
        .collect();
    let gate: &Gate = &lane.gate;
    thread::scope(|scope| {
        let (_dropped_at_the_end, here) = channel();
        scope.spawn(move || post(gate, node, &here));
        let (mut kinds, mut refused) = ((0..KINDS).cycle(), 0);
        while gate.used() < POSTED {
            let (place, kind) = (gate.used(), kinds.next().unwrap());
            let posted = gate.posted() > place;
            // A packet of each kind in turn: two of three are for other places.
            lane.program.run(&frames[kind as usize]).unwrap();
            if gate.used() > place {
                assert_eq!((gate.used(), kind), (place + 1, kind_of(place)));
                assert_eq!(gate.entry(place).segment, kind as u32);
                refused = 0;
            } else if posted {
                refused += 1;
                assert!(refused < 1000, "nothing is let in at place {place}");
            }
        }
    });
    let counters = lane.program.maps().counters().unwrap();
    assert_eq!((counters.bulk_admitted, counters.bulk_length), (POSTED, 0), "{counters:?}");
}
