//! Tests of the allocator against a model: a plain list of which bytes are whose.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// Units of the arenas here: small enough to be exhausted.
const UNITS: usize = 256;

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        len: usize,
        align: usize,
    },
    Free(usize),
    TakePages(usize),
    /// Gives back some of a run of pages: of the n-th, from the first fraction of it to the second.
    GivePages(usize, f64, f64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len =
        prop_oneof![6 => 1usize..600, 4 => 600usize..8000, 2 => 8000usize..100_000, 1 => Just(4096), 1 => Just(8192)];
    let align = prop_oneof![6 => Just(6), 1 => 7u32..13, 1 => 13u32..17].prop_map(|bits| 1 << bits);
    let step = prop_oneof![
        5 => (len, align).prop_map(|(len, align)| Step::Alloc { len, align }),
        3 => any::<usize>().prop_map(Step::Free),
        1 => (1usize..40).prop_map(Step::TakePages),
        1 => (any::<usize>(), 0.0..1.0, 0.0..1.0).prop_map(|(n, a, b)| Step::GivePages(n, a, b)),
    ];
    prop::collection::vec(step, 1..300)
}

/// An allocator, and all that it has handed out.
struct Model {
    allocator: Allocator,
    page: usize,
    blocks: Vec<(Block, usize)>,
    pages: Vec<Range<usize>>,
}

impl Model {
    /// Every byte handed out, guards included.
    fn taken(&self) -> Vec<Range<usize>> {
        let blocks = self.blocks.iter().map(|(block, _)| block.start - GUARD..block.end);
        blocks.chain(self.pages.iter().map(|p| p.start * self.page..p.end * self.page)).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Alloc { len, align } => {
                let before = self.allocator.available();
                let largest = self.allocator.largest(align);
                let block = self.allocator.alloc(len, align);
                assert_eq!(block.is_some(), len <= largest, "{len} bytes aligned to {align}, largest {largest}");
                match block {
                    Some(block) => self.hold(block, len, align),
                    None => assert_eq!(self.allocator.available(), before),
                }
            }
            Step::Free(n) if !self.blocks.is_empty() => {
                let block = self.blocks.swap_remove(n % self.blocks.len()).0;
                self.allocator.free(block);
            }
            Step::TakePages(want) => match self.allocator.take_pages(want) {
                Some(pages) => {
                    assert!((1..=want).contains(&pages.len()));
                    self.hold_pages(pages.clone());
                    // It was shorter than wanted only because none was longer.
                    if pages.len() < want
                        && let Some(next) = self.allocator.take_pages(want)
                    {
                        assert!(next.len() <= pages.len());
                        self.hold_pages(next);
                    }
                }
                None => assert!(self.allocator.largest(ALIGN) < 2 * self.page),
            },
            Step::GivePages(n, a, b) if !self.pages.is_empty() => {
                let n = n % self.pages.len();
                let run = self.pages.swap_remove(n);
                let at = |fraction: f64| run.start + (fraction * (run.len() + 1) as f64) as usize;
                let middle = at(a.min(b))..at(a.max(b));
                self.allocator.give_pages(middle.clone());
                let rest = [run.start..middle.start, middle.end..run.end];
                self.pages.extend(rest.into_iter().filter(|r| !r.is_empty()));
            }
            Step::Free(_) | Step::GivePages(..) => {}
        }
    }

    /// Blocks and pages are apart from all others, inside, and aligned.
    fn hold(&mut self, block: Block, len: usize, align: usize) {
        assert!(block.start.is_multiple_of(align) && block.end.is_multiple_of(ALIGN), "{block:?}");
        assert!(block.start >= GUARD && block.start + len <= block.end && block.end <= UNITS * UNIT);
        self.apart(block.start - GUARD..block.end);
        self.blocks.push((block, len));
    }

    fn hold_pages(&mut self, pages: Range<usize>) {
        assert!(pages.end * self.page <= UNITS * UNIT);
        self.apart(pages.start * self.page..pages.end * self.page);
        self.pages.push(pages);
    }

    fn apart(&self, new: Range<usize>) {
        for taken in self.taken() {
            assert!(new.end <= taken.start || taken.end <= new.start, "{new:?} and {taken:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_arena_as_long_as_their_footprints_holds_them(lens in prop::collection::vec(prop_oneof![1usize..7000, 1usize..200_000], 1..40)) {
        let arena = lens.iter().map(|&len| footprint(len)).sum();
        let mut allocator = Allocator::new(arena, UNIT);
        for len in lens {
            prop_assert!(allocator.alloc(len, ALIGN).is_some(), "{len} bytes in an arena of {arena}: {allocator:?}");
        }
    }

    #[test]
    fn nothing_meets_and_everything_comes_back(steps in steps(), large_pages in any::<bool>()) {
        let page = if large_pages { 16 * UNIT } else { UNIT };
        let mut model = Model { allocator: Allocator::new(UNITS * UNIT, page), page, blocks: Vec::new(), pages: Vec::new() };
        for step in steps {
            model.take(step);
            let taken: usize = model.taken().iter().map(|bytes| bytes.len()).sum();
            prop_assert!(taken + model.allocator.available() <= UNITS * UNIT);
        }
        let Model { mut allocator, blocks, pages, .. } = model;
        blocks.into_iter().for_each(|(block, _)| allocator.free(block));
        pages.into_iter().for_each(|run| allocator.give_pages(run));
        prop_assert_eq!(allocator.available(), UNITS * UNIT);
        prop_assert_eq!(allocator.largest(ALIGN), UNITS * UNIT - GUARD);
        prop_assert_eq!(allocator.take_pages(usize::MAX), Some(0..UNITS * UNIT / page));
    }
}
