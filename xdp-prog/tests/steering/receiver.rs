//! A whole AF_XDP socket, with memory and rings, that receives copies of frames on queue 0.

use std::{
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem,
    config::{BindFlags, LibxdpFlags, SocketConfig, UmemConfig},
};

pub(crate) struct Receiver {
    rx: RxQueue,
    tx: TxQueue,
    rings: (FillQueue, CompQueue),
    umem: Umem,
}

impl Receiver {
    /// On an interface of the calling thread's namespace.
    pub(crate) fn bind(interface: &str) -> Self {
        let (umem, frames) = Umem::new(UmemConfig::default(), NonZeroU32::new(64).unwrap(), false).unwrap();
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_SG)
            .build();
        // SAFETY: the memory has no other socket, and libxdp loads no program along with this one.
        let (tx, rx, rings) = unsafe { Socket::new(config, &umem, &interface.parse().unwrap(), 0) }.unwrap();
        let mut rings = rings.expect("new memory comes with rings");
        // SAFETY: the frames are of this memory, and given away once.
        assert_eq!(unsafe { rings.0.produce(&frames) }, frames.len());
        Self { rx, tx, rings, umem }
    }

    /// The next frame, of one buffer or several.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut frame = FrameDesc::default();
            // SAFETY: the frame is of the memory that the socket was made with.
            let received = unsafe { self.rx.poll_and_consume_one(&mut frame, 10_000) }.unwrap();
            assert_eq!(received, 1, "no frame came to the AF_XDP socket");
            // SAFETY: the kernel has handed the frame over, and isn't given it again before it is copied.
            bytes.extend(unsafe { self.umem.data(&frame) }.contents());
            // SAFETY: it is of this memory, and nobody looks at it any more.
            assert_eq!(unsafe { self.rings.0.produce_one(&frame) }, 1);
            if !frame.has_more_frames() {
                return bytes;
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as `tx` is.
        unsafe { BorrowedFd::borrow_raw(self.tx.fd().as_raw_fd()) }
    }
}
