//! The nightly compiler, for what the stable one doesn't do. Nothing is installed unasked: what is missing is an error that says how.

use std::process::{Command, Stdio};

use crate::process::{Failure, find, workspace};

/// Makes sure that the nightly compiler is there, and its cargo's command `tool`, which `install` would install.
pub(crate) fn need(tool: &str, install: &str) -> Result<(), Failure> {
    let missing = |what: &str, install: &str| Failure::Other(format!("{what} is missing: run `{install}`"));
    if find("rustup").is_none() {
        return Err(Failure::Other(
            "rustup, which starts the nightly compiler, is missing: see https://rustup.rs".into(),
        ));
    }
    if !answers(cargo_nightly().arg("--version")) {
        return Err(missing("the nightly compiler", "rustup toolchain install nightly"));
    }
    if !answers(cargo_nightly().args([tool, "--version"])) {
        return Err(missing(&format!("`cargo {tool}`"), install));
    }
    Ok(())
}

/// By rustup: the cargo that runs xtask is of one toolchain only. Runs in the library's directory.
pub(crate) fn cargo_nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(workspace().join("vmmc"));
    // What cargo has set for xtask is about the other toolchain.
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
