//! The gate on an interface: packets that come over a wire, to a socket that receives them.

use std::{net::UdpSocket, os::fd::AsFd};

use xdp_prog::{Mode, Steering};

use super::{
    payload,
    shared::{GRANT, Mapped, SOURCE_PORT, TOKEN, run},
};
use crate::{
    attach::other_host,
    netns::{Namespace, target},
    packet::{PORT, bulk, node_v4, nodes},
    receiver::Receiver,
    trial::eventually,
};

#[test]
fn what_lands_is_the_payload_and_nothing_else() {
    let here = Namespace::with_veth();
    let there = other_host(&here);
    let steering = here.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    assert_eq!(steering.mode(), Mode::Native);
    let mut receiver = here.run(|| Receiver::bind("v0"));
    steering.register(0, receiver.as_fd()).unwrap();
    let gate = Mapped::of(steering.gate());
    gate.set_lane(0, true);
    let node = nodes()[0];
    gate.set_run(0, &run(node, 0, 3, 1000));
    gate.set_run(1, &run(node, 3, 4, 50));
    gate.admit(4);

    let sender = there.run(|| UdpSocket::bind(("10.77.0.2", SOURCE_PORT))).unwrap();
    let send = |grant, segment, length| {
        let packet = bulk(SOURCE_PORT, TOKEN, grant, segment, &payload(length));
        sender.send_to(&packet[8..], (node_v4(), PORT + 1)).unwrap(); // the UDP header is the kernel's
    };
    // What is refused leaves no trace between the others.
    send(GRANT + 1, 9, 1000);
    send(GRANT, 2, 1000);
    send(GRANT, 2, 999);
    send(GRANT, 1, 1000);
    send(GRANT, 1, 1001);
    send(GRANT, 0, 1000);
    send(GRANT, 0, 1000);
    send(GRANT, 5, 50);
    send(GRANT, 5, 50);
    for (place, segment, length) in [(0, 2, 1000), (1, 1, 1000), (2, 0, 1000), (3, 5, 50)] {
        assert_eq!(receiver.receive(), payload(length), "place {place}");
        let entry = gate.entry(place);
        assert_eq!((entry.grant, entry.segment), (GRANT, segment), "place {place}");
    }
    let mut counters = steering.counters().unwrap();
    eventually(|| {
        counters = steering.counters().unwrap();
        counters.bulk_no_place == 1
    });
    assert_eq!((counters.bulk_admitted, counters.bulk_stale, counters.bulk_length), (4, 1, 3), "{counters:?}");
    assert_eq!(gate.used(), 4);
}
