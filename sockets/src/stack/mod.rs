//! A process's sockets on one node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{VmmcListener, VmmcStream};

fn missing<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A process's sockets on one node. Cloning it makes another handle.
#[derive(Clone, Debug)]
pub struct Stack {}

/// Describes a stack.
#[derive(Clone, Debug)]
pub struct StackBuilder {}

#[allow(missing_docs)]
impl Stack {
    pub fn builder() -> StackBuilder {
        StackBuilder {}
    }
    /// On a node that is open already: with `Progress::Caller`.
    pub fn on(_node: vmmc::Node) -> io::Result<Stack> {
        missing()
    }
    /// The process-wide stack: `VmmcListener::bind` and `VmmcStream::connect` use this one from now on.
    pub fn make_default(&self) -> io::Result<()> {
        missing()
    }
    pub fn bind(&self, _address: SocketAddr) -> io::Result<VmmcListener> {
        missing()
    }
    pub fn connect(&self, _address: SocketAddr) -> io::Result<VmmcStream> {
        missing()
    }
    pub fn connect_timeout(&self, _address: SocketAddr, _timeout: Duration) -> io::Result<VmmcStream> {
        missing()
    }
}

#[allow(missing_docs)]
impl StackBuilder {
    pub fn interface(self, _name: &str) -> StackBuilder {
        self
    }
    pub fn address(self, _address: IpAddr) -> StackBuilder {
        self
    }
    pub fn port(self, _udp_port: u16) -> StackBuilder {
        self
    }
    /// How long calls may spin before they sleep, at the most: Duration::MAX never sleeps, ZERO never spins. Default: adaptive.
    pub fn spin(self, _most: Duration) -> StackBuilder {
        self
    }
    pub fn open(self) -> io::Result<Stack> {
        missing()
    }
}
