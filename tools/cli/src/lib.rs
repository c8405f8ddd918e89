//! What the programs `vmmc` and `vmmc-bench` have in common.
//!
//! | file | what |
//! |---|---|
//! | `log.rs`   | the log on standard error, and `VMMC_LOG`, which says what is in it |
//! | `shell.rs` | shell completions and man pages, made from the definition of the command line |

mod log;
mod shell;

pub use log::{BadLogFilter, LOG_HELP, start_log};
pub use shell::{Completions, Man, ManError};
