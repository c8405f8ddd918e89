//! The sender's transfers to one peer: asked for, granted, sent, and sent again where the receiver says so.
//!
//! The receiver alone knows what has landed. It says how many (which frees the window), which are missing (which go again before all others), and when all is in
//! place. Whatever it says is checked, for it may say anything.

use std::collections::VecDeque;
use std::ops::Range;

use super::MAX_SEGMENTS;

/// Transfers that may be unfinished at a time.
pub(crate) const MAX_AHEAD: usize = 8;

/// What a peer said about bulk transfers, and can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    /// There is no such transfer, or not in that state.
    #[error("the peer speaks of bulk transfer {0}, which isn't there, or not in that state")]
    Transfer(u32),
    /// There is no such grant, or there is already.
    #[error("the peer speaks of bulk grant {0}, which isn't there, or was given already")]
    Grant(u32),
    /// More landed than were sent.
    #[error("{landed} segments of bulk grant {grant} are said to have landed, of {sent} sent")]
    Landed {
        /// The grant.
        grant: u32,
        /// How many it says have landed.
        landed: u64,
        /// How many were sent.
        sent: u32,
    },
    /// What is missing isn't part of the transfer, or not in descending order.
    #[error(
        "segments {start} to {end} of bulk grant {grant} are said to be missing: not in order, or not of its {segments}"
    )]
    Missing {
        /// The grant.
        grant: u32,
        /// The range.
        start: u32,
        /// Its end, exclusive.
        end: u32,
        /// How many segments there are.
        segments: u32,
    },
}

#[derive(Debug)]
struct Transfer {
    number: u32,
    segments: u32,
    cancelled: bool,
    /// Its number, and how many grants there were before.
    grant: Option<(u32, u64)>,
    /// From this one on all were sent at least once, and not taken for lost since.
    unsent: u32,
    /// From this one on all were sent at least once.
    never_sent: u32,
    /// Those to be sent again, in the order asked for.
    again: VecDeque<u32>,
    /// Whether a segment is among them.
    is_again: Vec<bool>,
    landed: u32,
    /// How often its receiver has asked for what is missing, modulo 2^16, and whether it has.
    questions: u16,
    wanted: bool,
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The transfer.
    pub transfer: u32,
    /// The receiver's number of its grant.
    pub grant: u32,
    /// Which segment.
    pub segment: u32,
    /// Whether it was sent before.
    pub again: bool,
}

/// All transfers to one peer that aren't finished, in the order asked for.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    transfers: VecDeque<Transfer>,
    next: u32,
    grants: u64,
}

impl Outgoing {
    /// Whether one more may be asked for.
    pub(crate) fn may_ask(&self) -> bool {
        self.transfers.len() < MAX_AHEAD
    }

    /// A transfer of so many segments, which the receiver is asked for now. Returns its number; `None` if it is not of 1 to [`MAX_SEGMENTS`], or not
    /// [now](Outgoing::may_ask).
    pub(crate) fn ask(&mut self, segments: u32) -> Option<u32> {
        if !self.may_ask() || !(1..=MAX_SEGMENTS).contains(&segments) {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.transfers.push_back(Transfer {
            number,
            segments,
            cancelled: false,
            grant: None,
            unsent: segments,
            never_sent: segments,
            again: VecDeque::new(),
            is_again: vec![false; segments as usize],
            landed: 0,
            questions: 0,
            wanted: false,
        });
        Some(number)
    }

    /// The receiver grants a transfer.
    ///
    /// # Errors
    /// If there is none of that number that waits for it, or another has that grant.
    pub(crate) fn on_granted(&mut self, transfer: u32, grant: u32) -> Result<(), Nonsense> {
        if self.transfers.iter().any(|transfer| transfer.is_of(grant)) {
            return Err(Nonsense::Grant(grant));
        }
        let waiting = self.transfers.iter_mut().find(|waiting| waiting.number == transfer && waiting.grant.is_none());
        waiting.ok_or(Nonsense::Transfer(transfer))?.grant = Some((grant, self.grants));
        self.grants += 1;
        Ok(())
    }

    /// The receiver grants it not, or has abandoned it. It is finished: it isn't sent this way. Returns whether it was [cancelled](Outgoing::cancel).
    ///
    /// # Errors
    /// If there is none of that number.
    pub(crate) fn on_declined(&mut self, transfer: u32) -> Result<bool, Nonsense> {
        let index = self.transfers.iter().position(|unfinished| unfinished.number == transfer);
        let declined = index.and_then(|index| self.transfers.remove(index)).ok_or(Nonsense::Transfer(transfer))?;
        Ok(declined.cancelled)
    }

    /// So many more segments of a grant have landed.
    ///
    /// # Errors
    /// If there is no such grant, or they are more than were sent.
    pub(crate) fn on_landed(&mut self, grant: u32, count: u32) -> Result<(), Nonsense> {
        let transfer = self.granted(grant)?;
        let (landed, sent) = (u64::from(transfer.landed) + u64::from(count), transfer.segments - transfer.never_sent);
        if landed > u64::from(sent) {
            return Err(Nonsense::Landed { grant, landed, sent });
        }
        transfer.landed += count;
        // Of those that were taken for lost, most likely the first: else the receiver asks.
        transfer.unsent = transfer.unsent.min(transfer.segments - transfer.landed);
        if transfer.landed == transfer.segments {
            // What was asked for again was only late.
            transfer.again.drain(..).for_each(|segment| transfer.is_again[segment as usize] = false);
        }
        Ok(())
    }

    /// These segments of a grant are missing, highest first: they are sent again. Those that weren't sent yet are passed over.
    ///
    /// As a rule the grant's places come before those of later grants. So whatever has been sent by these is let in nowhere, and is lost as well: it is sent again without being asked for, and what has landed all
    /// the same comes twice. Returns how many packets that are.
    ///
    /// # Errors
    /// If there is no such grant, or a range is empty, or isn't below the former, or reaches past the last segment. Then none is sent again.
    pub(crate) fn on_missing(&mut self, grant: u32, ranges: &[Range<u32>]) -> Result<u64, Nonsense> {
        let transfer = self.granted(grant)?;
        let segments = transfer.segments;
        let mut above = segments;
        for &Range { start, end } in ranges {
            if start >= end || end > above {
                return Err(Nonsense::Missing { grant, start, end, segments });
            }
            above = start;
        }
        (transfer.questions, transfer.wanted) = (transfer.questions.wrapping_add(1), true);
        let is_over = transfer.landed == segments;
        for segment in ranges.iter().cloned().flat_map(Iterator::rev) {
            if segment >= transfer.unsent && !std::mem::replace(&mut transfer.is_again[segment as usize], true) {
                transfer.again.push_back(segment);
            }
        }
        let order = transfer.grant.map(|(_, order)| order);
        let later = self.transfers.iter_mut().filter(|later| later.grant.map(|(_, order)| order) > order);
        // Of which something has landed, that had places in front.
        let behind = later.filter(|later| later.landed == 0 && !later.cancelled && !is_over);
        Ok(behind.map(|later| u64::from(later.begin_again())).sum())
    }

    /// All of a transfer is in place: it is finished. Returns whether it was [cancelled](Outgoing::cancel).
    ///
    /// # Errors
    /// If it isn't granted, or wasn't sent to the end.
    pub(crate) fn on_done(&mut self, transfer: u32) -> Result<bool, Nonsense> {
        let sent = |unfinished: &Transfer| {
            unfinished.number == transfer && unfinished.grant.is_some() && unfinished.never_sent == 0
        };
        let index = self.transfers.iter().position(sent);
        let done = index.and_then(|index| self.transfers.remove(index)).ok_or(Nonsense::Transfer(transfer))?;
        Ok(done.cancelled)
    }

    /// Sends no more of a transfer. It isn't finished before the receiver says so: till then what is under way may land.
    /// Returns whether it was there.
    pub(crate) fn cancel(&mut self, transfer: u32) -> bool {
        let unfinished = self.transfers.iter_mut().find(|unfinished| unfinished.number == transfer);
        unfinished.map(|unfinished| unfinished.cancelled = true).is_some()
    }

    /// The segment to be sent next, if not `window` packets are under way, or none of its transfer: those asked for again first, then the highest that wasn't sent, of the transfer that was granted
    /// first. It is the same until it is [`sent`](Outgoing::sent).
    pub(crate) fn next_segment(&self, window: u64) -> Option<Next> {
        let of = |transfer: &Transfer, segment: Option<u32>, again: bool| {
            let ((grant, order), segment) = (transfer.grant?, segment?);
            let next = Next { transfer: transfer.number, grant, segment, again };
            (!transfer.cancelled).then_some((order, next, transfer.in_flight()))
        };
        let again = self.transfers.iter().filter_map(|transfer| of(transfer, transfer.again.front().copied(), true));
        let first = self.transfers.iter().filter_map(|transfer| of(transfer, transfer.unsent.checked_sub(1), false));
        let oldest = |(order, _, _): &(u64, Next, u32)| *order;
        // What is under way of another may have to wait until this one's places are used.
        let has_room = self.in_flight() < window;
        let may = |(_, _, in_flight): &(u64, Next, u32)| has_room || *in_flight == 0;
        // Or its turn has come before that of one asked for earlier, whose places were used by packets that came twice.
        let wanted = self.transfers.iter().filter(|transfer| transfer.wanted && transfer.in_flight() == 0);
        let wanted = wanted.filter_map(|transfer| of(transfer, transfer.unsent.checked_sub(1), false));
        let next = again.filter(may).min_by_key(oldest);
        let next = next.or_else(|| first.min_by_key(oldest).filter(may)).or_else(|| wanted.min_by_key(oldest));
        next.map(|(_, next, _)| next)
    }

    /// What [`next_segment`](Outgoing::next_segment) returned was sent. Returns whether more [is under way](Outgoing::in_flight) for that: not if it counts as landed, and its receiver
    /// misses it all the same.
    pub(crate) fn sent(&mut self, next: &Next) -> bool {
        let Ok(transfer) = self.granted(next.grant) else { return false };
        let before = transfer.in_flight();
        if next.again && transfer.again.front() == Some(&next.segment) {
            transfer.again.pop_front();
            transfer.is_again[next.segment as usize] = false;
        } else if !next.again && transfer.unsent == next.segment.saturating_add(1) {
            transfer.unsent = next.segment;
            transfer.never_sent = transfer.never_sent.min(next.segment);
        }
        transfer.in_flight() > before
    }

    /// Whether all segments of a grant have been sent, those asked for again, too, and not all are known to have landed. Returns how often the receiver has asked.
    pub(crate) fn is_sent(&self, grant: u32) -> Option<u16> {
        let transfer = self.transfers.iter().find(|transfer| transfer.is_of(grant))?;
        let all = transfer.unsent == 0 && transfer.again.is_empty() && transfer.in_flight() > 0;
        all.then_some(transfer.questions)
    }

    /// Packets sent of which the receiver said neither that they landed nor that they are missing.
    pub(crate) fn in_flight(&self) -> u64 {
        self.transfers.iter().map(|transfer| u64::from(transfer.in_flight())).sum()
    }

    fn granted(&mut self, grant: u32) -> Result<&mut Transfer, Nonsense> {
        self.transfers.iter_mut().find(|transfer| transfer.is_of(grant)).ok_or(Nonsense::Grant(grant))
    }
}

impl Transfer {
    fn is_of(&self, grant: u32) -> bool {
        self.grant.is_some_and(|(number, _)| number == grant)
    }

    /// All that was sent is lost. Returns how many packets were under way.
    fn begin_again(&mut self) -> u32 {
        let lost = self.in_flight();
        self.unsent = self.segments;
        self.again.clear();
        self.is_again.fill(false);
        lost
    }

    fn in_flight(&self) -> u32 {
        (self.segments - self.unsent).saturating_sub(self.landed).saturating_sub(self.again.len() as u32)
    }
}

#[cfg(test)]
mod tests;
