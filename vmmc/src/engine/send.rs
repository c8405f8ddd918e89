//! Importing, and sending into what was imported: deliberate update, the paper's word for it.

use std::net::SocketAddr;
use std::time::Duration;

use super::imports::{Import, ImportState};
use super::peer::Open;
use super::{Engine, EngineError, Key, place_of};
use crate::log::provoked;
use crate::port::Port;
use crate::time::Time;
use crate::wire::Reader;
use crate::wire::record::{MAX_NAME, NOTIFY_LEN, Notify, PUT_LEN, Record};

/// Packets put into the port before it is flushed.
const BATCH: u64 = 32;

/// Packets that sends share are no longer than this, so that each lies in one frame of its port.
const SHARED: usize = crate::port::FIRST_FRAME;

/// Less than so many bytes of a longer send aren't worth a record of their own in a packet that is open.
const FILL: usize = 256;

/// A send under way: what, where to, and how much of it has been put into packets.
#[derive(Debug)]
pub struct Send<'a> {
    /// The bytes to send.
    pub data: &'a [u8],
    /// Where in the export they shall go.
    pub offset: u64,
    /// Notify with this tag.
    pub notify: Option<u32>,
    /// Ask the peer to acknowledge the last packet at once: somebody waits for it.
    pub urgent: bool,
    /// Leave room in the last packet for more, and the packet for the next send or the engine's next turn to send.
    pub queued: bool,
    /// Each packet notifies of its own bytes, so that a part of the send is a send in whole: see [`Engine::try_send`].
    pub piecewise: bool,
    done: usize,
    counted: bool,
    finished: bool,
    last: u64,
    /// What its notification says of its length, if that isn't its own.
    total: Option<u64>,
}

impl<'a> Send<'a> {
    /// A send of `data` to `offset`.
    pub fn new(data: &'a [u8], offset: u64) -> Send<'a> {
        Send {
            data,
            offset,
            notify: None,
            urgent: false,
            queued: false,
            piecewise: false,
            done: 0,
            counted: false,
            finished: false,
            last: 0,
            total: None,
        }
    }

    /// The rest of a send of which so many bytes have been put into packets, and which may itself be the end of one of `total` bytes.
    pub(super) fn resume(
        data: &'a [u8],
        offset: u64,
        done: usize,
        notify: Option<u32>,
        total: Option<u64>,
    ) -> Send<'a> {
        Send { notify, done, counted: true, total, ..Send::new(data, offset) }
    }

    /// The packet that its last bytes so far are in.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Bytes put into packets so far.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether all of it has been, and its notification, too.
    pub fn is_complete(&self) -> bool {
        self.finished
    }
}

/// Where a send goes.
enum Target {
    /// The peer hasn't answered the import yet.
    Unknown,
    /// Into an export of this node.
    Local { export: u32 },
    /// Into one of a peer's.
    Remote { link: u64, grant: u32 },
}

/// Proof of a send: with it one can ask whether the send has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) import: u32,
    pub(super) link: u64,
    pub(super) last: u64,
    /// By the bulk lane: the last transfer.
    pub(super) transfer: Option<u32>,
}

impl Engine {
    /// Begins to import an export. The link to the peer must have been opened with [`Engine::connect`], unless the peer is
    /// this node itself.
    ///
    /// # Errors
    /// When the name can't be, there is no link, or there are too many imports. That the peer refuses is seen later:
    /// [`Engine::imported`].
    pub fn import(&mut self, peer: SocketAddr, name: &str, key: Key) -> Result<u32, EngineError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(EngineError::BadName { name: name.to_owned() });
        }
        let import = |link, state| Import {
            name: name.to_owned(),
            key,
            peer,
            link,
            state,
            grant: None,
            refused_from: None,
            unwanted_from: None,
            sends: 0,
            bytes: 0,
            fetches: 0,
            fetched: 0,
            report: None,
            announced: false,
            wants_room: false,
        };
        if peer == self.config.local {
            let state = match self.exports.find(name.as_bytes()) {
                None => {
                    return Err(EngineError::UnknownName { peer, name: name.to_owned() });
                }
                Some((_, export)) if !export.admits(peer, key) => {
                    return Err(EngineError::Denied { peer, name: name.to_owned() });
                }
                Some((id, export)) => {
                    ImportState::Local { export: id, access: export.access(), length: export.region.len() as u64 }
                }
            };
            return self.imports.insert(import(0, state));
        }
        let end = crate::link::LinkEnd::Closed;
        let link = self.by_address.get(&peer).copied().ok_or(EngineError::LinkEnded { peer, end })?;
        let id = self.imports.insert(import(link, ImportState::Waiting))?;
        let record = Record::Import { request: id, key: key.to_bytes(), name: name.len() as u16 };
        self.tell(link, record, name.as_bytes());
        Ok(id)
    }

    /// How long to wait for that at the most: a peer may be there and never answer.
    pub fn patience(&self) -> Duration {
        self.config.link.connect_timeout + self.config.link.peer_timeout
    }

    /// Whether an import is ready: the length of the export once it is, `None` while the peer hasn't answered.
    ///
    /// # Errors
    /// When the peer has refused, or the link to it has ended.
    pub fn imported(&self, id: u32) -> Result<Option<u64>, EngineError> {
        match &self.imports.get(id).ok_or(EngineError::Dropped)?.state {
            ImportState::Waiting => Ok(None),
            ImportState::Ready { length, .. } | ImportState::Local { length, .. } => Ok(Some(*length)),
            ImportState::Failed(error) => Err(error.clone()),
        }
    }

    /// Gives an import back.
    pub fn unimport(&mut self, id: u32) {
        let Some(import) = self.imports.remove(id) else { return };
        // A program that answers its peers imports and drops as they come and go.
        provoked!(INFO, target: "vmmc::engine", peer = %import.peer, export = import.name, "import dropped");
        if let Some(grant) = import.grant
            && let Some(peer) = self.peer_mut(import.link)
        {
            peer.release(grant);
            peer.wanting.retain(|&wanting| wanting != id);
            self.list(place_of(import.link));
        }
    }

    /// Puts as much of a send into packets as there is room for now, at most a batch. Returns a ticket once all of it has been:
    /// then its bytes belong to the caller again.
    ///
    /// # Errors
    /// When the import is of no use, or the send doesn't fit into the export. Nothing more of it is sent then.
    pub fn send(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        id: u32,
        send: &mut Send<'_>,
    ) -> Result<Option<Ticket>, EngineError> {
        match self.target(id, send)? {
            Target::Unknown => Ok(None),
            Target::Local { export } => self.send_local(id, export, send),
            Target::Remote { link, grant } => {
                self.send_in_turn(now, port, link, grant, send)?;
                Ok(send.finished.then_some(Ticket { import: id, link, last: send.last, transfer: None }))
            }
        }
    }

    /// As [`Engine::send`], for whoever doesn't wait. What has been put into packets is a send of its own, and announced if the send is to be:
    /// each packet has a notification of its own bytes. Returns a ticket for what has been sent so far. [`Send::done`] and [`Send::is_complete`] say
    /// how much that is; without progress there was no room. Then, if the import reports to a queue, an event says when there may be some.
    ///
    /// # Errors
    /// As [`Engine::send`].
    pub fn try_send(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        id: u32,
        send: &mut Send<'_>,
    ) -> Result<Option<Ticket>, EngineError> {
        send.piecewise = true;
        let before = send.done;
        let (ticket, has_room) = match self.target(id, send)? {
            Target::Unknown => (None, true),
            Target::Local { export } => {
                let ticket = self.send_local(id, export, send)?;
                (ticket, ticket.is_some())
            }
            Target::Remote { link, grant } => {
                let has_room = self.send_in_turn(now, port, link, grant, send)?;
                let begun = send.finished || send.done > 0;
                (begun.then_some(Ticket { import: id, link, last: send.last, transfer: None }), has_room)
            }
        };
        self.count(id, (send.done - before) as u64, ticket.is_some() && !std::mem::replace(&mut send.counted, true));
        if !has_room {
            self.await_room(id);
        }
        Ok(ticket)
    }

    /// Counts bytes of a send, and the send with the first of them.
    pub(super) fn count(&mut self, id: u32, bytes: u64, first: bool) {
        if let Some(import) = self.imports.get_mut(id) {
            import.sends += u64::from(first);
            import.bytes += bytes;
        }
        self.counters.sends += u64::from(first);
    }

    /// Appends a send that is to be queued to the packet that is open already, if all of it fits. That takes no look at the
    /// clock, which would cost as much as the rest. Otherwise, `None`, it is for [`Engine::send`].
    ///
    /// # Errors
    /// As [`Engine::send`].
    pub fn coalesce(
        &mut self,
        port: &mut dyn Port,
        id: u32,
        send: &mut Send<'_>,
    ) -> Result<Option<Ticket>, EngineError> {
        let Target::Remote { link, grant } = self.target(id, send)? else { return Ok(None) };
        let Some(peer) = self.peers.get_mut(place_of(link)).and_then(Option::as_deref_mut) else { return Ok(None) };
        if peer.transfers.hold() {
            return Ok(None);
        }
        let (notify, total) = (send.notify, send.data.len() as u64);
        let record = Record::Put {
            grant,
            offset: send.offset,
            length: send.data.len() as u16,
            notify: notify.map(|tag| Notify { tag, total }),
        };
        let fixed = if notify.is_some() { PUT_LEN + NOTIFY_LEN } else { PUT_LEN };
        let whole = fixed + send.data.len();
        // What would fill it up is left to `send`, which knows when to seal it.
        let Some(open) = peer.open.as_mut().filter(|open| peer.link.token() == link && open.room > whole + PUT_LEN)
        else {
            return Ok(None);
        };
        // It has room in its first frame.
        port.append(&mut open.packet, record.emit().as_ref());
        port.append(&mut open.packet, send.data);
        open.room -= whole;
        let ticket = Ticket { import: id, link, last: peer.link.next_sequence(), transfer: None };
        self.counters.tx_copied_bytes += total;
        (send.done, send.finished) = (send.data.len(), true);
        if send.piecewise {
            self.count(id, total, true);
        } else {
            self.counters.sends += 1;
        }
        Ok(Some(ticket))
    }

    /// The link and the grant by which a send goes to a peer, when it may. `None` while the peer hasn't answered, or when it is this node itself.
    pub(super) fn may_send(
        &mut self,
        id: u32,
        offset: u64,
        length: u64,
        notifies: bool,
    ) -> Result<Option<(u64, u32)>, EngineError> {
        Ok(match self.check_send(id, offset, length, notifies)? {
            Target::Remote { link, grant } => Some((link, grant)),
            Target::Unknown | Target::Local { .. } => None,
        })
    }

    /// Where a send goes, when it may.
    fn target(&mut self, id: u32, send: &mut Send<'_>) -> Result<Target, EngineError> {
        let length = send.data.len() as u64;
        let target = self.check_send(id, send.offset, length, send.notify.is_some())?;
        if !matches!(target, Target::Unknown)
            && !send.piecewise
            && !std::mem::replace(&mut send.counted, true)
            && let Some(import) = self.imports.get_mut(id)
        {
            import.sends += 1;
            import.bytes += length;
        }
        Ok(target)
    }

    fn check_send(&mut self, id: u32, offset: u64, wanted: u64, notifies: bool) -> Result<Target, EngineError> {
        let import = self.imports.get_mut(id).ok_or(EngineError::Dropped)?;
        let (target, access, length) = match &import.state {
            ImportState::Waiting => return Ok(Target::Unknown),
            ImportState::Failed(error) => return Err(error.clone()),
            ImportState::Ready { access, length, .. } => {
                let grant = import.grant.unwrap_or_default();
                (Target::Remote { link: import.link, grant }, *access, *length)
            }
            ImportState::Local { export, access, length } => (Target::Local { export: *export }, *access, *length),
        };
        if !access.writable {
            return Err(EngineError::NotWritable { name: import.name.clone() });
        }
        if notifies && !access.notifies {
            return Err(EngineError::NoNotifications { name: import.name.clone() });
        }
        if wanted == 0 && !notifies {
            return Err(EngineError::Empty);
        }
        if offset > length || wanted > length - offset {
            let name = import.name.clone();
            return Err(EngineError::OutOfRange { name, offset, length: wanted, export: length });
        }
        Ok(target)
    }

    /// Puts a send into packets, unless transfers of the bulk lane have to be done first. Returns whether there may be room for more.
    fn send_in_turn(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        token: u64,
        grant: u32,
        send: &mut Send<'_>,
    ) -> Result<bool, EngineError> {
        if let Some(peer) = self.peer_mut(token) {
            if peer.transfers.hold() {
                peer.transfers.want_turn();
                return Ok(false);
            }
            // Those that it has held up may go on.
            self.acknowledged += u64::from(peer.transfers.had_turn());
        }
        self.send_remote(now, port, token, grant, send)
    }

    /// Returns whether there may be room for more.
    pub(super) fn send_remote(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        token: u64,
        grant: u32,
        send: &mut Send<'_>,
    ) -> Result<bool, EngineError> {
        let place = place_of(token);
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut).filter(|p| p.link.token() == token)
        else {
            return Err(EngineError::Dropped);
        };
        peer.pump(now, port);
        let notify_len = if send.notify.is_some() { NOTIFY_LEN } else { 0 };
        let mut packets = 0;
        for _ in 0..BATCH {
            let rest = &send.data[send.done..];
            let whole = PUT_LEN + notify_len + rest.len();
            // A send that may go in pieces fills it up first.
            let least = if send.piecewise { whole.min(PUT_LEN + notify_len + FILL) } else { whole };
            if peer.open.as_ref().is_some_and(|open| open.room < least) {
                peer.seal(now, port);
            }
            let (mut packet, room) = match peer.open.take() {
                Some(Open { packet, room }) => (packet, room),
                // No link keeps more packets than it leaves frames for (as for those that come early): others send, too.
                None if peer.link.in_flight() > port.tx_headroom() as u64 => break,
                // What the peer fetches has its turn, and the engine's next is soon.
                None if peer.jobs.are_behind() => break,
                None if peer.link.room() == 0 => {
                    if !peer.link.sends_lack_credit() {
                        peer.jobs.send_waits(now);
                    }
                    peer.link.want_room(now);
                    break;
                }
                None => match peer.link.begin(port) {
                    Some(packet) => (packet, peer.link.body_room()),
                    None => break,
                },
            };
            // When only the notification doesn't fit, the last bytes wait for the next packet together with it.
            let last = whole <= room;
            let notifies = send.piecewise || rest.len() <= room - PUT_LEN;
            let most = if notifies { room - PUT_LEN - notify_len } else { room - PUT_LEN };
            let piece = &rest[..rest.len().min(most)];
            let whole_len = send.total.unwrap_or(send.data.len() as u64);
            let total = if send.piecewise { piece.len() as u64 } else { whole_len };
            let record = Record::Put {
                grant,
                offset: send.offset + send.done as u64,
                length: piece.len() as u16,
                notify: send.notify.filter(|_| last || send.piecewise).map(|tag| Notify { tag, total }),
            };
            let fixed = record.emit();
            let fixed = fixed.as_ref();
            // A packet that was open has room in its first frame, so it is never left with half a record.
            if port.append(&mut packet, fixed) < fixed.len() || port.append(&mut packet, piece) < piece.len() {
                port.free(packet);
                break;
            }
            packets += 1;
            send.done += piece.len();
            send.last = peer.link.next_sequence();
            self.counters.tx_copied_bytes += piece.len() as u64;
            let left = SHARED.saturating_sub(packet.len()).min(room - fixed.len() - piece.len());
            if last && send.queued && left > PUT_LEN {
                peer.open = Some(Open { packet, room: left });
            } else {
                peer.link.seal(now, port, packet, last && send.urgent);
                peer.jobs.sent();
            }
            if last {
                send.finished = true;
                self.counters.sends += u64::from(!send.piecewise);
                break;
            }
        }
        self.timers.set(place, peer.link.deadline());
        if peer.open.is_some() || peer.jobs.len() > 0 {
            // It goes out with the engine's next turn, unless something else sends it before.
            self.list(place);
        }
        Ok(send.finished || packets == BATCH)
    }

    fn send_local(&mut self, id: u32, export: u32, send: &mut Send<'_>) -> Result<Option<Ticket>, EngineError> {
        let peer = self.config.local;
        let target = self.exports.get_mut(export).ok_or(EngineError::Dropped)?;
        if send.notify.is_some() && !target.has_room() {
            return Ok(None);
        }
        let length = send.data.len() as u64;
        if target.region.has_lent(send.offset..send.offset + length) {
            let (name, offset) = (target.options.name.clone(), send.offset);
            return Err(EngineError::Lent { name, offset, length });
        }
        let data = [send.data];
        let mut reader = Reader::new(&data, 0, send.data.len());
        let stored = target.landing.store(&mut target.region, send.offset, &mut reader, length, &mut self.counters);
        stored.map_err(|_| EngineError::Dropped)?;
        if let Some(tag) = send.notify {
            self.counters.notifications += 1;
            self.awake = true;
            target.notify((send.offset, length), tag, peer, &mut self.imports.events);
        }
        target.bytes += length;
        (send.done, send.finished) = (send.data.len(), true);
        self.counters.sends += u64::from(!send.piecewise);
        self.counters.delivered_bytes += length;
        self.counters.rx_copied_bytes += length;
        Ok(Some(Ticket { import: id, link: 0, last: 0, transfer: None }))
    }

    /// Whether a send has arrived: all of it is in the peer's memory.
    ///
    /// # Errors
    /// When it never will, or nobody knows: the peer has refused it, or the link has ended before it was acknowledged.
    pub fn is_delivered(&self, ticket: &Ticket) -> Result<bool, EngineError> {
        if ticket.link == 0 {
            return Ok(true);
        }
        let import = self.imports.get(ticket.import).ok_or(EngineError::Dropped)?;
        let failure = if let ImportState::Failed(error) = &import.state { Some(error) } else { None };
        let refused = match ticket.transfer {
            None => import.refused_from.is_some_and(|from| from <= ticket.last),
            Some(number) => import.unwanted_from.is_some_and(|from| number.wrapping_sub(from) as i32 >= 0),
        };
        match (self.peer(ticket.link), failure) {
            (_, Some(error)) if refused => Err(error.clone()),
            (Some(_), _) if ticket.transfer.is_some_and(|number| !self.has_transferred(ticket.link, number)) => {
                Ok(false)
            }
            (Some(_), _) if ticket.transfer.is_some() => Ok(true),
            (Some(peer), _) => Ok(peer.link.completed() > ticket.last),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(EngineError::Dropped),
        }
    }
}
