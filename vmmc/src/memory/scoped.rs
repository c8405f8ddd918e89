//! A target that is only borrowed: a slice that the engine writes to while a function runs, and not a moment longer.
//!
//! Targets are owned, so that whoever holds one may write to it as long as he likes. [`with_scoped`] makes one of a borrowed slice. It hands it out by
//! a function of the caller's (`post`), has the work done, and takes it back by another (`take`), whether the work returns or panics. That *this*
//! target has come back, it checks itself: if it hasn't, there may be somebody who still writes to memory that is about to be
//! somebody else's, and the process is ended.

use std::any::Any;
use std::process::abort;

use super::Target;

/// A slice whose lifetime nobody knows but [`with_scoped`].
struct Borrowed {
    start: *mut u8,
    len: usize,
}

// SAFETY: it stands for a `&mut [u8]`, which is `Send`, and which nobody uses as long as this exists: `with_scoped` has it.
unsafe impl Send for Borrowed {}

impl Target for Borrowed {
    fn len(&self) -> usize {
        self.len
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "a store past the end of a target");
        // SAFETY: the range lies inside the slice (checked above). The slice is still borrowed, and by nobody but this: `with_scoped` made it of a
        // `&mut [u8]` that it keeps until it has this back, and it is never given back anywhere else, nor cloned. `bytes` is a reference to other
        // memory, for the same reason. Stores don't race: they take `&mut self`; and with what the slice's owner does before and after, because handing
        // a `Box` from thread to thread synchronises them.
        unsafe { self.start.wrapping_add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

/// How a target is posted somewhere, and taken back.
pub(crate) trait Posting {
    /// What names it while it is posted.
    type Posted;
    /// What is returned when it is taken back, beside the target.
    type Outcome;
    /// Why it couldn't be posted.
    type Error;

    /// Posts it. When that fails it comes back.
    fn post(&self, target: Box<dyn Target>) -> Result<Self::Posted, (Self::Error, Box<dyn Target>)>;

    /// Takes back what was posted. From then on nobody has it.
    fn take(&self, posted: &Self::Posted) -> Option<(Box<dyn Target>, Self::Outcome)>;
}

/// Ends the process unless it is forgotten.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        abort();
    }
}

/// A posted slice, which is taken back when this is dropped.
struct Guard<'p, P: Posting> {
    posting: &'p P,
    posted: P::Posted,
    start: *mut u8,
    taken: bool,
}

impl<P: Posting> Guard<'_, P> {
    fn take(&mut self) -> P::Outcome {
        // A panic of `take`, too, would leave the target behind.
        let bomb = Bomb;
        self.taken = true;
        let Some((target, outcome)) = self.posting.take(&self.posted) else { abort() };
        check(target, self.start);
        std::mem::forget(bomb);
        outcome
    }
}

/// This is the target that was made of the slice at `start`, and it goes.
fn check(target: Box<dyn Target>, start: *mut u8) {
    let target: Box<dyn Any> = target;
    // There is no other of this address: it would need the slice.
    if !target.downcast::<Borrowed>().is_ok_and(|target| target.start == start) {
        abort();
    }
}

impl<P: Posting> Drop for Guard<'_, P> {
    fn drop(&mut self) {
        if !self.taken {
            self.take();
        }
    }
}

/// Posts a slice as a target for as long as `work` runs, and takes it back.
///
/// # Errors
/// When it couldn't be posted. Then `work` isn't called.
pub(crate) fn with_scoped<P: Posting, R>(
    slice: &mut [u8],
    posting: &P,
    work: impl FnOnce(&P::Posted) -> R,
) -> Result<(R, P::Outcome), P::Error> {
    let (start, len) = (slice.as_mut_ptr(), slice.len());
    // A panic of `post` may leave the target anywhere.
    let bomb = Bomb;
    let posted = posting.post(Box::new(Borrowed { start, len })).map_err(|(error, target)| {
        check(target, start);
        error
    });
    std::mem::forget(bomb);
    let mut guard = Guard { posting, posted: posted?, start, taken: false };
    let done = work(&guard.posted);
    Ok((done, guard.take()))
}
