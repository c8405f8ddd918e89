//! Memory that others write: the arena, and the regions that exports are made of.
//!
//! The [`Arena`] is one shared mapping (a memfd), cut into [`Region`]s. The engine writes a region when a packet
//! for it arrives, and the application reads it whenever it likes, from any thread. Two such accesses may meet, so
//! none of them goes through a Rust reference: a region hands out no slices, it copies in and out by relaxed atomic
//! accesses. A reader that meets a writer gets a mixture of old and new bytes, as over RDMA, never undefined behaviour;
//! the notification says when the bytes are there.
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
mod copy;
mod piece;
mod region;
mod target;

pub use alloc::GUARD;
pub use arena::{Arena, available};
pub use region::Region;
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
    /// The arena hasn't that much memory in one piece.
    #[error(
        "the arena of {arena} bytes has no room for {wanted} bytes (largest free piece: {largest}): \
         open the node with a larger arena, or drop exports"
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
    #[error("bytes {offset}..{offset}+{len} reach past the end of a buffer of {region} bytes")]
    OutOfRange {
        /// Where the access begins.
        offset: u64,
        /// Its length.
        len: usize,
        /// Length of the region.
        region: usize,
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
