//! The whole against an obvious one, which looks at everything every time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PAGES: u64 = 40;

#[derive(Clone, Copy, Debug)]
struct Page {
    pinned: u64,
    used: u64,
    uses: u64,
    holds: u32,
}

/// Pages that are pinned, by number; orphans lose theirs.
struct Model {
    kind: PolicyKind,
    pages: BTreeMap<u64, Page>,
    /// Holds of pages whose mapping went, by which hold has them.
    orphans: Vec<u32>,
    excluded: Vec<Range<u64>>,
    budget: usize,
    frames: usize,
    clock: u64,
    unpinned: usize,
    copied: usize,
}

impl Model {
    fn in_use(&self) -> usize {
        self.pages.len() + self.orphans.len()
    }

    fn held(&self) -> usize {
        self.pages.values().filter(|page| page.holds > 0).count() + self.orphans.len()
    }

    fn is_excluded(&self, page: u64) -> bool {
        self.excluded.iter().any(|pages| pages.contains(&page))
    }

    fn unpin(&mut self, count: usize) -> usize {
        for done in 0..count {
            let movable = self.pages.iter().filter(|(number, page)| page.holds == 0 && !self.is_excluded(**number));
            let victim = match self.kind {
                PolicyKind::Lru => movable.min_by_key(|(_, page)| page.used),
                PolicyKind::Mru => movable.max_by_key(|(_, page)| page.used),
                PolicyKind::Lfu => movable.min_by_key(|(_, page)| (page.uses, page.used)),
                PolicyKind::Fifo => movable.min_by_key(|(_, page)| page.pinned),
                PolicyKind::Random => unreachable!("isn't compared"),
            };
            let Some((&number, _)) = victim else { return done };
            self.pages.remove(&number);
            self.unpinned += 1;
        }
        count
    }

    fn fit(&mut self) {
        self.unpin(self.in_use().saturating_sub(self.budget));
    }

    /// Returns which of the pages are pinned afterwards.
    fn hold(&mut self, pages: Range<u64>) -> Vec<u64> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for number in pages.clone() {
            self.clock += 1;
            if let Some(page) = self.pages.get_mut(&number) {
                (page.used, page.uses, page.holds) = (self.clock, page.uses + 1, page.holds + 1);
            } else if runs.last().is_some_and(|run| run.end == number) {
                runs.last_mut().unwrap().end += 1;
            } else {
                runs.push(number..number + 1);
            }
        }
        for run in runs {
            let room = self.budget.saturating_sub(self.held());
            let writable = run.clone().take_while(|&number| !self.is_excluded(number)).count();
            let wanted: Vec<u64> = run.clone().take(room.min(writable)).collect();
            self.unpin((self.in_use() + wanted.len()).saturating_sub(self.budget));
            for (done, &number) in wanted.iter().enumerate() {
                let most = (wanted.len() - done).min(self.budget.saturating_sub(self.in_use()));
                if most == 0 || self.in_use() == self.frames && self.unpin(most) == 0 {
                    break;
                }
                self.clock += 1;
                self.pages.insert(number, Page { pinned: self.clock, used: self.clock, uses: 1, holds: 1 });
            }
            self.copied += run.filter(|number| !self.pages.contains_key(number)).count();
        }
        pages.filter(|number| self.pages.contains_key(number)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Hold(Range<u64>),
    Release(usize),
    Exclude(Range<u64>),
    Include(usize),
    Budget(usize),
    Discard(Range<u64>),
}

fn range(most: u64) -> impl Strategy<Value = Range<u64>> {
    (0..PAGES, 1..=most).prop_map(|(start, len)| start..(start + len).min(PAGES))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => range(3).prop_map(Step::Hold),
        3 => range(20).prop_map(Step::Hold),
        6 => (0usize..8).prop_map(Step::Release),
        2 => range(12).prop_map(Step::Exclude),
        2 => (0usize..4).prop_map(Step::Include),
        1 => (0usize..24).prop_map(Step::Budget),
        1 => range(10).prop_map(Step::Discard),
    ]
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn check(kind: PolicyKind, frames: u32, budget: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut utlb = Utlb::new(budget, Config { policy: kind, rule: Rule::Pin, ..Config::default() });
    let mut pager = Counting::new(frames);
    let mut model = Model {
        kind,
        pages: BTreeMap::new(),
        orphans: Vec::new(),
        excluded: Vec::new(),
        budget,
        frames: frames as usize,
        clock: 0,
        unpinned: 0,
        copied: 0,
    };
    let exact = kind != PolicyKind::Random;
    let mut holds: Vec<(Hold, Vec<u64>)> = Vec::new();
    for step in steps {
        match step {
            Step::Hold(pages) => {
                let hold = utlb.hold(pages.clone(), &mut pager);
                let all: Vec<u64> = hold.runs().flat_map(|run| run.pages.clone()).collect();
                prop_assert_eq!(all, pages.clone().collect::<Vec<_>>());
                for run in hold.runs() {
                    for (page, at) in run.pages.clone().zip(0..) {
                        prop_assert_eq!(utlb.frame(page), run.frame.map(|first| first + at));
                    }
                }
                let pinned: Vec<u64> =
                    hold.runs().filter(|run| run.frame.is_some()).flat_map(|run| run.pages.clone()).collect();
                if exact {
                    prop_assert_eq!(&model.hold(pages), &pinned);
                }
                holds.push((hold, pinned));
            }
            Step::Release(which) if !holds.is_empty() => {
                let (hold, pages) = holds.swap_remove(which % holds.len());
                utlb.release(hold, &mut pager);
                if exact {
                    for page in pages {
                        model.pages.get_mut(&page).expect("a page that is held has gone").holds -= 1;
                    }
                    model.fit();
                }
            }
            Step::Exclude(pages) if !model.excluded.iter().any(|other| overlap(other, &pages)) => {
                utlb.exclude(pages.clone());
                model.excluded.push(pages);
            }
            Step::Include(which) if !model.excluded.is_empty() => {
                let pages = model.excluded.swap_remove(which % model.excluded.len());
                utlb.include(pages, &mut pager);
                model.fit();
            }
            Step::Budget(pages) => {
                utlb.set_budget(pages, &mut pager);
                model.budget = pages;
                model.fit();
            }
            // Of held pages: see the example.
            Step::Discard(pages) if !holds.iter().any(|(_, held)| held.iter().any(|page| pages.contains(page))) => {
                utlb.discard(pages.clone(), &mut pager);
                pager.pinned.retain(|page| !pages.contains(page));
                model.pages.retain(|page, _| !pages.contains(page));
            }
            _ => {}
        }
        let counters = utlb.counters();
        let pinned: BTreeSet<u64> = (0..PAGES).filter(|&page| utlb.frame(page).is_some()).collect();
        prop_assert_eq!(&pinned, &pager.pinned);
        prop_assert_eq!(counters.pinned as usize, pinned.len());
        prop_assert_eq!(pager.free.len(), frames as usize - pinned.len());
        prop_assert_eq!(counters.lookups, counters.hits + counters.misses);
        prop_assert_eq!(counters.pins, counters.unpins + counters.dropped + counters.pinned);
        prop_assert_eq!(counters.pins + counters.copied, counters.misses);
        prop_assert!(counters.evictions <= counters.unpins && counters.failures == 0 && counters.prefetched == 0);
        for (_, held) in &holds {
            prop_assert!(held.iter().all(|page| pinned.contains(page)), "a held page has gone");
        }
        if exact {
            prop_assert_eq!(&pinned, &model.pages.keys().copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(counters.held as usize, model.held());
            prop_assert_eq!((counters.unpins as usize, counters.copied as usize), (model.unpinned, model.copied));
        }
        let kept = pinned.iter().filter(|&&p| model.is_excluded(p) || holds.iter().any(|(_, held)| held.contains(&p)));
        prop_assert!(counters.pinned <= counters.budget.max(kept.count() as u64), "{:?}", counters);
    }
    for (hold, _) in holds {
        utlb.release(hold, &mut pager);
    }
    for pages in std::mem::take(&mut model.excluded) {
        utlb.include(pages, &mut pager);
    }
    utlb.set_budget(0, &mut pager);
    prop_assert_eq!((utlb.counters().pinned, pager.free.len()), (0, frames as usize));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 512 }))]
    #[test]
    fn it_does_what_is_obvious(
        kind in prop::sample::select(&PolicyKind::ALL[..]),
        frames in 4u32..24,
        budget in 0usize..24,
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 120 }),
    ) {
        check(kind, frames, budget, steps)?;
    }
}
