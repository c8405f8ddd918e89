//! The direct export of a session: memory that the bulk lane writes by itself, for the rings of streams that carry much.
//!
//! It is made when a stream with long writes first has a use for it, if there is a lane between the two nodes. Its owner tells the peer, which imports it and says so, and then rings may lie in it.
//!
//! ```text
//!   B, who reads                                     A, who writes
//!         <------------------------------------------ "long", about a stream
//!   exports streams/A/direct
//!   "direct", into the session export -------------> imports streams/A/direct
//!   rings may lie there       <--------------------- "direct", into the direct export
//! ```
//!
//! Its places follow on those of the session export: see [`layout`](crate::proto::layout).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use vmmc::{Export, Import, Key, Notification};

use super::Inner;
use super::dispatch::{DIRECT_EXPORT, DIRECT_IMPORT, token};
use super::open::{QUEUE, direct_name};
use super::session::Session;
use crate::proto::layout::{DIRECT_LEN, SESSION_LEN, VERSION};
use crate::proto::{Kind, Tag};

/// The tag by which a direct export is told of, and is said to have been imported.
pub(super) const DIRECT: u32 = 0x6000_0000 | VERSION;

/// The length of a ring there, bytes: with a shorter one each transfer is short, and costs as much as it saves.
const DIRECT_RING: u64 = 2 << 20;

/// So many transfers may end before a stream that waits for its turn is thought to have lost interest.
const PATIENCE: u32 = 8;

/// Who may use the lane: of the few transfers that may be under way to a peer one stream could always have all. A stream that has one leaves the next to others as long as
/// there are some that have none, and want one.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// How often the lane has had news: commonly that a transfer has ended.
    ended: AtomicU32,
    /// Up to how many some stream waits for its turn.
    awaited: AtomicU32,
}

impl Turns {
    /// A stream that has nothing under way has found no room.
    pub(crate) fn await_one(&self) {
        self.awaited.store(self.ended.load(Ordering::SeqCst).wrapping_add(PATIENCE), Ordering::SeqCst);
    }

    /// Whether streams that have something under way have to wait. They hear when that is over.
    pub(crate) fn are_awaited(&self) -> bool {
        (1..=PATIENCE).contains(&self.awaited.load(Ordering::SeqCst).wrapping_sub(self.ended.load(Ordering::SeqCst)))
    }

    fn one_has_ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a session has of the bulk lane.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// Of which length sends are worth it.
    lane_from: OnceLock<Option<usize>>,
    /// `None` when it couldn't be made.
    export: OnceLock<Option<Export>>,
    told: AtomicBool,
    /// The peer has imported it.
    granted: AtomicBool,
    import: OnceLock<Import>,
    /// The peer knows that it has been imported here.
    usable: AtomicBool,
    pub turns: Turns,
}

impl Direct {
    /// The peer's, if it can be used.
    pub(crate) fn import(&self) -> Option<&Import> {
        self.import.get().filter(|_| self.usable.load(Ordering::SeqCst))
    }

    /// The length of the peer's, bytes: 0 unless it can be used.
    pub(crate) fn peers_len(&self) -> u64 {
        self.import().map_or(0, Import::len)
    }

    fn export(&self) -> Option<&Export> {
        self.export.get()?.as_ref()
    }
}

/// Places, wherever they lie.
impl Session {
    /// Which of the own exports has a place, and where.
    pub(crate) fn incoming(&self, offset: u64) -> (&Export, u64) {
        match self.direct.export() {
            Some(export) if offset >= SESSION_LEN => (export, offset - SESSION_LEN),
            _ => (&self.export, offset),
        }
    }

    /// Which of the peer's exports has a place, and where.
    pub(crate) fn outgoing(&self, offset: u64) -> Option<(&Import, u64)> {
        match offset.checked_sub(SESSION_LEN) {
            Some(offset) => Some((self.direct.import()?, offset)),
            None => Some((self.import.get()?, offset)),
        }
    }

    /// Copies out what the peer has written.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), vmmc::Error> {
        let (export, offset) = self.incoming(offset);
        export.read(offset, bytes)
    }

    /// Gives memory back.
    pub(super) fn discard(&self, range: Range<u64>) -> Result<(), vmmc::Error> {
        // The lane's memory stays where it is.
        if range.start < SESSION_LEN { self.export.discard(range) } else { Ok(()) }
    }

    /// Nothing more is written by the peer.
    pub(super) fn revoke(&self) {
        self.export.revoke();
        if let Some(export) = self.direct.export() {
            export.revoke();
        }
    }

    /// A ring where the lane writes by itself: where, and how long it is. If there may be such rings later, that is begun.
    pub(crate) fn direct_ring(&self, inner: &Inner) -> Option<(u64, u64)> {
        if !self.direct.granted.load(Ordering::SeqCst) {
            self.offer(inner);
            return None;
        }
        self.ring_in(DIRECT_RING, true).map(|offset| (offset, DIRECT_RING))
    }

    /// The shortest send that is worth the lane, bytes; `None` if there is none between the two nodes.
    pub(crate) fn lane_from(&self) -> Option<usize> {
        // That is known from the beginning of a link.
        *self.direct.lane_from.get_or_init(|| self.import.get()?.direct_from())
    }

    /// Makes the direct export, and tells the peer.
    fn offer(&self, inner: &Inner) {
        if self.direct.told.load(Ordering::SeqCst) {
            return;
        }
        let Some(import) = self.import.get().filter(|_| self.lane_from().is_some()) else { return };
        let export = self.direct.export.get_or_init(|| {
            let made = inner.make_direct(self);
            if let Err(error) = &made {
                tracing::debug!(target: "vmmc::sockets", peer = %self.peer, %error, "streams go without the bulk lane");
            }
            made.ok()
        });
        if export.is_some() && !self.direct.told.swap(true, Ordering::SeqCst) {
            let sent = import.try_send(&[], 0).notify(DIRECT).now();
            // Else the next who wants a ring tells.
            self.direct.told.store(sent.is_ok_and(|sent| sent.complete), Ordering::SeqCst);
        }
    }
}

impl Inner {
    fn make_direct(&self, session: &Session) -> Result<Export, vmmc::Error> {
        let name = direct_name(session.peer);
        let export = self.node.export(&name).len(DIRECT_LEN as usize).direct(true).only(session.peer).key(Key::PUBLIC);
        let export = export.notify(true).merge(true).look_back(false).queue(QUEUE);
        export.report_to(&self.events, token(session.id, DIRECT_EXPORT)).create()
    }

    /// The peer has a direct export.
    pub(super) fn start_direct_import(&self, session: &Arc<Session>, tasks: &mut Vec<Waker>) {
        if session.lane_from().is_none() || session.direct.import.get().is_some() {
            return;
        }
        let import = self.node.start_import(session.peer, &direct_name(self.local), Key::PUBLIC);
        let reported = import.and_then(|import| {
            import.report_to(&self.events, token(session.id, DIRECT_IMPORT))?;
            Ok(import)
        });
        match reported {
            // Only the leader does this.
            Ok(import) => drop(session.direct.import.set(import)),
            Err(error) => self.end_session(session, error, tasks),
        }
    }

    /// Something about the import of the peer's direct export has changed, or something that was sent there has arrived.
    pub(super) fn on_direct_import(&self, session: &Arc<Session>, tasks: &mut Vec<Waker>) {
        let Some(import) = session.direct.import.get() else { return };
        session.direct.turns.one_has_ended();
        match import.check() {
            Ok(None) => return,
            Ok(Some(DIRECT_LEN)) if !session.direct.usable.load(Ordering::SeqCst) => {
                // If there is no room, there will be another event.
                if import.try_send(&[], 0).notify(DIRECT).now().is_ok_and(|sent| sent.complete) {
                    session.direct.usable.store(true, Ordering::SeqCst);
                }
            }
            Ok(Some(_)) => {}
            Err(error) => {
                if session.direct.usable.load(Ordering::SeqCst) {
                    return self.end_session(session, error, tasks);
                }
                tracing::debug!(target: "vmmc::sockets", peer = %session.peer, %error, "no direct import");
            }
        }
        self.on_room(session, tasks);
    }

    /// The peer has written into the direct export.
    pub(super) fn on_direct_write(&self, session: &Arc<Session>, write: &Notification, tasks: &mut Vec<Waker>) {
        if write.tag == DIRECT {
            session.direct.granted.store(true, Ordering::SeqCst);
            return;
        }
        // Data are all that belongs there.
        if let Ok(Tag { kind: Kind::Data, index }) = Tag::parse(write.tag)
            && let Some(stream) = session.stream(index)
        {
            stream.on_data(self, SESSION_LEN + write.offset, write.length, tasks);
        }
    }
}
