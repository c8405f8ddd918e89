//! Whether to pin at all: what things cost, and the rule that weighs them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Counters, UnknownName};

/// What is done about a run of pages that is to be sent and isn't pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It is pinned at once: right when it will be sent many times more.
    Pin,
    /// It is copied, this time and every other: right when it won't.
    Copy,
    /// It is copied until that has cost as much as pinning it would have. Then it is pinned, as one does who rents skis until the rent has
    /// come to their price. Whatever comes, the whole costs at most twice what [`Rule::Copy`] costs.
    #[default]
    SkiRental,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 3] = [Rule::Pin, Rule::Copy, Rule::SkiRental];

    fn name(self) -> &'static str {
        match self {
            Rule::Pin => "pin",
            Rule::Copy => "copy",
            Rule::SkiRental => "ski-rental",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Rule {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Rule, UnknownName> {
        let found = Rule::ALL.into_iter().find(|rule| rule.name() == text);
        found.ok_or_else(|| UnknownName::new("rule", text, Rule::ALL.map(Rule::name)))
    }
}

/// What pinning, unpinning and copying cost, in nanoseconds: by these the ski-rental rule decides. A run of pages that is pinned in one
/// call costs `pin_call + pages * pin_page`, and so on.
///
/// The defaults were measured on an ordinary virtual machine, with pages of 4096 bytes: one page is pinned in 9.6 us and in runs of 64 in 1.0
/// us each, unpinned in 12.3 or 2.2 us, copied in 0.13 us. Only their proportions matter. [`Costs::measure`] measures them here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// A call that pins, ns.
    pub pin_call: u64,
    /// Each page of it, ns.
    pub pin_page: u64,
    /// A call that unpins, ns.
    pub unpin_call: u64,
    /// Each page of it, ns.
    pub unpin_page: u64,
    /// Copying one page instead, ns.
    pub copy_page: u64,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { pin_call: 8740, pin_page: 860, unpin_call: 10260, unpin_page: 2040, copy_page: 130 }
    }
}

impl Costs {
    /// The same for pages of `page_size` bytes: calls cost what they cost, the rest grows with the page.
    pub fn for_page_size(self, page_size: usize) -> Costs {
        let grown = |cost: u64| (u128::from(cost) * page_size as u128 / 4096).try_into().unwrap_or(u64::MAX);
        Costs {
            pin_page: grown(self.pin_page),
            unpin_page: grown(self.unpin_page),
            copy_page: grown(self.copy_page),
            ..self
        }
    }

    /// What pinning `pages` in one call costs, ns.
    pub fn pin(&self, pages: u64) -> u64 {
        self.pin_call.saturating_add(self.pin_page.saturating_mul(pages))
    }

    /// What unpinning `pages` in one call costs, ns.
    pub fn unpin(&self, pages: u64) -> u64 {
        self.unpin_call.saturating_add(self.unpin_page.saturating_mul(pages))
    }

    /// What copying `pages` costs, ns.
    pub fn copy(&self, pages: u64) -> u64 {
        self.copy_page.saturating_mul(pages)
    }

    /// What all that has been counted has cost, ns.
    pub fn total(&self, counters: &Counters) -> u64 {
        let (of, and) = (u64::saturating_mul, u64::saturating_add);
        let pins = and(of(self.pin_call, counters.pin_calls), of(self.pin_page, counters.pins));
        let unpins = and(of(self.unpin_call, counters.unpin_calls), of(self.unpin_page, counters.unpins));
        and(and(pins, unpins), self.copy(counters.copied))
    }
}

/// The accounts of the ski-rental rule. What each page has paid is in the table; this is what remains to be paid.
///
/// A run is pinned when what its pages have paid in rent, this copy included, exceeds the bill: what pinning it costs, and, if something
/// has to be evicted for it, what earlier runs have cost beyond their own bills: evictions, and calls for want of frames that follow each other. So
/// what is paid is what pinning has really cost, by those that want more than there is room for, and once.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    debt: u64,
}

impl Ledger {
    /// The bill for pinning `pages` in one call, for which `evicted` others must go.
    pub(super) fn price(&self, costs: &Costs, pages: u64, evicted: u64) -> u64 {
        costs.pin(pages).saturating_add(self.share(costs, evicted))
    }

    /// How much of the debt a run pays for which so many pages have to go: at most what it may add itself, were they unpinned one by one and their
    /// frames filled one by one. So the debt doesn't grow beyond that.
    pub(super) fn share(&self, costs: &Costs, evicted: u64) -> u64 {
        self.debt.min((costs.unpin(1).saturating_add(costs.pin_call)).saturating_mul(evicted))
    }

    /// A run has been bought whose bill had this share of the debt on it.
    pub(super) fn pay(&mut self, share: u64) {
        self.debt = self.debt.saturating_sub(share);
    }

    /// Something has cost so much that was on no bill.
    pub(super) fn owe(&mut self, cost: u64) {
        self.debt = self.debt.saturating_add(cost);
    }

    /// What nobody has paid yet.
    #[cfg(test)]
    pub(super) fn debt(&self) -> u64 {
        self.debt
    }
}
