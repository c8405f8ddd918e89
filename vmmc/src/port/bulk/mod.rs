//! The bulk lane's wire: packets that are gathered from memory where it lies, and land where they belong.
//!
//! A [`BulkPort`] is one AF_XDP socket whose packet memory is the arena itself. What it sends is a header and a piece of the arena. What it receives it
//! receives into *places*, which are posted beforehand, in order, and used in that order; a gate lets in only packets that a place is there for, and keeps
//! account of what their headers said, because the headers themselves don't survive:
//!
//! ```text
//!   posted (run 1)      |  place 3  |  place 2  |  place 1  |  place 0  |      from the highest address down
//!   packets let in      segment 3, segment 1 (2 was lost), segment 0
//!   landings            3 in place 3, 1 in place 2, 0 in place 1
//! ```
//!
//! Which places to post, whose packets to let in, and what to do about a segment in another's place is for [`crate::bulk`] and the engine to decide.

mod error;
mod gate;
mod lane;
mod layer;
mod mode;
mod places;
mod rings;
pub mod sim;
mod slots;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

pub use self::error::BulkError;
pub use self::lane::{BulkConfig, BulkLane};
pub use self::layer::BulkLayer;
pub use self::mode::{WhyCopy, ZeroCopy};
pub(crate) use self::slots::OWN;
use crate::memory::{DirectSource, DirectTarget};
use crate::port::BulkRings;
use crate::wire::BULK_HEADER_LEN;
use crate::wire::frame::Encap;

/// The most bytes of payload that a packet can have, whatever the port, its MTU aside: 65535 bytes less what stands before.
pub const MAX_SEGMENT: usize = 65535 - 40 - 8 - BULK_HEADER_LEN;

/// Entries of the fill ring that every bulk port has at the least: no grant takes more.
pub const LEAST_ENTRIES: usize = 1024;

/// Which packets are let into the places of a run: those of one grant, from one peer, of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Our token of the link to the peer.
    pub token: u64,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The number of the grant.
    pub grant: u32,
    /// Bytes of payload of each packet.
    pub segment: u32,
}

/// A packet that has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// Which place it has used: the number that [`BulkPort::post`] gave it. Landings come in the order of these numbers, and none is left out but what
    /// [`BulkPort::reopen`] takes back.
    pub place: u64,
    /// The grant, as its header said.
    pub grant: u32,
    /// The segment, as its header said. Anything may stand there.
    pub segment: u32,
    /// The checksum, as its header said; `None` if it said that there is none.
    pub checksum: Option<u32>,
}

/// What a bulk port has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkCounters {
    /// Packets sent, again or not.
    pub tx_packets: u64,
    /// Their bytes of payload.
    pub tx_bytes: u64,
    /// Packets that have landed.
    pub rx_packets: u64,
    /// Their bytes of payload.
    pub rx_bytes: u64,
    /// System calls that woke the kernel to send.
    pub wakeups: u64,
    /// Places posted.
    pub places: u64,
    /// Times the socket was closed and opened anew, to take back what was posted.
    pub reopened: u64,
}

/// Sends packets from memory where it lies, and has others land where they belong.
///
/// Where nothing is posted there is [room](BulkPort::room) for places of [`LEAST_ENTRIES`] pieces of 3840 bytes, or of more: what is asked for is granted once there is as much room as it takes.
pub trait BulkPort: Send {
    /// Why the kernel copies each packet; `None` where a NIC reads and writes the arena by itself.
    ///
    /// It changes at most when the port is [reopened](BulkPort::reopen).
    fn why_copied(&self) -> Option<String>;

    /// How many bytes in front of each place may be written over when a packet lands there, by its headers and what a driver keeps in front of them: 0 where they are taken off before.
    ///
    /// It changes at most when the port is [reopened](BulkPort::reopen).
    fn overlap(&self) -> usize;

    /// The most bytes of payload of a packet that can be sent or posted, its MTU aside: [`MAX_SEGMENT`] or less.
    ///
    /// It changes at most when the port is [reopened](BulkPort::reopen).
    fn max_segment(&self) -> usize;

    /// How many packets of so many bytes of payload may be posted now.
    fn room(&self, segment: usize) -> usize;

    /// Posts a place for a packet of `run`: bytes `at..at + run.segment` of `target`. Returns its number, which is 1 more than that of the place posted before; `None` when there is no room,
    /// the segment is shorter than 14 bytes or longer than [`BulkPort::max_segment`], or the kernel couldn't write there: the target is of another arena, or too near its
    /// end (within 4096 bytes); or, where headers [stay](BulkPort::overlap), they and the payload don't fill buffers of 3840 bytes exactly, and a longer packet than was asked for would be written
    /// past the place. Nothing is let in until [`BulkPort::admit`].
    fn post(&mut self, run: &Run, target: &DirectTarget, at: usize) -> Option<u64>;

    /// Lets packets into all places that are posted.
    fn admit(&mut self);

    /// Moves what has landed to the end of `batch`. Never blocks.
    ///
    /// # Errors
    /// When the interface is gone.
    fn receive(&mut self, batch: &mut Vec<Landing>) -> io::Result<()>;

    /// Whether every packet that was let in has landed, as far as the kernel knows: none was dropped for want of a place or of room in a ring. Costs a
    /// system call. After a false, no landing since the last true can be trusted, and the port is to be [reopened](BulkPort::reopen).
    fn is_consistent(&mut self) -> bool;

    /// What has landed isn't what was sent, though all was as expected: from now on the port isn't [consistent](BulkPort::is_consistent), until it is reopened.
    fn distrust(&mut self);

    /// Queues a packet: `encap` and `header`, then bytes `at..at + len` of `source`. Returns false when it can't be queued now, the source is of another arena, or it isn't
    /// [all there](DirectSource::runs).
    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool;

    /// Whether this is of the arena that the port sends from, and not of another.
    fn reaches(&self, source: &DirectSource) -> bool;

    /// How many packets more could be queued now, of so many bytes of payload.
    fn tx_room(&self, segment: usize) -> usize;

    /// Sends what was queued, and lets go of sources that the kernel has done with.
    ///
    /// # Errors
    /// When the interface is down or gone.
    fn flush(&mut self) -> io::Result<()>;

    /// Takes back all that is posted: when this returns, the kernel writes nowhere any more, and all targets are let go of; so are all sources, whether sent or not. What was let in and
    /// hasn't been [received](BulkPort::receive) is lost.
    ///
    /// Place numbers go on behind the last packet that was let in. So of what was posted before no landing comes any more, whatever its number: the next
    /// [`BulkPort::post`] returns a number above those of all landings so far, and maybe one that was given to a place that is now gone. Blocks for some 30 milliseconds, and
    /// longer with a large arena or on a busy machine; for little more than a second at the most.
    ///
    /// # Errors
    /// When the lane couldn't be opened again. Then nothing can be posted or sent until another call succeeds. Nothing is let in, but the targets stay with the port
    /// ([`DirectTarget::into_buffer`] fails), as it isn't certain that the kernel has let go of them. Sources are let go of even then: the kernel doesn't write there.
    fn reopen(&mut self) -> io::Result<()>;

    /// What to sleep on: readable when a packet has landed. `None` when there is nothing to sleep on.
    fn readable(&self) -> Option<BorrowedFd<'_>>;

    /// What it has counted.
    fn counters(&self) -> BulkCounters;

    /// What is in its rings now.
    fn rings(&self) -> BulkRings;

    /// Whether what has been [received](BulkPort::receive) is to be [shown](BulkPort::show), because somebody captures. A port that nobody stands before doesn't want that.
    fn is_watched(&self) -> bool {
        false
    }

    /// Shows a packet that has been received: its headers, as they must have been, and its payload, bytes `at..at + len` of `target`.
    #[allow(unused_variables)] // it shows them to nobody
    fn show(&mut self, headers: &[u8], target: &DirectTarget, at: usize, len: usize) {}
}
