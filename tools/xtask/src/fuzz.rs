//! `cargo xtask fuzz`: every fuzz target for a while.
//!
//! It takes what the rest doesn't: a nightly compiler, and cargo-fuzz. Neither is installed unasked.

use std::ffi::OsStr;

use crate::nightly::{cargo_nightly, need};
use crate::process::{Failure, check_interrupted, run, workspace};
use crate::setup::setup;

/// The targets, and the directories of the crates that they are beside.
const TARGETS: &[(&str, &str)] =
    &[("vmmc", "packet"), ("vmmc", "link"), ("vmmc", "trace"), ("sockets", "slot"), ("sockets", "stream")];
const SECONDS: u32 = 60;

/// Runs every target for `seconds`, by default [`SECONDS`], and fails at the first that finds something.
pub(crate) fn fuzz(seconds: Option<&OsStr>) -> Result<(), Failure> {
    let seconds = match seconds {
        None => SECONDS,
        Some(text) => text.to_str().and_then(|text| text.parse().ok()).filter(|&s| s > 0).ok_or_else(|| {
            Failure::Other(format!("`{}` is no number of seconds: try `cargo xtask fuzz 60`", text.display()))
        })?,
    };
    need("fuzz", "cargo install cargo-fuzz --locked")?;
    setup()?;
    for (directory, target) in TARGETS {
        check_interrupted()?;
        println!("\n== {target}, {seconds} s\n");
        let limit = format!("-max_total_time={seconds}");
        let directory = workspace().join(directory);
        run(cargo_nightly().current_dir(directory).args(["fuzz", "run", target, "--", &limit, "-timeout=30"]))?;
    }
    let names: Vec<&str> = TARGETS.iter().map(|&(_, target)| target).collect();
    println!("\nxtask fuzz: {} found nothing", names.join(", "));
    Ok(())
}
