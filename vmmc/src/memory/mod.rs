//! Memory that others write and that is sent from: the arena, the regions and buffers it is made into, and paged buffers.
//!
//! The [`Arena`] is one shared mapping (a memfd), cut into [`Region`]s, which are shared, and [`Buffer`]s, which have one owner at a time and
//! are slices to it. The engine writes a region when a packet
//! for it arrives, and the application reads it whenever it likes, from any thread. Two such accesses may meet, so
//! none of them goes through a Rust reference: a region hands out no slices, it copies in and out by relaxed atomic
//! accesses; but for a part that is lent ([`Loan`]), which nobody writes for as long. A reader that meets a writer gets a mixture of old and new bytes, as over RDMA, never undefined behaviour;
//! the notification says when the bytes are there.
//!
//! [`PagedBuffer`]s aren't in the arena: they may be far larger, and their pages come into it when they are sent, as the [UTLB](utlb)
//! decides. [`Paging`] is what a node has for that.
//!
//! A child made by `fork` doesn't have the arena, nor any paged buffer: it would share memory that peers go on writing into, and buffers that
//! its parent takes back. Where they were it has nothing, and is ended by SIGSEGV if it looks there; the parent isn't concerned. So a child uses nothing of
//! a node, drops none of its handles, and ends by `_exit` or becomes another program by `exec`, as those of
//! [`std::process::Command`] do.
//!
//! All of the crate's `unsafe` that isn't about rings is in this module.
//!
//! ```
//! use vmmc::memory::Arena;
//!
//! let arena = Arena::new(1 << 20)?;
//! let region = arena.alloc(100)?;
//! region.write(10, b"hello").unwrap();
//! let mut word = [0; 5];
//! region.read(10, &mut word).unwrap();
//! assert_eq!(&word, b"hello");
//! assert!(region.write(98, b"hello").is_err());
//! # Ok::<(), vmmc::memory::MemoryError>(())
//! ```

mod alloc;
mod arena;
mod backing;
mod buffer;
mod copy;
mod direct;
#[cfg(all(test, not(miri)))]
mod fork_test;
mod lend;
mod paged;
mod piece;
mod region;
mod scoped;
mod system;
mod target;
pub mod utlb;

pub use alloc::GUARD;
pub use arena::Arena;
pub use backing::HugePages;
pub use buffer::Buffer;
pub use direct::{DirectSource, DirectTarget, Origin};
pub use lend::Loan;
pub use paged::{PagedBuffer, PagedHold, PagedMut, Paging, RemapTimes, Remapping};
pub use region::Region;
pub(crate) use region::Writer;
pub(crate) use scoped::{Posting, Unposted, with_scoped};
pub use system::available;
pub(crate) use target::Panicked;
pub use target::Target;

/// What can be wrong with a request for memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A length of zero, or one that no arena has.
    #[error("an arena or a buffer of {len} bytes can't be made: choose 1 to {} bytes", isize::MAX)]
    BadLength {
        /// The length asked for, bytes.
        len: usize,
    },
    /// An alignment that no buffer has.
    #[error(
        "a buffer can't be aligned to {align} bytes: choose a power of two up to {page}, the size of the arena's pages"
    )]
    BadAlignment {
        /// The alignment asked for, bytes.
        align: usize,
        /// Size of the arena's pages, bytes.
        page: usize,
    },
    /// The arena hasn't that much memory in one piece.
    #[error(
        "the arena of {arena} bytes has no room for {wanted} bytes (largest free piece: {largest}; beside each stand {GUARD} bytes of its own): \
         open the node with a larger arena, drop exports or buffers, or lower the UTLB's budget (Node::utlb)"
    )]
    Exhausted {
        /// Bytes asked for.
        wanted: usize,
        /// Length of the longest buffer that could be had, bytes.
        largest: usize,
        /// Length of the arena, bytes.
        arena: usize,
    },
    /// The machine hasn't that much memory.
    #[error(
        "a buffer of {wanted} bytes was asked for, and this machine has {available} bytes of memory available: \
         choose a smaller one, or end what uses the memory"
    )]
    NoMemory {
        /// Bytes that would have to be taken from the system.
        wanted: usize,
        /// Bytes that it has.
        available: usize,
    },
    /// An access reaches past the end of a region.
    #[error("{len} bytes from {offset} on reach past the end of a buffer of {region} bytes")]
    OutOfRange {
        /// Where the access begins.
        offset: u64,
        /// Its length.
        len: usize,
        /// Length of the region.
        region: usize,
    },
    /// A range that a region hasn't got.
    #[error("a buffer of {region} bytes has no range {start}..{end}: one begins before it ends, and ends inside")]
    NoRange {
        /// Where the range begins.
        start: u64,
        /// Where it ends.
        end: u64,
        /// Length of the region.
        region: usize,
    },
    /// A write to bytes that are lent.
    #[error("bytes {start}..{end} can't be written: some of them are lent; drop the Loan first")]
    Lent {
        /// Where the write begins.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// There aren't enough huge pages, and the arena must be in huge pages.
    #[error(
        "an arena of {len} bytes takes {needed} huge pages of {size} bytes, and {free} are free: \
         sysctl vm.nr_hugepages={set}, or let the arena have ordinary pages"
    )]
    NoHugePages {
        /// Length of the arena, bytes.
        len: usize,
        /// Size of a huge page, bytes.
        size: usize,
        /// How many it takes.
        needed: usize,
        /// How many are free.
        free: usize,
        /// How many there would have to be in all.
        set: usize,
    },
    /// The operating system refused the memory, or the addresses, of a paged buffer.
    #[error("mapping {len} bytes of a paged buffer failed: {source}")]
    Paged {
        /// Bytes to be mapped.
        len: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A paged buffer can't be split there.
    #[error("a paged buffer can't be split at byte {at}: choose a multiple of its page size, {page}")]
    InsidePage {
        /// The byte asked for.
        at: usize,
        /// The page size, bytes.
        page: usize,
    },
    /// The operating system refused the memory.
    #[error("mapping {len} bytes for the arena failed: {source}")]
    Map {
        /// Bytes asked for.
        len: usize,
        /// Why.
        source: std::io::Error,
    },
}
