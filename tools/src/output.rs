//! Lines on standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. That nobody reads it, as with `| head`, is no reason to end, let alone to panic.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line on standard error. That it is closed, as with `2>&1 | head`, is no reason to panic either.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a whole text; that nobody reads it to its end is no error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_ref()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
