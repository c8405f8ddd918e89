//! What tests that run `vmmc-bench` need: starting it, finding its workers and its labs.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Two runs at once would fight over the cores.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmmc-bench"));
    command.args(arguments.split(' '));
    command
}

pub fn succeed(arguments: &str, json: &Path) -> (Vec<Value>, Output) {
    let output = bench(arguments).arg("--json").arg(json).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "vmmc-bench {arguments}: {stderr}");
    let text = fs::read_to_string(json).unwrap();
    (serde_json::from_str(&text).expect(&text), output)
}

pub fn assert_row(row: &Value) {
    let object = row.as_object().expect("a row is an object");
    assert_eq!(object.len(), 9, "{row}");
    for key in ["bench", "peer", "metric", "unit"] {
        assert!(object[key].is_string(), "{key} in {row}");
    }
    for key in ["mtu", "size"] {
        assert!(object[key].is_u64(), "{key} in {row}");
    }
    // Bytes that nobody copies are what there may be none of.
    let least = if row["unit"] == "copies" { 0.0 } else { f64::MIN_POSITIVE };
    assert!(object["value"].as_f64().is_some_and(|v| v >= least), "{row}");
    for key in ["vs_floor", "vs_tcp"] {
        assert!(object[key].is_null() || object[key].as_f64().is_some_and(|v| v > 0.0), "{row}");
    }
}

/// The processes that were started as workers of `parent`.
pub fn workers(parent: u32) -> Vec<u32> {
    let ours = "\0worker\0--";
    let parent = format!("\0--parent\0{parent}\0");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // While it still says `ip netns exec` it is not a worker yet.
            line.contains(ours) && line.ends_with(&parent) && !line.contains("\0netns\0")
        })
        .collect()
}

pub fn stderr(run: &mut Child) -> String {
    let mut text = String::new();
    run.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

pub fn await_no_workers(parent: u32) {
    let start = Instant::now();
    while !workers(parent).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "workers outlive their parent");
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn namespaces_of(parent: u32) -> Vec<String> {
    let prefix = format!("vmmctmp-{parent}-");
    fs::read_dir("/run/netns")
        .map(|d| d.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect()
}
