//! `--fault`: a bad network, on demand.

use super::hosts::{Hosts, text};

const FAULTS: &str = "drop=2%,dup=1%,reorder=2%,corrupt=0.5%";

/// How many faults of each kind a program says it has made: dropped, duplicated, delayed, corrupted, spared.
fn counts(out: &str, way: &str) -> Vec<u64> {
    let start = format!("faults in what was {way}: ");
    let line = out.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("not said: {out}"));
    line.split(' ').filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn what_was_done_is_said_of_a_run_that_fails_too() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let finished = hosts.run(1, &["ping", "10.77.0.2", "--fault", "drop=100%,on=receive"]);
    assert!(finished.code() == Some(1) && finished.err.contains("error: "), "{finished:?}");
    assert!(counts(&finished.out, "received")[0] > 0, "{finished:?}");
    drop(server);
}

#[test]
fn a_file_arrives_whole_in_spite_of_faults_both_ways() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:8MiB", "--fault", &format!("{FAULTS},on=both")]);
    let path = hosts.file("file", 5 << 20);
    let put = hosts.run(1, &["put", "10.77.0.2", "inbox", text(&path), "--fault", &format!("{FAULTS},seed=7")]);
    assert!(put.code() == Some(0) && put.out.contains("verified by the receiver (SHA-256 "), "{put:?}");
    assert!(put.err.contains("faults are on") && put.err.contains("drop=2%"), "{put:?}");
    assert!(counts(&put.out, "sent")[..4].iter().all(|&n| n > 0), "{put:?}");
    assert!(!put.out.contains("faults in what was received"), "{put:?}");
    let ping = hosts.run(1, &["ping", "10.77.0.2", "--count", "200", "--fault", "drop=5%,reorder=100%,delay=1ms"]);
    assert!(ping.code() == Some(0) && ping.out.contains("200 round trips"), "{ping:?}");
    assert!(counts(&ping.out, "sent")[2] > 0, "{ping:?}");
    let seen = server.interrupt();
    assert!(counts(&seen, "received")[0] > 0 && counts(&seen, "sent").len() == 5, "{seen}");
    assert!(seen.contains("1 puts verified, 0 damaged, 0 given up"), "{seen}");
}

#[test]
fn faults_that_can_t_be_are_explained() {
    let hosts = Hosts::new(2);
    for (faults, part) in [
        ("drop=2", "0% to 100%"),
        ("loss=1%", "there are drop, dup"),
        ("delay=1ms", "reorder=100%"),
        ("on=in", "on=receive"),
    ] {
        let finished = hosts.run(1, &["ping", "10.77.0.2", "--fault", faults]);
        assert!(finished.code() == Some(2) && finished.err.contains(part), "{finished:?}");
    }
}
