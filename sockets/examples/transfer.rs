//! A file transfer: from one program to another, with a progress bar; then both compare the SHA-256 of what they have.
//!
//! With two hosts out of network namespaces (`vmmc lab up` makes them; as root), in two terminals:
//!
//! ```text
//! vmmc lab exec h2 -- transfer serve 10.77.0.2:9000 --out /tmp/copy
//! vmmc lab exec h1 -- transfer connect 10.77.0.2:9000 FILE
//! ```
//!
//! where `transfer` is `target/release/examples/transfer` after `cargo build --release -p vmmc-sockets --example transfer`. Without `--out` the
//! receiver keeps nothing. Between two machines it is the same without `vmmc lab exec`. With `--tcp` on both sides everything goes over kernel TCP.
//!
//! On the stream: the length as eight bytes, big endian, and the file; back come a byte when all of it is there, which stops the sender's
//! clock, and the 32 bytes of the hash. Hashing takes as long as the transfer, so it is done afterwards, by both sides at the same time.

mod common {
    pub mod args;
    pub mod blocking;
    pub mod report;
}

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use common::args::{Failure, Net, exit, tried};
use common::blocking::{Family, Tcp, Vmmc};
use common::report::Report;

/// How much is read, and written, at a time.
const CHUNK: usize = 1 << 20;
/// Says that everything is there.
const COMPLETE: u8 = b'!';

type Hash = [u8; 32];

/// A file transfer over stream sockets on VMMC, or over kernel TCP.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    net: Net,
}

#[derive(Subcommand)]
enum Command {
    /// Receives files, one after another.
    Serve {
        /// Where to listen: IP:PORT.
        address: SocketAddr,
        /// Where to keep what comes; each file replaces the last.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sends a file.
    Connect {
        /// Where the receiver listens: IP:PORT.
        address: SocketAddr,
        /// What to send.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit(if args.net.tcp { run::<Tcp>(&args) } else { run::<Vmmc>(&args) })
}

fn run<F: Family>(args: &Args) -> Result<(), Failure> {
    args.net.open()?;
    match &args.command {
        Command::Serve { address, out } => {
            let listener = F::bind(*address).map_err(tried(format_args!("listen on {address}")))?;
            println!("receiving files on {address} over {}", F::NAME);
            loop {
                let (mut stream, peer) = F::accept(&listener)?;
                F::prepare(&stream, false)?;
                // A sender that goes away takes nothing but its file with it.
                match receive(&mut stream, out.as_deref()) {
                    Ok((length, took, hash)) => {
                        println!("{peer}: {} (SHA-256 {})", speed(length, took), hex(&hash));
                    }
                    Err(error) => eprintln!("{peer}: {error}"),
                }
            }
        }
        Command::Connect { address, file } => {
            let mut file = File::open(file).map_err(tried(format_args!("open {}", file.display())))?;
            let mut stream = F::connect(*address).map_err(tried(format_args!("connect to {address}")))?;
            F::prepare(&stream, false)?;
            let (length, took) = send(&mut stream, &mut file)?;
            println!("{} to {address} over {}", speed(length, took), F::NAME);
            let ours = hash(&mut file, length, "hashing ")?;
            let mut theirs = Hash::default();
            stream.read_exact(&mut theirs).map_err(tried("get the receiver's SHA-256"))?;
            if ours != theirs {
                return Err(format!(
                    "what {address} has received (SHA-256 {}) is not the file ({})",
                    hex(&theirs),
                    hex(&ours)
                )
                .into());
            }
            println!("verified by the receiver (SHA-256 {})", hex(&ours));
            let mut report = Report::new(F::KEY);
            report.add("bandwidth", gigabits(length, took), "Gbit/s");
            report.write(args.net.json.as_deref())?;
        }
    }
    Ok(())
}

/// Sends the file, and waits until all of it is there. Returns its length, and how long it took.
fn send(stream: &mut (impl Read + Write), file: &mut File) -> io::Result<(u64, Duration)> {
    let length = file.metadata()?.len();
    let bar = progress(length, "sending ");
    let begin = Instant::now();
    stream.write_all(&length.to_be_bytes())?;
    copy(file, stream, length, &bar, |_| {})?;
    let mut complete = [0];
    stream.read_exact(&mut complete)?;
    bar.finish_and_clear();
    match complete {
        [COMPLETE] => Ok((length, begin.elapsed())),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the receiver said {other:?}: is it a transfer that listens there?"),
        )),
    }
}

/// Receives a file, and says so to the sender. Returns its length, how long it took, and its hash.
fn receive(stream: &mut (impl Read + Write), out: Option<&Path>) -> io::Result<(u64, Duration, Hash)> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let mut file = match out {
        Some(path) => File::options().read(true).write(true).create(true).truncate(true).open(path),
        None => tempfile::tempfile(),
    }
    .map_err(tried("make a file to receive into"))?;
    let bar = progress(length, "receiving ");
    let begin = Instant::now();
    copy(stream, &mut file, length, &bar, |_| {})?;
    let took = begin.elapsed();
    bar.finish_and_clear();
    stream.write_all(&[COMPLETE])?;
    let hash = hash(&mut file, length, "hashing ")?;
    stream.write_all(&hash)?;
    Ok((length, took, hash))
}

fn hash(file: &mut File, length: u64, what: &'static str) -> io::Result<Hash> {
    file.rewind()?;
    let bar = progress(length, what);
    let mut hasher = Sha256::new();
    copy(file, &mut io::sink(), length, &bar, |bytes| hasher.update(bytes))?;
    bar.finish_and_clear();
    Ok(hasher.finalize().into())
}

/// Copies exactly so much, and shows it.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    length: u64,
    bar: &ProgressBar,
    mut see: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let most = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = match from.read(&mut bytes[..most]) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ended {left} bytes early"))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        see(&bytes[..n]);
        to.write_all(&bytes[..n])?;
        left -= n as u64;
        bar.inc(n as u64);
    }
    to.flush()
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = "{msg}{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(what)
}

fn gigabits(length: u64, took: Duration) -> f64 {
    length as f64 * 8.0 / took.as_secs_f64() / 1e9
}

fn speed(length: u64, took: Duration) -> String {
    let mib = length as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB in {:.3} s, {:.2} Gbit/s", took.as_secs_f64(), gigabits(length, took))
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
