//! What can go wrong in the parent process. What goes wrong in a worker arrives here as text.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vmmc_lab::LabError;

/// Why a run of the benchmark ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("interrupted")]
    Interrupted,

    #[error("installing the handler for Ctrl-C: {0}")]
    Handler(#[from] ctrlc::Error),

    #[error("the lab: {0}")]
    Lab(#[from] LabError),

    #[error(
        "measuring takes two cores that this process may use, one for each host, but there {}",
        if *.found == 1 { "is only one".into() } else { format!("are {found}") }
    )]
    Cores { found: usize },

    #[error("there is no peer {name:?} that can be measured so; there are: {known}")]
    UnknownPeer { name: String, known: String },

    #[error("starting a worker process: {0}")]
    Spawn(io::Error),

    #[error("the worker on host {host} ended in the middle of a measurement ({status}){stderr}")]
    Died { host: usize, status: String, stderr: String },

    #[error("the worker on host {host} sent what is no answer: {line}")]
    Garbled { host: usize, line: String },

    #[error("{peer}, {bench}, {size} bytes at MTU {mtu}, {side}: {message}")]
    Failed { peer: String, bench: &'static str, size: usize, mtu: u32, side: String, message: String },

    #[error("interface {interface} of host {host} has gone down in the middle of a measurement; who took it down?")]
    Down { interface: String, host: usize },

    #[error("{peer}: {error}")]
    Of { peer: &'static str, error: Box<BenchError> },

    #[error("{0}")]
    Missing(String),

    #[error("the worker on host {host} has not answered for {} s and was ended{stderr}", .waited.as_secs())]
    Hung { host: usize, waited: Duration, stderr: String },

    #[error("losing packets on purpose: {0}")]
    Damage(#[from] xdp_prog::damage::DamageError),

    #[error(
        "the sender lost its receiver {lost} times, and the receiver was killed {killed} times: these must be equal"
    )]
    Restarts { killed: u64, lost: u64 },

    #[error("a worker ended the soak without an account of it")]
    NoAccount,

    #[error("drawing the plots of the page: {0}")]
    Plot(String),

    #[error("reading {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error("{} isn't what `--json` of vmmc-bench writes: {source}", .path.display())]
    NoRows { path: PathBuf, source: serde_json::Error },

    #[error("these files have no ratio in common: were the same things measured?")]
    NothingInCommon,

    #[error(
        "of sends of {size} bytes at MTU {mtu} too little is known: let nothing else run, or measure for longer (--duration)"
    )]
    TooFew { size: usize, mtu: u32 },

    #[error("{0} is nothing for `thresholds`, which measures both lanes of vmmc, each size by either")]
    Senseless(&'static str),

    #[error("writing {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}
