//! Runs tshark with the dissector.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the dissector is.
pub(crate) fn dissector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wireshark/vmmc.lua")
}

/// Runs it to its good end, and looks for complaints of Lua's.
pub(crate) fn run(capture: &Path, args: &[&str]) -> String {
    let output = raw(capture, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "tshark {args:?}: {} {err}", output.status);
    for text in [&out, &err] {
        let complaint = text.lines().find(|line| line.contains("Lua") || line.contains("vmmc.lua"));
        assert_eq!(complaint, None, "in the output of tshark {args:?}");
    }
    out.into_owned()
}

/// Runs it to any end.
pub(crate) fn raw(capture: &Path, args: &[&str]) -> Output {
    // A configuration of its own: the user's must not make a difference.
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("tshark")
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .arg("-X")
        .arg(format!("lua_script:{}", dissector().display()))
        // It takes any packet for its own whose first bits are set, as those of a header that was cut off may be.
        .args(["--disable-protocol", "sigcomp"])
        .arg("-r")
        .arg(capture)
        .args(args)
        .output();
    output.unwrap_or_else(|error| panic!("tshark can't be run ({error}): `cargo xtask setup` installs it"))
}
