//! Settings of a stack.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use vmmc::{HugePages, Node, Progress};

use super::{SESSION_LEN, Stack};
use crate::error::from_node;

/// How much address space the arena takes: rings for so many peers. Memory is taken as it is written.
const PEERS: usize = 64;

/// The memory that is pinned for the bulk lane, bytes.
const BULK_ARENA: usize = 32 << 20;

/// Describes a stack: [`Stack::builder`].
#[derive(Clone, Debug)]
pub struct StackBuilder {
    node: vmmc::Builder,
    pub(super) settings: Settings,
}

/// What a stack can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The longest anybody spins.
    pub spin: Option<Duration>,
    /// How long to try to connect where no timeout is given.
    pub connect_timeout: Duration,
    /// The longest ring, bytes.
    pub ring: usize,
    /// The most connections that wait to be accepted.
    pub backlog: usize,
    /// The shortest buffer that is sent from where it lies, bytes.
    pub bulk_owned: usize,
    /// The shortest write that is copied to be sent by the bulk lane, bytes.
    pub bulk_writes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            spin: None,
            connect_timeout: Duration::from_secs(10),
            ring: 4 << 20,
            backlog: 1024,
            bulk_owned: 1 << 20,
            bulk_writes: usize::MAX,
        }
    }
}

impl StackBuilder {
    pub(super) fn new() -> StackBuilder {
        let node = Node::builder().arena(PEERS * (SESSION_LEN + 8192)).huge_pages(HugePages::Never);
        let node = node.bulk_arena(BULK_ARENA, HugePages::WhenFree);
        StackBuilder { node, settings: Settings::default() }
    }

    /// The network interface, by name. Required.
    pub fn interface(mut self, name: &str) -> StackBuilder {
        self.node = self.node.interface(name);
        self
    }

    /// The stack's IP address, one of the interface's. Default: its first IPv4 address, else its first IPv6 address.
    pub fn address(mut self, address: IpAddr) -> StackBuilder {
        self.node = self.node.address(address);
        self
    }

    /// The UDP port that carries everything between two nodes, 1 to 65535; the same on all hosts that are to reach each other. Default:
    /// [`vmmc::DEFAULT_PORT`]. It has nothing to do with the ports of listeners and streams.
    pub fn port(mut self, udp_port: u16) -> StackBuilder {
        self.node = self.node.port(udp_port);
        self
    }

    /// How long calls that wait spin before they sleep: `Duration::ZERO` never spins, `Duration::MAX` never sleeps. Default: it
    /// adapts, stream by stream, up to 50 us, to whether that has paid lately.
    pub fn spin(mut self, most: Duration) -> StackBuilder {
        self.settings.spin = Some(most);
        self
    }

    /// How long to try to connect where the call has no timeout. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> StackBuilder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long a peer's node may be silent before its streams are reset. Default: 5 s.
    pub fn peer_timeout(mut self, timeout: Duration) -> StackBuilder {
        self.node = self.node.peer_timeout(timeout);
        self
    }

    /// The longest that a stream's ring may become, bytes: 4 KiB to 4 MiB, a power of two. Default: 4 MiB.
    pub fn largest_ring(mut self, bytes: usize) -> StackBuilder {
        self.settings.ring = bytes;
        self
    }

    /// The most connections that wait to be accepted by one listener, 1 or more; others are held off until some are. Default: 1024.
    pub fn backlog(mut self, connections: usize) -> StackBuilder {
        self.settings.backlog = connections.max(1);
        self
    }

    /// How much memory is pinned for the bulk lane, bytes, where there is one: what the program takes for [`VmmcStream::write_owned`](crate::VmmcStream::write_owned) by
    /// [`Node::alloc_direct`], 8 MiB for each peer that sends so, and up to 4 MiB for [long writes](StackBuilder::bulk_writes). When it is used up streams do without the lane.
    /// Default: 32 MiB.
    pub fn bulk_memory(mut self, bytes: usize) -> StackBuilder {
        self.node = self.node.bulk_arena(bytes, HugePages::WhenFree);
        self
    }

    /// The shortest buffer that [`VmmcStream::write_owned`](crate::VmmcStream::write_owned) sends from where it lies, by the bulk lane, bytes, 64 KiB at the least; it has to be long enough for
    /// [the node](vmmc::Builder::bulk_threshold), too. Default: 1 MiB, because shorter ones are no slower as packets, where that was measured.
    pub fn bulk_owned(mut self, bytes: usize) -> StackBuilder {
        self.settings.bulk_owned = bytes;
        self
    }

    /// The shortest [`write`](std::io::Write::write) that goes by the bulk lane, bytes, 64 KiB at the least: it is copied once, to memory that can be sent from. Default:
    /// `usize::MAX`, none, because packets, into which it is copied otherwise, are no slower. Owned buffers aren't copied, and this isn't about them.
    pub fn bulk_writes(mut self, bytes: usize) -> StackBuilder {
        self.settings.bulk_writes = bytes;
        self
    }

    /// Changes the settings of the node below, for what isn't here.
    pub fn node(mut self, change: impl FnOnce(vmmc::Builder) -> vmmc::Builder) -> StackBuilder {
        self.node = change(self.node);
        self
    }

    /// Opens the interface, and the stack on it. Takes the privileges of [`vmmc::Lane::open`].
    ///
    /// # Errors
    /// When a setting can't be, or the interface can't be opened.
    pub fn open(self) -> io::Result<Stack> {
        let settings = self.settings;
        let node = self.node.progress(Progress::Caller).open().map_err(from_node)?;
        Stack::start(node, settings)
    }

    /// Opens the stack on a wire that is open already, as [`vmmc::Builder::open_on`].
    ///
    /// # Errors
    /// When a setting can't be.
    pub fn open_on(self, lane: vmmc::Lane) -> io::Result<Stack> {
        let settings = self.settings;
        let node = self.node.progress(Progress::Caller).open_on(lane).map_err(from_node)?;
        Stack::start(node, settings)
    }
}

impl Settings {
    pub(super) fn check(&self) -> io::Result<()> {
        let most = crate::proto::layout::MAX_RING as usize;
        if !self.ring.is_power_of_two() || !(4096..=most).contains(&self.ring) {
            let text =
                format!("the largest ring is {} bytes, and may be a power of two from 4096 to {most}", self.ring);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }
}
