//! The gate once more, in Rust and from its description: what the program in C is compared with.

use std::{collections::BTreeMap, net::IpAddr};

use xdp_prog::gate::{Entry, MIN_SEGMENT, Run};

use crate::oracle::Bulk;

/// A lane on the queue where all frames arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) posted: u64,
    pub(crate) used: u64,
    pub(crate) strip: bool,
    pub(crate) runs: BTreeMap<usize, Run>,
    pub(crate) log: BTreeMap<u64, Entry>,
}

impl Model {
    /// The verdict on a packet, and what is left of its frame if that is another than it was.
    pub(crate) fn meet<'frame>(&mut self, packet: &Bulk<'frame>) -> (&'static str, Option<&'frame [u8]>) {
        let place = self.used;
        let current = self.runs.values().find(|run| run.places.contains(&place));
        let Some(run) = current.filter(|_| place < self.posted) else { return ("bulk_no_place", None) };
        let mapped = |ip| match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let same_source =
            mapped(packet.source.ip()) == mapped(run.source.ip()) && packet.source.port() == run.source.port();
        if !same_source || packet.token != run.token || packet.grant != run.grant {
            return ("bulk_stale", None);
        }
        if packet.payload.len() != run.segment as usize || self.strip && run.segment < MIN_SEGMENT {
            return ("bulk_length", None);
        }
        let Bulk { grant, segment, checksum, flags, .. } = *packet;
        self.log.insert(place, Entry { grant, segment, checksum, flags });
        self.used += 1;
        ("bulk_admitted", self.strip.then_some(packet.payload))
    }
}
