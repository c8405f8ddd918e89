//! The task that leads while the others have much to do: its home in a runtime.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use ::tokio::runtime::Handle;

use crate::Stack;
use crate::stack::Inner;

/// The driver of this number, of a stack. It doesn't keep that: a stack closes where its last handle is dropped, and its runtime may never come round again.
struct Turns {
    inner: Weak<Inner>,
    number: u64,
}

/// Sees to it that there is one: in the runtime that polls the task that asks for it, if one does.
pub(super) fn bring(stack: &Stack) {
    let waiting = &stack.inner().waiting;
    if waiting.driver.is_present() {
        return;
    }
    // Tasks of another executor have none: the thread that stands by does it all.
    if let Ok(runtime) = Handle::try_current()
        && let Some(number) = waiting.driver.appoint()
    {
        runtime.spawn(Turns { inner: Arc::downgrade(stack.inner()), number });
    }
}

impl Future for Turns {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.inner.upgrade().map_or(Poll::Ready(()), |inner| inner.waiting.turn(&*inner, self.number, context))
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.waiting.leave_office(&*inner, self.number);
        }
    }
}
