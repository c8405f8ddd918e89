//! The tasks that wait for one thing, behind a single waker that is left with the stack.
//!
//! tokio's promise is that of all who wait by a `poll_` function the last is woken, that of those who `await` every one is, and that a future that is dropped leaves
//! nothing behind. The stack only knows wakers, and forgets them when it calls them.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Tasks that wait. Allocates nothing before the first one does.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    crowd: OnceLock<Arc<Crowd>>,
}

/// What the stack wakes.
#[derive(Debug, Default)]
struct Crowd {
    who: Mutex<Who>,
}

#[derive(Debug, Default)]
struct Who {
    wakers: Vec<(u64, Waker)>,
    /// The number of the ticket that was given out last.
    last: u64,
}

/// The place of whoever asks by a `poll_` function: there is one.
const POLLER: u64 = 0;

impl Crowd {
    fn who(&self) -> MutexGuard<'_, Who> {
        // Only a waker's own code could panic, and what it leaves is whole.
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Who {
    fn enter(&mut self, number: u64, waker: &Waker) {
        match self.wakers.iter_mut().find(|(other, _)| *other == number) {
            Some((_, place)) => place.clone_from(waker),
            None => self.wakers.push((number, waker.clone())),
        }
    }

    fn leave(&mut self, number: u64) -> Option<Waker> {
        let at = self.wakers.iter().position(|(other, _)| *other == number)?;
        Some(self.wakers.swap_remove(at).1)
    }
}

impl Wake for Crowd {
    fn wake(self: Arc<Crowd>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Crowd>) {
        // Without the lock: whoever is woken may come back at once.
        let wakers = std::mem::take(&mut self.who().wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Waiters {
    /// Asks `ready` for a `poll_` function.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        ready: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.poll_as(POLLER, context, ready)
    }

    /// For a future that waits, until it is dropped.
    pub(super) fn ticket(&self) -> Ticket<'_> {
        Ticket { waiters: self, number: None }
    }

    fn crowd(&self) -> &Arc<Crowd> {
        self.crowd.get_or_init(Arc::default)
    }

    fn poll_as<T>(
        &self,
        number: u64,
        context: &mut Context<'_>,
        ready: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let crowd = self.crowd();
        // First, so that it is there if the stack wakes all before `ready` has returned.
        crowd.who().enter(number, context.waker());
        let answer = ready(&mut Context::from_waker(&Waker::from(crowd.clone())));
        if answer.is_ready() {
            let gone = crowd.who().leave(number);
            drop(gone);
        }
        answer
    }
}

/// The place of a future among those who wait.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    waiters: &'a Waiters,
    number: Option<u64>,
}

impl Ticket<'_> {
    /// Asks `ready`, and waits if it says so.
    pub(super) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        ready: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let number = *self.number.get_or_insert_with(|| {
            let mut who = self.waiters.crowd().who();
            who.last += 1;
            who.last
        });
        self.waiters.poll_as(number, context, ready)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let gone = self.waiters.crowd().who().leave(number);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::counter::Counter;

    /// What stands for the stack: it has the waker of whoever asked last.
    #[derive(Default)]
    struct Source(Mutex<Option<Waker>>);

    impl Source {
        fn pending(&self, context: &mut Context<'_>) -> Poll<()> {
            *self.0.lock().unwrap() = Some(context.waker().clone());
            Poll::Pending
        }

        fn wake(&self) {
            self.0.lock().unwrap().take().unwrap().wake();
        }
    }

    fn woken(counters: &[Arc<Counter>]) -> Vec<usize> {
        counters.iter().map(|counter| counter.count()).collect()
    }

    #[test]
    fn all_who_await_are_woken_and_the_last_who_polls() {
        let (waiters, source) = (Waiters::default(), Source::default());
        let counters: Vec<Arc<Counter>> = (0..5).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = counters.iter().map(|counter| Waker::from(counter.clone())).collect();
        let mut tickets: Vec<Ticket<'_>> = (0..3).map(|_| waiters.ticket()).collect();
        for (ticket, waker) in tickets.iter_mut().zip(&wakers) {
            assert!(ticket.poll(&mut Context::from_waker(waker), |context| source.pending(context)).is_pending());
        }
        for waker in &wakers[3..] {
            assert!(waiters.poll(&mut Context::from_waker(waker), |context| source.pending(context)).is_pending());
        }
        // Cancelled: not woken.
        tickets.remove(1);
        source.wake();
        assert_eq!(woken(&counters), [1, 0, 1, 0, 1]);
        // Nobody waits any more: nobody is kept, or woken again.
        drop(wakers);
        assert!(counters.iter().all(|counter| Arc::strong_count(counter) == 1));

        let waker = Waker::from(counters[1].clone());
        assert!(tickets[0].poll(&mut Context::from_waker(&waker), |context| source.pending(context)).is_pending());
        assert!(tickets[0].poll(&mut Context::from_waker(&waker), |_| Poll::Ready(())).is_ready());
        source.wake();
        assert_eq!(woken(&counters), [1, 0, 1, 0, 1]);
        drop(waker);
        assert_eq!(Arc::strong_count(&counters[1]), 1);
    }

    #[test]
    fn a_wake_before_the_answer_is_not_lost() {
        let (waiters, counter) = (Waiters::default(), Arc::<Counter>::default());
        let waker = Waker::from(counter.clone());
        let answer = waiters.poll(&mut Context::from_waker(&waker), |context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(answer.is_pending());
        assert_eq!(counter.count(), 1);
    }
}
