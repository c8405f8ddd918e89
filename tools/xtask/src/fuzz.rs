//! `cargo xtask fuzz`: every fuzz target for a while.
//!
//! It takes what the rest doesn't: a nightly compiler, and cargo-fuzz. Neither is installed unasked.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::process::{Failure, check_interrupted, find, run, workspace};
use crate::setup::setup;

const TARGETS: &[&str] = &["packet", "link", "trace"];
const SECONDS: u32 = 60;

/// Runs every target for `seconds`, by default [`SECONDS`], and fails at the first that finds something.
pub(crate) fn fuzz(seconds: Option<&OsStr>) -> Result<(), Failure> {
    let seconds = match seconds {
        None => SECONDS,
        Some(text) => text.to_str().and_then(|text| text.parse().ok()).filter(|&s| s > 0).ok_or_else(|| {
            Failure::Other(format!("`{}` is no number of seconds: try `cargo xtask fuzz 60`", text.display()))
        })?,
    };
    let missing = |what: &str, install: &str| Failure::Other(format!("{what} is missing: run `{install}`"));
    if find("rustup").is_none() {
        return Err(Failure::Other(
            "rustup, which starts the nightly compiler, is missing: see https://rustup.rs".into(),
        ));
    }
    if !answers(cargo_nightly().arg("--version")) {
        return Err(missing("the nightly compiler", "rustup toolchain install nightly"));
    }
    if !answers(cargo_nightly().args(["fuzz", "--version"])) {
        return Err(missing("cargo-fuzz", "cargo install cargo-fuzz --locked"));
    }
    setup()?;
    for target in TARGETS {
        check_interrupted()?;
        println!("\n== {target}, {seconds} s\n");
        let limit = format!("-max_total_time={seconds}");
        run(cargo_nightly().args(["fuzz", "run", target, "--", &limit, "-timeout=30"]))?;
    }
    println!("\nxtask fuzz: {} found nothing", TARGETS.join(", "));
    Ok(())
}

/// By rustup: the cargo that runs xtask is of one toolchain only.
fn cargo_nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(workspace().join("vmmc"));
    // What cargo has set for xtask is about the other toolchain.
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
