//! What the running program shares with user space: the socket of each queue, the counters, and the bulk lane's gate.
//!
//! The maps are file descriptors of their own. They stay valid, and need no privilege, whoever
//! loaded the program.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::{
    SteeringError, Verdicts,
    gate::{Gate, NO_QUEUE},
    skeleton::SteerSkel,
};

/// Receive queues the program can tell apart: 0 up to here, exclusive. It is more than NICs have.
pub const MAX_QUEUES: u32 = 1024;

/// The maps of one loaded program.
#[derive(Debug)]
pub struct Maps {
    sockets: MapHandle,
    verdicts: MapHandle,
    gate: MapHandle,
}

impl Maps {
    pub(crate) fn of(skeleton: &SteerSkel<'_>) -> Result<Self, libbpf_rs::Error> {
        let sockets = MapHandle::try_from(&*skeleton.maps.sockets)?;
        debug_assert_eq!(sockets.max_entries(), MAX_QUEUES);
        let gate = MapHandle::try_from(&*skeleton.maps.gates)?;
        debug_assert_eq!(gate.value_size() as usize, size_of::<Gate>());
        // All zeros would say that queue 0 is the lane's.
        let mut without_lane = vec![0; size_of::<Gate>()];
        without_lane[std::mem::offset_of!(Gate, queue)..][..4].copy_from_slice(&NO_QUEUE.to_ne_bytes());
        gate.update(&0u32.to_ne_bytes(), &without_lane, MapFlags::ANY)?;
        Ok(Self { sockets, verdicts: MapHandle::try_from(&*skeleton.maps.verdicts)?, gate })
    }

    /// The map of the sockets itself.
    pub(crate) fn sockets(&self) -> BorrowedFd<'_> {
        self.sockets.as_fd()
    }

    /// Gives the node's frames that arrive on `queue` to `socket`, instead of any socket before it.
    ///
    /// The socket must be bound to that queue of the program's interface before frames arrive: the
    /// kernel drops what is redirected to any other. Closing it takes it out again. Does not block.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Register`] if `socket` is no AF_XDP socket or `queue` is not below
    /// [`MAX_QUEUES`].
    pub fn register(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteeringError> {
        let value = socket.as_raw_fd().to_ne_bytes();
        self.sockets.update(&queue.to_ne_bytes(), &value, MapFlags::ANY).map_err(|error| {
            let reason = if queue >= MAX_QUEUES {
                format!("queues are numbered from 0 to {}", MAX_QUEUES - 1)
            } else {
                format!("is it an AF_XDP socket? {error:#}")
            };
            SteeringError::Register { queue, reason }
        })
    }

    /// Takes the socket of `queue` out again, if there is one, as closing it would. Frames that arrive meanwhile may still
    /// go to it. Does not block.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Register`] if `queue` is not below [`MAX_QUEUES`].
    pub fn unregister(&self, queue: u32) -> Result<(), SteeringError> {
        self.sockets.delete(&queue.to_ne_bytes()).map_err(|error| SteeringError::Register {
            queue,
            reason: format!("queues are numbered from 0 to {}: {error:#}", MAX_QUEUES - 1),
        })
    }

    /// The map whose one element is the bulk lane's [`Gate`], for mapping it into memory: shared, readable and writable,
    /// from offset 0, `size_of::<Gate>()` bytes.
    pub fn gate(&self) -> BorrowedFd<'_> {
        self.gate.as_fd()
    }

    /// The counters, summed over all CPUs. Does not block; frames may be counted meanwhile, so that
    /// the sum of two verdicts need not be of one moment.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Counters`] if the kernel refuses to read the map.
    pub fn counters(&self) -> Result<Verdicts, SteeringError> {
        let mut counts = [0; Verdicts::COUNT];
        for (key, count) in (0u32..).zip(&mut counts) {
            let per_cpu = self
                .verdicts
                .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| SteeringError::Counters(format!("{error:#}")))?
                .ok_or_else(|| SteeringError::Counters(format!("there is no counter {key}")))?;
            *count = per_cpu.iter().filter_map(|value| value.as_slice().try_into().ok()).map(u64::from_ne_bytes).sum();
        }
        Ok(Verdicts::from_counts(counts))
    }
}
