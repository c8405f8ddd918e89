//! Virtual memory-mapped communication (VMMC-2) over AF_XDP: programs write straight into each other's memory, over any
//! Ethernet port.
//!
//! A program *exports* a buffer under a name; another *imports* it and *sends* into it: a one-sided write from its own memory
//! to the other's, with an optional *notification*. It may also *fetch* from it: a one-sided read. The operating system is not on the way: an engine in user space does what
//! the network card's firmware did in the original (Princeton, 1997), AF_XDP rings are the wire, and an eBPF program steers the
//! frames to it. Below every import lies a reliable link, so what is delivered is whole, in order and exactly once, or
//! the call says why not.
//!
//! | module | what it is | does I/O |
//! |---|---|---|
//! | [`Node`], [`Export`], [`Import`] | the API | yes |
//! | [`monitor`] | a running node, seen from outside | yes |
//! | [`engine`] | exports, redirects, imports, grants, sends, fetches | no |
//! | [`link`] | reliable delivery | no |
//! | [`wire`] | packet formats | no |
//! | [`memory`] | the arena, paged buffers, the UTLB | no |
//! | [`port`] | the wire: AF_XDP, or simulated | yes |
//! | [`route`] | the kernel's routes and neighbours | yes |
//!
//! It logs by `tracing`: the lives of nodes, links, exports and imports at `info`, decisions at `debug`, under targets that begin with
//! `vmmc::`.
//!
//! Everything is measured in bytes; where durations are numbers, they are microseconds. See the module [`node`] for an example.

mod bulk;
pub mod engine;
mod error;
pub mod link;
mod log;
pub mod memory;
pub mod monitor;
pub mod node;
pub mod port;
pub mod route;
pub mod time;
pub mod wire;

pub use engine::{EngineError, Event, Key, Landed, Notification, Piece, Place, Received, RedirectId, Ticket};
pub use error::Error;
pub use link::LinkEnd;
pub use memory::{Buffer, DirectSource, HugePages, Loan, PagedBuffer, PagedMut, Paging, Target};
pub use node::{
    Builder, Bulk, DEFAULT_PORT, Events, Export, FetchBuilder, FetchFailed, Import, Lane, NoBulkLane, Node, Pending,
    PendingFetch, Progress, Redirect, RedirectFailed, ScopedRedirect, SendBuilder, SendFailed, Sent, Source, Stats,
    TryDirect, TrySend,
};
