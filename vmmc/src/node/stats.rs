//! What a node says of itself: who it is, the state it is in, and all it has counted.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::progress::Shared;
use crate::engine::{EngineCounters, LinkInfo};
use crate::error::Error;
use crate::port::PortCounters;
use crate::port::eager::Binding;
use crate::time::{Time, nanos};

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
    /// The engine's counters.
    pub engine: EngineCounters,
    /// The wire's counters.
    pub port: PortCounters,
    /// All links.
    pub links: Vec<LinkInfo>,
    /// What the steering program decided about the interface's frames; `None` on a simulated wire.
    pub verdicts: Option<xdp_prog::Verdicts>,
    /// Whether the steering program runs in the driver; `None` on a simulated wire.
    pub mode: Option<xdp_prog::Mode>,
    /// How the AF_XDP socket is bound; `None` on a simulated wire.
    pub binding: Option<Binding>,
    /// Length of the arena, bytes.
    pub arena_bytes: u64,
    /// Of those, how many are exported.
    pub exported_bytes: u64,
}

/// What about a node never changes.
#[derive(Debug)]
pub(crate) struct Identity {
    pub interface: Option<String>,
    pub vlan: Option<u16>,
    pub mtu: usize,
    pub arena_bytes: u64,
    pub binding: Option<Binding>,
}

impl Shared {
    /// All of it. The lock is held only to copy what it protects.
    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        let verdicts = self.steering.as_ref().map(|s| s.counters()).transpose()?;
        let Identity { interface, vlan, mtu, arena_bytes, binding } = &self.identity;
        let core = self.enter();
        let now = core.now();
        let (engine, port) = (&core.engine, &core.port);
        let (local, incarnation, exported_bytes) = (engine.local(), engine.incarnation(), engine.exported_bytes());
        let (counters, links, port) = (engine.counters(), engine.peers().collect(), port.counters());
        drop(core);
        Ok(Stats {
            pid: std::process::id(),
            program: program(),
            interface: interface.clone(),
            vlan: *vlan,
            mtu: *mtu,
            local,
            incarnation,
            uptime: now.since(Time::ZERO),
            engine: counters,
            port,
            links,
            verdicts,
            mode: self.steering.as_ref().map(|s| s.mode()),
            binding: *binding,
            arena_bytes: *arena_bytes,
            exported_bytes,
        })
    }
}

/// The name of the program that this process runs; empty where that can't be known.
fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_ref().and_then(|path| path.file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Numbers of 64 random bits: many readers of JSON have no exact numbers of that size.
mod hexadecimal {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        format!("{number:016x}").serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}
