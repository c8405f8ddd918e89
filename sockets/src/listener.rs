//! Listeners: what accepts streams at a port.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::connection::Connection;
use crate::stack::{Inner, Wanted, stack_for};
use crate::stream::first_that_works;
use crate::wait::{CloneDescriptor, OwnDescriptor, Spin, State, Watch, lock};
use crate::{Stack, VmmcStream};

/// What connects wait in until they are accepted.
#[derive(Debug)]
pub(crate) struct Accepting {
    queue: Mutex<VecDeque<Arc<Connection>>>,
    pub watch: Watch,
    spin: Spin,
    closed: AtomicBool,
    /// The node has failed: accepts say so.
    failed: AtomicBool,
    descriptor: OwnDescriptor,
}

impl Accepting {
    fn new() -> Accepting {
        Accepting {
            queue: Mutex::default(),
            watch: Watch::default(),
            spin: Spin::new(),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            descriptor: OwnDescriptor::default(),
        }
    }

    /// Whether as many wait as may.
    pub(crate) fn is_full(&self, backlog: usize) -> bool {
        self.closed.load(Ordering::SeqCst) || lock(&self.queue).len() >= backlog
    }

    /// One more has connected. The caller wakes the tasks that this yields.
    pub(crate) fn push(&self, connection: Arc<Connection>, inner: &Inner, tasks: &mut Vec<Waker>) {
        {
            let mut queue = lock(&self.queue);
            if self.closed.load(Ordering::SeqCst) {
                drop(queue);
                return connection.close(inner, true);
            }
            queue.push_back(connection);
        }
        self.watch.wake(&inner.waiting, tasks);
        self.show();
    }

    /// The node has failed.
    pub(crate) fn fail(&self, inner: &Inner, tasks: &mut Vec<Waker>) {
        self.failed.store(true, Ordering::SeqCst);
        self.watch.wake(&inner.waiting, tasks);
        self.show();
    }

    /// Whether an accept wouldn't block.
    pub(crate) fn is_ready(&self) -> bool {
        self.failed.load(Ordering::SeqCst) || !lock(&self.queue).is_empty()
    }

    fn pop(&self) -> Option<Arc<Connection>> {
        let popped = lock(&self.queue).pop_front();
        self.show();
        popped
    }

    fn show(&self) {
        if let Some(descriptor) = self.descriptor.get() {
            // Nobody writes to a listener.
            descriptor.show(|| State { readable: self.is_ready(), ..State::default() });
        }
    }
}

#[derive(Debug)]
struct Shared {
    stack: Stack,
    address: SocketAddr,
    accepting: Arc<Accepting>,
    nonblocking: AtomicBool,
    /// That there was no descriptor to be had.
    trouble: Mutex<Option<io::Error>>,
}

/// Accepts streams at a port, as [`std::net::TcpListener`] does. When the last handle is dropped the port is free again, and connections that
/// nobody has accepted are reset.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use vmmc_sockets::VmmcListener;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = VmmcListener::bind("10.77.0.2:7")?;
/// for stream in listener.incoming() {
///     let mut stream = stream?;
///     std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
/// }
/// # Ok(())
/// # }
/// ```
pub struct VmmcListener {
    shared: Arc<Shared>,
    /// Of a clone.
    number: Option<CloneDescriptor>,
}

impl fmt::Debug for VmmcListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmmcListener").field("addr", &self.shared.address).finish_non_exhaustive()
    }
}

impl std::panic::UnwindSafe for VmmcListener {}
impl std::panic::RefUnwindSafe for VmmcListener {}

impl VmmcListener {
    /// Binds to an address, as [`std::net::TcpListener::bind`]: on the interface that has it, of which this process then has the process-wide stack. With several
    /// addresses the first one that works is taken. The unspecified address (`0.0.0.0`, `[::]`) is fine where there is one interface, or `VMMC_INTERFACE`
    /// names it. Port 0 lets the stack choose. Doesn't block, but for opening the interface.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable); or the interface can't be opened.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<VmmcListener> {
        first_that_works(address, |address| stack_for(Wanted::Local(address.ip()))?.bind(address))
    }

    pub(crate) fn on(stack: &Stack, address: SocketAddr) -> io::Result<VmmcListener> {
        let own = stack.local().ip();
        if !address.ip().is_unspecified() && address.ip() != own {
            let text = format!("{} isn't the address of this stack, which is {own}", address.ip());
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        if let Some(failure) = stack.inner().failure() {
            return Err(failure);
        }
        let accepting = Arc::new(Accepting::new());
        let port = stack.inner().listen(address.port(), &accepting)?;
        let shared = Shared {
            stack: stack.clone(),
            address: SocketAddr::new(address.ip(), port),
            accepting,
            nonblocking: AtomicBool::new(false),
            trouble: Mutex::new(None),
        };
        Ok(VmmcListener { shared: Arc::new(shared), number: None })
    }

    /// Waits for a connection, unless the listener is nonblocking, and returns it with the address of its other end.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when it is nonblocking and nobody has connected; or the node has failed.
    pub fn accept(&self) -> io::Result<(VmmcStream, SocketAddr)> {
        if self.shared.nonblocking.load(Ordering::Relaxed) {
            return self.try_accept();
        }
        let Shared { stack, accepting, .. } = &*self.shared;
        let inner = stack.inner();
        let popped = inner.waiting.wait(&**inner, &accepting.watch, &accepting.spin, None, || accepting.pop())?;
        // Without a deadline there is always one in the end.
        popped.map(|connection| self.stream(connection)).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// As [`VmmcListener::accept`], and never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nobody has connected; or the node has failed.
    pub fn try_accept(&self) -> io::Result<(VmmcStream, SocketAddr)> {
        let Shared { stack, accepting, .. } = &*self.shared;
        let popped = accepting.pop().or_else(|| {
            stack.inner().glance();
            accepting.pop()
        });
        match popped {
            Some(connection) => Ok(self.stream(connection)),
            None => Err(stack.inner().failure().unwrap_or_else(|| io::ErrorKind::WouldBlock.into())),
        }
    }

    /// Ready when an accept wouldn't block. Otherwise the task is woken once that is so.
    ///
    /// # Errors
    /// Ready with an error when the node has failed.
    pub fn poll_accept_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { stack, accepting, .. } = &*self.shared;
        let inner = stack.inner();
        for armed in [false, true] {
            if accepting.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = inner.failure() {
                return Poll::Ready(Err(failure));
            }
            if !armed {
                accepting.watch.arm(context.waker(), &inner.waiting);
                inner.glance();
            }
        }
        Poll::Pending
    }

    fn stream(&self, connection: Arc<Connection>) -> (VmmcStream, SocketAddr) {
        let peer = connection.peer;
        (VmmcStream::new(self.shared.stack.clone(), connection), peer)
    }

    /// The address it is bound to, with the port that was chosen if it was 0.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shared.address)
    }

    /// Another handle on the same listener.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn try_clone(&self) -> io::Result<VmmcListener> {
        Ok(VmmcListener { shared: self.shared.clone(), number: Some(CloneDescriptor::default()) })
    }

    /// All connections that come, one after the other, for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// As [`VmmcListener::incoming`], with the listener inside.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// Whether accepts return [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting. For all handles on the listener. Default: false.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// The error that is pending, if there is one, which then is no longer.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(lock(&self.shared.trouble).take())
    }

    /// The stack it belongs to.
    pub fn stack(&self) -> &Stack {
        &self.shared.stack
    }

    /// Its [descriptor](AsFd::as_fd), made when it is first asked for.
    ///
    /// # Errors
    /// When the process may have no more descriptors.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        let Shared { stack, accepting, .. } = &*self.shared;
        let shared = accepting.descriptor.get_or_make(|_| {
            // Somebody has to take events now, though no call waits.
            stack.inner().waiting.serve(1);
        })?;
        accepting.show();
        self.number.as_ref().map_or_else(|| Ok(shared.as_fd()), |number| number.of(shared))
    }

    pub(crate) fn accepting(&self) -> &Arc<Accepting> {
        &self.shared.accepting
    }
}

/// A descriptor for poll, epoll and what stands on them: readable when an accept wouldn't block. Nothing may be read from it or written to it.
impl AsFd for VmmcListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().unwrap_or_else(|error| {
            *lock(&self.shared.trouble) = Some(error);
            self.shared.stack.inner().spare()
        })
    }
}

impl AsRawFd for VmmcListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let inner = self.stack.inner();
        inner.unlisten(self.address.port(), &self.accepting);
        self.accepting.watch.disarm(&inner.waiting);
        if self.accepting.descriptor.get().is_some() {
            inner.waiting.release(1);
        }
        let left = {
            let mut queue = lock(&self.accepting.queue);
            self.accepting.closed.store(true, Ordering::SeqCst);
            std::mem::take(&mut *queue)
        };
        left.iter().for_each(|connection| connection.close(inner, true));
    }
}

/// All streams that a listener accepts: [`VmmcListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a VmmcListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<VmmcStream>;

    fn next(&mut self) -> Option<io::Result<VmmcStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// All streams that a listener accepts: [`VmmcListener::into_incoming`].
#[derive(Debug)]
pub struct IntoIncoming {
    listener: VmmcListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<VmmcStream>;

    fn next(&mut self) -> Option<io::Result<VmmcStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}
