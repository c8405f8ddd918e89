//! What a peer can do wrong on a stream. It ends that stream, and nothing else.

/// The peer has broken the stream protocol: the stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A notification whose tag means nothing. It belongs to no stream, and is ignored.
    #[error("the peer's write has tag {tag:#010x}, which names no stream or request: ignored")]
    Tag {
        /// The tag.
        tag: u32,
    },
    /// A reserved bit or an unknown value in a slot.
    #[error(
        "the peer wrote {value:#018x} into word {word} of a slot, which means nothing: it may speak another version"
    )]
    Word {
        /// Which word of the slot.
        word: u8,
        /// What was in it.
        value: u64,
    },
    /// A ring that isn't one.
    #[error("the peer granted a ring of {len} bytes at {offset}: not a ring of its export; stream reset")]
    Ring {
        /// Where it would begin.
        offset: u64,
        /// How long it would be, bytes.
        len: u64,
    },
    /// A grant that doesn't follow the one before, takes it back or changes it.
    #[error("the peer granted a ring of epoch {found} where {expected} or the one before was due; stream reset")]
    GrantEpoch {
        /// The next epoch.
        expected: u32,
        /// That of the grant.
        found: u32,
    },
    /// A grant that was there is there no longer, or has changed.
    #[error("the peer changed or withdrew the grant of its ring of epoch {epoch}; stream reset")]
    GrantChanged {
        /// The epoch of the grant.
        epoch: u32,
    },
    /// An acceptance without a ring.
    #[error("the peer accepted the stream without granting it a ring; stream reset")]
    NoRing,
    /// Credit that is less than was given before.
    #[error("the peer took credit back: it has read up to {found}, after {known}; stream reset")]
    CreditBack {
        /// The credit before.
        known: u64,
        /// The credit now.
        found: u64,
    },
    /// Credit for what was never sent.
    #[error("the peer says that it has read up to {found}, of {sent} bytes sent; stream reset")]
    CreditBeyond {
        /// How much was sent.
        sent: u64,
        /// How much it says it has read.
        found: u64,
    },
    /// Data that don't continue the stream.
    #[error("the peer wrote {len} bytes at {found}, where {expected} comes next; stream reset")]
    Place {
        /// Where the next byte belongs.
        expected: u64,
        /// Where it was written.
        found: u64,
        /// How much was written, bytes.
        len: u64,
    },
    /// Data beyond the room in the ring, or beyond the end of the stream, or that leave the ring.
    #[error("the peer wrote {len} bytes where it had room for {room}; stream reset")]
    Overrun {
        /// How much may be written in one piece.
        room: u64,
        /// How much was written, bytes.
        len: u64,
    },
    /// Data for a stream that was closed here. That is no fault of the peer's, but the data are lost, and it has to know.
    #[error("{len} bytes came for a stream that was closed; stream reset")]
    Unwanted {
        /// How much was written, bytes.
        len: u64,
    },
    /// The peer writes to a ring that it wasn't granted.
    #[error(
        "the peer says that it writes to the ring of epoch {found}; {current} is the one it was granted; stream reset"
    )]
    ConfirmEpoch {
        /// The newest epoch granted.
        current: u32,
        /// The epoch it named.
        found: u32,
    },
    /// The place of the switch of rings isn't possible.
    #[error(
        "the peer says that it changed rings at {found}, which doesn't fit what it has written ({sent}); stream reset"
    )]
    ConfirmBase {
        /// Up to where it has written, as far as is known.
        sent: u64,
        /// Where it says it changed.
        found: u64,
    },
    /// An end before what was written, beyond what could be, or other than said before.
    #[error(
        "the peer says that the stream ends at {found}, which doesn't fit what it has written ({sent}); stream reset"
    )]
    Finish {
        /// Up to where it has written, as far as is known.
        sent: u64,
        /// Where it says the end is.
        found: u64,
    },
    /// An end that was there is there no longer.
    #[error("the peer took back that the stream has ended; stream reset")]
    FinishBack,
    /// An answer where none is due, or another than before.
    #[error("the peer's slot says {found:?} where {known:?} was due; stream reset")]
    Status {
        /// What should be there.
        known: super::Status,
        /// What is there.
        found: super::Status,
    },
    /// Another stream of the peer's than before.
    #[error("the peer's slot is about its stream {found}; this one is connected to its stream {known}; stream reset")]
    Peer {
        /// Its stream.
        known: u32,
        /// The one in the slot.
        found: u32,
    },
    /// Flags that were set no longer are.
    #[error("the peer took back that it had closed or reset the stream; stream reset")]
    FlagsBack,
    /// The peer will say no more, but the stream hasn't come to an end.
    #[error("the peer ended the stream without finishing or resetting it; stream reset")]
    DoneEarly,
}
