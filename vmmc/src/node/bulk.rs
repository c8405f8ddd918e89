//! Whether a node has a bulk lane, and why not.

use std::sync::Arc;

use tracing::{info, warn};
use xdp_prog::{Mode, Steering};

use crate::error::Error;
use crate::memory::Arena;
use crate::port::bulk::{BulkConfig, BulkError, BulkLane, ZeroCopy};
use crate::route::{Interface, Routes};
use crate::wire::BULK_HEADER_LEN;
use crate::wire::frame::{MAX_ENCAP_LEN, VLAN_LEN};

/// Whether a node has a bulk lane: a second AF_XDP socket, on a queue of its own, by which long sends go from memory to memory without being copied in
/// user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bulk {
    /// Where it is possible; else one line in the log says why not, and all goes by the eager lane. In zero-copy mode (`XDP_ZEROCOPY`: the NIC itself reads and writes the arena) if that
    /// can be, and as long as all goes well there; otherwise the kernel copies each packet once.
    #[default]
    WhenPossible,
    /// None.
    Never,
    /// One, or an error. As for the mode, the same.
    Require,
    /// One in zero-copy mode, or an error: the arena is in huge pages, or the node doesn't open. It stays in that mode even if packets land where they shouldn't, which costs time.
    RequireZeroCopy,
}

/// The longest arena that is pinned without being asked for, bytes: a longer one may be meant to be filled only here and there.
const MOST_PINNED: usize = 1 << 30;

/// Why a node has no bulk lane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoBulkLane {
    /// It was told to have none.
    #[error("it was opened without one")]
    Never,
    /// It was told to use one queue.
    #[error("it was opened on one queue alone, and the bulk lane needs one of its own: open it without `queue`")]
    OneQueueChosen,
    /// There is no port after the node's.
    #[error("its UDP port is the last one there is, and the bulk lane needs the one after it: choose another port")]
    LastPort,
    /// The interface has one queue.
    #[error(
        "{interface} has {queues} queue(s) to send and receive on, and the bulk lane needs one of its own: `ethtool -L {interface} combined 2` (a veth pair: \
         `ip link add ... numtxqueues 2 numrxqueues 2`)"
    )]
    OneQueue {
        /// The interface.
        interface: String,
        /// How many it has.
        queues: u32,
    },
    /// Other packets arrive on the queue that it would have.
    #[error(
        "{interface} spreads packets over queue {queue}, which the bulk lane needs for itself: `ethtool -X {interface} equal {queue}`"
    )]
    Spread {
        /// The interface.
        interface: String,
        /// Its last queue.
        queue: u32,
    },
    /// The steering program runs in generic mode.
    #[error("the steering program runs in generic mode on {interface}: its driver has no XDP, or not at this MTU")]
    Generic {
        /// The interface.
        interface: String,
    },
    /// All of the arena would be pinned.
    #[error("all of its arena of {arena} bytes would be pinned in memory: choose a smaller one, or demand the lane")]
    Arena {
        /// Its length, bytes.
        arena: usize,
    },
    /// The NIC doesn't read and write memory by itself.
    #[error(
        "zero-copy was demanded for it, and in zero-copy mode it can't be: {reason}. Otherwise don't demand it, and the kernel copies each packet once"
    )]
    Copies {
        /// Why it doesn't.
        reason: String,
    },
    /// The socket couldn't be opened.
    #[error(transparent)]
    Socket(#[from] BulkError),
}

/// Opens the lane on the interface's last queue.
pub(super) fn open(
    bulk: Bulk,
    (interface, queue, udp_port): (&Interface, Option<u32>, u16),
    routes: &mut Routes,
    (arena, vlan): (&Arena, bool),
    steering: &Arc<Steering>,
) -> Result<Result<BulkLane, NoBulkLane>, Error> {
    match try_open(bulk, (interface, queue, udp_port), routes, (arena, vlan), steering) {
        Ok(lane) => Ok(Ok(lane)),
        Err(reason) if matches!(bulk, Bulk::Require | Bulk::RequireZeroCopy) => {
            Err(Error::NoBulkLane { interface: interface.name.clone(), reason: Box::new(reason) })
        }
        Err(reason) => {
            let interface = &interface.name;
            match &reason {
                NoBulkLane::Never => {}
                NoBulkLane::Socket(_) => {
                    warn!(target: "vmmc::bulk", interface, "no bulk lane, everything goes by the eager one: {reason}");
                }
                _ => info!(target: "vmmc::bulk", interface, "no bulk lane, everything goes by the eager one: {reason}"),
            }
            Ok(Err(reason))
        }
    }
}

fn try_open(
    bulk: Bulk,
    (interface, queue, udp_port): (&Interface, Option<u32>, u16),
    routes: &mut Routes,
    (arena, vlan): (&Arena, bool),
    steering: &Arc<Steering>,
) -> Result<BulkLane, NoBulkLane> {
    let name = || interface.name.clone();
    // The lane sends and receives on the last one of those that receive.
    let queues = if interface.tx_queues < interface.rx_queues { 1 } else { interface.rx_queues };
    let demanded = matches!(bulk, Bulk::Require | Bulk::RequireZeroCopy);
    match bulk {
        Bulk::Never => return Err(NoBulkLane::Never),
        _ if udp_port == u16::MAX => return Err(NoBulkLane::LastPort),
        _ if queue.is_some() => return Err(NoBulkLane::OneQueueChosen),
        _ if queues < 2 => return Err(NoBulkLane::OneQueue { interface: name(), queues }),
        _ if steering.mode() != Mode::Native => return Err(NoBulkLane::Generic { interface: name() }),
        _ if !demanded && arena.len() > MOST_PINNED => return Err(NoBulkLane::Arena { arena: arena.len() }),
        _ => {}
    }
    let queue = queues - 1;
    // A veth pair's packets arrive on the queue they were sent on. A NIC's hash spreads them.
    if interface.kind.as_deref() != Some("veth") && routes.spreads_over(interface, queue) {
        return Err(NoBulkLane::Spread { interface: name(), queue });
    }
    let headers = MAX_ENCAP_LEN - if vlan { 0 } else { VLAN_LEN } + BULK_HEADER_LEN;
    let zero_copy = if bulk == Bulk::RequireZeroCopy { ZeroCopy::Always } else { ZeroCopy::WhenPossible };
    let config = BulkConfig { interface: name(), queue, headers, zero_copy };
    let lane = BulkLane::open(&config, arena, steering.clone())?;
    match lane.why_copy().filter(|_| bulk == Bulk::RequireZeroCopy) {
        Some(why) => Err(NoBulkLane::Copies { reason: why.to_string() }),
        None => Ok(lane),
    }
}
