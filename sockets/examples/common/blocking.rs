//! The sockets of the standard library and those of VMMC under one name, so that each demo has one body for both.
//!
//! Both are implemented by the same lines: nothing but the types differs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use vmmc_sockets::{VmmcListener, VmmcStream};

/// A family of sockets.
pub trait Family: 'static {
    /// As it is called in what the demos print.
    const NAME: &str;
    /// As it is called in what the demos write for programs.
    const KEY: &str;
    /// What accepts.
    type Listener;
    /// What is accepted, and connected.
    type Stream: Read + Write + Send + 'static;

    /// Listens there.
    fn bind(address: SocketAddr) -> io::Result<Self::Listener>;
    /// Waits for a connection.
    fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    /// Makes a connection, whose small messages don't wait for more.
    fn connect(address: SocketAddr) -> io::Result<Self::Stream>;
    /// Small messages don't wait for more, and nothing blocks, if so wished.
    fn prepare(stream: &Self::Stream, nonblocking: bool) -> io::Result<()>;
}

/// Those of the kernel.
pub struct Tcp;
/// Those of this crate.
pub struct Vmmc;

macro_rules! family {
    ($family:ty, $name:literal, $key:literal, $listener:ty, $stream:ty) => {
        impl Family for $family {
            const NAME: &str = $name;
            const KEY: &str = $key;
            type Listener = $listener;
            type Stream = $stream;

            fn bind(address: SocketAddr) -> io::Result<$listener> {
                <$listener>::bind(address)
            }

            fn accept(listener: &$listener) -> io::Result<($stream, SocketAddr)> {
                listener.accept()
            }

            fn connect(address: SocketAddr) -> io::Result<$stream> {
                <$stream>::connect(address)
            }

            fn prepare(stream: &$stream, nonblocking: bool) -> io::Result<()> {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(nonblocking)
            }
        }
    };
}

family!(Tcp, "kernel TCP", "tcp", TcpListener, TcpStream);
family!(Vmmc, "VMMC", "vmmc", VmmcListener, VmmcStream);
