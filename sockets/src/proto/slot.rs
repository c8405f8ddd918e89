//! The words of stream slots and request slots.
//!
//! A slot holds state, not messages: its writer rewrites it as a whole whenever it wants to. Every word only grows, so that nothing is lost when
//! its reader sees only the newest version. The reader may also see some words of one version and some of the next, which is just
//! being written, but each word is of one version. So what belongs together is in one word.
//!
//! ```text
//!    stream slot                                                   request slot
//!   word 0: peer's index (32) | status (8) | flags (8) | 0 (16)    word 0: requester's index (32) | from (16) | to (16)
//!   word 1: consumed (64)                                          word 1: ring grant
//!   word 2: ring grant: offset / 4096 (32) | log2 length (8) | epoch (24)
//!   word 3: finish: final position + 1, or 0 (64)
//!   word 4: confirm: epoch (24) | base, modulo 2^40 (40)
//! ```
//!
//! Words are 64 bits, in network byte order.

use super::Violation;
use super::layout::{MAX_RING, MIN_RING, PAGE, RINGS, SESSION_LEN, STREAMS};

/// The length of what is written into a stream slot, bytes.
pub const STATE_LEN: usize = 40;

/// The length of what is written into a request slot, bytes.
pub const REQUEST_LEN: usize = 16;

const EPOCH_BITS: u32 = 24;
const EPOCHS: u32 = 1 << EPOCH_BITS;
const BASE_BITS: u32 = 40;
const BASE_MASK: u64 = (1 << BASE_BITS) - 1;

/// A range of the writer's export into which its reader may write one stream's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingGrant {
    /// Where the ring begins: bytes from the start of the export, a multiple of 4096, behind the slots.
    pub offset: u64,
    /// The logarithm of its length in bytes to the base of 2: 12 to 22.
    pub log2: u8,
    /// How many rings the stream had before, modulo 2^24.
    pub epoch: u32,
}

impl RingGrant {
    /// The grant of `len` bytes (a power of two) at `offset`.
    pub fn new(offset: u64, len: u64, epoch: u32) -> RingGrant {
        debug_assert!(len.is_power_of_two() && (MIN_RING..=MAX_RING).contains(&len) && offset.is_multiple_of(PAGE));
        RingGrant { offset, log2: len.ilog2() as u8, epoch }
    }

    /// Its length, bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.log2
    }

    /// The epoch of the next grant.
    pub const fn next_epoch(self) -> u32 {
        (self.epoch + 1) % EPOCHS
    }

    fn emit(grant: Option<RingGrant>) -> u64 {
        match grant {
            None => 0,
            Some(grant) => (grant.offset / PAGE) << 32 | u64::from(grant.log2) << EPOCH_BITS | u64::from(grant.epoch),
        }
    }

    /// Reads a grant of a ring in an export of `export_len` bytes.
    fn parse(word: u64, export_len: u64) -> Result<Option<RingGrant>, Violation> {
        if word == 0 {
            return Ok(None);
        }
        let offset = (word >> 32) * PAGE;
        let log2 = (word >> EPOCH_BITS) as u8;
        let len = 1u64.checked_shl(log2.into()).unwrap_or(0);
        // What lies behind the session export is another one.
        let whole = offset >= SESSION_LEN || offset + len <= SESSION_LEN;
        let valid = (MIN_RING..=MAX_RING).contains(&len) && offset >= RINGS && offset + len <= export_len && whole;
        if !valid {
            return Err(Violation::Ring { offset, len });
        }
        Ok(Some(RingGrant { offset, log2, epoch: word as u32 % EPOCHS }))
    }
}

/// Which of its peer's rings a sender writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirm {
    /// The ring's epoch.
    pub epoch: u32,
    /// The position of the first byte in it, modulo 2^40.
    pub base: u64,
}

impl Confirm {
    /// `base` may have more than 40 bits; they are dropped.
    pub const fn new(epoch: u32, base: u64) -> Confirm {
        Confirm { epoch, base: base & BASE_MASK }
    }

    /// The first position from `from` on that this may stand for.
    pub const fn base_from(self, from: u64) -> u64 {
        from.wrapping_add(self.base.wrapping_sub(from) & BASE_MASK)
    }

    const fn emit(self) -> u64 {
        (self.epoch as u64) << BASE_BITS | self.base
    }

    const fn parse(word: u64) -> Confirm {
        Confirm { epoch: (word >> BASE_BITS) as u32, base: word & BASE_MASK }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// This isn't an answer: the requester writes it.
    #[default]
    None = 0,
    /// The stream is open.
    Accepted = 1,
    /// Nobody listens at that port.
    Refused = 2,
    /// The listener has a full backlog, or the host no room.
    Busy = 3,
}

/// What one side says about a stream, in the other side's slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The index that the writer has given the stream, which the reader writes to. 0 in a refusal.
    pub peer: u32,
    /// The answer to the request.
    pub status: Status,
    /// The writer reads no more: what is sent to it from now on is lost, and answered by a reset.
    pub stop: bool,
    /// The stream has been aborted.
    pub reset: bool,
    /// The position up to which the writer has read.
    pub consumed: u64,
    /// Where the reader may write to.
    pub grant: Option<RingGrant>,
    /// The position at which the writer's data end, once that is so.
    pub finish: Option<u64>,
    /// The ring that the writer writes to.
    pub confirm: Confirm,
}

const STOP: u64 = 1 << 16;
const RESET: u64 = 1 << 17;

impl State {
    /// As it stands in the slot.
    pub fn emit(&self) -> [u8; STATE_LEN] {
        let flags = if self.stop { STOP } else { 0 } | if self.reset { RESET } else { 0 };
        let words = [
            u64::from(self.peer) << 32 | (self.status as u64) << 24 | flags,
            self.consumed,
            RingGrant::emit(self.grant),
            self.finish.map_or(0, |position| position.wrapping_add(1)),
            self.confirm.emit(),
        ];
        let mut bytes = [0; STATE_LEN];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads a slot, whose writer's export has `export_len` bytes, with the direct one that follows it.
    ///
    /// # Errors
    /// A [`Violation`] if a word means nothing, or the ring isn't one of that export.
    pub fn parse(bytes: &[u8; STATE_LEN], export_len: u64) -> Result<State, Violation> {
        let word = |index| word(bytes, index);
        let bad = Violation::Word { word: 0, value: word(0) };
        let peer = (word(0) >> 32) as u32;
        let status = match (word(0) >> 24) as u8 {
            0 => Status::None,
            1 => Status::Accepted,
            2 => Status::Refused,
            3 => Status::Busy,
            _ => return Err(bad),
        };
        if peer >= STREAMS || word(0) & 0xff_ffff & !(STOP | RESET) != 0 {
            return Err(bad);
        }
        Ok(State {
            peer,
            status,
            stop: word(0) & STOP != 0,
            reset: word(0) & RESET != 0,
            consumed: word(1),
            grant: RingGrant::parse(word(2), export_len)?,
            finish: word(3).checked_sub(1),
            confirm: Confirm::parse(word(4)),
        })
    }
}

/// A connect, in a request slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The index that the requester has given the stream.
    pub peer: u32,
    /// The requester's port.
    pub from: u16,
    /// The port it connects to.
    pub to: u16,
    /// Where it may be written to: the ring of epoch 0.
    pub grant: RingGrant,
}

impl Request {
    /// As it stands in the slot.
    pub fn emit(&self) -> [u8; REQUEST_LEN] {
        let word = u64::from(self.peer) << 32 | u64::from(self.from) << 16 | u64::from(self.to);
        let mut bytes = [0; REQUEST_LEN];
        bytes[..8].copy_from_slice(&word.to_be_bytes());
        bytes[8..].copy_from_slice(&RingGrant::emit(Some(self.grant)).to_be_bytes());
        bytes
    }

    /// Reads a request from a peer whose export has `export_len` bytes.
    ///
    /// # Errors
    /// A [`Violation`] if the index is beyond the last stream, or the ring isn't one of that export, or not the stream's first.
    pub fn parse(bytes: &[u8; REQUEST_LEN], export_len: u64) -> Result<Request, Violation> {
        let (head, ring) = (word(bytes, 0), word(bytes, 1));
        let peer = (head >> 32) as u32;
        if peer >= STREAMS {
            return Err(Violation::Word { word: 0, value: head });
        }
        let grant = RingGrant::parse(ring, export_len)?.ok_or(Violation::NoRing)?;
        if grant.epoch != 0 {
            return Err(Violation::GrantEpoch { expected: 0, found: grant.epoch });
        }
        Ok(Request { peer, from: (head >> 16) as u16, to: head as u16, grant })
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[index * 8..][..8]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests;
