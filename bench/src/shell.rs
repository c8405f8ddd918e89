//! Completions and man pages on standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use vmmc_cli::ManError;

/// Prints what has been made, or why it couldn't be.
pub(crate) fn put_out(text: Result<Vec<u8>, ManError>) -> ExitCode {
    match text {
        Ok(text) => {
            // A reader that has seen enough is no error.
            let _ = io::stdout().lock().write_all(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vmmc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
