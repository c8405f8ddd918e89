//! Reading and writing: bytes from the ring to the program, and from the program into the peer's ring.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::lane::{Owned, Way};
use super::{Connection, Rx};
use crate::error::SocketError;
use crate::proto;
use crate::stack::Inner;
use crate::wait::{Cork, lock};

/// The most bytes that are copied while the leader has to wait.
const COPY: usize = 64 << 10;

/// Reading and writing. Nothing here blocks: `None` means that it would have to.
impl Connection {
    /// Moves what has come to `slices`: 0 bytes at the end.
    pub(crate) fn read(&self, inner: &Inner, slices: &mut [io::IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Ok(Some(0));
        }
        let (mut slices, mut at, mut done) = (slices.iter_mut(), 0, 0);
        let mut slice = slices.next();
        let mut expected = None;
        loop {
            let mut rx = lock(&self.rx);
            if rx.busy {
                rx.missed = true;
                return Ok((done > 0).then_some(done));
            }
            let start = rx.receiver.consumed();
            // Somebody else has read in between: what follows doesn't belong to what is here.
            let interrupted = expected.is_some_and(|expected| expected != start);
            let mut copied = 0;
            while !interrupted
                && copied < COPY
                && let Some(target) = &mut slice
                && let Some(piece) = rx.receiver.front()
            {
                let room = &mut target[at..];
                let len = room.len().min(piece.len).min(COPY);
                self.session.read(piece.offset, &mut room[..len]).map_err(crate::error::from_node)?;
                rx.receiver.consume(len);
                (at, copied) = (at + len, copied + len);
                while slice.as_ref().is_some_and(|slice| at == slice.len()) {
                    (slice, at) = (slices.next(), 0);
                }
            }
            done += copied;
            expected = Some(start + copied as u64);
            if copied < COPY || slice.is_none() {
                if done == 0 {
                    return self.nothing_to_read(&rx);
                }
                self.after_read(inner, rx);
                self.show();
                return Ok(Some(done));
            }
            self.after_read(inner, rx);
        }
    }

    /// What a read returns that finds nothing.
    pub(crate) fn nothing_to_read(&self, rx: &Rx) -> io::Result<Option<usize>> {
        if rx.receiver.at_end() || self.is_deaf() {
            return Ok(Some(0));
        }
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        // The first one is told why, later ones see the end: as with TCP.
        self.take_failure().map_or(Ok(Some(0)), |failure| Err(failure.into()))
    }

    /// Copies what has come.
    pub(crate) fn peek(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let mut rx = lock(&self.rx);
        if rx.busy {
            rx.missed = true;
            return Ok(None);
        }
        let mut done = 0;
        for piece in rx.receiver.pieces() {
            let len = piece.len.min(bytes.len() - done);
            if len > 0 {
                let target = &mut bytes[done..done + len];
                self.session.read(piece.offset, target).map_err(crate::error::from_node)?;
                done += len;
            }
        }
        if done > 0 { Ok(Some(done)) } else { self.nothing_to_read(&rx) }
    }

    /// Writes as much as there is room for. With `delay` the last packet may wait for more. `owned` is where the bytes lie, if they can be sent from there.
    pub(crate) fn write(
        &self,
        inner: &Inner,
        bytes: &[u8],
        owned: Option<Owned<'_>>,
        delay: bool,
    ) -> io::Result<Option<usize>> {
        let mut tx = lock(&self.tx);
        if tx.sender.is_over() {
            let finished = tx.sender.progress().finish.is_some();
            drop(tx);
            return Err(match self.take_failure() {
                Some(failure) => failure.into(),
                None => {
                    self.broken.fetch_or(!finished, Ordering::SeqCst);
                    let why = "nothing can be written any more: the stream was shut down, or its other end is closed";
                    SocketError::Pipe(why).into()
                }
            });
        }
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let Some(target) = tx.target else { return Ok(None) };
        let tag = proto::Tag::data(target).to_u32();
        let mut done = 0;
        while let Some(piece) = tx.sender.next(bytes.len() - done) {
            let rest = &bytes[done..];
            let owned = owned.map(|(source, at)| (source, at + done));
            let sent = match self.write_by_lane(inner, &mut tx, rest, owned, tag) {
                Ok(Way::Packets) => {
                    let Some((import, offset)) = self.session.outgoing(piece.offset) else { break };
                    let mut send = import.try_send(&rest[..piece.len], offset).notify(tag);
                    if delay || Cork::is_in() {
                        send = send.queued();
                    }
                    send.now().map(|sent| {
                        tx.last = sent.ticket.or(tx.last);
                        self.wrote_packets(&mut tx, sent.bytes);
                        sent.bytes
                    })
                }
                Ok(Way::Lane(sent)) => Ok(sent),
                Ok(Way::Wait) => Ok(0),
                Err(error) => Err(error),
            };
            let sent = match sent {
                Ok(sent) => sent,
                // The session is over, and the streams are about to be told.
                Err(_) if done > 0 => break,
                Err(error) => return Err(crate::error::from_node(error)),
            };
            tx.sender.wrote(sent);
            done += sent;
            if sent > 0 {
                if std::mem::take(&mut tx.stuck) {
                    // Perhaps nobody tells of the room that there was.
                    self.session.unstick(self.index);
                }
                continue;
            }
            tx.stuck = true;
            // There may have been room again before the stream was on the list.
            if !self.session.is_stuck(self.index) {
                break;
            }
        }
        drop(tx);
        if done == 0 {
            self.show();
        }
        Ok((done > 0).then_some(done))
    }

    /// Reads that find nothing return the end from now on.
    pub(crate) fn deafen(&self, inner: &Inner) {
        self.deaf.store(true, Ordering::SeqCst);
        let mut tasks = Vec::new();
        self.readers.wake(&inner.waiting, &mut tasks);
        self.show();
        inner.nudge();
        tasks.into_iter().for_each(Waker::wake);
    }
}
