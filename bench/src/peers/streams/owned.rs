//! A stream between programs that copy nothing: the writer's messages lie in buffers that it gives away and gets back, and the reader looks at what has come where it lies.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Instant;

use vmmc::memory::Arena;
use vmmc_sockets::{VmmcListener, VmmcStream, Writing};

use super::Transport;
use super::stack::{OnStack, StackStream};
use crate::peers::{End, Meter, Patience, PeerError};
use crate::spec::{Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// How many buffers there are: as much memory as every other peer walks through, and at least two, so that one is on its way while another comes back.
fn how_many(spec: &Spec) -> usize {
    (WORKING_SET / spec.size).max(2)
}

/// How much of an arena they take, bytes.
pub(crate) fn buffers(spec: &Spec) -> usize {
    how_many(spec) * Arena::footprint(spec.size)
}

/// One end.
pub(crate) struct OwnedEnd {
    stack: OnStack,
    listener: Option<VmmcListener>,
}

impl OwnedEnd {
    pub(crate) fn open(stack: OnStack, side: Side, session: &Session) -> Result<OwnedEnd, PeerError> {
        let listener = match side {
            Side::Server => Some(stack.listen(session)?),
            Side::Client => None,
        };
        Ok(OwnedEnd { stack, listener })
    }
}

impl End for OwnedEnd {
    fn latency(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        Err(format!("buffers that are given away have no {}", spec.bench).into())
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match &self.listener {
            Some(listener) => receive(self.stack.accept(listener)?.as_ref(), spec),
            None => {
                send(self.stack.connect(session)?.as_ref(), spec)?;
                Ok(Outcome::Nothing)
            }
        }
    }
}

impl AsRef<VmmcStream> for StackStream {
    fn as_ref(&self) -> &VmmcStream {
        &self.0
    }
}

fn send(stream: &VmmcStream, spec: &Spec) -> Result<(), PeerError> {
    let mut buffers = Vec::new();
    for _ in 0..how_many(spec) {
        let mut buffer = stream.stack().node().alloc_direct(spec.size)?;
        buffer.fill(7);
        buffers.push(buffer);
    }
    let mut away = VecDeque::new();
    let start = Instant::now();
    while start.elapsed() < spec.duration() {
        let buffer = match buffers.pop() {
            Some(buffer) => buffer,
            None => match away.pop_front() {
                Some(writing) => Writing::wait(writing)?,
                None => return Err("there are no buffers".into()),
            },
        };
        away.push_back(stream.start_write_owned(buffer)?);
    }
    for writing in away {
        writing.wait()?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The server closes when it has everything.
    let _ = stream.read_loaned()?;
    Ok(())
}

fn receive(stream: &VmmcStream, spec: &Spec) -> Result<Outcome, PeerError> {
    let mut meter = Meter::new(spec);
    loop {
        let loan = stream.read_loaned().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Patience::new("bytes from a VMMC stream").over(),
            _ => format!("receiving over a VMMC stream: {error}").into(),
        })?;
        if loan.is_empty() {
            return meter.outcome();
        }
        meter.add(loan.len());
    }
}
