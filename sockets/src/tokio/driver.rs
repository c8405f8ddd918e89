//! The task that leads while the others have much to do: its home in a runtime.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::runtime::Handle;

use crate::Stack;
use crate::stack::Inner;

/// The driver of this number, of a stack.
struct Turns {
    inner: Arc<Inner>,
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
        runtime.spawn(Turns { inner: stack.inner().clone(), number });
    }
}

impl Future for Turns {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.inner.waiting.turn(&*self.inner, self.number, context)
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.inner.waiting.leave_office(&*self.inner, self.number);
    }
}
