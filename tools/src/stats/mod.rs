//! `vmmc stats`: what the nodes of this machine have counted, and the state they are in.

mod report;

use std::error::Error;
use std::process::ExitCode;

pub(crate) use report::{interface, rare};
use vmmc::Stats;
use vmmc::monitor::{self, Found, MonitorError, Selector, prometheus};

use crate::output::{note, say};

/// The arguments of `vmmc stats`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which node: its process (4711, or 4711.1 for its second node), interface, address, or socket [default: all on this machine]
    #[arg(value_name = "NODE")]
    node: Option<Selector>,
    /// Only say which nodes there are.
    #[arg(long, conflicts_with_all = ["json", "prometheus", "all"])]
    list: bool,
    /// Everything there is, as JSON: an array with an object for each node. Durations are in nanoseconds (_ns).
    #[arg(long, conflicts_with_all = ["prometheus", "all"])]
    json: bool,
    /// The text that Prometheus reads, for node_exporter's textfile collector for example.
    #[arg(long, conflicts_with = "all")]
    prometheus: bool,
    /// Show also what is usually zero.
    #[arg(short, long)]
    all: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let nodes = match &args.node {
        Some(_) => vec![monitor::find(args.node.as_ref())?],
        None => monitor::list()?,
    };
    if args.list {
        print(&report::list(&nodes));
        return Ok(ExitCode::SUCCESS);
    }
    // A single node that doesn't answer is an error; one of several is left out, and said so.
    let single = nodes.len() == 1;
    let (mut answered, mut failed) = (Vec::new(), false);
    for Found { path, pid, number, stats } in nodes {
        // For Prometheus' histogram, all round trips; for the table and JSON, their percentiles.
        let stats = if args.prometheus { stats.and_then(|_| monitor::ask_all(&path)) } else { stats };
        match stats {
            Ok(stats) => answered.push((format!("{pid}.{number}"), stats)),
            Err(error) if single => return Err(error.into()),
            // It has ended meanwhile.
            Err(MonitorError::Gone(_)) => {}
            Err(error) => {
                note(format_args!("error: {error}"));
                failed = true;
            }
        }
    }
    if args.json {
        let all: Vec<&Stats> = answered.iter().map(|(_, stats)| stats).collect();
        say(serde_json::to_string_pretty(&all)?);
    } else if args.prometheus {
        print(&prometheus::encode_plain(answered.into_iter().map(|(_, stats)| stats).collect()));
    } else {
        let reports: Vec<String> = answered.iter().map(|(name, stats)| report::node(name, stats, args.all)).collect();
        print(&reports.join("\n"));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints text that ends with a line feed of its own.
fn print(text: &str) {
    say(text.trim_end_matches('\n'));
}
