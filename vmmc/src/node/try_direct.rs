//! Sends from where the bytes lie, for whoever doesn't wait.

use std::ops::Range;
use std::time::Duration;

use super::import::direct;
use super::{Import, Sent};
use crate::engine::DirectSend;
use crate::error::Error;
use crate::memory::{DirectSource, MemoryError, Origin};

/// How often, and after how long, memory is asked for again that another thread may be about to let go of.
const TRIES: usize = 1000;
const PAUSE: Duration = Duration::from_micros(20);

/// A send from where the bytes lie of as much as may be asked for now, about to be made: [`Import::try_send_direct`].
#[derive(Debug)]
#[must_use = "a send happens with `now`"]
pub struct TryDirect<'a> {
    import: &'a Import,
    source: &'a DirectSource,
    part: Range<usize>,
    offset: u64,
    notify: Option<u32>,
}

impl Import {
    /// The shortest send of an arena's buffer that goes by the bulk lane, bytes, as far as is known now; `None` when none does, because not both nodes have one, or the link's packets are too short.
    pub fn direct_from(&self) -> Option<usize> {
        self.handle.direct.as_ref()?;
        self.handle.shared.enter().engine.direct_from(self.id)
    }

    /// Whether a send by the bulk lane would be begun now. If not, and the import [reports to](Import::report_to) [`Events`](super::Events), an event of it comes when that may have
    /// changed.
    pub fn has_direct_room(&self) -> bool {
        self.handle.shared.enter().engine.has_direct_room(self.id)
    }

    /// Prepares a send of bytes `part` of memory of this node to byte `offset` of the export by the bulk lane, of as much as may be asked for now. Nothing happens until
    /// [`TryDirect::now`].
    ///
    /// Other than [`Import::send`]s these aren't done in order with those that go by the eager lane: what is sent after one may arrive before it. Among each other they are in order.
    pub fn try_send_direct<'a>(&'a self, source: &'a DirectSource, part: Range<usize>, offset: u64) -> TryDirect<'a> {
        TryDirect { import: self, source, part, offset, notify: None }
    }

    /// Whether all that was sent from this memory is done with it: it can be [taken back](Import::take_back) at once. Looks for what the kernel has given back.
    pub fn has_let_go(&self, source: &DirectSource) -> bool {
        // That of the caller is the only one, unless he has others himself.
        source.is_free() || {
            // An error is found by whoever sends next.
            let _ = self.handle.shared.enter().port.flush();
            source.is_free()
        }
    }

    /// Has the lane let go of memory that was sent from: of a send that isn't over nothing more is sent, so what of it has arrived isn't known. Of others nothing is lost.
    ///
    /// # Errors
    /// When there are other clones of it that aren't the lane's. It comes back.
    pub fn take_back(&self, mut source: DirectSource) -> Result<Origin, DirectSource> {
        direct::let_go(self, &source);
        for _ in 0..TRIES {
            match source.into_origin() {
                Ok(origin) => return Ok(origin),
                // Another thread may have it for a moment: the one that drives.
                Err(back) => source = back,
            }
            std::thread::sleep(PAUSE);
        }
        Err(source)
    }
}

impl TryDirect<'_> {
    /// Announces what is sent to the exporter, with this tag, in parts: a long send is cut into transfers, each of which is a send of its own.
    pub fn notify(mut self, tag: u32) -> Self {
        self.notify = Some(tag);
        self
    }

    /// Asks the peer for as many transfers as may be asked for now: the lane goes on with them by itself. Never blocks. The memory is in use until they are done: the
    /// [ticket](Sent::ticket) tells ([`Import::is_delivered`]), and if the import [reports to](Import::report_to) [`Events`](super::Events), an event of it comes whenever one
    /// of them is, and when more may be asked for after a send that took less than it was given.
    ///
    /// Much less than [`Import::direct_from`] says makes no transfer, and nothing of it is ever sent. What is left of a longer send is never so short.
    ///
    /// # Errors
    /// When there are no bytes. When the bytes, all of them, don't fit into the export, it can't be written into or takes no notifications, the memory has no such part,
    /// there is [no lane](Import::direct_from), or the import is of no use any more. Nothing is sent then. When the wire has failed.
    pub fn now(self) -> Result<Sent, Error> {
        let TryDirect { import, source, part, offset, notify } = self;
        let (at, len, region) = (part.start, part.len(), source.len());
        let arena = import.handle.direct.as_ref();
        if len == 0 && part.start == part.end {
            return Err(Error::Config(
                "the bulk lane sends bytes, and here are none: a tag alone is for try_send".to_owned(),
            ));
        }
        if part.start > part.end || arena.is_none_or(|arena| source.runs(arena, at, len).is_none()) {
            return Err(MemoryError::OutOfRange { offset: at as u64, len, region }.into());
        }
        let mut send = DirectSend::new(source.clone(), part, offset, notify);
        send.piecewise = true;
        let shared = &import.handle.shared;
        let mut core = shared.enter();
        core.check()?;
        if core.engine.direct_from(import.id).is_none() {
            return Err(Error::Config(format!("there is no bulk lane to {}, or none here", import.peer())));
        }
        let ticket = core.with(|engine, now, port| {
            let ticket = engine.send_direct(now, port, import.id, &mut send);
            if send.done() > 0 {
                engine.tick(now, port);
            }
            port.flush().map_err(Error::Wire).and_then(|()| Ok(ticket?))
        });
        shared.leave(&mut core);
        let bytes = send.done();
        Ok(Sent { bytes, complete: bytes == len, ticket: ticket? })
    }
}
