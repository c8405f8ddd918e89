//! `vmmc-bench`: measures VMMC against AF_XDP alone, kernel TCP, and UCX.
//!
//! ```text
//!   parent     cli ─► plan ─► rounds ─► report (tables, JSON), html, hgrm       soak ─► its own account
//!                              │                                            │
//!                     turns: all peers, each  ─►  run: one peer's job  ◄────┘
//!                                                  │
//!                           harness: a lab for each peer, faults on its wires; child: timeouts
//!                           │     ▲
//!       JSON lines: Order   ▼     │   Answer
//!   workers on hosts 1, 2 ... (clients)   worker on the last host (server)
//!           peers: floor, vmmc, tcp, ucx ...; links; soak
//! ```
//!
//! A peer is anything that can play both sides of a ping-pong and of a stream, and of what else there is to measure if it
//! can; see [`peers`]. The workers are this program, started again on each host.

mod amount;
mod child;
mod cli;
mod compare;
mod error;
mod figures;
mod harness;
mod hgrm;
mod html;
mod links;
mod matrix;
mod peers;
mod protocol;
mod report;
mod rounds;
mod run;
mod shell;
mod soak;
mod spec;
mod thresholds;
mod tied;
mod turns;
mod utlb;
mod versus;
mod worker;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use clap::Parser;
use tracing::level_filters::LevelFilter;

use crate::child::INTERRUPTED;
use crate::cli::{Cli, Command, Soak};
use crate::error::BenchError;
use crate::hgrm::Histograms;
use crate::report::Report;
use crate::rounds::Results;
use crate::thresholds::Found;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = vmmc_cli::start_log(LevelFilter::WARN) {
        eprintln!("vmmc-bench: {error}");
        return ExitCode::from(2);
    }
    match &cli.command {
        Command::Worker(args) => return worker::run(args),
        Command::Tied(args) => return tied::run(args),
        Command::Completions(args) => return shell::put_out(Ok(args.script::<Cli>())),
        Command::Man(args) => return shell::put_out(args.write::<Cli>()),
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
            let (table, complaint) = compare::run(args)?;
            show(&table);
            let Some(complaint) = complaint else { return Ok(ExitCode::SUCCESS) };
            eprintln!("vmmc-bench: {complaint}");
            return Ok(ExitCode::FAILURE);
        }
        _ => {}
    }
    let Some((plan, common)) = command.plan()? else {
        return Ok(ExitCode::SUCCESS);
    };
    if let (Some(json), true) = (&common.json, common.json == common.html) {
        let source = io::Error::other("--json and --html each need a file of their own");
        return Err(BenchError::Write { path: json.clone(), source });
    }
    // Before the measurements: a path that can't be written should not cost minutes.
    let [json, html] = [&common.json, &common.html].map(|file| file.as_deref().map(ResultFile::open).transpose());
    let (json, html) = (json?, html?);
    if let Some(directory) = &common.hgrm {
        std::fs::create_dir_all(directory).map_err(|source| BenchError::Write { path: directory.clone(), source })?;
    }
    let write = match command {
        Command::Thresholds(args) => args.write.as_deref().map(thresholds::Output::open).transpose()?,
        _ => None,
    };
    catch_signals()?;

    for line in plan.left_out() {
        eprintln!("{line}");
    }
    let (started, begin) = (SystemTime::now(), Instant::now());
    let Results { mut report, histograms, rounds } = plan.run()?;
    let took = begin.elapsed();
    let rounds = match rounds {
        (1, 1) => "1 round".to_owned(),
        (fewest, most) if fewest == most => format!("{most} rounds"),
        (fewest, most) => format!("{fewest} to {most} rounds"),
    };
    let rounds = if plan.turns > 1 { format!("{rounds} of {} turns", plan.turns) } else { rounds };
    if let Some(json) = json {
        json.write(&report.json())?;
    }
    if let Some(html) = html {
        let run = html::Run { started, took, rounds: rounds.clone(), specs: plan.specs.clone() };
        html.write(&html::page(&run, &report.rows(), &histograms)?)?;
    }
    if let Some(directory) = &common.hgrm {
        histograms.write(directory)?;
    }
    let table = match command {
        Command::Versus(_) => matrix::tables(&report),
        Command::Thresholds(_) => {
            let found = Found::of(&mut report)?;
            let about = format!("{}, {rounds} on a veth pair", html::started(started));
            let written = write.map(|output| output.write(&found.file(&about))).transpose()?;
            found.text() + &written.unwrap_or_default()
        }
        _ => report.table(),
    };
    show(&format!("{table}\n{rounds}; medians over all turns, ratios within a turn (mean of their middle half)\n"));
    report.too_short().for_each(|line| eprintln!("{line}"));
    Ok(ExitCode::SUCCESS)
}

fn run_soak(args: &Soak) -> Result<ExitCode, BenchError> {
    let (peer, spec) = args.plan()?;
    let [json, html] = [&args.json, &args.html].map(|file| file.as_deref().map(ResultFile::open).transpose());
    let (json, html) = (json?, html?);
    catch_signals()?;
    let (started, begin) = (SystemTime::now(), Instant::now());
    let soak = soak::run(peer, &spec)?;
    let mut report = Report::default();
    report.add_figures(peer.name(), &spec, 0, soak.figures());
    if let Some(json) = json {
        json.write(&report.json())?;
    }
    if let Some(html) = html {
        let run = html::Run { started, took: begin.elapsed(), rounds: "1 round".into(), specs: vec![spec.clone()] };
        html.write(&html::page(&run, &report.rows(), &Histograms::default())?)?;
    }
    show(&soak.text(&spec));
    Ok(ExitCode::SUCCESS)
}

/// From now on Ctrl-C and its like end the run as an error would: workers first, then the lab.
fn catch_signals() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::Relaxed);
        vmmc_lab::interrupt();
    })
}

/// A reader that has seen enough, `head` for example, is no error.
fn show(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// A file for results.
struct ResultFile {
    path: PathBuf,
    file: File,
}

impl ResultFile {
    /// Opens it. What it holds stays until there is something to replace it.
    fn open(path: &Path) -> Result<ResultFile, BenchError> {
        let file = File::options().create(true).write(true).truncate(false).open(path);
        let file = file.map_err(|source| BenchError::Write { path: path.into(), source })?;
        Ok(ResultFile { path: path.into(), file })
    }

    fn write(mut self, text: &str) -> Result<(), BenchError> {
        self.replace(text).map_err(|source| BenchError::Write { path: self.path, source })
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // A pipe or a terminal can't be truncated and needn't be.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}
