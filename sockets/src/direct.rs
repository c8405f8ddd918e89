//! Reading without the copy from the ring: into the buffer of a reader that waits, and in place.
//!
//! A reader that finds nothing has to wait, and while it waits its buffer is posted as a redirect on the place in the ring where the next bytes belong. So they
//! go there when they come, and not by way of the ring. The peer knows nothing of it: for it they are in the ring, and have been read at once.
//!
//! A loan is the other way round: the bytes stay in the ring, and the program looks at them there. Until it is done with them they aren't read, and the peer has
//! no credit for their place; should it write there all the same, it is refused.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::task::Waker;

use vmmc::{Buffer, DirectSource, Loan, Ticket};

use crate::VmmcStream;
use crate::connection::Connection;
use crate::error::from_node;
use crate::stack::Inner;
use crate::wait::lock;

/// Shorter buffers, and streams with shorter rings, are better served by a copy.
pub(crate) const WORTH: usize = 16 << 10;
const BUSY_RING: u64 = 64 << 10;

impl Connection {
    /// Waits for data with `bytes`, of which there are [`WORTH`] or more, posted as a redirect, and returns how many bytes it got. `wait` waits until its argument yields something. `None` when nothing was read
    /// in this way, and it has to be seen why.
    pub(crate) fn read_directly<W>(&self, inner: &Inner, bytes: &mut [u8], wait: W) -> io::Result<Option<usize>>
    where
        W: FnOnce(&mut dyn FnMut() -> Option<()>) -> io::Result<()>,
    {
        let place = {
            let mut rx = lock(&self.rx);
            // What comes by the bulk lane lands in the ring by itself, and couldn't in memory that isn't the lane's.
            let wanted = !rx.busy && rx.receiver.ring_len() >= BUSY_RING && !rx.receiver.is_direct();
            let place = wanted.then(|| rx.receiver.expected_place(bytes.len())).flatten();
            rx.busy |= place.is_some();
            place
        };
        let Some(place) = place else { return Ok(None) };
        let (export, offset) = self.session.incoming(place.offset);
        let range = offset..offset + place.len as u64;
        let target = &mut bytes[..place.len];
        let outcome = export.redirect_scoped(range, target, |posted| {
            wait(&mut || (posted.received() > 0 || self.is_readable()).then_some(()))
        });
        let mut rx = lock(&self.rx);
        rx.busy = false;
        let missed = std::mem::take(&mut rx.missed);
        let (waited, received) = match outcome {
            Ok(outcome) => outcome,
            Err(_) => {
                // The session has just ended: an ordinary read tells what became of the stream.
                rx.receiver.consume_ahead(0);
                drop(rx);
                self.let_others_read(inner, missed);
                return Ok(None);
            }
        };
        // What had come before, and was just about to be announced, is in the ring: redirects don't look back here.
        let (mut done, mut result) = (0, Ok(()));
        for run in received.ranges() {
            let gap = &mut target[done..run.start as usize];
            if !gap.is_empty() {
                result = result.and(export.read(offset + done as u64, gap));
            }
            done = run.end as usize;
        }
        rx.receiver.consume_ahead(done);
        self.after_read(inner, rx);
        self.let_others_read(inner, missed);
        result.map_err(from_node)?;
        match waited {
            Err(error) if done == 0 => Err(error),
            _ => Ok((done > 0).then_some(done)),
        }
    }

    /// Lends the first piece of what has come: `None` when there is nothing, no loan when it is the end.
    fn lend(&self) -> io::Result<Option<Option<Loan>>> {
        let mut rx = lock(&self.rx);
        if rx.busy {
            rx.missed = true;
            return Ok(None);
        }
        let Some(piece) = rx.receiver.front() else {
            return Ok(self.nothing_to_read(&rx)?.map(|_| None));
        };
        let (export, offset) = self.session.incoming(piece.offset);
        let loan = export.lend(offset..offset + piece.len as u64).map_err(from_node)?;
        rx.busy = true;
        Ok(Some(Some(loan)))
    }

    /// The loan is over, and so many of its bytes have been read.
    fn settle(&self, inner: &Inner, read: usize) {
        let mut rx = lock(&self.rx);
        rx.busy = false;
        let missed = std::mem::take(&mut rx.missed);
        rx.receiver.consume(read);
        self.after_read(inner, rx);
        self.let_others_read(inner, missed);
    }

    /// What comes next is nobody's any more. `missed`: somebody has found it to be somebody's.
    fn let_others_read(&self, inner: &Inner, missed: bool) {
        let mut tasks = Vec::new();
        self.readers.wake(&inner.waiting, &mut tasks);
        self.show();
        if missed {
            // That may have been the leader, whom nobody wakes.
            inner.nudge();
        }
        tasks.into_iter().for_each(Waker::wake);
    }
}

/// Received bytes, in place: [`VmmcStream::read_loaned`]. When it is dropped they count as read. Until then nothing else is read from the stream: reads wait.
pub struct Loaned {
    stream: VmmcStream,
    /// `None` at the end of the stream.
    loan: Option<Loan>,
    read: usize,
}

impl Loaned {
    /// Only the first `bytes` count as read (all, if there are fewer); the rest can be read again.
    pub fn consume(mut self, bytes: usize) {
        self.read = bytes.min(self.len());
    }
}

impl Deref for Loaned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.loan.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Loaned {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Loaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaned").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Loaned {
    fn drop(&mut self) {
        if self.loan.take().is_some() {
            self.stream.connection().settle(self.stream.stack().inner(), self.read);
        }
    }
}

/// A buffer couldn't be written in whole. It comes back with the error.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct WriteFailed {
    /// Why.
    pub error: io::Error,
    /// The buffer.
    pub buffer: Buffer,
    /// How many of its bytes were written.
    pub written: usize,
}

impl From<WriteFailed> for io::Error {
    fn from(failed: WriteFailed) -> io::Error {
        failed.error
    }
}

/// Without copies.
impl VmmcStream {
    /// As a read, but lends what has come where it lies: up to where the ring goes round. None of it can change while the loan lives, whatever the peer does. Empty at the end of
    /// the stream. Blocks as a read does.
    ///
    /// # Errors
    /// As a read.
    ///
    /// ```no_run
    /// # fn count(stream: vmmc_sockets::VmmcStream) -> std::io::Result<usize> {
    /// let mut lines = 0;
    /// loop {
    ///     let bytes = stream.read_loaned()?;
    ///     if bytes.is_empty() {
    ///         return Ok(lines);
    ///     }
    ///     lines += bytes.iter().filter(|byte| **byte == b'\n').count();
    /// }
    /// # }
    /// ```
    pub fn read_loaned(&self) -> io::Result<Loaned> {
        let loan = self.read_blocking(|| self.connection().lend())?;
        let read = loan.as_ref().map_or(0, |loan| loan.len());
        Ok(Loaned { stream: self.try_clone()?, loan, read })
    }

    /// Writes all of an arena buffer, and gives it back once it has arrived. Blocks as a write does.
    ///
    /// One of [`vmmc::Node::alloc_direct`] of [`Stack::node`](crate::Stack::node), of [1 MiB](crate::StackBuilder::bulk_owned) and more, is sent from where it lies if there is a bulk lane. Others, and what of it goes as packets all the same, are copied, and come
    /// back as soon as there was room for all of their bytes.
    ///
    /// # Errors
    /// As a write; the buffer comes back, with how many bytes of it were written.
    pub fn write_owned(&self, buffer: Buffer) -> Result<Buffer, WriteFailed> {
        self.start_write_owned(buffer)?.wait()
    }

    /// As [`VmmcStream::write_owned`], but doesn't wait until the buffer has arrived: that can be had back later. What is written to the stream afterwards comes after it. So a
    /// program that has several buffers keeps the stream busy.
    ///
    /// # Errors
    /// As a write; the buffer comes back, with how many bytes of it were written.
    ///
    /// ```no_run
    /// # fn copy(stream: vmmc_sockets::VmmcStream, mut next: impl FnMut(&mut [u8]) -> bool) -> std::io::Result<()> {
    /// let alloc = || stream.stack().node().alloc_direct(1 << 20).map_err(std::io::Error::other);
    /// let (mut free, mut away) = (alloc()?, stream.start_write_owned(alloc()?)?);
    /// while next(&mut free) {
    ///     free = std::mem::replace(&mut away, stream.start_write_owned(free)?).wait()?;
    /// }
    /// away.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_write_owned(&self, buffer: Buffer) -> Result<Writing, WriteFailed> {
        let stream = match self.try_clone() {
            Ok(stream) => stream,
            Err(error) => return Err(WriteFailed { error, buffer, written: 0 }),
        };
        let long = buffer.len() >= self.stack().inner().settings.bulk_owned;
        if long && self.stack().node().has_direct(&buffer) && !self.is_nonblocking() {
            return self.write_from(stream, buffer);
        }
        let (mut written, mut rest) = (0, self);
        while written < buffer.len() {
            match io::Write::write(&mut rest, &buffer[written..]) {
                Ok(len) => written += len,
                Err(error) => return Err(WriteFailed { error, buffer, written }),
            }
        }
        Ok(Writing { stream, held: Held::Copied(buffer) })
    }

    /// Writes a buffer from where it lies, as far as that goes by the bulk lane.
    fn write_from(&self, stream: VmmcStream, buffer: Buffer) -> Result<Writing, WriteFailed> {
        let (inner, connection) = (self.stack().inner(), self.connection());
        let source = DirectSource::of_buffer(Arc::new(buffer));
        let bytes = source.bytes().unwrap_or_default();
        let (mut written, mut error) = (0, None);
        while written < bytes.len() && error.is_none() {
            match self.write_blocking(|| connection.write(inner, &bytes[written..], Some((&source, written)), false)) {
                Ok(len) => written += len,
                Err(failure) => error = Some(failure),
            }
        }
        let writing = Writing { stream, held: Held::Away(source, connection.last_by_lane()) };
        match error {
            None => Ok(writing),
            // What has been asked for goes on all the same: else nobody knew how far the stream has come.
            Some(error) => Err(match writing.wait() {
                Ok(buffer) => WriteFailed { error, buffer, written },
                Err(failed) => WriteFailed { error, written, ..failed },
            }),
        }
    }
}

/// A buffer that is being written: [`VmmcStream::start_write_owned`]. When it is dropped, the write goes on, and the buffer goes back to the arena.
#[must_use = "`wait` gives the buffer back"]
pub struct Writing {
    stream: VmmcStream,
    held: Held,
}

/// A buffer that is being written.
enum Held {
    /// It isn't, any more.
    Copied(Buffer),
    /// All of it has been copied, or has arrived when that has which was sent last by the lane.
    Away(DirectSource, Option<Ticket>),
}

impl Writing {
    /// Whether [`Writing::wait`] wouldn't block, as far as is known now.
    pub fn is_done(&self) -> bool {
        match &self.held {
            Held::Away(_, sent) => self.stream.connection().has_arrived(sent),
            Held::Copied(_) => true,
        }
    }

    /// Blocks until the buffer has arrived, or the stream is lost: then its next call says so. No timeout applies.
    ///
    /// # Errors
    /// When the interface has failed. The buffer comes back.
    pub fn wait(self) -> Result<Buffer, WriteFailed> {
        match self.held {
            Held::Copied(buffer) => Ok(buffer),
            Held::Away(source, sent) => {
                let (inner, connection) = (self.stream.stack().inner(), self.stream.connection());
                let (written, arrived) = (source.len(), || connection.has_arrived(&sent).then_some(()));
                let waited = inner.waiting.wait(&**inner, &connection.writers, &connection.write_spin, None, arrived);
                let buffer = connection.take_back(source);
                match waited {
                    Ok(_) => Ok(buffer),
                    Err(error) => Err(WriteFailed { error, buffer, written }),
                }
            }
        }
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
