//! What came of a trace, and how the rules compare.

use vmmc::memory::utlb::Rule;

use super::load::Trace;
use super::simulate::{Outcome, Policy};

/// A trace and what came of running it in several ways.
pub(crate) struct Results {
    pub(crate) name: String,
    /// Bytes.
    pub(crate) page_size: u64,
    pub(crate) sends: u64,
    /// Different pages.
    pub(crate) touched: u64,
    /// Pages that were sent, repetitions counted.
    pub(crate) lookups: u64,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Results {
    /// Of a trace that is needed no more.
    pub(crate) fn new(trace: Trace, outcomes: Vec<Outcome>) -> Results {
        let Trace { name, page_size, sends, touched, lookups, .. } = trace;
        Results { name, page_size, sends: sends.len() as u64, touched, lookups, outcomes }
    }

    /// The outcome of one way. Copying is the same with any policy and budget.
    pub(crate) fn find(&self, rule: Rule, policy: Option<Policy>, budget: u32) -> Option<&Outcome> {
        self.outcomes.iter().find(|Outcome { setup, .. }| {
            setup.rule == rule && (rule == Rule::Copy || (setup.policy, setup.budget) == (policy, budget))
        })
    }

    /// The cost of the ski-rental rule, divided by that of the better of pin and copy. `None` where that wasn't all run.
    pub(crate) fn of_better(&self, outcome: &Outcome) -> Option<f64> {
        let setup = outcome.setup;
        let cost = |rule| self.find(rule, setup.policy, setup.budget).map(Outcome::cost_us);
        let (pin, copy) = (cost(Rule::Pin)?, cost(Rule::Copy)?);
        // Where nothing costs anything, nothing is dearer.
        let ratio = |better: f64| {
            if outcome.cost_us() <= better { outcome.cost_us() / better.max(1e-9) } else { outcome.cost_us() / better }
        };
        (setup.rule == Rule::SkiRental).then(|| ratio(pin.min(copy)))
    }

    /// The largest of these ratios, and what it is of.
    pub(crate) fn worst(&self) -> Option<(f64, &Outcome)> {
        let ratios = self.outcomes.iter().filter_map(|outcome| Some((self.of_better(outcome)?, outcome)));
        ratios.max_by(|a, b| a.0.total_cmp(&b.0))
    }
}
