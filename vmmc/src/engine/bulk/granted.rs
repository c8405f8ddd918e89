//! A transfer that has been granted: its memory, its places, and what has landed in them.

use std::ops::Range;
use std::time::Duration;

use smallvec::SmallVec;

use super::super::landing::Reserved;
use crate::bulk::incoming::Incoming;
use crate::bulk::permutation::Move;
use crate::memory::{DirectTarget, MemoryError};
use crate::port::bulk::{BulkPort, Landing, Run};
use crate::time::Time;
use crate::wire::record::{Errand, MAX_MISSING};
use crate::wire::{BULK_CHECKED, BulkHeader};

/// Once all has been sent, how long it may take on its way through queues and past others.
const SETTLED_WITHIN: Duration = Duration::from_micros(100);

/// How often in a row a sender that lives may be asked for all that is missing, and nothing comes.
const MOST_IGNORED: u32 = 8;

/// So many more packets may come damaged than whole.
const FEW_DAMAGED: u64 = 4;

/// How often, at the end, some of it may have been written over by others meanwhile.
const MOST_SPOILT: u32 = 8;

/// Where what lands belongs.
#[derive(Debug)]
pub(super) enum Home {
    /// An export, or a redirect of it.
    Export { id: u32, reserved: Reserved },
    /// What was fetched.
    Fetch { request: u32 },
}

/// A transfer that has been granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub run: Run,
    pub transfer: u32,
    pub errand: Errand,
    pub home: Home,
    pub target: DirectTarget,
    /// Where in the target the whole begins, and how long what came with the request is: the segments follow it.
    pub start: usize,
    pub rest: usize,
    pub segments: u32,
    pub incoming: Incoming,
    /// The checksums of those that are here, by segment.
    checksums: Vec<Option<u32>>,
    /// What lay where headers fall, by position.
    saved: SmallVec<[(u32, Box<[u8]>); 1]>,
    /// The sender says that it has sent all, and nothing has been asked for since.
    sent: bool,
    /// How often segments were asked for again, modulo 2^16.
    questions: u16,
    /// Something has landed, and hasn't been reported, that may have waited for long before anybody looked.
    pub late: bool,
    /// When all that is missing was asked for last.
    asked_at: Time,
    /// How often in a row nothing came of that, and the sender was heard meanwhile.
    ignored: u32,
    /// So many packets came with a wrong checksum.
    damaged: u64,
    /// Of each position, whether others have written there since it was posted last, as they may.
    written: Vec<bool>,
    /// How often all were here, and some not as they were sent any more.
    spoilt: u32,
    /// For how long its places came first, and others waited.
    pub held: Duration,
    /// It is to be abandoned.
    pub condemned: bool,
}

/// What has come of a landing.
pub(super) enum Outcome {
    /// It isn't this transfer's.
    Foreign,
    /// The segment is here.
    Kept,
    /// It isn't worth anything: damaged, or here already.
    Wasted,
}

/// What has become of a transfer that has landed.
pub(super) enum Look {
    /// All of it is as it was sent.
    Whole,
    /// Others have written there since, as they may: some is to come again.
    WrittenOver,
    /// Something is wrong.
    Damaged,
}

impl Granted {
    /// Nothing is posted yet, and nothing written.
    pub(super) fn new(
        run: Run,
        (transfer, errand): (u32, Errand),
        home: Home,
        (target, start): (DirectTarget, usize),
        incoming: Incoming,
        (rest, segments): (usize, u32),
    ) -> Granted {
        let (saved, granted_at) = (SmallVec::new(), incoming.landed_at());
        let checksums = vec![None; segments as usize];
        Granted {
            run,
            transfer,
            errand,
            home,
            target,
            start,
            rest,
            segments,
            incoming,
            checksums,
            saved,
            sent: false,
            questions: 0,
            late: false,
            asked_at: granted_at,
            ignored: 0,
            damaged: 0,
            written: vec![false; segments as usize],
            spoilt: 0,
            held: Duration::ZERO,
            condemned: false,
        }
    }

    /// Writes what came with the request.
    ///
    /// # Errors
    /// When the memory can't be written.
    pub(super) fn begin(&self, rest: &[u8]) -> Result<(), MemoryError> {
        self.target.write(self.start as u64, rest)
    }

    /// Bytes of the whole transfer.
    pub(super) fn len(&self) -> u64 {
        self.rest as u64 + u64::from(self.segments) * u64::from(self.run.segment)
    }

    /// Where in the target a position begins.
    pub(super) fn at(&self, position: u32) -> usize {
        self.start + self.rest + position as usize * self.run.segment as usize
    }

    /// How long packets are that its places are for; `None` if none are posted.
    pub(super) fn posted(&self) -> Option<u32> {
        (self.incoming.unused() > 0).then_some(self.run.segment)
    }

    /// Posts the places that are free, as far as the port has room: none as long as others are `posted` for packets of another length. Returns whether any were.
    ///
    /// # Errors
    /// When the port can't write there.
    pub(super) fn post(&mut self, port: &mut dyn BulkPort, posted: Option<u32>) -> Result<bool, Unpostable> {
        let mut any = false;
        if posted.is_some_and(|posted| posted != self.run.segment) {
            return Ok(any);
        }
        while let Some(position) = self.incoming.next_to_post() {
            if port.room(self.run.segment as usize) == 0 {
                break;
            }
            let at = self.at(position);
            if self.incoming.needs_saving(position) {
                let mut bytes = vec![0; port.overlap()].into_boxed_slice();
                let from = at.checked_sub(bytes.len()).ok_or(Unpostable)?;
                self.target.read(from as u64, &mut bytes).map_err(|_| Unpostable)?;
                self.saved.push((position, bytes));
            }
            let place = port.post(&self.run, &self.target, at).ok_or(Unpostable)?;
            self.incoming.posted(position, place);
            self.written[position as usize] = false;
            any = true;
        }
        Ok(any)
    }

    /// A packet has landed. With `checked` it must have had a checksum.
    pub(super) fn land(&mut self, now: Time, landing: &Landing, checked: bool) -> Outcome {
        let Some(position) = self.incoming.position_of(landing.place) else { return Outcome::Foreign };
        let intact = landing.grant == self.run.grant
            && match landing.checksum {
                None => !checked,
                Some(checksum) => self.is_intact(position, landing.segment, checksum),
            };
        let Some(landed) = self.incoming.landed(now, landing.place, landing.segment, intact) else {
            return Outcome::Foreign;
        };
        self.damaged += u64::from(!intact && landing.grant == self.run.grant);
        if landed.restore {
            self.restore(landed.position);
        }
        if landed.kept {
            self.checksums[landing.segment as usize] = landing.checksum;
        }
        if landed.kept { Outcome::Kept } else { Outcome::Wasted }
    }

    /// Whether this segment lies at this position as it was sent.
    fn is_intact(&self, position: u32, segment: u32, checksum: u32) -> bool {
        let header = BulkHeader { token: self.run.token, grant: self.run.grant, segment };
        let at = self.at(position);
        let payload =
            |take: &mut dyn FnMut(&[u8])| self.target.for_each(at, self.run.segment as usize, |bytes| take(bytes));
        header.checksum(BULK_CHECKED, payload) == checksum
    }

    /// Others have written these bytes of the transfer, as they may.
    pub(super) fn written(&mut self, bytes: Range<u64>) {
        let position = |at: u64| at.saturating_sub(self.rest as u64) / u64::from(self.run.segment);
        if bytes.end > self.rest as u64 {
            self.written[position(bytes.start) as usize..=position(bytes.end - 1) as usize].fill(true);
        }
    }

    /// Looks once more at what has landed, once all of it is here, and rejects segments that aren't as they were sent any more.
    ///
    /// Where a NIC writes before anybody has looked, that is any of them. Elsewhere only others can have written there, whose bytes are right where they are; so those are looked at that are to be
    /// moved, and would take the others' bytes with them.
    pub(super) fn look_again(&mut self) -> Look {
        let is_spoilt = |&(position, segment): &(u32, u32)| {
            (self.incoming.has_overlap() || position != segment)
                && match self.checksums[segment as usize] {
                    Some(checksum) => !self.is_intact(position, segment, checksum),
                    None => self.written[position as usize],
                }
        };
        let spoilt: Vec<u32> = self.incoming.held().filter(is_spoilt).map(|(position, _)| position).collect();
        if spoilt.is_empty() {
            return Look::Whole;
        }
        let is_damaged = |&position: &u32| self.incoming.has_overlap() && !self.written[position as usize];
        if spoilt.iter().any(is_damaged) {
            return Look::Damaged;
        }
        self.spoilt += 1;
        spoilt.into_iter().for_each(|position| self.incoming.reject(position));
        Look::WrittenOver
    }

    /// Writes back what lay below a position.
    fn restore(&mut self, position: u32) {
        if let Some(number) = self.saved.iter().position(|(of, _)| *of == position) {
            let (_, bytes) = self.saved.swap_remove(number);
            let at = self.at(position) - bytes.len();
            // It was read from there.
            let _ = self.target.write(at as u64, &bytes);
        }
    }

    /// The port has been reopened: nothing is posted any more.
    pub(super) fn reopened(&mut self, consistent: bool) {
        for position in self.incoming.reopened(consistent) {
            self.restore(position);
        }
        self.saved.clear();
    }

    /// Puts segments that have landed in one another's places where they belong. Returns how many bytes were copied.
    ///
    /// # Errors
    /// When the memory can't be written any more.
    pub(super) fn order(&mut self) -> Result<u64, MemoryError> {
        let segment = self.run.segment as usize;
        let (mut held, mut passing) = (Vec::new(), Vec::new());
        let mut copied = 0;
        for step in self.incoming.moves() {
            match step {
                Move::Save(from) => {
                    held.resize(segment, 0);
                    self.target.read(self.at(from) as u64, &mut held)?;
                }
                Move::Copy { from, to } => {
                    passing.resize(segment, 0);
                    self.target.read(self.at(from) as u64, &mut passing)?;
                    self.target.write(self.at(to) as u64, &passing)?;
                }
                Move::Restore(to) => self.target.write(self.at(to) as u64, &held)?,
            }
            copied += segment as u64;
        }
        Ok(copied)
    }

    /// The segments to ask for again now. The sender was last heard so long ago; `None` if nothing could come of it meanwhile in any case.
    pub(super) fn ask(&mut self, now: Time, stall: Duration, silence: Option<Duration>) -> Vec<Range<u32>> {
        let before = self.incoming.in_vain();
        let ranges = self.incoming.ask(now, self.stall(stall), MAX_MISSING);
        if !ranges.is_empty() {
            (self.sent, self.questions) = (false, self.questions.wrapping_add(1));
        }
        if self.incoming.in_vain() > before {
            let is_ignored = silence.is_some_and(|silence| self.is_heard(now, silence));
            let ignored = self.ignored + u32::from(is_ignored);
            (self.ignored, self.asked_at) = (if before > 0 && silence.is_some() { ignored } else { 0 }, now);
        }
        ranges
    }

    /// When that is, landings apart; `None` when all are here.
    pub(super) fn ask_at(&self, stall: Duration) -> Option<Time> {
        self.incoming.deadline(self.stall(stall))
    }

    /// Whether there is no sense in asking again: the sender lives, and has ignored it often enough.
    pub(super) fn is_hopeless(&self, now: Time, stall: Duration, silence: Duration) -> bool {
        self.incoming.in_vain() > 0
            && self.ignored >= MOST_IGNORED
            && self.ask_at(stall).is_some_and(|at| at <= now)
            && self.is_heard(now, silence)
    }

    /// Whether the sender was heard since it was asked.
    fn is_heard(&self, now: Time, silence: Duration) -> bool {
        silence < now.since(self.asked_at)
    }

    /// Whether so much of it comes damaged that this is no accident of the network: what is fetched while somebody writes it changes between its checksum and its sending. Or others write
    /// again and again where it is to land.
    pub(super) fn is_spoilt(&self) -> bool {
        self.damaged > self.incoming.landings() + FEW_DAMAGED || self.spoilt >= MOST_SPOILT
    }

    /// How long nothing may land.
    fn stall(&self, stall: Duration) -> Duration {
        if self.sent { SETTLED_WITHIN } else { stall }
    }

    /// An earlier grant of the same peer lacks something. What was sent for this one meanwhile was let in nowhere, and will be sent again when the peer hears of that.
    pub(super) fn begin_again(&mut self) {
        self.sent &= self.incoming.landings() > 0;
    }

    /// The sender says that it has sent all, and that it had heard so many questions then.
    pub(super) fn all_sent(&mut self, now: Time, questions: u16) {
        // Once for each question: else it could be said so often that there is never another.
        if questions == self.questions && !std::mem::replace(&mut self.sent, true) {
            self.incoming.all_sent(now);
        }
    }
}

/// The port can't write where a transfer belongs.
#[derive(Debug)]
pub(super) struct Unpostable;
