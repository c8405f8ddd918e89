//! What events of the node mean, and who is told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use vmmc::{Event, Notification};

use super::Inner;
use super::direct::DIRECT;
use super::session::{Phase, Session};
use crate::connection::Connection;
use crate::listener::Accepting;
use crate::proto::layout::{VERSION, request_offset, slot_offset};
use crate::proto::slot::REQUEST_LEN;
use crate::proto::{Kind, Life, Outgoing, Request, Tag};
use crate::wait::{Cork, Drive, Lead, lock};

/// Knocks have this token.
pub(super) const DOOR_TOKEN: u64 = 0;

/// What a token is about, in its low bits; the others are the session's number.
pub(super) const EXPORT: u64 = 1;
pub(super) const IMPORT: u64 = 2;
pub(super) const PEERS_DOOR: u64 = 3;
pub(super) const DIRECT_EXPORT: u64 = 4;
pub(super) const DIRECT_IMPORT: u64 = 5;

/// How many low bits that are.
const WHAT_BITS: u32 = 3;

/// The tag by which a peer says that it is ready.
const HELLO: u32 = 0x5000_0000 | VERSION;

/// How often idle streams are looked for.
const TIDY: Duration = Duration::from_millis(500);

pub(super) fn token(session: u64, what: u64) -> u64 {
    session << WHAT_BITS | what
}

fn what(token: u64) -> u64 {
    token & ((1 << WHAT_BITS) - 1)
}

impl Inner {
    /// Deals with a batch of events.
    pub(super) fn deal_with(&self, lead: &mut Lead) {
        let Lead { batch, tasks, woken, recent } = lead;
        // What the peers are told leaves together.
        let many = batch.len() > 1;
        let corked = Cork::set(many);
        for event in batch.drain(..) {
            match event {
                Event::Notification { token: DOOR_TOKEN, notification } => self.on_knock(&notification, tasks),
                Event::Notification { token, notification } => {
                    if recent.as_ref().is_none_or(|session| session.id != token >> WHAT_BITS) {
                        *recent = self.session(token >> WHAT_BITS);
                    }
                    match &*recent {
                        None => {}
                        Some(session) if what(token) == DIRECT_EXPORT => {
                            self.on_direct_write(session, &notification, tasks);
                        }
                        Some(session) => self.on_write(session, &notification, tasks),
                    }
                }
                Event::Import { token } => {
                    if let Some(session) = self.session(token >> WHAT_BITS) {
                        match what(token) {
                            DIRECT_IMPORT => self.on_direct_import(&session, tasks),
                            what => self.on_import(&session, what, tasks),
                        }
                    }
                    // It may have ended.
                    *recent = None;
                }
                _ => {}
            }
        }
        Cork::set(corked);
        if many {
            self.flush();
        }
        *woken = tasks.len();
        // They may do anything, but wait for the lead.
        tasks.drain(..).for_each(Waker::wake);
    }

    fn session(&self, id: u64) -> Option<Arc<Session>> {
        lock(&self.table).by_id.get(&id).cloned()
    }

    /// Another stack wants streams.
    fn on_knock(&self, knock: &Notification, tasks: &mut Vec<Waker>) {
        if knock.tag != VERSION {
            tracing::warn!(target: "vmmc::sockets", peer = %knock.peer, version = knock.tag, own = VERSION,
                "a stack of another version wants streams, and isn't answered");
            return;
        }
        match self.session_with(knock.peer) {
            Ok(session) => self.start_import(&session, tasks),
            Err(error) => {
                tracing::warn!(target: "vmmc::sockets", peer = %knock.peer, %error, "no session with a peer that wants one");
            }
        }
    }

    /// Imports what the peer exports to us, unless that has been done.
    fn start_import(&self, session: &Arc<Session>, tasks: &mut Vec<Waker>) {
        if session.import.get().is_some() {
            return;
        }
        let name = super::open::export_name(self.local);
        let import = self.node.start_import(session.peer, &name, vmmc::Key::PUBLIC);
        let reported = import.and_then(|import| {
            import.report_to(&self.events, token(session.id, IMPORT))?;
            Ok(import)
        });
        match reported {
            // Only the leader does this.
            Ok(import) => drop(session.import.set(import)),
            Err(error) => self.end_session(session, error, tasks),
        }
        // One of this node's own is answered at once.
        self.on_import(session, IMPORT, tasks);
    }

    /// Something about an import has changed.
    pub(super) fn on_import(&self, session: &Arc<Session>, which: u64, tasks: &mut Vec<Waker>) {
        let import = if which == PEERS_DOOR { session.door.get() } else { session.import.get() };
        let Some(import) = import else { return };
        match import.check() {
            Ok(None) => {}
            Err(error) => self.end_session(session, error, tasks),
            Ok(Some(_)) if which == PEERS_DOOR => {
                if session.knocked.swap(true, Ordering::SeqCst) {
                    return;
                }
                match import.try_send(&[], 0).notify(VERSION).now() {
                    // Later: there will be another event.
                    Ok(sent) if !sent.complete => session.knocked.store(false, Ordering::SeqCst),
                    Ok(_) => {}
                    Err(error) => self.end_session(session, error, tasks),
                }
            }
            Ok(Some(length)) => {
                if matches!(session.phase(), Phase::Opening) {
                    if length != session.export.len() as u64 {
                        let text = format!(
                            "what {} exports has {length} bytes, and should have {}",
                            session.peer,
                            session.export.len()
                        );
                        return self.end_session(session, vmmc::Error::Config(text), tasks);
                    }
                    match import.try_send(&[], 0).notify(HELLO).now() {
                        Ok(sent) if sent.complete => {}
                        Ok(_) => return,
                        Err(error) => return self.end_session(session, error, tasks),
                    }
                    session.set_ready();
                    session.opened.wake(&self.waiting, tasks);
                }
                self.on_room(session, tasks);
            }
        }
    }

    /// There may be room on the link again.
    pub(super) fn on_room(&self, session: &Arc<Session>, tasks: &mut Vec<Waker>) {
        self.send_refusals(session);
        let mute = std::mem::take(&mut *lock(&session.mute));
        mute.into_iter().filter_map(|index| session.stream(index)).for_each(|stream| stream.tell(self));
        let awaiting = std::mem::take(&mut *lock(&session.awaiting));
        let stuck = std::mem::take(&mut *lock(&session.stuck));
        for stream in awaiting.into_iter().chain(stuck).filter_map(|index| session.stream(index)) {
            stream.writers.wake(&self.waiting, tasks);
            // A connect whose request found no room waits as a reader does, for the answer.
            stream.readers.wake(&self.waiting, tasks);
            stream.show();
        }
        session.opened.wake(&self.waiting, tasks);
    }

    /// The peer has written into what we export to it.
    fn on_write(&self, session: &Arc<Session>, write: &Notification, tasks: &mut Vec<Waker>) {
        if write.tag == HELLO {
            return self.start_import(session, tasks);
        }
        if write.tag == DIRECT {
            return self.start_direct_import(session, tasks);
        }
        // A tag that says nothing is nobody's.
        let Ok(tag) = Tag::parse(write.tag) else { return };
        if tag.kind == Kind::Request {
            return self.on_request(session, tag.index, tasks);
        }
        let Some(stream) = session.stream(tag.index) else { return };
        match tag.kind {
            Kind::Data => stream.on_data(self, write.offset, write.length, tasks),
            Kind::State | Kind::Done => {
                // Several changes of a slot, told one by one: it is read when the first is told, and again.
                debug_assert!(slot_offset(tag.index) <= session.export.len() as u64);
                stream.on_state(self, tag.kind == Kind::Done, tasks);
            }
            Kind::Long | Kind::Short => stream.on_long(self, tag.kind == Kind::Long),
            Kind::Request => {}
        }
        if session.peer == self.local {
            // Sends to this node itself have room when notifications have been taken.
            self.on_room(session, tasks);
        }
    }

    /// The peer wants to connect.
    fn on_request(&self, session: &Arc<Session>, index: u32, tasks: &mut Vec<Waker>) {
        let mut bytes = [0; REQUEST_LEN];
        if session.export.read(request_offset(index), &mut bytes).is_err() {
            return;
        }
        let Ok(request) = Request::parse(&bytes, session.export.len() as u64) else { return };
        let listener = lock(&self.table).listeners.get(&request.to).cloned();
        let local = SocketAddr::new(self.local.ip(), request.to);
        let peer = SocketAddr::new(session.peer.ip(), request.from);
        let added = match &listener {
            None => return self.refuse(session, Life::refusal(request.peer, false)),
            Some(listener) if listener.is_full(self.settings.backlog) => None,
            Some(_) => session
                .add(|index, ring| Connection::accepted(session, index, ring, (local, peer), &request, self.now())),
        };
        match (added, listener) {
            (Some(stream), Some(listener)) => {
                lock(&self.table).ports.take(request.to);
                stream.tell(self);
                listener.push(stream, self, tasks);
            }
            _ => self.refuse(session, Life::refusal(request.peer, true)),
        }
    }

    fn refuse(&self, session: &Arc<Session>, refusal: Outgoing) {
        lock(&session.streams).refusals.push_back(refusal);
        self.send_refusals(session);
    }

    /// Sends the answers that are due, as far as there is room.
    fn send_refusals(&self, session: &Arc<Session>) {
        let Some(import) = session.import.get() else { return };
        loop {
            let Some(out) = lock(&session.streams).refusals.pop_front() else { return };
            let sent = import.try_send(&out.state.emit(), slot_offset(out.slot)).notify(out.tag.to_u32()).now();
            if let Ok(sent) = sent
                && !sent.complete
            {
                let mut streams = lock(&session.streams);
                // A peer that asks for more than it may has to do without answers.
                if streams.refusals.len() < crate::proto::layout::REQUESTS as usize {
                    streams.refusals.push_front(out);
                }
                return;
            }
        }
    }

    /// A session is over, and all its streams with it.
    pub(super) fn end_session(&self, session: &Arc<Session>, error: vmmc::Error, tasks: &mut Vec<Waker>) {
        if !session.set_dead(Arc::new(error)) {
            return;
        }
        // Its successor's exports have the same names.
        session.revoke();
        {
            let mut table = lock(&self.table);
            table.by_id.remove(&session.id);
            if table.by_peer.get(&session.peer).is_some_and(|other| other.id == session.id) {
                table.by_peer.remove(&session.peer);
            }
        }
        session.clear().iter().for_each(|stream| stream.lose(self, tasks));
        session.opened.wake(&self.waiting, tasks);
    }

    /// The node has failed.
    pub(super) fn end_all(&self, lead: &mut Lead) {
        let sessions: Vec<Arc<Session>> = lock(&self.table).by_id.values().cloned().collect();
        for session in sessions {
            let why = self.failure().map_or_else(String::new, |error| error.to_string());
            self.end_session(&session, vmmc::Error::Config(why), &mut lead.tasks);
        }
        let listeners: Vec<_> = lock(&self.table).listeners.values().cloned().collect();
        listeners.iter().for_each(|listener| listener.fail(self, &mut lead.tasks));
        lead.tasks.drain(..).for_each(Waker::wake);
    }

    /// Looks after streams that may be idle. Returns when to do it again.
    pub(super) fn tidy(&self) -> Option<Duration> {
        let sessions: Vec<Arc<Session>> = lock(&self.table).by_id.values().cloned().collect();
        let large: Vec<_> = sessions.iter().filter(|s| s.large.load(Ordering::Relaxed) > 0).collect();
        for session in &large {
            session.all().iter().for_each(|stream| stream.keep_house(self));
        }
        (!large.is_empty()).then_some(TIDY)
    }

    /// Gives a port to a listener: this one, or one that is free if it is 0.
    pub(crate) fn listen(&self, port: u16, accepting: &Arc<Accepting>) -> io::Result<u16> {
        let mut table = lock(&self.table);
        let port = match port {
            0 => table.ports.ephemeral().ok_or(io::ErrorKind::AddrInUse)?,
            port if table.listeners.contains_key(&port) => {
                let text = format!("another listener of this stack has port {port}");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            port => {
                table.ports.take(port);
                port
            }
        };
        table.listeners.insert(port, accepting.clone());
        Ok(port)
    }

    /// A listener is gone.
    pub(crate) fn unlisten(&self, port: u16, accepting: &Arc<Accepting>) {
        let mut table = lock(&self.table);
        if table.listeners.get(&port).is_some_and(|other| Arc::ptr_eq(other, accepting)) {
            table.listeners.remove(&port);
            table.ports.release(port);
        }
    }

    /// A stream or listener has its port no longer.
    pub(crate) fn release_port(&self, port: u16) {
        lock(&self.table).ports.release(port);
    }
}
