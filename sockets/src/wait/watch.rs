//! Who is to be told when a stream becomes readable or writable: parked threads, tasks and pollers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use super::lead::Waiting;

/// Something that watches several sources.
pub(crate) trait Watcher: Send + Sync + std::fmt::Debug {
    /// The source it knows by this number may be ready.
    fn ready(&self, source: u64);
}

/// Those who wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// There is anybody.
    any: AtomicBool,
    who: Mutex<Who>,
}

#[derive(Debug, Default)]
struct Who {
    threads: Vec<Thread>,
    wakers: Vec<Waker>,
    watchers: Vec<(Arc<dyn Watcher>, u64)>,
}

impl Who {
    fn is_empty(&self) -> bool {
        self.threads.is_empty() && self.wakers.is_empty() && self.watchers.is_empty()
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks but on a bug, and what they protect is never left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// The thread that calls this is going to park, unless what it waits for has come: look once more after this.
    pub(crate) fn enter(&self, thread: Thread) {
        let mut who = lock(&self.who);
        who.threads.push(thread);
        self.any.store(true, Ordering::SeqCst);
    }

    /// It has been unparked, or has given up.
    pub(crate) fn leave(&self, thread: &Thread) {
        let mut who = lock(&self.who);
        if let Some(at) = who.threads.iter().position(|t| t.id() == thread.id()) {
            who.threads.swap_remove(at);
        }
        self.any.store(!who.is_empty(), Ordering::SeqCst);
    }

    /// A task wants to be woken, once: look once more after this.
    pub(crate) fn arm(&self, waker: &Waker, waiting: &Waiting) {
        let mut who = lock(&self.who);
        if !who.wakers.iter().any(|w| w.will_wake(waker)) {
            who.wakers.push(waker.clone());
            waiting.serve(1);
        }
        self.any.store(true, Ordering::SeqCst);
    }

    /// No task waits any longer.
    pub(crate) fn disarm(&self, waiting: &Waiting) {
        let mut who = lock(&self.who);
        waiting.release(who.wakers.len());
        let gone = std::mem::take(&mut who.wakers);
        self.any.store(!who.is_empty(), Ordering::SeqCst);
        drop(who);
        // What they do when they are dropped is their own affair.
        drop(gone);
    }

    /// A watcher is told from now on whenever there is news.
    pub(crate) fn watch(&self, watcher: Arc<dyn Watcher>, source: u64) {
        let mut who = lock(&self.who);
        who.watchers.push((watcher, source));
        self.any.store(true, Ordering::SeqCst);
    }

    /// And now no longer.
    pub(crate) fn unwatch(&self, watcher: *const ()) {
        let mut who = lock(&self.who);
        who.watchers.retain(|(other, _)| Arc::as_ptr(other).cast::<()>() != watcher);
        self.any.store(!who.is_empty(), Ordering::SeqCst);
    }

    /// There is news. Tasks are handed to the caller, who wakes them when it holds no lock that they may want.
    pub(crate) fn wake(&self, waiting: &Waiting, tasks: &mut Vec<Waker>) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut who = lock(&self.who);
        who.threads.iter().for_each(Thread::unpark);
        waiting.release(who.wakers.len());
        tasks.append(&mut who.wakers);
        who.watchers.iter().for_each(|(watcher, source)| watcher.ready(*source));
        self.any.store(!who.is_empty(), Ordering::SeqCst);
    }
}
