//! The user-managed TLB: which pages of a program's memory are pinned to which frames, and which go when others need their place.
//!
//! After Chen, Bilas, Damianakis, Dubnicki and Li, *UTLB: a mechanism for address translation on network interfaces* (ASPLOS 1998). A network
//! interface sends from *frames*: pages of pinned memory that it can reach. A program sends from *pages* of its virtual memory, of which
//! there may be far more. The table translates, in nanoseconds and without a system call, as long as the page is pinned (a *hit*). One that isn't (a *miss*) is
//! pinned, if need be at the expense of another that the [policy](PolicyKind) chooses, or copied, as the [`Rule`] says.
//!
//! This module decides and keeps the books. It does no I/O and knows no memory: what has to be done is done by a [`Pager`]. The library's moves
//! real pages; one that only counts makes a simulator.
//!
//! ```
//! use std::ops::Range;
//! use vmmc::memory::{MemoryError, utlb::{Config, Pager, PolicyKind, Rule, Utlb}};
//!
//! /// Frames that don't exist.
//! struct Counting(Vec<u32>);
//!
//! impl Pager for Counting {
//!     fn take(&mut self, most: usize) -> Option<Range<u32>> {
//!         let frame = self.0.pop()?;
//!         Some(frame..frame + 1)
//!     }
//!     fn give(&mut self, frames: Range<u32>) {
//!         self.0.extend(frames);
//!     }
//!     fn pin(&mut self, pages: Range<u64>, frames: Range<u32>) -> Result<(), MemoryError> {
//!         println!("pages {pages:?} to {frames:?}");
//!         Ok(())
//!     }
//!     fn unpin(&mut self, pages: Range<u64>) -> Result<(), MemoryError> {
//!         println!("pages {pages:?} to memory of their own");
//!         Ok(())
//!     }
//! }
//!
//! let mut pager = Counting((0..8).collect());
//! let mut utlb = Utlb::new(8, Config { policy: PolicyKind::Lru, rule: Rule::Pin, ..Config::default() });
//! utlb.map(100..200);
//! for page in [100, 101, 100, 150] {
//!     let hold = utlb.hold(page..page + 1, &mut pager);
//!     assert!(hold.runs().all(|run| run.frame.is_some()));
//!     utlb.release(hold, &mut pager);
//! }
//! let counters = utlb.counters();
//! assert_eq!((counters.lookups, counters.hits, counters.misses, counters.pins), (4, 1, 3, 3));
//! utlb.set_budget(0, &mut pager); // everything is unpinned, and counted
//! assert_eq!(utlb.counters().unpins, 3);
//! println!("{} ns", utlb.config().costs.total(&utlb.counters()));
//! ```

mod admit;
mod counters;
mod frames;
pub mod policy;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use self::counters::Counters;
use self::frames::{Frames, State};
pub use self::policy::{Policy, PolicyKind};
use self::rule::Ledger;
pub use self::rule::{Costs, Rule};
use self::table::{Entry, Table};
use super::MemoryError;

/// Settings of a UTLB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How much a node may have pinned at a time, bytes; what doesn't make up a page doesn't count, and more than the arena has room for is never
    /// pinned. `None`: half of the arena. ([`Utlb::new`] is told in pages.)
    pub budget: Option<usize>,
    /// Which page goes when another one needs its frame. Default: LRU.
    pub policy: PolicyKind,
    /// Whether to pin at all. Default: ski rental.
    pub rule: Rule,
    /// How many pages beyond those asked for are pinned with them, as far as the mapping goes: good for programs that go through their memory in
    /// order. Default: none.
    pub prefetch: u32,
    /// What things cost.
    pub costs: Costs,
    /// The seed of [`PolicyKind::Random`].
    pub seed: u64,
}

/// What does the work: moves pages.
pub trait Pager {
    /// Takes free frames that follow each other: at least one, `most` at the most. `None` when there is none.
    fn take(&mut self, most: usize) -> Option<Range<u32>>;

    /// Gives frames back.
    fn give(&mut self, frames: Range<u32>);

    /// Moves the content of `pages` to as many `frames`, which then are what the pages' addresses mean. One call for a run.
    ///
    /// # Errors
    /// When that can't be. Then nothing has changed.
    fn pin(&mut self, pages: Range<u64>, frames: Range<u32>) -> Result<(), MemoryError>;

    /// Moves the content of `pages`, which are pinned, back to memory of their own. One call for a run, whatever frames it has.
    ///
    /// # Errors
    /// When that can't be. Then nothing has changed.
    fn unpin(&mut self, pages: Range<u64>) -> Result<(), MemoryError>;
}

/// Neighbouring pages of a [`Hold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The pages, by number.
    pub pages: Range<u64>,
    /// The frame of the first; the others' follow. `None`: the pages aren't pinned, and have to be copied.
    pub frame: Option<u32>,
}

/// Pages that were looked up, and where they are. Those that are pinned stay so until the hold is [released](Utlb::release).
#[derive(Debug, Default)]
#[must_use = "pinned pages stay where they are until the hold is released"]
pub struct Hold {
    runs: SmallVec<[Run; 2]>,
}

impl Hold {
    /// The pages, in ascending order, in runs that are as long as can be.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// The same, to be searched.
    pub(super) fn slice(&self) -> &[Run] {
        &self.runs
    }

    fn push(&mut self, page: u64, frame: Option<u32>) {
        if let Some(last) = self.runs.last_mut() {
            let len = last.pages.end - last.pages.start;
            let next = last.frame.map(|first| first + len as u32);
            if last.pages.end == page && next == frame {
                last.pages.end += 1;
                return;
            }
        }
        self.runs.push(Run { pages: page..page + 1, frame });
    }
}

/// A user-managed TLB.
pub struct Utlb {
    config: Config,
    budget: usize,
    table: Table,
    frames: Frames,
    policy: Box<dyn Policy>,
    /// Mappings: first page -> end.
    mappings: BTreeMap<u64, u64>,
    ledger: Ledger,
    counters: Counters,
    /// The pager had no frame when it was last asked.
    dry: bool,
}

impl Utlb {
    /// A UTLB with nothing pinned, that may have `budget` pages pinned.
    pub fn new(budget: usize, config: Config) -> Utlb {
        Utlb::with_policy(budget, config, config.policy.policy(config.seed))
    }

    /// The same with a policy of the caller's own, instead of that which the settings name. It has no frames yet.
    pub fn with_policy(budget: usize, config: Config, policy: Box<dyn Policy>) -> Utlb {
        Utlb {
            config,
            budget,
            table: Table::new(),
            frames: Frames::new(),
            policy,
            mappings: BTreeMap::new(),
            ledger: Ledger::default(),
            counters: Counters::default(),
            dry: false,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        let gauge = |pages: usize| pages as u64;
        let (pinned, held, budget) = (gauge(self.frames.in_use), gauge(self.frames.held), gauge(self.budget));
        Counters { pinned, held, budget, ..self.counters }
    }

    /// Leaves of the translation table, of 4 KiB each.
    pub fn leaves(&self) -> usize {
        self.table.leaves()
    }

    /// Says that `pages` are a mapping: pinning ahead goes as far as that. Mappings don't overlap.
    pub fn map(&mut self, pages: Range<u64>) {
        if !pages.is_empty() {
            self.mappings.insert(pages.start, pages.end);
        }
    }

    /// A mapping is gone, or a part of one, and the content of its pages with it. What is left on either side is a mapping of its own: nothing is pinned ahead
    /// across the gap.
    pub fn unmap(&mut self, pages: Range<u64>, pager: &mut dyn Pager) {
        if pages.is_empty() {
            return;
        }
        while let Some((&start, &end)) =
            self.mappings.range(..pages.end).next_back().filter(|(_, end)| **end > pages.start)
        {
            self.mappings.remove(&start);
            self.map(pages.end..end);
            if start < pages.start {
                self.map(start..pages.start);
                break;
            }
        }
        self.discard(pages, pager);
    }

    /// The content of these pages is of no use any more. Their frames are given back as they are, those that are held as soon as they are released.
    pub fn discard(&mut self, pages: Range<u64>, pager: &mut dyn Pager) {
        let Utlb { table, frames, policy, counters, .. } = self;
        let mut returned = Runs::default();
        table.clear(pages, |_, frame| {
            policy.unpinned(frame);
            counters.dropped += 1;
            if frames.get(frame).holds > 0 {
                frames.orphaned(frame);
            } else {
                frames.freed(frame);
                returned.push(frame, pager);
            }
        });
        returned.end(pager);
    }

    /// The frame that a page is pinned to. Counts nothing.
    pub fn frame(&mut self, page: u64) -> Option<u32> {
        self.table.get(page).frame()
    }

    /// Looks `pages` up, pins those that aren't pinned as the rule, the policy and the budget allow, and holds them: they don't move before they
    /// are released. Runs that don't fit are to be copied: as many as there is room for are pinned, from the front of a run.
    pub fn hold(&mut self, pages: Range<u64>, pager: &mut dyn Pager) -> Hold {
        let mut hold = Hold::default();
        self.counters.lookups += pages.end.saturating_sub(pages.start);
        let mut missed = false;
        for page in pages {
            let frame = self.table.get(page).frame();
            match frame {
                Some(frame) => {
                    self.counters.hits += 1;
                    self.policy.used(frame);
                    self.frames.hold(frame);
                }
                None => {
                    self.counters.misses += 1;
                    missed = true;
                }
            }
            hold.push(page, frame);
        }
        if missed { self.admit(hold, pager) } else { hold }
    }

    /// Ends a hold.
    pub fn release(&mut self, hold: Hold, pager: &mut dyn Pager) {
        let mut returned = Runs::default();
        for run in hold.runs {
            let Some(first) = run.frame else { continue };
            for frame in first..first + (run.pages.end - run.pages.start) as u32 {
                if self.frames.release(frame, &mut *self.policy) == Some(State::Orphan) {
                    self.frames.freed(frame);
                    returned.push(frame, pager);
                }
            }
        }
        returned.end(pager);
        self.fit(pager);
    }

    /// Says that somebody is about to write to `pages`: they are neither pinned nor unpinned until [`Utlb::include`]. Ranges that are excluded at the same
    /// time don't overlap.
    pub fn exclude(&mut self, pages: Range<u64>) {
        self.frames.exclude(pages);
    }

    /// Ends the exclusion of `pages`, which are those that were excluded.
    pub fn include(&mut self, pages: Range<u64>, pager: &mut dyn Pager) {
        let Utlb { frames, policy, table, .. } = self;
        frames.include(pages, &mut **policy, |page| table.get(page).frame());
        self.fit(pager);
    }

    /// Changes how many pages may be pinned. When that is less than there are, pages are unpinned at once; those that are held or written at the moment,
    /// as soon as they aren't any more.
    pub fn set_budget(&mut self, pages: usize, pager: &mut dyn Pager) {
        self.budget = pages;
        self.fit(pager);
    }

    /// Unpins what is more than the budget.
    fn fit(&mut self, pager: &mut dyn Pager) {
        if self.frames.in_use > self.budget {
            self.unpin(self.frames.in_use - self.budget, pager);
        }
    }

    /// Unpins as many pages, neighbours together. Returns how many there were that could be, and what the cost was.
    fn unpin(&mut self, pages: usize, pager: &mut dyn Pager) -> (usize, u64) {
        let mut victims = Vec::new();
        while victims.len() < pages
            && let Some(frame) = self.frames.victim(&mut *self.policy)
        {
            self.policy.unpinned(frame);
            victims.push((self.frames.get(frame).page, frame));
        }
        victims.sort_unstable();
        let (mut unpinned, mut cost, mut returned) = (0, 0, Runs::default());
        for run in victims.chunk_by(|(page, _), (next, _)| page + 1 == *next) {
            let (start, len) = (run[0].0, run.len() as u64);
            if pager.unpin(start..start + len).is_err() {
                self.counters.failures += 1;
                run.iter().for_each(|&(_, frame)| self.policy.pinned(frame));
                continue;
            }
            for &(page, frame) in run {
                self.table.set(page, Entry::rented(0));
                self.frames.freed(frame);
                returned.push(frame, pager);
            }
            self.counters.unpins += len;
            self.counters.unpin_calls += 1;
            unpinned += run.len();
            cost = self.config.costs.unpin(len).saturating_add(cost);
        }
        returned.end(pager);
        (unpinned, cost)
    }
}

impl std::fmt::Debug for Utlb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Utlb").field("config", &self.config).field("counters", &self.counters()).finish_non_exhaustive()
    }
}

/// Gives frames back in runs.
#[derive(Default)]
struct Runs {
    run: Range<u32>,
}

impl Runs {
    fn push(&mut self, frame: u32, pager: &mut dyn Pager) {
        if self.run.end != frame || self.run.is_empty() {
            self.end(pager);
            self.run = frame..frame;
        }
        self.run.end = frame + 1;
    }

    fn end(&mut self, pager: &mut dyn Pager) {
        if !self.run.is_empty() {
            pager.give(std::mem::take(&mut self.run));
        }
    }
}

/// A policy or rule of that name doesn't exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}: choose {choices}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    choices: String,
}

impl UnknownName {
    fn new<const N: usize>(what: &'static str, name: &str, choices: [&str; N]) -> UnknownName {
        UnknownName { what, name: name.to_owned(), choices: choices.join(", ") }
    }
}
