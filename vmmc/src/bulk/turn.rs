//! How long the peer whose places come first may keep others waiting.
//!
//! Places are used in the order posted, so a peer that is slow makes everybody slow. As long as nobody else waits it may take its time: its link says whether it is still there. While others
//! wait its turn is bounded: by [`GRACE`], which a host that is busy with something else may need, and by what has landed meanwhile at a [least rate](LEAST_RATE).
//!
//! A packet that comes twice uses up a place, which is posted again behind those of others: then their turn comes before what is left. So that nobody has a new turn as often as it likes,
//! what the grants of a peer have [kept others waiting](allowance) for counts together, however many turns that was.
//!
//! The time that counts is that in which this host was looking. Between two looks no more than [`STEP`] counts, so who wasn't looking doesn't blame others for it.

use std::time::Duration;

use crate::time::Time;

/// Time that a peer may take for nothing.
const GRACE: Duration = Duration::from_millis(100);

/// Bytes that are to land in a second: of half a gigabit.
const LEAST_RATE: u64 = 64 << 20;

/// A turn that lasts longer than its bytes should by so much was slow.
const SLOW: Duration = Duration::from_millis(20);

/// Of the time between two looks, how much counts; and so how often to look.
const STEP: Duration = Duration::from_millis(5);

/// What is to be thought of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fair,
    /// It has become slow just now: what is granted stays so, and the peer is to have less.
    Slow,
    /// It has lasted for too long: what is granted is to be taken back.
    Over,
}

/// The turn of the peer whose places come first.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The peer, while others wait.
    peer: Option<u64>,
    used: Duration,
    /// Bytes that have landed meanwhile.
    landed: u64,
    seen: Time,
    slow: bool,
}

/// For how long so many bytes may keep others waiting.
pub(crate) fn allowance(bytes: u64) -> Duration {
    GRACE + Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(LEAST_RATE)) as u64)
}

impl Turn {
    /// How long this peer, whose places come first, has kept others waiting since the last look.
    pub(crate) fn step(&self, now: Time, peer: u64) -> Duration {
        if self.peer == Some(peer) { now.since(self.seen).min(STEP) } else { Duration::ZERO }
    }

    /// This peer's places come first, and others wait; `None` if nobody does.
    pub(crate) fn attend(&mut self, now: Time, peer: Option<u64>) -> Verdict {
        let Some(same) = peer.filter(|_| peer == self.peer) else {
            *self = Turn { peer, seen: now, ..Turn::default() };
            return Verdict::Fair;
        };
        self.used += self.step(now, same);
        self.seen = now;
        let most = allowance(self.landed);
        if self.used > most {
            Verdict::Over
        } else if !self.slow && self.used > most - GRACE + SLOW {
            self.slow = true;
            Verdict::Slow
        } else {
            Verdict::Fair
        }
    }

    /// So many bytes of a peer's have landed.
    pub(crate) fn landed(&mut self, peer: u64, bytes: u32) {
        if self.peer == Some(peer) {
            self.landed += u64::from(bytes);
        }
    }

    /// When to look next at the latest; `None` while nobody waits.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.peer.map(|_| self.seen + STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as often as it says, and lets so many bytes land at each look. Returns when the turn was slow, and when it was over.
    fn turn(bytes: u32, span: Duration) -> (Option<Duration>, Option<Duration>) {
        let (mut turn, mut now, mut slow) = (Turn::default(), Time::ZERO, None);
        turn.attend(now, Some(1));
        while now < Time::ZERO + span {
            now = turn.deadline().unwrap();
            turn.landed(1, bytes);
            turn.landed(2, 1 << 30);
            match turn.attend(now, Some(1)) {
                Verdict::Fair => {}
                Verdict::Slow => assert_eq!(slow.replace(now.since(Time::ZERO)), None, "said once"),
                Verdict::Over => return (slow, Some(now.since(Time::ZERO))),
            }
        }
        (slow, None)
    }

    #[test]
    fn who_sends_nothing_has_a_tenth_of_a_second() {
        let long = Duration::from_secs(10);
        assert_eq!(turn(0, long), (Some(SLOW + STEP), Some(GRACE + STEP)));
        // A segment now and then doesn't help much.
        let (slow, over) = turn(1000, long);
        assert!(slow.is_some() && over.unwrap() < Duration::from_millis(120));
    }

    #[test]
    fn who_sends_enough_has_all_the_time() {
        assert_eq!(turn(512 << 10, Duration::from_secs(10)), (None, None));
    }

    #[test]
    fn as_long_as_nobody_waits_no_time_counts() {
        let mut turn = Turn::default();
        for second in 0..100 {
            let now = Time::ZERO + Duration::from_secs(second);
            assert_eq!((turn.attend(now, None), turn.deadline()), (Verdict::Fair, None));
        }
        // Each has a turn of its own.
        for milli in (0..1000).step_by(5) {
            let now = Time::ZERO + Duration::from_secs(100) + Duration::from_millis(milli);
            assert_ne!(turn.attend(now, Some(milli / 50)), Verdict::Over);
        }
    }

    #[test]
    fn who_was_not_looking_blames_nobody() {
        let mut turn = Turn::default();
        for second in 0..10 {
            assert_ne!(turn.attend(Time::ZERO + Duration::from_secs(second), Some(1)), Verdict::Over);
        }
    }
}
