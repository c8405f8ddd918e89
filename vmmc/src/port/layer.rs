//! Ports that stand before another one.
//!
//! A [`Layer`] hands everything on to the port inside it, but for what it does itself: it says what is inside, and overrides
//! methods of that name. Every layer is a [`Port`].

use std::io;

use super::bulk::BulkPort;
use super::{Descriptors, Port, PortCounters, Rings, RxPacket, TxPacket};
use crate::wire::Fragments;

/// A port made of another one. Each method does what that of the same name of [`Port`] does, by default with the port inside.
#[allow(missing_docs)] // See `Port`.
pub trait Layer: Send {
    /// The port inside.
    fn inner(&self) -> &dyn Port;

    /// The port inside.
    fn inner_mut(&mut self) -> &mut dyn Port;

    fn submit(&mut self, packet: &TxPacket) -> bool {
        self.inner_mut().submit(packet)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner_mut().flush()
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        self.inner_mut().receive(batch)
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        self.inner().fragments(packet)
    }

    fn recycle(&mut self, packet: RxPacket) {
        self.inner_mut().recycle(packet);
    }

    fn readable(&self) -> Descriptors<'_> {
        self.inner().readable()
    }

    fn counters(&self) -> PortCounters {
        self.inner().counters()
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        self.inner_mut().bulk()
    }

    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        self.inner().bulk_ref()
    }
}

impl<L: Layer> Port for L {
    fn max_frame(&self) -> usize {
        self.inner().max_frame()
    }

    fn rx_capacity(&self) -> usize {
        self.inner().rx_capacity()
    }

    fn rx_headroom(&self) -> usize {
        self.inner().rx_headroom()
    }

    fn tx_headroom(&self) -> usize {
        self.inner().tx_headroom()
    }

    fn alloc(&mut self, space: usize) -> Option<TxPacket> {
        self.inner_mut().alloc(space)
    }

    fn append(&mut self, packet: &mut TxPacket, bytes: &[u8]) -> usize {
        self.inner_mut().append(packet, bytes)
    }

    fn head(&mut self, packet: &TxPacket) -> Option<&mut [u8]> {
        self.inner_mut().head(packet)
    }

    fn contents(&self, packet: &TxPacket) -> Option<Fragments<'_>> {
        self.inner().contents(packet)
    }

    fn submit(&mut self, packet: &TxPacket) -> bool {
        Layer::submit(self, packet)
    }

    fn free(&mut self, packet: TxPacket) {
        self.inner_mut().free(packet);
    }

    fn flush(&mut self) -> io::Result<()> {
        Layer::flush(self)
    }

    fn receive(&mut self, batch: &mut Vec<RxPacket>) -> io::Result<()> {
        Layer::receive(self, batch)
    }

    fn fragments(&self, packet: &RxPacket) -> Fragments<'_> {
        Layer::fragments(self, packet)
    }

    fn recycle(&mut self, packet: RxPacket) {
        Layer::recycle(self, packet);
    }

    fn readable(&self) -> Descriptors<'_> {
        Layer::readable(self)
    }

    fn counters(&self) -> PortCounters {
        Layer::counters(self)
    }

    fn rings(&mut self) -> Rings {
        self.inner_mut().rings()
    }

    fn bulk(&mut self) -> Option<&mut dyn BulkPort> {
        Layer::bulk(self)
    }

    fn bulk_ref(&self) -> Option<&dyn BulkPort> {
        Layer::bulk_ref(self)
    }
}
