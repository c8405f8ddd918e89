//! What a lab is made of: its name, how many hosts, and their interfaces.
//!
//! The name decides what the namespaces are called (`<name>-h1`, `<name>-switch`), the host's
//! number everything inside them (`vh1`, 10.77.0.1, fd77::1). [`LabConfig::check`] refuses what
//! could not be built before anything is touched.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::LabError;

/// The fewest hosts a lab can have.
pub const MIN_HOSTS: usize = 2;
/// The most hosts a lab can have.
pub const MAX_HOSTS: usize = 64;
/// The smallest MTU of a lab's interfaces, in bytes: the least that IPv6 allows.
pub const MIN_MTU: u32 = 1280;
/// The largest MTU of a lab's interfaces, in bytes: the most that a veth device allows.
pub const MAX_MTU: u32 = 65535;
/// The most queues an interface of a lab can have.
pub const MAX_QUEUES: u32 = 64;

/// Leaves room for the suffix within what is comfortable to type and to read in a table.
const MAX_NAME: usize = 32;

/// How a lab is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabConfig {
    /// The lab's name, the first part of its namespaces' names: 1 to 32 of the characters `a-z`,
    /// `A-Z`, `0-9`, `-` and `_`, the first a letter or digit. Default: `vmmc`.
    pub name: String,
    /// How many hosts, [`MIN_HOSTS`] to [`MAX_HOSTS`]. Default: 2.
    pub hosts: usize,
    /// MTU of every interface in bytes, [`MIN_MTU`] to [`MAX_MTU`]. Default: 1500. For hosts that
    /// differ, see [`Host::set_mtu`](crate::Host::set_mtu).
    pub mtu: u32,
    /// Transmit and receive queues of every interface, 1 to [`MAX_QUEUES`]. Default: 2.
    pub queues: u32,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self { name: "vmmc".into(), hosts: 2, mtu: 1500, queues: 2 }
    }
}

impl LabConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    ///
    /// [`LabError::Name`], [`LabError::Hosts`], [`LabError::Mtu`] or [`LabError::Queues`].
    pub fn check(&self) -> Result<(), LabError> {
        check_name(&self.name)?;
        if !(MIN_HOSTS..=MAX_HOSTS).contains(&self.hosts) {
            return Err(LabError::Hosts(self.hosts));
        }
        check_mtu(self.mtu)?;
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            return Err(LabError::Queues(self.queues));
        }
        Ok(())
    }

    /// Whether the hosts are joined by a bridge rather than by one veth pair.
    pub(crate) fn has_switch(&self) -> bool {
        self.hosts > 2
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), LabError> {
    let ok = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if ok { Ok(()) } else { Err(LabError::Name(name.into())) }
}

pub(crate) fn check_mtu(mtu: u32) -> Result<(), LabError> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) { Ok(()) } else { Err(LabError::Mtu(mtu)) }
}

/// The namespace of host `number` of lab `lab`.
pub(crate) fn host_namespace(lab: &str, number: usize) -> String {
    format!("{lab}-h{number}")
}

/// The namespace of the bridge of lab `lab`.
pub(crate) fn switch_namespace(lab: &str) -> String {
    format!("{lab}-switch")
}

/// Whether `namespace` is a name that a lab called `lab` gives to one of its namespaces.
pub(crate) fn names_part_of(lab: &str, namespace: &str) -> bool {
    let Some(part) = namespace.strip_prefix(lab).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    part == "switch"
        || part
            .strip_prefix('h')
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

pub(crate) fn interface(number: usize) -> String {
    format!("vh{number}")
}

pub(crate) fn switch_port(number: usize) -> String {
    format!("port{number}")
}

pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number as u8)
}

pub(crate) fn address6(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number as u16)
}

/// Locally administered (the 02), then "VMMC" in ASCII, then the host's number.
pub(crate) fn mac(number: usize) -> [u8; 6] {
    [0x02, b'V', b'M', b'M', b'C', number as u8]
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let ok = LabConfig::default();
        assert!(ok.check().is_ok());
        for hosts in [0, 1, 65] {
            let bad = LabConfig { hosts, ..ok.clone() };
            assert!(matches!(bad.check(), Err(LabError::Hosts(n)) if n == hosts));
        }
        for mtu in [0, 1279, 65536] {
            let bad = LabConfig { mtu, ..ok.clone() };
            assert!(matches!(bad.check(), Err(LabError::Mtu(n)) if n == mtu));
        }
        for queues in [0, 65] {
            let bad = LabConfig { queues, ..ok.clone() };
            assert!(matches!(bad.check(), Err(LabError::Queues(n)) if n == queues));
        }
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["vmmc", "a", "Lab_2-x", "9lives"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(33);
        for name in ["", "-v", "_v", "a b", "a/b", "../x", "é", "a\n", "a.b", &long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_lab_knows_its_own_namespaces() {
        assert!(names_part_of("vmmc", "vmmc-h1"));
        assert!(names_part_of("vmmc", "vmmc-h64"));
        assert!(names_part_of("vmmc", "vmmc-switch"));
        for other in ["vmmc", "vmmc-", "vmmc-h", "vmmc-hx", "vmmc-h1-h1", "vmmc2-h1", "h1"] {
            assert!(!names_part_of("vmmc", other), "{other}");
        }
        assert!(names_part_of("vmmc-h1", "vmmc-h1-h1"));
    }

    #[test]
    fn macs_are_unicast_and_locally_administered() {
        assert_eq!(mac_text(mac(3)), "02:56:4d:4d:43:03");
        assert_eq!(mac(3)[0] & 0b11, 0b10);
    }
}
