//! Where the byte that came last for each place of an export has gone, when not there.
//!
//! A notification says where the send is that it announces, and comes after the send's last packet. Until then, and longer, the engine keeps
//! an account of what has gone to redirects: a map of runs. It has a limit, because a peer decides where it writes; beyond that the older
//! half is forgotten. Then a notification says that it doesn't know. It never says what isn't so.

use std::collections::BTreeMap;
use std::ops::Range;

use super::byte_set::ByteSet;
use super::landed::{Builder, Landed, Place, RedirectId};

/// The most runs in the map, and the most pieces in notifications that wait.
pub(super) const MOST: usize = 4096;

/// A run of bytes in a redirect.
#[derive(Clone, Copy, Debug)]
struct Entry {
    end: u64,
    redirect: RedirectId,
    at: u64,
    age: u64,
}

/// The account.
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// By where each begins. They don't overlap.
    map: BTreeMap<u64, Entry>,
    /// What has gone to redirects, and where is forgotten.
    forgotten: ByteSet,
    /// Counts the changes.
    clock: u64,
    /// Pieces in notifications that wait.
    waiting: usize,
}

impl Whereabouts {
    /// Of an export of `len` bytes.
    pub(super) fn new(len: u64) -> Whereabouts {
        Whereabouts { map: BTreeMap::new(), forgotten: ByteSet::new(len), clock: 0, waiting: 0 }
    }

    /// Whether the last of everything is where it was sent to.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty() && self.forgotten.is_empty()
    }

    /// These bytes have come, and are where they were sent to.
    pub(super) fn here(&mut self, range: Range<u64>) {
        self.forgotten.remove(range.clone());
        if let Some((&start, entry)) = self.map.range_mut(..range.start).next_back()
            && entry.end > range.start
        {
            let old = *entry;
            entry.end = range.start;
            self.keep_end(start, old, range.end);
        }
        while let Some((&start, &old)) = self.map.range(range.clone()).next() {
            self.map.remove(&start);
            self.keep_end(start, old, range.end);
        }
        self.limit();
    }

    /// Of an entry that began at `start`, what lies beyond `from` stays.
    fn keep_end(&mut self, start: u64, old: Entry, from: u64) {
        if old.end > from {
            self.map.insert(from, Entry { at: old.at + (from - start), ..old });
        }
    }

    /// These bytes have come, and gone to `at` of a redirect.
    pub(super) fn elsewhere(&mut self, range: Range<u64>, redirect: RedirectId, at: u64) {
        self.here(range.clone());
        self.insert(range, redirect, at);
        self.limit();
    }

    /// Adds an entry where there is none.
    fn insert(&mut self, range: Range<u64>, redirect: RedirectId, at: u64) {
        self.clock += 1;
        let mut new = Entry { end: range.end, redirect, at, age: self.clock };
        let end_at = at + (range.end - range.start);
        if let Some((_, next)) = self.map.range(range.end..).next().filter(|(start, _)| **start == range.end)
            && (next.redirect, next.at) == (redirect, end_at)
        {
            new.end = next.end;
            self.map.remove(&range.end);
        }
        if let Some((start, before)) = self.map.range_mut(..range.start).next_back()
            && before.end == range.start
            && (before.redirect, before.at + (range.start - start)) == (redirect, at)
        {
            (before.end, before.age) = (new.end, new.age);
        } else {
            self.map.insert(range.start, new);
        }
    }

    /// These bytes have been moved from where they were sent to. What has come later for the same places stays where it is.
    pub(super) fn moved(&mut self, range: Range<u64>, redirect: RedirectId, at: u64) {
        let known: Vec<Range<u64>> = self.overlapping(range.clone()).map(|(run, _)| run).collect();
        let mut from = range.start;
        for run in known.into_iter().chain(std::iter::once(range.end..range.end)) {
            while let Some(gap) = self.forgotten.next_gap(from..run.start) {
                from = gap.end;
                let at = at + (gap.start - range.start);
                self.insert(gap, redirect, at);
            }
            from = run.end;
        }
        self.limit();
    }

    /// Forgets the older half when there are too many.
    fn limit(&mut self) {
        if self.map.len() <= MOST {
            return;
        }
        let mut ages: Vec<u64> = self.map.values().map(|entry| entry.age).collect();
        let half = ages.len() / 2;
        let (_, &mut median, _) = ages.select_nth_unstable(half);
        self.map.retain(|&start, entry| {
            let young = entry.age > median;
            if !young {
                self.forgotten.insert(start..entry.end);
            }
            young
        });
    }

    /// What is in redirects of this range.
    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Place)> {
        let before = self.map.range(..range.start).next_back();
        let entries = before.into_iter().chain(self.map.range(range.clone()));
        entries.filter(move |(_, entry)| entry.end > range.start).map(move |(&start, entry)| {
            let run = start.max(range.start)..entry.end.min(range.end);
            let at = entry.at + (run.start - start);
            (run, Place::Redirect { redirect: entry.redirect, at })
        })
    }

    /// Where a send is whose last bytes have come now. The answer counts as waiting.
    pub(super) fn landed(&mut self, range: Range<u64>) -> Landed {
        if self.is_empty() {
            return Landed::Default;
        }
        let mut builder = Builder::new(self.room());
        let mut from = range.start;
        for (run, place) in self.overlapping(range.clone()) {
            self.push_gap(&mut builder, from..run.start);
            from = run.end;
            builder.push(run.end - run.start, place);
            if builder.is_over() {
                break;
            }
        }
        self.push_gap(&mut builder, from..range.end);
        let landed = builder.build(range.end - range.start);
        self.waiting += landed.listed();
        landed
    }

    /// What isn't in the map.
    fn push_gap(&self, builder: &mut Builder, gap: Range<u64>) {
        let mut from = gap.start;
        while let Some(run) = self.forgotten.next_run(from..gap.end)
            && !builder.is_over()
        {
            builder.push(run.start - from, Place::Default);
            builder.push(run.end - run.start, Place::Unknown);
            from = run.end;
        }
        builder.push(gap.end - from, Place::Default);
    }

    /// How many pieces an answer may have.
    fn room(&self) -> usize {
        MOST.saturating_sub(self.waiting).max(1)
    }

    /// An answer has been taken.
    pub(super) fn told(&mut self, landed: &Landed) {
        self.waiting -= landed.listed().min(self.waiting);
    }

    /// What a send that hasn't been told of says after bytes have been moved.
    pub(super) fn corrected(&mut self, send: Range<u64>, landed: &Landed, moved: &Moved) -> Landed {
        self.told(landed);
        let length = send.end - send.start;
        let mut builder = Builder::new(self.room());
        for piece in landed.pieces(length) {
            let range = send.start + piece.range.start..send.start + piece.range.end;
            if piece.place == Place::Default {
                moved.push_split(&mut builder, range);
            } else {
                builder.push(range.end - range.start, piece.place);
            }
        }
        let landed = builder.build(length);
        self.waiting += landed.listed();
        landed
    }

    /// How many runs are in the map, and how much memory what is forgotten takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.map.len(), self.forgotten.memory())
    }
}

/// What one redirect has taken of what had come before it.
#[derive(Debug)]
pub(super) struct Moved {
    redirect: RedirectId,
    /// Runs, and where in the target they are.
    runs: Vec<(Range<u64>, u64)>,
    /// There are too many. The others are all in here, beside others that haven't been moved.
    others: Option<Range<u64>>,
}

impl Moved {
    pub(super) fn new(redirect: RedirectId) -> Moved {
        Moved { redirect, runs: Vec::new(), others: None }
    }

    pub(super) fn push(&mut self, range: Range<u64>, at: u64) {
        if let Some((last, last_at)) = self.runs.last_mut()
            && last.end == range.start
            && *last_at + (last.end - last.start) == at
        {
            last.end = range.end;
        } else if self.runs.len() < MOST {
            self.runs.push((range, at));
        } else {
            let others = self.others.get_or_insert(range.clone());
            *others = others.start.min(range.start)..others.end.max(range.end);
        }
    }

    /// All have been moved.
    pub(super) fn sort(&mut self) {
        self.runs.sort_unstable_by_key(|(range, _)| range.start);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Where the bytes of a range are that lay where they were sent to.
    fn push_split(&self, builder: &mut Builder, range: Range<u64>) {
        let mut from = range.start;
        let first = self.runs.partition_point(|(run, _)| run.end <= range.start);
        for (run, at) in self.runs[first..].iter().take_while(|(run, _)| run.start < range.end) {
            let part = run.start.max(range.start)..run.end.min(range.end);
            self.push_rest(builder, from..part.start);
            let place = Place::Redirect { redirect: self.redirect, at: at + (part.start - run.start) };
            builder.push(part.end - part.start, place);
            from = part.end;
            if builder.is_over() {
                return;
            }
        }
        self.push_rest(builder, from..range.end);
    }

    /// What isn't in the list.
    fn push_rest(&self, builder: &mut Builder, range: Range<u64>) {
        let others = self.others.clone().unwrap_or_default();
        let start = others.start.clamp(range.start, range.end);
        let end = others.end.clamp(start, range.end);
        builder.push(start - range.start, Place::Default);
        builder.push(end - start, Place::Unknown);
        builder.push(range.end - end, Place::Default);
    }
}
