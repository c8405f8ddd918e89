//! A lab, and nodes on its hosts.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmmc::node::Builder;
use vmmc::{DEFAULT_PORT, Error, Key, Node, Progress};
use vmmc_lab::{LabConfig, TempLab};

pub fn lab(hosts: usize, mtu: u32) -> TempLab {
    TempLab::new(&LabConfig { hosts, mtu, ..LabConfig::default() })
        .unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"))
}

/// Opens a node on a host, with settings of the test's own.
pub fn open_with(lab: &TempLab, host: usize, settings: impl FnOnce(Builder) -> Builder) -> Result<Node, Error> {
    let host = lab.host(host);
    let settings = settings(Node::builder().interface(&host.interface).address(host.address.into()));
    host.enter(|| settings.open()).expect("entering the namespace")
}

/// A node with a thread of its own: it answers whatever the test does.
pub fn open(lab: &TempLab, host: usize) -> Node {
    open_with(lab, host, |b| b.progress(Progress::Thread { core: None })).expect("opening a node")
}

pub fn address(lab: &TempLab, host: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(lab.host(host).address), DEFAULT_PORT)
}

pub const KEY: Key = Key::new([9; 16]);

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add((i >> 16) as u8) ^ salt)
        .collect()
}
