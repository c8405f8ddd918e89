//! What a node says of itself: who it is, the state it is in, and all it has counted.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::progress::Shared;
use super::unheard::Unheard;
use crate::engine::{EngineCounters, ExportInfo, ImportInfo, LinkInfo};
use crate::error::Error;
use crate::memory::{Paging, utlb};
use crate::port::bulk::BulkCounters;
use crate::port::eager::Binding;
use crate::port::{BulkRings, PortCounters, Rings};
use crate::time::{Time, hexadecimal, nanos};

/// What a node has counted, and the state it is in, all at one moment. Counters begin at zero when the node opens.
///
/// It has a JSON form ([`serde`]), which is what [`monitor`](crate::monitor) sends: there, a duration is a number of nanoseconds under a
/// name that ends in `_ns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The node's process.
    pub pid: u32,
    /// The name of the program that it runs.
    pub program: String,
    /// The interface; `None` on a simulated wire.
    pub interface: Option<String>,
    /// The VLAN the node is in, if its frames carry a tag.
    pub vlan: Option<u16>,
    /// The largest IP packet it sends, bytes.
    pub mtu: usize,
    /// The node's address.
    pub local: SocketAddr,
    /// The number that it drew when it opened: another one is another node, or another life of it.
    #[serde(with = "hexadecimal")]
    pub incarnation: u64,
    /// For how long it has been open.
    #[serde(rename = "uptime_ns", with = "nanos")]
    pub uptime: Duration,
    /// Why nothing can be sent or received at present, if that is so: the interface is down, without carrier or gone, or the node's
    /// thread has ended because the wire has failed.
    pub failure: Option<String>,
    /// The engine's counters.
    pub engine: EngineCounters,
    /// The wire's counters.
    pub port: PortCounters,
    /// Where the wire's frames are.
    pub rings: Rings,
    /// All links.
    pub links: Vec<LinkInfo>,
    /// All exports.
    pub exports: Vec<ExportInfo>,
    /// All imports.
    pub imports: Vec<ImportInfo>,
    /// What the steering program decided about the interface's frames; `None` on a simulated wire.
    pub verdicts: Option<xdp_prog::Verdicts>,
    /// Packets for the node that have arrived on a queue where it has no socket, or only that of the bulk lane, since it opened: it doesn't hear them. On a NIC, its packets are to be steered to the node's queues;
    /// behind a Linux bridge, which chooses queues as it likes, interfaces are to have one queue, or the node [no bulk lane](super::Bulk::Never).
    pub unheard: u64,
    /// Whether the steering program runs in the driver; `None` on a simulated wire.
    pub mode: Option<xdp_prog::Mode>,
    /// How the AF_XDP socket is bound; `None` on a simulated wire.
    pub binding: Option<Binding>,
    /// The bulk lane's counters; `None` when there is none.
    pub bulk: Option<BulkCounters>,
    /// What is in the bulk lane's rings.
    pub bulk_rings: Option<BulkRings>,
    /// Why the bulk lane isn't in zero-copy mode, so that the kernel copies each of its packets; `None` if it is, or there is none.
    pub bulk_copied: Option<String>,
    /// Why there is no bulk lane, if there is none and it is known.
    pub no_bulk: Option<String>,
    /// Length of the arena, bytes.
    pub arena_bytes: u64,
    /// Size of its pages, bytes: more than a few KiB if they are huge pages.
    pub arena_page_bytes: u64,
    /// What the UTLB has counted, in pages of that size.
    pub utlb: utlb::Counters,
    /// Of the arena, how many are exported.
    pub exported_bytes: u64,
}

/// What about a node never changes.
#[derive(Debug)]
pub(crate) struct Identity {
    pub interface: Option<String>,
    pub vlan: Option<u16>,
    pub mtu: usize,
    pub arena_bytes: u64,
    pub arena_page_bytes: u64,
    /// Isn't the engine's, and has a lock of its own.
    pub paging: Paging,
    pub binding: Option<Binding>,
    /// Why there is no bulk lane.
    pub no_bulk: Option<String>,
    pub unheard: Unheard,
}

impl Shared {
    /// All of it. The lock is held only to copy what it protects.
    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        let verdicts = self.steering.as_ref().map(|s| s.counters()).transpose()?;
        // Whoever is resolving an address may take a second, and knows no more.
        let trouble = self.resolver.try_lock().ok().and_then(|mut resolver| resolver.trouble());
        let Identity { interface, vlan, mtu, arena_bytes, arena_page_bytes, paging, binding, no_bulk, .. } =
            &self.identity;
        let utlb = paging.counters();
        let mut core = self.enter();
        let now = core.now();
        let failed = core.failed.map(std::io::Error::from_raw_os_error);
        let bulk_copied = core.port.bulk().and_then(|bulk| bulk.why_copied());
        let (bulk, bulk_rings) = core.port.bulk().map(|bulk| (bulk.counters(), bulk.rings())).unzip();
        let (counters, rings) = (core.port.counters(), core.port.rings());
        let engine = &core.engine;
        let (local, incarnation, exported_bytes) = (engine.local(), engine.incarnation(), engine.exported_bytes());
        let (engine_counters, mut links) = (engine.counters(), engine.links(now).collect::<Vec<_>>());
        let round_trips: Vec<_> = engine.round_trips().cloned().collect();
        let (exports, imports) = (engine.exports().collect(), engine.imports().collect());
        drop(core);
        for (link, times) in links.iter_mut().zip(round_trips) {
            link.round_trips = times.sum_up();
        }
        Ok(Stats {
            pid: std::process::id(),
            program: program(),
            interface: interface.clone(),
            vlan: *vlan,
            mtu: *mtu,
            local,
            incarnation,
            uptime: now.since(Time::ZERO),
            failure: failed.map(Error::Wire).or(trouble).map(|error| error.to_string()),
            engine: engine_counters,
            port: counters,
            rings,
            links,
            exports,
            imports,
            unheard: verdicts.as_ref().map_or(0, |verdicts| self.unheard(verdicts)),
            verdicts,
            mode: self.steering.as_ref().map(|s| s.mode()),
            binding: *binding,
            bulk,
            bulk_rings,
            bulk_copied,
            no_bulk: no_bulk.clone(),
            arena_bytes: *arena_bytes,
            arena_page_bytes: *arena_page_bytes,
            utlb,
            exported_bytes,
        })
    }
}

/// The name of the program that this process runs, as it was called; empty where that can't be known.
fn program() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = path.as_ref().and_then(|path| path.file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
