//! A trace, run through the library's own UTLB over frames that don't exist.
//!
//! ```text
//!   trace ─► vmmc::memory::utlb::Utlb ─► Frames      (what the library has real memory for)
//!              │  policy: the library's, or Oracle ◄─ Future
//!              └► counters ─► costs
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vmmc::memory::utlb::{Config, Costs, Counters, PolicyKind, Rule, Utlb};

use super::frames::Frames;
use super::load::Trace;
use super::oracle::{Clock, Future, Oracle};

/// Who chooses the page that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// One of the library's.
    Real(PolicyKind),
    /// Belady's optimum.
    Opt,
}

impl Policy {
    /// All of them, the optimum first.
    pub(crate) const ALL: [Policy; 6] = [
        Policy::Opt,
        Policy::Real(PolicyKind::Lru),
        Policy::Real(PolicyKind::Mru),
        Policy::Real(PolicyKind::Lfu),
        Policy::Real(PolicyKind::Fifo),
        Policy::Real(PolicyKind::Random),
    ];

    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Real(PolicyKind::Lru) => "lru",
            Policy::Real(PolicyKind::Mru) => "mru",
            Policy::Real(PolicyKind::Lfu) => "lfu",
            Policy::Real(PolicyKind::Fifo) => "fifo",
            Policy::Real(PolicyKind::Random) => "random",
            Policy::Opt => "opt",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A way to run a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setup {
    /// `None` with a rule that pins nothing.
    pub(crate) policy: Option<Policy>,
    pub(crate) rule: Rule,
    /// Pages.
    pub(crate) budget: u32,
    /// Pages.
    pub(crate) prefetch: u32,
    /// For the trace's page size.
    pub(crate) costs: Costs,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) setup: Setup,
    pub(crate) counters: Counters,
}

impl Outcome {
    /// The share of look-ups that were misses.
    pub(crate) fn miss_ratio(&self) -> f64 {
        self.counters.misses as f64 / self.counters.lookups as f64
    }

    /// What pinning, unpinning and copying have cost, us.
    pub(crate) fn cost_us(&self) -> f64 {
        self.setup.costs.total(&self.counters) as f64 / 1e3
    }
}

/// How many pages are looked up between two calls of `progress`.
const STEP: u64 = 1 << 16;

/// Runs a trace once. `progress` is told of pages that have been looked up.
pub(crate) fn simulate(trace: &Trace, future: &Arc<Future>, setup: Setup, progress: &dyn Fn(u64)) -> Outcome {
    // More frames than pages are never used.
    let frames = setup.budget.min(trace.end);
    let clock = Arc::new(Clock::new(frames));
    let mut pager = Frames::new(frames, clock.clone());
    let Setup { policy, rule, prefetch, costs, seed, .. } = setup;
    let config = Config { rule, prefetch, costs, seed, ..Config::default() };
    let mut utlb = match policy.unwrap_or(Policy::Real(PolicyKind::Lru)) {
        Policy::Real(policy) => Utlb::new(frames as usize, Config { policy, ..config }),
        Policy::Opt => {
            let oracle = Oracle::new(future.clone(), clock.clone());
            Utlb::with_policy(frames as usize, config, Box::new(oracle))
        }
    };
    utlb.map(0..u64::from(trace.end));
    let mut done = 0;
    for (index, &(page, count)) in trace.sends.iter().enumerate() {
        clock.set(index as u32);
        let hold = utlb.hold(u64::from(page)..u64::from(page + count), &mut pager);
        utlb.release(hold, &mut pager);
        done += u64::from(count);
        if done >= STEP {
            progress(done);
            done = 0;
        }
    }
    progress(done);
    Outcome { setup, counters: utlb.counters() }
}

/// Runs a trace in every way, on all processors. The outcomes are in the order of the setups.
pub(crate) fn simulate_all(trace: &Trace, setups: &[Setup], progress: &(dyn Fn(u64) + Sync)) -> Vec<Outcome> {
    let future = Arc::new(Future::new(&trace.sends, trace.end));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(setup) = setups.get(index) else { return outcomes };
            outcomes.push((index, simulate(trace, &future, *setup, progress)));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(setups.len());
    let mut outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut outcomes = work();
        for thread in threads {
            outcomes.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        outcomes
    });
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
