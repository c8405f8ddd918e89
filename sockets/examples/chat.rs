//! A chat for many users, on tokio: what one says, all others read.
//!
//! With two hosts out of network namespaces (`vmmc lab up` makes them; as root), in two terminals:
//!
//! ```text
//! vmmc lab exec h2 -- chat serve 10.77.0.2:9000
//! vmmc lab exec h1 -- chat connect 10.77.0.2:9000 --name Ada
//! ```
//!
//! where `chat` is `target/release/examples/chat` after `cargo build --release -p vmmc-sockets --example chat`. Type lines; Ctrl-D leaves. One
//! program at a time has an interface for VMMC, so each further user needs a host: `vmmc lab up --hosts 4`. Instead of users there may be
//! bots, all in one program: `--bots 100 --messages 50` lets each say so much, and shows how long a line was under way to each
//! that read it. Between machines it is the same without `vmmc lab exec`. With `--tcp` on both sides everything goes over kernel TCP.
//!
//! On the stream: lines of text. The first is the user's name, and is answered by a line of welcome.

mod common {
    pub mod args;
    pub mod report;
    pub mod tasks;
    pub mod times;
}

use std::io::{self, BufRead, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Barrier, broadcast, mpsc};
use tokio::task::JoinSet;
use vmmc_histogram::Durations;

use common::args::{Failure, Net, exit, tried};
use common::report::Report;
use common::tasks::{Family, Tcp, Vmmc};

/// The longest line that the server takes, in bytes.
const LONGEST: u64 = 4096;
/// How many lines a user may be behind the others before it misses some.
const BACKLOG: usize = 1 << 14;

/// A chat over stream sockets on VMMC, or over kernel TCP.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    net: Net,
}

#[derive(Subcommand)]
enum Command {
    /// Passes on what each user says to all others.
    Serve {
        /// Where to listen: IP:PORT.
        address: SocketAddr,
    },
    /// Joins the chat.
    Connect {
        /// Where the server listens: IP:PORT.
        address: SocketAddr,
        /// The name of who joins.
        #[arg(long, default_value = "somebody")]
        name: String,
        /// So many bots join instead, talk, and measure.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
        bots: Option<u32>,
        /// How many lines each bot says.
        #[arg(long, default_value = "50", value_name = "M")]
        messages: u32,
        /// How long each bot is silent between its lines, in milliseconds.
        #[arg(long, default_value = "20", value_name = "MS")]
        pause: u64,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit(if args.net.tcp { run::<Tcp>(args) } else { run::<Vmmc>(args) })
}

#[tokio::main]
async fn run<F: Family>(args: Args) -> Result<(), Failure> {
    args.net.open()?;
    match args.command {
        Command::Serve { address } => serve::<F>(address).await?,
        Command::Connect { address, name, bots: None, .. } => talk::<F>(address, &name).await?,
        Command::Connect { address, bots: Some(bots), messages, pause, .. } => {
            let times = chatter::<F>(address, bots as usize, messages, Duration::from_millis(pause)).await?;
            println!("{} deliveries of lines of {bots} bots by {address} over {}", times.count(), F::NAME);
            let mut report = Report::new(F::KEY);
            report.times("from bot to bot", &times);
            report.write(args.net.json.as_deref())?;
        }
    }
    Ok(())
}

/// A line of somebody, for everybody else.
#[derive(Clone)]
struct Line {
    from: usize,
    text: Arc<str>,
}

async fn serve<F: Family>(address: SocketAddr) -> io::Result<()> {
    let listener = F::bind(address).await.map_err(tried(format_args!("listen on {address}")))?;
    println!("chat on {address} over {}", F::NAME);
    let (say, _) = broadcast::channel(BACKLOG);
    let present = Arc::new(AtomicUsize::new(0));
    for number in 0.. {
        let (stream, peer) = F::accept(&listener).await?;
        let user = User { number, say: say.clone(), present: present.clone() };
        tokio::spawn(async move {
            match user.stay::<F>(stream).await {
                // Gone while something was being said.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
                Err(error) => eprintln!("{peer}: {error}"),
                Ok(()) => {}
            }
        });
    }
    Ok(())
}

/// Somebody who has come.
struct User {
    number: usize,
    say: broadcast::Sender<Line>,
    present: Arc<AtomicUsize>,
}

impl User {
    /// From the first line to the last.
    async fn stay<F: Family>(self, stream: F::Stream) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let Some(name) = read_line(&mut reader).await? else { return Ok(()) };
        let all = self.present.fetch_add(1, Ordering::Relaxed) + 1;
        // From here on: whoever has read the welcome reads everything.
        let hear = self.say.subscribe();
        let welcome = format!("* welcome, {name}: {all} here\n");
        self.everybody(format!("* {name} has come\n"));
        let result = {
            let mut listened = pin!(self.listen(&mut reader, &name));
            tokio::select! {
                result = &mut listened => result,
                // Nothing more can be told to a user who is going, but what that user has said last is still to come.
                _ = self.repeat(welcome, hear, &mut writer) => listened.await,
            }
        };
        self.present.fetch_sub(1, Ordering::Relaxed);
        self.everybody(format!("* {name} has gone\n"));
        result
    }

    fn everybody(&self, text: String) {
        // It fails when nobody is there, and then nobody misses it.
        let _ = self.say.send(Line { from: self.number, text: text.into() });
    }

    async fn listen(&self, reader: &mut (impl AsyncBufRead + Unpin), name: &str) -> io::Result<()> {
        while let Some(line) = read_line(reader).await? {
            self.everybody(format!("{name}: {line}\n"));
        }
        Ok(())
    }

    /// Writes the welcome, and what the others say: all that there is at a time in one piece.
    async fn repeat(
        &self,
        welcome: String,
        mut hear: broadcast::Receiver<Line>,
        writer: &mut (impl AsyncWriteExt + Unpin),
    ) -> io::Result<()> {
        let mut text = welcome.into_bytes();
        loop {
            writer.write_all(&text).await?;
            text.clear();
            let mut heard = hear.recv().await.map_err(|error| match error {
                RecvError::Lagged(missed) => TryRecvError::Lagged(missed),
                RecvError::Closed => TryRecvError::Closed,
            });
            loop {
                match heard {
                    Ok(line) if line.from == self.number => {}
                    Ok(line) => text.extend_from_slice(line.text.as_bytes()),
                    Err(TryRecvError::Lagged(missed)) => {
                        text.extend_from_slice(format!("* you have missed {missed} lines\n").as_bytes());
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => return Ok(()),
                }
                heard = hear.try_recv();
            }
        }
    }
}

/// The next line, without its end; none at the end of the stream.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.take(LONGEST).read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    match line.strip_suffix('\n') {
        Some(text) => Ok(Some(text.trim_end_matches('\r').to_owned())),
        None if line.len() as u64 == LONGEST => {
            Err(io::Error::new(ErrorKind::InvalidData, format!("a line is longer than {LONGEST} bytes")))
        }
        None => Ok(Some(line)),
    }
}

/// Joins as a person: what is typed is said, what others say is printed.
async fn talk<F: Family>(address: SocketAddr, name: &str) -> io::Result<()> {
    let stream = F::connect(address).await.map_err(tried(format_args!("connect to {address}")))?;
    let (reader, mut writer) = tokio::io::split(stream);
    writer.write_all(format!("{name}\n").as_bytes()).await?;
    // A thread of its own: a read of a terminal can't be cancelled, and the program shall end all the same.
    let (typed, mut lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if typed.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut said = BufReader::new(reader).lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => writer.write_all(format!("{line}\n").as_bytes()).await?,
                None => return writer.shutdown().await,
            },
            line = said.next_line() => match line? {
                Some(line) => println!("{line}"),
                None => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has gone")),
            },
        }
    }
}

/// What the bots have in common.
struct Party {
    bots: usize,
    messages: u32,
    pause: Duration,
    start: Instant,
    all_here: Barrier,
    all_done: Barrier,
    times: Mutex<Durations>,
    bar: ProgressBar,
}

/// Lets bots join and talk. Returns how long each line was under way to each bot that read it.
async fn chatter<F: Family>(
    address: SocketAddr,
    bots: usize,
    messages: u32,
    pause: Duration,
) -> Result<Durations, Failure> {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} deliveries");
    let deliveries = (bots * (bots - 1)) as u64 * u64::from(messages);
    let bar = ProgressBar::new(deliveries).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let party = Arc::new(Party {
        bots,
        messages,
        pause,
        start: Instant::now(),
        all_here: Barrier::new(bots),
        all_done: Barrier::new(bots),
        times: Mutex::new(Durations::new()),
        bar,
    });
    let mut tasks = JoinSet::new();
    for number in 0..bots {
        let party = party.clone();
        tasks.spawn(async move { party.bot::<F>(address, number).await });
    }
    // The first that fails ends it: the others would wait for ever for what it had to say.
    while let Some(ended) = tasks.join_next().await {
        ended?.map_err(tried(format_args!("chat with {address}")))?;
    }
    party.bar.finish_and_clear();
    Ok(party.times.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

impl Party {
    async fn bot<F: Family>(&self, address: SocketAddr, number: usize) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(F::connect(address).await?);
        writer.write_all(format!("bot {number}\n").as_bytes()).await?;
        let mut lines = BufReader::new(reader).lines();
        lines.next_line().await?;
        self.all_here.wait().await;
        let talk = async {
            // They don't all speak at once.
            tokio::time::sleep(self.pause.mul_f64(number as f64 / self.bots as f64)).await;
            let mut turn = tokio::time::interval(self.pause.max(Duration::from_millis(1)));
            for _ in 0..self.messages {
                turn.tick().await;
                writer.write_all(format!("@{}\n", self.start.elapsed().as_nanos()).as_bytes()).await?;
            }
            Ok(())
        };
        let listen = async {
            let mut left = (self.bots - 1) * self.messages as usize;
            while left > 0 {
                let line = lines.next_line().await?.ok_or(ErrorKind::UnexpectedEof)?;
                let now = self.start.elapsed();
                if line.starts_with("* you have missed") {
                    return Err(io::Error::other(format!("the bots talk faster than the server ({line})")));
                }
                // Others may be there who aren't bots, and bots come and go.
                let sent = line.split_once(": @").and_then(|(_, nanos)| nanos.parse().ok());
                let Some(sent) = sent.map(Duration::from_nanos) else { continue };
                self.times.lock().unwrap_or_else(PoisonError::into_inner).record(now.saturating_sub(sent));
                self.bar.inc(1);
                left -= 1;
            }
            Ok(())
        };
        tokio::try_join!(talk, listen)?;
        // Nobody leaves before all have finished: the server would tell those who still measure.
        self.all_done.wait().await;
        Ok(())
    }
}
