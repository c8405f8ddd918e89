//! How many packets of the bulk lane may be under way: the link's own [congestion control](super::congestion), for packets that have no sequence numbers.
//!
//! They are counted instead: as many as have been sent, and as many as aren't under way any more, because the peer says that they have landed, or that they are
//! missing. The delay of one is the time from when it was sent to when it is told of that it, or one sent after it, has landed.

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::{Congestion, Delay};
use crate::time::Time;

/// Packets from one time stamp to the next.
const STAMP_EVERY: u64 = 4;

/// The window of one peer's bulk packets.
#[derive(Debug)]
pub(crate) struct Pace {
    congestion: Congestion,
    /// Packets sent, ever, and how many of them aren't under way any more.
    sent: u64,
    done: u64,
    /// When packets of these numbers were sent.
    stamps: VecDeque<(u64, Time)>,
    least: Option<Duration>,
}

impl Pace {
    /// At most `most` packets under way, aiming at a delay of `target`.
    pub(crate) fn new(most: u16, target: Duration) -> Pace {
        let congestion = Congestion::new(most, target);
        Pace { congestion, sent: 0, done: 0, stamps: VecDeque::new(), least: None }
    }

    /// How many packets may be under way.
    pub(crate) fn window(&self) -> u64 {
        self.congestion.window()
    }

    /// A packet was sent.
    pub(crate) fn sent(&mut self, now: Time) {
        self.sent += 1;
        if self.sent.is_multiple_of(STAMP_EVERY) {
            self.stamps.push_back((self.sent, now));
        }
        self.congestion.sent(now, self.sent - self.done, self.least);
    }

    /// So many packets have landed. With `late` a host was slow to look for them, or for the news of it: then it says nothing about the path how long they took.
    pub(crate) fn landed(&mut self, now: Time, count: u64, late: bool) {
        self.done += count;
        let mut delay = Delay::Unknown;
        while let Some(&(number, at)) = self.stamps.front()
            && number <= self.done
        {
            self.stamps.pop_front();
            if late {
                delay = Delay::Late;
                continue;
            }
            let took = now.since(at);
            self.least = Some(self.least.map_or(took, |least| least.min(took)));
            delay = Delay::Of(took);
        }
        let least = self.least.unwrap_or_default();
        self.congestion.acknowledged(count, self.done, self.sent, delay, least);
        self.congestion.tick(now);
    }

    /// So many packets are waited for no more: what has become of them says nothing.
    pub(crate) fn gone(&mut self, count: u64) {
        self.done += count;
        while self.stamps.front().is_some_and(|&(number, _)| number <= self.done) {
            self.stamps.pop_front();
        }
    }

    /// So many packets are missing: they will be sent again, and count again then.
    pub(crate) fn lost(&mut self, count: u64) {
        self.done += count;
        (0..count).for_each(|_| self.congestion.lost());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_micros(200);

    /// A path that takes `trip` microseconds, and a queue that takes `each` for every packet.
    fn settle(trip: u64, each: u64, lost_of: u64) -> u64 {
        let mut pace = Pace::new(1024, TARGET);
        let mut now = Time::ZERO;
        for round in 0..400 {
            let window = pace.window();
            (0..window).for_each(|_| pace.sent(now));
            now = now + Duration::from_micros(trip + window * each);
            let lost = if lost_of > 0 && round % 2 == 0 { window / lost_of } else { 0 };
            pace.lost(lost);
            pace.landed(now, window - lost, false);
        }
        pace.window()
    }

    #[test]
    fn the_window_fills_the_path_and_no_more() {
        assert_eq!(settle(20, 0, 0), 1024);
        let window = settle(20, 1, 0);
        assert!((120..=320).contains(&window), "{window}");
        let window = settle(20, 10, 0);
        assert!((8..=40).contains(&window), "{window}");
    }

    #[test]
    fn a_host_that_was_away_is_no_queue() {
        let mut pace = Pace::new(1024, TARGET);
        let mut now = Time::ZERO;
        for round in 0..400 {
            let (window, away) = (pace.window(), round % 4 == 0);
            (0..window).for_each(|_| pace.sent(now));
            now = now + Duration::from_micros(if away { 4000 } else { 20 });
            pace.landed(now, window, away);
        }
        assert_eq!(pace.window(), 1024);
    }

    #[test]
    fn a_little_loss_is_no_congestion() {
        assert!(settle(20, 1, 50) >= 50);
        assert!(settle(20, 0, 3) < 100);
    }
}
