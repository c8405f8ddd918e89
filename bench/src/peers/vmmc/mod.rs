//! VMMC: puts into the other host's exported buffer, both nodes driven by their callers and spinning.
//!
//! A ping is a put with notification; the answer is one the other way. A stream is puts of one message each, all with
//! notification, so that the receiver counts only what has arrived in whole. For the message rate the puts share packets, and one in
//! many notifies.

mod memory;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use vmmc::{Error, Export, Import, Key, Node, Notification, Progress};

use crate::peers::watcher::{Watched, Watcher};
use crate::peers::{End, Meter, Peer, PeerError, RoundTrips, SendMeter, processor_time};
use crate::spec::{Bench, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;
use crate::{links, soak, utlb};

/// The peer, with or without checksums, watched or not.
pub(crate) struct Vmmc {
    pub(crate) checksum: bool,
    /// Each node's statistics are read all the time, as `vmmc top` does: what does that cost?
    pub(crate) watched: bool,
}

const INBOX: &str = "inbox";

/// How often a receiver asks whether the other side has gone.
const GLANCE: Duration = Duration::from_millis(100);

impl Vmmc {
    fn open_spinning(&self, session: &Session, inbox: usize) -> Result<(Node, Export), PeerError> {
        let node = Node::builder()
            .interface(&session.local.interface)
            .address(session.local.address.into())
            .checksum(self.checksum)
            .spin(Duration::MAX)
            .arena(inbox + (1 << 20))
            .open()?;
        let inbox = node.export(INBOX).len(inbox).key(Key::PUBLIC).notify(true).queue(1 << 16).create()?;
        Ok((node, inbox))
    }

    /// The same, with a thread that sleeps when there is nothing to do.
    fn open_asleep(&self, session: &Session, inbox: usize) -> Result<(Node, Export), PeerError> {
        let node = Node::builder()
            .interface(&session.local.interface)
            .address(session.local.address.into())
            .checksum(self.checksum)
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

fn import(node: &Node, peer: SocketAddr) -> Result<Import, PeerError> {
    Ok(node.import(peer, INBOX, Key::PUBLIC)?)
}

impl Peer for Vmmc {
    fn name(&self) -> &'static str {
        match (self.checksum, self.watched) {
            (true, false) => "vmmc",
            (true, true) => "vmmc-watched",
            (false, _) => "vmmc-nocrc",
        }
    }

    fn is_extra(&self) -> bool {
        self.watched
    }

    /// A put copies at both ends, so it is held against both floors.
    fn measures(&self, bench: Bench) -> bool {
        if self.watched {
            return matches!(bench, Bench::Lat | Bench::Rate | Bench::Bw | Bench::BwCopy);
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
        let (node, inbox) = self.open_spinning(session, room)?;
        let watcher = self.watched.then(|| Watcher::start(&node)).transpose()?;
        let there = match side {
            Side::Server => {
                session.ready("")?;
                None
            }
            Side::Client => Some(import(&node, session.remote_node())?),
        };
        let end = Box::new(VmmcEnd { side, memory: vec![7; room], there, inbox, node });
        Ok(match watcher {
            None => end,
            Some(watcher) => Box::new(Watched { watcher, end }),
        })
    }

    fn incast(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let slot = spec.size * SendMeter::AHEAD;
        match side {
            Side::Server => {
                let (_node, _inbox) = self.open_asleep(session, slot * spec.count as usize)?;
                session.ready("")?;
                // One-sided: the node's thread does everything.
                session.sleep_until_stopped();
                Ok(Outcome::Nothing)
            }
            Side::Client => {
                let (node, _) = self.open_asleep(session, 1)?;
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
        let (node, inbox) = self.open_asleep(session, 64)?;
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
        let builder = Node::builder().checksum(self.checksum);
        match side {
            Side::Server => soak::receive(builder, spec, session),
            Side::Client => soak::send(builder, spec, session),
        }
    }
}

/// One end: a node, its own buffer, and the other's as soon as it is known.
struct VmmcEnd {
    side: Side,
    memory: Vec<u8>,
    there: Option<Import>,
    inbox: Export,
    node: Node,
}

impl End for VmmcEnd {
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let VmmcEnd { inbox, node, .. } = self;
        let message = &self.memory[..spec.size];
        match (self.side, &mut self.there) {
            (Side::Server, there) => {
                while let Some(ping) = next(inbox, session)?
                    && ping.tag != LAST
                {
                    let back = match there {
                        Some(back) => back,
                        None => there.insert(import(node, ping.peer)?),
                    };
                    back.send(message, 0).notify(ping.tag).start()?;
                }
                Ok(Outcome::Nothing)
            }
            (Side::Client, there) => {
                let there = there.as_ref().ok_or(NOT_IMPORTED)?;
                let outcome = RoundTrips::new(spec).measure(|| {
                    there.send(message, 0).notify(0).start()?;
                    inbox.wait_notification(Duration::from_secs(3))?;
                    Ok(())
                })?;
                there.send(&[0], 0).notify(LAST).wait()?;
                Ok(outcome)
            }
        }
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        match self.side {
            Side::Server => {
                let mut meter = Meter::new(spec);
                while let Some(news) = next(&self.inbox, session)? {
                    let messages = if spec.bench == Bench::Rate { news.tag as usize } else { 1 };
                    meter.add(news.length as usize * messages);
                    if news.tag == LAST {
                        break;
                    }
                }
                meter.outcome()
            }
            Side::Client => {
                let there = self.there.as_ref().ok_or(NOT_IMPORTED)?;
                match spec.bench {
                    Bench::Rate => send_small(there, spec, &self.memory)?,
                    _ => send_large(there, spec, &self.memory)?,
                }
                Ok(Outcome::Nothing)
            }
        }
    }
}

const NOT_IMPORTED: &str = "the client has not imported the server's buffer";

/// Messages with a notification each, one after another in memory.
fn send_large(there: &Import, spec: &Spec, memory: &[u8]) -> Result<(), PeerError> {
    let start = Instant::now();
    for (message, at) in memory.chunks_exact(spec.size).zip((0..).step_by(spec.size)).cycle() {
        let last = start.elapsed() >= spec.duration();
        let send = there.send(message, at).notify(if last { LAST } else { 0 });
        if last {
            send.wait()?;
            break;
        }
        send.start()?;
    }
    Ok(())
}

/// Small messages, which share packets. Every [`GROUP`]th announces itself and those before it.
fn send_small(there: &Import, spec: &Spec, memory: &[u8]) -> Result<(), PeerError> {
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

/// How many small messages one notification announces.
const GROUP: u32 = 256;

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
