//! What a simulated bulk port hands its places to: the NIC, the steering program and the kernel's rings, which work while nobody looks.
//!
//! Frames come to it as the [`Network`](crate::port::sim::Network) delivers them, and it writes them into memory then and there. It does what the real ones
//! do, in their order: the gate's checks, one entry of the log for each packet let in, and the next place for it, whatever it says it is.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::memory::DirectTarget;
use crate::port::bulk::Run;
use crate::wire::{BULK_HEADER_LEN, BULK_KIND, VERSION};

/// The kernel's chunks of packet memory, bytes.
pub(super) const CHUNK: usize = 4096;

/// Of each it leaves so many alone, at the front.
pub(super) const HEADROOM: usize = 256;

/// What has become of the packets that came to a simulated bulk port, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Let in.
    pub admitted: u64,
    /// Refused: no place is there for any.
    pub no_place: u64,
    /// Refused: the places that are next are for those of another link, another grant, or another sender.
    pub stale: u64,
    /// Refused: it isn't as long as they must be.
    pub length: u64,
    /// Refused: no packet of the bulk lane at all.
    pub foreign: u64,
}

/// A place that is posted.
pub(super) struct Place {
    /// Kept, so that the memory goes to nobody while it may be written.
    pub target: DirectTarget,
    pub at: usize,
    pub segment: usize,
    /// Among all that were ever posted.
    pub number: u64,
}

/// The places of a run, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitting {
    pub run: Run,
    pub first: u64,
    pub end: u64,
}

/// What the header of a packet that was let in said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub grant: u32,
    pub segment: u32,
    pub checksum: u32,
    pub flags: u8,
}

/// The kernel's side of a simulated bulk port.
pub(crate) struct Kernel {
    /// Where packets of the lane are sent to: the node's address, the UDP port after its own.
    local: SocketAddr,
    /// Bytes of headers that stay in front of a payload; 0 when they are taken off.
    overlap: usize,
    /// The gate: places up to this number may be used, by packets of these runs.
    pub(super) posted: u64,
    pub(super) runs: Vec<Admitting>,
    /// And this many have been, by its own account.
    pub(super) used: u64,
    pub(super) log: VecDeque<Entry>,
    /// The fill ring, and places that packets lie in.
    pub(super) fill: VecDeque<Place>,
    pub(super) landed: VecDeque<Place>,
    /// So many packets that are let in shall be dropped after all.
    pub(super) to_drop: u64,
    /// Some have been since the socket was opened.
    pub(super) has_dropped: bool,
    /// A packet has landed in another place than the next: of none after it anything is told.
    misplaced: bool,
    /// It can't be opened again.
    pub(super) refuses_reopen: bool,
    pub(super) verdicts: Verdicts,
}

/// A UDP datagram, as far as the steering program looks: it reads no checksum and no length.
struct Steered {
    source: SocketAddr,
    destination: SocketAddr,
    /// Where its payload begins.
    start: usize,
}

impl Kernel {
    pub(super) fn new(local: SocketAddr, overlap: usize) -> Kernel {
        Kernel {
            local,
            overlap,
            posted: 0,
            runs: Vec::new(),
            used: 0,
            log: VecDeque::new(),
            fill: VecDeque::new(),
            landed: VecDeque::new(),
            to_drop: 0,
            has_dropped: false,
            misplaced: false,
            refuses_reopen: false,
            verdicts: Verdicts::default(),
        }
    }

    /// Takes a frame that has arrived, if it is the bulk lane's.
    ///
    /// # Panics
    /// When a place is in memory that is lent: whoever has opened a grant there mustn't lend it.
    pub(crate) fn takes(&mut self, frame: &[u8]) -> bool {
        let Some(steered) = steer(frame).filter(|steered| steered.destination == self.local) else {
            return false;
        };
        let refused = match self.admit(frame, &steered) {
            Ok(entry) => {
                self.verdicts.admitted += 1;
                self.land(frame, steered.start, entry);
                return true;
            }
            Err(refused) => refused,
        };
        let verdicts = &mut self.verdicts;
        *match refused {
            Refused::NoPlace => &mut verdicts.no_place,
            Refused::Stale => &mut verdicts.stale,
            Refused::Length => &mut verdicts.length,
            Refused::Foreign => &mut verdicts.foreign,
        } += 1;
        if self.overlap > 0 {
            // The NIC has written it before any program saw it, and takes the place again, but behind the others.
            self.write(frame, steered.start);
            let recycled = self.fill.pop_front();
            self.fill.extend(recycled);
        }
        true
    }

    /// The gate.
    fn admit(&self, frame: &[u8], steered: &Steered) -> Result<Entry, Refused> {
        let header = frame[steered.start..].first_chunk::<BULK_HEADER_LEN>().ok_or(Refused::Foreign)?;
        if header[4..6] != [VERSION, BULK_KIND] {
            return Err(Refused::Foreign);
        }
        if self.used >= self.posted {
            return Err(Refused::NoPlace);
        }
        let admitting = self.runs.iter().find(|run| (run.first..run.end).contains(&self.used));
        let run = admitting.ok_or(Refused::NoPlace)?.run;
        let word = |at| header[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let token = u64::from(word(8)) << 32 | u64::from(word(12));
        let entry = Entry { grant: word(16), segment: word(20), checksum: word(0), flags: header[6] };
        if (token, entry.grant, steered.source) != (run.token, run.grant, run.peer) {
            return Err(Refused::Stale);
        }
        let headers = steered.start + BULK_HEADER_LEN;
        // Where headers stay, longer ones would move the payload.
        let is_whole = frame.len() - headers == run.segment as usize && (self.overlap == 0 || self.overlap == headers);
        if is_whole { Ok(entry) } else { Err(Refused::Length) }
    }

    fn land(&mut self, frame: &[u8], start: usize, entry: Entry) {
        self.write(frame, start);
        self.log.push_back(entry);
        self.misplaced |= self.overlap > 0 && self.fill.front().is_some_and(|place| place.number != self.used);
        self.used += 1;
        if self.misplaced {
            // Whoever looks at the descriptor sees that it isn't where it should be, and believes nothing any more.
            self.has_dropped = true;
        } else if self.to_drop > 0 {
            // Its memory is the kernel's again, and the first that it uses.
            self.to_drop -= 1;
            self.has_dropped = true;
        } else {
            self.landed.extend(self.fill.pop_front());
        }
    }

    /// Writes a frame into the place that is next, if there is one. Where NICs write before the gate, no more than is its: no more than a segment fits the link there.
    ///
    /// Elsewhere the gate has counted that place for a packet of its length. But when packets were dropped after they had been let in, this is the place of one that was let in before.
    ///
    /// # Panics
    /// When that is shorter: a kernel writes behind it. So all that is posted at a time is to be of one length.
    fn write(&self, frame: &[u8], start: usize) {
        let Some(Place { target, at, segment, .. }) = self.fill.front() else { return };
        let written = if self.overlap == 0 {
            let payload = &frame[start + BULK_HEADER_LEN..];
            assert!(payload.len() <= *segment, "{} bytes have landed in a place of {segment}", payload.len());
            target.write(*at as u64, payload)
        } else {
            target.write_from_guard(*at, self.overlap, &frame[..frame.len().min(self.overlap + segment)])
        };
        written.unwrap_or_else(|error| panic!("a packet has landed where none may: {error}"));
    }

    /// How many chunks are posted, or lie in the receive ring.
    pub(super) fn chunks(&self) -> usize {
        self.fill.iter().chain(&self.landed).map(|place| chunks(place.segment + self.overlap)).sum()
    }

    /// Closes the gate, and with it the socket.
    pub(super) fn close(&mut self) {
        self.posted = self.used;
        self.runs.clear();
    }

    /// All that was posted is the port's again.
    pub(super) fn reset(&mut self) {
        self.close();
        self.log.clear();
        self.fill.clear();
        self.landed.clear();
        (self.has_dropped, self.misplaced) = (false, false);
    }
}

/// Why a packet isn't let in.
enum Refused {
    NoPlace,
    Stale,
    Length,
    Foreign,
}

/// How many chunks of packet memory a packet of so many bytes takes, headers that stay included.
pub(super) fn chunks(len: usize) -> usize {
    len.div_ceil(CHUNK - HEADROOM).max(1)
}

/// Finds the UDP header as the steering program does; `None` when there is none.
fn steer(frame: &[u8]) -> Option<Steered> {
    const UDP: u8 = 17;
    let word = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let ip_at = if word(12)? == 0x8100 { 18 } else { 14 };
    let ip = frame.get(ip_at..)?;
    let (source, destination, protocol, len): (IpAddr, IpAddr, u8, usize) = match word(ip_at - 2)? {
        0x0800 if *ip.first()? == 0x45 && ip.len() >= 20 && word(ip_at + 6)? & 0x3fff == 0 => {
            let address = |at: usize| ip[at..].first_chunk::<4>().map(|octets| IpAddr::from(*octets));
            (address(12)?, address(16)?, ip[9], 20)
        }
        0x86dd if ip.len() >= 40 => {
            let address = |at: usize| ip[at..].first_chunk::<16>().map(|octets| IpAddr::from(*octets));
            (address(8)?, address(24)?, ip[6], 40)
        }
        _ => return None,
    };
    let udp_at = ip_at + len;
    let start = udp_at + 8;
    if protocol != UDP || frame.len() < start {
        return None;
    }
    let (source, destination) =
        (SocketAddr::new(source, word(udp_at)?), SocketAddr::new(destination, word(udp_at + 2)?));
    Some(Steered { source, destination, start })
}
