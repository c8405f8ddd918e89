//! Waiting for many streams and listeners at once, in user space: what epoll is to descriptors, without a system call while there is work.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::listener::Accepting;
use crate::wait::{Cork, Spin, Watch, Watcher, lock};
use crate::{Stack, VmmcListener, VmmcStream};

/// What a source is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token it was registered with.
    pub token: u64,
    /// Reading, or accepting, wouldn't block: data, the end, or an error is there.
    pub readable: bool,
    /// Writing wouldn't block.
    pub writable: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Stream(Arc<Connection>, bool),
    Listener(Arc<Accepting>),
}

/// A source, where its number says.
#[derive(Debug)]
struct Entry {
    /// `None` when the number is free.
    source: Option<Source>,
    token: u64,
    /// It is among the candidates.
    listed: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    free: Vec<u64>,
    /// By what they are of.
    numbers: HashMap<usize, u64>,
    /// Sources that may be ready, each once.
    candidates: VecDeque<u64>,
}

impl State {
    /// Puts a source on the list of candidates. Returns whether that is news.
    fn list(&mut self, number: u64) -> bool {
        let news =
            self.entries.get_mut(number as usize).is_some_and(|entry| !std::mem::replace(&mut entry.listed, true));
        if news {
            self.candidates.push_back(number);
        }
        news
    }
}

/// What the sources know of the poller.
#[derive(Debug)]
struct Shared {
    stack: Stack,
    state: Mutex<State>,
    /// Who waits here.
    watch: Watch,
    spin: Spin,
}

impl Watcher for Shared {
    fn ready(&self, source: u64) {
        if !lock(&self.state).list(source) {
            return;
        }
        // Only threads wait here.
        self.watch.wake(&self.stack.inner().waiting, &mut Vec::new());
    }
}

/// Waits for many streams and listeners of one stack, level-triggered: what is ready is reported by every wait until it isn't any more.
///
/// One thread with a poller serves thousands of connections: while there is work it makes no system call but those that send.
///
/// ```no_run
/// use vmmc_sockets::{Poller, Stack};
///
/// # fn main() -> std::io::Result<()> {
/// let stack = Stack::builder().interface("vh2").open()?;
/// let listener = stack.bind("10.77.0.2:7".parse().unwrap())?;
/// let poller = Poller::new(&stack);
/// poller.add_listener(&listener, 0)?;
/// let (mut streams, mut ready, mut bytes) = (Vec::new(), Vec::new(), [0; 4096]);
/// loop {
///     poller.wait(&mut ready, None)?;
///     for source in ready.drain(..) {
///         if source.token == 0 {
///             let (stream, _) = listener.accept()?;
///             streams.push(stream);
///             poller.add(&streams[streams.len() - 1], streams.len() as u64, false)?;
///         } else if let Ok(len) = streams[source.token as usize - 1].try_read(&mut bytes) {
///             println!("{len} bytes"); // 0: the end
///         }
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Poller {
    shared: Arc<Shared>,
}

impl Poller {
    /// A poller that watches nothing yet.
    pub fn new(stack: &Stack) -> Poller {
        let shared =
            Shared { stack: stack.clone(), state: Mutex::default(), watch: Watch::default(), spin: Spin::new() };
        Poller { shared: Arc::new(shared) }
    }

    /// Watches a stream for reading, and for writing, too, if `writable` is set. Adding it again changes token and interest. The stream must be one of the poller's
    /// stack.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it is of another stack.
    pub fn add(&self, stream: &VmmcStream, token: u64, writable: bool) -> io::Result<()> {
        self.check(stream.stack())?;
        let connection = stream.connection().clone();
        let key = Arc::as_ptr(&connection) as usize;
        self.insert(key, Source::Stream(connection.clone(), writable), token, |watcher, number| {
            connection.readers.watch(watcher.clone(), number);
            connection.writers.watch(watcher, number);
        });
        Ok(())
    }

    /// Watches a listener.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it is of another stack.
    pub fn add_listener(&self, listener: &VmmcListener, token: u64) -> io::Result<()> {
        self.check(listener.stack())?;
        let accepting = listener.accepting().clone();
        let key = Arc::as_ptr(&accepting) as usize;
        self.insert(key, Source::Listener(accepting.clone()), token, |watcher, number| {
            accepting.watch.watch(watcher, number);
        });
        Ok(())
    }

    fn check(&self, stack: &Stack) -> io::Result<()> {
        if Arc::ptr_eq(stack.inner(), self.shared.stack.inner()) {
            return Ok(());
        }
        let text = format!(
            "a poller of the stack {} can't watch what is of the stack {}",
            self.shared.stack.local(),
            stack.local()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn insert(&self, key: usize, source: Source, token: u64, watch: impl FnOnce(Arc<dyn Watcher>, u64)) {
        let mut state = lock(&self.shared.state);
        let known = state.numbers.get(&key).copied();
        let number = known.or_else(|| state.free.pop()).unwrap_or(state.entries.len() as u64);
        state.numbers.insert(key, number);
        match state.entries.get_mut(number as usize) {
            // It may be a candidate from before: then it is looked at once too often.
            Some(entry) => (entry.source, entry.token) = (Some(source), token),
            None => state.entries.push(Entry { source: Some(source), token, listed: false }),
        }
        drop(state);
        if known.is_none() {
            watch(self.shared.clone(), number);
        }
        // It may be ready already, and another thread may be waiting here.
        self.shared.ready(number);
        self.shared.stack.inner().nudge();
    }

    /// Watches a stream no longer. One that is dropped must be removed, too: until then its end of the connection is kept.
    pub fn remove(&self, stream: &VmmcStream) {
        let connection = stream.connection();
        if self.take(Arc::as_ptr(connection) as usize) {
            let watcher = Arc::as_ptr(&self.shared).cast::<()>();
            connection.readers.unwatch(watcher);
            connection.writers.unwatch(watcher);
        }
    }

    /// Watches a listener no longer.
    pub fn remove_listener(&self, listener: &VmmcListener) {
        let accepting = listener.accepting();
        if self.take(Arc::as_ptr(accepting) as usize) {
            accepting.watch.unwatch(Arc::as_ptr(&self.shared).cast::<()>());
        }
    }

    fn take(&self, key: usize) -> bool {
        let mut state = lock(&self.shared.state);
        let Some(number) = state.numbers.remove(&key) else { return false };
        state.free.push(number);
        state.entries[number as usize].source.take().is_some()
    }

    /// Waits until something is ready, or `timeout` has passed, and puts what is ready to the end of `ready`. Spins for a while, then sleeps. `None` waits for
    /// ever, zero only looks.
    ///
    /// When several sources are ready, what this thread writes until its next wait leaves together, then or after a millisecond, whatever
    /// [`VmmcStream::set_nodelay`] says.
    ///
    /// # Errors
    /// When the node has failed.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let Shared { stack, watch, spin, .. } = &*self.shared;
        let inner = stack.inner();
        Cork::set(false);
        // What was written to the last batch leaves, and what has come since is seen beside what is still ready.
        inner.glance();
        let before = ready.len();
        if !self.collect(ready) && timeout != Some(Duration::ZERO) {
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            inner.waiting.wait(&**inner, watch, spin, deadline, || self.collect(ready).then_some(()))?;
        }
        Cork::set(ready.len() - before > 1);
        Ok(())
    }

    /// What of the candidates is ready. Those that are stay candidates.
    fn collect(&self, ready: &mut Vec<Ready>) -> bool {
        let before = ready.len();
        let mut state = lock(&self.shared.state);
        for _ in 0..state.candidates.len() {
            let Some(number) = state.candidates.pop_front() else { break };
            let entry = &mut state.entries[number as usize];
            let found = entry.source.as_ref().and_then(|source| look(source, entry.token));
            if let Some(found) = found {
                ready.push(found);
                state.candidates.push_back(number);
            } else {
                entry.listed = false;
            }
        }
        ready.len() > before
    }
}

/// Whether a source is ready for what it is watched for.
fn look(source: &Source, token: u64) -> Option<Ready> {
    let (readable, writable) = match source {
        Source::Listener(accepting) => (accepting.is_ready(), false),
        Source::Stream(connection, writable) => (connection.is_readable(), *writable && connection.can_write()),
    };
    (readable || writable).then_some(Ready { token, readable, writable })
}

impl Drop for Poller {
    fn drop(&mut self) {
        Cork::set(false);
        let entries = std::mem::take(&mut *lock(&self.shared.state)).entries;
        let watcher = Arc::as_ptr(&self.shared).cast::<()>();
        for source in entries.into_iter().filter_map(|entry| entry.source) {
            match source {
                Source::Listener(accepting) => accepting.watch.unwatch(watcher),
                Source::Stream(connection, _) => {
                    connection.readers.unwatch(watcher);
                    connection.writers.unwatch(watcher);
                }
            }
        }
    }
}
