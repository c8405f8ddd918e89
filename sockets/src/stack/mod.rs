//! A process's sockets on one node: sessions with other stacks, listeners, ports.

mod builder;
mod direct;
mod dispatch;
mod open;
mod ports;
mod registry;
mod session;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use builder::Settings;
pub use builder::StackBuilder;
#[cfg(feature = "tokio")]
pub(crate) use registry::settle_at_exit;
pub(crate) use registry::{Wanted, stack_for};
pub(crate) use session::{RequestSlot, Session};
use vmmc::{Events, Export, Key, Node};

use self::ports::Ports;
use crate::connection::Staging;
use crate::error::{self, from_node};
use crate::listener::Accepting;
use crate::proto::layout;
use crate::wait::{Descriptor, Drive, Spin, State, Waiting, lock, stand_by};
use crate::{VmmcListener, VmmcStream};

/// The length of what a stack exports to a peer, bytes.
pub(crate) const SESSION_LEN: usize = layout::SESSION_LEN as usize;

/// How long a stack that closes waits for room to say what its streams have left to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The name of the door.
const DOOR: &str = "streams";

/// A process's sockets on one node. Cloning it makes another handle; streams and listeners keep it alive, too. With the last of them it closes: what was sent is
/// still delivered, for two seconds at the most.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use vmmc_sockets::Stack;
///
/// # fn main() -> std::io::Result<()> {
/// // On one host:
/// let stack = Stack::builder().interface("vh2").open()?;
/// let listener = stack.bind("10.77.0.2:80".parse().unwrap())?;
/// let (mut stream, _) = listener.accept()?;
/// stream.write_all(b"hello")?;
///
/// // On the other:
/// let stack = Stack::builder().interface("vh1").open()?;
/// let mut stream = stack.connect("10.77.0.2:80".parse().unwrap())?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    keep: Arc<Keep>,
}

// As std's sockets: whatever a panic interrupts, what is behind the locks stays whole.
impl UnwindSafe for Stack {}
impl RefUnwindSafe for Stack {}

/// What every handle keeps alive.
struct Keep {
    inner: Arc<Inner>,
    standby: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the handles and the thread that stands by share.
pub(crate) struct Inner {
    pub node: Node,
    /// Its address.
    local: SocketAddr,
    pub(crate) settings: Settings,
    events: Events,
    pub(crate) staging: Staging,
    /// Who wants streams knocks here.
    #[allow(dead_code)] // it is there to be imported
    door: Export,
    pub(crate) waiting: Waiting,
    table: Mutex<Table>,
    failed: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    next_session: AtomicU64,
    /// For those that can't have a descriptor of their own.
    spare: Descriptor,
    start: Instant,
}

/// Who is where.
#[derive(Default)]
struct Table {
    by_peer: HashMap<SocketAddr, Arc<Session>>,
    by_id: HashMap<u64, Arc<Session>>,
    listeners: HashMap<u16, Arc<Accepting>>,
    ports: Ports,
}

impl Stack {
    /// Starts to describe a stack.
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }

    /// A stack on a node that is open already, with [`vmmc::Progress::Caller`]. It takes 64 MiB of the node's arena, not all of it memory, for each peer.
    ///
    /// # Errors
    /// When the node has a stack already.
    pub fn on(node: Node) -> io::Result<Stack> {
        Stack::start(node, Settings::default())
    }

    fn start(node: Node, settings: Settings) -> io::Result<Stack> {
        settings.check()?;
        let events = node.events();
        let door = node.export(DOOR).len(64).key(Key::PUBLIC).notify(true).report_to(&events, dispatch::DOOR_TOKEN);
        let door = door.create().map_err(from_node)?;
        let spare = Descriptor::new()?;
        spare.show(|| State { readable: true, writable: true, ..State::default() });
        let inner = Arc::new(Inner {
            local: node.local(),
            node,
            settings,
            events,
            staging: Staging::default(),
            door,
            waiting: Waiting::new(settings.spin),
            table: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            next_session: AtomicU64::new(0),
            spare,
            start: Instant::now(),
        });
        let drive = inner.clone();
        let standby = std::thread::Builder::new().name("vmmc-streams".to_owned()).spawn(move || stand_by(drive))?;
        inner.waiting.set_standby(standby.thread().clone());
        Ok(Stack { keep: Arc::new(Keep { inner, standby: Mutex::new(Some(standby)) }) })
    }

    /// Makes this the stack that [`VmmcListener::bind`] and [`VmmcStream::connect`] use, in the whole process and for all addresses.
    pub fn make_default(&self) {
        registry::choose(self);
    }

    /// Binds a listener to a port of this stack, as [`std::net::TcpListener::bind`]: port 0 lets the stack choose one. The address is the stack's, or the
    /// unspecified one.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable).
    pub fn bind(&self, address: SocketAddr) -> io::Result<VmmcListener> {
        VmmcListener::on(self, address)
    }

    /// Connects to a listener, as [`std::net::TcpStream::connect`]. Blocks, for 10 seconds at the most unless the
    /// [builder](StackBuilder::connect_timeout) has said otherwise.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when nobody listens there, [`TimedOut`](io::ErrorKind::TimedOut) when nobody answers,
    /// [`HostUnreachable`](io::ErrorKind::HostUnreachable) when there is no way.
    pub fn connect(&self, address: SocketAddr) -> io::Result<VmmcStream> {
        self.connect_timeout(address, self.inner().settings.connect_timeout)
    }

    /// As [`Stack::connect`], for `timeout` at the most.
    ///
    /// # Errors
    /// As [`Stack::connect`]; [`InvalidInput`](io::ErrorKind::InvalidInput) when the timeout is zero.
    pub fn connect_timeout(&self, address: SocketAddr, timeout: Duration) -> io::Result<VmmcStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        let connection = self.inner().connect(address, timeout)?;
        Ok(VmmcStream::new(self.clone(), connection))
    }

    /// The node below: for its counters, and for [`vmmc::Node::alloc`], whose buffers [`VmmcStream::write_owned`] takes.
    pub fn node(&self) -> &Node {
        &self.inner().node
    }

    /// The stack's IP address, and the UDP port that carries everything.
    pub fn local(&self) -> SocketAddr {
        self.inner().local
    }

    /// Waits until everything that was written has arrived, for `timeout` at the most.
    pub(crate) fn settle(&self, timeout: Duration) {
        let start = Instant::now();
        self.inner().say_all(timeout);
        let timeout = timeout.saturating_sub(start.elapsed());
        // If the node has failed nothing arrives any more.
        let _ = self.inner().node.settle(timeout);
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.keep.inner
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("local", &self.local()).finish_non_exhaustive()
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        let thread = lock(&self.standby).take();
        // A task that was woken may have had the last handle.
        let thread = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if thread.is_some() {
            self.inner.say_all(LAST_WORDS);
        }
        self.inner.waiting.stop();
        self.inner.events.interrupt();
        if let Some(thread) = thread {
            // If it has panicked its message is already on stderr.
            let _ = thread.join();
        }
        let sessions: Vec<Arc<Session>> = {
            let mut table = lock(&self.inner.table);
            table.by_peer.clear();
            table.by_id.drain().map(|(_, session)| session).collect()
        };
        for session in sessions {
            // Streams hold their session, and the session its streams.
            drop(session.clear());
        }
    }
}

impl Inner {
    /// Microseconds since it began.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// An error that says that the node has failed, if it has.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        if !self.failed.load(Ordering::SeqCst) {
            return None;
        }
        lock(&self.failure).as_ref().map(error::again)
    }

    /// Something has changed of which no event tells: whoever leads looks again.
    pub(crate) fn nudge(&self) {
        if !self.waiting.is_free() {
            self.events.interrupt();
        }
    }

    /// Waits until no stream has anything left to say for which there was no room, such as its end, for `timeout` at the most.
    fn say_all(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let sessions: Vec<Arc<Session>> = lock(&self.table).by_id.values().cloned().collect();
        for session in sessions {
            let said = || session.has_said_all().then_some(());
            // If the node has failed nothing is said any more.
            let _ = self.waiting.wait(self, &session.opened, &Spin::new(), Some(deadline), said);
        }
    }

    /// A descriptor that always seems ready.
    pub(crate) fn spare(&self) -> BorrowedFd<'_> {
        self.spare.as_fd()
    }

    /// Does what has come, without blocking.
    pub(crate) fn glance(&self) {
        self.waiting.glance(self);
    }
}

impl Drive for Inner {
    fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn dispatch(&self, lead: &mut crate::wait::Lead) {
        self.deal_with(lead);
    }

    fn flush(&self) {
        // An error is found by whoever waits next.
        let _ = self.node.progress();
    }

    fn fail(&self, error: vmmc::Error, lead: &mut crate::wait::Lead) {
        *lock(&self.failure) = Some(from_node(error));
        self.failed.store(true, Ordering::SeqCst);
        self.end_all(lead);
    }

    fn failure(&self) -> Option<io::Error> {
        self.failure()
    }

    fn keep_house(&self) -> Option<Duration> {
        self.tidy()
    }
}
