//! Lines of the log that others can provoke: a peer that floods a node shall not flood its log.
//!
//! What this program does itself it logs as often as it does it. What a packet can cause, from whomever it comes, goes through
//! [`provoked!`], which lets [`MOST`] lines a second through in the whole process and then says how many it has withheld. It is the
//! one place below [`node`](crate::node) that reads a clock, and nothing depends on it but what is logged.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines a second.
pub(crate) const MOST: u32 = 100;
const SPAN: Duration = Duration::from_secs(1);

/// Logs an event that a peer can cause: `provoked!(DEBUG, target: "vmmc::link", %peer, "it happened")`. Costs the look at one number when
/// nobody listens.
macro_rules! provoked {
    ($level:ident, target: $target:literal, $($line:tt)+) => {
        if ::tracing::enabled!(target: $target, ::tracing::Level::$level) && $crate::log::may_say() {
            ::tracing::event!(target: $target, ::tracing::Level::$level, $($line)+);
        }
    };
}

pub(crate) use provoked;

/// An Ethernet address as people write it.
pub(crate) struct ShowMac(pub(crate) [u8; 6]);

impl fmt::Display for ShowMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

static BUDGET: Mutex<Budget> = Mutex::new(Budget { since: None, said: 0, withheld: 0 });

/// Lines of the running second.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    said: u32,
    withheld: u64,
}

impl Budget {
    /// Whether there may be another line, and how many were withheld in the second that is over.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let mut withheld = 0;
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            withheld = self.withheld;
            *self = Budget { since: Some(now), ..Budget::default() };
        }
        let may = self.said < MOST;
        match may {
            true => self.said += 1,
            false => self.withheld += 1,
        }
        (may, withheld)
    }
}

/// Whether another line may be logged that a peer has caused.
#[cold]
pub(crate) fn may_say() -> bool {
    let (may, withheld) = BUDGET.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
    if withheld > 0 {
        tracing::info!(target: "vmmc::node", withheld, "peers have caused more lines than {MOST} in a second");
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let said = (0..1000).filter(|_| budget.take(start).0).count();
        assert_eq!(said, MOST as usize);
        assert_eq!(budget.take(start + SPAN / 2), (false, 0));
        assert_eq!(budget.take(start + SPAN), (true, 901));
        assert_eq!(budget.take(start + SPAN), (true, 0));
        // A clock that stands still, or an old time, is no way around it.
        let said = (0..1000).filter(|_| budget.take(start).0).count();
        assert_eq!(said, MOST as usize - 2);
    }
}
