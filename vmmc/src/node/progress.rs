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

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tracing::{debug, error};
use xdp_prog::Steering;

use super::lane::Resolve;
use crate::engine::Engine;
use crate::error::Error;
use crate::port::eager::Binding;
use crate::port::{self, Port, RxPacket};
use crate::time::{Clock, Time};
use crate::wire::frame::Mac;

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
pub(super) struct Core {
    pub engine: Engine,
    pub port: Box<dyn Port>,
    clock: Clock,
    batch: Vec<RxPacket>,
    /// Somebody sleeps in poll(2), or the thread drives.
    led: bool,
    /// Until when the leader sleeps, unless it is woken.
    asleep_until: Option<Time>,
    /// How many sleep on the condition variable.
    followers: usize,
}

/// What a node's handles and its thread share.
pub(super) struct Shared {
    core: Mutex<Core>,
    news: Condvar,
    /// Threads that want the lock: one that spins with it lets them in.
    contenders: AtomicUsize,
    /// Counts the times something has happened: followers spin on it.
    epoch: AtomicU64,
    wake: OwnedFd,
    socket: Option<OwnedFd>,
    stopping: AtomicBool,
    /// Calls drive the engine.
    drives: bool,
    spin: Duration,
    resolver: Mutex<Box<dyn Resolve>>,
    pub steering: Option<Steering>,
    pub binding: Option<Binding>,
}

impl Core {
    pub(super) fn new(engine: Engine, port: Box<dyn Port>, clock: Clock) -> Core {
        Core { engine, port, clock, batch: Vec::with_capacity(64), led: false, asleep_until: None, followers: 0 }
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Works on what has arrived and what is due, without blocking. Returns whether there was anything.
    fn drive(&mut self, now: Time) -> Result<bool, Error> {
        self.port.receive(&mut self.batch).map_err(Error::Wire)?;
        let busy = !self.batch.is_empty() || now >= self.engine.deadline();
        if busy {
            for packet in self.batch.drain(..) {
                self.engine.receive(now, &mut *self.port, packet);
            }
            self.engine.tick(now, &mut *self.port);
        }
        self.port.flush().map_err(Error::Wire)?;
        Ok(busy)
    }

    /// The engine and the port, to call one with the other.
    pub(super) fn parts(&mut self) -> (&mut Engine, &mut dyn Port) {
        (&mut self.engine, &mut *self.port)
    }
}

impl Shared {
    pub(super) fn new(
        core: Core,
        drives: bool,
        spin: Duration,
        resolver: Box<dyn Resolve>,
        steering: Option<Steering>,
        binding: Option<Binding>,
    ) -> Result<Shared, Error> {
        let system = |doing| move |source: std::io::Error| Error::System { doing, source };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| system("creating an eventfd")(e.into()))?;
        // A descriptor of its own, so that sleeping on it doesn't take the lock.
        let socket = core.port.readable().map(|fd| fd.try_clone_to_owned()).transpose();
        let socket = socket.map_err(system("duplicating the socket's descriptor"))?;
        Ok(Shared {
            core: Mutex::new(core),
            news: Condvar::new(),
            contenders: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            wake,
            socket,
            stopping: AtomicBool::new(false),
            drives,
            spin,
            resolver: Mutex::new(resolver),
            steering,
            binding,
        })
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

    /// Something has happened that others may be waiting for.
    pub(super) fn announce(&self, core: &mut Core) {
        self.epoch.fetch_add(1, Ordering::Release);
        if core.followers > 0 {
            self.news.notify_all();
        }
    }

    /// After a change that the sleeping leader can't see coming: wakes it, and the others.
    pub(super) fn disturb(&self, core: &mut Core) {
        self.announce(core);
        if core.asleep_until.take().is_some() {
            self.ring();
        }
    }

    /// After a call that may have given the engine an earlier deadline.
    pub(super) fn leave(&self, core: &mut Core) {
        if core.asleep_until.is_some_and(|until| core.engine.deadline() < until) {
            core.asleep_until = None;
            self.ring();
        }
    }

    fn ring(&self) {
        // It can only fail when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn sleep(&self, until: Time, now: Time) -> Result<(), Error> {
        let mut fds = smallvec::SmallVec::<[_; 2]>::new();
        fds.push(self.wake.as_fd());
        fds.extend(self.socket.as_ref().map(|s| s.as_fd()));
        port::wait(&fds, Some(until.since(now))).map_err(Error::Wire)?;
        // Empty when it wasn't rung.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        Ok(())
    }

    pub(super) fn progress(&self) -> Result<(), Error> {
        let mut core = self.enter();
        let now = core.now();
        if core.drive(now)? {
            self.announce(&mut core);
        }
        Ok(())
    }

    /// Waits until `ready` yields something, at most for `timeout`: `None` when that has passed.
    pub(super) fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut Core, Time) -> Result<Step<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let mut core = self.enter();
        let start = core.now();
        let give_up = timeout.map(|t| start + t);
        let mut spin_until = start + self.spin;
        let mut now = start;
        loop {
            let step = self.step(&mut core, &mut now, &mut ready);
            let outcome = match step {
                Ok(Step::Done(value)) => Some(Ok(Some(value))),
                Err(error) => Some(Err(error)),
                Ok(_) if give_up.is_some_and(|at| now >= at) => Some(Ok(None)),
                Ok(Step::Moved) => {
                    spin_until = now + self.spin;
                    core = self.yield_lock(core);
                    continue;
                }
                Ok(Step::Idle) => None,
            };
            if let Some(outcome) = outcome {
                self.leave(&mut core);
                if core.followers > 0 {
                    // One of them may have to lead now.
                    self.news.notify_all();
                }
                return outcome;
            }
            if now < spin_until {
                if self.drives {
                    core = self.yield_lock(core);
                } else {
                    let seen = self.epoch.load(Ordering::Acquire);
                    let clock = core.clock;
                    drop(core);
                    let end = give_up.map_or(spin_until, |at| at.min(spin_until));
                    while self.epoch.load(Ordering::Acquire) == seen && now < end {
                        std::hint::spin_loop();
                        now = clock.now();
                    }
                    core = self.enter();
                }
            } else if core.led {
                core.followers += 1;
                let span = give_up.map_or(Duration::from_secs(3600), |at| at.since(now));
                let woken = self.news.wait_timeout(core, span);
                core = woken.unwrap_or_else(PoisonError::into_inner).0;
                core.followers -= 1;
            } else {
                let until = core.engine.deadline().min(give_up.unwrap_or(Time::from_nanos(u64::MAX)));
                core.led = true;
                core.asleep_until = Some(until);
                drop(core);
                let slept = self.sleep(until, now);
                core = self.enter();
                core.asleep_until = None;
                core.led = false;
                slept?;
            }
            now = core.now();
        }
    }

    /// Asks `ready`, and when it isn't, drives, if calls do, and asks again.
    fn step<T>(
        &self,
        core: &mut Core,
        now: &mut Time,
        ready: &mut impl FnMut(&mut Core, Time) -> Result<Step<T>, Error>,
    ) -> Result<Step<T>, Error> {
        let before = ready(core, *now)?;
        if !self.drives || matches!(before, Step::Done(_)) {
            return Ok(before);
        }
        *now = core.now();
        if !core.drive(*now)? {
            return Ok(before);
        }
        self.announce(core);
        Ok(match ready(core, *now)? {
            Step::Idle => Step::Moved,
            other => other,
        })
    }

    /// Finds the way to a peer; may block.
    pub(super) fn resolve(&self, peer: IpAddr, timeout: Duration) -> Result<Mac, Error> {
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner).resolve(peer, timeout)
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Closes all links, and drives until that is done or `linger` has passed.
    pub(super) fn close(&self, linger: Duration) {
        let mut core = self.enter();
        let start = core.now();
        core.engine.close(start);
        loop {
            let now = core.now();
            let driven = core.drive(now);
            if driven.is_err() || core.engine.is_closed() || now.since(start) >= linger {
                debug!(target: "vmmc::node", clean = core.engine.is_closed(), "node closed");
                return;
            }
            let until = core.engine.deadline().min(start + linger);
            if until > now && self.sleep(until, now).is_err() {
                return;
            }
        }
    }

    /// The thread's work.
    fn run(&self) {
        let mut core = self.enter();
        core.led = true;
        let mut busy_at = core.now();
        while !self.stopping.load(Ordering::Acquire) {
            let now = core.now();
            match core.drive(now) {
                Ok(true) => {
                    busy_at = now;
                    self.announce(&mut core);
                }
                Ok(false) => {}
                Err(error) => {
                    error!(target: "vmmc::node", %error, "the engine thread ends: every link will fall silent");
                    break;
                }
            }
            if now.since(busy_at) < self.spin {
                core = self.yield_lock(core);
                continue;
            }
            let until = core.engine.deadline();
            core.asleep_until = Some(until);
            drop(core);
            let slept = self.sleep(until, now);
            core = self.enter();
            core.asleep_until = None;
            if let Err(error) = slept {
                error!(target: "vmmc::node", %error, "the engine thread ends: every link will fall silent");
                break;
            }
        }
        core.led = false;
        self.announce(&mut core);
    }
}

/// Starts the thread that drives, on `core` if one is given.
pub(super) fn spawn(shared: &Arc<Shared>, core: Option<usize>) -> Result<JoinHandle<()>, Error> {
    let shared = shared.clone();
    let body = move || {
        if let Some(id) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            error!(target: "vmmc::node", core = id, "the engine thread can't be pinned to its core");
        }
        shared.run();
    };
    std::thread::Builder::new()
        .name("vmmc-engine".to_owned())
        .spawn(body)
        .map_err(|source| Error::System { doing: "starting the engine thread", source })
}
