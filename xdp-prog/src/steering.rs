//! The program at work: attached to an interface for as long as the value lives.

use std::{
    fmt,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use libbpf_rs::{Link, Xdp, XdpFlags, libbpf_sys};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::{Holder, Maps, Program, SteeringError, Storage, Verdicts};

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
}

/// Where on an interface the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    link: Link,
    maps: Maps,
    mode: Mode,
}

impl Steering {
    /// Loads the program for `target` and attaches it to its interface, in native mode if the
    /// interface's driver has that, else in generic mode with a warning.
    ///
    /// The node's frames go to the kernel until a socket is [registered](Self::register) for their
    /// queue. Blocks for some milliseconds; some drivers reset the hardware, which takes seconds in
    /// which the interface receives nothing.
    ///
    /// # Errors
    ///
    /// [`SteeringError::NoInterface`]; [`SteeringError::OtherNode`] or
    /// [`SteeringError::OtherProgram`] if the interface is taken, which leaves the one who has it
    /// undisturbed; [`SteeringError::Attach`] if the driver refuses; and those of [`Program::load`].
    pub fn attach(target: &Target) -> Result<Self, SteeringError> {
        check_interface(target)?;
        let mut storage = Storage::new();
        Program::load(&mut storage, target.address, target.port)?.attach(target)
    }

    pub(crate) fn attach_program(
        program: Program<'_>,
        target: &Target,
    ) -> Result<Self, SteeringError> {
        let ifindex = check_interface(target)?;
        let link = program.link(ifindex).map_err(|error| {
            // Whether someone is in the way is a question for the interface, not for the error code:
            // the kernel has several for that, and uses them for other things too.
            let sockets = program.maps().sockets();
            match attached(sockets, ifindex)
                .ok()
                .and_then(|found| Holder::find(target, &found))
            {
                Some(holder) if holder.is_vmmc() => SteeringError::OtherNode(Box::new(holder)),
                Some(holder) => SteeringError::OtherProgram(Box::new(holder)),
                None => SteeringError::attaching(&target.interface, &error),
            }
        })?;
        let found = attached(link.as_fd(), ifindex)
            .map_err(|error| SteeringError::attaching(&target.interface, &error))?;
        let mode = if found.drv_prog_id != 0 {
            Mode::Native
        } else {
            Mode::Generic
        };
        if mode == Mode::Generic {
            tracing::warn!(
                interface = target.interface,
                "the driver of {} has no XDP: steering in generic mode, which costs a socket buffer \
                 and a copy for every frame",
                target.interface
            );
        }
        Ok(Self {
            link,
            maps: program.into_maps(),
            mode,
        })
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
        self.maps.register(queue, socket)
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

impl Drop for Steering {
    fn drop(&mut self) {
        // Closing the link would do, but not at once if someone else has it open: a child between
        // fork and exec, or a tool that lists links.
        if let Err(error) = self.link.detach() {
            tracing::debug!("detaching failed, closing the link instead: {error:#}");
        }
    }
}

/// Name and index must still belong together: interfaces come, go and are renamed.
fn check_interface(target: &Target) -> Result<i32, SteeringError> {
    let absent = |_| SteeringError::NoInterface {
        interface: target.interface.clone(),
        ifindex: target.ifindex,
    };
    let any = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| SteeringError::Lookup {
        interface: target.interface.clone(),
        reason: error.to_string(),
    })?;
    let found = netdevice::name_to_index(&any, &target.interface).map_err(absent)?;
    if found != target.ifindex {
        return Err(absent(rustix::io::Errno::NODEV));
    }
    i32::try_from(found).map_err(|_| absent(rustix::io::Errno::NODEV))
}

/// Asks the kernel (by netlink, unprivileged) what runs on an interface. libbpf-rs wants a file
/// descriptor of a program for that, and doesn't use it.
fn attached(
    unused: BorrowedFd<'_>,
    ifindex: i32,
) -> Result<libbpf_sys::bpf_xdp_query_opts, libbpf_rs::Error> {
    Xdp::new(unused).query(ifindex, XdpFlags::NONE)
}
