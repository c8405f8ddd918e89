//! Who moves the lane's packets: the NIC itself, or the kernel by copying them; and why the kernel does.

use std::io;
use std::time::{Duration, Instant};

/// Whether a lane is to be in zero-copy mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// No.
    Never,
    /// If it can be, and as long as nothing goes wrong there that doesn't in copy mode.
    WhenPossible,
    /// If it can be, and then for good.
    Always,
}

/// Why a lane isn't in zero-copy mode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyCopy {
    /// It wasn't to be.
    #[error("zero-copy wasn't asked for")]
    NotAsked,
    /// Nothing is known of the driver.
    #[error(
        "the driver of {interface} doesn't say whether it has XDP_ZEROCOPY with multi-buffer (from Linux 6.6 on drivers do)"
    )]
    Unknown {
        /// The interface.
        interface: String,
    },
    /// The driver has no zero-copy.
    #[error("the driver of {interface} has no XDP_ZEROCOPY")]
    NoZeroCopy {
        /// The interface.
        interface: String,
    },
    /// The driver has zero-copy for shorter packets only.
    #[error(
        "with XDP_ZEROCOPY the driver of {interface} takes packets of {buffers} buffer(s) at the most (xdp-zc-max-segs), and the lane's have 3 \
         and more"
    )]
    FewBuffers {
        /// The interface.
        interface: String,
        /// Buffers of the longest packet.
        buffers: usize,
    },
    /// The arena is in ordinary pages.
    #[error(
        "the arena is in pages of {page} bytes, of which no two are certainly next to each other in the NIC's eyes, and not in huge pages: one \
         of 2 MiB or more gets them where they are free (`sysctl vm.nr_hugepages={needed}`)"
    )]
    OrdinaryPages {
        /// Bytes of a page.
        page: usize,
        /// So many huge pages of 2 MiB would be enough, if none were there.
        needed: usize,
    },
    /// The driver or the kernel said no.
    #[error("binding with XDP_ZEROCOPY and XDP_USE_SG was refused on {interface}: {source}")]
    Refused {
        /// The interface.
        interface: String,
        /// What it said.
        source: io::Error,
    },
    /// It was, and packets didn't land where they should have.
    #[error(
        "it was given up on {interface}, as {trouble}: a stray packet may have come to the lane's queue (which filters and the hash should keep free of all \
         others), the driver may not use places in the order posted, or the NIC may see the arena in pieces (an IOMMU: boot with iommu=pt)"
    )]
    Trouble {
        /// The interface.
        interface: String,
        /// What has happened.
        trouble: &'static str,
    },
}

/// Places that are posted and not used for so long are a sign of trouble: whoever has asked for them sends at once, or dies.
const STUCK: Duration = Duration::from_millis(200);

/// Trouble is borne if, since the last, all that was posted was used so often.
const PROVEN: u32 = 16;

/// How zero-copy mode goes. What may go wrong there, and doesn't in copy mode, costs time and no more than that; so as long as it is outweighed by what goes well, the mode is kept.
#[derive(Debug)]
pub(super) struct Standing {
    /// How often all that was posted was used, since it was opened or in trouble.
    emptied: u32,
    /// When something was posted, or has landed.
    active: Instant,
}

impl Standing {
    pub(super) fn new(now: Instant) -> Standing {
        Standing { emptied: 0, active: now }
    }

    /// Places were posted.
    pub(super) fn posted(&mut self, now: Instant) {
        self.active = now;
    }

    /// Something has landed. `all`: nothing is posted any more.
    pub(super) fn landed(&mut self, now: Instant, all: bool) {
        self.active = now;
        self.emptied = self.emptied.saturating_add(all.into());
    }

    /// What has gone wrong, and isn't outweighed, when the lane is to be opened anew: its books may be inconsistent, or places wait that are posted.
    pub(super) fn trouble(&mut self, now: Instant, consistent: bool, waiting: bool) -> Option<&'static str> {
        let trouble = if !consistent {
            "packets didn't land where they should have, or not as they were sent"
        } else if waiting && now - self.active >= STUCK {
            "packets that were to come didn't land"
        } else {
            return None;
        };
        let is_borne = self.emptied >= PROVEN;
        self.emptied = 0;
        (!is_borne).then_some(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_borne_if_enough_went_well_before() {
        let now = Instant::now();
        for (went_well, borne) in [(0, false), (PROVEN - 1, false), (PROVEN, true)] {
            let mut standing = Standing::new(now);
            // What lands while more is posted shows nothing: a driver may keep the last places to itself.
            (0..100).for_each(|_| standing.landed(now, false));
            (0..went_well).for_each(|_| standing.landed(now, true));
            assert_eq!(standing.trouble(now, false, true).is_none(), borne, "{went_well}");
            assert!(standing.trouble(now, false, false).is_some(), "it has to go well again");
        }
    }

    #[test]
    fn places_that_nobody_uses_are_trouble() {
        let (begin, moment) = (Instant::now(), Duration::from_millis(1));
        let mut standing = Standing::new(begin);
        standing.posted(begin + STUCK);
        assert_eq!(standing.trouble(begin + 2 * STUCK - moment, true, true), None);
        standing.landed(begin + 2 * STUCK, false);
        assert_eq!(standing.trouble(begin + 3 * STUCK - moment, true, true), None);
        assert_eq!(standing.trouble(begin + 4 * STUCK, true, false), None, "none is posted");
        assert!(standing.trouble(begin + 3 * STUCK, true, true).is_some());
    }
}
