//! The set against one that has a bool for each byte.

use std::ops::Range;

use proptest::prelude::*;

use super::{ByteSet, Form, MAX_RUNS};

/// What a set should answer.
struct Model(Vec<bool>);

impl Model {
    fn run(&self, within: &Range<u64>, set: bool) -> Option<Range<u64>> {
        let start = within.clone().find(|&at| self.0[at as usize] == set)?;
        Some(start..(start..within.end).find(|&at| self.0[at as usize] != set).unwrap_or(within.end))
    }

    fn check(&self, set: &ByteSet, within: Range<u64>) {
        assert_eq!(set.count(), self.0.iter().filter(|&&b| b).count() as u64);
        assert_eq!(set.is_full(), self.0.iter().all(|&b| b));
        assert_eq!(set.next_run(within.clone()), self.run(&within, true), "in {within:?}");
        assert_eq!(set.next_gap(within.clone()), self.run(&within, false), "in {within:?}");
        let last = within.clone().rev().find(|&at| self.0[at as usize]).map(|last| last + 1);
        assert_eq!(set.last_end(within.clone()), last, "in {within:?}");
        let mut listed = vec![false; self.0.len()];
        for run in set.runs() {
            listed[run.start as usize..run.end as usize].fill(true);
        }
        assert!(listed == self.0);
        // 8 bytes a word and 2 a block, each rounded up, or a list.
        let bitmap = self.0.len().div_ceil(64) * 8 + self.0.len().div_ceil(4096) * 2;
        assert!(set.memory() <= bitmap + 2 * MAX_RUNS * 16, "{} bytes", set.memory());
    }
}

fn range(at: usize, length: usize, len: usize) -> Range<usize> {
    let start = at % (len + 1);
    start..start + length % (len - start + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn as_a_bool_for_each_byte(
        len in 0usize..10_000,
        // The share of changes that are short: it decides whether the list turns into a bitmap.
        short in 0u8..=100,
        changes in prop::collection::vec((any::<bool>(), any::<usize>(), any::<usize>(), 0u8..100), 1..200),
    ) {
        let (mut set, mut model) = (ByteSet::new(len as u64), Model(vec![false; len]));
        for (to, at, length, dice) in changes {
            let length = if dice < short { length % 9 } else { length };
            let range = range(at, length, len);
            model.0[range.clone()].fill(to);
            let bytes = range.start as u64..range.end as u64;
            let had = set.clone();
            match to {
                true => set.insert(bytes.clone()),
                // It is a short cut, for some.
                false if !bytes.is_empty() && set.remove_front(&bytes) => assert_eq!(had.next_run(bytes.clone()), Some(bytes.clone())),
                false => set.remove(bytes.clone()),
            }
            model.check(&set, bytes.start..len as u64);
            model.check(&set, 0..bytes.end);
            model.check(&set, bytes);
        }
    }
}

#[test]
fn every_seventh_byte_makes_a_bitmap_that_goes_again() {
    let len = 1_000_000;
    let mut set = ByteSet::new(len);
    (0..len).step_by(7).for_each(|at| set.insert(at..at + 1));
    assert!(matches!(set.form, Form::Bits(_)));
    assert!(set.memory() as u64 <= len / 8 + len / 1000, "{} bytes", set.memory());
    let mut emptied = set.clone();
    emptied.remove(0..len);
    assert!(emptied.is_empty() && matches!(emptied.form, Form::Runs(_)));
    // The same once more, with the bitmap that is left from the last time.
    (0..len).step_by(7).for_each(|at| emptied.insert(at..at + 1));
    assert!(emptied.runs().eq(set.runs()) && emptied.memory() == set.memory());
    set.insert(0..len);
    assert!(set.is_full() && set.memory() <= 16);
}
