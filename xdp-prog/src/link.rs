//! The `bpf_link` by which the steering program hangs on an interface.
//!
//! This is the one place with `unsafe` in the crate, apart from what libbpf-cargo generates. Generic
//! mode has to be asked for by a flag if the driver has XDP too, and libbpf-rs can't pass flags when it
//! creates a link. Attaching without a link does take flags, but such a program outlives a process
//! that is killed. So the two calls of libbpf that create and detach a link are made here.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libbpf_rs::libbpf_sys;

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The driver if it has XDP at all, and the network stack if not. A driver that has XDP may still
    /// refuse.
    KernelsChoice,
    /// The network stack.
    Generic,
}

/// An attached program. Dropping it detaches, as does the end of the process, however it ends.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches an XDP program. The kernel's reason for an error is as it gave it.
    pub(crate) fn create(program: BorrowedFd<'_>, ifindex: i32, placement: Placement) -> io::Result<Self> {
        let options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
            flags: match placement {
                Placement::KernelsChoice => 0,
                Placement::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
            },
            ..Default::default()
        };
        // SAFETY: the call only reads `options`, which live until it returns and whose first field
        // tells their size.
        let fd = unsafe {
            libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_XDP, &raw const options)
        };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the call has just opened this file descriptor, and no one else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing it would do, but not at once if someone else has it open: a child between fork and
        // exec, or a tool that lists links.
        // SAFETY: the call takes a number and touches no memory; the file descriptor is open.
        let result = unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) };
        match result {
            0.. => tracing::debug!(target: "vmmc::steering", "program detached"),
            _ => {
                let error = io::Error::from_raw_os_error(-result);
                tracing::debug!(target: "vmmc::steering", %error, "detaching failed, closing the link instead");
            }
        }
    }
}
