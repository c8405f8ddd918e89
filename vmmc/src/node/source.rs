//! What can be sent from: borrowed bytes, which are copied and the caller's again at once, and owned buffers, which are away while they are
//! in flight and come back when the send is over.

use std::ops::Range;
use std::sync::Arc;

use self::sealed::Owned;
use crate::error::Error;
use crate::memory::{Buffer, DirectSource, PagedHold};

/// Memory to send from.
pub trait Source: sealed::Sealed {
    /// What is kept until the send is over, and given back then: the buffer, or `()` for borrowed bytes.
    type Held: Held;

    /// All of its bytes.
    fn bytes(&self) -> &[u8];

    /// Looks `part` up in the UTLB, and keeps where they are the pages that are pinned, as long as the packets need them there. `None` for memory that
    /// never moves.
    fn hold(&self, part: Range<usize>) -> Option<PagedHold<'_>> {
        let _ = part;
        None
    }

    /// The bytes have been put into packets.
    fn into_held(self) -> Self::Held;

    /// As memory that can be sent from where it lies.
    ///
    /// # Errors
    /// When it can't. It comes back.
    fn into_direct(self) -> Result<DirectSource, Self>
    where
        Self: Sized,
    {
        Err(self)
    }
}

/// What is kept while a send is in flight.
pub trait Held: sealed::Sealed {
    /// The error of a send that has failed: it gives an owned buffer back, too.
    type Failure: std::error::Error;

    /// The send has failed.
    fn fail(self, error: Error) -> Self::Failure;

    /// What was given away to be [sent from where it lies](Source::into_direct).
    fn from_direct(buffer: Arc<Buffer>) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = buffer;
        None
    }
}

impl<T: AsRef<[u8]> + ?Sized> Source for &T {
    type Held = ();

    fn bytes(&self) -> &[u8] {
        (**self).as_ref()
    }

    fn into_held(self) {}
}

impl Held for () {
    type Failure = Error;

    fn fail(self, error: Error) -> Error {
        error
    }
}

impl Source for Buffer {
    type Held = Buffer;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_held(self) -> Buffer {
        self
    }

    fn into_direct(self) -> Result<DirectSource, Buffer> {
        Ok(DirectSource::of_buffer(Arc::new(self)))
    }
}

impl Owned for Buffer {
    fn from_shared(buffer: Arc<Buffer>) -> Option<Buffer> {
        Arc::into_inner(buffer)
    }
}

/// A buffer that several sends share: it can be read meanwhile, and is nobody's to write until all have given it back.
impl Source for Arc<Buffer> {
    type Held = Arc<Buffer>;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_held(self) -> Arc<Buffer> {
        self
    }

    fn into_direct(self) -> Result<DirectSource, Arc<Buffer>> {
        Ok(DirectSource::of_buffer(self))
    }
}

impl Owned for Arc<Buffer> {
    fn from_shared(buffer: Arc<Buffer>) -> Option<Arc<Buffer>> {
        Some(buffer)
    }
}

impl<B: Owned> Held for B {
    type Failure = SendFailed<B>;

    fn fail(self, error: Error) -> SendFailed<B> {
        SendFailed { error, buffer: self }
    }

    fn from_direct(buffer: Arc<Buffer>) -> Option<B> {
        B::from_shared(buffer)
    }
}

/// A send of an owned buffer has failed. The buffer comes back with the error; as an [`Error`], by `?`, it is dropped.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendFailed<B> {
    /// Why.
    pub error: Error,
    /// The buffer that was to be sent.
    pub buffer: B,
}

impl<B> From<SendFailed<B>> for Error {
    fn from(failed: SendFailed<B>) -> Error {
        failed.error
    }
}

pub(super) mod sealed {
    use std::sync::Arc;

    use crate::memory::Buffer;

    /// A buffer that a send has while it is in flight, and gives back.
    pub trait Owned: Sealed + std::fmt::Debug + Sized {
        /// The buffer, once the lane has let go of it.
        fn from_shared(buffer: Arc<Buffer>) -> Option<Self> {
            let _ = buffer;
            None
        }
    }

    /// Nobody else makes sources: the library must know when their bytes may change.
    pub trait Sealed {}
    impl<T: AsRef<[u8]> + ?Sized> Sealed for &T {}
    impl Sealed for () {}
    impl Sealed for Buffer {}
    impl Sealed for Arc<Buffer> {}
}
