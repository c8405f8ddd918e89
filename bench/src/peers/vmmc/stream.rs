//! One-way streams of puts.
//!
//! ```text
//!   sender's arena                  receiver's arena
//!   buffer 0 ──── put, tag ───────► inbox, place 0
//!   buffer 1 ──── put, tag ───────► inbox, place 1         each buffer is away until its put has arrived,
//!   ...                             ...                    and is sent again then
//!   buffer n ──── put, tag ───────► inbox, place n
//! ```
//!
//! All buffers together are as large as what every other peer sends from, [`WORKING_SET`], and so is the inbox. Messages smaller than [`BULKY`] are sent
//! from bytes of the heap. For the message rate the puts share packets, and one in many notifies.

use std::collections::VecDeque;
use std::time::Instant;

use vmmc::engine::EngineCounters;
use vmmc::memory::Arena;
use vmmc::{Buffer, Import, Pending};

use super::{LAST, VmmcEnd, next, next_in_a_while};
use crate::peers::{BULKY, Meter, PeerError, processor_time};
use crate::spec::{Bench, Outcome, Spec};
use crate::worker::Session;

/// How many small messages one notification announces.
const GROUP: u32 = 256;

/// How many buffers messages of this size are sent from: one for each place of the inbox, and at least two, so that one is on its way while
/// another comes back.
fn how_many(room: usize, spec: &Spec) -> usize {
    (room / spec.size).max(2)
}

/// How much of an arena they take, bytes.
pub(super) fn buffers(room: usize, spec: &Spec) -> usize {
    let own = matches!(spec.bench, Bench::Bw | Bench::BwCopy | Bench::Loss) && spec.size >= BULKY;
    if own { how_many(room, spec) * Arena::footprint(spec.size) } else { 0 }
}

impl VmmcEnd {
    /// What arrives up to the last message.
    pub(super) fn receive_stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let wait = if self.naps { next_in_a_while } else { next };
        let (cpu, before) = (processor_time(), self.counted()?);
        let (mut meter, mut bytes) = (Meter::new(spec), 0);
        while let Some(news) = wait(&self.inbox, session)? {
            let messages = if spec.bench == Bench::Rate { news.tag as usize } else { 1 };
            meter.add(news.length as usize * messages);
            bytes += news.length;
            if news.tag == LAST {
                break;
            }
        }
        let (cpu, after) = (processor_time() - cpu, self.counted()?);
        self.acknowledge(session)?;
        let copied = after.rx_copied_bytes - before.rx_copied_bytes;
        let outcome = meter.outcome()?.copied(copied, after.delivered_bytes - before.delivered_bytes);
        Ok(if self.naps { outcome.used(cpu, bytes) } else { outcome })
    }

    pub(super) fn send_stream(&mut self, spec: &Spec) -> Result<Outcome, PeerError> {
        let before = self.counted()?;
        let sent = match spec.bench {
            Bench::Rate => {
                send_together(self.there()?, spec, &self.memory)?;
                return Ok(Outcome::Nothing);
            }
            _ if spec.size < BULKY => send_small(self.there()?, spec, &self.memory)?,
            _ => self.send_large(spec)?,
        };
        Ok(Outcome::Nothing.copied(self.counted()?.tx_copied_bytes - before.tx_copied_bytes, sent))
    }

    fn counted(&self) -> Result<EngineCounters, PeerError> {
        Ok(self.node.stats()?.engine)
    }

    /// Messages with a notification each, from buffers that are given away and come back. Returns how many bytes that were.
    fn send_large(&self, spec: &Spec) -> Result<u64, PeerError> {
        let there = self.there()?;
        let places = (self.memory.len() / spec.size).max(1);
        let mut free: Vec<Buffer> = Vec::new();
        for _ in 0..how_many(self.memory.len(), spec) {
            let mut buffer = self.node.alloc(spec.size)?;
            buffer.fill(7);
            free.push(buffer);
        }
        let mut away: VecDeque<Pending<'_, Buffer>> = VecDeque::new();
        let (start, mut sent) = (Instant::now(), 0);
        for place in (0..places).cycle() {
            let last = start.elapsed() >= spec.duration();
            let buffer = match free.pop() {
                Some(buffer) => buffer,
                None => away.pop_front().ok_or("there are no buffers")?.wait()?,
            };
            let send = there.send(buffer, (place * spec.size) as u64).notify(if last { LAST } else { 0 });
            away.push_back(send.start()?);
            sent += spec.size as u64;
            if last {
                break;
            }
        }
        for pending in away {
            pending.wait()?;
        }
        Ok(sent)
    }
}

/// Messages with a notification each, one after another in memory. Returns how many bytes that were.
fn send_small(there: &Import, spec: &Spec, memory: &[u8]) -> Result<u64, PeerError> {
    let (start, mut sent) = (Instant::now(), 0);
    for (message, at) in memory.chunks_exact(spec.size).zip((0..).step_by(spec.size)).cycle() {
        let last = start.elapsed() >= spec.duration();
        let send = there.send(message, at).notify(if last { LAST } else { 0 });
        sent += spec.size as u64;
        if last {
            send.wait()?;
            break;
        }
        send.start()?;
    }
    Ok(sent)
}

/// Small messages, which share packets. Every [`GROUP`]th announces itself and those before it.
fn send_together(there: &Import, spec: &Spec, memory: &[u8]) -> Result<(), PeerError> {
    let start = Instant::now();
    let mut messages = memory.chunks_exact(spec.size).cycle();
    let mut offset = 0;
    let mut put = |last: bool| -> Result<(), PeerError> {
        let message = messages.next().ok_or("no memory to send from")?;
        let send = there.send(message, offset);
        offset = (offset + spec.size as u64) % (memory.len() as u64 / 2);
        if last {
            send.notify(GROUP).start()?
        } else {
            send.queue()?
        };
        Ok(())
    };
    while start.elapsed() < spec.duration() {
        for message in 1..=GROUP {
            put(message == GROUP)?;
        }
    }
    there.send(&memory[..spec.size], 0).notify(LAST).wait()?;
    Ok(())
}
