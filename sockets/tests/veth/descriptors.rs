//! No descriptor left: an error that says so, nothing lost, and on it goes once there are some again.

use crate::process::{Family, Process, lab};

/// EMFILE, as std tells it: it has no kind of its own.
const TOO_MANY: &str = "os error 24";

/// Allows a process so many descriptors more than it has.
fn limit(process: &Process, more: usize) {
    process.ok(format!("limit {}", process.descriptors() + more));
}

pub fn without_descriptors_there_is_an_error_and_with_them_it_goes_on(family: Family) {
    let lab = lab(2);
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    // A connection that is there before, to live through all of it.
    let accepted = server.give("accept l first");
    client.ok(format!("connect first {at}"));
    accepted.ok();
    limit(&client, 3);
    let mut open = 0;
    let failure = loop {
        let answer = client.ask(format!("connect c{open} {at}"));
        if !answer.starts_with("ok") {
            break Some(answer);
        }
        open += 1;
        // Streams may do without descriptors of their own.
        if open == 30 {
            break None;
        }
    };
    if let Some(answer) = &failure {
        assert!(answer.contains(TOO_MANY), "{answer}");
    }
    assert!(failure.is_some() || family == Family::Vmmc);
    // The server accepts those that there are, with as few as it has.
    limit(&server, 2);
    let mut accepted = 0;
    while accepted < open {
        let answer = server.ask(format!("accept l s{accepted}"));
        if answer.starts_with("ok") {
            accepted += 1;
            continue;
        }
        assert!(answer.contains(TOO_MANY), "{answer}");
        // Who waits isn't lost by that.
        limit(&server, 50);
    }
    let reading = server.give("read first 1 0 100000");
    client.ok("write first 1 0 100000");
    reading.ok();
    for n in 0..open {
        let reading = server.give(format!("read s{n} 2 0 1000"));
        client.ok(format!("write c{n} 2 0 1000"));
        reading.ok();
        client.ok(format!("drop c{n}"));
        server.ok(format!("drop s{n}"));
    }
    client.ok(format!("connect again {at}"));
    server.ok("accept l again");
}
