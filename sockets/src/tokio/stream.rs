//! Streams.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::task::spawn_blocking;

use super::address::ToSocketAddrs;
use super::driver;
use super::ready::{Interest, Ready, poll_io};
use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::waiters::Waiters;
use crate::{Stack, VmmcStream as StdStream};

/// A stream between two programs, as `tokio::net::TcpStream`.
///
/// Read and written through [`AsyncRead`] and [`AsyncWrite`]. Dropping it closes it, as dropping the other [`VmmcStream`](crate::VmmcStream) does;
/// [`into_split`](VmmcStream::into_split) makes two halves for two tasks.
///
/// Of the `poll_` functions, one task at a time may wait for reading and one for writing: the last one that asked is woken. Any number of
/// tasks may wait by the `async` functions that take `&self`.
#[derive(Debug)]
pub struct VmmcStream {
    inner: StdStream,
    readers: Waiters,
    writers: Waiters,
}

impl VmmcStream {
    /// Connects, by the process-wide stack that leads to the peer. Where there are several addresses, the first that answers.
    ///
    /// The first connection of a process opens the interface, and a name has to be looked up: both block, so all of it happens on a
    /// thread of tokio's for that. A future that is dropped lets go of the connection, once that is made.
    ///
    /// # Errors
    /// As [`VmmcStream::connect`](crate::VmmcStream::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<VmmcStream> {
        let address = address.owned();
        blocking(move || StdStream::connect(address)).await.and_then(VmmcStream::from_std)
    }

    /// Connects, by that stack. Otherwise as [`connect`](VmmcStream::connect).
    ///
    /// # Errors
    /// As [`Stack::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect_on(stack: &Stack, address: SocketAddr) -> io::Result<VmmcStream> {
        let stack = stack.clone();
        blocking(move || stack.connect(address)).await.and_then(VmmcStream::from_std)
    }

    /// Makes one of a stream whose calls block; it and its clones won't any more.
    ///
    /// # Errors
    /// As [`set_nonblocking`](crate::VmmcStream::set_nonblocking).
    pub fn from_std(stream: StdStream) -> io::Result<VmmcStream> {
        stream.set_nonblocking(true)?;
        stream.set_driven(true);
        Ok(VmmcStream { inner: stream, readers: Waiters::default(), writers: Waiters::default() })
    }

    /// The other way round. Its calls don't block before
    /// [`set_nonblocking(false)`](crate::VmmcStream::set_nonblocking).
    ///
    /// # Errors
    /// None today: tokio's has the same signature.
    pub fn into_std(self) -> io::Result<StdStream> {
        self.inner.set_driven(false);
        Ok(self.inner)
    }

    /// This end's address.
    ///
    /// # Errors
    /// As [`VmmcStream::local_addr`](crate::VmmcStream::local_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// As [`VmmcStream::peer_addr`](crate::VmmcStream::peer_addr).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// The error that is pending, which is none afterwards.
    ///
    /// # Errors
    /// As [`VmmcStream::take_error`](crate::VmmcStream::take_error).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Waits until a read, or a write, or either of both, wouldn't block, and says which. Loses nothing when cancelled.
    ///
    /// # Errors
    /// When the stack has failed.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let (mut reader, mut writer) = (self.readers.ticket(), self.writers.ticket());
        poll_fn(|context| {
            let mut found = Ready::EMPTY;
            if interest.is_readable() && reader.poll(context, |context| self.await_read(context))?.is_ready() {
                found = found | Ready::READABLE;
            }
            if interest.is_writable() && writer.poll(context, |context| self.await_write(context))?.is_ready() {
                found = found | Ready::WRITABLE;
            }
            if found.is_empty() { Poll::Pending } else { Poll::Ready(Ok(found)) }
        })
        .await
    }

    /// Waits until a read wouldn't block: data has come, or the end of it, or an error. Loses nothing when cancelled.
    ///
    /// # Errors
    /// When the stack has failed.
    pub async fn readable(&self) -> io::Result<()> {
        let mut reader = self.readers.ticket();
        poll_fn(|context| reader.poll(context, |context| self.await_read(context))).await
    }

    /// Waits until a write wouldn't block. Loses nothing when cancelled.
    ///
    /// # Errors
    /// When the stack has failed.
    pub async fn writable(&self) -> io::Result<()> {
        let mut writer = self.writers.ticket();
        poll_fn(|context| writer.poll(context, |context| self.await_write(context))).await
    }

    /// Whether a read wouldn't block. If it would, the task is woken when that has changed.
    ///
    /// # Errors
    /// When the stack has failed.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.readers.poll(context, |context| self.await_read(context))
    }

    /// Whether a write wouldn't block. If it would, the task is woken when that has changed.
    ///
    /// # Errors
    /// When the stack has failed.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writers.poll(context, |context| self.await_write(context))
    }

    /// Reads what is there; 0 bytes at the end of the data.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet; else as a read.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(bytes)
    }

    /// Reads what is there into several slices, one after another.
    ///
    /// # Errors
    /// As [`try_read`](VmmcStream::try_read).
    pub fn try_read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.inner).read_vectored(slices)
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room at all; else as a write.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.try_write(bytes)
    }

    /// Writes several slices, one after another, as far as there is room.
    ///
    /// # Errors
    /// As [`try_write`](VmmcStream::try_write).
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.inner).write_vectored(slices)
    }

    /// Waits for data and copies the first of it; the next read gets it again. Returns how much; 0 at the end of the data. Loses nothing when cancelled.
    ///
    /// # Errors
    /// As a read.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.readers.ticket();
        poll_fn(|context| {
            let ready = |context: &mut Context<'_>| reader.poll(context, |context| self.await_read(context));
            poll_io(context, || self.inner.peek(bytes), ready)
        })
        .await
    }

    /// As [`peek`](VmmcStream::peek): what was found is added to the buffer.
    ///
    /// # Errors
    /// As a read.
    pub fn poll_peek(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let bytes = buffer.initialize_unfilled();
        let n = ready!(poll_io(context, || self.inner.peek(bytes), |context| self.poll_read_ready(context)))?;
        buffer.advance(n);
        Poll::Ready(Ok(n))
    }

    /// Whether small writes go at once (true) or may wait for more.
    ///
    /// # Errors
    /// As [`VmmcStream::nodelay`](crate::VmmcStream::nodelay).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.inner.nodelay()
    }

    /// Says whether small writes go at once.
    ///
    /// # Errors
    /// As [`VmmcStream::set_nodelay`](crate::VmmcStream::set_nodelay).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.set_nodelay(nodelay)
    }

    /// How long a dropped stream goes on sending.
    ///
    /// # Errors
    /// As [`VmmcStream::linger`](crate::VmmcStream::linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.inner.linger()
    }

    /// Says how long a dropped stream goes on sending. Beware of other than `None` and zero: dropping it would block the task's thread.
    ///
    /// # Errors
    /// As [`VmmcStream::set_linger`](crate::VmmcStream::set_linger).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.inner.set_linger(linger)
    }

    /// The stack that it is on.
    pub fn stack(&self) -> &Stack {
        self.inner.stack()
    }

    /// Two halves that borrow the stream: for one task that reads and writes at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf::new(self), WriteHalf::new(self))
    }

    /// Two halves that own the stream: for two tasks. Dropping the second half ends what the peer reads.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        super::split::owned(self)
    }

    pub(super) fn shutdown_std(&self, how: Shutdown) -> io::Result<()> {
        self.inner.shutdown(how)
    }

    fn await_read(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.inner.poll_read_ready(context);
        if poll.is_pending() {
            driver::bring(self.stack());
        }
        poll
    }

    fn await_write(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.inner.poll_write_ready(context);
        if poll.is_pending() {
            driver::bring(self.stack());
        }
        poll
    }

    // The halves need these without a `&mut` or a pin.

    pub(super) fn poll_read_shared(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Once in the life of a buffer it is cleared; what tokio's own streams save that way takes `unsafe`.
        let bytes = buffer.initialize_unfilled();
        let read = poll_io(context, || self.inner.try_read(bytes), |context| self.poll_read_ready(context));
        buffer.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write_shared(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_io(context, || self.inner.try_write(bytes), |context| self.poll_write_ready(context))
    }

    pub(super) fn poll_write_vectored_shared(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_io(context, || self.try_write_vectored(slices), |context| self.poll_write_ready(context))
    }

    pub(super) fn poll_flush_shared(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_io(context, || (&self.inner).flush(), |context| self.poll_write_ready(context))
    }
}

/// Runs what may block on a thread of tokio's for that.
pub(super) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    crate::stack::settle_at_exit();
    match spawn_blocking(run).await {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(io::Error::other("the tokio runtime has ended before the address was open")),
        },
    }
}

impl AsyncRead for VmmcStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_shared(context, buffer)
    }
}

impl AsyncWrite for VmmcStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_shared(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_shared(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_shared(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_std(Shutdown::Write))
    }
}

impl TryFrom<StdStream> for VmmcStream {
    type Error = io::Error;

    fn try_from(stream: StdStream) -> io::Result<VmmcStream> {
        VmmcStream::from_std(stream)
    }
}

impl AsFd for VmmcStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for VmmcStream {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}
