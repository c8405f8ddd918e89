//! The lines of a text of any size.

use std::io::{BufRead, Read};

use crate::{Problem, TraceError};

/// The longest line that is read, in bytes. A text without line feeds, which a trace is not, ends here and not with the memory.
pub const MAX_LINE: usize = 4096;

/// How much of a line an error shows.
const SHOWN: usize = 60;

/// Reads line after line into one buffer.
pub(crate) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Lines<R> {
        Lines { reader, line: Vec::new(), number: 0 }
    }

    /// The next line without its end, or `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TraceError> {
        self.line.clear();
        self.number += 1;
        let line = self.number;
        // One more for the line feed.
        let mut limited = (&mut self.reader).take(MAX_LINE as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.line).map_err(|source| TraceError::Read { line, source })?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > MAX_LINE {
            return Err(TraceError::TooLong { line });
        }
        Ok(Some(&self.line))
    }

    /// The error that the line read last has this problem.
    pub(crate) fn error(&self, problem: Problem) -> TraceError {
        let shown = String::from_utf8_lossy(&self.line[..self.line.len().min(4 * SHOWN)]);
        let shown = shown.trim_end_matches('\r');
        let found = match shown.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} ...", &shown[..end]),
            None => shown.to_owned(),
        };
        TraceError::Line { line: self.number, found, problem }
    }
}
