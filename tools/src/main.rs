//! The `vmmc` command: one module per subcommand, dispatched from here.

mod call;
mod capture;
mod figures;
mod histogram;
mod interrupt;
mod lab;
mod node_args;
mod output;
mod ping;
mod protocol;
mod put;
mod serve;
mod stats;
mod top;
mod units;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Virtual memory-mapped communication over Ethernet.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Say on standard error what is being done (as does VMMC_LOG=debug).
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hosts to try it on, without a second machine: network namespaces joined by veth pairs.
    Lab(lab::Args),
    /// Export buffers, say what arrives in them, answer pings and check files that are put.
    Serve(serve::Args),
    /// Measure round trips to a host that runs `vmmc serve`.
    Ping(ping::Args),
    /// Write a file into a buffer that `vmmc serve` exports on another host.
    Put(put::Args),
    /// Show what the nodes of this machine have counted, and the state they are in.
    Stats(stats::Args),
    /// Watch a node of this machine: rates, round trips, windows and rings, live in the terminal.
    Top(top::Args),
    /// Show what a running node sends and receives: in lines, in a file, or live in Wireshark.
    Capture(capture::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose);
    let result = match cli.command {
        Command::Lab(args) => lab::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Put(args) => put::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Top(args) => top::run(args),
        Command::Capture(args) => capture::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", with_sources(&*error));
        if interrupt::asked() { ExitCode::from(interrupt::STATUS) } else { ExitCode::FAILURE }
    })
}

fn start_log(verbose: bool) {
    let default = if verbose { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env("VMMC_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Complaining that standard error is closed, on standard error, would be a panic.
        .log_internal_errors(false)
        .with_target(false)
        .without_time()
        .init();
}

/// The error and, after colons, what caused it.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let detail = error.to_string();
        // Some errors say themselves what caused them.
        if !text.ends_with(&detail) {
            text += &format!(": {detail}");
        }
        cause = error.source();
    }
    text
}
