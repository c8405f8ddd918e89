//! The sockets of tokio and those of VMMC for tokio under one name, so that each demo has one body for both.
//!
//! Both are implemented by the same lines: nothing but the types differs.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use vmmc_sockets::tokio::{VmmcListener, VmmcStream};

/// A family of sockets.
pub trait Family: 'static {
    /// As it is called in what the demos print.
    const NAME: &str;
    /// As it is called in what the demos write for programs.
    const KEY: &str;
    /// What accepts.
    type Listener: Send + Sync;
    /// What is accepted, and connected.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Listens there.
    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;
    /// Waits for a connection, whose small messages don't wait for more.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
    /// Makes a connection, whose small messages don't wait for more.
    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
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

            async fn bind(address: SocketAddr) -> io::Result<$listener> {
                <$listener>::bind(address).await
            }

            async fn accept(listener: &$listener) -> io::Result<($stream, SocketAddr)> {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((stream, peer))
            }

            async fn connect(address: SocketAddr) -> io::Result<$stream> {
                let stream = <$stream>::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        }
    };
}

family!(Tcp, "kernel TCP", "tcp", TcpListener, TcpStream);
family!(Vmmc, "VMMC", "vmmc", VmmcListener, VmmcStream);
