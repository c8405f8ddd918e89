//! What has landed, as captures want to see it: with headers.
//!
//! These are gone, or lie where other bytes belong. But whatever they said that matters is known: the gate has compared them with the run before it let the packet in,
//! and noted the rest in its log. So they are built again, as the peer would build them. What can't be known is how far the packet has come and what a switch has marked in it.

use super::BulkLane;
use crate::engine::peer::Peer;
use crate::engine::place_of;
use crate::port::bulk::BulkPort;
use crate::wire::frame::MAX_ENCAP_LEN;
use crate::wire::{BULK_HEADER_LEN, BulkHeader};

impl BulkLane {
    /// Shows what has been received and not been looked at.
    pub(super) fn show(&self, peers: &[Option<Box<Peer>>], bulk: &mut dyn BulkPort) {
        for landing in &self.batch {
            let here = |granted: &&super::granted::Granted| granted.incoming.position_of(landing.place).is_some();
            let Some(granted) = self.open.iter().find(here) else { continue };
            let Some(at) = granted.incoming.position_of(landing.place).map(|position| granted.at(position)) else {
                continue;
            };
            let run = &granted.run;
            let peer = peers.get(place_of(run.token)).and_then(Option::as_deref);
            let Some(Ok(encap)) = peer.map(|peer| peer.link.path().back_on_bulk().encap()) else { continue };
            let header = BulkHeader { token: run.token, grant: landing.grant, segment: landing.segment };
            let mut bytes = [0; MAX_ENCAP_LEN + BULK_HEADER_LEN];
            let (head, length) = (encap.len() + BULK_HEADER_LEN, run.segment as usize);
            encap.write(&mut bytes, BULK_HEADER_LEN + length);
            bytes[encap.len()..head].copy_from_slice(&header.emit_with(landing.checksum));
            bulk.show(&bytes[..head], &granted.target, at, length);
        }
    }
}
