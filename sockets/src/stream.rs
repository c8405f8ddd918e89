//! Streams.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

fn missing<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A stream, as [`std::net::TcpStream`].
#[derive(Debug)]
pub struct VmmcStream {}

#[allow(missing_docs)]
impl VmmcStream {
    pub fn connect(_address: impl ToSocketAddrs) -> io::Result<VmmcStream> {
        missing()
    }
    pub fn connect_timeout(_address: &SocketAddr, _timeout: Duration) -> io::Result<VmmcStream> {
        missing()
    }
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        missing()
    }
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        missing()
    }
    pub fn shutdown(&self, _how: Shutdown) -> io::Result<()> {
        missing()
    }
    pub fn try_clone(&self) -> io::Result<VmmcStream> {
        missing()
    }
    pub fn set_read_timeout(&self, _timeout: Option<Duration>) -> io::Result<()> {
        missing()
    }
    pub fn set_write_timeout(&self, _timeout: Option<Duration>) -> io::Result<()> {
        missing()
    }
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        missing()
    }
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        missing()
    }
    pub fn peek(&self, _bytes: &mut [u8]) -> io::Result<usize> {
        missing()
    }
    pub fn set_linger(&self, _linger: Option<Duration>) -> io::Result<()> {
        missing()
    }
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        missing()
    }
    pub fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        missing()
    }
    pub fn nodelay(&self) -> io::Result<bool> {
        missing()
    }
    pub fn set_nonblocking(&self, _nonblocking: bool) -> io::Result<()> {
        missing()
    }
    /// Registers the task to be woken when a read wouldn't block.
    pub fn poll_read_ready(&self, _context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(missing())
    }
    pub fn poll_write_ready(&self, _context: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(missing())
    }
    /// As read, never blocks whatever the mode.
    pub fn try_read(&self, _bytes: &mut [u8]) -> io::Result<usize> {
        missing()
    }
    pub fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        missing()
    }
    pub fn stack(&self) -> crate::Stack {
        unimplemented!()
    }
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        missing()
    }
}

impl Read for VmmcStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self).read(bytes)
    }
    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(slices)
    }
}

impl Read for &VmmcStream {
    fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
        missing()
    }
}

impl Write for VmmcStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }
    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Write for &VmmcStream {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        missing()
    }
    fn flush(&mut self) -> io::Result<()> {
        missing()
    }
}

impl AsFd for VmmcStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

impl AsRawFd for VmmcStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
