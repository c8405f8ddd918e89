//! A program for the ports of a bridge between hosts under test (cargo feature `queues`): it has the bridge keep each
//! packet on the queue that it was sent on.
//!
//! Without it the bridge chooses, and never well: what was sent on queue 1 of a veth pair goes on by queue 0. Between real hosts
//! it is the receiver's NIC that chooses the queue; here nothing could be told to. It is no part of steering, and nothing but labs
//! uses it.

use std::{io, mem::MaybeUninit, os::fd::AsFd};

use libbpf_rs::{
    TC_INGRESS, TcHookBuilder,
    skel::{OpenSkel, SkelBuilder},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::log;

/// What libbpf-cargo generates from `queues.bpf.c`.
#[allow(missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/queues.skel.rs"));
}

/// Why a bridge can't be made to keep queues.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueuesError {
    /// There is no such interface in the network namespace of the calling thread.
    #[error("there is no interface {interface} in this network namespace ({source}): `ip link` shows those there are")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused the program.
    #[error("the kernel refused to load the program that keeps queues, which needs CAP_BPF and CAP_NET_ADMIN: {0}")]
    Load(String),
    /// The interface can't take it.
    #[error(
        "the program that keeps queues can't be attached to {interface}: {reason}. The kernel needs CONFIG_NET_CLS_BPF and \
         CONFIG_NET_SCH_INGRESS"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's reason.
        reason: String,
    },
}

/// Attaches the program to `interface`, a port of a bridge in the calling thread's network namespace, for what it receives. It stays
/// there as long as the interface does, whatever becomes of this process.
///
/// # Errors
///
/// See [`QueuesError`].
pub fn keep(interface: &str) -> Result<(), QueuesError> {
    let ifindex = index(interface)
        .map_err(|errno| QueuesError::NoInterface { interface: interface.to_owned(), source: errno.into() })?;
    log::redirect();
    let mut storage = MaybeUninit::uninit();
    let skeleton = skeleton::QueuesSkelBuilder::default().open(&mut storage).and_then(|open| open.load());
    let skeleton = skeleton.map_err(|error| QueuesError::Load(format!("{error:#}")))?;
    let mut hook =
        TcHookBuilder::new(skeleton.progs.vmmc_queues.as_fd()).ifindex(ifindex).replace(true).hook(TC_INGRESS);
    hook.handle(1).priority(1);
    let attached = hook.create().and_then(|mut hook| hook.attach());
    attached
        .map(drop)
        .map_err(|error| QueuesError::Attach { interface: interface.to_owned(), reason: format!("{error:#}") })
}

fn index(interface: &str) -> Result<i32, rustix::io::Errno> {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    i32::try_from(netdevice::name_to_index(&any, interface)?).map_err(|_| rustix::io::Errno::NODEV)
}
