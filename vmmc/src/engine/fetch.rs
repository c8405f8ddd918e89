//! Remote read, the requester's half: which fetches are under way, and where their bytes go.
//!
//! A fetch has a number, which the peer's pieces name, and a [`Target`], which the engine has from the start to the end and then gives
//! back, whatever the end is. Pieces come in order. Those of a fetch that has been given up are passed over; its number stays taken
//! until the peer has sent the last of them or has said that it won't, so no later fetch can be meant by them.

use super::imports::{Import, ImportState};
use super::landing::Memory;
use super::slab::Slab;
use super::{Engine, EngineError, place_of};
use crate::log::provoked;
use crate::memory::{DirectTarget, Region, Target};
use crate::port::Port;
use crate::time::Time;
use crate::wire::record::{Declined, FetchRefusal, MAX_FETCHES, Record};
use crate::wire::{Reader, WireError};

/// How many fetches there may be on all links together.
const MOST: usize = 1 << 16;

/// Bytes that are copied at once from an export of this node itself.
const CHUNK: usize = 4096;

/// The end of a fetch that has failed: why, and the memory that was to be filled. Some of it may have been.
pub type Unfetched = (EngineError, Box<dyn Target>);

/// How far a fetch has come.
enum State {
    /// Pieces may still come.
    UnderWay,
    /// It has ended, and nobody has asked yet how.
    Ended(Result<(), EngineError>),
}

/// A fetch.
struct Fetch {
    import: u32,
    /// Our token of the link to the peer; 0 of none.
    link: u64,
    state: State,
    received: u64,
    length: u64,
    /// `None` when it has been given up.
    target: Option<Memory>,
    /// Of `received`, or behind it, up to where transfers of the bulk lane are to land.
    reserved: u64,
    /// The target has panicked: nothing more is written to it.
    panicked: bool,
}

/// All fetches of a node.
pub(crate) struct Fetches {
    slab: Slab<Fetch>,
}

impl std::fmt::Debug for Fetches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetches").field("len", &self.slab.len()).finish()
    }
}

/// What a record about a fetch has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nobody has asked for it.
    Unasked,
    /// More will come.
    More,
    /// It was the last about this fetch.
    Last,
}

impl Fetches {
    pub(super) fn new() -> Fetches {
        Fetches { slab: Slab::new(MOST) }
    }

    /// Ends a fetch of which nothing more will come.
    fn end(&mut self, id: u32, result: Result<(), EngineError>) {
        let Some(fetch) = self.slab.get_mut(id) else { return };
        if fetch.target.is_some() {
            fetch.state = State::Ended(result);
        } else {
            self.slab.remove(id);
        }
    }

    fn under_way(&mut self, link: u64, request: u32) -> Option<&mut Fetch> {
        self.slab.get_mut(request).filter(|f| f.link == link && matches!(f.state, State::UnderWay))
    }

    /// Where the next part of a fetch is to land by itself.
    ///
    /// # Errors
    /// When it can't, or nobody wants it.
    pub(super) fn land(&mut self, link: u64, request: u32, at: u64, length: u64) -> Result<DirectTarget, Declined> {
        let fetch = self.under_way(link, request).ok_or(Declined::Unwanted)?;
        if at != fetch.reserved.max(fetch.received) || length > fetch.length - at || fetch.panicked {
            return Err(Declined::Unable);
        }
        let target = fetch.target.as_mut().ok_or(Declined::Unwanted)?;
        let target = target.direct().ok_or(Declined::Unable)?.clone();
        fetch.reserved = at + length;
        Ok(target)
    }

    /// The next part of a fetch has landed. Returns whether that was the last.
    pub(super) fn landed(&mut self, link: u64, request: u32, length: u64) -> bool {
        let Some(fetch) = self.under_way(link, request) else { return false };
        fetch.received += length;
        let last = fetch.received == fetch.length;
        if last {
            self.end(request, Ok(()));
        }
        last
    }

    /// What was to land from there on doesn't.
    pub(super) fn unland(&mut self, link: u64, request: u32, at: u64) {
        if let Some(fetch) = self.under_way(link, request) {
            fetch.reserved = fetch.reserved.min(at);
        }
    }

    /// Takes a piece of `length` bytes, of which the reader has all.
    pub(super) fn piece(
        &mut self,
        link: u64,
        request: u32,
        (at, length): (u64, u16),
        reader: &mut Reader<'_, '_>,
    ) -> Result<Heard, WireError> {
        let Some(fetch) = self.under_way(link, request) else {
            reader.skip(length.into());
            return Ok(Heard::Unasked);
        };
        // Nor where a transfer of the bulk lane is to land: that has been granted, and these bytes would be counted twice.
        if at != fetch.received.max(fetch.reserved) || u64::from(length) > fetch.length - at {
            return Err(WireError::Inconsistent("FETCHED's place"));
        }
        let end = at + u64::from(length);
        let mut at = at;
        while at < end {
            let bytes = reader.chunk((end - at) as usize);
            if bytes.is_empty() {
                return Err(WireError::Truncated("record's body"));
            }
            if let Some(target) = fetch.target.as_mut().filter(|_| !fetch.panicked) {
                fetch.panicked = target.try_store(at as usize, bytes).is_err();
            }
            at += bytes.len() as u64;
        }
        fetch.received = end;
        if end < fetch.length {
            return Ok(Heard::More);
        }
        let result = if fetch.panicked { Err(EngineError::TargetPanicked) } else { Ok(()) };
        self.end(request, result);
        Ok(Heard::Last)
    }

    /// A link has ended.
    pub(super) fn link_ended(&mut self, link: u64, error: &EngineError) {
        let ended = self.slab.iter().filter(|(_, f)| f.link == link && matches!(f.state, State::UnderWay));
        for id in ended.map(|(id, _)| id).collect::<Vec<_>>() {
            self.end(id, Err(error.clone()));
        }
    }
}

/// Copies from an export of this node itself.
fn copy(region: &Region, offset: u64, target: &mut dyn Target) -> Result<(), EngineError> {
    let (mut chunk, length) = ([0; CHUNK], target.len());
    for at in (0..length).step_by(CHUNK) {
        let bytes = &mut chunk[..CHUNK.min(length - at)];
        region.read(offset + at as u64, bytes).map_err(|_| EngineError::Dropped)?;
        target.try_store(at, bytes).map_err(|_| EngineError::TargetPanicked)?;
    }
    Ok(())
}

/// What is given back of a target of which nothing is expected: itself, a copy, or an empty buffer if it is [lost](EngineError::TargetLost).
fn whatever(target: Memory) -> Box<dyn Target> {
    target.give_back().unwrap_or_else(|(_, empty)| empty)
}

/// Whether bytes of an import may be fetched.
fn check(import: &Import, offset: u64, length: u64) -> Result<(), EngineError> {
    let (access, export) = match &import.state {
        ImportState::Waiting => return Ok(()),
        ImportState::Failed(error) => return Err(error.clone()),
        ImportState::Ready { access, length } | ImportState::Local { access, length, .. } => (access, *length),
    };
    let name = || import.name.clone();
    if !access.readable {
        return Err(EngineError::NotReadable { name: name() });
    }
    if offset > export || length > export - offset {
        return Err(EngineError::OutOfRange { name: name(), offset, length, export });
    }
    Ok(())
}

impl Engine {
    /// Begins to fill `target` with the bytes of an import from `offset` on, and takes it. Returns the fetch's number; `None` when
    /// nothing has begun, because the import hasn't been answered yet or [`MAX_FETCHES`] are under way from this peer.
    ///
    /// What this node has sent to the same peer before is there when it is read, unless the peer has redirected it.
    ///
    /// # Errors
    /// When the import is of no use, may not be read, or is shorter; or when it is one of this node itself, and the target panics. Then `target` is still there.
    pub fn fetch(
        &mut self,
        now: Time,
        port: &mut dyn Port,
        id: u32,
        offset: u64,
        target: &mut Option<Box<dyn Target>>,
    ) -> Result<Option<u32>, EngineError> {
        let length = target.as_ref().map_or(0, |t| t.len() as u64);
        let import = self.imports.get_mut(id).ok_or(EngineError::Dropped)?;
        check(import, offset, length)?;
        let (link, state) = match import.state {
            ImportState::Waiting | ImportState::Failed(_) => return Ok(None),
            ImportState::Local { export, .. } => {
                let Some(target) = target else { return Ok(None) };
                let export = self.exports.get_mut(export).ok_or(EngineError::Dropped)?;
                copy(&export.region, offset, &mut **target)?;
                export.read_bytes += length;
                self.counters.served_bytes += length;
                self.counters.fetched_bytes += length;
                self.counters.rx_copied_bytes += length;
                (0, State::Ended(Ok(())))
            }
            ImportState::Ready { .. } if length == 0 => (0, State::Ended(Ok(()))),
            ImportState::Ready { .. } => (import.link, State::UnderWay),
        };
        let grant = import.grant.unwrap_or_default();
        let place = place_of(link);
        let mut peer = self.peers.get_mut(place).and_then(Option::as_deref_mut).filter(|p| p.link.token() == link);
        match &peer {
            _ if link == 0 => {}
            None => return Err(EngineError::Dropped),
            Some(peer) if peer.fetching >= MAX_FETCHES => return Ok(None),
            Some(_) => {}
        }
        let Some(taken) = target.take() else { return Ok(None) };
        let fetch = Fetch {
            import: id,
            link,
            state,
            received: 0,
            length,
            target: Some(Memory::Any(taken)),
            reserved: 0,
            panicked: false,
        };
        let request = match self.imports.fetches.slab.insert(fetch) {
            Ok(request) => request,
            Err(fetch) => {
                *target = fetch.target.map(whatever);
                return Ok(None);
            }
        };
        self.counters.fetches += 1;
        if let Some(import) = self.imports.get_mut(id) {
            import.fetches += 1;
            import.fetched += length;
        }
        if let Some(peer) = &mut peer {
            peer.fetching += 1;
            peer.tell_in_order(Record::Fetch { request, grant, offset, length });
            peer.pump(now, port);
            let deadline = peer.link.deadline();
            self.timers.set(place, deadline);
        }
        Ok(Some(request))
    }

    /// The target of a fetch that has ended; `None` while it hasn't, and afterwards: it is given once.
    ///
    /// # Errors
    /// When it has failed: the peer has refused it, the link has ended before all of it was here, or the target has panicked. The target comes with the error; or an empty buffer, when it is
    /// [lost](EngineError::TargetLost).
    pub fn fetched(&mut self, port: &mut dyn Port, fetch: u32) -> Result<Option<Box<dyn Target>>, Unfetched> {
        if self.has_ended(fetch) {
            self.clear_fetch(port, fetch);
        }
        let fetches = &mut self.imports.fetches.slab;
        if !fetches.get(fetch).is_some_and(|f| matches!(f.state, State::Ended(_))) {
            return Ok(None);
        }
        match fetches.remove(fetch) {
            Some(Fetch { state: State::Ended(Ok(())), target, .. }) => target.map(Memory::give_back).transpose(),
            Some(Fetch { state: State::Ended(Err(error)), target: Some(target), .. }) => Err((error, whatever(target))),
            _ => Ok(None),
        }
    }

    /// Whether a fetch has ended, well or not.
    pub fn has_ended(&self, fetch: u32) -> bool {
        self.imports.fetches.slab.get(fetch).is_none_or(|f| matches!(f.state, State::Ended(_)))
    }

    /// Bytes that have come of a fetch.
    pub fn received(&self, fetch: u32) -> u64 {
        self.imports.fetches.slab.get(fetch).map_or(0, |f| f.received)
    }

    /// Gives a fetch up. Nothing is written to its target any more: it comes back as it is; or as an empty buffer, when it is [lost](EngineError::TargetLost).
    pub fn cancel_fetch(&mut self, port: &mut dyn Port, fetch: u32) -> Option<Box<dyn Target>> {
        self.clear_fetch(port, fetch);
        let fetches = &mut self.imports.fetches.slab;
        let found = fetches.get_mut(fetch)?;
        let (link, target) = (found.link, found.target.take());
        if matches!(found.state, State::Ended(_)) {
            fetches.remove(fetch);
        } else {
            if let Some(peer) = self.peer_mut(link) {
                peer.tell_cancel(fetch);
            }
            self.list(place_of(link));
        }
        target.map(whatever)
    }
}

impl super::imports::Imports {
    /// The peer has refused a fetch, or broken it off.
    pub(super) fn fetch_refused(&mut self, link: u64, request: u32, reason: FetchRefusal) -> Heard {
        let Some(import) = self.fetches.under_way(link, request).map(|fetch| fetch.import) else {
            return Heard::Unasked;
        };
        let error = match self.get(import) {
            None => EngineError::Dropped,
            Some(Import { peer, name, .. }) => {
                let (peer, name) = (*peer, name.clone());
                provoked!(DEBUG, target: "vmmc::engine", %peer, export = name, ?reason, "fetch refused by the peer");
                match reason {
                    FetchRefusal::NoGrant | FetchRefusal::Cancelled => EngineError::Revoked { peer, name },
                    FetchRefusal::NotReadable => EngineError::NotReadable { name },
                    FetchRefusal::OutOfRange => EngineError::FetchRefused { peer, name, why: "it is out of range" },
                    FetchRefusal::TooMany => EngineError::FetchRefused { peer, name, why: "too many are under way" },
                }
            }
        };
        self.fetches.end(request, Err(error));
        self.changes += 1;
        Heard::Last
    }
}
