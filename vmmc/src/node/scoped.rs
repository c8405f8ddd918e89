//! Redirects to memory that is only borrowed.

use std::ops::Range;

use super::Export;
use crate::engine::{EngineError, Received, RedirectEnd, RedirectId, Wanted};
use crate::error::Error;
use crate::memory::{Posting, Target, Unposted, with_scoped};

/// A redirect to a slice, posted for as long as a function runs: [`Export::redirect_scoped`].
#[derive(Debug)]
pub struct ScopedRedirect<'e> {
    export: &'e Export,
    id: RedirectId,
}

impl ScopedRedirect<'_> {
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
        self.state().is_some_and(|(_, end)| end == Some(RedirectEnd::Full))
    }

    fn state(&self) -> Option<(u64, Option<RedirectEnd>)> {
        self.export.handle.shared.enter().engine.redirect_state(self.export.id, self.id)
    }
}

/// A range of an export, for a slice to be posted for.
struct Scope<'e> {
    export: &'e Export,
    range: Range<u64>,
}

impl Posting for Scope<'_> {
    type Posted = RedirectId;
    type Outcome = Received;
    type Error = EngineError;

    fn post(&self, target: Box<dyn Target>) -> Result<RedirectId, Unposted<EngineError>> {
        let mut core = self.export.handle.shared.enter();
        let export = match self.export.live() {
            Ok(export) => export,
            Err(error) => return Err((error, target)),
        };
        let posted = core.engine.redirect(export, Wanted::Range(self.range.clone()), target);
        posted.map_err(|(error, returned)| (error, returned.target))
    }

    fn take(&self, id: &RedirectId) -> Option<(Box<dyn Target>, Received)> {
        // Nobody else is told: there is no other handle on it that somebody could wait with.
        let returned = {
            let mut core = self.export.handle.shared.enter();
            core.with(|engine, _, port| engine.take_redirect(port, self.export.id, *id))?
        };
        Some((returned.target, returned.received))
    }
}

impl Export {
    /// Has what is sent into this part of the export go to a slice while `work` runs: byte x to place x - `range.start`, and each byte once, as
    /// [`Export::redirect`] does with memory that is given away. What has come already and was taken by nobody is there before `work` begins. When
    /// `work` returns, or panics, the slice is the caller's again, and what comes then goes into the export.
    ///
    /// Returns what `work` has returned, and what the slice has received. It may be longer than the range.
    ///
    /// `work` may use the export and the node; it must, with [`Progress::Caller`](super::Progress), if anything is to come. The slice is out of its reach.
    /// Doesn't wait by itself.
    ///
    /// # Errors
    /// As [`Export::redirect`]: when the range doesn't lie inside the export, the slice is shorter than the range, or the export has been revoked. Then `work` hasn't been called. A link that
    /// ends meanwhile is no error: the slice holds what has come.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use vmmc::{Key, Node};
    ///
    /// # fn main() -> Result<(), vmmc::Error> {
    /// let node = Node::builder().interface("vh2").open()?;
    /// let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
    /// let mut bytes = [0; 4096];
    /// let (news, received) = inbox.redirect_scoped(0..4096, &mut bytes, |_| inbox.wait_notification(Duration::from_secs(1)))?;
    /// println!("{:?}: {:?}", news?, &bytes[..received.prefix() as usize]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Nobody sees the slice while the engine may be writing it:
    ///
    /// ```compile_fail,E0502
    /// # fn receive(inbox: vmmc::Export) -> Result<(), vmmc::Error> {
    /// let mut bytes = [0; 4096];
    /// let (first, _) = inbox.redirect_scoped(0..4096, &mut bytes, |_| bytes[0])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn redirect_scoped<R>(
        &self,
        range: Range<u64>,
        target: &mut [u8],
        work: impl FnOnce(&ScopedRedirect<'_>) -> R,
    ) -> Result<(R, Received), Error> {
        let scope = Scope { export: self, range };
        Ok(with_scoped(target, &scope, |&id| work(&ScopedRedirect { export: self, id }))?)
    }
}
