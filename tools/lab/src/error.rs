//! What can go wrong with a lab, in words that say what to do about it.

use std::io;
use std::time::Duration;

use crate::{MAX_HOSTS, MAX_MTU, MAX_QUEUES, MIN_HOSTS, MIN_MTU};

/// Why a lab could not be made, found, used or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The lab's name can't be part of a namespace's name.
    #[error(
        "{0:?} can't be a lab's name: use 1 to 32 of the characters a-z A-Z 0-9 - _, \
         the first a letter or a digit"
    )]
    Name(String),

    /// Fewer or more hosts than a lab can have.
    #[error("a lab can't have {0} hosts: choose {MIN_HOSTS} to {MAX_HOSTS}")]
    Hosts(usize),

    /// An MTU outside what the interfaces can have.
    #[error("an interface of a lab can't have an MTU of {0} bytes: choose {MIN_MTU} to {MAX_MTU}")]
    Mtu(u32),

    /// More queues than an interface can have, or none.
    #[error("an interface of a lab can't have {0} queues: choose 1 to {MAX_QUEUES}")]
    Queues(u32),

    /// The process isn't root's.
    #[error("{doing} needs root: sudo {command}")]
    NotRoot {
        /// What was to be done, as in "creating a network namespace".
        doing: &'static str,
        /// The command line of this process.
        command: String,
    },

    /// iproute2 isn't installed.
    #[error(
        "labs are made with the program `ip`, which was not found: install iproute2 \
         (apt-get install iproute2, or dnf install iproute)"
    )]
    IpNotInstalled,

    /// A program could not be started, or its output not be read.
    #[error("could not run `{command}`")]
    Spawn {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },

    /// A command ended with an error.
    #[error("`{command}` failed: {message}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote to standard error.
        message: String,
    },

    /// `ip` answered something that could not be understood.
    #[error("`{command}` printed something unexpected; is it an old version of iproute2?")]
    Output {
        /// The command line.
        command: String,
        /// What was wrong with it.
        source: serde_json::Error,
    },

    /// A file of the kernel's could not be opened or changed.
    #[error("could not {doing} {path}")]
    File {
        /// What was to be done: "open", "write 0 to" ...
        doing: String,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },

    /// A thread could not be moved into the namespace.
    #[error("could not enter the network namespace {namespace}")]
    Enter {
        /// The namespace.
        namespace: String,
        /// What the system said.
        source: io::Error,
    },

    /// Another process has been making or removing labs for too long.
    #[error(
        "no lab can be made or removed while {holder} does so, and it has not come to an end for {} s: let it go on \
         (kill -CONT, if it was stopped), or end it (kill)",
        .waited.as_secs()
    )]
    Busy {
        /// Who: process id, command, and whether it is stopped.
        holder: String,
        /// How long this process has waited.
        waited: Duration,
    },

    /// [`interrupt`](crate::interrupt) was called while another process was making or removing labs.
    #[error("interrupted while waiting for another process that makes or removes labs")]
    Interrupted,

    /// There is no lab of that name.
    #[error("there is no lab {0}: `vmmc lab up --name {0}` makes it")]
    NoSuchLab(String),

    /// There is a lab of that name, but parts of it are missing or not as a lab's should be.
    #[error("lab {name} is damaged ({problem}): `vmmc lab up --name {name}` makes it anew")]
    Damaged {
        /// The lab's name.
        name: String,
        /// The first thing found wrong.
        problem: String,
    },

    /// The lab has no such host.
    #[error("lab {lab} has no host {host}: its hosts are {hosts}")]
    NoSuchHost {
        /// The lab's name.
        lab: String,
        /// The host asked for.
        host: String,
        /// The hosts there are.
        hosts: String,
    },

    /// The lab's two hosts are joined directly.
    #[error("host {0} is plugged into no bridge: a lab has one when it has three hosts or more")]
    NoSwitch(String),

    /// A port of the bridge could not be made to keep packets on their queues.
    #[error("the lab's bridge would send packets on by other queues than they came on")]
    Bridge(#[source] xdp_prog::queues::QueuesError),

    /// A namespace of the name that is needed exists, and no lab made it.
    #[error(
        "the network namespace {0} exists but was not made by a lab, or by one that was killed at once: choose another lab name, \
         or remove it with `ip netns delete {0}`"
    )]
    NotOurs(String),

    /// The process that wants to remove the lab runs inside it.
    #[error("this process runs inside {0}, which is to be removed: do it from outside the lab")]
    Inside(String),

    /// Processes in a namespace did not end, not even by SIGKILL.
    #[error("processes in {namespace} do not end: {processes}")]
    Stuck {
        /// The namespace.
        namespace: String,
        /// Their process ids.
        processes: String,
    },

    /// The signal handler could not be installed.
    #[error("could not install a handler for SIGINT and SIGTERM")]
    Signal(#[source] ctrlc::Error),
}
