//! The outcome as a page: miss ratio over budget for each policy, cost over budget for each rule, and all figures.

use maud::{Markup, html};
use vmmc::memory::utlb::{Costs, PolicyKind, Rule};
use vmmc_page::axis::Axis;
use vmmc_page::document::{Document, Fact, command_line, facts};
use vmmc_page::figure::{Drawing, Figure};
use vmmc_page::plot::{Line, Lines, PlotError};
use vmmc_page::theme::{Series, distinct};
use vmmc_page::units;

use super::outcome::Results;
use super::simulate::{Outcome, Policy};

/// A page can't be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a plot can't be drawn: {0}")]
pub(crate) struct DrawError(String);

/// The page for all traces. `costs` are those of pages of 4096 bytes.
pub(crate) fn page(results: &[Results], costs: &Costs) -> Result<String, DrawError> {
    document(results, costs, command_line()).map_err(|error| DrawError(error.to_string()))
}

/// The legend's names of the rules.
const PIN: &str = "pin";
const COPY: &str = "copy";
const SKI: &str = "ski-rental";

pub(crate) fn document(results: &[Results], costs: &Costs, command: String) -> Result<String, PlotError> {
    // The optimum is to policies what the floor is to protocols.
    let policies = Series::new(Policy::ALL.into_iter().map(Policy::name), "opt", "lru");
    let rules = Series::new([PIN, COPY, SKI].into_iter(), "", SKI);
    let mut sections = Vec::new();
    for (index, trace) in results.iter().enumerate() {
        let mut figures = Vec::new();
        if let Some(figure) = miss_ratios(trace, &policies) {
            figures.push(figure.html(&policies)?);
        }
        if let Some(figure) = costs_of_rules(trace, &rules) {
            figures.push(figure.html(&rules)?);
        }
        sections.push(html! {
            section id=(id(index)) {
                h2 { (trace.name) }
                p {
                    (units::value(trace.sends as f64, "count")) " sends of " (units::value(trace.lookups as f64, "count"))
                    " pages, " (units::value(trace.touched as f64, "count")) " different ones of "
                    (units::bytes(trace.page_size as f64)) ": " (units::bytes(trace.touched as f64 * trace.page_size as f64)) "."
                }
                div .figures { @for figure in figures { (figure) } }
                (table(trace))
            }
        });
    }
    let main = html! {
        (tiles(results))
        div .head { (facts("What was simulated", &about(results, costs))) (reading()) }
        @for section in sections { (section) }
    };
    let names = results.iter().enumerate().map(|(index, trace)| (id(index), trace.name.clone())).collect();
    Ok(Document { heading: "UTLB, simulated", command, sections: names, main }.html())
}

/// Traces have any names, a page's parts have plain ones.
fn id(index: usize) -> String {
    format!("trace-{}", index + 1)
}

/// The outcomes of a rule with a policy, by budget.
fn of(trace: &Results, rule: Rule, policy: Policy) -> Vec<&Outcome> {
    let here = |outcome: &&Outcome| (outcome.setup.rule, outcome.setup.policy) == (rule, Some(policy));
    trace.outcomes.iter().filter(here).collect()
}

/// The budgets of all outcomes.
fn budgets(trace: &Results) -> Vec<u32> {
    distinct(trace.outcomes.iter().filter(|outcome| outcome.setup.policy.is_some()).map(|outcome| outcome.setup.budget))
}

fn axis(budgets: &[u32]) -> Axis {
    Axis::doubling(budgets.iter().map(|budget| f64::from(*budget)), "pages").called("budget, pages")
}

/// A line whose points are all marked.
fn line(slot: usize, points: impl Iterator<Item = (u32, f64)>, unit: &str, name: &str) -> Line {
    let hint = |budget, value| format!("{name}, {budget} pages: {}", units::value(value, unit));
    let marks: Vec<_> = points.map(|(budget, value)| (f64::from(budget), value, hint(budget, value))).collect();
    Line { slot, points: marks.iter().map(|mark| (mark.0, mark.1)).collect(), marks }
}

/// Misses of the rule pin, which tell the policies apart.
fn miss_ratios(trace: &Results, series: &Series) -> Option<Figure> {
    let budgets = budgets(trace);
    let (mut lines, mut names) = (Vec::new(), Vec::new());
    for policy in Policy::ALL {
        let outcomes = of(trace, Rule::Pin, policy);
        if !outcomes.is_empty() {
            let points = outcomes.iter().map(|outcome| (outcome.setup.budget, 100.0 * outcome.miss_ratio()));
            lines.push(line(series.slot(policy.name()), points, "%", policy.name()));
            names.push(policy.name());
        }
    }
    let values = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let y = Axis::linear(values, "%").called("look-ups that miss");
    let caption = format!("Miss ratio by budget, {}", trace.name);
    let drawing = Drawing::Lines(Lines { x: axis(&budgets), y, lines });
    (!names.is_empty()).then_some(Figure { caption, series: names, drawing })
}

/// What the rules cost with LRU or, where that wasn't run, another policy.
fn costs_of_rules(trace: &Results, series: &Series) -> Option<Figure> {
    let budgets = budgets(trace);
    let run = |policy: &Policy| trace.outcomes.iter().any(|outcome| outcome.setup.policy == Some(*policy));
    let lru = Policy::Real(PolicyKind::Lru);
    let policy = [lru].into_iter().chain(Policy::ALL).filter(|policy| *policy != Policy::Opt).find(run)?;
    let (mut lines, mut names) = (Vec::new(), Vec::new());
    for (rule, name) in [(Rule::Pin, PIN), (Rule::Copy, COPY), (Rule::SkiRental, SKI)] {
        let cost = |budget: &u32| {
            let outcome = trace.find(rule, Some(policy), *budget)?;
            Some((*budget, outcome.cost_us() / outcome.counters.lookups as f64))
        };
        let points: Vec<_> = budgets.iter().filter_map(cost).collect();
        if !points.is_empty() {
            lines.push(line(series.slot(name), points.into_iter(), "us", name));
            names.push(name);
        }
    }
    let values: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)).collect();
    let y = Axis::fitting(values.into_iter(), "us").called("cost of each page sent");
    let caption = format!("Cost by budget, {}, policy {}", trace.name, policy.name());
    Some(Figure { caption, series: names, drawing: Drawing::Lines(Lines { x: axis(&budgets), y, lines }) })
}

fn table(trace: &Results) -> Markup {
    let count = |number: u64| units::value(number as f64, "count");
    html! {
        details {
            summary { "Table, " (trace.name) }
            div .scroll tabindex="0" {
                table {
                    thead {
                        tr {
                            @for title in ["budget", "rule", "policy"] { th scope="col" { (title) } }
                            @for title in ["look-ups", "misses", "missed", "pins", "unpins", "copied", "cost", "each page", "of better"] {
                                th scope="col" { (title) }
                            }
                        }
                    }
                    @for outcomes in trace.outcomes.chunk_by(|a, b| a.setup.budget == b.setup.budget) {
                        tbody {
                            @for outcome in outcomes {
                                @let counters = outcome.counters;
                                tr {
                                    th scope="row" {
                                        @if outcome.setup.policy.is_some() { (outcome.setup.budget) } @else { "any" }
                                    }
                                    th scope="row" { (outcome.setup.rule) }
                                    th scope="row" { (outcome.setup.policy.map_or("any", Policy::name)) }
                                    td { (count(counters.lookups)) }
                                    td { (count(counters.misses)) }
                                    td { (units::value(100.0 * outcome.miss_ratio(), "%")) }
                                    td { (count(counters.pins)) }
                                    td { (count(counters.unpins)) }
                                    td { (count(counters.copied)) }
                                    td { (units::value(outcome.cost_us(), "us")) }
                                    td { (units::value(outcome.cost_us() / counters.lookups as f64, "us")) }
                                    td { (trace.of_better(outcome).map_or_else(|| "–".into(), units::ratio)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// For each trace what the ski-rental rule costs at worst.
fn tiles(results: &[Results]) -> Markup {
    let worst: Vec<_> = results.iter().filter_map(|trace| Some((trace, trace.worst()?))).collect();
    html! {
        @if !worst.is_empty() {
            section .tiles aria-label="Ski rental at its worst" {
                @for (trace, (ratio, outcome)) in worst {
                    div .tile {
                        span { "ski-rental at worst: " (trace.name) }
                        span {
                            (outcome.setup.policy.map_or("", Policy::name)) ", " (outcome.setup.budget) " pages"
                        }
                        b { (units::ratio(ratio)) }
                        span { "of the better of pin and copy" }
                    }
                }
            }
        }
    }
}

fn about(results: &[Results], costs: &Costs) -> Vec<Fact> {
    let of = |call, page| {
        format!("{} a call and {} a page", units::value(call as f64 / 1e3, "us"), units::value(page as f64 / 1e3, "us"))
    };
    let setup = results.iter().flat_map(|trace| &trace.outcomes).map(|outcome| outcome.setup).next();
    let mut facts = vec![
        ("Pinning", of(costs.pin_call, costs.pin_page)),
        ("Unpinning", of(costs.unpin_call, costs.unpin_page)),
        ("Copying", format!("{} a page", units::value(costs.copy_page as f64 / 1e3, "us"))),
        ("Page", "4 KiB; what is said of a page grows with its size".to_owned()),
    ];
    if let Some(setup) = setup {
        facts.push(("Ahead", format!("{} pages pinned with those that are sent", setup.prefetch)));
        facts.push(("Seed", setup.seed.to_string()));
    }
    facts.push(("Program", format!("vmmc {}", env!("CARGO_PKG_VERSION"))));
    facts
}

fn reading() -> Markup {
    html! {
        section .reading {
            h2 { "How to read this" }
            p {
                "Traces of the pages that a program sends, run through the UTLB of the library, which pins to frames that don’t exist. "
                "The same command makes the same page."
            }
            p {
                b { "Miss ratio: " } "the share of pages that weren’t pinned when they were sent, with the rule that pins them all. " b { "opt" }
                " is Belady’s optimum, which knows the future: the page goes that won’t be sent for the longest time. Where pages are sent "
                "one by one no policy can miss less."
            }
            p {
                b { "Cost: " } "of pinning, unpinning and copying, by the costs beside. " b { "pin" } " pins each page that misses, "
                b { "copy" } " never pins one, " b { "ski-rental" } " copies until that has cost what pinning costs. What is pinned at the end stays so."
            }
            p {
                "Point at a mark in a plot to read its value. Lines that lie on each other look like one. On a logarithmic axis equal "
                "distances are equal ratios."
            }
        }
    }
}
