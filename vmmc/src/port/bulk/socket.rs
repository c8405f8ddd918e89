//! An AF_XDP socket whose packet memory is given to it: creating, binding and closing it, through libxdp.
//!
//! First the memory is registered and pinned ([`Umem`]), which takes the longer the more it is; then it is bound to a queue ([`Umem::bind`]), which is tried
//! again while the queue is still being released by its last user.
//!
//! What [closes](Socket) the socket first unmaps its rings: each mapping would keep it alive, and with it the kernel's right to write. The descriptor isn't handed
//! on to children that become other programs, for the same reason. One that is made by `fork` and stays what it is has a copy
//! nevertheless.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use libxdp_sys::{
    XDP_COPY, XDP_UMEM_UNALIGNED_CHUNK_FLAG, XDP_USE_NEED_WAKEUP, XDP_ZEROCOPY, XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
    xsk_ring_cons, xsk_ring_prod, xsk_socket, xsk_socket__create, xsk_socket__delete, xsk_socket__fd,
    xsk_socket_config, xsk_socket_config__bindgen_ty_1, xsk_umem, xsk_umem__create_with_fd, xsk_umem__delete,
    xsk_umem_config,
};
use memmap2::MmapOptions;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, socket_with, sockopt};
use tracing::debug;

use super::error::BulkError;
use super::mode::WhyCopy;
use super::rings::{Consumer, Producer, Ring, SharedDescriptor};
use crate::memory::Arena;

/// Bytes that a fill entry stands for.
pub(super) const CHUNK: u32 = 4096;
/// Entries in the fill and RX rings: as many as the gate's log has, so that whatever may be let in has an entry everywhere.
pub(super) const RX_RING: u32 = 4096;
const _: () = assert!(RX_RING as usize >= super::LEAST_ENTRIES);
/// Entries in the TX and completion rings: more than a hundred of the longest packets there are.
pub(super) const TX_RING: u32 = 2048;
/// Packets may have several descriptors. (The bindings don't have it.)
const XDP_USE_SG: u32 = 1 << 4;

/// How long a queue may be busy: the kernel releases that of a closed socket a little later, and later still while a process
/// that was being started at that moment holds a copy of its descriptor.
const BUSY_TIME: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LAST_PAUSE: Duration = Duration::from_millis(2);

/// A queue of an interface.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// What the interface was called when it was found.
    pub interface: String,
    /// Which one it is, whatever it and others may be called meanwhile.
    pub index: u32,
    pub number: u32,
}

impl Queue {
    /// A queue of the interface that has this name, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`BulkError::NoInterface`].
    pub(super) fn new(interface: &str, number: u32) -> Result<Queue, BulkError> {
        let index = any_socket().and_then(|any| Ok(netdevice::name_to_index(any, interface)?));
        let index = index.map_err(|source| BulkError::of_socket(interface, number, source))?;
        Ok(Queue { interface: interface.to_owned(), index, number })
    }

    /// What the interface is called now. `NODEV` when it is gone, even if there is another of its name.
    fn name(&self) -> io::Result<String> {
        // For an index that nobody has, the kernel says ENODEV.
        Ok(netdevice::index_to_name(any_socket()?, self.index)?)
    }

    fn error(&self, source: io::Error) -> BulkError {
        BulkError::of_socket(&self.interface, self.number, source)
    }
}

/// A socket of the network namespace, to ask about interfaces.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?)
}

/// Memory that the kernel has pinned, and a socket that is bound to no queue yet.
pub(super) struct Umem {
    raw: NonNull<xsk_umem>,
    /// Where libxdp writes, and reads again, where the rings are mapped: it keeps pointers to them.
    rings: NonNull<RawRings>,
}

struct RawRings {
    fill: xsk_ring_prod,
    completion: xsk_ring_cons,
    rx: xsk_ring_cons,
    tx: xsk_ring_prod,
}

const NO_PRODUCER: xsk_ring_prod = xsk_ring_prod {
    cached_prod: 0,
    cached_cons: 0,
    mask: 0,
    size: 0,
    producer: ptr::null_mut(),
    consumer: ptr::null_mut(),
    ring: ptr::null_mut(),
    flags: ptr::null_mut(),
};

const NO_CONSUMER: xsk_ring_cons = xsk_ring_cons {
    cached_prod: 0,
    cached_cons: 0,
    mask: 0,
    size: 0,
    producer: ptr::null_mut(),
    consumer: ptr::null_mut(),
    ring: ptr::null_mut(),
    flags: ptr::null_mut(),
};

// SAFETY: nothing of libxdp's is tied to a thread, and whoever has this is the only one to use it.
unsafe impl Send for Umem {}

impl Umem {
    /// Pins `len` bytes from `memory` on. The kernel writes there what is posted in the fill ring, and nothing else; whoever posts answers for that.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(memory: *mut u8, len: usize) -> io::Result<Umem> {
        let fd = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let config = xsk_umem_config {
            fill_size: RX_RING,
            comp_size: TX_RING,
            frame_size: CHUNK,
            frame_headroom: 0,
            flags: XDP_UMEM_UNALIGNED_CHUNK_FLAG,
        };
        let rings = RawRings { fill: NO_PRODUCER, completion: NO_CONSUMER, rx: NO_CONSUMER, tx: NO_PRODUCER };
        let rings = NonNull::from(Box::leak(Box::new(rings)));
        let mut raw = ptr::null_mut();
        // SAFETY: all pointers are valid for the call; those to the rings for as long as the umem, which frees them when it is dropped. The
        // descriptor is libxdp's from here on, also if it fails: then it closes it.
        let error = unsafe {
            let (fill, completion) = (&raw mut (*rings.as_ptr()).fill, &raw mut (*rings.as_ptr()).completion);
            xsk_umem__create_with_fd(&mut raw, fd.into_raw_fd(), memory.cast(), len as u64, fill, completion, &config)
        };
        match NonNull::new(raw).filter(|_| error == 0) {
            Some(raw) => Ok(Umem { raw, rings }),
            None => {
                // SAFETY: it was leaked above, and libxdp keeps no pointer to it when it fails.
                drop(unsafe { Box::from_raw(rings.as_ptr()) });
                Err(io::Error::from_raw_os_error(-error))
            }
        }
    }

    /// Binds it to a queue, with zero-copy or without, waiting for a second at the most while the queue is still being released.
    ///
    /// # Errors
    /// What the kernel says: after that it can be tried again, in another way.
    pub(super) fn bind(&mut self, queue: &Queue, zero_copy: bool) -> io::Result<Bound> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.bind_now(queue, zero_copy) {
                Err(error) if error.raw_os_error() == Some(BUSY) && start.elapsed() < BUSY_TIME => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn bind_now(&mut self, queue: &Queue, zero_copy: bool) -> io::Result<Bound> {
        let mode = if zero_copy { XDP_ZEROCOPY } else { XDP_COPY };
        let config = xsk_socket_config {
            rx_size: RX_RING,
            tx_size: TX_RING,
            __bindgen_anon_1: xsk_socket_config__bindgen_ty_1 { libxdp_flags: XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD },
            xdp_flags: 0,
            bind_flags: (mode | XDP_USE_SG | XDP_USE_NEED_WAKEUP) as u16,
        };
        let interface = CString::new(queue.name()?).map_err(|_| Errno::NODEV)?;
        let mut raw = ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and those to the umem and the rings for as long as the socket.
        let error = unsafe {
            let rings = self.rings.as_ptr();
            let (rx, tx) = (&raw mut (*rings).rx, &raw mut (*rings).tx);
            xsk_socket__create(&mut raw, interface.as_ptr(), queue.number, self.raw.as_ptr(), rx, tx, &config)
        };
        match NonNull::new(raw).filter(|_| error == 0) {
            Some(raw) => Ok(Bound { raw }),
            None => {
                let error = io::Error::from_raw_os_error(-error);
                let Queue { interface, number, .. } = queue;
                debug!(target: "vmmc::port", interface, number, zero_copy, %error, "bulk lane: bind refused");
                Err(error)
            }
        }
    }
}

const BUSY: i32 = Errno::BUSY.raw_os_error();

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: no socket uses it any more (`Socket` drops its own before), so it is deleted, its rings are unmapped, and nobody has pointers
        // to `rings`, which was leaked when this was made.
        unsafe {
            xsk_umem__delete(self.raw.as_ptr());
            drop(Box::from_raw(self.rings.as_ptr()));
        }
    }
}

/// A socket as libxdp knows it. Its [`Umem`] outlives it.
pub(super) struct Bound {
    raw: NonNull<xsk_socket>,
}

// SAFETY: as for `Umem`.
unsafe impl Send for Bound {}

impl Drop for Bound {
    fn drop(&mut self) {
        // SAFETY: it was created and is deleted once; its umem still exists.
        unsafe { xsk_socket__delete(self.raw.as_ptr()) };
    }
}

/// A bound socket, and its rings. Dropping it unmaps them and closes it.
pub(super) struct Socket {
    // In this order: the rings lie in the socket's and the umem's mappings, and the socket goes before its umem.
    pub fill: Producer<AtomicU64>,
    pub rx: Consumer<SharedDescriptor>,
    pub tx: Producer<SharedDescriptor>,
    pub completion: Consumer<AtomicU64>,
    bound: Bound,
    _umem: Umem,
}

impl Socket {
    /// Of a umem and what it was bound to.
    pub(super) fn new(umem: Umem, bound: Bound) -> Socket {
        // SAFETY: libxdp has filled in all four; nobody else has them.
        let RawRings { fill, completion, rx, tx } = unsafe { umem.rings.read() };
        // SAFETY: the rings are mapped, with so many entries, until the socket is deleted, and it goes together with them; only it and the kernel
        // access them.
        unsafe {
            Socket {
                fill: Producer::new(ring(fill.producer, fill.consumer, fill.flags, fill.ring, fill.size)),
                rx: Consumer::new(ring(rx.producer, rx.consumer, rx.flags, rx.ring, rx.size)),
                tx: Producer::new(ring(tx.producer, tx.consumer, tx.flags, tx.ring, tx.size)),
                completion: Consumer::new(ring(
                    completion.producer,
                    completion.consumer,
                    completion.flags,
                    completion.ring,
                    completion.size,
                )),
                bound,
                _umem: umem,
            }
        }
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the socket, and is closed with it.
        unsafe { BorrowedFd::borrow_raw(xsk_socket__fd(self.bound.raw.as_ptr())) }
    }

    /// Has the kernel send what is in the TX ring: 32 descriptors at the most.
    ///
    /// # Errors
    /// Not when it can't at the moment.
    pub(super) fn wake_sender(&self) -> io::Result<()> {
        match rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells a driver that sleeps for want of places that there are some.
    pub(super) fn wake_receiver(&self) {
        if self.fill.needs_wakeup() {
            // Failure shows as packets that don't arrive.
            let _ = rustix::net::recv(self.fd(), &mut [0; 0][..], RecvFlags::DONTWAIT);
        }
    }

    /// What the kernel has counted since it was bound.
    pub(super) fn statistics(&self) -> io::Result<rustix::net::xdp::XdpStatistics> {
        Ok(sockopt::xdp_statistics(self.fd().as_fd())?)
    }
}

/// One of the rings of a socket.
///
/// # Safety
/// As [`Ring::new`].
unsafe fn ring<E: super::rings::Entry>(
    producer: *mut u32,
    consumer: *mut u32,
    flags: *mut u32,
    entries: *mut std::ffi::c_void,
    size: u32,
) -> Ring<E> {
    let index = |at: *mut u32| NonNull::new(at.cast::<AtomicU32>()).expect("a ring that libxdp has mapped");
    let entries = NonNull::new(entries.cast()).expect("a ring that libxdp has mapped");
    // SAFETY: the caller's.
    unsafe { Ring::new(index(producer), index(consumer), index(flags), entries, size) }
}

/// Proves that no socket has the queue any more, by binding one to it for a moment.
///
/// # Errors
/// When it can't be proved.
pub(super) fn prove_free(queue: &Queue) -> Result<(), BulkError> {
    let refused = |error| queue.error(error);
    let page = MmapOptions::new().len(CHUNK as usize).map_anon().map_err(refused)?;
    let mut umem = Umem::new(page.as_ptr().cast_mut(), page.len()).map_err(refused)?;
    drop(umem.bind(queue, false).map_err(refused)?);
    Ok(())
}

/// Opens a socket on `queue` whose packet memory is `arena`, which is registered already: with zero-copy if that is wanted and can be had, otherwise without. Returns
/// why it hasn't got it, if it was refused. Blocks while the memory is being pinned, and for a second at the most while the queue is still being released.
///
/// # Errors
/// See [`BulkError`].
pub(super) fn open(queue: &Queue, arena: &Arena, zero_copy: bool) -> Result<(Socket, Option<WhyCopy>), BulkError> {
    let (memory, len) = arena.memory();
    let start = Instant::now();
    let mut umem = loop {
        match Umem::new(memory, len) {
            Ok(umem) => break umem,
            // A UMEM is pinned memory: without CAP_IPC_LOCK it counts against RLIMIT_MEMLOCK. So does that of the last socket, until the kernel has released it.
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                if start.elapsed() >= BUSY_TIME {
                    return Err(BulkError::LockedMemory { interface: queue.interface.clone(), bytes: len as u64 });
                }
                std::thread::sleep(LAST_PAUSE);
            }
            Err(error) => return Err(queue.error(error)),
        }
    };
    let mut refused = None;
    if zero_copy {
        match umem.bind(queue, true) {
            Ok(bound) => return Ok((Socket::new(umem, bound), None)),
            // These have nothing to do with the mode: another one won't help.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PERM | Errno::BUSY | Errno::NODEV)) => {
                return Err(queue.error(error));
            }
            Err(source) => refused = Some(WhyCopy::Refused { interface: queue.interface.clone(), source }),
        }
    }
    let bound = umem.bind(queue, false).map_err(|error| queue.error(error))?;
    Ok((Socket::new(umem, bound), refused))
}
