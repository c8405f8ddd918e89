//! Soaks for seconds what `vmmc-bench soak` soaks for as long as one likes, and makes sure that it would find what is wrong.
//! Needs root, and fails without it.

mod common;

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{alone, assert_row, await_no_workers, bench, namespaces_of, signal, stderr, succeed, workers};

fn soak(arguments: &str) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let (rows, output) = succeed(&format!("soak {arguments}"), &directory.path().join("soak.json"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("every byte right") && text.contains("latency"), "{text}");
    rows
}

fn value(rows: &[Value], metric: &str) -> f64 {
    let row = rows.iter().find(|row| row["metric"] == metric).unwrap_or_else(|| panic!("no {metric} in {rows:?}"));
    row["value"].as_f64().unwrap()
}

#[test]
fn every_byte_arrives_once_and_right_over_a_bad_network() {
    let _alone = alone();
    let rows = soak("--bytes 40MB");
    assert!(value(&rows, "verified") >= (40 << 20) as f64);
    // The network was as bad as it was to be.
    for metric in ["dropped", "damaged", "reordered", "duplicated", "retransmitted", "detected"] {
        assert!(value(&rows, metric) > 0.0, "no packet was {metric}");
    }
    // How often the lane is opened anew is chance.
    let may_be_none = ["restarts", "declined", "reopened"];
    rows.iter().filter(|row| !may_be_none.contains(&row["metric"].as_str().unwrap())).for_each(assert_row);
    assert!(value(&rows, "asked again") > 0.0, "no packet of the bulk lane was lost");
}

#[test]
fn the_eager_lane_alone_and_one_queue_alone_do_too() {
    let _alone = alone();
    for arguments in ["--bytes 20MB --peer vmmc-eager", "--bytes 20MB --one-queue"] {
        let rows = soak(arguments);
        assert!(value(&rows, "dropped") > 0.0 && value(&rows, "retransmitted") > 0.0);
        assert_eq!(value(&rows, "bulk"), 0.0);
    }
}

#[test]
fn frames_of_several_buffers_do_too() {
    let _alone = alone();
    let rows = soak("--bytes 20MB --mtu 9000 --fault drop=2%,reorder=2%,corrupt=2%,dup=2%");
    assert!(value(&rows, "damaged") > 0.0 && value(&rows, "retransmitted") > 0.0);
}

#[test]
fn receivers_that_are_killed_are_found_again() {
    let _alone = alone();
    let rows = soak("--bytes 40MB --restarts 2");
    assert_eq!(value(&rows, "restarts"), 2.0);
    assert!(value(&rows, "verified") >= (40 << 20) as f64);
}

#[test]
fn a_damaged_byte_ends_it() {
    let _alone = alone();
    // Nothing but the comparison of what arrives can notice.
    let output = bench("soak --bytes 40MB --peer vmmc-nocrc --fault corrupt=0.2%").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // The comparison, unless it is a header that was damaged: then anything may happen.
    assert!(text.contains("vmmc-nocrc, soak") || text.contains("has not answered"), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let _alone = alone();
    let mut run = bench("soak").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while workers(run.id()).len() < 2 {
        let going = start.elapsed() < Duration::from_secs(60) && run.try_wait().unwrap().is_none();
        if !going {
            let _ = run.kill();
            panic!("the soak did not get going: {}", stderr(&mut run));
        }
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(500));
    signal(run.id(), Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    await_no_workers(run.id());
    assert!(namespaces_of(run.id()).is_empty());
}
