//! `vmmc utlb`: which policy, which rule, how large a budget? Traces of page references, run through the library's own UTLB.
//!
//! | file | what |
//! |---|---|
//! | `run.rs`      | `vmmc utlb run`: what is run, and what becomes of the outcome |
//! | `generate.rs` | `vmmc utlb generate`: traces of known shape |
//! | `import.rs`   | `vmmc utlb import`: traces of what other programs have recorded |
//! | `shipped.rs`  | the traces that are always there |
//! | `load.rs`     | a trace in memory |
//! | `simulate.rs` | one trace, run in many ways, with [`frames`] for memory and [`oracle`] for Belady's optimum |
//! | `outcome.rs`  | what came of it, and how the rules compare |
//! | `report.rs`   | as tables and as JSON |
//! | `page.rs`     | as a page with plots |
//!
//! The traces themselves, their format and their generators are the crate `vmmc-traces`.

mod frames;
mod generate;
mod import;
mod load;
mod oracle;
mod outcome;
mod page;
mod report;
mod run;
mod shipped;
mod simulate;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::process::ExitCode;

use clap::Subcommand;

use crate::output::say;
use crate::table::{Column, Table};

/// The arguments of `vmmc utlb`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run traces through the UTLB: each policy, rule and budget, with look-ups, misses, pins, unpins and cost.
    ///
    /// Nothing is pinned in truth, and no privilege is needed: the library's own UTLB decides, and what it decides is counted. The
    /// row `opt` is Belady's optimum, the page that goes being the one that will not be sent for the longest time: no policy can miss
    /// less often than that when single pages are sent. A trace is a file in the format of `vmmc utlb generate`, or one that valgrind's lackey or perf has written; `-` is
    /// standard input.
    ///
    /// The last column compares the ski-rental rule with the better of the rules pin and copy, by cost.
    Run(run::Args),
    /// Write a trace of a known shape to standard output: sequential, strided, zipf, working-set, transpose.
    Generate(generate::Args),
    /// Write a trace of what valgrind's lackey or perf has recorded to standard output.
    ///
    /// Every memory access of a program, recorded by `valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM`; samples of
    /// them, by `perf mem record PROGRAM` and `perf script -F addr > FILE`; those that faulted, by `perf record -e page-faults -c 1
    /// -d PROGRAM` and the same script.
    Import(import::Args),
    /// List the traces that `vmmc utlb run --trace` knows by name.
    Traces,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    match args.command {
        Command::Run(args) => run::run(args)?,
        Command::Generate(args) => generate::run(args)?,
        Command::Import(args) => import::run(args)?,
        Command::Traces => list()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<(), load::LoadError> {
    let columns = [Column::Text("name"), Column::Figure("sends"), Column::Figure("pages"), Column::Text("what")];
    let mut table = Table::new(&columns, true);
    for shipped in &shipped::ALL {
        let trace = shipped.trace()?;
        let what = shipped.what.to_owned();
        table.row(vec![trace.name.clone(), trace.sends.len().to_string(), trace.touched.to_string(), what]);
    }
    say(table.to_string().trim_end());
    Ok(())
}
