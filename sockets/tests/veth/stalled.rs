//! Programs that do nothing for long.

use crate::process::{Family, PEER_TIMEOUT, Process, lab};

fn connected(family: Family, lab: &vmmc_lab::TempLab) -> (Process, Process) {
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    let accepted = server.give("accept l a");
    client.ok(format!("connect a {at}"));
    accepted.ok();
    (client, server)
}

pub fn a_peer_that_doesn_t_read_for_long_loses_nothing(family: Family) {
    let lab = lab(2);
    let (client, server) = connected(family, &lab);
    // Longer than a peer may be silent: it isn't, only the program doesn't read.
    let mut writing = client.give("write a 1 0 30000000");
    std::thread::sleep(PEER_TIMEOUT * 3);
    assert!(writing.is_waiting(), "30 MB don't fit between them");
    server.ok("read a 1 0 30000000");
    writing.ok();
    // Idle for as long, then busy again.
    std::thread::sleep(PEER_TIMEOUT * 2);
    let reading = server.give("read a 1 30000000 1000000");
    client.ok("write a 1 30000000 1000000");
    reading.ok();
}

pub fn waiting_takes_no_processor(family: Family) {
    let lab = lab(2);
    let (client, server) = connected(family, &lab);
    let mut waiting = [client.give("read a 1 0 100"), server.give("read a 2 0 100"), server.give("accept l b")];
    // They go to sleep.
    std::thread::sleep(PEER_TIMEOUT);
    let before = [client.ticks(), server.ticks()];
    std::thread::sleep(PEER_TIMEOUT * 2);
    let used = [client.ticks() - before[0], server.ticks() - before[1]];
    // Of 200 ticks; one that spins takes all.
    assert!(used.iter().all(|ticks| *ticks < 40), "waiting took {used:?} of 200 ticks");
    assert!(waiting.iter_mut().all(|given| given.is_waiting()));
    client.ok("write a 2 0 100");
    server.ok("write a 1 0 100");
    let [one, other, _] = waiting;
    one.ok();
    other.ok();
}
