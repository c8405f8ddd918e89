//! What can be sent from: borrowed bytes, which are copied and the caller's again at once, and owned buffers, which are away while they are
//! in flight and come back when the send is over.

use std::ops::Range;
use std::sync::Arc;

use self::sealed::Owned;
use crate::error::Error;
use crate::memory::{Arena, Buffer, DirectSource, Origin, PagedHold};

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

    /// Whether it is given away to be sent, and lies in this arena, or can.
    fn is_in(&self, arena: &Arena) -> bool {
        let _ = arena;
        false
    }

    /// As memory of which `part` can be sent from where it lies.
    ///
    /// # Errors
    /// When it can't. It comes back, and with it the [hold](Source::hold) of the part, if its pages have been looked up for that.
    fn into_direct(self, part: Range<usize>) -> Result<DirectSource, (Self, Option<PagedHold<'static>>)>
    where
        Self: Sized,
    {
        let _ = part;
        Err((self, None))
    }
}

/// What is kept while a send is in flight.
pub trait Held: sealed::Sealed {
    /// The error of a send that has failed: it gives an owned buffer back, too.
    type Failure: std::error::Error;

    /// The send has failed.
    fn fail(self, error: Error) -> Self::Failure;

    /// What was given away to be [sent from where it lies](Source::into_direct).
    fn from_origin(origin: Origin) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = origin;
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

    fn is_in(&self, arena: &Arena) -> bool {
        arena.has(self)
    }

    fn into_direct(self, _: Range<usize>) -> Result<DirectSource, (Buffer, Option<PagedHold<'static>>)> {
        Ok(DirectSource::of_buffer(Arc::new(self)))
    }
}

impl Owned for Buffer {
    fn of_origin(origin: Origin) -> Option<Buffer> {
        Arc::into_inner(Arc::of_origin(origin)?)
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

    fn is_in(&self, arena: &Arena) -> bool {
        arena.has(self)
    }

    fn into_direct(self, _: Range<usize>) -> Result<DirectSource, (Arc<Buffer>, Option<PagedHold<'static>>)> {
        Ok(DirectSource::of_buffer(self))
    }
}

impl Owned for Arc<Buffer> {
    fn of_origin(origin: Origin) -> Option<Arc<Buffer>> {
        match origin {
            Origin::Buffer(buffer) => Some(buffer),
            _ => None,
        }
    }
}

impl<B: Owned> Held for B {
    type Failure = SendFailed<B>;

    fn fail(self, error: Error) -> SendFailed<B> {
        SendFailed { error, buffer: self }
    }

    fn from_origin(origin: Origin) -> Option<B> {
        B::of_origin(origin)
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

    use crate::memory::{Buffer, Origin};

    /// A buffer that a send has while it is in flight, and gives back.
    pub trait Owned: Sealed + std::fmt::Debug + Sized {
        /// The buffer, once the lane has let go of it.
        fn of_origin(origin: Origin) -> Option<Self>;
    }

    /// Nobody else makes sources: the library must know when their bytes may change.
    pub trait Sealed {}
    impl<T: AsRef<[u8]> + ?Sized> Sealed for &T {}
    impl Sealed for () {}
    impl Sealed for Buffer {}
    impl Sealed for Arc<Buffer> {}
}
