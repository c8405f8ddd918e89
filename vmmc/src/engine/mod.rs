//! The engine: what the NIC's firmware did. It keeps exports and imports, cuts sends into packets, checks every
//! packet that arrives against the grant it names, and puts its bytes where they belong.
//!
//! Like the [`link`] below it, it does no I/O and reads no clock. It is handed packets
//! ([`Engine::receive`]), the time ([`Engine::tick`]) and a [`Port`] to put packets into. Whoever drives it calls
//! [`Port::flush`] afterwards, and comes back when a packet arrives or [`Engine::deadline`] has come.
//!
//! Nothing a peer sends makes it panic, allocate without bound, or write outside an export that peer was granted.
//! Every table has a limit, and a peer that fills one is refused or held up.

mod bulk;
mod error;
mod events;
mod exports;
mod fetch;
mod imports;
mod info;
mod landing;
mod links;
mod peer;
mod receive;
mod redirects;
mod send;
mod serve;
mod slab;
mod timers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

pub use bulk::{DirectSend, LEAST_THRESHOLD, MOST_STEPS, Thresholds, ThresholdsError};
pub use error::EngineError;
pub use events::Event;
pub use exports::{BadKey, ExportOptions, Key, Notification};
pub use fetch::Unfetched;
pub use info::{ExportInfo, ImportInfo, LinkInfo};
pub use landing::{Landed, Piece, Place, Received, RedirectEnd, RedirectId, Returned, Wanted};
pub use send::{Send, Ticket};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tracing::info;

use self::bulk::BulkLane;
use self::exports::Exports;
use self::imports::Imports;
use self::peer::Peer;
use self::timers::Timers;
use crate::link;
use crate::memory::{Loan, Region};
use crate::port::Port;
use crate::time::Time;
use crate::wire::Sack;
use crate::wire::frame::Mac;
use crate::wire::record::Record;

/// Of a token, the low bits are the peer's place in the table.
const PLACE_BITS: u32 = 16;

/// An engine's limits and addresses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node's address.
    pub local: SocketAddr,
    /// Its interface's Ethernet address.
    pub mac: Mac,
    /// The VLAN it is in: its frames carry that tag, and those that carry another are refused.
    pub vlan: Option<u16>,
    /// Of each link.
    pub link: link::Config,
    /// The most peers: 1 to 32768.
    pub max_peers: usize,
    /// The most exports: up to 2^20.
    pub max_exports: usize,
    /// The most imports: up to 2^20.
    pub max_imports: usize,
}

/// What an engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineCounters {
    /// Bytes written into exports, or redirects of them.
    pub delivered_bytes: u64,
    /// Bytes that user space has copied on arrival, or later from exports to redirects.
    pub rx_copied_bytes: u64,
    /// Of those, how many redirects took out of exports, because the data came before the redirect.
    pub rx_moved_bytes: u64,
    /// Bytes that went straight to redirects.
    pub redirected_bytes: u64,
    /// Redirects posted.
    pub redirects: u64,
    /// Of those, how many take nothing more: they are full, have been taken back, or the export has gone.
    pub redirects_ended: u64,
    /// Bytes that user space has copied into packets: of sends, and of what peers fetch.
    pub tx_copied_bytes: u64,
    /// Sends accepted.
    pub sends: u64,
    /// Notifications delivered.
    pub notifications: u64,
    /// Frames that are no packet of this protocol.
    pub rx_malformed: u64,
    /// Packets to another address or port.
    pub rx_foreign: u64,
    /// Packets of another VLAN than the node's, or of one where it is in none, or the other way round.
    pub rx_other_vlan: u64,
    /// Packets with a wrong checksum, or without one where it was agreed on.
    pub rx_damaged: u64,
    /// Packets with a token that no link has, or from another address than the link's peer.
    pub rx_unknown: u64,
    /// PUTs without a valid grant, or past the end of the export.
    pub refused_puts: u64,
    /// Fetches accepted.
    pub fetches: u64,
    /// Bytes that fetches have brought.
    pub fetched_bytes: u64,
    /// Bytes of exports that others, or this node itself, have fetched.
    pub served_bytes: u64,
    /// FETCHes without a valid grant, past the end of the export, of one that isn't readable, or too many.
    pub refused_fetches: u64,
    /// Pieces and refusals of fetches that nobody had asked for.
    pub rx_unasked: u64,
    /// HELLOs not answered because the tables were full.
    pub refused_hellos: u64,
    /// Early packets not kept because receive memory ran short.
    pub rx_not_kept: u64,
    /// Links that have ended.
    pub links_ended: u64,
    /// Bytes put into packets of the bulk lane, without being copied.
    pub tx_bulk_bytes: u64,
    /// Transfers that peers have been asked for, to go by the bulk lane.
    pub tx_bulk_transfers: u64,
    /// Of these, those that the peer has all of.
    pub tx_bulk_done: u64,
    /// Transfers that were to go by the bulk lane, and that the peer has declined: they went by the eager lane.
    pub tx_bulk_declined: u64,
    /// Segments that peers have asked for again.
    pub tx_bulk_asked_again: u64,
    /// Transfers that peers were granted.
    pub rx_bulk_grants: u64,
    /// Transfers declined: they come by the eager lane.
    pub rx_bulk_declined: u64,
    /// Transfers abandoned after they had been granted.
    pub rx_bulk_abandoned: u64,
    /// Transfers that are complete.
    pub rx_bulk_transfers: u64,
    /// Their bytes.
    pub rx_bulk_bytes: u64,
    /// Bytes of these that had landed in one another's places, after a loss, and were copied to where they belong. They are in `rx_copied_bytes`, too.
    pub rx_bulk_repaired_bytes: u64,
    /// Segments that have landed, each once.
    pub rx_bulk_segments: u64,
    /// Packets that have used a place and weren't worth anything: damaged, or repetitions.
    pub rx_bulk_wasted: u64,
    /// Segments asked for again.
    pub rx_bulk_missing: u64,
    /// Times the bulk lane was closed and opened again, to take back places.
    pub bulk_reopened: u64,
}

/// The engine of one node.
pub struct Engine {
    config: Config,
    incarnation: u64,
    random: Box<dyn FnMut() -> u64 + std::marker::Send>,
    peers: Vec<Option<Box<Peer>>>,
    by_address: HashMap<SocketAddr, u64>,
    half_open: Vec<u64>,
    lane: Option<BulkLane>,
    exports: Exports,
    imports: Imports,
    /// Places of peers to which something may have to be sent.
    listed: Vec<usize>,
    timers: Timers,
    /// Somebody is to be woken, though there is nothing to be sent.
    awake: bool,
    resets: (Time, u32),
    /// All links are being closed, and no new ones are opened.
    closing: bool,
    /// How often there has been room for sends again, or one was completed.
    acknowledged: u64,
    counters: EngineCounters,
    /// When the port was last looked into, and whether that was long after the time before.
    looked: Option<Time>,
    late: bool,
    /// Of the packet that is being received. It is long, and so isn't passed around.
    sack: Sack,
    /// Bytes on their way from an export to a packet. Whatever is there was there before.
    chunk: Box<[u8; serve::CHUNK]>,
}

fn place_of(token: u64) -> usize {
    (token & ((1 << PLACE_BITS) - 1)) as usize
}

impl Engine {
    /// An engine without peers. `random` must yield numbers nobody can guess: incarnation and tokens are drawn from it.
    pub fn new(config: Config, mut random: Box<dyn FnMut() -> u64 + std::marker::Send>) -> Engine {
        Engine {
            incarnation: random(),
            random,
            peers: Vec::new(),
            by_address: HashMap::new(),
            half_open: Vec::new(),
            lane: None,
            exports: Exports::new(config.max_exports),
            imports: Imports::new(config.max_imports),
            listed: Vec::new(),
            timers: Timers::default(),
            awake: false,
            resets: (Time::ZERO, 0),
            closing: false,
            acknowledged: 0,
            counters: EngineCounters::default(),
            looked: None,
            late: false,
            sack: Sack::default(),
            chunk: Box::new([0; serve::CHUNK]),
            config,
        }
    }

    /// From now on sends go by the bulk lane that are as long as `used` says. To be said before there are links. Every port that the engine is handed must [have one](Port::bulk), and the links' options say so.
    pub fn use_bulk_lane(&mut self, used: Thresholds) {
        self.config.link.options.bulk = true;
        self.lane = Some(BulkLane::new(used));
    }

    /// This node's address.
    pub fn local(&self) -> SocketAddr {
        self.config.local
    }

    /// Its number, drawn when it began: peers notice by it that a node has been restarted.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What it has counted.
    pub fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// Exports a region.
    ///
    /// # Errors
    /// When the name can't be, is taken, there are too many exports, or the region is exported already.
    pub fn export(&mut self, options: ExportOptions, region: Region) -> Result<u32, EngineError> {
        let (export, length, notify) = (options.name.clone(), region.len(), options.notify);
        let id = self.exports.insert(options, region)?;
        info!(target: "vmmc::engine", export, length, notify, "exported");
        Ok(id)
    }

    /// Lends a part of an export: nobody writes it as long as the loan lives. Peers that do are refused, and so are sends of this node's own.
    ///
    /// # Errors
    /// When the export has gone, or has no such range; or when the bulk lane couldn't be opened again, and it isn't certain that the kernel writes nothing there any more.
    pub fn lend(&mut self, port: &mut dyn Port, id: u32, range: Range<u64>) -> Result<Loan, EngineError> {
        let is_clear = self.clear_range(port, id, &range);
        let export = self.exports.get_mut(id).ok_or(EngineError::Dropped)?;
        let (start, end, length) = (range.start, range.end, export.region.len() as u64);
        if !is_clear {
            return Err(EngineError::LendLost { name: export.options.name.clone(), start, end });
        }
        export.region.lend(range).map_err(|_| {
            let name = export.options.name.clone();
            EngineError::LentOutside { name, start, end, export: length }
        })
    }

    /// Takes an export back. From now on nothing is written into it, and its importers are told.
    pub fn unexport(&mut self, id: u32) {
        let Some(gone) = self.exports.remove(id, &mut self.imports.events, &mut self.counters) else { return };
        info!(target: "vmmc::engine", export = gone.name, "export revoked");
        self.condemn(id);
        self.imports.local_revoked(id);
        for place in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[place] {
                peer.revoke(id);
                self.list(place);
            }
        }
    }

    /// The next notification of an export. Whoever was held up because there were too many goes on with the next
    /// [`Engine::tick`].
    pub fn take_notification(&mut self, id: u32) -> Option<Notification> {
        let export = self.exports.get_mut(id)?;
        let notification = export.queue.pop_front()?;
        export.landing.told(&notification);
        self.relieve(id);
        Some(notification)
    }

    /// A notification of this export has been taken.
    fn relieve(&mut self, id: u32) {
        if self.exports.get_mut(id).is_some_and(|export| std::mem::take(&mut export.starved)) {
            (0..self.peers.len()).for_each(|place| self.list(place));
            // Whoever sends from here to here may go on, too.
            self.acknowledged += 1;
            self.imports.offer_local(id);
        }
    }

    /// Changes whenever something has happened that a caller may be waiting for: a notification, room for one, an acknowledgement, the
    /// answer to an import, the end of a fetch, a redirect or a link, an event. Data alone is nothing to be woken for.
    pub fn news(&self) -> u64 {
        let redirects = self.counters.redirects_ended - self.exports.taken_back;
        self.acknowledged + self.counters.notifications + redirects + self.imports.changes + self.imports.events.posted
    }

    /// How many bytes are exported.
    pub fn exported_bytes(&self) -> u64 {
        self.exports.iter().map(|(_, e)| e.region.len() as u64).sum()
    }
    fn peer(&self, token: u64) -> Option<&Peer> {
        self.peers.get(place_of(token))?.as_deref().filter(|p| p.link.token() == token)
    }

    fn peer_mut(&mut self, token: u64) -> Option<&mut Peer> {
        self.peers.get_mut(place_of(token))?.as_deref_mut().filter(|p| p.link.token() == token)
    }

    fn list(&mut self, place: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(place)
            && !std::mem::replace(&mut peer.listed, true)
        {
            self.listed.push(place);
        }
    }
    /// Sends what is due: acknowledgements and control records of peers that were just heard, and, when the deadline
    /// has come, whatever any link wants to do by now.
    pub fn tick(&mut self, now: Time, port: &mut dyn Port) {
        self.awake = false;
        self.attend_lane(now, port);
        while let Some(place) = self.timers.due(now) {
            let Some(peer) = &mut self.peers[place] else { continue };
            let token = peer.link.token();
            // Before the link may say that there is nothing left to be sent.
            peer.seal(now, port);
            peer.pump(now, port);
            let before = peer.link.progress();
            let end = peer.link.tick(now, port);
            self.acknowledged += u64::from(peer.link.progress() != before);
            match end {
                Some(end) => self.end(token, end, port),
                None => self.list(place),
            }
        }
        let mut again = SmallVec::<[usize; 8]>::new();
        while let Some(place) = self.listed.pop() {
            let Some(peer) = &mut self.peers[place] else { continue };
            peer.listed = false;
            if peer.blocked && peer.is_told() {
                self.process_ready(now, port, place);
            }
            let Some(peer) = &mut self.peers[place] else { continue };
            // What it has asked for of the bulk lane may be granted then, too: in the next turn.
            self.awake |= peer.relent(&mut self.exports);
            peer.seal(now, port);
            peer.pump(now, port);
            if self.serve(now, port, place) {
                again.push(place);
            }
            if self.send_transfers(now, port, place) {
                again.push(place);
            }
            self.offer_room(now, port, place);
            let Some(peer) = &mut self.peers[place] else { continue };
            peer.link.acknowledge(now, port);
            // What couldn't be sent now is tried again when the peer or the port has moved.
            self.timers.set(place, peer.link.deadline());
        }
        again.into_iter().for_each(|place| self.list(place));
    }

    /// The port is looked into. What arrives after a long time without a look may have had to wait, and not in the
    /// network: congestion control disregards how long it took. Whoever never says this is taken to look all the time. Sleep
    /// that a packet would have ended doesn't count: see [`Engine::woke`].
    pub fn look(&mut self, now: Time) {
        let before = self.looked.replace(now);
        self.late = before.is_some_and(|before| now.since(before) > self.config.link.target_delay / 2);
    }

    /// Whoever drives has slept until something came, and would have looked at `now` had it been let: what has come since then has
    /// waited for that alone.
    pub fn woke(&mut self, now: Time) {
        self.looked = Some(now);
    }

    /// When [`Engine::tick`] has something to do, packets that arrive apart.
    pub fn deadline(&self) -> Time {
        match self.timers.next() {
            _ if self.awake || !self.listed.is_empty() => Time::ZERO,
            Some(at) => at.min(self.lane_deadline()),
            None => self.lane_deadline(),
        }
    }

    /// Something waits in the port: the next turn is due now.
    pub(crate) fn attend(&mut self) {
        self.awake = true;
    }

    /// Queues a control record for a peer.
    fn tell(&mut self, token: u64, record: Record, body: &[u8]) {
        if let Some(peer) = self.peer_mut(token) {
            peer.tell(record, body);
            self.list(place_of(token));
        }
    }
}
