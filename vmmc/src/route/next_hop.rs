//! The way to a peer: `RTM_GETROUTE`.
//!
//! The kernel is asked twice. First as for any packet; when its choice leaves by the node's
//! interface, that settles it. Otherwise once more as for a socket bound to the interface
//! (`SO_BINDTODEVICE`): a host with two interfaces on one network, each in use by a node of its
//! own, has only one of them in the route that comes first.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Interface, RouteError, Routes};

/// Where frames for a peer go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The peer is on the interface's own network: straight to it.
    Peer(IpAddr),
    /// To this router.
    Gateway(IpAddr),
    /// The peer is this host itself: not over a wire at all.
    Local,
}

/// What the kernel said about a destination.
struct Found {
    kind: RouteType,
    interface: Option<u32>,
    gateway: Option<IpAddr>,
}

impl Routes {
    /// Where frames from `source`, sent out of `interface`, go first on their way to `peer`.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoRoute`], [`RouteError::OtherInterface`] and [`RouteError::ForeignSource`]
    /// when the routing table has no such way; [`RouteError::InterfaceDown`],
    /// [`RouteError::NoCarrier`] or [`RouteError::InterfaceGone`] when that is because of the
    /// interface;
    /// [`RouteError::FamilyMismatch`] and [`RouteError::NotUnicast`] when there cannot be one.
    pub fn next_hop(&mut self, interface: &Interface, source: IpAddr, peer: IpAddr) -> Result<NextHop, RouteError> {
        if source.is_ipv4() != peer.is_ipv4() {
            return Err(RouteError::FamilyMismatch { interface: interface.name.clone(), source_address: source, peer });
        }
        // The kernel takes 0.0.0.0 for the host itself.
        if peer.is_unspecified() {
            return Err(RouteError::NotUnicast { peer });
        }
        if !self.is_own(interface, source) {
            return Err(RouteError::ForeignSource { interface: interface.name.clone(), source_address: source });
        }
        let found = match self.any_route(source, peer) {
            Ok(found) if found.leaves_by(interface) || found.kind == RouteType::Local => found,
            first if !elsewhere(&first) => return Err(self.explain(first, interface, peer)),
            first => match self.bound_route(interface.index, source, peer) {
                Ok(found) if found.leaves_by(interface) => found,
                _ => return Err(self.explain(first, interface, peer)),
            },
        };
        match (found.kind, found.gateway) {
            (RouteType::Local, _) => Ok(NextHop::Local),
            (RouteType::Unicast, Some(gateway)) => Ok(NextHop::Gateway(gateway)),
            (RouteType::Unicast, None) => Ok(NextHop::Peer(peer)),
            _ => Err(RouteError::NotUnicast { peer }),
        }
    }

    /// Whether the host has that address, on this interface or another. Only then does it get
    /// replies.
    fn is_own(&mut self, interface: &Interface, source: IpAddr) -> bool {
        let mut addresses = interface.addresses.iter();
        addresses.any(|&(address, _)| address == source)
            || matches!(
                self.route(source, None, None, RouteFlags::empty()),
                Ok(found) if found.kind == RouteType::Local
            )
    }

    /// The route any packet would take.
    fn any_route(&mut self, source: IpAddr, peer: IpAddr) -> io::Result<Found> {
        // A link-local address means nothing without an interface.
        if matches!(peer, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            return Err(Errno::NETUNREACH.into());
        }
        self.route(peer, Some(source), None, RouteFlags::empty())
    }

    /// The route a packet takes whose socket is bound to the interface.
    fn bound_route(&mut self, interface: u32, source: IpAddr, peer: IpAddr) -> io::Result<Found> {
        // Given a source, IPv6 takes the interface for a mere preference.
        let source = source.is_ipv4().then_some(source);
        // Without a route IPv4 would take the destination to be on the interface's own network.
        // Asked for the matching table entry, it admits that there is none.
        self.route(peer, source, Some(interface), RouteFlags::FibMatch)?;
        self.route(peer, source, Some(interface), RouteFlags::empty())
    }

    /// Asks the routing table.
    fn route(
        &mut self,
        peer: IpAddr,
        source: Option<IpAddr>,
        interface: Option<u32>,
        flags: RouteFlags,
    ) -> io::Result<Found> {
        let (family, bits) = match peer {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.header.flags = flags;
        question.header.destination_prefix_length = bits;
        question.attributes.push(RouteAttribute::Destination(peer.into()));
        if let Some(source) = source {
            question.header.source_prefix_length = bits;
            question.attributes.push(RouteAttribute::Source(source.into()));
        }
        if let Some(interface) = interface {
            question.attributes.push(RouteAttribute::Oif(interface));
        }
        let question = RouteNetlinkMessage::GetRoute(question);
        let answer = self.route.request(question, 0)?;
        let route = answer.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(Found::new(route)),
            _ => None,
        });
        route.ok_or_else(|| Errno::NETUNREACH.into())
    }

    /// Why there is no route, given what the kernel said to the first, unbound question.
    fn explain(&mut self, first: io::Result<Found>, interface: &Interface, peer: IpAddr) -> RouteError {
        if let Err(error) = self.check_usable(interface) {
            return error;
        }
        let no_route =
            |reason: &str| RouteError::NoRoute { interface: interface.name.clone(), peer, reason: reason.into() };
        let error = match first {
            Ok(found) => {
                return match (found.kind, found.interface) {
                    (RouteType::Unicast, Some(actual)) => RouteError::OtherInterface {
                        interface: interface.name.clone(),
                        peer,
                        actual: self.interface_name(actual),
                    },
                    (RouteType::BlackHole, _) => no_route("a blackhole route"),
                    (RouteType::Unreachable, _) => no_route("an unreachable route"),
                    (RouteType::Prohibit, _) => no_route("a prohibit route"),
                    _ => RouteError::NotUnicast { peer },
                };
            }
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::NETUNREACH) => no_route("network unreachable"),
            Some(Errno::HOSTUNREACH) => no_route("an unreachable route"),
            Some(Errno::ACCESS) => no_route("a prohibit route"),
            Some(Errno::INVAL) => no_route("a blackhole route"),
            _ => RouteError::kernel(format!("asking for the route to {peer}"))(error),
        }
    }
}

/// Whether a route that is not by the interface leaves open that there is one by it: not when the
/// administrator refuses the destination.
fn elsewhere(first: &io::Result<Found>) -> bool {
    match first {
        Ok(found) => found.kind == RouteType::Unicast,
        Err(error) => Errno::from_io_error(error) == Some(Errno::NETUNREACH),
    }
}

impl Found {
    fn new(route: &RouteMessage) -> Self {
        let mut found = Self { kind: route.header.kind, interface: None, gateway: None };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => found.interface = Some(*index),
                // An IPv4 route through an IPv6 router has a `Via` instead of a `Gateway`.
                RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                    found.gateway = Some((*v4).into())
                }
                RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                    found.gateway = Some((*v6).into())
                }
                _ => {}
            }
        }
        found
    }

    /// Whether a packet would leave by the interface (rather than be refused, or by another).
    fn leaves_by(&self, interface: &Interface) -> bool {
        let refused = [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit];
        self.interface == Some(interface.index) && !refused.contains(&self.kind)
    }
}
