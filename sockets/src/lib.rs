//! Stream sockets on VMMC: connection-oriented byte streams over remote writes.
//!
//! [`VmmcListener`] and [`VmmcStream`] have the surface of [`std::net::TcpListener`] and [`std::net::TcpStream`]: a program changes a type and
//! nothing else. Each side of a connection has a ring in memory that the other may write into; a write is a remote write into the peer's
//! ring, and credit comes back the same way.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod direct;
mod error;
mod listener;
mod poller;
#[doc(hidden)] // for the tests and the fuzz target
pub mod proto;
mod stack;
mod stream;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub mod tokio;
mod wait;

pub use direct::{Loaned, WriteFailed, Writing};
pub use error::SocketError;
pub use listener::{Incoming, IntoIncoming, VmmcListener};
pub use poller::{Poller, Ready};
pub use stack::{Stack, StackBuilder};
pub use stream::VmmcStream;
