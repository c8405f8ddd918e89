//! How much of an arena can be handed out after a workload has been at it: no fragmentation blow-up.
//!
//! Each workload says which share of the arena must have been handed out at its end (what was asked for, and guards), and how much
//! that must be of what first fit reaches. First fit rounds nothing up, so it packs more; but to find a place it looks at one free
//! piece after the other.

use std::collections::BTreeMap;

use super::*;

/// Bytes in the arenas here.
const ARENA: usize = 8 << 20;

/// What the workloads need of an allocator.
trait Heap {
    type Block;
    fn take(&mut self, len: usize) -> Option<Self::Block>;
    fn give(&mut self, block: Self::Block);
}

impl Heap for Allocator {
    type Block = Block;
    fn take(&mut self, len: usize) -> Option<Block> {
        self.alloc(len, ALIGN)
    }
    fn give(&mut self, block: Block) {
        self.free(block);
    }
}

/// First fit, without sizes or units: to compare with.
struct FirstFit(BTreeMap<usize, usize>);

impl Heap for FirstFit {
    type Block = (usize, usize);
    fn take(&mut self, len: usize) -> Option<(usize, usize)> {
        let need = len.next_multiple_of(ALIGN) + GUARD;
        let (at, length) = self.0.iter().find(|(_, length)| **length >= need).map(|(&at, &length)| (at, length))?;
        self.0.remove(&at);
        if length > need {
            self.0.insert(at + need, length - need);
        }
        Some((at, need))
    }
    fn give(&mut self, (mut at, mut len): (usize, usize)) {
        if let Some((&before, &length)) =
            self.0.range(..at).next_back().filter(|(before, length)| **before + **length == at)
        {
            self.0.remove(&before);
            (at, len) = (before, len + length);
        }
        len += self.0.remove(&(at + len)).unwrap_or(0);
        self.0.insert(at, len);
    }
}

/// A heap, what is held of it, and a source of chance.
struct Run<H: Heap> {
    heap: H,
    held: Vec<(H::Block, usize)>,
    /// Bytes asked for in all that is held, with their guards.
    bytes: usize,
    rng: fastrand::Rng,
}

impl<H: Heap> Run<H> {
    fn alloc(&mut self, len: usize) -> bool {
        let block = self.heap.take(len);
        let taken = block.is_some();
        self.held.extend(block.map(|block| (block, len)));
        self.bytes += if taken { len + GUARD } else { 0 };
        taken
    }

    fn free(&mut self, n: usize) {
        let (block, len) = self.held.swap_remove(n);
        self.bytes -= len + GUARD;
        self.heap.give(block);
    }

    /// Keeps this share of what is held, chosen at random.
    fn keep(&mut self, share: f64) {
        for n in (0..self.held.len()).rev() {
            if self.rng.f64() >= share {
                self.free(n);
            }
        }
    }

    /// Takes blocks until eight in a row can't be had. Which share of the arena all that is held is then.
    fn fill(&mut self, len: impl Fn(&mut fastrand::Rng) -> usize) -> f64 {
        let mut refused = 0;
        while refused < 8 {
            let len = len(&mut self.rng);
            refused = if self.alloc(len) { 0 } else { refused + 1 };
        }
        self.bytes as f64 / ARENA as f64
    }
}

/// A length between two, each doubling as likely as the others.
fn between(low: usize, high: usize) -> impl Fn(&mut fastrand::Rng) -> usize {
    move |rng| (low as f64 * (high as f64 / low as f64).powf(rng.f64())) as usize
}

/// Runs a workload with five seeds on both heaps: the lowest share with this one, and with first fit.
fn shares(ours: impl Fn(&mut Run<Allocator>) -> f64, firsts: impl Fn(&mut Run<FirstFit>) -> f64) -> (f64, f64) {
    fn run<H: Heap>(heap: impl Fn() -> H, work: impl Fn(&mut Run<H>) -> f64) -> f64 {
        let share = |seed| {
            let mut run = Run { heap: heap(), held: Vec::new(), bytes: 0, rng: fastrand::Rng::with_seed(seed) };
            work(&mut run)
        };
        (1..=5).map(share).fold(f64::MAX, f64::min)
    }
    let ours = run(|| Allocator::new(ARENA, UNIT), ours);
    let firsts = run(|| FirstFit(BTreeMap::from([(0, ARENA)])), firsts);
    (ours, firsts)
}

macro_rules! workload {
    ($name:ident, at least $share:literal, $of_first_fit:literal of first fit, $work:expr) => {
        #[test]
        fn $name() {
            fn work<H: Heap>(run: &mut Run<H>) -> f64 {
                let work: fn(&mut Run<H>) -> f64 = $work;
                work(run)
            }
            let (ours, firsts) = shares(work, work);
            println!("{}: {ours:.3} of the arena; first fit {firsts:.3}", stringify!($name));
            assert!(ours >= $share && ours >= $of_first_fit * firsts, "{ours:.3}, first fit {firsts:.3}");
        }
    };
}

workload!(a_fresh_arena_takes_small_blocks, at least 0.84, 0.87 of first fit, |run| run.fill(between(16, 4000)));

workload!(a_fresh_arena_takes_all_sizes, at least 0.93, 0.94 of first fit, |run| run.fill(between(16, 200_000)));

workload!(every_second_small_one_freed_and_taken_again, at least 0.82, 0.89 of first fit, |run| {
    run.fill(between(16, 2000));
    let half = run.held.len() / 2;
    for n in (0..half).rev() {
        run.free(2 * n);
    }
    run.fill(between(16, 2000))
});

workload!(large_ones_after_all_but_a_few_small_ones_went, at least 0.55, 0.74 of first fit, |run| {
    run.fill(between(16, 2000));
    run.keep(0.02);
    run.fill(|_| 16 << 10)
});

workload!(sizes_that_shift_with_survivors_of_each, at least 0.58, 0.64 of first fit, |run| {
    let mut share = 1.0_f64;
    for round in 0..20 {
        let low = 64 << (round % 8);
        share = share.min(run.fill(between(low, 4 * low)));
        run.keep(0.1);
    }
    share
});

workload!(a_long_churn_at_four_fifths, at least 0.81, 0.88 of first fit, |run| {
    let len = between(32, 60_000);
    for _ in 0..20_000 {
        let size = len(&mut run.rng);
        if run.bytes + size > ARENA / 5 * 4 || !run.alloc(size) {
            let n = run.rng.usize(..run.held.len());
            run.free(n);
        }
    }
    run.fill(len)
});
