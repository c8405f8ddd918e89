//! Looking at a lab as it is: what its status shows, and how it differs from what was asked for.
//!
//! Nothing about a lab is stored anywhere: the kernel's own configuration is the only record. So a
//! lab can be judged whoever changed it, and `up` needs no other test of its work than this one.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use crate::config::{self, LabConfig, host_namespace, switch_namespace, switch_port};
use crate::ip::{ip, ip_json, is_netns, netns_names};
use crate::{Host, LabError};

/// The alias of the loopback interface that marks a namespace as made by a lab.
pub(crate) const MARK: &str = "vmmc-lab";
/// The bridge in the switch's namespace.
pub(crate) const BRIDGE: &str = "br0";

/// A lab as it is at the moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LabStatus {
    /// The lab's name.
    pub name: String,
    /// Its hosts, by number.
    pub hosts: Vec<HostStatus>,
    /// The namespace of the bridge that joins them, if it isn't just a veth pair.
    pub switch: Option<String>,
    /// What is missing or wrong, if anything is.
    pub problem: Option<String>,
}

/// A host of a lab as it is at the moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostStatus {
    /// The host.
    pub host: Host,
    /// `up`, `down`, `no carrier` (the other end is down) or `missing`.
    pub state: &'static str,
    /// The interface's MTU in bytes; 0 when it is missing.
    pub mtu: u32,
    /// How many transmit queues the interface has; there are as many for receiving.
    pub queues: u32,
    /// The XDP program attached to the interface.
    pub xdp: Option<XdpProgram>,
    /// The processes in the namespace.
    pub processes: Vec<Process>,
}

/// An attached XDP program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpProgram {
    /// The kernel's id of the program.
    pub id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// `native`, `generic` or `offloaded`; `multiple` when there is more than one of these.
    pub mode: &'static str,
}

/// A process in a host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// The program's name, as the kernel has it: at most 15 bytes.
    pub name: String,
}

/// What is there of a lab.
pub(crate) struct View {
    name: String,
    hosts: BTreeMap<usize, Namespace>,
    switch: Option<Namespace>,
}

/// One namespace of a lab.
pub(crate) struct Namespace {
    pub(crate) name: String,
    links: Vec<Link>,
}

/// An interface, as `ip -json -details address show` tells it.
#[derive(Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    operstate: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    ifalias: String,
    #[serde(default)]
    num_tx_queues: u32,
    #[serde(default)]
    num_rx_queues: u32,
    #[serde(default)]
    master: String,
    #[serde(default)]
    linkinfo: LinkInfo,
    #[serde(default)]
    addr_info: Vec<Address>,
    xdp: Option<Xdp>,
}

#[derive(Default, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_slave_data: SlaveData,
}

#[derive(Default, Deserialize)]
struct SlaveData {
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    local: String,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Deserialize)]
struct Xdp {
    mode: u32,
    prog: Option<Prog>,
}

#[derive(Deserialize)]
struct Prog {
    id: u32,
    name: Option<String>,
}

impl View {
    /// Looks at every namespace of the lab. A name with no namespace behind it is left out.
    pub(crate) fn of(lab: &str) -> Result<Self, LabError> {
        let mut view = View { name: lab.into(), hosts: BTreeMap::new(), switch: None };
        for name in own_names(lab)? {
            if !is_netns(&name) {
                continue;
            }
            let links = ip_json(&["-n", &name, "-d", "-j", "address", "show"])?;
            let number = name.rsplit("-h").next().and_then(|number| number.parse().ok());
            let namespace = Namespace { name, links };
            match number {
                Some(number) => drop(view.hosts.insert(number, namespace)),
                None => view.switch = Some(namespace),
            }
        }
        Ok(view)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.switch.is_none()
    }

    /// The namespaces that are there, hosts first.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.hosts.values().chain(&self.switch)
    }

    /// How many hosts there should be: as many as the highest number says.
    pub(crate) fn host_count(&self) -> usize {
        self.hosts.keys().max().copied().unwrap_or(0)
    }

    pub(crate) fn check_ours(&self) -> Result<(), LabError> {
        match self.namespaces().find(|namespace| !namespace.is_marked()) {
            Some(other) => Err(LabError::NotOurs(other.name.clone())),
            None => Ok(()),
        }
    }

    /// The first thing that no lab may lack, whatever its hosts have been set to since it was made.
    pub(crate) fn damage(&self) -> Option<String> {
        let count = self.host_count();
        if count < config::MIN_HOSTS {
            return Some(format!("{} is missing", host_namespace(&self.name, count + 1)));
        }
        for number in 1..=count {
            let Some(host) = self.hosts.get(&number) else {
                return Some(format!("{} is missing", host_namespace(&self.name, number)));
            };
            let interface = config::interface(number);
            let Some(link) = host.link(&interface) else {
                return Some(format!("{interface} is missing in {}", host.name));
            };
            let mac = config::mac_text(config::mac(number));
            if link.address != mac {
                return Some(format!("{interface} has the MAC address {}, not {mac}", link.address));
            }
            let addresses = [(config::address(number).to_string(), 24), (config::address6(number).to_string(), 64)];
            for (address, length) in addresses {
                if !link.has_address(&address, length) {
                    return Some(format!("{interface} lacks the address {address}/{length}"));
                }
            }
        }
        match &self.switch {
            None if count > 2 => Some(format!("{} is missing", switch_namespace(&self.name))),
            Some(extra) if count <= 2 => Some(format!("{} is not needed", extra.name)),
            Some(switch) => {
                let missing = (1..=count).find(|&number| {
                    let port = switch.link(&switch_port(number));
                    port.is_none_or(|port| port.master != BRIDGE)
                })?;
                Some(format!("{} is missing in {}", switch_port(missing), switch.name))
            }
            None => None,
        }
    }

    /// The first difference between the lab and one just built for `config`, ready for use.
    pub(crate) fn difference(&self, config: &LabConfig) -> Option<String> {
        if self.host_count() != config.hosts {
            let count = self.host_count();
            return Some(format!("it has {count} host{}", if count == 1 { "" } else { "s" }));
        }
        if let Some(damage) = self.damage() {
            return Some(damage);
        }
        for (number, host) in &self.hosts {
            let link = host.link(&config::interface(*number))?;
            if let Some(difference) = link.difference(config) {
                return Some(difference);
            }
            if !host.link("lo").is_some_and(Link::is_up) {
                return Some(format!("lo in {} is down", host.name));
            }
        }
        let switch = self.switch.as_ref()?;
        for number in 1..=config.hosts {
            let port = switch.link(&switch_port(number))?;
            if let Some(difference) = port.difference(config) {
                return Some(difference);
            }
            let state = &port.linkinfo.info_slave_data.state;
            if state != "forwarding" {
                return Some(format!("{} is {state}", port.ifname));
            }
        }
        let bridge_up = switch.link(BRIDGE).is_some_and(Link::is_up);
        (!bridge_up).then(|| format!("{BRIDGE} in {} is down", switch.name))
    }

    /// What the user is shown.
    pub(crate) fn status(&self) -> Result<LabStatus, LabError> {
        let hosts = (1..=self.host_count())
            .map(|number| {
                let namespace = self.hosts.get(&number);
                let link = namespace.and_then(|host| host.link(&config::interface(number)));
                Ok(HostStatus {
                    host: Host::new(&self.name, number, self.host_count() > 2),
                    state: link.map_or("missing", Link::state),
                    mtu: link.map_or(0, |link| link.mtu),
                    queues: link.map_or(0, |link| link.num_tx_queues),
                    xdp: link.and_then(Link::xdp_program),
                    processes: match namespace {
                        Some(namespace) => processes(&namespace.name)?,
                        None => Vec::new(),
                    },
                })
            })
            .collect::<Result<_, LabError>>()?;
        Ok(LabStatus {
            name: self.name.clone(),
            hosts,
            switch: self.switch.as_ref().map(|switch| switch.name.clone()),
            problem: self.damage(),
        })
    }
}

impl Namespace {
    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.ifname == name)
    }

    fn is_marked(&self) -> bool {
        self.link("lo").is_some_and(|lo| lo.ifalias == MARK)
    }

    /// The interfaces a lab has put here: all but the loopback.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.ifname.as_str()).filter(|name| *name != "lo")
    }
}

impl Link {
    fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }

    fn state(&self) -> &'static str {
        match (self.is_up(), self.operstate.as_str()) {
            (false, _) => "down",
            (true, "UP") => "up",
            (true, _) => "no carrier",
        }
    }

    fn has_address(&self, address: &str, length: u8) -> bool {
        self.addr_info.iter().any(|info| info.local == address && info.prefixlen == length)
    }

    fn difference(&self, config: &LabConfig) -> Option<String> {
        let name = &self.ifname;
        if self.mtu != config.mtu {
            return Some(format!("{name} has an MTU of {} bytes", self.mtu));
        }
        for queues in [self.num_tx_queues, self.num_rx_queues] {
            if queues != config.queues {
                return Some(format!("{name} has {queues} queues"));
            }
        }
        (self.state() != "up").then(|| format!("{name} is {}", self.state()))
    }

    fn xdp_program(&self) -> Option<XdpProgram> {
        let xdp = self.xdp.as_ref()?;
        // The numbers are the kernel's XDP_ATTACHED_ constants; 0 is "none".
        let mode = match xdp.mode {
            0 => return None,
            1 => "native",
            2 => "generic",
            3 => "offloaded",
            _ => "multiple",
        };
        Some(XdpProgram {
            id: xdp.prog.as_ref().map_or(0, |prog| prog.id),
            name: xdp.prog.as_ref().and_then(|prog| prog.name.clone()),
            mode,
        })
    }
}

/// The lab's names among those of all namespaces, also of such as have no namespace behind them.
pub(crate) fn own_names(lab: &str) -> Result<Vec<String>, LabError> {
    let mut names = netns_names()?;
    names.retain(|name| config::names_part_of(lab, name));
    Ok(names)
}

/// The processes in a namespace.
pub(crate) fn processes(namespace: &str) -> Result<Vec<Process>, LabError> {
    let pids = ip(&["netns", "pids", namespace])?;
    Ok(pids
        .split_whitespace()
        .filter_map(|pid| {
            // A process that has ended meanwhile is none.
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some(Process { pid: pid.parse().ok()?, name: name.trim_end().into() })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(xdp: &str) -> Link {
        // As iproute2 6.1 prints it, shortened.
        let json = format!(
            r#"{{"ifindex":2,"ifname":"vh1","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,{xdp}
               "operstate":"UP","address":"02:56:4d:4d:43:01","linkinfo":{{"info_kind":"veth"}},
               "num_tx_queues":2,"num_rx_queues":2,"addr_info":[{{"family":"inet",
               "local":"10.77.0.1","prefixlen":24,"scope":"global"}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn an_interface_is_read() {
        let config = LabConfig::default();
        let mut link = link("");
        assert_eq!(link.difference(&config), None);
        assert!(link.has_address("10.77.0.1", 24));
        assert!(!link.has_address("10.77.0.1", 16));
        assert_eq!(link.xdp_program(), None);
        link.operstate = "LOWERLAYERDOWN".into();
        assert_eq!(link.state(), "no carrier");
        link.flags.clear();
        assert_eq!(link.difference(&config).as_deref(), Some("vh1 is down"));
    }

    #[test]
    fn an_attached_xdp_program_is_read() {
        let attached = r#""xdp":{"mode":1,"prog":{"id":2455,"name":"prog","tag":"614b434cd8324ecc",
            "jited":1},"attached":[{"mode":1,"prog":{"id":2455}}]},"#;
        let expected = XdpProgram { id: 2455, name: Some("prog".into()), mode: "native" };
        assert_eq!(link(attached).xdp_program(), Some(expected));
    }
}
