//! `--fault`: a bad network, on demand.

use super::hosts::{Hosts, text};

const FAULTS: &str = "drop=2%,dup=1%,reorder=2%,corrupt=0.5%";

#[test]
fn a_file_arrives_whole_in_spite_of_faults_both_ways() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:8MiB", "--fault", FAULTS]);
    let path = hosts.file("file", 5 << 20);
    let put = hosts.run(1, &["put", "10.77.0.2", "inbox", text(&path), "--fault", &format!("{FAULTS},seed=7")]);
    assert!(put.code() == Some(0) && put.out.contains("verified by the receiver (SHA-256 "), "{put:?}");
    assert!(put.err.contains("faults are on") && put.err.contains("drop=2%"), "{put:?}");
    let ping = hosts.run(1, &["ping", "10.77.0.2", "--count", "200", "--fault", "drop=5%,reorder=100%,delay=1ms"]);
    assert!(ping.code() == Some(0) && ping.out.contains("200 round trips"), "{ping:?}");
    let seen = server.interrupt();
    assert!(seen.contains("1 puts verified, 0 damaged, 0 given up"), "{seen}");
}

#[test]
fn faults_that_can_t_be_are_explained() {
    let hosts = Hosts::new(2);
    for (faults, part) in [("drop=2", "0% to 100%"), ("loss=1%", "there are drop, dup"), ("delay=1ms", "reorder=100%")]
    {
        let finished = hosts.run(1, &["ping", "10.77.0.2", "--fault", faults]);
        assert!(finished.code() == Some(2) && finished.err.contains(part), "{finished:?}");
    }
}
