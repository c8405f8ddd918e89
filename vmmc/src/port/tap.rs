//! Captures: copies of the frames that go through a port, for whoever wants to look at them.
//!
//! ```text
//!   engine ──submit──► Tapped ──► the port          what was sent: after the port has taken it
//!   engine ◄─receive── Tapped ◄── the port          what has arrived: before the engine has looked at it
//!                        │
//!                       Tap ──► a buffer for each capture ──► Capture::take, in a thread of its own
//! ```
//!
//! XDP takes frames away before tcpdump could see them, so a node must hand them out itself. A [`Tap`] belongs to whoever drives the
//! port, who puts it before the port with [`Wire::new`]: as long as there is no capture, that is one branch, and the port is used
//! as if there were no tap. A capture's buffer is bounded ([`CAPACITY`]); frames that don't fit because its reader is too slow are
//! counted as missed. Nobody ever waits for it.
//!
//! A tap stands before a [`FaultPort`](super::fault::FaultPort), on the engine's side: one sees what the engine sends, before any of it is
//! dropped or damaged on demand, and what arrives after that. What the wire carries the *other* node's capture shows.
//!
//! # The stream
//!
//! Captures yield bytes, in which each frame has 24 bytes of header, in network byte order:
//!
//! ```text
//!    0               1               2               3
//!   +---------------+---------------+---------------+---------------+
//!   | time: nanoseconds since 1970                                  |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | missed: frames that are left out before this one              |
//!   +---------------------------------------------------------------+
//!   | length of the frame                                           |
//!   +---------------------------------------------------------------+
//!   | captured: bytes of it that follow                             |
//!   +---------------+-----------------------------------------------+
//!   | what          | reserved (0)                                  |
//!   +---------------+-----------------------------------------------+
//!   | the frame's first `captured` bytes ...
//! ```
//!
//! `what` is 1 for a frame that was received, 2 for one that was sent, 3 for one that has landed on the bulk lane, whose headers are [rebuilt](Frame::rebuilt). 0 is the end, in order: no frame, and nothing after it.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bulk::{BulkLayer, BulkPort};
use super::{Layer, Port, RxPacket, TxPacket};
use crate::memory::{DirectSource, DirectTarget};
use crate::wire::BULK_HEADER_LEN;
use crate::wire::frame::{Encap, MAX_ENCAP_LEN};

/// How much of what was captured waits for its reader at most, bytes.
pub const CAPACITY: usize = 8 << 20;

/// How many captures there may be at a time.
pub const MAX_CAPTURES: usize = 4;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The node has received it.
    Received,
    /// The node has sent it.
    Sent,
}

/// There are [`MAX_CAPTURES`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_CAPTURES} captures of this node are running, and there can be no more: end one of them")]
pub struct TooManyCaptures;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    time: U64,
    missed: U32,
    length: U32,
    captured: U32,
    what: u8,
    reserved: [u8; 3],
}

const RAW_LEN: usize = size_of::<Raw>();

/// What a capture hasn't been asked for yet.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    missed: u32,
    ended: bool,
}

impl Waiting {
    fn add(&mut self, time: Duration, what: u8, length: usize, pieces: &[&[u8]], snaplen: usize) {
        let captured = length.min(snaplen);
        if self.bytes.len() + RAW_LEN + captured > CAPACITY && what != END {
            self.missed = self.missed.saturating_add(1);
            return;
        }
        let raw = Raw {
            time: (time.as_nanos() as u64).into(),
            missed: std::mem::take(&mut self.missed).into(),
            length: (length as u32).into(),
            captured: (captured as u32).into(),
            what,
            reserved: [0; 3],
        };
        self.bytes.extend_from_slice(raw.as_bytes());
        let mut left = captured;
        for piece in pieces {
            let piece = &piece[..piece.len().min(left)];
            self.bytes.extend_from_slice(piece);
            left -= piece.len();
        }
    }

    fn end(&mut self) {
        if !self.ended {
            self.add(now(), END, 0, &[], 0);
            self.ended = true;
        }
    }
}

const END: u8 = 0;
const RECEIVED: u8 = 1;
const SENT: u8 = 2;
const REBUILT: u8 = 3;

type Buffer = Arc<Mutex<Waiting>>;

fn lock(buffer: &Buffer) -> MutexGuard<'_, Waiting> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The captures of a port. Dropping it ends them.
#[derive(Default)]
pub struct Tap {
    outlets: Vec<(Buffer, usize)>,
    /// A packet that is being submitted: its port may not show it afterwards.
    held: Vec<u8>,
}

impl Tap {
    /// Starts a capture of the first `snaplen` bytes of each frame, Ethernet header included.
    ///
    /// # Errors
    /// When there are [`MAX_CAPTURES`].
    pub fn capture(&mut self, snaplen: usize) -> Result<Capture, TooManyCaptures> {
        self.forget_finished();
        if self.outlets.len() >= MAX_CAPTURES {
            return Err(TooManyCaptures);
        }
        let bytes = Vec::with_capacity(CAPACITY);
        let buffer = Buffer::new(Mutex::new(Waiting { bytes, ..Waiting::default() }));
        self.outlets.push((buffer.clone(), snaplen));
        Ok(Capture { buffer })
    }

    /// Ends all captures, in order.
    pub fn end(&mut self) {
        for (buffer, _) in self.outlets.drain(..) {
            lock(&buffer).end();
        }
    }

    /// How much of a frame anybody wants, bytes.
    fn snaplen(&self) -> usize {
        self.outlets.iter().map(|(_, snaplen)| *snaplen).max().unwrap_or(0)
    }

    /// Records a packet of the bulk lane: headers, and of `len` bytes of payload so many as anybody wants, which `payload` appends.
    fn record_bulk(&mut self, what: u8, headers: &[u8], len: usize, payload: impl FnOnce(&mut Vec<u8>, usize)) {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        payload(&mut held, self.snaplen().saturating_sub(headers.len()).min(len));
        self.record(what, headers.len() + len, &[headers, &held], now());
        self.held = held;
    }

    fn record(&mut self, what: u8, length: usize, pieces: &[&[u8]], time: Duration) {
        for (buffer, snaplen) in &self.outlets {
            lock(buffer).add(time, what, length, pieces, *snaplen);
        }
    }

    /// Captures whose readers are gone.
    fn forget_finished(&mut self) {
        self.outlets.retain(|(buffer, _)| Arc::strong_count(buffer) > 1);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.end();
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The reader's end of a capture. Dropping it ends the capture.
pub struct Capture {
    buffer: Buffer,
}

impl Capture {
    /// Exchanges what has been captured since the last call for an empty buffer: `bytes`, whose content is discarded. Returns whether there may
    /// be more.
    pub fn take(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        // So that whoever sends needs no memory from the system while frames are recorded.
        bytes.reserve(CAPACITY);
        let mut waiting = lock(&self.buffer);
        std::mem::swap(&mut waiting.bytes, bytes);
        !waiting.ended
    }

    /// Ends the capture in order. Returns what has been captured since the last call of [`take`](Self::take), and the end.
    pub fn finish(self) -> Vec<u8> {
        let mut waiting = lock(&self.buffer);
        waiting.end();
        std::mem::take(&mut waiting.bytes)
    }
}

/// A frame from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was sent, or found in the receive ring: time since 1970.
    pub time: Duration,
    /// Which way it went.
    pub direction: Direction,
    /// It was received on the bulk lane, where headers are lost: these are built again from what the steering program has noted. Hop limit, ECN marks and the sender's Ethernet address may have been others.
    pub rebuilt: bool,
    /// The length it had, bytes.
    pub length: usize,
    /// Its bytes, or the first of them.
    pub bytes: Vec<u8>,
}

/// What comes next in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// The capture has ended in order.
    End,
}

/// Reads the stream of a capture. Returns what comes next, and how many frames are missed before it. Blocks as `stream` does.
///
/// # Errors
/// What `stream` says; [`io::ErrorKind::UnexpectedEof`] when it ends without saying so; [`io::ErrorKind::InvalidData`] when it is
/// no such stream.
pub fn read(stream: &mut impl Read) -> io::Result<(Item, u32)> {
    let mut raw = [0; RAW_LEN];
    stream.read_exact(&mut raw)?;
    let raw: Raw = zerocopy::transmute!(raw);
    let (length, captured) = (raw.length.get() as usize, raw.captured.get() as usize);
    let rebuilt = raw.what == REBUILT;
    let direction = match raw.what {
        END => return Ok((Item::End, raw.missed.get())),
        RECEIVED | REBUILT => Direction::Received,
        SENT => Direction::Sent,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    if captured > length || length > CAPACITY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; captured];
    stream.read_exact(&mut bytes)?;
    let time = Duration::from_nanos(raw.time.get());
    Ok((Item::Frame(Frame { time, direction, rebuilt, length, bytes }), raw.missed.get()))
}

/// A port that is listened to.
pub struct Tapped<'a> {
    inner: &'a mut dyn Port,
    tap: &'a mut Tap,
}

impl Layer for Tapped<'_> {
    fn inner(&self) -> &dyn Port {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut *self.inner
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        // The look at its head lets the port notice that the kernel is done with a packet that is sent again.
        self.inner.head(packet);
        self.tap.held.clear();
        for piece in self.inner.contents(packet).unwrap_or_default() {
            self.tap.held.extend_from_slice(piece);
        }
        let sent = self.inner.submit(packet);
        if sent {
            let held = std::mem::take(&mut self.tap.held);
            self.tap.record(SENT, held.len(), &[&held], now());
            self.tap.held = held;
        }
        sent
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        let before = batch.len();
        let received = self.inner.receive(batch);
        if batch.len() > before {
            let time = now();
            for packet in &batch[before..] {
                self.tap.record(RECEIVED, packet.len(), &self.inner.fragments(packet), time);
            }
        }
        received
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        self.inner.bulk_ref()?;
        Some(self)
    }

    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        self.inner.bulk_ref()?;
        Some(self)
    }
}

impl BulkLayer for Tapped<'_> {
    fn lane(&self) -> Option<&dyn BulkPort> {
        self.inner.bulk_ref()
    }

    fn lane_mut(&mut self) -> Option<&mut dyn BulkPort> {
        self.inner.bulk()
    }

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        let sent = self.inner.bulk().is_some_and(|lane| lane.submit(encap, header, source, at, len));
        if sent {
            let mut headers = [0; MAX_ENCAP_LEN + BULK_HEADER_LEN];
            let (encap_len, head) = (encap.len(), encap.len() + header.len());
            encap.write(&mut headers, header.len() + len);
            headers[encap_len..head].copy_from_slice(header);
            // The source is kept, and nobody writes it.
            self.tap.record_bulk(SENT, &headers[..head], len, |held, wanted| {
                source.for_each(at, wanted, |bytes| held.extend_from_slice(bytes));
            });
        }
        sent
    }

    fn is_watched(&self) -> bool {
        true
    }

    fn show(&mut self, headers: &[u8], target: &DirectTarget, at: usize, len: usize) {
        self.tap.record_bulk(REBUILT, headers, len, |held, wanted| {
            target.for_each(at, wanted, |bytes| held.extend_from_slice(bytes));
        });
    }
}

/// A port, with a tap before it or without.
pub enum Wire<'a> {
    /// Without: nobody listens.
    Plain(&'a mut dyn Port),
    /// With.
    Tapped(Tapped<'a>),
}

impl<'a> Wire<'a> {
    /// Puts the tap before the port, if anybody listens.
    pub fn new(inner: &'a mut dyn Port, tap: &'a mut Tap) -> Wire<'a> {
        if tap.outlets.is_empty() {
            return Wire::Plain(inner);
        }
        tap.forget_finished();
        Wire::Tapped(Tapped { inner, tap })
    }

    /// What to send and receive with.
    pub fn port(&mut self) -> &mut dyn Port {
        match self {
            Wire::Plain(port) => &mut **port,
            Wire::Tapped(port) => port,
        }
    }
}

#[cfg(test)]
mod tests;
