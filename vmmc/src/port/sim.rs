//! A network in memory: deterministic, seeded, with a virtual clock.
//!
//! A [`Network`] is one Ethernet switch. Each [`SimPort`] attached to it has an Ethernet address and receives the
//! frames sent to it. On the way a frame may be lost, duplicated, delayed past its successors or damaged, as the
//! [`Conditions`] say and the seed decides: the same seed gives the same run. Time passes only when
//! [`Network::advance`] says so.
//!
//! ```
//! use vmmc::port::{Port, sim::{Conditions, Network}};
//! use vmmc::time::Time;
//!
//! let network = Network::new(42, Conditions::default());
//! let (mut a, mut b) = (network.attach([2, 0, 0, 0, 0, 1]), network.attach([2, 0, 0, 0, 0, 2]));
//! let mut packet = a.alloc(0).unwrap();
//! a.append(&mut packet, &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 7]);
//! a.submit(&packet);
//! a.free(packet);
//! network.advance(Time::from_nanos(1_000_000));
//! let mut arrived = Vec::new();
//! b.receive(&mut arrived).unwrap();
//! assert_eq!(b.fragments(&arrived[0]).concat()[14], 7);
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use super::bulk::sim::Kernel;
use super::{Descriptors, Port, PortCounters, PortId, ReceiveRings, Rings, RxPacket, SendRings, TxPacket};
use crate::time::Time;
use crate::wire::Fragments;
use crate::wire::frame::{self, Mac};

/// What the network does to frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Share of frames lost, 0 to 1.
    pub loss: f64,
    /// Share of frames that arrive twice.
    pub duplication: f64,
    /// Share of frames of which one bit is turned over.
    pub corruption: f64,
    /// Share of frames that take `detour` longer, so that later ones overtake them.
    pub reordering: f64,
    /// How much longer.
    pub detour: Duration,
    /// Time from sender to receiver.
    pub delay: Duration,
    /// The longest Ethernet frame carried; longer ones vanish, as on a path with a smaller MTU.
    pub max_frame: usize,
    /// Bits per second towards each port; what comes faster waits in a queue. `None`: no limit.
    pub rate: Option<u64>,
    /// How long a frame may wait in that queue; what would have to wait longer is dropped. `None`: a queue without end.
    pub queue: Option<Duration>,
    /// Frames that wait longer than this are marked (ECN), if they carry IP that says it can be. `None`: none is.
    pub mark: Option<Duration>,
}

impl Default for Conditions {
    /// A perfect network: 10 us, frames of 1518 bytes, any number of them at once.
    fn default() -> Conditions {
        Conditions {
            loss: 0.0,
            duplication: 0.0,
            corruption: 0.0,
            reordering: 0.0,
            detour: Duration::from_micros(50),
            delay: Duration::from_micros(10),
            max_frame: 1518,
            rate: None,
            queue: None,
            mark: None,
        }
    }
}

/// A frame under way: when it arrives, in which order, where, and what.
type Flying = Reverse<(Time, u64, usize, Vec<u8>)>;

/// A switch with a clock. Cloning it makes another handle on the same one.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    now: Time,
    random: fastrand::Rng,
    conditions: Conditions,
    flying: BinaryHeap<Flying>,
    sent: u64,
    ports: HashMap<Mac, usize>,
    inboxes: Vec<VecDeque<Vec<u8>>>,
    /// The bulk lanes beside them, which take what is theirs as it arrives.
    bulk: HashMap<usize, Weak<Mutex<Kernel>>>,
    /// When the last frame towards each port has left the switch.
    busy: Vec<Time>,
    taps: Vec<mpsc::Sender<Vec<u8>>>,
}

impl Network {
    /// A network with nobody attached, at [`Time::ZERO`].
    pub fn new(seed: u64, conditions: Conditions) -> Network {
        let state = State {
            now: Time::ZERO,
            random: fastrand::Rng::with_seed(seed),
            conditions,
            flying: BinaryHeap::new(),
            sent: 0,
            ports: HashMap::new(),
            inboxes: Vec::new(),
            bulk: HashMap::new(),
            busy: Vec::new(),
            taps: Vec::new(),
        };
        Network { state: Arc::new(Mutex::new(state)) }
    }

    /// Attaches a port with the frame size and the number of frames that [`SimPort`] has by default.
    pub fn attach(&self, mac: Mac) -> SimPort {
        let mut state = self.lock();
        let place = state.inboxes.len();
        state.inboxes.push(VecDeque::new());
        state.busy.push(Time::ZERO);
        // A port attached again with the same address takes over, as a restarted host does.
        state.ports.insert(mac, place);
        let max_frame = state.conditions.max_frame;
        drop(state);
        SimPort {
            network: self.clone(),
            id: PortId::new(),
            place,
            frame: 512,
            max_frame,
            tx: Slots::new(1024),
            rx: Slots::new(1024),
            counters: PortCounters::default(),
        }
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.lock().now
    }

    /// Changes what happens to frames sent from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.lock().conditions = conditions;
    }

    /// When the next frame arrives, if any is under way.
    pub fn next_arrival(&self) -> Option<Time> {
        self.lock().flying.peek().map(|Reverse((at, ..))| *at)
    }

    /// How long a frame sent now to `mac` would wait behind others.
    pub fn backlog(&self, mac: Mac) -> Duration {
        let state = self.lock();
        state.ports.get(&mac).map_or(Duration::ZERO, |&port| state.busy[port].since(state.now))
    }

    /// Lets time pass until `to`, and delivers what arrives meanwhile.
    pub fn advance(&self, to: Time) {
        let mut state = self.lock();
        state.now = state.now.max(to);
        while let Some(Reverse((at, ..))) = state.flying.peek()
            && *at <= state.now
        {
            if let Some(Reverse((_, _, port, bytes))) = state.flying.pop() {
                let bulk = state.bulk.get(&port).and_then(Weak::upgrade);
                if !bulk.is_some_and(|bulk| bulk.lock().unwrap_or_else(PoisonError::into_inner).takes(&bytes)) {
                    state.inboxes[port].push_back(bytes);
                }
            }
        }
    }

    /// Puts a frame on the network that no port has sent: garbage, a forgery, a replay.
    pub fn inject(&self, frame: &[u8]) {
        self.lock().send(frame.to_vec());
    }

    /// A copy of every frame that a port sends from now on, as it was sent, whatever becomes of it. Injected frames are not
    /// among them. They are kept until they are taken, or the receiver is dropped.
    pub fn tap(&self) -> mpsc::Receiver<Vec<u8>> {
        let (tap, frames) = mpsc::channel();
        self.lock().taps.push(tap);
        frames
    }

    /// Sends a frame of a port.
    pub(super) fn send(&self, frame: Vec<u8>) {
        let mut state = self.lock();
        state.taps.retain(|tap| tap.send(frame.clone()).is_ok());
        state.send(frame);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }

    fn send(&mut self, mut frame: Vec<u8>) {
        let conditions = self.conditions;
        let target = frame.get(..6).and_then(|mac| self.ports.get(mac).copied());
        let (Some(target), true) = (target, frame.len() <= conditions.max_frame) else {
            return;
        };
        if self.chance(conditions.loss) {
            return;
        }
        if self.chance(conditions.corruption) {
            let bit = self.random.usize(..frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = 1 + usize::from(self.chance(conditions.duplication));
        for _ in 0..copies {
            let detour = if self.chance(conditions.reordering) { conditions.detour } else { Duration::ZERO };
            let wait = self.busy[target].since(self.now);
            if conditions.queue.is_some_and(|most| wait > most) {
                continue;
            }
            let left = self.leaves(target, frame.len());
            self.sent += 1;
            let mut frame = frame.clone();
            if conditions.mark.is_some_and(|from| wait > from) {
                frame::mark(&mut frame);
            }
            self.flying.push(Reverse((left + conditions.delay + detour, self.sent, target, frame)));
        }
    }

    /// When the switch has put a frame on the wire to `target`, behind those before it.
    fn leaves(&mut self, target: usize, len: usize) -> Time {
        let Some(rate) = self.conditions.rate else { return self.now };
        let span = Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / rate.max(1));
        let left = self.busy[target].max(self.now) + span;
        self.busy[target] = left;
        left
    }
}

/// Packets held by number.
struct Slots {
    packets: Vec<Option<Vec<u8>>>,
    free: Vec<u32>,
}

impl Slots {
    fn new(count: u32) -> Slots {
        Slots { packets: (0..count).map(|_| None).collect(), free: (0..count).rev().collect() }
    }

    fn insert(&mut self, bytes: Vec<u8>) -> Option<u32> {
        let slot = self.free.pop()?;
        self.packets[slot as usize] = Some(bytes);
        Some(slot)
    }

    fn remove(&mut self, slot: u32) {
        self.packets[slot as usize] = None;
        self.free.push(slot);
    }

    fn get(&self, slot: u32) -> &[u8] {
        self.packets[slot as usize].as_deref().unwrap_or_default()
    }
}

/// A port of a [`Network`]. Packets come and go in fragments of 512 bytes.
pub struct SimPort {
    network: Network,
    id: PortId,
    place: usize,
    frame: usize,
    max_frame: usize,
    tx: Slots,
    rx: Slots,
    counters: PortCounters,
}

impl SimPort {
    /// Has a bulk lane take what is sent to it at this port's Ethernet address, for as long as it is there.
    pub(super) fn attach_bulk(&self, kernel: &Arc<Mutex<Kernel>>) -> Network {
        self.network.lock().bulk.insert(self.place, Arc::downgrade(kernel));
        self.network.clone()
    }
}

impl Port for SimPort {
    fn max_frame(&self) -> usize {
        self.max_frame
    }

    fn rx_capacity(&self) -> usize {
        self.rx.packets.len()
    }

    fn rx_headroom(&self) -> usize {
        self.rx.free.len()
    }

    fn tx_headroom(&self) -> usize {
        self.tx.free.len()
    }

    fn alloc(&mut self, space: usize) -> Option<TxPacket> {
        let space = space.min(self.frame);
        let Some(first) = self.tx.insert(vec![0; space]) else {
            self.counters.tx_exhausted += 1;
            return None;
        };
        Some(TxPacket { port: self.id, first, last: first, len: space as u32 })
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        packet.port.check(self.id);
        let n = bytes.len().min(self.max_frame - packet.len());
        if let Some(held) = &mut self.tx.packets[packet.first as usize] {
            held.extend_from_slice(&bytes[..n]);
        }
        packet.len += n as u32;
        n
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        packet.port.check(self.id);
        let bytes = self.tx.packets[packet.first as usize].as_mut()?;
        let n = bytes.len().min(self.frame);
        Some(&mut bytes[..n])
    }

    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>> {
        packet.port.check(self.id);
        Some(self.tx.get(packet.first).chunks(self.frame).collect())
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        packet.port.check(self.id);
        let frame = self.tx.get(packet.first).to_vec();
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += frame.len() as u64;
        self.network.send(frame);
        true
    }

    fn free(&mut self, packet: TxPacket) {
        packet.port.check(self.id);
        self.tx.remove(packet.first);
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        for _ in 0..64 {
            let Some(bytes) = self.network.lock().inboxes[self.place].pop_front() else {
                break;
            };
            let len = bytes.len() as u32;
            let Some(first) = self.rx.insert(bytes) else {
                self.counters.rx_no_frame += 1;
                continue;
            };
            self.counters.rx_packets += 1;
            self.counters.rx_bytes += u64::from(len);
            batch.push(RxPacket { port: self.id, first, len });
        }
        Ok(())
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        packet.port.check(self.id);
        self.rx.get(packet.first).chunks(self.frame).collect()
    }

    fn recycle(&mut self, packet: RxPacket) {
        packet.port.check(self.id);
        self.rx.remove(packet.first);
    }

    fn readable(&self) -> Descriptors<'_> {
        Descriptors::new()
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn rings(&mut self) -> Rings {
        // Packets wait in the switch, and take a frame when they are looked at.
        let (frames, free) = (self.rx.packets.len(), self.rx.free.len());
        let receive = ReceiveRings { frames, ring: frames, fill: free, kept: frames - free, ..ReceiveRings::default() };
        let (frames, free) = (self.tx.packets.len(), self.tx.free.len());
        let send = SendRings { frames, ring: frames, free, kept: frames - free, ..SendRings::default() };
        Rings { receive: vec![receive], send }
    }
}
