//! A program with a bulk lane on queue 0, and its gate in our memory, as a lane has it.

use std::{
    os::fd::{AsFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use xdp_prog::{
    Program, Storage,
    gate::{Gate, Run},
};

use crate::{
    packet::{Node, PORT, peer_of},
    trial::xdp_socket,
};

/// The gate of a program, mapped.
pub(crate) struct Mapped(NonNull<Gate>);

impl Mapped {
    pub(crate) fn of(gate: std::os::fd::BorrowedFd<'_>) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, somewhere.
        let at = unsafe { mmap(ptr::null_mut(), size_of::<Gate>(), access, MapFlags::SHARED, gate, 0) };
        Self(NonNull::new(at.expect("the map can be mapped").cast()).unwrap())
    }
}

impl std::ops::Deref for Mapped {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        // SAFETY: it is mapped as long as the borrow, page-aligned, and all atomics, which any bytes are.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to it any more.
        unsafe { munmap(self.0.as_ptr().cast(), size_of::<Gate>()) }.unwrap();
    }
}

/// A loaded program with a socket on queue 0, and a lane there that takes headers off.
pub(crate) struct Lane<'storage> {
    pub(crate) program: Program<'storage>,
    pub(crate) gate: Mapped,
    pub(crate) socket: OwnedFd,
}

impl<'storage> Lane<'storage> {
    pub(crate) fn open(storage: &'storage mut Storage, node: Node) -> Self {
        let program = Program::load(storage, node.address, PORT, node.vlan).expect("these tests need root");
        let gate = Mapped::of(program.maps().gate());
        let socket = xdp_socket();
        program.maps().register(0, socket.as_fd()).unwrap();
        gate.set_lane(0, true);
        Self { program, gate, socket }
    }

    /// Ten places from 0 on, for packets like those of `packet::ours`, of so many bytes.
    pub(crate) fn post(&self, node: Node, segment: u32) {
        self.gate.set_run(0, &run(node, 0, 10, segment));
        self.gate.admit(10);
    }
}

/// What the packets of these tests carry, unless they are to be refused.
pub(crate) const TOKEN: u64 = 0x1122_3344_5566_7788;
pub(crate) const GRANT: u32 = 0x99aa_bbcc;
pub(crate) const SOURCE_PORT: u16 = 40_000;

/// Places for them.
pub(crate) fn run(node: Node, first: u64, end: u64, segment: u32) -> Run {
    let source = (peer_of(node.address), SOURCE_PORT).into();
    Run { places: first..end, token: TOKEN, grant: GRANT, segment, source }
}
