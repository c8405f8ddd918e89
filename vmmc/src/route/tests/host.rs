//! A host for the tests: a network namespace of its own, deleted when dropped.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::{Interface, NextHop, RouteError, Routes};

/// A network namespace, deleted with everything in it when dropped.
pub(super) struct Host(pub(super) String);

impl Host {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmmc-route-{}-{count}", std::process::id());
        ip(&format!("netns add {name}"));
        let host = Self(name);
        host.ip("link set lo up");
        host
    }

    /// Two hosts joined by a veth pair, `vh1` in both: 10.77.0.1 and fd77::1, 10.77.0.2 and
    /// fd77::2.
    pub(super) fn pair() -> (Self, Self) {
        let (one, two) = (Self::new(), Self::new());
        one.join("vh1", &two, "vh1");
        one.address("vh1", &["10.77.0.1/24", "fd77::1/64"]);
        two.address("vh1", &["10.77.0.2/24", "fd77::2/64"]);
        (one, two)
    }

    /// Runs `ip` in the namespace.
    pub(super) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0));
    }

    /// Makes a veth pair between two hosts, both ends up, and known to be: until then the kernel gives IPv6 addresses no routes.
    pub(super) fn join(&self, name: &str, other: &Self, other_name: &str) {
        let other_host = &other.0;
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {other_host}"));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
        self.await_line(&format!("-o link show {name}"), " state UP ");
        other.await_line(&format!("-o link show {other_name}"), " state UP ");
    }

    /// Waits until `ip` says so.
    fn await_line(&self, question: &str, part: &str) {
        let arguments = format!("-n {} {question}", self.0);
        for _ in 0..2000 {
            let output = Command::new("ip").args(arguments.split_whitespace()).output();
            if output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(part)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("ip {arguments} doesn't say {part:?}");
    }

    pub(super) fn address(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {interface} {nodad}"));
            if let Some((address, _)) = address.split_once('/').filter(|(address, _)| address.contains(':')) {
                // The kernel makes an IPv6 address's routes a little later, and on a busy machine later than that.
                self.await_line("-6 route show table local", &format!("local {address} dev {interface} "));
            }
        }
    }

    /// Runs `f` on a thread in the namespace.
    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).expect("the namespace is there");
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                f()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(super) fn routes(&self) -> Routes {
        self.run(Routes::open).expect("netlink opens")
    }

    pub(super) fn interface(&self, name: &str) -> Interface {
        self.routes().interface(name).expect("the interface is there")
    }

    /// Resolves `peer` from the default address (of the peer's family) of the interface.
    pub(super) fn resolve(&self, interface: &str, peer: &str, timeout: Duration) -> Result<[u8; 6], RouteError> {
        let interface = self.interface(interface);
        let peer = address(peer);
        let source = source(&interface, peer);
        self.routes().resolve(&interface, source, peer, timeout)
    }

    pub(super) fn next_hop(&self, interface: &str, peer: &str) -> Result<NextHop, RouteError> {
        let interface = self.interface(interface);
        let peer = address(peer);
        let source = source(&interface, peer);
        self.routes().next_hop(&interface, source, peer)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.expect("these tests need iproute2");
    assert!(
        output.status.success(),
        "ip {arguments} (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn source(interface: &Interface, peer: IpAddr) -> IpAddr {
    let mut addresses = interface.addresses.iter().map(|&(address, _)| address);
    addresses.find(|address| address.is_ipv4() == peer.is_ipv4()).expect("an address of the peer's family")
}
