//! Very many connections: at once, and one after the other.

use crate::common::eventually;
use crate::process::{Family, Process, lab};

pub fn two_thousand_connections_at_once(family: Family) {
    const CONNECTIONS: usize = 2000;
    let lab = lab(2);
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    let accepted = server.give(format!("accepts g l {CONNECTIONS}"));
    client.ok(format!("connects g {at} {CONNECTIONS}"));
    accepted.ok();
    // In rounds: more than the smallest rings hold, on all of them, before any is read on the other side by more than one thread.
    for (at, len) in [(0, 1000), (1000, 3000), (4000, 12_000)] {
        let all = [
            client.give(format!("writes g {at} {len}")),
            server.give(format!("reads g {at} {len}")),
            server.give(format!("writes g {at} {len}")),
            client.give(format!("reads g {at} {len}")),
        ];
        all.into_iter().for_each(|given| drop(given.ok()));
    }
    let (before, held) = (server.descriptors(), server.resident());
    println!("with {CONNECTIONS} connections a server holds {held} KiB and {before} descriptors");
    client.ok("drop g");
    server.ok("drop g");
    // And what they took is there again.
    let again = server.give(format!("accepts g l {CONNECTIONS}"));
    client.ok(format!("connects g {at} {CONNECTIONS}"));
    again.ok();
    let reading = server.give("reads g 0 100");
    client.ok("writes g 0 100");
    reading.ok();
}

/// Opens and closes so many connections; the process may not grow by that.
fn churn(family: Family, connections: usize) {
    let lab = lab(2);
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    // As long as the server lives.
    drop(server.give("serve_all l"));
    let churn = |times: usize| {
        let mut left = times;
        while left > 0 {
            let some = left.min(1000);
            client.ok(format!("churn {at} {some}"));
            left -= some;
        }
    };
    // Tables and allocators reach their size.
    churn(1000);
    let before = [&client, &server].map(|p| (p.resident(), p.descriptors()));
    churn(connections);
    for (name, process, (resident, descriptors)) in [("client", &client, before[0]), ("server", &server, before[1])] {
        // The last ones may still be closing.
        eventually("descriptors are closed", || process.descriptors() <= descriptors + 2);
        let now = process.resident();
        println!("after {connections} connections the {name} holds {now} KiB instead of {resident}");
        // One that loses 100 bytes for each would be noticed by those that open 100,000.
        let allowance = 1024.max(connections as u64 / 10);
        assert!(now <= resident + allowance, "the {name} has grown from {resident} to {now} KiB");
    }
}

pub fn connections_come_and_go_and_leave_nothing(family: Family) {
    churn(family, 5000);
}

/// Takes minutes: `cargo test -p vmmc-sockets --test veth -- --ignored a_hundred_thousand`.
#[test]
#[ignore = "takes minutes: run it by name"]
fn a_hundred_thousand_connections_come_and_go() {
    crate::common::watched_for(crate::common::PATIENCE * 30, "a hundred thousand connections", || {
        churn(Family::Vmmc, 100_000);
    });
}
