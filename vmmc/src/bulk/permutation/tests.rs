//! Every permutation is put in order, and with no more steps than it takes.

use proptest::prelude::*;

use super::*;

/// Cycles longer than one, and the segments in them.
fn cycles(order: &[u32]) -> (usize, usize) {
    let mut seen = vec![false; order.len()];
    let (mut count, mut segments) = (0, 0);
    for start in 0..order.len() {
        let mut at = start;
        let mut length = 0;
        while !std::mem::replace(&mut seen[at], true) {
            at = order[at] as usize;
            length += 1;
        }
        if length > 1 {
            (count, segments) = (count + 1, segments + length);
        }
    }
    (count, segments)
}

/// Does the steps, and refuses to read what isn't there or to write over what is.
fn apply(order: &[u32], moves: &[Move]) -> Vec<Option<u32>> {
    let mut memory: Vec<Option<u32>> = order.iter().copied().map(Some).collect();
    let mut aside = None;
    for step in moves {
        match *step {
            Move::Save(from) => assert_eq!(std::mem::replace(&mut aside, memory[from as usize].take()), None),
            Move::Copy { from, to } => {
                let segment = memory[from as usize].take();
                assert!(segment.is_some());
                assert_eq!(std::mem::replace(&mut memory[to as usize], segment), None);
            }
            Move::Restore(to) => assert_eq!(std::mem::replace(&mut memory[to as usize], aside.take()), None),
        }
    }
    assert_eq!(aside, None);
    memory
}

#[test]
fn what_is_in_order_needs_no_moves() {
    assert_eq!(moves(&[]), Some(vec![]));
    assert_eq!(moves(&[0, 1, 2]), Some(vec![]));
}

#[test]
fn the_documented_example() {
    let expected = [Move::Save(0), Move::Copy { from: 1, to: 0 }, Move::Copy { from: 2, to: 1 }, Move::Restore(2)];
    assert_eq!(moves(&[2, 0, 1, 3]).unwrap(), expected);
}

proptest! {
    #[test]
    fn any_permutation(order in (0u32..60).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle())) {
        let moves = moves(&order).unwrap();
        let (cycles, segments) = cycles(&order);
        prop_assert_eq!(moves.len(), cycles + segments);
        let sorted = (0..order.len() as u32).map(Some).collect::<Vec<_>>();
        prop_assert_eq!(apply(&order, &moves), sorted);
    }

    #[test]
    fn what_is_no_permutation_is_refused(order in prop::collection::vec(prop_oneof![0u32..10, any::<u32>()], 0..10)) {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let is_permutation = sorted.iter().copied().eq(0..order.len() as u32);
        prop_assert_eq!(moves(&order).is_some(), is_permutation);
    }
}
