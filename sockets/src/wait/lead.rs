//! Leading and following.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::task::Waker;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::{Duration, Instant};

use vmmc::{Event, Events};

use super::{Driver, Spin, Watch, lock};
use crate::stack::Session;

/// What the leader works with.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    /// What has happened and hasn't been dealt with.
    pub batch: Vec<Event>,
    /// Tasks to be woken.
    pub tasks: Vec<Waker>,
    /// How many tasks the last batch has woken.
    pub woken: usize,
    /// The session of the last event: most often that of the next, too.
    pub recent: Option<Arc<Session>>,
}

/// What there is to be driven.
pub(crate) trait Drive {
    fn waiting(&self) -> &Waiting;

    fn events(&self) -> &Events;

    /// Deals with the batch, and wakes whom it concerns.
    fn dispatch(&self, lead: &mut Lead);

    /// Has everything leave that was written and waits for more.
    fn flush(&self);

    /// The node has failed: everybody is to be told.
    fn fail(&self, error: vmmc::Error, lead: &mut Lead);

    /// Why the node has failed, if it has.
    fn failure(&self) -> Option<io::Error>;

    /// Looks after what happens once in a while. Returns when to come again at the latest.
    fn keep_house(&self) -> Option<Duration>;
}

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Waiting {
    lead: Mutex<Lead>,
    /// Threads that are parked, or about to be.
    followers: AtomicUsize,
    /// Tasks that wait, and descriptors that may be waited for.
    served: AtomicUsize,
    /// How often somebody has begun to lead.
    pub(super) tenures: AtomicU64,
    /// The thread that stands by leads.
    pub(super) standing: AtomicBool,
    /// Whoever leads sleeps.
    asleep: AtomicBool,
    /// The thread that wants to lead in his stead, and since when: until it does, or for a while, nobody else begins to.
    wanted: Mutex<Option<(Thread, Instant)>>,
    /// There may be one.
    pub(super) wants: AtomicBool,
    /// The thread that stands by is to lead at once.
    pub(super) called: AtomicBool,
    pub(super) standby: OnceLock<Thread>,
    pub(crate) driver: Driver,
    /// It sleeps until it is roused.
    pub(super) idle: AtomicBool,
    pub(super) stopping: AtomicBool,
    /// The longest anybody spins, if the program has said.
    pub(super) most: Option<Duration>,
}

/// For how long whoever has asked for the lead may take to come and get it.
const RESERVED: Duration = Duration::from_millis(2);

/// What is left until a deadline: `None` for ever.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(Instant::now()))
}

impl Waiting {
    pub(crate) fn new(most: Option<Duration>) -> Waiting {
        Waiting {
            lead: Mutex::default(),
            followers: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            tenures: AtomicU64::new(0),
            standing: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wanted: Mutex::new(None),
            wants: AtomicBool::new(false),
            called: AtomicBool::new(false),
            standby: OnceLock::new(),
            driver: Driver::default(),
            idle: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            most,
        }
    }

    /// Whether another thread than this one is to lead next.
    fn is_reserved(&self) -> bool {
        if !self.wants.load(Ordering::SeqCst) {
            return false;
        }
        let mut wanted = lock(&self.wanted);
        let valid = wanted.as_ref().is_some_and(|(_, since)| since.elapsed() < RESERVED);
        if !valid {
            *wanted = None;
            self.wants.store(false, Ordering::SeqCst);
        }
        wanted.as_ref().is_some_and(|(thread, _)| thread.id() != std::thread::current().id())
    }

    /// Asks whoever sleeps while he leads to let this thread lead. Returns whether it was the first to ask.
    fn want(&self, drive: &dyn Drive) -> bool {
        if !self.asleep.load(Ordering::SeqCst) || self.is_reserved() || self.wants.load(Ordering::SeqCst) {
            return false;
        }
        *lock(&self.wanted) = Some((std::thread::current(), Instant::now()));
        self.wants.store(true, Ordering::SeqCst);
        drive.events().interrupt();
        true
    }

    /// This thread wants to lead no longer, or does. Returns whether it did want to.
    fn unwant(&self) -> bool {
        if !self.wants.load(Ordering::SeqCst) {
            return false;
        }
        let mut wanted = lock(&self.wanted);
        let mine = wanted.as_ref().is_some_and(|(thread, _)| thread.id() == std::thread::current().id());
        if mine {
            *wanted = None;
            self.wants.store(false, Ordering::SeqCst);
        }
        mine
    }

    /// Leads, if nobody does.
    pub(super) fn try_lead(&self) -> Option<MutexGuard<'_, Lead>> {
        if self.is_reserved() {
            return None;
        }
        let lead = match self.lead.try_lock() {
            Ok(lead) => lead,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.unwant();
        // Only who leads changes it.
        self.tenures.store(self.tenures.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(lead)
    }

    /// Whether somebody leads.
    pub(super) fn is_led(&self) -> bool {
        matches!(self.lead.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Whether nobody leads, and this thread may.
    pub(crate) fn is_free(&self) -> bool {
        !self.is_reserved() && !self.is_led()
    }

    /// So many more tasks or descriptors are to be served.
    pub(crate) fn serve(&self, more: usize) {
        let first = self.served.fetch_add(more, Ordering::SeqCst) == 0 && more > 0;
        // A thread that doesn't wait itself doesn't come for the lead, either.
        if self.unwant() || first && !self.driver.is_due() {
            self.call();
        }
    }

    /// The thread that stands by is to lead at once.
    fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// And so many fewer.
    pub(crate) fn release(&self, fewer: usize) {
        if fewer > 0 {
            self.served.fetch_sub(fewer, Ordering::SeqCst);
        }
    }

    /// Whether there is anybody who doesn't lead himself.
    pub(super) fn has_dependants(&self) -> bool {
        self.followers.load(Ordering::SeqCst) > 0 || self.served.load(Ordering::SeqCst) > 0
    }

    /// Has the thread that stands by look whether it is needed.
    pub(super) fn rouse(&self) {
        if let Some(standby) = self.standby.get() {
            standby.unpark();
        }
    }

    /// The thread that stands by.
    pub(crate) fn set_standby(&self, thread: Thread) {
        let _ = self.standby.set(thread);
    }

    /// It ends.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.driver.dismiss_present();
        self.rouse();
    }

    /// The lead has been given up: somebody else may have to take it. A thread that is `hot` is likely to be back before anybody else has been woken; should it not be, the
    /// thread that stands by sees that within two milliseconds.
    pub(super) fn hand_over(&self, hot: bool) {
        // Whoever has just found the lead taken is seen here; or has seen it free.
        fence(Ordering::SeqCst);
        let wanted = self.wants.load(Ordering::SeqCst);
        if wanted && let Some((thread, _)) = &*lock(&self.wanted) {
            thread.unpark();
        }
        let depended = || self.served.load(Ordering::SeqCst) > 0 || !hot && self.followers.load(Ordering::SeqCst) > 0;
        let called = !wanted && !self.driver.is_due() && depended();
        if called {
            self.called.store(true, Ordering::SeqCst);
        }
        // Whoever wants the lead may not come for it, either.
        if called || self.idle.load(Ordering::SeqCst) {
            self.rouse();
        }
    }

    /// Works on what has come, without blocking, unless somebody else does that.
    pub(crate) fn glance(&self, drive: &dyn Drive) {
        let Some(mut lead) = self.try_lead() else {
            // Whoever looks again and again without waiting is quicker than one who must be woken.
            if self.served.load(Ordering::SeqCst) == 0 {
                self.want(drive);
            }
            return;
        };
        match drive.events().poll(&mut lead.batch) {
            Ok(0) => {}
            Ok(_) => drive.dispatch(&mut lead),
            Err(error) => drive.fail(error, &mut lead),
        }
        drop(lead);
        self.hand_over(true);
    }

    /// A turn of the driver of this number: ready when it has no more. See [`Driver`].
    #[cfg(feature = "tokio")]
    pub(crate) fn turn(&self, drive: &dyn Drive, number: u64, context: &mut Context<'_>) -> Poll<()> {
        let driver = &self.driver;
        if self.stopping.load(Ordering::SeqCst) || drive.failure().is_some() || !driver.enter(number, context.waker()) {
            return Poll::Ready(());
        }
        let wrote = driver.take_corked();
        let taken = match self.try_lead() {
            // Which has everything leave, too.
            Some(mut lead) => match drive.events().poll(&mut lead.batch) {
                Ok(taken) => {
                    if taken > 0 {
                        drive.dispatch(&mut lead);
                    }
                    taken
                }
                Err(error) => {
                    drive.fail(error, &mut lead);
                    return Poll::Ready(());
                }
            },
            None => {
                if wrote {
                    drive.flush();
                }
                0
            }
        };
        if taken > 0 || wrote {
            // Behind those that have been woken.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        driver.rest();
        if driver.take_corked() {
            drive.flush();
        }
        self.hand_over(false);
        Poll::Pending
    }

    /// The driver of this number is gone, and its runtime perhaps, too.
    #[cfg(feature = "tokio")]
    pub(crate) fn leave_office(&self, drive: &dyn Drive, number: u64) {
        self.driver.dismiss(number);
        if self.driver.take_corked() {
            drive.flush();
        }
        self.hand_over(false);
    }

    /// Waits until `check` yields something, which events on `watch` may bring about; at most until the deadline, when it yields `None`.
    pub(crate) fn wait<T>(
        &self,
        drive: &dyn Drive,
        watch: &Watch,
        spin: &Spin,
        deadline: Option<Instant>,
        mut check: impl FnMut() -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            if let Some(value) = check() {
                return Ok(Some(value));
            }
            if let Some(failure) = drive.failure() {
                return Err(failure);
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(None);
            }
            match self.try_lead() {
                Some(lead) => {
                    if let Some(value) = self.lead(drive, lead, spin, deadline, &mut check) {
                        return Ok(Some(value));
                    }
                }
                None => {
                    if let Some(value) = self.follow(drive, watch, spin, deadline, &mut check) {
                        return Ok(Some(value));
                    }
                }
            }
        }
    }

    /// Leads until `check` yields something, the deadline has come, or the node has failed.
    fn lead<T>(
        &self,
        drive: &dyn Drive,
        mut lead: MutexGuard<'_, Lead>,
        spin: &Spin,
        deadline: Option<Instant>,
        check: &mut impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut slept = None;
        // What came between the last look and now has woken nobody here.
        let mut value = check();
        while value.is_none() {
            // However busy the others are.
            if deadline.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            match take(drive, &mut lead, spin.allowance(self.most), deadline, &mut slept) {
                Ok(0) => {}
                Ok(_) => drive.dispatch(&mut lead),
                Err(error) => {
                    drive.fail(error, &mut lead);
                    break;
                }
            }
            value = check();
            // Who sleeps can as well be woken by another.
            if slept.is_some() && self.wants.load(Ordering::SeqCst) {
                break;
            }
        }
        drop(lead);
        self.hand_over(spin.is_hot());
        if value.is_some() {
            spin.learn(slept.is_none_or(|since: Instant| Spin::is_short(since.elapsed())));
        }
        value
    }

    /// Parks until `check` yields something, the deadline has come, or nobody leads.
    fn follow<T>(
        &self,
        drive: &dyn Drive,
        watch: &Watch,
        spin: &Spin,
        deadline: Option<Instant>,
        check: &mut impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let (me, start) = (std::thread::current(), Instant::now());
        watch.enter(me.clone());
        self.followers.fetch_add(1, Ordering::SeqCst);
        let mut asked = false;
        let value = loop {
            let value = check();
            if value.is_some() || self.is_free() || drive.failure().is_some() {
                break value;
            }
            // To be woken by somebody who must be woken himself takes twice as long as to lead: whoever waits for short times had better, and so
            // had a thread that is alone with the one that stands by.
            let served = self.served.load(Ordering::SeqCst) > 0;
            let alone = self.standing.load(Ordering::SeqCst) && self.followers.load(Ordering::SeqCst) == 1;
            if !asked && !served && (alone || spin.is_hot()) {
                asked = self.want(drive);
            }
            match left(deadline) {
                None => std::thread::park(),
                Some(Duration::ZERO) => {
                    self.unwant();
                    break None;
                }
                Some(left) => std::thread::park_timeout(left),
            }
        };
        self.followers.fetch_sub(1, Ordering::SeqCst);
        watch.leave(&me);
        if value.is_some() {
            spin.learn(Spin::is_short(start.elapsed()));
            self.unwant();
        }
        value
    }
}

/// Takes events: spins for `allowance`, then sleeps, until there are some, the deadline has come, or it is interrupted. Keeps the time from which on it has
/// slept.
pub(super) fn take(
    drive: &dyn Drive,
    lead: &mut Lead,
    allowance: Duration,
    deadline: Option<Instant>,
    slept: &mut Option<Instant>,
) -> Result<usize, vmmc::Error> {
    let events = drive.events();
    if allowance > Duration::ZERO && slept.is_none() {
        let spin = match left(deadline) {
            Some(left) => Some(left.min(allowance)),
            None if allowance == Duration::MAX => None,
            None => Some(allowance),
        };
        let taken = events.wait(&mut lead.batch, Duration::MAX, spin)?;
        if taken == 0 && allowance < Duration::MAX {
            // It sleeps next time: whoever has interrupted this wanted it to look first.
            *slept = Some(Instant::now());
        }
        return Ok(taken);
    }
    slept.get_or_insert_with(Instant::now);
    let asleep = &drive.waiting().asleep;
    asleep.store(true, Ordering::SeqCst);
    let taken = events.wait(&mut lead.batch, Duration::ZERO, left(deadline));
    asleep.store(false, Ordering::SeqCst);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_whose_task_waits_has_no_claim_to_the_lead() {
        let waiting = Waiting::new(None);
        // A call that found nothing asked for it. Then the task said that it is to be woken, and its thread went to sleep.
        *lock(&waiting.wanted) = Some((std::thread::current(), Instant::now() + Duration::from_secs(3600)));
        waiting.wants.store(true, Ordering::SeqCst);
        let may_lead = || std::thread::scope(|scope| scope.spawn(|| waiting.is_free()).join().unwrap());
        assert!(!may_lead());
        waiting.served.store(1, Ordering::SeqCst);
        waiting.serve(1);
        assert!(may_lead());
        assert!(waiting.called.load(Ordering::SeqCst), "nobody comes to lead");
    }
}
