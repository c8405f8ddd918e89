//! Records: what a DATA packet carries, one after the other until the packet ends.
//!
//! ```text
//!   PUT (1)       kind, flags, length (16), grant (32), offset (64)              16 bytes
//!                 flag bit 0, notify: tag (32), reserved (32), total (64)       +16 bytes
//!                 then `length` bytes for the export, from `offset` on
//!   IMPORT (2)    kind, 0, name's length (16), request (32), key (128), name     24 bytes + name
//!   IMPORTED (3)  kind, status, 0 (16), request (32), grant (32),
//!                 bit 0: notifies (32), export's length (64)                     24 bytes
//!   RELEASE (4)   kind, 0, 0 (16), grant (32): the importer is done with it       8 bytes
//!   REVOKED (5)   kind, 0, 0 (16), grant (32): the exporter has taken it back     8 bytes
//!   REFUSED (6)   kind, reason, 0 (16), grant (32), sequence (32), 0 (32)        16 bytes
//! ```
//!
//! A long send is cut into many PUTs; the last of them carries `notify` when the receiver shall be told, and then
//! `total` is the length of the whole send, which ends where this PUT ends. REFUSED tells which grant and which
//! packet a PUT was refused in.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Reader, WireError};

/// The longest name of an export, bytes.
pub const MAX_NAME: usize = 128;

/// Length of a PUT's fixed part, bytes.
pub const PUT_LEN: usize = 16;

/// What a notifying PUT has more, bytes.
pub const NOTIFY_LEN: usize = 16;

/// The longest fixed part of any record, bytes.
pub const MAX_FIXED_LEN: usize = PUT_LEN + NOTIFY_LEN;

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

/// Why a PUT was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The grant is unknown, or was revoked.
    NoGrant = 1,
    /// Offset and length reach past the export's end.
    OutOfRange = 2,
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
        /// Whether the export delivers notifications.
        notifies: bool,
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
                zero(raw.flags.get() & !1 == 0)?;
                let status = match detail {
                    0 => ImportStatus::Granted,
                    1 => ImportStatus::UnknownName,
                    2 => ImportStatus::Denied,
                    3 => ImportStatus::TooMany,
                    _ => {
                        return Err(WireError::Unknown { field: "import status", value: detail.into() });
                    }
                };
                let (grant, notifies) = (raw.grant.get(), raw.flags.get() == 1);
                Record::Imported { request: number, status, grant, notifies, length: raw.length.get() }
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
                    _ => {
                        return Err(WireError::Unknown { field: "refusal", value: detail.into() });
                    }
                };
                Record::Refused { reason, grant: number, sequence: raw.sequence.get() }
            }
            kind => {
                return Err(WireError::Unknown { field: "record", value: kind.into() });
            }
        };
        if reader.remaining() < record.body_len() {
            return Err(WireError::Truncated("record's body"));
        }
        Ok(Some(record))
    }

    fn parse_notify(reader: &mut Reader<'_, '_>) -> Result<Notify, WireError> {
        let raw: RawNotify = zerocopy::transmute!(take::<16>(reader)?);
        zero(raw.reserved.get() == 0)?;
        Ok(Notify { tag: raw.tag.get(), total: raw.total.get() })
    }

    /// How many bytes follow the fixed part.
    pub fn body_len(&self) -> usize {
        match *self {
            Record::Put { length, .. } => length.into(),
            Record::Import { name, .. } => name.into(),
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
            Record::Imported { request, status, grant, notifies, length } => {
                let raw = RawImported { grant: grant.into(), flags: u32::from(notifies).into(), length: length.into() };
                Emitted::new(short(3, status as u8, 0, request), raw.as_bytes(), &[])
            }
            Record::Release { grant } => Emitted::new(short(4, 0, 0, grant), &[], &[]),
            Record::Revoked { grant } => Emitted::new(short(5, 0, 0, grant), &[], &[]),
            Record::Refused { reason, grant, sequence } => {
                let raw = RawRefused { sequence: sequence.into(), reserved: 0.into() };
                Emitted::new(short(6, reason as u8, 0, grant), raw.as_bytes(), &[])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let notify = (any::<u32>(), any::<u16>()).prop_map(|(tag, more)| (tag, u64::from(more)));
        prop_oneof![
            (any::<u32>(), 0u64..1 << 40, any::<u16>(), prop::option::of(notify)).prop_map(
                |(grant, offset, length, notify)| Record::Put {
                    grant,
                    offset,
                    length,
                    notify: notify.map(|(tag, more)| Notify { tag, total: u64::from(length) + more.min(offset) }),
                }
            ),
            (any::<u32>(), any::<[u8; 16]>(), 1u16..=128).prop_map(|(request, key, name)| Record::Import {
                request,
                key,
                name
            }),
            (any::<u32>(), 0u8..4, any::<u32>(), any::<bool>(), any::<u64>()).prop_map(
                |(request, status, grant, notifies, length)| Record::Imported {
                    request,
                    status: [
                        ImportStatus::Granted,
                        ImportStatus::UnknownName,
                        ImportStatus::Denied,
                        ImportStatus::TooMany
                    ][status as usize],
                    grant,
                    notifies,
                    length
                }
            ),
            any::<u32>().prop_map(|grant| Record::Release { grant }),
            any::<u32>().prop_map(|grant| Record::Revoked { grant }),
            (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(range, grant, sequence)| Record::Refused {
                reason: if range { Refusal::OutOfRange } else { Refusal::NoGrant },
                grant,
                sequence
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in prop::collection::vec(any_record(), 0..8), cut in 1usize..64) {
            let mut bytes = Vec::new();
            for record in &records {
                bytes.extend_from_slice(record.emit().as_ref());
                bytes.resize(bytes.len() + record.body_len(), 0x5a);
            }
            let fragments: Vec<&[u8]> = bytes.chunks(cut).collect();
            let mut reader = Reader::new(&fragments, 0, usize::MAX);
            for record in &records {
                prop_assert_eq!(Record::parse(&mut reader), Ok(Some(*record)));
                reader.skip(record.body_len());
            }
            prop_assert_eq!(Record::parse(&mut reader), Ok(None));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let fragments = [&bytes[..]];
            let mut reader = Reader::new(&fragments, 0, usize::MAX);
            while let Ok(Some(record)) = Record::parse(&mut reader) {
                prop_assert!(reader.remaining() >= record.body_len());
                reader.skip(record.body_len());
            }
        }
    }

    #[test]
    fn every_reserved_bit_is_refused() {
        let put = Record::Put { grant: 1, offset: 2, length: 0, notify: Some(Notify { tag: 3, total: 0 }) };
        let imported =
            Record::Imported { request: 1, status: ImportStatus::Granted, grant: 2, notifies: true, length: 3 };
        let refused = Record::Refused { reason: Refusal::NoGrant, grant: 1, sequence: 2 };
        let import = Record::Import { request: 1, key: [0; 16], name: 1 };
        for (record, reserved) in [
            (put, vec![(1, 0xfe), (20, 0xff), (21, 0xff), (22, 0xff), (23, 0xff)]),
            (import, vec![(1, 0xff)]),
            (imported, vec![(2, 0xff), (3, 0xff), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xfe)]),
            (Record::Release { grant: 1 }, vec![(1, 0xff), (2, 0xff), (3, 0xff)]),
            (Record::Revoked { grant: 1 }, vec![(1, 0xff), (2, 0xff), (3, 0xff)]),
            (refused, vec![(2, 0xff), (3, 0xff), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xff)]),
        ] {
            for (at, mask) in reserved {
                for bit in (0..8).filter(|b| mask >> b & 1 == 1) {
                    let mut bytes = record.emit().as_ref().to_vec();
                    bytes.resize(bytes.len() + record.body_len(), 0);
                    bytes[at] |= 1 << bit;
                    let fragments = [&bytes[..]];
                    let parsed = Record::parse(&mut Reader::new(&fragments, 0, usize::MAX));
                    assert_eq!(parsed, Err(WireError::Reserved("record")), "{record:?}, byte {at}, bit {bit}");
                }
            }
        }
    }
}
