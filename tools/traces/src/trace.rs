//! The format: a reference on each line, comments, a header that names the page size.
//!
//! ```text
//! vmmc-trace 1 page-size 4096
//! # where the trace is from
//! 0x7f3a      a page, in hexadecimal ...
//! 32570       ... or decimal
//! 0x8000 16   a transfer of 16 pages
//! ```

use std::io::{self, Write};
use std::ops::RangeInclusive;

use crate::{Problem, Reference};

/// The largest number of a page: the last page of 512 bytes in 64 bits.
pub const MAX_PAGE: u64 = (1 << 55) - 1;

/// The most pages of one transfer.
pub const MAX_COUNT: u32 = 1 << 20;

/// The sizes that a page may have, in bytes, of which powers of two are meant.
pub const PAGE_SIZES: RangeInclusive<u64> = 512..=1 << 30;

const HEADER: &str = "vmmc-trace";

/// What a line says.
pub(crate) enum Line {
    Nothing,
    PageSize(u64),
    Reference(Reference),
}

/// Understands a line.
pub(crate) fn parse(line: &[u8]) -> Result<Line, Problem> {
    let text = line.split(|byte| *byte == b'#').next().unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| Problem::Reference)?;
    let mut words = text.split_ascii_whitespace();
    let Some(first) = words.next() else { return Ok(Line::Nothing) };
    if first == HEADER {
        let words: Vec<&str> = words.collect();
        let ["1", "page-size", bytes] = words[..] else { return Err(Problem::Header) };
        let size = number(bytes).filter(|size| size.is_power_of_two() && PAGE_SIZES.contains(size));
        return size.map(Line::PageSize).ok_or(Problem::Header);
    }
    let page = number(first).ok_or(Problem::Reference)?;
    let count = words.next().map_or(Some(1), number).ok_or(Problem::Reference)?;
    if words.next().is_some() {
        return Err(Problem::Reference);
    }
    reference(page, count).map(Line::Reference)
}

/// A reference within the limits.
pub(crate) fn reference(page: u64, count: u64) -> Result<Reference, Problem> {
    let count = u32::try_from(count).ok().filter(|count| (1..=MAX_COUNT).contains(count)).ok_or(Problem::Count)?;
    let last = page.checked_add(u64::from(count) - 1);
    last.filter(|last| *last <= MAX_PAGE).map(|_| Reference { page, count }).ok_or(Problem::Page)
}

/// A decimal number, or one in hexadecimal after 0x.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits),
        // Nothing but digits: a sign is no part of a number here.
        None => word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?,
    }
}

/// Digits, 1 to 16 of them.
pub(crate) fn hexadecimal(digits: &str) -> Option<u64> {
    let right = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    right.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Writes a trace.
#[derive(Debug)]
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Writes the header, and each line of `about` as a comment. Nothing is buffered here.
    ///
    /// # Errors
    /// Those of the writer, as of all that it does.
    pub fn new(mut to: W, page_size: u64, about: &str) -> io::Result<Writer<W>> {
        writeln!(to, "{HEADER} 1 page-size {page_size}")?;
        about.lines().try_for_each(|line| writeln!(to, "# {line}"))?;
        Ok(Writer(to))
    }

    /// Writes a reference: in decimal while that is short, else in hexadecimal.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, Reference { page, count }: Reference) -> io::Result<()> {
        match (page < 1 << 20, count) {
            (true, 1) => writeln!(self.0, "{page}"),
            (true, _) => writeln!(self.0, "{page} {count}"),
            (false, 1) => writeln!(self.0, "{page:#x}"),
            (false, _) => writeln!(self.0, "{page:#x} {count}"),
        }
    }

    /// Sends what the writer has kept back on its way.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
