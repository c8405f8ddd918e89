//! Where the bytes of a PUT go: to the export's own memory, the *default buffer*, or to a redirect.
//!
//! Redirects wait in the order they were posted in. Each byte that arrives goes to the first one that wants it, and when none does, to the
//! default buffer:
//!
//! ```text
//!                     range 0..100, has 0..50          next 30
//!   PUT 40..120 ->      50..100                         40..50, 100..120      (full now)
//!   PUT 120..130 ->                                                           120..130 to the default buffer
//! ```
//!
//! What lies in the default buffer and has been taken by nobody is *unclaimed*. A redirect that is posted after its data has come begins by moving
//! that. So it makes no difference to a program whether it was in time, but for the copy.
//!
//! Everything here is bounded whatever a peer sends: the sets of bytes by an eighth of the memory they are about, the account of what
//! went where by [`whereabouts::MOST`]. How many redirects there are is the program's own affair.

mod byte_set;
mod direct;
mod landed;
mod memory;
mod redirect;
mod whereabouts;

use std::collections::VecDeque;
use std::ops::Range;

pub(super) use direct::Reserved;
pub use landed::{Landed, Piece, Place, RedirectId};
pub(super) use memory::Memory;
pub use redirect::{Received, RedirectEnd, Returned, Wanted};
use smallvec::SmallVec;

use self::byte_set::ByteSet;
use self::direct::Watched;
use self::redirect::Redirect;
use self::whereabouts::{Moved, Whereabouts};
use super::EngineCounters;
use super::exports::Notification;
use crate::memory::{MemoryError, Panicked, Region, Target, Writer};
use crate::wire::Reader;

/// The most runs of bytes that are moved to one redirect: some tens of milliseconds.
pub(super) const MOST_RUNS: usize = 1 << 16;

/// The bytes of a packet. They are passed over only once somebody has them: a target may refuse what it is offered.
struct Source<'a, 'f, 'r> {
    offered: &'a [u8],
    reader: &'r mut Reader<'a, 'f>,
}

impl<'a> Source<'a, '_, '_> {
    /// The next that lie together, of those that were sent to `run`.
    ///
    /// # Errors
    /// When there are no more.
    #[inline]
    fn offer(&mut self, run: Range<u64>) -> Result<&'a [u8], MemoryError> {
        let wanted = usize::try_from(run.end - run.start).unwrap_or(usize::MAX);
        if self.offered.is_empty() {
            self.offered = self.reader.chunk(wanted);
        }
        if self.offered.is_empty() {
            return Err(MemoryError::OutOfRange { offset: run.start, len: wanted, region: 0 });
        }
        Ok(&self.offered[..wanted.min(self.offered.len())])
    }

    /// So many of these have been taken.
    #[inline]
    fn taken(&mut self, count: usize) {
        self.offered = &self.offered[count..];
    }
}

/// A region lends no slices: what is moved out of it goes by way of a buffer that stays in the cache.
const MOVE: u64 = 4096;

/// A redirect that takes nothing more, and waits to be taken back.
#[derive(Debug)]
pub(crate) struct Ended {
    redirect: Redirect,
    end: RedirectEnd,
}

impl Ended {
    pub(crate) fn id(&self) -> RedirectId {
        self.redirect.id
    }

    pub(crate) fn state(&self) -> (u64, Option<RedirectEnd>) {
        (self.redirect.received(), Some(self.end))
    }

    pub(crate) fn give_back(self) -> Returned {
        self.redirect.give_back(Some(self.end))
    }
}

/// Of one export, where what arrives goes, and where it has gone.
#[derive(Debug)]
pub(crate) struct Landing {
    len: u64,
    notifies: bool,
    posted: VecDeque<Redirect>,
    ended: Vec<Ended>,
    unclaimed: ByteSet,
    /// Redirects take what has come before them, too.
    looks_back: bool,
    /// Where what was taken last ends.
    taken_to: u64,
    whereabouts: Whereabouts,
    /// There is nothing to be thought of but the default buffer.
    plain: bool,
    /// Where in the default buffer packets are about to land by themselves.
    watched: SmallVec<[Watched; 1]>,
    /// Bytes that have gone straight to redirects.
    pub redirected_bytes: u64,
    /// Bytes that redirects have taken out of the default buffer.
    pub moved_bytes: u64,
}

impl Landing {
    /// Of an export of `len` bytes, which takes notifications or doesn't.
    pub(super) fn new(len: usize, notifies: bool) -> Landing {
        let len = len as u64;
        Landing {
            len,
            notifies,
            posted: VecDeque::new(),
            ended: Vec::new(),
            unclaimed: ByteSet::new(len),
            looks_back: true,
            taken_to: 0,
            whereabouts: Whereabouts::new(len),
            plain: true,
            watched: SmallVec::new(),
            redirected_bytes: 0,
            moved_bytes: 0,
        }
    }

    /// Whether redirects take what has come before they were posted. Said before anything comes.
    pub(super) fn look_back(&mut self, looks_back: bool) {
        self.looks_back = looks_back;
    }

    /// Puts the next `len` bytes of a packet, which were sent to `at`, where they belong.
    ///
    /// # Errors
    /// When the packet or the region hasn't so many.
    #[inline]
    pub(super) fn store(
        &mut self,
        region: &mut Writer,
        at: u64,
        reader: &mut Reader<'_, '_>,
        len: u64,
        counters: &mut EngineCounters,
    ) -> Result<(), MemoryError> {
        let mut source = Source { offered: &[], reader };
        if self.plain {
            self.keep(region, at..at + len, &mut source)
        } else {
            self.distribute(region, at..at + len, &mut source, counters)
        }
    }

    /// Writes to the default buffer.
    #[inline]
    fn keep(
        &mut self,
        region: &mut Writer,
        run: Range<u64>,
        source: &mut Source<'_, '_, '_>,
    ) -> Result<(), MemoryError> {
        self.watched.iter_mut().for_each(|watched| watched.note(&run));
        let mut at = run.start;
        while at < run.end {
            let bytes = source.offer(at..run.end)?;
            region.put(at, bytes)?;
            source.taken(bytes.len());
            at += bytes.len() as u64;
        }
        if self.looks_back {
            self.unclaimed.insert(run.clone());
            self.watched.iter().for_each(|watched| self.unclaimed.remove(watched.common(&run)));
        }
        Ok(())
    }

    #[inline(never)]
    fn distribute(
        &mut self,
        region: &mut Writer,
        mut rest: Range<u64>,
        source: &mut Source<'_, '_, '_>,
        counters: &mut EngineCounters,
    ) -> Result<(), MemoryError> {
        while !rest.is_empty() {
            let (chosen, run) = self.choose(rest.clone());
            rest.start = match chosen {
                None => {
                    self.keep(region, run.clone(), source)?;
                    self.whereabouts.here(run.clone());
                    run.end
                }
                Some(chosen) => self.divert(chosen, run, source, counters)?,
            };
        }
        self.look();
        Ok(())
    }

    /// Gives bytes to a redirect that wants them. Returns how far that went: to the end, unless the target wouldn't have them.
    fn divert(
        &mut self,
        chosen: usize,
        run: Range<u64>,
        source: &mut Source<'_, '_, '_>,
        counters: &mut EngineCounters,
    ) -> Result<u64, MemoryError> {
        let redirect = &mut self.posted[chosen];
        let (id, place) = (redirect.id, redirect.place(run.start));
        let (mut at, mut panicked) = (run.start, false);
        while at < run.end && !panicked {
            let bytes = source.offer(at..run.end)?;
            match redirect.store(at, bytes) {
                Ok(()) => {
                    source.taken(bytes.len());
                    at += bytes.len() as u64;
                }
                // They go to somebody else.
                Err(Panicked) => panicked = true,
            }
        }
        let full = redirect.is_full();
        if at > run.start {
            if self.notifies {
                self.whereabouts.elsewhere(run.start..at, id, place);
            }
            self.taken_to = at;
            self.redirected_bytes += at - run.start;
            counters.redirected_bytes += at - run.start;
        }
        if panicked || full {
            self.end(chosen, if panicked { RedirectEnd::Panicked } else { RedirectEnd::Full }, counters);
        }
        Ok(at)
    }

    /// Which redirect the first of these bytes go to, and how many of them.
    fn choose(&self, mut within: Range<u64>) -> (Option<usize>, Range<u64>) {
        for (number, redirect) in self.posted.iter().enumerate() {
            match redirect.wants(within.clone()) {
                Some(run) if run.start == within.start => return (Some(number), run),
                // Up to there they are for one that was posted later, or for none.
                Some(run) => within.end = run.start,
                None => {}
            }
        }
        (None, within)
    }

    /// Whether there is anything to be thought of from now on.
    fn look(&mut self) {
        self.plain = self.posted.is_empty() && self.whereabouts.is_empty();
    }

    fn end(&mut self, number: usize, end: RedirectEnd, counters: &mut EngineCounters) {
        if let Some(redirect) = self.posted.remove(number) {
            self.ended.push(Ended { redirect, end });
            counters.redirects_ended += 1;
        }
    }

    /// Posts a redirect: it takes what it wants of what is unclaimed, and goes on to wait for the rest. The target has room for all of
    /// it, and the range lies inside the export. `waiting` are the export's notifications.
    ///
    /// # Errors
    /// When the target panics. It comes back.
    pub(super) fn post<'n>(
        &mut self,
        region: &Region,
        (id, wanted, target): (RedirectId, Wanted, Box<dyn Target>),
        waiting: impl IntoIterator<Item = &'n mut Notification>,
        counters: &mut EngineCounters,
    ) -> Result<(), Returned> {
        let mut redirect = Redirect::new(id, wanted, target);
        let all = match &redirect.wanted {
            Wanted::Range(range) => range.clone(),
            Wanted::Next(_) => 0..self.len,
        };
        // What lies behind what was taken last has come first, if the sender writes one after the other, or all around.
        let middle = self.taken_to.clamp(all.start, all.end);
        let parts = [middle..all.end, all.start..middle];
        let mut moved = Moved::new(id);
        let result = parts.into_iter().try_for_each(|part| self.pull(region, &mut redirect, part, &mut moved));
        counters.redirects += 1;
        counters.rx_moved_bytes += redirect.received();
        counters.rx_copied_bytes += redirect.received();
        self.moved_bytes += redirect.received();
        self.correct(moved, waiting);
        let full = redirect.is_full();
        if result.is_err() {
            counters.redirects_ended += 1;
            self.look();
            return Err(redirect.give_back(Some(RedirectEnd::Panicked)));
        }
        self.posted.push_back(redirect);
        if full {
            self.end(self.posted.len() - 1, RedirectEnd::Full, counters);
        }
        self.look();
        Ok(())
    }

    /// Whether what a redirect would have to move lies in too many runs: senders decide where they write, and all is moved at once.
    pub(super) fn is_scattered(&self, wanted: &Wanted) -> bool {
        let within = match wanted {
            Wanted::Range(range) => range.clone(),
            Wanted::Next(_) => 0..self.len,
        };
        let mut from = within.start;
        let next = || {
            let run = self.unclaimed.next_run(from..within.end)?;
            from = run.end;
            Some(())
        };
        std::iter::from_fn(next).nth(MOST_RUNS).is_some()
    }

    /// Moves what a redirect wants of what is unclaimed in a part of the export.
    fn pull(
        &mut self,
        region: &Region,
        redirect: &mut Redirect,
        part: Range<u64>,
        moved: &mut Moved,
    ) -> Result<(), Panicked> {
        if self.unclaimed.is_empty() || part.is_empty() {
            return Ok(());
        }
        self.pull_some(region, redirect, part, moved)
    }

    /// The same, when there may be something.
    #[inline(never)]
    fn pull_some(
        &mut self,
        region: &Region,
        redirect: &mut Redirect,
        part: Range<u64>,
        moved: &mut Moved,
    ) -> Result<(), Panicked> {
        let mut buffer = [0; MOVE as usize];
        let mut from = part.start;
        while let Some(run) = self.unclaimed.next_run(from..part.end)
            && let Some(run) = redirect.wants(run)
        {
            let run = run.start..run.end.min(run.start + MOVE);
            let bytes = &mut buffer[..(run.end - run.start) as usize];
            if region.read(run.start, bytes).is_err() {
                break;
            }
            let at = redirect.place(run.start);
            redirect.store(run.start, bytes)?;
            self.unclaimed.remove(run.clone());
            if self.notifies {
                self.whereabouts.moved(run.clone(), redirect.id, at);
                moved.push(run.clone(), at);
            }
            (self.taken_to, from) = (run.end, run.end);
        }
        Ok(())
    }

    /// Notifications that wait say where their data is now.
    fn correct<'n>(&mut self, mut moved: Moved, waiting: impl IntoIterator<Item = &'n mut Notification>) {
        if moved.is_empty() {
            return;
        }
        moved.sort();
        for news in waiting {
            let send = news.offset..news.offset + news.length;
            news.landed = self.whereabouts.corrected(send, &news.landed, &moved);
        }
    }

    /// Where a send is whose last bytes have just come.
    #[inline]
    pub(super) fn landed(&mut self, send: Range<u64>) -> Landed {
        if self.plain { Landed::Default } else { self.whereabouts.landed(send) }
    }

    /// The program takes a notification: what is in the default buffer of the send is its own from now on.
    pub(super) fn told(&mut self, news: &Notification) {
        if news.landed == Landed::Default {
            return self.claim(news.offset..news.offset + news.length);
        }
        self.whereabouts.told(&news.landed);
        for piece in news.pieces().filter(|piece| !matches!(piece.place, Place::Redirect { .. })) {
            self.claim(news.offset + piece.range.start..news.offset + piece.range.end);
        }
    }

    /// What is unclaimed of a range stays where it is.
    pub(super) fn claim(&mut self, range: Range<u64>) {
        if self.unclaimed.is_empty() || range.is_empty() {
            return;
        }
        let middle = self.taken_to.clamp(range.start, range.end);
        if (middle == range.start || middle == range.end) && self.unclaimed.remove_front(&range) {
            self.taken_to = range.end;
            return;
        }
        // As for a redirect: what lies before what was taken last comes last.
        let last = self.unclaimed.last_end(range.start..middle).or_else(|| self.unclaimed.last_end(middle..range.end));
        if let Some(last) = last {
            self.taken_to = last;
            self.unclaimed.remove(range);
        }
    }

    /// How many redirects wait for data.
    pub(super) fn posted(&self) -> usize {
        self.posted.len()
    }

    /// How far a redirect has come: bytes, and why it takes no more. `None` when it isn't one of this export's.
    pub(super) fn state(&self, id: RedirectId) -> Option<(u64, Option<RedirectEnd>)> {
        let posted = self.posted.iter().find(|r| r.id == id).map(|r| (r.received(), None));
        posted.or_else(|| self.ended.iter().find(|e| e.id() == id).map(Ended::state))
    }

    /// Has a redirect take nothing more.
    pub(super) fn stop(&mut self, id: RedirectId, counters: &mut EngineCounters) {
        if let Some(number) = self.posted.iter().position(|r| r.id == id) {
            self.end(number, RedirectEnd::Stopped, counters);
            self.look();
        }
    }

    /// Takes a redirect back.
    pub(super) fn take(&mut self, id: RedirectId, counters: &mut EngineCounters) -> Option<Returned> {
        if let Some(number) = self.ended.iter().position(|e| e.id() == id) {
            return Some(self.ended.swap_remove(number).give_back());
        }
        let number = self.posted.iter().position(|r| r.id == id)?;
        let redirect = self.posted.remove(number)?;
        counters.redirects_ended += 1;
        self.look();
        Some(redirect.give_back(None))
    }

    /// The export goes. Its redirects stay until they are taken back.
    pub(super) fn dissolve(mut self, counters: &mut EngineCounters) -> Vec<Ended> {
        while !self.posted.is_empty() {
            self.end(self.posted.len() - 1, RedirectEnd::Revoked, counters);
        }
        self.ended
    }
}

#[cfg(test)]
mod tests;
