//! How long a connection's ring is: as long as it pays, and as there is room.

use super::{Connection, Rx};
use crate::proto::layout::MIN_RING;
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

    /// Gives the stream another ring, if that would be better.
    fn fit(&self, inner: &Inner, rx: &mut Rx) -> bool {
        let (is_direct, len) = (rx.receiver.is_direct(), rx.receiver.ring_len());
        if rx.receiver.can_grant() {
            let ring = if rx.long && !is_direct { self.session.direct_ring(inner) } else { None };
            if let Some((offset, len)) = ring {
                return self.grant(rx, offset, len);
            }
            if is_direct && !rx.long {
                return self.change(rx, len.min(prev_power_of_two(self.session.ring_limit())).max(MIN_RING));
            }
        }
        // One for long writes is long enough.
        let limit = if is_direct { len } else { self.session.ring_limit() };
        let Some(wanted) = rx.growth.wants(inner.now(), &rx.receiver, limit) else { return false };
        // When the stream is idle it has no use for that. Its writer says so, should it have again.
        rx.long &= !is_direct;
        self.change(rx, wanted)
    }

    /// The peer has long writes, or has none any more.
    pub(crate) fn on_long(&self, inner: &Inner, long: bool) {
        let granted = {
            let mut rx = lock(&self.rx);
            rx.long = long;
            self.fit(inner, &mut rx)
        };
        if granted {
            self.tell(inner);
        }
    }

    /// Gives the stream a ring of this length, if there is room.
    fn change(&self, rx: &mut Rx, len: u64) -> bool {
        let Some(offset) = self.session.ring(len) else { return false };
        self.grant(rx, offset, len)
    }

    fn grant(&self, rx: &mut Rx, offset: u64, len: u64) -> bool {
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
