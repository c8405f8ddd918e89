//! The eBPF steering program of VMMC: loading, attaching, counters.
//!
//! An AF_XDP socket receives what an XDP program on its interface redirects to it. This crate is that
//! program (`src/bpf/steer.bpf.c`) and its loader. The program takes the node's own UDP packets and
//! leaves everything else to the kernel, so that ARP, neighbour discovery, ssh and TCP on the same
//! interface keep working.
//!
//! ```text
//! frame ─► Ethernet ─► the node's VLAN tag, or none ─► IPv4 with options, or IPv6
//!                        │ another: other_vlan           │ another EtherType: not_ip
//!                                                        ▼
//!          to the node's address? ── no: other_address ───────────────┐
//!            │ yes                                                    │
//!          a whole packet? ───────── no: fragment ────────────────────┤
//!            │ yes                                                    │
//!          UDP right behind it? ──── no: not_udp, extension_header ───┤
//!            │ yes                                                    │
//!          to the node's port? ───── no, nor the gate's: other_port ──┤
//!            │ yes         └──────── the one after it, bulk header: ──│──► the gate
//!          a socket on this queue? ─ no: no_socket ───────────────────┤
//!            │ yes                                                    ▼
//!          XDP_REDIRECT: redirected                               XDP_PASS
//! ```
//!
//! Wherever the frame ends inside a header (`truncated`) or a header contradicts itself (`malformed`)
//! it is passed too. Every frame counts exactly one of these [`Verdicts`].
//!
//! Only packets of the bulk lane are ever dropped or changed. They land in the memory of applications, and the [`gate`]
//! lets in none but those that a place is posted for:
//!
//! ```text
//! on the lane's queue? ──────────────────────── no: bulk_other_queue ──┐
//!   │ yes                                                              │
//! a place left, and a socket? ───────────────── no: bulk_no_place ─────┤
//!   │ yes                                                              │
//! of the sender, link and grant it is for? ──── no: bulk_stale ────────┤
//!   │ yes                                                              │
//! of exactly its length? ────────────────────── no: bulk_length ───────┤
//!   │ yes                                                              ▼
//! headers off, XDP_REDIRECT: bulk_admitted                         XDP_DROP
//! ```
//!
//! Loading and attaching need privilege: `CAP_BPF` and `CAP_NET_ADMIN`, or root. What comes out of
//! [`Steering::attach`] is file descriptors, and using them ([`Steering::register`],
//! [`Steering::counters`]) needs none. The program needs Linux 5.18.
//!
//! It runs in the driver (native mode) where it can. Where the driver has no XDP, or refuses the program
//! as the interface is configured (too few receive queues, a large MTU, receive offloads), it runs in
//! front of the network stack (generic mode), which works on any interface and is slower. Generic mode
//! is never silent: a warning to `tracing` says why and what gives native mode, and
//! [`Steering::mode`] tells which it is. Nothing but a driver's refusal leads there: a lack of
//! privilege, an interface that is absent or taken, and a program that can't be loaded are errors.
//!
//! The program stays attached as long as its [`Steering`] lives. In both modes it hangs on a `bpf_link`,
//! which the kernel closes with the process, however that ends: nothing is left behind by `kill -9`.
//!
//! # Example
//!
//! ```no_run
//! use std::os::fd::BorrowedFd;
//! use xdp_prog::{Steering, SteeringError, Target};
//!
//! fn steer(xsk: BorrowedFd<'_>) -> Result<Steering, SteeringError> {
//!     let target = Target {
//!         interface: "eth0".into(),
//!         ifindex: 2,
//!         address: [10, 77, 0, 1].into(),
//!         port: 7000,
//!         vlan: None,
//!     };
//!     let steering = Steering::attach(&target)?;
//!     println!("{} mode", steering.mode());
//!     steering.register(0, xsk)?; // until then queue 0's frames go to the kernel
//!     for (verdict, frames) in steering.counters()?.iter() {
//!         println!("{verdict:>16} {frames}");
//!     }
//!     Ok(steering)
//! }
//! ```

#![deny(unsafe_code)]

#[cfg(feature = "damage")]
pub mod damage;
mod error;
pub mod gate;
mod holder;
mod link;
mod log;
mod maps;
mod program;
#[cfg(feature = "queues")]
pub mod queues;
mod steering;
mod survey;
mod verdicts;

pub use error::SteeringError;
pub use holder::{Holder, Process};
pub use maps::{MAX_QUEUES, Maps};
pub use program::{Action, Program, Storage, Trial};
pub use steering::{Mode, Steering, Target};
pub use survey::{Features, Survey};
pub use verdicts::Verdicts;

/// What libbpf-cargo generates from `steer.bpf.c`.
#[allow(missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}
