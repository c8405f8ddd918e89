//! Waiting for many streams and listeners at once, in user space: what epoll is to descriptors, without a system call while there is work.

use std::io;
use std::time::Duration;

use crate::{Stack, VmmcListener, VmmcStream};

/// What a source is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token it was registered with.
    pub token: u64,
    /// Reading (or accepting) wouldn't block: data, the end, or an error is there.
    pub readable: bool,
    /// Writing wouldn't block.
    pub writable: bool,
}

/// Waits for many streams and listeners of one stack, level-triggered: what is ready is reported by every wait until it isn't any more.
#[derive(Debug)]
pub struct Poller {}

#[allow(missing_docs)]
impl Poller {
    pub fn new(_stack: &Stack) -> Poller {
        Poller {}
    }
    /// Watches a stream for reading, and for writing if `writable`. Registering it again changes that.
    pub fn add(&self, _stream: &VmmcStream, _token: u64, _writable: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub fn add_listener(&self, _listener: &VmmcListener, _token: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub fn remove(&self, _stream: &VmmcStream) {}
    /// Waits until something is ready or the timeout has passed: spins, then sleeps.
    pub fn wait(&self, _ready: &mut Vec<Ready>, _timeout: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
