//! Seeing what a running node does, from outside its process: what `vmmc stats` and `vmmc top` stand on.
//!
//! Every node has a Unix socket, `/run/vmmc/PID.N.sock` (its process's N-th node), unless its [`Builder`](crate::Builder) was told
//! otherwise. Who connects sends [`Request`]s, one line of JSON each, and gets one line of JSON for each, an [`Answer`]:
//!
//! ```text
//!   {"stats":{}}      ->     {"stats":{"pid":4711,"program":"vmmc","interface":"eth0", ... }}
//!   {"colour":{}}     ->     {"error":"... unknown variant `colour`, expected one of ..."}
//! ```
//!
//! It is served by a thread of the node's own, which sleeps until somebody asks, and takes the node's lock only to copy what it
//! tells. That a thread does it, rather than a page of memory that the engine keeps up to date, costs the data path nothing at all; and it works
//! for a program that drives its node by its own calls, and makes none. A socket with a path is reached from other network namespaces, too.
//!
//! With the cargo feature `metrics` there is also `prometheus`, which makes of a snapshot what Prometheus reads, and
//! `Builder::metrics`, which serves that over HTTP.
//!
//! Only the node's user may connect (and root). A client that sends nonsense, asks for more than it reads, or does nothing can't hold up the
//! others or the node, and at most [`MAX_CLIENTS`] are served at a time. A process that is killed leaves its file behind; whoever finds that nobody
//! listens there removes it.

#[cfg(feature = "metrics")]
mod accept;
pub mod capture;
mod client;
#[cfg(feature = "metrics")]
pub(crate) mod http;
mod place;
#[cfg(feature = "metrics")]
pub mod prometheus;
mod server;
#[cfg(test)]
pub(crate) mod tests;

use serde::{Deserialize, Serialize};

pub use self::client::{Found, MonitorError, Selector, ask, ask_all, find, list};
pub use self::place::{RUN_DIR, directories};
pub(crate) use self::server::Server;
use crate::node::Stats;

/// How many clients a node serves at a time.
pub const MAX_CLIENTS: usize = 8;

/// The longest request, bytes, line feed included.
pub const MAX_REQUEST: usize = 4096;

/// What a node can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// For a snapshot.
    Stats {
        /// With all round-trip times, not only their percentiles: `RoundTrips::counts`.
        #[serde(default)]
        histograms: bool,
    },
    /// For the first `snaplen` bytes of every frame from now on: after the answer the connection is a [stream](capture).
    Capture {
        /// Bytes, Ethernet header included.
        snaplen: u32,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// A snapshot.
    Stats(Box<Stats>),
    /// The stream begins after this line.
    Capture {},
    /// The request is none, or can't be answered: why.
    Error(String),
}
