//! A bad network for tests: a program that loses UDP and TCP packets on their way, and damages UDP packets (cargo
//! feature `damage`).
//!
//! [`Damage`] is attached to an interface *in between*, such as the port of a bridge that a host is plugged
//! into, and meets what that interface receives: on a bridge's port, what the host behind it sends. It is no
//! part of steering, and nothing but tests and measurements uses it.

use std::{fmt, io, mem::MaybeUninit, os::fd::AsFd};

use libbpf_rs::{
    MapCore, MapFlags, MapHandle, OpenObject,
    skel::{OpenSkel, SkelBuilder},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::{
    link::{Link, Placement},
    log,
};

/// What libbpf-cargo generates from `damage.bpf.c`.
#[allow(missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/damage.skel.rs"));
}

use skeleton::{DamageSkel, DamageSkelBuilder};

/// Of how many packets, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Of the UDP and TCP packets, those that are lost.
    pub dropped: f64,
    /// Of the other UDP packets, those of which one bit behind the UDP header is turned over.
    pub damaged: f64,
}

/// What has become of the UDP and TCP packets that the interface received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DamageCounters {
    /// All of them.
    pub seen: u64,
    /// Those that were lost.
    pub dropped: u64,
    /// Those that went on with one bit turned over.
    pub damaged: u64,
}

/// Why damage can't be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DamageError {
    /// A share out of its range.
    #[error("{0} is no share of packets: a share is a number from 0 to 1, such as 0.01")]
    Share(f64),
    /// There is no such interface in the network namespace of the calling thread.
    #[error("there is no interface {interface} in this network namespace ({source}): `ip link` shows those there are")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused the program.
    #[error("the kernel refused to load the damaging program, which needs CAP_BPF and CAP_NET_ADMIN: {0}")]
    Load(String),
    /// The interface can't take it.
    #[error(
        "the damaging program can't be attached to {interface}: {source}. One interface takes one XDP program: \
         `ip link show dev {interface}` shows whether there is another"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The counters could not be read.
    #[error("the damaging program's counters can't be read: {0}")]
    Counters(String),
}

/// The damaging program, attached to an interface. Dropping it detaches, as does the end of the process,
/// however it ends.
pub struct Damage {
    _link: Link,
    outcomes: MapHandle,
}

impl Damage {
    /// Attaches the program to `interface`, by name, of the calling thread's network namespace. It runs in
    /// generic mode, which every interface has. Blocks for some milliseconds.
    ///
    /// ```no_run
    /// use xdp_prog::damage::{Damage, Shares};
    ///
    /// let damage = Damage::attach("port2", Shares { dropped: 0.01, damaged: 0.005 })?;
    /// println!("{} packets lost", damage.counters()?.dropped);
    /// # Ok::<(), xdp_prog::damage::DamageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`DamageError`].
    pub fn attach(interface: &str, shares: Shares) -> Result<Self, DamageError> {
        let (drop_share, damage_share) = (of_two_to_the_32(shares.dropped)?, of_two_to_the_32(shares.damaged)?);
        let ifindex = index(interface)
            .map_err(|errno| DamageError::NoInterface { interface: interface.to_owned(), source: errno.into() })?;
        log::redirect();
        let mut storage = MaybeUninit::uninit();
        let skeleton =
            load(&mut storage, drop_share, damage_share).map_err(|error| DamageError::Load(format!("{error:#}")))?;
        let outcomes =
            MapHandle::try_from(&*skeleton.maps.outcomes).map_err(|error| DamageError::Load(format!("{error:#}")))?;
        let link = Link::create(skeleton.progs.vmmc_damage.as_fd(), ifindex, Placement::Generic)
            .map_err(|source| DamageError::Attach { interface: interface.to_owned(), source })?;
        // The link keeps the program, and the program the map.
        Ok(Self { _link: link, outcomes })
    }

    /// What it has done so far, summed over all CPUs. Does not block.
    ///
    /// # Errors
    ///
    /// [`DamageError::Counters`] if the kernel refuses to read the map.
    pub fn counters(&self) -> Result<DamageCounters, DamageError> {
        let count = |key: u32| {
            let per_cpu = self.outcomes.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY);
            let per_cpu = per_cpu
                .map_err(|error| DamageError::Counters(format!("{error:#}")))?
                .ok_or_else(|| DamageError::Counters(format!("there is no counter {key}")))?;
            Ok(per_cpu.iter().filter_map(|value| value.as_slice().try_into().ok()).map(u64::from_ne_bytes).sum())
        };
        Ok(DamageCounters { seen: count(0)?, dropped: count(1)?, damaged: count(2)? })
    }
}

impl fmt::Debug for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damage").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

fn load(
    storage: &mut MaybeUninit<OpenObject>,
    drop_share: u64,
    damage_share: u64,
) -> Result<DamageSkel<'_>, libbpf_rs::Error> {
    let mut open = DamageSkelBuilder::default().open(storage)?;
    let constants = open.maps.rodata_data.as_deref_mut().expect("the skeleton maps its constants");
    (constants.drop_share, constants.damage_share) = (drop_share, damage_share);
    open.load()
}

fn of_two_to_the_32(share: f64) -> Result<u64, DamageError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(DamageError::Share(share));
    }
    Ok((share * (1u64 << 32) as f64) as u64)
}

fn index(interface: &str) -> Result<i32, rustix::io::Errno> {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    i32::try_from(netdevice::name_to_index(&any, interface)?).map_err(|_| rustix::io::Errno::NODEV)
}
