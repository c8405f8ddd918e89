//! The pieces in which files travel: buffers of the node's arena. Given away to be sent or filled, they go by the bulk lane where there is one; where
//! there is none they are copied into packets and out of them, as other memory would be.

use std::time::Duration;

use vmmc::memory::Arena;
use vmmc::{Buffer, Error, Import, Node};

/// Length of a piece where the bulk lane takes it, bytes: that of a transfer.
pub(crate) const BY_LANE: usize = 1 << 20;
/// Where packets do: small enough to be in the cache still when it is copied (puts are a quarter faster than with 1 MiB).
pub(crate) const IN_PACKETS: usize = 128 << 10;
/// How many there are where the bulk lane takes them: enough for some to be under way while others are read or written.
pub(crate) const COUNT_BY_LANE: usize = 8;
/// What the arena has beside: for what else is exported, and because packets don't land at its very end.
const BESIDE: usize = 1 << 20;

/// How long the disk is waited for before the node is let work, so that the peer knows that it lives.
pub(crate) const DISK_TIME: Duration = Duration::from_millis(20);

/// How large an arena has to be for them, bytes.
pub(crate) fn arena() -> u64 {
    (BESIDE + COUNT_BY_LANE * Arena::footprint(BY_LANE)) as u64
}

/// Whether pieces go to `remote`, or come from there, by the bulk lane, as far as can be known before. Of long pieces a table of thresholds may say that they
/// aren't long enough.
pub(crate) fn go_by_lane(remote: &Import) -> bool {
    remote.direct_from().is_some_and(|from| from <= BY_LANE)
}

/// Buffers to send or to fetch from there, all of one length. An [`arena`] has room for [`COUNT_BY_LANE`] long ones, and for more that aren't.
pub(crate) fn buffers(node: &Node, by_lane: bool, count: usize) -> Result<Vec<Buffer>, Error> {
    let length = if by_lane { BY_LANE } else { IN_PACKETS };
    (0..count).map(|_| node.alloc(length)).collect()
}
