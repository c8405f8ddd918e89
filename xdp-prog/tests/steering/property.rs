//! Frames nobody thought of: random bytes, and known frames spoiled at random. The program must agree
//! with the oracle on all of them.

use std::os::fd::AsFd;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use xdp_prog::{Program, Storage};

use crate::{
    fixtures::{others, ours},
    oracle,
    packet::{Node, PORT, nodes},
    trial::{verdict, xdp_socket},
};

/// One frame in three is noise; the others are fixtures with a few bytes changed, perhaps cut.
fn frames(node: Node) -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = ours(node).into_iter().chain(others(node)).map(|(_, frame, _)| frame).collect();
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    let spoiled = (select(known), changes, 14usize..200).prop_map(|(mut frame, changes, length)| {
        // Addresses of the Ethernet header don't matter: spare them, so that changes hit what does.
        let meaningful = frame.len() - 12;
        for (place, value) in changes {
            frame[12 + place.index(meaningful)] = value;
        }
        frame.truncate(length);
        frame
    });
    prop_oneof![1 => vec(any::<u8>(), 14..200), 2 => spoiled]
}

fn agrees_with_the_oracle(node: Node) {
    let mut storage = Storage::new();
    let program = Program::load(&mut storage, node.address, PORT, node.vlan).expect("these tests need root");
    let xsk = xdp_socket();
    program.maps().register(0, xsk.as_fd()).unwrap();
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&frames(node), |frame| {
            prop_assert_eq!(verdict(&program, &frame), oracle::verdict(node, PORT, &frame));
            Ok(())
        })
        .unwrap();
}

#[test]
fn at_an_ipv4_node() {
    agrees_with_the_oracle(nodes()[0]);
}

#[test]
fn at_an_ipv6_node() {
    agrees_with_the_oracle(nodes()[1]);
}

#[test]
fn at_nodes_in_a_vlan() {
    agrees_with_the_oracle(nodes()[2]);
    agrees_with_the_oracle(nodes()[3]);
}
