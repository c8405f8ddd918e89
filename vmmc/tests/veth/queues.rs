//! What is sent on a queue of a lab's interface arrives on the same queue, through a bridge as over a cable, with and without the program
//! there that damages packets. Two lanes of a node would be deaf otherwise.

use vmmc::{Node, Progress};
use xdp_prog::damage::{Damage, Shares};

use crate::hosts::{KEY, PATIENCE, address, lab, open_with, pattern};

#[test]
fn packets_stay_on_their_queue() {
    for (hosts, damaging) in [(2, false), (3, false), (3, true)] {
        let lab = lab(hosts, 9000);
        let attach = |host: usize| {
            lab.host(host)
                .enter_port(|port| Damage::attach(port, Shares::default()))
                .unwrap()
                .expect("the damaging program")
        };
        let _damage: Vec<_> = (1..=2).filter(|_| damaging).map(attach).collect();
        for queue in [0, 1] {
            let open = |host| {
                open_with(&lab, host, |b| b.queue(queue).progress(Progress::Thread { core: None }))
                    .expect("opening a node")
            };
            let (a, b): (Node, Node) = (open(1), open(2));
            let inbox = b.export("inbox").len(1 << 20).key(KEY).notify(true).create().unwrap();
            // Neither hears anything but what comes on its one queue.
            let remote =
                a.import(address(&lab, 2), "inbox", KEY).unwrap_or_else(|e| panic!("queue {queue} of {hosts}: {e}"));
            let sent = pattern(1 << 20, 3);
            remote.send(&sent, 0).notify(1).start().unwrap();
            inbox.wait_notification(PATIENCE).unwrap();
            let mut found = vec![0; sent.len()];
            inbox.read(0, &mut found).unwrap();
            assert!(found == sent, "queue {queue} of {hosts} hosts");
        }
    }
}
