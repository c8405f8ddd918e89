//! The two processes of a soak, and how they talk.
//!
//! ```text
//!   sender                                     receiver
//!     BEGIN n        ── control word ──►         will check from batch n on
//!     batch n        ── puts, tags ────►         checks, clears
//!     batch n+1      ── puts, tags ────►
//!                    ◄── credit n ────           batch n is verified: its half is free for batch n+2
//!     ...
//!     END m          ── control word ──►         all batches before m were verified, nothing else was written
//! ```
//!
//! Small messages are sent from bytes of the heap, large ones from buffers of the arena, so that they take the bulk lane where there is one.
//!
//! When the receiver has been killed, and started again, the sender's puts and waits end with an error. It then imports the
//! new receiver's buffer and begins with the first batch for which it has no credit.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vmmc::memory::Arena;
use vmmc::port::fault::Faults;
use vmmc::{
    Buffer, Builder, DEFAULT_PORT, EngineError, Error, Export, Import, Key, Node, Notification, Pending, Progress,
};
use vmmc_histogram::Durations;

use super::check::{Checker, Verdict};
use super::traffic::{BEGIN, BUFFER, CONTROL, END, HALF, LARGEST, Message, batch};
use crate::peers::{BULKY, PeerError};
use crate::spec::{Outcome, SoakSide, Spec};
use crate::worker::Session;

const INBOX: &str = "soak";
const CREDIT: &str = "credit";

/// How long one side waits for the other: for a batch to be verified, and for a receiver that was killed to be there again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a receiver waits before it asks whether the sender has gone.
const GLANCE: Duration = Duration::from_millis(100);

fn open(builder: Builder, spec: &Spec, session: &Session) -> Result<Node, Error> {
    // Loss and damage happen on the wire; the port does what a wire in order can't.
    let own = Faults { drop: 0.0, corrupt: 0.0, seed: seed_of(spec, session), ..spec.faults };
    builder
        .interface(&session.local.interface)
        .address(session.local.address.into())
        .progress(Progress::Thread { core: None })
        // Of a sender: a batch, each message with what a buffer takes beside its bytes.
        .arena(
            Arena::footprint(BUFFER) + HALF / BULKY * Arena::footprint(BULKY) + Arena::footprint(LARGEST) + (1 << 20),
        )
        .faults(own)
        .open()
}

/// Other packets are to meet with faults at one side than at the other.
fn seed_of(spec: &Spec, session: &Session) -> u64 {
    spec.faults.seed.wrapping_add(u64::from(session.local.address.to_bits()))
}

/// What `node` has counted.
fn account(node: &Node) -> Result<SoakSide, Error> {
    let stats = node.stats()?;
    let sum = |f: &dyn Fn(&vmmc::link::LinkCounters) -> u64| stats.links.iter().map(|p| f(&p.counters)).sum::<u64>();
    let engine = stats.engine;
    Ok(SoakSide {
        packets: sum(&|c| c.tx_data),
        retransmitted: sum(&|c| c.tx_retransmitted),
        timeouts: sum(&|c| c.timeouts),
        refused: sum(&|c| c.rx_refused),
        // What is damaged in its token belongs to no link, and what is damaged in its first bytes is no packet.
        damaged: engine.rx_damaged + engine.rx_malformed + engine.rx_unknown,
        reordered: stats.port.tx_faults.delayed,
        duplicated: stats.port.tx_faults.duplicated,
        bulk: engine.tx_bulk_bytes,
        asked_again: engine.tx_bulk_asked_again,
        declined: engine.tx_bulk_declined,
        reopened: engine.bulk_reopened,
        ..SoakSide::default()
    })
}

/// The receiver.
pub(crate) fn receive(builder: Builder, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let node = open(builder, spec, session)?;
    let inbox = node.export(INBOX).len(BUFFER).key(Key::PUBLIC).notify(true).create()?;
    session.ready("")?;
    let mut checker = Checker::new(spec.faults.seed);
    let mut credit = None;
    let start = Instant::now();
    loop {
        let Some(news) = next(&inbox, session)? else {
            return Err("the sender has ended without saying so".into());
        };
        let written = || node.stats().map(|stats| stats.engine.delivered_bytes);
        match checker.judge(&inbox, (news.tag, news.offset, news.length), written)? {
            Verdict::GoOn => {}
            Verdict::Begun => credit = Some(node.import(news.peer, CREDIT, Key::PUBLIC)?),
            Verdict::Verified(batch) => {
                let credit = credit.as_ref().ok_or("a batch came before its beginning")?;
                credit.send(&batch.to_le_bytes(), 0).notify(batch as u32).start()?;
            }
            Verdict::Finished => break,
        }
    }
    let nanos = start.elapsed().as_nanos() as u64;
    // Now, because a link's counters go with it.
    let side = SoakSide { bytes: checker.bytes, messages: checker.verified, nanos, ..account(&node)? };
    // Not before the sender has been told that its last word has arrived.
    session.sleep_until_stopped();
    Ok(Outcome::Soak(Box::new(side)))
}

/// The next notification, or `None` once the run is over.
fn next(inbox: &Export, session: &Session) -> Result<Option<Notification>, Error> {
    loop {
        match inbox.wait_notification(GLANCE) {
            Err(Error::Timeout { .. }) if session.stopped() => return Ok(None),
            Err(Error::Timeout { .. }) => {}
            result => return result.map(Some),
        }
    }
}

/// The sender.
pub(crate) fn send(builder: Builder, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let node = open(builder, spec, session)?;
    let credit = node.export(CREDIT).len(8).key(Key::PUBLIC).notify(true).create()?;
    let mut sender =
        Sender { spec, session, node: &node, credit, side: SoakSide::default(), latency: Durations::new(), first: 0 };
    let start = Instant::now();
    loop {
        let remote = sender.import()?;
        let Err(error) = sender.life(&remote, start) else { break };
        if !is_loss_of_peer(&error) || sender.side.restarts == spec.count {
            return Err(error);
        }
        sender.side.restarts += 1;
        tracing::info!(%error, "the receiver is gone; beginning anew with batch {}", sender.first);
        // Credit of the old one for what the new one is to get again.
        while sender.credit.try_notification()?.is_some() {}
    }
    sender.side.nanos = start.elapsed().as_nanos() as u64;
    let Sender { side, latency, .. } = sender;
    let account = account(&node)?;
    let SoakSide { bytes, messages, nanos, restarts, .. } = side;
    Ok(Outcome::Soak(Box::new(SoakSide { bytes, messages, nanos, restarts, latency: latency.counts(), ..account })))
}

/// Whether `error` says that the other node has died or been started anew.
fn is_loss_of_peer(error: &PeerError) -> bool {
    matches!(error.downcast_ref(), Some(Error::Engine(EngineError::LinkEnded { .. })))
}

/// A message that is on its way.
enum Put<'i> {
    Copied(Pending<'i>),
    /// With the buffer that it is sent from.
    Direct(Pending<'i, Buffer>),
}

impl Put<'_> {
    fn is_delivered(&self) -> Result<bool, Error> {
        match self {
            Put::Copied(pending) => pending.is_delivered(),
            Put::Direct(pending) => pending.is_delivered(),
        }
    }

    fn wait(self) -> Result<(), Error> {
        match self {
            Put::Copied(pending) => pending.wait(),
            Put::Direct(pending) => Ok(pending.wait().map(drop)?),
        }
    }
}

struct Sender<'a> {
    spec: &'a Spec,
    session: &'a Session,
    node: &'a Node,
    credit: Export,
    side: SoakSide,
    latency: Durations,
    /// The first batch that is not known to be verified.
    first: u64,
}

impl Sender<'_> {
    /// Imports the receiver's buffer, as soon as there is one.
    fn import(&self) -> Result<Import, PeerError> {
        let peer = SocketAddr::new(self.session.remote.address.into(), DEFAULT_PORT);
        let start = Instant::now();
        loop {
            match self.node.import(peer, INBOX, Key::PUBLIC) {
                Ok(import) => return Ok(import),
                Err(error) if start.elapsed() > PATIENCE => return Err(error.into()),
                // Not there yet, or not yet exporting.
                Err(
                    Error::Engine(EngineError::LinkEnded { .. } | EngineError::UnknownName { .. }) | Error::Route(_),
                ) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends to one life of the receiver, to the end unless that comes first.
    fn life(&mut self, remote: &Import, start: Instant) -> Result<(), PeerError> {
        let begin = self.first.to_le_bytes();
        let begin = remote.send(&begin, CONTROL).notify(BEGIN).start()?;
        let mut next = self.first;
        // Of the batches that are sent but not verified.
        let mut pending = VecDeque::new();
        let mut sent = self.side.bytes;
        loop {
            let enough = sent >= self.spec.bytes || start.elapsed() >= self.spec.duration();
            if !enough && pending.len() < 2 {
                let messages = batch(self.spec.faults.seed, next);
                self.send_batch(remote, &messages)?;
                let bytes: u64 = messages.iter().map(|m| m.length as u64).sum();
                pending.push_back((bytes, messages.len() as u64));
                sent += bytes;
                next += 1;
                continue;
            }
            let Some((bytes, messages)) = pending.pop_front() else { break };
            self.await_credit(&begin)?;
            self.first += 1;
            self.side.bytes += bytes;
            self.side.messages += messages;
            self.session.progress(self.side.bytes)?;
        }
        remote.send(&next.to_le_bytes(), CONTROL).notify(END).wait()?;
        Ok(())
    }

    /// Sends a batch, and waits until all of it is acknowledged.
    fn send_batch(&mut self, remote: &Import, messages: &[Message]) -> Result<(), PeerError> {
        let seed = self.spec.faults.seed;
        let mut pending: VecDeque<(Instant, Put<'_>)> = VecDeque::new();
        for message in messages {
            let (begin, put) = if message.length < BULKY {
                let mut content = vec![0; message.length];
                message.fill(seed, &mut content);
                let begin = Instant::now();
                let send = remote.send(&content, message.offset).notify(message.tag());
                (begin, Put::Copied(if message.queued { send.queue() } else { send.start() }?))
            } else {
                let mut content = self.node.alloc(message.length)?;
                message.fill(seed, &mut content);
                let begin = Instant::now();
                let send = remote.send(content, message.offset).notify(message.tag());
                (begin, Put::Direct(send.start().map_err(Error::from)?))
            };
            pending.push_back((begin, put));
            while let Some((begin, first)) = pending.front()
                && first.is_delivered()?
            {
                self.latency.record(begin.elapsed());
                pending.pop_front();
            }
        }
        for (begin, put) in pending {
            put.wait()?;
            self.latency.record(begin.elapsed());
        }
        Ok(())
    }

    /// Waits until the first batch is verified. `begin` is any put on the link: it tells when that ends.
    fn await_credit(&self, begin: &Pending<'_>) -> Result<(), PeerError> {
        let start = Instant::now();
        let news = loop {
            match self.credit.wait_notification(GLANCE) {
                Err(Error::Timeout { .. }) if start.elapsed() < PATIENCE => {
                    begin.is_delivered()?;
                }
                result => break result?,
            }
        };
        let expected = (self.first as u32, 0, 8);
        let found = (news.tag, news.offset, news.length);
        if found == expected {
            return Ok(());
        }
        Err(format!(
            "batch {} was to be credited with (tag, offset, length) {expected:?}, but what came was {found:?}",
            self.first
        )
        .into())
    }
}
