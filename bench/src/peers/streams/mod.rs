//! What kernel TCP and VMMC's stream sockets do alike: a ping-pong, a one-way stream, requests and answers over many connections at once,
//! connections that are opened and closed, connections that are idle.
//!
//! ```text
//!   StreamEnd ── latency, stream: here      requests      connects      idle: a measurement of its own
//!       │
//!   Transport, Stream, Poll ──── kernel (TCP, epoll)      stack (VmmcStream, Poller)
//! ```
//!
//! Both run the same code, and so do a peer that spins and one that sleeps: they differ in how a [`Stream`] and a [`Poll`] wait.

pub(crate) mod connects;
pub(crate) mod idle;
pub(crate) mod kernel;
mod memory;
pub(crate) mod owned;
mod requests;
pub(crate) mod stack;

use std::io;
use std::time::{Duration, Instant};

use vmmc_sockets::Ready;

use super::{End, Meter, PeerError, RoundTrips, processor_time};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// A way to make connections.
pub(crate) trait Transport: Sync {
    type Stream: Stream;
    type Listener;
    type Poll: Poll<Self::Stream>;

    /// Listens at a port that the session's client will be told.
    fn listen(&self, session: &Session) -> Result<Self::Listener, PeerError>;

    /// The next connection of a client.
    fn accept(&self, listener: &Self::Listener) -> Result<Self::Stream, PeerError>;

    /// A connection to the session's server.
    fn connect(&self, session: &Session) -> Result<Self::Stream, PeerError>;

    /// Something to wait for many connections with.
    fn poll(&self) -> Result<Self::Poll, PeerError>;

    /// Whether those sleep who wait. Then it is worth knowing what processor time they use.
    fn blocks(&self) -> bool;
}

/// Why a transport whose waits sleep, or don't, isn't measured so.
pub(crate) fn refuses(spec: &Spec, blocks: bool) -> Option<String> {
    let crowd = spec.bench == Bench::Connect && spec.count > 1 && !blocks;
    crowd.then(|| format!("{} threads that spin on one core would show how the scheduler works", spec.count))
}

/// One end of a connection, which doesn't hold small writes back. All waits end in an error after
/// [`Patience::LIMIT`](super::Patience::LIMIT).
pub(crate) trait Stream: Send {
    /// Waits for bytes, and says how many came: 0 when the other side has ended its stream.
    fn receive(&mut self, room: &mut [u8]) -> Result<usize, PeerError>;

    /// Waits for room, and says how many bytes found some.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, PeerError>;

    /// Ends this side's stream.
    fn end(&self) -> io::Result<()>;

    /// To be called before [`try_receive`](Stream::try_receive) and [`try_send`](Stream::try_send), and after all other calls.
    fn stop_waiting(&mut self) -> io::Result<()>;

    /// As [`receive`](Stream::receive), but where that would wait it is `WouldBlock`.
    fn try_receive(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// As [`send`](Stream::send), but where that would wait it is `WouldBlock`.
    fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Waits for a whole message. False when the stream ended before the message began or was complete.
    fn receive_all(&mut self, message: &mut [u8]) -> Result<bool, PeerError> {
        let mut got = 0;
        while got < message.len() {
            match self.receive(&mut message[got..])? {
                0 => return Ok(false),
                n => got += n,
            }
        }
        Ok(true)
    }

    /// Waits until a whole message has found room.
    fn send_all(&mut self, message: &[u8]) -> Result<(), PeerError> {
        let mut sent = 0;
        while sent < message.len() {
            sent += self.send(&message[sent..])?;
        }
        Ok(())
    }
}

/// Waits for many connections at once. What is ready is told by every wait until it isn't any more.
pub(crate) trait Poll<S> {
    /// Begins to watch whether there is something to read.
    fn add(&mut self, stream: &S, token: u64) -> io::Result<()>;

    /// Begins or ceases to watch whether there is room to write, too.
    fn watch_room(&mut self, stream: &S, token: u64, watch: bool) -> io::Result<()>;

    /// Ceases to watch.
    fn remove(&mut self, stream: &S) -> io::Result<()>;

    /// Waits until something is ready, and puts all that is in the place of what `ready` holds.
    fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<(), PeerError>;
}

/// That the server ended a connection on which the client waits for an answer.
const CLOSED: &str = "the server closed the connection";

/// One end: of the server what connections come in by.
pub(crate) struct StreamEnd<T: Transport> {
    transport: T,
    listener: Option<T::Listener>,
    memory: Vec<u8>,
}

impl<T: Transport> StreamEnd<T> {
    pub(crate) fn open(transport: T, side: Side, specs: &[Spec], session: &Session) -> Result<Self, PeerError> {
        let listener = match side {
            Side::Server => Some(transport.listen(session)?),
            Side::Client => None,
        };
        let largest = specs.iter().map(|spec| spec.size).max().unwrap_or(0);
        let memory = vec![7; WORKING_SET.max(largest)];
        Ok(StreamEnd { transport, listener, memory })
    }

    fn connection(&self, session: &Session) -> Result<T::Stream, PeerError> {
        match &self.listener {
            Some(listener) => self.transport.accept(listener),
            None => self.transport.connect(session),
        }
    }

    /// An outcome, with the processor time since `before` if somebody slept.
    fn with_cpu(&self, outcome: Outcome, before: Duration, work: u64) -> Outcome {
        if self.transport.blocks() { outcome.used(processor_time() - before, work) } else { outcome }
    }
}

impl<T: Transport> End for StreamEnd<T> {
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let mut connection = self.connection(session)?;
        let before = processor_time();
        let message = &mut self.memory[..spec.size];
        if self.listener.is_some() {
            // Until the client closes.
            while connection.receive_all(message)? {
                connection.send_all(message)?;
            }
            return Ok(self.with_cpu(Outcome::Nothing, before, 0));
        }
        let mut trips = 0;
        let outcome = RoundTrips::new(spec).measure(|| {
            trips += 1;
            connection.send_all(message)?;
            if connection.receive_all(message)? { Ok(()) } else { Err(CLOSED.into()) }
        })?;
        Ok(self.with_cpu(outcome, before, trips))
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let connection = self.connection(session)?;
        let before = processor_time();
        let (outcome, bytes) = if self.listener.is_some() {
            receive_stream(connection, spec, &mut self.memory)?
        } else {
            send_stream(connection, spec, &self.memory)?;
            (Outcome::Nothing, 0)
        };
        Ok(self.with_cpu(outcome, before, bytes))
    }

    fn requests(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match (&self.listener, spec.bench) {
            (Some(listener), Bench::RrPlain) => requests::answer_one(&self.transport, listener, spec),
            (Some(listener), _) => requests::answer_all(&self.transport, listener, spec),
            (None, Bench::RrPlain) => requests::ask_one(&self.transport, spec, session),
            (None, _) => requests::ask_all(&self.transport, spec, session),
        }
    }

    fn connects(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match &self.listener {
            Some(listener) => connects::serve(&self.transport, listener),
            None => connects::measure(&self.transport, spec, session),
        }
    }
}

fn send_stream(mut connection: impl Stream, spec: &Spec, memory: &[u8]) -> Result<(), PeerError> {
    let start = Instant::now();
    let mut messages = memory.chunks_exact(spec.size).cycle();
    while start.elapsed() < spec.duration() {
        // Never empty: the memory holds at least one message.
        if let Some(message) = messages.next() {
            connection.send_all(message)?;
        }
    }
    connection.end()?;
    // The server closes when it has everything.
    connection.receive(&mut [0])?;
    Ok(())
}

/// What arrives, and how many bytes that were in all.
fn receive_stream(mut connection: impl Stream, spec: &Spec, memory: &mut [u8]) -> Result<(Outcome, u64), PeerError> {
    /// One read takes at most this much: enough that calls don't count, and no more than keeps the meter fine-grained.
    const READ: usize = 256 << 10;
    let mut meter = Meter::new(spec);
    let (mut at, mut bytes) = (0, 0);
    loop {
        let end = (at + READ).min(memory.len());
        match connection.receive(&mut memory[at..end])? {
            0 => return Ok((meter.outcome()?, bytes)),
            n => {
                meter.add(n);
                bytes += n as u64;
                at = if at + n == memory.len() { 0 } else { at + n };
            }
        }
    }
}

/// Allows this process as many descriptors as it may have: a thousand connections are more than is usual.
pub(super) fn raise_descriptor_limit() -> Result<(), PeerError> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })
        .map_err(|e| format!("raising the limit of open files to {:?}: {e}", limit.maximum))?;
    Ok(())
}
