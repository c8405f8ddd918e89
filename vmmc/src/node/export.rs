//! Exports: buffers that others write into.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::progress::Step;
use super::{Events, Handle, Node};
use crate::engine::{EngineError, ExportOptions, Key, Notification};
use crate::error::Error;
use crate::memory::Region;

/// Describes a buffer to export: [`Node::export`].
#[derive(Debug)]
pub struct ExportBuilder<'a> {
    node: &'a Node,
    len: usize,
    key: Option<Key>,
    sparse: bool,
    direct: bool,
    options: ExportOptions,
    report: Option<(&'a Events, u64)>,
    merge: bool,
    look_back: bool,
}

impl<'a> ExportBuilder<'a> {
    pub(super) fn new(node: &'a Node, name: &str) -> ExportBuilder<'a> {
        let options = ExportOptions {
            name: name.to_owned(),
            key: Key::PUBLIC,
            peers: Vec::new(),
            only: None,
            notify: false,
            readable: false,
            writable: true,
            queue: 1024,
        };
        ExportBuilder {
            node,
            len: 4096,
            key: None,
            sparse: false,
            direct: false,
            options,
            report: None,
            merge: false,
            look_back: true,
        }
    }

    /// Its length, bytes: 1 up to what the arena has left. Default: 4096.
    pub fn len(mut self, bytes: usize) -> Self {
        self.len = bytes;
        self
    }

    /// The key that opens it. Default: a random one, which [`Export::key`] tells. [`Key::PUBLIC`] lets everyone in.
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Nodes at these addresses may import it without the key. Anyone on the same network can claim an address: where that
    /// matters, use the key.
    pub fn peers(mut self, peers: &[IpAddr]) -> Self {
        self.options.peers = peers.to_vec();
        self
    }

    /// Only the node at exactly this address, IP and UDP port, may import it; others are denied. That node needs the key, too, unless this is
    /// [`Key::PUBLIC`] or its address is among the [`peers`](Self::peers). Default: any node.
    pub fn only(mut self, peer: SocketAddr) -> Self {
        self.options.only = Some(peer);
        self
    }

    /// Whether its memory is taken from the system as it is written, or read, and not when it is created, and may go back by [`Export::discard`]. So an export
    /// of which little is used at a time costs little, however long it is; and it begins at a page of the arena, so that its pages are
    /// at multiples of 4096. The price: who writes to a page first waits until the system has found and cleared it, and if the machine has no
    /// memory left then, no call fails, but the system ends a process, this one or another.
    ///
    /// An arena in huge pages has taken all its memory already: there this changes nothing. Default: false.
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    /// Whether it lies in the arena that the bulk lane reads and writes, where there is [one of its own](super::Builder::bulk_arena). It isn't sparse there. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Whether sends may announce themselves. Default: false.
    pub fn notify(mut self, notify: bool) -> Self {
        self.options.notify = notify;
        self
    }

    /// Whether importers may fetch from it: [`Import::fetch`](super::Import::fetch). Default: false.
    pub fn readable(mut self, readable: bool) -> Self {
        self.options.readable = readable;
        self
    }

    /// Whether importers may send into it. Default: true.
    pub fn writable(mut self, writable: bool) -> Self {
        self.options.writable = writable;
        self
    }

    /// How many notifications may wait to be taken, 1 or more; when they are that many, senders are held up. Default: 1024.
    pub fn queue(mut self, notifications: usize) -> Self {
        self.options.queue = notifications.max(1);
        self
    }

    /// Its notifications go to `events`, with this token, and not into a queue of its own: there is nothing for [`Export::try_notification`] and
    /// [`Export::wait_notification`] to take. All else is the same: [`ExportBuilder::queue`] says how many of this export's may wait there, and redirects take data.
    pub fn report_to(mut self, events: &'a Events, token: u64) -> Self {
        self.report = Some((events, token));
        self
    }

    /// Whether a notification that waits becomes one with the next, when that is of the same sender and has the same tag, and its bytes begin where those of the first
    /// end: one with the sum of both lengths. For byte streams, whose reader cares for how far they have come and not for how they were cut. Only the newest that waits grows,
    /// in [`Events`] the newest event of all, and neither one without bytes nor one whose data a redirect has taken is merged. What is merged takes no room in the queue. Default: false.
    pub fn merge(mut self, merge: bool) -> Self {
        self.merge = merge;
        self
    }

    /// Whether redirects take what has come before they were posted, unless it has been taken. When false they take only what comes from then on, and what has come stays
    /// in the export: messages cost a little less, many small ones to many places the most. Default: true.
    pub fn look_back(mut self, look_back: bool) -> Self {
        self.look_back = look_back;
        self
    }

    /// Exports it. Its bytes are zero.
    ///
    /// # Errors
    /// When the arena has no room, the name is taken or can't be, or it is to report to the events of another node.
    pub fn create(mut self) -> Result<Export, Error> {
        let handle = &self.node.handle;
        if let Some((events, _)) = self.report {
            events.check(handle)?;
        }
        let region = match &handle.direct {
            Some(arena) if self.direct => arena.alloc(self.len),
            _ if self.sparse => handle.arena.sparse(self.len),
            _ => handle.arena.alloc(self.len),
        }?;
        self.options.key = match self.key {
            Some(key) => key,
            None => Key::random()?,
        };
        let (name, key) = (self.options.name.clone(), self.options.key);
        let mut core = handle.shared.enter();
        let id = core.engine.export(self.options, region.clone())?;
        core.engine.merge_notifications(id, self.merge)?;
        core.engine.look_back(id, self.look_back)?;
        if let Some((events, token)) = self.report {
            core.engine.report_export(id, events.id, token)?;
        }
        drop(core);
        Ok(Export {
            handle: handle.clone(),
            id,
            name,
            key,
            region,
            reports: self.report.is_some(),
            revoked: AtomicBool::new(false),
        })
    }
}

impl Key {
    /// A random key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Key, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| Error::System { doing: "drawing a random key", source: e.into() })?;
        Ok(Key::new(bytes))
    }
}

/// A buffer that others may write into. Dropping it revokes it: nothing is written into it from then on.
pub struct Export {
    pub(super) handle: Arc<Handle>,
    pub(super) id: u32,
    name: String,
    key: Key,
    pub(super) region: Region,
    /// Its notifications go to events.
    reports: bool,
    /// Its number may be another's by now.
    revoked: AtomicBool,
}

impl Export {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Its length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// Copies bytes out. Peers may be writing the same bytes meanwhile: what was announced by a notification is there in
    /// whole, unless somebody has written over it since.
    ///
    /// # Errors
    /// When that reaches past the end.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        Ok(self.region.read(offset, bytes)?)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// When that reaches past the end, or some of these bytes are [lent](Export::lend).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.region.write(offset, bytes)?)
    }

    /// The next notification, if one has come. With [`Progress::Caller`](super::Progress) it looks for packets first.
    ///
    /// # Errors
    /// When the wire has failed, it has been [revoked](Export::revoke), or the notifications go [elsewhere](ExportBuilder::report_to).
    pub fn try_notification(&self) -> Result<Option<Notification>, Error> {
        self.take(Some(Duration::ZERO))
    }

    /// Waits for the next notification: spins for a while, then sleeps. `timeout` is a duration, or `None` to wait for ever.
    ///
    /// # Errors
    /// [`Error::Timeout`] when none comes in time; or when the wire has failed, it is [revoked](Export::revoke), or the notifications go
    /// [elsewhere](ExportBuilder::report_to).
    pub fn wait_notification(&self, timeout: impl Into<Option<Duration>>) -> Result<Notification, Error> {
        let timeout = timeout.into();
        let after = timeout.unwrap_or(Duration::MAX);
        self.take(timeout)?.ok_or(Error::Timeout { what: "notification", after })
    }

    fn take(&self, timeout: Option<Duration>) -> Result<Option<Notification>, Error> {
        if self.reports {
            return Err(EngineError::Reported { name: self.name.clone() }.into());
        }
        self.handle.shared.wait(timeout, |core| Ok(Step::from(core.engine.take_notification(self.live()?))))
    }

    /// Its number, unless it has been revoked: then it may be another's by now.
    pub(super) fn live(&self) -> Result<u32, EngineError> {
        if self.revoked.load(Ordering::Relaxed) { Err(EngineError::Dropped) } else { Ok(self.id) }
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("name", &self.name).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.revoke();
    }
}

impl Export {
    /// Revokes it, as dropping it does: nothing is written into it from now on, its importers are told, and its name is free. Notifications that wait are
    /// dropped, and whoever waits for one gets an error. What has come can still be read. Does nothing the second time. Doesn't block.
    pub fn revoke(&self) {
        if self.revoked.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = &self.handle.shared;
        // Whoever isn't told learns it from the refusal of the next send.
        let mut core = shared.act(|engine| engine.unexport(self.id));
        shared.announce(&mut core);
    }
}
