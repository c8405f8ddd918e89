//! A redirect: memory of the receiver's program that takes data in place of the export.

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

use super::byte_set::ByteSet;
use super::landed::RedirectId;
use super::memory::Memory;
use crate::memory::{DirectTarget, Panicked, Target};

/// What a redirect takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What is sent to this part of the export, each byte once. Byte x goes to place x - start of the target.
    Range(Range<u64>),
    /// The next so many bytes that come, wherever in the export they are sent to, one after the other.
    Next(u64),
}

impl Wanted {
    /// How many bytes that are.
    pub fn len(&self) -> u64 {
        match self {
            Wanted::Range(range) => range.end.saturating_sub(range.start),
            &Wanted::Next(len) => len,
        }
    }

    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a redirect has received: which bytes of its target are data.
#[derive(Clone)]
pub struct Received {
    set: Box<ByteSet>,
}

impl Received {
    /// Nothing.
    pub(crate) fn nothing() -> Received {
        Received { set: Box::new(ByteSet::new(0)) }
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.set.count()
    }

    /// How many from the beginning of the target on, without a gap.
    pub fn prefix(&self) -> u64 {
        self.set.runs().next().filter(|run| run.start == 0).map_or(0, |run| run.end)
    }

    /// Which parts of the target, in order. No two of them touch.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.set.runs()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("bytes", &self.bytes()).field("prefix", &self.prefix()).finish()
    }
}

/// Why a redirect takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectEnd {
    /// It has all it wants.
    Full,
    /// The program has stopped it.
    Stopped,
    /// The export has gone.
    Revoked,
    /// [`Target::store`] of its target has panicked.
    Panicked,
    /// It has been taken back, and its target is [lost](crate::EngineError::TargetLost).
    Lost,
}

/// A redirect that has been taken back.
pub struct Returned {
    /// What was posted; or an empty buffer, when that is [lost](RedirectEnd::Lost).
    pub target: Box<dyn Target>,
    /// What it holds.
    pub received: Received,
    /// Why it took nothing more, if that had come to an end before.
    pub end: Option<RedirectEnd>,
}

impl Returned {
    /// The target, as what it is, and what it holds.
    ///
    /// # Panics
    /// When the target is something else.
    pub fn into_parts<T: Target>(self) -> (T, Received) {
        (self.target.downcast(), self.received)
    }
}

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").field("received", &self.received).field("end", &self.end).finish_non_exhaustive()
    }
}

/// A redirect.
pub(crate) struct Redirect {
    pub id: RedirectId,
    pub wanted: Wanted,
    memory: Memory,
    /// What it has, and what is reserved.
    filled: ByteSet,
    /// Parts of the target that are about to be filled by packets that land there by themselves.
    reserved: SmallVec<[Range<u64>; 2]>,
    /// Parts that were reserved, and that nothing has come for; and others have got what is behind them.
    holes: SmallVec<[Range<u64>; 1]>,
}

impl Redirect {
    /// One that has nothing yet. The target has room for what it wants.
    pub(super) fn new(id: RedirectId, wanted: Wanted, target: Box<dyn Target>) -> Redirect {
        let memory = Memory::Any(target);
        Redirect {
            id,
            filled: ByteSet::new(wanted.len()),
            wanted,
            memory,
            reserved: SmallVec::new(),
            holes: SmallVec::new(),
        }
    }

    pub(crate) fn received(&self) -> u64 {
        let nothing = self.reserved.iter().chain(&self.holes).map(|range| range.end - range.start);
        self.filled.count() - nothing.sum::<u64>()
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled.is_full() && self.reserved.is_empty()
    }

    /// Reserves room for a run of bytes that it wants, which are sent to the run's start and behind: the memory, and where in it they go. Nobody else's bytes go there
    /// from now on. `None` when no packet can land in it by itself.
    pub(super) fn reserve(&mut self, run: Range<u64>) -> Option<(DirectTarget, u64)> {
        let at = self.place(run.start);
        let target = self.memory.direct()?.clone();
        let place = at..at + (run.end - run.start);
        self.filled.insert(place.clone());
        self.reserved.push(place);
        Some((target, at))
    }

    /// What was reserved from `at` on has been filled; or it won't be, and is wanted again.
    pub(super) fn settle(&mut self, at: u64, filled: bool) {
        let Some(number) = self.reserved.iter().position(|range| range.start == at) else { return };
        let range = self.reserved.swap_remove(number);
        if filled {
            return;
        }
        // What comes next goes behind what came last: not into a hole, and so not twice to the same place.
        let behind = range.end..self.wanted.len();
        if matches!(self.wanted, Wanted::Next(_)) && self.filled.next_run(behind).is_some() {
            self.holes.push(range);
        } else {
            self.filled.remove(range);
        }
    }

    /// The first run of bytes it wants, of those of the export in `within`.
    pub(super) fn wants(&self, within: Range<u64>) -> Option<Range<u64>> {
        match &self.wanted {
            Wanted::Range(range) => {
                let (start, end) = (within.start.max(range.start), within.end.min(range.end));
                if start >= end {
                    return None;
                }
                let gap = self.filled.next_gap(start - range.start..end - range.start)?;
                Some(range.start + gap.start..range.start + gap.end)
            }
            Wanted::Next(len) => {
                let room = len - self.filled.count();
                let run = within.start..within.end.min(within.start.saturating_add(room));
                Some(run).filter(|run| !run.is_empty())
            }
        }
    }

    /// Where in the target the next bytes go that it wants, if they were sent to `offset`.
    pub(super) fn place(&self, offset: u64) -> u64 {
        match &self.wanted {
            Wanted::Range(range) => offset - range.start,
            Wanted::Next(_) => self.filled.count(),
        }
    }

    /// Takes bytes that it wants, which were sent to `offset`.
    pub(super) fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Panicked> {
        let at = self.place(offset);
        // Nothing is known of the target after a panic but what it had before, and nothing else has come to harm.
        self.memory.try_store(at as usize, bytes)?;
        self.filled.insert(at..at + bytes.len() as u64);
        Ok(())
    }

    /// Ends it.
    pub(super) fn give_back(mut self, end: Option<RedirectEnd>) -> Returned {
        for range in self.reserved.drain(..).chain(self.holes.drain(..)) {
            self.filled.remove(range);
        }
        match self.memory.give_back() {
            Ok(target) => Returned { target, received: Received { set: Box::new(self.filled) }, end },
            Err((_, target)) => Returned { target, received: Received::nothing(), end: Some(RedirectEnd::Lost) },
        }
    }
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect")
            .field("id", &self.id)
            .field("wanted", &self.wanted)
            .field("received", &self.received())
            .finish_non_exhaustive()
    }
}
