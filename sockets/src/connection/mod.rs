//! One end of a connection: its parts behind their locks, and what the events of the node do to them.
//!
//! Locks are taken in this order: life, then the receiver's or the sender's, then the session's. One thread may read while another writes; the leader takes
//! them for a moment.

mod ending;
mod lane;
mod rings;
mod transfer;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;
use std::time::Instant;

pub(crate) use lane::{Lane, Staging};
use vmmc::{Import, Ticket};

use crate::error::SocketError;
use crate::proto::layout::slot_offset;
use crate::proto::slot::STATE_LEN;
use crate::proto::{Answer, Growth, Kind, Life, Receiver, RingGrant, Sender, State, Violation};
use crate::stack::{Inner, RequestSlot, Session};
use crate::wait::{Cork, Descriptor, Spin, Watch, lock};
use crate::{proto, wait};

/// The reading side.
#[derive(Debug)]
pub(crate) struct Rx {
    pub receiver: Receiver,
    /// Somebody has what comes next: it is lent, or is being awaited in his buffer.
    pub busy: bool,
    /// Somebody else has found it so, and looks again when he is told.
    pub missed: bool,
    /// The peer has long writes.
    pub long: bool,
    growth: Growth,
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Tx {
    pub sender: Sender,
    /// The peer's index of the stream, once it is known.
    pub target: Option<u32>,
    /// The last write has found no room on the link.
    pub stuck: bool,
    /// Of what was written last.
    pub last: Option<Ticket>,
    pub lane: Lane,
}

/// The life, and what depends on it.
#[derive(Debug)]
pub(crate) struct Alive {
    pub life: Life,
    /// While a connect waits for its answer.
    pub request: Option<RequestSlot>,
    pub answer: Option<Answer>,
    /// Nobody has a handle on it any more.
    pub dropped: bool,
    /// It has its index no longer.
    removed: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub session: Arc<Session>,
    pub index: u32,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub alive: Mutex<Alive>,
    pub rx: Mutex<Rx>,
    pub tx: Mutex<Tx>,
    /// Who waits for data, the end, or the answer to a connect.
    pub readers: Watch,
    /// Who waits for room.
    pub writers: Watch,
    pub read_spin: Spin,
    pub write_spin: Spin,
    /// Why it is over, until somebody has been told.
    failure: Mutex<Option<SocketError>>,
    /// It is over, and not in order.
    pub failed: AtomicBool,
    /// A write has been refused because the peer reads no more: that the stream is reset then is no more news.
    broken: AtomicBool,
    /// `shutdown` for reading was called.
    pub deaf: AtomicBool,
    /// The handles' descriptor, as long as there are handles.
    pub descriptor: OnceLock<Weak<Descriptor>>,
}

impl Connection {
    /// A stream that this side asks for.
    pub(crate) fn requested(
        session: &Arc<Session>,
        index: u32,
        ring: RingGrant,
        (local, peer): (SocketAddr, SocketAddr),
        request: RequestSlot,
        now: u64,
    ) -> Arc<Connection> {
        let life = Life::requested(index, ring);
        Self::new(session, index, ring, (local, peer), life, Some(request), None, now)
    }

    /// A stream that the peer has asked for.
    pub(crate) fn accepted(
        session: &Arc<Session>,
        index: u32,
        ring: RingGrant,
        (local, peer): (SocketAddr, SocketAddr),
        request: &proto::Request,
        now: u64,
    ) -> Arc<Connection> {
        let life = Life::accepted(index, request.peer);
        Self::new(session, index, ring, (local, peer), life, None, Some(request.grant), now)
    }

    #[allow(clippy::too_many_arguments)] // all of them are what a connection is made of
    fn new(
        session: &Arc<Session>,
        index: u32,
        ring: RingGrant,
        (local, peer): (SocketAddr, SocketAddr),
        life: Life,
        request: Option<RequestSlot>,
        grant: Option<RingGrant>,
        now: u64,
    ) -> Arc<Connection> {
        Arc::new(Connection {
            session: session.clone(),
            index,
            local,
            peer,
            rx: Mutex::new(Rx {
                receiver: Receiver::new(ring.offset, ring.bytes()),
                busy: false,
                missed: false,
                long: false,
                growth: Growth::new(now),
            }),
            tx: Mutex::new(Tx {
                sender: Sender::new(grant),
                target: life.peer(),
                stuck: false,
                last: None,
                lane: Lane::default(),
            }),
            alive: Mutex::new(Alive { life, request, answer: None, dropped: false, removed: false }),
            readers: Watch::default(),
            writers: Watch::default(),
            read_spin: Spin::new(),
            write_spin: Spin::new(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            descriptor: OnceLock::new(),
        })
    }

    /// The peer's memory. There is one as soon as there are streams.
    pub(crate) fn import(&self) -> Option<&Import> {
        self.session.import.get()
    }

    /// The peer has written into the ring.
    pub(crate) fn on_data(&self, inner: &Inner, mut offset: u64, mut len: u64, tasks: &mut Vec<Waker>) {
        let mut rx = lock(&self.rx);
        let result = loop {
            match rx.receiver.on_data(offset, len) {
                // Two writes that were announced as one: up to the end of a ring, and at the beginning of the next, right behind it.
                Err(Violation::Overrun { room, .. }) if room > 0 && room < len => {
                    if let Err(violation) = rx.receiver.on_data(offset, room) {
                        break Err(violation);
                    }
                    (offset, len) = (offset + room, len - room);
                }
                result => break result,
            }
        };
        let freed = rx.receiver.free_ring();
        let grown = rx.receiver.readable() as u64 >= rx.receiver.ring_len() / 2 && self.widen(&mut rx);
        drop(rx);
        if let Some((offset, len)) = freed {
            self.session.free_ring(offset, len);
        }
        if grown {
            self.tell(inner);
        }
        match result {
            Ok(()) => self.readers.wake(&inner.waiting, tasks),
            Err(violation) => self.violated(inner, &violation, tasks),
        }
        self.show();
    }

    /// The peer has rewritten the slot, for the last time if it is `done`.
    pub(crate) fn on_state(&self, inner: &Inner, done: bool, tasks: &mut Vec<Waker>) {
        let mut bytes = [0; STATE_LEN];
        let (Some(import), Ok(())) = (self.import(), self.session.export.read(slot_offset(self.index), &mut bytes))
        else {
            return;
        };
        let mut alive = lock(&self.alive);
        let places = import.len() + self.session.direct.peers_len();
        let result = State::parse(&bytes, places).and_then(|state| self.take_state(inner, &mut alive, &state));
        if let Err(violation) = result {
            self.break_off(&mut alive, &violation);
        }
        if done {
            let ended = lock(&self.rx).receiver.ended();
            let over = lock(&self.tx).sender.is_over();
            if let Err(violation) = alive.life.on_done(ended, over) {
                self.break_off(&mut alive, &violation);
            }
        }
        self.tell_locked(inner, &mut alive);
        drop(alive);
        self.readers.wake(&inner.waiting, tasks);
        self.writers.wake(&inner.waiting, tasks);
        self.show();
    }

    fn take_state(&self, inner: &Inner, alive: &mut Alive, state: &State) -> Result<(), Violation> {
        let changes = alive.life.on_state(state)?;
        if let Some(answer) = changes.answered {
            alive.answer = Some(answer);
            if let Some(slot) = alive.request.take() {
                self.session.give_request(slot, inner);
            }
            if answer != Answer::Accepted {
                return Ok(());
            }
        }
        if changes.reset {
            // Before anybody can see that nothing can be written any more.
            self.fail(SocketError::Reset { peer: self.peer });
        }
        {
            let mut tx = lock(&self.tx);
            tx.sender.on_state(state)?;
            tx.target = alive.life.peer();
        }
        let freed = {
            let mut rx = lock(&self.rx);
            rx.receiver.on_state(state)?;
            rx.receiver.free_ring()
        };
        if let Some((offset, len)) = freed {
            self.session.free_ring(offset, len);
        }
        Ok(())
    }

    /// The peer has broken the protocol, or written to a stream that is closed: the stream is reset.
    fn violated(&self, inner: &Inner, violation: &Violation, tasks: &mut Vec<Waker>) {
        let mut alive = lock(&self.alive);
        self.break_off(&mut alive, violation);
        self.tell_locked(inner, &mut alive);
        drop(alive);
        self.readers.wake(&inner.waiting, tasks);
        self.writers.wake(&inner.waiting, tasks);
    }

    fn break_off(&self, alive: &mut Alive, violation: &Violation) {
        if !matches!(violation, Violation::Unwanted { .. }) {
            tracing::debug!(target: "vmmc::sockets", peer = %self.peer, %violation, "stream reset");
        }
        // Before anybody can see that nothing can be written any more.
        self.fail(SocketError::Violation { peer: self.peer, why: violation.to_string() });
        alive.life.abort();
        lock(&self.tx).sender.stop();
    }

    /// It is over, unless that was so before.
    pub(crate) fn fail(&self, error: SocketError) {
        let known = self.broken.load(Ordering::SeqCst);
        if !self.failed.swap(true, Ordering::SeqCst) && !known {
            *lock(&self.failure) = Some(error);
        }
    }

    /// An error that somebody was to be told, and couldn't be: the next one is.
    pub(crate) fn put_back(&self, error: &io::Error) {
        let told = error.get_ref().and_then(|inner| inner.downcast_ref::<SocketError>());
        if let Some(failure) = told.filter(|failure| failure.kind() == io::ErrorKind::ConnectionReset) {
            *lock(&self.failure) = Some(failure.clone());
        }
    }

    /// Why it is over, once.
    pub(crate) fn take_failure(&self) -> Option<SocketError> {
        lock(&self.failure).take()
    }

    /// The session is over.
    pub(crate) fn lose(&self, inner: &Inner, tasks: &mut Vec<Waker>) {
        let mut alive = lock(&self.alive);
        // A stream that has come to its end before is none the worse.
        if !lock(&self.rx).receiver.ended() || alive.answer.is_none() && alive.request.is_some() {
            self.fail(self.session.loss(self.peer));
        }
        lock(&self.tx).sender.stop();
        alive.life.abort();
        if !std::mem::replace(&mut alive.removed, true) {
            inner.release_port(self.local.port());
        }
        drop(alive);
        self.readers.wake(&inner.waiting, tasks);
        self.writers.wake(&inner.waiting, tasks);
        self.show();
    }

    /// Tells the peer what it has to know, if there is anything.
    pub(crate) fn tell(&self, inner: &Inner) {
        self.tell_locked(inner, &mut lock(&self.alive));
    }

    fn tell_locked(&self, inner: &Inner, alive: &mut Alive) {
        let Some(import) = self.import().filter(|_| !alive.removed) else { return };
        loop {
            let receipt = lock(&self.rx).receiver.receipt();
            let progress = lock(&self.tx).sender.progress();
            let Some(out) = alive.life.outgoing(receipt, progress) else { break };
            if self.must_wait(&out) {
                if self.session.is_mute(self.index) {
                    continue;
                }
                break;
            }
            let state = out.state.emit();
            let mut send = import.try_send(&state, slot_offset(out.slot)).notify(out.tag.to_u32());
            if alive.life.is_only_credit(&out) || out.tag.kind == Kind::Done || Cork::is_in() {
                // Nobody waits for it: it may share a packet with what comes next.
                send = send.queued();
            }
            match send.now() {
                Ok(sent) if sent.complete => {
                    alive.life.sent(&out);
                    lock(&self.rx).receiver.told(out.state.consumed);
                }
                // There may have been room again before the stream was on the list.
                Ok(_) if self.session.is_mute(self.index) => {}
                // Later, or never, because the session is over.
                _ => break,
            }
        }
        if alive.life.is_done() && !alive.removed && (alive.dropped || self.is_refused(alive)) {
            alive.removed = true;
            let rx = lock(&self.rx);
            self.session.remove(self.index, rx.receiver.rings());
            inner.release_port(self.local.port());
        }
    }

    fn is_refused(&self, alive: &Alive) -> bool {
        alive.answer.is_some_and(|answer| answer != Answer::Accepted)
    }

    /// Whether a read wouldn't block.
    pub(crate) fn is_readable(&self) -> bool {
        let rx = lock(&self.rx);
        rx.receiver.readable() > 0 || rx.receiver.at_end() || self.failed.load(Ordering::SeqCst) || self.is_deaf()
    }

    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    /// Whether a write wouldn't block, as far as the ring goes.
    pub(crate) fn is_writable(&self) -> bool {
        let tx = lock(&self.tx);
        tx.sender.writable() > 0 || tx.sender.is_over()
    }

    /// Whether a write wouldn't block.
    pub(crate) fn can_write(&self) -> bool {
        self.is_writable() && !self.session.was_stuck(self.index)
    }

    /// Shows on the descriptor, if there is one, how things are.
    pub(crate) fn show(&self) {
        if let Some(descriptor) = self.descriptor.get().and_then(Weak::upgrade) {
            descriptor.show(|| self.state());
        }
    }

    /// What a descriptor shows.
    fn state(&self) -> wait::State {
        let failed = self.failed.load(Ordering::SeqCst);
        let (readable, ended) = {
            let rx = lock(&self.rx);
            let ended = rx.receiver.ended() || failed || self.is_deaf();
            (rx.receiver.readable() > 0 || ended, ended)
        };
        let over = failed || ended && lock(&self.tx).sender.is_over();
        wait::State { readable, writable: self.can_write(), ended, over }
    }

    /// When a timeout ends.
    pub(crate) fn deadline(timeout: Option<std::time::Duration>) -> Option<Instant> {
        timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}
