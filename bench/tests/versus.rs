//! Runs `vmmc-bench versus` and `compare` as a user does, and disturbs them: Ctrl-C, a kill, an interface that goes down, a tool
//! or a core that is missing. Asserts nothing about time. Needs root and two cores, and fails without them.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use vmmc_lab::{ChildGuard, Lab, LabConfig};

use crate::common::{alone, assert_row, await_no_workers, bench, namespaces_of, signal, stderr, succeed, workers};

fn peers(rows: &[Value], bench: &str, size: u64) -> Vec<String> {
    let of = |row: &&Value| row["bench"] == bench && row["size"] == size && row["mtu"] == 1500;
    let main = |row: &&Value| ["p50", "bandwidth", "rate"].contains(&row["metric"].as_str().unwrap());
    let mut peers: Vec<_> =
        rows.iter().filter(of).filter(main).map(|row| row["peer"].as_str().unwrap().to_owned()).collect();
    peers.sort();
    peers
}

/// Whether a program of this name is where programs are looked for.
fn installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|directory| directory.join(program).is_file())
}

#[test]
fn everything_is_compared_with_everything() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let arguments = "versus --quick --mtu 1500,9000 --rounds 1 --duration 60";
    let (rows, output) = succeed(arguments, &directory.path().join("versus.json"));
    rows.iter().for_each(assert_row);
    let mut all = vec!["floor", "sockets", "sockets-block", "tcp", "tcp-block", "tcp-nooff", "vmmc"];
    all.extend(installed("ucx_perftest").then_some("ucx"));
    for (bench, size) in [("lat", 8), ("lat", 4096), ("lat", 1 << 20), ("bw", 4096), ("bw", 1 << 20), ("rate", 64)] {
        // What goes by the eager lane anyway isn't measured twice.
        let mut all = all.clone();
        if size == 1 << 20 {
            all.push("vmmc-eager");
        }
        if (bench, size) == ("bw", 1 << 20) {
            all.extend(["floor-gather", "sockets-owned"]);
        }
        all.sort();
        assert_eq!(peers(&rows, bench, size), all, "{bench}, {size} bytes");
    }
    let copies = |row: &&Value| row["metric"] == "tx copies per byte" && row["peer"] == "vmmc-eager";
    assert!(rows.iter().filter(copies).count() == 2 && rows.iter().filter(copies).all(|row| row["value"] == 1.0));
    assert_eq!(peers(&rows, "bw-copy", 1 << 20), ["floor", "vmmc"]);
    for (bench, metric) in [("rr", "rate 32 connections"), ("rr-plain", "rate"), ("connect", "rate 1 at a time")] {
        let whom = rows.iter().filter(|row| row["bench"] == bench && row["metric"] == metric);
        let whom: Vec<_> = whom.map(|row| row["peer"].as_str().unwrap()).collect();
        // At one MTU only: they are small.
        assert_eq!(whom, ["sockets", "sockets-block", "tcp", "tcp-block"], "{bench}");
    }
    let gather = |row: &&Value| row["metric"] == "vs gather" && row["mtu"] == 9000;
    let whose: Vec<_> = rows.iter().filter(gather).map(|row| row["peer"].as_str().unwrap()).collect();
    assert_eq!(whose, ["vmmc", "vmmc-eager", "sockets", "sockets-owned", "sockets-block"]);
    let nooff = |row: &Value| row["metric"] == "vs nooff" && row["peer"] == "sockets";
    assert_eq!(rows.iter().filter(|row| nooff(row)).count(), 2 * 2);
    assert!(rows.iter().all(|row| row["metric"] != "p50" || row["vs_tcp"].is_number()));
    // Of UCX's latencies there is nothing but what it prints.
    assert!(
        rows.iter().all(|row| !row["peer"].as_str().unwrap().starts_with("ucx")
            || !row["metric"].as_str().unwrap().starts_with("p99"))
    );
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        "one-way latency, median (us), MTU 1500",
        "MTU 9000",
        "vmmc/floor",
        "sockets-block/tcp-block",
        "32 connections, 1 KiB",
        "4 KiB",
        "1 round of 3 turns;",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

/// A directory to look for programs in that has all that is needed, but not UCX.
fn without_ucx(directory: &Path) {
    for program in ["ip", "ethtool"] {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|d| Path::new(d).join(program));
        let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
        symlink(found, directory.join(program)).unwrap();
    }
}

#[test]
fn a_tool_that_is_missing_is_named_and_left_out_unless_it_was_asked_for() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    without_ucx(directory.path());
    let json = directory.path().join("x.json");
    let run =
        |arguments: &str| bench(arguments).arg("--json").arg(&json).env("PATH", directory.path()).output().unwrap();
    let output = run("versus --quick --mtu 1500 --rounds 1 --duration 60");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("ucx_perftest isn't installed: apt-get install ucx-utils").count(), 1, "{text}");
    let rows: Vec<Value> = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| !row["peer"].as_str().unwrap().starts_with("ucx")));

    let output = run("versus --quick --peers floor,ucx");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("apt-get install ucx-utils"), "{text}");
}

#[test]
fn one_core_is_too_few() {
    let _alone = alone();
    let mut command = Command::new("taskset");
    let output = command.args(["-c", "0", env!("CARGO_BIN_EXE_vmmc-bench"), "versus", "--quick"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("two cores") && text.contains("only one"), "{text}");
}

fn start(arguments: &str) -> Child {
    bench(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `done` says so, or panics.
fn await_that(run: &mut Child, what: &str, mut done: impl FnMut(u32) -> bool) {
    let start = Instant::now();
    while !done(run.id()) {
        if start.elapsed() > Duration::from_secs(60) || run.try_wait().unwrap().is_some() {
            let _ = run.kill();
            panic!("{what}: {}", stderr(run));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The processes that `parents` have started.
fn children(parents: &[u32]) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().unwrap_or_default().split(' ').nth(1).and_then(|p| p.parse().ok());
        parent.is_some_and(|parent| parents.contains(&parent))
    })
    .collect()
}

fn is_gone(process: u32) -> bool {
    // One that nobody waits for stays as a name without a command line.
    fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty()
}

fn assert_nothing_is_left(run: u32) {
    await_no_workers(run);
    assert_eq!(namespaces_of(run), Vec::<String>::new());
}

#[test]
fn ctrl_c_while_a_lab_is_made_leaves_nothing_behind() {
    let _alone = alone();
    for number in 1..=2 {
        let mut run = start("versus --quick");
        await_that(&mut run, "no lab is begun", |id| namespaces_of(id).len() >= number);
        signal(run.id(), Signal::INT);
        let code = run.wait().unwrap().code();
        let text = stderr(&mut run);
        assert_eq!(code, Some(130), "{text}");
        assert!(text.contains("interrupted"), "{text}");
        assert_nothing_is_left(run.id());
    }
}

#[test]
fn ctrl_c_while_another_process_keeps_labs_from_being_made() {
    let _alone = alone();
    let mut flock = Command::new("flock");
    flock.args(["--no-fork", "/run", "sh", "-c", "echo locked; exec sleep 1000"]).stdout(Stdio::piped());
    let mut holder = ChildGuard::spawn(&mut flock).expect("flock (util-linux) can be started");
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let mut run = start("lat --peers tcp --rounds 1");
    let mut said = BufReader::new(run.stderr.take().unwrap());
    let mut text = String::new();
    said.read_line(&mut text).unwrap();
    assert!(text.contains(&format!("waiting for process {} (sleep 1000)", holder.id())), "{text}");
    signal(run.id(), Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    said.read_to_string(&mut text).unwrap();
    assert!(text.contains("interrupted"), "{text}");
    assert_nothing_is_left(run.id());
}

#[test]
fn ctrl_c_and_a_kill_while_another_program_measures() {
    let _alone = alone();
    if !installed("ucx_perftest") {
        panic!("ucx_perftest isn't installed: apt-get install ucx-utils");
    }
    for end in [Signal::INT, Signal::KILL] {
        let mut run = start("lat --peers ucx --rounds 1 --samples 100000000 --duration 300000");
        let mut tools = Vec::new();
        await_that(&mut run, "ucx_perftest isn't started", |id| {
            tools = children(&workers(id));
            let runs = |tool: &u32| {
                fs::read_to_string(format!("/proc/{tool}/cmdline")).is_ok_and(|line| line.starts_with("ucx_perftest"))
            };
            tools.len() == 2 && tools.iter().all(runs)
        });
        signal(run.id(), end);
        let code = run.wait().unwrap().code();
        await_no_workers(run.id());
        let begin = Instant::now();
        while !tools.iter().all(|&tool| is_gone(tool)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "ucx_perftest outlives who started it");
            thread::sleep(Duration::from_millis(10));
        }
        if end == Signal::INT {
            assert_eq!(code, Some(130), "{}", stderr(&mut run));
        } else {
            // It could not; whoever makes the next lab does.
            let directory = tempfile::tempdir().unwrap();
            succeed("lat --peers tcp --rounds 1 --samples 10", &directory.path().join("x.json"));
        }
        assert_nothing_is_left(run.id());
    }
}

#[test]
fn an_interface_that_goes_down_ends_the_run_with_its_name() {
    let _alone = alone();
    for peer in ["floor", "vmmc", "tcp-block"] {
        let mut run = start(&format!("bw --peers {peer} --rounds 1 --duration 300000"));
        await_that(&mut run, "nobody measures", |id| workers(id).len() == 2);
        thread::sleep(Duration::from_millis(500));
        let namespace = namespaces_of(run.id()).into_iter().find(|name| name.ends_with("-h1")).unwrap();
        let down = Command::new("ip").args(["-n", &namespace, "link", "set", "vh1", "down"]).status().unwrap();
        assert!(down.success());
        let status = run.wait().unwrap();
        let text = stderr(&mut run);
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("{peer}: interface vh1 of host 1 has gone down")), "{peer}: {text}");
        assert_nothing_is_left(run.id());
    }
}

#[test]
fn what_a_killed_run_has_left_of_its_lab_is_removed() {
    let _alone = alone();
    // Nobody has its number until all others have been used.
    let dead = Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id())).unwrap();
    for gone in ["h1", "h2"] {
        let name = format!("vmmctmp-{dead}-1");
        Lab::up(&LabConfig { name: name.clone(), ..LabConfig::default() }).unwrap();
        let half = Command::new("ip").args(["netns", "delete", &format!("{name}-{gone}")]).status().unwrap();
        assert!(half.success());
        assert_eq!(namespaces_of(dead).len(), 1);
        let directory = tempfile::tempdir().unwrap();
        succeed("lat --peers tcp --rounds 1 --samples 10", &directory.path().join("x.json"));
        assert_eq!(namespaces_of(dead), Vec::<String>::new());
    }
}

#[test]
fn several_results_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, ratio: f64| {
        let path = directory.path().join(name);
        let row = format!(
            r#"[{{"bench":"lat","peer":"vmmc","mtu":1500,"size":64,"metric":"p50","value":1.5,"unit":"us","vs_floor":{ratio},"vs_tcp":null}}]"#
        );
        fs::write(&path, row).unwrap();
        path
    };
    let (one, two) = (file("one.json", 1.0), file("two.json", 1.1));
    let compare = |limit: &str| bench(&format!("compare --limit {limit}")).args([&one, &two]).output().unwrap();
    let wide = compare("12%");
    let text = String::from_utf8_lossy(&wide.stdout);
    assert!(wide.status.success() && text.contains("vmmc/floor") && text.contains("9.5%"), "{text}");
    let narrow = compare("9");
    assert_eq!(narrow.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&narrow.stderr).contains("1 of 1 ratios"));
    let missing = bench("compare /nonexistent/a.json /nonexistent/b.json").output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/a.json"));
}
