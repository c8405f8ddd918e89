//! A timer to sleep on: it is readable when something that was held back is due.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

pub(super) struct Timer {
    descriptor: OwnedFd,
    /// When it expires, or has expired.
    at: Option<Instant>,
}

impl Timer {
    pub fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let descriptor = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Timer { descriptor, at: None })
    }

    /// Has it expire then, or never. Until then it is unreadable.
    pub fn set(&mut self, at: Option<Instant>) {
        if at.is_none() && self.at.is_none() {
            return;
        }
        let now = Instant::now();
        if at == self.at && at > Some(now) {
            return;
        }
        self.at = at;
        // Not at once, even where something is overdue: what it waits for takes longer. And zero would stop the timer.
        let after = at.map(|at| at.saturating_duration_since(now).max(Duration::from_micros(50)));
        let after = after.unwrap_or_default();
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() },
        };
        // It fails only for times that can't be, and without it the engine's own timers do, later.
        let _ = rustix::time::timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
