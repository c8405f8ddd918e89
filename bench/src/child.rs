//! A worker process as its parent sees it: started on a host of the lab, told what to do, and asked for answers.
//! Whatever happens to it, the parent gets an answer or an error.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vmmc_lab::{ChildGuard, Host};

use crate::error::BenchError;
use crate::protocol::{Answer, Order, decode, encode};
use crate::spec::Endpoint;

/// How often a wait looks at [`INTERRUPTED`]. Seldom, because that takes time from a core that measures.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// Set by Ctrl-C and its like. The run then ends as by an error: workers first, then the lab.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A worker process, killed when this is dropped.
pub(crate) struct Worker {
    /// Number of its host.
    pub(crate) host: usize,
    /// Its host's interface.
    pub(crate) endpoint: Endpoint,
    child: ChildGuard,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts a worker on `host`, or in this process's own network if that is none, to stay on `core`.
    pub(crate) fn start(host: Option<&Host>, core: Option<usize>) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::Spawn)?;
        let (mut command, number, endpoint) = match host {
            Some(host) => {
                let endpoint = Endpoint { interface: host.interface.clone(), address: host.address, mac: host.mac };
                (host.command(program), host.number, endpoint)
            }
            None => {
                let nowhere = Endpoint { interface: String::new(), address: Ipv4Addr::LOCALHOST, mac: [0; 6] };
                (Command::new(program), 1, nowhere)
            }
        };
        command.arg("worker");
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        command.args(["--parent", &std::process::id().to_string()]);
        Self::spawn(command, number, endpoint)
    }

    fn spawn(mut command: Command, host: usize, endpoint: Endpoint) -> Result<Self, BenchError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C is for the parent, which then ends its workers.
            .process_group(0);
        let mut child = ChildGuard::spawn(&mut command).map_err(BenchError::Spawn)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&said);
        thread::spawn(move || keep_text(stderr, &keep));
        Ok(Self { host, endpoint, child, stdin, lines, stderr: said })
    }

    /// Gives it an order.
    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), BenchError> {
        match self.stdin.write_all(encode(order).as_bytes()) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.died()),
        }
    }

    /// The next answer about measurement `number`. Ends the worker if none comes in time.
    pub(crate) fn answer(&mut self, number: u64, patience: Duration) -> Result<Answer, BenchError> {
        let start = Instant::now();
        loop {
            if let Some(answer) = self.poll(number, LOOK)? {
                return Ok(answer);
            }
            if start.elapsed() >= patience {
                return Err(self.hung(patience));
            }
        }
    }

    /// The next answer about measurement `number`, if one comes within `wait`.
    pub(crate) fn poll(&mut self, number: u64, wait: Duration) -> Result<Option<Answer>, BenchError> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
        }
        match self.lines.recv_timeout(wait) {
            Ok(line) => self.parse(&line, number),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    /// Ends the worker, which has not answered for as long as `waited`.
    pub(crate) fn hung(&mut self, waited: Duration) -> BenchError {
        self.end();
        BenchError::Hung { host: self.host, waited, stderr: self.last_words() }
    }

    /// What it has written to its standard error since the last call: warnings, a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let text = std::mem::take(&mut *lock(&self.stderr));
        text.lines().map(|line| format!("host {}: {line}", self.host)).collect()
    }

    /// The answer in `line`, unless it is about an earlier measurement. A failure always counts: between two measurements, too, the job is over then.
    fn parse(&self, line: &str, number: u64) -> Result<Option<Answer>, BenchError> {
        let answer: Answer = decode(line).map_err(|_| BenchError::Garbled { host: self.host, line: line.into() })?;
        let counts = answer.number() == number || matches!(answer, Answer::Failed { .. });
        Ok(counts.then_some(answer))
    }

    fn died(&mut self) -> BenchError {
        // The parent asks only after an end of file, so the worker is dead or dying.
        let status = self.end();
        BenchError::Died { host: self.host, status, stderr: self.last_words() }
    }

    /// What it said last, as the end of an error message.
    fn last_words(&self) -> String {
        // The thread that reads them may not be done yet.
        thread::sleep(Duration::from_millis(50));
        let text = lock(&self.stderr);
        let text = text.trim();
        if text.is_empty() { String::new() } else { format!("; it said: {text}") }
    }

    /// Ends the process and says how it ended.
    fn end(&mut self) -> String {
        // Give a process that is about to end by itself the time to do so: its status tells more.
        for _ in 0..20 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.to_string();
            }
            thread::sleep(Duration::from_millis(5));
        }
        // An error means that it has ended already.
        let _ = self.child.kill();
        self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string())
    }
}

/// Keeps what a worker writes to its standard error, up to a length nobody reads beyond.
fn keep_text(mut stderr: impl Read, text: &Mutex<String>) {
    const ENOUGH: usize = 16 << 10;
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut buffer) {
        let mut text = lock(text);
        if text.len() < ENOUGH {
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
}

fn lock(text: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    text.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(script: &str) -> Worker {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let endpoint = Endpoint { interface: "vh1".into(), address: [10, 77, 0, 1].into(), mac: [2; 6] };
        Worker::spawn(command, 1, endpoint).unwrap()
    }

    const SOON: Duration = Duration::from_millis(100);
    const LATER: Duration = Duration::from_secs(20);

    #[test]
    fn a_worker_that_does_not_answer_is_ended() {
        let mut worker = worker("exec sleep 100");
        let error = worker.answer(1, SOON).unwrap_err();
        assert!(matches!(error, BenchError::Hung { host: 1, .. }), "{error}");
        assert!(worker.child.try_wait().unwrap().is_some());
    }

    #[test]
    fn the_error_has_the_last_words_of_a_worker_that_died() {
        let error = worker("echo no memory >&2; exit 3").answer(1, LATER).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no memory"), "{error}");
        let error = worker("kill -9 $$").answer(1, LATER).unwrap_err().to_string();
        assert!(error.contains("signal: 9"), "{error}");
    }

    #[test]
    fn telling_a_dead_worker_is_an_error() {
        let mut worker = worker("exit 0");
        worker.child.wait().unwrap();
        let error = worker.tell(&Order::Stop { number: 1 }).unwrap_err();
        assert!(matches!(error, BenchError::Died { .. }), "{error}");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let error = worker("echo hello; exec sleep 100").answer(1, LATER).unwrap_err().to_string();
        assert!(error.contains("hello"), "{error}");
    }

    #[test]
    fn answers_about_earlier_measurements_are_passed_over() {
        let said = [1, 2].map(|number| encode(&Answer::Closed { number })).concat();
        let mut worker = worker(&format!("printf '%s' '{said}'; exec sleep 100"));
        assert_eq!(worker.answer(2, LATER).unwrap(), Answer::Closed { number: 2 });
    }

    #[test]
    fn a_failure_between_two_measurements_is_heard() {
        let failed = Answer::Failed { number: 1, message: "the other side is gone".into() };
        let mut worker = worker(&format!("printf '%s' '{}'; exec sleep 100", encode(&failed)));
        assert_eq!(worker.answer(2, LATER).unwrap(), failed);
    }
}
