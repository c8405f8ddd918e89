//! How many packets may be under way: enough to fill the path, and few enough that none waits long in a queue.
//!
//! In the manner of Swift (Kumar et al., SIGCOMM 2020): the window grows by a packet each round trip while the delay is
//! below a target, and shrinks in proportion to the excess, at most once a round, when it is above. The target
//! is a little higher for a small window (flow scaling), which is what makes many senders into one receiver share evenly.
//! The window may fall below one packet: then packets are spaced in time.
//!
//! What differs from the paper, and why:
//!
//! - A round's delay is that of its *quickest* packet. Everything that waits in a queue is slow; a packet that is slow
//!   because a core was busy elsewhere has quicker neighbours. There are no time stamps by a NIC here to tell the two apart. And
//!   where a host knows that it was slow to look for packets, their delay isn't taken into account at all.
//! - Loss by itself is no sign: packets are lost to damage, too. Of a round without delay, an eighth may be lost
//!   ([`LOSS_TOLERATED`]). The more a queue delays, the less: a queue shorter than the target drops before it delays enough.
//! - Marks of congestion (ECN) shrink the window by half the share of packets that had one, as DCTCP does (RFC 8257).
//! - The window starts as TCP's does, at ten packets, and doubles each round trip until the delay nears the target.

use std::time::Duration;

use crate::time::Time;

/// The delay aimed at unless configured otherwise.
pub const TARGET_DELAY: Duration = Duration::from_micros(200);

/// Share of a round's packets that may be lost, where nothing waits in a queue, before that counts as congestion.
pub const LOSS_TOLERATED: f64 = 0.125;

/// The initial window, packets (RFC 6928).
const INITIAL: f64 = 10.0;

/// The smallest window: a packet every 64 round trips.
const LEAST: f64 = 1.0 / 64.0;

/// The smallest window where the shortest round trip is half of the target or more: what delay there is may be the path's own.
const LEAST_ON_LONG: f64 = 4.0;

/// Growth per round trip, packets.
const INCREASE: f64 = 1.0;

/// Growth per round where the window is below one packet, of the window: there even one more for each sender is too many.
const INCREASE_BELOW_ONE: f64 = 0.5;

/// Growth per round, of the window, when every packet's delay was a host's.
const INCREASE_LATE: f64 = 0.125;

/// The fewest packets of a round. Of fewer, the quickest says little, and a sender of many would see shorter delays than others.
const LEAST_ROUND: u64 = 4;

/// Share of the delay's excess by which the window shrinks.
const DECREASE: f64 = 0.8;

/// The most by which it shrinks in one round.
const MOST_DECREASE: f64 = 0.5;

/// What is left of it when a round has lost too much.
const AFTER_LOSS: f64 = 0.7;

/// Of the target, how much is added for the smallest windows, and between which windows that fades away.
const SCALING: f64 = 0.5;
const SCALED_FROM: f64 = 0.1;
const SCALED_TO: f64 = 100.0;

/// The longest time between packets: with hardly anything under way, the delay isn't of this link's making.
const MOST_SPACING: Duration = Duration::from_millis(2);

/// How fast the estimate of the share of marked packets follows, as DCTCP's g.
const MARKS_GAIN: f64 = 1.0 / 16.0;

/// What has happened since the round began.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It ends when the packet with this sequence number is acknowledged.
    end: u64,
    /// The quickest packet's delay, nanoseconds.
    delay: Option<u64>,
    /// There were packets whose delay says nothing about the path.
    late: bool,
    acknowledged: u64,
    lost: u64,
    marked: u64,
    /// The most packets that were under way.
    peak: u64,
}

/// How long packets took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// So long.
    Of(Duration),
    /// Nobody knows.
    Unknown,
    /// Nobody knows, because a host was slow to look for them.
    Late,
}

/// The window of one link.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    window: f64,
    most: f64,
    target: f64,
    starting: bool,
    round: Round,
    /// The peer's count of marks, as last heard.
    marks: u16,
    /// Estimated share of packets that are marked.
    marked: f64,
    /// The time before which no packet may leave: with a window below one.
    not_before: Option<Time>,
}

impl Congestion {
    /// At most `most` packets under way, aiming at a delay of `target`.
    pub(super) fn new(most: u16, target: Duration) -> Congestion {
        let most = f64::from(most.max(1));
        Congestion {
            window: INITIAL.min(most),
            most,
            target: target.as_nanos() as f64,
            starting: true,
            round: Round::default(),
            marks: 0,
            marked: 0.0,
            not_before: None,
        }
    }

    /// How many packets may be under way, spacing apart.
    pub(super) fn window(&self) -> u64 {
        (self.window as u64).max(1)
    }

    /// Whether the next packet must wait until [`Congestion::paced_until`].
    pub(super) fn paced_until(&self) -> Option<Time> {
        self.not_before
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        self.not_before = self.not_before.filter(|&at| now < at);
    }

    /// A packet was sent: `in_flight` are under way with it, and the round trip takes about `rtt`.
    pub(super) fn sent(&mut self, now: Time, in_flight: u64, rtt: Option<Duration>) {
        self.round.peak = self.round.peak.max(in_flight);
        // What is sent before its time, because it obeys no window, doesn't hold up the rest.
        if self.window < 1.0
            && self.not_before.is_none()
            && let Some(rtt) = rtt
        {
            self.not_before = Some(now + rtt.div_f64(self.window).min(MOST_SPACING));
        }
    }

    /// A packet has been found lost.
    pub(super) fn lost(&mut self) {
        self.round.lost += 1;
    }

    /// Nothing was acknowledged for so long that the network counts as broken.
    pub(super) fn timed_out(&mut self) {
        self.starting = false;
        self.shrink(MOST_DECREASE);
    }

    /// Loss shrinks the window to a packet at the least: only delay says that even one is too many.
    fn shrink(&mut self, left: f64) {
        self.window = (self.window * left).max(self.window.min(1.0));
    }

    /// The peer's count of packets that came with a mark.
    pub(super) fn marks(&mut self, count: u16) {
        let more = count.wrapping_sub(self.marks);
        // An older count comes late.
        if more < u16::MAX / 2 {
            self.marks = count;
            self.round.marked += u64::from(more);
        }
    }

    /// `count` packets have been acknowledged, all before `una` are, and `next` is the next to be sent. `delay` is how long the
    /// latest of them took, and `least` how long any packet of this link took at the least.
    pub(super) fn acknowledged(&mut self, count: u64, una: u64, next: u64, delay: Delay, least: Duration) {
        self.round.late |= delay == Delay::Late;
        let delay = if let Delay::Of(delay) = delay { Some(delay.as_nanos() as u64) } else { None };
        self.round.acknowledged += count;
        self.round.delay = self.round.delay.into_iter().chain(delay).min();
        if self.starting {
            match delay {
                Some(delay) if delay as f64 > self.target(least) => self.starting = false,
                _ if self.was_used() => self.window = (self.window + count as f64).min(self.most),
                _ => {}
            }
        }
        if una >= self.round.end && self.round.acknowledged >= LEAST_ROUND {
            self.turn(self.target(least), least.as_nanos() as f64);
            self.round = Round { end: next, ..Round::default() };
        }
    }

    /// Whether the window is held down on a path whose shortest round trip is beyond the target.
    pub(super) fn is_held_down(&self, least: Duration) -> bool {
        let least = least.as_nanos() as f64;
        self.window <= LEAST_ON_LONG && least > self.target && least <= 2.0 * self.target
    }

    /// A window that isn't used says nothing about the path.
    fn was_used(&self) -> bool {
        2 * self.round.peak >= self.window()
    }

    /// The round has ended: adjusts the window.
    fn turn(&mut self, target: f64, least: f64) {
        let Round { acknowledged, lost, marked, .. } = self.round;
        let share = |part: u64| (part as f64 / acknowledged.max(1) as f64).min(1.0);
        self.marked += MARKS_GAIN * (share(marked) - self.marked);
        let delay = self.round.delay.map_or(0.0, |d| d as f64);
        let mut left: f64 = 1.0;
        if delay > target {
            left = left.min(1.0 - DECREASE * (delay - target) / delay);
        }
        if marked > 0 {
            left = left.min(1.0 - self.marked / 2.0);
        }
        let queued = (delay - least).max(0.0);
        let tolerated = LOSS_TOLERATED * (1.0 - 2.0 * queued / self.target).max(0.0);
        if left < 1.0 {
            self.starting = false;
            self.window *= left.max(1.0 - MOST_DECREASE);
        } else if share(lost) > tolerated {
            self.starting = false;
            self.shrink(AFTER_LOSS);
        } else if !self.starting && self.was_used() && (self.round.delay.is_some() || self.round.late) {
            let trips = acknowledged as f64 / self.window;
            self.window += match self.round.delay {
                _ if self.window < 1.0 => INCREASE_BELOW_ONE * self.window,
                Some(_) => INCREASE * trips,
                // Round trips over a slow host are long, and so there are few of them.
                None => (INCREASE_LATE * self.window).max(INCREASE * trips),
            };
        }
        let floor = if 2.0 * least < self.target { LEAST } else { LEAST_ON_LONG };
        self.window = self.window.clamp(floor.min(self.most), self.most);
    }

    /// The delay aimed at, nanoseconds. A path whose shortest round trip is far beyond the target is a long one: then the target
    /// is what may be added to that. Not for one a little beyond it: that may as well be the queue that others have filled, and
    /// who aimed higher than they do would push them aside.
    fn target(&self, least: Duration) -> f64 {
        let inverse = |window: f64| 1.0 / window.sqrt();
        let fade = (inverse(self.window) - inverse(SCALED_TO)) / (inverse(SCALED_FROM) - inverse(SCALED_TO));
        let scaled = self.target * (1.0 + SCALING * fade.clamp(0.0, 1.0));
        let least = least.as_nanos() as f64;
        if least > 2.0 * self.target { least + scaled } else { scaled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_micros(20);

    /// Goes through rounds in which the whole window is used, each with this delay and this share lost and marked.
    fn rounds(c: &mut Congestion, count: usize, delay: Duration, lost: f64, marked: f64) {
        let (mut next, mut marks) = (c.round.end, c.marks);
        for _ in 0..count {
            let packets = c.window().max(LEAST_ROUND);
            c.sent(Time::ZERO, c.window(), Some(delay));
            (0..(lost * packets as f64).round() as u64).for_each(|_| c.lost());
            marks = marks.wrapping_add((marked * packets as f64).round() as u16);
            c.marks(marks);
            next += packets;
            c.acknowledged(packets, next, next, Delay::Of(delay), LEAST);
        }
    }

    fn congestion() -> Congestion {
        Congestion::new(1000, TARGET_DELAY)
    }

    #[test]
    fn it_fills_a_path_that_does_not_delay_and_stops_at_the_limit() {
        let mut c = congestion();
        rounds(&mut c, 7, LEAST, 0.0, 0.0);
        assert_eq!(c.window(), 1000);
    }

    #[test]
    fn delay_shrinks_it_below_one_packet_and_quick_rounds_let_it_grow_again() {
        let mut c = congestion();
        rounds(&mut c, 100, Duration::from_millis(5), 0.0, 0.0);
        assert!(c.window < 0.02 && c.paced_until().is_some());
        // Nothing is spaced farther than that, whatever the delay.
        assert!(c.paced_until() <= Some(Time::ZERO + MOST_SPACING));
        rounds(&mut c, 200, LEAST, 0.0, 0.0);
        assert!(c.window > 100.0);
    }

    #[test]
    fn loss_without_delay_is_no_matter_until_it_is_much() {
        let mut c = congestion();
        rounds(&mut c, 20, LEAST, 0.05, 0.0);
        assert_eq!(c.window(), 1000);
        rounds(&mut c, 50, LEAST, 0.3, 0.0);
        assert!(c.window() < 10 && c.window >= 1.0);
    }

    #[test]
    fn loss_with_delay_shrinks_it() {
        let mut c = congestion();
        rounds(&mut c, 20, LEAST, 0.0, 0.0);
        rounds(&mut c, 3, TARGET_DELAY, 0.05, 0.0);
        assert!(c.window() < 400);
    }

    #[test]
    fn marks_shrink_it_by_their_share() {
        let (mut few, mut many) = (congestion(), congestion());
        rounds(&mut few, 10, LEAST, 0.0, 0.0);
        rounds(&mut many, 10, LEAST, 0.0, 0.0);
        rounds(&mut few, 10, LEAST, 0.0, 0.1);
        rounds(&mut many, 10, LEAST, 0.0, 1.0);
        assert!(few.window() > 800 && many.window() < 300, "{} {}", few.window, many.window);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut c = congestion();
        for next in 1..1000 {
            c.sent(Time::ZERO, 1, Some(LEAST));
            c.acknowledged(1, next, next, Delay::Of(LEAST), LEAST);
        }
        assert_eq!(c.window(), 10);
    }

    #[test]
    fn a_long_path_is_not_a_queue() {
        for micros in [20, 100, 199, 401, 1000, 20_000] {
            let (mut c, long) = (congestion(), Duration::from_micros(micros));
            for round in 1..3000 {
                c.tick(Time::FAR);
                c.sent(Time::ZERO, c.window(), Some(long));
                let next = round * 1000;
                c.acknowledged(c.window().max(LEAST_ROUND), next, next, Delay::Of(long), long);
            }
            assert_eq!(c.window(), 1000, "at {micros} us");
        }
    }

    #[test]
    fn one_a_little_longer_than_the_target_is_told_apart_from_a_queue_by_nobody() {
        let (mut c, long) = (congestion(), Duration::from_micros(350));
        for round in 1..3000 {
            c.sent(Time::ZERO, c.window(), Some(long));
            c.acknowledged(c.window().max(LEAST_ROUND), round * 1000, round * 1000, Delay::Of(long), long);
        }
        assert_eq!(c.window(), 4);
        assert!(c.is_held_down(long));
    }

    #[test]
    fn one_that_comes_late_does_not_hide_the_others() {
        let mut c = congestion();
        for round in 1..200 {
            let next = round * 1000;
            c.sent(Time::ZERO, c.window(), Some(LEAST));
            c.acknowledged(1, next - 1, next, Delay::Late, LEAST);
            c.acknowledged(c.window().max(LEAST_ROUND), next, next, Delay::Of(Duration::from_millis(2)), LEAST);
        }
        assert!(c.window() < 2, "{}", c.window);
    }

    #[test]
    fn where_all_come_late_it_grows() {
        let mut c = congestion();
        rounds(&mut c, 100, Duration::from_millis(2), 0.0, 0.0);
        for round in 1..40 {
            let next = c.round.end + round * 1000;
            c.sent(Time::ZERO, c.window(), Some(LEAST));
            c.acknowledged(c.window().max(LEAST_ROUND), next, next, Delay::Late, LEAST);
        }
        assert!(c.window() > 20 && c.window() < 1000, "{}", c.window);
    }
}
