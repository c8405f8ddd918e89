//! The pool against a model that knows the owner of every 4 KiB.

use super::*;
use crate::proto::layout::SESSION_LEN;
use proptest::prelude::*;

#[test]
fn a_whole_session_has_fifteen_of_the_largest() {
    let mut pool = Pool::new(SESSION_LEN);
    assert_eq!(pool.total(), SESSION_LEN - RINGS);
    let count = std::iter::from_fn(|| pool.alloc(MAX_RING)).count();
    assert_eq!(count, 15);
    // What is left over, from the slots to the first multiple of 4 MiB, is there for smaller ones.
    let small = std::iter::from_fn(|| pool.alloc(MIN_RING)).count() as u64;
    assert_eq!(15 * MAX_RING + small * MIN_RING, pool.total());
    assert_eq!(pool.used(), pool.total());
}

#[test]
fn lengths_that_are_none() {
    let mut pool = Pool::new(SESSION_LEN);
    for len in [0, 1, MIN_RING / 2, MIN_RING + 1, 3 * MIN_RING, MAX_RING * 2, u64::MAX] {
        assert_eq!(pool.alloc(len), None);
    }
    assert_eq!(pool.used(), 0);
}

#[test]
fn exports_without_rings() {
    for export_len in [0, RINGS, RINGS + MIN_RING - 1] {
        assert_eq!(Pool::new(export_len).alloc(MIN_RING), None);
    }
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_join_again(
        pages in 1u64..600,
        steps in prop::collection::vec((any::<bool>(), 0u32..11, any::<prop::sample::Index>()), 1..200),
    ) {
        let export_len = RINGS + pages * MIN_RING;
        let fresh = Pool::new(export_len);
        let mut pool = fresh.clone();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (take, order, which) in steps {
            let len = MIN_RING << order;
            if take {
                let found = pool.alloc(len);
                // It finds one exactly when an aligned run of this length is free.
                let aligned = (0..export_len / len).map(|at| at * len).filter(|&at| at >= RINGS && at + len <= export_len);
                let apart = |at: u64| taken.iter().all(|&(other, size)| other + size <= at || at + len <= other);
                let possible = aligned.clone().any(apart);
                prop_assert_eq!(found.is_some(), possible);
                if let Some(offset) = found {
                    prop_assert!(aligned.clone().any(|at| at == offset) && apart(offset));
                    taken.push((offset, len));
                }
            } else if !taken.is_empty() {
                let (offset, len) = taken.swap_remove(which.index(taken.len()));
                pool.free(offset, len);
            }
            prop_assert_eq!(pool.used(), taken.iter().map(|&(_, len)| len).sum::<u64>());
        }
        for (offset, len) in taken {
            pool.free(offset, len);
        }
        prop_assert_eq!(pool.free, fresh.free);
    }
}
