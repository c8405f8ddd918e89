//! The program at work: attached to an interface for as long as the value lives.

use std::{
    fmt, io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use libbpf_rs::{Xdp, XdpFlags, libbpf_sys};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use serde::{Deserialize, Serialize};

use crate::{
    Holder, Maps, Program, SteeringError, Storage, Verdicts,
    error::driver_advice,
    link::{Link, Placement},
};

/// The node whose packets the program takes, and where they arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface's name, such as `eth0`.
    pub interface: String,
    /// The interface's index in the network namespace of the calling thread.
    pub ifindex: u32,
    /// The node's address.
    pub address: IpAddr,
    /// The node's UDP port.
    pub port: u16,
    /// The node's VLAN, if it is in one: the tag that its frames have on the interface.
    pub vlan: Option<u16>,
}

/// Where on an interface the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel spends anything on the frame.
    Native,
    /// In front of the network stack, after the kernel has made a socket buffer of the frame. It works
    /// on any interface, and is slower.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
        })
    }
}

/// The steering program, attached to an interface. Dropping it detaches, as does the end of the
/// process, however it ends.
#[derive(Debug)]
pub struct Steering {
    // The link keeps the program, and the program the maps: nothing else of it is needed any more.
    _link: Link,
    maps: Maps,
    mode: Mode,
}

impl Steering {
    /// Loads the program for `target` and attaches it to its interface: in native mode if the driver
    /// takes it, else in generic mode. Generic mode comes with a warning, which says whether the driver
    /// has no XDP, or refuses it as the interface is configured and what helps. [`mode`](Self::mode)
    /// tells which it is.
    ///
    /// Only a driver's refusal leads to generic mode; every other error is returned.
    ///
    /// The node's frames go to the kernel until a socket is [registered](Self::register) for their
    /// queue. Blocks for some milliseconds; some drivers reset the hardware, which takes seconds in
    /// which the interface receives nothing.
    ///
    /// # Errors
    ///
    /// [`SteeringError::NoInterface`]; [`SteeringError::OtherNode`] or
    /// [`SteeringError::OtherProgram`] if the interface is taken, which leaves the one who has it
    /// undisturbed; [`SteeringError::Attach`] if the kernel attaches it in neither mode; and those of
    /// [`Program::load`].
    pub fn attach(target: &Target) -> Result<Self, SteeringError> {
        check_interface(target)?;
        let mut storage = Storage::new();
        Program::load(&mut storage, target.address, target.port, target.vlan)?.attach(target)
    }

    pub(crate) fn attach_program(program: Program<'_>, target: &Target) -> Result<Self, SteeringError> {
        let ifindex = check_interface(target)?;
        let (link, refusal) = in_the_driver_or_generic(
            target,
            |placement| program.link(ifindex, placement),
            |error| cause_elsewhere(&program, target, ifindex, error),
        )?;
        let found = attached(link.as_fd(), ifindex)
            .map_err(|error| SteeringError::attaching(&target.interface, format!("{error:#}")))?;
        let mode = if found.drv_prog_id != 0 { Mode::Native } else { Mode::Generic };
        let Target { interface, address, port, vlan, .. } = target;
        tracing::info!(target: "vmmc::steering", interface, %mode, program = found.prog_id, %address, port, ?vlan, "program attached");
        if mode == Mode::Generic {
            warn_of_generic_mode(&target.interface, refusal.as_ref());
        }
        Ok(Self { _link: link, maps: program.into_maps(), mode })
    }

    /// Where the program runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Gives the node's frames that arrive on `queue` to `socket`: see [`Maps::register`].
    ///
    /// # Errors
    ///
    /// [`SteeringError::Register`].
    pub fn register(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteeringError> {
        self.maps.register(queue, socket)?;
        tracing::debug!(target: "vmmc::steering", queue, "socket registered");
        Ok(())
    }

    /// Takes the socket of `queue` out again: see [`Maps::unregister`].
    ///
    /// # Errors
    ///
    /// [`SteeringError::Register`].
    pub fn unregister(&self, queue: u32) -> Result<(), SteeringError> {
        self.maps.unregister(queue)?;
        tracing::debug!(target: "vmmc::steering", queue, "socket taken out");
        Ok(())
    }

    /// The bulk lane's gate, to be mapped into memory: see [`Maps::gate`].
    pub fn gate(&self) -> BorrowedFd<'_> {
        self.maps.gate()
    }

    /// The program's counters since it was loaded: see [`Maps::counters`].
    ///
    /// # Errors
    ///
    /// [`SteeringError::Counters`].
    pub fn counters(&self) -> Result<Verdicts, SteeringError> {
        self.maps.counters()
    }
}

/// Attaches where the kernel chooses and, if the driver refuses, in generic mode: then the refusal comes
/// with the link. `cause_elsewhere` finds out what else is behind an error, if anything.
fn in_the_driver_or_generic<L>(
    target: &Target,
    attach: impl Fn(Placement) -> io::Result<L>,
    cause_elsewhere: impl Fn(&io::Error) -> Option<SteeringError>,
) -> Result<(L, Option<io::Error>), SteeringError> {
    let refusal = match attach(Placement::KernelsChoice) {
        Ok(link) => return Ok((link, None)),
        Err(error) => error,
    };
    if let Some(cause) = cause_elsewhere(&refusal) {
        return Err(cause);
    }
    tracing::debug!(target: "vmmc::steering", interface = target.interface, %refusal, "the driver refuses: trying generic mode");
    match attach(Placement::Generic) {
        Ok(link) => Ok((link, Some(refusal))),
        Err(error) => Err(cause_elsewhere(&error)
            .unwrap_or_else(|| SteeringError::attaching_in_any_mode(&target.interface, &refusal, &error))),
    }
}

/// What an error of attaching is about, if it isn't the driver's refusal.
fn cause_elsewhere(program: &Program<'_>, target: &Target, ifindex: i32, error: &io::Error) -> Option<SteeringError> {
    // Whether someone is in the way is a question for the interface, not for the error code: the kernel
    // has several for that, and uses them for other things too.
    let found = attached(program.maps().sockets(), ifindex).ok();
    match found.and_then(|found| Holder::find(&target.interface, target.ifindex, &found)) {
        Some(holder) if holder.is_vmmc() => Some(SteeringError::OtherNode(Box::new(holder))),
        Some(holder) => Some(SteeringError::OtherProgram(Box::new(holder))),
        None => check_interface(target).err().or_else(|| SteeringError::not_of_the_driver(&target.interface, error)),
    }
}

fn warn_of_generic_mode(interface: &str, refusal: Option<&io::Error>) {
    const COST: &str = "steering in generic mode, which costs a socket buffer and a copy for every frame";
    match refusal {
        None => tracing::warn!(target: "vmmc::steering", interface, "the driver of {interface} has no XDP: {COST}"),
        Some(refusal) => tracing::warn!(
            target: "vmmc::steering",
            interface,
            "the driver of {interface} has XDP, but refuses the steering program as the interface is \
             configured ({refusal}): {COST}. {}. For native mode change that, then attach again",
            driver_advice(interface)
        ),
    }
}

/// Name and index must still belong together: interfaces come, go and are renamed.
fn check_interface(target: &Target) -> Result<i32, SteeringError> {
    let absent = |_| SteeringError::NoInterface { interface: target.interface.clone(), ifindex: target.ifindex };
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| SteeringError::Lookup { interface: target.interface.clone(), reason: error.to_string() })?;
    let found = netdevice::name_to_index(&any, &target.interface).map_err(absent)?;
    if found != target.ifindex {
        return Err(absent(rustix::io::Errno::NODEV));
    }
    i32::try_from(found).map_err(|_| absent(rustix::io::Errno::NODEV))
}

/// Asks the kernel (by netlink, unprivileged) what runs on an interface. libbpf-rs wants a file
/// descriptor of a program for that, and doesn't use it.
pub(crate) fn attached(
    unused: BorrowedFd<'_>,
    ifindex: i32,
) -> Result<libbpf_sys::bpf_xdp_query_opts, libbpf_rs::Error> {
    Xdp::new(unused).query(ifindex, XdpFlags::NONE)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rustix::io::Errno;

    use super::*;

    /// What comes of attaching if each placement ends in the error given or, without one, in a link; and
    /// which placements were tried.
    fn outcome(
        chosen: Option<Errno>,
        generic: Option<Errno>,
    ) -> (Result<Option<io::Error>, SteeringError>, Vec<Placement>) {
        let target =
            Target { interface: "eth0".into(), ifindex: 2, address: [10, 77, 0, 1].into(), port: 7000, vlan: None };
        let tried = RefCell::new(Vec::new());
        let attach = |placement| {
            tried.borrow_mut().push(placement);
            let error = if placement == Placement::Generic { generic } else { chosen };
            error.map_or(Ok(()), |errno| Err(errno.into()))
        };
        let cause = |error: &io::Error| SteeringError::not_of_the_driver(&target.interface, error);
        let result = in_the_driver_or_generic(&target, attach, cause).map(|((), refusal)| refusal);
        (result, tried.into_inner())
    }

    #[test]
    fn a_driver_that_takes_it_or_has_no_xdp_is_asked_once() {
        let (result, tried) = outcome(None, None);
        assert!(result.unwrap().is_none());
        assert_eq!(tried, [Placement::KernelsChoice]);
    }

    #[test]
    fn a_drivers_refusal_leads_to_generic_mode() {
        for errno in [Errno::NOSPC, Errno::INVAL, Errno::OPNOTSUPP, Errno::RANGE, Errno::NOMEM] {
            let (result, tried) = outcome(Some(errno), None);
            assert_eq!(result.unwrap().unwrap().raw_os_error(), Some(errno.raw_os_error()));
            assert_eq!(tried, [Placement::KernelsChoice, Placement::Generic]);
        }
    }

    #[test]
    fn refused_in_both_modes_it_says_both_reasons() {
        let (result, tried) = outcome(Some(Errno::NOSPC), Some(Errno::OPNOTSUPP));
        let error = result.unwrap_err();
        assert!(matches!(error, SteeringError::Attach { .. }), "{error}");
        let text = error.to_string();
        for part in ["attached to eth0", "No space left", "not supported", "generic mode", "ethtool -L eth0"] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert_eq!(tried.len(), 2);
    }

    #[test]
    fn other_errors_do_not_lead_to_generic_mode() {
        for errno in [Errno::PERM, Errno::BUSY, Errno::EXIST, Errno::NODEV, Errno::MFILE] {
            let (result, tried) = outcome(Some(errno), None);
            let error = result.unwrap_err();
            assert!(matches!(error, SteeringError::Attach { .. }), "{error}");
            assert!(!error.to_string().contains("ethtool"), "{error}");
            assert_eq!(tried, [Placement::KernelsChoice]);
        }
    }
}
