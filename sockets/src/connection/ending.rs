//! How a connection ends from this side: the program has finished writing, or has dropped it.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::Connection;
use crate::stack::Inner;
use crate::wait::lock;

impl Connection {
    /// The last handle has gone: the stream ends in order, or is reset when there is unread data, or what is under way may be lost (`discard`).
    pub(crate) fn close(&self, inner: &Inner, discard: bool) {
        let mut alive = lock(&self.alive);
        alive.dropped = true;
        let unread = {
            let mut rx = lock(&self.rx);
            rx.receiver.stop();
            rx.receiver.readable() > 0
        };
        let reset = alive.life.close(unread, discard);
        {
            let mut tx = lock(&self.tx);
            if reset { tx.sender.stop() } else { tx.sender.finish() }
        }
        self.tell_locked(inner, &mut alive);
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&self, inner: &Inner) -> io::Result<()> {
        let mut alive = lock(&self.alive);
        if self.failed.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        lock(&self.tx).sender.finish();
        self.tell_locked(inner, &mut alive);
        drop(alive);
        let mut tasks = Vec::new();
        self.writers.wake(&inner.waiting, &mut tasks);
        self.show();
        inner.nudge();
        tasks.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Its connect waits for no room any more. One that was refused may have lost its index to another already, who does.
    pub(crate) fn unstick(&self) {
        let alive = lock(&self.alive);
        if !alive.removed {
            self.session.unstick(self.index);
        }
    }

    /// It was never asked for: it has no use for its index any more.
    pub(crate) fn forget(&self, inner: &Inner) {
        let mut alive = lock(&self.alive);
        if std::mem::replace(&mut alive.removed, true) {
            return;
        }
        if let Some(slot) = alive.request.take() {
            self.session.give_request(slot, inner);
        }
        self.session.remove(self.index, lock(&self.rx).receiver.rings());
        inner.release_port(self.local.port());
        // Whoever waits for the slot may be the leader.
        inner.nudge();
    }

    /// Whether all that was written is in the peer's memory.
    pub(crate) fn is_delivered(&self) -> bool {
        match (lock(&self.tx).last, self.import()) {
            (Some(last), Some(import)) => import.is_delivered(&last).unwrap_or(true),
            _ => true,
        }
    }
}
