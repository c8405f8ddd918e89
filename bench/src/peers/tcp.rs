//! Kernel TCP with TCP_NODELAY: what a program without VMMC would use. At its lowest latency, both sides spinning on non-blocking
//! sockets, or as most programs use it, asleep in the kernel when there is nothing to do. In an incast it always sleeps.
//!
//! Each measurement has a connection of its own: making one takes next to no time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::offloads::Without;
use super::streams::kernel::Kernel;
use super::streams::{self, StreamEnd, Transport, idle};
use super::{End, Peer, PeerError, SendMeter};
use crate::spec::{Bench, Outcome, Side, Spec};
use crate::worker::Session;

/// The peer: spinning or asleep, with the offloads that its interface has, or with packets as a wire carries them.
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) blocks: bool,
    pub(crate) offloads: bool,
}

impl Tcp {
    fn prepare(self, session: &Session) -> Result<Option<Without>, PeerError> {
        if self.offloads { Ok(None) } else { Without::on(&session.local.interface).map(Some) }
    }
}

impl Peer for Tcp {
    fn name(&self) -> &'static str {
        match (self.blocks, self.offloads) {
            (false, true) => "tcp",
            (false, false) => "tcp-nooff",
            (true, true) => "tcp-block",
            (true, false) => "tcp-block-nooff",
        }
    }

    /// TCP copies always, so [`Bench::Bw`] says all there is to say. A request is too small for offloads to matter.
    fn measures(&self, bench: Bench) -> bool {
        match bench {
            Bench::Lat | Bench::Bw | Bench::Rate => true,
            Bench::Rr | Bench::RrPlain | Bench::Connect => self.offloads,
            Bench::IdleStreams => self.blocks && self.offloads,
            Bench::Loss => !self.blocks,
            Bench::Incast => !self.blocks && self.offloads,
            _ => false,
        }
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        streams::refuses(spec, self.blocks)
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let offloads = self.prepare(session)?;
        let end = StreamEnd::open(Kernel { blocks: self.blocks }, side, specs, session)?;
        Ok(Box::new(TcpEnd { end, _offloads: offloads }))
    }

    fn incast(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let _offloads = self.prepare(session)?;
        let kernel = Kernel { blocks: true };
        match side {
            Side::Server => receive_from_all(kernel, spec, session),
            Side::Client => {
                let stream = kernel.connect(session)?;
                session.start_together()?;
                send_ahead(&stream.into_inner(), spec)
            }
        }
    }

    fn idle_streams(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        idle::measure(&Kernel { blocks: self.blocks }, side, spec, session)
    }
}

/// One end, and the interface's offloads as they have to be meanwhile.
struct TcpEnd {
    end: StreamEnd<Kernel>,
    _offloads: Option<Without>,
}

impl End for TcpEnd {
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        self.end.latency(spec, session)
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        self.end.stream(spec, session)
    }

    fn requests(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        self.end.requests(spec, session)
    }

    fn connects(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        self.end.connects(spec, session)
    }
}

/// A thread for each sender, which answers every message with a byte.
fn receive_from_all(kernel: Kernel, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let listener = kernel.listen(session)?;
    let answer = |mut stream: TcpStream| -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut memory = vec![0; spec.size * SendMeter::AHEAD];
        for place in (0..SendMeter::AHEAD).cycle() {
            match stream.read_exact(&mut memory[place * spec.size..][..spec.size]) {
                Ok(()) => stream.write_all(&[1])?,
                // The sender is done.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..spec.count {
            let (stream, _) = listener.accept().map_err(|e| format!("accepting a connection: {e}"))?;
            threads.push(scope.spawn(|| answer(stream)));
        }
        for thread in threads {
            let result = thread.join().map_err(|_| "a thread that receives has panicked")?;
            result.map_err(|e| format!("receiving over TCP: {e}"))?;
        }
        Ok(Outcome::Nothing)
    })
}

fn send_ahead(mut stream: &TcpStream, spec: &Spec) -> Result<Outcome, PeerError> {
    let memory = vec![7; spec.size * SendMeter::AHEAD];
    let mut meter = SendMeter::start(spec);
    let mut pending = VecDeque::new();
    for message in memory.chunks_exact(spec.size).cycle() {
        if meter.is_over() {
            break;
        }
        let begun = Instant::now();
        stream.write_all(message).map_err(|e| format!("sending over TCP: {e}"))?;
        pending.push_back(begun);
        if pending.len() == SendMeter::AHEAD {
            stream.read_exact(&mut [0]).map_err(|e| format!("waiting for an answer over TCP: {e}"))?;
            meter.add(pending.pop_front().unwrap_or(begun), spec.size);
        }
    }
    for begun in pending {
        stream.read_exact(&mut [0]).map_err(|e| format!("waiting for the last answers over TCP: {e}"))?;
        meter.add(begun, spec.size);
    }
    Ok(meter.outcome())
}
