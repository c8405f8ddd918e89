//! The bulk lane's gate: what is let in, what is left of it, and the account that is kept.

mod admitted;
#[cfg(feature = "damage")]
mod damage;
mod model;
mod property;
mod racing;
mod refused;
mod shared;
mod wire;

use etherparse::{EtherType, IpNumber, Ipv4Options};

use crate::packet::{Node, bulk, ip, ip_with, tagged};
use shared::{GRANT, SOURCE_PORT, TOKEN};

/// Bytes that differ.
fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// As it is in the node's VLAN.
fn at_home(node: Node, frame: Vec<u8>) -> Vec<u8> {
    node.vlan.map_or(frame.clone(), |vlan| tagged(EtherType::VLAN_TAGGED_FRAME, vlan, &frame))
}

/// A packet that a run of [`shared::run`] is for.
fn packet(node: Node, segment: u32, payload: &[u8]) -> Vec<u8> {
    at_home(node, ip(node.address, IpNumber::UDP, &bulk(SOURCE_PORT, TOKEN, GRANT, segment, payload)))
}

/// The same in every shape that IP gives it.
fn shapes(node: Node, segment: u32, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = vec![packet(node, segment, payload)];
    if node.address.is_ipv4() {
        let udp = bulk(SOURCE_PORT, TOKEN, GRANT, segment, payload);
        frames.extend([4, 40].map(|length| {
            let options = Ipv4Options::try_from(&[1; 40][..length]).unwrap();
            at_home(node, ip_with(node.address, IpNumber::UDP, &udp, |ip| ip.options = options))
        }));
    }
    if node.vlan.is_none() {
        frames.push(tagged(EtherType::VLAN_TAGGED_FRAME, 0, &frames[0]));
    }
    frames
}
