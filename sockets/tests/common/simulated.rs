//! Hosts on a simulated network: nodes, in one process, that don't know that no interface is there.
//!
//! A [`Wire`] is a port of the network that nodes can sleep on: whoever sends through it delivers at once and wakes the others. Only what
//! takes a detour is delivered by a thread, which sleeps while nothing is under way.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use vmmc::memory::Arena;
use vmmc::node::Resolve;
use vmmc::port::bulk::BulkPort;
use vmmc::port::bulk::sim::{SimBulk, SimBulkConfig, SimBulkControl};
use vmmc::port::sim::{Conditions, Network, SimPort};
use vmmc::port::{Descriptors, Layer, Port, RxPacket, TxPacket};
use vmmc::time::Time;
use vmmc::{DEFAULT_PORT, Error, Lane};

/// A network that loses, repeats, reorders and damages.
pub const BAD: Conditions = Conditions {
    loss: 0.01,
    duplication: 0.005,
    corruption: 0.002,
    reordering: 0.01,
    detour: Duration::from_micros(200),
    ..PERFECT
};

/// A network on which nothing takes any time.
pub const PERFECT: Conditions = Conditions {
    loss: 0.0,
    duplication: 0.0,
    corruption: 0.0,
    reordering: 0.0,
    detour: Duration::ZERO,
    delay: Duration::ZERO,
    max_frame: 1518,
    rate: None,
    queue: None,
    mark: None,
};

/// What a bulk lane reads and writes, bytes.
const BULK_ARENA: usize = 32 << 20;

/// A simulated network that runs by the system's clock until it is dropped.
pub struct Hosts {
    switch: Arc<Switch>,
}

struct Switch {
    network: Network,
    start: Instant,
    /// To be woken when a packet may have come.
    sleepers: Mutex<Vec<Arc<OwnedFd>>>,
    /// Hosts whose interfaces have gone.
    gone: Mutex<Vec<u8>>,
    /// Of the bulk lanes of hosts.
    controls: Mutex<HashMap<u8, SimBulkControl>>,
    /// Whether packets are under way that the thread must deliver, or all is over.
    detours: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Hosts {
    /// A network without hosts. The seed decides what becomes of packets on a bad one.
    pub fn new(seed: u64, conditions: Conditions) -> Hosts {
        let switch = Arc::new(Switch {
            network: Network::new(seed, conditions),
            start: Instant::now(),
            sleepers: Mutex::default(),
            gone: Mutex::default(),
            controls: Mutex::default(),
            detours: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&switch);
        std::thread::spawn(move || deliver(&weak));
        Hosts { switch }
    }

    /// The address of host `n`.
    pub fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// The node's address of host `n`.
    pub fn node_address(n: u8) -> SocketAddr {
        SocketAddr::new(Hosts::address(n), DEFAULT_PORT)
    }

    /// The wire of host `n`. One that has the host already gets nothing any more, as if it had been killed.
    pub fn lane(&self, n: u8) -> Lane {
        self.wire(n, None)
    }

    /// Likewise, with a bulk lane.
    pub fn lane_with_bulk(&self, n: u8) -> Lane {
        self.wire(n, Some(Arena::new(BULK_ARENA).expect("memory for a bulk lane")))
    }

    /// To make things go wrong on the bulk lane of host `n` with.
    pub fn control(&self, n: u8) -> SimBulkControl {
        self.switch.controls.lock().unwrap().get(&n).expect("a host with a bulk lane").clone()
    }

    fn wire(&self, n: u8, arena: Option<Arena>) -> Lane {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd"));
        self.switch.sleepers.lock().unwrap().push(wake.clone());
        let port = self.switch.network.attach(mac(n));
        let config = SimBulkConfig::new(Hosts::node_address(n));
        let bulk = arena.as_ref().map(|arena| SimBulk::new(&port, arena, config));
        if let Some(bulk) = &bulk {
            self.switch.controls.lock().unwrap().insert(n, bulk.control());
        }
        let port = Wire { port, bulk, switch: self.switch.clone(), wake, sent: false, host: n };
        Lane {
            port: Box::new(port),
            address: Hosts::address(n),
            udp_port: DEFAULT_PORT,
            interface: None,
            mac: mac(n),
            vlan: None,
            mtu: 1500,
            resolver: Box::new(LastByte),
            steering: None,
            binding: None,
            arena,
            no_bulk: None,
        }
    }

    /// Takes the interface of host `n` away: whatever uses it fails.
    pub fn take_away(&self, n: u8) {
        self.switch.gone.lock().unwrap().push(n);
        self.switch.advance();
    }

    /// Changes what happens to packets from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.switch.network.set_conditions(conditions);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.switch.detours.lock().unwrap().1 = true;
        self.switch.changed.notify_all();
    }
}

fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

/// Host n has the address 10.0.0.n.
struct LastByte;

impl Resolve for LastByte {
    fn resolve(&mut self, peer: IpAddr, _: Duration) -> Result<[u8; 6], Error> {
        match peer {
            IpAddr::V4(peer) => Ok(mac(peer.octets()[3])),
            IpAddr::V6(_) => Ok(mac(0)),
        }
    }
}

impl Switch {
    fn advance(&self) {
        self.network.advance(Time::from_nanos(self.start.elapsed().as_nanos() as u64));
        for sleeper in self.sleepers.lock().unwrap().iter() {
            ring(sleeper);
        }
    }
}

fn ring(eventfd: &OwnedFd) {
    // It can only fail when the counter is full, and then it is readable anyway.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// Delivers what was on a detour.
fn deliver(switch: &Weak<Switch>) {
    while let Some(switch) = switch.upgrade() {
        let mut state = switch.detours.lock().unwrap();
        while !state.0 && !state.1 {
            state = switch.changed.wait(state).unwrap();
        }
        if state.1 {
            return;
        }
        state.0 = false;
        drop(state);
        while switch.network.next_arrival().is_some() {
            std::thread::sleep(Duration::from_micros(50));
            switch.advance();
        }
    }
}

/// A port of the network that can be slept on.
struct Wire {
    port: SimPort,
    bulk: Option<SimBulk>,
    switch: Arc<Switch>,
    wake: Arc<OwnedFd>,
    sent: bool,
    host: u8,
}

impl Layer for Wire {
    fn inner(&self) -> &dyn Port {
        &self.port
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut self.port
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        self.sent = true;
        self.port.submit(packet)
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        self.bulk.as_mut().map(|bulk| bulk as &mut dyn BulkPort)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(bulk) = &mut self.bulk {
            let before = bulk.counters().wakeups;
            bulk.flush()?;
            self.sent |= bulk.counters().wakeups > before;
        }
        if std::mem::take(&mut self.sent) {
            self.switch.advance();
            if self.switch.network.next_arrival().is_some() {
                self.switch.detours.lock().unwrap().0 = true;
                self.switch.changed.notify_all();
            }
        }
        self.port.flush()
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        // Before the look: what comes after it rings again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        if self.switch.gone.lock().unwrap().contains(&self.host) {
            return Err(rustix::io::Errno::NETDOWN.into());
        }
        let before = batch.len();
        self.port.receive(batch)?;
        if batch.len() - before >= 64 {
            ring(&self.wake);
        }
        Ok(())
    }

    fn readable(&self) -> Descriptors<'_> {
        std::iter::once(self.wake.as_fd()).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.switch.sleepers.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &self.wake));
    }
}
