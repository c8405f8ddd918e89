//! VMMC's stream sockets (vmmc-sockets): what a program has that uses its `VmmcStream` where it used std's `TcpStream`. Both sides spin,
//! or both may sleep when there is nothing to do.
//!
//! Each measurement has a connection of its own, as TCP's has; the stacks stay open, and so does the link between them.

use super::streams::stack::OnStack;
use super::streams::{self, StreamEnd, idle};
use super::{End, Peer, PeerError};
use crate::spec::{Bench, Outcome, Side, Spec};
use crate::worker::Session;

/// The peer: spinning, or allowed to sleep.
#[derive(Clone, Copy)]
pub(crate) struct Sockets {
    pub(crate) blocks: bool,
}

impl Peer for Sockets {
    fn name(&self) -> &'static str {
        if self.blocks { "sockets-block" } else { "sockets" }
    }

    /// A stream copies always, as TCP does, so [`Bench::Bw`] says all there is to say.
    fn measures(&self, bench: Bench) -> bool {
        match bench {
            Bench::Lat | Bench::Bw | Bench::Rate | Bench::Rr | Bench::RrPlain | Bench::Connect => true,
            Bench::IdleStreams => self.blocks,
            _ => false,
        }
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        streams::refuses(spec, self.blocks)
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let stack = OnStack::open(session, self.blocks)?;
        Ok(Box::new(StreamEnd::open(stack, side, specs, session)?))
    }

    fn idle_streams(&self, side: Side, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        idle::measure(&OnStack::open(session, self.blocks)?, side, spec, session)
    }
}
