//! The eager lane: AF_XDP sockets on the queues of an interface, through xsk-rs.
//!
//! ```text
//!                   fill ring  --->  kernel  --->  RX ring           of every queue, with RX frames of its own
//!   free RX frames                                 packets that arrived
//!
//!                   TX ring    --->  kernel  --->  completion ring   of the first queue
//!   packets to send                                frames the kernel is done with
//! ```
//!
//! Which queue a packet arrives on is for the NIC's hash (RSS) to decide, or a bridge's, so the lane has a socket on every queue
//! unless it is told otherwise. They share one UMEM, cut into frames of 4096 bytes, of which 3840 hold packet data (the kernel keeps
//! 256 in front). A longer packet is a chain of frames (multi-buffer, `XDP_USE_SG`). A frame either only ever receives, on one
//! queue, or only ever sends.
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

mod bind;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use tracing::info;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

pub use self::bind::{Binding, PortError};
use self::bind::{Rings, classify, invalid, source_of};
use super::{Descriptors, Port, PortCounters, PortId, ReceiveRings, RxPacket, SendRings, TxPacket};
use crate::wire::Fragments;
use crate::wire::frame::{ETHERNET_LEN, VLAN_LEN};

const FRAME: u32 = 4096;
const ROOM: usize = 3840;
/// RX frames of a lane with one queue, and of each queue where there are several.
const RX_FRAMES: u32 = 2048;
const RX_FRAMES_SHARED: u32 = 1024;
const TX_FRAMES: u32 = 4096;
const RING: u32 = 2048;
const BATCH: usize = 64;
/// The most frames a packet has: 65535 bytes and their Ethernet header.
const MAX_CHAIN: usize = (65535 + ETHERNET_LEN + VLAN_LEN).div_ceil(ROOM);
const NONE: u32 = u32::MAX;
const CONTINUED: u32 = 1;

/// The most queues a lane has. Each costs memory, and a look at its ring in every turn.
pub const MAX_QUEUES: u32 = 32;

/// AF_XDP sockets and their packet memory.
pub struct EagerPort {
    id: PortId,
    // Every ring keeps its socket and the UMEM alive (xsk-rs counts references), so fields may drop in any order.
    tx: TxQueue,
    comp: CompQueue,
    queues: Vec<Queue>,
    umem: Umem,
    frames: Vec<Frame>,
    tx_free: Vec<u32>,
    rx_per_queue: usize,
    /// Frames of a packet of full length.
    chain: usize,
    scratch: Vec<FrameDesc>,
    max_frame: usize,
    binding: Binding,
    /// What was submitted since the last flush: it goes into the TX ring in one go.
    queued: Vec<FrameDesc>,
    /// Frames with `in_ring` set.
    sending: usize,
    /// The TX ring holds packets that the kernel hasn't taken.
    unsent: bool,
    counters: PortCounters,
}

/// The receiving side of one queue.
struct Queue {
    port: PortId,
    number: u32,
    rx: RxQueue,
    fill: FillQueue,
    /// Of the first queue these are the port's; the others' are kept only because the socket needs them.
    _unused: Option<(TxQueue, CompQueue)>,
    /// Received frames on their way back to the fill ring.
    refill: Vec<FrameDesc>,
    /// Frames that lie in the fill ring, or with the kernel.
    waiting: usize,
    /// A packet of which the RX ring has shown only the first fragments: first frame, last frame, length.
    partial: Option<(u32, u32, u32)>,
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
    /// Opens the lane on `queues` of `interface`, for IP packets of up to `mtu` bytes.
    ///
    /// The frames that shall reach it are for an eBPF program to redirect to its [`EagerPort::sockets`]. Blocks for a second
    /// at the most, while a queue is still being released by its last user.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn open(interface: &str, queues: &[u32], mtu: usize) -> Result<EagerPort, PortError> {
        let (Some(&first), true) = (queues.first(), queues.len() <= MAX_QUEUES as usize) else {
            return Err(PortError::Queues { interface: interface.to_owned(), wanted: queues.len() });
        };
        let rx_per_queue = if queues.len() == 1 { RX_FRAMES } else { RX_FRAMES_SHARED };
        let id = PortId::new();
        let rx_frames = rx_per_queue * queues.len() as u32;
        let (umem, descs) = Self::memory(interface, first, rx_frames + TX_FRAMES)?;
        let frames: Vec<Frame> =
            descs.into_iter().map(|desc| Frame { desc, next: NONE, in_ring: false, abandoned: false }).collect();

        let (mut sides, mut sending, mut binding) = (Vec::new(), None, None);
        for (&number, own) in queues.iter().zip(frames.chunks(rx_per_queue as usize)) {
            let (Rings { tx, rx, fill, comp }, bound) = bind::bind(interface, number, mtu, &umem, binding)?;
            binding = Some(bound);
            let unused = match sending {
                None => {
                    sending = Some((tx, comp));
                    None
                }
                Some(_) => Some((tx, comp)),
            };
            let refill = own.iter().map(|f| f.desc).collect();
            let mut side = Queue { port: id, number, rx, fill, _unused: unused, refill, waiting: 0, partial: None };
            side.refill();
            sides.push(side);
        }
        let (Some((tx, comp)), Some(binding)) = (sending, binding) else {
            return Err(PortError::Queues { interface: interface.to_owned(), wanted: 0 });
        };
        info!(target: "vmmc::port", interface, ?queues, ?binding, mtu, "eager lane open");
        Ok(EagerPort {
            id,
            tx,
            comp,
            queues: sides,
            umem,
            tx_free: (rx_frames..rx_frames + TX_FRAMES).rev().collect(),
            frames,
            rx_per_queue: rx_per_queue as usize,
            chain: (ETHERNET_LEN + VLAN_LEN + mtu).div_ceil(ROOM),
            scratch: vec![FrameDesc::default(); BATCH],
            max_frame: ETHERNET_LEN + VLAN_LEN + mtu,
            binding,
            queued: Vec::with_capacity(RING as usize),
            sending: 0,
            unsent: false,
            counters: PortCounters::default(),
        })
    }

    fn memory(interface: &str, queue: u32, frames: u32) -> Result<(Umem, Vec<FrameDesc>), PortError> {
        let wrong = |e: &dyn std::error::Error| invalid(interface, queue, e);
        let ring = |size| QueueSize::new(size).map_err(|e| wrong(&e));
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME).map_err(|e| wrong(&e))?)
            .fill_queue_size(ring(RING)?)
            .comp_queue_size(ring(RING)?)
            .build()
            .map_err(|e| wrong(&e))?;
        let count = NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN);
        Umem::new(config, count, false).map_err(|error| {
            // A UMEM is pinned memory: without CAP_IPC_LOCK it counts against RLIMIT_MEMLOCK.
            source_of(&error).map_or_else(|| wrong(&error), |source| classify(interface, queue, source))
        })
    }

    /// The sockets and their queues, to be put into the steering program's map.
    pub fn sockets(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.queues.iter().map(|q| (q.number, q.socket()))
    }

    /// What the kernel and the driver agreed to.
    pub fn binding(&self) -> Binding {
        self.binding
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
                self.sending -= 1;
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
        if packet.first == packet.last {
            return self.frames[packet.first as usize].in_ring;
        }
        self.chain(packet.first).any(|i| self.frames[i as usize].in_ring)
    }

    fn take_frame(&mut self, space: usize) -> Option<u32> {
        if self.tx_free.is_empty() {
            self.reap();
        }
        let index = self.tx_free.pop()?;
        let frame = &mut self.frames[index as usize];
        frame.next = NONE;
        // SAFETY: a frame in the free list is neither the kernel's nor any packet's.
        unsafe { self.umem.data_mut(&mut frame.desc) }.cursor().set_pos(space);
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
        let mut fragments = Fragments::new();
        let mut at = first;
        while at != NONE {
            fragments.push(slice(at));
            at = self.frames[at as usize].next;
        }
        fragments
    }
}

impl Queue {
    fn socket(&self) -> BorrowedFd<'_> {
        let fd: RawFd = self.rx.fd().as_raw_fd();
        // SAFETY: the descriptor belongs to the socket, which lives as long as `self.rx`.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// Returns frames to the fill ring.
    fn refill(&mut self) {
        if self.refill.is_empty() {
            return;
        }
        // SAFETY: these frames belong to this UMEM and to the port: they came from the RX ring and their packet
        // was recycled, or they have never been anywhere. No other queue has ever had them.
        let moved = unsafe { self.fill.produce(&self.refill) };
        // The ring has room for all of the queue's frames, so `produce`, which takes all or none, takes all.
        if moved == self.refill.len() {
            self.waiting += moved;
            self.refill.clear();
        }
        if self.fill.needs_wakeup() {
            // A driver that has gone to sleep for want of frames. Failure shows as packets that don't arrive.
            let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    /// Takes packets from the RX ring.
    fn receive(&mut self, umem: &Umem, frames: &mut [Frame], scratch: &mut [FrameDesc], batch: &mut Vec<RxPacket>) {
        // SAFETY: the descriptors are overwritten, and the ring is of this port's UMEM.
        let n = unsafe { self.rx.consume(scratch) };
        self.waiting = self.waiting.saturating_sub(n);
        for desc in &scratch[..n] {
            let index = index_of(desc);
            let len = desc.lengths().data() as u32;
            let frame = &mut frames[index as usize];
            (frame.desc, frame.next) = (*desc, NONE);
            prefetch(umem, desc);
            let (first, total) = match self.partial.take() {
                None => (index, len),
                Some((first, last, before)) => {
                    frames[last as usize].next = index;
                    (first, before + len)
                }
            };
            if desc.has_more_frames() {
                self.partial = Some((first, index, total));
            } else {
                batch.push(RxPacket { port: self.port, first, len: total });
            }
        }
    }
}

/// Asks for the first lines of a frame that has just been written, by the NIC or another core, before they are needed.
fn prefetch(umem: &Umem, desc: &FrameDesc) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the frame came out of the RX ring, so it is in this UMEM and nobody writes it.
        let data = unsafe { umem.data(desc) };
        for line in data.contents().chunks(64).take(3) {
            // SAFETY: a prefetch reads nothing, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (umem, desc);
}

fn index_of(desc: &FrameDesc) -> u32 {
    (desc.addr() / FRAME as usize) as u32
}

impl Port for EagerPort {
    fn max_frame(&self) -> usize {
        self.max_frame
    }

    fn rx_capacity(&self) -> usize {
        // A peer's packets all come by one queue.
        self.rx_per_queue / self.chain
    }

    fn rx_headroom(&self) -> usize {
        // The queue that is worst off.
        let least = self.queues.iter().map(|q| q.waiting + q.refill.len()).min().unwrap_or(0);
        least / self.chain
    }

    fn tx_headroom(&self) -> usize {
        self.tx_free.len() / self.chain
    }

    fn alloc(&mut self, space: usize) -> Option<TxPacket> {
        let space = space.min(ROOM);
        match self.take_frame(space) {
            Some(first) => Some(TxPacket { port: self.id, first, last: first, len: space as u32 }),
            None => {
                self.counters.tx_exhausted += 1;
                None
            }
        }
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        packet.port.check(self.id);
        let mut rest = &bytes[..bytes.len().min(self.max_frame - packet.len())];
        let wanted = rest.len();
        // Before the copy: who moves the packet next would have to wait until all of the copy has left the store buffer.
        packet.len += wanted as u32;
        while !rest.is_empty() {
            let used = self.frames[packet.last as usize].desc.lengths().data();
            if used == ROOM {
                let Some(next) = self.take_frame(0) else { break };
                self.frames[packet.last as usize].next = next;
                packet.last = next;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(ROOM - used));
            let frame = &mut self.frames[packet.last as usize];
            if frame.in_ring {
                break; // a packet is complete before it is submitted
            }
            // SAFETY: the frame is in a packet the caller holds and has not been submitted, so nobody else has it.
            let mut data = unsafe { self.umem.data_mut(&mut frame.desc) };
            data.cursor().set_pos(used + now.len());
            data.contents_mut()[used..].copy_from_slice(now);
            rest = later;
        }
        if !rest.is_empty() {
            packet.len -= rest.len() as u32;
        }
        wanted - rest.len()
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        packet.port.check(self.id);
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
        packet.port.check(self.id);
        if self.in_ring(packet) { None } else { Some(self.gather(packet.first)) }
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        packet.port.check(self.id);
        if self.in_ring(packet) || self.sending >= RING as usize - MAX_CHAIN {
            self.reap();
            if self.in_ring(packet) || self.sending >= RING as usize - MAX_CHAIN {
                return false;
            }
        }
        let mut at = packet.first;
        loop {
            let frame = &mut self.frames[at as usize];
            frame.in_ring = true;
            let mut desc = frame.desc;
            desc.set_options(if frame.next == NONE { 0 } else { CONTINUED });
            self.queued.push(desc);
            self.sending += 1;
            match frame.next {
                NONE => break,
                next => at = next,
            }
        }
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += packet.len() as u64;
        true
    }

    fn free(&mut self, packet: TxPacket) {
        packet.port.check(self.id);
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
        if !self.queued.is_empty() {
            // SAFETY: the frames are of this UMEM and in no ring; from `submit` to their completion `in_ring` keeps
            // everyone from writing them. There is room: `submit` takes no more than the ring has, and so all go.
            let moved = unsafe { self.tx.produce(&self.queued) };
            if moved == self.queued.len() {
                self.queued.clear();
            }
            self.unsent = true;
        }
        if !self.unsent {
            return Ok(());
        }
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
        let before = batch.len();
        for queue in &mut self.queues {
            queue.receive(&self.umem, &mut self.frames, &mut self.scratch, batch);
        }
        self.counters.rx_packets += (batch.len() - before) as u64;
        self.counters.rx_bytes += batch[before..].iter().map(|p| p.len() as u64).sum::<u64>();
        Ok(())
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        packet.port.check(self.id);
        self.gather(packet.first)
    }

    fn recycle(&mut self, packet: RxPacket) {
        packet.port.check(self.id);
        let half = self.rx_per_queue / 2;
        // All frames of a packet are of one queue, and stay with it.
        let queue = &mut self.queues[packet.first as usize / self.rx_per_queue];
        let mut at = packet.first;
        while at != NONE {
            let frame = &self.frames[at as usize];
            queue.refill.push(frame.desc);
            at = frame.next;
        }
        if queue.refill.len() >= BATCH / 2 || queue.waiting < half {
            queue.refill();
        }
    }

    fn readable(&self) -> Descriptors<'_> {
        // Not one epoll instance for all of them: while a socket is in one, every packet that arrives pays for it.
        self.queues.iter().map(Queue::socket).collect()
    }

    fn counters(&self) -> PortCounters {
        let mut counters = self.counters;
        for kernel in self.queues.iter().filter_map(|q| q.rx.fd().xdp_statistics().ok()) {
            counters.rx_no_frame += kernel.rx_fill_ring_empty_descs();
            counters.rx_ring_full += kernel.rx_ring_full();
        }
        counters
    }

    fn rings(&mut self) -> super::Rings {
        let (frames, ring) = (self.rx_per_queue, RING as usize);
        let receive = self.queues.iter_mut().map(|queue| {
            let fill = (RING - queue.fill.nb_free_exact()) as usize;
            let arrived = queue.rx.nb_avail_exact() as usize;
            let driver = queue.waiting.saturating_sub(fill + arrived);
            let spare = queue.refill.len();
            let kept = frames.saturating_sub(queue.waiting + spare);
            ReceiveRings { queue: queue.number, frames, ring, fill, driver, arrived, kept, spare }
        });
        let receive = receive.collect();
        let (frames, free) = (TX_FRAMES as usize, self.tx_free.len());
        let send = SendRings {
            queue: self.queues.first().map_or(0, |queue| queue.number),
            frames,
            ring,
            free,
            unsent: (RING - self.tx.nb_free_exact()) as usize,
            completed: self.comp.nb_avail_exact() as usize,
            sending: self.sending,
            kept: frames.saturating_sub(free),
        };
        super::Rings { receive, send }
    }
}
