//! Gathers the facts: files under /proc and /sys, netlink by the library's routes, the XDP hook by `xdp-prog`, the rest by ethtool;
//! and two things that are simply tried, because no file says whether they work. Nothing here changes anything.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;
use vmmc::node::find_thresholds;
use vmmc::route::{Interface, RouteError, Routes};
use xdp_prog::{Program, SteeringError, Storage, Survey};

use super::ethtool;
use super::facts::{Capabilities, InterfaceFacts, Look, Machine, PortFacts, Trial};

/// An address for a program that is never attached: it is reserved for documentation.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Looks at the machine.
pub(super) fn machine() -> Machine {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = read("/proc/meminfo").unwrap_or_default();
    let kib = |key| memory.lines().find_map(|l| l.strip_prefix(key)?.trim_end_matches("kB").trim().parse::<u64>().ok());
    let program = std::env::current_exe().map(|path| path.display().to_string());
    Machine {
        version: version(&release),
        release,
        architecture: std::env::consts::ARCH.to_owned(),
        cores: core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1)),
        jit: read("/proc/sys/net/core/bpf_jit_enable").map(|text| text != "0"),
        sockets: try_socket(),
        program: try_program(),
        capabilities: capabilities(),
        confined: read("/proc/self/uid_map").is_some_and(|map| !is_everybody(&map)),
        memlock: getrlimit(Resource::Memlock).current,
        available: vmmc::memory::available().map(|bytes| bytes as u64),
        huge_pages: kib("HugePages_Total:").zip(kib("Hugepagesize:")).map(|(n, size)| n * (size << 10)),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        isolated: read("/sys/devices/system/cpu/isolated").filter(|cores| !cores.is_empty()),
        ethtool: ethtool::is_installed(),
        thresholds: find_thresholds(None).map_err(|error| error.to_string()),
        program_path: program.unwrap_or_else(|_| "vmmc".to_owned()),
    }
}

/// The names of all interfaces in this process's network namespace that carry Ethernet frames.
pub(super) fn ethernet_interfaces() -> Result<Vec<String>, RouteError> {
    let mut routes = Routes::open()?;
    let mut names = routes.names()?;
    // One that is gone meanwhile isn't there.
    names.retain(|name| !matches!(routes.interface(name), Err(RouteError::NotEthernet { .. })));
    Ok(names)
}

/// Looks at an interface.
pub(super) fn interface(name: &str) -> Look {
    match look(name) {
        Ok(facts) => Look::Found(Box::new(facts)),
        Err(RouteError::NoSuchInterface { existing, .. }) => Look::Absent { existing },
        Err(RouteError::NotEthernet { kind, .. }) => Look::NotEthernet { kind },
        Err(error) => Look::Unreadable { why: error.to_string() },
    }
}

fn look(name: &str) -> Result<InterfaceFacts, RouteError> {
    let mut routes = Routes::open()?;
    let found = routes.interface(name)?;
    let port = match routes.parent(&found) {
        Ok(parent) => port(&parent.unwrap_or_else(|| found.clone())),
        Err(error) => {
            let mend = match &error {
                RouteError::TagsTakenOff { parent, .. } => Some(format!("ethtool -K {parent} rxvlan off")),
                RouteError::ProviderVlan { id, .. } => {
                    Some(format!("ip link add link PORT name PORT.{id} type vlan id {id}"))
                }
                _ => None,
            };
            Err((error.to_string(), mend))
        }
    };
    let controller = found.controller.and_then(|index| routes.name(index)).map(|name| {
        let kind = routes.interface(&name).ok().and_then(|controller| controller.kind);
        (kind.unwrap_or_else(|| "controller".to_owned()), name)
    });
    Ok(InterfaceFacts {
        up: found.up,
        carrier: found.carrier,
        mtu: found.mtu,
        address: found.default_address().ok(),
        addresses: found.addresses.iter().map(|(address, _)| *address).collect(),
        controller,
        vlan: found.vlan.map(|vlan| vlan.id),
        name: found.name,
        port,
    })
}

fn port(port: &Interface) -> Result<PortFacts, (String, Option<String>)> {
    let survey = Survey::of(&port.name, port.index).map_err(|error| (error.to_string(), None))?;
    Ok(PortFacts {
        name: port.name.clone(),
        up: port.up,
        mtu: port.mtu,
        rx_queues: port.rx_queues,
        tx_queues: port.tx_queues,
        kind: port.kind.clone(),
        features: survey.features,
        virtio_iommu: virtio_iommu(&port.name, port.index),
        holder: survey.holder,
        ethtool: ethtool::ask(&port.name),
    })
}

/// Whether a virtio device has agreed with its host to use an IOMMU (VIRTIO_F_ACCESS_PLATFORM, number 33 of its features).
fn virtio_iommu(name: &str, index: u32) -> Option<bool> {
    let device = format!("/sys/class/net/{name}");
    // /sys may be of another network namespace than this process.
    let same = read(&format!("{device}/ifindex"))?.parse() == Ok(index);
    let virtio = fs::read_link(format!("{device}/device/driver")).ok()?.ends_with("virtio_net");
    let features = read(&format!("{device}/device/features")).filter(|_| same && virtio)?;
    features.as_bytes().get(33).map(|&digit| digit == b'1')
}

/// A file of the kernel's, without the line's end; `None` when it can't be read.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// Whether a map of user ids is the first namespace's: all of them, as they are.
fn is_everybody(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn capabilities() -> Capabilities {
    let have = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let sys_admin = have.contains(CapabilitySet::SYS_ADMIN);
    Capabilities {
        net_admin: have.contains(CapabilitySet::NET_ADMIN),
        net_raw: have.contains(CapabilitySet::NET_RAW),
        bpf: have.contains(CapabilitySet::BPF) || sys_admin,
        ipc_lock: have.contains(CapabilitySet::IPC_LOCK),
        sys_admin,
    }
}

fn try_socket() -> Trial {
    match socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None) {
        Ok(_) => Trial::Works,
        Err(Errno::PERM | Errno::ACCESS) => Trial::Denied,
        Err(Errno::AFNOSUPPORT) => Trial::Absent,
        Err(error) => Trial::Failed(error.to_string()),
    }
}

fn try_program() -> Trial {
    let mut storage = Storage::new();
    match Program::load(&mut storage, NOWHERE, vmmc::DEFAULT_PORT, None) {
        Ok(_) => Trial::Works,
        Err(SteeringError::Privilege { .. }) => Trial::Denied,
        Err(error) => Trial::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces() {
        assert!(is_everybody("         0          0 4294967295"));
        assert!(!is_everybody("         0       1000          1"));
        assert!(!is_everybody("0 100000 65536\n65536 1000 1"));
    }

    #[test]
    fn releases() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version(""), None);
    }
}
