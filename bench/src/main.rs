//! `vmmc-bench`: measures VMMC against AF_XDP alone and kernel TCP.
//!
//! ```text
//!   parent     cli ─► plan ─► rounds ─► report (table, JSON), hgrm
//!                              │
//!                           harness: lab, timeouts
//!                           │     ▲
//!       JSON lines: Order   ▼     │   Answer
//!   worker on host 1 (client)   worker on host 2 (server)     one core each
//!              peers: floor, tcp, ...
//! ```
//!
//! A peer is anything that can play both sides of a ping-pong and of a stream; see [`peers`]. The workers
//! are this program, started again on each host.

mod cli;
mod error;
mod harness;
mod hgrm;
mod peers;
mod protocol;
mod report;
mod rounds;
mod spec;
mod worker;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::error::BenchError;
use crate::harness::INTERRUPTED;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("VMMC_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    if let Command::Worker(args) = &cli.command {
        return worker::run(args);
    }
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
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

fn run(command: &Command) -> Result<(), BenchError> {
    let Some((plan, common)) = command.plan()? else {
        return Ok(());
    };
    // Before the measurements: a path that can't be written should not cost minutes.
    let json = common.json.as_deref().map(|path| open(path).map(|file| (path, file))).transpose()?;
    if let Some(directory) = &common.hgrm {
        std::fs::create_dir_all(directory).map_err(|source| BenchError::Write { path: directory.clone(), source })?;
    }
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;

    let (report, histograms) = plan.run()?;
    if let Some((path, mut file)) = json {
        write(&mut file, &report.json()).map_err(|source| BenchError::Write { path: path.into(), source })?;
    }
    if let Some(directory) = &common.hgrm {
        histograms.write(directory)?;
    }
    let table = format!("{}\n{} rounds; medians over the rounds, ratios within a round\n", report.table(), plan.rounds);
    // A reader that has seen enough, `head` for example, is no error.
    let _ = io::stdout().lock().write_all(table.as_bytes());
    Ok(())
}

/// Opens the file for results. What it holds stays until there is something to replace it.
fn open(path: &Path) -> Result<File, BenchError> {
    File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|source| BenchError::Write { path: path.into(), source })
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    // A pipe or a terminal can't be truncated and needn't be.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}
