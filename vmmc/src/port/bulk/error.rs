//! Why a bulk lane can't be opened, and what to do about it.

use std::io;

use rustix::io::Errno;
use xdp_prog::SteeringError;

use crate::memory::MemoryError;

/// Why a bulk lane can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The queue it would have is the eager lane's.
    #[error("interface {interface} has 1 queue; the bulk lane needs 2: ethtool -L {interface} combined 2")]
    OneQueue {
        /// The interface.
        interface: String,
    },
    /// The queue doesn't exist.
    #[error(
        "the bulk lane can't have queue {queue} of {interface}: there is no such queue (`ethtool -l {interface}` shows how many \
         there are), or this kernel has no AF_XDP multi-buffer, which needs Linux 6.6"
    )]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// There is no such interface where the lane is opened.
    #[error("there is no interface {interface} in this network namespace: `ip link` shows what there is")]
    NoInterface {
        /// The interface.
        interface: String,
    },
    /// The process may not create AF_XDP sockets.
    #[error(
        "opening the bulk lane's AF_XDP socket on {interface} needs CAP_NET_RAW, and this process hasn't got it: run it \
         as root"
    )]
    Privilege {
        /// The interface.
        interface: String,
    },
    /// Another socket has the queue.
    #[error(
        "queue {queue} of {interface}, which the bulk lane needs, is taken by another AF_XDP socket: stop the process that has it \
         (`ss --xdp` shows it), or a child of this one that still has a copy of its descriptors"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The process may not pin as much memory as the arena has.
    #[error(
        "the bulk lane on {interface} pins the arena, {} MiB, as locked memory, and this process may not have so much more: run it as \
         root, give it CAP_IPC_LOCK, raise its limit (ulimit -l, LimitMEMLOCK= in a systemd unit), or open the node with a smaller \
         arena",
        bytes >> 20
    )]
    LockedMemory {
        /// The interface.
        interface: String,
        /// Length of the arena, bytes.
        bytes: u64,
    },
    /// The driver or kernel has no multi-buffer.
    #[error(
        "the driver of {interface}, or this kernel, has no AF_XDP multi-buffer (Linux 6.6), without which there is no bulk lane: open the \
         node without"
    )]
    NoMultiBuffer {
        /// The interface.
        interface: String,
    },
    /// The arena has no room for the packets' headers.
    #[error("the bulk lane keeps its packets' headers in the arena: {0}")]
    Memory(#[from] MemoryError),
    /// The steering program's gate can't be mapped.
    #[error("mapping the steering program's gate failed: {0}")]
    Gate(#[source] io::Error),
    /// The steering program doesn't take the socket.
    #[error(transparent)]
    Register(#[from] SteeringError),
    /// Anything else.
    #[error("opening the bulk lane's AF_XDP socket on queue {queue} of {interface} failed: {source}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BulkError {
    /// What an error of creating or binding a socket means.
    pub(super) fn of_socket(interface: &str, queue: u32, source: io::Error) -> BulkError {
        let interface = interface.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::PERM) => BulkError::Privilege { interface },
            Some(Errno::BUSY) => BulkError::Busy { interface, queue },
            Some(Errno::NODEV) => BulkError::NoInterface { interface },
            Some(Errno::OPNOTSUPP) => BulkError::NoMultiBuffer { interface },
            Some(Errno::INVAL) => BulkError::NoQueue { interface, queue },
            _ => BulkError::Socket { interface, queue, source },
        }
    }
}
