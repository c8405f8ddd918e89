//! Corks: while a thread works on a batch of things that were ready together, what it writes leaves together, by one system call.
//!
//! A packet costs a system call when it leaves alone, and that is most of what it costs. A thread that serves many streams has many of them ready
//! when it is busy. It pays nothing in latency for sending what it has written once it is through with them, because it is through the sooner.

use std::cell::Cell;

thread_local! {
    /// What this thread writes waits for more.
    static CORKED: Cell<bool> = const { Cell::new(false) };
}

/// The present thread's cork.
pub(crate) struct Cork;

impl Cork {
    /// Puts it in, or takes it out. What has been written then leaves with the engine's next turn.
    pub(crate) fn set(corked: bool) -> bool {
        CORKED.replace(corked)
    }

    /// Whether it is in.
    pub(crate) fn is_in() -> bool {
        CORKED.get()
    }
}
