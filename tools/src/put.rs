//! `vmmc put`: writes a file into a buffer that `vmmc serve` exports on another host, and has it checked there.
//!
//! It is read into buffers of the node's arena, which are given away to be sent and come back when they have arrived: where there is a bulk lane they are sent
//! from where they lie.
//!
//! The file is hashed here and in the receiver's memory, and the two are compared there. The time and the rate that are told
//! are those of the transfer: from the first send to the acknowledgement of the last byte.

mod source;

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vmmc::{Buffer, Import, Key, Node, Pending};

pub(crate) use self::source::{Piece, Source, SourceError};
use crate::call::{Call, CallError, Service, import};
use crate::explain;
use crate::interrupt;
use crate::node_args::{Driver, NodeArgs};
use crate::output::say;
use crate::pieces::{self, COUNT_BY_LANE, DISK_TIME};
use crate::protocol::{Answer, PROGRESS_UNIT, Trailer};
use crate::units::{Sha256Sum, Size, parse_peer};

/// The arguments of `vmmc put`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node that runs `vmmc serve`: IP or IP:PORT.
    #[arg(value_parser = parse_peer)]
    peer: SocketAddr,
    /// The export to write into.
    name: String,
    /// The file to write.
    file: PathBuf,
    /// The export's key, 32 hexadecimal digits.
    #[arg(long, value_name = "HEX", conflicts_with = "public")]
    key: Option<Key>,
    /// The export needs no key; this is the default.
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// What only a put can fail with.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("{} has {file}, and {name:?} of {peer} only {export}: export a larger buffer there", path.display())]
    TooLarge { path: PathBuf, file: Size, name: String, peer: SocketAddr, export: Size },
    #[error("{peer} has found other bytes in {name:?} (SHA-256 {theirs}) than {} has (SHA-256 {ours}){hint}", path.display())]
    Damaged { peer: SocketAddr, name: String, path: PathBuf, theirs: Sha256Sum, ours: Sha256Sum, hint: &'static str },
    #[error("{peer} has got the file, but {why}")]
    Failed { peer: SocketAddr, why: String },
    #[error("the thread that reads the file has ended too early: what it said is above")]
    Reader,
}

/// How many pieces there are where they are copied into packets: one to read into while another is copied. More would not stay in the cache.
const COUNT_IN_PACKETS: usize = 2;
/// After how many bytes the receiver is told how far it may hash.
const PROGRESS_STEP: u64 = 8 << 20;

/// Runs `vmmc put`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let source = Source::find(&args.file)?;
    interrupt::catch(|| {})?;
    let key = args.key.unwrap_or(Key::PUBLIC);
    let node = args.node.open(Some(args.peer), Driver::Caller, pieces::arena(), Duration::from_micros(200))?;
    let result = put(args.peer, &args.name, args.file, key, &node, &source);
    args.node.say_faults(&node)?;
    result.map_err(|error| explain::silence(&args.node.interface, error))
}

/// Has the file written and checked.
fn put(
    peer: SocketAddr,
    name: &str,
    path: PathBuf,
    key: Key,
    node: &Node,
    source: &Source,
) -> Result<ExitCode, Box<dyn Error>> {
    let remote = import(node, peer, name, key)?;
    if source.length() > remote.len() {
        let (file, export) = (Size(source.length()), Size(remote.len()));
        return Err(PutError::TooLarge { path, file, name: name.to_owned(), peer, export }.into());
    }
    // Before the transfer, not beside it: with two cores for everything that costs a fifth of the rate.
    let ours = wait_for(node, &source.hash())?;
    let call = Call::open(node, peer, Service::Put(name), key, 0)?;
    let took = transfer(node, &remote, &call, source)?;

    let size = Size(source.length());
    let mut line = format!("{}: {size} into {name:?} of {peer} in {:.3} s", path.display(), took.as_secs_f64());
    if source.length() > 0 {
        let rate = source.length() as f64 * 8.0 / took.as_secs_f64() / 1e9;
        line += &format!(", {rate:.2} Gbit/s (first send to last acknowledgement; hashing not included)");
    }
    say(line);
    call.send(&Trailer { length: source.length(), sha256: ours, name: source.name() }.emit(), 0)?;
    match call.answer(None)? {
        Some(Answer::Verified { sha256, file }) if sha256 == ours => {
            let kept = if file.is_empty() { String::new() } else { format!(", kept there as {file}") };
            say(format_args!("verified by the receiver (SHA-256 {ours}){kept}"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Answer::Damaged { sha256: theirs }) => {
            let hint = match source.has_changed() {
                true => ": it was written to while it was sent",
                false => ": somebody else has written into the buffer, or this is a bug",
            };
            Err(PutError::Damaged { peer, name: name.to_owned(), path, theirs, ours, hint }.into())
        }
        Some(Answer::Failed { why }) => Err(PutError::Failed { peer, why }.into()),
        _ => Err(CallError::Nonsense { peer }.into()),
    }
}

/// Writes the file into the remote buffer. Returns how long that took, until all of it was acknowledged.
fn transfer(node: &Node, remote: &Import, call: &Call, source: &Source) -> Result<Duration, Box<dyn Error>> {
    let bar = progress_bar(source.length());
    let by_lane = pieces::go_by_lane(remote);
    let count = if by_lane { COUNT_BY_LANE } else { COUNT_IN_PACKETS };
    let pieces = source.read(pieces::buffers(node, by_lane, count)?);
    let mut under_way: VecDeque<Pending<'_, Buffer>> = VecDeque::new();
    let mut at = 0;
    let mut begin = None;
    while at < source.length() {
        if interrupt::asked() {
            return Err(CallError::Interrupted.into());
        }
        let Piece { buffer, length } = match pieces.full.try_recv() {
            Ok(read) => read?,
            Err(_) => match under_way.pop_front() {
                // There is no buffer to read into, or the disk is slower than the network: either way the node has something to do.
                Some(first) => {
                    pieces.done(first.wait().map_err(vmmc::Error::from)?);
                    continue;
                }
                None => wait_for(node, &pieces.full)?,
            },
        };
        begin.get_or_insert_with(Instant::now);
        let end = at + length as u64;
        if end == source.length() {
            // Delivery is in order: with the last piece all have arrived.
            remote.send(buffer, at).part(0..length).wait().map_err(vmmc::Error::from)?;
        } else if by_lane {
            under_way.push_back(remote.send(buffer, at).part(0..length).start().map_err(vmmc::Error::from)?);
        } else {
            // Copied, it can be read into again at once, as long as it is in the cache.
            remote.send(&buffer[..length], at).start()?;
            pieces.done(buffer);
        }
        if end < source.length() && end.is_multiple_of(PROGRESS_STEP) {
            call.send(&[], u32::try_from(end / PROGRESS_UNIT).unwrap_or(u32::MAX))?;
        }
        at = end;
        bar.set_position(at);
    }
    bar.finish_and_clear();
    Ok(begin.map(|b| b.elapsed()).unwrap_or_default())
}

/// Waits for what another thread yields, and lets the node work meanwhile, so that the peer knows that it lives.
fn wait_for<T>(node: &Node, channel: &Receiver<Result<T, SourceError>>) -> Result<T, Box<dyn Error>> {
    loop {
        match channel.recv_timeout(DISK_TIME) {
            Ok(result) => return Ok(result?),
            Err(RecvTimeoutError::Timeout) => node.progress()?,
            Err(RecvTimeoutError::Disconnected) => return Err(PutError::Reader.into()),
        }
        if interrupt::asked() {
            return Err(CallError::Interrupted.into());
        }
    }
}

/// Shows how much of a transfer is done.
pub(crate) fn progress_bar(length: u64) -> ProgressBar {
    let template = "{bar:40} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

const _: () = assert!(PROGRESS_STEP.is_multiple_of(pieces::BY_LANE as u64));
const _: () = assert!(PROGRESS_STEP.is_multiple_of(pieces::IN_PACKETS as u64));
const _: () = assert!(PROGRESS_STEP.is_multiple_of(PROGRESS_UNIT));
