//! Capture files, and what tshark makes of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tempfile::TempDir;
use vmmc::port::tap::Frame;

use crate::pcapng::{About, Writer};
use crate::tshark::run;

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

/// The tree of every frame.
pub fn trees(capture: &Path, args: &[&str]) -> Vec<Map<String, Value>> {
    let json = run(capture, &[args, &["-T", "json", "--no-duplicate-keys"]].concat());
    let frames: Vec<Value> = serde_json::from_str(&json).unwrap();
    let layers = frames.into_iter().map(|mut frame| frame["_source"]["layers"].take());
    layers.map(|layers| if let Value::Object(map) = layers { map } else { panic!("no layers") }).collect()
}
