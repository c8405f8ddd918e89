//! A node: one process's attachment to the network.
//!
//! ```no_run
//! use std::time::Duration;
//! use vmmc::{Key, Node};
//!
//! # fn main() -> Result<(), vmmc::Error> {
//! // On one host:
//! let node = Node::builder().interface("vh2").open()?;
//! let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
//! let news = inbox.wait_notification(None)?;
//! let mut bytes = vec![0; news.length as usize];
//! inbox.read(news.offset, &mut bytes)?;
//!
//! // On the other:
//! let node = Node::builder().interface("vh1").open()?;
//! let remote = node.import("10.77.0.2:7000".parse().unwrap(), "inbox", Key::PUBLIC)?;
//! remote.send(b"hello", 0).notify(42).wait()?; // returns once it is in the other's memory
//! # Ok(())
//! # }
//! ```
//!
//! All handles are `Send` and `Sync`, and keep the node alive. With the last of them it closes: what was sent is still
//! delivered, for a second at the most, and the peers are told.

mod builder;
mod bulk;
mod events;
mod export;
mod fetch;
mod import;
mod lane;
mod lend;
mod paged;
mod progress;
mod redirect;
mod scheduler;
mod scoped;
mod source;
mod stats;
mod thresholds;
mod try_direct;
mod try_send;
mod unheard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use builder::{Builder, Progress};
pub use bulk::{Bulk, NoBulkLane};
pub use events::Events;
pub use export::{Export, ExportBuilder};
pub use fetch::{FetchBuilder, FetchFailed, PendingFetch};
pub use import::{Import, Pending, SendBuilder};
pub use lane::{Lane, Resolve};
pub use redirect::{Redirect, RedirectFailed};
pub use scoped::ScopedRedirect;
pub use source::{Held, SendFailed, Source};
pub use thresholds::{BadThresholds, Origin, THRESHOLDS_ENV, THRESHOLDS_FILE, find_thresholds};
pub use try_direct::TryDirect;
pub use try_send::{Sent, TrySend};

pub use stats::Stats;

pub(crate) use self::progress::Shared;
use self::progress::Step;
pub(crate) use self::stats::Identity;
use crate::engine::Key;
use crate::error::Error;
use crate::memory::{Arena, Buffer};
use crate::monitor::Server;
#[cfg(feature = "metrics")]
use crate::monitor::http::MetricsServer;

/// The UDP port of a node that wasn't given another.
pub const DEFAULT_PORT: u16 = 7000;

/// How long a node that closes waits for what it has sent to be delivered.
const LINGER: Duration = Duration::from_secs(1);

/// One process's attachment to the network. Cloning it makes another handle on the same node.
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

/// What every handle keeps alive. When it goes, the node closes.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    arena: Arena,
    /// What the bulk lane reads and writes, if there is one. It may be the same.
    direct: Option<Arena>,
    thread: Option<std::thread::JoinHandle<()>>,
    monitor: Option<Server>,
    #[cfg(feature = "metrics")]
    metrics: Option<MetricsServer>,
}

impl Node {
    /// Starts to describe a node.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn start(shared: Arc<Shared>, (arena, direct): (Arena, Option<Arena>), settings: &Builder) -> Result<Node, Error> {
        #[cfg(feature = "metrics")]
        let metrics = settings.metrics.map(|address| MetricsServer::start(&shared, address)).transpose()?;
        let thread = match settings.progress {
            Progress::Caller => None,
            Progress::Thread { core } => Some(progress::spawn(&shared, core)?),
        };
        let monitor = if settings.monitor { Server::start(&shared) } else { None };
        let handle = Handle {
            shared,
            arena,
            direct,
            thread,
            monitor,
            #[cfg(feature = "metrics")]
            metrics,
        };
        Ok(Node { handle: Arc::new(handle) })
    }

    /// The node's address.
    pub fn local(&self) -> SocketAddr {
        self.handle.shared.enter().engine.local()
    }

    /// Where the Unix socket is by which it can be [watched](crate::monitor), if there is one.
    pub fn monitor_path(&self) -> Option<&std::path::Path> {
        self.handle.monitor.as_ref().map(Server::path)
    }

    /// Where its metrics are served, if they are.
    #[cfg(feature = "metrics")]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.handle.metrics.as_ref().map(MetricsServer::address)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Starts to describe a buffer to export.
    pub fn export(&self, name: &str) -> ExportBuilder<'_> {
        ExportBuilder::new(self, name)
    }

    /// Takes a zeroed buffer of `len` bytes from the node's arena, to send from or to receive into. It comes back to the arena when it is
    /// dropped. Doesn't block.
    ///
    /// # Errors
    /// When `len` is zero, the arena has no room, or the machine no memory.
    pub fn alloc(&self, len: usize) -> Result<Buffer, Error> {
        Ok(self.handle.arena.buffer(len)?)
    }

    /// As [`Node::alloc`], at an address that is a multiple of `align`: a power of two up to the size of the arena's pages, of which 4096 is one
    /// always. Without that, buffers begin at multiples of 64.
    ///
    /// # Errors
    /// As [`Node::alloc`]; or when `align` is none of these.
    pub fn alloc_aligned(&self, len: usize, align: usize) -> Result<Buffer, Error> {
        Ok(self.handle.arena.buffer_aligned(len, align)?)
    }

    /// As [`Node::alloc`], from the arena that the bulk lane reads and writes: long sends from this buffer go from where it lies. Where there is no lane it is [`Node::alloc`].
    ///
    /// # Errors
    /// As [`Node::alloc`].
    pub fn alloc_direct(&self, len: usize) -> Result<Buffer, Error> {
        Ok(self.handle.direct.as_ref().unwrap_or(&self.handle.arena).buffer(len)?)
    }

    /// Whether these bytes lie in the arena that the bulk lane reads and writes.
    pub fn has_direct(&self, bytes: &[u8]) -> bool {
        self.handle.direct.as_ref().is_some_and(|arena| arena.has(bytes))
    }

    /// Imports the buffer that the node at `peer` exports as `name`. Blocks: a link is opened unless there is one, and the
    /// exporter is asked. A node may import what it exports itself.
    ///
    /// # Errors
    /// When `peer` can't be reached or doesn't answer within the node's connect timeout, exports no such buffer, or doesn't
    /// accept the key.
    pub fn import(&self, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        Import::open(self, peer, name, key)
    }

    /// As [`Node::import`], but doesn't wait for the answer: [`Import::check`] tells of it, and an event, if the import
    /// [reports](Import::report_to) to [`Events`]. Until then nothing can be sent.
    ///
    /// When there is no link to the peer yet, the kernel is asked for the way to it, which may take up to a second if it has to ask the network. Otherwise it doesn't block.
    ///
    /// # Errors
    /// When the way to the peer isn't found, or the name can't be that of an export. That the peer refuses, or doesn't answer, is told later; but if `peer` is this
    /// node itself, at once. When the link turns out to be that of an earlier life of the peer, the import fails with it: the next one opens another.
    pub fn start_import(&self, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        Import::start(self, peer, name, key)
    }

    /// Lets the engine work on what has arrived, without blocking. Only needed with [`Progress::Caller`], by a program that
    /// for a long time calls nothing that waits.
    ///
    /// # Errors
    /// When the wire has failed.
    pub fn progress(&self) -> Result<(), Error> {
        self.handle.shared.progress()
    }

    /// Waits until everything that was sent has been acknowledged, or can't be any more, and returns true; false when `timeout` has passed. For programs that are about to end
    /// without dropping the node, which would see to it.
    ///
    /// # Errors
    /// When the wire has failed.
    pub fn settle(&self, timeout: Duration) -> Result<bool, Error> {
        let settled =
            self.handle.shared.wait(Some(timeout), |core| Ok(Step::from(core.engine.is_settled().then_some(()))))?;
        Ok(settled.is_some())
    }

    /// Counters and states, all taken at one moment.
    ///
    /// # Errors
    /// When the steering program's counters can't be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.handle.shared.stats()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("local", &self.local()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        {
            self.metrics = None;
        }
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked its message is already on stderr.
            let _ = thread.join();
        }
        self.shared.close(LINGER);
        // After the last packet: captures have that, too.
        self.shared.enter().tap.end();
        self.monitor = None;
    }
}
