//! Everything that makes attaching fail, and what the user is told.

use std::{net::UdpSocket, os::fd::AsFd, process};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use xdp_prog::{MAX_QUEUES, Mode, Program, Steering, SteeringError, Storage, Target};

use crate::{
    foreign::Foreign,
    netns::{Namespace, target},
    packet::{PORT, node_v4},
    trial::xdp_socket,
};

fn attach(namespace: &Namespace, interface: &str) -> Result<Steering, SteeringError> {
    namespace.run(|| Steering::attach(&target(interface, node_v4(), PORT)))
}

fn assert_says(error: &SteeringError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn an_interface_that_is_not_there() {
    let namespace = Namespace::with_veth();
    let there = namespace.run(|| target("v0", node_v4(), PORT));
    let absent = Target { interface: "eth77".into(), ..there.clone() };
    let renamed = Target { ifindex: there.ifindex + 100, ..there.clone() };
    for target in [absent, renamed] {
        let error = namespace.run(|| Steering::attach(&target)).unwrap_err();
        assert!(matches!(error, SteeringError::NoInterface { .. }), "{error}");
        assert_says(&error, &[&target.interface, &target.ifindex.to_string(), "`ip link`"]);
    }
    // Nor is it where the calling thread is not.
    let elsewhere = Namespace::new();
    let error = elsewhere.run(|| Steering::attach(&there)).unwrap_err();
    assert!(matches!(error, SteeringError::NoInterface { .. }), "{error}");
}

#[test]
fn an_address_nothing_is_sent_to() {
    for (address, port) in [("0.0.0.0", 1), ("::", 1), ("224.0.0.1", 1), ("ff02::1", 1), ("10.77.0.1", 0)] {
        let mut storage = Storage::new();
        let error = Program::load(&mut storage, address.parse().unwrap(), port, None).unwrap_err();
        assert!(matches!(error, SteeringError::Address { .. }), "{error}");
        assert_says(&error, &[address, &port.to_string()]);
    }
}

#[test]
fn a_vlan_nothing_is_sent_in() {
    for id in [0, 4095, u16::MAX] {
        let error = Program::load(&mut Storage::new(), node_v4(), PORT, Some(id)).unwrap_err();
        assert!(matches!(error, SteeringError::Vlan { .. }), "{error}");
        assert_says(&error, &[&id.to_string(), "1 to 4094"]);
    }
}

#[test]
fn a_second_node_on_the_interface() {
    let namespace = Namespace::with_veth();
    let first = attach(&namespace, "v0").unwrap();
    let error = attach(&namespace, "v0").unwrap_err();
    assert!(matches!(error, SteeringError::OtherNode(_)), "{error}");
    let us = format!("{} (", process::id());
    assert_says(&error, &["interface v0", "another VMMC node", "\"vmmc_steer\"", "held by process", &us]);
    assert!(namespace.has_program("v0"), "the first node was disturbed");
    assert_eq!(first.counters().unwrap().redirected, 0);
    drop(first);
    assert!(attach(&namespace, "v0").is_ok());
}

#[test]
fn a_program_of_someone_else_and_the_advice_to_remove_it() {
    for (generic, advice) in [(false, "link set dev v0 xdp off"), (true, "link set dev v0 xdpgeneric off")] {
        let namespace = Namespace::with_veth();
        let mut foreign = Foreign::load();
        namespace.run(|| foreign.attach_directly(target("v0", node_v4(), PORT).ifindex, generic));

        let error = attach(&namespace, "v0").unwrap_err();
        let SteeringError::OtherProgram(holder) = &error else { panic!("{error}") };
        assert_eq!((holder.generic, holder.link_id), (generic, None));
        let id = format!("(id {})", holder.program_id);
        assert_says(&error, &["v0", "\"strange_filter\"", &id, "not VMMC's", "`ip link show dev v0`"]);
        assert_says(&error, &[&format!("`ip {advice}`")]);
        assert!(namespace.has_program("v0"), "the other program was disturbed");

        namespace.ip(advice);
        assert_eq!(attach(&namespace, "v0").unwrap().mode(), Mode::Native);
    }
}

#[test]
fn a_program_of_someone_else_that_a_process_holds() {
    let namespace = Namespace::with_veth();
    let mut foreign = Foreign::load();
    let link = namespace.run(|| foreign.attach_by_link(target("v0", node_v4(), PORT).ifindex));
    let error = attach(&namespace, "v0").unwrap_err();
    assert!(matches!(error, SteeringError::OtherProgram(_)), "{error}");
    let us = format!("{} (", process::id());
    assert_says(&error, &["\"strange_filter\"", "held by process", &us, "stop that process"]);
    link.detach().unwrap();
    assert!(attach(&namespace, "v0").is_ok());
}

#[test]
fn a_program_on_an_interface_stacked_on_it() {
    let namespace = Namespace::with_refusing_veth();
    namespace.ip("link add bridge0 type bridge");
    namespace.ip("link set v0 master bridge0");
    let mut foreign = Foreign::load();
    namespace.run(|| foreign.attach_directly(target("bridge0", node_v4(), PORT).ifindex, true));
    // The kernel takes it in neither mode.
    let error = attach(&namespace, "v0").unwrap_err();
    assert!(matches!(error, SteeringError::Attach { .. }), "{error}");
    assert_says(&error, &["attached to v0", "File exists", "stacked on it", "`ip link`"]);
    assert!(!namespace.has_program("v0"));
}

#[test]
fn no_generic_mode_where_native_is_refused_and_the_interface_taken() {
    let namespace = Namespace::with_refusing_veth();
    let mut foreign = Foreign::load();
    namespace.run(|| foreign.attach_directly(target("v0", node_v4(), PORT).ifindex, true));
    let error = attach(&namespace, "v0").unwrap_err();
    assert!(matches!(error, SteeringError::OtherProgram(_)), "{error}");
    namespace.ip("link set dev v0 xdpgeneric off");

    let first = attach(&namespace, "v0").unwrap();
    assert_eq!(first.mode(), Mode::Generic);
    let error = attach(&namespace, "v0").unwrap_err();
    assert!(matches!(error, SteeringError::OtherNode(_)), "{error}");
    assert!(namespace.has_program("v0"), "the first node was disturbed");
}

#[test]
fn no_privilege() {
    // Nor does it matter that the driver would refuse.
    for namespace in [Namespace::with_veth(), Namespace::with_refusing_veth()] {
        // No capability at all; then what loading needs, but not what attaching does.
        for (left, missing) in
            [(CapabilitySet::empty(), "CAP_BPF and CAP_NET_ADMIN"), (CapabilitySet::BPF, "needs CAP_NET_ADMIN")]
        {
            let error = namespace
                .run(|| {
                    let target = target("v0", node_v4(), PORT);
                    let mut sets = capabilities(None).unwrap();
                    sets.effective = left;
                    set_capabilities(None, sets).unwrap(); // of this thread only
                    Steering::attach(&target)
                })
                .unwrap_err();
            assert!(matches!(error, SteeringError::Privilege { .. }), "{error}");
            assert_says(&error, &[missing, "as root", "setcap"]);
            assert!(!namespace.has_program("v0"));
        }
    }
}

#[test]
fn sockets_and_queues_that_do_not_fit() {
    let namespace = Namespace::with_veth();
    let steering = attach(&namespace, "v0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = steering.register(0, udp.as_fd()).unwrap_err();
    assert!(matches!(error, SteeringError::Register { queue: 0, .. }), "{error}");
    assert_says(&error, &["queue 0", "AF_XDP socket?"]);

    let xsk = namespace.run(xdp_socket);
    steering.register(MAX_QUEUES - 1, xsk.as_fd()).unwrap();
    let error = steering.register(MAX_QUEUES, xsk.as_fd()).unwrap_err();
    assert_says(&error, &["queue 1024", "from 0 to 1023"]);
}
