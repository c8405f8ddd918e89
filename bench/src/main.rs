//! `vmmc-bench`: measures VMMC against AF_XDP alone and kernel TCP.
//!
//! ```text
//!   parent     cli ─► plan ─► rounds ─► report (table, JSON), hgrm        soak ─► its own account
//!                              │                                            │
//!                           harness: lab, faults on its wires, child: timeouts
//!                           │     ▲
//!       JSON lines: Order   ▼     │   Answer
//!   workers on hosts 1, 2 ... (clients)   worker on the last host (server)
//!              peers: floor, vmmc, tcp, ...; links; soak
//! ```
//!
//! A peer is anything that can play both sides of a ping-pong and of a stream, and of what else there is to measure if it
//! can; see [`peers`]. The workers are this program, started again on each host.

mod child;
mod cli;
mod compare;
mod error;
mod figures;
mod harness;
mod hgrm;
mod links;
mod matrix;
mod peers;
mod protocol;
mod report;
mod rounds;
mod soak;
mod spec;
mod tied;
mod versus;
mod worker;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::child::INTERRUPTED;
use crate::cli::{Cli, Command, Soak};
use crate::error::BenchError;
use crate::report::Report;
use crate::rounds::Results;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("VMMC_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    match &cli.command {
        Command::Worker(args) => return worker::run(args),
        Command::Tied(args) => return tied::run(args),
        _ => {}
    }
    match run(&cli.command) {
        Ok(code) => code,
        // Whatever it was that the signal interrupted.
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("vmmc-bench: {}", BenchError::Interrupted);
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("vmmc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, BenchError> {
    match command {
        Command::Soak(args) => return run_soak(args),
        Command::Compare(args) => {
            let (table, within) = compare::run(args)?;
            show(&table);
            return Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        _ => {}
    }
    let Some((plan, common)) = command.plan()? else {
        return Ok(ExitCode::SUCCESS);
    };
    // Before the measurements: a path that can't be written should not cost minutes.
    let json = common.json.as_deref().map(Json::open).transpose()?;
    if let Some(directory) = &common.hgrm {
        std::fs::create_dir_all(directory).map_err(|source| BenchError::Write { path: directory.clone(), source })?;
    }
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;

    for line in plan.left_out() {
        eprintln!("{line}");
    }
    let Results { report, histograms, rounds } = plan.run()?;
    if let Some(json) = json {
        json.write(&report)?;
    }
    if let Some(directory) = &common.hgrm {
        histograms.write(directory)?;
    }
    let rounds = match rounds {
        (fewest, most) if fewest == most => most.to_string(),
        (fewest, most) => format!("{fewest} to {most}"),
    };
    let table = if matches!(command, Command::Versus(_)) { matrix::tables(&report) } else { report.table() };
    show(&format!("{table}\n{rounds} rounds; medians over the rounds, ratios within a round\n"));
    Ok(ExitCode::SUCCESS)
}

fn run_soak(args: &Soak) -> Result<ExitCode, BenchError> {
    let (peer, spec) = args.plan()?;
    let json = args.json.as_deref().map(Json::open).transpose()?;
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    let soak = soak::run(peer, &spec)?;
    if let Some(json) = json {
        let mut report = Report::default();
        report.add_figures(peer.name(), &spec, soak.figures());
        json.write(&report)?;
    }
    show(&soak.text(&spec));
    Ok(ExitCode::SUCCESS)
}

/// A reader that has seen enough, `head` for example, is no error.
fn show(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// The file for results.
struct Json {
    path: PathBuf,
    file: File,
}

impl Json {
    /// Opens it. What it holds stays until there is something to replace it.
    fn open(path: &Path) -> Result<Json, BenchError> {
        let file = File::options().create(true).write(true).truncate(false).open(path);
        let file = file.map_err(|source| BenchError::Write { path: path.into(), source })?;
        Ok(Json { path: path.into(), file })
    }

    fn write(mut self, report: &Report) -> Result<(), BenchError> {
        self.replace(&report.json()).map_err(|source| BenchError::Write { path: self.path, source })
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // A pipe or a terminal can't be truncated and needn't be.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}
