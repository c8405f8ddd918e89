//! `vmmc get`: of files that are offered, of what has been put, and of what may not be had.

use std::fs;

use super::hosts::{Hosts, text};

#[test]
fn files_that_are_offered_are_had_whole_or_in_part() {
    let hosts = Hosts::new(2);
    let files = [0, 1, (5 << 20) + 1].map(|length| (length, hosts.file(&format!("file-{length}"), length)));
    let offers = files.each_ref().map(|(length, path)| format!("f{length}:{}", text(path)));
    let [a, b, c] = offers.each_ref().map(String::as_str);
    let server = hosts.serve(2, &["--file", a, "--file", b, "--file", c, "--export", "inbox:4K"]);
    assert!(server.seen_line("f5242881").contains("offering \"f5242881\", 5242881 bytes: vmmc get 10.77.0.2 f5242881"));
    let out = hosts.files.path().join("out");
    for (length, path) in &files {
        let said = hosts.ok(1, &["get", "10.77.0.2", &format!("f{length}"), "--out", text(&out)]);
        assert!(said.contains("verified (SHA-256 "), "{said}");
        assert_eq!(said.contains("Gbit/s"), *length > 0, "{said}");
        assert!(fs::read(&out).expect("it is kept") == fs::read(path).expect("it is there"));
    }
    let part = ["get", "10.77.0.2", "f5242881", "--offset", "4097", "--length", "1M", "--out", text(&out)];
    let said = hosts.ok(1, &part);
    assert!(said.contains("a part of a file can't be verified"), "{said}");
    assert!(fs::read(&out).expect("it is kept") == fs::read(&files[2].1).expect("it is there")[4097..4097 + (1 << 20)]);
    let said = hosts.ok(1, &["get", "10.77.0.2", "f5242881", "--fault", "drop=1%,corrupt=1%,on=both,seed=3"]);
    assert!(said.contains("verified") && said.contains("dropped"), "{said}");

    // Nothing of what fails is left.
    fs::write(&out, "as it was").expect("it can be written");
    for (args, parts) in [
        (&["f1", "--offset", "2"][..], ["\"f1\"", "1 bytes"]),
        (&["f1", "--length", "2"], ["\"f1\"", "past its end"]),
        (&["inbox"], ["\"inbox\"", "--readable"]),
        (&["outbox"], ["exports no buffer named", "\"outbox\""]),
    ] {
        let error = hosts.fails(1, &[&["get", "10.77.0.2"], args, &["--out", text(&out)]].concat());
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
    let error = hosts.fails(1, &["get", "10.77.0.2", "f1", "--out", "/absent/file"]);
    assert!(error.contains("can't write /absent/file"), "{error}");
    let error = hosts.fails(1, &["put", "10.77.0.2", "f1", text(&files[1].1)]);
    assert!(error.contains("but receives no files into it"), "{error}");
    assert_eq!(fs::read(&out).expect("it is there"), b"as it was");
    let left = fs::read_dir(hosts.files.path()).expect("it is there").flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().ends_with(".part")));
    let seen = server.interrupt();
    assert!(seen.contains("bytes fetched") && !seen.contains("; 0 bytes fetched"), "{seen}");
}

#[test]
fn what_was_put_is_had_again_with_its_key() {
    let hosts = Hosts::new(2);
    let path = hosts.file("file", 100_000);
    let key = "00112233445566778899aabbccddeeff";
    let _server = hosts.serve(2, &["--export", "inbox:128K", "--readable", "--key", key]);
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&path), "--key", key]);
    let out = hosts.files.path().join("out");
    let error = hosts.fails(1, &["get", "10.77.0.2", "inbox", "--out", text(&out)]);
    assert!(error.contains("none was given: --key HEX"), "{error}");
    let args = ["get", "10.77.0.2", "inbox", "--length", "100000", "--out", text(&out), "--key", key];
    let said = hosts.ok(1, &args);
    assert!(said.contains("there is nothing to verify it with"), "{said}");
    assert!(fs::read(&out).expect("it is kept") == fs::read(&path).expect("it is there"));
    let stats = hosts.look(&["stats"]);
    assert!(stats.out.contains("fetched") && stats.out.contains("by others, from exports"), "{}", stats.out);
}

#[test]
fn what_can_t_be_offered_is_said() {
    let hosts = Hosts::new(2);
    for (offer, part) in [("a:/absent", "can't read /absent"), ("a:/dev/null", "only a regular file")] {
        let error = hosts.fails(1, &["serve", "--file", offer]);
        assert!(error.contains(part), "{error}");
    }
    for usage in ["a", ":/etc/passwd", "vmmc.x:/etc/passwd", "a:"] {
        assert_eq!(hosts.run(1, &["serve", "--file", usage]).code(), Some(2), "{usage}");
    }
}
