//! Nodes on VLAN interfaces, opened by name like any other.
//!
//! They need a kernel with CONFIG_VLAN_8021Q, and so they are run when asked for:
//! `cargo test -p vmmc --test veth devices -- --ignored`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmmc::route::RouteError;
use vmmc::{Error, Node, Progress};
use vmmc_lab::TempLab;

use super::{deaf, exchange, leave_tags_in_place, put, tcp_beside, v4, v6};
use crate::hosts::{lab, open, open_with};

fn ip(lab: &TempLab, host: usize, arguments: &str) {
    let output = lab.host(host).command("ip").args(arguments.split_whitespace()).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments} (this needs a kernel with CONFIG_VLAN_8021Q): {problem}");
}

/// Gives a host an interface in a VLAN, and addresses there. Returns its name.
fn add_vlan(lab: &TempLab, host: usize, id: u16) -> String {
    let port = &lab.host(host).interface;
    let name = format!("{port}.{id}");
    ip(lab, host, &format!("link add link {port} name {name} type vlan id {id}"));
    ip(lab, host, &format!("address add 10.78.0.{host}/24 dev {name}"));
    ip(lab, host, &format!("address add fd78::{host}/64 dev {name} nodad"));
    ip(lab, host, &format!("link set {name} up"));
    name
}

fn try_open_on(lab: &TempLab, host: usize, interface: &str, address: IpAddr) -> Result<Node, Error> {
    let thread = Progress::Thread { core: None };
    let timeout = Duration::from_millis(300);
    open_with(lab, host, |b| b.interface(interface).address(address).progress(thread).connect_timeout(timeout))
}

fn open_on(lab: &TempLab, host: usize, interface: &str, address: IpAddr) -> Node {
    try_open_on(lab, host, interface, address).expect("opening a node on a VLAN")
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn data_arrives_at_every_mtu_over_both_versions_of_ip() {
    for mtu in [1500, 9000, 65535] {
        let lab = lab(2, mtu);
        let (one, two) = (add_vlan(&lab, 1, 5), add_vlan(&lab, 2, 5));
        for address in [v4, v6] {
            exchange(&open_on(&lab, 1, &one, address(1)), &open_on(&lab, 2, &two, address(2)), mtu);
        }
    }
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn the_vlan_s_own_mtu_is_the_limit() {
    let lab = lab(2, 9000);
    let (one, two) = (add_vlan(&lab, 1, 5), add_vlan(&lab, 2, 5));
    ip(&lab, 1, "link set vh1.5 mtu 2000");
    let error = open_with(&lab, 1, |b| b.interface(&one).address(v4(1)).mtu(9000)).unwrap_err();
    assert!(error.to_string().contains("vh1.5 can do 1280 to 2000"), "{error}");
    exchange(&open_on(&lab, 1, &one, v4(1)), &open_on(&lab, 2, &two, v4(2)), 2000);
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn other_vlans_and_none_are_not_heard() {
    let lab = lab(2, 1500);
    let (five, six) = (add_vlan(&lab, 1, 5), add_vlan(&lab, 2, 6));
    // Who is where: nobody would answer ARP across VLANs.
    let introduce = |host: usize, interface: &str| {
        let mac = lab.host(3 - host).mac.map(|byte| format!("{byte:02x}")).join(":");
        ip(&lab, host, &format!("neighbour replace 10.78.0.{} lladdr {mac} dev {interface}", 3 - host));
    };
    introduce(1, &five);
    introduce(2, &six);
    let a = open_on(&lab, 1, &five, v4(1));
    deaf(&a, &open_on(&lab, 2, &six, v4(2)));
    // A node without a VLAN, at the same address.
    ip(&lab, 2, "link delete vh2.6");
    ip(&lab, 2, "address add 10.78.0.2/24 dev vh2");
    introduce(2, "vh2");
    deaf(&a, &open_on(&lab, 2, "vh2", v4(2)));
    // The same VLAN.
    ip(&lab, 2, "address delete 10.78.0.2/24 dev vh2");
    let five = add_vlan(&lab, 2, 5);
    put(&a, &open_on(&lab, 2, &five, v4(2)));
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn the_kernel_s_traffic_in_the_vlan_goes_on() {
    let lab = lab(2, 1500);
    let (one, two) = (add_vlan(&lab, 1, 5), add_vlan(&lab, 2, 5));
    let (a, b) = (open_on(&lab, 1, &one, v4(1)), open_on(&lab, 2, &two, v4(2)));
    // In the VLAN, and beside it.
    for there in [v4(2), v6(2), lab.host(2).address.into()] {
        tcp_beside(&lab, SocketAddr::new(there, 9999), &a, &b);
    }
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn behind_a_bridge_that_leaves_tags_in_place() {
    let lab = lab(3, 1500);
    let (one, two) = (add_vlan(&lab, 1, 5), add_vlan(&lab, 2, 5));
    leave_tags_in_place(&lab);
    exchange(&open_on(&lab, 1, &one, v4(1)), &open_on(&lab, 2, &two, v4(2)), 1500);
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn vlans_that_can_t_be() {
    let lab = lab(2, 1500);
    let one = add_vlan(&lab, 1, 5);
    ip(&lab, 1, "link add link vh1.5 name nested type vlan id 6");
    ip(&lab, 1, "link add link vh1 name provided type vlan protocol 802.1ad id 7");
    for (interface, host) in [("nested", 3), ("provided", 4)] {
        ip(&lab, 1, &format!("address add 10.79.{host}.1/24 dev {interface}"));
        ip(&lab, 1, &format!("link set {interface} up"));
    }
    let error = try_open_on(&lab, 1, "nested", [10, 79, 3, 1].into()).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::NestedVlan { .. })), "{error:?}");
    assert!(error.to_string().contains("QinQ"), "{error}");
    let error = try_open_on(&lab, 1, "provided", [10, 79, 4, 1].into()).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::ProviderVlan { .. })), "{error:?}");
    assert!(error.to_string().contains("802.1ad") && error.to_string().contains("type vlan id 7"), "{error}");
    // One node to a port, whatever VLAN.
    let first = open(&lab, 1);
    let error = try_open_on(&lab, 1, &one, v4(1)).unwrap_err();
    assert!(matches!(error, Error::Steering(_)) && error.to_string().contains("vh1"), "{error:?}");
    drop(first);
    // Down with its port.
    lab.host(1).set_link(false).unwrap();
    let error = try_open_on(&lab, 1, &one, v4(1)).unwrap_err();
    assert!(matches!(error, Error::Route(RouteError::InterfaceDown { .. })), "{error:?}");
}
