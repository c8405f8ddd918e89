//! Remote read: bytes of an import are fetched into memory of the program's own.

use std::marker::PhantomData;
use std::time::Duration;

use super::import::Import;
use super::progress::{Core, Step};
use crate::error::Error;
use crate::memory::Target;

/// A fetch has failed. The memory that was to be filled comes back with the error, and part of it may have been; as an [`Error`], by
/// `?`, it is dropped.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct FetchFailed<T> {
    /// Why.
    pub error: Error,
    /// The memory that was to be filled.
    pub target: T,
}

/// Without the memory, which may be long, and of any type.
impl<T> std::fmt::Debug for FetchFailed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchFailed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> From<FetchFailed<T>> for Error {
    fn from(failed: FetchFailed<T>) -> Error {
        failed.error
    }
}

impl Import {
    /// Prepares to fill `target` with the bytes of the export from `offset` on, as many as it has room for. Nothing happens until
    /// [`FetchBuilder::start`] or [`FetchBuilder::wait`]. The exporter's program takes no part in it but to let its
    /// engine work (see [`Progress`](super::Progress)); it must have allowed it, by [`ExportBuilder::readable`](super::ExportBuilder::readable).
    ///
    /// A fetch sees what was sent to the same peer before it was started, by any thread; but not what the exporter's program has
    /// [redirected](super::Export::redirect), for that is not in the export. What is written while it is under way, by anybody, it may
    /// see or not, or in part.
    ///
    /// ```no_run
    /// # use vmmc::{Import, Key, Node};
    /// # fn main() -> Result<(), vmmc::Error> {
    /// // On one host:
    /// let node = Node::builder().interface("vh2").open()?;
    /// let table = node.export("table").len(1 << 20).key(Key::PUBLIC).readable(true).create()?;
    /// table.write(4096, b"hello")?;
    ///
    /// // On the other:
    /// let node = Node::builder().interface("vh1").open()?;
    /// let remote = node.import("10.77.0.2:7000".parse().unwrap(), "table", Key::PUBLIC)?;
    /// assert_eq!(remote.fetch(4096, vec![0; 5]).wait()?, b"hello");
    ///
    /// // Several may be under way, and small ones take about as long as one.
    /// let fetches: Vec<_> =
    ///     (0..16).map(|i| remote.fetch(i * 4096, vec![0; 100]).start()).collect::<Result<_, _>>()?;
    /// for fetch in fetches {
    ///     let bytes = fetch.wait()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn fetch<T: Target>(&self, offset: u64, target: T) -> FetchBuilder<'_, T> {
        FetchBuilder { import: self, offset, target, timeout: None }
    }

    /// The `len` bytes of the export from `offset` on. Blocks.
    ///
    /// # Errors
    /// As [`FetchBuilder::wait`].
    pub fn fetch_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        // Before memory is taken for them.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len()) {
            let (name, length, export) = (self.name().to_owned(), len as u64, self.len());
            return Err(crate::engine::EngineError::OutOfRange { name, offset, length, export }.into());
        }
        Ok(self.fetch(offset, vec![0; len]).wait()?)
    }
}

/// A fetch that is about to be made: [`Import::fetch`].
#[derive(Debug)]
#[must_use = "a fetch happens with `start` or `wait`"]
pub struct FetchBuilder<'i, T> {
    import: &'i Import,
    offset: u64,
    target: T,
    timeout: Option<Duration>,
}

impl<'i, T: Target> FetchBuilder<'i, T> {
    /// How long the whole may take. Default: as long as something comes. When nothing does for as long as it takes to find that a peer
    /// is dead, connect timeout and peer timeout together, it has failed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks for the bytes, and returns at once, unless 128 fetches from this peer are under way: then it blocks until one has ended.
    /// Nobody else has the target until the fetch is over.
    ///
    /// # Errors
    /// When the export may not be read or is shorter, or the import is of no use any more.
    pub fn start(self) -> Result<PendingFetch<'i, T>, FetchFailed<T>> {
        let FetchBuilder { import, offset, target, timeout } = self;
        let shared = &import.handle.shared;
        let after = timeout.unwrap_or(shared.patience);
        let mut target: Option<Box<dyn Target>> = Some(Box::new(target));
        let mut begin = |core: &mut Core| {
            let now = core.now();
            let (engine, mut wire) = core.parts();
            let port = wire.port();
            let begun = engine.fetch(now, port, import.id, offset, &mut target)?;
            match (begun, port.flush()) {
                // If the wire has failed, so will the wait.
                (Some(id), _) => Ok(Step::Done(id)),
                (None, flushed) => flushed.map(|()| Step::Idle).map_err(Error::Wire),
            }
        };
        let mut seen = 0;
        let begun = loop {
            let begun = shared.wait(Some(after), &mut begin);
            if timeout.is_some() || !matches!(begun, Ok(None)) {
                break begun;
            }
            // As long as something comes for those that are under way.
            let fetched = shared.enter().engine.counters().fetched_bytes;
            if fetched == std::mem::replace(&mut seen, fetched) {
                break begun;
            }
        };
        match begun.and_then(|begun| begun.ok_or(Error::Timeout { what: "end of one of 128 fetches before", after })) {
            Ok(id) => Ok(PendingFetch { import, id: Some(id), timeout, target: PhantomData }),
            Err(error) => Err(failed(error, target)),
        }
    }

    /// Fetches, and blocks until all bytes are there. Gives the target back, filled.
    ///
    /// # Errors
    /// As [`FetchBuilder::start`] and [`PendingFetch::wait`].
    pub fn wait(self) -> Result<T, FetchFailed<T>> {
        self.start()?.wait()
    }
}

fn failed<T: Target>(error: Error, target: Option<Box<dyn Target>>) -> FetchFailed<T> {
    // It is there whenever a fetch hasn't ended well.
    let target = target.unwrap_or_else(|| unreachable!("a failed fetch has lost its target"));
    FetchFailed { error, target: target.downcast() }
}

/// A fetch under way. Dropping it gives it up, and its target with it.
#[derive(Debug)]
pub struct PendingFetch<'i, T: Target> {
    import: &'i Import,
    /// `None` once it is over.
    id: Option<u32>,
    timeout: Option<Duration>,
    target: PhantomData<fn() -> T>,
}

impl<T: Target> PendingFetch<'_, T> {
    /// Whether it is over, well or not: [`PendingFetch::wait`] won't block then. Doesn't look for packets.
    pub fn is_done(&self) -> bool {
        let core = self.import.handle.shared.enter();
        self.id.is_none_or(|id| core.engine.has_ended(id))
    }

    /// Blocks until all bytes are there. Gives the target back, filled.
    ///
    /// # Errors
    /// When the exporter revokes the export meanwhile, or dies; or [`Error::Timeout`]: see [`FetchBuilder::timeout`]. The target comes
    /// back with the error. Or [`EngineError::TargetLost`](crate::EngineError::TargetLost): then what comes back is an empty buffer.
    pub fn wait(mut self) -> Result<T, FetchFailed<T>> {
        let Some(id) = self.id else { unreachable!("only what ends it takes its number") };
        match self.outcome(id) {
            Ok(Ok(Some(target))) => {
                self.id = None;
                Ok(target.downcast())
            }
            Ok(Err((error, target))) => {
                self.id = None;
                Err(failed(error.into(), Some(target)))
            }
            Ok(Ok(None)) => {
                let after = self.timeout.unwrap_or(self.import.handle.shared.patience);
                Err(self.give_up(Error::Timeout { what: "answer to a fetch", after }))
            }
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Waits for the end; `None` when it doesn't come in time.
    #[allow(clippy::type_complexity)] // what the engine says, within what waiting says
    fn outcome(&self, id: u32) -> Result<Result<Option<Box<dyn Target>>, crate::engine::Unfetched>, Error> {
        let shared = &self.import.handle.shared;
        let ready = |core: &mut Core| {
            Ok(match core.with(|engine, _, port| engine.fetched(port, id)) {
                Ok(None) => Step::Idle,
                ended => Step::Done(ended),
            })
        };
        let mut seen = 0;
        loop {
            if let Some(ended) = shared.wait(Some(self.timeout.unwrap_or(shared.patience)), ready)? {
                return Ok(ended);
            }
            // As long as something comes.
            let received = shared.enter().engine.received(id);
            if self.timeout.is_some() || received == std::mem::replace(&mut seen, received) {
                return Ok(Ok(None));
            }
        }
    }

    /// Gives it up. Gives the target back, with what has come so far; but a buffer that is [lost](crate::EngineError::TargetLost) comes back empty.
    pub fn cancel(mut self) -> T {
        self.withdraw()
            .map(|target| target.downcast())
            .unwrap_or_else(|| unreachable!("a fetch that isn't over has its target"))
    }

    fn give_up(&mut self, error: Error) -> FetchFailed<T> {
        failed(error, self.withdraw())
    }

    /// Nothing is written to the target from now on.
    fn withdraw(&mut self) -> Option<Box<dyn Target>> {
        let id = self.id.take()?;
        let shared = &self.import.handle.shared;
        let mut core = shared.enter();
        let now = core.now();
        let (engine, mut wire) = core.parts();
        let port = wire.port();
        let target = engine.cancel_fetch(port, id);
        engine.tick(now, port);
        // If it can't leave now, it does with the next progress.
        let _ = port.flush();
        shared.leave(&mut core);
        target
    }
}

impl<T: Target> Drop for PendingFetch<'_, T> {
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}
