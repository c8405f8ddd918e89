//! One AF_XDP socket and its frames, by xsk-rs: packets of any length out, fragments in, nothing else.
//! All `unsafe` of this program is here, behind calls that are safe whatever the caller does.
//!
//! A frame is always in exactly one place: in `free`, in `batch` (filled, not yet handed to the kernel),
//! with the kernel (TX, completion, fill or RX ring), or among the first `held` of `received`, between RX
//! and fill ring. Every SAFETY line below leans on that.

use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use xdp_prog::{Steering, Target};
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::socket::Socket;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::frame::{HEADERS, PORT};
use crate::peers::{Patience, PeerError};
use crate::spec::Endpoint;

/// Bytes of one frame of UMEM.
const FRAME: u32 = 4096;
/// Bytes one descriptor holds: a frame less the 256 bytes the kernel keeps free in front.
const SEGMENT: usize = FRAME as usize - 256;
/// Frames that wait to be received into; also the size of the RX ring.
pub(crate) const RX_FRAMES: usize = 2048;
/// Frames to send from.
const TX_FRAMES: usize = 4096;
/// Size of the TX and completion rings.
const TX_RING: u32 = 2048;
/// One wakeup moves at most this many descriptors, so larger batches gain nothing.
const BATCH: usize = 32;
/// Descriptors taken from the RX or completion ring at once.
const TAKE: usize = 256;
/// Option of a descriptor that the packet goes on after.
const CONTINUED: u32 = 1;

/// How many frames a packet with so many bytes after its headers takes.
pub(crate) const fn frames_of(payload: usize) -> usize {
    (HEADERS + payload).div_ceil(SEGMENT)
}

/// What a packet carries after its headers.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    /// This many bytes of whatever the frames hold.
    Untouched(usize),
    /// These bytes, copied into the frames.
    Copied(&'a [u8]),
}

impl Payload<'_> {
    fn len(self) -> usize {
        match self {
            Payload::Untouched(len) => len,
            Payload::Copied(bytes) => bytes.len(),
        }
    }
}

/// The socket on queue 0 of one interface.
pub(crate) struct Port {
    umem: Umem,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    free: Vec<FrameDesc>,
    batch: Vec<FrameDesc>,
    /// Room for what is taken from the completion ring.
    sent: Vec<FrameDesc>,
    /// Room for what is taken from the RX ring; the first `held` are still to be given back.
    received: Vec<FrameDesc>,
    held: usize,
    /// Whether the last fragment received said that its packet goes on.
    inside_packet: bool,
    // Last: the program goes when the socket has gone.
    _steering: Arc<Steering>,
}

/// Attaches the program that steers packets to the floor's UDP port, in the network namespace of the calling thread.
pub(super) fn steer(local: &Endpoint) -> Result<Arc<Steering>, PeerError> {
    let interface = &local.interface;
    let steering = Steering::attach(&Target {
        interface: interface.clone(),
        ifindex: ifindex(interface)?,
        address: local.address.into(),
        port: PORT,
        vlan: None,
    })?;
    Ok(Arc::new(steering))
}

impl Port {
    /// Opens queue 0 of the interface, in the network namespace of the calling thread, and has the program steer packets to it.
    pub(crate) fn open(local: &Endpoint, steering: Arc<Steering>) -> Result<Self, PeerError> {
        let interface = &local.interface;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME)?)
            .fill_queue_size(QueueSize::new(2 * RX_FRAMES as u32)?)
            .comp_queue_size(QueueSize::new(TX_RING)?)
            .build()?;
        let frames = const { NonZeroU32::new((RX_FRAMES + TX_FRAMES) as u32).unwrap() };
        let (umem, mut free) = Umem::new(config, frames, false)
            .map_err(|e| format!("registering {} MiB of frames: {}", (frames.get() * FRAME) >> 20, why(&e)))?;
        let (tx, mut rx, mut fill, completion) = bind(&umem, interface)?;
        // SAFETY: the socket is open as long as `tx` is.
        steering.register(0, unsafe { BorrowedFd::borrow_raw(tx.fd().as_raw_fd()) })?;

        let receiving = free.split_off(TX_FRAMES);
        // SAFETY: the frames are of this UMEM, fresh, and given away here.
        if unsafe { fill.produce(&receiving) } != receiving.len() {
            return Err("the fill ring is smaller than was asked for".into());
        }
        if fill.needs_wakeup() {
            rx.poll(0)?;
        }
        Ok(Self {
            umem,
            tx,
            rx,
            fill,
            completion,
            free,
            batch: Vec::with_capacity(2 * BATCH),
            sent: vec![FrameDesc::default(); TAKE],
            received: vec![FrameDesc::default(); TAKE],
            held: 0,
            inside_packet: false,
            _steering: steering,
        })
    }

    /// Queues one packet, and hands packets to the kernel when enough are queued for one wakeup.
    ///
    /// # Errors
    ///
    /// When the interface takes no packets for seconds.
    #[inline]
    pub(crate) fn send(&mut self, headers: &[u8; HEADERS], payload: Payload) -> Result<(), PeerError> {
        let mut sent = 0;
        let mut rest = HEADERS + payload.len();
        while rest > 0 {
            let len = rest.min(SEGMENT);
            rest -= len;
            let mut desc = self.free_frame()?;
            desc.set_options(if rest > 0 { CONTINUED } else { 0 });
            // SAFETY: the frame is of this UMEM and, taken out of `free`, nobody else's.
            let mut data = unsafe { self.umem.data_mut(&mut desc) };
            data.cursor().set_pos(len);
            let mut segment = data.contents_mut();
            if sent == 0 {
                let (front, after) = segment.split_at_mut(HEADERS);
                front.copy_from_slice(headers);
                segment = after;
            }
            if let Payload::Copied(bytes) = payload {
                segment.copy_from_slice(&bytes[sent..sent + segment.len()]);
            }
            sent += segment.len();
            self.batch.push(desc);
        }
        if self.batch.len() >= BATCH { self.push() } else { Ok(()) }
    }

    /// Has the kernel send all queued packets now.
    ///
    /// # Errors
    ///
    /// When the interface takes no packets for seconds.
    #[inline]
    pub(crate) fn flush(&mut self) -> Result<(), PeerError> {
        self.push()?;
        let mut patience = Patience::new("the kernel to take packets from the transmit ring");
        while self.tx.nb_free_exact() < TX_RING {
            self.kick()?;
            patience.spin()?;
        }
        Ok(())
    }

    /// Hands the batch to the kernel and has it send, but perhaps not everything.
    #[inline]
    fn push(&mut self) -> Result<(), PeerError> {
        let mut patience = Patience::new("room in the transmit ring");
        loop {
            // SAFETY: the frames are of this UMEM; they came out of `free` and leave `batch` below.
            let all = unsafe { self.tx.produce(&self.batch) } == self.batch.len();
            if all {
                self.batch.clear();
            }
            self.kick()?;
            if all {
                return Ok(());
            }
            patience.spin()?;
        }
    }

    /// Sends everything queued and waits until the kernel has given all frames back.
    ///
    /// # Errors
    ///
    /// When that takes seconds.
    pub(crate) fn drain(&mut self) -> Result<(), PeerError> {
        self.flush()?;
        let mut patience = Patience::new("the kernel to send what was queued");
        while self.free.len() < TX_FRAMES {
            self.kick()?;
            patience.spin()?;
        }
        Ok(())
    }

    /// Calls `see` with the payload of every fragment that has arrived, and returns how many bytes
    /// that was. Zero when nothing has arrived; does not wait.
    #[inline]
    pub(crate) fn receive(&mut self, mut see: impl FnMut(&[u8])) -> Result<usize, PeerError> {
        if self.held > 0 {
            self.give_back()?;
        }
        // SAFETY: the kernel hands out frames of this UMEM.
        self.held = unsafe { self.rx.consume(&mut self.received) };
        let mut bytes = 0;
        for desc in &self.received[..self.held] {
            // SAFETY: the frame is of this UMEM, and not the kernel's until it is given back.
            let data = unsafe { self.umem.data(desc) }.contents();
            let payload = if self.inside_packet { data } else { data.get(HEADERS..).unwrap_or(&[]) };
            self.inside_packet = desc.has_more_frames();
            bytes += payload.len();
            see(payload);
        }
        Ok(bytes)
    }

    /// Lets the kernel receive into the frames that the last `receive` has taken. Not done there, because
    /// whoever has just received may be in a hurry to answer.
    #[inline]
    fn give_back(&mut self) -> Result<(), PeerError> {
        // SAFETY: the frames are of this UMEM, came out of the RX ring and are forgotten here. All
        // fit: the ring has twice as many places as there are frames to receive into.
        unsafe { self.fill.produce(&self.received[..self.held]) };
        self.held = 0;
        if self.fill.needs_wakeup() {
            self.rx.poll(0)?;
        }
        Ok(())
    }

    #[inline]
    fn free_frame(&mut self) -> Result<FrameDesc, PeerError> {
        if let Some(desc) = self.free.pop() {
            return Ok(desc);
        }
        self.push()?;
        let mut patience = Patience::new("the kernel to give sent frames back");
        loop {
            self.kick()?;
            if let Some(desc) = self.free.pop() {
                return Ok(desc);
            }
            patience.spin()?;
        }
    }

    /// Has the kernel send, and takes back what it has sent.
    #[inline]
    fn kick(&mut self) -> Result<(), PeerError> {
        if self.tx.needs_wakeup() {
            self.tx.wakeup()?;
        }
        // SAFETY: the kernel hands out frames of this UMEM.
        let n = unsafe { self.completion.consume(&mut self.sent) };
        self.free.extend_from_slice(&self.sent[..n]);
        Ok(())
    }
}

fn ifindex(interface: &str) -> Result<u32, PeerError> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(any, interface)
        .map_err(|e| format!("looking for interface {interface}: {e}").into())
}

/// Binds a socket to queue 0 of `interface`.
fn bind(umem: &Umem, interface: &str) -> Result<(TxQueue, RxQueue, FillQueue, CompQueue), PeerError> {
    let config = SocketConfig::builder()
        .rx_queue_size(QueueSize::new(RX_FRAMES as u32)?)
        .tx_queue_size(QueueSize::new(TX_RING)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_SG | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let name: Interface = interface.parse()?;
    let start = Instant::now();
    loop {
        // SAFETY: the UMEM has no other socket, and no program is loaded along with this one.
        match unsafe { Socket::new(config, umem, &name, 0) } {
            Ok((tx, rx, Some((fill, completion)))) => return Ok((tx, rx, fill, completion)),
            Ok((_, _, None)) => return Err("a new UMEM came without its rings".into()),
            // The kernel lets go of a queue a while after the socket on it was closed.
            Err(e) if busy(&e) && start.elapsed() < Patience::LIMIT => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(e) => {
                return Err(format!("opening an AF_XDP socket on queue 0 of {interface}: {}", why(&e)).into());
            }
        }
    }
}

fn busy(error: &dyn std::error::Error) -> bool {
    let cause = error.source().and_then(|s| s.downcast_ref::<std::io::Error>());
    cause.is_some_and(|e| e.kind() == std::io::ErrorKind::ResourceBusy)
}

/// What the system said, where xsk-rs says only at which step.
fn why(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
