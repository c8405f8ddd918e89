//! Kernel TCP with TCP_NODELAY: what a program without VMMC would use. At its lowest latency, both sides spinning on non-blocking
//! sockets, or as most programs use it, asleep in the kernel when there is nothing to do. In an incast it always sleeps.
//!
//! Each measurement has a connection of its own: making one takes next to no time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use super::offloads::Without;
use super::{End, Meter, Patience, Peer, PeerError, RoundTrips, SendMeter};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
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

    /// TCP copies always, so [`Bench::Bw`] says all there is to say.
    fn measures(&self, bench: Bench) -> bool {
        match bench {
            Bench::Lat | Bench::Bw | Bench::Rate => true,
            Bench::Loss => !self.blocks,
            Bench::Incast => !self.blocks && self.offloads,
            _ => false,
        }
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let offloads = self.prepare(session)?;
        let listener = match side {
            Side::Server => Some(listen(session)?),
            Side::Client => None,
        };
        let largest = specs.iter().map(|spec| spec.size).max().unwrap_or(0);
        let memory = vec![7; WORKING_SET.max(largest)];
        Ok(Box::new(TcpEnd { listener, blocks: self.blocks, memory, _offloads: offloads }))
    }

    fn incast(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let _offloads = self.prepare(session)?;
        match side {
            Side::Server => receive_from_all(spec, session),
            Side::Client => {
                let Connection { stream, .. } = Connection::to(session, true)?;
                session.start_together()?;
                send_ahead(&stream, spec)
            }
        }
    }
}

/// One end: of the server what connections come in by.
struct TcpEnd {
    listener: Option<TcpListener>,
    blocks: bool,
    memory: Vec<u8>,
    _offloads: Option<Without>,
}

impl TcpEnd {
    fn connection(&self, session: &Session) -> Result<Connection, PeerError> {
        match &self.listener {
            Some(listener) => Connection::from(listener, self.blocks),
            None => Connection::to(session, self.blocks),
        }
    }
}

impl End for TcpEnd {
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let mut connection = self.connection(session)?;
        let message = &mut self.memory[..spec.size];
        if self.listener.is_some() {
            // Until the client closes.
            while connection.receive_message(message)? {
                connection.send_message(message)?;
            }
            return Ok(Outcome::Nothing);
        }
        RoundTrips::new(spec).measure(|| {
            connection.send_message(message)?;
            if connection.receive_message(message)? {
                return Ok(());
            }
            Err("the server closed the connection".into())
        })
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let connection = self.connection(session)?;
        if self.listener.is_some() {
            receive_stream(connection, spec, &mut self.memory)
        } else {
            send_stream(connection, spec, &self.memory)
        }
    }
}

/// Listens, with an answer to whoever connects even before [`Connection::from`] does: the kernel gives it.
fn listen(session: &Session) -> Result<TcpListener, PeerError> {
    let listener = TcpListener::bind((session.local.address, 0))
        .map_err(|e| format!("listening on {}: {e}", session.local.address))?;
    session.ready(listener.local_addr()?.port())?;
    Ok(listener)
}

/// One connection, on which either every wait spins, or the kernel has it sleep.
struct Connection {
    stream: TcpStream,
    blocks: bool,
}

impl Connection {
    fn new(stream: TcpStream, blocks: bool) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(!blocks)?;
        stream.set_read_timeout(Some(Patience::LIMIT))?;
        stream.set_write_timeout(Some(Patience::LIMIT))?;
        Ok(Connection { stream, blocks })
    }

    /// The next connection of a client.
    fn from(listener: &TcpListener, blocks: bool) -> Result<Connection, PeerError> {
        listener.set_nonblocking(true)?;
        let mut patience = Patience::new("the client's connection");
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Connection::new(stream, blocks)?),
                Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
                Err(e) => return Err(format!("accepting a connection: {e}").into()),
            }
        }
    }

    /// A connection to the server.
    fn to(session: &Session, blocks: bool) -> Result<Connection, PeerError> {
        let port = session.hello.parse().map_err(|e| format!("the server's port number {:?}: {e}", session.hello))?;
        let address = SocketAddr::from((session.remote.address, port));
        let stream = TcpStream::connect_timeout(&address, Patience::LIMIT)
            .map_err(|e| format!("connecting to {address}: {e}"))?;
        Ok(Connection::new(stream, blocks)?)
    }

    /// After the kernel has said that there is nothing to do, or nothing was to do for as long as may be.
    #[inline]
    fn wait(&self, patience: &mut Patience) -> Result<(), PeerError> {
        if self.blocks { Err(patience.over()) } else { patience.spin() }
    }

    fn send_message(&mut self, message: &[u8]) -> Result<(), PeerError> {
        let mut sent = 0;
        let mut patience = Patience::new("room to send into a TCP connection");
        while sent < message.len() {
            match self.stream.write(&message[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(&mut patience)?,
                Err(e) => return Err(format!("sending over TCP: {e}").into()),
            }
        }
        Ok(())
    }

    /// False when the connection ended before the message began.
    fn receive_message(&mut self, message: &mut [u8]) -> Result<bool, PeerError> {
        let mut got = 0;
        let mut patience = Patience::new("a TCP message");
        while got < message.len() {
            match self.stream.read(&mut message[got..]) {
                Ok(0) => return Ok(false),
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(&mut patience)?,
                Err(e) => return Err(format!("receiving over TCP: {e}").into()),
            }
        }
        Ok(true)
    }
}

fn send_stream(mut connection: Connection, spec: &Spec, memory: &[u8]) -> Result<Outcome, PeerError> {
    let start = Instant::now();
    let mut messages = memory.chunks_exact(spec.size).cycle();
    while start.elapsed() < spec.duration() {
        // Never empty: the memory holds at least one message.
        if let Some(message) = messages.next() {
            connection.send_message(message)?;
        }
    }
    connection.stream.shutdown(Shutdown::Write)?;
    // The server closes when it has everything.
    connection.receive_message(&mut [0])?;
    Ok(Outcome::Nothing)
}

fn receive_stream(mut connection: Connection, spec: &Spec, memory: &mut [u8]) -> Result<Outcome, PeerError> {
    /// One `read` takes at most this much: as much as the kernel usually has, and no more than
    /// keeps the meter fine-grained.
    const READ: usize = 1 << 20;
    let mut meter = Meter::new(spec);
    let mut at = 0;
    let mut patience = Patience::new("a TCP stream to begin or go on");
    loop {
        let end = (at + READ).min(memory.len());
        match connection.stream.read(&mut memory[at..end]) {
            Ok(0) => return meter.outcome(),
            Ok(n) => {
                meter.add(n);
                at = if at + n == memory.len() { 0 } else { at + n };
                patience = Patience::new("a TCP stream to go on");
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => connection.wait(&mut patience)?,
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
