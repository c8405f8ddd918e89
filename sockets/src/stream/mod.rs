//! Streams: the surface of [`std::net::TcpStream`].

mod calls;

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::Stack;
use crate::connection::Connection;
use crate::stack::{Wanted, stack_for};
use crate::wait::{CloneDescriptor, OwnDescriptor, lock};

/// What all handles on a stream share.
#[derive(Debug)]
struct Shared {
    stack: Stack,
    connection: Arc<Connection>,
    nonblocking: AtomicBool,
    /// Calls that find nothing leave it to others to look for packets, and writes may wait for the driver.
    driven: AtomicBool,
    nodelay: AtomicBool,
    settings: Mutex<Settings>,
    descriptor: OwnDescriptor,
    /// An error that no call has returned yet.
    trouble: Mutex<Option<io::Error>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    linger: Option<Duration>,
}

/// A stream of bytes in both directions, as [`std::net::TcpStream`]. When the last handle on it is dropped it is closed: what was written
/// still arrives, but when there is data that was not read it is reset.
///
/// Any number of threads may use it at once: one reads while another writes.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use vmmc_sockets::VmmcStream;
///
/// # fn main() -> std::io::Result<()> {
/// let mut stream = VmmcStream::connect("10.77.0.2:7")?;
/// stream.write_all(b"hello")?;
/// let mut echo = [0; 5];
/// stream.read_exact(&mut echo)?;
/// # Ok(())
/// # }
/// ```
pub struct VmmcStream {
    shared: Arc<Shared>,
    /// Of a clone.
    number: Option<CloneDescriptor>,
}

/// Tries all addresses in turn.
pub(crate) fn first_that_works<T>(
    address: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match attempt(address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::InvalidInput, "could not resolve to any addresses")))
}

impl fmt::Debug for VmmcStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connection { local, peer, .. } = &*self.shared.connection;
        f.debug_struct("VmmcStream").field("addr", local).field("peer", peer).finish_non_exhaustive()
    }
}

impl std::panic::UnwindSafe for VmmcStream {}
impl std::panic::RefUnwindSafe for VmmcStream {}

impl VmmcStream {
    /// Connects, as [`std::net::TcpStream::connect`], by the process-wide stack of the interface that leads there, or that `VMMC_INTERFACE` names. With several addresses
    /// the first one that works is taken. Blocks, for 10 seconds at the most.
    ///
    /// # Errors
    /// As [`Stack::connect`]; or the interface can't be opened.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<VmmcStream> {
        first_that_works(address, |address| stack_for(Wanted::Remote(address.ip()))?.connect(address))
    }

    /// As [`VmmcStream::connect`], to one address, for `timeout` at the most.
    ///
    /// # Errors
    /// As [`Stack::connect_timeout`].
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<VmmcStream> {
        stack_for(Wanted::Remote(address.ip()))?.connect_timeout(*address, timeout)
    }

    pub(crate) fn new(stack: Stack, connection: Arc<Connection>) -> VmmcStream {
        let shared = Shared {
            stack,
            connection,
            nonblocking: AtomicBool::new(false),
            driven: AtomicBool::new(false),
            nodelay: AtomicBool::new(false),
            settings: Mutex::default(),
            descriptor: OwnDescriptor::default(),
            trouble: Mutex::new(None),
        };
        VmmcStream { shared: Arc::new(shared), number: None }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.shared.connection
    }

    /// The stack it belongs to.
    pub fn stack(&self) -> &Stack {
        &self.shared.stack
    }

    /// The other end's address.
    ///
    /// # Errors
    /// [`NotConnected`](ErrorKind::NotConnected) when the stream was reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        if self.shared.connection.failed.load(Ordering::SeqCst) {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(self.shared.connection.peer)
    }

    /// This end's address.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shared.connection.local)
    }

    /// Shuts one direction down, or both. Reading: reads return what has come, and then the end, also those that wait. Writing: the peer sees the end after what
    /// was written, and writes fail with [`BrokenPipe`](ErrorKind::BrokenPipe).
    ///
    /// # Errors
    /// [`NotConnected`](ErrorKind::NotConnected) when the stream was reset.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let Shared { stack, connection, .. } = &*self.shared;
        if how != Shutdown::Read {
            connection.finish(stack.inner())?;
        } else if connection.failed.load(Ordering::SeqCst) {
            return Err(ErrorKind::NotConnected.into());
        }
        if how != Shutdown::Write {
            connection.deafen(stack.inner());
        }
        Ok(())
    }

    /// Another handle on the same stream: it shares everything with this one, settings too.
    ///
    /// # Errors
    /// Never, other than with TCP.
    pub fn try_clone(&self) -> io::Result<VmmcStream> {
        Ok(VmmcStream { shared: self.shared.clone(), number: Some(CloneDescriptor::default()) })
    }

    /// How long a read may block; `None` for ever, which is the default.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        lock(&self.shared.settings).read_timeout = checked(timeout)?;
        Ok(())
    }

    /// How long a write may block; `None` for ever, which is the default.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) when it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        lock(&self.shared.settings).write_timeout = checked(timeout)?;
        Ok(())
    }

    /// What [`VmmcStream::set_read_timeout`] has set.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.shared.settings).read_timeout)
    }

    /// What [`VmmcStream::set_write_timeout`] has set.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.shared.settings).write_timeout)
    }

    /// As a read, but what was read stays to be read again.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.read_blocking(|| self.shared.connection.peek(bytes))
    }

    /// What happens when the last handle is dropped. `None`, the default: what was written is delivered meanwhile. Zero: the stream is reset, and what hasn't been delivered is lost. Longer: the
    /// drop blocks until it is delivered, as long at the most.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        lock(&self.shared.settings).linger = linger;
        Ok(())
    }

    /// What [`VmmcStream::set_linger`] has set.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.shared.settings).linger)
    }

    /// Whether small writes leave at once. When false, the default, a packet may wait for more: until the next call on any stream of this stack waits, or for a
    /// millisecond.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.shared.nodelay.store(nodelay, Ordering::Relaxed);
        Ok(())
    }

    /// What [`VmmcStream::set_nodelay`] has set.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.shared.nodelay.load(Ordering::Relaxed))
    }

    /// Whether reads and writes return [`WouldBlock`](ErrorKind::WouldBlock) instead of waiting. For all handles on the stream. Default: false.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// Says whether the tasks of a runtime use it, which don't look for packets themselves. For all handles.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_driven(&self, driven: bool) {
        self.shared.driven.store(driven, Ordering::Relaxed);
    }

    /// Looks for packets, unless others do.
    fn glance(&self) {
        if !self.shared.driven.load(Ordering::Relaxed) {
            self.shared.stack.inner().glance();
        }
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.shared.nonblocking.load(Ordering::Relaxed)
    }

    /// The error that is pending, if there is one, which then is no longer.
    ///
    /// # Errors
    /// Never: as in std.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let failure = self.shared.connection.take_failure().map(io::Error::from);
        Ok(failure.or_else(|| lock(&self.shared.trouble).take()))
    }

    /// As a read, and never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) when nothing is there; or as a read.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.try_reading(|| self.shared.connection.read(self.shared.stack.inner(), &mut [IoSliceMut::new(bytes)]))
    }

    /// As a write, and never blocks.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) when there is no room; or as a write.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Shared { stack, connection, nodelay, .. } = &*self.shared;
        self.try_writing(|| connection.write(stack.inner(), bytes, None, !nodelay.load(Ordering::Relaxed)))
    }

    /// Ready when a read wouldn't block: data is there, the end, or an error. Otherwise the task is woken once that is so.
    ///
    /// # Errors
    /// Never: reads say what is wrong.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { stack, connection, .. } = &*self.shared;
        let ready = || connection.is_readable();
        if ready() {
            return Poll::Ready(Ok(()));
        }
        connection.readers.arm(context.waker(), &stack.inner().waiting);
        self.glance();
        if ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Ready when a write wouldn't block: there is room, or an error. Otherwise the task is woken once that is so.
    ///
    /// # Errors
    /// Never: writes say what is wrong.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { stack, connection, .. } = &*self.shared;
        let ready = || connection.can_write();
        if ready() {
            return Poll::Ready(Ok(()));
        }
        connection.writers.arm(context.waker(), &stack.inner().waiting);
        self.glance();
        if ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Its [descriptor](AsFd::as_fd), made when it is first asked for.
    ///
    /// # Errors
    /// When the process may have no more descriptors.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        let Shared { stack, connection, descriptor, .. } = &*self.shared;
        let shared = descriptor.get_or_make(|made| {
            let _ = connection.descriptor.set(Arc::downgrade(made));
            // Somebody has to take events now, though no call waits.
            stack.inner().waiting.serve(1);
            connection.show();
        })?;
        self.number.as_ref().map_or_else(|| Ok(shared.as_fd()), |number| number.of(shared))
    }
}

fn checked(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    Ok(timeout)
}

/// A descriptor for poll, epoll and what stands on them: readable and writable when the stream is. Nothing may be read from it or written to it but by the
/// stream. When the process may have no more descriptors it is one that always seems ready, and [`VmmcStream::take_error`] says why;
/// [`VmmcStream::descriptor`] returns the error.
impl AsFd for VmmcStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().unwrap_or_else(|error| {
            *lock(&self.shared.trouble) = Some(error);
            self.shared.stack.inner().spare()
        })
    }
}

impl AsRawFd for VmmcStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Shared { stack, connection, settings, descriptor, .. } = self;
        let inner = stack.inner();
        let linger = lock(settings).linger;
        connection.readers.disarm(&inner.waiting);
        connection.writers.disarm(&inner.waiting);
        if descriptor.get().is_some() {
            inner.waiting.release(1);
        }
        connection.close(inner, linger == Some(Duration::ZERO));
        if let Some(linger) = linger.filter(|linger| !linger.is_zero()) {
            let deadline = Instant::now().checked_add(linger);
            let delivered = || connection.is_delivered().then_some(());
            while delivered().is_none() && deadline.is_none_or(|at| Instant::now() < at) {
                // Acknowledgements are no events.
                inner.glance();
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }
}
