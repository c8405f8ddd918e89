//! The kernel's answers in network namespaces made for each test: they need root, and fail without.

mod host;

use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::{NextHop, RouteError, Routes};
use host::{Host, address};

/// Long enough for any neighbour that is there, on a loaded machine too.
const PRESENT: Duration = Duration::from_secs(10);
const ABSENT: Duration = Duration::from_millis(300);

/// The message of the error, checked to contain all of `parts`.
#[track_caller]
fn assert_says<T: std::fmt::Debug>(result: Result<T, RouteError>, parts: &[&str]) {
    let message = result.expect_err("this should fail").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn an_interface_is_described() {
    let (one, two) = (Host::new(), Host::new());
    let other = &two.0;
    one.ip(&format!(
        "link add vh1 mtu 9000 address 02:00:00:00:77:01 numrxqueues 3 numtxqueues 2 type veth \
         peer name vh1 netns {other}"
    ));
    one.address("vh1", &["fd77::1/64", "10.77.0.1/24", "10.77.0.5/24"]);
    let interface = one.interface("vh1");
    assert_eq!(interface.name, "vh1");
    assert_eq!(interface.mac, [2, 0, 0, 0, 0x77, 1]);
    assert_eq!(interface.mtu, 9000);
    assert!(!interface.up && !interface.carrier);
    assert_eq!((interface.rx_queues, interface.tx_queues), (3, 2));
    assert_eq!(interface.xdp_program, None);
    let addresses: Vec<String> =
        interface.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    assert_eq!(addresses, ["10.77.0.1/24", "fd77::1/64", "10.77.0.5/24"]);
    assert_eq!(interface.default_address().unwrap(), address("10.77.0.1"));

    one.ip("link set vh1 up");
    let interface = one.interface("vh1");
    assert!(interface.up && !interface.carrier);
    two.ip("link set vh1 up");
    let interface = one.interface("vh1");
    assert!(interface.up && interface.carrier);
}

#[test]
fn queues_are_those_in_use_not_those_allocated() {
    let host = Host::new();
    host.ip("link add vh1 numrxqueues 4 numtxqueues 4 type veth peer name vh2");
    // A bridge has no channels to ask for.
    host.ip("link add br0 type bridge");
    let ethtool = ["netns", "exec", &host.0, "ethtool", "-L", "vh1", "rx", "2", "tx", "1"];
    let status = Command::new("ip").args(ethtool).status();
    assert!(status.expect("these tests need iproute2").success(), "ethtool is needed");
    let interface = host.interface("vh1");
    assert_eq!((interface.rx_queues, interface.tx_queues), (2, 1));
    let bridge = host.interface("br0");
    assert!(bridge.rx_queues >= 1 && bridge.tx_queues >= 1);
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn a_vlan_is_described_and_what_carries_it_is_found() {
    let (one, two) = Host::pair();
    one.ip("link add link vh1 name vh1.5 type vlan id 5");
    one.address("vh1.5", &["10.78.0.1/24"]);
    let (port, vlan) = (one.interface("vh1"), one.interface("vh1.5"));
    let found = vlan.vlan.unwrap();
    assert_eq!((found.id, found.provider, found.parent), (5, false, Some(port.index)));
    assert_eq!(vlan.default_address().unwrap(), address("10.78.0.1"));
    assert_eq!(vlan.mtu, port.mtu);
    let mut routes = one.routes();
    assert_eq!(routes.parent(&vlan).unwrap(), Some(port.clone()));
    assert_eq!(routes.parent(&port).unwrap(), None);

    one.ip("link add link vh1.5 name nested type vlan id 6");
    let nested = one.interface("nested");
    assert_says(routes.parent(&nested), &["nested", "a VLAN on vh1.5", "QinQ"]);
    one.ip("link add link vh1 name provided type vlan protocol 802.1ad id 7");
    let provided = one.interface("provided");
    assert_says(routes.parent(&provided), &["provided", "802.1ad", "type vlan id 7"]);
    one.ip(&format!("link set vh1.5 netns {} name away", two.0));
    let away = two.interface("away");
    assert_eq!(away.vlan.unwrap().parent, None, "its index is of another namespace");
    assert_says(two.routes().parent(&away), &["away", "another network namespace"]);
    // What was found is gone.
    let gone = super::Interface { vlan: Some(super::Vlan { parent: Some(9999), ..found }), ..port };
    assert_says(routes.parent(&gone), &["removed"]);
}

#[test]
fn an_interface_that_takes_tags_off_is_known() {
    let (one, _two) = Host::pair();
    let mut routes = one.routes();
    let index = one.interface("vh1").index;
    // A veth pair says so by default, though it isn't true of what its other end has sent by AF_XDP.
    for (state, expected) in [("on", true), ("off", false)] {
        let ethtool = ["netns", "exec", &one.0, "ethtool", "-K", "vh1", "rxvlan", state];
        assert!(Command::new("ip").args(ethtool).status().unwrap().success(), "ethtool is needed");
        assert_eq!(super::ethtool::takes_tags_off(&mut routes.generic, index).unwrap(), expected);
    }
    let absent = super::ethtool::takes_tags_off(&mut routes.generic, 9999);
    assert!(absent.is_err(), "{absent:?}");
    let error = RouteError::TagsTakenOff { name: "eth0.5".into(), parent: "eth0".into() };
    assert!(error.to_string().contains("ethtool -K eth0 rxvlan off"), "{error}");
}

#[test]
fn an_absent_interface_is_an_error_that_lists_those_there_are() {
    let (one, _two) = Host::pair();
    let mut routes = one.routes();
    let too_long = "an_interface_with_a_very_long_name";
    for name in ["vh9", "", "vh1\0", too_long] {
        let result = routes.interface(name);
        assert!(matches!(result, Err(RouteError::NoSuchInterface { .. })), "{result:?}");
        assert_says(result, &[name, "lo, vh1"]);
    }
}

#[test]
fn loopback_and_tunnels_are_not_ethernet() {
    let host = Host::new();
    host.ip("tuntap add tun0 mode tun");
    assert_says(host.routes().interface("lo"), &["lo", "no Ethernet address", "loopback"]);
    assert_says(host.routes().interface("tun0"), &["tun0", "no Ethernet address"]);
}

#[test]
fn an_interface_without_an_address_is_an_error_that_says_how_to_add_one() {
    let (one, two) = (Host::new(), Host::new());
    one.join("vh1", &two, "vh1");
    assert_says(one.interface("vh1").default_address(), &["ip addr add", "dev vh1"]);
    // Link-local addresses do not count.
    one.address("vh1", &["169.254.7.7/16", "fe80::77/64"]);
    assert_says(one.interface("vh1").default_address(), &["vh1 has no IP address"]);
    one.address("vh1", &["fd77::1/64"]);
    assert_eq!(one.interface("vh1").default_address().unwrap(), address("fd77::1"));
}

#[test]
fn routes_answer_for_the_namespace_they_were_opened_in() {
    let (one, two) = Host::pair();
    let mut routes = one.routes();
    let here = routes.interface("vh1").unwrap();
    let there = two.run(|| routes.interface("vh1")).unwrap();
    assert_eq!(here, there);
}

#[test]
fn a_host_on_the_same_network_is_resolved() {
    let (one, two) = Host::pair();
    let mac = two.interface("vh1").mac;
    let interface = one.interface("vh1");
    let mut routes = one.routes();
    for (source, peer) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let (source, peer) = (address(source), address(peer));
        let hop = routes.next_hop(&interface, source, peer).unwrap();
        assert_eq!(hop, NextHop::Peer(peer));
        assert_eq!(routes.neighbour(interface.index, peer).unwrap(), None);
        let resolved = routes.resolve(&interface, source, peer, PRESENT).unwrap();
        assert_eq!(resolved, mac);
        assert_eq!(routes.neighbour(interface.index, peer).unwrap(), Some(mac));
        // Now that it is known, no time is needed.
        let resolved = routes.resolve(&interface, source, peer, Duration::ZERO).unwrap();
        assert_eq!(resolved, mac);
    }
}

#[test]
fn a_link_local_peer_is_resolved_on_the_interface_asked() {
    let (one, two) = (Host::new(), Host::new());
    // Another interface with a route to fe80::/64, made first.
    one.join("vh0", &two, "vh0");
    one.join("vh1", &two, "vh1");
    one.address("vh0", &["fe80::a/64"]);
    one.address("vh1", &["fe80::1/64"]);
    two.address("vh1", &["fe80::2/64"]);
    let mac = one.resolve("vh1", "fe80::2", PRESENT).unwrap();
    assert_eq!(mac, two.interface("vh1").mac);
}

#[test]
fn a_permanent_entry_serves_and_a_stale_one_does() {
    let (one, two) = Host::pair();
    one.ip("neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev vh1 nud permanent");
    let resolved = one.resolve("vh1", "10.77.0.9", Duration::ZERO).unwrap();
    assert_eq!(resolved, [2, 0, 0, 0, 0, 9]);
    let mac = two.interface("vh1").mac.map(|byte| format!("{byte:02x}")).join(":");
    one.ip(&format!("neigh add 10.77.0.2 lladdr {mac} dev vh1 nud stale"));
    let resolved = one.resolve("vh1", "10.77.0.2", Duration::ZERO).unwrap();
    assert_eq!(resolved, two.interface("vh1").mac);
    one.ip("neigh add 10.77.0.8 dev vh1 nud failed");
    let index = one.interface("vh1").index;
    let failed = one.routes().neighbour(index, address("10.77.0.8")).unwrap();
    assert_eq!(failed, None);
}

#[test]
fn an_absent_host_is_an_error_with_its_address() {
    let (one, _two) = Host::pair();
    for (peer, protocol) in [("10.77.0.9", "ARP"), ("fd77::9", "neighbour discovery")] {
        let result = one.resolve("vh1", peer, ABSENT);
        assert_says(result, &[peer, protocol, "vh1", "300 ms", "is the host up"]);
    }
    // The kernel may have given up by now; asking again must work as the first time.
    let result = one.resolve("vh1", "10.77.0.9", Duration::ZERO);
    assert_says(result, &["10.77.0.9 did not answer"]);
}

#[test]
fn without_the_privilege_to_have_it_resolved_the_error_says_so() {
    let (one, two) = Host::pair();
    let interface = one.interface("vh1");
    let source = address("10.77.0.1");
    let known = "02:00:00:00:00:09";
    one.ip(&format!("neigh add 10.77.0.9 lladdr {known} dev vh1 nud stale"));
    let mac = two.interface("vh1").mac;
    one.run(|| {
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none).expect("privileges can be dropped");
        let mut routes = Routes::open().expect("netlink needs no privilege");
        let mut resolve = |peer| routes.resolve(&interface, source, address(peer), ABSENT);
        assert_says(resolve("10.77.0.2"), &["10.77.0.2", "CAP_NET_ADMIN"]);
        // What the table has needs none.
        assert_eq!(resolve("10.77.0.9").unwrap(), [2, 0, 0, 0, 0, 9]);
    });
    assert_eq!(one.resolve("vh1", "10.77.0.2", PRESENT).unwrap(), mac);
}

#[test]
fn a_host_that_comes_up_while_waited_for_is_resolved() {
    let (one, two) = Host::pair();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| one.resolve("vh1", "10.77.0.9", PRESENT));
        // Only after the kernel was asked can the host's absence have been noticed.
        let interface = one.interface("vh1").index;
        let mut routes = one.routes();
        while routes.entry(interface, address("10.77.0.9")).unwrap().is_none() {
            thread::yield_now();
        }
        two.address("vh1", &["10.77.0.9/24"]);
        let mac = waiting.join().expect("no panic").unwrap();
        assert_eq!(mac, two.interface("vh1").mac);
    });
}

#[test]
fn a_host_behind_a_router_has_the_routers_mac() {
    let (one, router) = Host::pair();
    let far = Host::new();
    router.join("vh2", &far, "vh1");
    router.address("vh2", &["10.78.0.1/24", "fd78::1/64"]);
    far.address("vh1", &["10.78.0.2/24", "fd78::2/64"]);
    one.ip("route add 10.78.0.0/24 via 10.77.0.2");
    one.ip("route add fd78::/64 via fd77::2");
    // An IPv4 network behind an IPv6 router.
    one.ip("route add 10.79.0.0/24 via inet6 fd77::2 dev vh1");
    for (peer, gateway) in [("10.78.0.2", "10.77.0.2"), ("fd78::2", "fd77::2"), ("10.79.0.2", "fd77::2")] {
        let hop = one.next_hop("vh1", peer).unwrap();
        assert_eq!(hop, NextHop::Gateway(address(gateway)));
        let mac = one.resolve("vh1", peer, PRESENT).unwrap();
        assert_eq!(mac, router.interface("vh1").mac);
    }
}

#[test]
fn an_absent_router_is_an_error_with_both_addresses() {
    let (one, _two) = Host::pair();
    one.ip("route add default via 10.77.0.254");
    let result = one.resolve("vh1", "10.99.0.1", ABSENT);
    assert_says(result, &["10.77.0.254", "gateway", "10.99.0.1", "ARP", "vh1"]);
}

#[test]
fn no_route_and_refusing_routes_are_errors_with_the_address() {
    let (one, _two) = Host::pair();
    for peer in ["10.99.0.1", "fd99::1"] {
        assert_says(one.next_hop("vh1", peer), &[peer, "no route", "unreachable", "vh1"]);
    }
    // A refusal holds also where a wider route leads by the interface.
    one.ip("route add default via 10.77.0.2");
    one.ip("-6 route add default via fd77::2");
    for kind in ["blackhole", "unreachable", "prohibit"] {
        for peer in ["10.98.0.1", "fd98::1"] {
            let (v6, bits) = if peer.contains(':') { ("-6", 128) } else { ("-4", 32) };
            one.ip(&format!("{v6} route add {kind} {peer}/{bits} metric 10"));
            assert_says(one.next_hop("vh1", peer), &[peer, "no route", kind]);
            one.ip(&format!("{v6} route del {kind} {peer}/{bits} metric 10"));
        }
    }
}

#[test]
fn a_route_by_another_interface_is_an_error_that_names_it() {
    let (one, two) = Host::pair();
    one.join("vh2", &two, "vh2");
    one.address("vh2", &["10.78.0.1/24", "fd78::1/64"]);
    for peer in ["10.78.0.2", "fd78::2"] {
        let result = one.next_hop("vh1", peer);
        assert!(matches!(result, Err(RouteError::OtherInterface { .. })), "{result:?}");
        assert_says(result, &[peer, "vh1", "leaves by vh2"]);
    }
}

#[test]
fn the_second_interface_on_one_network_reaches_it() {
    let (one, two) = Host::pair();
    one.join("vh2", &two, "vh2");
    one.address("vh2", &["10.77.0.3/24", "fd77::3/64"]);
    for peer in ["10.77.0.2", "fd77::2"] {
        let hop = NextHop::Peer(address(peer));
        assert_eq!(one.next_hop("vh1", peer).unwrap(), hop);
        assert_eq!(one.next_hop("vh2", peer).unwrap(), hop);
    }
}

#[test]
fn the_hosts_own_addresses_are_local() {
    let (one, two) = Host::pair();
    one.join("vh2", &two, "vh2");
    one.address("vh2", &["10.78.0.1/24", "fd78::1/64"]);
    for peer in ["10.77.0.1", "fd77::1", "10.78.0.1", "fd78::1", "127.0.0.1", "::1"] {
        assert_eq!(one.next_hop("vh1", peer).unwrap(), NextHop::Local, "{peer}");
        assert_says(one.resolve("vh1", peer, ABSENT), &[peer, "this host itself"]);
    }
}

#[test]
fn addresses_that_are_not_one_hosts_are_refused() {
    let (one, _two) = Host::pair();
    for peer in ["0.0.0.0", "::", "10.77.0.255", "255.255.255.255", "224.0.0.5", "ff02::1"] {
        let result = one.next_hop("vh1", peer);
        assert!(matches!(result, Err(RouteError::NotUnicast { .. })), "{peer}: {result:?}");
        assert_says(result, &[peer]);
    }
}

#[test]
fn a_source_of_another_host_or_family_is_refused() {
    let (one, _two) = Host::pair();
    let interface = one.interface("vh1");
    let mut routes = one.routes();
    let peer = address("10.77.0.2");
    for (source, peer) in [("10.77.0.7", "10.77.0.2"), ("fd77::7", "fd77::2")] {
        let result = routes.next_hop(&interface, address(source), address(peer));
        assert_says(result, &[source, "is not an address of this host"]);
    }
    // One of another interface will do.
    one.address("lo", &["10.70.0.1/32", "fd70::1/128"]);
    for (source, peer) in [("10.70.0.1", "10.77.0.2"), ("fd70::1", "fd77::2")] {
        let peer = address(peer);
        let hop = routes.next_hop(&interface, address(source), peer);
        assert_eq!(hop.unwrap(), NextHop::Peer(peer));
    }
    let result = routes.next_hop(&interface, address("fd77::1"), peer);
    assert_says(result, &["fd77::1", "10.77.0.2", "IPv4", "IPv6"]);
}

#[test]
fn a_down_or_vanished_interface_is_the_reason_given() {
    let (one, two) = Host::pair();
    let interface = one.interface("vh1");
    let mut routes = one.routes();
    let (source, peer) = (address("10.77.0.1"), address("10.77.0.2"));
    two.ip("link set vh1 down");
    let result = routes.resolve(&interface, source, peer, ABSENT);
    assert_says(result, &["vh1 has no carrier"]);
    one.ip("link set vh1 down");
    let result = routes.resolve(&interface, source, peer, ABSENT);
    assert_says(result, &["vh1 is down: ip link set vh1 up"]);
    one.ip("link del vh1");
    let result = routes.resolve(&interface, source, peer, ABSENT);
    assert_says(result, &["vh1", "has been removed"]);
}

#[test]
fn many_links_and_addresses_come_whole() {
    let host = Host::new();
    host.ip("link add vh1 type veth peer name vh2");
    let addresses: Vec<String> = (0..600)
        .map(|i| format!("address add 10.{}.{}.1/24 dev vh1", i / 250, i % 250))
        .chain((0..300).map(|i| format!("link add v{i} type veth peer name w{i}")))
        .collect();
    let file = std::env::temp_dir().join(&host.0);
    std::fs::write(&file, addresses.join("\n")).expect("a temporary file");
    host.ip(&format!("-batch {}", file.display()));
    let _ = std::fs::remove_file(&file);
    assert_eq!(host.interface("vh1").addresses.len(), 600);
    assert_says(host.routes().interface("vh9"), &["lo", "vh1", "vh2", "v0", "w299"]);
}
