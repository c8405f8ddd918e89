//! VMMC: puts into the other host's exported buffer, both nodes driven by their callers and spinning.
//!
//! A ping is a put with notification; the answer is one the other way. A stream is puts of one message each, all with
//! notification, so that the receiver counts only what has arrived in whole: see [`stream`].
//!
//! Messages of [`BULKY`] bytes and more are sent from buffers of the arena into the other side's export, so that the bulk lane takes them where
//! there is one; `vmmc-eager` does the same without it.

mod memory;
mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vmmc::memory::Arena;
use vmmc::wire::MIN_MTU;
use vmmc::{Buffer, Builder, Bulk, Error, Export, Import, Key, Node, Notification, Progress};

use crate::peers::watcher::{Watched, Watcher};
use crate::peers::{BULKY, End, Peer, PeerError, RoundTrips, SendMeter, processor_time};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;
use crate::{links, soak, utlb};

/// The peer, in one of its forms.
pub(crate) struct Vmmc {
    pub(crate) name: &'static str,
    pub(crate) checksum: bool,
    /// Whether large messages may take the bulk lane.
    pub(crate) bulk: bool,
    /// Whether a stream's receiver sleeps for a fixed time whenever it has taken everything, so that its processor time is what it does with the
    /// data, and not what it costs to wait for them.
    pub(crate) naps: bool,
    /// Each node's statistics are read all the time, as `vmmc top` does: what does that cost?
    pub(crate) watched: bool,
}

/// As programs use it.
pub(crate) const USUAL: Vmmc = Vmmc { name: "vmmc", checksum: true, bulk: true, naps: false, watched: false };

const INBOX: &str = "inbox";

/// How often a receiver asks whether the other side has gone.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a receiver sleeps that has taken everything: so that its processor time is what it does with the data, and not what it costs to be woken
/// for each packet.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Vmmc {
    /// What all its nodes have in common.
    fn builder(&self, spec: &Spec) -> Builder {
        let bulk = if self.bulk { Bulk::WhenPossible } else { Bulk::Never };
        let builder = Node::builder().checksum(self.checksum).bulk(bulk);
        match spec.bulk_from {
            Some(bytes) => builder.bulk_threshold(bytes).bulk_mtu(MIN_MTU),
            // What is tried is whether it is right, and not whether it pays.
            None if spec.bench == Bench::Soak => builder.bulk_mtu(MIN_MTU),
            None => builder,
        }
    }

    /// A node with an export of so many bytes, and as much of the arena as is asked for beside it.
    fn open_spinning(
        &self,
        spec: &Spec,
        session: &Session,
        inbox: usize,
        beside: usize,
    ) -> Result<(Node, Export), PeerError> {
        let node = self
            .builder(spec)
            .interface(&session.local.interface)
            .address(session.local.address.into())
            .spin(Duration::MAX)
            .arena(Arena::footprint(inbox) + beside + (1 << 20))
            .open()?;
        let inbox = node.export(INBOX).len(inbox).key(Key::PUBLIC).notify(true).queue(1 << 16).create()?;
        Ok((node, inbox))
    }

    /// The same, with a thread that sleeps when there is nothing to do.
    fn open_asleep(&self, spec: &Spec, session: &Session, inbox: usize) -> Result<(Node, Export), PeerError> {
        let node = self
            .builder(spec)
            .interface(&session.local.interface)
            .address(session.local.address.into())
            .progress(Progress::Thread { core: None })
            .arena(inbox + (1 << 20))
            .open()?;
        let inbox = node.export(INBOX).len(inbox).key(Key::PUBLIC).notify(true).create()?;
        Ok((node, inbox))
    }
}

/// The next notification, or `None` once the other side has gone.
fn next(inbox: &Export, session: &Session) -> Result<Option<Notification>, PeerError> {
    loop {
        match inbox.wait_notification(GLANCE) {
            Ok(notification) => return Ok(Some(notification)),
            Err(Error::Timeout { .. }) if session.stopped() => return Ok(None),
            Err(Error::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same, but asleep for a fixed time whenever there is none.
fn next_in_a_while(inbox: &Export, session: &Session) -> Result<Option<Notification>, PeerError> {
    let begin = Instant::now();
    loop {
        match inbox.try_notification()? {
            Some(news) => return Ok(Some(news)),
            None if session.stopped() => return Ok(None),
            None if begin.elapsed() > PATIENCE => return Err("the stream has stopped".into()),
            None => thread::sleep(LOOK_EVERY),
        }
    }
}

fn import(node: &Node, peer: SocketAddr) -> Result<Import, PeerError> {
    Ok(node.import(peer, INBOX, Key::PUBLIC)?)
}

impl Peer for Vmmc {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_extra(&self) -> bool {
        self.watched || self.naps
    }

    /// What differs by the lane, and by naps, is what the lane is for.
    fn least_size(&self) -> usize {
        if self.naps || !self.bulk { BULKY } else { 0 }
    }

    /// A put copies at both ends, so it is held against both floors.
    fn measures(&self, bench: Bench) -> bool {
        if self.watched {
            return matches!(bench, Bench::Lat | Bench::Rate | Bench::Bw | Bench::BwCopy);
        }
        if self.naps {
            return bench == Bench::Bw;
        }
        if !self.bulk {
            return matches!(bench, Bench::Lat | Bench::Bw | Bench::Loss | Bench::Soak | Bench::Deliver);
        }
        if bench.is_about_streams() {
            return false;
        }
        self.checksum
            || !(bench.is_about_memory() || matches!(bench, Bench::Loss | Bench::Incast | Bench::Links | Bench::Idle))
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let largest = specs.iter().map(|spec| spec.size).max().unwrap_or(0);
        let streams = specs.iter().any(|spec| spec.bench != Bench::Lat);
        let room = if streams { WORKING_SET.max(largest) } else { largest };
        // Of one size at a time, and the message that goes to and fro.
        let buffers = specs.iter().map(|spec| stream::buffers(room, spec)).max().unwrap_or(0);
        let (node, inbox) = self.open_spinning(&specs[0], session, room, buffers + Arena::footprint(largest))?;
        let watcher = self.watched.then(|| Watcher::start(&node)).transpose()?;
        let there = match side {
            Side::Server => {
                session.ready("")?;
                None
            }
            Side::Client => Some(import(&node, session.remote_node())?),
        };
        let mut message = node.alloc(largest)?;
        message.fill(7);
        let end =
            VmmcEnd { side, naps: self.naps, memory: vec![7; room], message: Arc::new(message), there, inbox, node };
        let end = Box::new(end);
        Ok(match watcher {
            None => end,
            Some(watcher) => Box::new(Watched { watcher, end }),
        })
    }

    fn incast(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let slot = spec.size * SendMeter::AHEAD;
        match side {
            Side::Server => {
                let (_node, _inbox) = self.open_asleep(spec, session, slot * spec.count as usize)?;
                session.ready("")?;
                // One-sided: the node's thread does everything.
                session.sleep_until_stopped();
                Ok(Outcome::Nothing)
            }
            Side::Client => {
                let (node, _) = self.open_asleep(spec, session, 1)?;
                let there = import(&node, session.remote_node())?;
                // Hosts are numbered from 1, and the receiver is the last.
                let own = (usize::from(session.local.address.octets()[3]) - 1) * slot;
                session.start_together()?;
                send_ahead(&there, spec, own)
            }
        }
    }

    fn links(&self, spec: &Spec) -> Result<Outcome, PeerError> {
        links::measure(spec)
    }

    fn idle(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let (node, inbox) = self.open_asleep(spec, session, 64)?;
        match side {
            Side::Server => {
                session.ready("")?;
                inbox.wait_notification(Duration::from_secs(20))?;
                let outcome = idle_for(spec.duration());
                session.sleep_until_stopped();
                outcome
            }
            Side::Client => {
                let there = import(&node, session.remote_node())?;
                there.send(b"idle from now on", 0).notify(0).wait()?;
                idle_for(spec.duration())
            }
        }
    }

    fn memory(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        if spec.bench == Bench::Utlb { utlb::measure(spec) } else { self.measure_memory(side, spec, session) }
    }

    fn soak(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match side {
            Side::Server => soak::receive(self.builder(spec), spec, session),
            Side::Client => soak::send(self.builder(spec), spec, session),
        }
    }
}

/// One end: a node, its own buffer, and the other's as soon as it is known.
struct VmmcEnd {
    side: Side,
    naps: bool,
    /// Where small messages are sent from.
    memory: Vec<u8>,
    /// The message that goes to and fro, if it is a large one.
    message: Arc<Buffer>,
    there: Option<Import>,
    inbox: Export,
    node: Node,
}

impl VmmcEnd {
    fn there(&self) -> Result<&Import, PeerError> {
        Ok(self.there.as_ref().ok_or(NOT_IMPORTED)?)
    }

    /// What the server does until the client knows that everything has arrived: acknowledge it.
    fn acknowledge(&self, session: &Session) -> Result<(), PeerError> {
        while !session.stopped() {
            self.node.progress()?;
        }
        Ok(())
    }

    /// Sends the message that goes to and fro.
    fn ping(&self, there: &Import, size: usize, tag: u32) -> Result<(), PeerError> {
        if size < BULKY {
            there.send(&self.memory[..size], 0).notify(tag).start()?;
        } else {
            there.send(self.message.clone(), 0).part(0..size).notify(tag).start()?;
        }
        Ok(())
    }
}

impl End for VmmcEnd {
    fn tend(&mut self) -> Result<(), PeerError> {
        Ok(self.node.progress()?)
    }

    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        if self.side == Side::Server {
            while let Some(ping) = next(&self.inbox, session)?
                && ping.tag != LAST
            {
                if self.there.is_none() {
                    self.there = Some(import(&self.node, ping.peer)?);
                }
                self.ping(self.there()?, spec.size, ping.tag)?;
            }
            self.acknowledge(session)?;
            return Ok(Outcome::Nothing);
        }
        let there = self.there()?;
        let outcome = RoundTrips::new(spec).measure(|| {
            self.ping(there, spec.size, 0)?;
            self.inbox.wait_notification(Duration::from_secs(3))?;
            Ok(())
        })?;
        there.send(&[0], 0).notify(LAST).wait()?;
        Ok(outcome)
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match self.side {
            Side::Server => self.receive_stream(spec, session),
            Side::Client => self.send_stream(spec),
        }
    }
}

const NOT_IMPORTED: &str = "the client has not imported the server's buffer";

/// The tag of a stream's last message, and of the one that ends a ping-pong.
const LAST: u32 = 1;

/// Puts of one message each into this sender's own place in the buffer, some ahead of what is acknowledged.
fn send_ahead(there: &Import, spec: &Spec, own: usize) -> Result<Outcome, PeerError> {
    let memory = vec![7; spec.size * SendMeter::AHEAD];
    let mut meter = SendMeter::start(spec);
    let mut pending = VecDeque::new();
    for (place, message) in memory.chunks_exact(spec.size).enumerate().cycle() {
        if meter.is_over() {
            break;
        }
        let begun = Instant::now();
        pending.push_back((begun, there.send(message, (own + place * spec.size) as u64).start()?));
        if pending.len() == SendMeter::AHEAD
            && let Some((begun, first)) = pending.pop_front()
        {
            first.wait()?;
            meter.add(begun, spec.size);
        }
    }
    for (begun, put) in pending {
        put.wait()?;
        meter.add(begun, spec.size);
    }
    Ok(meter.outcome())
}

/// Does nothing, and says what processor time that took the whole process.
fn idle_for(time: Duration) -> Result<Outcome, PeerError> {
    // The last acknowledgements are no idleness yet.
    thread::sleep(Duration::from_millis(100));
    let (start, before) = (Instant::now(), processor_time());
    thread::sleep(time);
    let cpu = processor_time() - before;
    Ok(Outcome::Idle { cpu: cpu.as_nanos() as u64, nanos: start.elapsed().as_nanos() as u64 })
}
