//! Opening AF_XDP sockets: the best way the driver knows, and errors that say what to do.

use std::time::{Duration, Instant};
use std::{io, thread};

use serde::{Deserialize, Serialize};
use tracing::debug;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem};

use super::ROOM;
use crate::wire::frame::{ETHERNET_LEN, VLAN_LEN};

/// How the socket shares packets with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The NIC reads and writes the UMEM itself. Otherwise the kernel copies each packet once.
    pub zero_copy: bool,
    /// Packets may be longer than a frame.
    pub multi_buffer: bool,
}

/// Why a lane can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The process may not create AF_XDP sockets.
    #[error(
        "opening an AF_XDP socket on {interface} needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and this process \
         hasn't got them: run it as root"
    )]
    Privilege {
        /// The interface.
        interface: String,
    },
    /// Another socket has the queue.
    #[error(
        "queue {queue} of {interface} is taken by another AF_XDP socket: stop the process that has it \
         (`ss --xdp` shows it), or choose another queue"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The queue doesn't exist.
    #[error("{interface} has no queue {queue}: `ethtool -l {interface}` shows how many there are")]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Packets of the interface's MTU need several frames, and kernel or driver can't do that.
    #[error(
        "{interface} has an MTU of {mtu}, and its driver or this kernel has no AF_XDP multi-buffer: \
         `ip link set {interface} mtu {most}`, or open the node with a smaller MTU"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU, bytes.
        mtu: usize,
        /// The largest that would do, bytes.
        most: usize,
    },
    /// No queue, or more than a lane has.
    #[error(
        "a node can have 1 to {} queues, and of {interface} it would have {wanted}: choose one with `queue`, or \
         `ethtool -L {interface} combined {}`",
        super::MAX_QUEUES,
        super::MAX_QUEUES
    )]
    Queues {
        /// The interface.
        interface: String,
        /// How many it would be.
        wanted: usize,
    },
    /// Anything else.
    #[error("opening an AF_XDP socket on queue {queue} of {interface} failed: {source}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The four rings of a socket.
pub(super) struct Rings {
    pub tx: TxQueue,
    pub rx: RxQueue,
    pub fill: FillQueue,
    pub comp: CompQueue,
}

/// How long a queue may be busy: the kernel releases that of a closed socket a little later, and later still while a process
/// that was being started at that moment holds a copy of its descriptor.
const BUSY_TIME: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Opens a socket on `queue`, waiting for a second at the most while the queue is still being released.
pub(super) fn bind(
    interface: &str,
    queue: u32,
    mtu: usize,
    umem: &Umem,
    as_before: Option<Binding>,
) -> Result<(Rings, Binding), PortError> {
    let start = Instant::now();
    loop {
        match bind_now(interface, queue, mtu, umem, as_before) {
            Err(PortError::Busy { .. }) if start.elapsed() < BUSY_TIME => thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
}

/// Opens a socket on `queue`. Tries the best way first: zero-copy, then copying; multi-buffer, and without where one frame
/// holds a packet. With `as_before` only that way is tried: all sockets of a lane are bound alike.
fn bind_now(
    interface: &str,
    queue: u32,
    mtu: usize,
    umem: &Umem,
    as_before: Option<Binding>,
) -> Result<(Rings, Binding), PortError> {
    let name: Interface = interface.parse().map_err(|e| invalid(interface, queue, &e))?;
    let fits = ETHERNET_LEN + VLAN_LEN + mtu <= ROOM;
    let mut refused = None;
    for (zero_copy, multi_buffer) in [(true, true), (true, false), (false, true), (false, false)] {
        let binding = Binding { zero_copy, multi_buffer };
        if (!multi_buffer && !fits) || as_before.is_some_and(|before| before != binding) {
            continue;
        }
        let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
        flags.set(BindFlags::XDP_USE_SG, multi_buffer);
        flags |= if zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
        // Rings of libxdp's default size, which is `RING`.
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build();
        // SAFETY: no program is loaded by libxdp (the flag above), so the double free that the contract warns of, when two
        // sockets share a queue, can't happen.
        match unsafe { Socket::new(config, umem, &name, queue) } {
            Ok((tx, rx, Some((fill, comp)))) => return Ok((Rings { tx, rx, fill, comp }, binding)),
            Ok(_) => refused = Some(io::Error::other("the socket came without fill and completion rings")),
            Err(error) => {
                let source = source_of(&error).unwrap_or_else(|| io::Error::other(error.to_string()));
                debug!(target: "vmmc::port", interface, queue, ?binding, %source, "bind refused");
                // These have nothing to do with the mode: another one won't help.
                if matches!(source.raw_os_error(), Some(EPERM | EBUSY | ENODEV)) {
                    return Err(classify(interface, queue, source));
                }
                refused = Some(source);
            }
        }
    }
    if !fits && refused.as_ref().and_then(io::Error::raw_os_error) == Some(EOPNOTSUPP) {
        let most = ROOM - ETHERNET_LEN - VLAN_LEN;
        return Err(PortError::MtuTooLarge { interface: interface.to_owned(), mtu, most });
    }
    Err(classify(interface, queue, refused.unwrap_or_else(|| io::Error::other("no way to bind"))))
}

const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const EOPNOTSUPP: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();

/// A setting that the library refuses.
pub(super) fn invalid(interface: &str, queue: u32, error: &dyn std::error::Error) -> PortError {
    let source = io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    PortError::Socket { interface: interface.to_owned(), queue, source }
}

/// The operating system's error at the bottom of one of xsk-rs.
pub(super) fn source_of(error: &dyn std::error::Error) -> Option<io::Error> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(code) = source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(io::Error::from_raw_os_error(code));
        }
        cause = source.source();
    }
    None
}

pub(super) fn classify(interface: &str, queue: u32, source: io::Error) -> PortError {
    let interface = interface.to_owned();
    match source.raw_os_error() {
        Some(EPERM) => PortError::Privilege { interface },
        Some(EBUSY) => PortError::Busy { interface, queue },
        Some(EINVAL) if queue > 0 => PortError::NoQueue { interface, queue },
        _ => PortError::Socket { interface, queue, source },
    }
}
