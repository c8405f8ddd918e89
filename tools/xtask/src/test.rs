//! `cargo xtask test`: every test of the workspace.
//!
//! Many tests make network namespaces, which takes root. Another user's build stays that user's: only
//! the compiled test programs are run by sudo.

use std::ffi::OsString;
use std::process::Command;
use std::time::Instant;

use crate::process::{Failure, as_root, cargo, is_root, run};
use crate::setup::setup;

/// Installs what is missing and runs the tests; `args` go to `cargo test`.
pub(crate) fn test(args: &[OsString]) -> Result<(), Failure> {
    setup()?;
    let start = Instant::now();
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    let narrowed = args.iter().any(|arg| arg == "-p" || arg == "--package");
    if !narrowed {
        command.arg("--workspace");
    }
    command.args(args);
    if !is_root() {
        println!("The tests need root: they are built by you and run by sudo.");
        // Asks for the password now, not in the middle.
        run(&mut as_root("true")?)?;
        command.env(runner_variable()?, "sudo -E");
    }
    let result = run(&mut command);
    let minutes = start.elapsed().as_secs() / 60;
    let seconds = start.elapsed().as_secs() % 60;
    let verdict = match &result {
        Ok(()) => "every test passed",
        Err(Failure::Interrupted) => "interrupted",
        Err(_) => "FAILED, see above",
    };
    println!("\nxtask test: {verdict} ({minutes} min {seconds} s)");
    result
}

/// The environment variable that tells cargo how to run what it has built for this machine.
fn runner_variable() -> Result<String, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().map_err(|error| Failure::Start("rustc -vV".into(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or_else(|| Failure::Other("`rustc -vV` names no host".into()))?;
    let host = host.to_uppercase().replace(['-', '.'], "_");
    Ok(format!("CARGO_TARGET_{host}_RUNNER"))
}
