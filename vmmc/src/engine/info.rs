//! What an engine tells of its links, exports and imports.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::imports::ImportState;
use super::{Engine, Key};
use crate::link::{LinkCounters, LinkState, RoundTripTimes, RoundTrips};
use crate::time::{Time, hexadecimal, nanos};

/// What is known of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// The peer.
    pub peer: SocketAddr,
    /// How far it has come.
    pub state: LinkState,
    /// Whether this side opened it.
    pub initiated: bool,
    /// The peer's incarnation: another one is another life of it. 0 while it isn't known.
    #[serde(with = "hexadecimal")]
    pub peer_incarnation: u64,
    /// The largest IP packet agreed on, bytes.
    pub mtu: usize,
    /// Whether packets carry a checksum.
    pub checksum: bool,
    /// Smoothed round-trip time, when measured.
    #[serde(rename = "rtt_ns", with = "nanos::option")]
    pub rtt: Option<Duration>,
    /// All round-trip times, where they have been summed up: in a node's statistics.
    pub round_trips: RoundTrips,
    /// DATA packets under way.
    pub in_flight: u64,
    /// DATA packets that congestion control allows under way.
    pub window: u64,
    /// DATA packets that may be sent now.
    pub room: u64,
    /// DATA packets that the peer still has room for.
    pub credit_received: u64,
    /// DATA packets that the peer has been told there is room for, and hasn't sent.
    pub credit_given: u64,
    /// DATA packets kept that have come before one that is missing.
    pub early: usize,
    /// Grants the peer holds: its imports of exports of this node.
    pub grants: usize,
    /// Grants it has given: imports of exports of its.
    pub grants_held: usize,
    /// Fetches of the peer that haven't been answered in whole.
    pub jobs: usize,
    /// Fetches from it that haven't been.
    pub fetching: usize,
    /// The least sends to the peer that go by the bulk lane, bytes; `None` if none do.
    pub bulk_from: Option<usize>,
    /// Transfers to the peer that it was asked for, to go by the bulk lane, and that aren't done.
    pub transfers: usize,
    /// Transfers that it has asked for, and that aren't complete.
    pub transfers_asked: usize,
    /// How long ago it was last heard.
    #[serde(rename = "heard_ns", with = "nanos")]
    pub heard: Duration,
    /// What the link has counted.
    pub counters: LinkCounters,
}

/// What is known of one export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportInfo {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its length, bytes.
    pub length: u64,
    /// Whether it needs no key.
    pub public: bool,
    /// Whether sends may notify.
    pub notify: bool,
    /// Whether it may be fetched from.
    pub readable: bool,
    /// Whether it may be written into.
    pub writable: bool,
    /// How many peers may import it without the key.
    pub allowed: usize,
    /// Grants that others hold. Imports by this node itself have none.
    pub importers: u64,
    /// Bytes written into it, or redirects of it.
    pub bytes: u64,
    /// Redirects that wait for data.
    pub redirects: usize,
    /// Bytes that went straight to redirects.
    pub redirected_bytes: u64,
    /// Bytes that redirects took out of it, because the data came before the redirect.
    pub moved_bytes: u64,
    /// Bytes fetched from it.
    pub read_bytes: u64,
    /// Notifications that have come.
    pub notifications: u64,
    /// Of those, how many haven't been taken.
    pub waiting: usize,
    /// How many may wait before senders are held up.
    pub queue: usize,
}

/// What is known of one import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportInfo {
    /// Its number.
    pub id: u32,
    /// Who exports it.
    pub peer: SocketAddr,
    /// The export's name.
    pub name: String,
    /// The export's length, bytes; 0 while that isn't known.
    pub length: u64,
    /// Whether sends may go.
    pub ready: bool,
    /// Why it is of no use any more, if it isn't.
    pub error: Option<String>,
    /// Sends begun.
    pub sends: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Fetches begun.
    pub fetches: u64,
    /// Their bytes.
    pub fetched: u64,
}

impl Engine {
    /// All links, without summed-up round-trip times, as of the last look.
    pub fn peers(&self) -> impl Iterator<Item = LinkInfo> {
        self.links(self.looked.unwrap_or_default())
    }

    /// All links, without summed-up round-trip times.
    pub fn links(&self, now: Time) -> impl Iterator<Item = LinkInfo> {
        self.peers.iter().flatten().map(move |p| LinkInfo {
            peer: p.link.peer(),
            state: p.link.state(),
            initiated: p.link.is_initiated(),
            peer_incarnation: p.link.peer_incarnation(),
            mtu: p.link.mtu(),
            checksum: p.link.options().checksum,
            rtt: p.link.rtt().smoothed(),
            round_trips: RoundTrips::default(),
            in_flight: p.link.in_flight(),
            window: p.link.window(),
            room: p.link.room(),
            credit_received: p.link.credit_received(),
            credit_given: p.link.credit_given(),
            early: p.link.early(),
            grants: p.grant_count(),
            grants_held: p.held_count(),
            jobs: p.jobs.len(),
            fetching: p.fetching,
            bulk_from: p.lane_from(),
            transfers: p.transfers.len(),
            transfers_asked: self.lane.as_ref().map_or(0, |lane| lane.transfers_of(p.link.token())),
            heard: p.link.silence(now),
            counters: p.link.counters(),
        })
    }

    /// The round-trip times of all links, in the order of [`Engine::links`].
    pub(crate) fn round_trips(&self) -> impl Iterator<Item = &RoundTripTimes> {
        self.peers.iter().flatten().map(|p| p.link.round_trips())
    }

    /// All exports.
    pub fn exports(&self) -> impl Iterator<Item = ExportInfo> {
        self.exports.iter().map(|(id, export)| ExportInfo {
            id,
            name: export.options.name.clone(),
            length: export.region.len() as u64,
            public: export.options.key == Key::PUBLIC && export.options.only.is_none(),
            notify: export.options.notify,
            readable: export.options.readable,
            writable: export.options.writable,
            allowed: export.options.peers.len(),
            importers: export.importers,
            bytes: export.bytes,
            redirects: export.landing.posted(),
            redirected_bytes: export.landing.redirected_bytes,
            moved_bytes: export.landing.moved_bytes,
            read_bytes: export.read_bytes,
            notifications: export.notifications,
            waiting: export.waiting(),
            queue: export.options.queue,
        })
    }

    /// All imports.
    pub fn imports(&self) -> impl Iterator<Item = ImportInfo> {
        self.imports.iter().map(|(id, import)| {
            let (length, error) = match &import.state {
                ImportState::Waiting => (0, None),
                ImportState::Ready { length, .. } | ImportState::Local { length, .. } => (*length, None),
                ImportState::Failed(error) => (0, Some(error.to_string())),
            };
            let ready = matches!(import.state, ImportState::Ready { .. } | ImportState::Local { .. });
            let (peer, name) = (import.peer, import.name.clone());
            ImportInfo {
                id,
                peer,
                name,
                length,
                ready,
                error,
                sends: import.sends,
                bytes: import.bytes,
                fetches: import.fetches,
                fetched: import.fetched,
            }
        })
    }
}
