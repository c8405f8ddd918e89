//! What can go wrong between a peer's address and its MAC address, and what to do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Why an interface, a route or a MAC address could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No interface has that name.
    #[error("there is no interface {name} in this network namespace, only {existing}")]
    NoSuchInterface {
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        existing: String,
    },

    /// The interface was removed since it was looked up (an interface made anew has another index).
    #[error("interface {name} (index {index}) has been removed: open it again when it is back")]
    InterfaceGone {
        /// Its name at the time.
        name: String,
        /// Its index.
        index: u32,
    },

    /// Loopback, tunnels and the like carry no Ethernet frames.
    #[error("interface {name} has no Ethernet address (it is of type {kind}): choose another")]
    NotEthernet {
        /// The interface.
        name: String,
        /// What it is instead.
        kind: String,
    },

    /// The interface is administratively down.
    #[error("interface {name} is down: ip link set {name} up")]
    InterfaceDown {
        /// The interface.
        name: String,
    },

    /// The interface is up, but nothing is connected to it.
    #[error("interface {name} has no carrier: is its cable plugged in, or its other end up?")]
    NoCarrier {
        /// The interface.
        name: String,
    },

    /// The interface has no address that peers could send to (a link-local one doesn't count).
    #[error("interface {name} has no IP address: ip addr add ADDRESS/PREFIX dev {name}")]
    NoAddress {
        /// The interface.
        name: String,
    },

    /// A VLAN whose frames carry a provider's tag.
    #[error(
        "{name} is a VLAN with provider's tags (802.1ad), which a node can't send: use one of 802.1Q, \
         ip link add link PORT name NAME type vlan id {id}"
    )]
    ProviderVlan {
        /// The interface.
        name: String,
        /// Its VLAN identifier.
        id: u16,
    },

    /// A VLAN in a VLAN.
    #[error(
        "{name} is a VLAN on {parent}, which is a VLAN itself, and a node can't send frames with two tags (QinQ): use a \
         VLAN on an Ethernet port"
    )]
    NestedVlan {
        /// The interface.
        name: String,
        /// The interface under it.
        parent: String,
    },

    /// A VLAN that has been moved away from the interface that carries it.
    #[error(
        "{name} is a VLAN on an interface of another network namespace, and a node's sockets belong on that: open the \
         node in a namespace that has both"
    )]
    ParentElsewhere {
        /// The interface.
        name: String,
    },

    /// The NIC moves VLAN tags from the frame to where XDP doesn't see them.
    #[error(
        "{parent} takes VLAN tags off the frames that arrive (rx-vlan-offload), so that a node on {name} would \
         hear nobody: ethtool -K {parent} rxvlan off"
    )]
    TagsTakenOff {
        /// The VLAN interface.
        name: String,
        /// The interface under it.
        parent: String,
    },

    /// Source and peer are of different families.
    #[error(
        "{interface} sends from {source_address}, which cannot reach {peer}: \
         one is IPv4, the other IPv6"
    )]
    FamilyMismatch {
        /// The interface.
        interface: String,
        /// The node's own address.
        source_address: IpAddr,
        /// The peer.
        peer: IpAddr,
    },

    /// The node's own address is not one of this host's.
    #[error(
        "{source_address} is not an address of this host: \
         ip addr add {source_address}/PREFIX dev {interface}"
    )]
    ForeignSource {
        /// The interface.
        interface: String,
        /// The address that was to be sent from.
        source_address: IpAddr,
    },

    /// The peer is the unspecified, a broadcast or a multicast address.
    #[error("{peer} is not the address of one host: give a unicast address")]
    NotUnicast {
        /// The peer.
        peer: IpAddr,
    },

    /// The peer is this host: frames sent out of an interface would not come back.
    #[error("{peer} is an address of this host itself: it cannot be reached through {interface}")]
    Local {
        /// The interface.
        interface: String,
        /// The peer.
        peer: IpAddr,
    },

    /// Nothing in the routing table leads to the peer, or a route there refuses it.
    #[error("no route from {interface} to {peer} ({reason}): see ip route get {peer}")]
    NoRoute {
        /// The interface.
        interface: String,
        /// The peer.
        peer: IpAddr,
        /// The kernel's reason.
        reason: String,
    },

    /// The only routes to the peer leave by another interface.
    #[error(
        "the route to {peer} leaves by {actual}, not by {interface}: \
         use {actual}, or ip route add {peer} dev {interface}"
    )]
    OtherInterface {
        /// The interface that was to be used.
        interface: String,
        /// The peer.
        peer: IpAddr,
        /// The interface the route takes.
        actual: String,
    },

    /// The next hop did not say what its MAC address is.
    #[error(
        "{} did not answer {} on {interface} within {} ms: is {} up and on this network?",
        hop_and_peer(hop, peer), protocol(hop), waited.as_millis(),
        if hop == peer { "the host" } else { "the gateway" }
    )]
    NoAnswer {
        /// The interface.
        interface: String,
        /// Who was asked: the peer or a gateway.
        hop: IpAddr,
        /// The peer.
        peer: IpAddr,
        /// How long the kernel was given.
        waited: Duration,
    },

    /// The neighbour table has no entry, and this process may not ask the kernel to make one.
    #[error(
        "the MAC address of {} is not known, and asking the kernel to resolve it needs \
         CAP_NET_ADMIN: run as root, or ping -c 1 {hop} first",
        hop_and_peer(hop, peer)
    )]
    NotPermitted {
        /// The peer or its gateway.
        hop: IpAddr,
        /// The peer.
        peer: IpAddr,
    },

    /// The kernel refused a request for another reason.
    #[error("{doing}: {error}")]
    Kernel {
        /// What was asked.
        doing: String,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

impl RouteError {
    /// For `map_err`: says what was being done when the kernel answered with an error.
    pub(super) fn kernel(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Kernel { doing: doing.into(), error }
    }
}

fn hop_and_peer(hop: &IpAddr, peer: &IpAddr) -> impl fmt::Display {
    if hop == peer { format!("{peer}") } else { format!("{hop} (the gateway to {peer})") }
}

fn protocol(hop: &IpAddr) -> &'static str {
    match hop {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    }
}
