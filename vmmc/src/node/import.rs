//! Imports: handles on the exports of others, and sends into them.

pub(super) mod direct;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::progress::Step;
use super::source::{Held, Source};
use super::{Events, Handle, Node};
use crate::engine::{EngineError, Key, LEAST_THRESHOLD, Send, Ticket};
use crate::error::Error;
use crate::memory::{DirectSource, MemoryError, PagedHold};

/// How long the kernel may take to find a peer's Ethernet address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// An address as packets carry it: without scope and flow label.
fn bare(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip(), peer.port())
}

/// A handle on a buffer that another node exports (the paper's proxy buffer). Sends go into it.
pub struct Import {
    pub(super) handle: Arc<Handle>,
    pub(super) id: u32,
    peer: SocketAddr,
    name: String,
    /// The export's, once that is known.
    length: OnceLock<u64>,
}

impl Import {
    pub(super) fn open(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        let peer = bare(peer);
        let linked = node.handle.shared.enter().engine.has_link(peer);
        match Self::try_open(node, peer, name, key) {
            // The link was an old one, of a peer that has gone since: this is how we learn it, and a new one may well open.
            Err(Error::Engine(EngineError::LinkEnded { .. })) if linked => Self::try_open(node, peer, name, key),
            result => result,
        }
    }

    /// Asks for an import, and doesn't wait for the answer.
    pub(super) fn start(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        let peer = bare(peer);
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
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            engine.tick(now, port);
            let sent = port.flush().map_err(Error::Wire);
            if sent.is_err() {
                engine.unimport(id);
            }
            shared.leave(&mut core);
            sent.map(|()| id)?
        };
        Ok(Import { handle: handle.clone(), id, peer, name: name.to_owned(), length: OnceLock::new() })
    }

    fn try_open(node: &Node, peer: SocketAddr, name: &str, key: Key) -> Result<Import, Error> {
        // From here on the import is given back in any case.
        let import = Self::start(node, peer, name, key)?;
        let (shared, id) = (&import.handle.shared, import.id);
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
        });
        // It may have answered, and not be heard.
        let length = length.inspect_err(|_| shared.look_for_unheard())?;
        let length = length.ok_or(Error::Timeout { what: "answer to an import", after: patience })?;
        import.length.get_or_init(|| length);
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

    /// The export's length, bytes; 0 while the exporter hasn't answered.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> u64 {
        self.length.get().copied().or_else(|| self.check().ok().flatten()).unwrap_or(0)
    }

    /// Whether it can be used, as far as is known now: the export's length, bytes, or `None` while the exporter hasn't answered. Doesn't look for packets.
    ///
    /// # Errors
    /// When the exporter has refused it, or revoked the export, or the link has ended: then it is of no use any more.
    pub fn check(&self) -> Result<Option<u64>, Error> {
        let length = self.handle.shared.enter().engine.imported(self.id)?;
        Ok(length.map(|length| *self.length.get_or_init(|| length)))
    }

    /// Whenever something about this import changes, an event with this token is queued in `events`: it has been answered or refused, revoked, its link has ended, or there
    /// may be room again after a [`Import::try_send`] that took less than it was given. [`Import::check`] tells which. No more than one such event waits at a time.
    ///
    /// An import that has been answered already has its first event at once. A second call takes the place of the first.
    ///
    /// # Errors
    /// When the events are of another node.
    pub fn report_to(&self, events: &Events, token: u64) -> Result<(), Error> {
        events.check(&self.handle)?;
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        core.engine.report_import(self.id, events.id, token)?;
        shared.leave(&mut core);
        Ok(())
    }

    /// Prepares a send of `source` to byte `offset` of the export. Nothing happens until [`SendBuilder::start`] or
    /// [`SendBuilder::wait`].
    ///
    /// A borrowed source (`&[u8]`, `&Vec<u8>`, ...) is copied, and the caller's again as soon as the send has started. So is a borrowed
    /// [`PagedBuffer`](crate::PagedBuffer), after the UTLB has looked up its pages. An owned buffer is away
    /// while it is in flight: nobody can write or free it; it comes back when the send is over, well or not. So a long one isn't copied, where both nodes have
    /// [bulk lanes](super::Builder::bulk): a [`Buffer`](crate::Buffer) is sent from where it lies, and a [`PagedBuffer`](crate::PagedBuffer) is if all pages of what is sent are pinned.
    pub fn send<S: Source>(&self, source: S, offset: u64) -> SendBuilder<'_, S> {
        let parameters = Parameters { offset, notify: None, urgent: false, queued: false };
        SendBuilder { import: self, source, part: None, parameters, timeout: None }
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
        let mut core = shared.act(|engine| engine.unimport(self.id));
        shared.leave(&mut core);
    }
}

/// Of a send, all but its bytes.
#[derive(Clone, Copy, Debug)]
struct Parameters {
    offset: u64,
    notify: Option<u32>,
    urgent: bool,
    queued: bool,
}

/// A send that is about to be made: [`Import::send`].
#[derive(Debug)]
#[must_use = "a send happens with `start` or `wait`"]
pub struct SendBuilder<'i, S> {
    import: &'i Import,
    source: S,
    part: Option<Range<usize>>,
    parameters: Parameters,
    timeout: Option<Duration>,
}

/// The error of a send from `S`.
type Failure<S> = <<S as Source>::Held as Held>::Failure;

impl<'i, S: Source> SendBuilder<'i, S> {
    /// Sends only these bytes of the source. Default: all of them.
    pub fn part(mut self, bytes: Range<usize>) -> Self {
        self.part = Some(bytes);
        self
    }

    /// Announces the send to the exporter, with this tag, once all of it is in its memory.
    pub fn notify(mut self, tag: u32) -> Self {
        self.parameters.notify = Some(tag);
        self
    }

    /// How long the whole may take. Default: until the peer counts as dead.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends, and returns as soon as the bytes have been copied into packets: borrowed ones are the caller's again. Of bytes that aren't copied, it returns as soon as all have been
    /// announced to the peer. Blocks while the peer or the network takes no more.
    ///
    /// # Errors
    /// When the send doesn't fit into the export, the import is of no use any more, or the timeout passes: then part
    /// of it may have arrived, without notification.
    pub fn start(mut self) -> Result<Pending<'i, S::Held>, Failure<S>> {
        let mut hold = None;
        if let Some(part) = self.direct_part() {
            match self.source.into_direct(part.clone()) {
                Ok(source) => return direct::start(self.import, source, part, self.parameters, self.timeout),
                Err(back) => (self.source, hold) = back,
            }
        }
        let sent = self.put(hold);
        let SendBuilder { import, source, timeout, .. } = self;
        let held = source.into_held();
        match sent {
            Ok(ticket) => Ok(Pending { import, ticket, timeout, away: Away::Held(held) }),
            Err(error) => Err(held.fail(error)),
        }
    }

    /// What is to be sent, if it is worth while to ask whether it can be from where it lies.
    fn direct_part(&self) -> Option<Range<usize>> {
        let all = self.source.bytes().len();
        let part = self.part.clone().unwrap_or(0..all);
        let is_long = part.len() >= LEAST_THRESHOLD && part.end <= all;
        (is_long && !self.parameters.queued && self.import.takes_direct(&self.source, part.len())).then_some(part)
    }

    /// Puts the bytes into packets. Their pages may have been looked up.
    fn put(&self, hold: Option<PagedHold<'_>>) -> Result<Ticket, Error> {
        let all = self.source.bytes();
        let part = self.part.clone().unwrap_or(0..all.len());
        if part.start > part.end {
            return Err(Error::Config(format!("a part of bytes {part:?} ends before it begins")));
        }
        let (offset, len, region) = (part.start as u64, part.len(), all.len());
        let data = all.get(part.clone()).ok_or(MemoryError::OutOfRange { offset, len, region })?;
        // Until the bytes are in packets.
        let _hold = hold.or_else(|| self.source.hold(part));
        let Parameters { offset, notify, urgent, queued } = self.parameters;
        let mut send = Send::new(data, offset);
        (send.notify, send.urgent, send.queued) = (notify, urgent, queued);
        let (shared, id) = (&self.import.handle.shared, self.import.id);
        if queued {
            let mut core = shared.enter();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            if let Some(ticket) = engine.coalesce(port, id, &mut send)? {
                return Ok(ticket);
            }
        }
        let ticket = shared.wait(self.timeout, |core| {
            let now = core.now();
            let before = send.done();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            let ticket = engine.send(now, port, id, &mut send)?;
            port.flush().map_err(Error::Wire)?;
            Ok(match ticket {
                Some(ticket) => Step::Done(ticket),
                None if send.done() > before => Step::Moved,
                None => Step::Idle,
            })
        })?;
        let after = self.timeout.unwrap_or_default();
        ticket.ok_or(Error::Timeout { what: "room for the whole send", after })
    }

    /// As [`SendBuilder::start`], but leaves the packet open for other sends to the same peer to share. It leaves when it is
    /// full, with the next `start` or `wait` to that peer, or with the engine's next turn: that of the next call that waits, or at once
    /// of the node's thread. Many small sends cost a fraction of what they would cost each in a packet of its own.
    ///
    /// # Errors
    /// As [`SendBuilder::start`].
    pub fn queue(mut self) -> Result<Pending<'i, S::Held>, Failure<S>> {
        self.parameters.queued = true;
        self.start()
    }

    /// Sends, and blocks until all of it is in the exporter's memory. Gives an owned buffer back.
    ///
    /// # Errors
    /// As [`SendBuilder::start`]; and when the peer refuses the send or dies before it has acknowledged it.
    pub fn wait(mut self) -> Result<S::Held, Failure<S>> {
        self.parameters.urgent = true;
        self.start()?.wait()
    }
}

/// A send whose bytes have left: it can be asked whether they have arrived. Dropping it changes nothing for the send; an owned buffer goes with
/// it.
#[derive(Debug)]
pub struct Pending<'i, H = ()> {
    import: &'i Import,
    ticket: Ticket,
    timeout: Option<Duration>,
    away: Away<H>,
}

/// The buffer of a send.
#[derive(Debug)]
enum Away<H> {
    /// Its bytes are in packets.
    Held(H),
    /// It is being sent from where it lies.
    Direct(DirectSource),
}

impl<H: Held> Pending<'_, H> {
    /// Whether all of it is in the exporter's memory, as far as is known now. Doesn't look for packets.
    ///
    /// # Errors
    /// When it was refused, or the link ended before it was acknowledged.
    pub fn is_delivered(&self) -> Result<bool, Error> {
        Ok(self.import.handle.shared.enter().engine.is_delivered(&self.ticket)?)
    }

    /// Blocks until all of it is in the exporter's memory. Gives an owned buffer back.
    ///
    /// # Errors
    /// As [`Pending::is_delivered`]; or [`Error::Timeout`].
    pub fn wait(self) -> Result<H, H::Failure> {
        let shared = &self.import.handle.shared;
        let done =
            shared.wait(self.timeout, |core| Ok(Step::from(core.engine.is_delivered(&self.ticket)?.then_some(()))));
        let after = self.timeout.unwrap_or_default();
        let result = done.and_then(|done| done.ok_or(Error::Timeout { what: "acknowledgement", after }));
        let held = match self.away {
            Away::Held(held) => held,
            Away::Direct(source) => direct::take_back(self.import, source),
        };
        match result {
            Ok(()) => Ok(held),
            Err(error) => Err(held.fail(error)),
        }
    }
}
