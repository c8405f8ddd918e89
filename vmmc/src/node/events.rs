//! One place to wait at for many exports and imports.

use std::sync::Arc;
use std::time::Duration;

use super::progress::Step;
use super::{Handle, Node};
use crate::engine::Event;
use crate::error::Error;

/// A queue of events: the notifications of exports, and the changes of imports, that [report](super::ExportBuilder::report_to) [to](super::Import::report_to) it.
/// What RDMA calls a completion queue. A node may have several.
///
/// Whoever waits here waits for all of them at once, and gets what has happened in the order in which it has. The queue can't run over: an export has no more
/// notifications waiting in it than its [limit](super::ExportBuilder::queue) says, plus what its senders had credit for, and an import no more than one event.
///
/// Several threads may take events from one queue, each event goes to one of them. Dropping the queue leaves its exports and imports without one: their events, those
/// that wait and those to come, are dropped. Such a notification counts as taken, so senders aren't held up.
///
/// ```no_run
/// use std::time::Duration;
/// use vmmc::{Event, Key, Node};
///
/// # fn main() -> Result<(), vmmc::Error> {
/// const ORDERS: u64 = 1;
/// const ALARMS: u64 = 2;
/// const PEER: u64 = 3;
///
/// let node = Node::builder().interface("vh2").open()?;
/// let events = node.events();
/// let orders = node.export("orders").len(1 << 20).key(Key::PUBLIC).notify(true).report_to(&events, ORDERS).create()?;
/// let alarms = node.export("alarms").key(Key::PUBLIC).notify(true).report_to(&events, ALARMS).create()?;
/// let peer = node.start_import("10.77.0.1:7000".parse().unwrap(), "inbox", Key::PUBLIC)?; // doesn't wait for the answer
/// peer.report_to(&events, PEER)?;
///
/// let mut news = Vec::new();
/// loop {
///     events.wait(&mut news, Duration::from_micros(50), None)?;
///     for event in news.drain(..) {
///         match event {
///             Event::Notification { token: ORDERS, notification } => {
///                 let mut order = vec![0; notification.length as usize];
///                 orders.read(notification.offset, &mut order)?;
///             }
///             Event::Notification { notification, .. } => println!("{}: alarm {}", alarms.name(), notification.tag),
///             Event::Import { .. } => match peer.check() {
///                 Ok(None) => {}
///                 Ok(Some(_)) => {
///                     // Answered, or there is room again.
///                     let sent = peer.try_send(b"ready", 0).notify(1).now()?;
///                     if !sent.complete {
///                         println!("no room now: there will be another event");
///                     }
///                 }
///                 Err(error) => println!("{error}"), // refused, revoked, or the link has ended
///             },
///             _ => {}
///         }
///     }
/// }
/// # }
/// ```
pub struct Events {
    pub(super) handle: Arc<Handle>,
    pub(super) id: u64,
}

impl Node {
    /// Makes a queue of events. Nothing reports to it yet. Doesn't block.
    pub fn events(&self) -> Events {
        let id = self.handle.shared.enter().engine.open_events();
        Events { handle: self.handle.clone(), id }
    }
}

impl Events {
    /// Moves all events that there are to the end of `into`, and returns how many. When there are none, or there always were some for a while, it looks for
    /// packets first, with [`Progress::Caller`](super::Progress). Doesn't block.
    ///
    /// # Errors
    /// When the wire has failed.
    pub fn poll(&self, into: &mut Vec<Event>) -> Result<usize, Error> {
        let shared = &self.handle.shared;
        let found = shared.wait(Some(Duration::ZERO), |core| {
            shared.give_turn(core)?;
            let count = core.engine.take_events(self.id, into);
            Ok(Step::from((count > 0).then_some(count)))
        })?;
        Ok(found.unwrap_or(0))
    }

    /// As [`Events::poll`], but blocks until there is an event: spins for `spin`, whatever the node's own setting is, then sleeps. With [`Duration::MAX`] it
    /// never sleeps. `timeout` is a duration, or `None` to wait for ever.
    ///
    /// Returns 0 when the time has passed, or when it was [interrupted](Events::interrupt).
    ///
    /// # Errors
    /// When the wire has failed.
    pub fn wait(
        &self,
        into: &mut Vec<Event>,
        spin: Duration,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<usize, Error> {
        let shared = &self.handle.shared;
        let found = shared.wait_spinning(spin, timeout.into(), |core| {
            shared.give_turn(core)?;
            Ok(Step::from(core.engine.await_events(self.id, into)))
        })?;
        Ok(found.unwrap_or(0))
    }

    /// Has the [`Events::wait`] that is under way return at once, or else the next one. From any thread; doesn't block. Of several threads that wait here,
    /// one returns.
    pub fn interrupt(&self) {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        core.engine.interrupt_events(self.id);
        shared.announce(&mut core);
    }

    /// Whether it is of this node.
    pub(super) fn check(&self, handle: &Arc<Handle>) -> Result<(), Error> {
        if Arc::ptr_eq(&self.handle, handle) {
            return Ok(());
        }
        let theirs = self.handle.shared.enter().engine.local();
        let ours = handle.shared.enter().engine.local();
        Err(Error::Config(format!(
            "exports and imports of the node {ours} can't report to events of the node {theirs}: make them with Node::events of {ours}"
        )))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        // Whoever was held up gets credit again.
        let mut core = shared.act(|engine| engine.close_events(self.id));
        shared.leave(&mut core);
    }
}
