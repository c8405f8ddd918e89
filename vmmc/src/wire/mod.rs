//! What travels: packet formats, how they are parsed and written, and their checksum.
//!
//! Every packet is one UDP datagram in one IP packet in one Ethernet frame ([`frame`]). The datagram starts with
//! a [`Header`] of 32 bytes. What follows depends on the header's [`Kind`]:
//!
//! ```text
//!   Ethernet [VLAN]  IPv4 or IPv6  UDP  Header (32)  body
//!   `---------- frame ------------'     `- header -'
//!                                                    HELLO, WELCOME   Hello (40), then zeros up to the MTU
//!                                                    DATA             one or more records (`record`)
//!                                                    ACK              nothing
//!                                                    CLOSE            nothing
//!                                                    RESET            nothing
//! ```
//!
//! Between the header and the body stand 32 bytes of selective acknowledgements when the header's flags say so.
//! All integers are in network byte order. Reserved bits are zero, and a packet in which one of them isn't is
//! refused: so a later version can use them.
//!
//! Parsing never allocates, never panics and never reads past what arrived. Whoever sends a packet decides each
//! of its bits, so nothing here trusts any of them.
//!
//! ```
//! use vmmc::wire::{Header, Kind};
//!
//! let header = Header { kind: Kind::Data, token: 7, sequence: 1, ..Header::default() };
//! let bytes = header.emit();
//! assert_eq!(Header::parse(&bytes), Ok(header));
//! assert!(Header::parse(&bytes[..31]).is_err());
//! ```

mod bulk;
pub mod frame;
mod header;
mod hello;
mod reader;
pub mod record;
mod sack;

pub use bulk::{BULK_CHECKED, BULK_HEADER_LEN, BULK_KIND, BulkHeader};
pub use header::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Kind, checksum};
pub use hello::{HELLO_LEN, Hello, Options};
pub use reader::{Fragments, Reader};
pub use sack::{SACK_BITS, Sack};

/// The version of the protocol spoken here.
pub const VERSION: u8 = 7;

/// The smallest IP packet every path must carry, bytes: IPv6's minimum (RFC 8200).
pub const MIN_MTU: usize = 1280;

/// The largest IP packet there is, bytes.
pub const MAX_MTU: usize = 65535;

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The packet ends before the field it promises.
    #[error("the packet ends before its {0}")]
    Truncated(&'static str),
    /// A field has a value that this version doesn't know.
    #[error("unknown {field} {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A reserved bit is set.
    #[error("a reserved bit is set in the {0}")]
    Reserved(&'static str),
    /// Two fields contradict each other.
    #[error("the {0} contradicts the rest of the packet")]
    Inconsistent(&'static str),
    /// The checksum doesn't match.
    #[error("the {0} checksum is wrong")]
    Checksum(&'static str),
}
