//! The parent's side of a measurement: a lab of two hosts, a worker process on each, and the order in
//! which they are told what to do. Whatever happens to a worker, the parent gets an answer or an error.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vmmc_lab::{ChildGuard, Host, LabConfig, TempLab};

use crate::error::BenchError;
use crate::protocol::{Answer, Job, Order, decode, encode};
use crate::spec::{Endpoint, Outcome, Side, Spec};

/// What a worker may take beyond the time it measures: opening sockets, a cold cache, a busy machine.
const GRACE: Duration = Duration::from_secs(30);

/// How often a wait looks at [`INTERRUPTED`]. Seldom, because that takes time from a core that measures.
const LOOK: Duration = Duration::from_millis(250);

/// Set by Ctrl-C and its like. The run then ends as by an error: workers first, then the lab.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Two hosts and the workers on them.
pub(crate) struct Harness {
    // Before the lab: a namespace is removed only when nobody is in it.
    workers: [Worker; 2],
    _lab: TempLab,
    jobs: u64,
}

impl Harness {
    /// Makes a lab whose interfaces have this MTU, and starts a worker on each of its hosts.
    pub(crate) fn up(mtu: u32) -> Result<Self, BenchError> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let &[first, second, ..] = &cores[..] else {
            return Err(BenchError::Cores { found: cores.len() });
        };
        let lab = TempLab::new(&LabConfig { mtu, ..LabConfig::default() })?;
        let workers = [Worker::start(lab.host(1), first.id)?, Worker::start(lab.host(2), second.id)?];
        Ok(Self { workers, _lab: lab, jobs: 0 })
    }

    /// Has `peer` measured: host 2 is the server, host 1 the client.
    pub(crate) fn measure(&mut self, peer: &str, spec: &Spec) -> Result<Outcome, BenchError> {
        self.jobs += 1;
        let ends = self.workers.each_ref().map(|w| w.endpoint.clone());
        let job = |side, local: &Endpoint, remote: &Endpoint, hello| {
            Order::Run(Box::new(Job {
                job: self.jobs,
                peer: peer.into(),
                side,
                spec: spec.clone(),
                local: local.clone(),
                remote: remote.clone(),
                hello,
            }))
        };
        let failed = |side: Side, message| BenchError::Failed {
            peer: peer.into(),
            bench: spec.bench.name(),
            size: spec.size,
            mtu: spec.mtu,
            side: side.to_string(),
            message,
        };
        // A round trip that takes a millisecond has something wrong with it; thirty times the stream's
        // time leaves room for what is sent last to arrive.
        let patience = GRACE + spec.duration() + Duration::from_millis(spec.samples);
        let number = self.jobs;
        let [client, server] = &mut self.workers;

        server.tell(&job(Side::Server, &ends[1], &ends[0], String::new()))?;
        let hello = match server.answer(number, GRACE)? {
            Answer::Ready { hello, .. } => hello,
            Answer::Done { .. } => {
                return Err(failed(Side::Server, "it was done before the client started".into()));
            }
            Answer::Failed { message, .. } => return Err(failed(Side::Server, message)),
        };
        client.tell(&job(Side::Client, &ends[0], &ends[1], hello))?;
        let from_client = match client.answer(number, patience) {
            Ok(Answer::Done { outcome, .. }) => outcome,
            Ok(Answer::Ready { .. }) => {
                return Err(failed(Side::Client, "it said it was ready, as only a server does".into()));
            }
            Ok(Answer::Failed { message, .. }) => {
                // If the server failed first, it knows better why.
                return Err(match server.answer_if_any(number) {
                    Some(Answer::Failed { message, .. }) => failed(Side::Server, message),
                    _ => failed(Side::Client, message),
                });
            }
            Err(error) => return Err(error),
        };
        server.tell(&Order::Stop { job: number })?;
        match server.answer(number, GRACE)? {
            Answer::Done { outcome: Outcome::Nothing, .. } => Ok(from_client),
            Answer::Done { outcome, .. } => Ok(outcome),
            Answer::Failed { message, .. } => Err(failed(Side::Server, message)),
            Answer::Ready { .. } => Err(failed(Side::Server, "it said twice that it was ready".into())),
        }
    }

    /// What the workers have written to their standard error since the last call: warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let lines = |w: &Worker| {
            let text = std::mem::take(&mut *lock(&w.stderr));
            text.lines().map(|line| format!("host {}: {line}", w.host)).collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(lines).collect()
    }
}

/// A worker process, killed when this is dropped.
struct Worker {
    host: usize,
    endpoint: Endpoint,
    child: ChildGuard,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

impl Worker {
    fn start(host: &Host, core: usize) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::Spawn)?;
        let endpoint = Endpoint { interface: host.interface.clone(), address: host.address, mac: host.mac };
        let mut command = host.command(program);
        command.arg("worker").args(["--core", &core.to_string()]).args(["--parent", &std::process::id().to_string()]);
        Self::spawn(command, host.number, endpoint)
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

    fn tell(&mut self, order: &Order) -> Result<(), BenchError> {
        match self.stdin.write_all(encode(order).as_bytes()) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.died()),
        }
    }

    /// The next answer to `job`. Ends the worker if none comes in time.
    fn answer(&mut self, job: u64, patience: Duration) -> Result<Answer, BenchError> {
        let start = Instant::now();
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(BenchError::Interrupted);
            }
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => {
                    if let Some(answer) = self.parse(&line, job)? {
                        return Ok(answer);
                    }
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() < patience => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.end();
                    let stderr = self.last_words();
                    return Err(BenchError::Hung { host: self.host, waited: patience, stderr });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
            }
        }
    }

    /// An answer to `job` that has come or comes at once.
    fn answer_if_any(&mut self, job: u64) -> Option<Answer> {
        let line = self.lines.recv_timeout(LOOK).ok()?;
        self.parse(&line, job).ok()?
    }

    /// The answer in `line`, unless it is about an earlier job.
    fn parse(&self, line: &str, job: u64) -> Result<Option<Answer>, BenchError> {
        let answer: Answer = decode(line).map_err(|_| BenchError::Garbled { host: self.host, line: line.into() })?;
        let (Answer::Ready { job: about, .. } | Answer::Done { job: about, .. } | Answer::Failed { job: about, .. }) =
            &answer;
        Ok((*about == job).then_some(answer))
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
        let error = worker.tell(&Order::Stop { job: 1 }).unwrap_err();
        assert!(matches!(error, BenchError::Died { .. }), "{error}");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let error = worker("echo hello; exec sleep 100").answer(1, LATER).unwrap_err().to_string();
        assert!(error.contains("hello"), "{error}");
    }

    #[test]
    fn answers_to_earlier_jobs_are_passed_over() {
        let said: String = [1, 2].map(|job| encode(&Answer::Failed { job, message: format!("no {job}") })).concat();
        let mut worker = worker(&format!("printf '%s' '{said}'; exec sleep 100"));
        assert_eq!(worker.answer(2, LATER).unwrap(), Answer::Failed { job: 2, message: "no 2".into() });
    }
}
