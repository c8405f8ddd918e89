//! Network namespaces of the tests' own, removed when dropped, also by a panic.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::AsFd,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use xdp_prog::Target;

/// Runs `ip` and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.expect("these tests need the `ip` command (package iproute2)");
    assert!(
        output.status.success(),
        "`ip {arguments}` failed (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace with nothing but a loopback interface.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xdp-prog-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// A namespace with a veth pair, `v0` and `v1`, both ends in it and up.
    pub(crate) fn with_veth() -> Self {
        let namespace = Self::new();
        namespace.ip("link add v0 type veth peer name v1");
        namespace.ip("link set v0 up");
        namespace.ip("link set v1 up");
        namespace
    }

    /// The same, but the driver of `v0` has XDP and refuses it as it is configured: it wants a receive
    /// queue for each queue the peer sends on.
    pub(crate) fn with_refusing_veth() -> Self {
        let namespace = Self::new();
        namespace.ip("link add v0 numrxqueues 1 type veth peer name v1 numtxqueues 4");
        let more_queues = ["netns", "exec", &namespace.name, "ethtool", "-L", "v1", "tx", "4"];
        assert!(Command::new("ip").args(more_queues).status().unwrap().success(), "these tests need `ethtool`");
        namespace.ip("link set v0 up");
        namespace.ip("link set v1 up");
        namespace
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Runs `work` inside, on a thread of its own, which takes the move to its grave.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(inside.as_fd(), kind).expect("setns(2) needs root");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether an XDP program is on the interface, as everyone can see.
    pub(crate) fn has_program(&self, interface: &str) -> bool {
        self.ip(&format!("link show dev {interface}")).contains("prog/xdp")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not by `ip`, which panics: this may run while another panic unwinds.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A node at that interface of the calling thread's namespace.
pub(crate) fn target(interface: &str, address: IpAddr, port: u16) -> Target {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let ifindex = name_to_index(any.unwrap(), interface).unwrap();
    Target { interface: interface.to_owned(), ifindex, address, port, vlan: None }
}
