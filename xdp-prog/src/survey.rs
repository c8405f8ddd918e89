//! Looking at an interface without touching it: who has its XDP hook, and what its driver can do.

use std::{fs, os::fd::AsFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Holder, SteeringError, error::version, steering::attached};

/// The oldest kernel that says what drivers can do (the generic netlink family `netdev`).
const TELLS_FEATURES: (u32, u32) = (6, 3);

// linux/netdev.h
const BASIC: u64 = 1;
const REDIRECT: u64 = 1 << 1;
const XSK_ZEROCOPY: u64 = 1 << 3;
const RX_SG: u64 = 1 << 5;

/// What an interface's driver says it can do, as it is configured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Runs XDP programs itself and redirects: native mode.
    pub native: bool,
    /// Gives XDP programs packets in several buffers.
    pub multi_buffer: bool,
    /// Has AF_XDP sockets without copying.
    pub zero_copy: bool,
    /// How many buffers a packet of such a socket may have: more than 1 is multi-buffer.
    pub zero_copy_segments: u32,
}

/// An interface, seen from the XDP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The XDP program that is attached to it, if any. Its name and its processes are known to the privileged only.
    pub holder: Option<Holder>,
    /// What its driver can do; `None` where the kernel doesn't tell (before 6.3).
    pub features: Option<Features>,
}

impl Survey {
    /// Looks at the interface with that name and index in the network namespace of the calling thread. Needs no privilege,
    /// changes nothing, doesn't block.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Lookup`].
    pub fn of(interface: &str, ifindex: u32) -> Result<Self, SteeringError> {
        let failed = |reason| SteeringError::Lookup { interface: interface.to_owned(), reason };
        let index = i32::try_from(ifindex).map_err(|error| failed(error.to_string()))?;
        let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let any = any.map_err(|error| failed(error.to_string()))?;
        let found = attached(any.as_fd(), index).map_err(|error| failed(format!("{error:#}")))?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let tells = version(&release).is_none_or(|version| version >= TELLS_FEATURES);
        let has = |feature| found.feature_flags & feature == feature;
        let features = Features {
            native: has(BASIC | REDIRECT),
            multi_buffer: has(RX_SG),
            zero_copy: has(XSK_ZEROCOPY),
            zero_copy_segments: found.xdp_zc_max_segs,
        };
        Ok(Self { holder: Holder::find(interface, ifindex, &found), features: tells.then_some(features) })
    }
}
