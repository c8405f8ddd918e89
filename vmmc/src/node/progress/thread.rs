//! The node's thread that drives, if it has one, and how a node ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info};

use super::Shared;
use crate::error::Error;

impl Shared {
    /// Ends the thread.
    pub(in crate::node) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Closes all links, and drives until that is done or `linger` has passed.
    pub(in crate::node) fn close(&self, linger: Duration) {
        let mut core = self.enter();
        let start = core.now();
        core.engine.close(start);
        loop {
            core.look_next();
            let driven = core.drive();
            let now = core.now();
            if driven.is_err() || core.engine.is_closed() || now.since(start) >= linger {
                let (clean, local) = (core.engine.is_closed(), core.engine.local());
                let bytes = core.engine.counters().delivered_bytes;
                info!(target: "vmmc::node", %local, clean, delivered_bytes = bytes, "node closed");
                return;
            }
            let until = core.engine.deadline().min(start + linger);
            if until > now {
                let Ok(waited) = self.sleep(until, now) else { return };
                core.woke(waited);
            }
        }
    }

    /// The thread's work.
    fn run(&self) {
        let mut core = self.enter();
        let mut busy_at = core.now();
        while !self.stopping.load(Ordering::Acquire) {
            match core.drive() {
                Ok(true) => {
                    busy_at = core.looked_at.unwrap_or(busy_at);
                    if core.has_news() {
                        self.announce(&mut core);
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    core.fail(&error);
                    break;
                }
            }
            let Some(now) = core.looked_at.take().filter(|now| now.since(busy_at) >= self.spin) else {
                core = self.yield_lock(core);
                continue;
            };
            let until = core.engine.deadline();
            core.asleep_until = Some(until);
            drop(core);
            let slept = self.sleep(until, now);
            core = self.enter();
            core.asleep_until = None;
            match slept {
                Ok(waited) => core.woke(waited),
                Err(error) => {
                    core.fail(&error);
                    break;
                }
            }
        }
        self.announce(&mut core);
    }
}

/// Starts the thread that drives, on `core` if one is given.
pub(in crate::node) fn spawn(shared: &Arc<Shared>, core: Option<usize>) -> Result<JoinHandle<()>, Error> {
    let shared = shared.clone();
    let body = move || {
        if let Some(id) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            error!(target: "vmmc::node", core = id, "the engine thread can't be pinned to its core");
        }
        shared.run();
    };
    std::thread::Builder::new()
        .name("vmmc-engine".to_owned())
        .spawn(body)
        .map_err(|source| Error::System { doing: "starting the engine thread", source })
}
