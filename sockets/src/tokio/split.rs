//! A stream's halves: one that reads, one that writes, borrowed or owned.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Interest, Ready, VmmcStream};

/// Reads of a stream, borrowed by [`VmmcStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a VmmcStream);

/// Writes to a stream, borrowed by [`VmmcStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a VmmcStream);

impl<'a> ReadHalf<'a> {
    pub(super) fn new(stream: &'a VmmcStream) -> ReadHalf<'a> {
        ReadHalf(stream)
    }
}

impl<'a> WriteHalf<'a> {
    pub(super) fn new(stream: &'a VmmcStream) -> WriteHalf<'a> {
        WriteHalf(stream)
    }
}

/// Reads of a stream, made by [`VmmcStream::into_split`].
///
/// Dropping it alone does nothing: the stream closes with its second half.
#[derive(Debug)]
pub struct OwnedReadHalf(Arc<VmmcStream>);

/// Writes to a stream, made by [`VmmcStream::into_split`].
///
/// Dropping it shuts down writing, so that the peer's reads come to the end of the data; [`forget`](OwnedWriteHalf::forget) drops it without.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<VmmcStream>,
    shutdown_on_drop: bool,
}

pub(super) fn owned(stream: VmmcStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let stream = Arc::new(stream);
    (OwnedReadHalf(stream.clone()), OwnedWriteHalf { stream, shutdown_on_drop: true })
}

fn reunite(read: OwnedReadHalf, write: OwnedWriteHalf) -> Result<VmmcStream, ReuniteError> {
    if !Arc::ptr_eq(&read.0, &write.stream) {
        return Err(ReuniteError(read, write));
    }
    write.forget();
    Ok(Arc::try_unwrap(read.0).expect("a stream has two halves, and the other one is gone"))
}

/// The halves are of two streams. Both are in here.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same stream")
    }
}

impl Error for ReuniteError {}

impl OwnedReadHalf {
    /// Makes one stream of both halves again.
    ///
    /// # Errors
    /// When they are of two streams; they are in the error.
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<VmmcStream, ReuniteError> {
        reunite(self, other)
    }
}

impl OwnedWriteHalf {
    /// Makes one stream of both halves again.
    ///
    /// # Errors
    /// When they are of two streams; they are in the error.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<VmmcStream, ReuniteError> {
        reunite(other, self)
    }

    /// Drops it without shutting down writing. The peer sees no end before the other half is gone, too.
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // A stream that has ended already can't be shut down, and needn't.
            let _ = self.stream.shutdown_std(Shutdown::Write);
        }
    }
}

impl AsRef<VmmcStream> for ReadHalf<'_> {
    fn as_ref(&self) -> &VmmcStream {
        self.0
    }
}

impl AsRef<VmmcStream> for WriteHalf<'_> {
    fn as_ref(&self) -> &VmmcStream {
        self.0
    }
}

impl AsRef<VmmcStream> for OwnedReadHalf {
    fn as_ref(&self) -> &VmmcStream {
        &self.0
    }
}

impl AsRef<VmmcStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &VmmcStream {
        &self.stream
    }
}

/// What both kinds of a half that reads have.
macro_rules! reads {
    ($($half:ty),*) => {$(
        impl $half {
            /// As [`VmmcStream::poll_peek`].
            ///
            /// # Errors
            /// As a read.
            pub fn poll_peek(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
                self.as_ref().poll_peek(context, buffer)
            }

            /// As [`VmmcStream::peek`].
            ///
            /// # Errors
            /// As a read.
            pub async fn peek(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                let mut buffer = ReadBuf::new(bytes);
                poll_fn(|context| self.poll_peek(context, &mut buffer)).await
            }

            /// As [`VmmcStream::readable`].
            ///
            /// # Errors
            /// When the stack has failed.
            pub async fn readable(&self) -> io::Result<()> {
                self.as_ref().readable().await
            }

            /// As [`VmmcStream::try_read`].
            ///
            /// # Errors
            /// `WouldBlock` when there is nothing yet; else as a read.
            pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
                self.as_ref().try_read(bytes)
            }

            /// As [`VmmcStream::try_read_vectored`].
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.as_ref().try_read_vectored(slices)
            }
        }

        impl AsyncRead for $half {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.as_ref().get_ref().as_ref().poll_read_shared(context, buffer)
            }
        }
    )*};
}

/// What both kinds of a half that writes have.
macro_rules! writes {
    ($($half:ty),*) => {$(
        impl $half {
            /// As [`VmmcStream::writable`].
            ///
            /// # Errors
            /// When the stack has failed.
            pub async fn writable(&self) -> io::Result<()> {
                self.as_ref().writable().await
            }

            /// As [`VmmcStream::try_write`].
            ///
            /// # Errors
            /// `WouldBlock` when there is no room at all; else as a write.
            pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.as_ref().try_write(bytes)
            }

            /// As [`VmmcStream::try_write_vectored`].
            ///
            /// # Errors
            /// As [`try_write`](Self::try_write).
            pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                self.as_ref().try_write_vectored(slices)
            }
        }
    )*};
}

/// What all halves have.
macro_rules! halves {
    ($($half:ty),*) => {$(
        impl $half {
            /// As [`VmmcStream::ready`].
            ///
            /// # Errors
            /// When the stack has failed.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.as_ref().ready(interest).await
            }

            /// The other end's address.
            ///
            /// # Errors
            /// As [`VmmcStream::peer_addr`].
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.as_ref().peer_addr()
            }

            /// This end's address.
            ///
            /// # Errors
            /// As [`VmmcStream::local_addr`].
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.as_ref().local_addr()
            }
        }
    )*};
}

reads!(ReadHalf<'_>, OwnedReadHalf);
writes!(WriteHalf<'_>, OwnedWriteHalf);
halves!(ReadHalf<'_>, OwnedReadHalf, WriteHalf<'_>, OwnedWriteHalf);

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write_shared(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_vectored_shared(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush_shared(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown_std(Shutdown::Write))
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write_shared(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write_vectored_shared(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush_shared(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self.stream.shutdown_std(Shutdown::Write);
        if done.is_ok() {
            self.shutdown_on_drop = false;
        }
        Poll::Ready(done)
    }
}
