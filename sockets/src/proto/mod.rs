//! The stream protocol, without I/O, clock or threads: what is written where, and what may be believed of what the peer wrote.
//!
//! Two hosts that have streams between them have a *session*: each exports one buffer to the other, in which [`layout`] gives every
//! stream a *slot* for its state ([`slot`]) and, from a [`pool`], a *ring* for its data. Everything is a remote write with a
//! notification, and the link delivers in order. `docs/streams.md` describes it for other implementations.
//!
//! A stream has three parts here, which don't know of each other, so that one thread may read while another writes:
//!
//! * a [`Sender`]: where the next byte goes in the peer's ring, and how many may;
//! * a [`Receiver`]: which bytes of the own ring can be read, what credit the peer gets for those that were, and which ring the
//!   stream has ([`Growth`] says when to get it a larger or a smaller one);
//! * a [`Life`]: whether the stream is open, half-closed, reset, or over; and what the peer has to be told.
//!
//! # How they are used
//!
//! A DATA notification goes to [`Receiver::on_data`]. A STATE or DONE notification says that the stream's slot was rewritten. Whoever
//! takes it reads the slot and gives it, *while it holds the lock of the stream's `Life`*, to [`Life::on_state`],
//! [`Sender::on_state`] and [`Receiver::on_state`], and then, if it was DONE, calls [`Life::on_done`]. The notifications of a
//! stream must be taken in the order in which they came; slots are read after the notification, and may be newer than it.
//!
//! What the peer has to be told is collected and sent *while the lock of the `Life` is held*, so that slots never go backwards:
//!
//! ```text
//! let receipt = receiver.receipt();                       // its lock is held only for this
//! let progress = sender.progress();                       // likewise
//! if let Some(out) = life.outgoing(receipt, progress) {
//!     /* write out.state.emit() to slot_offset(out.slot), with out.tag */
//!     life.sent(&out);                                    // if it went out; else the same again later
//!     receiver.told(out.state.consumed);
//! }
//! ```
//!
//! The lock of the `Sender` is held from [`Sender::next`] over the write itself to [`Sender::wrote`].
//!
//! A [`Violation`] ends the stream: [`Life::abort`] and [`Sender::stop`].

pub mod growth;
pub mod layout;
pub mod pool;
pub mod receiver;
pub mod sender;
pub mod slot;
pub mod stream;
pub mod violation;

pub use self::growth::Growth;
pub use self::layout::{Kind, Tag};
pub use self::pool::Pool;
pub use self::receiver::Receiver;
pub use self::sender::Sender;
pub use self::slot::{Request, RingGrant, State, Status};
pub use self::stream::{Answer, Changes, Life, Outgoing, Progress, Receipt};
pub use self::violation::Violation;

/// A range of a session export: an offset from its start, and a length, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, bytes from the start of the export.
    pub offset: u64,
    /// Its length, bytes.
    pub len: usize,
}
