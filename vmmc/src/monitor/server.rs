//! The node's side: a thread that sleeps until somebody asks.
//!
//! It never waits for any one client. What a client sends is kept until a line of it is there; its answer is kept until the client has taken it,
//! and until then it isn't listened to. So a client holds one request and one answer at the most.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, send, socket_with,
};
use tracing::{debug, warn};

use super::{Answer, MAX_CLIENTS, MAX_REQUEST, Request, capture, place};
use crate::node::Shared;

/// After how long a client that asks nothing, or doesn't take its answer, is cut off.
const IDLE: Duration = Duration::from_secs(60);
const UNREAD: Duration = Duration::from_secs(10);

/// How long a process without free descriptors leaves new clients waiting.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a node that closes waits for its streams to end.
const FINISH: Duration = Duration::from_millis(500);

/// The thread and its socket: dropping it ends both.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the thread to end.
#[derive(Debug)]
struct Stop {
    asked: AtomicBool,
    wake: OwnedFd,
}

impl Server {
    /// Serves a node, from the first of the usual directories where that is possible. Where none is, says so in the log.
    pub(crate) fn start(shared: &Arc<Shared>) -> Option<Server> {
        Server::start_in(shared, &place::directories())
    }

    pub(super) fn start_in(shared: &Arc<Shared>, directories: &[PathBuf]) -> Option<Server> {
        let mut refused = Vec::new();
        for directory in directories {
            match Server::try_start(shared, directory) {
                Ok(server) => {
                    debug!(target: "vmmc::monitor", path = %server.path.display(), "the node can be watched");
                    return Some(server);
                }
                Err(error) => refused.push(format!("{}: {error}", directory.display())),
            }
        }
        warn!(target: "vmmc::monitor", "`vmmc stats` won't see this node, for its socket can't be made: {}", refused.join("; "));
        None
    }

    fn try_start(shared: &Arc<Shared>, directory: &Path) -> io::Result<Server> {
        // Of this process's nodes, also of those that have closed.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        place::make(directory)?;
        let next = || directory.join(place::name(std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut path = next();
        // A process of another PID namespace may have the same number. What nobody listens on is left from one that was killed.
        while is_taken(&path)? {
            path = next();
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let listener = listen_at(&path)?;
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), wake });
        let work = Work {
            shared: shared.clone(),
            listener,
            stop: stop.clone(),
            clients: Vec::new(),
            streams: Vec::new(),
            deaf_until: None,
        };
        // From here on the file is removed in any case.
        let mut server = Server { path, stop, thread: None };
        server.thread = Some(thread::Builder::new().name("vmmc-monitor".to_owned()).spawn(|| work.run())?);
        Ok(server)
    }

    /// Where its socket is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::Release);
        // It can only fail when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.stop.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // If it has panicked its message is already on stderr.
            let _ = thread.join();
        }
        // If somebody else has removed it, all the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether somebody listens at `path`, even if he takes nobody in.
fn is_taken(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let connected = connect(&socket, &SocketAddrUnix::new(path)?);
    Ok(matches!(connected, Ok(()) | Err(Errno::AGAIN)))
}

/// A socket at `path` that only this user may connect to. It appears there when it is ready: whoever finds it and nobody listening may remove it.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let unready = path.with_extension("new");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A process of the same number may have been killed just here.
    let _ = std::fs::remove_file(&unready);
    bind(&socket, &SocketAddrUnix::new(&unready)?)?;
    let appear = || {
        std::fs::set_permissions(&unready, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&socket, MAX_CLIENTS as i32)?;
        std::fs::rename(&unready, path)
    };
    if let Err(error) = appear() {
        let _ = std::fs::remove_file(&unready);
        return Err(error);
    }
    Ok(socket.into())
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    listener: UnixListener,
    stop: Arc<Stop>,
    clients: Vec<Client>,
    /// Connections that have become streams, and the threads that serve them.
    streams: Vec<(UnixStream, JoinHandle<()>)>,
    /// There was no descriptor for a new client.
    deaf_until: Option<Instant>,
}

/// Somebody who asks.
struct Client {
    stream: UnixStream,
    request: Vec<u8>,
    answer: VecDeque<u8>,
    /// When it is cut off, unless something happens.
    until: Instant,
    /// It is cut off as soon as it has its answer.
    last: bool,
}

/// What becomes of a client.
enum Next {
    /// It is served on.
    Keep,
    /// It has gone, or is to go.
    Drop,
    /// It has asked for this.
    Ask(Request),
}

impl Work {
    fn run(mut self) {
        while let Ok((listening, ready)) = self.wait() {
            if self.stop.asked.load(Ordering::Acquire) {
                break;
            }
            self.streams.retain(|(_, thread)| !thread.is_finished());
            let (clients, now) = (std::mem::take(&mut self.clients), Instant::now());
            for (mut client, ready) in clients.into_iter().zip(ready) {
                let mut next = if ready { client.turn(true) } else { Next::Keep };
                while let Next::Ask(request) = next {
                    let Some(answer) = self.serve(&mut client, request) else {
                        next = Next::Drop;
                        break;
                    };
                    client.tell(&answer, false);
                    next = client.turn(false);
                }
                if matches!(next, Next::Keep) && now < client.until {
                    self.clients.push(client);
                }
            }
            if listening {
                self.accept();
            }
        }
        // What they have to say ends with the node: let those finish whose clients listen.
        let until = Instant::now() + FINISH;
        while self.streams.iter().any(|(_, thread)| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        for (stream, thread) in self.streams.drain(..) {
            // Its thread may be waiting for it to take or send something.
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }

    /// Sleeps until something happens. Returns whether there may be a new client, and which clients are ready.
    fn wait(&self) -> io::Result<(bool, Vec<bool>)> {
        let now = Instant::now();
        let deaf = self.deaf_until.filter(|until| *until > now);
        let mut fds = vec![PollFd::new(&self.stop.wake, PollFlags::IN)];
        fds.push(PollFd::new(&self.listener, if deaf.is_some() { PollFlags::empty() } else { PollFlags::IN }));
        fds.extend(self.clients.iter().map(|client| {
            PollFd::new(&client.stream, if client.answer.is_empty() { PollFlags::IN } else { PollFlags::OUT })
        }));
        let until = self.clients.iter().map(|client| client.until).chain(deaf).min();
        let timeout = until.map(|until| {
            // A little later, so that its time has come.
            let span = until.saturating_duration_since(now) + Duration::from_millis(1);
            Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                warn!(target: "vmmc::monitor", %error, "`vmmc stats` can't see this node any more: poll failed");
                return Err(error.into());
            }
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok((ready[1], ready[2..].to_vec()))
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!(target: "vmmc::monitor", %error, "a client can't be accepted");
                    self.deaf_until = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut client =
            Client { stream, request: Vec::new(), answer: VecDeque::new(), until: Instant::now() + IDLE, last: false };
        if self.clients.len() + self.streams.len() >= MAX_CLIENTS {
            let error = format!("this node is being watched by {MAX_CLIENTS} others already: stop one of them");
            // It has room for so little, unless the client has gone.
            client.tell(&Answer::Error(error), true);
            let _ = client.flush();
            return;
        }
        self.clients.push(client);
    }

    /// Answers a request. `None` when the client is no longer this thread's to answer.
    fn serve(&mut self, client: &mut Client, request: Request) -> Option<Answer> {
        match request {
            Request::Stats { histograms } => Some(match self.shared.stats() {
                Ok(mut stats) => {
                    if !histograms {
                        stats.links.iter_mut().for_each(|link| link.round_trips.counts.clear());
                    }
                    Answer::Stats(Box::new(stats))
                }
                Err(error) => Answer::Error(error.to_string()),
            }),
            Request::Capture { snaplen } => match self.shared.capture(snaplen as usize) {
                Ok(capture) => self.hand_over(client, move |stream| capture::serve(&stream, capture)),
                Err(error) => Some(Answer::Error(error.to_string())),
            },
        }
    }

    /// Gives a client to a thread of its own, which may block. When the node closes the connection is shut down and the thread is waited for: it must end
    /// when it can't read or write. `None`, unless there is no such thread.
    fn hand_over(&mut self, client: &mut Client, body: impl FnOnce(UnixStream) + Send + 'static) -> Option<Answer> {
        let start = || {
            let (ours, theirs) = (client.stream.try_clone()?, client.stream.try_clone()?);
            let thread = thread::Builder::new().name("vmmc-stream".to_owned()).spawn(move || {
                // Not before: it holds for the client that is kept, too, when the thread can't be started.
                if theirs.set_nonblocking(false).is_ok() {
                    body(theirs);
                }
            })?;
            Ok((ours, thread))
        };
        match start() {
            Ok(stream) => self.streams.push(stream),
            Err::<_, io::Error>(error) => {
                return Some(Answer::Error(format!("starting a thread for it failed: {error}")));
            }
        }
        None
    }
}

impl Client {
    /// Does what can be done with it now, and reads from it once at the most, so that others have their turn.
    fn turn(&mut self, mut may_read: bool) -> Next {
        loop {
            match self.flush() {
                Ok(true) if self.last => return Next::Drop,
                Ok(true) => {}
                Ok(false) => return Next::Keep,
                Err(_) => return Next::Drop,
            }
            if let Some(end) = self.request.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.request.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(request) => return Next::Ask(request),
                    Err(error) => self.tell(&Answer::Error(format!("not a request: {error}")), false),
                }
                continue;
            }
            if self.request.len() == MAX_REQUEST {
                self.tell(&Answer::Error(format!("a request is one line of at most {MAX_REQUEST} bytes")), true);
                continue;
            }
            if !std::mem::take(&mut may_read) {
                return Next::Keep;
            }
            match self.read() {
                Ok(0) => return Next::Drop,
                Ok(_) => self.until = Instant::now() + IDLE,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Next::Keep;
                }
                Err(_) => return Next::Drop,
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; MAX_REQUEST];
        let room = MAX_REQUEST - self.request.len();
        let n = self.stream.read(&mut bytes[..room])?;
        self.request.extend(&bytes[..n]);
        Ok(n)
    }

    /// Has an answer for it.
    fn tell(&mut self, answer: &Answer, last: bool) {
        // Numbers and text: that can't fail.
        self.answer = serde_json::to_vec(answer).unwrap_or_default().into();
        self.answer.push_back(b'\n');
        (self.last, self.until) = (last, Instant::now() + UNREAD);
    }

    /// Sends what it takes of its answer now. Returns whether it has all of it.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.answer.is_empty() {
            // Not `write`: in a program that isn't one of Rust's, a client that has gone would end it with a signal.
            match send(&self.stream, self.answer.as_slices().0, SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.answer.drain(..n)),
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            self.until = Instant::now() + if self.answer.is_empty() { IDLE } else { UNREAD };
        }
        // An answer can be long.
        self.answer.shrink_to_fit();
        Ok(true)
    }
}
