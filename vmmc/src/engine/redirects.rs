//! Redirects: posting them, and getting them back.

use std::ops::Range;

use tracing::debug;

use super::landing::{Ended, Landing, MOST_RUNS, Received, RedirectEnd, RedirectId, Returned, Wanted};
use super::{Engine, EngineError, Notification};
use crate::memory::Target;
use crate::port::Port;

impl From<RedirectEnd> for EngineError {
    fn from(end: RedirectEnd) -> EngineError {
        match end {
            // Nobody waits for more of one that is full: then it has been taken.
            RedirectEnd::Full => EngineError::Dropped,
            RedirectEnd::Stopped => EngineError::RedirectStopped,
            RedirectEnd::Revoked => EngineError::RedirectRevoked,
            RedirectEnd::Panicked => EngineError::TargetPanicked,
            RedirectEnd::Lost => EngineError::TargetLost,
        }
    }
}

impl Engine {
    /// Posts a redirect: what `wanted` says goes to `target` and not into the export, from now on, and so does what has come already and
    /// nobody has taken. Redirects of the same bytes are served in the order they were posted in. A target may be longer than what is wanted.
    ///
    /// Taken has been what was moved to another redirect, what a notification that [`Engine::take_notification`] has yielded was about, and
    /// what was [forgotten](Engine::forget).
    ///
    /// # Errors
    /// When the export has gone, the range isn't inside it, the target is too short or panics, or what has come lies in too many pieces. The target comes back.
    pub fn redirect(
        &mut self,
        export: u32,
        wanted: Wanted,
        target: Box<dyn Target>,
    ) -> Result<RedirectId, (EngineError, Returned)> {
        let refuse = |error, target| Err((error, Returned { target, received: Received::nothing(), end: None }));
        let room = target.len();
        let id = RedirectId(self.exports.last_redirect + 1);
        let number = export;
        let Some(export) = self.exports.get_mut(export) else { return refuse(EngineError::Dropped, target) };
        let len = export.region.len() as u64;
        if let &Wanted::Range(Range { start, end }) = &wanted
            && (start > end || end > len)
        {
            let name = export.options.name.clone();
            return refuse(EngineError::RedirectOutside { name, start, end, export: len }, target);
        }
        if wanted.len() > room as u64 {
            return refuse(EngineError::RedirectTarget { wanted: wanted.len(), target: room }, target);
        }
        if export.landing.is_scattered(&wanted) {
            let name = export.options.name.clone();
            return refuse(EngineError::RedirectScattered { name, most: MOST_RUNS }, target);
        }
        debug!(target: "vmmc::engine", export = export.options.name, redirect = %id, ?wanted, "redirect posted");
        let waiting = export.queue.iter_mut().chain(self.imports.events.waiting(export.report, number));
        let posted = export.landing.post(&export.region, (id, wanted, target), waiting, &mut self.counters);
        self.exports.last_redirect = id.0;
        posted.map(|()| id).map_err(|returned| (EngineError::TargetPanicked, returned))
    }

    /// How far a redirect of `export` has come: how many bytes it has, and why it takes no more, if it doesn't. `None` when it has been taken
    /// back.
    pub fn redirect_state(&self, export: u32, id: RedirectId) -> Option<(u64, Option<RedirectEnd>)> {
        let posted = self.exports.get(export).and_then(|export| export.landing.state(id));
        posted.or_else(|| self.exports.orphans.get(&id).map(Ended::state))
    }

    /// Has a redirect take nothing more. What comes from now on goes to the next one, or into the export. It still has to be taken back.
    pub fn stop_redirect(&mut self, export: u32, id: RedirectId) {
        if let Some((landing, counters)) = self.landing(export) {
            landing.stop(id, counters);
        }
    }

    /// Takes a redirect back, full or not. `None` when that has been done. If packets are landing in it by themselves, the bulk lane is opened anew first, which takes some milliseconds;
    /// what had landed so far goes elsewhere.
    pub fn take_redirect(&mut self, port: &mut dyn Port, export: u32, id: RedirectId) -> Option<Returned> {
        self.clear_redirect(port, export, id);
        let ended = self.counters.redirects_ended;
        let posted = self.landing(export).and_then(|(landing, counters)| landing.take(id, counters));
        self.exports.taken_back += self.counters.redirects_ended - ended;
        posted.or_else(|| self.exports.orphans.remove(&id).map(Ended::give_back))
    }

    /// What has come for this part of an export stays there: no redirect that is posted later takes it. As far as it reaches past the end
    /// it says nothing.
    pub fn forget(&mut self, export: u32, range: Range<u64>) {
        let Some(export) = self.exports.get_mut(export) else { return };
        let end = range.end.min(export.region.len() as u64);
        if range.start < end {
            export.landing.claim(range.start..end);
        }
    }

    /// The first notification of a send that went to this redirect, in whole or in part. Those before it keep waiting. See
    /// [`Engine::take_notification`].
    ///
    /// # Errors
    /// When the export has gone, and its notifications with it.
    pub fn take_notification_in(&mut self, export: u32, id: RedirectId) -> Result<Option<Notification>, EngineError> {
        let owner = self.exports.get_mut(export).ok_or(EngineError::RedirectRevoked)?;
        let found = match owner.report {
            Some(report) => {
                let found = self.imports.events.take(report, export, |news| news.is_in(id));
                owner.reported -= usize::from(found.is_some());
                found
            }
            None => {
                let number = owner.queue.iter().position(|news| news.is_in(id));
                number.and_then(|number| owner.queue.remove(number))
            }
        };
        let Some(news) = found else { return Ok(None) };
        owner.landing.told(&news);
        self.relieve(export);
        Ok(Some(news))
    }

    fn landing(&mut self, export: u32) -> Option<(&mut Landing, &mut super::EngineCounters)> {
        let export = self.exports.get_mut(export)?;
        Some((&mut export.landing, &mut self.counters))
    }
}
