//! The bulk lane's sockets, with nothing above them: what is sent lands where it belongs, and nothing else lands anywhere.

mod placement;
mod refused;
mod reopen;

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use vmmc::memory::{Arena, DirectSource, DirectTarget};
use vmmc::port::bulk::{BulkConfig, BulkError, BulkLane, BulkPort, Landing, Run, ZeroCopy};
use vmmc::wire::BulkHeader;
use vmmc::wire::frame::{Encap, Path};
use vmmc_lab::{Host, TempLab};
use xdp_prog::{Steering, Target};

use crate::hosts::lab;

/// The lane's queue: each interface has two.
const QUEUE: u32 = 1;
const PORT: u16 = 7000;
const TOKEN: u64 = 0x1122_3344_5566_7788;
/// Ethernet, IPv6, UDP, and the bulk header.
const HEADERS: usize = 14 + 40 + 8 + 24;

/// A lane, its program, and its arena.
struct End {
    lane: BulkLane,
    steering: Arc<Steering>,
    arena: Arena,
}

fn steering(host: &Host) -> Arc<Steering> {
    let attach = || {
        let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        let (interface, address) = (host.interface.clone(), host.address.into());
        let ifindex = netdevice::name_to_index(any, &interface).unwrap();
        Steering::attach(&Target { interface, ifindex, address, port: PORT, vlan: None }).unwrap()
    };
    Arc::new(host.enter(attach).unwrap())
}

fn open_lane(host: &Host, queue: u32, arena: &Arena, steering: &Arc<Steering>) -> Result<BulkLane, BulkError> {
    let config =
        BulkConfig { interface: host.interface.clone(), queue, headers: HEADERS, zero_copy: ZeroCopy::WhenPossible };
    host.enter(|| BulkLane::open(&config, arena, steering.clone())).unwrap()
}

fn end(lab: &TempLab, host: usize, arena: usize) -> End {
    let arena = Arena::new(arena).unwrap();
    let steering = steering(lab.host(host));
    let lane = open_lane(lab.host(host), QUEUE, &arena, &steering).unwrap();
    End { lane, steering, arena }
}

/// Who sends, who receives, and the way.
struct Pair {
    lab: TempLab,
    from: End,
    to: End,
    encap: Encap,
    mtu: usize,
}

fn address(host: &Host, port: u16) -> SocketAddr {
    (host.address, port).into()
}

/// The way from host 1 to host 2, as from a node with that port.
fn encap(lab: &TempLab, port: u16) -> Encap {
    let (from, to) = (lab.host(1), lab.host(2));
    let (local, remote) = (address(from, port), address(to, PORT + 1));
    Path { local, remote, local_mac: from.mac, next_hop: to.mac, vlan: None }.encap().unwrap()
}

impl Pair {
    fn new(mtu: u32, arena: usize) -> Pair {
        let lab = lab(2, mtu);
        let (from, to) = (end(&lab, 1, arena), end(&lab, 2, arena));
        let encap = encap(&lab, PORT);
        Pair { lab, from, to, encap, mtu: mtu as usize }
    }

    /// The longest payload that there is at this MTU.
    fn segment(&self) -> usize {
        self.encap.payload_room(self.mtu) - 24
    }

    /// Packets of one grant.
    fn run(&self, grant: u32, segment: usize) -> Run {
        Run { token: TOKEN, peer: address(self.lab.host(1), PORT), grant, segment: segment as u32 }
    }

    /// Sends segment number `number` of `run`, bytes `at..` of `source`, and waits until the kernel takes it.
    fn send(&mut self, run: &Run, number: u32, source: &DirectSource, at: usize) {
        let header = BulkHeader { token: run.token, grant: run.grant, segment: number };
        let header = header.emit(None::<fn(&mut dyn FnMut(&[u8]))>);
        while !self.from.lane.submit(&self.encap, &header, source, at, run.segment as usize) {
            self.from.lane.flush().unwrap();
        }
    }

    /// Takes what has landed.
    fn landings(&mut self) -> Vec<Landing> {
        self.from.lane.flush().unwrap();
        let mut batch = Vec::new();
        self.to.lane.receive(&mut batch).unwrap();
        batch
    }

    /// A source that holds `bytes`.
    fn source(&self, bytes: &[u8]) -> DirectSource {
        let mut buffer = self.from.arena.buffer(bytes.len()).unwrap();
        buffer.copy_from_slice(bytes);
        DirectSource::of_buffer(Arc::new(buffer))
    }

    /// A target of `len` bytes, all of which are `value`.
    fn target(&self, len: usize, value: u8) -> DirectTarget {
        let mut buffer = self.to.arena.buffer(len).unwrap();
        buffer.fill(value);
        DirectTarget::of_buffer(buffer)
    }
}
