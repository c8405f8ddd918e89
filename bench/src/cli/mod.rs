//! The command line: the commands, their options, and what these are by default. What follows from them is in `plan`.

mod plan;

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use vmmc::port::fault::Faults;

use crate::amount::{amount, arena_size, bulk_size, percent, size};
use crate::compare::Compare;
use crate::tied::TiedArgs;
use crate::worker::WorkerArgs;

/// Measures VMMC against AF_XDP alone, kernel TCP and UCX, between two network namespaces of its own.
///
/// Each measurement runs between two processes, each in a network namespace and pinned to a core. In each round all peers
/// are open and take turns; values are medians over all turns, and ratios are taken within a turn and the middle half of them averaged. Needs
/// root, two cores, and iproute2.
#[derive(Debug, Parser)]
#[command(name = "vmmc-bench", version, after_long_help = vmmc_cli::LOG_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything compared with everything: latency and bandwidth by size, message rate, requests, connections, at several MTUs.
    ///
    /// AF_XDP alone, and the bulk lane alone (floor, floor-gather), VMMC's put (vmmc) and the same without its bulk lane (vmmc-eager), its stream sockets spinning (sockets) and allowed to sleep
    /// (sockets-block), kernel TCP spinning (tcp) and asleep in the kernel (tcp-block), with offloads as they come and with tso, gso and gro off (-nooff), and UCX over TCP if ucx_perftest is installed: its send with tags (ucx), and its
    /// put (ucx-put). Short rounds for nine minutes, or for 86 seconds with --quick, which leaves out some sizes, a thousand connections,
    /// requests and connections at all MTUs but the first, idle connections, loss, the processor time of VMMC's receivers (vmmc-block, vmmc-eager-block), tcp-block-nooff and ucx-put. Of UCX's latencies there is only the median. See docs/performance.md, and `compare`.
    Versus(Versus),
    /// The ratios of several runs side by side, and their spread: of one program, to see how far chance goes, or of two.
    Compare(Compare),
    /// AF_XDP alone: latency and packet rate at 64 bytes, bandwidth with full packets.
    Floor(#[command(flatten)] Common),
    /// One-way latency: half of each round trip of a ping-pong, both sides spinning.
    Lat(Lat),
    /// Bandwidth of a one-way stream, in payload that arrived.
    Bw(Bw),
    /// Messages per second of a one-way stream.
    Rate(Rate),
    /// Requests and answers over many connections at once: per second, latency, processor time.
    ///
    /// A server and a client, each one thread that waits for all its connections: by epoll over kernel TCP, by its Poller over VMMC's stream
    /// sockets. On each connection the client asks again as soon as it is answered. The peers tcp and sockets never sleep, tcp-block and
    /// sockets-block may; the processor time is that of both sides. rr-plain is one connection without epoll or Poller, by calls that wait.
    Rr(Rr),
    /// Connections opened, used for one byte to and fro, and closed, per second.
    ///
    /// One after another, or by several threads of the client at once; the server accepts one after another.
    Connect(Connect),
    /// What an idle connection holds in memory: of either process, and of the kernel.
    ///
    /// Each has carried one message to and fro before. `process` is anonymous memory of a process, `arena` what its memory files (memfd) take,
    /// `slab` what the kernel's own memory has grown by, of the whole machine and so for both sides, `buffers` what TCP accounts for data on its
    /// way. `memory` is one side's share of all of them but the last. Let nothing else run.
    Idle(Idle),
    /// Bandwidth of a one-way stream that loses packets, beside the lossless.
    ///
    /// Two hosts are joined by a bridge. On each of its ports an XDP program (generic mode) drops packets at random, so data
    /// and acknowledgements are lost alike, between the sender's interface and the receiver's. It is there at 0% too. What it
    /// drops is a packet as it passes there: one of 64 KiB where TCP leaves segmentation to its interface (peer tcp), one of the
    /// MTU's size for all others (tcp-nooff, vmmc). `kept` is what is left of the same peer's lossless goodput in the
    /// same round, `vs tcp` compares at the same loss.
    Loss(Loss),
    /// Several senders at once into one receiver, on a bridge: goodput, fairness, latency of each.
    ///
    /// Each host's process sleeps when it has nothing to do, and the scheduler chooses its core. Every sender keeps 8 messages
    /// under way; the latency of one is the time from its call until it is known to have arrived: by the acknowledgement of a put,
    /// or, over TCP, by a byte that the receiver sends back.
    Incast(Incast),
    /// What idle links cost: memory, latency of a busy link, and processor time.
    ///
    /// Memory and latency are of an engine on a simulated network, in one process; see `--links`. Processor time is of two nodes on a
    /// veth pair, linked, idle, with engine threads that sleep.
    Scale(Scale),
    /// What the memory at either end makes of a transfer, and what pages cost.
    ///
    /// Pages (ns): a look-up in the UTLB that hits, pinning and unpinning a run of 64 beside the bare remapping of as many, a page copied.
    /// Streams from bytes of the heap, from an arena buffer, and from a paged buffer (`vs arena`). Data that the receiver wants in memory
    /// of its own: copied from the default buffer, or redirected; the receiver sleeps for 50 us whenever it has taken all, and its
    /// processor time counts (`vs copy`, `cpu vs copy`). Round trips of 64 bytes: a put that is waited for, and a fetch (`vs put`).
    Memory(Memory),
    /// From which size on the bulk lane pays, by MTU; writes the table that nodes read when they open.
    ///
    /// Streams and single sends of each size, by the bulk lane and by the eager lane in turns, at MTU 1500, 9000 and 65535 unless told otherwise. `streams` and
    /// `single` are how much faster the lane is; the threshold is where their geometric mean begins to pay. `vmmc doctor` shows which thresholds hold on an interface.
    Thresholds(Thresholds),
    /// Sends gigabytes over a bad network, and checks every byte.
    ///
    /// A bridge joins two hosts. An XDP program on its ports loses and damages packets, in both directions; the nodes' own
    /// ports reorder and repeat some. Puts with notification, of 1 byte to 1 MiB, each with other content, arrive in a buffer
    /// whose owner knows what must come, and where. A byte or a notification that is lost, repeated, misplaced or damaged
    /// ends the run with exit status 1.
    Soak(Soak),
    /// Write a script that completes this program's command line in a shell.
    Completions(vmmc_cli::Completions),
    /// Write man pages.
    Man(vmmc_cli::Man),
    #[command(hide = true)]
    Worker(WorkerArgs),
    #[command(hide = true)]
    Tied(TiedArgs),
}

/// Options of every command that measures.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// MTU of the interfaces, 1280 to 65535 bytes; several, separated by commas, are measured one after another [default: 1500,
    /// of versus 1500,9000,65535].
    #[arg(long, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1280..=65535))]
    mtu: Vec<u32>,
    /// Interfaces with a single queue, where nodes have no bulk lane, instead of two.
    #[arg(long)]
    one_queue: bool,
    /// Size of the smallest sends that take the bulk lane, at any MTU, of the peers that have one: bytes, or with a suffix as in 16KiB, 4 KiB at the
    /// least [default: the library's, and not at small MTUs].
    #[arg(long, value_name = "SIZE", value_parser = bulk_size)]
    bulk_from: Option<usize>,
    /// How many rounds, of three turns each with versus --quick and else of one [default: 9, or 3 with --quick and of scale and idle; of versus as often as there is time for].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    rounds: Option<usize>,
    /// Fewer and shorter rounds: a first impression in seconds.
    #[arg(long)]
    quick: bool,
    /// How long each stream runs in each turn, and each latency measurement at most, milliseconds [default: 1000, or 200 with
    /// --quick; of loss 2000 or 1000, of versus 40 or 12, of its streams of large messages 60 or 36, and 120 or 24 for requests and connections]. How long idleness lasts [default: 10000, or
    /// 1000 with --quick]; how long the memory of idle connections may take to keep still [default: 20000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    duration: Option<u64>,
    /// Round trips of each latency measurement in each turn [default: 20000, or 5000 with --quick; of versus as many as there is
    /// time for].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    samples: Option<u64>,
    /// Who is measured, separated by commas: floor, floor-gather, vmmc, vmmc-eager, vmmc-block, vmmc-eager-block, vmmc-watched, vmmc-nocrc, sockets,
    /// sockets-eager, sockets-owned, sockets-block, tcp, tcp-nooff, tcp-block, tcp-block-nooff, ucx, ucx-put [default: all but ucx, ucx-put, vmmc-block, vmmc-eager-block and
    /// vmmc-watched; of versus all but vmmc-nocrc and vmmc-watched].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peers: Vec<String>,
    /// Also write the results to this file, as one flat JSON array.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write the results to this file, as a page for a browser: plots, tables, and what was measured on.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write each latency distribution into this directory, as HdrHistogram text (.hgrm).
    #[arg(long, value_name = "DIR")]
    pub(crate) hgrm: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Versus {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Lat {
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "64", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Bw {
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "1MiB", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Rate {
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "64", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Rr {
    /// How many connections; several, separated by commas.
    #[arg(long, default_value = "1,32,1000", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=16_000))]
    connections: Vec<u64>,
    /// Payload of a request, and of its answer: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "1KiB", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// How many connections are opened and closed at a time, each by a thread of the client; several, separated by commas. More than one
    /// only where threads may sleep.
    #[arg(long, default_value = "1,16", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1000))]
    parallel: Vec<u64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// How many connections; several, separated by commas.
    #[arg(long, default_value = "2000", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=16_000))]
    connections: Vec<u64>,
    /// Payload of the message that each carries to and fro before it is idle: bytes, or with a suffix as in 4KiB or 1MiB.
    #[arg(long, default_value = "100", value_parser = size)]
    size: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Loss {
    /// How many packets are lost in each direction, percent; several, separated by commas. 0 is what `kept` compares with.
    #[arg(long, default_value = "0,1,5", value_name = "PERCENT", value_delimiter = ',', value_parser = percent)]
    loss: Vec<f64>,
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "1MiB", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Incast {
    /// How many senders.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u64).range(1..=63))]
    senders: u64,
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "64KiB", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// How many idle links; several, separated by commas. 0 is what `slowdown` compares with.
    #[arg(long, default_value = "0,256", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(0..=4000))]
    links: Vec<u64>,
    /// How long the busy link rests before each round trip, microseconds: then more has become due meanwhile.
    #[arg(long, default_value = "0", value_name = "US", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pause: u64,
    /// Payload of a message on the busy link, bytes.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u64).range(1..=65536))]
    size: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// Payload of a streamed message: bytes, or with a suffix as in 4KiB or 1MiB; several, separated by commas.
    #[arg(long, default_value = "1MiB", value_delimiter = ',', value_parser = size)]
    size: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Thresholds {
    /// Payload of a message: bytes, or with a suffix as in 4KiB or 1MiB, 16 KiB at the least; several, separated by commas.
    #[arg(long, default_value = "16k,32k,64k,128k,256k,512k,1m", value_delimiter = ',', value_parser = arena_size)]
    size: Vec<usize>,
    /// Write the table to this file [default: where nodes look for it, $VMMC_THRESHOLDS or /etc/vmmc/thresholds].
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub(crate) write: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// MTU of the interfaces, 1280 to 65535 bytes.
    #[arg(long, default_value = "1500", value_parser = clap::value_parser!(u32).range(1280..=65535))]
    mtu: u32,
    /// Interfaces with a single queue, where nodes have no bulk lane, instead of two.
    #[arg(long)]
    one_queue: bool,
    /// How much is sent: bytes, or with a suffix as in 64MiB or 10GB (all of them powers of two).
    #[arg(long, default_value = "10GB", value_parser = amount)]
    bytes: u64,
    /// Sends for this long instead, milliseconds.
    #[arg(long, value_name = "MS", conflicts_with = "bytes", value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    duration: Option<u64>,
    /// What happens to packets, in each direction; as for `vmmc serve --fault`. The seed also chooses what is sent.
    #[arg(long, value_name = "FAULTS", default_value = "drop=1%,reorder=1%,delay=100us,corrupt=0.1%,dup=0.1%")]
    fault: Faults,
    /// How often the receiver is killed, and started again.
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=1000))]
    restarts: u64,
    /// Who is tried: vmmc; vmmc-eager, without its bulk lane; or vmmc-nocrc, without checksums. That fails: what is damaged arrives.
    #[arg(long, default_value = "vmmc")]
    peer: String,
    /// Also write the results to this file, as one flat JSON array.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write the results to this file, as a page for a browser.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
