//! The receiver's account of one granted transfer: what is posted, what has landed where, and what to ask for again.
//!
//! Any packet of a grant may land in any of its places, so a position is free, posted, or holds some segment. A packet that is damaged, or that was here
//! before, uses up a place all the same: its position is free again, and to be posted again. In the end every position holds a segment, and
//! [`moves`](Incoming::moves) puts them in order.
//!
//! Where packets land with their headers in front (`overlap`), a header falls on the tail of the position below. Positions are posted from the highest down, so that
//! this tail is still to be written. Where it can't be so, because the position below holds a segment already, or isn't of the grant, the caller saves the tail before
//! posting and writes it back after the landing: [`needs_saving`](Incoming::needs_saving). And if a driver uses the places in another order, then what the header fell on is
//! asked for again.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::MAX_SEGMENTS;
use super::permutation::{self, Move};
use crate::time::Time;

/// A segment is taken for lost when so many that were sent after it are here, and it isn't.
const REORDERED: usize = 3;

/// How often the time after which a silence is a loss may double.
const MAX_DOUBLED: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Free,
    /// In the fill ring. `saved`: the caller has the bytes below it.
    Posted {
        saved: bool,
    },
    /// This segment.
    Held(u32),
}

#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// The number of its landing, from 1; 0 while it isn't here.
    landed: u64,
    /// When it was asked for last, and how many had landed by then.
    asked: Option<(Time, u64)>,
    /// It has come since then, and was damaged.
    damaged: bool,
}

/// What has become of a landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    /// The position that it landed in.
    pub position: u32,
    /// Whether it was kept. If not, the position is to be posted again.
    pub kept: bool,
    /// The caller has saved bytes below the position: they are to be written back now.
    pub restore: bool,
    /// The position below had a segment, which this packet's header has damaged: it is as if it had never been here.
    pub damaged: Option<u32>,
}

/// One granted transfer.
#[derive(Debug)]
pub(crate) struct Incoming {
    overlap: bool,
    positions: Vec<Position>,
    segments: Vec<Segment>,
    /// Numbers of places and their positions, in the order posted.
    posted: VecDeque<(u64, u32)>,
    /// No position from here up is free.
    free_below: u32,
    /// Segments that are here.
    here: u32,
    /// How many of them the sender was told of; never less than before.
    reported: u32,
    /// Some that have come damaged are to be asked for.
    damaged: bool,
    /// None below this one is here.
    lowest: u32,
    /// Landings kept, ever.
    landings: u64,
    /// Those of them that can't be mistaken any more.
    trusted: u64,
    landed_at: Time,
    /// Since when there was neither a landing nor a question.
    quiet_since: Time,
    /// How often all that is missing was asked for since then.
    vain: u32,
}

impl Incoming {
    /// A transfer of so many segments, granted now. `overlap` is [`BulkPort::overlap`](crate::port::bulk::BulkPort::overlap), and not more than a segment's length. `None` if the segments are not
    /// 1 to [`MAX_SEGMENTS`].
    pub(crate) fn new(segments: u32, overlap: usize, now: Time) -> Option<Incoming> {
        (1..=MAX_SEGMENTS).contains(&segments).then(|| Incoming {
            overlap: overlap > 0,
            positions: vec![Position::Free; segments as usize],
            segments: vec![Segment::default(); segments as usize],
            posted: VecDeque::with_capacity(segments as usize),
            free_below: segments,
            here: 0,
            reported: 0,
            damaged: false,
            lowest: segments,
            landings: 0,
            trusted: 0,
            landed_at: now,
            quiet_since: now,
            vain: 0,
        })
    }

    /// Whether its packets may have landed with their headers in front.
    pub(crate) fn has_overlap(&self) -> bool {
        self.overlap
    }

    /// The position to be posted next, if there is one now: the highest that is free. It is the same until it is [`posted`](Incoming::posted).
    ///
    /// With overlap, one above a posted one isn't posted before that has landed: its header would fall on what just came.
    pub(crate) fn next_to_post(&mut self) -> Option<u32> {
        while self.free_below > 0 && self.positions[self.free_below as usize - 1] != Position::Free {
            self.free_below -= 1;
        }
        (0..self.free_below).rev().find(|&position| {
            let free = self.positions[position as usize] == Position::Free;
            free && !(self.overlap && matches!(self.below(position), Some(Position::Posted { .. })))
        })
    }

    /// Whether the caller has to save the `overlap` bytes below this position before it posts it. It writes them back when [`Landed::restore`] or
    /// [`reopened`](Incoming::reopened) say so.
    pub(crate) fn needs_saving(&self, position: u32) -> bool {
        self.overlap && !matches!(self.below(position), Some(Position::Free | Position::Posted { .. }))
    }

    /// What lies below a position; `None` below the lowest.
    fn below(&self, position: u32) -> Option<Position> {
        self.positions.get(position.checked_sub(1)? as usize).copied()
    }

    /// A position was posted, as the place of this number. Returns false, and does nothing, if it isn't free, or if the number isn't higher than those before.
    pub(crate) fn posted(&mut self, position: u32, place: u64) -> bool {
        let saved = self.needs_saving(position);
        let ascending = self.posted.back().is_none_or(|&(last, _)| last < place);
        match self.positions.get_mut(position as usize) {
            Some(state @ Position::Free) if ascending => {
                *state = Position::Posted { saved };
                self.posted.push_back((place, position));
                true
            }
            _ => false,
        }
    }

    /// The position that this place is: `None` when the place isn't of this grant, or has been used before.
    pub(crate) fn position_of(&self, place: u64) -> Option<u32> {
        Some(self.posted[self.index_of(place)?].1)
    }

    fn index_of(&self, place: u64) -> Option<usize> {
        match self.posted.front()? {
            (first, _) if *first == place => Some(0),
            _ => self.posted.binary_search_by_key(&place, |&(place, _)| place).ok(),
        }
    }

    /// A packet has landed in this place, and its header says that it is this segment. `intact`: its header named this grant (where places aren't used in order, the
    /// program in front of the lane may have mistaken it for one of an other), and its checksum is right, or it has none. `None` when the place isn't of this grant, or has been used before.
    pub(crate) fn landed(&mut self, now: Time, place: u64, segment: u32, intact: bool) -> Option<Landed> {
        let index = self.index_of(place)?;
        let (_, position) = self.posted.remove(index)?;
        let restore = self.positions[position as usize] == Position::Posted { saved: true };
        let damaged = self.damaged_by(position, restore);
        if let Some(below) = damaged {
            self.lose(below);
        }
        let kept = intact && self.segments.get(segment as usize).is_some_and(|segment| segment.landed == 0);
        if kept {
            self.landings += 1;
            self.here += 1;
            self.segments[segment as usize].landed = self.landings;
            self.lowest = self.lowest.min(segment);
            self.positions[position as usize] = Position::Held(segment);
            (self.landed_at, self.quiet_since, self.vain) = (now, now, 0);
        } else {
            self.free(position);
            if let Some(segment) = self.segments.get_mut(segment as usize).filter(|s| !intact && s.landed == 0) {
                (segment.damaged, self.damaged) = (true, true);
            }
        }
        Some(Landed { position, kept, restore, damaged })
    }

    /// The position whose segment suffers when a packet lands in this one.
    fn damaged_by(&self, position: u32, saved: bool) -> Option<u32> {
        let suffers = self.overlap && !saved && matches!(self.below(position), Some(Position::Held(_)));
        suffers.then(|| position - 1)
    }

    fn free(&mut self, position: u32) {
        self.positions[position as usize] = Position::Free;
        self.free_below = self.free_below.max(position + 1);
    }

    /// What this position holds is worth nothing.
    fn lose(&mut self, position: u32) {
        if let Position::Held(segment) = self.positions[position as usize] {
            self.segments[segment as usize].landed = 0;
            self.here -= 1;
            self.free(position);
        }
    }

    /// What this position holds isn't what it was sent as any more: it is to be asked for again.
    pub(crate) fn reject(&mut self, position: u32) {
        if let Some(&Position::Held(segment)) = self.positions.get(position as usize) {
            self.lose(position);
            (self.segments[segment as usize].damaged, self.damaged) = (true, true);
        }
    }

    /// All that has landed so far is what its header said: the port [is consistent](crate::port::bulk::BulkPort::is_consistent).
    pub(crate) fn trust(&mut self) {
        self.trusted = self.landings;
    }

    /// Nothing that has landed is what it was sent as, it seems: what of it matters is asked for again when the port is [reopened](Incoming::reopened).
    pub(crate) fn distrust(&mut self) {
        self.trusted = 0;
    }

    /// The positions that hold a segment, and which.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(&self.positions).filter_map(|(position, state)| match state {
            Position::Held(segment) => Some((position, *segment)),
            _ => None,
        })
    }

    /// The port was reopened: what is posted is free again. `consistent` is what the port [said](crate::port::bulk::BulkPort::is_consistent) just before, whatever it was reopened for: if it
    /// wasn't, then what has landed since the last [`trust`](Incoming::trust) isn't here either. Returns the positions below which the caller has saved bytes:
    /// they are to be written back.
    pub(crate) fn reopened(&mut self, consistent: bool) -> Vec<u32> {
        let mut restore = Vec::new();
        for (_, position) in std::mem::take(&mut self.posted) {
            let saved = self.positions[position as usize] == Position::Posted { saved: true };
            if saved {
                restore.push(position);
            }
            // Something may have landed there that nobody has seen.
            if let Some(below) = self.damaged_by(position, saved) {
                self.lose(below);
            }
            self.free(position);
        }
        for position in 0..self.positions.len() {
            if let Position::Held(segment) = self.positions[position]
                && !consistent
                && self.segments[segment as usize].landed > self.trusted
            {
                self.lose(position as u32);
            }
        }
        restore
    }

    /// Whether all segments are here, each in some position.
    pub(crate) fn is_complete(&self) -> bool {
        self.here as usize == self.segments.len()
    }

    /// How to put the segments in order, once it [is complete](Incoming::is_complete); nothing to do before.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let held = self.positions.iter().map(|position| match position {
            Position::Held(segment) => Some(*segment),
            _ => None,
        });
        held.collect::<Option<Vec<u32>>>().and_then(|order| permutation::moves(&order)).unwrap_or_default()
    }

    /// The place that its next packet lands in; `None` if none is posted.
    pub(crate) fn next_place(&self) -> Option<u64> {
        self.posted.front().map(|&(place, _)| place)
    }

    /// Places that are posted and not used.
    pub(crate) fn unused(&self) -> u32 {
        self.posted.len() as u32
    }

    /// Segments that have landed and that the sender wasn't told of.
    pub(crate) fn unreported(&self) -> u32 {
        self.here.saturating_sub(self.reported)
    }

    /// The same; it is told of them now.
    pub(crate) fn report(&mut self) -> u32 {
        let count = self.unreported();
        self.reported += count;
        count
    }

    /// All that was granted or asked for again has been sent: if something doesn't come soon it never will.
    pub(crate) fn all_sent(&mut self, now: Time) {
        self.quiet_since = now;
        for segment in &mut self.segments {
            segment.asked = None;
        }
    }

    /// How many have landed that were kept.
    pub(crate) fn landings(&self) -> u64 {
        self.landings
    }

    /// How often in a row all that is missing was asked for, and nothing of it has landed since.
    pub(crate) fn in_vain(&self) -> u32 {
        self.vain
    }

    /// When something landed that was kept; at first, when it was granted.
    pub(crate) fn landed_at(&self) -> Time {
        self.landed_at
    }

    /// How long nothing has landed that was kept.
    pub(crate) fn quiet(&self, now: Time) -> Duration {
        now.since(self.landed_at)
    }

    /// Its segments couldn't land before `now`, so the silence so far means nothing: the places of an earlier grant come first, and something lands in those; or
    /// the port was reopened because of another grant.
    pub(crate) fn held_up(&mut self, now: Time) {
        (self.landed_at, self.quiet_since, self.vain) = (now, now, 0);
    }

    /// The segments to ask the sender for again now, as ranges, highest first, at most `limit`; they count as asked for. Those are
    ///
    /// - what has come damaged;
    /// - what is missing though [`REORDERED`] of those that are sent after it have landed, since it was last asked for; or as many as there are;
    /// - all that is missing, when nothing has landed and nothing was asked for during `stall`, which doubles each time until something lands, up to 32 times as long;
    ///
    /// but, what has come damaged apart, nothing that was asked for less than `stall` ago. `stall` is more than a round trip.
    pub(crate) fn ask(&mut self, now: Time, stall: Duration, limit: usize) -> Vec<Range<u32>> {
        let gap = std::mem::take(&mut self.damaged) || self.here < self.segments.len() as u32 - self.lowest;
        let stalled = self.deadline(stall).is_some_and(|deadline| deadline <= now);
        if !(gap || stalled) {
            return Vec::new();
        }
        // The last landings below the segment looked at, the latest first.
        let mut latest = [0; REORDERED];
        let mut due = Vec::new();
        for (number, segment) in (0..).zip(&self.segments) {
            if segment.landed > 0 {
                let at = latest.partition_point(|&landed| landed > segment.landed);
                if at < REORDERED {
                    latest[at..].rotate_right(1);
                    latest[at] = segment.landed;
                }
                continue;
            }
            let (rested, landings) = segment.asked.map_or((true, 0), |(at, landings)| (at + stall <= now, landings));
            let overtaken = number > 0 && latest[REORDERED.min(number) - 1] > landings;
            if segment.damaged || rested && (stalled || overtaken) {
                due.push(number as u32);
            }
        }
        let (ranges, all) = ranges(due.into_iter().rev(), limit);
        for segment in ranges.iter().cloned().flatten() {
            let segment = &mut self.segments[segment as usize];
            (segment.asked, segment.damaged) = (Some((now, self.landings)), false);
        }
        self.damaged = !all;
        if all && !ranges.is_empty() {
            self.quiet_since = now;
            self.vain = self.vain.saturating_add(u32::from(stalled));
        }
        ranges
    }

    /// When to [ask](Incoming::ask) though nothing has landed; `None` when it is complete.
    pub(crate) fn deadline(&self, stall: Duration) -> Option<Time> {
        (!self.is_complete()).then(|| self.quiet_since + stall.saturating_mul(1 << self.vain.min(MAX_DOUBLED)))
    }
}

/// Joins numbers that come in descending order to at most `limit` ranges, and says whether that was all of them.
fn ranges(numbers: impl Iterator<Item = u32>, limit: usize) -> (Vec<Range<u32>>, bool) {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.start == number + 1 => range.start = number,
            _ => {
                if ranges.len() == limit {
                    return (ranges, false);
                }
                ranges.push(number..number + 1);
            }
        }
    }
    (ranges, true)
}

#[cfg(test)]
mod tests;
