//! VMMC's stream sockets (vmmc-sockets): what a program has that uses its `VmmcStream` where it used std's `TcpStream`. Both sides spin,
//! or both may sleep when there is nothing to do.
//!
//! Each measurement has a connection of its own, as TCP's has; the stacks stay open, and so does the link between them.
//!
//! `sockets-eager` has no bulk lane, and `sockets-owned` makes the most of it: see [`owned`]. Plain writes take it with `--bulk-from`.

use super::streams::stack::OnStack;
use super::streams::{self, StreamEnd, idle, owned};
use super::{BULKY, End, Peer, PeerError};
use crate::spec::{Bench, Outcome, Side, Spec};
use crate::worker::Session;

/// The peer, in one of its forms.
#[derive(Clone, Copy)]
pub(crate) struct Sockets {
    pub(crate) name: &'static str,
    /// Whether it may sleep.
    pub(crate) blocks: bool,
    /// Whether it may take the bulk lane.
    pub(crate) bulk: bool,
    /// Whether programs write from buffers that they give away, and read where it lies what has come.
    pub(crate) owned: bool,
}

/// As programs use it that never sleep.
pub(crate) const USUAL: Sockets = Sockets { name: "sockets", blocks: false, bulk: true, owned: false };

impl Peer for Sockets {
    fn name(&self) -> &'static str {
        self.name
    }

    fn least_size(&self) -> usize {
        if self.owned || !self.bulk { BULKY } else { 0 }
    }

    /// A stream copies as TCP does, so [`Bench::Bw`] says all there is to say.
    fn measures(&self, bench: Bench) -> bool {
        match bench {
            Bench::Bw => true,
            _ if self.owned => false,
            Bench::Lat => true,
            _ if !self.bulk => false,
            Bench::Rate | Bench::Rr | Bench::RrPlain | Bench::Connect => true,
            Bench::IdleStreams => self.blocks,
            _ => false,
        }
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        streams::refuses(spec, self.blocks)
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        if self.owned {
            let buffers = specs.iter().map(owned::buffers).max().unwrap_or(0);
            let stack = OnStack::open(&specs[0], session, self.blocks, self.bulk, buffers)?;
            return Ok(Box::new(owned::OwnedEnd::open(stack, side, session)?));
        }
        let stack = OnStack::open(&specs[0], session, self.blocks, self.bulk, 0)?;
        Ok(Box::new(StreamEnd::open(stack, side, specs, session)?))
    }

    fn idle_streams(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        idle::measure(&OnStack::open(spec, session, self.blocks, self.bulk, 0)?, side, spec, session)
    }
}
