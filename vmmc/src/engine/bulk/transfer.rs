//! How a long send is cut into transfers, and a transfer into segments.
//!
//! ```text
//!   send       |        transfer 7         |        transfer 8         |
//!   transfer   | rest | segment 0 | segment 1 |  ...  | segment n - 1  |
//! ```
//!
//! All segments of a transfer are of one length, so that any of its packets may land in any of its places. What is left over stands in front and travels
//! with the request. It is never less than [`LEAST_REST`] bytes: where a NIC leaves its headers in front of what has landed, those of the lowest segment fall on it, and not on
//! what somebody else has there.

use crate::link::Link;
use crate::port::bulk::LEAST_ENTRIES;
use crate::wire::record::BULK_ASK_LEN;
use crate::wire::{BULK_HEADER_LEN, HEADER_LEN};

/// The fewest bytes that travel with the request.
pub(super) const LEAST_REST: usize = 128;

/// Segments begin at multiples of this from each other, where what is left over remains short.
const ALIGN: usize = 16;

/// Bytes that one entry of the fill ring has room for.
pub(super) const ENTRY: usize = 3840;

/// The most entries of the fill ring that one transfer takes.
pub(super) const MOST_ENTRIES: usize = LEAST_ENTRIES;

/// The longest transfer, bytes: a long send takes several, of which some are under way while others are asked for.
const LONGEST: usize = 1 << 20;

/// The longest segment, bytes: 15 pages to send from, and exactly 16 entries of the fill ring to land in. A packet has no more fragments than 17.
pub(super) const LONGEST_SEGMENT: usize = 15 * 4096;

/// What a link's packets hold, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packets {
    /// Of the bulk lane: of payload.
    pub payload: usize,
    /// Those of records.
    pub room: usize,
    /// Those of the bulk lane have so many bytes of headers, and together with these fill entries exactly: a NIC writes them into memory by itself, and could write as much as there is
    /// room for.
    pub whole: Option<usize>,
}

impl Packets {
    /// Of a link, by a port that sends no more than `most` bytes of payload in one.
    pub(super) fn of(link: &Link, most: usize) -> Packets {
        let room = link.body_room();
        let payload = (room + HEADER_LEN).saturating_sub(BULK_HEADER_LEN).min(most);
        let headers = link.bulk_encap().len() + BULK_HEADER_LEN;
        Packets { payload, room, whole: link.options().whole_buffers.then_some(headers) }
    }

    /// The shortest send that makes a transfer, bytes; `None` where packets are too short for any.
    pub(super) fn least(&self) -> Option<usize> {
        match self.whole {
            None => Some(LEAST_REST + 1),
            Some(headers) => {
                let least = LEAST_REST + ENTRY - headers;
                Parts::of(least, *self).map(|_| least)
            }
        }
    }
}

/// A transfer's parts, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// In front.
    pub rest: usize,
    /// Of each segment.
    pub segment: usize,
    /// How many segments.
    pub segments: usize,
}

impl Parts {
    /// Of the next transfer of a send that has `left` bytes. `None` when it is too short.
    pub(super) fn of(left: usize, packets: Packets) -> Option<Parts> {
        let Packets { payload, room, whole } = packets;
        let longest = payload.min(LONGEST_SEGMENT);
        if let Some(headers) = whole {
            let most = (longest + headers) / ENTRY;
            return (1..=most).rev().find_map(|entries| Parts::whole(left, entries, headers, room));
        }
        let most = LONGEST.min(MOST_ENTRIES / longest.max(1).div_ceil(ENTRY) * longest);
        // Several of one length rather than a long one and a short one.
        let length = left.div_ceil(left.div_ceil(most).max(1));
        let cut = length.checked_sub(LEAST_REST)?;
        let segments = cut.div_ceil(longest.max(1));
        let exact = cut.checked_div(segments)?;
        let aligned = exact / ALIGN * ALIGN;
        let fits = |segment: usize| length - segment * segments + BULK_ASK_LEN <= room;
        let segment = if fits(aligned) && aligned > 0 { aligned } else { exact };
        let parts = Parts { rest: length - segment * segments, segment, segments };
        (segment > 0 && fits(segment)).then_some(parts)
    }

    /// The same with packets of which each fills so many entries. What is left over in the last transfer may be as long as a segment.
    fn whole(left: usize, entries: usize, headers: usize, room: usize) -> Option<Parts> {
        let segment = entries * ENTRY - headers;
        if LEAST_REST + segment + BULK_ASK_LEN > room {
            return None;
        }
        let fit = left.checked_sub(LEAST_REST)? / segment;
        // The last transfer has up to two segments more than others: what comes after these mustn't be too short.
        let most = ((LONGEST - LEAST_REST) / segment).min(MOST_ENTRIES / entries) - 2;
        let (rest, segments) = if fit > most + 1 { (LEAST_REST, most) } else { (left - fit * segment, fit) };
        (segments > 0).then_some(Parts { rest, segment, segments })
    }

    /// All of it.
    pub(super) fn len(&self) -> usize {
        self.rest + self.segment * self.segments
    }
}

/// How many entries of the fill ring places for so many packets take. Where headers land in front of them, packets fill entries exactly, and are longer than their payload by less than one.
pub(super) fn entries(segment: u32, segments: u32) -> u64 {
    u64::from(segment).div_ceil(ENTRY as u64) * u64::from(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mebibyte_has_few_bytes_left_over() {
        for (mtu, segments) in [(1500, 726), (9000, 118), (65535, 18)] {
            let packets = Packets { payload: mtu - 28 - 24, room: mtu - 28 - 32, whole: None };
            let parts = Parts::of(1 << 20, packets).unwrap();
            assert_eq!(parts.len(), 1 << 20);
            assert!(parts.segments <= segments + 10 && parts.rest <= 1100, "{mtu}: {parts:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(left in 0usize..1 << 24, mtu in 1280usize..=65535) {
            let (payload, room) = (mtu - 48 - 24, mtu - 48 - 32);
            let packets = Packets { payload, room, whole: None };
            if let Some(parts) = Parts::of(left, packets) {
                prop_assert!(parts.len() <= left && parts.rest >= LEAST_REST && parts.rest + BULK_ASK_LEN <= room);
                prop_assert!(parts.segment <= payload && parts.segments >= 1);
                prop_assert!(entries(parts.segment as u32, parts.segments as u32) <= MOST_ENTRIES as u64);
                // The next one isn't too short, either.
                prop_assert!(parts.len() == left || Parts::of(left - parts.len(), packets).is_some());
            } else {
                prop_assert!(left <= LEAST_REST);
            }
        }

        #[test]
        fn packets_fill_buffers_where_they_have_to(left in 0usize..1 << 24, mtu in 1280usize..=65535, headers in 66usize..=90) {
            let packets = Packets { payload: mtu - 48 - 24, room: mtu - 48 - 32, whole: Some(headers) };
            if let Some(parts) = Parts::of(left, packets) {
                prop_assert_eq!((parts.segment + headers) % ENTRY, 0);
                prop_assert!(parts.len() <= left && parts.rest >= LEAST_REST && parts.rest + BULK_ASK_LEN <= packets.room);
                prop_assert!(parts.segment <= packets.payload && parts.segments >= 1 && parts.len() <= LONGEST);
                let entries = (parts.segment + headers) / ENTRY * parts.segments;
                prop_assert!(entries <= MOST_ENTRIES, "{} entries", entries);
                prop_assert!(parts.len() == left || Parts::of(left - parts.len(), packets).is_some());
            } else {
                prop_assert!(left < LEAST_REST + ENTRY || packets.payload < ENTRY + LEAST_REST);
            }
        }
    }
}
