//! The places in a session export, and the tags of what is written there.
//!
//! ```text
//!   0            64 request slots of 64 bytes
//!   4 KiB        16384 stream slots of 64 bytes: slot i is about stream i of the export's owner
//!   4 KiB + 1M   rings, up to the end
//!   64 MiB       more rings: the direct export, if there is one
//! ```
//!
//! The *direct export* is another buffer, in memory that the bulk lane writes by itself. Its places are counted on from the end of the session export, so that a ring
//! is a ring, wherever it lies.

use super::Violation;

/// The version of the protocol: the tag of a knock.
pub const VERSION: u32 = 1;

/// The length of a session export, bytes. Parts of this module take another, which tests need.
pub const SESSION_LEN: u64 = 64 << 20;

/// The length of a direct export, bytes.
pub const DIRECT_LEN: u64 = 8 << 20;

/// The length of the place for a slot, bytes.
pub const SLOT_LEN: u64 = 64;

/// How many connects of one peer may wait for their answer at a time.
pub const REQUESTS: u32 = 64;

/// How many streams a session may have at a time.
pub const STREAMS: u32 = 16384;

/// What rings are aligned to, bytes.
pub const PAGE: u64 = 4096;

/// Where the stream slots begin.
pub const SLOTS: u64 = PAGE;

/// Where the rings begin.
pub const RINGS: u64 = SLOTS + STREAMS as u64 * SLOT_LEN;

/// The length of the smallest ring, bytes.
pub const MIN_RING: u64 = 4 << 10;

/// The length of the largest ring, bytes.
pub const MAX_RING: u64 = 4 << 20;

/// Where the slot of request `index` (below [`REQUESTS`]) is.
pub const fn request_offset(index: u32) -> u64 {
    index as u64 * SLOT_LEN
}

/// Where the slot of stream `index` (below [`STREAMS`]) is.
pub const fn slot_offset(index: u32) -> u64 {
    SLOTS + index as u64 * SLOT_LEN
}

/// What a write into a session export is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream, in its ring.
    Data = 1,
    /// A stream's slot was rewritten.
    State = 2,
    /// A request slot holds a connect.
    Request = 3,
    /// A stream's slot was rewritten, and nothing more will be written about this stream.
    Done = 4,
    /// Nothing: the stream's writer has long writes, and would like a ring in the direct export.
    Long = 7,
    /// Nothing: the stream's writer has none any more, and no use for such a ring.
    Short = 8,
}

const KIND_SHIFT: u32 = 28;

/// The tag of a notification: in its top four bits the kind, in the others the index of the receiver's stream, or of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What was written.
    pub kind: Kind,
    /// About which stream of the receiver's, or in which request slot.
    pub index: u32,
}

impl Tag {
    /// The tag of data for the peer's stream `index`.
    pub const fn data(index: u32) -> Tag {
        Tag { kind: Kind::Data, index }
    }

    /// The tag of a connect in request slot `index`.
    pub const fn request(index: u32) -> Tag {
        Tag { kind: Kind::Request, index }
    }

    /// The tag that asks for a ring in the direct export, for the peer's stream `index`.
    pub const fn long(index: u32) -> Tag {
        Tag { kind: Kind::Long, index }
    }

    /// The tag that gives it back.
    pub const fn short(index: u32) -> Tag {
        Tag { kind: Kind::Short, index }
    }

    /// As it is sent.
    pub const fn to_u32(self) -> u32 {
        (self.kind as u32) << KIND_SHIFT | self.index
    }

    /// Reads a tag.
    ///
    /// # Errors
    /// [`Violation::Tag`] if there is no such kind, or the index is beyond the last slot.
    pub const fn parse(tag: u32) -> Result<Tag, Violation> {
        let index = tag & ((1 << KIND_SHIFT) - 1);
        let (kind, indices) = match tag >> KIND_SHIFT {
            1 => (Kind::Data, STREAMS),
            2 => (Kind::State, STREAMS),
            3 => (Kind::Request, REQUESTS),
            4 => (Kind::Done, STREAMS),
            7 => (Kind::Long, STREAMS),
            8 => (Kind::Short, STREAMS),
            _ => return Err(Violation::Tag { tag }),
        };
        if index >= indices {
            return Err(Violation::Tag { tag });
        }
        Ok(Tag { kind, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_follow_each_other() {
        assert!(request_offset(REQUESTS - 1) + SLOT_LEN <= slot_offset(0));
        assert_eq!(slot_offset(STREAMS - 1) + SLOT_LEN, RINGS);
        assert_eq!(RINGS % PAGE, 0);
        assert_eq!(RINGS, (4 << 10) + (1 << 20));
    }

    #[test]
    fn known_tags() {
        assert_eq!(Tag::data(7).to_u32(), 0x1000_0007);
        assert_eq!(Tag { kind: Kind::State, index: 16383 }.to_u32(), 0x2000_3fff);
        assert_eq!(Tag::request(63).to_u32(), 0x3000_003f);
        assert_eq!(Tag { kind: Kind::Done, index: 0 }.to_u32(), 0x4000_0000);
        assert_eq!((Tag::long(1).to_u32(), Tag::short(2).to_u32()), (0x7000_0001, 0x8000_0002));
        for tag in [0, 0x0000_0001, 0x1000_4000, 0x3000_0040, 0x5000_0000, 0x6000_0000, u32::MAX] {
            assert_eq!(Tag::parse(tag), Err(Violation::Tag { tag }));
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_back(tag: u32) {
            if let Ok(parsed) = Tag::parse(tag) {
                prop_assert_eq!(parsed.to_u32(), tag);
            }
        }

        #[test]
        fn what_is_written_is_accepted(kind in 1u32..=4, index in 0u32..64) {
            let tag = Tag::parse(kind << 28 | index).unwrap();
            prop_assert_eq!(Tag::parse(tag.to_u32()), Ok(tag));
        }
    }
}
