//! `--try`: opens a node and says how it was bound. What comes of it overrules what was foreseen.

use std::time::Instant;

use vmmc::{Node, Stats};

use super::judge::{Check, Diagnosis, Verdict};

/// The arena of the node that is opened, bytes: a huge page, if there is one.
const ARENA: usize = 2 << 20;

/// Opens a node on the interface, closes it again, and adds a check that says what came of it.
pub(super) fn node(diagnosis: &mut Diagnosis, machine: &mut [Check]) {
    const NAME: &str = "trial";
    let begin = Instant::now();
    let opened = Node::builder().interface(&diagnosis.name).arena(ARENA).open().and_then(|node| node.stats());
    let check = match opened {
        Ok(stats) => {
            // It runs, whatever was thought to be in its way.
            for check in diagnosis.checks.iter_mut().chain(machine).filter(|c| c.verdict == Verdict::Problem) {
                check.verdict = Verdict::Warning;
            }
            let how = describe(&stats);
            let forecast = diagnosis.forecast.take().unwrap_or_default();
            let queues = forecast.split(", ").find(|part| part.contains("queue"));
            let lane = stats.bulk.map(|_| match &stats.bulk_copied {
                None => "zero-copy bulk lane",
                Some(_) => "bulk lane in copy mode",
            });
            let parts = [Some(how.as_str()), queues, lane];
            diagnosis.forecast = Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
            let took = begin.elapsed().as_millis();
            let lane = match (lane, &stats.no_bulk) {
                (Some(lane), _) => match &stats.bulk_copied {
                    Some(why) => format!(", {lane}: {why}"),
                    None => format!(", {lane}"),
                },
                (None, Some(reason)) => format!("; no bulk lane: {reason}"),
                (None, None) => String::new(),
            };
            let found = format!("a node was open as {}: {how}, in {took} ms{lane}", stats.local);
            Check::ok(NAME, found)
        }
        Err(error) => Check::without_mend(NAME, Verdict::Problem, format!("no node could be opened: {error}")),
    };
    diagnosis.checks.push(check);
}

fn describe(stats: &Stats) -> String {
    let mode = stats.mode.map_or("no XDP".to_owned(), |mode| format!("{mode} XDP"));
    let copies = stats.binding.map_or("no sockets", |b| if b.zero_copy { "zero-copy" } else { "copy mode" });
    let long = if stats.binding.is_some_and(|b| b.multi_buffer) { "multi-buffer" } else { "single frames" };
    format!("{mode}, {copies}, {long}")
}
