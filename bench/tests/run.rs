//! Runs `vmmc-bench` as a user does, on labs of its own, and looks at what it reports and what it leaves
//! behind. Asserts nothing about time. Needs root and two cores, and fails without them.

mod common;

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{alone, assert_row, await_no_workers, bench, namespaces_of, signal, stderr, succeed, workers};

fn has(rows: &[Value], bench: &str, peer: &str, metric: &str, unit: &str) -> bool {
    rows.iter().any(|r| r["bench"] == bench && r["peer"] == peer && r["metric"] == metric && r["unit"] == unit)
}

#[test]
fn latency_of_floor_and_tcp() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("lat.json");
    let hgrm = directory.path().join("histograms");
    let html = directory.path().join("lat.html");
    let arguments = "lat --peers floor,tcp --size 64,5000 --rounds 2 --samples 2000 --duration 60000";
    let arguments = format!("{arguments} --hgrm {} --html {}", hgrm.display(), html.display());
    let (rows, output) = succeed(&arguments, &json);
    rows.iter().for_each(assert_row);
    assert_eq!(rows.len(), 2 * 2 * 3);
    for peer in ["floor", "tcp"] {
        for metric in ["p50", "p99", "p999"] {
            assert!(has(&rows, "lat", peer, metric, "us"), "{peer} {metric}");
        }
        assert!(hgrm.join(format!("{peer}-lat-64b-mtu1500.hgrm")).is_file());
    }
    // A few samples beyond a percentile are enough to name it, but not to compare it.
    for row in &rows {
        let compared = row["metric"] == "p50";
        assert!(row["vs_floor"].is_number() == compared && row["vs_tcp"].is_number() == compared, "{row}");
    }
    let page = fs::read_to_string(html).unwrap();
    for words in ["by message size, MTU 1500", "by percentile, 5000 B", "floor", "veth pair", "2 rounds"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    // Median, 99th percentile, and the percentiles of two sizes.
    assert_eq!(page.matches("<svg role=\"img\"").count(), 4);
    assert!(String::from_utf8_lossy(&output.stdout).contains("vs floor"));
}

#[test]
fn the_floor_at_any_mtu() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("floor.json");
    fs::write(&json, "x".repeat(100_000)).unwrap();
    let arguments = "floor --mtu 1280,3814,3815,65535 --rounds 1 --samples 100 --duration 50";
    let (rows, _) = succeed(arguments, &json);
    rows.iter().for_each(assert_row);
    // A hundred samples are too few for the slowest thousandth.
    assert_eq!(
        rows.iter().filter(|row| !row["metric"].as_str().unwrap().starts_with("p99")).count(),
        4 * (1 + 1 + 1 + 1)
    );
    assert!(rows.iter().all(|row| row["metric"] != "p999"));
    assert!(has(&rows, "rate", "floor", "rate", "packets/s"));
    assert!(has(&rows, "bw", "floor", "bandwidth", "Gbit/s"));
    assert!(has(&rows, "bw-copy", "floor", "bandwidth", "Gbit/s"));
    assert!(rows.iter().all(|r| r["vs_tcp"].is_null()));
}

#[test]
fn bandwidth_of_messages_larger_than_a_packet() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("bw.json");
    let arguments = "bw --peers floor,tcp --size 100,1MiB --mtu 9000 --rounds 1 --duration 50";
    let (rows, _) = succeed(arguments, &json);
    rows.iter().for_each(assert_row);
    assert!(has(&rows, "bw", "tcp", "bandwidth", "Gbit/s"));
    assert!(!has(&rows, "bw-copy", "tcp", "bandwidth", "Gbit/s"));
}

#[test]
fn copies_and_the_receivers_processor_time() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("bw.json");
    let peers = "vmmc,vmmc-eager,vmmc-block,vmmc-eager-block,tcp-block";
    let (rows, _) = succeed(&format!("bw --peers {peers} --mtu 9000 --rounds 1 --duration 200"), &json);
    rows.iter().for_each(assert_row);
    for peer in ["vmmc-block", "vmmc-eager-block", "tcp-block"] {
        assert!(has(&rows, "bw", peer, "rx cpu", "ns/KiB"), "{peer}");
        assert_eq!(peer == "vmmc-block", has(&rows, "bw", peer, "rx cpu vs eager", "ratio"), "{peer}");
    }
    for peer in ["vmmc-eager", "vmmc-eager-block"] {
        let copies = ["tx copies per byte", "rx copies per byte"].map(|metric| value(&rows, peer, metric));
        assert_eq!(copies, [1.0, 1.0], "without the bulk lane each byte is copied once at either end");
    }
    assert!(has(&rows, "bw", "vmmc", "vs eager", "ratio"));
    assert!(!rows.iter().any(|row| row["peer"] == "vmmc" && row["metric"] == "rx cpu"));

    let output = bench("bw --peers vmmc-eager --size 64 --rounds 1 --duration 50").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("vmmc-eager is left out: it is for messages of 16384"));
}

#[test]
fn the_floor_of_the_bulk_lane() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("gather.json");
    // One message that is a packet, and one larger than all that is usually walked through.
    let arguments =
        "bw --peers floor-gather,tcp --size 16KiB,1MiB,20MiB --mtu 1500,9000,65535 --rounds 1 --duration 60";
    let (rows, _) = succeed(arguments, &json);
    rows.iter().for_each(assert_row);
    assert_eq!(rows.iter().filter(|row| row["metric"] == "bandwidth").count(), 2 * 3 * 3);

    let output = bench("bw --peers floor-gather,tcp --one-queue --rounds 1 --duration 50").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("floor-gather, bw, 1048576 bytes at MTU 1500 is left out"),
        "{text}"
    );
}

#[test]
fn a_node_can_be_measured_while_it_is_watched() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("rate.json");
    let (rows, _) = succeed("rate --peers vmmc,vmmc-watched --rounds 1 --duration 300", &json);
    rows.iter().for_each(assert_row);
    assert!(["vmmc", "vmmc-watched"].iter().all(|peer| value(&rows, peer, "rate") > 0.0), "{rows:?}");
}

fn value(rows: &[Value], peer: &str, metric: &str) -> f64 {
    let row = rows.iter().find(|r| r["peer"] == peer && r["metric"] == metric);
    row.and_then(|r| r["value"].as_f64()).unwrap_or_else(|| panic!("{peer} has no {metric}: {rows:?}"))
}

#[test]
fn goodput_of_streams_that_lose_packets() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("loss.json");
    let (rows, _) = succeed("loss --loss 0,2 --size 64KiB --rounds 1 --duration 1000", &json);
    for peer in ["vmmc", "vmmc-eager", "tcp", "tcp-nooff"] {
        for (metric, unit) in [("goodput 0%", "Gbit/s"), ("goodput 2%", "Gbit/s"), ("kept 2%", "ratio")] {
            assert!(has(&rows, "loss", peer, metric, unit), "{peer} {metric}");
        }
        assert_eq!(value(&rows, peer, "lost 0%"), 0.0);
        // Of TCP's large packets there may be so few that none was lost.
        assert!(peer == "tcp" || value(&rows, peer, "lost 2%") > 0.0, "{peer} lost nothing");
    }
    assert!(!rows.iter().any(|r| r["metric"] == "kept 0%"));
}

#[test]
fn several_senders_into_one_receiver() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("incast.json");
    let (rows, _) = succeed("incast --senders 3 --size 4KiB --rounds 1 --duration 300", &json);
    for peer in ["vmmc", "tcp"] {
        for of in ["sender 1", "sender 2", "sender 3", "all"] {
            assert!(value(&rows, peer, &format!("goodput {of}")) > 0.0, "{peer} {of}");
            assert!(has(&rows, "incast", peer, &format!("p99 {of}"), "us"), "{peer} {of}");
        }
        let jain = value(&rows, peer, "jain all");
        assert!((1.0 / 3.0 - 1e-9..=1.0 + 1e-9).contains(&jain), "{jain}");
    }
}

const STREAMS: [&str; 2] = ["sockets", "tcp"];
const STREAMS_ASLEEP: [&str; 2] = ["sockets-block", "tcp-block"];

#[test]
fn requests_over_one_connection_and_over_many() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("rr.json");
    let arguments = "rr --connections 1,50 --rounds 1 --duration 300";
    let (rows, _) = succeed(&format!("{arguments} --hgrm {}", directory.path().display()), &json);
    rows.iter().for_each(assert_row);
    for peer in STREAMS.iter().chain(&STREAMS_ASLEEP) {
        for of in ["1 connection", "50 connections"] {
            assert!(has(&rows, "rr", peer, &format!("rate {of}"), "requests/s"), "{peer} {of}");
            assert!(has(&rows, "rr", peer, &format!("p50 {of}"), "us"), "{peer} {of}");
            assert!(has(&rows, "rr", peer, &format!("cpu {of}"), "us"), "{peer} {of}");
        }
        assert!(has(&rows, "rr-plain", peer, "rate", "requests/s"), "{peer}");
        assert!(directory.path().join(format!("{peer}-rr-50-1024b-mtu1500.hgrm")).is_file());
    }
    // Each is compared with what waits as it does.
    let compared = |row: &&Value| row["metric"].as_str().unwrap().starts_with("rate") && row["vs_tcp"].is_number();
    assert_eq!(rows.iter().filter(compared).count(), 4 * 3);
    // What doesn't fit into a ring at once, nor into a socket's buffer.
    let large = "rr --peers sockets,tcp --connections 2 --size 5MiB --rounds 1 --duration 3000";
    let (rows, _) = succeed(large, &json);
    assert!(STREAMS.iter().all(|peer| value(&rows, peer, "rate 2 connections") > 0.0), "{rows:?}");
}

#[test]
fn connections_that_come_and_go() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("connect.json");
    let (rows, output) = succeed("connect --parallel 1,3 --rounds 1 --duration 300", &json);
    rows.iter().for_each(assert_row);
    for peer in STREAMS.iter().chain(&STREAMS_ASLEEP) {
        assert!(has(&rows, "connect", peer, "rate 1 at a time", "connections/s"), "{peer}");
        let asleep = STREAMS_ASLEEP.contains(peer);
        assert_eq!(has(&rows, "connect", peer, "rate 3 at a time", "connections/s"), asleep, "{peer}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("3 threads that spin on one core"));
}

#[test]
fn what_idle_connections_hold() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("idle.json");
    let (rows, _) = succeed("idle --connections 1200 --rounds 1", &json);
    for peer in STREAMS_ASLEEP {
        // No connection is for nothing. What a process holds may be too little to be seen.
        assert!(value(&rows, peer, "memory 1200 connections") > 100.0, "{peer}: {rows:?}");
        for part in ["process client", "process server", "arena client", "arena server", "slab both", "buffers both"] {
            assert!(has(&rows, "idle-streams", peer, part, "bytes"), "{peer} {part}");
        }
    }
    // A stream of VMMC has a ring, which lies in an arena.
    assert!(value(&rows, "sockets-block", "arena client") > 0.0 && value(&rows, "tcp-block", "arena client") == 0.0);
}

#[test]
fn what_idle_links_and_idle_nodes_cost() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("scale.json");
    let (rows, _) = succeed("scale --links 0,20 --samples 500 --rounds 1 --duration 300", &json);
    for (metric, unit) in [("p50 0 links", "us"), ("p99 20 links", "us"), ("slowdown 20 links", "ratio")] {
        assert!(has(&rows, "links", "vmmc", metric, unit), "{metric}");
    }
    // A link has its counters at the least.
    assert!(value(&rows, "vmmc", "heap 20 links") > 200.0);
    assert!(has(&rows, "idle", "vmmc", "cpu host 1", "%") && has(&rows, "idle", "vmmc", "cpu host 2", "%"));
}

#[test]
fn what_the_memory_at_either_end_makes_of_a_transfer() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("memory.json");
    let (rows, _) = succeed("memory --size 64KiB --samples 500 --rounds 1 --duration 300", &json);
    for (bench, metric, unit) in [
        ("source", "bandwidth paged", "Gbit/s"),
        ("source", "vs arena slice", "ratio"),
        ("deliver", "bandwidth redirect", "Gbit/s"),
        ("deliver", "cpu vs copy redirect", "ratio"),
        ("deliver", "cpu vs copy direct", "ratio"),
        ("deliver", "tx copies per byte direct", "copies"),
        ("access", "p50 fetch", "us"),
        ("access", "vs put fetch", "ratio"),
        ("utlb", "hit utlb", "ns"),
        ("utlb", "pin vs bare utlb", "ratio"),
        ("utlb", "copy page", "ns"),
    ] {
        assert!(has(&rows, bench, "vmmc", metric, unit), "{bench} {metric}: {rows:?}");
    }
    // Without the bulk lane a redirect saves the copy out of the default buffer, and no other.
    let copies = |case: &str| value(&rows, "vmmc-eager", &format!("rx copies per byte {case}"));
    assert_eq!(["copy", "redirect", "direct"].map(copies), [2.0, 1.0, 1.0]);
}

#[test]
fn a_file_that_cannot_be_written_is_found_out_at_once() {
    for arguments in ["lat --json /nonexistent/x", "bw --html /nonexistent/x", "soak --html /nonexistent/x"] {
        let output = bench(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("writing /nonexistent/x"), "{stderr}");
    }
}

#[test]
fn a_worker_is_not_started_by_hand() {
    let output = bench("worker --core 0 --parent 1").stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("by hand"), "{stderr}");
}

/// A run that lasts for minutes unless something ends it, with both of its workers at work.
struct Long {
    run: Child,
    workers: Vec<u32>,
}

fn long() -> Long {
    let mut run = bench("bw --peers tcp --rounds 1 --duration 300000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    loop {
        let workers = workers(run.id());
        // Both have begun to spin.
        if workers.len() == 2 && workers.iter().all(|&w| cpu_ticks(w) > 10) {
            return Long { run, workers };
        }
        if start.elapsed() > Duration::from_secs(60) || run.try_wait().unwrap().is_some() {
            let _ = run.kill();
            panic!("the run did not get going: {}", stderr(&mut run));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[test]
fn a_worker_that_is_killed_ends_the_run_with_an_error() {
    let _alone = alone();
    let Long { mut run, workers } = long();
    signal(workers[0], Signal::KILL);
    let status = run.wait().unwrap();
    let text = stderr(&mut run);
    // Which of the two was hit decides who notices: the parent, or the other side of the connection.
    assert!(!status.success() && (text.contains("signal: 9") || text.contains("TCP")), "{text}");
    await_no_workers(run.id());
    assert!(namespaces_of(run.id()).is_empty());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let _alone = alone();
    let Long { mut run, .. } = long();
    assert!(!namespaces_of(run.id()).is_empty());
    signal(run.id(), Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    await_no_workers(run.id());
    assert!(namespaces_of(run.id()).is_empty());
}

#[test]
fn workers_do_not_outlive_a_parent_that_is_killed() {
    let _alone = alone();
    let Long { mut run, .. } = long();
    signal(run.id(), Signal::KILL);
    run.wait().unwrap();
    await_no_workers(run.id());
    // The next run removes the lab of the one that could not.
    let directory = tempfile::tempdir().unwrap();
    let arguments = "lat --peers tcp --rounds 1 --samples 10";
    succeed(arguments, &directory.path().join("lat.json"));
    assert!(namespaces_of(run.id()).is_empty());
}

#[test]
fn thresholds_are_written_for_nodes_to_read() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let (json, table) = (directory.path().join("rows.json"), directory.path().join("new/table"));
    let arguments = "thresholds --size 64k,1m --mtu 1500,9000 --rounds 2 --samples 100 --duration 200";
    let (rows, output) = succeed(&format!("{arguments} --write {}", table.display()), &json);
    rows.iter().for_each(assert_row);
    assert!(has(&rows, "bw", "vmmc", "vs eager", "ratio") && has(&rows, "lat", "vmmc-eager", "p50", "us"), "{rows:?}");
    // The lane was used, also where nobody would.
    let copies = rows.iter().filter(|r| r["peer"] == "vmmc" && r["metric"] == "tx copies per byte");
    let copies: Vec<_> = copies.map(|row| row["value"].as_f64().unwrap()).collect();
    assert!(copies.len() == 4 && copies.iter().all(|&copies| copies < 0.5), "{copies:?}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("streams") && shown.contains(&format!("written to {}", table.display())), "{shown}");
    let (found, origin) = vmmc::node::find_thresholds(Some(&table)).unwrap();
    assert_eq!(origin, vmmc::node::Origin::File(table.clone()));
    assert!(found.at(1400).is_none() && found.to_string().lines().count() == 2, "{found}");
    assert_eq!(fs::read_dir(table.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    // Nothing is measured for a table that can't be written.
    let output = bench(&format!("thresholds --write {}/below", json.display())).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("writing ") && error.contains("/below"), "{error}");
}
