//! What one measurement is and what comes out of it: the vocabulary that the commands, the parent
//! process, the workers and the peers share. Everything here travels between processes as JSON.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmmc::port::fault::Faults;

/// Memory, in bytes, that a copying stream walks through on either side. Larger than a core's own caches,
/// so that a copy costs what it costs a program that has other things to do.
pub(crate) const WORKING_SET: usize = 16 << 20;

/// What is measured. The name is what the report's `bench` column says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bench {
    /// One-way latency: half of each round trip of a ping-pong.
    #[default]
    Lat,
    /// Payload of a one-way stream, counted where it arrives, in whatever way is cheapest for the peer.
    Bw,
    /// The same, with the payload copied from ordinary memory at the sender and to it at the receiver.
    BwCopy,
    /// Messages per second of a one-way stream.
    Rate,
    /// Bandwidth of a one-way stream of which [`Spec::faults`] drops packets.
    Loss,
    /// Requests and answers over [`Spec::count`] connections at once, each side one thread that waits for all of them.
    Rr,
    /// The same over one connection, by calls that wait for it alone.
    RrPlain,
    /// Connections that are opened, used for a byte, and closed, [`Spec::count`] at a time.
    Connect,
    /// Memory of [`Spec::count`] connections that are open and idle.
    IdleStreams,
    /// Several senders, [`Spec::count`] of them, into one receiver, everybody sleeping when there is nothing to do.
    Incast,
    /// Round trips on one link of an engine that has [`Spec::count`] idle links too, and what those cost in memory.
    Links,
    /// Processor time of two nodes that have nothing to do.
    Idle,
    /// Messages of all sizes on a bad network, every byte of them checked.
    Soak,
    /// Streams from each kind of memory that can be sent from.
    Source,
    /// Data that gets into the receiver's own memory, by a copy or by a redirect.
    Deliver,
    /// Round trips of a write that is waited for, and of a read.
    Access,
    /// What translating, pinning and copying pages cost.
    Utlb,
}

/// Which hosts a bench needs, and how they are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// No network: one process.
    Alone,
    /// Two hosts, the ends of one veth pair.
    Pair,
    /// This many hosts on a bridge.
    Bridge(usize),
}

impl Bench {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bench::Lat => "lat",
            Bench::Bw => "bw",
            Bench::BwCopy => "bw-copy",
            Bench::Rate => "rate",
            Bench::Loss => "loss",
            Bench::Rr => "rr",
            Bench::RrPlain => "rr-plain",
            Bench::Connect => "connect",
            Bench::IdleStreams => "idle-streams",
            Bench::Incast => "incast",
            Bench::Links => "links",
            Bench::Idle => "idle",
            Bench::Soak => "soak",
            Bench::Source => "source",
            Bench::Deliver => "deliver",
            Bench::Access => "access",
            Bench::Utlb => "utlb",
        }
    }

    /// What a person reads above a table of this bench.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Bench::Lat => "one-way latency (us)",
            Bench::Bw => "bandwidth (Gbit/s of payload)",
            Bench::BwCopy => "bandwidth, payload copied in and out (Gbit/s of payload)",
            Bench::Rate => "message rate (packets/s)",
            Bench::Loss => "goodput of a stream that loses packets (Gbit/s), and how much that is of the lossless",
            Bench::Rr => "requests and answers: per second, latency (us), processor time of both sides for each (us)",
            Bench::RrPlain => "the same on one connection, by calls that wait",
            Bench::Connect => {
                "connections opened and closed: per second, time (us), processor time of both sides for each (us)"
            }
            Bench::IdleStreams => "memory of an idle connection (bytes)",
            Bench::Incast => "incast: goodput (Gbit/s), Jain's index of fairness, put latency (us)",
            Bench::Links => "round trip (us) beside idle links, and memory of an idle link (bytes)",
            Bench::Idle => "processor time of idle nodes (% of a core)",
            Bench::Soak => "soak",
            Bench::Source => "streams by the memory they are sent from (Gbit/s)",
            Bench::Deliver => "into the receiver's own memory (Gbit/s), and its processor time (ns per KiB)",
            Bench::Access => "round trips (us)",
            Bench::Utlb => "pages (ns)",
        }
    }

    /// Whether it is about the memory at either end, and of VMMC alone.
    pub(crate) fn is_about_memory(self) -> bool {
        matches!(self, Bench::Source | Bench::Deliver | Bench::Access | Bench::Utlb)
    }

    /// Whether it is about byte streams, and of nobody who has none.
    pub(crate) fn is_about_streams(self) -> bool {
        matches!(self, Bench::Rr | Bench::RrPlain | Bench::Connect | Bench::IdleStreams)
    }

    /// Whether it is measured over a connection that serves other measurements too.
    pub(crate) fn shares_connection(self) -> bool {
        matches!(
            self,
            Bench::Lat | Bench::Bw | Bench::BwCopy | Bench::Rate | Bench::Rr | Bench::RrPlain | Bench::Connect
        )
    }

    /// Whether its connection is opened before it begins, and closed when it is over.
    pub(crate) fn has_ends(self) -> bool {
        self.shares_connection() || self == Bench::Loss
    }

    /// Whether it counts what a process holds, so that processes have to be new: what they had before and gave up may still be theirs.
    pub(crate) fn wants_new_processes(self) -> bool {
        self == Bench::IdleStreams
    }

    /// Whether it takes seconds, however short a time it is given, and its figures hardly differ from round to round.
    pub(crate) fn is_slow(self) -> bool {
        self == Bench::IdleStreams
    }

    /// Whether each process keeps to a core of its own. Those that sleep are the scheduler's business.
    pub(crate) fn pins(self) -> bool {
        !matches!(self, Bench::Incast | Bench::Idle | Bench::IdleStreams | Bench::Soak)
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One measurement, but for the peer that is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// What is measured.
    pub(crate) bench: Bench,
    /// MTU of the interfaces, bytes.
    pub(crate) mtu: u32,
    /// Whether the interfaces have a single queue, so that no node has a bulk lane, and not two.
    pub(crate) one_queue: bool,
    /// The smallest sends that take the bulk lane, bytes, unless it is what nodes usually do.
    pub(crate) bulk_from: Option<usize>,
    /// Payload of one message, bytes.
    pub(crate) size: usize,
    /// Latency: how many round trips count, unless the time is over before.
    pub(crate) samples: u64,
    /// How long the sender of a stream sends, and how long round trips are made at most, milliseconds. The first tenth does
    /// not count.
    pub(crate) millis: u64,
    /// How many: connections, senders of an incast, idle links, receivers of a soak that are killed.
    pub(crate) count: u64,
    /// Idle links: how long the busy one rests before each round trip, microseconds.
    pub(crate) pause: u64,
    /// A soak: how many bytes are to be verified.
    pub(crate) bytes: u64,
    /// What the network does to packets, in both directions.
    #[serde(with = "as_text")]
    pub(crate) faults: Faults,
}

impl Spec {
    /// Where it is measured.
    pub(crate) fn topology(&self) -> Topology {
        match self.bench {
            Bench::Links | Bench::Utlb => Topology::Alone,
            Bench::Lat | Bench::Bw | Bench::BwCopy | Bench::Rate | Bench::Idle => Topology::Pair,
            Bench::Rr | Bench::RrPlain | Bench::Connect | Bench::IdleStreams => Topology::Pair,
            Bench::Source | Bench::Deliver | Bench::Access => Topology::Pair,
            Bench::Loss | Bench::Soak => Topology::Bridge(2),
            Bench::Incast => Topology::Bridge(self.count as usize + 1),
        }
    }

    /// Round trips made before the first one that counts, unless [`warmup`](Self::warmup) is over before.
    pub(crate) fn warmup_samples(&self) -> u64 {
        (self.samples / 10).max(200)
    }

    /// How long a stream's sender sends, or a ping-pong goes on at most.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// How long a stream or a ping-pong runs before it counts.
    pub(crate) fn warmup(&self) -> Duration {
        self.duration() / 10
    }
}

/// Faults travel in the form in which users write them.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use vmmc::port::fault::Faults;

    pub(super) fn serialize<S: Serializer>(faults: &Faults, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(faults)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Faults, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Which end of a measurement a worker plays. The server is ready before the client starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// Answers pings; receives streams.
    Server,
    /// Sends pings and times them; sends streams.
    Client,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Server => "server",
            Side::Client => "client",
        })
    }
}

/// Where one host's traffic goes in and out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// Name of the interface inside the host's namespace.
    pub(crate) interface: String,
    /// Its IPv4 address.
    pub(crate) address: Ipv4Addr,
    /// Its MAC address.
    pub(crate) mac: [u8; 6],
}

/// What one side of a measurement has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The other side has the figures.
    Nothing,
    /// Nanoseconds one way.
    Latency(Counts),
    /// The median of nanoseconds one way, where that is all there is to know.
    Median { nanos: f64 },
    /// A stream of which nothing arrived after the warm-up, or only for a moment.
    TooShort,
    /// What arrived after the warm-up, and in how long.
    Stream { messages: f64, bytes: u64, nanos: u64 },
    /// What one sender of several got through after the warm-up, in how long, and the latency of each put.
    Sender { bytes: u64, nanos: u64, latency: Counts },
    /// How long each request or connection took that counts, and in how long they were made.
    Requests { latency: Counts, nanos: u64 },
    /// Memory that each of many connections holds, bytes: of this process anonymous and in files, of the kernel and in buffers for both sides.
    Held { process: f64, arena: f64, slab: Option<f64>, buffers: Option<f64> },
    /// Another outcome, the processor time that this process used for it, in nanoseconds, and for how many round trips, bytes or
    /// requests both sides used theirs; 0 where the other side knows.
    Used { outcome: Box<Outcome>, cpu: u64, work: u64 },
    /// Another outcome, and of how many bytes this side sent or received, and how many of them it copied in user space.
    Copied { outcome: Box<Outcome>, copied: u64, bytes: u64 },
    /// Processor time that was used, and in how long.
    Idle { cpu: u64, nanos: u64 },
    /// Round trips of the busy link, and bytes of heap that each idle link holds.
    Links { trips: Counts, heap: Option<f64> },
    /// What has got into the receiver's own memory after the warm-up, in how long, and what processor time its thread used for that.
    Delivered { bytes: u64, nanos: u64, cpu: u64 },
    /// Nanoseconds that each of several things takes: see [`utlb::FIGURES`](crate::utlb::FIGURES).
    Times(Vec<f64>),
    /// Of several cases, one after another.
    Several(Vec<(String, Outcome)>),
    /// One side's account of a soak.
    Soak(Box<SoakSide>),
}

impl Outcome {
    /// This, and that it took so much processor time. What was too short remains nothing but that.
    pub(crate) fn used(self, cpu: Duration, work: u64) -> Outcome {
        match self {
            Outcome::TooShort => self,
            outcome => Outcome::Used { outcome: Box::new(outcome), cpu: cpu.as_nanos() as u64, work },
        }
    }

    /// This, and that so many of those bytes were copied. What was too short remains nothing but that.
    pub(crate) fn copied(self, copied: u64, bytes: u64) -> Outcome {
        match self {
            Outcome::TooShort => self,
            outcome => Outcome::Copied { outcome: Box::new(outcome), copied, bytes },
        }
    }

    /// What was found, whatever it took.
    pub(crate) fn found(&self) -> &Outcome {
        self.layers().last().unwrap_or(self)
    }

    /// This, what it is said about, and what that is said about.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Outcome> {
        std::iter::successors(Some(self), |outcome| match outcome {
            Outcome::Used { outcome, .. } | Outcome::Copied { outcome, .. } => Some(&**outcome),
            _ => None,
        })
    }
}

/// Durations as (nanoseconds, how many samples), from `Durations::counts`.
pub(crate) type Counts = Vec<(u64, u64)>;

/// What one side of a soak has counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SoakSide {
    /// Bytes that were verified, in how many messages, and in how long.
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) nanos: u64,
    /// How often the other side was lost and found again.
    pub(crate) restarts: u64,
    /// From a put to its acknowledgement.
    pub(crate) latency: Counts,
    /// Packets sent, and sent again.
    pub(crate) packets: u64,
    pub(crate) retransmitted: u64,
    pub(crate) timeouts: u64,
    /// What this side's own port did to what it sent.
    pub(crate) reordered: u64,
    pub(crate) duplicated: u64,
    /// Packets that came twice, and that came damaged.
    pub(crate) refused: u64,
    pub(crate) damaged: u64,
    /// Bytes that it sent by the bulk lane, segments of them that were asked for again, transfers that were declined.
    pub(crate) bulk: u64,
    pub(crate) asked_again: u64,
    pub(crate) declined: u64,
    /// How often its own lane was opened anew.
    pub(crate) reopened: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_the_journey() {
        for text in ["drop=1%,dup=0.1%,reorder=1%,delay=100us,corrupt=0.1%,seed=7", "seed=1"] {
            let before = Spec { faults: text.parse().unwrap(), ..Spec::default() };
            let json = serde_json::to_string(&before).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), before);
        }
        assert!(serde_json::from_str::<Spec>(r#"{"faults": "rain"}"#).is_err());
    }
}
