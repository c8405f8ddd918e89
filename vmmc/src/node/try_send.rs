//! Sends for whoever doesn't wait: as much as there is room for now.

use super::Import;
use crate::engine::{Send, Ticket};
use crate::error::Error;

/// The most bytes that are sent at once: the others that use the node have their turn then. So many as 64 packets hold where the MTU is 1500.
const MOST: usize = 96 << 10;

/// So many bytes are worth a system call, though the send is queued.
const WORTH: usize = 16 << 10;

/// A send of as much as there is room for, about to be made: [`Import::try_send`].
#[derive(Debug)]
#[must_use = "a send happens with `now`"]
pub struct TrySend<'a> {
    import: &'a Import,
    bytes: &'a [u8],
    offset: u64,
    notify: Option<u32>,
    queued: bool,
}

/// What came of [`TrySend::now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// How many of the bytes are on their way: the first of them.
    pub bytes: usize,
    /// Whether these are all, and the notification is on its way, too: that of a send without bytes is all there is of it.
    pub complete: bool,
    /// By which [`Import::is_delivered`] tells whether what was sent has arrived. `None` when nothing was sent.
    pub ticket: Option<Ticket>,
}

impl Import {
    /// Prepares a send to byte `offset` of the export of as many of the bytes as there is room for now. Nothing happens until [`TrySend::now`].
    pub fn try_send<'a>(&'a self, bytes: &'a [u8], offset: u64) -> TrySend<'a> {
        TrySend { import: self, bytes, offset, notify: None, queued: false }
    }

    /// Whether a send of this import has arrived in whole, as far as is known now. Doesn't look for packets. Sends arrive in order: what was sent before,
    /// has, too.
    ///
    /// # Errors
    /// When it was refused, or the link ended before it was acknowledged.
    pub fn is_delivered(&self, ticket: &Ticket) -> Result<bool, Error> {
        Ok(self.handle.shared.enter().engine.is_delivered(ticket)?)
    }
}

impl TrySend<'_> {
    /// Announces what is sent to the exporter, with this tag. Each packet announces its own bytes, and its part of the send is a send to itself: there may be
    /// many notifications, of pieces that follow one another. So whatever part of the send finds room is complete.
    pub fn notify(mut self, tag: u32) -> Self {
        self.notify = Some(tag);
        self
    }

    /// Leaves the last packet open for other sends to the same peer, as [`SendBuilder::queue`](super::SendBuilder::queue) does, and those that are full in the
    /// port: with the engine's next turn all of them leave by one system call. A long send doesn't wait for that.
    pub fn queued(mut self) -> Self {
        self.queued = true;
        self
    }

    /// Copies as many of the bytes into packets as there is room for now, 96 KiB or a little more at the most, and sends them. Never blocks.
    ///
    /// When these aren't all, and the import [reports to](Import::report_to) [`Events`](super::Events), an event of it comes once there may be room for more.
    /// An import that hasn't been answered yet has no room; the answer is that event.
    ///
    /// # Errors
    /// When the bytes, all of them, don't fit into the export, it can't be written into or takes no notifications, there are neither bytes nor a tag, or
    /// the import is of no use any more. Nothing is sent then. When the wire has failed.
    pub fn now(self) -> Result<Sent, Error> {
        let TrySend { import, bytes, offset, notify, queued } = self;
        let mut send = Send::new(bytes, offset);
        (send.notify, send.queued, send.piecewise) = (notify, queued, true);
        let shared = &import.handle.shared;
        let mut core = shared.enter();
        core.check()?;
        let mut ticket = None;
        if queued {
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            ticket = engine.coalesce(port, import.id, &mut send)?;
        }
        while !send.is_complete() {
            let (now, before) = (core.now(), send.done());
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            let sent = engine.try_send(now, port, import.id, &mut send)?;
            ticket = sent.or(ticket);
            if !queued || send.done() >= WORTH {
                port.flush().map_err(Error::Wire)?;
            }
            if send.done() == before {
                break;
            }
            if send.done() >= MOST && !send.is_complete() {
                engine.await_room(import.id);
                break;
            }
        }
        if queued {
            // With the engine's next turn.
            core.engine.attend();
        }
        shared.leave(&mut core);
        Ok(Sent { bytes: send.done(), complete: send.is_complete(), ticket })
    }
}
