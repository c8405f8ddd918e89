//! The interface goes down, and up again, while streams are busy.

use std::time::Duration;

use crate::process::{Family, PEER_TIMEOUT, Process, lab};

const LEN: u64 = 60_000_000;

/// Takes a host's interface away for a while in the middle of a transfer; returns what became of writer and reader.
fn interrupt(family: Family, away: Duration) -> [String; 2] {
    let lab = lab(2);
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    let accepted = server.give("accept l a");
    client.ok(format!("connect a {at}"));
    accepted.ok();
    // Slowly at first, so that it isn't over before.
    let mut writing = client.give(format!("write a 1 0 {LEN}"));
    server.ok("read a 1 0 1000000");
    lab.host(2).set_link(false).unwrap();
    let reading = server.give(format!("read a 1 1000000 {}", LEN - 1_000_000));
    std::thread::sleep(away);
    assert!(writing.is_waiting() || family == Family::Vmmc, "the writer can't have finished");
    lab.host(2).set_link(true).unwrap();
    let answers = [writing.answer(), reading.answer()];
    // Afterwards everything works as before.
    let accepted = server.give("accept l b");
    client.ok(format!("connect b {at}"));
    accepted.ok();
    let reading = server.give("read b 2 0 1000000");
    client.ok("write b 2 0 1000000");
    reading.ok();
    answers
}

pub fn down_for_a_moment_and_up_again(family: Family) {
    let [writing, reading] = interrupt(family, PEER_TIMEOUT / 10);
    assert!(writing.starts_with("ok") && reading.starts_with("ok"), "{writing}; {reading}");
}

pub fn down_for_long_and_up_again(family: Family) {
    let [writing, reading] = interrupt(family, PEER_TIMEOUT * 2);
    if family == Family::Tcp {
        assert!(writing.starts_with("ok") && reading.starts_with("ok"), "{writing}; {reading}");
    } else {
        let lost = |answer: &str| answer.starts_with("err ConnectionReset") || answer.starts_with("err TimedOut");
        assert!(lost(&writing) && lost(&reading), "{writing}; {reading}");
    }
}
