//! Lines on standard output.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line. That nobody reads it, as with `| head`, is no reason to end, let alone to panic.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
