//! Somebody who watches a node while it is measured: the same as `vmmc top` does, ten times as often.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmmc::{Node, monitor};

use super::{End, PeerError};
use crate::spec::{Outcome, Spec};
use crate::worker::Session;

/// How often.
const PERIOD: Duration = Duration::from_millis(100);

/// A thread that reads a node's statistics through its socket, round-trip times and all, until this is dropped.
pub(crate) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins, if the node can be watched at all.
    pub(crate) fn start(node: &Node) -> Result<Watcher, PeerError> {
        let path = node.monitor_path().ok_or("the node has no socket to watch it by: its log says why")?.to_owned();
        monitor::ask_all(&path)?;
        let (stop, stopped) = channel();
        let watch = move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) && monitor::ask_all(&path).is_ok() {}
        };
        let thread = thread::Builder::new().name("watcher".to_owned()).spawn(watch)?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }

    /// That it still watches: otherwise what is measured would be something else.
    fn check(&self) -> Result<(), PeerError> {
        match self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            false => Ok(()),
            true => Err("the node that was watched has stopped to answer".into()),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        // If it has panicked its message is already on stderr.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An end that is watched.
pub(crate) struct Watched {
    pub(crate) watcher: Watcher,
    pub(crate) end: Box<dyn End>,
}

impl End for Watched {
    fn tend(&mut self) -> Result<(), PeerError> {
        self.end.tend()
    }

    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let outcome = self.end.latency(spec, session)?;
        self.watcher.check()?;
        Ok(outcome)
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let outcome = self.end.stream(spec, session)?;
        self.watcher.check()?;
        Ok(outcome)
    }
}
