//! What is wrong with a trace, where, and what to do about it.

use std::io;

use crate::{MAX_COUNT, MAX_LINE, MAX_PAGE};

/// A trace can't be read. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file or pipe fails.
    #[error("line {line} can't be read")]
    Read {
        /// The line.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line is longer than [`MAX_LINE`].
    #[error("line {line} is longer than {MAX_LINE} bytes, as no line of a trace is: give it a text file")]
    TooLong {
        /// The line.
        line: u64,
    },
    /// A line isn't what it must be.
    #[error("line {line} is {found:?}: {problem}")]
    Line {
        /// The line.
        line: u64,
        /// What it says, cut short if it is long.
        found: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It isn't a reference.
    #[error("a reference is PAGE or PAGE COUNT, decimal or 0x hexadecimal, as in 0x7f3a 16")]
    Reference,
    /// The page's number is too large.
    #[error("page numbers end at {MAX_PAGE:#x}: write addresses divided by the page size")]
    Page,
    /// No transfer is of so many pages.
    #[error("COUNT is 1 to {MAX_COUNT} pages")]
    Count,
    /// The header isn't one.
    #[error("the header is `vmmc-trace 1 page-size BYTES`, where BYTES is a power of two from 512 to 1073741824")]
    Header,
    /// The header stands where none may.
    #[error("the header stands once, before all references")]
    HeaderPlace,
    /// It isn't of lackey.
    #[error(
        "lackey writes `I  ADDRESS,SIZE`, ` L ADDRESS,SIZE`, ` S ...` or ` M ...`; what the program itself wrote must not be \
         among it: valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM"
    )]
    Lackey,
    /// It isn't of perf.
    #[error(
        "perf's addresses stand alone on their lines (perf script -F addr), or fourth between commas (perf mem -x, report -D)"
    )]
    Perf,
}
