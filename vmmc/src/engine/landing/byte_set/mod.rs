//! A set of places in a buffer: which bytes have arrived, which have been taken.
//!
//! Data comes in long runs, so the set is a short sorted list of them. When there are too many it turns into a bitmap: an eighth
//! of the buffer's length is the most memory it takes, whatever a peer sends. It turns back when it is empty or full; an empty bitmap is
//! kept for the next time, so that nobody makes us allocate and free it again and again.

mod bitmap;

use std::ops::Range;

use bitmap::Bitmap;

/// The longest list of runs.
const MAX_RUNS: usize = 64;

/// Some of the bytes of a buffer.
#[derive(Clone, Debug)]
pub(crate) struct ByteSet {
    len: u64,
    count: u64,
    form: Form,
    /// A bitmap of which no bit is set.
    spare: Option<Bitmap>,
}

#[derive(Clone, Debug)]
enum Form {
    /// In order. No two of them touch.
    Runs(Vec<Range<u64>>),
    Bits(Bitmap),
}

/// What two ranges have in common; from its start on, when that is nothing.
pub(super) fn common(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

impl ByteSet {
    /// None of `len` bytes.
    pub(crate) fn new(len: u64) -> ByteSet {
        ByteSet { len, count: 0, form: Form::Runs(Vec::new()), spare: None }
    }

    /// How many it has.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Adds a range, which must lie inside the buffer.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        debug_assert!(range.end <= self.len, "{range:?} is not in a buffer of {} bytes", self.len);
        if range.is_empty() {
            return;
        }
        self.count += match &mut self.form {
            Form::Runs(runs) => add(runs, range),
            Form::Bits(bits) => bits.change(range, true),
        };
        self.reform();
    }

    /// Takes a range out, which must lie inside the buffer.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        debug_assert!(range.end <= self.len, "{range:?} is not in a buffer of {} bytes", self.len);
        if range.is_empty() || self.is_empty() {
            return;
        }
        self.count -= match &mut self.form {
            Form::Runs(runs) => take(runs, range),
            Form::Bits(bits) => bits.change(range, false),
        };
        self.reform();
    }

    /// Takes a range out with which its first or last run begins: what has come in order and is taken in order. Returns whether it is like that;
    /// otherwise nothing is taken out.
    #[inline]
    pub(crate) fn remove_front(&mut self, range: &Range<u64>) -> bool {
        let Form::Runs(runs) = &mut self.form else { return false };
        let Some(last) = runs.len().checked_sub(1) else { return false };
        for at in [0, last] {
            let run = &mut runs[at];
            if run.start == range.start && run.end >= range.end {
                run.start = range.end;
                if run.is_empty() {
                    runs.remove(at);
                }
                self.count -= length(range);
                return true;
            }
        }
        false
    }

    /// A list that has become too long turns into a bitmap, and a bitmap that is empty or full into a list.
    fn reform(&mut self) {
        match &self.form {
            Form::Runs(runs) if runs.len() > MAX_RUNS => {
                let mut bits = self.spare.take().unwrap_or_else(|| Bitmap::new(self.len));
                for run in runs {
                    bits.change(run.clone(), true);
                }
                self.form = Form::Bits(bits);
            }
            Form::Bits(_) if self.is_empty() => {
                if let Form::Bits(bits) = std::mem::replace(&mut self.form, Form::Runs(Vec::new())) {
                    self.spare = Some(bits);
                }
            }
            Form::Bits(_) if self.is_full() => self.form = Form::Runs(std::iter::once(0..self.len).collect()),
            _ => {}
        }
    }

    /// The first run of bytes in `within` that it has.
    pub(crate) fn next_run(&self, within: Range<u64>) -> Option<Range<u64>> {
        match &self.form {
            Form::Runs(runs) => {
                let run = runs.get(runs.partition_point(|run| run.end <= within.start))?;
                Some(common(run, &within)).filter(|run| !run.is_empty())
            }
            Form::Bits(bits) => {
                let start = bits.first(within.clone(), true)?;
                Some(start..bits.first(start..within.end, false).unwrap_or(within.end))
            }
        }
    }

    /// The first run of bytes in `within` that it hasn't.
    pub(crate) fn next_gap(&self, within: Range<u64>) -> Option<Range<u64>> {
        let gap = match &self.form {
            Form::Runs(runs) => {
                let next = runs.partition_point(|run| run.end <= within.start);
                let (start, next) = match runs.get(next) {
                    Some(run) if run.start <= within.start => (run.end, next + 1),
                    _ => (within.start, next),
                };
                start..runs.get(next).map_or(within.end, |run| run.start.min(within.end))
            }
            Form::Bits(bits) => {
                let start = bits.first(within.clone(), false)?;
                start..bits.first(start..within.end, true).unwrap_or(within.end)
            }
        };
        Some(gap).filter(|gap| !gap.is_empty())
    }

    /// Where the last run in `within` ends.
    pub(crate) fn last_end(&self, within: Range<u64>) -> Option<u64> {
        match &self.form {
            Form::Runs(runs) => {
                let run = &runs[runs.partition_point(|run| run.start < within.end).checked_sub(1)?];
                Some(common(run, &within)).filter(|run| !run.is_empty()).map(|run| run.end)
            }
            Form::Bits(bits) => bits.last(within).map(|last| last + 1),
        }
    }

    /// All runs, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let run = self.next_run(from..self.len)?;
            from = run.end;
            Some(run)
        })
    }

    /// How much memory it takes, bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let form = match &self.form {
            Form::Runs(runs) => runs.capacity() * size_of::<Range<u64>>(),
            Form::Bits(bits) => bits.memory(),
        };
        form + self.spare.as_ref().map_or(0, Bitmap::memory)
    }
}

/// Adds a range to a list. Returns how many bytes it hadn't.
fn add(runs: &mut Vec<Range<u64>>, range: Range<u64>) -> u64 {
    // What comes in order goes on where the last run ends, or behind it.
    match runs.last_mut() {
        Some(last) if range.start < last.start => {}
        Some(last) if range.start <= last.end => {
            let added = range.end.saturating_sub(last.end);
            last.end += added;
            return added;
        }
        _ => {
            let added = length(&range);
            runs.push(range);
            return added;
        }
    }
    let first = runs.partition_point(|run| run.end < range.start);
    let after = runs.partition_point(|run| run.start <= range.end);
    let Some(touched) = runs.get(first..after).filter(|touched| !touched.is_empty()) else {
        let added = length(&range);
        runs.insert(first, range);
        return added;
    };
    let had: u64 = touched.iter().map(|run| length(&common(run, &range))).sum();
    let whole = range.start.min(runs[first].start)..range.end.max(runs[after - 1].end);
    runs[first] = whole;
    runs.drain(first + 1..after);
    length(&range) - had
}

/// Takes a range out of a list. Returns how many of its bytes that had.
fn take(runs: &mut Vec<Range<u64>>, range: Range<u64>) -> u64 {
    let first = runs.partition_point(|run| run.end <= range.start);
    let after = runs.partition_point(|run| run.start < range.end);
    let Some(touched) = runs.get(first..after).filter(|touched| !touched.is_empty()) else {
        return 0;
    };
    let had = touched.iter().map(|run| length(&common(run, &range))).sum();
    let (left, right) = (runs[first].start..range.start, range.end..runs[after - 1].end);
    match (left.is_empty(), right.is_empty()) {
        (true, true) => drop(runs.drain(first..after)),
        (false, true) => {
            runs[first] = left;
            runs.drain(first + 1..after);
        }
        (true, false) => {
            runs[first] = right;
            runs.drain(first + 1..after);
        }
        (false, false) => {
            runs[first] = left;
            runs.splice(first + 1..after, [right]);
        }
    }
    had
}

#[cfg(test)]
mod tests;
