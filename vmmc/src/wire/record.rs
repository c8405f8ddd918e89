//! Records: what a DATA packet carries, one after the other until the packet ends.
//!
//! ```text
//!   PUT (1)       kind, flags, length (16), grant (32), offset (64)              16 bytes
//!                 flag bit 0, notify: tag (32), reserved (32), total (64)       +16 bytes
//!                 then `length` bytes for the export, from `offset` on
//!   IMPORT (2)    kind, 0, name's length (16), request (32), key (128), name     24 bytes + name
//!   IMPORTED (3)  kind, status, 0 (16), request (32), grant (32),
//!                 access (32), export's length (64)                              24 bytes
//!   RELEASE (4)   kind, 0, 0 (16), grant (32): the importer is done with it       8 bytes
//!   REVOKED (5)   kind, 0, 0 (16), grant (32): the exporter has taken it back     8 bytes
//!   REFUSED (6)   kind, reason, 0 (16), grant (32), sequence (32), 0 (32)        16 bytes
//!   FETCH (7)     kind, 0, 0 (16), request (32), grant (32), 0 (32),
//!                 offset (64), length (64)                                       32 bytes
//!   FETCHED (8)   kind, 0, length (16), request (32), at (64)                    16 bytes
//!                 then `length` bytes of what was asked for, from its byte `at` on
//!   FETCH_REFUSED (9)  kind, reason, 0 (16), request (32)                         8 bytes
//!   FETCH_CANCEL (10)  kind, 0, 0 (16), request (32)                              8 bytes
//!   11 to 19           about transfers on the bulk lane: see `bulk`
//! ```
//!
//! A long send is cut into many PUTs; the last of them carries `notify` when the receiver shall be told, and then
//! `total` is the length of the whole send, which ends where this PUT ends. REFUSED tells which grant and which
//! packet a PUT was refused in. A FETCH is answered by as many FETCHEDs as it takes, or by a FETCH_REFUSED, which may also come
//! between them.

mod bulk;

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use self::bulk::{BULK_ASK_LEN, BulkRecord, Declined, Errand, MAX_MISSING};
use super::{Reader, WireError};

/// The longest name of an export, bytes.
pub const MAX_NAME: usize = 128;

/// Length of a PUT's fixed part, bytes.
pub const PUT_LEN: usize = 16;

/// What a notifying PUT has more, bytes.
pub const NOTIFY_LEN: usize = 16;

/// Length of a FETCHED's fixed part, bytes.
pub const FETCHED_LEN: usize = 16;

/// The longest fixed part of any record, bytes.
pub const MAX_FIXED_LEN: usize = BULK_ASK_LEN;

/// How many FETCHes may wait for an answer on a link, each way. An exporter takes as many; who sends more is refused.
pub const MAX_FETCHES: usize = 128;

/// What the receiver shall be told once a send is in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Whatever the sender wants to say.
    pub tag: u32,
    /// Length of the whole send, bytes.
    pub total: u64,
}

/// The answer to an IMPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ImportStatus {
    /// Here is the grant.
    Granted = 0,
    /// There is no export of this name.
    UnknownName = 1,
    /// There is, and the key or the peer isn't one it allows.
    Denied = 2,
    /// The exporter gives no more grants to this peer.
    TooMany = 3,
}

/// What an import is good for, in the answer to an IMPORT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Bit 0: the export delivers notifications.
    pub notifies: bool,
    /// Bit 1: it may be fetched from.
    pub readable: bool,
    /// Bit 2: it may be written into.
    pub writable: bool,
}

impl Access {
    fn parse(bits: u32) -> Result<Access, WireError> {
        zero(bits & !0b111 == 0)?;
        let bit = |n: u32| bits >> n & 1 != 0;
        Ok(Access { notifies: bit(0), readable: bit(1), writable: bit(2) })
    }

    fn bits(self) -> u32 {
        u32::from(self.notifies) | u32::from(self.readable) << 1 | u32::from(self.writable) << 2
    }
}

/// Why a PUT was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The grant is unknown, or was revoked.
    NoGrant = 1,
    /// Offset and length reach past the export's end.
    OutOfRange = 2,
    /// The export is read-only.
    NotWritable = 3,
    /// Some of the bytes are lent to the exporter's program.
    Lent = 4,
}

/// Why a FETCH was refused, or has come to an early end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FetchRefusal {
    /// The grant is unknown, or was revoked.
    NoGrant = 1,
    /// Offset and length reach past the export's end.
    OutOfRange = 2,
    /// The export may not be fetched from.
    NotReadable = 3,
    /// [`MAX_FETCHES`] wait already.
    TooMany = 4,
    /// Its requester has cancelled it.
    Cancelled = 5,
}

/// A record, without the bytes a PUT carries: they follow in the packet, and the reader stands before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A piece of a send.
    Put {
        /// Where to: the exporter's grant.
        grant: u32,
        /// Byte of the export at which the piece begins.
        offset: u64,
        /// Bytes of payload that follow in the packet.
        length: u16,
        /// Set in the last piece of a send that notifies.
        notify: Option<Notify>,
    },
    /// A request for a grant.
    Import {
        /// The importer's name for this request.
        request: u32,
        /// The key.
        key: [u8; 16],
        /// Length of the name, which follows in the packet, bytes: 1 to [`MAX_NAME`].
        name: u16,
    },
    /// The answer.
    Imported {
        /// The request it answers.
        request: u32,
        /// How it went.
        status: ImportStatus,
        /// The grant, when granted.
        grant: u32,
        /// What may be done with it.
        access: Access,
        /// Length of the export, bytes.
        length: u64,
    },
    /// The importer gives a grant back.
    Release {
        /// The grant.
        grant: u32,
    },
    /// The exporter has revoked a grant.
    Revoked {
        /// The grant.
        grant: u32,
    },
    /// A PUT was refused, and its data is not in the export.
    Refused {
        /// Why.
        reason: Refusal,
        /// The grant it named.
        grant: u32,
        /// Low 32 bits of the sequence number of the packet that carried it.
        sequence: u32,
    },
    /// A request for bytes of an export.
    Fetch {
        /// The requester's name for this request.
        request: u32,
        /// From where: the exporter's grant.
        grant: u32,
        /// The first byte of the export that is wanted.
        offset: u64,
        /// How many are wanted: 1 or more.
        length: u64,
    },
    /// A piece of the answer.
    Fetched {
        /// The request it answers.
        request: u32,
        /// Where in what was asked for the piece begins. Pieces come in order and without gaps.
        at: u64,
        /// Bytes of payload that follow in the packet: 1 or more.
        length: u16,
    },
    /// A request has been refused; no more pieces of it will come.
    FetchRefused {
        /// Why.
        reason: FetchRefusal,
        /// The request.
        request: u32,
    },
    /// The requester wants no more pieces. It is answered by FETCH_REFUSED, unless the last piece has been sent.
    FetchCancel {
        /// The request.
        request: u32,
    },
    /// About a transfer on the bulk lane.
    Bulk(BulkRecord),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Short {
    kind: u8,
    detail: u8,
    length: U16,
    number: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawNotify {
    tag: U32,
    reserved: U32,
    total: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawImported {
    grant: U32,
    flags: U32,
    length: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRefused {
    sequence: U32,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFetch {
    grant: U32,
    reserved: U32,
    offset: U64,
    length: U64,
}

/// The bytes of a record's fixed part.
#[derive(Clone, Copy, Debug)]
pub struct Emitted {
    bytes: [u8; MAX_FIXED_LEN],
    len: usize,
}

impl Emitted {
    fn new(short: Short, more: &[u8], last: &[u8]) -> Emitted {
        let mut bytes = [0; MAX_FIXED_LEN];
        let len = 8 + more.len() + last.len();
        bytes[..8].copy_from_slice(short.as_bytes());
        bytes[8..8 + more.len()].copy_from_slice(more);
        bytes[8 + more.len()..len].copy_from_slice(last);
        Emitted { bytes, len }
    }
}

impl AsRef<[u8]> for Emitted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn take<const N: usize>(reader: &mut Reader<'_, '_>) -> Result<[u8; N], WireError> {
    reader.array().ok_or(WireError::Truncated("record"))
}

fn zero(condition: bool) -> Result<(), WireError> {
    if condition { Ok(()) } else { Err(WireError::Reserved("record")) }
}

impl Record {
    /// Parses the next record; `None` at the end of the packet.
    ///
    /// # Errors
    /// When it is unknown, malformed, or promises more bytes than the packet has.
    pub fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Record>, WireError> {
        if reader.remaining() == 0 {
            return Ok(None);
        }
        let short: Short = zerocopy::transmute!(take::<8>(reader)?);
        let (detail, length, number) = (short.detail, short.length.get(), short.number.get());
        let record = match short.kind {
            1 => {
                zero(detail & !1 == 0)?;
                let offset: U64 = zerocopy::transmute!(take::<8>(reader)?);
                let notify = if detail & 1 == 1 { Some(Self::parse_notify(reader)?) } else { None };
                let offset = offset.get();
                if offset.checked_add(length.into()).is_none()
                    || notify.is_some_and(|n| n.total < length.into() || n.total > offset + u64::from(length))
                {
                    return Err(WireError::Inconsistent("PUT's length"));
                }
                Record::Put { grant: number, offset, length, notify }
            }
            2 => {
                zero(detail == 0)?;
                if !(1..=MAX_NAME).contains(&usize::from(length)) {
                    return Err(WireError::Inconsistent("name's length"));
                }
                Record::Import { request: number, key: take(reader)?, name: length }
            }
            3 => {
                zero(length == 0)?;
                let raw: RawImported = zerocopy::transmute!(take::<16>(reader)?);
                let access = Access::parse(raw.flags.get())?;
                let status = match detail {
                    0 => ImportStatus::Granted,
                    1 => ImportStatus::UnknownName,
                    2 => ImportStatus::Denied,
                    3 => ImportStatus::TooMany,
                    _ => {
                        return Err(WireError::Unknown { field: "import status", value: detail.into() });
                    }
                };
                Record::Imported { request: number, status, grant: raw.grant.get(), access, length: raw.length.get() }
            }
            4 | 5 => {
                zero(detail == 0 && length == 0)?;
                if short.kind == 4 { Record::Release { grant: number } } else { Record::Revoked { grant: number } }
            }
            6 => {
                let raw: RawRefused = zerocopy::transmute!(take::<8>(reader)?);
                zero(length == 0 && raw.reserved.get() == 0)?;
                let reason = match detail {
                    1 => Refusal::NoGrant,
                    2 => Refusal::OutOfRange,
                    3 => Refusal::NotWritable,
                    4 => Refusal::Lent,
                    _ => {
                        return Err(WireError::Unknown { field: "refusal", value: detail.into() });
                    }
                };
                Record::Refused { reason, grant: number, sequence: raw.sequence.get() }
            }
            7..=10 => {
                zero(short.kind == 9 || detail == 0)?;
                zero(short.kind == 8 || length == 0)?;
                Self::parse_fetch(short, reader)?
            }
            11..=19 => Record::Bulk(BulkRecord::parse(short, reader)?),
            kind => {
                return Err(WireError::Unknown { field: "record", value: kind.into() });
            }
        };
        if reader.remaining() < record.body_len() {
            return Err(WireError::Truncated("record's body"));
        }
        Ok(Some(record))
    }

    /// Parses one of the four records of fetches.
    fn parse_fetch(short: Short, reader: &mut Reader<'_, '_>) -> Result<Record, WireError> {
        let (request, length) = (short.number.get(), short.length.get());
        Ok(match short.kind {
            7 => {
                let raw: RawFetch = zerocopy::transmute!(take::<24>(reader)?);
                zero(raw.reserved.get() == 0)?;
                let (offset, length) = (raw.offset.get(), raw.length.get());
                if length == 0 || offset.checked_add(length).is_none() {
                    return Err(WireError::Inconsistent("FETCH's length"));
                }
                Record::Fetch { request, grant: raw.grant.get(), offset, length }
            }
            8 => {
                let at: U64 = zerocopy::transmute!(take::<8>(reader)?);
                if length == 0 || at.get().checked_add(length.into()).is_none() {
                    return Err(WireError::Inconsistent("FETCHED's length"));
                }
                Record::Fetched { request, at: at.get(), length }
            }
            9 => {
                let reason = match short.detail {
                    1 => FetchRefusal::NoGrant,
                    2 => FetchRefusal::OutOfRange,
                    3 => FetchRefusal::NotReadable,
                    4 => FetchRefusal::TooMany,
                    5 => FetchRefusal::Cancelled,
                    other => {
                        return Err(WireError::Unknown { field: "refusal of a fetch", value: other.into() });
                    }
                };
                Record::FetchRefused { reason, request }
            }
            _ => Record::FetchCancel { request },
        })
    }

    fn parse_notify(reader: &mut Reader<'_, '_>) -> Result<Notify, WireError> {
        let raw: RawNotify = zerocopy::transmute!(take::<16>(reader)?);
        zero(raw.reserved.get() == 0)?;
        Ok(Notify { tag: raw.tag.get(), total: raw.total.get() })
    }

    /// How many bytes follow the fixed part.
    pub fn body_len(&self) -> usize {
        match *self {
            Record::Put { length, .. } | Record::Fetched { length, .. } => length.into(),
            Record::Import { name, .. } => name.into(),
            Record::Bulk(record) => record.body_len(),
            _ => 0,
        }
    }

    /// The bytes of the fixed part; the body is the caller's to add.
    pub fn emit(&self) -> Emitted {
        let short = |kind, detail, length: u16, number: u32| Short {
            kind,
            detail,
            length: length.into(),
            number: number.into(),
        };
        match *self {
            Record::Put { grant, offset, length, notify } => {
                let offset = U64::from(offset);
                match notify {
                    None => Emitted::new(short(1, 0, length, grant), offset.as_bytes(), &[]),
                    Some(Notify { tag, total }) => {
                        let notify = RawNotify { tag: tag.into(), reserved: 0.into(), total: total.into() };
                        Emitted::new(short(1, 1, length, grant), offset.as_bytes(), notify.as_bytes())
                    }
                }
            }
            Record::Import { request, key, name } => Emitted::new(short(2, 0, name, request), &key, &[]),
            Record::Imported { request, status, grant, access, length } => {
                let raw = RawImported { grant: grant.into(), flags: access.bits().into(), length: length.into() };
                Emitted::new(short(3, status as u8, 0, request), raw.as_bytes(), &[])
            }
            Record::Release { grant } => Emitted::new(short(4, 0, 0, grant), &[], &[]),
            Record::Revoked { grant } => Emitted::new(short(5, 0, 0, grant), &[], &[]),
            Record::Refused { reason, grant, sequence } => {
                let raw = RawRefused { sequence: sequence.into(), reserved: 0.into() };
                Emitted::new(short(6, reason as u8, 0, grant), raw.as_bytes(), &[])
            }
            Record::Fetch { request, grant, offset, length } => {
                let (offset, length) = (offset.into(), length.into());
                let raw = RawFetch { grant: grant.into(), reserved: 0.into(), offset, length };
                Emitted::new(short(7, 0, 0, request), raw.as_bytes(), &[])
            }
            Record::Fetched { request, at, length } => {
                Emitted::new(short(8, 0, length, request), U64::from(at).as_bytes(), &[])
            }
            Record::FetchRefused { reason, request } => Emitted::new(short(9, reason as u8, 0, request), &[], &[]),
            Record::FetchCancel { request } => Emitted::new(short(10, 0, 0, request), &[], &[]),
            Record::Bulk(record) => record.emit(),
        }
    }
}

#[cfg(test)]
mod tests;
