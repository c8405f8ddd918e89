//! The worker process: one on each host of the lab, pinned to its core where that makes sense. It is this
//! same program, started again by the parent with a hidden subcommand. It waits for a [`Job`], opens the peer that it names, and makes
//! each measurement when it is told to. Between measurements it sleeps.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use vmmc::DEFAULT_PORT;

use crate::peers::{self, Peer, PeerError};
use crate::protocol::{Answer, Job, Order, decode, encode};
use crate::spec::{Bench, Endpoint, Outcome, Side, Spec};

/// How the parent starts a worker.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Core to run on.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Process that started this one.
    #[arg(long)]
    pub(crate) parent: u32,
}

/// How often a peer is looked after that sleeps while its connection is being opened, and then between measurements: as seldom as the other
/// side's patience allows, because others are measured meanwhile.
const TEND_OPENING: Duration = Duration::from_millis(1);
const TEND: Duration = Duration::from_millis(100);

/// What a peer knows of the measurement it is part of, beyond the [`Spec`](crate::spec::Spec).
pub(crate) struct Session {
    /// This host.
    pub(crate) local: Endpoint,
    /// The other host.
    pub(crate) remote: Endpoint,
    /// What the server said when it became ready; empty for the server itself.
    pub(crate) hello: String,
    /// Of the measurement that is being made.
    number: u64,
    signals: Arc<Signals>,
}

/// The last measurements that the parent has told to begin and to end.
#[derive(Default)]
struct Signals {
    started: AtomicU64,
    stopped: AtomicU64,
}

impl Session {
    /// To be called by the server when it is open, and the client may connect. `hello` is handed to the client.
    pub(crate) fn ready(&self, hello: impl ToString) -> io::Result<()> {
        say(&Answer::Ready { number: self.number, hello: hello.to_string() })
    }

    /// Whether the client is done, so that a server that only answers should end. Cheap enough for
    /// every turn of a spinning loop.
    #[inline]
    pub(crate) fn stopped(&self) -> bool {
        self.signals.stopped.load(Ordering::Relaxed) >= self.number
    }

    /// To be called by each client, once, where several are to begin at the same moment: returns at that moment. Sleeps.
    pub(crate) fn start_together(&self) -> io::Result<()> {
        self.ready("")?;
        while self.signals.started.load(Ordering::Relaxed) < self.number {
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Where the other host's node is.
    pub(crate) fn remote_node(&self) -> SocketAddr {
        SocketAddr::new(self.remote.address.into(), DEFAULT_PORT)
    }

    /// Where the server listens for connections, if what it said is a port.
    pub(crate) fn served_at(&self) -> Result<SocketAddr, PeerError> {
        let port = self.hello.parse().map_err(|e| format!("the server's port number {:?}: {e}", self.hello))?;
        Ok(SocketAddr::new(self.remote.address.into(), port))
    }

    /// Sleeps until the client is done.
    pub(crate) fn sleep_until_stopped(&self) {
        while !self.stopped() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells the parent how far this side has got.
    pub(crate) fn progress(&self, bytes: u64) -> io::Result<()> {
        say(&Answer::Progress { number: self.number, bytes })
    }
}

/// Runs jobs until standard input ends.
pub(crate) fn run(args: &WorkerArgs) -> ExitCode {
    if let Err(message) = settle(args.parent) {
        eprintln!("{message}");
        return ExitCode::FAILURE;
    }
    let signals = Arc::new(Signals::default());
    let (orders_in, orders) = mpsc::channel();
    let heard = Arc::clone(&signals);
    // Reads on a thread of its own: a measurement spins and has no time for system calls.
    thread::spawn(move || listen(&orders_in, &heard));
    if let Some(core) = args.core {
        pin(core);
    }
    while let Ok(order) = orders.recv() {
        // Of a job that has failed there may be more orders.
        let Order::Run(job) = order else { continue };
        let mut number = job.number;
        let answer = match perform(*job, &mut number, &orders, &signals) {
            Ok(()) => Answer::Closed { number },
            Err(error) => Answer::Failed { number, message: chain(&*error) },
        };
        if say(&answer).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Ties this process to the life of `parent`.
pub(crate) fn settle(parent: u32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| format!("asking to end with the parent process: {e}"))?;
    // The parent may have died before the line above.
    if getppid().map(|p| p.as_raw_nonzero().get().unsigned_abs()) == Some(parent) {
        return Ok(());
    }
    Err("the process that started this worker is gone; a worker is not started by hand".into())
}

/// Keeps the calling thread on `core`. A warning is enough when it can't: figures get noisier, not wrong.
fn pin(core: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        tracing::warn!(core, "could not pin the worker to its core; expect noise");
    }
}

fn listen(orders: &mpsc::Sender<Order>, signals: &Signals) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let order = match decode(&line) {
            Ok(Order::Stop { number }) => {
                signals.stopped.store(number, Ordering::Relaxed);
                continue;
            }
            Ok(order) => order,
            Err(error) => {
                eprintln!("the parent sent what is no order ({error}): {line}");
                std::process::exit(1);
            }
        };
        if let Order::Go { number, .. } = order {
            signals.started.store(number, Ordering::Relaxed);
        }
        if orders.send(order).is_err() {
            break;
        }
    }
    // The parent is done, or gone. The job in progress, if there is one, is of no use to anybody.
    std::process::exit(0);
}

/// Does a job, until it has been closed. `number` is always that of the measurement that is being made, or of the end.
fn perform(
    job: Job,
    number: &mut u64,
    orders: &mpsc::Receiver<Order>,
    signals: &Arc<Signals>,
) -> Result<(), PeerError> {
    let peer = peers::find(&job.peer)
        .ok_or_else(|| format!("there is no peer {}; there are: {}", job.peer, peers::names(None)))?;
    let Job { side, specs, local, remote, hello, .. } = job;
    let mut session = Session { local, remote, hello, number: *number, signals: Arc::clone(signals) };
    let spec = specs.first().ok_or("a job without anything to measure")?;
    let mut end = None;
    if spec.bench.has_ends() {
        end = Some(peer.open(side, &specs, &session)?);
        if side == Side::Client {
            session.ready("")?;
        }
    } else {
        let outcome = measure_whole(peer, side, spec, &session)?;
        say(&Answer::Done { number: *number, outcome })?;
    }
    let mut patience = if side == Side::Server { TEND_OPENING } else { TEND };
    loop {
        match (orders.recv_timeout(patience), &mut end) {
            (Ok(Order::Go { number: next, place }), Some(end)) => {
                (*number, session.number) = (next, next);
                let spec = specs.get(place).ok_or("a measurement by a spec that the job hasn't")?;
                if side == Side::Server {
                    end.prepare(spec, &session)?;
                    session.ready("")?;
                }
                let outcome = match spec.bench {
                    Bench::Lat => end.latency(spec, &session)?,
                    Bench::Rr | Bench::RrPlain => end.requests(spec, &session)?,
                    Bench::Connect => end.connects(spec, &session)?,
                    _ => end.stream(spec, &session)?,
                };
                say(&Answer::Done { number: next, outcome })?;
            }
            (Ok(Order::End { number: next }), _) => {
                *number = next;
                return Ok(());
            }
            (Ok(Order::Run(_)), _) => return Err("a job has come before the last one's end".into()),
            (Err(RecvTimeoutError::Timeout), Some(end)) => end.tend()?,
            (Err(RecvTimeoutError::Disconnected), _) => return Err("the parent is gone".into()),
            (Ok(Order::Connected), _) => patience = TEND,
            // Its measurement was the whole of the job, or the order is one that is heeded elsewhere.
            (_, None) | (Ok(Order::Stop { .. }), _) => {}
        }
    }
}

/// Makes a measurement that opens what it needs, and closes it.
fn measure_whole(peer: &dyn Peer, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    // The senders of an incast begin together when all have opened what they need.
    if side == Side::Client && spec.bench != Bench::Incast {
        session.start_together()?;
    }
    match spec.bench {
        Bench::IdleStreams => peer.idle_streams(side, spec, session),
        Bench::Incast => peer.incast(side, spec, session),
        Bench::Links => peer.links(spec),
        Bench::Idle => peer.idle(side, spec, session),
        Bench::Soak => peer.soak(side, spec, session),
        Bench::Source | Bench::Deliver | Bench::Access | Bench::Utlb => peer.memory(side, spec, session),
        Bench::Lat | Bench::Bw | Bench::BwCopy | Bench::Rate | Bench::Loss => peer.cannot(spec),
        Bench::Rr | Bench::RrPlain | Bench::Connect => peer.cannot(spec),
    }
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(encode(answer).as_bytes())?;
    out.flush()
}

/// An error with all that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_line = cause.to_string();
        // Some errors already print their source.
        if !line.ends_with(&cause_line) {
            line = format!("{line}: {cause_line}");
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::job;

    #[test]
    fn an_unknown_peer_is_an_error_that_lists_the_known() {
        let mut job = job();
        job.peer = "carrier-pigeon".into();
        let (_orders, none) = mpsc::channel();
        let error = perform(job, &mut 1, &none, &Arc::default()).unwrap_err().to_string();
        assert!(error.contains("carrier-pigeon") && error.contains("floor, "), "{error}");
    }

    #[test]
    fn a_stop_reaches_its_own_measurement_and_no_later_one() {
        let signals = Arc::new(Signals::default());
        let job = job();
        let mut session = Session {
            local: job.local,
            remote: job.remote,
            hello: job.hello,
            number: 2,
            signals: Arc::clone(&signals),
        };
        signals.stopped.store(1, Ordering::Relaxed);
        assert!(!session.stopped());
        signals.stopped.store(2, Ordering::Relaxed);
        assert!(session.stopped());
        session.number = 3;
        assert!(!session.stopped());
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("binding vh1")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("busy"));
        assert_eq!(chain(&outer), "binding vh1: busy");
    }
}
