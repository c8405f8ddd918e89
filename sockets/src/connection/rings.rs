//! How long a connection's ring is: as long as it pays, and as there is room.

use super::{Connection, Rx};
use crate::stack::Inner;
use crate::wait::lock;

/// How much a peer may write while the program doesn't read, if there is room: what TCP takes by default.
const UNREAD: u64 = 128 << 10;

fn prev_power_of_two(value: u64) -> u64 {
    1 << value.max(1).ilog2()
}

impl Connection {
    /// The program has read: gives credit, and has the ring grow, where that is due.
    pub(crate) fn after_read(&self, inner: &Inner, mut rx: std::sync::MutexGuard<'_, Rx>) {
        let freed = rx.receiver.free_ring();
        let due = rx.receiver.credit_due();
        if due {
            self.fit(inner, &mut rx);
        }
        drop(rx);
        if let Some((offset, len)) = freed {
            self.session.free_ring(offset, len);
        }
        if due {
            self.tell(inner);
        }
    }

    /// The program doesn't read, and yet the peer may write as much as with TCP.
    pub(super) fn widen(&self, rx: &mut Rx) -> bool {
        let len = UNREAD.min(prev_power_of_two(self.session.ring_limit()));
        rx.receiver.ring_len() < len && rx.receiver.can_grant() && self.change(rx, len)
    }

    /// Gives the stream a ring of another length, if that would be better.
    fn fit(&self, inner: &Inner, rx: &mut Rx) -> bool {
        let wanted = rx.growth.wants(inner.now(), &rx.receiver, self.session.ring_limit());
        wanted.is_some_and(|len| self.change(rx, len))
    }

    /// Gives the stream a ring of this length, if there is room.
    fn change(&self, rx: &mut Rx, len: u64) -> bool {
        let Some(offset) = self.session.ring(len) else { return false };
        let granted = rx.receiver.grant(offset, len);
        if !granted {
            self.session.free_ring(offset, len);
        }
        granted
    }

    /// Looks after a stream that may be idle.
    pub(crate) fn keep_house(&self, inner: &Inner) {
        let fitted = self.fit(inner, &mut lock(&self.rx));
        if fitted {
            self.tell(inner);
        }
    }
}
