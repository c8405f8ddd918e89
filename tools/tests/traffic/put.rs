//! `vmmc put`, when all goes well.

use std::fs;

use super::hosts::{Hosts, text};

#[test]
fn files_of_all_sizes_arrive_and_are_kept() {
    let hosts = Hosts::new(2);
    let kept = tempfile::tempdir().expect("a directory");
    let directory = text(kept.path());
    let mut server = hosts.serve(2, &["--export", "inbox:8MiB", "--write-to", directory]);
    for length in [0, 1, 1500, (5 << 20) + 1, 8 << 20] {
        let name = format!("file-{length}");
        let path = hosts.file(&name, length);
        let out = hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&path)]);
        assert!(out.contains("verified by the receiver (SHA-256 "), "{out}");
        assert_eq!(out.contains("Gbit/s"), length > 0, "{out}");
        let line = server.wait_for("verified");
        assert!(line.starts_with(&format!("10.77.0.1:7000 put {name} (")), "{line}");
        assert!(fs::read(kept.path().join(&name)).expect("it is kept") == fs::read(&path).expect("it is there"));
    }
    // The same again isn't written over.
    let out = hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&hosts.file("file-1", 1))]);
    assert!(out.contains("file-1.1"), "{out}");
    assert_eq!(fs::read_dir(kept.path()).expect("it is there").count(), 6);
    let seen = server.interrupt();
    assert!(seen.contains("6 puts verified, 0 damaged, 0 given up"), "{seen}");
}

#[test]
fn a_key_lets_in_and_once_ends() {
    let hosts = Hosts::new(2);
    let path = hosts.file("small", 1000);
    let server = hosts.serve(2, &["--export", "a b:64K", "--export", "other:4K", "--key", "random", "--once"]);
    let line = server.seen_line("other");
    let key = line.split_whitespace().last().expect("the key is its last word").to_owned();
    assert_eq!(key.len(), 32, "{line}");
    assert!(server.seen_line("a b").contains("'a b' FILE --interface IF --key"));
    let error = hosts.fails(1, &["put", "10.77.0.2", "a b", text(&path)]);
    assert!(error.contains("none was given: --key HEX"), "{error}");
    hosts.ok(1, &["put", "10.77.0.2", "a b", text(&path), "--key", &key]);
    let finished = server.finish();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(finished.out.contains("1 puts verified"), "{finished:?}");
}
