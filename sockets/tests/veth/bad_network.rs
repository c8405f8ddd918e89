//! A bridge that loses and damages, between two processes.

use vmmc_lab::TempLab;
use xdp_prog::damage::{Damage, Shares};

use crate::process::{Family, Process, lab};

/// Damages what a host sends.
fn damage(lab: &TempLab, host: usize) -> Damage {
    let shares = Shares { dropped: 0.01, damaged: 0.003 };
    let attach = |port: &str| Damage::attach(port, shares).expect("attaching the damaging program");
    lab.host(host).enter_port(attach).expect("a lab of three hosts has a switch")
}

pub fn streams_survive_loss_and_damage(family: Family) {
    let lab = lab(3);
    let (there, back) = (damage(&lab, 1), damage(&lab, 2));
    let (client, server) = (Process::start(family, lab.host(1)), Process::start(family, lab.host(2)));
    let at = server.ok("listen l 80");
    for n in 0..4 {
        let accepted = server.give(format!("accept l s{n}"));
        client.ok(format!("connect s{n} {at}"));
        accepted.ok();
    }
    let mut all = Vec::new();
    for n in 0..4 {
        all.push(client.give(format!("write s{n} {n} 0 3000000")));
        all.push(server.give(format!("read s{n} {n} 0 3000000")));
        all.push(server.give(format!("write s{n} 1{n} 0 3000000")));
        all.push(client.give(format!("read s{n} 1{n} 0 3000000")));
    }
    all.into_iter().for_each(|given| drop(given.ok()));
    // Many small ones, opened and closed on the way.
    drop(server.give("serve l"));
    client.ok(format!("churn {at} 200"));
    for counted in [there.counters().unwrap(), back.counters().unwrap()] {
        assert!(counted.dropped > 0, "{counted:?}");
        assert!(counted.damaged > 0 || family == Family::Tcp, "{counted:?}");
    }
}
