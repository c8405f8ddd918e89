//! What is logged of the lives of nodes, links, exports and imports.

use rustix::process::Signal;

use super::hosts::{Hosts, text};

/// A line of a log with all these parts.
#[track_caller]
fn assert_logged(log: &str, parts: &[&str]) {
    let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line has {parts:?}:\n{log}");
}

#[test]
fn a_link_s_life_on_both_sides() {
    let hosts = Hosts::new(2);
    let mut server = hosts.start_logging("debug", 2, &["serve", "--export", "inbox:4K"]);
    server.wait_for("answering pings");
    let ping = hosts.start_logging("debug", 1, &["ping", "10.77.0.2", "--count", "5"]).finish();
    assert_eq!(ping.code(), Some(0), "{ping:?}");
    server.signal(Signal::INT);
    let server = server.finish();
    assert_eq!(server.code(), Some(0), "{server:?}");

    // On a busy host a HELLO may be answered late, and a smaller MTU be agreed on at first.
    for (log, own, peer) in
        [(&ping.err, "10.77.0.1:7000", "10.77.0.2:7000"), (&server.err, "10.77.0.2:7000", "10.77.0.1:7000")]
    {
        let peer = format!("peer={peer}");
        assert_logged(log, &["INFO vmmc::node: node open", &format!("local={own}")]);
        assert_logged(log, &["INFO vmmc::steering: program attached", "mode=native"]);
        assert_logged(log, &["INFO vmmc::link: link open", &peer, "mtu="]);
        assert_logged(log, &["INFO vmmc::engine: import granted", &peer]);
        assert_logged(log, &["INFO vmmc::engine: imported", &peer]);
        assert_logged(log, &["INFO vmmc::link: link ended", &peer, "tx_data="]);
        assert_logged(log, &["INFO vmmc::node: node closed", &format!("local={own}"), "clean=true"]);
        assert!(!log.contains("TRACE"), "{log}");
    }
    assert_logged(&ping.err, &["DEBUG vmmc::route: way found", "hop=10.77.0.2", "mac=02:"]);
    assert_logged(&ping.err, &["DEBUG vmmc::link: WELCOME", "mtu=", "wanted=1500"]);
    assert_logged(&ping.err, &["link ended", "end=the link was closed here"]);
    assert_logged(&server.err, &["INFO vmmc::engine: exported", "export=\"inbox\"", "length=4096"]);
    assert_logged(&server.err, &["link ended", "end=it has closed the link"]);
}

#[test]
fn refusals_have_their_reason_and_keys_stay_secret() {
    let hosts = Hosts::new(2);
    let (key, wrong) = ("00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100");
    let file = hosts.file("file", 100);
    let mut server = hosts.start_logging("trace,libbpf=off", 2, &["serve", "--export", "inbox:4K", "--key", key]);
    server.wait_for("answering pings");
    let put = |name, key| {
        let args = ["put", "10.77.0.2", name, text(&file), "--key", key];
        hosts.start_logging("vmmc=trace", 1, &args).finish()
    };
    let runs = [put("inbox", wrong), put("outbox", key), put("inbox", key)];
    assert_eq!(runs.each_ref().map(|run| run.code()), [Some(1), Some(1), Some(0)], "{runs:?}");
    server.signal(Signal::INT);
    let server = server.finish();
    assert_logged(&server.err, &["DEBUG vmmc::engine: import refused", "export=\"inbox\"", "reason=Denied"]);
    assert_logged(&server.err, &["DEBUG vmmc::engine: import refused", "export=\"outbox\"", "reason=UnknownName"]);
    for log in runs.iter().map(|run| &run.err).chain([&server.err]) {
        // Neither as digits nor as a list of bytes.
        for secret in [key, wrong, "17, 34, 51, 68", "238, 221, 204"] {
            assert!(!log.contains(secret), "{secret} is in {log}");
        }
    }
}

#[test]
fn nothing_is_logged_unless_asked_for() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:4K"]);
    let ping = hosts.run(1, &["ping", "10.77.0.2", "--count", "5"]);
    assert!(ping.code() == Some(0) && ping.err.is_empty(), "{ping:?}");
    server.signal(Signal::INT);
    let server = server.finish();
    assert!(server.code() == Some(0) && server.err.is_empty(), "{server:?}");
}
