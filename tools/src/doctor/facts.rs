//! What the doctor knows before it judges: plain values, gathered in one place, so that judgements are functions of them and can be
//! tested without any machine being as bad as the tests want it.

use std::collections::HashMap;
use std::net::IpAddr;

use vmmc::engine::Thresholds;
use vmmc::node::Origin;
use xdp_prog::{Features, Holder};

/// What came of trying something that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// It works.
    Works,
    /// The process lacks the privilege, so nothing is known.
    Denied,
    /// The kernel has no such thing.
    Absent,
    /// It fails for another reason.
    Failed(String),
}

/// The capabilities that matter, of this process, in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub net_admin: bool,
    pub net_raw: bool,
    /// CAP_BPF, or CAP_SYS_ADMIN, which includes it.
    pub bpf: bool,
    pub ipc_lock: bool,
    /// Not needed to run a node; only those who have it see whose an XDP program is.
    pub sys_admin: bool,
}

/// The machine, and what this process may do on it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Of the kernel, such as `6.1.0-18-amd64`.
    pub release: String,
    /// Major and minor number of the release, if it can be read.
    pub version: Option<(u32, u32)>,
    pub architecture: String,
    /// How many cores this process may run on.
    pub cores: usize,
    /// Whether eBPF programs are compiled; `None` where that can't be read, which needs root.
    pub jit: Option<bool>,
    /// Creating an AF_XDP socket.
    pub sockets: Trial,
    /// Loading the steering program.
    pub program: Trial,
    pub capabilities: Capabilities,
    /// It is in a user namespace of its own, outside of which its capabilities count for nothing.
    pub confined: bool,
    /// The limit of locked memory in bytes; `None` is no limit.
    pub memlock: Option<u64>,
    /// Memory that is available, in bytes.
    pub available: Option<u64>,
    /// Memory set aside as huge pages, in bytes.
    pub huge_pages: Option<u64>,
    /// The frequency governor of the first core.
    pub governor: Option<String>,
    /// Cores that the scheduler leaves alone, as the kernel writes them.
    pub isolated: Option<String>,
    /// Whether the program ethtool is there.
    pub ethtool: bool,
    /// From which size on sends take the bulk lane, and who says so; or why that can't be read.
    pub thresholds: Result<(Thresholds, Origin), String>,
    /// This program's path.
    pub program_path: String,
}

/// What there is under a name.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Nothing; these are the names there are.
    Absent { existing: String },
    /// Something that carries no Ethernet frames.
    NotEthernet { kind: String },
    /// The kernel doesn't tell.
    Unreadable { why: String },
    /// An Ethernet interface.
    Found(Box<InterfaceFacts>),
}

/// The interface a node would be on.
#[derive(Clone, Debug)]
pub(super) struct InterfaceFacts {
    pub name: String,
    pub up: bool,
    pub carrier: bool,
    pub mtu: u32,
    /// The address a node would take.
    pub address: Option<IpAddr>,
    /// All addresses.
    pub addresses: Vec<IpAddr>,
    /// The bridge or bond it belongs to: its kind and its name.
    pub controller: Option<(String, String)>,
    /// Its identifier, if it is a VLAN.
    pub vlan: Option<u16>,
    /// The port whose hook and queues a node takes: the interface itself, or what carries the VLAN. If there is none that will do,
    /// why, and the command that helps.
    pub port: Result<PortFacts, (String, Option<String>)>,
}

/// The port whose XDP hook and queues a node takes.
#[derive(Clone, Debug)]
pub(super) struct PortFacts {
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub rx_queues: u32,
    pub tx_queues: u32,
    /// What the kernel calls its kind; `None` is hardware.
    pub kind: Option<String>,
    /// What its driver can do; `None` where the kernel doesn't tell.
    pub features: Option<Features>,
    /// Of a virtio device, whether the host gives it an IOMMU, without which its driver refuses zero-copy.
    pub virtio_iommu: Option<bool>,
    /// Whose XDP program is there, if any.
    pub holder: Option<Holder>,
    pub ethtool: Ethtool,
}

/// What the program ethtool says. A driver says as much as it likes, so everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ethtool {
    pub driver: Option<String>,
    pub channels: Option<Channels>,
    /// Entries of a receive ring, and the most it can have.
    pub rx_ring: Option<(u32, u32)>,
    /// Offloads and other features by name.
    pub features: HashMap<String, Switch>,
    /// Over how many queues the NIC's hash spreads flows.
    pub hash_queues: Option<u32>,
    /// The last queue that it sends any to.
    pub hash_last: Option<u32>,
    /// To which queue a filter steers the packets of the bulk lane: those to the UDP port after a node's usual one.
    pub bulk_filter: Option<u32>,
    pub rx_usecs: Option<u32>,
    pub adaptive_rx: Option<bool>,
}

/// The most queues a driver can have, of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    pub rx: Option<u32>,
    pub tx: Option<u32>,
    pub combined: Option<u32>,
}

/// A feature of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    pub on: bool,
    /// It can't be changed.
    pub fixed: bool,
}

impl Ethtool {
    pub(super) fn is_on(&self, feature: &str) -> bool {
        self.features.get(feature).is_some_and(|switch| switch.on)
    }
}

impl PortFacts {
    /// Whether its driver has AF_XDP zero-copy, and will let a socket have it.
    pub(super) fn has_zero_copy(&self) -> bool {
        self.virtio_iommu != Some(false) && self.features.is_some_and(|features| features.native && features.zero_copy)
    }
}

impl Machine {
    /// Whether the kernel is at least this old. One whose version can't be read is taken to be new.
    pub(super) fn has(&self, version: (u32, u32)) -> bool {
        self.version.is_none_or(|have| have >= version)
    }
}
