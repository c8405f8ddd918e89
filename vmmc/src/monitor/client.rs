//! The asking side: finding the nodes of this machine, and asking one.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, send, socket_with};

use super::{Answer, Request, place};
use crate::node::Stats;

/// How long a node may take to answer. One that has been stopped (by a debugger, by Ctrl-Z) never does.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest answer, bytes.
const MAX_ANSWER: usize = 256 << 20;

/// Why a node can't be found, or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// No node can be seen.
    #[error(
        "no node can be seen on this machine (looked in {}{}; only root sees other users' nodes). `vmmc serve --interface IF` runs one",
        paths(looked),
        also(refused)
    )]
    NoNodes {
        /// Where they would have been.
        looked: Vec<PathBuf>,
        /// Where nobody could look, and why.
        refused: Vec<String>,
    },
    /// No node is the one that was asked for.
    #[error("no node is {wanted}. There {}", lines(nodes))]
    NoSuchNode {
        /// What was asked for.
        wanted: Selector,
        /// Those there are.
        nodes: Vec<String>,
    },
    /// Several nodes could be meant.
    #[error(
        "it could be several nodes: name one by its process (the number in front), or by interface or address where these differ. There {}",
        lines(nodes)
    )]
    SeveralNodes {
        /// Those there are.
        nodes: Vec<String>,
    },
    /// Nobody listens there.
    #[error("the node at {} has ended", .0.display())]
    Gone(PathBuf),
    /// It is another user's.
    #[error("the node at {} is another user's: ask as that user, or as root", .0.display())]
    Denied(PathBuf),
    /// It is there, and says nothing.
    #[error("the node at {} does not answer within {PATIENCE:?}: is its process stopped?", .0.display())]
    Silent(PathBuf),
    /// What it says is no answer.
    #[error("the node at {} answers with something else than was asked for, perhaps of another version: {what}", path.display())]
    Nonsense {
        /// Its socket.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It says why it can't answer.
    #[error("the node at {} can't answer: {why}", path.display())]
    Refused {
        /// Its socket.
        path: PathBuf,
        /// What it says.
        why: String,
    },
    /// Anything else.
    #[error("asking the node at {} failed: {source}", path.display())]
    Io {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Another user's text, as one may show it on a terminal: no control characters, and not too much.
fn plain(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn paths(looked: &[PathBuf]) -> String {
    looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn also(refused: &[String]) -> String {
    refused.iter().map(|why| format!("; {why}")).collect()
}

fn lines(nodes: &[String]) -> String {
    let verb = if nodes.len() == 1 { "is" } else { "are" };
    nodes.iter().fold(format!("{verb}:"), |text, node| format!("{text}\n  {node}"))
}

/// Which node is meant. Its text form is any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The nodes of a process, `4711`; or one of them, `4711.1`.
    Process(u32, Option<u32>),
    /// The one with this socket, a path with a slash in it.
    Socket(PathBuf),
    /// The one on this interface.
    Interface(String),
    /// The one at this address, `10.77.0.1`; or address and port, `10.77.0.1:7000`.
    Address(IpAddr, Option<u16>),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Selector, String> {
        let process = || {
            let (pid, number) = text.split_once('.').map_or((text, None), |(pid, number)| (pid, Some(number)));
            Some(Selector::Process(pid.parse().ok()?, number.map(str::parse).transpose().ok()?))
        };
        if text.is_empty() {
            return Err("a node is named by its process (4711), interface, address or socket".to_owned());
        }
        if text.contains('/') {
            return Ok(Selector::Socket(text.into()));
        }
        if let Some(process) = process() {
            return Ok(process);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Selector::Address(address.ip(), Some(address.port())));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        Ok(bare.parse().map_or_else(|_| Selector::Interface(text.to_owned()), |ip| Selector::Address(ip, None)))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Process(pid, None) => write!(f, "of process {pid}"),
            Selector::Process(pid, Some(number)) => write!(f, "{pid}.{number}"),
            Selector::Socket(path) => write!(f, "at {}", path.display()),
            Selector::Interface(name) => write!(f, "on interface {name}"),
            Selector::Address(ip, None) => write!(f, "at {ip}"),
            Selector::Address(ip, Some(port)) => write!(f, "at {}", SocketAddr::new(*ip, *port)),
        }
    }
}

/// A node of this machine.
#[derive(Debug)]
pub struct Found {
    /// Its socket, to [`ask`] it again.
    pub path: PathBuf,
    /// Its process, as its socket's name says.
    pub pid: u32,
    /// Which of that process's nodes it is, counted from 0.
    pub number: u32,
    /// What it has answered.
    pub stats: Result<Stats, MonitorError>,
}

impl Found {
    fn is(&self, selector: &Selector) -> bool {
        let stats = self.stats.as_ref().ok();
        match selector {
            Selector::Process(pid, number) => *pid == self.pid && number.is_none_or(|number| number == self.number),
            Selector::Socket(path) => *path == self.path,
            Selector::Interface(name) => stats.is_some_and(|stats| stats.interface.as_ref() == Some(name)),
            Selector::Address(ip, port) => {
                stats.is_some_and(|stats| stats.local.ip() == *ip && port.is_none_or(|port| stats.local.port() == port))
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stats {
            Ok(stats) => {
                let interface = stats.interface.as_deref().map_or_else(|| "(simulated)".to_owned(), plain);
                write!(f, "{}.{}  {}  {interface}  {}", self.pid, self.number, plain(&stats.program), stats.local)
            }
            Err(error) => write!(f, "{}.{}  {error}", self.pid, self.number),
        }
    }
}

/// All nodes of this machine that this user may see, in the order of their processes. Blocks while they answer, for two seconds each at the most. Sockets of
/// processes that have been killed are removed.
///
/// # Errors
/// When there are none.
pub fn list() -> Result<Vec<Found>, MonitorError> {
    list_in(&place::everywhere())
}

/// The one node that is meant; without a selector, the only one there is. Blocks as [`list`] does.
///
/// # Errors
/// When there is no such node, or more than one.
pub fn find(selector: Option<&Selector>) -> Result<Found, MonitorError> {
    if let Some(Selector::Socket(path)) = selector {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (pid, number) = place::parse(&name).unwrap_or_default();
        let stats = ask(path)?;
        return Ok(Found { path: path.clone(), pid, number, stats: Ok(stats) });
    }
    choose(list()?, selector)
}

pub(super) fn choose(nodes: Vec<Found>, selector: Option<&Selector>) -> Result<Found, MonitorError> {
    let texts: Vec<String> = nodes.iter().map(Found::to_string).collect();
    let mut meant: Vec<Found> =
        nodes.into_iter().filter(|node| selector.is_none_or(|selector| node.is(selector))).collect();
    match (meant.len(), selector) {
        (1, _) => Ok(meant.remove(0)),
        (0, Some(wanted)) => Err(MonitorError::NoSuchNode { wanted: wanted.clone(), nodes: texts }),
        _ => Err(MonitorError::SeveralNodes { nodes: meant.iter().map(Found::to_string).collect() }),
    }
}

/// How many nodes are asked at the same time.
const AT_ONCE: usize = 64;

pub(super) fn list_in(directories: &[PathBuf]) -> Result<Vec<Found>, MonitorError> {
    let (mut nodes, mut refused) = (Vec::new(), Vec::new());
    for directory in directories {
        let entries = place::trust(directory).and_then(|own| Ok((own, std::fs::read_dir(directory)?)));
        let (own, entries) = match entries {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                refused.push(format!("{} can't be used: {error}", directory.display()));
                continue;
            }
        };
        // A link could lead to a socket of somebody else's.
        let sockets = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
        let named = |path: PathBuf| {
            let (pid, number) = place::parse(&path.file_name()?.to_string_lossy())?;
            Some((path, pid, number))
        };
        let sockets: Vec<_> = sockets.filter_map(|entry| named(entry.path())).collect();
        // At the same time: one that is stopped keeps who asks waiting, and there may be many.
        for some in sockets.chunks(AT_ONCE) {
            let answers: Vec<_> = thread::scope(|scope| {
                let asked =
                    some.iter().map(|(path, ..)| (path, thread::Builder::new().spawn_scoped(scope, move || ask(path))));
                // All of them are started before any is waited for.
                let asked: Vec<_> = asked.collect();
                let answer = |(path, thread): (&PathBuf, io::Result<ScopedJoinHandle<'_, _>>)| match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    Err(_) => ask(path),
                };
                asked.into_iter().map(answer).collect()
            });
            for ((path, pid, number), stats) in some.iter().zip(answers) {
                if let (Err(MonitorError::Gone(path)), true) = (&stats, own) {
                    // Somebody else may have been faster.
                    let _ = std::fs::remove_file(path);
                }
                if !matches!(stats, Err(MonitorError::Gone(_))) {
                    nodes.push(Found { path: path.clone(), pid: *pid, number: *number, stats });
                }
            }
        }
    }
    if nodes.is_empty() {
        return Err(MonitorError::NoNodes { looked: directories.to_vec(), refused });
    }
    nodes.sort_by_key(|node| (node.pid, node.number));
    Ok(nodes)
}

/// Asks the node at `path` for a snapshot, with the percentiles of round-trip times only. Blocks for two seconds at the most.
///
/// # Errors
/// See [`MonitorError`].
pub fn ask(path: &Path) -> Result<Stats, MonitorError> {
    stats(path, false)
}

/// Asks the node at `path` for a snapshot with all round-trip times, by which the latest can be told from those before: see
/// [`RoundTrips::since`](crate::link::RoundTrips::since). Blocks for two seconds at the most.
///
/// # Errors
/// See [`MonitorError`].
pub fn ask_all(path: &Path) -> Result<Stats, MonitorError> {
    stats(path, true)
}

fn stats(path: &Path, histograms: bool) -> Result<Stats, MonitorError> {
    match request(path, &Request::Stats { histograms })? {
        Answer::Stats(stats) => Ok(*stats),
        other => Err(other.refusal(path)),
    }
}

impl Answer {
    /// What it means when something else was asked for.
    pub(super) fn refusal(self, path: &Path) -> MonitorError {
        let path = path.to_owned();
        match self {
            Answer::Error(why) => MonitorError::Refused { path, why: plain(&why) },
            _ => MonitorError::Nonsense { path, what: "it answers another question".to_owned() },
        }
    }
}

/// Connects to the node at `path`, sends a request, and waits for its answer.
fn request(path: &Path, request: &Request) -> Result<Answer, MonitorError> {
    let mut stream = connect(path)?;
    parse(path, &exchange(&mut stream, request).map_err(|source| classify(path, source))?)
}

/// What a line from the node at `path` says.
pub(super) fn parse(path: &Path, line: &[u8]) -> Result<Answer, MonitorError> {
    serde_json::from_slice(line).map_err(|error| {
        let what = if line.is_empty() { "it closed the connection".to_owned() } else { plain(&error.to_string()) };
        MonitorError::Nonsense { path: path.to_owned(), what }
    })
}

/// Connects to the node at `path`; neither that nor reading nor writing lasts longer than a node may take to answer.
pub(super) fn connect(path: &Path) -> Result<UnixStream, MonitorError> {
    let failed = |source| classify(path, source);
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = socket.map_err(|errno| failed(errno.into()))?;
    let deadline = Instant::now() + PATIENCE;
    // A node that is stopped takes nobody in, and who would wait for that would wait for ever once the queue is full.
    while let Err(errno) = rustix::net::connect(&socket, &address) {
        if errno != Errno::AGAIN || Instant::now() > deadline {
            return Err(failed(errno.into()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    Ok(stream)
}

/// What an error of the connection means.
pub(super) fn classify(path: &Path, source: io::Error) -> MonitorError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            MonitorError::Gone(path)
        }
        ErrorKind::PermissionDenied => MonitorError::Denied(path),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => MonitorError::Silent(path),
        _ => MonitorError::Io { path, source },
    }
}

/// Sends a line, and returns the line that comes back.
fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // Short enough to go in one piece. A node that has too many clients may have hung up, and yet have said so.
    let sent = send(&*stream, &line, SendFlags::NOSIGNAL);
    let (mut answer, mut bytes, deadline) = (Vec::new(), [0; 16 << 10], Instant::now() + PATIENCE);
    while !answer.ends_with(b"\n") && answer.len() < MAX_ANSWER {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => answer.extend(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() > deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    if answer.is_empty() {
        sent?;
    }
    Ok(answer)
}
