//! Settings of a node.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::progress::{Core, Shared};
use super::unheard::Unheard;
use super::{Bulk, DEFAULT_PORT, Identity, Lane, Node, find_thresholds};
use crate::engine::{self, Engine, LEAST_THRESHOLD, Thresholds};
use crate::error::Error;
use crate::link;
use crate::memory::{Arena, HugePages, MemoryError, Paging, utlb};
use crate::port::bulk;
use crate::port::fault::{FaultPort, Faults, Way};
use crate::time::Clock;
use crate::wire::Options;

/// Who lets the engine work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// The calls of this library, while they run: the lowest latency. A program that makes none for longer than its peers'
    /// peer timeout is taken for dead; [`Node::progress`] prevents that.
    #[default]
    Caller,
    /// A thread of the node's own, on `core` if one is given: one-sided means one-sided, whatever the program does
    /// meanwhile. It spins, and sleeps when nothing happens for as long as [`Builder::spin`] says.
    Thread {
        /// The core to run on, as the operating system numbers them.
        core: Option<usize>,
    },
}

/// Describes a node: [`Node::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    interface: Option<String>,
    address: Option<IpAddr>,
    port: u16,
    queue: Option<u32>,
    mtu: Option<usize>,
    arena: usize,
    bulk_arena: Option<(usize, HugePages)>,
    bulk: Bulk,
    bulk_threshold: Option<usize>,
    bulk_mtu: Option<usize>,
    bulk_table: Option<PathBuf>,
    huge_pages: HugePages,
    utlb: utlb::Config,
    pub(super) progress: Progress,
    spin: Duration,
    max_peers: usize,
    window: u16,
    target_delay: Duration,
    checksum: bool,
    connect_timeout: Duration,
    peer_timeout: Duration,
    faults: Option<Faults>,
    pub(super) monitor: bool,
    #[cfg(feature = "metrics")]
    pub(super) metrics: Option<SocketAddr>,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            interface: None,
            address: None,
            port: DEFAULT_PORT,
            queue: None,
            mtu: None,
            arena: 64 << 20,
            bulk_arena: None,
            bulk: Bulk::WhenPossible,
            bulk_threshold: None,
            bulk_mtu: None,
            bulk_table: None,
            huge_pages: HugePages::WhenFree,
            utlb: utlb::Config::default(),
            progress: Progress::Caller,
            spin: Duration::from_micros(50),
            max_peers: 1024,
            window: 1024,
            target_delay: link::TARGET_DELAY,
            checksum: true,
            connect_timeout: Duration::from_secs(2),
            peer_timeout: Duration::from_secs(5),
            faults: None,
            monitor: true,
            #[cfg(feature = "metrics")]
            metrics: None,
        }
    }

    /// The network interface, by name: an Ethernet port, or a VLAN (802.1Q) on one, such as `eth0.5`. Required.
    pub fn interface(mut self, name: &str) -> Builder {
        self.interface = Some(name.to_owned());
        self
    }

    /// The node's IP address, one of the interface's. Default: its first IPv4 address, else its first IPv6 address.
    pub fn address(mut self, address: IpAddr) -> Builder {
        self.address = Some(address);
        self
    }

    /// The node's UDP port, 1 to 65535. Default: [`DEFAULT_PORT`].
    pub fn port(mut self, port: u16) -> Builder {
        self.port = port;
        self
    }

    /// Use only this queue of the interface. Default: all of them, because which one a packet arrives on is for the NIC to
    /// decide; restrict a node to one only where the NIC is configured to steer its packets there.
    pub fn queue(mut self, queue: u32) -> Builder {
        self.queue = Some(queue);
        self
    }

    /// The largest IP packet to send, bytes: 1280 to the interface's MTU, which is the default.
    pub fn mtu(mut self, mtu: usize) -> Builder {
        self.mtu = Some(mtu);
        self
    }

    /// Length of the arena, bytes, rounded up to whole pages: exports and buffers are made of it, each with 256 bytes of guard in front
    /// ([`Arena::footprint`] tells what one takes). Default: 64 MiB. Memory is used as it is touched, unless it is in huge
    /// pages.
    pub fn arena(mut self, bytes: usize) -> Builder {
        self.arena = bytes;
        self
    }

    /// Whether the node has a bulk lane. Default: [`Bulk::WhenPossible`]. All of the arena is pinned then: its memory is used from the start. [`Stats::bulk`](super::Stats) tells whether
    /// there is one.
    pub fn bulk(mut self, bulk: Bulk) -> Builder {
        self.bulk = bulk;
        self
    }

    /// A second arena, of so many bytes, for the bulk lane alone: only this one is pinned, and the other may be as large and as sparse as it likes. What is to be sent or to land without a copy
    /// is then taken from it, by [`Node::alloc_direct`] and [`ExportBuilder::direct`](super::ExportBuilder::direct). There is none where there is no lane. Default: the node has one
    /// arena, and the lane reads and writes that.
    pub fn bulk_arena(mut self, bytes: usize, huge: HugePages) -> Builder {
        self.bulk_arena = Some((bytes, huge));
        self
    }

    /// The file that says from which size on a send takes the bulk lane, by MTU, in the form of [`Thresholds`]; `vmmc-bench thresholds` measures what is best, and writes it. It is read
    /// when the node opens. Default: the one that the environment variable [`VMMC_THRESHOLDS`](super::THRESHOLDS_ENV) names, or else [`/etc/vmmc/thresholds`](super::THRESHOLDS_FILE), or else, where there is none, the
    /// [library's own table](Thresholds::default).
    pub fn bulk_table(mut self, path: impl Into<PathBuf>) -> Builder {
        self.bulk_table = Some(path.into());
        self
    }

    /// The shortest send that takes the bulk lane, bytes, [`LEAST_THRESHOLD`](engine::LEAST_THRESHOLD) or more: a shorter one is over before the receiver has said where it may land. With this no
    /// [table](Builder::bulk_table) is read. Default: as the table says; 64 KiB if only [`Builder::bulk_mtu`] is called.
    pub fn bulk_threshold(mut self, bytes: usize) -> Builder {
        self.bulk_threshold = Some(bytes);
        self
    }

    /// The smallest MTU at which sends take the bulk lane, bytes. Where the NIC reads and writes memory by itself, 4000 is right. With this no [table](Builder::bulk_table) is read. Default: as
    /// the table says; 8000 if only [`Builder::bulk_threshold`] is called.
    pub fn bulk_mtu(mut self, bytes: usize) -> Builder {
        self.bulk_mtu = Some(bytes);
        self
    }

    /// Whether the arena is in huge pages. Default: [`HugePages::WhenFree`]. With [`Bulk::RequireZeroCopy`] it is, or the node doesn't open. [`Stats::arena_page_bytes`](super::Stats) tells whether it is.
    pub fn huge_pages(mut self, huge: HugePages) -> Builder {
        self.huge_pages = huge;
        self
    }

    /// How sends from paged buffers ([`Node::map`]) are translated: how much of the arena they may take, which pages go when it is used up, and when
    /// pages are pinned at all. Default: half of the arena, LRU, the ski-rental rule, nothing ahead.
    pub fn utlb(mut self, config: utlb::Config) -> Builder {
        self.utlb = config;
        self
    }

    /// Who lets the engine work. Default: [`Progress::Caller`].
    pub fn progress(mut self, progress: Progress) -> Builder {
        self.progress = progress;
        self
    }

    /// How long calls that wait, and the engine's thread, spin before they sleep. Default: 50 us. `Duration::MAX` never sleeps.
    pub fn spin(mut self, spin: Duration) -> Builder {
        self.spin = spin;
        self
    }

    /// The most peers, 1 to 32768. Default: 1024.
    pub fn max_peers(mut self, peers: usize) -> Builder {
        self.max_peers = peers;
        self
    }

    /// The most packets under way to a peer without acknowledgement, 16 to 4096. Default: 1024. How many there are is for
    /// congestion control to find; this bounds the memory they take.
    pub fn window(mut self, packets: u16) -> Builder {
        self.window = packets;
        self
    }

    /// The delay that congestion control aims at, 10 us to 1 s: a round trip, with the time packets wait in queues. Default: 200 us.
    /// On a path whose shortest round trip is more than twice as long, it is what may be added to that. On one that is longer, but
    /// not twice as long, it must be set higher: such a path can't be told from a queue, and little is sent over it.
    pub fn target_delay(mut self, delay: Duration) -> Builder {
        self.target_delay = delay;
        self
    }

    /// Whether packets carry a CRC32C of all their bytes. Default: true. A peer that wants it gets it anyway, and so does a node whose bulk lane is in zero-copy mode, which needs it.
    pub fn checksum(mut self, checksum: bool) -> Builder {
        self.checksum = checksum;
        self
    }

    /// How long [`Node::import`] waits for a peer's answer. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// How long a peer may be silent before it counts as dead and everything pending with it fails. Default: 5 s.
    pub fn peer_timeout(mut self, timeout: Duration) -> Builder {
        self.peer_timeout = timeout;
        self
    }

    /// Makes faults in what the node sends, receives, or both: to see how a program does on a bad network. Default: none.
    pub fn faults(mut self, faults: Faults) -> Builder {
        self.faults = Some(faults);
        self
    }

    /// Whether `vmmc stats` and `vmmc top` can see the node, by a Unix socket that a thread of the node's own serves: see
    /// [`monitor`](crate::monitor). Default: true. Where the socket can't be made, a warning says so, and the node does without.
    pub fn monitor(mut self, monitor: bool) -> Builder {
        self.monitor = monitor;
        self
    }

    /// Serves metrics for Prometheus over HTTP, at `http://ADDRESS/metrics`, by a thread of the node's own; port 0 lets the system choose one, which
    /// [`Node::metrics_address`] tells. Whoever reaches the address may read them. Default: none are served.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, address: SocketAddr) -> Builder {
        self.metrics = Some(address);
        self
    }

    /// Opens the node. Needs the privileges of [`Lane::open`].
    ///
    /// # Errors
    /// When a setting can't be, or the interface can't be opened.
    pub fn open(self) -> Result<Node, Error> {
        self.check()?;
        let Some(interface) = &self.interface else {
            return Err(Error::Config("a node needs an interface: Node::builder().interface(\"eth0\")".to_owned()));
        };
        if self.arena == 0 || self.bulk_arena.is_some_and(|(bytes, _)| bytes == 0) {
            return Err(MemoryError::BadLength { len: 0 }.into());
        }
        // What a lane takes for itself doesn't come out of what was asked for.
        let own = if self.bulk == Bulk::Never { 0 } else { Arena::footprint(bulk::OWN) };
        let (bytes, huge_pages) = self.bulk_arena.unwrap_or((self.arena, self.huge_pages));
        let huge_pages = match self.bulk {
            // Without them it can't be, and how many there have to be is told best here.
            Bulk::RequireZeroCopy => HugePages::Require,
            _ => huge_pages,
        };
        let arena = Arena::with(bytes.saturating_add(own), huge_pages)?;
        let bulk = Some((self.bulk, &arena));
        let lane = Lane::open(interface, self.queue, self.address, self.port, self.mtu, bulk)?;
        self.open_on(lane)
    }

    /// Opens the node on a wire that is open already: one that another process has opened, or a simulated one. The settings
    /// of interface, address, port, queue and MTU are the lane's. An arena that comes with it is the node's, unless there is to be [one for the bulk lane
    /// alone](Builder::bulk_arena): then it is that one.
    ///
    /// # Errors
    /// When a setting can't be.
    pub fn open_on(self, mut lane: Lane) -> Result<Node, Error> {
        self.check()?;
        let direct = lane.arena;
        let has_bulk = direct.is_some();
        let arena = match &direct {
            Some(arena) if self.bulk_arena.is_none() => arena.clone(),
            _ => Arena::with(self.arena, self.huge_pages)?,
        };
        let capacity = u16::try_from(lane.port.rx_capacity()).unwrap_or(u16::MAX);
        // Where a NIC writes before anybody has looked, packets leave no room for others, and what has landed is verified before it is believed.
        let whole_buffers = lane.port.bulk().is_some_and(|bulk| bulk.overlap() > 0);
        let options = Options { checksum: self.checksum || whole_buffers, bulk: has_bulk, whole_buffers };
        let config = engine::Config {
            local: SocketAddr::new(lane.address, lane.udp_port),
            mac: lane.mac,
            vlan: lane.vlan,
            link: link::Config {
                mtu: lane.mtu,
                window: self.window,
                target_delay: self.target_delay,
                credit: capacity,
                connect_timeout: self.connect_timeout,
                peer_timeout: self.peer_timeout,
                options,
            },
            max_peers: self.max_peers,
            max_exports: 1 << 16,
            max_imports: 1 << 16,
        };
        let used = if has_bulk { self.thresholds()? } else { Thresholds::NONE };
        // Without the system's random numbers tokens could be guessed; that they fail is unheard of, and tried first.
        getrandom::u64().map_err(|e| Error::System { doing: "drawing random numbers", source: e.into() })?;
        let mut engine = Engine::new(config, Box::new(|| getrandom::u64().unwrap_or_else(|_| rand_fallback())));
        if has_bulk {
            engine.use_bulk_lane(used);
        }
        let port = match self.faults {
            None => lane.port,
            Some(faults) => {
                let what = match faults.on {
                    Way::Send => "sends",
                    Way::Receive => "receives",
                    Way::Both => "sends and receives",
                };
                warn!(target: "vmmc::node", "faults are on, as was asked for: of what this node {what}, {faults}");
                let doing = "creating a timer for delayed packets";
                Box::new(FaultPort::new(lane.port, faults).map_err(|source| Error::System { doing, source })?)
            }
        };
        let core = Core::new(engine, port, Clock::start());
        // Of what was asked for, whatever the lane has taken beside it.
        let utlb = utlb::Config { budget: self.utlb.budget.or(Some(self.arena / 2)), ..self.utlb };
        let drives = self.progress == Progress::Caller;
        let identity = Identity {
            interface: lane.interface,
            vlan: lane.vlan,
            mtu: lane.mtu,
            arena_bytes: arena.len() as u64,
            arena_page_bytes: arena.page_size() as u64,
            paging: Paging::new(arena.clone(), utlb),
            binding: lane.binding,
            no_bulk: lane.no_bulk.map(|reason| reason.to_string()),
            unheard: Unheard::new(lane.steering.as_deref()),
        };
        let (local, progress) = (SocketAddr::new(lane.address, lane.udp_port), self.progress);
        let shared = Arc::new(Shared::new(core, drives, self.spin, lane.resolver, lane.steering, identity)?);
        info!(target: "vmmc::node", %local, mtu = lane.mtu, ?progress, arena = arena.len(), arena_page = arena.page_size(), checksum = self.checksum,
            peer_timeout = ?self.peer_timeout, "node open");
        Node::start(shared, (arena, direct), &self)
    }

    /// Which sends take the bulk lane.
    fn thresholds(&self) -> Result<Thresholds, Error> {
        if self.bulk_threshold.is_some() || self.bulk_mtu.is_some() {
            let (from, mtu) = (self.bulk_threshold.unwrap_or(64 << 10), self.bulk_mtu.unwrap_or(8000));
            return Ok(Thresholds::from(from, mtu));
        }
        let (table, origin) = find_thresholds(self.bulk_table.as_deref())?;
        debug!(target: "vmmc::bulk", %origin, table = %table.to_string().replace('\n', ", "), "thresholds");
        Ok(table)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Config(text));
        if self.port == 0 {
            return wrong("a node can't have UDP port 0: choose 1 to 65535".to_owned());
        }
        if !(1..=32768).contains(&self.max_peers) {
            return wrong(format!("max_peers is {}, and may be 1 to 32768", self.max_peers));
        }
        if !(16..=4096).contains(&self.window) {
            return wrong(format!("the window is {} packets, and may be 16 to 4096", self.window));
        }
        if !(Duration::from_micros(10)..=Duration::from_secs(1)).contains(&self.target_delay) {
            return wrong(format!("the target delay is {:?}, and may be 10 us to 1 s", self.target_delay));
        }
        if let Some(bytes) = self.bulk_threshold.filter(|&bytes| bytes < LEAST_THRESHOLD) {
            return wrong(format!("the bulk lane's threshold is {bytes} bytes, and may be {LEAST_THRESHOLD} or more"));
        }
        if self.peer_timeout < Duration::from_millis(10) {
            return wrong(format!("a peer timeout of {:?} is too short: choose 10 ms or more", self.peer_timeout));
        }
        if let Some(Err(error)) = self.faults.map(|faults| faults.check()) {
            return wrong(error.to_string());
        }
        if let Progress::Thread { core: Some(core) } = self.progress {
            let cores: Vec<usize> =
                core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|c| c.id).collect();
            if !cores.contains(&core) {
                return wrong(format!("core {core} was asked for, and this process may run on the cores {cores:?}"));
            }
        }
        Ok(())
    }
}

/// Random bits from the hash maps' seed, should the system's have failed after they had worked.
fn rand_fallback() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::Instant::now())
}
