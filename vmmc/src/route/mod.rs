//! What the kernel knows about addresses, asked over netlink.
//!
//! A node sends Ethernet frames of its own making, past the kernel's network stack, but it does not
//! keep tables of its own: which interface, which router and which MAC address lead to a peer is
//! the kernel's knowledge, kept current by the administrator, DHCP, routing daemons, ARP and
//! neighbour discovery. [`Routes`] asks for it:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use vmmc::route::{RouteError, Routes};
//! # fn main() -> Result<(), RouteError> {
//! let mut routes = Routes::open()?;
//! let interface = routes.interface("vh1")?;
//! let source = interface.default_address()?;
//! let peer = "10.77.0.2".parse().expect("an address");
//! let mac = routes.resolve(&interface, source, peer, Duration::from_secs(1))?;
//! # Ok(())
//! # }
//! ```
//!
//! A netlink socket belongs to the network namespace of the thread that opened it. So a [`Routes`]
//! always answers for that one namespace, whichever thread asks later.
//!
//! | file | asks the kernel for |
//! |---|---|
//! | `interface.rs` | an interface, its addresses (`RTM_GETLINK`, `RTM_GETADDR`) |
//! | `vlan.rs`      | what carries a VLAN interface's frames |
//! | `ethtool.rs`   | the number of queues in use, and of the features one (ethtool's generic netlink family) |
//! | `next_hop.rs`  | the way to a peer (`RTM_GETROUTE`) |
//! | `neighbour.rs` | a MAC address (`RTM_GETNEIGH`), resolving it (`RTM_NEWNEIGH` with `NTF_USE`) |
//! | `netlink.rs`   | carries a request there and the replies back |
//! | `error.rs`     | what can go wrong, in words |

mod error;
mod ethtool;
mod interface;
mod neighbour;
mod netlink;
mod next_hop;
#[cfg(test)]
mod tests;
mod vlan;

pub use error::RouteError;
pub use interface::Interface;
pub use next_hop::NextHop;
pub use vlan::Vlan;

use netlink::Netlink;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};

/// The kernel's tables of interfaces, routes and neighbours, in one network namespace.
///
/// Calls are synchronous: the kernel answers within microseconds, except that
/// [`resolve`](Routes::resolve) may wait for another host. A kernel that does not answer at all is
/// an error after five seconds, never a hang.
#[derive(Debug)]
pub struct Routes {
    route: Netlink,
    generic: Netlink,
}

impl Routes {
    /// Opens the netlink sockets, in the calling thread's network namespace. Needs no privilege.
    ///
    /// # Errors
    ///
    /// [`RouteError::Kernel`] when the process is out of file descriptors or netlink is forbidden.
    pub fn open() -> Result<Self, RouteError> {
        let open = |protocol| Netlink::open(protocol).map_err(RouteError::kernel("opening a netlink socket"));
        Ok(Self { route: open(NETLINK_ROUTE)?, generic: open(NETLINK_GENERIC)? })
    }
}
