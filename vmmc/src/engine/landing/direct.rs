//! Packets that land where they belong by themselves: room is reserved for them before they come, and told of when they are there.
//!
//! Of a redirect what is reserved is taken: nobody else's bytes go there. An export's own memory is anybody's who may write it, as ever; so what is written there by others meanwhile is noted.
//! To the program nothing has come yet.

use std::ops::Range;

use super::byte_set::{ByteSet, common};
use super::{Landing, RedirectEnd, RedirectId};
use crate::engine::EngineCounters;
use crate::memory::{DirectTarget, MemoryError, Region};
use crate::wire::Reader;

/// Bytes moved at once from the default buffer to a redirect that was posted when they were already under way to there.
const MOVE: u64 = 4096;

/// Room for bytes that are sent to a run of an export.
#[derive(Debug)]
pub(in crate::engine) struct Reserved {
    /// Where in the export they were sent to.
    pub run: Range<u64>,
    /// Of which redirect it is, if of any.
    pub redirect: Option<RedirectId>,
    /// The memory.
    pub target: DirectTarget,
    /// Where in it they go.
    pub at: u64,
}

/// Room that is reserved in the export itself.
#[derive(Debug)]
pub(super) struct Watched {
    run: Range<u64>,
    /// What others have written there, counted from where the run begins.
    written: ByteSet,
}

impl Watched {
    /// Those of these bytes of the export that lie in it.
    pub(super) fn common(&self, bytes: &Range<u64>) -> Range<u64> {
        common(&self.run, bytes)
    }

    /// Somebody writes these bytes of the export.
    #[cold]
    pub(super) fn note(&mut self, bytes: &Range<u64>) {
        let common = self.common(bytes);
        if !common.is_empty() {
            self.written.insert(common.start - self.run.start..common.end - self.run.start);
        }
    }
}

impl Landing {
    /// Reserves room for bytes that are about to be sent to a run of the export. `None` when they don't all go to one place where packets can land.
    pub(in crate::engine) fn reserve(&mut self, region: &Region, run: Range<u64>) -> Option<Reserved> {
        let (chosen, all) = if self.plain { (None, run.clone()) } else { self.choose(run.clone()) };
        if all != run {
            return None;
        }
        Some(match chosen {
            None => {
                let (at, written) = (run.start, ByteSet::new(run.end - run.start));
                self.watched.push(Watched { run: run.clone(), written });
                Reserved { run, redirect: None, target: DirectTarget::of_region(region.clone()), at }
            }
            Some(number) => {
                let redirect = &mut self.posted[number];
                let (target, at) = redirect.reserve(run.clone())?;
                Reserved { run, redirect: Some(redirect.id), target, at }
            }
        })
    }

    /// From now on packets may land in what was reserved. What had come there before, and was taken by nobody, is being written over: no redirect takes it any more, nor what lies there in its place,
    /// which may belong elsewhere until all is there. The same goes for what others write there meanwhile.
    pub(in crate::engine) fn begin(&mut self, reserved: &Reserved) {
        if reserved.redirect.is_none() {
            self.unclaimed.remove(reserved.run.clone());
        }
    }

    /// All bytes of what was reserved are there. Returns how many of them have been copied since.
    ///
    /// # Errors
    /// When a redirect's target has them no more.
    pub(in crate::engine) fn commit(
        &mut self,
        region: &mut crate::memory::Writer,
        reserved: Reserved,
        counters: &mut EngineCounters,
    ) -> Result<u64, MemoryError> {
        let Reserved { run, redirect, target, at } = reserved;
        // Or the redirect's memory couldn't be given back.
        drop(target);
        let Some(id) = redirect else {
            self.unwatch(&run);
            return self.commit_here(region, run, counters);
        };
        let length = run.end - run.start;
        let number = self.posted.iter().position(|redirect| redirect.id == id);
        if let Some(number) = number {
            self.posted[number].settle(at, true);
        } else if let Some(ended) = self.ended.iter_mut().find(|ended| ended.id() == id) {
            // It has been stopped meanwhile, and has got this all the same.
            ended.redirect.settle(at, true);
        }
        if self.notifies {
            self.whereabouts.elsewhere(run.clone(), id, at);
        }
        self.taken_to = run.end;
        self.redirected_bytes += length;
        counters.redirected_bytes += length;
        if let Some(number) = number.filter(|&number| self.posted[number].is_full()) {
            self.end(number, RedirectEnd::Full, counters);
        }
        self.look();
        Ok(0)
    }

    /// The bytes are in the default buffer. Redirects that were posted since they were asked for want them all the same.
    fn commit_here(
        &mut self,
        region: &mut crate::memory::Writer,
        run: Range<u64>,
        counters: &mut EngineCounters,
    ) -> Result<u64, MemoryError> {
        let (mut rest, mut copied) = (run, 0);
        let mut chunk = [0; MOVE as usize];
        while !rest.is_empty() {
            let (chosen, run) = if self.plain { (None, rest.clone()) } else { self.choose(rest.clone()) };
            rest.start = match chosen {
                None => {
                    if self.looks_back {
                        self.unclaimed.insert(run.clone());
                    }
                    if !self.plain {
                        self.whereabouts.here(run.clone());
                    }
                    run.end
                }
                Some(_) => {
                    let length = (run.end - run.start).min(MOVE);
                    let bytes = &mut chunk[..length as usize];
                    region.read(run.start, bytes)?;
                    let fragments = [&*bytes];
                    let mut reader = Reader::new(&fragments, 0, length as usize);
                    self.store(region, run.start, &mut reader, length, counters)?;
                    copied += length;
                    run.start + length
                }
            };
        }
        self.look();
        Ok(copied)
    }

    /// What others have written to a run that is reserved in the export itself, since this was asked last: counted from where it begins.
    pub(in crate::engine) fn take_written(&mut self, run: &Range<u64>) -> Option<ByteSet> {
        let watched = self.watched.iter_mut().find(|watched| watched.run == *run && !watched.written.is_empty())?;
        Some(std::mem::replace(&mut watched.written, ByteSet::new(run.end - run.start)))
    }

    fn unwatch(&mut self, run: &Range<u64>) {
        self.watched.retain(|watched| watched.run != *run);
    }

    /// Nothing comes for what was reserved: it is to be had again.
    pub(in crate::engine) fn release(&mut self, reserved: Reserved) {
        let Reserved { run, redirect, target, at } = reserved;
        drop(target);
        let Some(id) = redirect else { return self.unwatch(&run) };
        let ended = self.ended.iter_mut().map(|ended| &mut ended.redirect);
        if let Some(redirect) = self.posted.iter_mut().chain(ended).find(|redirect| redirect.id == id) {
            redirect.settle(at, false);
        }
    }
}
