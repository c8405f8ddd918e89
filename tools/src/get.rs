//! `vmmc get`: fetches what `vmmc serve` exports on another host: a file that it offers, or what has been put there.
//!
//! The exporter's program takes no part in it: bytes are read from its memory, several pieces at a time, into buffers of this node's arena, so that
//! they come by the bulk lane where there is one. Of an offered file the length and the SHA-256 stand in a buffer beside it, and what arrives is compared with them. The
//! time and the rate that are told are those of the transfer: from the first request to the last byte.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use vmmc::{Buffer, EngineError, Import, Key, Node};

use crate::call::{CallError, import};
use crate::explain;
use crate::interrupt;
use crate::node_args::{Driver, NodeArgs};
use crate::output::say;
use crate::pieces::{self, COUNT_BY_LANE, DISK_TIME};
use crate::protocol::{TRAILER_LEN, Trailer, get_export};
use crate::put::progress_bar;
use crate::units::{Sha256Sum, Size, parse_peer};

/// The arguments of `vmmc get`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node that runs `vmmc serve`: IP or IP:PORT.
    #[arg(value_parser = parse_peer)]
    peer: SocketAddr,
    /// The export to fetch from.
    name: String,
    /// The first byte that is wanted.
    #[arg(long, value_name = "SIZE", default_value = "0")]
    offset: Size,
    /// How many are wanted [default: all there are].
    #[arg(long, value_name = "SIZE")]
    length: Option<Size>,
    /// Keep them in this file, whatever it held before. Without it they are only checked.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The export's key, 32 hexadecimal digits.
    #[arg(long, value_name = "HEX", conflicts_with = "public")]
    key: Option<Key>,
    /// The export needs no key; this is the default.
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// What only a get can fail with.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("{name:?} of {peer} has {all}: bytes {from}..{from}+{length} reach past its end")]
    OutOfRange { peer: SocketAddr, name: String, all: Size, from: u64, length: u64 },
    #[error(
        "what was fetched from {name:?} of {peer} has SHA-256 {ours}, and the file that is offered there has {theirs}"
    )]
    Damaged { peer: SocketAddr, name: String, ours: Sha256Sum, theirs: Sha256Sum },
    #[error("{peer} exports {name:?}, and doesn't let it be read: start `vmmc serve` there with --readable")]
    NotReadable { peer: SocketAddr, name: String },
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the thread that writes the file has ended too early: what it said is above")]
    Writer,
}

/// How many pieces are under way.
const AHEAD: usize = 8;
/// How many there are where they come in packets: as many again may be waiting to be hashed and written.
const COUNT_IN_PACKETS: usize = 2 * AHEAD;

/// Runs `vmmc get`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    interrupt::catch(|| {})?;
    let node = args.node.open(Some(args.peer), Driver::Caller, pieces::arena(), Duration::from_micros(200))?;
    let result = get(&args, &node);
    args.node.say_faults(&node)?;
    result.map_err(|error| explain::silence(&args.node.interface, error))
}

/// Has the bytes fetched, checked and kept.
fn get(args: &Args, node: &Node) -> Result<ExitCode, Box<dyn Error>> {
    let Args { peer, ref name, offset: Size(from), .. } = *args;
    let key = args.key.unwrap_or(Key::PUBLIC);
    let remote = import(node, peer, name, key)?;
    let offered = offered(node, peer, name, key)?;
    let all = offered.as_ref().map_or(remote.len(), |file| file.length);
    let length = args.length.map_or(all.saturating_sub(from), |length| length.0);
    if from.checked_add(length).is_none_or(|end| end > all) {
        return Err(GetError::OutOfRange { peer, name: name.clone(), all: Size(all), from, length }.into());
    }
    let file = args.out.as_deref().map(begin).transpose()?;
    let (took, ours, file) = transfer(node, &remote, from, length, file)?;
    let mut line = format!("{} from {name:?} of {peer} in {:.3} s", Size(length), took.as_secs_f64());
    if length > 0 {
        let rate = length as f64 * 8.0 / took.as_secs_f64() / 1e9;
        line += &format!(", {rate:.2} Gbit/s (first request to last byte)");
    }
    say(line);
    match offered {
        Some(Trailer { sha256, .. }) if length == all && sha256 == ours => {
            say(format_args!("verified (SHA-256 {ours})"))
        }
        Some(Trailer { sha256: theirs, .. }) if length == all => {
            return Err(GetError::Damaged { peer, name: name.clone(), ours, theirs }.into());
        }
        Some(_) => say(format_args!("SHA-256 {ours}; a part of a file can't be verified")),
        None => say(format_args!("SHA-256 {ours}; there is nothing to verify it with")),
    }
    if let (Some(file), Some(path)) = (file, &args.out) {
        file.persist(path).map_err(|error| GetError::Write { path: path.clone(), source: error.error })?;
        say(format_args!("kept as {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the exporter says of the file, if it is one that it offers.
fn offered(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Option<Trailer>, Box<dyn Error>> {
    let about = match node.import(peer, &get_export(name), key) {
        Err(vmmc::Error::Engine(EngineError::UnknownName { .. } | EngineError::BadName { .. })) => return Ok(None),
        about => about?,
    };
    let mut bytes = [0; TRAILER_LEN];
    bytes.copy_from_slice(&about.fetch_vec(0, TRAILER_LEN)?);
    Ok(Some(Trailer::parse(&bytes).ok_or(CallError::Nonsense { peer })?))
}

/// Begins a file beside the one it shall become; it goes away again unless it does.
fn begin(path: &Path) -> Result<NamedTempFile, GetError> {
    use std::os::unix::fs::PermissionsExt;
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What umask leaves of that, as for every new file.
    let mode = std::fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().prefix(".vmmc-").suffix(".part").permissions(mode).tempfile_in(directory);
    file.map_err(|source| GetError::Write { path: path.to_owned(), source })
}

/// Fetches the bytes, several pieces at a time, while another thread hashes and writes those that have come.
fn transfer(
    node: &Node,
    remote: &Import,
    from: u64,
    length: u64,
    file: Option<NamedTempFile>,
) -> Result<(Duration, Sha256Sum, Option<NamedTempFile>), Box<dyn Error>> {
    let bar = progress_bar(length);
    // There are only so many pieces.
    let (give, pieces) = channel();
    let (give_back, spare) = channel();
    thread::scope(|scope| {
        let writer = scope.spawn(move || keep(&pieces, &give_back, file));
        let begin = Instant::now();
        let fetched = fetch((node, remote), from, length, &give, &spare, |done| bar.set_position(done));
        let took = begin.elapsed();
        drop(give);
        bar.finish_and_clear();
        let kept = writer.join().map_err(|_| GetError::Writer)?;
        // What the writer says is why nobody takes any more.
        let (sum, file) = kept?;
        fetched?;
        Ok((took, sum, file))
    })
}

/// Fetches piece by piece. Ends early, and well, when nobody takes them.
fn fetch(
    (node, remote): (&Node, &Import),
    from: u64,
    length: u64,
    give: &Sender<Buffer>,
    spare: &Receiver<Buffer>,
    mut tell: impl FnMut(u64),
) -> Result<(), Box<dyn Error>> {
    let by_lane = pieces::go_by_lane(remote);
    let count = if by_lane { COUNT_BY_LANE } else { COUNT_IN_PACKETS };
    let mut free = pieces::buffers(node, by_lane, count)?;
    let (mut asked, mut done, mut under_way) = (0, 0, VecDeque::new());
    while done < length {
        free.extend(spare.try_iter());
        while asked < length
            && under_way.len() < AHEAD
            && let Some(piece) = free.pop()
        {
            let piece = match usize::try_from(length - asked) {
                // What a buffer has room for is what is fetched.
                Ok(left) if left < piece.len() => {
                    drop(piece);
                    node.alloc(left)?
                }
                _ => piece,
            };
            let at = from + asked;
            asked += piece.len() as u64;
            let begun = remote.fetch(at, piece).start();
            let begun = begun.map_err(|failed| match failed.error {
                vmmc::Error::Engine(EngineError::NotReadable { name }) => {
                    Box::from(GetError::NotReadable { peer: remote.peer(), name })
                }
                error => Box::<dyn Error>::from(error),
            })?;
            under_way.push_back(begun);
        }
        match under_way.pop_front() {
            Some(first) => {
                let piece = first.wait().map_err(|failed| failed.error)?;
                done += piece.len() as u64;
                tell(done);
                if give.send(piece).is_err() {
                    break;
                }
            }
            // The writer has them all.
            None => match spare.recv_timeout(DISK_TIME) {
                Ok(piece) => free.push(piece),
                Err(RecvTimeoutError::Timeout) => node.progress()?,
                Err(RecvTimeoutError::Disconnected) => break,
            },
        }
        if interrupt::asked() {
            return Err(CallError::Interrupted.into());
        }
    }
    Ok(())
}

/// Hashes and writes what comes, and gives its memory back.
fn keep(
    pieces: &Receiver<Buffer>,
    give_back: &Sender<Buffer>,
    mut file: Option<NamedTempFile>,
) -> Result<(Sha256Sum, Option<NamedTempFile>), GetError> {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(&piece);
        if let Some(file) = &mut file {
            file.write_all(&piece).map_err(|source| GetError::Write { path: file.path().to_owned(), source })?;
        }
        // When all has been fetched nobody needs it.
        let _ = give_back.send(piece);
    }
    Ok((Sha256Sum(hash.finalize().into()), file))
}
