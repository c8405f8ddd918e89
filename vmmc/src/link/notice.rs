//! What a link says of itself while it is open: that the network, or the peer, gives it trouble. All of it off the way of packets that
//! are well.

use super::Link;
use crate::log::provoked;

/// A window this small, in packets, has collapsed, and one of this size has recovered. It begins at ten.
const COLLAPSED: u64 = 2;
const RECOVERED: u64 = 10;

impl Link {
    #[cold]
    pub(super) fn say_timeout(&self, sequence: u64) {
        let (in_flight, window, rtt) = (self.in_flight(), self.window(), self.rtt().smoothed());
        provoked!(DEBUG, target: "vmmc::link", peer = %self.peer(), sequence, in_flight, window, ?rtt,
            "nothing acknowledged for the retransmission timeout");
    }

    /// Says that the window has collapsed, once until it has recovered.
    pub(super) fn watch_window(&mut self) {
        let window = self.window();
        match self.collapsed {
            false if window <= COLLAPSED => {
                self.collapsed = true;
                self.say_collapsed(window);
            }
            true if window >= RECOVERED => self.collapsed = false,
            _ => {}
        }
    }

    #[cold]
    fn say_collapsed(&self, window: u64) {
        let (rtt, counters) = (self.rtt().smoothed(), self.counters);
        provoked!(DEBUG, target: "vmmc::link", peer = %self.peer(), window, ?rtt, retransmitted = counters.tx_retransmitted,
                    timeouts = counters.timeouts, "the window has collapsed: delay, loss or marks of congestion");
    }
}
