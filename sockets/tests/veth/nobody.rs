//! Connecting to those who aren't there.

use crate::process::{Family, Process, lab};

#[track_caller]
fn fails(process: &Process, address: &str, kinds: &[&str]) {
    let answer = process.ask(format!("connect x {address}"));
    assert!(kinds.iter().any(|kind| answer.starts_with(&format!("err {kind}"))), "{address}: {answer}");
}

pub fn who_isn_t_there_can_t_be_connected_to(family: Family) {
    let lab = lab(2);
    let client = Process::start(family, lab.host(1));
    // A host where no such program runs: TCP's kernel refuses for it.
    let silent: &[&str] = if family == Family::Tcp { &["ConnectionRefused"] } else { &["TimedOut"] };
    fails(&client, "10.77.0.2:80", silent);
    // No such host, and no way there.
    fails(&client, "10.77.0.99:80", &["HostUnreachable", "TimedOut"]);
    let no_way: &[&str] =
        if family == Family::Tcp { &["NetworkUnreachable"] } else { &["NetworkUnreachable", "HostUnreachable"] };
    fails(&client, "192.0.2.1:80", no_way);
    // Oneself, where nobody listens; then somebody does.
    fails(&client, "10.77.0.1:80", &["ConnectionRefused"]);
    let home = client.ok("listen home 80");
    client.ok(format!("connect near {home}"));
    client.ok("accept home far");
    client.ok("write near 1 0 1000");
    client.ok("read far 1 0 1000");
    // A program runs there, and doesn't listen; then it does.
    let server = Process::start(family, lab.host(2));
    fails(&client, "10.77.0.2:80", &["ConnectionRefused"]);
    let at = server.ok("listen l 80");
    client.ok(format!("connect a {at}"));
    server.ok("accept l a");
    let reading = server.give("read a 1 0 100000");
    client.ok("write a 1 0 100000");
    reading.ok();
    // It stops to listen, and later ends in order.
    server.ok("drop l");
    fails(&client, "10.77.0.2:80", &["ConnectionRefused"]);
}
