//! Opening sessions and streams, from this side.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmmc::{EngineError, Key};

use super::dispatch::{EXPORT, PEERS_DOOR, token};
use super::session::{Phase, RequestSlot, Session};
use super::{DOOR, Inner, SESSION_LEN};
use crate::connection::Connection;
use crate::error::{SocketError, from_node};
use crate::proto::layout::request_offset;
use crate::proto::{Answer, Request, Tag};
use crate::wait::{Spin, lock};

/// How many notifications of a peer may wait to be taken. The leader takes them all each time.
pub(super) const QUEUE: usize = 4096;

/// How long to wait before a listener that was busy is asked again, at first.
const PAUSE: Duration = Duration::from_millis(1);

/// What a stack exports to `peer`, whoever that is.
pub(super) fn export_name(peer: SocketAddr) -> String {
    format!("streams/{peer}")
}

/// And what of the bulk lane's memory.
pub(super) fn direct_name(peer: SocketAddr) -> String {
    format!("streams/{peer}/direct")
}

impl Inner {
    /// The session with a peer's node: the one there is, or a new one, of which the peer knows nothing yet.
    pub(super) fn session_with(&self, peer: SocketAddr) -> io::Result<Arc<Session>> {
        let mut table = lock(&self.table);
        if let Some(session) = table.by_peer.get(&peer) {
            return Ok(session.clone());
        }
        let id = self.next_session.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let export = self.node.export(&export_name(peer)).len(SESSION_LEN).sparse(true).only(peer).key(Key::PUBLIC);
        let export =
            export.notify(true).merge(true).look_back(false).queue(QUEUE).report_to(&self.events, token(id, EXPORT));
        let session = Arc::new(Session::new(id, peer, export.create().map_err(from_node)?, self.settings.ring as u64));
        table.by_peer.insert(peer, session.clone());
        table.by_id.insert(id, session.clone());
        Ok(session)
    }

    /// Knocks at the peer's door. Blocks while the kernel looks for the way to it.
    fn knock(self: &Arc<Self>, session: &Arc<Session>) {
        let import = || {
            let import = self.node.start_import(session.peer, DOOR, Key::PUBLIC)?;
            import.report_to(&self.events, token(session.id, PEERS_DOOR))?;
            Ok(import)
        };
        // There is one when this isn't the first time.
        let result =
            if session.door.get().is_some() { Ok(()) } else { import().map(|door| drop(session.door.set(door))) };
        let mut tasks = Vec::new();
        match result {
            Ok(()) => {
                // It may have been answered before anybody could see it.
                self.on_import(session, PEERS_DOOR, &mut tasks);
            }
            Err(error) => self.end_session(session, error, &mut tasks),
        }
        self.nudge();
        tasks.into_iter().for_each(std::task::Waker::wake);
    }

    /// A session with the peer in which streams can be opened.
    fn open_session(
        self: &Arc<Self>,
        address: SocketAddr,
        deadline: Instant,
        start: Instant,
    ) -> io::Result<Arc<Session>> {
        let peer = SocketAddr::new(address.ip(), self.local.port());
        loop {
            let session = self.session_with(peer)?;
            if session.begin_opening() {
                let (inner, session) = (self.clone(), session.clone());
                // The kernel may take a second to find the peer, and the caller hasn't always got that.
                let knocking = session.clone();
                let thread = std::thread::Builder::new().name("vmmc-knock".to_owned());
                if let Err(error) = thread.spawn(move || inner.knock(&knocking)) {
                    session.open_again();
                    return Err(error);
                }
            }
            let spin = Spin::new();
            let phase =
                self.waiting.wait(&**self, &session.opened, &spin, Some(deadline), || match session.phase() {
                    Phase::Opening => None,
                    phase => Some(phase),
                })?;
            match phase {
                Some(Phase::Ready) => return Ok(session),
                None | Some(Phase::Opening) => {
                    // The peer may have had no room for a session just then.
                    session.open_again();
                    return Err(self.no_answer(address, start).into());
                }
                Some(Phase::Dead(error)) => match &*error {
                    // Perhaps it is just being started; or it has been, and our link was to its predecessor.
                    vmmc::Error::Engine(EngineError::LinkEnded { .. } | EngineError::Revoked { .. }) => {
                        if Instant::now() >= deadline {
                            return Err(self.no_answer(address, start).into());
                        }
                        std::thread::sleep(PAUSE);
                    }
                    vmmc::Error::Engine(EngineError::UnknownName { .. }) => {
                        return Err(SocketError::Refused { address }.into());
                    }
                    _ => return Err(explain(address, &error)),
                },
            }
        }
    }

    fn no_answer(&self, address: SocketAddr, start: Instant) -> SocketError {
        SocketError::NoAnswer { address, after: start.elapsed(), port: self.local.port() }
    }

    /// Connects.
    pub(super) fn connect(self: &Arc<Self>, address: SocketAddr, timeout: Duration) -> io::Result<Arc<Connection>> {
        let start = Instant::now();
        let deadline = start.checked_add(timeout).unwrap_or(start + Duration::from_secs(1 << 30));
        // This host is reached by its address on the network.
        let own = address.ip().is_loopback();
        let address = if own { SocketAddr::new(self.local.ip(), address.port()) } else { address };
        if address.ip().is_unspecified() || address.port() == 0 {
            let text = format!("{address} is no address that can be connected to");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut pause = PAUSE;
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            let session = self.open_session(address, deadline, start)?;
            let spin = Spin::new();
            let slot = self.waiting.wait(&**self, &session.opened, &spin, Some(deadline), || match session.phase() {
                Phase::Dead(_) => Some(Err(session.loss(address).into())),
                _ => session.take_request().map(Ok),
            });
            let Some(slot) = slot? else { return Err(self.no_answer(address, start).into()) };
            let answer = match slot.and_then(|slot| self.request(&session, slot, address, deadline)) {
                // The peer has been restarted, and the session was with its predecessor.
                Err(_) if matches!(session.phase(), Phase::Dead(_)) && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                answer => answer?,
            };
            match answer {
                Some((connection, Answer::Accepted)) => return Ok(connection),
                Some((_, Answer::Refused)) => return Err(SocketError::Refused { address }.into()),
                Some((_, Answer::Busy)) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(SocketError::Busy { address, after: start.elapsed() }.into());
                    }
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                None => return Err(self.no_answer(address, start).into()),
            }
        }
    }

    /// Asks for a stream, and waits for the answer: `None` when there is none in time.
    fn request(
        self: &Arc<Self>,
        session: &Arc<Session>,
        slot: RequestSlot,
        address: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Option<(Arc<Connection>, Answer)>> {
        let index = slot.0;
        let exhausted = |what: &str| {
            io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!("this host has no more {what} for connections to {address}: close some"),
            )
        };
        let Some(port) = lock(&self.table).ports.ephemeral() else {
            session.give_request(slot, self);
            return Err(exhausted("ports"));
        };
        let local = SocketAddr::new(self.local.ip(), port);
        let (mut slot, mut grant) = (Some(slot), None);
        let added = session.add(|number, ring| {
            grant = Some(ring);
            let slot = slot.take().unwrap_or(RequestSlot(index));
            Connection::requested(session, number, ring, (local, address), slot, self.now())
        });
        let (Some(connection), Some(grant)) = (added, grant) else {
            self.release_port(port);
            if let Some(slot) = slot {
                session.give_request(slot, self);
            }
            return Err(exhausted("rings"));
        };
        let request = Request { peer: connection.index, from: port, to: address.port(), grant }.emit();
        let (mut asked, mut tasks) = (false, Vec::new());
        // It has no room only when very many ask at the same time.
        let outcome = self.waiting.wait(&**self, &connection.readers, &connection.read_spin, Some(deadline), || {
            while !asked {
                let send = connection.import()?.try_send(&request, request_offset(index));
                match send.notify(Tag::request(index).to_u32()).now() {
                    Ok(sent) => asked = sent.complete,
                    Err(error) => {
                        // Nobody has taken the event that says so.
                        self.end_session(session, error, &mut tasks);
                        return Some(Err(session.loss(address).into()));
                    }
                }
                // There may have been room again before it was on the list.
                if !asked && !session.is_stuck(connection.index) {
                    break;
                }
            }
            if let Some(failure) = connection.take_failure() {
                return Some(Err(failure.into()));
            }
            lock(&connection.alive).answer.map(Ok)
        });
        connection.unstick();
        if matches!(session.phase(), Phase::Dead(_)) {
            self.nudge();
            tasks.into_iter().for_each(std::task::Waker::wake);
        }
        match outcome {
            Ok(Some(Ok(answer))) => Ok(Some((connection, answer))),
            other => {
                connection.close(self, true);
                if !asked {
                    // The peer knows nothing of it.
                    connection.forget(self);
                }
                other?.transpose().map(|_| None)
            }
        }
    }
}

/// What a session has ended for.
fn explain(address: SocketAddr, error: &vmmc::Error) -> io::Error {
    let kind = match error {
        vmmc::Error::Route(_) => io::ErrorKind::HostUnreachable,
        vmmc::Error::Engine(EngineError::Denied { .. }) => io::ErrorKind::ConnectionRefused,
        vmmc::Error::Engine(EngineError::Family { .. }) => io::ErrorKind::InvalidInput,
        vmmc::Error::Wire(source) => source.kind(),
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, SocketError::Node { address, text: error.to_string() })
}
