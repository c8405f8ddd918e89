//! Kernel TCP, at its lowest latency: non-blocking sockets, TCP_NODELAY, both sides spinning in `read`
//! and `write`. What a program without VMMC would use. In an incast the sockets block instead.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use super::offloads::Without;
use super::{Meter, Patience, Peer, PeerError, RoundTrips, SendMeter};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// The peer: with the offloads that its interface has, or with packets as a wire carries them.
pub(crate) struct Tcp {
    pub(crate) offloads: bool,
}

impl Tcp {
    fn prepare(&self, session: &Session) -> Result<Option<Without>, PeerError> {
        if self.offloads { Ok(None) } else { Without::on(&session.local.interface).map(Some) }
    }
}

impl Peer for Tcp {
    fn name(&self) -> &'static str {
        if self.offloads { "tcp" } else { "tcp-nooff" }
    }

    /// TCP copies always, so [`Bench::Bw`] says all there is to say.
    fn measures(&self, bench: Bench) -> bool {
        match bench {
            Bench::Bw | Bench::Loss => true,
            Bench::Lat | Bench::Rate | Bench::Incast => self.offloads,
            _ => false,
        }
    }

    fn latency(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let _offloads = self.prepare(session)?;
        let mut message = vec![7; spec.size];
        match side {
            Side::Server => {
                let mut stream = accept(session)?;
                while receive_message(&mut stream, &mut message, || session.stopped())? {
                    send_message(&mut stream, &message)?;
                }
                Ok(Outcome::Nothing)
            }
            Side::Client => {
                let mut stream = connect(session)?;
                RoundTrips::new(spec).measure(|| {
                    send_message(&mut stream, &message)?;
                    if receive_message(&mut stream, &mut message, || false)? {
                        return Ok(());
                    }
                    Err("the server closed the connection".into())
                })
            }
        }
    }

    fn stream(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let _offloads = self.prepare(session)?;
        let mut memory = vec![7; WORKING_SET.max(spec.size)];
        match side {
            Side::Server => receive_stream(&mut accept(session)?, spec, &mut memory),
            Side::Client => send_stream(&mut connect(session)?, spec, &memory),
        }
    }

    fn incast(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let _offloads = self.prepare(session)?;
        match side {
            Side::Server => receive_from_all(spec, session),
            Side::Client => {
                let stream = connect(session)?;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(Patience::LIMIT))?;
                stream.set_write_timeout(Some(Patience::LIMIT))?;
                session.start_together()?;
                send_ahead(&stream, spec)
            }
        }
    }
}

fn listen(session: &Session) -> Result<TcpListener, PeerError> {
    let listener = TcpListener::bind((session.local.address, 0))
        .map_err(|e| format!("listening on {}: {e}", session.local.address))?;
    session.ready(listener.local_addr()?.port())?;
    Ok(listener)
}

fn accept(session: &Session) -> Result<TcpStream, PeerError> {
    let listener = listen(session)?;
    listener.set_nonblocking(true)?;
    let mut patience = Patience::new("the client's connection");
    loop {
        match listener.accept() {
            Ok((stream, _)) => return spinning(stream),
            Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
            Err(e) => return Err(format!("accepting a connection: {e}").into()),
        }
    }
}

fn connect(session: &Session) -> Result<TcpStream, PeerError> {
    let port = session.hello.parse().map_err(|e| format!("the server's port number {:?}: {e}", session.hello))?;
    let address = SocketAddr::from((session.remote.address, port));
    let stream =
        TcpStream::connect_timeout(&address, Patience::LIMIT).map_err(|e| format!("connecting to {address}: {e}"))?;
    spinning(stream)
}

fn spinning(stream: TcpStream) -> Result<TcpStream, PeerError> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn send_message(stream: &mut TcpStream, message: &[u8]) -> Result<(), PeerError> {
    let mut sent = 0;
    let mut patience = Patience::new("room to send into a TCP connection");
    while sent < message.len() {
        match stream.write(&message[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
            Err(e) => return Err(format!("sending over TCP: {e}").into()),
        }
    }
    Ok(())
}

/// False when the connection ended, or `stopped` said so, before the message began.
fn receive_message(stream: &mut TcpStream, message: &mut [u8], stopped: impl Fn() -> bool) -> Result<bool, PeerError> {
    let mut got = 0;
    let mut patience = Patience::new("a TCP message");
    while got < message.len() {
        match stream.read(&mut message[got..]) {
            Ok(0) => return Ok(false),
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock && stopped() => return Ok(false),
            Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
            Err(e) => return Err(format!("receiving over TCP: {e}").into()),
        }
    }
    Ok(true)
}

fn send_stream(stream: &mut TcpStream, spec: &Spec, memory: &[u8]) -> Result<Outcome, PeerError> {
    let start = Instant::now();
    let mut messages = memory.chunks_exact(spec.size).cycle();
    while start.elapsed() < spec.duration() {
        // Never empty: the memory holds at least one message.
        if let Some(message) = messages.next() {
            send_message(stream, message)?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    // The server closes when it has everything.
    receive_message(stream, &mut [0], || false)?;
    Ok(Outcome::Nothing)
}

fn receive_stream(stream: &mut TcpStream, spec: &Spec, memory: &mut [u8]) -> Result<Outcome, PeerError> {
    /// One `read` takes at most this much: as much as the kernel usually has, and no more than
    /// keeps the meter fine-grained.
    const READ: usize = 1 << 20;
    let mut meter = Meter::new(spec);
    let mut at = 0;
    let mut patience = Patience::new("a TCP stream to begin or go on");
    loop {
        let end = (at + READ).min(memory.len());
        match stream.read(&mut memory[at..end]) {
            Ok(0) => return meter.outcome(),
            Ok(n) => {
                meter.add(n);
                at = if at + n == memory.len() { 0 } else { at + n };
                patience = Patience::new("a TCP stream to go on");
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
            Err(e) => return Err(format!("receiving over TCP: {e}").into()),
        }
    }
}

/// A thread for each sender, which answers every message with a byte.
fn receive_from_all(spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let listener = listen(session)?;
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
