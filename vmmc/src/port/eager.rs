//! The eager lane: an AF_XDP socket on one queue of an interface, through xsk-rs.
//!
//! ```text
//!              fill ring  --->  kernel  --->  RX ring         frames 0 .. RX_FRAMES
//!   free RX frames                                 packets that arrived
//!
//!              TX ring    --->  kernel  --->  completion ring  frames RX_FRAMES ..
//!   packets to send                                frames the kernel is done with
//! ```
//!
//! The UMEM is cut into frames of 4096 bytes, of which 3840 hold packet data (the kernel keeps 256 in front). A longer packet
//! is a chain of frames (multi-buffer, `XDP_USE_SG`). Half of the frames only ever receive, the other half only ever send.
//!
//! Who owns a frame decides who may touch its bytes, and that is all this file's `unsafe` is about:
//!
//! | owner | frames | ends when |
//! |---|---|---|
//! | kernel | in the fill or TX ring | it appears in the RX or completion ring |
//! | caller | in a [`TxPacket`] or [`RxPacket`] | it is given back |
//! | port | in a free list | it is allocated, or put into the fill ring |
//!
//! A sent packet can be owned by caller and kernel at once: then neither may write it, and the port says so
//! (`in_ring`).

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use smallvec::SmallVec;
use tracing::{debug, info};
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::{Port, PortCounters, RxPacket, TxPacket};
use crate::wire::Fragments;
use crate::wire::frame::{ETHERNET_LEN, VLAN_LEN};

const FRAME: u32 = 4096;
const ROOM: usize = 3840;
const RX_FRAMES: u32 = 2048;
const TX_FRAMES: u32 = 4096;
const RING: u32 = 2048;
const BATCH: usize = 64;
const NONE: u32 = u32::MAX;
const CONTINUED: u32 = 1;

/// How the socket shares packets with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The NIC reads and writes the UMEM itself. Otherwise the kernel copies each packet once.
    pub zero_copy: bool,
    /// Packets may be longer than a frame.
    pub multi_buffer: bool,
}

/// Why a lane can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The process may not create AF_XDP sockets.
    #[error(
        "opening an AF_XDP socket on {interface} needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and this process \
         hasn't got them: run it as root"
    )]
    Privilege {
        /// The interface.
        interface: String,
    },
    /// Another socket has the queue.
    #[error(
        "queue {queue} of {interface} is taken by another AF_XDP socket: stop the process that has it \
         (`ss --xdp` shows it), or choose another queue"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The queue doesn't exist.
    #[error("{interface} has no queue {queue}: `ethtool -l {interface}` shows how many there are")]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Packets of the interface's MTU need several frames, and kernel or driver can't do that.
    #[error(
        "{interface} has an MTU of {mtu}, and its driver or this kernel has no AF_XDP multi-buffer: \
         `ip link set {interface} mtu {most}`, or open the node with a smaller MTU"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU, bytes.
        mtu: usize,
        /// The largest that would do, bytes.
        most: usize,
    },
    /// Anything else.
    #[error("opening an AF_XDP socket on queue {queue} of {interface} failed: {source}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One AF_XDP socket and its packet memory.
pub struct EagerPort {
    // Every queue keeps socket and UMEM alive (xsk-rs counts references), so fields may drop in any order.
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    comp: CompQueue,
    umem: Umem,
    frames: Vec<Frame>,
    tx_free: Vec<u32>,
    /// Received frames on their way back to the fill ring.
    refill: Vec<FrameDesc>,
    /// Frames in the fill ring or in a packet the kernel hasn't finished.
    rx_waiting: usize,
    /// A packet of which the RX ring has shown only the first fragments.
    partial: Option<(u32, u32, u32)>,
    scratch: Vec<FrameDesc>,
    max_frame: usize,
    binding: Binding,
    unsent: bool,
    counters: PortCounters,
}

/// What the port knows of a frame.
struct Frame {
    desc: FrameDesc,
    /// The next frame of the same packet.
    next: u32,
    /// In the TX ring, or on its way to the completion ring.
    in_ring: bool,
    /// Given back by the caller while it was in the ring.
    abandoned: bool,
}

impl EagerPort {
    /// Opens the lane on `queue` of `interface`, for IP packets of up to `mtu` bytes.
    ///
    /// The frames that shall reach it are for an eBPF program to redirect to [`EagerPort::socket`]. Doesn't block.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open(interface: &str, queue: u32, mtu: usize) -> Result<EagerPort, PortError> {
        let other = |source| PortError::Socket { interface: interface.to_owned(), queue, source };
        let invalid = |e: &dyn std::error::Error| other(io::Error::new(io::ErrorKind::InvalidInput, e.to_string()));
        let max_frame = ETHERNET_LEN + VLAN_LEN + mtu;
        let if_name: Interface = interface.parse().map_err(|e| invalid(&e))?;

        let ring = |size| QueueSize::new(size).map_err(|e| invalid(&e));
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME).map_err(|e| invalid(&e))?)
            .fill_queue_size(ring(2 * RING)?)
            .comp_queue_size(ring(RING)?)
            .build()
            .map_err(|e| invalid(&e))?;
        let count = const { NonZeroU32::new(RX_FRAMES + TX_FRAMES).unwrap() };
        let (umem, descs) = Umem::new(umem_config, count, false).map_err(|error| {
            // A UMEM is pinned memory: without CAP_IPC_LOCK it counts against RLIMIT_MEMLOCK.
            source_of(&error).map_or_else(|| invalid(&error), |source| classify(interface, queue, source))
        })?;

        let (tx, rx, fill, comp, binding) = Self::bind(&if_name, interface, queue, mtu, &umem)?;
        info!(target: "vmmc::port", interface, queue, ?binding, mtu, "eager lane open");
        let frames: Vec<Frame> =
            descs.into_iter().map(|desc| Frame { desc, next: NONE, in_ring: false, abandoned: false }).collect();
        let mut port = EagerPort {
            tx,
            rx,
            fill,
            comp,
            umem,
            tx_free: (RX_FRAMES..RX_FRAMES + TX_FRAMES).rev().collect(),
            refill: frames[..RX_FRAMES as usize].iter().map(|f| f.desc).collect(),
            frames,
            rx_waiting: 0,
            partial: None,
            scratch: vec![FrameDesc::default(); BATCH],
            max_frame,
            binding,
            unsent: false,
            counters: PortCounters::default(),
        };
        port.refill();
        Ok(port)
    }

    /// Tries the best way to bind first: zero-copy, then copying; multi-buffer, and without where one frame holds a packet.
    #[allow(clippy::type_complexity)]
    fn bind(
        if_name: &Interface,
        interface: &str,
        queue: u32,
        mtu: usize,
        umem: &Umem,
    ) -> Result<(TxQueue, RxQueue, FillQueue, CompQueue, Binding), PortError> {
        let fits = ETHERNET_LEN + VLAN_LEN + mtu <= ROOM;
        let mut refused = None;
        for (zero_copy, multi_buffer) in [(true, true), (true, false), (false, true), (false, false)] {
            if !multi_buffer && !fits {
                continue;
            }
            let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
            flags.set(BindFlags::XDP_USE_SG, multi_buffer);
            flags |= if zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
            // Rings of libxdp's default size, which is `RING`.
            let config = SocketConfig::builder()
                .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
                .bind_flags(flags)
                .build();
            // SAFETY: the UMEM is this port's alone, and no program is loaded by libxdp (the flag above), so the
            // double free that the contract warns of can't happen.
            match unsafe { Socket::new(config, umem, if_name, queue) } {
                Ok((tx, rx, Some((fill, comp)))) => {
                    return Ok((tx, rx, fill, comp, Binding { zero_copy, multi_buffer }));
                }
                Ok(_) => refused = Some(io::Error::other("the socket came without fill and completion rings")),
                Err(error) => {
                    let source = source_of(&error).unwrap_or_else(|| io::Error::other(error.to_string()));
                    debug!(target: "vmmc::port", interface, queue, zero_copy, multi_buffer, %source, "bind refused");
                    // These have nothing to do with the mode: another one won't help.
                    if matches!(source.raw_os_error(), Some(EPERM | EBUSY | ENODEV)) {
                        return Err(classify(interface, queue, source));
                    }
                    refused = Some(source);
                }
            }
        }
        if !fits && refused.as_ref().and_then(io::Error::raw_os_error) == Some(EOPNOTSUPP) {
            let most = ROOM - ETHERNET_LEN - VLAN_LEN;
            return Err(PortError::MtuTooLarge { interface: interface.to_owned(), mtu, most });
        }
        Err(classify(interface, queue, refused.unwrap_or_else(|| io::Error::other("no way to bind"))))
    }

    /// The socket, to be put into the steering program's map.
    pub fn socket(&self) -> BorrowedFd<'_> {
        let fd: RawFd = self.rx.fd().as_raw_fd();
        // SAFETY: the descriptor belongs to the socket, which lives as long as `self.rx`.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// What the kernel and the driver agreed to.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// Returns frames to the fill ring.
    fn refill(&mut self) {
        if self.refill.is_empty() {
            return;
        }
        // SAFETY: these frames belong to this UMEM and to the port: they came from the RX ring and their packet
        // was recycled, or they have never been anywhere.
        let moved = unsafe { self.fill.produce(&self.refill) };
        // The ring has room for all receive frames, so `produce`, which takes all or none, takes all.
        if moved == self.refill.len() {
            self.rx_waiting += moved;
            self.refill.clear();
        }
        if self.fill.needs_wakeup() {
            // A driver that has gone to sleep for want of frames. Failure shows as packets that don't arrive.
            let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    /// Takes from the completion ring what the kernel has sent.
    fn reap(&mut self) {
        loop {
            // SAFETY: the descriptors are overwritten, never dereferenced, and the ring is of this port's UMEM.
            let n = unsafe { self.comp.consume(&mut self.scratch) };
            for desc in &self.scratch[..n] {
                let index = index_of(desc);
                let frame = &mut self.frames[index as usize];
                frame.in_ring = false;
                if std::mem::take(&mut frame.abandoned) {
                    self.tx_free.push(index);
                }
            }
            if n < BATCH {
                return;
            }
        }
    }

    /// The frames of a packet.
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let next = move |&at: &u32| Some(self.frames[at as usize].next).filter(|&n| n != NONE);
        std::iter::successors(Some(first), next)
    }

    fn in_ring(&self, packet: &TxPacket) -> bool {
        self.chain(packet.first).any(|i| self.frames[i as usize].in_ring)
    }

    fn take_frame(&mut self) -> Option<u32> {
        if self.tx_free.is_empty() {
            self.reap();
        }
        let index = self.tx_free.pop()?;
        let frame = &mut self.frames[index as usize];
        frame.next = NONE;
        // SAFETY: a frame in the free list is neither the kernel's nor any packet's.
        unsafe { self.umem.data_mut(&mut frame.desc) }.cursor().set_pos(0);
        Some(index)
    }

    fn gather(&self, first: u32) -> Fragments<'_> {
        let slice = |index: u32| {
            // SAFETY: the caller has a packet that holds this frame and the kernel is done with it (RX: it came out of
            // the RX ring; TX: `in_ring` is false); writing takes `&mut self`.
            let data = unsafe { self.umem.data(&self.frames[index as usize].desc) };
            // SAFETY: the same bytes, for as long as the port is borrowed: it owns the UMEM. xsk-rs ties its own slice to
            // the temporary `data`.
            unsafe { std::slice::from_raw_parts(data.contents().as_ptr(), data.contents().len()) }
        };
        self.chain(first).map(slice).collect()
    }
}

fn index_of(desc: &FrameDesc) -> u32 {
    (desc.addr() / FRAME as usize) as u32
}

const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const EOPNOTSUPP: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();

/// The operating system's error at the bottom of one of xsk-rs.
fn source_of(error: &dyn std::error::Error) -> Option<io::Error> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(code) = source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(io::Error::from_raw_os_error(code));
        }
        cause = source.source();
    }
    None
}

fn classify(interface: &str, queue: u32, source: io::Error) -> PortError {
    let interface = interface.to_owned();
    match source.raw_os_error() {
        Some(EPERM) => PortError::Privilege { interface },
        Some(EBUSY) => PortError::Busy { interface, queue },
        Some(EINVAL) if queue > 0 => PortError::NoQueue { interface, queue },
        _ => PortError::Socket { interface, queue, source },
    }
}

impl Port for EagerPort {
    fn max_frame(&self) -> usize {
        self.max_frame
    }

    fn rx_capacity(&self) -> usize {
        RX_FRAMES as usize / self.max_frame.div_ceil(ROOM)
    }

    fn rx_headroom(&self) -> (usize, usize) {
        (self.rx_waiting + self.refill.len(), RX_FRAMES as usize)
    }

    fn alloc(&mut self) -> Option<TxPacket> {
        match self.take_frame() {
            Some(first) => Some(TxPacket { first, last: first, len: 0 }),
            None => {
                self.counters.tx_exhausted += 1;
                None
            }
        }
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        let mut rest = &bytes[..bytes.len().min(self.max_frame - packet.len())];
        let wanted = rest.len();
        while !rest.is_empty() {
            let used = self.frames[packet.last as usize].desc.lengths().data();
            if used == ROOM {
                let Some(next) = self.take_frame() else { break };
                self.frames[packet.last as usize].next = next;
                packet.last = next;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(ROOM - used));
            let frame = &mut self.frames[packet.last as usize];
            debug_assert!(!frame.in_ring, "a packet is complete before it is submitted");
            // SAFETY: the frame is in a packet the caller holds and has not been submitted, so nobody else has it.
            let mut data = unsafe { self.umem.data_mut(&mut frame.desc) };
            data.cursor().set_pos(used + now.len());
            data.contents_mut()[used..].copy_from_slice(now);
            rest = later;
        }
        packet.len += (wanted - rest.len()) as u32;
        wanted - rest.len()
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        if self.in_ring(packet) {
            self.reap();
            if self.in_ring(packet) {
                return None;
            }
        }
        let frame = &mut self.frames[packet.first as usize];
        // SAFETY: the caller holds the packet, and none of its frames is in the ring.
        let mut data = unsafe { self.umem.data_mut(&mut frame.desc) };
        let bytes = data.contents_mut();
        // SAFETY: the same bytes, for as long as the port is borrowed mutably: it owns the UMEM. xsk-rs ties its own
        // slice to the temporary `data`.
        Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) })
    }

    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>> {
        if self.in_ring(packet) { None } else { Some(self.gather(packet.first)) }
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        if self.in_ring(packet) {
            self.reap();
            if self.in_ring(packet) {
                return false;
            }
        }
        let mut descs: SmallVec<[FrameDesc; 2]> =
            self.chain(packet.first).map(|i| self.frames[i as usize].desc).collect();
        let last = descs.len() - 1;
        for (i, desc) in descs.iter_mut().enumerate() {
            desc.set_options(if i < last { CONTINUED } else { 0 });
        }
        // SAFETY: the frames are of this UMEM and in no ring; from here to their completion `in_ring` keeps everyone
        // from writing them.
        if unsafe { self.tx.produce(&descs) } == 0 {
            return false;
        }
        for desc in &descs {
            self.frames[index_of(desc) as usize].in_ring = true;
        }
        self.unsent = true;
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += packet.len() as u64;
        true
    }

    fn free(&mut self, packet: TxPacket) {
        let mut at = packet.first;
        while at != NONE {
            let frame = &mut self.frames[at as usize];
            if frame.in_ring {
                frame.abandoned = true;
            } else {
                self.tx_free.push(at);
            }
            at = frame.next;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // One system call moves at most 32 descriptors, so there may have to be several. When one moves none, the kernel
        // can't take more now; the next flush tries again.
        let mut waiting = RING;
        while self.unsent {
            if self.tx.needs_wakeup() {
                self.counters.wakeups += 1;
                self.tx.wakeup()?;
            }
            let now = RING - self.tx.nb_free_exact();
            self.unsent = now > 0;
            if now >= waiting {
                break;
            }
            waiting = now;
        }
        self.reap();
        Ok(())
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        // SAFETY: the descriptors are overwritten, and the ring is of this port's UMEM.
        let n = unsafe { self.rx.consume(&mut self.scratch) };
        self.rx_waiting = self.rx_waiting.saturating_sub(n);
        for i in 0..n {
            let desc = self.scratch[i];
            let index = index_of(&desc);
            let len = desc.lengths().data() as u32;
            let more = desc.has_more_frames();
            let frame = &mut self.frames[index as usize];
            (frame.desc, frame.next) = (desc, NONE);
            let (first, total) = match self.partial.take() {
                None => (index, len),
                Some((first, last, before)) => {
                    self.frames[last as usize].next = index;
                    (first, before + len)
                }
            };
            if more {
                self.partial = Some((first, index, total));
            } else {
                self.counters.rx_packets += 1;
                self.counters.rx_bytes += u64::from(total);
                batch.push(RxPacket { first, len: total });
            }
        }
        Ok(())
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        self.gather(packet.first)
    }

    fn recycle(&mut self, packet: RxPacket) {
        let mut at = packet.first;
        while at != NONE {
            let frame = &self.frames[at as usize];
            self.refill.push(frame.desc);
            at = frame.next;
        }
        if self.refill.len() >= BATCH / 2 || self.rx_waiting < RX_FRAMES as usize / 2 {
            self.refill();
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket())
    }

    fn counters(&self) -> PortCounters {
        let kernel = self.rx.fd().xdp_statistics().ok();
        PortCounters {
            rx_no_frame: kernel.as_ref().map_or(0, |k| k.rx_fill_ring_empty_descs()),
            rx_ring_full: kernel.as_ref().map_or(0, |k| k.rx_ring_full()),
            ..self.counters
        }
    }
}
