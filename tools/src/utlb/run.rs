//! `vmmc utlb run`: what is run, and what becomes of the outcome.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ArgGroup;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use vmmc::memory::utlb::{Costs, Rule};

use super::import::Reading;
use super::load::{self, Trace};
use super::outcome::Results;
use super::simulate::{Policy, Setup, simulate_all};
use super::{page, report, shipped};
use crate::output::{print, say};

/// The largest budget, in pages: 1 TiB of those of 4 KiB.
const MOST_PAGES: u32 = 1 << 28;

/// What is run if nothing else is asked for; with `--html` there are points enough for a curve.
const BUDGETS: &str = "64,256,1024";
const BUDGETS_OF_CURVES: &str = "16..4096";

/// The arguments of `vmmc utlb run`.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["files", "traces", "all"]))]
pub(crate) struct Args {
    /// Files with traces, or with what lackey or perf has written; - is standard input.
    #[arg(value_name = "TRACE")]
    files: Vec<PathBuf>,
    /// Traces that are always there, by their names, separated by commas: `vmmc utlb traces` lists them.
    #[arg(long = "trace", value_name = "NAMES", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(shipped::ALL.iter().map(|shipped| shipped.name)))]
    traces: Vec<String>,
    /// All the traces that are always there.
    #[arg(long, conflicts_with = "traces")]
    all: bool,
    #[command(flatten)]
    reading: Reading,
    /// Who goes when another page needs the place, separated by commas; opt is Belady's optimum, for the rule pin only [default: all].
    #[arg(long = "policy", value_name = "POLICIES", value_delimiter = ',', value_parser = policy())]
    policies: Vec<Policy>,
    /// Whether to pin a page that isn't pinned, separated by commas: pin always, copy always, or copy until that has cost what
    /// pinning costs [default: all].
    #[arg(long = "rule", value_name = "RULES", value_delimiter = ',', value_parser = rule())]
    rules: Vec<Rule>,
    /// How many pages may be pinned at a time, separated by commas; 16..4096 is 16, doubled until 4096 [default: 64,256,1024, with
    /// --html 16..4096].
    #[arg(long = "budget", value_name = "PAGES", value_delimiter = ',')]
    budgets: Vec<Budgets>,
    /// How many pages beyond those that are sent are pinned with them.
    #[arg(long, value_name = "PAGES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=vmmc_traces::GAP as i64))]
    prefetch: u32,
    /// What things cost in nanoseconds: any of pin-call, pin-page, unpin-call, unpin-page and copy-page, for pages of 4096 bytes.
    ///
    /// As in `pin-call=8740,copy-page=130`. A run of neighbouring pages is pinned, or unpinned, in one call; the cost of each page
    /// grows with the page size. The defaults are what the library decides by: see `vmmc::memory::utlb::Costs`.
    #[arg(long, value_name = "COSTS")]
    costs: Option<GivenCosts>,
    /// What the policy random throws its dice with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of tables: an array with an object for each row.
    #[arg(long)]
    json: bool,
    /// Write a page with miss-ratio and cost curves, and the tables, for a browser.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// For pages of 4096 bytes.
    fn costs(&self) -> Costs {
        self.costs.map_or_else(Costs::default, |given| given.0)
    }
}

fn policy() -> impl TypedValueParser<Value = Policy> {
    let find = |name: String| Policy::ALL.into_iter().find(|policy| policy.name() == name);
    PossibleValuesParser::new(Policy::ALL.map(Policy::name)).map(move |name| find(name).unwrap_or(Policy::Opt))
}

fn rule() -> impl TypedValueParser<Value = Rule> {
    PossibleValuesParser::new(["pin", "copy", "ski-rental"]).try_map(|name| name.parse::<Rule>())
}

/// One budget, or some, each twice the one before.
#[derive(Clone, Debug, PartialEq)]
struct Budgets(Vec<u32>);

impl FromStr for Budgets {
    type Err = String;

    fn from_str(text: &str) -> Result<Budgets, String> {
        let number = |text: &str| text.parse().ok().filter(|pages| (1..=MOST_PAGES).contains(pages));
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let both = number(first).zip(number(last)).filter(|(first, last)| first <= last);
        let (first, last) = both.ok_or_else(|| {
            format!("a budget is 1 to {MOST_PAGES} pages, or two of these with .. between them: 256, or 16..4096")
        })?;
        Ok(Budgets(
            std::iter::successors(Some(first), |pages| pages.checked_mul(2)).take_while(|p| *p <= last).collect(),
        ))
    }
}

/// The library's costs, and what the command line says instead.
#[derive(Clone, Copy, Debug, PartialEq)]
struct GivenCosts(Costs);

impl FromStr for GivenCosts {
    type Err = String;

    fn from_str(text: &str) -> Result<GivenCosts, String> {
        let mut costs = Costs::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let cost = match name {
                "pin-call" => &mut costs.pin_call,
                "pin-page" => &mut costs.pin_page,
                "unpin-call" => &mut costs.unpin_call,
                "unpin-page" => &mut costs.unpin_page,
                "copy-page" => &mut costs.copy_page,
                _ => {
                    return Err(format!(
                        "{name:?} is none of pin-call, pin-page, unpin-call, unpin-page and copy-page"
                    ));
                }
            };
            // So that the cost of the longest trace is a number, too.
            let value = value.parse().ok().filter(|ns| (0..=1_000_000_000).contains(ns));
            *cost = value.ok_or_else(|| format!("{part:?} is no cost: write {name}=NS, 0 to 1000000000"))?;
        }
        Ok(GivenCosts(costs))
    }
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let html = args.html.as_deref().map(Page::create).transpose()?;
    let (format, options) = args.reading.options();
    let mut results: Vec<Results> = Vec::new();
    let named = shipped::ALL.iter().filter(|shipped| args.all || args.traces.iter().any(|name| name == shipped.name));
    let files = args.files.iter().map(|path| {
        let references = load::open(path, format, options)?;
        Trace::read(&load::name(path), references)
    });
    for trace in files.chain(named.map(shipped::Shipped::trace)) {
        let results_of_it = outcomes(&args, trace?);
        if !args.json {
            let gap = if results.is_empty() { "" } else { "\n" };
            print(format!("{gap}{}", report::table(&results_of_it)))?;
        }
        results.push(results_of_it);
    }
    if args.json {
        say(serde_json::to_string_pretty(&report::rows(&results))?);
    }
    if let Some(html) = html {
        html.write(&page::page(&results, &args.costs())?)?;
    }
    Ok(())
}

/// Runs one trace in every way that is asked for.
fn outcomes(args: &Args, trace: Trace) -> Results {
    let setups = setups(args, &trace);
    let bar = ProgressBar::new(trace.lookups.saturating_mul(setups.len() as u64));
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent}%  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(trace.name.clone());
    let outcomes = simulate_all(&trace, &setups, &|pages| bar.inc(pages));
    bar.finish_and_clear();
    Results::new(trace, outcomes)
}

/// Every way: copying once, then by budget, rule and policy.
fn setups(args: &Args, trace: &Trace) -> Vec<Setup> {
    let or_all = |given: &[Rule]| if given.is_empty() { Rule::ALL.to_vec() } else { given.to_vec() };
    let (rules, asked) = (or_all(&args.rules), &args.policies);
    let policies: Vec<Policy> =
        Policy::ALL.into_iter().filter(|policy| asked.is_empty() || asked.contains(policy)).collect();
    let default = if args.html.is_some() { BUDGETS_OF_CURVES } else { BUDGETS };
    let default: Vec<Budgets> = default.split(',').filter_map(|budget| budget.parse().ok()).collect();
    let given = if args.budgets.is_empty() { &default } else { &args.budgets };
    let mut budgets: Vec<u32> = given.iter().flat_map(|budgets| budgets.0.iter().copied()).collect();
    budgets.sort_unstable();
    budgets.dedup();

    let costs = args.costs().for_page_size(usize::try_from(trace.page_size).unwrap_or(usize::MAX));
    let setup = |rule, policy, budget| Setup { policy, rule, budget, prefetch: args.prefetch, costs, seed: args.seed };
    let mut setups = Vec::new();
    if rules.contains(&Rule::Copy) {
        setups.push(setup(Rule::Copy, None, 1));
    }
    for budget in budgets {
        for rule in [Rule::Pin, Rule::SkiRental].into_iter().filter(|rule| rules.contains(rule)) {
            // With the other rule it isn't the optimum of anything.
            let policies = policies.iter().filter(|policy| rule == Rule::Pin || **policy != Policy::Opt);
            setups.extend(policies.map(|policy| setup(rule, Some(*policy), budget)));
        }
    }
    setups
}

/// A page can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", path.display())]
struct PageError {
    path: PathBuf,
    source: io::Error,
}

/// The file that a page will be in: that it can't be made is known before anything is run.
struct Page {
    path: PathBuf,
    file: File,
}

impl Page {
    fn create(path: &Path) -> Result<Page, PageError> {
        let file = File::create(path).map_err(|source| PageError { path: path.to_owned(), source })?;
        Ok(Page { path: path.to_owned(), file })
    }

    fn write(mut self, text: &str) -> Result<(), PageError> {
        self.file.write_all(text.as_bytes()).map_err(|source| PageError { path: self.path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_double() {
        let of = |text: &str| text.parse::<Budgets>().map(|budgets| budgets.0);
        assert_eq!(of("256"), Ok(vec![256]));
        assert_eq!(of("16..128"), Ok(vec![16, 32, 64, 128]));
        assert_eq!(of("3..13"), Ok(vec![3, 6, 12]));
        assert_eq!(of("268435456"), Ok(vec![1 << 28]));
        for bad in ["", "0", "x", "16..", "..16", "16..8", "268435457", "-1", "1..2..3"] {
            assert!(of(bad).unwrap_err().contains("16..4096"), "{bad}");
        }
    }

    #[test]
    fn costs_are_the_librarys_but_for_those_given() {
        let of = |text: &str| text.parse::<GivenCosts>().map(|costs| costs.0);
        assert_eq!(of(""), Ok(Costs::default()));
        assert_eq!(of("copy-page=7,pin-call=0"), Ok(Costs { copy_page: 7, pin_call: 0, ..Costs::default() }));
        for (bad, part) in
            [("copy=1", "\"copy\" is none of"), ("pin-call", "pin-call=NS"), ("pin-call=-1", "pin-call=NS")]
        {
            assert!(of(bad).unwrap_err().contains(part), "{bad}");
        }
    }
}
