//! Hosts to run `vmmc` on, and its processes: all of them end with the test, however that ends.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vmmc_lab::{ChildGuard, LabConfig, TempLab};

/// Nothing takes that long: whoever waits so long waits for ever.
const HANG: Duration = Duration::from_secs(120);

/// A lab and a directory for files.
pub(crate) struct Hosts {
    pub(crate) lab: TempLab,
    pub(crate) files: TempDir,
}

impl Hosts {
    pub(crate) fn new(hosts: usize) -> Hosts {
        Hosts::with(&LabConfig { hosts, ..LabConfig::default() })
    }

    pub(crate) fn with(config: &LabConfig) -> Hosts {
        let lab = TempLab::new(config);
        let lab = lab.unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"));
        Hosts { lab, files: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Starts `vmmc` on a host; `--interface` is added.
    pub(crate) fn start(&self, host: usize, args: &[&str]) -> Program {
        Program::start(self.command(host, args))
    }

    /// The same, logging what the filter says.
    pub(crate) fn start_logging(&self, filter: &str, host: usize, args: &[&str]) -> Program {
        let mut command = self.command(host, args);
        command.env("VMMC_LOG", filter);
        Program::start(command)
    }

    fn command(&self, host: usize, args: &[&str]) -> Command {
        let host = self.lab.host(host);
        let mut command = host.command(env!("CARGO_BIN_EXE_vmmc"));
        command.args(args).args(["--interface", &host.interface]).env_remove("VMMC_LOG");
        command.env(vmmc::monitor::RUN_DIR, self.run_dir());
        command
    }

    /// Where the sockets are by which the nodes of this lab can be watched.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.files.path().join("run")
    }

    /// Runs `vmmc` on no host, as one does who looks at nodes, to its end.
    pub(crate) fn look(&self, args: &[&str]) -> Finished {
        Program::start(self.looking(args)).finish()
    }

    /// `vmmc`, to be run on no host.
    pub(crate) fn looking(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmmc"));
        command.args(args).env_remove("VMMC_LOG").env(vmmc::monitor::RUN_DIR, self.run_dir());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, host: usize, args: &[&str]) -> Finished {
        self.start(host, args).finish()
    }

    /// Runs it to its end, which is a good one. Returns what it printed.
    pub(crate) fn ok(&self, host: usize, args: &[&str]) -> String {
        let finished = self.run(host, args);
        assert_eq!(finished.code(), Some(0), "{args:?}: {finished:?}");
        finished.out
    }

    /// Runs it to its end, which is exit status 1. Returns the error it printed.
    pub(crate) fn fails(&self, host: usize, args: &[&str]) -> String {
        self.run(host, args).failure()
    }

    /// Starts `vmmc serve` and waits until it is ready.
    pub(crate) fn serve(&self, host: usize, args: &[&str]) -> Program {
        let mut server = self.start(host, &[&["serve"], args].concat());
        server.wait_for("answering pings");
        server
    }

    /// Whether a node is open on a host.
    pub(crate) fn lab_has_xdp(&self, host: usize) -> bool {
        let status = vmmc_lab::Lab::status(self.lab.name()).expect("the lab is there");
        status.hosts[host - 1].xdp.is_some()
    }

    /// A file of `length` bytes that look random and are the same each time.
    pub(crate) fn file(&self, name: &str, length: usize) -> PathBuf {
        let path = self.files.path().join(name);
        let mut random = fastrand::Rng::with_seed(length as u64);
        let mut file = std::fs::File::create(&path).expect("a file can be made");
        let mut left = length;
        while left > 0 {
            let mut block = vec![0; left.min(1 << 20)];
            random.fill(&mut block);
            file.write_all(&block).expect("it can be written");
            left -= block.len();
        }
        path
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A program that runs, or has run.
pub(crate) struct Program {
    child: ChildGuard,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    seen: String,
}

/// What a program has left.
#[derive(Debug)]
pub(crate) struct Finished {
    status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Program {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command).expect("vmmc can be started");
        let (out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (say, lines) = channel();
        thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        Program { child, lines, errors: Some(errors), seen: String::new() }
    }

    /// Waits until it prints a line with `part` in it, and returns the line.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        loop {
            match self.next_line() {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => {
                    let errors = self.errors();
                    panic!("{part:?} was never printed, but {:?} and {errors:?}", self.seen);
                }
            }
        }
    }

    /// A line with `part` in it that it has printed.
    pub(crate) fn seen_line(&self, part: &str) -> String {
        self.seen.lines().find(|line| line.contains(part)).expect("it has printed that").to_owned()
    }

    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(HANG) {
            Ok(line) => {
                writeln!(self.seen, "{line}").expect("strings can be written to");
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs, having printed {:?}", self.seen),
        }
    }

    fn errors(&mut self) -> String {
        self.errors.take().map(|thread| thread.join().expect("it only reads")).unwrap_or_default()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_some()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it still runs");
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        while self.next_line().is_some() {}
        let status = self.child.wait().expect("it was started");
        Finished { status, err: self.errors(), out: std::mem::take(&mut self.seen) }
    }

    /// Ends it like `kill -9` does.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.finish();
    }

    /// Ends it like Ctrl-C does. Returns what it printed.
    pub(crate) fn interrupt(self) -> String {
        self.signal(Signal::INT);
        let finished = self.finish();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        finished.out
    }
}

impl Finished {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The error of a program that has failed as it should.
    pub(crate) fn failure(self) -> String {
        assert_eq!(self.code(), Some(1), "{self:?}");
        assert!(self.err.starts_with("error: "), "{self:?}");
        self.err
    }
}
