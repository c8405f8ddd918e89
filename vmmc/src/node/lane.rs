//! Opening the interface, which takes privilege, apart from using it, which doesn't.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;
use xdp_prog::{Steering, Target};

use super::{Bulk, NoBulkLane};
use crate::error::Error;
use crate::memory::Arena;
use crate::port::eager::{Binding, EagerPort};
use crate::port::{Lanes, Port};
use crate::route::{Interface, RouteError, Routes};
use crate::wire::MIN_MTU;
use crate::wire::frame::Mac;

/// Finds the Ethernet address through which packets to a peer go.
pub trait Resolve: Send {
    /// The next hop to `peer`. May block for `timeout`.
    ///
    /// # Errors
    /// When there is no way, or nobody answers.
    fn resolve(&mut self, peer: IpAddr, timeout: Duration) -> Result<Mac, Error>;

    /// Why the interface can't be used at present, if it can't. One that nobody knows anything about can.
    fn trouble(&mut self) -> Option<Error> {
        None
    }
}

/// An opened wire: what a [`Node`](crate::Node) stands on.
pub struct Lane {
    /// Carries the packets.
    pub port: Box<dyn Port>,
    /// The interface's name; `None` on a simulated wire.
    pub interface: Option<String>,
    /// The node's IP address.
    pub address: IpAddr,
    /// The node's UDP port.
    pub udp_port: u16,
    /// The interface's Ethernet address.
    pub mac: Mac,
    /// The VLAN it is in, if its frames carry a tag.
    pub vlan: Option<u16>,
    /// The largest IP packet, bytes.
    pub mtu: usize,
    /// Finds the way to peers.
    pub resolver: Box<dyn Resolve>,
    /// Steers packets to the port; detached when the node closes.
    pub steering: Option<Arc<Steering>>,
    /// How the socket is bound.
    pub binding: Option<Binding>,
    /// With a bulk lane, the arena that it reads and writes: the node's. Without, the node makes one.
    pub arena: Option<Arena>,
    /// Why there is no bulk lane, if there is none and somebody knows.
    pub no_bulk: Option<NoBulkLane>,
}

/// The kernel's route and neighbour tables.
struct KernelResolver {
    routes: Routes,
    interface: Interface,
    source: IpAddr,
}

impl Resolve for KernelResolver {
    fn resolve(&mut self, peer: IpAddr, timeout: Duration) -> Result<Mac, Error> {
        Ok(self.routes.resolve(&self.interface, self.source, peer, timeout)?)
    }

    fn trouble(&mut self) -> Option<Error> {
        self.routes.check_usable(&self.interface).err().map(Error::from)
    }
}

/// How long a link may take to come back that the driver has reset.
const RESET_TIME: Duration = Duration::from_secs(5);
const RESET_PAUSE: Duration = Duration::from_millis(10);

/// Waits while an interface has no carrier that had it a moment ago: what is sent meanwhile would be lost, the kernel's questions for addresses among it.
fn await_carrier(routes: &mut Routes, interface: &Interface) {
    let (start, mut was_reset) = (Instant::now(), false);
    while start.elapsed() < RESET_TIME && matches!(routes.check_usable(interface), Err(RouteError::NoCarrier { .. })) {
        was_reset = true;
        std::thread::sleep(RESET_PAUSE);
    }
    if was_reset {
        let (interface, took) = (&interface.name, start.elapsed());
        info!(target: "vmmc::node", interface, ?took, "its driver has reset its link");
    }
}

impl Lane {
    /// Opens `interface`: AF_XDP sockets on all its queues, or on `queue` alone, and the eBPF program that steers UDP packets to `address` and
    /// `udp_port` into them. Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF. `address` defaults to the interface's first; `mtu`, in bytes of
    /// IP packet, to the interface's.
    ///
    /// Where `interface` is a VLAN (`eth0.5`), sockets and program are on the port that carries it (`eth0`), and frames carry its tag. A
    /// port still has one node.
    ///
    /// With `bulk` there is a bulk lane on the last queue, if that can be, which reads and writes the arena: the node's, from then on. Pins all of it.
    ///
    /// Some drivers reset their link when a program is attached, which takes them seconds: this blocks until it is back, for 5 seconds at the most.
    ///
    /// # Errors
    /// When the interface is absent, down, has no such address or queue, is held by another program, or the privilege is
    /// missing.
    pub fn open(
        interface: &str,
        queue: Option<u32>,
        address: Option<IpAddr>,
        udp_port: u16,
        mtu: Option<usize>,
        bulk: Option<(Bulk, &Arena)>,
    ) -> Result<Lane, Error> {
        let mut routes = Routes::open()?;
        let found = routes.interface(interface)?;
        if !found.up {
            return Err(RouteError::InterfaceDown { name: interface.to_owned() }.into());
        }
        let parent = routes.parent(&found)?;
        let port = parent.as_ref().unwrap_or(&found);
        if !port.up {
            return Err(RouteError::InterfaceDown { name: port.name.clone() }.into());
        }
        let address = match address {
            None => found.default_address()?,
            Some(address) if found.addresses.iter().any(|(a, _)| *a == address) => address,
            Some(address) => {
                let existing = found.addresses.iter().map(|(a, _)| *a).collect();
                return Err(Error::NoSuchAddress { interface: interface.to_owned(), address, existing });
            }
        };
        // A port carries frames that are longer by a tag than its MTU says, and the kernel lets no VLAN have a larger one.
        let limit = found.mtu.min(port.mtu) as usize;
        let mtu = match mtu {
            None => limit.min(crate::wire::MAX_MTU),
            Some(mtu) if (MIN_MTU..=limit).contains(&mtu) => mtu,
            Some(mtu) => {
                return Err(Error::Config(format!(
                    "an MTU of {mtu} was asked for, and {interface} can do {MIN_MTU} to {limit}"
                )));
            }
        };
        if mtu < MIN_MTU {
            return Err(Error::Config(format!(
                "{interface} has an MTU of {mtu}, and this protocol needs {MIN_MTU}: ip link set {interface} mtu 1500"
            )));
        }
        // The program first: who holds the interface is the more telling error.
        let (name, ifindex, vlan) = (port.name.clone(), port.index, found.vlan.map(|vlan| vlan.id));
        let target = Target { interface: name, ifindex, address, port: udp_port, vlan };
        let steering = Steering::attach(&target)?;
        let steering = Arc::new(steering);
        let (lane, no_bulk) = match bulk {
            None => (None, None),
            Some((bulk, arena)) => {
                match super::bulk::open(bulk, (port, queue, udp_port), &mut routes, (arena, vlan.is_some()), &steering)?
                {
                    Ok(lane) => (Some(lane), None),
                    Err(reason) => (None, Some(reason)),
                }
            }
        };
        let mut queues: Vec<u32> = queue.map_or_else(|| (0..port.rx_queues.max(1)).collect(), |queue| vec![queue]);
        let arena = bulk.filter(|_| lane.is_some()).map(|(_, arena)| arena.clone());
        queues.truncate(queues.len() - usize::from(lane.is_some()));
        let port = EagerPort::open(&port.name, &queues, mtu)?;
        for (queue, socket) in port.sockets() {
            steering.register(queue, socket)?;
        }
        info!(target: "vmmc::node", interface, ?vlan, %address, udp_port, mtu, mode = %steering.mode(), "interface open");
        if found.carrier {
            await_carrier(&mut routes, &found);
        }
        let binding = Some(port.binding());
        let mac = found.mac;
        let port: Box<dyn Port> = match lane {
            None => Box::new(port),
            Some(lane) => Box::new(Lanes { eager: Box::new(port), bulk: Box::new(lane) }),
        };
        let resolver = Box::new(KernelResolver { routes, interface: found, source: address });
        Ok(Lane {
            port,
            interface: Some(interface.to_owned()),
            address,
            udp_port,
            mac,
            vlan,
            mtu,
            resolver,
            steering: Some(steering),
            binding,
            arena,
            no_bulk,
        })
    }
}
