//! Processes on the hosts of a lab, that do with sockets as they are told.
//!
//! A [`Process`] is this test program, started on a host to run the one "test" that reads commands from its standard input and prints what
//! came of each: [`told`](crate::told). Commands run at the same time, each on a thread, so that one may wait while others go on.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use vmmc_lab::{ChildGuard, Host, LabConfig, TempLab};

use crate::common::PATIENCE;

/// Whose sockets a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Tcp,
    Vmmc,
}

/// Tells a process which sockets to use.
pub const FAMILY: &str = "VMMC_SOCKETS_TEST_FAMILY";
/// Tells a process its address.
pub const ADDRESS: &str = "VMMC_SOCKETS_TEST_ADDRESS";
/// Tells a process its interface.
pub const INTERFACE: &str = "VMMC_SOCKETS_TEST_INTERFACE";

/// How long peers may be silent, in these tests.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// Begins the line of an answer.
pub const ANSWER: &str = "@ ";

pub fn lab(hosts: usize) -> TempLab {
    TempLab::new(&LabConfig { hosts, ..LabConfig::default() })
        .unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"))
}

/// A process on a host. It is killed when this is dropped.
pub struct Process {
    child: ChildGuard,
    commands: Mutex<ChildStdin>,
    waiting: Arc<Mutex<HashMap<u64, Sender<String>>>>,
    next: AtomicU64,
}

/// A command that has been given.
pub struct Given {
    command: String,
    answer: Receiver<String>,
    seen: Option<String>,
}

impl Process {
    pub fn start(family: Family, host: &Host) -> Process {
        let this = std::env::current_exe().expect("the test program's path");
        let mut command = host.command(this);
        command.args(["--exact", "told::process", "--ignored", "--nocapture", "--test-threads=1", "--quiet"]);
        command.env(FAMILY, format!("{family:?}")).env(ADDRESS, host.address.to_string());
        command.env(INTERFACE, &host.interface).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command).expect("starting a process on a host");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let waiting: Arc<Mutex<HashMap<u64, Sender<String>>>> = Arc::default();
        let answers = waiting.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test harness prints, too.
                let Some((_, answer)) = line.split_once(ANSWER) else { continue };
                let (id, answer) = answer.split_once(' ').unwrap_or((answer, ""));
                let sender = id.parse().ok().and_then(|id| answers.lock().unwrap().remove(&id));
                if let Some(sender) = sender {
                    // Nobody waits for the answers of who is to be killed.
                    let _ = sender.send(answer.to_owned());
                }
            }
            // Whoever waits for more learns that none comes.
            answers.lock().unwrap().clear();
        });
        let process = Process { child, commands: Mutex::new(stdin), waiting, next: AtomicU64::new(0) };
        process.ok("ready");
        process
    }

    /// Gives a command, and doesn't wait for what comes of it.
    pub fn give(&self, command: impl Into<String>) -> Given {
        let (command, id) = (command.into(), self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(self.commands.lock().unwrap(), "{id} {command}").expect("telling a process");
        Given { command, answer, seen: None }
    }

    /// Gives a command and waits for its answer: `ok` and a value, or `err` and its kind.
    #[track_caller]
    pub fn ask(&self, command: impl Into<String>) -> String {
        self.give(command).answer()
    }

    /// A command that must work: returns its value.
    #[track_caller]
    pub fn ok(&self, command: impl Into<String>) -> String {
        self.give(command).ok()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signalling a process");
    }

    /// SIGKILL. It is gone when this returns.
    pub fn kill(mut self) {
        self.child.kill().expect("killing a process");
        self.child.wait().expect("waiting for a process");
    }

    /// Of its memory, what is resident, KiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let text = std::fs::read_to_string(path).expect("the process's status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident set");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        std::fs::read_dir(path).expect("the process's descriptors").count()
    }

    /// How long it has run, all threads together, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.pid().as_raw_nonzero());
        let text = std::fs::read_to_string(path).expect("the process's times");
        let (_, fields) = text.rsplit_once(')').expect("a name in parentheses");
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Given {
    /// Waits for the answer.
    #[track_caller]
    pub fn answer(self) -> String {
        self.seen.unwrap_or_else(|| match self.answer.recv_timeout(PATIENCE / 2) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer to `{}`: {error}", self.command),
        })
    }

    /// Waits for the value of a command that must work.
    #[track_caller]
    pub fn ok(self) -> String {
        let command = self.command.clone();
        let answer = self.answer();
        match answer.strip_prefix("ok") {
            Some(value) => value.trim().to_owned(),
            None => panic!("`{command}` has failed: {answer}"),
        }
    }

    /// Whether it hasn't been answered.
    pub fn is_waiting(&mut self) -> bool {
        self.seen = self.seen.take().or_else(|| self.answer.try_recv().ok());
        self.seen.is_none()
    }
}
