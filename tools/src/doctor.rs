//! `vmmc doctor`: what will work here, and why not.
//!
//! ```text
//!   gather ──► facts ──► judge ──► report
//!   /proc, netlink,      pure      table or JSON,
//!   ethtool, trials                exit status
//!                          attempt: --try opens a node
//! ```
//!
//! Facts are gathered in one place and judged by pure functions, so that every bad machine is tested by a table of facts. Nothing
//! is changed, unless `--try` asks for it: then a node is opened, and what came of it overrules what was foreseen.

mod attempt;
mod ethtool;
mod facts;
mod gather;
mod judge;
mod report;

use std::error::Error;
use std::process::ExitCode;

use self::report::Report;
use crate::output::print;

/// The arguments of `vmmc doctor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The interface to look at [default: all of them, in short].
    interface: Option<String>,
    /// Open a node on the interface for a moment, and say how it was bound. This attaches an XDP program: some drivers then reset the
    /// link, which loses packets of everybody for up to 3 seconds.
    #[arg(long = "try", requires = "interface")]
    attempt: bool,
    /// Write JSON: for the machine and every interface a list of checks, each with name, verdict, found and mend.
    #[arg(long)]
    json: bool,
}

/// Runs `vmmc doctor`. The exit status is 0 if a node can run on the interface or, where none was named, on any.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let machine = gather::machine();
    let names = match &args.interface {
        Some(name) => vec![name.clone()],
        None => gather::ethernet_interfaces()?,
    };
    let interfaces = names.iter().map(|name| judge::interface(&machine, name, &gather::interface(name))).collect();
    let mut report = Report { machine: judge::machine(&machine), interfaces, detailed: args.interface.is_some() };
    if let ([diagnosis], true) = (&mut report.interfaces[..], args.attempt) {
        attempt::node(diagnosis, &mut report.machine);
    }
    print(if args.json { report.json() } else { report.table() })?;
    Ok(if report.can_run() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
