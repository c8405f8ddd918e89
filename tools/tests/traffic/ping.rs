//! `vmmc ping`.

use rustix::process::Signal;

use super::hosts::{Hosts, text};

#[test]
fn round_trips_are_counted_and_written_out() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let file = hosts.files.path().join("times.hgrm");
    let out = hosts.ok(1, &["ping", "10.77.0.2", "--count", "100", "--hgrm", text(&file)]);
    assert!(out.starts_with("10.77.0.2:7000: 100 round trips of 64 bytes"), "{out}");
    let figures = |row: &str| -> Vec<f64> {
        let line = out.lines().find(|l| l.starts_with(row)).expect("the row is there");
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (round_trip, one_way) = (figures("round trip"), figures("one way"));
    assert_eq!((round_trip.len(), one_way.len()), (6, 6), "{out}");
    assert!(round_trip.is_sorted() && round_trip[0] > 0.0, "{out}");

    let histogram = std::fs::read_to_string(file).expect("it was written");
    let rows = histogram.lines().skip(1).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let rows: Vec<Vec<f64>> =
        rows.map(|l| l.split_whitespace().map(|w| w.parse().expect("a number")).collect()).collect();
    assert!(rows.len() > 5 && rows.iter().all(|row| row.len() >= 3), "{histogram}");
    assert_eq!(rows.last().expect("rows")[1..3], [1.0, 100.0], "{histogram}");
    assert!(histogram.contains("#[Mean") && histogram.contains("Total count    =          100]"), "{histogram}");

    let seen = server.interrupt();
    assert!(seen.contains("100 pings answered"), "{seen}");
    let status = vmmc_lab::Lab::status(hosts.lab.name()).expect("the lab is there");
    assert!(status.hosts.iter().all(|host| host.xdp.is_none()), "an XDP program is left over: {status:?}");
}

#[test]
fn sizes_intervals_and_both_families() {
    let hosts = Hosts::new(3);
    let server = hosts.serve(2, &[]);
    for size in ["0", "1", "1500", "9000", "64KiB"] {
        let out = hosts.ok(1, &["ping", "10.77.0.2", "--size", size, "--count", "20"]);
        assert!(out.contains("20 round trips"), "{out}");
    }
    let out = hosts.ok(1, &["ping", "10.77.0.2", "--interval", "10", "--count", "5", "--spin", "0"]);
    assert!(out.contains("5 round trips"), "{out}");
    // Two at a time.
    let others = [1, 3].map(|host| hosts.start(host, &["ping", "10.77.0.2", "--count", "200", "--size", "4K"]));
    for other in others {
        let finished = other.finish();
        assert!(finished.code() == Some(0) && finished.out.contains("200 round trips"), "{finished:?}");
    }
    drop(server);

    let _server = hosts.serve(2, &["--address", "fd77::2", "--core", "0"]);
    let out = hosts.ok(1, &["ping", "fd77::2", "--count", "20"]);
    assert!(out.starts_with("[fd77::2]:7000: 20 round trips"), "{out}");
}

#[test]
fn an_interrupted_ping_says_what_it_has_seen() {
    let hosts = Hosts::new(2);
    let mut server = hosts.serve(2, &["--export", "inbox:4K"]);
    let ping = hosts.start(1, &["ping", "10.77.0.2", "--duration", "0", "--interval", "1"]);
    // Its end is seen by the server; its beginning by another's.
    while !hosts.lab_has_xdp(1) {
        std::thread::yield_now();
    }
    ping.signal(Signal::INT);
    let finished = ping.finish();
    // It may have been interrupted before it was served.
    assert!(matches!(finished.code(), Some(0 | 130)), "{finished:?}");
    assert!(!finished.out.is_empty() || finished.err.contains("interrupted"), "{finished:?}");
    drop(hosts.ok(1, &["ping", "10.77.0.2", "--count", "3"]));
    server.signal(Signal::TERM);
    server.wait_for("pings answered");
    assert_eq!(server.finish().code(), Some(0));
}

#[test]
fn a_ping_ends_when_its_server_dies() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let ping = hosts.start(1, &["ping", "10.77.0.2", "--duration", "0", "--peer-timeout", "1"]);
    while !hosts.lab_has_xdp(1) {
        std::thread::yield_now();
    }
    server.kill();
    let error = ping.finish().failure();
    assert!(error.contains("10.77.0.2:7000"), "{error}");
}
