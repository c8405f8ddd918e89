//! Who moves the lane's packets: the NIC itself, or the kernel by copying them; and why the kernel does.

use std::io;

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
