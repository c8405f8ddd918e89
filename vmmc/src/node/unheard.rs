//! Packets for the node that arrive on a queue where it doesn't hear them.
//!
//! A node has sockets on queues, and the last queue may be its bulk lane's, whose socket takes nothing else. What comes for the node on another queue the steering program leaves to the
//! kernel, which knows nobody to give it to. Peers find the node silent, and the node hears nothing that could tell it so: but the program counts. It is looked into whenever
//! somebody asks for statistics, and when a peer doesn't answer.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;
use xdp_prog::{Steering, Verdicts};

use super::Shared;

/// What has been noticed of them.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// Those that had come before the node had its sockets.
    before: u64,
    told: AtomicBool,
}

impl Unheard {
    /// From now on.
    pub(super) fn new(steering: Option<&Steering>) -> Unheard {
        let before = steering.and_then(|steering| steering.counters().ok()).map_or(0, |verdicts| verdicts.no_socket);
        Unheard { before, told: AtomicBool::new(false) }
    }
}

impl Shared {
    /// How many there have been. The first time that there are any, one line in the log says what to do.
    pub(super) fn unheard(&self, verdicts: &Verdicts) -> u64 {
        let Unheard { before, told } = &self.identity.unheard;
        let count = verdicts.no_socket.saturating_sub(*before);
        if count > 0 && !told.swap(true, Ordering::Relaxed) {
            let interface = self.identity.interface.as_deref().unwrap_or_default();
            let lane = match &self.identity.no_bulk {
                None => ": maybe on the last queue, which is the bulk lane's",
                Some(_) => "",
            };
            warn!(target: "vmmc::node", interface, count, "packets for this node arrive on a queue where it doesn't hear them{lane}. Behind a Linux bridge give the interface one queue, or open the node with `Bulk::Never`; on a NIC have its packets steered to the node's queues (`vmmc doctor {interface}`)");
        }
        count
    }

    /// Looks whether there are any: a peer is silent.
    pub(super) fn look_for_unheard(&self) {
        if let Some(Ok(verdicts)) = self.steering.as_ref().map(|steering| steering.counters()) {
            self.unheard(&verdicts);
        }
    }
}
