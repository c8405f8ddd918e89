//! VMMC's stream sockets as a [`Transport`]: blocking calls, and their own poller for many at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use vmmc::Bulk;
use vmmc::wire::MIN_MTU;
use vmmc_sockets::{Poller, Ready, Stack, VmmcListener, VmmcStream};

use super::{Poll, Stream, Transport};
use crate::peers::{Patience, PeerError};
use crate::spec::Spec;
use crate::worker::Session;

/// Memory of the bulk lane that streams take themselves, bytes.
const STREAMS: usize = 32 << 20;

/// A stack of one process: its waits spin, or they spin for a while and then sleep.
pub(crate) struct OnStack {
    stack: Stack,
    blocks: bool,
}

impl OnStack {
    /// Opens a stack on this host's interface. `owned` is how much memory its program takes to write from.
    pub(crate) fn open(
        spec: &Spec,
        session: &Session,
        blocks: bool,
        bulk: bool,
        owned: usize,
    ) -> Result<OnStack, PeerError> {
        let builder = Stack::builder().interface(&session.local.interface).address(session.local.address.into());
        let builder = if bulk { builder } else { builder.node(|node| node.bulk(Bulk::Never)) };
        let builder = match spec.bulk_from {
            Some(bytes) => builder.bulk_owned(bytes).bulk_writes(bytes).node(|node| node.bulk_mtu(MIN_MTU)),
            None => builder,
        };
        let builder = if owned > 0 { builder.bulk_memory(STREAMS + owned) } else { builder };
        let builder = if blocks { builder } else { builder.spin(Duration::MAX) };
        let stack = builder.open().map_err(|e| format!("opening a stack of stream sockets: {e}"))?;
        Ok(OnStack { stack, blocks })
    }
}

impl Transport for OnStack {
    type Stream = StackStream;
    type Listener = VmmcListener;
    type Poll = StackPoll;

    fn listen(&self, session: &Session) -> Result<VmmcListener, PeerError> {
        let address = SocketAddr::new(session.local.address.into(), 0);
        let listener = self.stack.bind(address).map_err(|e| format!("listening on {address} over VMMC: {e}"))?;
        session.ready(listener.local_addr()?.port())?;
        Ok(listener)
    }

    fn accept(&self, listener: &VmmcListener) -> Result<StackStream, PeerError> {
        let (stream, _) = listener.accept().map_err(|e| format!("accepting a VMMC stream: {e}"))?;
        Ok(StackStream::new(stream)?)
    }

    fn connect(&self, session: &Session) -> Result<StackStream, PeerError> {
        let address = session.served_at()?;
        let stream = self.stack.connect_timeout(address, Patience::LIMIT);
        let stream = stream.map_err(|e| format!("connecting to {address} over VMMC: {e}"))?;
        Ok(StackStream::new(stream)?)
    }

    fn poll(&self) -> Result<StackPoll, PeerError> {
        Ok(StackPoll { poller: Poller::new(&self.stack) })
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

/// One end of a VMMC stream.
pub(crate) struct StackStream(pub(super) VmmcStream);

impl StackStream {
    fn new(stream: VmmcStream) -> io::Result<StackStream> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Patience::LIMIT))?;
        stream.set_write_timeout(Some(Patience::LIMIT))?;
        Ok(StackStream(stream))
    }
}

/// What a call says that has waited for as long as it may.
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Stream for StackStream {
    fn receive(&mut self, room: &mut [u8]) -> Result<usize, PeerError> {
        self.0.read(room).map_err(|e| match is_over(&e) {
            true => Patience::new("bytes from a VMMC stream").over(),
            false => format!("receiving over a VMMC stream: {e}").into(),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize, PeerError> {
        self.0.write(bytes).map_err(|e| match is_over(&e) {
            true => Patience::new("room to send into a VMMC stream").over(),
            false => format!("sending over a VMMC stream: {e}").into(),
        })
    }

    fn end(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// The other calls never wait.
    fn stop_waiting(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn try_receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }

    fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
}

/// Waits for many VMMC streams.
pub(crate) struct StackPoll {
    poller: Poller,
}

impl Poll<StackStream> for StackPoll {
    fn add(&mut self, stream: &StackStream, token: u64) -> io::Result<()> {
        self.poller.add(&stream.0, token, false)
    }

    fn watch_room(&mut self, stream: &StackStream, token: u64, watch: bool) -> io::Result<()> {
        self.poller.add(&stream.0, token, watch)
    }

    fn remove(&mut self, stream: &StackStream) -> io::Result<()> {
        self.poller.remove(&stream.0);
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<(), PeerError> {
        let begin = Instant::now();
        ready.clear();
        loop {
            let left = Patience::LIMIT.saturating_sub(begin.elapsed());
            self.poller.wait(ready, Some(left)).map_err(|e| format!("waiting for VMMC streams: {e}"))?;
            if !ready.is_empty() {
                return Ok(());
            }
            if left.is_zero() {
                return Err(Patience::new("any of the VMMC streams").over());
            }
        }
    }
}
