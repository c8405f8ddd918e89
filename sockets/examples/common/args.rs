//! What the command lines of all demos have in common, and how they end.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use vmmc_sockets::Stack;

/// Why a demo has failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Which sockets to use.
#[derive(clap::Args)]
pub struct Net {
    /// Use kernel TCP instead of VMMC, to see the difference. Say it on both sides.
    #[arg(long, global = true)]
    pub tcp: bool,
    /// The interface for VMMC to open [default: VMMC_INTERFACE, or the one that has the address or leads to it].
    #[arg(long, global = true, value_name = "IF", conflicts_with = "tcp")]
    interface: Option<String>,
    /// Write what was measured to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Net {
    /// Opens the interface that was named, for every socket of this program. Without one, the first socket opens what it needs.
    pub fn open(&self) -> io::Result<()> {
        match &self.interface {
            Some(name) => {
                Stack::builder().interface(name).open()?.make_default();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Says what was tried, with what came of it.
pub fn tried(what: impl Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("can't {what}: {error}"))
}

/// Ends the program.
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
