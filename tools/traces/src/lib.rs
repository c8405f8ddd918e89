//! Traces of page references: their text format, what imports them, what generates them.
//!
//! A trace says which pages of memory a program has sent from, in order. `vmmc utlb` runs traces through the UTLB to see which
//! policy, and how large a budget, suits them. `docs/utlb-traces.md` describes the format for who wants to write one.
//!
//! ```text
//!   text ─► lines ─► trace | lackey | perf ─► collapse ─► References ─┬─► Writer ─► text
//!                                                  Generator ─────────┴─► Numbering, the simulator
//! ```
//!
//! | file | what |
//! |---|---|
//! | `lines.rs`     | the lines of a text of any size, none longer than memory should bear |
//! | `trace.rs`     | the format: reading a line of it, writing a trace |
//! | `import.rs`    | what `valgrind --tool=lackey` and `perf` write: lines with addresses |
//! | `references.rs`| all of them as one iterator |
//! | `collapse.rs`  | leaving out what repeats |
//! | `detect.rs`    | telling them apart by their first lines |
//! | `generate.rs`  | traces of known shape |
//! | `numbering.rs` | small numbers for pages that lie all over an address space |
//!
//! Everything is read line by line; nothing here keeps a trace in memory.
//!
//! ```
//! use vmmc_traces::{Options, Reference, References};
//!
//! let text = "vmmc-trace 1 page-size 4096\n0x10     # one page\n0x20 16  # sixteen, sent at once\n";
//! let read: Result<Vec<Reference>, _> = References::detect(text.as_bytes(), Options::default())?.collect();
//! assert_eq!(read?, [Reference { page: 0x10, count: 1 }, Reference { page: 0x20, count: 16 }]);
//! # Ok::<(), vmmc_traces::TraceError>(())
//! ```

mod collapse;
mod detect;
mod error;
mod generate;
mod import;
mod lines;
mod numbering;
mod references;
mod trace;

pub use error::{Problem, TraceError};
pub use generate::{GenerateError, Generator, MAX_GENERATED_PAGES, Shape};
pub use lines::MAX_LINE;
pub use numbering::{GAP, Numbering};
pub use references::{Format, Options, References};
pub use trace::{MAX_COUNT, MAX_PAGE, PAGE_SIZES, Writer};

/// The page size of traces that don't name theirs, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A transfer: `count` pages, beginning at `page`, in one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The first page's number: its address divided by the page size. At most [`MAX_PAGE`].
    pub page: u64,
    /// How many pages, 1 to [`MAX_COUNT`].
    pub count: u32,
}

impl Reference {
    /// The page behind the last.
    pub fn end(self) -> u64 {
        self.page + u64::from(self.count)
    }
}
