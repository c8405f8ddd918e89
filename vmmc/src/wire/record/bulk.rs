//! Records about transfers on the bulk lane: who wants to send what, what the receiver has posted for it, and what has landed.
//!
//! ```text
//!   BULK_ASK (11)       kind, flags, rest (16), transfer (32), grant or request (32), segment (32),
//!                       segments (32), 0 (32), offset (64)                                  32 bytes
//!                       flag bit 0, notify: tag (32), reserved (32), total (64)            +16 bytes
//!                       flag bit 1: it answers a FETCH, whose request is named
//!                       then `rest` bytes, which go to `offset`; the segments follow them there
//!   BULK_GRANTED (12)   kind, 0, 0 (16), transfer (32), bulk grant (32), 0 (32)             16 bytes
//!   BULK_DECLINED (13)  kind, reason, 0 (16), transfer (32)                                  8 bytes
//!   BULK_LANDED (14)    kind, 0, 0 (16), bulk grant (32), packets (32), 0 (32)              16 bytes
//!   BULK_MISSING (15)   kind, 0, ranges (16), bulk grant (32)                                8 bytes
//!                       then as many times first (32), end (32)
//!   BULK_DONE (16)      kind, 0, 0 (16), transfer (32)                                       8 bytes
//!   BULK_CLEARED (17)   kind, 0, 0 (16), transfer (32)                                       8 bytes
//!   BULK_CANCEL (18)    kind, 0, 0 (16), transfer (32)                                       8 bytes
//!   BULK_SENT (19)      kind, 0, 0 (16), bulk grant (32)                                     8 bytes
//! ```

use std::ops::Range;

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Emitted, Notify, RawNotify, Record, Short, WireError, take, zero};
use crate::wire::Reader;

/// Length of a BULK_ASK's fixed part, bytes, the notification included.
pub const BULK_ASK_LEN: usize = 48;

/// The most ranges in a BULK_MISSING.
pub const MAX_MISSING: usize = 64;

/// Why a transfer isn't, or is no longer, granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Declined {
    /// Not by this lane, or not now: it is to be sent as others are, and with it all that has been asked for after it.
    Unable = 1,
    /// It isn't wanted any more: its receiver has given it up, or it has been refused by another record.
    Unwanted = 2,
}

/// What a transfer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// An export, by the exporter's grant.
    Put {
        /// The grant.
        grant: u32,
        /// Set when the receiver shall be told once it is there.
        notify: Option<Notify>,
    },
    /// What the receiver has asked for.
    Fetched {
        /// Its request.
        request: u32,
    },
}

/// A record about transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkRecord {
    /// The sender would like to send.
    Ask {
        /// The sender's number for this transfer.
        transfer: u32,
        /// What it is for.
        errand: Errand,
        /// Where the first byte goes, in the export or in what was asked for.
        offset: u64,
        /// Bytes of each segment: 1 or more.
        segment: u32,
        /// How many segments: 1 or more.
        segments: u32,
        /// Bytes that follow in this packet. They go to `offset`, and the segments behind them.
        rest: u16,
    },
    /// The receiver has posted places for all segments: they are to be sent, the last one first.
    Granted {
        /// The transfer.
        transfer: u32,
        /// What the packets shall carry.
        grant: u32,
    },
    /// The transfer isn't granted, or is so no longer.
    Declined {
        /// The transfer.
        transfer: u32,
        /// Why.
        reason: Declined,
    },
    /// Packets of a grant have landed.
    Landed {
        /// The grant.
        grant: u32,
        /// How many since the last record of this kind.
        packets: u32,
    },
    /// Segments of a grant are to be sent again.
    Missing {
        /// The grant.
        grant: u32,
        /// How many ranges of segments follow in the packet: 1 to [`MAX_MISSING`].
        ranges: u16,
    },
    /// All of a transfer is in the receiver's memory, and has been announced.
    Done {
        /// The transfer.
        transfer: u32,
    },
    /// The sender has heard that it is declined: this transfer, and all that it had asked for after it, come another way. What it asks for from now on is meant.
    Cleared {
        /// The transfer.
        transfer: u32,
    },
    /// The sender sends no more of it.
    Cancel {
        /// The transfer.
        transfer: u32,
    },
    /// All segments of a grant have been sent, and those asked for again, too.
    Sent {
        /// The grant.
        grant: u32,
        /// How often the receiver had asked for segments again, as far as the sender had heard; of that the lower 16 bits.
        questions: u16,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawAsk {
    number: U32,
    segment: U32,
    segments: U32,
    reserved: U32,
    offset: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawNumber {
    number: U32,
    reserved: U32,
}

impl BulkRecord {
    /// Parses the rest of a record of these kinds, 11 to 19.
    pub(super) fn parse(short: Short, reader: &mut Reader<'_, '_>) -> Result<BulkRecord, WireError> {
        let (detail, length, number) = (short.detail, short.length.get(), short.number.get());
        zero(matches!(short.kind, 11 | 13) || detail == 0)?;
        zero(matches!(short.kind, 11 | 15 | 19) || length == 0)?;
        let mut second = || {
            let raw: RawNumber = zerocopy::transmute!(take::<8>(reader)?);
            zero(raw.reserved.get() == 0)?;
            Ok(raw.number.get())
        };
        Ok(match short.kind {
            11 => return Self::parse_ask(short, reader),
            12 => BulkRecord::Granted { transfer: number, grant: second()? },
            13 => {
                let reason = match detail {
                    1 => Declined::Unable,
                    2 => Declined::Unwanted,
                    other => return Err(WireError::Unknown { field: "reason to decline", value: other.into() }),
                };
                BulkRecord::Declined { transfer: number, reason }
            }
            14 => BulkRecord::Landed { grant: number, packets: second()? },
            15 if (1..=MAX_MISSING).contains(&usize::from(length)) => {
                BulkRecord::Missing { grant: number, ranges: length }
            }
            15 => return Err(WireError::Inconsistent("number of ranges")),
            16 => BulkRecord::Done { transfer: number },
            17 => BulkRecord::Cleared { transfer: number },
            18 => BulkRecord::Cancel { transfer: number },
            _ => BulkRecord::Sent { grant: number, questions: length },
        })
    }

    fn parse_ask(short: Short, reader: &mut Reader<'_, '_>) -> Result<BulkRecord, WireError> {
        let (notifies, fetched) = (short.detail & 1 == 1, short.detail & 2 == 2);
        zero(short.detail & !3 == 0 && !(notifies && fetched))?;
        let raw: RawAsk = zerocopy::transmute!(take::<24>(reader)?);
        zero(raw.reserved.get() == 0)?;
        let (segment, segments, offset) = (raw.segment.get(), raw.segments.get(), raw.offset.get());
        let length = u64::from(segment) * u64::from(segments);
        let end = length.checked_add(short.length.get().into()).and_then(|length| offset.checked_add(length));
        let (Some(end), 1..) = (end, length) else { return Err(WireError::Inconsistent("transfer's length")) };
        let number = raw.number.get();
        let errand = if fetched {
            Errand::Fetched { request: number }
        } else {
            let notify = if notifies { Some(Record::parse_notify(reader)?) } else { None };
            if notify.is_some_and(|n| n.total < end - offset || n.total > end) {
                return Err(WireError::Inconsistent("transfer's length"));
            }
            Errand::Put { grant: number, notify }
        };
        Ok(BulkRecord::Ask {
            transfer: short.number.get(),
            errand,
            offset,
            segment,
            segments,
            rest: short.length.get(),
        })
    }

    /// How many bytes follow the fixed part.
    pub(super) fn body_len(&self) -> usize {
        match *self {
            BulkRecord::Ask { rest, .. } => rest.into(),
            BulkRecord::Missing { ranges, .. } => usize::from(ranges) * 8,
            _ => 0,
        }
    }

    /// The bytes of the fixed part.
    pub(super) fn emit(&self) -> Emitted {
        let short = |kind, detail, length: u16, number: u32| Short {
            kind,
            detail,
            length: length.into(),
            number: number.into(),
        };
        let second = |number: u32| RawNumber { number: number.into(), reserved: 0.into() };
        match *self {
            BulkRecord::Ask { transfer, errand, offset, segment, segments, rest } => {
                let (number, flags, notify) = match errand {
                    Errand::Put { grant, notify } => (grant, u8::from(notify.is_some()), notify),
                    Errand::Fetched { request } => (request, 2, None),
                };
                let raw = RawAsk {
                    number: number.into(),
                    segment: segment.into(),
                    segments: segments.into(),
                    reserved: 0.into(),
                    offset: offset.into(),
                };
                let notify = notify.map(|n| RawNotify { tag: n.tag.into(), reserved: 0.into(), total: n.total.into() });
                let notify = notify.as_ref().map_or(&[][..], IntoBytes::as_bytes);
                Emitted::new(short(11, flags, rest, transfer), raw.as_bytes(), notify)
            }
            BulkRecord::Granted { transfer, grant } => {
                Emitted::new(short(12, 0, 0, transfer), second(grant).as_bytes(), &[])
            }
            BulkRecord::Declined { transfer, reason } => Emitted::new(short(13, reason as u8, 0, transfer), &[], &[]),
            BulkRecord::Landed { grant, packets } => {
                Emitted::new(short(14, 0, 0, grant), second(packets).as_bytes(), &[])
            }
            BulkRecord::Missing { grant, ranges } => Emitted::new(short(15, 0, ranges, grant), &[], &[]),
            BulkRecord::Done { transfer } => Emitted::new(short(16, 0, 0, transfer), &[], &[]),
            BulkRecord::Cleared { transfer } => Emitted::new(short(17, 0, 0, transfer), &[], &[]),
            BulkRecord::Cancel { transfer } => Emitted::new(short(18, 0, 0, transfer), &[], &[]),
            BulkRecord::Sent { grant, questions } => Emitted::new(short(19, 0, questions, grant), &[], &[]),
        }
    }

    /// The body of a BULK_MISSING.
    pub fn missing_body(ranges: &[Range<u32>]) -> Vec<u8> {
        ranges.iter().flat_map(|range| [range.start.to_be_bytes(), range.end.to_be_bytes()]).flatten().collect()
    }

    /// Reads one range of the body of a BULK_MISSING.
    ///
    /// # Errors
    /// When it isn't there, or is empty.
    pub fn parse_range(reader: &mut Reader<'_, '_>) -> Result<Range<u32>, WireError> {
        let raw: [U32; 2] = zerocopy::transmute!(take::<8>(reader)?);
        let [start, end] = raw.map(|number| number.get());
        if start < end { Ok(start..end) } else { Err(WireError::Inconsistent("range of segments")) }
    }
}
