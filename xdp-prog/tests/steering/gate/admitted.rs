//! What is let in: only its payload is left, and what its header said is in the log.

use std::os::fd::AsFd;

use xdp_prog::{
    Storage,
    gate::{Entry, LOG, MIN_SEGMENT, NO_QUEUE, RUNS, Run},
};

use super::{
    packet, payload, shapes,
    shared::{GRANT, Lane, TOKEN, run},
};
use crate::{
    foreign::Foreign,
    netns::{Namespace, target},
    packet::{PORT, node_v4, nodes, udp_to},
    trial::{tried, verdict},
};

/// What the header of [`packet`] says.
fn entry(segment: u32) -> Entry {
    Entry { grant: GRANT, segment, checksum: 0xc0c1_c2c3, flags: 4 }
}

#[test]
fn of_every_shape_only_the_payload_is_left() {
    for node in nodes() {
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        lane.post(node, 1000);
        let data = payload(1000);
        let frames = shapes(node, 77, &data);
        for (place, frame) in (0..).zip(&frames) {
            assert_eq!(lane.gate.used(), place);
            let (verdict, left) = tried(&lane.program, None, frame);
            assert_eq!(verdict, "bulk_admitted", "shape {place}, {node:?}");
            assert!(left == data, "shape {place}, {node:?}: {} bytes are left", left.len());
            assert_eq!(lane.gate.entry(place), entry(77));
        }
        assert_eq!(lane.gate.used(), frames.len() as u64);
    }
}

#[test]
fn where_headers_stay_the_whole_frame_is_left() {
    for node in nodes() {
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        lane.gate.set_lane(0, false);
        lane.post(node, 100);
        for (place, frame) in (0..).zip(shapes(node, 5, &payload(100))) {
            assert_eq!(tried(&lane.program, None, &frame), ("bulk_admitted", frame));
            assert_eq!(lane.gate.entry(place), entry(5));
        }
    }
}

#[test]
fn frames_of_several_buffers_too() {
    for node in nodes() {
        for length in [3000, 4096, 8192, 9000, 61_440, 65_000] {
            let mut storage = Storage::new();
            let lane = Lane::open(&mut storage, node);
            lane.post(node, length);
            let data = payload(length as usize);
            let (verdict, left) = tried(&lane.program, None, &packet(node, 0, &data));
            assert_eq!(verdict, "bulk_admitted", "{length} bytes, {node:?}");
            assert!(left == data, "{length} bytes, {node:?}: {} are left", left.len());
            // One byte more, one less.
            for other in [length - 1, length + 1] {
                let frame = packet(node, 0, &payload(other as usize));
                assert_eq!(tried(&lane.program, None, &frame), ("bulk_length", frame));
            }
            assert_eq!(lane.gate.used(), 1);
        }
    }
}

#[test]
fn the_shortest_segments() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, MIN_SEGMENT);
    let least = payload(MIN_SEGMENT as usize);
    assert_eq!(tried(&lane.program, None, &packet(node, 0, &least)), ("bulk_admitted", least));
    // Any less, and the headers can't be taken off. They may stay.
    for length in [0, MIN_SEGMENT - 1] {
        lane.gate.set_run(0, &run(node, 0, 10, length));
        let frame = packet(node, 0, &payload(length as usize));
        lane.gate.set_lane(0, true);
        let used = lane.gate.used();
        assert_eq!(tried(&lane.program, None, &frame), ("bulk_length", frame.clone()));
        assert_eq!(lane.gate.used(), used);
        lane.gate.set_lane(0, false);
        assert_eq!(tried(&lane.program, None, &frame), ("bulk_admitted", frame));
        assert_eq!(lane.gate.used(), used + 1);
    }
}

#[test]
fn places_are_used_in_order_until_none_is_left() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    let frame = |segment| packet(node, segment, &payload(64));
    assert_eq!(verdict(&lane.program, &frame(0)), "bulk_no_place");
    // A run is set before its places are posted.
    lane.gate.set_run(3, &run(node, 0, 5, 64));
    assert_eq!(verdict(&lane.program, &frame(0)), "bulk_no_place");
    for (posted, segments) in [(2, 20..22), (3, 30..31), (5, 50..52)] {
        lane.gate.admit(posted);
        assert_eq!(lane.gate.posted(), posted);
        for segment in segments {
            assert_eq!(verdict(&lane.program, &frame(segment)), "bulk_admitted");
        }
        assert_eq!(lane.gate.used(), posted);
        assert_eq!(verdict(&lane.program, &frame(99)), "bulk_no_place");
    }
    let logged: Vec<_> = (0..5).map(|place| lane.gate.entry(place).segment).collect();
    assert_eq!(logged, [20, 21, 30, 50, 51]);
    // What is posted and of no run is no place.
    lane.gate.admit(100);
    assert_eq!(verdict(&lane.program, &frame(99)), "bulk_no_place");
    // Another end, and it goes on.
    lane.gate.set_run(3, &run(node, 0, 6, 64));
    assert_eq!(verdict(&lane.program, &frame(6)), "bulk_admitted");
    assert_eq!(verdict(&lane.program, &frame(99)), "bulk_no_place");
    assert_eq!(lane.gate.entry(5), entry(6));
}

#[test]
fn each_run_has_its_places() {
    let node = nodes()[1];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    // As many as there may be, two places each, and not in the order of the slots; all different.
    let runs: Vec<Run> = (0..RUNS as u64)
        .map(|n| Run { grant: 100 + n as u32, segment: 50 + n as u32, ..run(node, 2 * n, 2 * n + 2, 0) })
        .collect();
    for (n, run) in runs.iter().enumerate() {
        lane.gate.set_run((n * 5 + 3) % RUNS, run);
    }
    lane.gate.admit(1000);
    let frame = |run: &Run, segment| {
        let udp = crate::packet::bulk(run.source.port(), run.token, run.grant, segment, &payload(run.segment as usize));
        crate::packet::ip(node.address, etherparse::IpNumber::UDP, &udp)
    };
    for (n, current) in runs.iter().enumerate() {
        for place in current.places.clone() {
            for other in runs.iter().filter(|other| *other != current) {
                assert_eq!(verdict(&lane.program, &frame(other, 9)), "bulk_stale", "run {n}");
            }
            assert_eq!(verdict(&lane.program, &frame(current, 7)), "bulk_admitted", "run {n}");
            assert_eq!(lane.gate.entry(place).grant, current.grant);
        }
    }
    assert_eq!(lane.gate.used(), 2 * RUNS as u64);
    assert_eq!(verdict(&lane.program, &frame(&runs[0], 0)), "bulk_no_place");
}

#[test]
fn the_log_begins_again_from_the_front() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    let posted = LOG as u64 + 10;
    lane.gate.set_run(0, &run(node, 0, posted, 64));
    lane.gate.admit(posted);
    for segment in 0..posted {
        assert_eq!(verdict(&lane.program, &packet(node, segment as u32, &payload(64))), "bulk_admitted");
    }
    for place in 10..posted {
        assert_eq!(lane.gate.entry(place), entry(place as u32));
    }
}

#[test]
fn closed_nothing_is_let_in_until_it_begins_anew() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, 64);
    let frame = packet(node, 1, &payload(64));
    assert_eq!(verdict(&lane.program, &frame), "bulk_admitted");
    let _ = lane.gate.close();
    assert_eq!((lane.gate.used(), lane.gate.posted()), (1, 1));
    assert_eq!(verdict(&lane.program, &frame), "bulk_no_place");
    lane.gate.admit(10);
    assert_eq!(verdict(&lane.program, &frame), "bulk_no_place");

    let _ = lane.gate.close();
    lane.gate.skip_to(1 << 40);
    lane.gate.set_run(0, &run(node, 1 << 40, (1 << 40) + 2, 64));
    assert_eq!(verdict(&lane.program, &frame), "bulk_no_place");
    lane.gate.admit((1 << 40) + 2);
    assert_eq!(verdict(&lane.program, &frame), "bulk_admitted");
    assert_eq!(lane.gate.used(), (1 << 40) + 1);
    assert_eq!(lane.gate.entry(1 << 40), entry(1));
}

#[test]
fn without_a_socket_nothing_is_let_in_or_counted_as_such() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, 64);
    let frame = packet(node, 1, &payload(64));
    lane.program.maps().unregister(0).unwrap();
    assert_eq!(tried(&lane.program, None, &frame), ("bulk_no_place", frame.clone()));
    assert_eq!((lane.gate.used(), lane.gate.entry(0)), (0, Entry::default()));
    // There is nothing to take out any more, and that is no error; but this is.
    lane.program.maps().unregister(0).unwrap();
    let error = lane.program.maps().unregister(xdp_prog::MAX_QUEUES).unwrap_err();
    assert!(error.to_string().contains("from 0 to 1023"), "{error}");

    lane.program.maps().register(0, lane.socket.as_fd()).unwrap();
    assert_eq!(verdict(&lane.program, &frame), "bulk_admitted");
}

#[test]
fn the_lanes_queue_takes_nothing_else() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, 64);
    let (bulk, eager) = (packet(node, 1, &payload(64)), udp_to(node_v4(), PORT));
    assert_eq!(verdict(&lane.program, &eager), "no_socket");
    for other in [1, NO_QUEUE] {
        lane.gate.set_lane(other, true);
        assert_eq!(tried(&lane.program, None, &bulk), ("bulk_other_queue", bulk.clone()));
        assert_eq!(verdict(&lane.program, &eager), "redirected");
    }
    assert_eq!(lane.gate.used(), 0);
}

#[test]
fn without_a_lane_none_of_its_packets_gets_anywhere() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let program = xdp_prog::Program::load(&mut storage, node.address, PORT, None).unwrap();
    // Not even to the kernel.
    assert_eq!(verdict(&program, &packet(node, 1, &payload(64))), "bulk_other_queue");
}

#[test]
fn on_queues_of_an_interface() {
    let namespace = Namespace::new();
    namespace.ip("link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 numrxqueues 2 numtxqueues 2");
    namespace.ip("link set v0 up");
    namespace.ip("link set v1 up");
    namespace.run(|| {
        let ifindex = target("v0", node_v4(), PORT).ifindex;
        // The kernel knows the queues of an interface while any XDP program runs there.
        let mut foreign = Foreign::load();
        foreign.attach_directly(ifindex, false);
        let node = nodes()[0];
        let mut storage = Storage::new();
        let lane = Lane::open(&mut storage, node);
        lane.program.maps().register(1, lane.socket.as_fd()).unwrap();
        lane.gate.set_lane(1, true);
        lane.post(node, 64);
        let (bulk, eager) = (packet(node, 1, &payload(64)), udp_to(node_v4(), PORT));
        let on = |queue, frame| tried(&lane.program, Some((ifindex, queue)), frame).0;
        assert_eq!((on(0, &eager), on(0, &bulk)), ("redirected", "bulk_other_queue"));
        assert_eq!((on(1, &eager), on(1, &bulk)), ("no_socket", "bulk_admitted"));
        assert_eq!((lane.gate.used(), lane.gate.entry(0)), (1, entry(1)));
        assert!(lane.program.run_in(Some((ifindex, 2)), &bulk).is_err());
    });
}

#[test]
fn a_token_is_eight_bytes() {
    let node = nodes()[0];
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    lane.post(node, 64);
    for bit in 0..64 {
        lane.gate.set_run(0, &Run { token: TOKEN ^ 1 << bit, ..run(node, 0, 10, 64) });
        assert_eq!(verdict(&lane.program, &packet(node, 1, &payload(64))), "bulk_stale", "bit {bit}");
    }
}
