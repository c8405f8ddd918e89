//! What a node's calls can fail with.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::engine::EngineError;
use crate::memory::MemoryError;
use crate::node::{BadThresholds, NoBulkLane};
use crate::port::eager::PortError;
use crate::route::RouteError;

/// Why a call failed. The text says what was tried, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Between this node and a peer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// With the arena, or an access to an export.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// With the interface, or the way to a peer.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// With the AF_XDP socket.
    #[error(transparent)]
    Port(#[from] PortError),
    /// With the eBPF program that steers packets to it.
    #[error(transparent)]
    Steering(#[from] xdp_prog::SteeringError),
    /// What was waited for didn't happen in time.
    #[error("no {what} within {after:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// A setting of the builder can't be.
    #[error("{0}")]
    Config(String),
    /// The interface has another address.
    #[error("{interface} hasn't got the address {address}: it has {}", list(existing))]
    NoSuchAddress {
        /// The interface.
        interface: String,
        /// The address asked for.
        address: IpAddr,
        /// Those it has.
        existing: Vec<IpAddr>,
    },
    /// A bulk lane was demanded.
    #[error("there is no bulk lane on {interface}: {reason}")]
    NoBulkLane {
        /// The interface.
        interface: String,
        /// Why not.
        reason: Box<NoBulkLane>,
    },
    /// The table that says which sends take the bulk lane can't be used.
    #[error(transparent)]
    Thresholds(#[from] BadThresholds),
    /// The wire failed.
    #[error("the AF_XDP socket failed: {0}. Is the interface still there?")]
    Wire(io::Error),
    /// Metrics can't be served there.
    #[cfg(feature = "metrics")]
    #[error("metrics can't be served at {address}: {source}{}", crate::monitor::http::advice(source))]
    Metrics {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refused a thread or a descriptor.
    #[error("{doing} failed: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn list(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}
