//! What the memory at either end makes of a transfer: the kinds that can be sent from, data that is redirected where it would otherwise be
//! copied, a remote read beside a write.
//!
//! All cases of a bench follow one another over one connection, so that nothing differs but the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmmc::{Export, Import, Key, Node, Redirect, Target};

use super::{INBOX, LAST, NOT_IMPORTED, PATIENCE, Vmmc, import, next, next_in_a_while};
use crate::peers::{Meter, PeerError, RoundTrips, thread_time};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// Messages that a sender may be ahead of what the receiver has taken, of those that its buffer holds.
const AHEAD: u32 = 4;

/// Into how many turns each case's time is divided: the machine's speed drifts, and whoever comes first finds other caches.
const TURNS: usize = 4;

/// What is measured in one of them.
fn part_of(spec: &Spec) -> Spec {
    Spec { millis: (spec.millis / TURNS as u64).max(10), ..spec.clone() }
}

/// Has each case measured in each turn, in another order each time, and adds up what has come out.
fn in_turns<const N: usize>(
    mut cases: [&'static str; N],
    mut measure: impl FnMut(&'static str) -> Result<Outcome, PeerError>,
) -> Result<Outcome, PeerError> {
    let mut sums: Vec<(String, Outcome)> = Vec::new();
    for _ in 0..TURNS {
        for case in cases {
            let outcome = measure(case)?;
            match sums.iter_mut().find(|(name, _)| name == case) {
                Some((_, sum)) => add(sum, outcome),
                None => sums.push((case.to_owned(), outcome)),
            }
        }
        cases.rotate_left(1);
    }
    Ok(Outcome::Several(sums))
}

/// Adds what one turn has found to what those before it have. One that was too short says nothing.
fn add(sum: &mut Outcome, more: Outcome) {
    match (&mut *sum, more) {
        (Outcome::Stream { messages, bytes, nanos }, Outcome::Stream { messages: m, bytes: b, nanos: n }) => {
            (*messages, *bytes, *nanos) = (*messages + m, *bytes + b, *nanos + n);
        }
        (Outcome::Delivered { bytes, nanos, cpu }, Outcome::Delivered { bytes: b, nanos: n, cpu: c }) => {
            (*bytes, *nanos, *cpu) = (*bytes + b, *nanos + n, *cpu + c);
        }
        (Outcome::Copied { outcome, copied, bytes }, Outcome::Copied { outcome: o, copied: c, bytes: b }) => {
            add(outcome, *o);
            (*copied, *bytes) = (*copied + c, *bytes + b);
        }
        (Outcome::TooShort, more) => *sum = more,
        (_, Outcome::TooShort | Outcome::Nothing) => {}
        (sum, more) => *sum = more,
    }
}

impl Vmmc {
    /// One side of a bench about memory.
    pub(super) fn measure_memory(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let room = WORKING_SET.max(spec.size * 2 * AHEAD as usize);
        let node = self
            .builder(spec)
            .interface(&session.local.interface)
            .address(session.local.address.into())
            .spin(Duration::MAX)
            // The buffer, as much for pages that are pinned, and as much again for one to send from.
            .arena(4 * room + (1 << 20))
            .open()?;
        let inbox =
            node.export(INBOX).len(room).key(Key::PUBLIC).notify(true).readable(true).queue(1 << 16).create()?;
        let there = match side {
            Side::Server => {
                session.ready("")?;
                None
            }
            Side::Client => Some(import(&node, session.remote_node())?),
        };
        let end = MemoryEnd { node, inbox, there, room };
        match spec.bench {
            Bench::Source => end.source(side, spec, session),
            Bench::Deliver => end.deliver(side, spec, session),
            _ => end.access(side, spec, session),
        }
    }
}

/// How data gets into the receiver's own memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The program copies it there.
    Copied,
    /// The node puts it there.
    Redirected,
}

struct MemoryEnd {
    node: Node,
    inbox: Export,
    there: Option<Import>,
    room: usize,
}

impl MemoryEnd {
    fn there(&self) -> Result<&Import, PeerError> {
        Ok(self.there.as_ref().ok_or(NOT_IMPORTED)?)
    }

    /// Streams from bytes of the heap, from an arena buffer, and from a paged buffer that fits the budget.
    fn source(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let cases = ["slice", "arena", "paged"];
        let part = part_of(spec);
        if side == Side::Server {
            return in_turns(cases, |_| self.count(&part, session));
        }
        let there = self.there()?;
        let heap = vec![7; self.room];
        let mut arena = self.node.alloc(self.room)?;
        arena.fill(7);
        let mut paged = self.node.map(self.room)?;
        paged.write().fill(7);
        let (arena, paged) = (Arc::new(arena), Arc::new(paged));
        in_turns(cases, |case| {
            self.stream(&part, |at, tag| {
                let (bytes, to) = (at..at + part.size, at as u64);
                match case {
                    "slice" => there.send(&heap, to).part(bytes).notify(tag).start().map(|_| ())?,
                    "arena" => there.send(arena.clone(), to).part(bytes).notify(tag).start().map(|_| ())?,
                    _ => there.send(paged.clone(), to).part(bytes).notify(tag).start().map(|_| ())?,
                }
                Ok(())
            })
        })
    }

    /// What arrives up to the last message.
    fn count(&self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let mut meter = Meter::new(spec);
        while let Some(news) = next(&self.inbox, session)? {
            meter.add(news.length as usize);
            if news.tag == LAST {
                break;
            }
        }
        meter.outcome()
    }

    /// Sends messages from one place after the other for as long as the spec says.
    fn stream(
        &self,
        spec: &Spec,
        mut send: impl FnMut(usize, u32) -> Result<(), PeerError>,
    ) -> Result<Outcome, PeerError> {
        let start = Instant::now();
        for at in (0..=self.room - spec.size).step_by(spec.size).cycle() {
            let last = start.elapsed() >= spec.duration();
            send(at, if last { LAST } else { 0 })?;
            if last {
                break;
            }
        }
        Ok(Outcome::Nothing)
    }

    /// Brings data into the receiver's own memory: copied there from the default buffer, or redirected; and, where either side's memory is of its
    /// arena, redirected so that the bulk lane can take it, if there is one.
    fn deliver(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let cases = ["copy", "redirect", "direct"];
        let part = part_of(spec);
        if side == Side::Server {
            // All of it is touched before anything is timed.
            let heap = || (0..self.room / spec.size).map(|_| vec![1; spec.size]).collect();
            return in_turns(cases, |case| match case {
                "copy" => self.take(&part, session, heap(), How::Copied),
                "redirect" => self.take(&part, session, heap(), How::Redirected),
                _ => {
                    let own: Result<_, _> = (0..self.room / spec.size).map(|_| self.node.alloc(spec.size)).collect();
                    self.take(&part, session, own?, How::Redirected)
                }
            });
        }
        let (there, memory) = (self.there()?, vec![7; self.room]);
        let mut arena = self.node.alloc(self.room)?;
        arena.fill(7);
        let arena = Arc::new(arena);
        in_turns(cases, |case| {
            let before = self.node.stats()?.engine;
            let mut sent = 0;
            // The receiver has posted its redirects, if it has any.
            self.inbox.wait_notification(PATIENCE)?;
            let mut ahead = 0;
            self.stream(&part, |at, tag| {
                while ahead >= AHEAD {
                    self.inbox.wait_notification(PATIENCE)?;
                    ahead -= 1;
                }
                ahead += 1;
                sent += part.size as u64;
                if case == "direct" {
                    there.send(arena.clone(), at as u64).part(at..at + part.size).notify(tag).start().map(drop)?;
                } else {
                    there.send(&memory[at..at + part.size], at as u64).notify(tag).start()?;
                }
                Ok(())
            })?;
            while ahead > 0 {
                self.inbox.wait_notification(PATIENCE)?;
                ahead -= 1;
            }
            let copied = self.node.stats()?.engine.tx_copied_bytes - before.tx_copied_bytes;
            Ok(Outcome::Nothing.copied(copied, sent))
        })
    }

    /// Takes messages into memory of this process, each into a place of its own.
    fn take<T: Target + AsMut<[u8]>>(
        &self,
        spec: &Spec,
        session: &Session,
        mut own: Vec<T>,
        how: How,
    ) -> Result<Outcome, PeerError> {
        let range = |place: usize| (place * spec.size) as u64..((place + 1) * spec.size) as u64;
        let redirect =
            |place, target: T| self.inbox.redirect(range(place), target).map(Some).map_err(|failed| failed.error);
        let mut posted: Vec<Option<Redirect<T>>> = Vec::new();
        if how == How::Redirected {
            for (place, target) in own.drain(..).enumerate() {
                posted.push(redirect(place, target)?);
            }
        }
        let back = import(&self.node, session.remote_node())?;
        back.send(&[], 0).notify(0).start()?;
        let (mut warm, mut bytes) = (None, 0);
        let (begin, before) = (Instant::now(), self.node.stats()?.engine);
        while let Some(news) = next_in_a_while(&self.inbox, session)? {
            let place = news.offset as usize / spec.size;
            if how == How::Redirected {
                let full = posted[place].take().ok_or("a message came where none can be")?;
                posted[place] = redirect(place, full.wait(PATIENCE).map_err(|failed| failed.error)?)?;
            } else {
                self.inbox.read(news.offset, own[place].as_mut())?;
            }
            back.send(&[], 0).notify(0).start()?;
            match warm {
                Some(_) => bytes += news.length,
                None if begin.elapsed() >= spec.warmup() => warm = Some((Instant::now(), thread_time())),
                None => {}
            }
            if news.tag == LAST {
                break;
            }
        }
        let (since, cpu) = warm.ok_or("the stream was over before it could be timed")?;
        let (nanos, cpu) = (since.elapsed().as_nanos() as u64, (thread_time() - cpu).as_nanos() as u64);
        let after = self.node.stats()?.engine;
        // What the program copies by itself is a copy in user space, too.
        let delivered = after.delivered_bytes - before.delivered_bytes;
        let own = if how == How::Copied { delivered } else { 0 };
        let copied = after.rx_copied_bytes - before.rx_copied_bytes + own;
        Ok(Outcome::Delivered { bytes, nanos, cpu }.copied(copied, delivered))
    }

    /// Round trips of a write that is waited for, and of a read.
    fn access(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        if side == Side::Server {
            while next(&self.inbox, session)?.is_some_and(|news| news.tag != LAST) {}
            return Ok(Outcome::Nothing);
        }
        let there = self.there()?;
        let mut memory = vec![7; spec.size];
        let put = RoundTrips::new(spec).whole().measure(|| Ok(there.send(&memory, 0).wait()?))?;
        let fetch = RoundTrips::new(spec).whole().measure(|| {
            memory = there.fetch(0, std::mem::take(&mut memory)).wait()?;
            Ok(())
        })?;
        there.send(&[], 0).notify(LAST).wait()?;
        Ok(Outcome::Several(vec![("put".to_owned(), put), ("fetch".to_owned(), fetch)]))
    }
}
