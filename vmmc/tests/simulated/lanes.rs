//! A simulated host's port: the eager lane, and a bulk lane beside it if the host is to have one.

use std::io;

use vmmc::memory::{Arena, Region};
use vmmc::port::bulk::sim::{SimBulk, SimBulkConfig, SimBulkControl};
use vmmc::port::bulk::{BulkCounters, BulkPort};
use vmmc::port::sim::SimPort;
use vmmc::port::{Layer, Port};

use crate::world::address;

pub struct HostPort {
    eager: SimPort,
    bulk: Option<SimBulk>,
    /// Somebody writes here all the time: between a packet's checksum and its sending, too.
    pub written: Option<Region>,
    writes: u8,
}

/// A bulk lane for a host: one that takes headers off, or one that leaves them in front of what has landed.
pub fn lane(host: usize, strip: bool) -> SimBulkConfig {
    SimBulkConfig { strip, ..SimBulkConfig::new(address(host)) }
}

impl HostPort {
    pub fn new(eager: SimPort, arena: &Arena, lane: Option<SimBulkConfig>) -> HostPort {
        let bulk = lane.map(|lane| SimBulk::new(&eager, arena, lane));
        HostPort { eager, bulk, written: None, writes: 0 }
    }

    /// What the bulk lane has counted; nothing, if there is none.
    pub fn bulk_counters(&self) -> BulkCounters {
        self.bulk.as_ref().map(SimBulk::counters).unwrap_or_default()
    }

    /// To make things go wrong on the bulk lane with.
    pub fn control(&self) -> Option<SimBulkControl> {
        self.bulk.as_ref().map(SimBulk::control)
    }
}

impl Layer for HostPort {
    fn inner(&self) -> &dyn Port {
        &self.eager
    }

    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut self.eager
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(region) = &self.written {
            self.writes = self.writes.wrapping_add(1);
            region.fill(self.writes).map_err(io::Error::other)?;
        }
        self.bulk.as_mut().map_or(Ok(()), SimBulk::flush).and(self.eager.flush())
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        self.bulk.as_mut().map(|bulk| bulk as &mut dyn BulkPort)
    }

    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        self.bulk.as_ref().map(|bulk| bulk as &dyn BulkPort)
    }
}
