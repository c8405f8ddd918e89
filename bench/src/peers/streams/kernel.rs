//! Kernel TCP as a [`Transport`]: std's streams, and epoll for many at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::net::listen;
use vmmc_sockets::Ready;

use super::{Poll, Stream, Transport};
use crate::peers::{Patience, PeerError};
use crate::worker::Session;

/// Kernel TCP with TCP_NODELAY: either every wait spins, or the kernel has it sleep.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) blocks: bool,
}

/// As many connections may wait to be accepted as the kernel allows by default: of a thousand that come at once none is to be lost.
const BACKLOG: i32 = 4096;

impl Transport for Kernel {
    type Stream = KernelStream;
    type Listener = TcpListener;
    type Poll = Epoll;

    /// Whoever connects is answered even before [`accept`](Transport::accept) is called: by the kernel.
    fn listen(&self, session: &Session) -> Result<TcpListener, PeerError> {
        let address = session.local.address;
        let error = |e: io::Error| format!("listening on {address}: {e}");
        let listener = TcpListener::bind((address, 0)).map_err(error)?;
        listen(&listener, BACKLOG).map_err(|e| error(e.into()))?;
        session.ready(listener.local_addr()?.port())?;
        Ok(listener)
    }

    fn accept(&self, listener: &TcpListener) -> Result<KernelStream, PeerError> {
        let mut patience = Patience::new("the client's connection");
        listener.set_nonblocking(!self.blocks)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(KernelStream::new(stream, self.blocks)?),
                Err(e) if e.kind() == ErrorKind::WouldBlock => patience.spin()?,
                Err(e) => return Err(format!("accepting a TCP connection: {e}").into()),
            }
        }
    }

    fn connect(&self, session: &Session) -> Result<KernelStream, PeerError> {
        let address = session.served_at()?;
        let stream = TcpStream::connect_timeout(&address, Patience::LIMIT)
            .map_err(|e| format!("connecting to {address} over TCP: {e}"))?;
        Ok(KernelStream::new(stream, self.blocks)?)
    }

    fn poll(&self) -> Result<Epoll, PeerError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("making an epoll instance: {e}"))?;
        Ok(Epoll { epoll, blocks: self.blocks, events: Vec::with_capacity(Epoll::AT_ONCE) })
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

/// One end of a TCP connection.
pub(crate) struct KernelStream {
    stream: TcpStream,
    blocks: bool,
}

impl KernelStream {
    fn new(stream: TcpStream, blocks: bool) -> io::Result<KernelStream> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(!blocks)?;
        if blocks {
            stream.set_read_timeout(Some(Patience::LIMIT))?;
            stream.set_write_timeout(Some(Patience::LIMIT))?;
        }
        Ok(KernelStream { stream, blocks })
    }

    /// std's stream.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// After the kernel has said that there is nothing to do, or nothing was to do for as long as may be.
    #[inline]
    fn wait(&self, patience: &mut Patience) -> Result<(), PeerError> {
        if self.blocks { Err(patience.over()) } else { patience.spin() }
    }
}

impl Stream for KernelStream {
    fn receive(&mut self, room: &mut [u8]) -> Result<usize, PeerError> {
        let mut patience = Patience::new("bytes from a TCP connection");
        loop {
            match self.stream.read(room) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(&mut patience)?,
                Err(e) => return Err(format!("receiving over TCP: {e}").into()),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize, PeerError> {
        let mut patience = Patience::new("room to send into a TCP connection");
        loop {
            match self.stream.write(bytes) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(&mut patience)?,
                Err(e) => return Err(format!("sending over TCP: {e}").into()),
            }
        }
    }

    fn end(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn stop_waiting(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    fn try_receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.read(room)
    }

    fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }
}

/// Waits for many TCP connections, level-triggered.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    blocks: bool,
    events: Vec<epoll::Event>,
}

impl Epoll {
    /// How many connections one call may tell of.
    const AT_ONCE: usize = 1024;

    /// How long one call sleeps at most.
    const NAP: Duration = Duration::from_secs(1);
}

impl Poll<KernelStream> for Epoll {
    fn add(&mut self, stream: &KernelStream, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, &stream.stream, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    fn watch_room(&mut self, stream: &KernelStream, token: u64, watch: bool) -> io::Result<()> {
        let room = if watch { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let flags = epoll::EventFlags::IN | room;
        Ok(epoll::modify(&self.epoll, &stream.stream, epoll::EventData::new_u64(token), flags)?)
    }

    fn remove(&mut self, stream: &KernelStream) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, &stream.stream)?)
    }

    fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<(), PeerError> {
        let nap = if self.blocks { Self::NAP } else { Duration::ZERO };
        let nap = Timespec { tv_sec: nap.as_secs() as i64, tv_nsec: 0 };
        let mut patience = Patience::new("any of the TCP connections");
        let begin = self.blocks.then(Instant::now);
        loop {
            self.events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&nap)) {
                Ok(_) => {}
                Err(e) if e == rustix::io::Errno::INTR => {}
                Err(e) => return Err(format!("waiting by epoll: {e}").into()),
            }
            if !self.events.is_empty() {
                break;
            }
            match begin {
                None => patience.spin()?,
                Some(begin) if begin.elapsed() < Patience::LIMIT => {}
                Some(_) => return Err(patience.over()),
            }
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            // An error or the end is something to read.
            let writable = flags.contains(epoll::EventFlags::OUT);
            Ready { token: data.u64(), readable: !(flags - epoll::EventFlags::OUT).is_empty(), writable }
        }));
        Ok(())
    }
}
