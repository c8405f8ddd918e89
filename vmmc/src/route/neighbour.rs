//! From an IP address on the interface's own network to a MAC address: `RTM_GETNEIGH`, and where
//! the table has no answer, `RTM_NEWNEIGH` with `NTF_USE`.
//!
//! `NTF_USE` is what `ip neigh replace ADDRESS dev INTERFACE use` sends. It tells the kernel that
//! someone is about to use the entry, as if it had a packet for that address itself: without an
//! entry it makes one and sends ARP (or neighbour discovery) requests, one a second, usually three;
//! an entry grown stale it starts to verify.

use std::io;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use tracing::debug;

use crate::log::ShowMac;

use super::{Interface, NextHop, RouteError, Routes};

/// A neighbour on a local network answers within a fraction of this...
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// ... and when it doesn't, looking more often than this gains nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// An entry of the neighbour table.
pub(super) struct Entry {
    state: NeighbourState,
    mac: Option<[u8; 6]>,
}

impl Routes {
    /// The MAC address of `hop` as the neighbour table has it, `None` when it has none (yet). `hop`
    /// must be on the network of the interface with that index. Never waits.
    ///
    /// # Errors
    ///
    /// [`RouteError::Kernel`], also when the interface is gone.
    pub fn neighbour(&mut self, interface_index: u32, hop: IpAddr) -> Result<Option<[u8; 6]>, RouteError> {
        let entry = self.entry(interface_index, hop)?;
        Ok(entry.and_then(|entry| entry.usable()))
    }

    /// The MAC address that frames from `source` to `peer` are sent to out of `interface`: the
    /// peer's own, or its gateway's. When the kernel doesn't know it, it is asked to find out, and
    /// this call **blocks** until there is an answer or `timeout` has passed. (The kernel asks
    /// again every second; a host that is there answers within a millisecond.)
    ///
    /// An answer may be of some age. The kernel, told here that the entry is in use, verifies an
    /// old one, which takes it seconds: when a peer is silent, resolve again later.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoAnswer`] with the address that was asked for; [`RouteError::NotPermitted`]
    /// when the kernel has to be asked to find out and the process lacks `CAP_NET_ADMIN`;
    /// [`RouteError::Local`] for an address of this host; those of [`next_hop`](Self::next_hop).
    pub fn resolve(
        &mut self,
        interface: &Interface,
        source: IpAddr,
        peer: IpAddr,
        timeout: Duration,
    ) -> Result<[u8; 6], RouteError> {
        let started = Instant::now();
        let hop = match self.next_hop(interface, source, peer)? {
            NextHop::Peer(hop) | NextHop::Gateway(hop) => hop,
            NextHop::Local => {
                return Err(RouteError::Local { interface: interface.name.clone(), peer });
            }
        };
        let mut pause = FIRST_PAUSE;
        loop {
            let entry = self.entry(interface.index, hop)?;
            let state = entry.as_ref().map(|entry| entry.state);
            if let Some(mac) = entry.and_then(|entry| entry.usable()) {
                if state == Some(NeighbourState::Stale) {
                    // Having it verified is a courtesy: without the privilege it still serves.
                    let _ = self.mark_used(interface.index, hop);
                }
                debug!(target: "vmmc::route", interface = interface.name, %peer, %hop, mac = %ShowMac(mac), ?state, waited = ?started.elapsed(),
                    "way found");
                return Ok(mac);
            }
            // Also when the kernel has given up meanwhile: there is time left, so it shall try
            // again.
            if state != Some(NeighbourState::Incomplete) {
                debug!(target: "vmmc::route", interface = interface.name, %peer, %hop, ?state, "asking the kernel to resolve");
                self.ask_to_resolve(interface, hop, peer)?;
            }
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                self.check_usable(interface)?;
                return Err(RouteError::NoAnswer { interface: interface.name.clone(), hop, peer, waited: timeout });
            }
            sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn ask_to_resolve(&mut self, interface: &Interface, hop: IpAddr, peer: IpAddr) -> Result<(), RouteError> {
        let Err(error) = self.mark_used(interface.index, hop) else {
            return Ok(());
        };
        self.check_usable(interface)?;
        Err(match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::ACCESS) => RouteError::NotPermitted { hop, peer },
            _ => RouteError::kernel(format!("asking the kernel to resolve {hop} on {}", interface.name))(error),
        })
    }

    pub(super) fn entry(&mut self, interface: u32, hop: IpAddr) -> Result<Option<Entry>, RouteError> {
        let question = RouteNetlinkMessage::GetNeighbour(question(interface, hop));
        let answer = match self.route.request(question, 0) {
            Ok(answer) => answer,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(RouteError::kernel(format!("reading the neighbour table for {hop}"))(error));
            }
        };
        Ok(answer.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Some(Entry::new(neighbour)),
            _ => None,
        }))
    }

    fn mark_used(&mut self, interface: u32, hop: IpAddr) -> io::Result<()> {
        let mut request = question(interface, hop);
        request.header.flags = NeighbourFlags::Use;
        let request = RouteNetlinkMessage::NewNeighbour(request);
        self.route.request(request, NLM_F_CREATE).map(drop)
    }
}

/// The neighbour message that names an entry.
fn question(interface: u32, hop: IpAddr) -> NeighbourMessage {
    let (family, address) = match hop {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

impl Entry {
    fn new(neighbour: &NeighbourMessage) -> Self {
        let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        });
        Self { state: neighbour.header.state, mac }
    }

    /// The MAC address, if the kernel would itself send to it.
    fn usable(&self) -> Option<[u8; 6]> {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        match self.state {
            Reachable | Stale | Delay | Probe | Permanent | Noarp => self.mac,
            _ => None,
        }
    }
}
