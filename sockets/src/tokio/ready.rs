//! What a task may wait for, and the loop around everything that may have to wait.

use std::fmt;
use std::io;
use std::ops::BitOr;
use std::task::{Context, Poll, ready};

use ::tokio::task::coop;

/// What to wait for: as `tokio::io::Interest`, which exists only where tokio's own network driver does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

const READ: u8 = 1;
const WRITE: u8 = 2;

impl Interest {
    /// Data, the end of the data, or an error.
    pub const READABLE: Interest = Interest(READ);
    /// Room for data, or an error.
    pub const WRITABLE: Interest = Interest(WRITE);

    /// Whether reading is meant.
    pub const fn is_readable(self) -> bool {
        self.0 & READ != 0
    }

    /// Whether writing is meant.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Both this and `other`.
    #[must_use]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self.0))
    }
}

/// What wouldn't block: as `tokio::io::Ready`. An end or an error makes both readable and writable, since neither would block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    /// Nothing.
    pub const EMPTY: Ready = Ready(0);
    /// Reading.
    pub const READABLE: Ready = Ready(READ);
    /// Writing.
    pub const WRITABLE: Ready = Ready(WRITE);
    /// Both.
    pub const ALL: Ready = Ready(READ | WRITE);

    /// Whether everything would block.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a read wouldn't block.
    pub const fn is_readable(self) -> bool {
        self.0 & READ != 0
    }

    /// Whether a write wouldn't block.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self.0))
    }
}

fn name(bits: u8) -> &'static str {
    match (bits & READ != 0, bits & WRITE != 0) {
        (true, true) => "READABLE | WRITABLE",
        (true, false) => "READABLE",
        (false, true) => "WRITABLE",
        (false, false) => "(empty)",
    }
}

/// Attempts something until it doesn't fail for want of readiness; `ready` leaves the waker where it is called when an attempt may succeed.
/// Costs the task a unit of its budget, unless it has to wait.
pub(super) fn poll_io<T>(
    context: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
    mut ready: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<T>> {
    let budget = ready!(coop::poll_proceed(context));
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(ready(context))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                budget.made_progress();
                return Poll::Ready(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    #[test]
    fn an_attempt_is_repeated_when_it_may_succeed() {
        let mut context = Context::from_waker(Waker::noop());
        let (mut attempts, mut waits) = (0, 0);
        let mut attempt = || {
            attempts += 1;
            match attempts {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 | 3 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(attempts),
            }
        };
        let mut wait = |_: &mut Context<'_>| {
            waits += 1;
            if waits == 1 { Poll::Pending } else { Poll::Ready(Ok(())) }
        };
        assert!(poll_io(&mut context, &mut attempt, &mut wait).is_pending());
        assert!(matches!(poll_io(&mut context, &mut attempt, &mut wait), Poll::Ready(Ok(4))));
        assert_eq!((attempts, waits), (4, 2));
        let broken = poll_io(
            &mut context,
            || Err::<(), _>(io::ErrorKind::WouldBlock.into()),
            |_| Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        );
        assert!(matches!(broken, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_task_that_never_waits_yields() {
        let runtime = ::tokio::runtime::Builder::new_current_thread().build().unwrap();
        let made = runtime.block_on(async {
            let mut made = 0;
            poll_fn(|context| {
                loop {
                    match poll_io(context, || Ok(()), |_| unreachable!("it never waits")) {
                        // Far more than any budget.
                        Poll::Ready(_) if made < 100_000 => made += 1,
                        Poll::Ready(_) => return Poll::Ready(None),
                        Poll::Pending => return Poll::Ready(Some(made)),
                    }
                }
            })
            .await
        });
        assert!(made.is_some_and(|made| made > 1), "{made:?}");
    }

    #[test]
    fn interests_and_readiness_add_up() {
        let both = Interest::READABLE | Interest::WRITABLE;
        assert!(both.is_readable() && both.is_writable() && !Interest::READABLE.is_writable());
        assert_eq!(Ready::READABLE | Ready::WRITABLE, Ready::ALL);
        assert!(Ready::EMPTY.is_empty() && !Ready::WRITABLE.is_empty() && !Ready::WRITABLE.is_readable());
        assert_eq!(format!("{both:?} {:?}", Ready::EMPTY), "READABLE | WRITABLE (empty)");
    }
}
