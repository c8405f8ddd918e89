//! Queues of events: the notifications of many exports, and the changes of many imports, in one place to wait at. What RDMA calls a
//! completion queue.
//!
//! ```text
//!   export "a"  --- a send has come ------------------.
//!   export "b"  --- a send has come ------------------+--> [ event | event | event ] --> Engine::take_events
//!   import      --- answered, revoked, link ended, ---'
//!                   room again
//! ```
//!
//! A queue is bounded by what reports to it. Of an export no more notifications wait than its own limit lets its senders have credit
//! for, and it makes no difference to them which queue they wait in. Of an import at most one event waits: it says that something has
//! changed, and not what.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::exports::{Export, Notification};
use super::imports::{Import, ImportState, Imports};
use super::{Engine, EngineError, place_of};
use crate::port::Port;
use crate::time::Time;

/// How soon a port that had no frame left is looked at again for those who wait for room.
const PORT_RETRY: Duration = Duration::from_micros(50);

/// Something has happened that a program waits for. The token is what it has given with the export or import.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A send into an export has arrived in whole.
    Notification {
        /// The export's.
        token: u64,
        /// What would have waited in the export's own queue.
        notification: Notification,
    },
    /// Something about an import has changed; look at it. It has been answered or refused, it was revoked, its link has ended, or there may be
    /// room again after a send that was to go at once, and didn't go in whole.
    Import {
        /// The import's.
        token: u64,
    },
}

/// Where an export or import reports to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    queue: u64,
    token: u64,
}

#[derive(Debug)]
enum Entry {
    Notification { export: u32, token: u64, news: Notification },
    Import { import: u32, token: u64 },
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    interrupted: bool,
}

/// All queues of a node.
#[derive(Debug, Default)]
pub(crate) struct EventQueues {
    queues: BTreeMap<u64, Queue>,
    /// The number of the last queue.
    last: u64,
    /// How many events of imports, and interruptions, there have been.
    pub posted: u64,
}

impl EventQueues {
    /// Queues a notification, or makes it part of the newest event, if that may be. Returns whether there is one more that waits; or the
    /// notification, if the queue has gone.
    pub(crate) fn notify(
        &mut self,
        report: Report,
        export: u32,
        merge: bool,
        news: Notification,
    ) -> Result<bool, Notification> {
        let Some(queue) = self.queues.get_mut(&report.queue) else { return Err(news) };
        if merge
            && let Some(Entry::Notification { export: newest, news: last, .. }) = queue.entries.back_mut()
            && *newest == export
            && last.absorb(&news)
        {
            return Ok(false);
        }
        queue.entries.push_back(Entry::Notification { export, token: report.token, news });
        Ok(true)
    }

    fn post(&mut self, report: Report, import: u32) {
        if let Some(queue) = self.queues.get_mut(&report.queue) {
            queue.entries.push_back(Entry::Import { import, token: report.token });
            self.posted += 1;
        }
    }

    fn pop(&mut self, id: u64) -> Option<Entry> {
        self.queues.get_mut(&id)?.entries.pop_front()
    }

    /// The notifications of an export that wait.
    pub(crate) fn waiting(&mut self, report: Option<Report>, export: u32) -> impl Iterator<Item = &mut Notification> {
        let queue = report.and_then(|report| self.queues.get_mut(&report.queue));
        queue.into_iter().flat_map(|queue| &mut queue.entries).filter_map(move |entry| match entry {
            Entry::Notification { export: of, news, .. } if *of == export => Some(news),
            _ => None,
        })
    }

    /// Takes the first notification of an export out of the queue for which `wanted` holds.
    pub(crate) fn take(
        &mut self,
        report: Report,
        export: u32,
        wanted: impl Fn(&Notification) -> bool,
    ) -> Option<Notification> {
        let entries = &mut self.queues.get_mut(&report.queue)?.entries;
        let at = entries.iter().position(
            |entry| matches!(entry, Entry::Notification { export: of, news, .. } if *of == export && wanted(news)),
        )?;
        match entries.remove(at) {
            Some(Entry::Notification { news, .. }) => Some(news),
            _ => None,
        }
    }

    /// An export has gone, and its notifications with it.
    pub(crate) fn forget_export(&mut self, export: &Export) {
        if let Some(report) = export.report
            && export.reported > 0
            && let Some(queue) = self.queues.get_mut(&report.queue)
        {
            queue.entries.retain(|entry| !matches!(entry, Entry::Notification { export: of, .. } if *of == export.id));
        }
    }

    /// An import has gone.
    pub(crate) fn forget_import(&mut self, id: u32, import: &Import) {
        if let Some(report) = import.report
            && import.announced
            && let Some(queue) = self.queues.get_mut(&report.queue)
        {
            queue.entries.retain(|entry| !matches!(entry, Entry::Import { import, .. } if *import == id));
        }
    }
}

impl Import {
    /// Something about it has changed.
    pub(crate) fn announce(&mut self, id: u32, events: &mut EventQueues) {
        if let Some(report) = self.report
            && !std::mem::replace(&mut self.announced, true)
        {
            events.post(report, id);
        }
    }

    /// There may be room for sends again.
    pub(crate) fn offer(&mut self, id: u32, events: &mut EventQueues) {
        self.wants_room = false;
        // Else it has been told that it is of no use any more.
        if !matches!(self.state, ImportState::Failed(_)) {
            self.announce(id, events);
        }
    }
}

impl Engine {
    /// Makes a queue of events. There may be many.
    pub fn open_events(&mut self) -> u64 {
        let events = &mut self.imports.events;
        events.last += 1;
        events.queues.insert(events.last, Queue::default());
        events.last
    }

    /// Takes a queue back. What reports to it goes on without: its notifications count as taken as soon as they come, so that they
    /// hold nobody up.
    pub fn close_events(&mut self, id: u64) {
        while let Some(entry) = self.imports.events.pop(id) {
            self.taken(entry);
        }
        self.imports.events.queues.remove(&id);
    }

    /// Has an export that has been made just now report to a queue: its notifications go there, and not into its own.
    ///
    /// # Errors
    /// When the export or the queue is gone.
    pub fn report_export(&mut self, export: u32, queue: u64, token: u64) -> Result<(), EngineError> {
        let export = self.exports.get_mut(export).filter(|_| self.imports.events.queues.contains_key(&queue));
        export.ok_or(EngineError::Dropped)?.report = Some(Report { queue, token });
        Ok(())
    }

    /// Whether notifications of an export that wait become one with the next, if its bytes follow on those of the newest.
    ///
    /// # Errors
    /// When the export is gone.
    pub fn merge_notifications(&mut self, export: u32, merge: bool) -> Result<(), EngineError> {
        self.exports.get_mut(export).ok_or(EngineError::Dropped)?.merge = merge;
        Ok(())
    }

    /// Whether redirects of an export take what has come before they were posted. To be said before anything has come.
    ///
    /// # Errors
    /// When it has gone.
    pub fn look_back(&mut self, export: u32, look_back: bool) -> Result<(), EngineError> {
        self.exports.get_mut(export).ok_or(EngineError::Dropped)?.landing.look_back(look_back);
        Ok(())
    }

    /// Has an import report to a queue. If it has been answered already, that is the first event.
    ///
    /// # Errors
    /// When the import or the queue is gone.
    pub fn report_import(&mut self, id: u32, queue: u64, token: u64) -> Result<(), EngineError> {
        let Imports { slab, events, .. } = &mut self.imports;
        let import = slab.get_mut(id).filter(|_| events.queues.contains_key(&queue)).ok_or(EngineError::Dropped)?;
        events.forget_import(id, import);
        (import.report, import.announced) = (Some(Report { queue, token }), false);
        if import.state != ImportState::Waiting {
            import.announce(id, events);
        }
        Ok(())
    }

    /// Moves all events of a queue to the end of `into`: how many. See [`Engine::take_notification`].
    pub fn take_events(&mut self, id: u64, into: &mut Vec<Event>) -> usize {
        let before = into.len();
        while let Some(entry) = self.imports.events.pop(id) {
            into.push(self.taken(entry));
        }
        into.len() - before
    }

    /// As [`Engine::take_events`]. `None` when there are none, and nobody has [interrupted](Engine::interrupt_events) the wait for them.
    pub fn await_events(&mut self, id: u64, into: &mut Vec<Event>) -> Option<usize> {
        let queue = self.imports.events.queues.get_mut(&id)?;
        if !std::mem::take(&mut queue.interrupted) && queue.entries.is_empty() {
            return None;
        }
        Some(self.take_events(id, into))
    }

    /// Ends a wait for events, this one or the next.
    pub fn interrupt_events(&mut self, id: u64) {
        let events = &mut self.imports.events;
        if let Some(queue) = events.queues.get_mut(&id) {
            queue.interrupted = true;
            events.posted += 1;
        }
    }

    /// The program takes an event.
    fn taken(&mut self, entry: Entry) -> Event {
        match entry {
            Entry::Notification { export, token, news } => {
                if let Some(export) = self.exports.get_mut(export) {
                    export.reported -= 1;
                    export.landing.told(&news);
                }
                self.relieve(export);
                Event::Notification { token, notification: news }
            }
            Entry::Import { import, token } => {
                if let Some(import) = self.imports.get_mut(import) {
                    import.announced = false;
                }
                Event::Import { token }
            }
        }
    }

    /// Has an event come when there may be room for sends by an import that reports to a queue. While it isn't answered there is none,
    /// and the answer is an event.
    pub fn await_room(&mut self, id: u32) {
        let Some(import) = self.imports.get_mut(id).filter(|i| i.report.is_some() && !i.wants_room) else { return };
        match import.state {
            ImportState::Waiting | ImportState::Failed(_) => {}
            ImportState::Local { .. } => {
                import.wants_room = true;
                self.imports.wanting.push(id);
            }
            ImportState::Ready { .. } => {
                let place = place_of(import.link);
                let peer = self.peers.get_mut(place).and_then(Option::as_deref_mut);
                let Some(peer) = peer.filter(|p| p.link.token() == import.link) else { return };
                import.wants_room = true;
                peer.wanting.push(id);
                // Else the next thing that the peer says, or its timer, shows that there is some.
                if peer.link.room() > 0 {
                    self.list(place);
                }
            }
        }
    }

    /// Tells the imports that wait for room of a peer's link, if there is some.
    pub(super) fn offer_room(&mut self, now: Time, port: &dyn Port, place: usize) {
        let Some(peer) = self.peers[place].as_deref_mut().filter(|peer| !peer.wanting.is_empty()) else { return };
        if peer.transfers.hold() {
            return;
        }
        if peer.link.room() == 0 {
            // As somebody who tried again would.
            if !peer.link.sends_lack_credit() {
                peer.jobs.send_waits(now);
            }
            peer.link.want_room(now);
            return;
        }
        let headroom = port.tx_headroom() as u64;
        if headroom == 0 && peer.link.in_flight() == 0 {
            // Others have all the frames, and nothing comes from this peer that would show when they haven't.
            self.timers.set(place, now + PORT_RETRY);
            return;
        }
        if peer.link.in_flight() > headroom || peer.jobs.are_behind() {
            return;
        }
        // So that it isn't always the same who comes first.
        peer.wanting.rotate_left(1);
        let Imports { slab, events, .. } = &mut self.imports;
        for id in peer.wanting.drain(..) {
            if let Some(import) = slab.get_mut(id) {
                import.offer(id, events);
            }
        }
    }
}
