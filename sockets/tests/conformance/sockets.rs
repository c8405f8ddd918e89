//! What TCP's sockets and VMMC's have in common: traits with the methods of `std::net`, so that a test is written once.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use rustix::net::sockopt;
use vmmc_sockets::{VmmcListener, VmmcStream};

/// A connected stream: the methods of [`TcpStream`]; those of [`Read`] and [`Write`] by a shared reference.
pub trait Stream:
    Read + Write + AsFd + AsRawFd + Debug + Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Sized + 'static
{
    /// The shared reference reads and writes, too.
    fn io(&self) -> impl Read + Write + '_;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    fn try_clone(&self) -> io::Result<Self>;
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn read_timeout(&self) -> io::Result<Option<Duration>>;
    fn write_timeout(&self) -> io::Result<Option<Duration>>;
    fn peek(&self, bytes: &mut [u8]) -> io::Result<usize>;
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()>;
    fn linger(&self) -> io::Result<Option<Duration>>;
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.io().read(bytes)
    }
    fn read_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.io().read_exact(bytes)
    }
    fn read_to_end(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.io().read_to_end(&mut bytes).map(|_| bytes)
    }
    fn read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io().read_vectored(slices)
    }
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io().write(bytes)
    }
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.io().write_all(bytes)
    }
    fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io().write_vectored(slices)
    }
    fn flush(&self) -> io::Result<()> {
        self.io().flush()
    }
}

/// A listener: the methods of [`TcpListener`].
pub trait Listener:
    AsFd + AsRawFd + Debug + Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Sized + 'static
{
    type Stream: Stream;
    fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn try_clone(&self) -> io::Result<Self>;
    fn incoming(&self) -> impl Iterator<Item = io::Result<Self::Stream>> + '_;
    fn into_incoming(self) -> impl Iterator<Item = io::Result<Self::Stream>>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

/// The types have methods of the same names; some of TCP's aren't stable in std, and are given apart.
macro_rules! family {
    ($stream:ty, $listener:ty, $set_linger:expr, $linger:expr, $into_incoming:expr) => {
        impl Stream for $stream {
            fn io(&self) -> impl Read + Write + '_ {
                self
            }
            fn peer_addr(&self) -> io::Result<SocketAddr> {
                <$stream>::peer_addr(self)
            }
            fn local_addr(&self) -> io::Result<SocketAddr> {
                <$stream>::local_addr(self)
            }
            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                <$stream>::shutdown(self, how)
            }
            fn try_clone(&self) -> io::Result<Self> {
                <$stream>::try_clone(self)
            }
            fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                <$stream>::set_read_timeout(self, timeout)
            }
            fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                <$stream>::set_write_timeout(self, timeout)
            }
            fn read_timeout(&self) -> io::Result<Option<Duration>> {
                <$stream>::read_timeout(self)
            }
            fn write_timeout(&self) -> io::Result<Option<Duration>> {
                <$stream>::write_timeout(self)
            }
            fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
                <$stream>::peek(self, bytes)
            }
            fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
                $set_linger(self, linger)
            }
            fn linger(&self) -> io::Result<Option<Duration>> {
                $linger(self)
            }
            fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
                <$stream>::set_nodelay(self, nodelay)
            }
            fn nodelay(&self) -> io::Result<bool> {
                <$stream>::nodelay(self)
            }
            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                <$stream>::set_nonblocking(self, nonblocking)
            }
            fn take_error(&self) -> io::Result<Option<io::Error>> {
                <$stream>::take_error(self)
            }
        }

        impl Listener for $listener {
            type Stream = $stream;
            fn accept(&self) -> io::Result<($stream, SocketAddr)> {
                <$listener>::accept(self)
            }
            fn local_addr(&self) -> io::Result<SocketAddr> {
                <$listener>::local_addr(self)
            }
            fn try_clone(&self) -> io::Result<Self> {
                <$listener>::try_clone(self)
            }
            fn incoming(&self) -> impl Iterator<Item = io::Result<$stream>> + '_ {
                <$listener>::incoming(self)
            }
            fn into_incoming(self) -> impl Iterator<Item = io::Result<$stream>> {
                $into_incoming(self)
            }
            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                <$listener>::set_nonblocking(self, nonblocking)
            }
            fn take_error(&self) -> io::Result<Option<io::Error>> {
                <$listener>::take_error(self)
            }
        }
    };
}

family!(
    TcpStream,
    TcpListener,
    |stream: &TcpStream, linger| sockopt::set_socket_linger(stream, linger).map_err(io::Error::from),
    |stream: &TcpStream| sockopt::socket_linger(stream).map_err(io::Error::from),
    |listener: TcpListener| std::iter::from_fn(move || Some(listener.accept().map(|(stream, _)| stream)))
);
family!(VmmcStream, VmmcListener, VmmcStream::set_linger, VmmcStream::linger, VmmcListener::into_incoming);
