//! `vmmc ping`: round trips between the memories of two processes.
//!
//! Each is a remote write with notification from this program's memory into a buffer of `vmmc serve`, which writes the same
//! bytes back into a buffer exported by this one. The clock stops when they have been copied out of it.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vmmc::{Key, Node};
use vmmc_histogram::Durations;

use crate::call::{Call, CallError, Service};
use crate::explain;
use crate::interrupt;
use crate::node_args::{Driver, NodeArgs, parse_seconds};
use crate::output::say;
use crate::protocol::MAX_PING;
use crate::units::{Size, parse_peer};

/// The arguments of `vmmc ping`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node that runs `vmmc serve`: IP or IP:PORT.
    #[arg(value_parser = parse_peer)]
    peer: SocketAddr,
    /// Bytes to send there and back, up to 64KiB.
    #[arg(long, default_value = "64", value_name = "BYTES")]
    size: Size,
    /// End after this many round trips.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Pause between round trips, in milliseconds; 0 is as fast as possible.
    #[arg(long, default_value = "0", value_name = "MS", value_parser = parse_millis)]
    interval: Duration,
    /// End after this many seconds; 0 is when interrupted [default: 5, or 0 with --count].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Write all round-trip times, in microseconds, to this file, in the format of HdrHistogram's plotter.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What only a ping can fail with.
#[derive(Debug, thiserror::Error)]
enum PingError {
    #[error("a ping has 0 to {MAX_PING} bytes, not {asked}: use `vmmc put` for more")]
    Size { asked: u64 },
    #[error("what came back in round trip {0} is not what was sent")]
    Damaged(u64),
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

fn parse_millis(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(|d| d / 1000).map_err(|_| "a number of milliseconds, like 10 or 0.5".to_owned())
}

/// Runs `vmmc ping`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if args.size.0 > MAX_PING {
        return Err(PingError::Size { asked: args.size.0 }.into());
    }
    // Opened first: whoever waits for minutes should not learn then that it can't be.
    let hgrm = args.hgrm.as_ref().map(create).transpose()?;
    interrupt::catch(|| {})?;
    let spin = if args.interval.is_zero() { Duration::MAX } else { Duration::from_millis(1) };
    let node = args.node.open(Some(args.peer), Driver::Caller, 1 << 20, spin)?;
    let result = ping(&args, &node, hgrm);
    args.node.say_faults(&node)?;
    result.map(|()| ExitCode::SUCCESS).map_err(|error| explain::silence(&args.node.interface, error))
}

/// Makes the round trips, and shows what was measured.
fn ping(args: &Args, node: &Node, hgrm: Option<File>) -> Result<(), Box<dyn Error>> {
    let call = Call::open(node, args.peer, Service::Ping, Key::PUBLIC, MAX_PING)?;
    let mut times = Durations::new();
    let begin = Instant::now();
    let mut last = begin;
    let result = round_trips(args, &call, &mut times, &mut last);
    // Not until now: that the peer has fallen silent at the end is no measurement.
    let took = last - begin;
    // In any case what was measured is shown.
    let (peer, size) = (args.peer, args.size);
    say(format_args!("{peer}: {} round trips of {size} in {:.2} s", times.count(), took.as_secs_f64()));
    if times.count() > 0 {
        say(times.table(&[("round trip", 1.0), ("one way (half of it)", 0.5)]));
    }
    if let (Some(mut file), Some(path)) = (hgrm, args.hgrm.clone()) {
        file.write_all(times.hgrm().as_bytes()).map_err(|source| PingError::Write { path, source })?;
    }
    result
}

fn create(path: &PathBuf) -> Result<File, PingError> {
    File::create(path).map_err(|source| PingError::Write { path: path.clone(), source })
}

/// Makes round trips until there have been enough, or somebody interrupts. The `last` was over then.
fn round_trips(args: &Args, call: &Call, times: &mut Durations, last: &mut Instant) -> Result<(), Box<dyn Error>> {
    let mut live = Live::new();
    let default = if args.count.is_some() { Duration::ZERO } else { Duration::from_secs(5) };
    let duration = args.duration.unwrap_or(default);
    let end = (!duration.is_zero()).then(|| Instant::now() + duration);
    let mut sent = vec![0; args.size.0 as usize];
    let mut received = sent.clone();
    for number in 1..=args.count.unwrap_or(u64::MAX) {
        let stamp = number.to_ne_bytes();
        sent.chunks_mut(stamp.len()).for_each(|chunk| chunk.copy_from_slice(&stamp[..chunk.len()]));
        let begin = Instant::now();
        let outcome = call.send(&sent, number as u32).and_then(|()| call.receive(number as u32, &mut received));
        let now = Instant::now();
        match outcome {
            Err(CallError::Interrupted) => break,
            other => other?,
        }
        times.record(now - begin);
        *last = now;
        if received != sent {
            return Err(PingError::Damaged(number).into());
        }
        live.show(now, times);
        if interrupt::asked() || end.is_some_and(|end| now + args.interval >= end) {
            break;
        }
        if !args.interval.is_zero() && Some(number) < args.count.or(Some(u64::MAX)) {
            match pause(call, now + args.interval) {
                Err(CallError::Interrupted) => break,
                other => other?,
            }
        }
    }
    Ok(())
}

/// Waits, and lets the node work meanwhile: it has acknowledgements to send.
fn pause(call: &Call, until: Instant) -> Result<(), CallError> {
    while call.wait(Some(until))?.is_some() {}
    Ok(())
}

/// The figures so far, once a second, where standard error is a terminal.
struct Live {
    line: ProgressBar,
    next: Instant,
}

impl Live {
    fn new() -> Live {
        let line = ProgressBar::new_spinner();
        line.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Live { line, next: Instant::now() + Duration::from_secs(1) }
    }

    fn show(&mut self, now: Instant, times: &Durations) {
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_secs(1);
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| times.quantile(q));
        let count = times.count();
        self.line.set_message(format!(
            "{count} round trips   p50 {p50:.1}   p99 {p99:.1}   p99.9 {p999:.1}   max {max:.1} us"
        ));
        self.line.tick();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}
