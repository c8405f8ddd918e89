//! Nodes on VLANs (802.1Q): their frames carry the tag, and those of other VLANs are not theirs.
//!
//! Not every kernel can make VLAN interfaces, and the wire doesn't need them. So the tests here have lanes put together by hand, on
//! the port itself, with a tag. Those that open nodes on VLAN interfaces are in [`devices`], to be run where the kernel has them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use vmmc::node::Resolve;
use vmmc::port::eager::EagerPort;
use vmmc::route::Routes;
use vmmc::{DEFAULT_PORT, EngineError, Error, Lane, LinkEnd, Node, Progress};
use vmmc_lab::TempLab;
use xdp_prog::{Steering, Target};

use crate::hosts::{KEY, PATIENCE, lab, pattern};

mod devices;

/// The other host's Ethernet address: these addresses are unknown to the kernel.
struct Fixed([u8; 6]);

impl Resolve for Fixed {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<[u8; 6], Error> {
        Ok(self.0)
    }
}

fn v4(host: usize) -> IpAddr {
    [10, 78, 0, host as u8].into()
}

fn v6(host: usize) -> IpAddr {
    format!("fd78::{host}").parse().unwrap()
}

/// A node of host 1 or 2 in a VLAN, or in none.
fn open_in(lab: &TempLab, host: usize, vlan: Option<u16>, address: IpAddr) -> Node {
    let there = lab.host(3 - host).mac;
    let host = lab.host(host);
    let lane = || {
        let interface = Routes::open().unwrap().interface(&host.interface).unwrap();
        let (name, udp_port, mtu) = (interface.name, DEFAULT_PORT, interface.mtu as usize);
        let target = Target { interface: name.clone(), ifindex: interface.index, address, port: udp_port, vlan };
        let steering = Steering::attach(&target).unwrap();
        let queues: Vec<u32> = (0..interface.rx_queues).collect();
        let port = EagerPort::open(&name, &queues, mtu).unwrap();
        port.sockets().for_each(|(queue, socket)| steering.register(queue, socket).unwrap());
        let binding = Some(port.binding());
        let (mac, resolver, steering) = (interface.mac, Box::new(Fixed(there)), Some(std::sync::Arc::new(steering)));
        Lane {
            port: Box::new(port),
            interface: Some(name),
            address,
            udp_port,
            mac,
            vlan,
            mtu,
            resolver,
            steering,
            binding,
            arena: None,
            no_bulk: None,
        }
    };
    let settings = Node::builder().progress(Progress::Thread { core: None });
    let settings = settings.connect_timeout(Duration::from_millis(300));
    host.enter(|| settings.open_on(lane()).unwrap()).unwrap()
}

/// Puts 3 MB from one node to the other, twice, and compares.
fn put(from: &Node, to: &Node) {
    const LENGTH: usize = 3_000_000;
    let inbox = to.export("inbox").len(LENGTH).key(KEY).notify(true).create().unwrap();
    let remote = from.import(to.local(), "inbox", KEY).unwrap();
    for salt in 0..2 {
        let data = pattern(LENGTH, salt);
        remote.send(&data, 0).notify(1).wait().unwrap();
        inbox.wait_notification(PATIENCE).unwrap();
        let mut seen = vec![0; LENGTH];
        inbox.read(0, &mut seen).unwrap();
        assert!(seen == data, "other bytes have arrived");
    }
}

/// Two nodes that exchange data, in frames with a tag, of the largest MTU.
fn exchange(a: &Node, b: &Node, mtu: u32) {
    put(a, b);
    put(b, a);
    for stats in [a.stats().unwrap(), b.stats().unwrap()] {
        assert_eq!(stats.links[0].mtu, mtu as usize);
        let verdicts = stats.verdicts.unwrap();
        assert!(verdicts.redirected > 0 && stats.engine.rx_other_vlan == 0, "{stats:?}");
    }
}

/// Two nodes that don't hear each other.
fn deaf(a: &Node, b: &Node) {
    for (a, b) in [(a, b), (b, a)] {
        let _inbox = b.export("inbox").key(KEY).create().unwrap();
        let error = a.import(b.local(), "inbox", KEY).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::LinkEnded { end: LinkEnd::NoAnswer(_), .. })), "{error:?}");
        let stats = b.stats().unwrap();
        assert_eq!(stats.links.len(), 0, "{stats:?}");
        let verdicts = stats.verdicts.unwrap();
        assert!(verdicts.other_vlan > 0 && verdicts.redirected == 0, "{verdicts:?}");
    }
}

/// Sends a megabyte to `at` on host 2 and back, over the kernel's TCP, while two nodes are busy.
fn tcp_beside(lab: &TempLab, at: SocketAddr, a: &Node, b: &Node) {
    let listener = lab.host(2).enter(|| TcpListener::bind(at)).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut seen = vec![0; 1_000_000];
            stream.read_exact(&mut seen).unwrap();
            stream.write_all(&seen).unwrap();
        });
        scope.spawn(|| put(a, b));
        let mut stream = lab.host(1).enter(|| TcpStream::connect(at)).unwrap().unwrap();
        let mut seen = vec![0; 1_000_000];
        stream.write_all(&pattern(1_000_000, 3)).unwrap();
        stream.read_exact(&mut seen).unwrap();
        assert!(seen == pattern(1_000_000, 3));
    });
}

/// Has the bridge of a lab of three hosts send frames with their tags in place.
fn leave_tags_in_place(lab: &TempLab) {
    let switch = format!("{}-switch", lab.name());
    for port in ["port1", "port2"] {
        let arguments = ["netns", "exec", &switch, "ethtool", "-K", port, "txvlan", "off"];
        assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ethtool is needed");
    }
}

#[test]
fn data_arrives_at_every_mtu_over_both_versions_of_ip() {
    for mtu in [1500, 9000, 65535] {
        let lab = lab(2, mtu);
        for address in [v4, v6] {
            exchange(&open_in(&lab, 1, Some(5), address(1)), &open_in(&lab, 2, Some(5), address(2)), mtu);
        }
    }
}

#[test]
fn other_vlans_and_none_are_not_heard() {
    let lab = lab(2, 1500);
    for (one, two) in [(Some(5), Some(6)), (Some(5), None)] {
        let a = open_in(&lab, 1, one, v4(1));
        let b = open_in(&lab, 2, two, v4(2));
        deaf(&a, &b);
        drop(b);
        exchange(&a, &open_in(&lab, 2, one, v4(2)), 1500);
    }
}

#[test]
fn the_kernel_s_traffic_goes_on() {
    let lab = lab(2, 1500);
    let (a, b) = (open_in(&lab, 1, Some(5), v4(1)), open_in(&lab, 2, Some(5), v4(2)));
    tcp_beside(&lab, SocketAddr::new(lab.host(2).address.into(), 9999), &a, &b);
    let verdicts = b.stats().unwrap().verdicts.unwrap();
    assert!(verdicts.other_vlan > 0, "TCP was seen and passed on: {verdicts:?}");
}

#[test]
fn behind_a_bridge_that_leaves_tags_in_place() {
    let lab = lab(3, 1500);
    leave_tags_in_place(&lab);
    exchange(&open_in(&lab, 1, Some(5), v4(1)), &open_in(&lab, 2, Some(5), v4(2)), 1500);
}
