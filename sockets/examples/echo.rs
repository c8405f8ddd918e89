//! Round trips: a server that sends back what it gets, and a client that measures how long that takes.
//!
//! With two hosts out of network namespaces (`vmmc lab up` makes them; as root), in two terminals:
//!
//! ```text
//! vmmc lab exec h2 -- echo serve 10.77.0.2:9000
//! vmmc lab exec h1 -- echo connect 10.77.0.2:9000
//! ```
//!
//! where `echo` is `target/release/examples/echo` after `cargo build --release -p vmmc-sockets --example echo`. Between two machines it is the same
//! without `vmmc lab exec`. With `--tcp` on both sides everything goes over kernel TCP; with `--spin` on both sides nobody sleeps.

mod common {
    pub mod args;
    pub mod blocking;
    pub mod report;
    pub mod times;
}

use std::hint;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::{Parser, Subcommand};
use vmmc_histogram::Durations;

use common::args::{Failure, Net, exit, tried};
use common::blocking::{Family, Tcp, Vmmc};
use common::report::Report;

/// Round trips over stream sockets on VMMC, or over kernel TCP.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    net: Net,
    /// Ask again and again instead of sleeping: lower latency, and a core that is busy.
    #[arg(long, global = true)]
    spin: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Sends back what comes, to any number of clients.
    Serve {
        /// Where to listen: IP:PORT.
        address: SocketAddr,
    },
    /// Sends messages, one after another, each when the last one has come back.
    Connect {
        /// Where the server listens: IP:PORT.
        address: SocketAddr,
        /// How many.
        #[arg(long, default_value = "100000", value_name = "N")]
        messages: u64,
        /// How long each is, in bytes.
        #[arg(long, default_value = "64", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
        size: u32,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit(if args.net.tcp { run::<Tcp>(&args) } else { run::<Vmmc>(&args) })
}

fn run<F: Family>(args: &Args) -> Result<(), Failure> {
    args.net.open()?;
    match args.command {
        Command::Serve { address } => serve::<F>(address, args.spin)?,
        Command::Connect { address, messages, size } => {
            let stream = F::connect(address).map_err(tried(format_args!("connect to {address}")))?;
            F::prepare(&stream, args.spin)?;
            let mut report = Report::new(F::KEY);
            let times = round_trips(&mut Patient(stream), messages, size as usize)?;
            println!("{messages} round trips of {size} bytes to {address} over {}", F::NAME);
            report.times("round trip", &times);
            report.write(args.net.json.as_deref())?;
        }
    }
    Ok(())
}

fn serve<F: Family>(address: SocketAddr, spin: bool) -> io::Result<()> {
    let listener = F::bind(address).map_err(tried(format_args!("listen on {address}")))?;
    println!("echo on {address} over {}", F::NAME);
    loop {
        let (stream, peer) = F::accept(&listener)?;
        F::prepare(&stream, spin)?;
        thread::spawn(move || {
            if let Err(error) = send_back(&mut Patient(stream)) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn send_back(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            n => stream.write_all(&bytes[..n])?,
        }
    }
}

fn round_trips(stream: &mut (impl Read + Write), messages: u64, size: usize) -> Result<Durations, Failure> {
    let mut times = Durations::new();
    let mut sent = vec![0; size];
    let mut received = sent.clone();
    for number in 0..messages {
        // Each message is another one, so that one can't be taken for the next.
        let stamp = number.to_ne_bytes();
        sent.chunks_mut(stamp.len()).for_each(|chunk| chunk.copy_from_slice(&stamp[..chunk.len()]));
        let begin = Instant::now();
        stream.write_all(&sent)?;
        stream.read_exact(&mut received)?;
        times.record(begin.elapsed());
        if received != sent {
            return Err(format!("what came back of message {number} is not what was sent").into());
        }
    }
    Ok(times)
}

/// A stream that, if it doesn't block, is asked until it has something to say.
struct Patient<S>(S);

fn insist<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => hint::spin_loop(),
            answer => return answer,
        }
    }
}

impl<S: Read> Read for Patient<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        insist(|| self.0.read(bytes))
    }
}

impl<S: Write> Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        insist(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        insist(|| self.0.flush())
    }
}
