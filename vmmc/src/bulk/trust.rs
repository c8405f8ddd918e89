//! Who is granted nothing for a while, because taking back what he was granted has cost everybody time.
//!
//! To take places back the lane's socket is closed and opened again, which takes some 30 milliseconds. A host that does so once is trusted again soon: on a busy machine that happens to
//! honest ones. With each time it takes twice as long, and what has happened is forgotten but slowly. So in the long run nobody has others wait for more than a few thousandths of their time.
//! Hosts are told apart by their addresses: who opens a new link is the same host still.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// How long the first time.
const FIRST: Duration = Duration::from_millis(20);

/// How often that may double: up to 20 seconds.
const MOST_DOUBLED: u32 = 10;

/// How long it takes until one time is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// The most hosts to remember. Of more, those that are trusted again first are forgotten.
const MOST: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Blamed {
    host: IpAddr,
    /// How often, less what is forgotten, as of `until`.
    times: u32,
    until: Time,
}

/// What is remembered of hosts.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    blamed: Vec<Blamed>,
}

impl Trust {
    /// Whether a host may be granted anything.
    pub(crate) fn trusts(&self, now: Time, host: IpAddr) -> bool {
        self.blamed.iter().all(|blamed| blamed.host != host || blamed.until <= now)
    }

    /// A host has cost everybody time. Returns for how long it is granted nothing.
    pub(crate) fn blame(&mut self, now: Time, host: IpAddr) -> Duration {
        let index = self.blamed.iter().position(|blamed| blamed.host == host);
        let times = index.map_or(0, |index| self.blamed.swap_remove(index).times_at(now)) + 1;
        if self.blamed.len() >= MOST {
            self.blamed.retain(|blamed| blamed.times_at(now) > 0);
        }
        if self.blamed.len() >= MOST
            && let Some(first) = (0..self.blamed.len()).min_by_key(|&index| self.blamed[index].until)
        {
            self.blamed.swap_remove(first);
        }
        let span = FIRST * (1 << (times - 1).min(MOST_DOUBLED));
        self.blamed.push(Blamed { host, times: times.min(MOST_DOUBLED + 1), until: now + span });
        span
    }
}

impl Blamed {
    /// How often that was, as far as it isn't forgotten by now.
    fn times_at(&self, now: Time) -> u32 {
        let forgotten = now.since(self.until).as_nanos() / FORGOTTEN_AFTER.as_nanos();
        self.times.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn the_first_time_is_soon_over_and_each_next_lasts_twice_as_long() {
        let (mut trust, mut now) = (Trust::default(), Time::ZERO);
        for times in 0..14 {
            assert!(trust.trusts(now, host(1)));
            let span = trust.blame(now, host(1));
            assert_eq!(span, FIRST * (1 << times.min(MOST_DOUBLED)));
            assert!(!trust.trusts(now, host(1)) && trust.trusts(now, host(2)));
            now = now + span;
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (mut trust, mut now) = (Trust::default(), Time::ZERO);
        for _ in 0..4 {
            now = now + trust.blame(now, host(1));
        }
        assert_eq!(trust.blame(now + 2 * FORGOTTEN_AFTER, host(1)), FIRST * 4);
        assert_eq!(trust.blame(now + 100 * FORGOTTEN_AFTER, host(1)), FIRST);
    }

    #[test]
    fn in_the_long_run_it_is_seldom() {
        let (mut trust, mut now, mut times) = (Trust::default(), Time::ZERO, 0u32);
        while now < Time::ZERO + Duration::from_secs(3600) {
            times += 1;
            now = now + trust.blame(now, host(1));
        }
        assert!(times < 200, "{times} times in an hour");
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut trust = Trust::default();
        (0..3).for_each(|_| _ = trust.blame(Time::ZERO, host(0)));
        for number in 1..10_000 {
            trust.blame(Time::ZERO, host(number));
        }
        assert!(trust.blamed.len() <= MOST);
        assert!(!trust.trusts(Time::ZERO, host(0)), "the worst is among them");
    }
}
