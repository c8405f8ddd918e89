//! Redirects: the program's own memory takes what is sent into an export.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::progress::Step;
use super::{Export, Handle};
use crate::engine::{EngineError, Notification, Received, RedirectEnd, RedirectId, Returned, Wanted};
use crate::error::Error;
use crate::memory::Target;

/// Memory of the program's own that has been posted to take what is sent into an [`Export`]: it goes there, and is not in the export. The sender
/// knows nothing of it.
///
/// Redirects of one export are served in the order they were posted in: each byte that arrives goes to the first one that wants it, and when none
/// does, into the export. So a message may be longer than a redirect, or fill it only in part. What has arrived *before* the redirect was posted
/// is moved to it at once: all that nobody has taken, be it by another redirect, by taking the notification that announced it, or by
/// [`Export::forget`].
///
/// Every [`Notification`] says where its data is. Dropping the handle takes the target back and drops it, with all it holds;
/// what is still to come goes to the next redirect, or into the export. So it is when the redirect is taken back in the middle of a message.
///
/// A sender that dies in the middle of a message leaves the redirect as it is: posted, until another sender fills it or the program takes it back.
/// When the export is dropped the redirect takes nothing more.
///
/// ```no_run
/// use std::time::Duration;
/// use vmmc::{Key, Landed, Node};
///
/// # fn main() -> Result<(), vmmc::Error> {
/// let node = Node::builder().interface("vh2").open()?;
/// let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
///
/// // The first 64 KiB of the export, whoever writes there, go to this vector.
/// let posted = inbox.redirect(0..65536, vec![0; 65536])?;
/// let bytes: Vec<u8> = posted.wait(None)?; // until all of them have come
///
/// // The next 9000 bytes, wherever in the export; and as soon as a message among them has come whole, the vector with that.
/// let posted = inbox.redirect_next(vec![0; 9000])?;
/// let (news, bytes, _) = posted.wait_notification(Duration::from_secs(10))?;
/// if let Landed::Redirect { at, .. } = news.landed {
///     println!("tag {}: {:?}", news.tag, &bytes[at as usize..][..news.length as usize]);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Redirect<T: Target> {
    handle: Arc<Handle>,
    export: u32,
    id: RedirectId,
    target: PhantomData<fn() -> T>,
}

/// A redirect couldn't be posted, or has ended before it was full. The target comes back with the error; as an [`Error`], by `?`, it is dropped.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct RedirectFailed<T> {
    /// Why.
    pub error: Error,
    /// What was posted.
    pub target: T,
    /// What it holds.
    pub received: Received,
}

impl<T> fmt::Debug for RedirectFailed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("RedirectFailed");
        fields.field("error", &self.error).field("received", &self.received).finish_non_exhaustive()
    }
}

impl<T> From<RedirectFailed<T>> for Error {
    fn from(failed: RedirectFailed<T>) -> Error {
        failed.error
    }
}

impl Export {
    /// Has what is sent into this part of the export go to `target`: byte x to place x - `range.start`, and each byte once. What is sent to the
    /// same place again goes to the next redirect that wants it, or into the export.
    ///
    /// The target may be longer than the range. With a range of no bytes the redirect is full from the start.
    ///
    /// # Errors
    /// When the range doesn't lie inside the export, the target is shorter than the range, or the export has been [revoked](Export::revoke).
    pub fn redirect<T: Target>(&self, range: Range<u64>, target: T) -> Result<Redirect<T>, RedirectFailed<T>> {
        self.post(Wanted::Range(range), target)
    }

    /// Has the next bytes that come go to `target`, wherever in the export they are sent to, one after the other and as many as it has room for.
    ///
    /// Of what has arrived already the engine knows where it lies, and not when it came. It is moved in the order of place, beginning behind what
    /// was taken last and going round at the end. If one sender fills the export from its beginning on, or uses it as a ring, that is the order
    /// in which it has come.
    ///
    /// # Errors
    /// When the target panics, or the export has been [revoked](Export::revoke).
    pub fn redirect_next<T: Target>(&self, target: T) -> Result<Redirect<T>, RedirectFailed<T>> {
        self.post(Wanted::Next(target.len() as u64), target)
    }

    /// What has arrived in this part of the export stays there: no redirect that is posted later takes it. For programs that read the export without
    /// taking notifications. What reaches past the end is ignored.
    pub fn forget(&self, range: Range<u64>) {
        let mut core = self.handle.shared.enter();
        if let Ok(id) = self.live() {
            core.engine.forget(id, range);
        }
    }

    fn post<T: Target>(&self, wanted: Wanted, target: T) -> Result<Redirect<T>, RedirectFailed<T>> {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        let export = match self.live() {
            Ok(export) => export,
            Err(error) => return Err(RedirectFailed { error: error.into(), target, received: Received::nothing() }),
        };
        let posted = core.engine.redirect(export, wanted, Box::new(target));
        shared.leave(&mut core);
        drop(core);
        match posted {
            Ok(id) => Ok(Redirect { handle: self.handle.clone(), export, id, target: PhantomData }),
            Err((error, returned)) => {
                let (target, received) = returned.into_parts();
                Err(RedirectFailed { error: error.into(), target, received })
            }
        }
    }
}

impl<T: Target> Redirect<T> {
    /// Its number: notifications name it.
    pub fn id(&self) -> RedirectId {
        self.id
    }

    /// How many bytes it has, as far as is known now. Doesn't wait, and doesn't look for packets.
    pub fn received(&self) -> u64 {
        self.state().map_or(0, |(bytes, _)| bytes)
    }

    /// Whether it has all it wants, as far as is known now. Doesn't look for packets.
    pub fn is_full(&self) -> bool {
        self.state().is_ok_and(|(_, end)| end == Some(RedirectEnd::Full))
    }

    /// Waits until it is full: spins for a while, then sleeps. The redirect stays posted in any case. `timeout` is a duration, or `None` to wait for
    /// ever.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`EngineError::RedirectStopped`] when another thread has stopped it; [`EngineError::RedirectRevoked`] when the export has
    /// been dropped; or when the wire has failed.
    pub fn wait_full(&self, timeout: impl Into<Option<Duration>>) -> Result<(), Error> {
        let timeout = timeout.into();
        let full = self.handle.shared.wait(timeout, |core| {
            Ok(match progress(core.engine.redirect_state(self.export, self.id))?.1 {
                None => Step::Idle,
                Some(RedirectEnd::Full) => Step::Done(()),
                Some(other) => return Err(EngineError::from(other).into()),
            })
        })?;
        full.ok_or(Error::Timeout { what: "full redirect", after: timeout.unwrap_or(Duration::MAX) })
    }

    /// Waits until it is full, and gives the target back.
    ///
    /// # Errors
    /// As [`Redirect::wait_full`]. Whatever has happened, a timeout too, the redirect has ended then: the target comes back with the error, and what it
    /// holds. Or [`EngineError::TargetLost`]: then what comes back is an empty buffer.
    pub fn wait(self, timeout: impl Into<Option<Duration>>) -> Result<T, RedirectFailed<T>> {
        let waited = self.wait_full(timeout);
        self.end(waited).map(|((), target, _)| target)
    }

    /// Waits for the notification of a send that went to this redirect, in whole or in part, takes it, and takes the redirect back, full or not.
    ///
    /// The target may hold other sends beside that one, or parts of them, if it was longer and they came meanwhile. Their notifications keep
    /// waiting, in their order, and say so: when they are as many as the export's queue has room for, senders are held up until somebody takes them. A
    /// send without notification never ends the wait.
    ///
    /// # Errors
    /// As [`Redirect::wait`]. When the redirect has been stopped, the notification is still taken if it is there. When the export has been dropped
    /// its notifications have gone with it.
    pub fn wait_notification(
        self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<(Notification, T, Received), RedirectFailed<T>> {
        let timeout = timeout.into();
        let waited = self.handle.shared.wait(timeout, |core| {
            if let Some(news) = core.engine.take_notification_in(self.export, self.id)? {
                return Ok(Step::Done(news));
            }
            match progress(core.engine.redirect_state(self.export, self.id))?.1 {
                None | Some(RedirectEnd::Full) => Ok(Step::Idle),
                Some(other) => Err(EngineError::from(other).into()),
            }
        });
        let after = timeout.unwrap_or(Duration::MAX);
        self.end(waited.and_then(|news| news.ok_or(Error::Timeout { what: "notification", after })))
    }

    /// Takes it back once something has been waited for.
    fn end<R>(self, waited: Result<R, Error>) -> Result<(R, T, Received), RedirectFailed<T>> {
        let returned = self.returned();
        let whole = match returned.end {
            Some(RedirectEnd::Lost) => Err(EngineError::TargetLost.into()),
            _ => Ok(()),
        };
        let (target, received) = returned.into_parts();
        match waited.and_then(|result| whole.map(|()| result)) {
            Ok(result) => Ok((result, target, received)),
            Err(error) => Err(RedirectFailed { error, target, received }),
        }
    }

    /// Takes the target back at once, with what it holds. What comes from now on goes to the next redirect, or into the export.
    ///
    /// A buffer that is [lost](EngineError::TargetLost) comes back empty, and holds nothing.
    pub fn cancel(self) -> (T, Received) {
        self.returned().into_parts()
    }

    fn returned(self) -> Returned {
        self.take().expect("only this handle takes it back, once")
    }

    /// Has it take nothing more, from any thread: those that wait for it return with an error, and whoever owns the handle takes the target back. One
    /// that is full stays so.
    pub fn stop(&self) {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        core.engine.stop_redirect(self.export, self.id);
        shared.leave(&mut core);
    }

    fn state(&self) -> Result<(u64, Option<RedirectEnd>), EngineError> {
        progress(self.handle.shared.enter().engine.redirect_state(self.export, self.id))
    }

    fn take(&self) -> Option<Returned> {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        let returned = core.with(|engine, _, port| engine.take_redirect(port, self.export, self.id));
        shared.leave(&mut core);
        returned
    }
}

fn progress(state: Option<(u64, Option<RedirectEnd>)>) -> Result<(u64, Option<RedirectEnd>), EngineError> {
    state.ok_or(EngineError::Dropped)
}

impl<T: Target> fmt::Debug for Redirect<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect").field("id", &self.id).field("received", &self.received()).finish_non_exhaustive()
    }
}

impl<T: Target> Drop for Redirect<T> {
    fn drop(&mut self) {
        // The target goes after the lock: what it does when it is dropped is its own affair.
        drop(self.take());
    }
}
