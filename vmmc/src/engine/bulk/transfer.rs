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

use crate::port::bulk::LEAST_ENTRIES;
use crate::wire::record::BULK_ASK_LEN;

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
    /// Of the next transfer of a send that has `left` bytes, with packets of the bulk lane that hold `payload` bytes, and packets of records that hold `room`. `None` when it is too short.
    pub(super) fn of(left: usize, payload: usize, room: usize) -> Option<Parts> {
        let longest = payload.min(LONGEST_SEGMENT);
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

    /// All of it.
    pub(super) fn len(&self) -> usize {
        self.rest + self.segment * self.segments
    }
}

/// How many entries of the fill ring places for so many packets take, where headers of so many bytes land in front of them.
pub(super) fn entries(segment: u32, overlap: usize, segments: u32) -> u64 {
    (u64::from(segment) + overlap as u64).div_ceil(ENTRY as u64) * u64::from(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mebibyte_has_few_bytes_left_over() {
        for (mtu, segments) in [(1500, 726), (9000, 118), (65535, 18)] {
            let parts = Parts::of(1 << 20, mtu - 28 - 24, mtu - 28 - 32).unwrap();
            assert_eq!(parts.len(), 1 << 20);
            assert!(parts.segments <= segments + 10 && parts.rest <= 1100, "{mtu}: {parts:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(left in 0usize..1 << 24, mtu in 1280usize..=65535) {
            let (payload, room) = (mtu - 48 - 24, mtu - 48 - 32);
            if let Some(parts) = Parts::of(left, payload, room) {
                prop_assert!(parts.len() <= left && parts.rest >= LEAST_REST && parts.rest + BULK_ASK_LEN <= room);
                prop_assert!(parts.segment <= payload && parts.segments >= 1);
                prop_assert!(entries(parts.segment as u32, 0, parts.segments as u32) <= MOST_ENTRIES as u64);
                // The next one isn't too short, either.
                prop_assert!(parts.len() == left || Parts::of(left - parts.len(), payload, room).is_some());
            } else {
                prop_assert!(left <= LEAST_REST);
            }
        }
    }
}
