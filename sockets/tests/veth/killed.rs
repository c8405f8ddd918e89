//! Processes that are killed, in every state that a stream can be in: the other side learns it, and the next process of that host is as good as new.

use rustix::process::Signal;

use crate::process::{Family, Given, Process, lab};

/// What a killed process leaves behind may be seen as.
const ENDS: [&str; 4] = ["err ConnectionReset", "err BrokenPipe", "err TimedOut", "err ConnectionAborted"];

/// Fails unless the answer is an error that tells of a lost connection. TCP's kernel closes for the dead, in order where all was read: then
/// there may be an end instead. VMMC can't know that all was read, and never calls that an end.
#[track_caller]
fn lost(family: Family, what: &str, given: Given) {
    let answer = given.answer();
    let ended = family == Family::Tcp && answer.starts_with("ok");
    assert!(ended || ENDS.iter().any(|end| answer.starts_with(end)), "{what}: {answer}");
}

/// Opens a connection named `name` on both sides.
fn pair(client: &Process, server: &Process, listener: &str, at: &str, name: &str) {
    let given = server.give(format!("accept {listener} {name}"));
    client.ok(format!("connect {name} {at}"));
    given.ok();
}

/// Sends so many bytes from the one to the other.
fn transfer(from: &Process, to: &Process, name: &str, len: u64) {
    let reading = to.give(format!("read {name} 1 0 {len}"));
    from.ok(format!("write {name} 1 0 {len}"));
    reading.ok();
}

/// Connections in all states between a process that survives and one that doesn't.
const STATES: [&str; 7] =
    ["idle", "reader_blocked", "writer_blocked", "ended_there", "ended_here", "unread", "both_busy"];

/// Kills `victim` while all of its streams to `survivor` are in some state, and looks at what becomes of each.
fn kill_in_every_state(family: Family, survivor: &Process, victim: Process) {
    let ok = |command: &str| survivor.ok(command);
    victim.ok("shutdown ended_there write");
    assert_eq!(ok("end ended_there"), "0");
    ok("shutdown ended_here write");
    assert_eq!(victim.ok("end ended_here"), "0");
    victim.ok("write unread 5 0 1000");
    ok("read unread 5 0 1");
    ok("fill writer_blocked 1");
    let blocked = [
        ("reader_blocked", survivor.give("end reader_blocked")),
        ("writer_blocked", survivor.give("write writer_blocked 1 0 5000000")),
        ("ended_here", survivor.give("end ended_here")),
    ];
    let both = [survivor.give("end both_busy"), survivor.give("write_on both_busy")];
    drop((victim.give("write_on both_busy"), victim.give("end both_busy")));
    // They wait by now; if not, the test is only easier.
    std::thread::sleep(std::time::Duration::from_millis(100));
    victim.kill();
    // What had arrived can still be read.
    ok("read unread 5 1 999");
    for (state, given) in blocked {
        lost(family, state, given);
    }
    // Who looks first is told of the error, and then there is an end.
    let [reading, writing] = both.map(Given::answer);
    assert!(writing.starts_with("err"), "{writing}");
    let told = reading.starts_with("err") || !writing.starts_with("err BrokenPipe");
    assert!(told || family == Family::Tcp, "{reading}; {writing}");
    for state in ["idle", "unread"] {
        lost(family, state, survivor.give(format!("end {state}")));
    }
    for state in ["idle", "ended_there", "unread"] {
        let answer = survivor.ask(format!("write_on {state}"));
        assert!(ENDS.iter().any(|end| answer.starts_with(end)), "writing, {state}: {answer}");
    }
    for state in STATES {
        ok(&format!("drop {state}"));
    }
}

pub fn a_server_learns_that_its_client_was_killed(family: Family) {
    let lab = lab(2);
    let server = Process::start(family, lab.host(2));
    let at = server.ok("listen l 80");
    for _ in 0..2 {
        let client = Process::start(family, lab.host(1));
        STATES.iter().for_each(|state| pair(&client, &server, "l", &at, state));
        client.ok(format!("connect queued {at}"));
        client.ok("write queued 1 0 100");
        kill_in_every_state(family, &server, client);
        // Who had waited to be accepted may be forgotten, or be accepted and lost.
        let answer = server.ask("try_accept l queued");
        if answer.starts_with("ok") {
            lost(family, "queued", server.give("end queued"));
        } else {
            assert!(answer.starts_with("err WouldBlock"), "{answer}");
        }
    }
}

pub fn a_client_learns_that_its_server_was_killed(family: Family) {
    let lab = lab(2);
    let client = Process::start(family, lab.host(1));
    for _ in 0..2 {
        let server = Process::start(family, lab.host(2));
        let at = server.ok("listen l 80");
        STATES.iter().for_each(|state| pair(&client, &server, "l", &at, state));
        client.ok(format!("connect queued {at}"));
        kill_in_every_state(family, &client, server);
        lost(family, "queued", client.give("end queued"));
        // Nobody listens there now: TCP's kernel says so, and VMMC's peer can't say anything.
        let answer = client.ask(format!("connect new {at}"));
        let expected = if family == Family::Tcp { "err ConnectionRefused" } else { "err TimedOut" };
        assert!(answer.starts_with(expected), "{answer}");
    }
}

pub fn killed_again_and_again(family: Family) {
    // A process that comes back at once is another one, even if nobody has noticed yet that the first is gone.
    let lab = lab(2);
    let client = Process::start(family, lab.host(1));
    for round in 0..4 {
        let server = Process::start(family, lab.host(2));
        let at = server.ok("listen l 80");
        pair(&client, &server, "l", &at, "a");
        transfer(&client, &server, "a", 50_000);
        let there = client.ok("listen l 0");
        pair(&server, &client, "l", &there, "b");
        transfer(&server, &client, "b", 50_000);
        if round % 2 == 0 {
            server.kill();
        } else {
            drop(server);
        }
    }
}

pub fn stopped_and_continued(family: Family) {
    // SIGSTOP for longer than a peer may be silent: TCP's kernel goes on without the process, VMMC's peer is as good as dead.
    let lab = lab(2);
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    pair(&client, &server, "l", &at, "a");
    client.ok("write a 1 0 100");
    server.ok("read a 1 0 100");
    server.signal(Signal::STOP);
    let end = client.give("end a");
    std::thread::sleep(crate::process::PEER_TIMEOUT * 3);
    server.signal(Signal::CONT);
    if family == Family::Tcp {
        server.ok("write a 2 0 100");
        server.ok("drop a");
        assert_eq!(end.ok(), "100");
    } else {
        lost(family, "a stopped peer", end);
        let other = server.ask("end a");
        assert!(ENDS.iter().any(|end| other.starts_with(end)), "who was stopped learns it: {other}");
    }
    // They find together again.
    pair(&client, &server, "l", &at, "b");
    transfer(&server, &client, "b", 100_000);
}
