//! Who drives the engine, and how the others wait.
//!
//! Whoever holds the lock may drive: take packets from the port, hand them to the engine, send what it wants sent. With
//! [`Progress::Caller`](super::Progress) every call that waits drives; with `Progress::Thread` only the thread does.
//!
//! ```text
//!   a call waits:   look -> drive -> look -> ... spin ... -> sleep -> look -> ...
//!                                                            |
//!                   the first to sleep is the leader: it sleeps in poll(2) on the socket
//!                   those after it follow: they sleep on a condition variable, and whoever drives wakes them
//! ```
//!
//! The leader is woken through an eventfd when somebody has given it work: an earlier deadline, or something that no packet
//! announces. In the end there is always either nobody who waits, or a leader.

mod thread;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tracing::error;
use xdp_prog::Steering;

pub(super) use self::thread::spawn;
use super::lane::Resolve;
use super::{Identity, scheduler};
use crate::engine::Engine;
use crate::error::Error;
use crate::port::tap::{Capture, Tap, TooManyCaptures, Wire};
use crate::port::{self, Descriptors, Port, RxPacket};
use crate::time::{Clock, Time};
use crate::wire::frame::Mac;

/// How many turns that find nothing go by from one look at the clock to the next.
const LOOK_EVERY: u32 = 16;

/// How often events are taken without a look at the wire: a node may send itself as many as it takes.
const MOST_UNDRIVEN: u32 = 16;

/// How many batches of packets are worked on before anything else.
const MAX_BATCHES: usize = 64;

/// How long a call spins on the thread's doings before it asks for itself again.
const SPIN_TURN: Duration = Duration::from_micros(5);

/// How far something has come that is waited for.
pub(super) enum Step<T> {
    /// It is there.
    Done(T),
    /// It has come nearer: ask again at once.
    Moved,
    /// Nothing to be done before something happens.
    Idle,
}

impl<T> From<Option<T>> for Step<T> {
    fn from(value: Option<T>) -> Step<T> {
        value.map_or(Step::Idle, Step::Done)
    }
}

/// What the lock protects.
pub(crate) struct Core {
    pub engine: Engine,
    pub port: Box<dyn Port>,
    /// Who listens to the port.
    pub tap: Tap,
    clock: Clock,
    batch: Vec<RxPacket>,
    /// Turns of driving: the clock is read in every [`LOOK_EVERY`]th that finds no packet.
    turns: u32,
    /// How often events have been asked for since the last of them.
    undriven: u32,
    /// The time, if a turn has read it since somebody last asked.
    looked_at: Option<Time>,
    /// Somebody sleeps in poll(2), or the thread drives.
    led: bool,
    /// Until when the leader sleeps, unless it is woken.
    asleep_until: Option<Time>,
    /// How many sleep on the condition variable.
    followers: usize,
    /// The engine's news that the others have been told of.
    told: u64,
    /// The thread has ended because the wire failed: the error's code.
    pub failed: Option<i32>,
}

/// What a node's handles and its thread share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    news: Condvar,
    /// Threads that want the lock: one that spins with it lets them in.
    contenders: AtomicUsize,
    /// Counts the times something has happened: followers spin on it.
    epoch: AtomicU64,
    wake: OwnedFd,
    sockets: Vec<OwnedFd>,
    stopping: AtomicBool,
    /// Calls drive the engine.
    drives: bool,
    spin: Duration,
    /// How long to wait for a peer's answer at the most.
    pub(super) patience: Duration,
    pub(super) resolver: Mutex<Box<dyn Resolve>>,
    pub(super) steering: Option<Arc<Steering>>,
    pub(super) identity: Identity,
}

impl Core {
    pub(super) fn new(engine: Engine, port: Box<dyn Port>, clock: Clock) -> Core {
        let batch = Vec::with_capacity(64);
        Core {
            engine,
            port,
            tap: Tap::default(),
            clock,
            batch,
            turns: 0,
            undriven: 0,
            looked_at: None,
            led: false,
            asleep_until: None,
            followers: 0,
            told: 0,
            failed: None,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Works on what has arrived and what is due, without blocking. Returns whether there was anything.
    fn drive(&mut self) -> Result<bool, Error> {
        let mut wire = Wire::new(&mut *self.port, &mut self.tap);
        let port = wire.port();
        port.receive(&mut self.batch).map_err(Error::Wire)?;
        self.turns = self.turns.wrapping_add(1);
        self.undriven = 0;
        let clock = self.clock;
        let landed = self.engine.land(|| clock.now(), port).map_err(Error::Wire)?;
        if self.batch.is_empty() && !landed && !self.turns.is_multiple_of(LOOK_EVERY) {
            return Ok(false);
        }
        let now = self.clock.now();
        if !landed {
            self.engine.look(now);
        }
        self.looked_at = Some(now);
        let busy = landed || !self.batch.is_empty() || now >= self.engine.deadline();
        if busy {
            // All that is here, before the timers: a peer whose packets wait isn't silent. But not for ever.
            for _ in 0..MAX_BATCHES {
                let more = self.batch.len() >= 64;
                for packet in self.batch.drain(..) {
                    self.engine.receive(now, port, packet);
                }
                if !more {
                    break;
                }
                port.receive(&mut self.batch).map_err(Error::Wire)?;
            }
            self.engine.tick(now, port);
        }
        port.flush().map_err(Error::Wire)?;
        Ok(busy)
    }

    /// Whether something has happened since the last time that a caller may be waiting for.
    fn has_news(&mut self) -> bool {
        let news = self.engine.news();
        std::mem::replace(&mut self.told, news) != news
    }

    /// Whether anybody drives.
    ///
    /// # Errors
    /// When the wire has failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |code| Err(Error::Wire(std::io::Error::from_raw_os_error(code))))
    }

    /// Remembers that nobody drives any more.
    fn fail(&mut self, error: &Error) {
        error!(target: "vmmc::node", %error, "the engine thread ends: every link will fall silent");
        let code = if let Error::Wire(source) = error { source.raw_os_error() } else { None };
        self.failed = Some(code.unwrap_or(rustix::io::Errno::IO.raw_os_error()));
    }

    /// Has the next turn read the clock.
    fn look_next(&mut self) {
        self.looked_at = None;
        self.turns = LOOK_EVERY - 1;
    }

    /// After sleep, at the end of which the thread has `waited` for a core.
    fn woke(&mut self, waited: Duration) {
        let now = self.now();
        self.engine.woke(now - waited);
        self.look_next();
    }

    /// Has the engine do something that it needs the port for.
    pub(super) fn with<R>(&mut self, act: impl FnOnce(&mut Engine, Time, &mut dyn Port) -> R) -> R {
        let now = self.now();
        let (engine, mut wire) = self.parts();
        act(engine, now, wire.port())
    }

    /// The engine and the port, to call one with the other.
    pub(super) fn parts(&mut self) -> (&mut Engine, Wire<'_>) {
        (&mut self.engine, Wire::new(&mut *self.port, &mut self.tap))
    }
}

impl Shared {
    pub(super) fn new(
        core: Core,
        drives: bool,
        spin: Duration,
        resolver: Box<dyn Resolve>,
        steering: Option<Arc<Steering>>,
        identity: Identity,
    ) -> Result<Shared, Error> {
        let system = |doing| move |source: std::io::Error| Error::System { doing, source };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| system("creating an eventfd")(e.into()))?;
        // Descriptors of its own, so that sleeping on them doesn't take the lock.
        let sockets = core.port.readable().iter().map(|fd| fd.try_clone_to_owned()).collect::<Result<_, _>>();
        let sockets = sockets.map_err(system("duplicating the socket's descriptor"))?;
        // With a thread nobody else leads, even before it has begun to run.
        let core = Core { led: !drives, ..core };
        let patience = core.engine.patience();
        Ok(Shared {
            core: Mutex::new(core),
            news: Condvar::new(),
            contenders: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            wake,
            sockets,
            stopping: AtomicBool::new(false),
            drives,
            spin,
            patience,
            resolver: Mutex::new(resolver),
            steering,
            identity,
        })
    }

    /// Starts a capture of what the node sends and receives.
    pub(crate) fn capture(&self, snaplen: usize) -> Result<Capture, TooManyCaptures> {
        self.enter().tap.capture(snaplen)
    }

    /// Takes the lock.
    pub(super) fn enter(&self) -> MutexGuard<'_, Core> {
        if let Ok(core) = self.core.try_lock() {
            return core;
        }
        self.contenders.fetch_add(1, Ordering::Relaxed);
        // A panic under the lock is a bug, and what the engine knows may be half written. But the lock itself is sound, and a
        // node must still close.
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        self.contenders.fetch_sub(1, Ordering::Relaxed);
        core
    }

    /// Lets those in who want the lock.
    fn yield_lock<'a>(&'a self, core: MutexGuard<'a, Core>) -> MutexGuard<'a, Core> {
        if self.contenders.load(Ordering::Relaxed) == 0 {
            return core;
        }
        drop(core);
        std::thread::yield_now();
        self.enter()
    }

    /// Something has happened that others may be waiting for: wakes them, the sleeping leader too.
    pub(super) fn announce(&self, core: &mut Core) {
        if !self.drives {
            self.epoch.fetch_add(1, Ordering::Release);
        }
        if core.followers > 0 {
            self.news.notify_all();
        }
        if core.asleep_until.take().is_some() {
            self.ring();
        }
    }

    /// Has the engine do something that peers are to be told of, and tells them at once. If that can't leave now, it does with the next progress.
    pub(super) fn act(&self, act: impl FnOnce(&mut Engine)) -> MutexGuard<'_, Core> {
        let mut core = self.enter();
        let now = core.now();
        let (engine, mut wire) = core.parts();
        let port = wire.port();
        act(engine);
        engine.tick(now, port);
        let _ = port.flush();
        core
    }

    /// After a call that may have given the engine an earlier deadline, or news.
    pub(super) fn leave(&self, core: &mut Core) {
        if core.has_news() {
            self.announce(core);
        }
        if core.asleep_until.is_some_and(|until| core.engine.deadline() < until) {
            core.asleep_until = None;
            self.ring();
        }
    }

    fn ring(&self) {
        // It can only fail when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Sleeps until something comes. Returns for how long this thread has had to wait for a core meanwhile.
    fn sleep(&self, until: Time, now: Time) -> Result<Duration, Error> {
        let mut fds = Descriptors::new();
        fds.push(self.wake.as_fd());
        fds.extend(self.sockets.iter().map(|s| s.as_fd()));
        port::wait(&fds, Some(until.since(now))).map_err(Error::Wire)?;
        // Empty when it wasn't rung.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        Ok(scheduler::waited())
    }

    /// Before somebody takes events: drives, if calls do, and there have been some too often.
    pub(super) fn give_turn(&self, core: &mut Core) -> Result<(), Error> {
        core.undriven = core.undriven.saturating_add(1);
        if self.drives && core.undriven > MOST_UNDRIVEN {
            core.drive()?;
        }
        Ok(())
    }

    pub(super) fn progress(&self) -> Result<(), Error> {
        let mut core = self.enter();
        core.look_next();
        if core.drive()? && core.has_news() {
            self.announce(&mut core);
        }
        Ok(())
    }

    /// Waits until `ready` yields something, at most for `timeout`: `None` when that has passed.
    pub(super) fn wait<T>(
        &self,
        timeout: Option<Duration>,
        ready: impl FnMut(&mut Core) -> Result<Step<T>, Error>,
    ) -> Result<Option<T>, Error> {
        self.wait_spinning(self.spin, timeout, ready)
    }

    /// The same, spinning for so long before it sleeps.
    pub(super) fn wait_spinning<T>(
        &self,
        spin: Duration,
        timeout: Option<Duration>,
        ready: impl FnMut(&mut Core) -> Result<Step<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let (mut core, outcome) = self.wait_inside(self.enter(), spin, timeout, ready);
        self.leave(&mut core);
        if core.followers > 0 {
            // One of them may have to lead now.
            self.news.notify_all();
        }
        outcome
    }

    fn wait_inside<'a, T>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        spin: Duration,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut Core) -> Result<Step<T>, Error>,
    ) -> (MutexGuard<'a, Core>, Result<Option<T>, Error>) {
        let (mut give_up, mut spin_until) = (None, None);
        core.look_next();
        loop {
            match self.step(&mut core, &mut ready) {
                Ok(Step::Done(value)) => return (core, Ok(Some(value))),
                Err(error) => return (core, Err(error)),
                Ok(Step::Moved) => spin_until = None,
                Ok(Step::Idle) => {}
            }
            // Reading the clock costs more than looking at the rings, so it isn't read in every turn.
            let Some(now) = (if self.drives { core.looked_at.take() } else { Some(core.now()) }) else {
                core = self.yield_lock(core);
                continue;
            };
            let give_up = *give_up.get_or_insert_with(|| timeout.map(|t| now + t));
            if give_up.is_some_and(|at| now >= at) {
                return (core, Ok(None));
            }
            if now < *spin_until.get_or_insert(now + spin) {
                core = if self.drives { self.yield_lock(core) } else { self.spin_outside(core, now, give_up) };
                continue;
            }
            let slept;
            (core, slept) = self.sleep_outside(core, now, give_up);
            if let Err(error) = slept {
                return (core, Err(error));
            }
        }
    }

    /// Asks `ready`, and when it isn't, drives, if calls do, and asks again.
    fn step<T>(
        &self,
        core: &mut Core,
        ready: &mut impl FnMut(&mut Core) -> Result<Step<T>, Error>,
    ) -> Result<Step<T>, Error> {
        let before = ready(core)?;
        if matches!(before, Step::Done(_)) {
            return Ok(before);
        }
        core.check()?;
        if !self.drives || !core.drive()? {
            return Ok(before);
        }
        if core.has_news() {
            self.announce(core);
        }
        Ok(match ready(core)? {
            Step::Idle => Step::Moved,
            other => other,
        })
    }

    /// Spins without the lock until the thread has done something, a while has passed, or it is time to give up.
    fn spin_outside<'a>(
        &'a self,
        core: MutexGuard<'a, Core>,
        now: Time,
        give_up: Option<Time>,
    ) -> MutexGuard<'a, Core> {
        let seen = self.epoch.load(Ordering::Acquire);
        let clock = core.clock;
        drop(core);
        let end = give_up.map_or(now + SPIN_TURN, |at| at.min(now + SPIN_TURN));
        while self.epoch.load(Ordering::Acquire) == seen && clock.now() < end {
            std::hint::spin_loop();
        }
        self.enter()
    }

    /// Sleeps without the lock: as the leader, or after one.
    fn sleep_outside<'a>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        now: Time,
        give_up: Option<Time>,
    ) -> (MutexGuard<'a, Core>, Result<(), Error>) {
        if core.led {
            // The leader may sleep for longer than what this call has begun can wait.
            self.leave(&mut core);
            core.followers += 1;
            let span = give_up.map_or(Duration::from_secs(3600), |at| at.since(now));
            let woken = self.news.wait_timeout(core, span);
            core = woken.unwrap_or_else(PoisonError::into_inner).0;
            core.followers -= 1;
            core.look_next();
            return (core, Ok(()));
        }
        let until = core.engine.deadline().min(give_up.unwrap_or(Time::FAR));
        core.led = true;
        core.asleep_until = Some(until);
        drop(core);
        let slept = self.sleep(until, now);
        core = self.enter();
        core.asleep_until = None;
        core.led = false;
        let slept = slept.map(|waited| core.woke(waited));
        (core, slept)
    }

    /// Finds the way to a peer; may block.
    pub(super) fn resolve(&self, peer: IpAddr, timeout: Duration) -> Result<Mac, Error> {
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner).resolve(peer, timeout)
    }
}
