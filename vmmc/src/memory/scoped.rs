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

/// A target that couldn't be posted, and why.
pub(crate) type Unposted<E> = (E, Box<dyn Target>);

/// How a target is posted somewhere, and taken back.
pub(crate) trait Posting {
    /// What names it while it is posted.
    type Posted;
    /// What is returned when it is taken back, beside the target.
    type Outcome;
    /// Why it couldn't be posted.
    type Error;

    /// Posts it. When that fails it comes back.
    fn post(&self, target: Box<dyn Target>) -> Result<Self::Posted, Unposted<Self::Error>>;

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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Somebody who takes one target.
    #[derive(Clone, Default)]
    struct Engine(Arc<Mutex<Option<Box<dyn Target>>>>);

    impl Engine {
        fn store(&self, at: usize, bytes: &[u8]) {
            if let Some(target) = &mut *self.0.lock().unwrap() {
                target.store(at, bytes);
            }
        }
    }

    impl Posting for Engine {
        type Posted = usize;
        type Outcome = &'static str;
        type Error = &'static str;

        fn post(&self, target: Box<dyn Target>) -> Result<usize, Unposted<&'static str>> {
            if target.is_empty() {
                return Err(("too short", target));
            }
            let len = target.len();
            *self.0.lock().unwrap() = Some(target);
            Ok(len)
        }

        fn take(&self, _: &usize) -> Option<(Box<dyn Target>, &'static str)> {
            Some((self.0.lock().unwrap().take()?, "done"))
        }
    }

    #[test]
    fn a_slice_is_written_while_the_work_is_done_and_not_afterwards() {
        let engine = Engine::default();
        let mut bytes = vec![0; 100];
        let rounds = if cfg!(miri) { 3 } else { 100 };
        for round in 1..=rounds {
            let (thread, done) = with_scoped(&mut bytes[10..90], &engine, |&len| {
                assert_eq!(len, 80);
                engine.store(0, &[round; 80]);
                let engine = engine.clone();
                std::thread::spawn(move || engine.store(10, &[255; 10]))
            })
            .unwrap();
            assert_eq!(done, "done");
            // It came in time, or not at all.
            let middle = bytes[20];
            assert!(bytes[20..30].iter().all(|&b| b == middle) && [round, 255].contains(&middle), "{bytes:?}");
            thread.join().unwrap();
            assert_eq!(bytes[20], middle);
            assert_eq!((&bytes[..10], bytes[10], bytes[89], &bytes[90..]), (&[0; 10][..], round, round, &[0; 10][..]));
        }
    }

    #[test]
    fn it_is_taken_back_from_work_that_panics() {
        let engine = Engine::default();
        let mut bytes = [0; 8];
        let work = |_: &usize| {
            engine.store(0, &[1; 4]);
            panic!("this work is meant to panic");
        };
        let result = catch_unwind(AssertUnwindSafe(|| with_scoped(&mut bytes, &engine, work).map(|((), _)| ())));
        assert!(result.is_err() && engine.0.lock().unwrap().is_none());
        engine.store(0, &[9; 8]);
        assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_can_not_be_posted_is_not_worked_with() {
        let called = RefCell::new(false);
        let result = with_scoped(&mut [], &Engine::default(), |_| called.replace(true));
        assert_eq!((result.unwrap_err(), called.into_inner()), ("too short", false));
    }

    #[test]
    fn stores_past_the_end_panic() {
        let engine = Engine::default();
        let mut bytes = [0; 8];
        with_scoped(&mut bytes, &engine, |_| {
            for (at, len) in [(0, 9), (8, 1), (9, 0), (usize::MAX, 2)] {
                let mut target = engine.0.lock().unwrap();
                let refused = target.as_mut().unwrap().try_store(at, &vec![1; len]);
                assert!(refused.is_err(), "{at} {len}");
            }
        })
        .unwrap();
        assert_eq!(bytes, [0; 8]);
    }
}
