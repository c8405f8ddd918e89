//! Ctrl-C and SIGTERM: the first asks the program to end, the second ends it.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit status of a program that was interrupted.
pub(crate) const STATUS: u8 = 130;

/// From now on signals are noted, and `then` is called for the first.
pub(crate) fn catch(then: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    // Not `try_set_handler`: a shell starts background jobs of a script with SIGINT ignored, and that would be an error.
    ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::Relaxed) {
            process::exit(STATUS.into());
        }
        then();
    })
}

/// Whether the program was asked to end.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
