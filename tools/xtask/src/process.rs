//! Running programs: shown before they start, and ended when xtask is.
//!
//! SIGINT, SIGTERM and SIGHUP only set a flag here. Everything that waits looks at the flag and
//! returns [`Failure::Interrupted`], so that each caller cleans up on the same path as after any
//! other failure.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fmt};

/// How long a program has to end by itself when xtask is interrupted.
const END_TIME: Duration = Duration::from_secs(10);
/// How often a wait looks at the flag.
const TICK: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A signal asked xtask to end.
    Interrupted,
    /// A program could not be started.
    Start(String, io::Error),
    /// A program said that it failed.
    Status(String, ExitStatus),
    /// Anything else, told in full.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => write!(f, "interrupted"),
            Self::Start(command, error) => write!(f, "could not start `{command}`: {error}"),
            Self::Status(command, status) => write!(f, "`{command}` failed ({status})"),
            Self::Other(text) => write!(f, "{text}"),
        }
    }
}

/// Makes the signals that end a program set the flag instead.
pub(crate) fn catch_signals() {
    // It fails only if there is a handler already.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).expect("the first handler");
}

/// Fails if a signal has asked xtask to end.
pub(crate) fn check_interrupted() -> Result<(), Failure> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

/// Whether this is root's process.
pub(crate) fn is_root() -> bool {
    // A process's directory belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Where a program is, also when `PATH` lacks the directories that only root's has.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A command that runs `program` as root, by sudo if need be.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command, Failure> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = find("sudo") else {
        let text = "network namespaces take root, and there is no sudo here: run `cargo xtask` as root";
        return Err(Failure::Other(text.into()));
    };
    let mut command = Command::new(sudo);
    command.arg(program);
    Ok(command)
}

/// The same cargo that runs xtask, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The top of the workspace.
///
/// Cargo says where it is. Where it was when this was built may be another checkout, that shares its target directory.
pub(crate) fn workspace() -> &'static Path {
    static WORKSPACE: OnceLock<PathBuf> = OnceLock::new();
    WORKSPACE.get_or_init(|| {
        let this = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let this = PathBuf::from(this);
        this.ancestors().nth(2).unwrap_or(&this).to_owned()
    })
}

/// The command line as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words
        .enumerate()
        .map(|(index, word)| match Path::new(word).file_name() {
            // Where a program is interests nobody.
            Some(name) if index == 0 => name.to_string_lossy(),
            _ => word.to_string_lossy(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Shows the command, runs it to its end, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let line = line(command);
    println!("$ {line}");
    let mut child = start(command)?;
    match wait(&mut child)? {
        status if status.success() => Ok(()),
        status => Err(Failure::Status(line, status)),
    }
}

/// Starts the command.
pub(crate) fn start(command: &mut Command) -> Result<Child, Failure> {
    check_interrupted()?;
    command.spawn().map_err(|error| Failure::Start(line(command), error))
}

/// Waits until the child has ended. When a signal asks xtask to end, ends the child and fails.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus, Failure> {
    loop {
        if let Err(interrupted) = check_interrupted() {
            end(child);
            return Err(interrupted);
        }
        if let Some(status) = try_wait(child)? {
            // Its end may be the signal's doing, which reaches us a moment later.
            if !status.success() {
                thread::sleep(TICK);
                check_interrupted()?;
            }
            return Ok(status);
        }
        thread::sleep(TICK);
    }
}

/// Asks the child to end by SIGTERM, insists by SIGKILL, and waits for it.
pub(crate) fn end(child: &mut Child) {
    // The standard library can only send SIGKILL; sh is everywhere. The child may have ended.
    let kill = format!("kill -TERM {} 2>/dev/null", child.id());
    let _ = Command::new("sh").args(["-c", &kill]).status();
    let deadline = Instant::now() + END_TIME;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(TICK),
            _ => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn try_wait(child: &mut Child) -> Result<Option<ExitStatus>, Failure> {
    child.try_wait().map_err(|error| Failure::Other(format!("could not wait for a process: {error}")))
}
