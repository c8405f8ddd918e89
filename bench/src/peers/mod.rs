//! Peers: the things that are measured. Each is one file that knows how to open both ends of a connection and to
//! play ping-pong and stream over it; the harness gives all of them the same hosts, cores, sizes and rounds.
//! To add one, write its file and enter it in [`PEERS`].

mod floor;
mod meters;
mod offloads;
mod sockets;
mod streams;
mod tcp;
mod ucx;
mod vmmc;
mod watcher;

use std::env;
use std::time::{Duration, Instant};

pub(crate) use self::meters::{Meter, RoundTrips, SendMeter, processor_time, thread_time};
use crate::spec::{Bench, Outcome, Side, Spec};
use crate::worker::Session;

/// Every peer, in the order in which a round measures and a table shows them.
pub(crate) static PEERS: &[&dyn Peer] = &[
    &floor::Floor,
    &floor::Gather,
    &vmmc::Vmmc { name: "vmmc", ..vmmc::USUAL },
    &vmmc::Vmmc { name: "vmmc-eager", bulk: false, ..vmmc::USUAL },
    &vmmc::Vmmc { name: "vmmc-block", naps: true, ..vmmc::USUAL },
    &vmmc::Vmmc { name: "vmmc-eager-block", naps: true, bulk: false, ..vmmc::USUAL },
    &vmmc::Vmmc { name: "vmmc-watched", watched: true, ..vmmc::USUAL },
    &vmmc::Vmmc { name: "vmmc-nocrc", checksum: false, ..vmmc::USUAL },
    &sockets::USUAL,
    &sockets::Sockets { name: "sockets-eager", bulk: false, ..sockets::USUAL },
    &sockets::Sockets { name: "sockets-owned", owned: true, ..sockets::USUAL },
    &sockets::Sockets { name: "sockets-block", blocks: true, ..sockets::USUAL },
    &tcp::Tcp { blocks: false, offloads: true },
    &tcp::Tcp { blocks: false, offloads: false },
    &tcp::Tcp { blocks: true, offloads: true },
    &tcp::Tcp { blocks: true, offloads: false },
    &ucx::Ucx { api: ucx::Api::Tag },
    &ucx::Ucx { api: ucx::Api::Put },
];

/// Size of the smallest messages for which the bulk lane is, bytes, as far as measuring goes. Smaller ones are copied, whatever they are sent from.
pub(crate) const BULKY: usize = 16 << 10;

/// Why a side of a measurement could not be played. It travels to the parent as text.
pub(crate) type PeerError = Box<dyn std::error::Error + Send + Sync>;

/// Something whose latency and bandwidth can be measured between two hosts.
///
/// Each call closes what it has opened before it returns, and so does dropping what [`open`](Peer::open) returns, because
/// the next peer may need the interface for itself. The server calls [`Session::ready`] once, and ends when
/// [`Session::stopped`] says so or the client is evidently done.
pub(crate) trait Peer: Sync {
    /// Name in reports and on the command line.
    fn name(&self) -> &'static str;

    /// Whether this peer can be measured by `bench`.
    fn measures(&self, bench: Bench) -> bool;

    /// Size of the smallest messages of which it is measured, bytes: below it does what another does.
    fn least_size(&self) -> usize {
        0
    }

    /// The program that measures it, and the package that it comes in, where that isn't this one.
    fn needs(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Whether it is measured only when it is asked for by name.
    fn is_extra(&self) -> bool {
        false
    }

    /// What has to be installed before it can be measured on this machine, as a sentence that says how.
    fn missing(&self) -> Option<String> {
        let (program, package) = self.needs()?;
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::split_paths(&path).any(|directory| directory.join(program).is_file());
        (!installed).then(|| format!("{program} isn't installed: apt-get install {package}"))
    }

    /// Why this spec is not one for this peer, though its bench is.
    fn refuses(&self, _: &Spec) -> Option<String> {
        None
    }

    /// One end of a connection over which `specs` will be measured, in any order and any number of times. The server must be ready
    /// when this returns.
    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError>;

    /// One side of an incast of messages of `spec.size` bytes: `spec.count` clients, which begin at the same moment (see
    /// [`Session::start_together`]) and each send for `spec.duration()`, some messages ahead; one server. A client returns
    /// what got through, and how long each message took (see [`SendMeter`]). Everybody sleeps who has nothing to do.
    fn incast(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// Round trips on a link beside `spec.count` idle ones, in one process.
    fn links(&self, spec: &Spec) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of a link that is up and idle for `spec.duration()`: returns the processor time that took.
    fn idle(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of `spec.count` connections that are idle: returns what they hold in memory.
    fn idle_streams(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of a bench about [memory](crate::spec::Bench::is_about_memory).
    fn memory(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// One side of a [soak](crate::soak).
    fn soak(&self, _: Side, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        self.cannot(spec)
    }

    /// That this peer can't be measured so. [`Peer::measures`] says so beforehand.
    fn cannot(&self, spec: &Spec) -> Result<Outcome, PeerError> {
        Err(format!("{} has no {}", self.name(), spec.bench).into())
    }
}

/// One end of an open connection. Opening one takes longer than a measurement, so it serves several.
pub(crate) trait End {
    /// Called now and then while nothing is measured: by the server often, while the client's end is being opened. Does what keeps the connection
    /// alive where nobody else does it. Never blocks.
    fn tend(&mut self) -> Result<(), PeerError> {
        Ok(())
    }

    /// Called at the server before each measurement, which the client begins afterwards.
    fn prepare(&mut self, _: &Spec, _: &Session) -> Result<(), PeerError> {
        Ok(())
    }

    /// One side of a ping-pong of `spec.size` bytes each way; the client returns half of each round trip (see
    /// [`RoundTrips`]).
    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError>;

    /// One side of a stream of messages of `spec.size` bytes for `spec.duration()`; usually the server
    /// counts what arrives (see [`Meter`]). With [`Bench::BwCopy`] the payload is copied at both ends.
    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError>;

    /// One side of requests and answers of `spec.size` bytes over `spec.count` connections for `spec.duration()`; the client says how many
    /// there were and how long each took. With [`Bench::RrPlain`] over one connection, by calls that wait.
    fn requests(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        Err(format!("this peer has no {}", spec.bench).into())
    }

    /// One side of connections that are opened and closed for `spec.duration()`, `spec.count` at a time; the client says how
    /// many there were and how long each took.
    fn connects(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        Err(format!("this peer has no {}", spec.bench).into())
    }
}

/// The peer called `name`.
pub(crate) fn find(name: &str) -> Option<&'static dyn Peer> {
    PEERS.iter().copied().find(|p| p.name() == name)
}

/// Payload of the largest packet the floor sends at this MTU, bytes.
pub(crate) fn full_payload(mtu: u32) -> usize {
    floor::full_payload(mtu)
}

/// All names, or those of the peers that can be measured by `bench`: for messages.
pub(crate) fn names(bench: Option<Bench>) -> String {
    let able = PEERS.iter().filter(|p| bench.is_none_or(|bench| p.measures(bench)));
    able.map(|p| p.name()).collect::<Vec<_>>().join(", ")
}

/// Bounds a wait that spins: an error instead of a hang when what is waited for never comes.
pub(crate) struct Patience {
    what: &'static str,
    spins: u32,
    since: Option<Instant>,
}

impl Patience {
    /// How long anything may take that normally takes microseconds. TCP that loses packets may well take seconds.
    pub(crate) const LIMIT: Duration = Duration::from_secs(10);

    /// Starts waiting for `what`, a noun phrase for the error message.
    #[inline]
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, spins: 0, since: None }
    }

    /// To be called at every turn. Looks at the clock only now and then.
    #[inline]
    pub(crate) fn spin(&mut self) -> Result<(), PeerError> {
        self.spins = self.spins.wrapping_add(1);
        if self.spins.is_multiple_of(1 << 14) { self.look_at_clock() } else { Ok(()) }
    }

    #[cold]
    fn look_at_clock(&mut self) -> Result<(), PeerError> {
        if self.since.get_or_insert_with(Instant::now).elapsed() < Self::LIMIT { Ok(()) } else { Err(self.over()) }
    }

    /// The error, where it is known that the time is over.
    pub(crate) fn over(&self) -> PeerError {
        format!("waited {} s for {} in vain", Self::LIMIT.as_secs(), self.what).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = PEERS.iter().map(|p| p.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
    }
}
