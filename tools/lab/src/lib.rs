//! Labs: hosts to try VMMC on, without a second machine.
//!
//! Each host of a lab is a network namespace with one interface. Two hosts are the two ends of a
//! veth pair; more than two are plugged into a bridge, which lives in a namespace of its own:
//!
//! ```text
//!   2 hosts                              3 hosts and more
//!
//!   vmmc-h1            vmmc-h2           vmmc-h1          vmmc-h2          vmmc-h3
//!   ┌─────────┐        ┌─────────┐       ┌─────────┐      ┌─────────┐      ┌─────────┐
//!   │   vh1   ├────────┤   vh2   │       │   vh1   │      │   vh2   │      │   vh3   │
//!   └─────────┘        └─────────┘       └────┬────┘      └────┬────┘      └────┬────┘
//!   10.77.0.1          10.77.0.2         ┌────┴────────────────┴────────────────┴────┐
//!   fd77::1            fd77::2           │   port1      vmmc-switch: br0     port3   │
//!                                        └───────────────────────────────────────────┘
//! ```
//!
//! Nothing of a lab exists outside its namespaces, so labs of different names don't see each other
//! even though they use the same addresses, and nothing outside them is touched. A lab outlives the
//! process that made it, like any other network configuration: [`Lab::down`] removes it. Tests and
//! benchmarks use a [`TempLab`], which removes itself.
//!
//! ```no_run
//! use vmmc_lab::{Lab, LabConfig};
//!
//! let lab = Lab::up(&LabConfig { mtu: 9000, ..LabConfig::default() })?;
//! let host = lab.host(1);
//! // A program on the host ...
//! host.command("ip").arg("address").status()?;
//! // ... or a piece of this one.
//! let peer = lab.host(2).address;
//! let socket = host.enter(|| std::net::TcpStream::connect((peer, 7000)))??;
//! # drop(socket);
//! Lab::down("vmmc")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every interface has two queues, unless another number is asked for, and what is sent on one of them arrives on the same one, as over a
//! cable. A bridge would send it on by another, so each of its ports has a small program that prevents that ([`xdp_prog::queues`]).
//!
//! Everything else is done by running `ip` (iproute2), and each command is logged at `debug` level by
//! `tracing`, so a lab can be reproduced by hand. Making, entering and removing labs needs root.

mod config;
mod error;
mod host;
mod inspect;
mod ip;
mod lab;
mod temp;
mod turn;

pub use config::{LabConfig, MAX_HOSTS, MAX_MTU, MAX_QUEUES, MIN_HOSTS, MIN_MTU};
pub use error::LabError;
pub use host::{ChildGuard, Host};
pub use inspect::{HostStatus, LabStatus, Process, XdpProgram};
pub use lab::{Change, Lab};
pub use temp::{TempLab, down_on_signal};
pub use turn::interrupt;
