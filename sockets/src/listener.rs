//! Listeners: what accepts streams at a port.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::VmmcStream;

fn missing<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A listener, as [`std::net::TcpListener`].
#[derive(Debug)]
pub struct VmmcListener {}

impl VmmcListener {
    /// Binds.
    pub fn bind(_address: impl ToSocketAddrs) -> io::Result<VmmcListener> {
        missing()
    }
    /// Accepts.
    pub fn accept(&self) -> io::Result<(VmmcStream, SocketAddr)> {
        missing()
    }
    /// Its address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        missing()
    }
    /// Another handle.
    pub fn try_clone(&self) -> io::Result<VmmcListener> {
        missing()
    }
    /// All that come.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
    /// All that come.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }
    /// Whether accept blocks.
    pub fn set_nonblocking(&self, _nonblocking: bool) -> io::Result<()> {
        missing()
    }
    /// Registers the task to be woken when an accept wouldn't block.
    pub fn poll_accept_ready(&self, _context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(missing())
    }
    /// As accept, never blocks whatever the mode.
    pub fn try_accept(&self) -> io::Result<(VmmcStream, SocketAddr)> {
        missing()
    }
    /// The error that is pending.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        missing()
    }
}

impl AsFd for VmmcListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

impl AsRawFd for VmmcListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// All streams that a listener accepts.
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

/// All streams that a listener accepts.
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
