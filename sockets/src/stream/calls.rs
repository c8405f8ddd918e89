//! The calls that read and write, and how they wait.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::sync::atomic::Ordering;

use super::{Shared, VmmcStream};
use crate::connection::Connection;
use crate::direct::WORTH;
use crate::wait::{Drive, lock};

impl VmmcStream {
    /// Calls `read` until it has something, if the stream isn't nonblocking.
    pub(crate) fn read_blocking<T>(&self, mut read: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        let Shared { stack, connection, nonblocking, settings, .. } = &*self.shared;
        if nonblocking.load(Ordering::Relaxed) {
            return self.try_reading(read);
        }
        if let Some(value) = read()? {
            return Ok(value);
        }
        let timeout = lock(settings).read_timeout;
        let deadline = Connection::deadline(timeout);
        let inner = stack.inner();
        let result =
            inner.waiting.wait(&**inner, &connection.readers, &connection.read_spin, deadline, || read().transpose());
        result?.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    }

    /// Waits for data in the buffer itself, where that is worth it.
    fn read_directly(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let Shared { stack, connection, nonblocking, settings, .. } = &*self.shared;
        if bytes.len() < WORTH || nonblocking.load(Ordering::Relaxed) || connection.is_readable() {
            return Ok(None);
        }
        let inner = stack.inner();
        connection.read_directly(inner, bytes, |check| {
            let deadline = Connection::deadline(lock(settings).read_timeout);
            let waited = inner.waiting.wait(&**inner, &connection.readers, &connection.read_spin, deadline, check)?;
            waited.ok_or_else(|| ErrorKind::WouldBlock.into())
        })
    }

    pub(super) fn try_reading<T>(&self, mut read: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        if let Some(value) = read()? {
            return Ok(value);
        }
        self.glance();
        read()?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    /// Calls `write` until it has written something.
    pub(crate) fn write_blocking(&self, mut write: impl FnMut() -> io::Result<Option<usize>>) -> io::Result<usize> {
        let Shared { stack, connection, nonblocking, settings, .. } = &*self.shared;
        if nonblocking.load(Ordering::Relaxed) {
            return self.try_writing(write);
        }
        if let Some(written) = write()? {
            return Ok(written);
        }
        let deadline = Connection::deadline(lock(settings).write_timeout);
        let inner = stack.inner();
        let result =
            inner.waiting.wait(&**inner, &connection.writers, &connection.write_spin, deadline, || write().transpose());
        result?.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    }

    pub(super) fn try_writing(&self, mut write: impl FnMut() -> io::Result<Option<usize>>) -> io::Result<usize> {
        let Shared { stack, driven, .. } = &*self.shared;
        let inner = stack.inner();
        let written = if driven.load(Ordering::Relaxed) {
            inner.waiting.driver.corked(&mut write, || inner.flush())
        } else {
            write()
        };
        if let Some(written) = written? {
            return Ok(written);
        }
        self.glance();
        write()?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    /// Writes all of it, unless the stream is nonblocking or the timeout passes: then as much as there was room for.
    fn write_all_of(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Shared { stack, connection, nodelay, .. } = &*self.shared;
        let delay = !nodelay.load(Ordering::Relaxed);
        let mut written = 0;
        let filled: Vec<&IoSlice<'_>> = slices.iter().filter(|slice| !slice.is_empty()).collect();
        for (number, slice) in filled.iter().enumerate() {
            // What belongs together shares packets.
            let more = number + 1 < filled.len();
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                match self.write_blocking(|| connection.write(stack.inner(), rest, None, delay || more)) {
                    Ok(len) => {
                        written += len;
                        rest = &rest[len..];
                    }
                    Err(error) if written > 0 => {
                        connection.put_back(&error);
                        return Ok(written);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(written)
    }
}

impl Read for VmmcStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self).read(bytes)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(slices)
    }
}

impl Read for &VmmcStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Shared { stack, connection, .. } = &*self.shared;
        let inner = stack.inner();
        if let Some(read) = self.read_directly(bytes)? {
            return Ok(read);
        }
        let mut slices = [IoSliceMut::new(bytes)];
        self.read_blocking(|| connection.read(inner, &mut slices))
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Shared { stack, connection, .. } = &*self.shared;
        self.read_blocking(|| connection.read(stack.inner(), slices))
    }
}

impl Write for VmmcStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Write for &VmmcStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all_of(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_all_of(slices)
    }

    /// Does nothing, as with TCP.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
