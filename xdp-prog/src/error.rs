//! What can go wrong, and what to do about it.

use std::{fs, io, net::IpAddr};

use libbpf_rs::ErrorKind;
use rustix::{io::Errno, thread::CapabilitySet};

use crate::Holder;

/// The oldest kernel with XDP programs that take frames of several buffers (`xdp.frags`).
const OLDEST_KERNEL: (u32, u32) = (5, 18);

/// Why steering could not be set up or used. Every message says what was tried, what was found and, as
/// far as one can tell, what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// There is no such interface in the network namespace of the calling thread.
    #[error(
        "there is no interface {interface} with index {ifindex} in this network namespace: \
         `ip link` shows those there are"
    )]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The index asked for.
        ifindex: u32,
    },
    /// Interfaces can't be looked up at all, as when the process has no file descriptor left.
    #[error("interface {interface} can't be looked up: {reason}")]
    Lookup {
        /// The interface.
        interface: String,
        /// The kernel's reason.
        reason: String,
    },
    /// No packet can be for this address and port.
    #[error(
        "a node can't be at {address} port {port}: it needs an address of its own, neither \
         unspecified nor multicast, and a port from 1 to 65535"
    )]
    Address {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
    },
    /// Nothing is sent in that VLAN.
    #[error("there is no VLAN {id}: identifiers are 1 to 4094")]
    Vlan {
        /// The identifier asked for.
        id: u16,
    },
    /// Another VMMC node has the interface.
    #[error(
        "interface {} already belongs to another VMMC node ({}): {}, or use another interface",
        .0.interface, .0, .0.remedy()
    )]
    OtherNode(Box<Holder>),
    /// A program that is not VMMC's runs on the interface.
    #[error(
        "interface {} already runs the {}, which is not VMMC's: `ip link show dev {}` shows it; {}, \
         or use another interface",
        .0.interface, .0, .0.interface, .0.remedy()
    )]
    OtherProgram(Box<Holder>),
    /// The calling thread lacks capabilities.
    #[error(
        "loading and attaching the steering program needs {missing}, which this process lacks: run it \
         as root, or give its program `setcap cap_bpf,cap_net_admin,cap_net_raw,cap_ipc_lock+ep`; `vmmc doctor` says what else it lacks"
    )]
    Privilege {
        /// The capabilities that are missing.
        missing: String,
    },
    /// The kernel is too old.
    #[error(
        "the steering program needs Linux {}.{} or newer, and this is {release}",
        OLDEST_KERNEL.0, OLDEST_KERNEL.1
    )]
    Kernel {
        /// The running kernel's release.
        release: String,
    },
    /// The kernel refused the program for another reason.
    #[error(
        "the kernel refused to load the steering program: {0} (the log has details at level debug, \
         target libbpf)"
    )]
    Load(String),
    /// The interface could take the program in neither mode, or not for another reason.
    #[error("the steering program can't be attached to {interface}: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's reason, or reasons, and what may help.
        reason: String,
    },
    /// A socket could not be given a queue.
    #[error("the socket can't be registered for queue {queue}: {reason}")]
    Register {
        /// The queue.
        queue: u32,
        /// What is wrong with it, or with the socket.
        reason: String,
    },
    /// The counters could not be read.
    #[error("the steering program's counters can't be read: {0}")]
    Counters(String),
    /// The program could not be run on a frame in memory.
    #[error("the steering program can't be tried on a frame of {length} bytes: {reason}")]
    Run {
        /// The frame's length, in bytes.
        length: usize,
        /// The kernel's reason.
        reason: String,
    },
}

impl SteeringError {
    pub(crate) fn loading(error: &libbpf_rs::Error) -> Self {
        let denied = error.kind() == ErrorKind::PermissionDenied;
        Self::privilege_or_kernel(denied).unwrap_or_else(|| Self::Load(format!("{error:#}")))
    }

    pub(crate) fn attaching(interface: &str, reason: String) -> Self {
        Self::Attach { interface: interface.to_owned(), reason }
    }

    /// The driver refuses the program, and so does the kernel in front of the network stack.
    pub(crate) fn attaching_in_any_mode(interface: &str, driver: &io::Error, generic: &io::Error) -> Self {
        let advice = driver_advice(interface);
        Self::attaching(interface, format!("the driver says {driver}, and generic mode fails with {generic}. {advice}"))
    }

    /// An error of attaching, unless it is the driver's refusal of the program, which another mode may
    /// get around. It is not that if permission is missing, if the place is taken (on the interface or
    /// on one stacked on it), if the interface has gone, or if the process has no file descriptor left.
    pub(crate) fn not_of_the_driver(interface: &str, error: &io::Error) -> Option<Self> {
        if let Some(cause) = Self::privilege_or_kernel(error.kind() == io::ErrorKind::PermissionDenied) {
            return Some(cause);
        }
        match Errno::from_io_error(error)? {
            Errno::EXIST => Some(Self::attaching(
                interface,
                format!(
                    "{error}. An interface stacked on it, such as a bridge or a bond, may run an XDP program: \
                     `ip link` shows it"
                ),
            )),
            Errno::PERM | Errno::ACCESS | Errno::BUSY | Errno::NODEV | Errno::NFILE | Errno::MFILE => {
                Some(Self::attaching(interface, error.to_string()))
            }
            _ => None,
        }
    }

    /// The kernel says EPERM and EINVAL for much else too: only what is true of this process and this
    /// kernel is blamed.
    fn privilege_or_kernel(denied: bool) -> Option<Self> {
        if denied {
            let missing = missing_capabilities()?;
            return Some(Self::Privilege { missing });
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned();
        (version(&release)? < OLDEST_KERNEL).then_some(Self::Kernel { release })
    }
}

/// What to do about a driver that has XDP and refuses a program.
pub(crate) fn driver_advice(interface: &str) -> String {
    format!(
        "Drivers refuse XDP programs while settings are in their way: fewer receive queues than the peer \
         or the CPUs want (`ethtool -L {interface} combined N`), a large MTU (`ip link set dev {interface} \
         mtu 1500`), or receive offloads (`ethtool -K {interface} lro off`); the kernel's log may say more \
         (`dmesg`)"
    )
}

/// Which of the capabilities needed this thread has not.
fn missing_capabilities() -> Option<String> {
    let have = rustix::thread::capabilities(None).ok()?.effective;
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
    let missing: Vec<_> =
        needed.iter().filter(|(capability, _)| !have.contains(*capability)).map(|(_, name)| *name).collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernel_releases() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.18-rc1"), Some((5, 18)));
        assert_eq!(version("garbage"), None);
        assert!(version("5.4.0") < Some(OLDEST_KERNEL));
    }
}
