//! Hosts on a simulated network: engines stepped with a virtual clock.
//!
//! A failing test prints the seed. The same seed gives the same run.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use vmmc::engine::{
    Config, Engine, EngineError, ExportOptions, Key, Notification, RedirectId, Returned, Send, Thresholds, Ticket,
    Unfetched,
};
use vmmc::link;
use vmmc::memory::{Arena, Loan, Region, Target};
use vmmc::port::bulk::sim::SimBulkConfig;
use vmmc::port::sim::{Conditions, Network};
use vmmc::port::tap::{Tap, Wire};
use vmmc::time::Time;
use vmmc::wire::frame::Path;
use vmmc::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Options, checksum};

use crate::lanes::HostPort;

/// Length of a host's arena, bytes.
const ARENA: usize = 16 << 20;

/// Sends of so many bytes go by the bulk lane, if there is one.
pub const THRESHOLD: usize = 4096;

pub struct Host {
    pub engine: Engine,
    pub port: HostPort,
    /// For captures of what it sends and receives.
    pub tap: Tap,
    pub arena: Arena,
    pub address: SocketAddr,
    pub mac: [u8; 6],
    /// A host that is switched off neither receives nor sends.
    pub on: bool,
    /// A host that shares its core with others looks at its port only so often.
    pub looks_every: Option<Duration>,
    looks_at: Time,
}

/// What the engine needs its port for.
impl Host {
    pub fn fetched(&mut self, fetch: u32) -> Result<Option<Box<dyn Target>>, Unfetched> {
        self.engine.fetched(&mut self.port, fetch)
    }

    pub fn cancel_fetch(&mut self, fetch: u32) -> Option<Box<dyn Target>> {
        self.engine.cancel_fetch(&mut self.port, fetch)
    }

    pub fn take_redirect(&mut self, export: u32, id: RedirectId) -> Option<Returned> {
        self.engine.take_redirect(&mut self.port, export, id)
    }

    pub fn lend(&mut self, export: u32, range: Range<u64>) -> Result<Loan, EngineError> {
        self.engine.lend(&mut self.port, export, range)
    }
}

pub struct World {
    pub network: Network,
    pub hosts: Vec<Host>,
    /// The bulk lanes that hosts have, from when they are booted.
    pub lanes: Vec<Option<SimBulkConfig>>,
    seed: u64,
    link: link::Config,
    lives: u64,
}

pub fn address(host: usize) -> SocketAddr {
    format!("10.0.0.{}:7000", host + 1).parse().unwrap()
}

pub fn link_config() -> link::Config {
    link::Config { credit: 200, window: 128, ..link::Config::default() }
}

impl World {
    pub fn new(hosts: usize, seed: u64, conditions: Conditions) -> World {
        World::with(hosts, seed, conditions, link_config())
    }

    pub fn with(hosts: usize, seed: u64, conditions: Conditions, link: link::Config) -> World {
        World::with_lanes(vec![None; hosts], seed, conditions, link)
    }

    /// As many hosts as there are `lanes`, with these bulk lanes.
    pub fn with_lanes(
        lanes: Vec<Option<SimBulkConfig>>,
        seed: u64,
        conditions: Conditions,
        link: link::Config,
    ) -> World {
        let network = Network::new(seed, conditions);
        let hosts = lanes.len();
        let mut world = World { network, hosts: Vec::new(), lanes, seed, link, lives: 0 };
        for host in 0..hosts {
            let host = world.boot(host, link);
            world.hosts.push(host);
        }
        world
    }

    fn boot(&mut self, number: usize, link: link::Config) -> Host {
        let mac = [2, 0, 0, 0, 0, number as u8 + 1];
        self.lives += 1;
        let mut random = fastrand::Rng::with_seed(self.seed ^ self.lives << 32);
        let local = address(number);
        let arena = Arena::new(ARENA).unwrap();
        let port = HostPort::new(self.network.attach(mac), &arena, self.lanes[number]);
        let config = Config { local, mac, vlan: None, link, max_peers: 200, max_exports: 100, max_imports: 1000 };
        let mut engine = Engine::new(config, Box::new(move || random.u64(..)));
        if self.lanes[number].is_some() {
            engine.use_bulk_lane(Thresholds::from(THRESHOLD, 0));
        }
        Host {
            engine,
            port,
            tap: Tap::default(),
            arena,
            address: address(number),
            mac,
            on: true,
            looks_every: None,
            looks_at: Time::ZERO,
        }
    }

    /// Kills a host and starts it anew, as it was.
    pub fn reboot(&mut self, host: usize) {
        self.restart(host, self.link);
    }

    /// Kills a host and starts it anew.
    pub fn restart(&mut self, host: usize, link: link::Config) {
        self.hosts[host] = self.boot(host, link);
    }

    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// Lets time pass until the next thing happens, and every host work on it.
    pub fn step(&mut self) {
        self.step_seeing(|_, _, _| ());
    }

    /// The same. `seen` is told of each packet that a host's engine has received: which host it is, and who has sent it.
    pub fn step_seeing(&mut self, mut seen: impl FnMut(&mut Engine, usize, usize)) {
        let now = self.now();
        let deadlines = self.hosts.iter().filter(|h| h.on).map(|h| match h.looks_every {
            Some(_) => h.looks_at,
            None => h.engine.deadline(),
        });
        let next = deadlines.chain(self.network.next_arrival()).min().unwrap_or(now);
        let now = next.clamp(now + Duration::from_micros(1), now + Duration::from_secs(3600));
        self.network.advance(now);
        for (number, host) in self.hosts.iter_mut().enumerate().filter(|(_, h)| h.on) {
            if let Some(span) = host.looks_every {
                if now < host.looks_at {
                    continue;
                }
                host.looks_at = now + span;
            }
            let mut wire = Wire::new(&mut host.port, &mut host.tap);
            let port = wire.port();
            // Who takes what has landed looks by that, as a node does. Of a host that looks all the time it isn't said how long nothing came.
            let seldom = host.looks_every.is_some();
            if !(seldom && host.engine.land(|| now, port).unwrap()) {
                host.engine.look(now);
            }
            loop {
                let mut batch = Vec::new();
                port.receive(&mut batch).unwrap();
                if batch.is_empty() {
                    break;
                }
                for packet in batch {
                    // The last byte of the source's Ethernet address.
                    let source = port.fragments(&packet)[0].get(11).map_or(0, |&byte| byte).wrapping_sub(1);
                    host.engine.receive(now, port, packet);
                    seen(&mut host.engine, number, source.into());
                }
            }
            if !seldom {
                host.engine.land(|| now, port).unwrap();
            }
            host.engine.tick(now, port);
            port.flush().unwrap();
        }
    }

    pub fn run(&mut self, span: Duration) {
        let end = self.now() + span;
        while self.now() < end {
            self.step();
        }
    }

    /// Steps until `done`, for ten minutes of virtual time at the most.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut World) -> Option<T>) -> T {
        let end = self.now() + Duration::from_secs(600);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(self.now() < end, "{what} didn't happen (seed {})", self.seed);
            self.step();
        }
    }

    pub fn export(&mut self, host: usize, name: &str, len: usize, queue: usize) -> (u32, Region) {
        self.export_as(host, export_options(name, key(), queue), len)
    }

    /// Exports a buffer of `len` bytes that allows what `options` say.
    pub fn export_as(&mut self, host: usize, options: ExportOptions, len: usize) -> (u32, Region) {
        let region = self.hosts[host].arena.alloc(len).unwrap();
        (self.hosts[host].engine.export(options, region.clone()).unwrap(), region)
    }

    /// Begins an import: connects first.
    pub fn begin_import(&mut self, from: usize, to: usize, name: &str, key: Key) -> Result<u32, EngineError> {
        let (now, target) = (self.now(), self.hosts[to].address);
        let mac = self.hosts[to].mac;
        let engine = &mut self.hosts[from].engine;
        if from != to {
            engine.connect(now, target, mac)?;
        }
        engine.import(target, name, key)
    }

    pub fn import(&mut self, from: usize, to: usize, name: &str) -> Result<u32, EngineError> {
        let id = self.begin_import(from, to, name, key())?;
        self.until("the answer to an import", |w| match w.hosts[from].engine.imported(id) {
            Ok(None) => None,
            Ok(Some(_)) => Some(Ok(id)),
            Err(error) => Some(Err(error)),
        })
    }

    /// Sends all of `data`, stepping as long as there is no room.
    pub fn send(
        &mut self,
        from: usize,
        import: u32,
        data: &[u8],
        offset: u64,
        notify: Option<u32>,
    ) -> Result<Ticket, EngineError> {
        let mut send = Send::new(data, offset);
        send.notify = notify;
        self.submit(from, import, send)
    }

    /// Puts all of a send into packets, stepping as long as there is no room.
    pub fn submit(&mut self, from: usize, import: u32, mut send: Send<'_>) -> Result<Ticket, EngineError> {
        self.until("room for a send", |w| {
            let now = w.now();
            let host = &mut w.hosts[from];
            let mut wire = Wire::new(&mut host.port, &mut host.tap);
            let port = wire.port();
            if send.queued
                && let Some(result) = host.engine.coalesce(port, import, &mut send).transpose()
            {
                return Some(result);
            }
            host.engine.send(now, port, import, &mut send).transpose()
        })
    }

    pub fn delivered(&mut self, from: usize, ticket: Ticket) -> Result<(), EngineError> {
        self.until("a delivery", |w| match w.hosts[from].engine.is_delivered(&ticket) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })
    }

    pub fn notification(&mut self, host: usize, export: u32) -> Notification {
        self.until("a notification", |w| w.hosts[host].engine.take_notification(export))
    }
}

/// A frame to host `to` as a node at `source` would send it, with a right checksum, whoever it is from.
pub fn forge(source: SocketAddr, source_mac: [u8; 6], to: usize, header: Header, body: &[u8]) -> Vec<u8> {
    let path = Path {
        local: source,
        remote: address(to),
        local_mac: source_mac,
        next_hop: [2, 0, 0, 0, 0, to as u8 + 1],
        vlan: None,
    };
    let header = Header { flags: Flags { checked: true, ..header.flags }, ..header };
    let header = Header { checksum: checksum([&header.emit()[CHECKSUM_LEN..], body]), ..header };
    let encap = path.encap().unwrap();
    let mut bytes = vec![0; encap.len()];
    encap.write(&mut bytes, HEADER_LEN + body.len());
    bytes.extend(header.emit());
    bytes.extend(body);
    bytes
}

/// An export that takes notifications and may be written into, and not fetched from.
pub fn export_options(name: &str, key: Key, queue: usize) -> ExportOptions {
    let (name, peers) = (name.to_owned(), Vec::new());
    ExportOptions { name, key, peers, only: None, notify: true, readable: false, writable: true, queue }
}

pub fn key() -> Key {
    Key::new([7; 16])
}

pub fn contents(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region.read(0, &mut bytes).unwrap();
    bytes
}

pub fn options(checksum: bool) -> Options {
    Options { checksum, ..Options::default() }
}

/// A seed of its own for each run, unless VMMC_SEED gives one. Printed, so that a failure can be had again.
pub fn seed() -> u64 {
    let seed = std::env::var("VMMC_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("VMMC_SEED={seed}");
    seed
}
