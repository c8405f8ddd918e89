//! What idle links cost: memory, and the time of a busy one.
//!
//! No network and no second process, but the engines that a node has, on the simulated network, with the clock of the wall as
//! its own: keepalives are due when they would be.
//!
//! ```text
//!   hub ◄── 64-byte puts, back and forth ──► busy peer        timed
//!    ├── idle link ── peer 1
//!    ├── idle link ── peer 2                                   have their turn between two round trips, untimed
//!    └── ...
//! ```
//!
//! Time of a round trip is what the hub's and the busy peer's engines and ports take, plus the network between them. Each idle
//! peer has imported the hub's buffer and has once put something into it. While the busy link rests nobody is timed, so what has
//! become due at the hub meanwhile is done in the next round trip. What a link holds at the hub is what is
//! freed with the hub's engine, less what is freed with one that has no idle links.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vmmc::engine::{Config, Engine, ExportOptions, Send};
use vmmc::link::LinkState;
use vmmc::memory::Arena;
use vmmc::port::Port;
use vmmc::port::sim::{Conditions, Network, SimPort};
use vmmc::time::Time;
use vmmc::{DEFAULT_PORT, EngineError, Key, link};
use vmmc_histogram::Durations;

use crate::peers::PeerError;
use crate::spec::{Outcome, Spec};

/// Counts what this process allocates and frees.
#[global_allocator]
static HEAP: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const BUFFER: &str = "buffer";

/// How often the idle peers have their turn.
const TURN: Duration = Duration::from_millis(1);

/// How long opening a link, or a put, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What each idle peer puts into the hub's buffer before it falls silent, bytes: so much that its link has been at work.
const FIRST_PUT: usize = 1 << 16;

/// A node without a thread.
struct Host {
    engine: Engine,
    port: SimPort,
    address: SocketAddr,
    export: u32,
    // Exported buffers live in it.
    _arena: Arena,
}

struct World {
    network: Network,
    start: Instant,
}

impl World {
    fn new() -> World {
        let at_once = Conditions { delay: Duration::ZERO, ..Conditions::default() };
        World { network: Network::new(1, at_once), start: Instant::now() }
    }

    /// The present, on the network too.
    fn now(&self) -> Time {
        let now = Time::ZERO + self.start.elapsed();
        self.network.advance(now);
        now
    }

    fn host(&self, number: u16) -> Result<Host, PeerError> {
        let [high, low] = number.to_be_bytes();
        let mac = [2, 0, 0, 0, high, low];
        let address = SocketAddr::new(Ipv4Addr::new(10, 0, high, low).into(), DEFAULT_PORT);
        let link = link::Config { credit: 512, ..link::Config::default() };
        let config =
            Config { local: address, mac, vlan: None, link, max_peers: 4096, max_exports: 16, max_imports: 4096 };
        let mut random = fastrand::Rng::with_seed(u64::from(number) + 1);
        let mut engine = Engine::new(config, Box::new(move || random.u64(..)));
        // Larger than its one export, for it keeps some room to itself.
        let arena = Arena::new(2 * FIRST_PUT)?;
        let options = ExportOptions {
            name: BUFFER.into(),
            key: Key::PUBLIC,
            peers: Vec::new(),
            only: None,
            notify: true,
            readable: false,
            writable: true,
            queue: 64,
        };
        let export = engine.export(options, arena.alloc(FIRST_PUT)?)?;
        Ok(Host { engine, port: self.network.attach(mac), address, export, _arena: arena })
    }

    /// Lets a host work on what has arrived and on what is due.
    fn turn(&self, host: &mut Host, batch: &mut Vec<vmmc::port::RxPacket>) -> Result<(), PeerError> {
        let now = self.now();
        host.port.receive(batch)?;
        for packet in batch.drain(..) {
            host.engine.receive(now, &mut host.port, packet);
        }
        host.engine.tick(now, &mut host.port);
        Ok(())
    }

    /// Lets two hosts work until `done` has something.
    fn until<T>(
        &self,
        what: &str,
        hosts: [&mut Host; 2],
        mut done: impl FnMut(&mut Host, Time) -> Result<Option<T>, EngineError>,
    ) -> Result<T, PeerError> {
        let [first, second] = hosts;
        let (start, mut batch) = (Instant::now(), Vec::new());
        loop {
            if let Some(value) = done(first, self.now())? {
                return Ok(value);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("waited {} s for {what} in vain", PATIENCE.as_secs()).into());
            }
            self.turn(first, &mut batch)?;
            self.turn(second, &mut batch)?;
        }
    }

    /// Opens a link from one host to another, imports the other's buffer, and puts something into it.
    fn join(&self, from: &mut Host, to: &mut Host, length: usize) -> Result<u32, PeerError> {
        let mac = mac_of(to);
        from.engine.connect(self.now(), to.address, mac)?;
        let import = from.engine.import(to.address, BUFFER, Key::PUBLIC)?;
        self.until("an import", [from, to], |from, _| from.engine.imported(import))?;
        let bytes = vec![7; length];
        let mut send = Send::new(&bytes, 0);
        let ticket = self.until("room for a put", [from, to], |from, now| {
            from.engine.send(now, &mut from.port, import, &mut send)
        })?;
        self.until("a put", [from, to], |from, _| from.engine.is_delivered(&ticket).map(|done| done.then_some(())))?;
        Ok(import)
    }
}

/// Host N has the address 10.0.N and a MAC address made of the same numbers.
fn mac_of(host: &Host) -> [u8; 6] {
    match host.address.ip() {
        std::net::IpAddr::V4(ip) => [2, 0, 0, 0, ip.octets()[2], ip.octets()[3]],
        std::net::IpAddr::V6(_) => [0; 6],
    }
}

/// Measures round trips beside `spec.count` idle links, and what each of these holds.
pub(crate) fn measure(spec: &Spec) -> Result<Outcome, PeerError> {
    let alone = heap_of_hub(0)?;
    let heap = match spec.count {
        0 => None,
        count => Some((heap_of_hub(count)? as f64 - alone as f64) / count as f64),
    };
    Ok(Outcome::Links { trips: round_trips(spec)?, heap })
}

/// A hub with a link to a busy peer and this many idle ones.
struct Hub {
    world: World,
    hub: Host,
    busy: Host,
    /// The hub's import of the busy peer's buffer, and the other way round.
    imports: (u32, u32),
    idle: Vec<Host>,
}

impl Hub {
    fn new(links: u64) -> Result<Hub, PeerError> {
        let world = World::new();
        let (mut hub, mut busy) = (world.host(1)?, world.host(2)?);
        let imports = (world.join(&mut hub, &mut busy, 1)?, world.join(&mut busy, &mut hub, 1)?);
        let mut idle = Vec::new();
        for number in 0..links {
            let mut peer = world.host(u16::try_from(number + 3)?)?;
            world.join(&mut peer, &mut hub, FIRST_PUT)?;
            idle.push(peer);
        }
        Ok(Hub { world, hub, busy, imports, idle })
    }

    /// Lets the idle peers do what they have to.
    fn idle_turn(&mut self, batch: &mut Vec<vmmc::port::RxPacket>) -> Result<(), PeerError> {
        self.idle.iter_mut().try_for_each(|peer| self.world.turn(peer, batch))
    }
}

/// Bytes of heap that the engine of a hub with this many idle links holds.
fn heap_of_hub(links: u64) -> Result<usize, PeerError> {
    let mut hub = Hub::new(links)?;
    // Until the last acknowledgements are through.
    let (start, mut batch) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_millis(50) {
        hub.world.turn(&mut hub.hub, &mut batch)?;
        hub.world.turn(&mut hub.busy, &mut batch)?;
        hub.idle_turn(&mut batch)?;
    }
    let open = hub.hub.engine.peers().filter(|peer| peer.state == LinkState::Open).count() as u64;
    if open != links + 1 {
        return Err(format!("{open} links are open, and {} should be", links + 1).into());
    }
    let region = Region::new(HEAP);
    drop(hub.hub.engine);
    Ok(region.change().bytes_deallocated)
}

fn round_trips(spec: &Spec) -> Result<Vec<(u64, u64)>, PeerError> {
    let mut hub = Hub::new(spec.count)?;
    let (mut times, message, mut batch) = (Durations::new(), vec![7; spec.size], Vec::new());
    let mut turn_at = Instant::now();
    for trip in 0..spec.warmup_samples() + spec.samples {
        let begin_at = Instant::now() + Duration::from_micros(spec.pause);
        loop {
            if Instant::now() >= turn_at {
                hub.idle_turn(&mut batch)?;
                turn_at = Instant::now() + TURN;
            }
            if Instant::now() >= begin_at {
                break;
            }
        }
        let start = Instant::now();
        let Hub { world, hub, busy, imports, .. } = &mut hub;
        one_way(world, hub, busy, imports.0, &message, &mut batch)?;
        one_way(world, busy, hub, imports.1, &message, &mut batch)?;
        let nanos = start.elapsed().as_nanos() as u64;
        if trip >= spec.warmup_samples() {
            times.record_nanos(nanos);
        }
    }
    if hub.hub.engine.peers().filter(|peer| peer.state == LinkState::Open).count() as u64 != spec.count + 1 {
        return Err("some idle links did not survive the measurement".into());
    }
    Ok(times.counts())
}

/// A put with notification, until it has been announced.
fn one_way(
    world: &World,
    from: &mut Host,
    to: &mut Host,
    import: u32,
    message: &[u8],
    batch: &mut Vec<vmmc::port::RxPacket>,
) -> Result<(), PeerError> {
    let mut send = Send::new(message, 0);
    send.notify = Some(1);
    let (begun, mut turns) = (world.now(), 0u32);
    let mut sent = false;
    loop {
        if !sent {
            sent = from.engine.send(world.now(), &mut from.port, import, &mut send)?.is_some();
        }
        world.turn(to, batch)?;
        if to.engine.take_notification(to.export).is_some() {
            return Ok(());
        }
        world.turn(from, batch)?;
        turns += 1;
        if turns.is_multiple_of(1 << 10) && world.now().since(begun) > PATIENCE {
            return Err(format!("waited {} s for a notification in vain", PATIENCE.as_secs()).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_go_on_beside_idle_links() {
        // The heap is the whole process's, and other tests use it: this one is made in a process of its own.
        const ALONE: &str = "VMMC_BENCH_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.args(["--exact", "links::tests::round_trips_go_on_beside_idle_links"]).env(ALONE, "1");
            let output = alone.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let spec = |count| Spec { count, size: 64, samples: 100, ..Spec::default() };
        let Outcome::Links { trips, heap: None } = measure(&spec(0)).unwrap() else { panic!("no links, no heap") };
        assert_eq!(trips.iter().map(|t| t.1).sum::<u64>(), 100);
        let Outcome::Links { trips, heap: Some(heap) } = measure(&spec(5)).unwrap() else {
            panic!("links hold memory")
        };
        assert_eq!(trips.iter().map(|t| t.1).sum::<u64>(), 100);
        // A link has counters and tables: it can't be less.
        assert!(heap > 200.0, "{heap}");
    }
}
