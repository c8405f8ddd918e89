//! Segments land in place, byte for byte, at every MTU.

use super::*;
use crate::hosts::pattern;

const LEN: usize = 4 << 20;
/// In front of and behind where it lands.
const AROUND: usize = 10_001;

/// Sends as much of 4 MiB as segments of that length make, from the highest address down, and looks at every byte.
pub fn transfer(pair: &mut Pair, segment: usize, grant: u32) {
    let count = LEN / segment;
    let content = pattern(count * segment, grant as u8);
    let source = pair.source(&content);
    let target = pair.target(2 * AROUND + content.len(), 0xee);
    let run = pair.run(grant, segment);
    let (mut posted, mut sent, mut landed) = (0, 0, Vec::new());
    while landed.len() < count {
        while posted < count && pair.to.lane.room(segment) > 0 {
            let at = AROUND + (count - 1 - posted) * segment;
            pair.to.lane.post(&run, &target, at).expect("there is room");
            posted += 1;
        }
        pair.to.lane.admit();
        while sent < posted && pair.from.lane.tx_room(segment) > 0 {
            let number = count - 1 - sent;
            pair.send(&run, number as u32, &source, number * segment);
            sent += 1;
        }
        landed.extend(pair.landings());
    }
    assert!(pair.to.lane.is_consistent());
    for (i, landing) in landed.iter().enumerate() {
        let first = landed[0].place;
        let expected = Landing { place: first + i as u64, grant, segment: (count - 1 - i) as u32, checksum: None };
        assert_eq!(*landing, expected);
    }
    let buffer = target.into_buffer().expect("the lane has let go of it");
    let (before, rest) = buffer.split_at(AROUND);
    let (middle, after) = rest.split_at(content.len());
    assert!(middle == content, "the bytes are others, at {segment}");
    assert!(before.iter().chain(after).all(|&byte| byte == 0xee), "something else was written, at {segment}");
    pair.from.lane.flush().unwrap();
    drop(source);
}

#[test]
fn everything_lands_in_place_at_mtu_1500() {
    let mut pair = Pair::new(1500, 16 << 20);
    let segment = pair.segment();
    assert_eq!(segment, 1448);
    transfer(&mut pair, segment, 1);
    transfer(&mut pair, 1001, 2);
    transfer(&mut pair, 64, 3);
    let (from, to) = (pair.from.lane.counters(), pair.to.lane.counters());
    assert_eq!((from.tx_packets, from.tx_bytes), (to.rx_packets, to.rx_bytes));
    assert_eq!((to.places, to.reopened), (to.rx_packets, 0));
}

#[test]
fn everything_lands_in_place_at_mtu_9000() {
    let mut pair = Pair::new(9000, 16 << 20);
    let segment = pair.segment();
    transfer(&mut pair, segment, 1);
    // Around the length of one and of two fragments.
    for (grant, segment) in [(2, 3839), (3, 3840), (4, 3841), (5, 7680), (6, 7681)] {
        transfer(&mut pair, segment, grant);
    }
}

#[test]
fn everything_lands_in_place_at_mtu_65535() {
    let mut pair = Pair::new(65535, 16 << 20);
    let segment = pair.segment().min(pair.to.lane.max_segment());
    transfer(&mut pair, segment, 1);
    transfer(&mut pair, 33_333, 2);
}
