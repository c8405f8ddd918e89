//! The outcome as tables for people and as JSON for programs.

use serde_json::{Value, json};
use vmmc::memory::utlb::Counters;

use super::outcome::Results;
use super::simulate::Policy;
use crate::table::Column::{Figure, Rare, Text};
use crate::table::Table;

/// A table of everything, below a line about the trace, above one about the ski-rental rule.
pub(crate) fn table(results: &Results) -> String {
    let Results { name, page_size, sends, touched, lookups, outcomes } = results;
    let columns = [
        Figure("budget"),
        Text("rule"),
        Text("policy"),
        Figure("look-ups"),
        Figure("misses"),
        Figure("missed"),
        Figure("pins"),
        Rare("ahead"),
        Figure("unpins"),
        Figure("copied"),
        Figure("cost us"),
        Figure("us/page"),
        Figure("of better"),
    ];
    let mut table = Table::new(&columns, false);
    for outcome in outcomes {
        let (setup, Counters { lookups, misses, pins, prefetched, unpins, copied, .. }) =
            (outcome.setup, outcome.counters);
        let cost = outcome.cost_us();
        table.row(vec![
            if setup.policy.is_some() { setup.budget.to_string() } else { "any".into() },
            setup.rule.to_string(),
            setup.policy.map_or("any", Policy::name).into(),
            lookups.to_string(),
            misses.to_string(),
            format!("{:.1}%", 100.0 * outcome.miss_ratio()),
            pins.to_string(),
            prefetched.to_string(),
            unpins.to_string(),
            copied.to_string(),
            format!("{cost:.0}"),
            format!("{:.3}", cost / lookups as f64),
            results.of_better(outcome).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x")),
        ]);
    }
    let mut text =
        format!("{name}: {sends} sends of {lookups} pages, {touched} different ones of {page_size} bytes\n{table}");
    if let Some((ratio, outcome)) = results.worst() {
        let (policy, budget) = (outcome.setup.policy.map_or("any policy", Policy::name), outcome.setup.budget);
        text += &format!(
            "  ski-rental costs at most {ratio:.2} times the better of pin and copy ({policy}, {budget} pages)\n"
        );
    }
    text
}

/// A flat array with an object for each row of the tables.
pub(crate) fn rows(results: &[Results]) -> Value {
    let row = |trace: &Results, outcome: &super::simulate::Outcome| {
        let (setup, counters) = (outcome.setup, outcome.counters);
        let policy = setup.policy;
        json!({
            "trace": trace.name,
            "page_size": trace.page_size,
            "sends": trace.sends,
            "pages": trace.touched,
            "budget": policy.map(|_| setup.budget),
            "rule": setup.rule,
            "policy": policy.map(Policy::name),
            "prefetch": setup.prefetch,
            "lookups": counters.lookups,
            "hits": counters.hits,
            "misses": counters.misses,
            "pins": counters.pins,
            "pin_calls": counters.pin_calls,
            "prefetched": counters.prefetched,
            "unpins": counters.unpins,
            "unpin_calls": counters.unpin_calls,
            "copied": counters.copied,
            "cost_us": outcome.cost_us(),
            "of_better": trace.of_better(outcome),
        })
    };
    results.iter().flat_map(|trace| trace.outcomes.iter().map(move |outcome| row(trace, outcome))).collect()
}
