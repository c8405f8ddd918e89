//! What goes wrong, and how it is told.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::Signal;
use vmmc::{Key, Node, Progress};

use super::hosts::{Hosts, Program, text};

const BIG: usize = 256 << 20;

/// Starts a put of a big file and waits until the server has seen its beginning.
fn begin_put(hosts: &Hosts, server: &mut Program, file: &Path) -> Program {
    let put = hosts.start(1, &["put", "10.77.0.2", "inbox", text(file), "--peer-timeout", "30"]);
    server.wait_for("10.77.0.1:7000 begins a put");
    put
}

#[test]
fn wrong_arguments() {
    let hosts = Hosts::new(2);
    let file = hosts.file("file", 5000);
    let file = text(&file);
    let _server = hosts.serve(2, &["--export", "inbox:4K", "--key", "00112233445566778899aabbccddeeff"]);
    let key = ["--key", "00112233445566778899aabbccddeeff"];
    let wrong_key = ["--key", "00112233445566778899aabbccddeef0"];
    let directory = text(hosts.files.path());
    let cases: [(&[&str], &[&str]); 7] = [
        (&["put", "10.77.0.2", "inbox", file], &["\"inbox\" under a key, and none was given: --key HEX"]),
        (
            &["put", "10.77.0.2", "inbox", file, wrong_key[0], wrong_key[1]],
            &["\"inbox\" under another key", "vmmc serve"],
        ),
        (&["put", "10.77.0.2", "outbox", file], &["exports no buffer named \"outbox\""]),
        (&["put", "10.77.0.2", "inbox", file, key[0], key[1]], &["5000 bytes", "4 KiB"]),
        (&["put", "10.77.0.2", "inbox", directory, key[0], key[1]], &["is a directory"]),
        (&["put", "10.77.0.2", "inbox", "/dev/null"], &["only a regular file"]),
        (&["put", "10.77.0.2", "inbox", "/absent", key[0], key[1]], &["can't read /absent", "No such file"]),
    ];
    for (args, parts) in cases {
        let error = hosts.fails(1, args);
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
    let error = hosts.fails(1, &["ping", "10.77.0.2", "--size", "64KiB", "--hgrm", "/absent/file"]);
    assert!(error.contains("can't write /absent/file"), "{error}");
    let error = hosts.fails(1, &["ping", "10.77.0.2", "--size", "65537"]);
    assert!(error.contains("0 to 65536 bytes"), "{error}");
    for usage in [&["ping", "nobody"][..], &["put", "10.77.0.2", "inbox"], &["serve", "--export", "inbox"]] {
        let finished = hosts.run(1, usage);
        assert_eq!(finished.code(), Some(2), "{finished:?}");
    }
}

#[test]
fn nobody_there() {
    let hosts = Hosts::new(2);
    let file = hosts.file("file", 10);
    // A host without a node, an address without a host.
    for peer in ["10.77.0.2", "10.77.0.9", "10.77.0.2:7001"] {
        for args in [&["ping", peer][..], &["put", peer, "inbox", text(&file)]] {
            let error = hosts.fails(1, args);
            assert!(error.contains(peer), "{error}");
        }
    }
}

#[test]
fn no_such_interface_and_a_busy_one() {
    let hosts = Hosts::new(2);
    let mut command = hosts.lab.host(1).command(env!("CARGO_BIN_EXE_vmmc"));
    let output = command.args(["serve", "--interface", "absent0"]).output().expect("vmmc can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("absent0"), "{error}");

    let server = hosts.serve(2, &[]);
    let error = hosts.fails(2, &["serve"]);
    assert!(error.contains("vh2"), "{error}");
    // The first isn't disturbed.
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "10"]);
    server.interrupt();
}

#[test]
fn a_put_ends_when_its_server_dies() {
    let hosts = Hosts::new(2);
    let file = hosts.file("big", BIG);
    let mut server = hosts.serve(2, &[]);
    let put = hosts.start(1, &["put", "10.77.0.2", "inbox", text(&file), "--peer-timeout", "1"]);
    server.wait_for("begins a put");
    server.kill();
    let error = put.finish().failure();
    assert!(error.contains("10.77.0.2:7000"), "{error}");
    // The interface is free again, on both sides.
    let _server = hosts.serve(2, &[]);
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&file)]);
}

#[test]
fn a_server_survives_its_clients() {
    let hosts = Hosts::new(2);
    let (big, small) = (hosts.file("big", BIG), hosts.file("small", 1000));
    let mut server = hosts.serve(2, &["--peer-timeout", "1"]);
    // One that dies is noticed,
    begin_put(&hosts, &mut server, &big).kill();
    server.wait_for("given up");
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&small)]);
    server.wait_for("verified");
    // and one that comes again at once is served at once.
    begin_put(&hosts, &mut server, &big).kill();
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&small)]);
    let out = hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&big)]);
    assert!(out.contains("verified"), "{out}");
    let seen = server.interrupt();
    assert!(seen.contains("3 puts verified, 0 damaged, 2 given up"), "{seen}");
}

#[test]
fn one_put_at_a_time() {
    let hosts = Hosts::new(3);
    let (big, small) = (hosts.file("big", BIG), hosts.file("small", 1000));
    let mut server = hosts.serve(2, &["--peer-timeout", "30"]);
    let first = begin_put(&hosts, &mut server, &big);
    first.signal(Signal::STOP);
    let error = hosts.fails(3, &["put", "10.77.0.2", "inbox", text(&small)]);
    assert!(error.contains("10.77.0.1:7000 is putting a file into \"inbox\""), "{error}");
    first.signal(Signal::CONT);
    let finished = first.finish();
    assert!(finished.code() == Some(0) && finished.out.contains("verified"), "{finished:?}");
    hosts.ok(3, &["put", "10.77.0.2", "inbox", text(&small)]);
}

#[test]
fn a_file_that_changes_while_it_is_sent() {
    let hosts = Hosts::new(2);
    let file = hosts.file("big", BIG);
    let mut server = hosts.serve(2, &["--peer-timeout", "30", "--once"]);
    let put = begin_put(&hosts, &mut server, &file);
    put.signal(Signal::STOP);
    let writable = OpenOptions::new().write(true).open(&file).expect("it is there");
    writable.set_len(BIG as u64 / 2).expect("it can be cut");
    put.signal(Signal::CONT);
    let error = put.finish().failure();
    assert!(error.contains("has shrunk") && error.contains("256 MiB"), "{error}");

    writable.set_len(BIG as u64).expect("it can be lengthened");
    let put = begin_put(&hosts, &mut server, &file);
    put.signal(Signal::STOP);
    writable.write_all_at(b"something else", BIG as u64 - 100).expect("it can be written");
    put.signal(Signal::CONT);
    let error = put.finish().failure();
    assert!(error.contains("it was written to while it was sent"), "{error}");
    let finished = server.finish();
    assert!(finished.out.contains("DAMAGED") && finished.out.contains("1 damaged"), "{finished:?}");
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    fs::remove_file(file).expect("it is there");
}

#[test]
fn a_node_that_is_no_server() {
    let hosts = Hosts::new(2);
    let file = hosts.file("file", 10);
    let open = || Node::builder().interface("vh2").progress(Progress::Thread { core: None }).open();
    let node = hosts.lab.host(2).enter(open).expect("the host is there").expect("a node can be opened");
    let _inbox = node.export("inbox").len(4096).key(Key::PUBLIC).create().expect("a buffer can be exported");
    let error = hosts.fails(1, &["ping", "10.77.0.2"]);
    assert!(error.contains("10.77.0.2:7000 is a node, but answers no pings"), "{error}");
    let error = hosts.fails(1, &["put", "10.77.0.2", "inbox", text(&file)]);
    assert!(error.contains("exports \"inbox\", but receives no files into it"), "{error}");
    let error = hosts.fails(1, &["ping", "10.77.0.1"]);
    assert!(error.contains("10.77.0.1:7000 is this node itself"), "{error}");
}

#[test]
fn a_peer_that_is_silent_because_the_interface_here_is_down() {
    let hosts = Hosts::new(2);
    let file = hosts.file("big", BIG);
    let mut server = hosts.serve(2, &[]);
    let put = hosts.start(1, &["put", "10.77.0.2", "inbox", text(&file), "--peer-timeout", "1"]);
    server.wait_for("begins a put");
    hosts.lab.host(1).set_link(false).expect("it can be set down");
    let error = put.finish().failure();
    let expected = "it is dead or out of reach. The reason may be here: interface vh1 is down: ip link set vh1 up";
    assert!(error.contains("the link to 10.77.0.2:7000 has ended") && error.contains(expected), "{error}");
}

#[test]
fn packets_on_the_bulk_lane_s_queue_are_noticed() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let unheard = |stats: &str| stats.contains("packets on queues where nobody hears them");
    let stats = hosts.look(&["stats", "vh2"]);
    assert!(stats.code() == Some(0) && !unheard(&stats.out), "{stats:?}");
    // A packet arrives on the queue that it is sent on: the server's second is its lane's.
    hosts.fails(1, &["ping", "10.77.0.2", "--queue", "1"]);
    for _ in 0..2 {
        let stats = hosts.look(&["stats", "vh2"]);
        assert!(stats.code() == Some(0) && unheard(&stats.out), "{stats:?}");
    }
    server.signal(Signal::INT);
    let log = server.finish().err;
    let told = log.matches("arrive on a queue where it doesn't hear them").count();
    assert!(told == 1 && log.contains("Behind a Linux bridge give the interface one queue"), "{log}");
}

#[test]
fn a_server_says_that_its_interface_has_gone_down() {
    let hosts = Hosts::new(2);
    let mut server = hosts.serve(2, &[]);
    hosts.lab.host(2).set_link(false).expect("it can be set down");
    server.wait_for("trouble: interface vh2 is down: ip link set vh2 up");
    hosts.lab.host(2).set_link(true).expect("it can be set up");
    server.wait_for("the trouble is over");
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "10"]);
}
