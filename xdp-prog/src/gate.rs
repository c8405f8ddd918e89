//! The bulk lane's gate: memory that the program and the lane share, by which the lane says which packets may land where,
//! and the program which ones have.
//!
//! The lane is one more AF_XDP socket, on a queue of its own. Its fill ring holds *places*, and nothing else does; they are
//! numbered as they are posted, from 0 on, for as long as the program is loaded. The packets that are let in use them in
//! that order: the i-th packet lands at place i, and the i-th entry of the log says what its headers said, which are taken
//! off. A [`Run`] tells for which packets a range of places is: those of one grant, from one sender, of one length. Whatever
//! else comes is dropped.
//!
//! ```text
//!   lane                                          program, for each packet
//!   places into the fill ring
//!   set_run: `end` last       ────────────►       the run that place `used` is in:
//!   admit: `posted`           ────────────►       sender, token, grant, length as it says?
//!                                                 headers off, entry into the log, `used` + 1
//!   packets in the RX ring    ◄────────────       to the socket
//!   entry: one for each
//! ```
//!
//! [`Gate`] is the layout of the element of the map that [`Maps::gate`](crate::Maps::gate) gives the descriptor of. Whoever
//! maps it into memory has a `&Gate`, and calls its methods, which keep the order in which the other side may see things.
//! `src/bpf/gate.h` is that other side.
//!
//! The program keeps its account without locks. So the lane needs native mode, where a queue is served by one CPU at a time:
//! in generic mode several may run the program for one queue.

use std::{
    mem::offset_of,
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
};

use crate::skeleton::types;

/// Runs that there can be at a time.
pub const RUNS: usize = 16;

/// Entries of the log, which begins again from the front when it is full: so many packets may be let in before the first of
/// them has to be looked at.
pub const LOG: usize = 4096;

/// Instead of a queue's number: there is no lane.
pub const NO_QUEUE: u32 = u32::MAX;

/// Taking the headers off must leave so many bytes in the packet's first buffer, or the kernel refuses: no segment may be
/// shorter.
pub const MIN_SEGMENT: u32 = 14;

/// The memory that is shared: see the [module](self).
///
/// All of it is atomic, as the program reads and writes it at any time. One thread only may call the methods that write.
#[repr(C)]
#[derive(Debug)]
pub struct Gate {
    posted: AtomicU64,
    used: AtomicU64,
    pub(crate) queue: AtomicU32,
    strip: AtomicU32,
    pad: [AtomicU64; 5],
    runs: [RawRun; RUNS],
    log: [RawEntry; LOG],
}

#[repr(C)]
#[derive(Debug)]
struct RawRun {
    first: AtomicU64,
    end: AtomicU64,
    token: AtomicU64,
    grant: AtomicU32,
    segment: AtomicU32,
    source: [AtomicU32; 4],
    /// And two bytes that nobody uses.
    source_port: AtomicU32,
    pad: AtomicU32,
}

#[repr(C)]
#[derive(Debug)]
struct RawEntry {
    grant: AtomicU32,
    segment: AtomicU32,
    checksum: AtomicU32,
    flags: AtomicU32,
}

/// Compares fields and sizes with what libbpf-cargo makes of the structures in gate.h.
macro_rules! same_layout {
    ($($ours:ident as $theirs:ident { $($field:ident),+ })+) => {
        const _: () = {
            $(
                assert!(size_of::<$ours>() == size_of::<types::$theirs>());
                $(assert!(offset_of!($ours, $field) == offset_of!(types::$theirs, $field));)+
            )+
        };
    };
}

same_layout! {
    Gate as gate { posted, used, queue, strip, runs, log }
    RawRun as run { first, end, token, grant, segment, source, source_port }
    RawEntry as entry { grant, segment, checksum, flags }
}

/// Which packets are let into a range of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The numbers of the places.
    pub places: Range<u64>,
    /// The token that the packets carry.
    pub token: u64,
    /// The grant that they carry.
    pub grant: u32,
    /// Bytes of payload of each, exactly.
    pub segment: u32,
    /// Where they come from.
    pub source: SocketAddr,
}

/// What the header of a packet that was let in said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The grant: that of its run.
    pub grant: u32,
    /// The segment. Anything may stand there.
    pub segment: u32,
    /// The field of the checksum.
    pub checksum: u32,
    /// The flags.
    pub flags: u8,
}

impl Gate {
    /// Opens the lane on `queue`: its packets are dropped on all others, and nothing else reaches that queue's socket.
    /// `strip` is whether the program takes the headers off, which it must where packets are copied to their places
    /// after it has run, and must not where the NIC has written them there before. With [`NO_QUEUE`] there is no lane.
    pub fn set_lane(&self, queue: u32, strip: bool) {
        self.strip.store(strip.into(), Relaxed);
        self.queue.store(queue, Release);
    }

    /// Lets in nothing any more, but for a packet that the program is just at. Returns how many places have been used: they are numbered on from there. Whoever wants to
    /// know for sure closes the socket, waits until the kernel has let go of it, and asks again.
    pub fn close(&self) -> u64 {
        for run in &self.runs {
            run.end.store(0, Release);
        }
        let used = self.used();
        self.posted.store(used, Release);
        used
    }

    /// Begins anew at `place`: those before it count as used. Only while the gate is closed, and when the kernel has let go of
    /// the lane's socket, which it does when the program is at none of its packets any more.
    pub fn skip_to(&self, place: u64) {
        self.used.store(place, Release);
        self.posted.store(place, Release);
    }

    /// Tells for which packets a range of places is. What was in that `slot` before must be used up, or the same but for its
    /// end.
    ///
    /// # Panics
    ///
    /// If `slot` isn't below [`RUNS`].
    pub fn set_run(&self, slot: usize, run: &Run) {
        let raw = &self.runs[slot];
        raw.first.store(run.places.start, Relaxed);
        raw.token.store(run.token, Relaxed);
        raw.grant.store(run.grant, Relaxed);
        raw.segment.store(run.segment, Relaxed);
        let source = match run.source.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        for (field, word) in raw.source.iter().zip(source.octets().as_chunks().0) {
            field.store(u32::from_ne_bytes(*word), Relaxed);
        }
        let [high, low] = run.source.port().to_be_bytes();
        raw.source_port.store(u32::from_ne_bytes([high, low, 0, 0]), Relaxed);
        // The program reads this first: what it belongs to is there by then.
        raw.end.store(run.places.end, Release);
    }

    /// Lets packets into all places below `posted`. They are in the fill ring, and runs are set for them.
    pub fn admit(&self, posted: u64) {
        self.posted.store(posted, Release);
    }

    /// How many places may be used: what [`admit`](Self::admit) was told last.
    pub fn posted(&self) -> u64 {
        self.posted.load(Relaxed)
    }

    /// How many places have been used. The last of these packets may not have come to the RX ring yet.
    pub fn used(&self) -> u64 {
        self.used.load(Acquire)
    }

    /// What the header of the packet said that landed at that place. It is there when the packet's descriptors have been
    /// seen in the RX ring, until [`LOG`] packets more have been let in.
    pub fn entry(&self, place: u64) -> Entry {
        let raw = &self.log[(place % LOG as u64) as usize];
        Entry {
            grant: raw.grant.load(Relaxed),
            segment: raw.segment.load(Relaxed),
            checksum: raw.checksum.load(Relaxed),
            flags: raw.flags.load(Relaxed) as u8,
        }
    }
}
