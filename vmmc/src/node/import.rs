//! Imports: handles on the exports of others, and sends into them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::progress::Step;
use super::{Handle, Node};
use crate::engine::{EngineError, Key, Send, Ticket};
use crate::error::Error;

/// How long the kernel may take to find a peer's Ethernet address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle on a buffer that another node exports (the paper's proxy buffer). Sends go into it.
pub struct Import {
    handle: Arc<Handle>,
    id: u32,
    peer: SocketAddr,
    name: String,
    length: u64,
}

impl Import {
    pub(super) fn open(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        // Packets carry no scope and no flow label.
        let peer = SocketAddr::new(peer.ip(), peer.port());
        let linked = node.handle.shared.enter().engine.has_link(peer);
        match Self::try_open(node, peer, name, key) {
            // The link was an old one, of a peer that has gone since: this is how we learn it, and a new one may well open.
            Err(Error::Engine(EngineError::LinkEnded { .. })) if linked => Self::try_open(node, peer, name, key),
            result => result,
        }
    }

    fn try_open(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        let handle = &node.handle;
        let shared = &handle.shared;
        let (local, linked) = {
            let core = shared.enter();
            (core.engine.local(), core.engine.has_link(peer))
        };
        let next_hop = if peer == local || linked { None } else { Some(shared.resolve(peer.ip(), RESOLVE_TIMEOUT)?) };
        let id = {
            let mut core = shared.enter();
            let now = core.now();
            if let Some(mac) = next_hop {
                core.engine.connect(now, peer, mac)?;
            }
            let id = core.engine.import(peer, name, key)?;
            shared.leave(&mut core);
            id
        };
        // From here on the import is given back in any case.
        let mut import = Import { handle: handle.clone(), id, peer, name: name.to_owned(), length: 0 };
        // The link gives up by itself when the peer isn't there. But one may be there and not answer this.
        let patience = shared.enter().engine.patience();
        let length = shared.wait(Some(patience), |core| {
            let now = core.now();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            if engine.deadline() <= now {
                engine.tick(now, port);
            }
            port.flush().map_err(Error::Wire)?;
            Ok(Step::from(engine.imported(id)?))
        })?;
        import.length = length.ok_or(Error::Timeout { what: "answer to an import", after: patience })?;
        Ok(import)
    }

    /// The exporter's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The export's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The export's length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Prepares a send of `data` to byte `offset` of the export. Nothing happens until [`SendBuilder::start`] or
    /// [`SendBuilder::wait`].
    pub fn send<'i, 'd>(&'i self, data: &'d [u8], offset: u64) -> SendBuilder<'i, 'd> {
        SendBuilder { import: self, send: Send::new(data, offset), timeout: None }
    }
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").field("peer", &self.peer).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        let now = core.now();
        let (engine, mut wire) = core.parts();
        let port = wire.port();
        engine.unimport(self.id);
        engine.tick(now, port);
        // If it can't leave now, it does with the next progress.
        let _ = port.flush();
        shared.leave(&mut core);
    }
}

/// A send that is about to be made: [`Import::send`].
#[derive(Debug)]
#[must_use = "a send happens with `start` or `wait`"]
pub struct SendBuilder<'i, 'd> {
    import: &'i Import,
    send: Send<'d>,
    timeout: Option<Duration>,
}

impl<'i> SendBuilder<'i, '_> {
    /// Announces the send to the exporter, with this tag, once all of it is in its memory.
    pub fn notify(mut self, tag: u32) -> Self {
        self.send.notify = Some(tag);
        self
    }

    /// How long the whole may take. Default: until the peer counts as dead.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends, and returns as soon as the bytes have been copied into packets: they are the caller's again. Blocks while the
    /// peer or the network takes no more.
    ///
    /// # Errors
    /// When the send doesn't fit into the export, the import is of no use any more, or the timeout passes: then part
    /// of it may have arrived, without notification.
    pub fn start(mut self) -> Result<Pending<'i>, Error> {
        let shared = &self.import.handle.shared;
        let id = self.import.id;
        let send = &mut self.send;
        let pending = |ticket| Pending { import: self.import, ticket, timeout: self.timeout };
        if send.queued {
            let mut core = shared.enter();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            if let Some(ticket) = engine.coalesce(port, id, send)? {
                return Ok(pending(ticket));
            }
        }
        let ticket = shared.wait(self.timeout, |core| {
            let now = core.now();
            let before = send.done();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            let ticket = engine.send(now, port, id, send)?;
            port.flush().map_err(Error::Wire)?;
            Ok(match ticket {
                Some(ticket) => Step::Done(ticket),
                None if send.done() > before => Step::Moved,
                None => Step::Idle,
            })
        })?;
        let after = self.timeout.unwrap_or_default();
        let ticket = ticket.ok_or(Error::Timeout { what: "room for the whole send", after })?;
        Ok(pending(ticket))
    }

    /// As [`SendBuilder::start`], but leaves the packet open for other sends to the same peer to share. It leaves when it is
    /// full, with the next `start` or `wait` to that peer, or with the engine's next turn: that of the next call that waits, or at once
    /// of the node's thread. Many small sends cost a fraction of what they would cost each in a packet of its own.
    ///
    /// # Errors
    /// As [`SendBuilder::start`].
    pub fn queue(mut self) -> Result<Pending<'i>, Error> {
        self.send.queued = true;
        self.start()
    }

    /// Sends, and blocks until all of it is in the exporter's memory.
    ///
    /// # Errors
    /// As [`SendBuilder::start`]; and when the peer refuses the send or dies before it has acknowledged it.
    pub fn wait(mut self) -> Result<(), Error> {
        self.send.urgent = true;
        self.start()?.wait()
    }
}

/// A send whose bytes have left: it can be asked whether they have arrived. Dropping it changes nothing.
#[derive(Debug)]
pub struct Pending<'i> {
    import: &'i Import,
    ticket: Ticket,
    timeout: Option<Duration>,
}

impl Pending<'_> {
    /// Whether all of it is in the exporter's memory, as far as is known now. Doesn't look for packets.
    ///
    /// # Errors
    /// When it was refused, or the link ended before it was acknowledged.
    pub fn is_delivered(&self) -> Result<bool, Error> {
        Ok(self.import.handle.shared.enter().engine.is_delivered(&self.ticket)?)
    }

    /// Blocks until all of it is in the exporter's memory.
    ///
    /// # Errors
    /// As [`Pending::is_delivered`]; or [`Error::Timeout`].
    pub fn wait(self) -> Result<(), Error> {
        let shared = &self.import.handle.shared;
        let done =
            shared.wait(self.timeout, |core| Ok(Step::from(core.engine.is_delivered(&self.ticket)?.then_some(()))))?;
        done.ok_or(Error::Timeout { what: "acknowledgement", after: self.timeout.unwrap_or_default() })
    }
}
