//! Whatever is posted, and whatever comes: the program lets in what the model does, and nothing else.

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use xdp_prog::{
    Storage,
    gate::{RUNS, Run},
};

use super::{
    at_home,
    model::Model,
    payload, shapes,
    shared::{GRANT, Lane, SOURCE_PORT, TOKEN, run},
};
use crate::{
    oracle::verdict_or_bulk,
    packet::{Node, PORT, bulk, ip, nodes, udp_to},
    trial::tried,
};

#[derive(Clone, Debug)]
enum Step {
    /// So many places more, of a run that differs from the usual one in these.
    Post {
        places: u64,
        grant: u32,
        token: u64,
        port: u16,
        segment: u32,
        admit: bool,
    },
    /// A packet that differs from the usual one in these, and in some bytes; cut or longer.
    Arrive {
        shape: Index,
        grant: u32,
        token: u64,
        port: u16,
        length: u32,
        changes: Vec<(Index, u8)>,
        resize: i32,
    },
    /// A packet of the eager lane.
    Eager,
    Strip(bool),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly the usual one.
    let grant = || prop_oneof![4 => Just(GRANT), 1 => Just(GRANT + 1)];
    let token = || prop_oneof![6 => Just(TOKEN), 1 => Just(TOKEN ^ 1 << 63), 1 => any::<u64>()];
    let port = || prop_oneof![6 => Just(SOURCE_PORT), 1 => any::<u16>()];
    let length = || prop_oneof![4 => Just(100u32), 1 => 0u32..40, 1 => 90u32..110, 1 => Just(5000u32)];
    let post = (0u64..6, grant(), token(), port(), length(), prop::bool::weighted(0.8)).prop_map(
        |(places, grant, token, port, segment, admit)| Step::Post { places, grant, token, port, segment, admit },
    );
    let changes = prop_oneof![3 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<u8>()), 1..4)];
    let resize = prop_oneof![6 => Just(0), 1 => -80i32..80];
    let arrive = (any::<Index>(), grant(), token(), port(), length(), changes, resize).prop_map(
        |(shape, grant, token, port, length, changes, resize)| Step::Arrive {
            shape,
            grant,
            token,
            port,
            length,
            changes,
            resize,
        },
    );
    let step = prop_oneof![
        4 => post,
        12 => arrive,
        1 => Just(Step::Eager),
        1 => any::<bool>().prop_map(Step::Strip),
        1 => Just(Step::Close),
    ];
    vec(step, 1..60)
}

fn frame(node: Node, step: &Step) -> Vec<u8> {
    let Step::Arrive { shape, grant, token, port, length, changes, resize } = step else {
        return at_home(node, udp_to(node.address, PORT));
    };
    let data = payload(*length as usize);
    let mut frame = match (*grant, *token, *port) {
        (GRANT, TOKEN, SOURCE_PORT) => shape.get(&shapes(node, 7, &data)).clone(),
        _ => at_home(node, ip(node.address, etherparse::IpNumber::UDP, &bulk(*port, *token, *grant, 7, &data))),
    };
    // Of the headers, but for the Ethernet addresses, which don't matter.
    let meaningful = (frame.len() - data.len()) - 12;
    for (place, value) in changes {
        frame[12 + place.index(meaningful)] = *value;
    }
    let length = frame.len().saturating_add_signed(*resize as isize).max(14);
    frame.resize(length, 0x77);
    frame
}

fn agrees_with_the_model(node: Node) {
    let mut storage = Storage::new();
    let lane = Lane::open(&mut storage, node);
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let admitted = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&steps(), |steps| {
            lane.gate.close();
            lane.gate.skip_to(0);
            lane.gate.set_lane(0, true);
            let mut model = Model { strip: true, ..Model::default() };
            // Where the next place is posted, and the slot for its run.
            let (mut next, mut slot) = (0, 0);
            for step in &steps {
                match *step {
                    Step::Post { places, grant, token, port, segment, admit } => {
                        let used_up = model.runs.get(&slot).is_none_or(|run| run.places.end <= model.used);
                        if used_up {
                            let mut run = Run { grant, token, ..run(node, next, next + places, segment) };
                            run.source.set_port(port);
                            next += places;
                            lane.gate.set_run(slot, &run);
                            model.runs.insert(slot, run);
                            slot = (slot + 1) % RUNS;
                        }
                        if admit {
                            lane.gate.admit(next);
                            model.posted = next;
                        }
                    }
                    Step::Strip(strip) => {
                        lane.gate.set_lane(0, strip);
                        model.strip = strip;
                    }
                    Step::Close => {
                        lane.gate.close();
                        model.runs.clear();
                        model.posted = model.used;
                        next = model.used;
                    }
                    Step::Arrive { .. } | Step::Eager => {
                        let frame = frame(node, step);
                        let (expected, left) = match verdict_or_bulk(node, PORT, &frame) {
                            Ok("redirected") => ("no_socket", None), // not on the lane's queue
                            Ok(verdict) => (verdict, None),
                            Err(packet) => model.meet(&packet),
                        };
                        let (verdict, found) = tried(&lane.program, None, &frame);
                        prop_assert_eq!(verdict, expected);
                        prop_assert!(found == left.unwrap_or(&frame), "another frame is left, after {}", verdict);
                    }
                }
                prop_assert_eq!(lane.gate.used(), model.used);
            }
            for (&place, &entry) in &model.log {
                prop_assert_eq!(lane.gate.entry(place), entry);
            }
            admitted.set(admitted.get() + model.log.len());
            Ok(())
        })
        .unwrap();
    assert!(admitted.get() > 100, "only {} packets were let in: this tries too little", admitted.get());
}

#[test]
fn at_an_ipv4_node() {
    agrees_with_the_model(nodes()[0]);
}

#[test]
fn at_an_ipv6_node() {
    agrees_with_the_model(nodes()[1]);
}

#[test]
fn at_nodes_in_a_vlan() {
    agrees_with_the_model(nodes()[2]);
    agrees_with_the_model(nodes()[3]);
}
