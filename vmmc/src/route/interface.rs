//! An interface as the kernel describes it: `RTM_GETLINK` for the device, `RTM_GETADDR` for its
//! addresses.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp};
use rustix::io::Errno;
use tracing::debug;

use super::ethtool::{Channels, channels, indirection};
use super::{RouteError, Routes, Vlan, vlan};

/// Interface names are shorter than this (the kernel's `IFNAMSIZ`).
const NAME_SIZE: usize = 16;

/// An Ethernet interface, as it was when [`Routes::interface`] looked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name, such as `eth0` (never an alternative name it was asked for by).
    pub name: String,
    /// Its index, which is what routes and sockets go by.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet it sends, in bytes; an Ethernet frame adds a header of 14.
    pub mtu: u32,
    /// Whether it is administratively up (`ip link set ... up`).
    pub up: bool,
    /// Whether its link works: the cable is plugged in, the other end of a veth pair is up.
    pub carrier: bool,
    /// Receive queues in use (`ethtool -l`; a driver that has no such notion: those it allocated).
    pub rx_queues: u32,
    /// Transmit queues in use (the same).
    pub tx_queues: u32,
    /// Its addresses with their prefix lengths in bits, preferred ones first: secondary, temporary,
    /// deprecated and tentative ones come last, and those that failed duplicate detection are left
    /// out.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What makes it a VLAN, if it is one.
    pub vlan: Option<Vlan>,
    /// What the kernel calls its kind, where it isn't hardware: `veth`, `vlan`, `bridge`, `bond` ...
    pub kind: Option<String>,
    /// The index of the bridge or bond it belongs to, if it does.
    pub controller: Option<u32>,
    /// The id of the XDP program attached to it, if any (`bpftool prog show id ...`).
    pub xdp_program: Option<u32>,
}

impl Routes {
    /// Whether the NIC's hash sends packets to this queue, as far as it can be known: where it can't, it may.
    pub fn spreads_over(&mut self, interface: &Interface, queue: u32) -> bool {
        let table = indirection(&mut self.generic, interface.index).ok().flatten();
        table.is_none_or(|table| table.is_empty() || table.contains(&queue))
    }
}

impl Interface {
    /// The address a node on this interface takes when it isn't told one: the first IPv4 address
    /// that is not link-local, else the first such IPv6 address.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoAddress`] when there is none.
    pub fn default_address(&self) -> Result<IpAddr, RouteError> {
        let global = |address: &IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
        };
        let candidates = || self.addresses.iter().map(|&(address, _)| address).filter(global);
        let first = candidates().find(IpAddr::is_ipv4);
        first.or_else(|| candidates().next()).ok_or_else(|| RouteError::NoAddress { name: self.name.clone() })
    }
}

impl Routes {
    /// Looks an interface up by its name.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchInterface`], which lists those there are; [`RouteError::NotEthernet`];
    /// [`RouteError::Kernel`]. An interface that is down or has no address is not an error here.
    pub fn interface(&mut self, name: &str) -> Result<Interface, RouteError> {
        let failed = || RouteError::kernel(format!("reading interface {name}"));
        let link = match self.link_by_name(name) {
            Ok(link) => link,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => {
                return Err(RouteError::NoSuchInterface { name: name.into(), existing: self.interface_names() });
            }
            Err(error) => return Err(failed()(error)),
        };
        let mut interface = describe(&link)?;
        // Only what is in use can be bound to; only a driver that can't tell has all it allocated
        // in use.
        let in_use = channels(&mut self.generic, interface.index).map_err(failed())?;
        if let Some(Channels { rx, tx }) = in_use {
            interface.rx_queues = rx;
            interface.tx_queues = tx;
        }
        interface.addresses = self.addresses(interface.index).map_err(failed())?;
        let Interface { index, mtu, up, carrier, rx_queues, tx_queues, .. } = interface;
        debug!(target: "vmmc::route", name, index, mtu, up, carrier, rx_queues, tx_queues, "interface found");
        Ok(interface)
    }

    /// Errors when the interface has been removed, is down or without carrier.
    ///
    /// This looks again: the `Interface` at hand may be old. Without carrier or when down, the
    /// kernel withdraws routes and neighbours, so this is what explains that they are missing.
    pub(crate) fn check_usable(&mut self, interface: &Interface) -> Result<(), RouteError> {
        let name = interface.name.clone();
        let flags = match self.link_by_index(interface.index) {
            Ok(link) => link.header.flags,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => {
                let index = interface.index;
                return Err(RouteError::InterfaceGone { name, index });
            }
            Err(error) => {
                return Err(RouteError::kernel(format!("reading interface {name}"))(error));
            }
        };
        if !flags.contains(LinkFlags::Up) {
            return Err(RouteError::InterfaceDown { name });
        }
        if !flags.contains(LinkFlags::LowerUp) {
            return Err(RouteError::NoCarrier { name });
        }
        Ok(())
    }

    /// The names of all interfaces, Ethernet or not.
    ///
    /// # Errors
    ///
    /// [`RouteError::Kernel`].
    pub fn names(&mut self) -> Result<Vec<String>, RouteError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.route.request(question, NLM_F_DUMP).map_err(RouteError::kernel("listing the interfaces"))?;
        let names = links.iter().filter_map(|link| match link {
            RouteNetlinkMessage::NewLink(link) => name_of(link),
            _ => None,
        });
        Ok(names.map(str::to_owned).collect())
    }

    /// The name of the interface with that index; `None` when there is none.
    pub fn name(&mut self, index: u32) -> Option<String> {
        self.link_by_index(index).ok().as_ref().and_then(name_of).map(str::to_owned)
    }

    /// The name of the interface with that index, for error messages.
    pub(super) fn interface_name(&mut self, index: u32) -> String {
        self.name(index).unwrap_or_else(|| format!("the interface with index {index}"))
    }

    fn interface_names(&mut self) -> String {
        match self.names() {
            Ok(names) => names.join(", "),
            Err(error) => format!("others ({error})"),
        }
    }

    fn link_by_name(&mut self, name: &str) -> io::Result<LinkMessage> {
        if name.is_empty() || name.len() >= NAME_SIZE || name.contains('\0') {
            return Err(Errno::NODEV.into());
        }
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.into()));
        self.link(question)
    }

    pub(super) fn link_by_index(&mut self, index: u32) -> io::Result<LinkMessage> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        self.link(question)
    }

    fn link(&mut self, question: LinkMessage) -> io::Result<LinkMessage> {
        let question = RouteNetlinkMessage::GetLink(question);
        let answer = self.route.request(question, 0)?;
        answer
            .into_iter()
            .find_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .ok_or_else(|| Errno::NODEV.into())
    }

    fn addresses(&mut self, index: u32) -> io::Result<Vec<(IpAddr, u8)>> {
        let mut question = AddressMessage::default();
        question.header.index = index;
        let question = RouteNetlinkMessage::GetAddress(question);
        let mut found: Vec<AddressMessage> = self
            .route
            .request(question, NLM_F_DUMP)?
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) => Some(address),
                _ => None,
            })
            .filter(|address| address.header.index == index)
            .filter(|address| !address.header.flags.contains(AddressHeaderFlags::Dadfailed))
            .collect();
        // For IPv6, the kernel's "secondary" means temporary.
        let second_choice =
            AddressHeaderFlags::Secondary | AddressHeaderFlags::Deprecated | AddressHeaderFlags::Tentative;
        found.sort_by_key(|address| address.header.flags.intersects(second_choice));
        let addresses = found.iter().filter_map(|address| {
            // On a point-to-point link `Address` is the other end's and `Local` our own.
            let local = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let any = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            Some((local.or(any)?, address.header.prefix_len))
        });
        Ok(addresses.collect())
    }
}

pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Everything but the addresses; the queue counts are those allocated.
fn describe(link: &LinkMessage) -> Result<Interface, RouteError> {
    let mut interface = Interface {
        name: name_of(link).unwrap_or_default().into(),
        index: link.header.index,
        mac: [0; 6],
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
        carrier: link.header.flags.contains(LinkFlags::LowerUp),
        rx_queues: 1,
        tx_queues: 1,
        addresses: Vec::new(),
        vlan: vlan::describe(link),
        kind: vlan::kind(link),
        controller: None,
        xdp_program: None,
    };
    let mut mac = None;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => interface.controller = Some(*index),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) => interface.rx_queues = *queues,
            LinkAttribute::NumTxQueues(queues) => interface.tx_queues = *queues,
            LinkAttribute::Xdp(xdp) => {
                interface.xdp_program = xdp.iter().find_map(|attribute| match attribute {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                        Some(*id)
                    }
                    _ => None,
                });
            }
            _ => {}
        }
    }
    match mac {
        Some(mac) if link.header.link_layer_type == LinkLayerType::Ether => {
            interface.mac = mac;
            Ok(interface)
        }
        _ => Err(RouteError::NotEthernet {
            name: interface.name,
            kind: link.header.link_layer_type.to_string().to_lowercase(),
        }),
    }
}
