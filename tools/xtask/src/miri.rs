//! `cargo xtask miri`: the library's memory, run by an interpreter that notices undefined behaviour: races, accesses outside of what a
//! pointer is to, references that overlap.
//!
//! It knows no memfd, no second mappings and no fork, and interprets a thousand times slower than a processor runs: tests that
//! are about these, or about numbers alone, are ignored.

use std::ffi::OsString;

use crate::nightly;
use crate::process::{Failure, run};
use crate::setup::setup;

/// Which of the library's tests it can run.
const TESTS: &str = "memory::";

/// Runs the tests of the library's memory under Miri; `args` go to the tests, in the place of [`TESTS`].
pub(crate) fn miri(args: &[OsString]) -> Result<(), Failure> {
    nightly::need("miri", "rustup component add miri rust-src --toolchain nightly")?;
    setup()?;
    let mut command = nightly::cargo_nightly();
    command.args(["miri", "test", "--lib", "--"]);
    if args.is_empty() {
        command.arg(TESTS);
    }
    run(command.args(args))?;
    println!("\nxtask miri: no undefined behaviour in what was run");
    Ok(())
}
