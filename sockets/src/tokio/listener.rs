//! Listeners, and the stream of what they accept.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::VmmcStream;
use super::address::ToSocketAddrs;
use super::ready::poll_io;
use super::stream::blocking;
use super::waiters::Waiters;
use crate::{Stack, VmmcListener as StdListener, VmmcStream as StdStream};

/// A listener, as `tokio::net::TcpListener`.
#[derive(Debug)]
pub struct VmmcListener {
    inner: StdListener,
    waiters: Waiters,
}

impl VmmcListener {
    /// Listens, on the process-wide stack that has the address. Port 0 is any that is free.
    ///
    /// Opening an interface blocks, and so may looking up a name: it happens on a thread of tokio's for that.
    ///
    /// # Errors
    /// As [`VmmcListener::bind`](crate::VmmcListener::bind).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<VmmcListener> {
        let address = address.owned();
        blocking(move || StdListener::bind(address)).await.and_then(VmmcListener::from_std)
    }

    /// Listens, on that stack. Doesn't block.
    ///
    /// # Errors
    /// As [`Stack::bind`].
    pub fn bind_on(stack: &Stack, address: SocketAddr) -> io::Result<VmmcListener> {
        stack.bind(address).and_then(VmmcListener::from_std)
    }

    /// Waits for a connection. Loses none when cancelled.
    ///
    /// # Errors
    /// As [`VmmcListener::accept`](crate::VmmcListener::accept).
    pub async fn accept(&self) -> io::Result<(VmmcStream, SocketAddr)> {
        let mut place = self.waiters.ticket();
        poll_fn(|context| {
            let ready =
                |context: &mut Context<'_>| place.poll(context, |context| self.inner.poll_accept_ready(context));
            poll_io(context, || self.inner.try_accept(), ready)
        })
        .await
        .and_then(accepted)
    }

    /// The next connection. If there is none, the task is woken when there is; of those who ask by this function, the last.
    ///
    /// # Errors
    /// As [`VmmcListener::accept`](crate::VmmcListener::accept).
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(VmmcStream, SocketAddr)>> {
        let ready =
            |context: &mut Context<'_>| self.waiters.poll(context, |context| self.inner.poll_accept_ready(context));
        poll_io(context, || self.inner.try_accept(), ready).map(|result| result.and_then(accepted))
    }

    /// Makes one of a listener whose calls block; it and its clones won't any more.
    ///
    /// # Errors
    /// As [`set_nonblocking`](crate::VmmcListener::set_nonblocking).
    pub fn from_std(listener: StdListener) -> io::Result<VmmcListener> {
        listener.set_nonblocking(true)?;
        Ok(VmmcListener { inner: listener, waiters: Waiters::default() })
    }

    /// The other way round. Its calls don't block before
    /// [`set_nonblocking(false)`](crate::VmmcListener::set_nonblocking).
    ///
    /// # Errors
    /// None today: tokio's has the same signature.
    pub fn into_std(self) -> io::Result<StdListener> {
        Ok(self.inner)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As [`VmmcListener::local_addr`](crate::VmmcListener::local_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn accepted((stream, peer): (StdStream, SocketAddr)) -> io::Result<(VmmcStream, SocketAddr)> {
    Ok((VmmcStream::from_std(stream)?, peer))
}

impl TryFrom<StdListener> for VmmcListener {
    type Error = io::Error;

    fn try_from(listener: StdListener) -> io::Result<VmmcListener> {
        VmmcListener::from_std(listener)
    }
}

impl AsFd for VmmcListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for VmmcListener {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Everything that a listener accepts, as a [`Stream`] that never ends: what `tokio_stream::wrappers::TcpListenerStream` is.
#[derive(Debug)]
pub struct VmmcListenerStream {
    inner: VmmcListener,
}

impl VmmcListenerStream {
    /// All that it accepts from now on.
    pub fn new(listener: VmmcListener) -> VmmcListenerStream {
        VmmcListenerStream { inner: listener }
    }

    /// The listener.
    pub fn into_inner(self) -> VmmcListener {
        self.inner
    }
}

impl AsRef<VmmcListener> for VmmcListenerStream {
    fn as_ref(&self) -> &VmmcListener {
        &self.inner
    }
}

impl Stream for VmmcListenerStream {
    type Item = io::Result<VmmcStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<VmmcStream>>> {
        self.inner.poll_accept(context).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}
