//! Stream sockets on VMMC: connection-oriented byte streams over remote writes.
//!
//! Each side of a connection will export a ring and import the other's; a write is a send into the peer's ring, and credit comes
//! back the same way. The API will be that of [`std::net::TcpListener`] and [`std::net::TcpStream`], so that a program changes a type and
//! nothing else. It will use only the public API of the `vmmc` crate.
//!
//! Nothing of this exists yet.

#[doc(hidden)] // for the tests and the fuzz target
pub mod proto;
