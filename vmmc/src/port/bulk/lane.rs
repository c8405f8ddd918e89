//! The bulk lane: a [`BulkPort`] that is an AF_XDP socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tracing::{info, warn};
use xdp_prog::Steering;

use super::error::BulkError;
use super::gate::GateMap;
use super::mode::{Standing, WhyCopy, ZeroCopy};
use super::places::Places;
use super::slots::Slots;
use super::socket::{self, Queue, Socket};
use super::{BulkCounters, BulkPort, Landing, MAX_SEGMENT, Run};
use crate::memory::{Arena, DirectSource, DirectTarget};
use crate::port::BulkRings;
use crate::wire::frame::Encap;

/// Where a bulk lane is to be.
#[derive(Clone, Debug)]
pub struct BulkConfig {
    /// The interface.
    pub interface: String,
    /// Its last queue. The eager lane has the others.
    pub queue: u32,
    /// Bytes of the headers, from Ethernet's to the bulk header, in front of the payload of packets that arrive over IPv6. Over IPv4 it is 20 less.
    pub headers: usize,
    /// Whether the NIC is to write into the arena by itself. For that the arena has to be in huge pages: of ordinary ones no two are certainly next to each other in the NIC's eyes.
    /// Otherwise the kernel copies each packet once.
    pub zero_copy: ZeroCopy,
}

/// In zero-copy mode, so many bytes in front of a place may be written: headers, of which there are 90 at the most, and what a driver keeps in front of a packet.
const OVERLAP: usize = 128;

/// An AF_XDP socket whose packet memory is the arena.
pub struct BulkLane {
    config: BulkConfig,
    queue: Queue,
    arena: Arena,
    steering: Arc<Steering>,
    namespace: Namespace,
    gate: GateMap,
    /// Holds the socket. Whoever sleeps on this instead of the socket doesn't keep that alive.
    epoll: OwnedFd,
    places: Places,
    slots: Slots,
    /// `None` after it couldn't be opened again.
    socket: Option<Socket>,
    /// Why it isn't in zero-copy mode; `None` if it is.
    why_copy: Option<WhyCopy>,
    standing: Standing,
    /// The gate is this lane's.
    has_gate: bool,
    counters: BulkCounters,
}

impl BulkLane {
    /// Opens the lane, in the network namespace of the calling thread: pins the arena, binds a socket to the queue, and has the program let into it what places are posted for.
    /// Its socket takes nothing else. From now on the arena gives no memory back to the system.
    ///
    /// Blocks while the memory is being pinned, and for a second at the most while a queue is still being released by its last user.
    ///
    /// # Errors
    /// See [`BulkError`].
    pub fn open(config: &BulkConfig, arena: &Arena, steering: Arc<Steering>) -> Result<BulkLane, BulkError> {
        if config.queue == 0 {
            return Err(BulkError::OneQueue { interface: config.interface.clone() });
        }
        let queue = Queue::new(&config.interface, config.queue)?;
        let failed = |error| BulkError::of_socket(&config.interface, config.queue, error);
        let gate = GateMap::new(steering.gate()).map_err(BulkError::Gate)?;
        arena.register();
        let why_copy = why_copy(config, &queue, arena);
        let mut lane = BulkLane {
            config: config.clone(),
            queue,
            arena: arena.clone(),
            steering,
            namespace: Namespace::current().map_err(failed)?,
            gate,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?,
            places: Places::new(0),
            slots: Slots::new(arena)?,
            socket: None,
            why_copy,
            standing: Standing::new(Instant::now()),
            has_gate: false,
            counters: BulkCounters::default(),
        };
        lane.open_socket()?;
        let BulkConfig { interface, queue, .. } = config;
        match &lane.why_copy {
            None => info!(target: "vmmc::port", interface, queue, "bulk lane open, in zero-copy mode"),
            Some(why) => info!(target: "vmmc::port", interface, queue, "bulk lane open, in copy mode: {why}"),
        }
        Ok(lane)
    }

    /// Why the kernel copies each packet once; `None` if it doesn't, because the NIC reads and writes the arena itself.
    pub fn why_copy(&self) -> Option<&WhyCopy> {
        self.why_copy.as_ref()
    }

    fn is_zero_copy(&self) -> bool {
        self.why_copy.is_none()
    }

    /// Opens the socket. When that succeeds the kernel has let go of all that an earlier one had.
    ///
    /// Closing the old one takes the kernel some time, in which it does nothing but wait, and so it is done on a thread of its own while the new one's memory is being
    /// pinned.
    fn open_socket(&mut self) -> Result<(), BulkError> {
        if self.has_gate {
            self.gate.close();
        }
        let old = self.socket.take();
        std::thread::scope(|scope| {
            let _closing = old.map(|old| scope.spawn(|| drop(old)));
            self.open_next()
        })
    }

    fn open_next(&mut self) -> Result<(), BulkError> {
        let failed = |error| BulkError::of_socket(&self.queue.interface, self.queue.number, error);
        let zero_copy = self.is_zero_copy();
        let open = || {
            let segments = if zero_copy { zero_copy_segments(&self.queue) } else { Ok(0) };
            let opened = socket::open(&self.queue, &self.arena, zero_copy && segments.is_ok());
            opened.map(|(socket, refused)| {
                (socket, segments.map_or_else(Err, |segments| refused.map_or(Ok(segments), Err)))
            })
        };
        let (socket, segments) = self.namespace.run(open).map_err(failed)??;
        epoll::add(&self.epoll, socket.fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .map_err(|error| failed(error.into()))?;
        // Nothing has been let in since it was closed, and no program runs any more that began before.
        let next = self.gate.close();
        self.places.restart(next);
        self.slots.restart();
        match segments {
            Ok(segments) if zero_copy => {
                (self.places.headers, self.places.piece) = (self.config.headers, self.arena.page_size() as u64);
                self.slots.longest = MAX_SEGMENT.min((segments - 2) * socket::CHUNK as usize);
            }
            segments => {
                (self.places.headers, self.places.piece) = (0, u64::MAX);
                self.slots.longest = MAX_SEGMENT;
                if let Err(why) = segments {
                    if self.has_gate {
                        warn!(target: "vmmc::port", interface = self.queue.interface, "bulk lane: no zero-copy mode any more: {why}");
                    }
                    self.why_copy = Some(why);
                }
            }
        }
        self.slots.paged = self.is_zero_copy();
        self.gate.set_lane(self.queue.number, !self.is_zero_copy());
        self.has_gate = true;
        self.steering.register(self.queue.number, socket.fd())?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// Why a lane isn't even to try zero-copy mode.
fn why_copy(config: &BulkConfig, queue: &Queue, arena: &Arena) -> Option<WhyCopy> {
    const HUGE: usize = 2 << 20;
    let page = arena.page_size();
    if config.zero_copy == ZeroCopy::Never {
        Some(WhyCopy::NotAsked)
    } else if let Err(why) = zero_copy_segments(queue) {
        Some(why)
    } else if page <= rustix::param::page_size() {
        Some(WhyCopy::OrdinaryPages { page, needed: arena.len().div_ceil(HUGE) })
    } else {
        None
    }
}

/// How many buffers a packet may have where the NIC reads and writes by itself: 3 or more. The interface is in the network namespace of the calling thread.
fn zero_copy_segments(Queue { interface, index, .. }: &Queue) -> Result<usize, WhyCopy> {
    let name = || interface.to_owned();
    match xdp_prog::Survey::of(interface, *index).ok().and_then(|survey| survey.features) {
        None => Err(WhyCopy::Unknown { interface: name() }),
        Some(features) if !features.zero_copy => Err(WhyCopy::NoZeroCopy { interface: name() }),
        Some(features) if features.zero_copy_segments < 3 => {
            Err(WhyCopy::FewBuffers { interface: name(), buffers: features.zero_copy_segments as usize })
        }
        Some(features) => Ok(features.zero_copy_segments as usize),
    }
}

impl BulkLane {
    /// In zero-copy mode, before it is opened anew: whether it goes on in it.
    fn judge(&mut self) {
        let (consistent, waiting) = (self.is_consistent(), !self.places.is_empty());
        let trouble = self.standing.trouble(Instant::now(), consistent, waiting);
        if let Some(trouble) = trouble.filter(|_| self.config.zero_copy == ZeroCopy::WhenPossible) {
            let why = WhyCopy::Trouble { interface: self.queue.interface.clone(), trouble };
            warn!(target: "vmmc::port", interface = self.queue.interface, "bulk lane: no zero-copy mode any more: {why}");
            self.why_copy = Some(why);
        }
    }
}

impl BulkPort for BulkLane {
    fn why_copied(&self) -> Option<String> {
        self.why_copy.as_ref().map(WhyCopy::to_string)
    }

    fn overlap(&self) -> usize {
        if self.is_zero_copy() { OVERLAP } else { 0 }
    }

    fn max_segment(&self) -> usize {
        self.slots.longest
    }

    fn room(&self, segment: usize) -> usize {
        self.socket.as_ref().map_or(0, |socket| self.places.room(segment, &socket.fill, &self.gate))
    }

    fn post(&mut self, run: &Run, target: &DirectTarget, at: usize) -> Option<u64> {
        let fill = &mut self.socket.as_mut()?.fill;
        let number = self.places.post(run, target, at, &self.arena, fill, &self.gate)?;
        self.counters.places += 1;
        Some(number)
    }

    fn admit(&mut self) {
        if let Some(socket) = &mut self.socket {
            self.places.admit(&mut socket.fill, &self.gate);
            socket.wake_receiver();
            self.standing.posted(Instant::now());
        }
    }

    fn receive(&mut self, batch: &mut Vec<Landing>) -> io::Result<()> {
        if let Some(socket) = &mut self.socket {
            let before = batch.len();
            self.counters.rx_bytes += self.places.receive(&mut socket.rx, &self.gate, batch) as u64;
            self.counters.rx_packets += (batch.len() - before) as u64;
            if self.why_copy.is_none() && batch.len() > before {
                self.standing.landed(Instant::now(), self.places.is_empty());
            }
        }
        Ok(())
    }

    fn is_consistent(&mut self) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.places.is_lost()) else { return false };
        socket.statistics().is_ok_and(|kernel| {
            // Where the NIC takes places by itself, it finds none left whenever it has taken all.
            let starved = kernel.rx_fill_ring_empty_descs.filter(|_| !self.is_zero_copy());
            let dropped = [Some(kernel.rx_dropped), Some(kernel.rx_invalid_descs), kernel.rx_ring_full, starved];
            dropped.into_iter().flatten().all(|count| count == 0)
        })
    }

    fn distrust(&mut self) {
        self.places.lose();
    }

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        let queued = self.slots.submit(&mut socket.tx, &self.arena, encap, header, source, at, len);
        if queued {
            self.counters.tx_packets += 1;
            self.counters.tx_bytes += len as u64;
        }
        queued
    }

    fn reaches(&self, source: &DirectSource) -> bool {
        source.runs(&self.arena, 0, 0).is_some()
    }

    fn tx_room(&self, segment: usize) -> usize {
        if self.socket.is_some() { self.slots.room(segment) } else { 0 }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        socket.tx.publish();
        // One system call moves at most 32 descriptors, so there may have to be several. When one moves none, the kernel
        // can't take more now; the next flush tries again.
        let (mut result, mut before) = (Ok(()), usize::MAX);
        while result.is_ok() {
            let unsent = socket.tx.unread();
            if unsent == 0 || unsent >= before || !socket.tx.needs_wakeup() {
                break;
            }
            before = unsent;
            self.counters.wakeups += 1;
            result = socket.wake_sender();
        }
        self.slots.reap(&mut socket.completion);
        result
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.is_zero_copy() && self.socket.is_some() {
            self.judge();
        }
        let opened = self.open_socket();
        if let Err(BulkError::NoInterface { .. }) = opened {
            // Before an interface is gone the kernel has stopped its queues.
            let next = self.gate.close();
            self.places.restart(next);
        }
        // Of what was being sent the kernel reads at the most, and what it makes of that nobody hears any more. Whoever gave it away waits for it.
        self.slots.restart();
        self.counters.reopened += u64::from(opened.is_ok());
        opened.map_err(io::Error::other)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn counters(&self) -> BulkCounters {
        self.counters
    }

    fn rings(&self) -> BulkRings {
        let (places, posted) = self.places.waiting();
        let (slots, sending) = self.slots.packets();
        let rings = BulkRings {
            queue: self.queue.number,
            ring: socket::RX_RING as usize,
            places,
            posted,
            send_ring: socket::TX_RING as usize,
            slots,
            sending,
            ..BulkRings::default()
        };
        let Some(Socket { fill, rx, tx, completion, .. }) = &self.socket else { return rings };
        let (fill, arrived) = (fill.unread(), rx.unread());
        BulkRings { fill, arrived, unsent: tx.unread(), completed: completion.unread(), ..rings }
    }
}

impl Drop for BulkLane {
    fn drop(&mut self) {
        if !self.has_gate {
            return;
        }
        self.gate.close();
        self.socket = None;
        self.gate.set_lane(xdp_prog::gate::NO_QUEUE, false);
        // Where the kernel copies, it has read what is sent within the call that sends it. A NIC reads until the queue is taken from it, and that is a little after the socket was closed.
        if self.places.is_empty() && (self.slots.is_idle() || !self.is_zero_copy()) {
            return;
        }
        let proved = self.namespace.run(|| socket::prove_free(&self.queue));
        if !matches!(proved, Ok(Ok(()))) {
            let interface = &self.queue.interface;
            warn!(target: "vmmc::port", interface, ?proved, "bulk lane: closed, but maybe not by the kernel, so the memory that was posted or being sent is never used again");
            self.places.leak();
            self.slots.leak();
        }
    }
}

/// A network namespace.
struct Namespace {
    file: File,
}

impl Namespace {
    /// That of the calling thread.
    fn current() -> io::Result<Namespace> {
        Ok(Namespace { file: File::open("/proc/thread-self/ns/net")? })
    }

    /// Runs `f` in it, on a thread of its own if the calling one is in another.
    fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        if id(&self.file)? == id(&Namespace::current()?.file)? {
            return Ok(f());
        }
        let enter = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(f())
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    }
}
