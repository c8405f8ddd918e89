//! The floor: AF_XDP alone. Packets of the same shape as VMMC's, through the same sockets and the same
//! steering program, with no protocol on top: no acknowledgement, no sequence, no check. A protocol can
//! approach these figures, not pass them, so all others are given as ratios to them.

mod frame;
mod gather;
mod port;

use std::time::Instant;

pub(crate) use self::frame::full_payload;
use self::frame::{HEADERS, headers};
pub(crate) use self::gather::Gather;
use self::port::{Payload, Port};
use super::{End, Meter, Patience, Peer, PeerError, RoundTrips};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// The peer.
pub(crate) struct Floor;

impl Peer for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    /// It has no answer to a lost packet, nor to a second sender.
    fn measures(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Lat | Bench::Bw | Bench::BwCopy | Bench::Rate)
    }

    /// A message of a ping-pong must lie in the receiver's ring as a whole, for nobody sends again what finds no room.
    fn refuses(&self, spec: &Spec) -> Option<String> {
        let packets = spec.size.div_ceil(full_payload(spec.mtu));
        let frames = packets * port::frames_of(full_payload(spec.mtu).min(spec.size));
        (spec.bench == Bench::Lat && frames > port::RX_FRAMES).then(|| {
            format!("a message of {} bytes takes {frames} frames, and its ring has {}", spec.size, port::RX_FRAMES)
        })
    }

    fn open(&self, side: Side, _: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let port = Port::open(&session.local, port::steer(&session.local)?)?;
        if side == Side::Server {
            session.ready("")?;
        }
        Ok(Box::new(FloorEnd { side, port }))
    }
}

/// One end: its socket.
struct FloorEnd {
    side: Side,
    port: Port,
}

impl End for FloorEnd {
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let port = &mut self.port;
        let message = Message::new(spec, session);
        match self.side {
            Side::Server => {
                while receive_message(port, spec.size, || session.stopped())? {
                    message.send(port, None)?;
                    port.flush()?;
                }
                Ok(Outcome::Nothing)
            }
            Side::Client => RoundTrips::new(spec).measure(|| {
                message.send(port, None)?;
                port.flush()?;
                receive_message(port, spec.size, || false).map(|_| ())
            }),
        }
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match self.side {
            Side::Server => receive_stream(&mut self.port, spec, session),
            Side::Client => send_stream(&mut self.port, spec, session),
        }
    }
}

/// A message cut into packets as large as the MTU allows, the last one as small as it may be.
struct Message {
    whole: usize,
    room: usize,
    rest: usize,
    whole_headers: [u8; HEADERS],
    rest_headers: [u8; HEADERS],
}

impl Message {
    fn new(spec: &Spec, session: &Session) -> Self {
        let room = full_payload(spec.mtu);
        let rest = spec.size % room;
        Self {
            whole: spec.size / room,
            room,
            rest,
            whole_headers: headers(&session.local, &session.remote, room),
            rest_headers: headers(&session.local, &session.remote, rest),
        }
    }

    /// Queues the message's packets; their payload is copied from `memory` if there is any.
    #[inline]
    fn send(&self, port: &mut Port, memory: Option<&[u8]>) -> Result<(), PeerError> {
        let payload = |at: usize, len: usize| match memory {
            Some(memory) => Payload::Copied(&memory[at..at + len]),
            None => Payload::Untouched(len),
        };
        for packet in 0..self.whole {
            port.send(&self.whole_headers, payload(packet * self.room, self.room))?;
        }
        if self.rest > 0 {
            port.send(&self.rest_headers, payload(self.whole * self.room, self.rest))?;
        }
        Ok(())
    }
}

/// Waits for `size` bytes of payload. False when `stopped` said so before they came.
#[inline]
fn receive_message(port: &mut Port, size: usize, stopped: impl Fn() -> bool) -> Result<bool, PeerError> {
    let mut patience = Patience::new("a packet: it was lost, or the other side died");
    let mut got = 0;
    while got < size {
        let bytes = port.receive(|_| ())?;
        got += bytes;
        if bytes == 0 {
            if stopped() {
                return Ok(false);
            }
            patience.spin()?;
        }
    }
    Ok(true)
}

fn send_stream(port: &mut Port, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    /// Look at the clock no more often than every so many bytes or messages.
    const BETWEEN_LOOKS: usize = 256 << 10;
    let message = Message::new(spec, session);
    let memory = (spec.bench == Bench::BwCopy).then(|| vec![7; WORKING_SET.max(spec.size)]);
    let messages = (BETWEEN_LOOKS / spec.size).clamp(1, 256);
    let mut at = 0;
    let start = Instant::now();
    while start.elapsed() < spec.duration() {
        for _ in 0..messages {
            if memory.as_ref().is_some_and(|m| at + spec.size > m.len()) {
                at = 0;
            }
            message.send(port, memory.as_ref().map(|m| &m[at..at + spec.size]))?;
            at += spec.size;
        }
    }
    port.drain()?;
    Ok(Outcome::Nothing)
}

fn receive_stream(port: &mut Port, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let mut memory = if spec.bench == Bench::BwCopy { vec![7; WORKING_SET] } else { Vec::new() };
    let mut at = 0;
    let mut meter = Meter::new(spec);
    loop {
        // Before looking for packets, so that those that came before the order to stop are still seen.
        let stopped = session.stopped();
        let bytes = if memory.is_empty() {
            port.receive(|_| ())?
        } else {
            port.receive(|payload| {
                if at + payload.len() > memory.len() {
                    at = 0;
                }
                memory[at..at + payload.len()].copy_from_slice(payload);
                at += payload.len();
            })?
        };
        if bytes > 0 {
            meter.add(bytes);
        } else if stopped {
            return meter.outcome();
        }
    }
}
