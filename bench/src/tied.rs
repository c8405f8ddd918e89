//! Programs that end when the process that started them does, however it ends.
//!
//! A process can only ask the kernel for that by itself. So this program is started in their place, asks, and becomes the
//! other.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::worker::settle;

/// How a process starts another that is tied to it.
#[derive(Debug, clap::Args)]
pub(crate) struct TiedArgs {
    /// Process that started this one.
    #[arg(long)]
    parent: u32,
    /// What to become.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// A command that runs `program`, tied to the thread that starts it.
pub(crate) fn command(program: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["tied", "--parent", &std::process::id().to_string(), "--", program]);
    Ok(command)
}

/// Becomes the command.
pub(crate) fn run(args: &TiedArgs) -> ExitCode {
    if let Err(message) = settle(args.parent) {
        eprintln!("{message}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&args.command[0]).args(&args.command[1..]).exec();
    eprintln!("could not run {}: {error}", args.command[0].to_string_lossy());
    ExitCode::FAILURE
}
