//! Runs tshark with the dissector.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value};
use tempfile::TempDir;
use vmmc::port::tap::Frame;

use crate::pcapng::{About, Writer};

/// Where the dissector is.
pub fn dissector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wireshark/vmmc.lua")
}

/// A file with these frames.
pub fn write(directory: &TempDir, frames: &[Frame]) -> PathBuf {
    let path = directory.path().join("capture.pcapng");
    let about = About { comment: "a test".into(), interface: "vh1".into(), snaplen: 65535 };
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), about).unwrap();
    for (at, frame) in frames.iter().enumerate() {
        writer.frame(frame, if at == 1 { 3 } else { 0 }).unwrap();
    }
    writer.finish(2).unwrap();
    path
}

/// Runs it to its good end, and looks for complaints of Lua's.
pub fn run(capture: &Path, args: &[&str]) -> String {
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
pub fn raw(capture: &Path, args: &[&str]) -> Output {
    // A configuration of its own: the user's must not make a difference.
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("tshark")
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .arg("-X")
        .arg(format!("lua_script:{}", dissector().display()))
        .arg("-r")
        .arg(capture)
        .args(args)
        .output();
    output.unwrap_or_else(|error| panic!("tshark can't be run ({error}): `cargo xtask setup` installs it"))
}

/// The tree of every frame.
pub fn trees(capture: &Path, args: &[&str]) -> Vec<Map<String, Value>> {
    let json = run(capture, &[args, &["-T", "json", "--no-duplicate-keys"]].concat());
    let frames: Vec<Value> = serde_json::from_str(&json).unwrap();
    let layers = frames.into_iter().map(|mut frame| frame["_source"]["layers"].take());
    layers.map(|layers| if let Value::Object(map) = layers { map } else { panic!("no layers") }).collect()
}
