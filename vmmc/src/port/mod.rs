//! The wire itself: a [`Port`] sends and receives whole Ethernet frames.
//!
//! There are two. [`eager::EagerPort`] is an AF_XDP socket on one queue of an interface; [`sim`] is a network in
//! memory that does what it is told, for tests. A [`fault::FaultPort`] wraps either and makes it lossy, on demand. A [`tap::Tap`] shows
//! what goes through one. [`Lanes`] puts a [bulk lane](bulk) beside one.
//!
//! A port owns its packet memory, in frames of a few KiB. Whoever sends takes a packet with [`Port::alloc`], appends
//! bytes, submits it, and keeps the [`TxPacket`] until it will not want to send it again: that is what makes
//! retransmission free of copies. Submitting only queues; [`Port::flush`] wakes the kernel once for a whole batch.
//! Whoever receives gets [`RxPacket`]s and gives each back with [`Port::recycle`] when it is done with its bytes.
//! Both are handles that only the port can make and that can't be copied, so that no packet is given back twice.
//! A port that is handed a packet of another one panics. Dropping one without giving it back leaks its frames until the port closes.

pub mod bulk;
pub mod eager;
pub mod fault;
mod lanes;
mod layer;
mod rings;
pub mod sim;
pub mod tap;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use self::bulk::BulkPort;
pub use self::lanes::Lanes;
pub use self::layer::Layer;
pub use self::rings::{BulkRings, ReceiveRings, Rings, SendRings};
use crate::wire::Fragments;

/// So many bytes of a packet lie in its first frame, whatever the port.
pub const FIRST_FRAME: usize = 3072;

/// Descriptors to sleep on.
pub type Descriptors<'a> = SmallVec<[BorrowedFd<'a>; 2]>;

/// Which port a packet is of: none but that may be handed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PortId(u32);

impl PortId {
    fn new() -> PortId {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        PortId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// # Panics
    /// When the packet is of another port: its numbers would mean other frames here.
    fn check(self, of: PortId) {
        assert_eq!(self, of, "a packet was handed to a port that it isn't of");
    }
}

/// A packet to send: bytes that were appended, in frames of the port.
#[derive(Debug)]
pub struct TxPacket {
    port: PortId,
    first: u32,
    last: u32,
    len: u32,
}

impl TxPacket {
    /// Bytes appended so far.
    #[allow(clippy::len_without_is_empty)] // its emptiness is of no interest
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// A packet that arrived.
#[derive(Debug)]
pub struct RxPacket {
    port: PortId,
    first: u32,
    len: u32,
}

impl RxPacket {
    /// Length of the Ethernet frame, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// What a port has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// Packets queued for sending, retransmissions included.
    pub tx_packets: u64,
    /// Their bytes, Ethernet headers included.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, Ethernet headers included.
    pub rx_bytes: u64,
    /// System calls that woke the kernel to send.
    pub wakeups: u64,
    /// Packets the kernel dropped because no frame was waiting for them.
    pub rx_no_frame: u64,
    /// Packets the kernel dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times no packet could be allocated.
    pub tx_exhausted: u64,
    /// Faults made on demand in what was sent: none unless the port is a [`fault::FaultPort`]. Packets these have dropped aren't
    /// in `tx_packets`.
    pub tx_faults: fault::FaultCounters,
    /// Faults made on demand in what was received. Packets these have dropped are in `rx_packets`.
    pub rx_faults: fault::FaultCounters,
}

/// Sends and receives Ethernet frames.
pub trait Port: Send {
    /// The longest Ethernet frame it carries, VLAN tag included, bytes.
    fn max_frame(&self) -> usize;

    /// How many packets of full length may lie in its receive memory at once.
    fn rx_capacity(&self) -> usize;

    /// For how many of these there is memory now; a node that keeps packets watches it.
    fn rx_headroom(&self) -> usize;

    /// How many packets of full length could be allocated now, at least.
    fn tx_headroom(&self) -> usize;

    /// A packet with room for [`FIRST_FRAME`] bytes, or the longest frame if that is less. It begins with `space` bytes, at most 512, to be filled in by [`Port::head`] before it is submitted: they
    /// hold whatever was there. `None` when all frames are in use.
    fn alloc(&mut self, space: usize) -> Option<TxPacket>;

    /// Appends bytes. Returns how many: fewer when frames ran out or the packet is at its longest.
    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize;

    /// The packet's first frame, to complete its headers; `None` while the kernel is still reading it.
    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]>;

    /// The packet's bytes; `None` while the kernel is still reading them.
    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>>;

    /// Queues the packet. Returns false when it can't be queued now (the ring is full, or the packet is still in it).
    fn submit(&mut self, packet: &TxPacket) -> bool;

    /// Gives a packet back. Its frames are used again once the kernel is done with them.
    fn free(&mut self, packet: TxPacket);

    /// Sends what was queued: one wakeup for all of it.
    ///
    /// # Errors
    /// When the interface is down or gone.
    fn flush(&mut self) -> io::Result<()>;

    /// Moves what has arrived to the end of `batch`, at most 64 frames of each queue. Never blocks.
    ///
    /// # Errors
    /// When the interface is gone.
    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()>;

    /// The bytes of a packet that arrived.
    fn fragments(&self, packet: &RxPacket) -> Fragments<'_>;

    /// Gives back a packet that arrived.
    fn recycle(&mut self, packet: RxPacket);

    /// What to sleep on: one of them is readable when a packet has arrived. Empty when there is nothing to sleep on.
    fn readable(&self) -> Descriptors<'_>;

    /// What it has counted.
    fn counters(&self) -> PortCounters;

    /// Where its frames are now. A port that doesn't know says nothing.
    fn rings(&mut self) -> Rings {
        Rings::default()
    }

    /// Its bulk lane, if it has one.
    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        None
    }

    /// The same, to look at. It has one whenever [`Port::bulk`] has.
    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        None
    }
}

/// How long [`wait`] may last at most.
const FOREVER: Duration = Duration::from_secs(3600);

/// Sleeps until one of `fds` is readable or `timeout` has passed; `None` waits for an hour.
///
/// # Errors
/// When poll(2) fails other than by a signal.
pub(crate) fn wait(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled: SmallVec<[PollFd<'_>; 2]> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = timeout.unwrap_or(FOREVER).min(FOREVER);
    let timespec = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut polled, Some(&timespec)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
