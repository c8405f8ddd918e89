//! Bulk lanes that stand before another one: as [`Layer`](crate::port::Layer) is for ports.

use std::io;
use std::os::fd::BorrowedFd;

use super::{BulkCounters, BulkPort, Landing, Run};
use crate::memory::{DirectSource, DirectTarget};
use crate::port::BulkRings;
use crate::wire::frame::Encap;

/// A bulk port made of another one. What it does itself it overrides; all else the one inside does. While there is none inside, nothing can be sent or posted.
#[allow(missing_docs)] // See `BulkPort`.
pub trait BulkLayer: Send {
    /// The one inside, if there is one.
    fn lane(&self) -> Option<&dyn BulkPort>;

    /// The one inside, if there is one.
    fn lane_mut(&mut self) -> Option<&mut dyn BulkPort>;

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        self.lane_mut().is_some_and(|lane| lane.submit(encap, header, source, at, len))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lane_mut().map_or(Ok(()), |lane| lane.flush())
    }

    /// Lets go of the sources that it keeps itself: the one inside is about to be reopened.
    fn forget(&mut self) {}

    fn is_watched(&self) -> bool {
        self.lane().is_some_and(|lane| lane.is_watched())
    }

    fn show(&mut self, headers: &[u8], target: &DirectTarget, at: usize, len: usize) {
        if let Some(lane) = self.lane_mut() {
            lane.show(headers, target, at, len);
        }
    }
}

impl<L: BulkLayer> BulkPort for L {
    fn why_copied(&self) -> Option<String> {
        self.lane().map_or_else(|| Some("there is no lane".to_owned()), |lane| lane.why_copied())
    }

    fn overlap(&self) -> usize {
        self.lane().map_or(0, |lane| lane.overlap())
    }

    fn max_segment(&self) -> usize {
        self.lane().map_or(0, |lane| lane.max_segment())
    }

    fn room(&self, segment: usize) -> usize {
        self.lane().map_or(0, |lane| lane.room(segment))
    }

    fn post(&mut self, run: &Run, target: &DirectTarget, at: usize) -> Option<u64> {
        self.lane_mut()?.post(run, target, at)
    }

    fn admit(&mut self) {
        if let Some(lane) = self.lane_mut() {
            lane.admit();
        }
    }

    fn receive(&mut self, batch: &mut Vec<Landing>) -> io::Result<()> {
        self.lane_mut().map_or(Ok(()), |lane| lane.receive(batch))
    }

    fn is_consistent(&mut self) -> bool {
        self.lane_mut().is_some_and(|lane| lane.is_consistent())
    }

    fn distrust(&mut self) {
        if let Some(lane) = self.lane_mut() {
            lane.distrust();
        }
    }

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        BulkLayer::submit(self, encap, header, source, at, len)
    }

    fn reaches(&self, source: &DirectSource) -> bool {
        self.lane().is_some_and(|lane| lane.reaches(source))
    }

    fn tx_room(&self, segment: usize) -> usize {
        self.lane().map_or(0, |lane| lane.tx_room(segment))
    }

    fn flush(&mut self) -> io::Result<()> {
        BulkLayer::flush(self)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.forget();
        self.lane_mut().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |lane| lane.reopen())
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.lane()?.readable()
    }

    fn counters(&self) -> BulkCounters {
        self.lane().map(|lane| lane.counters()).unwrap_or_default()
    }

    fn rings(&self) -> BulkRings {
        self.lane().map(|lane| lane.rings()).unwrap_or_default()
    }

    fn is_watched(&self) -> bool {
        BulkLayer::is_watched(self)
    }

    fn show(&mut self, headers: &[u8], target: &DirectTarget, at: usize, len: usize) {
        BulkLayer::show(self, headers, target, at, len);
    }
}
