//! HTTP: a server made with hyper, and a client that measures it.
//!
//! With two hosts out of network namespaces (`vmmc lab up` makes them; as root), in two terminals:
//!
//! ```text
//! vmmc lab exec h2 -- http serve 10.77.0.2:9000
//! vmmc lab exec h1 -- http connect 10.77.0.2:9000 --connections 32 --requests 2000
//! ```
//!
//! where `http` is `target/release/examples/http` after `cargo build --release -p vmmc-sockets --example http`. Between two machines it is the
//! same without `vmmc lab exec`. With `--tcp` on both sides everything goes over kernel TCP, and `curl http://10.77.0.2:9000/` works, too.
//!
//! The server answers `/` with a greeting and `/bytes/N` with so many bytes. hyper doesn't know what it runs on: it is given streams
//! that implement tokio's `AsyncRead` and `AsyncWrite`, and that is all.

mod common {
    pub mod args;
    pub mod report;
    pub mod tasks;
    pub mod times;
}

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, Subcommand};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use vmmc_histogram::Durations;

use common::args::{Failure, Net, exit, tried};
use common::report::Report;
use common::tasks::{Family, Tcp, Vmmc};

/// The longest answer, in bytes.
const LONGEST: usize = 1 << 24;

/// HTTP over stream sockets on VMMC, or over kernel TCP.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    net: Net,
}

#[derive(Subcommand)]
enum Command {
    /// Answers requests.
    Serve {
        /// Where to listen: IP:PORT.
        address: SocketAddr,
    },
    /// Makes requests, over connections that stay.
    Connect {
        /// Where the server listens: IP:PORT.
        address: SocketAddr,
        /// How many connections, all at work at the same time.
        #[arg(long, default_value = "32", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        connections: u32,
        /// How many requests over each, one after another.
        #[arg(long, default_value = "2000", value_name = "M")]
        requests: u32,
        /// How long an answer is, in bytes.
        #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=LONGEST as i64))]
        size: u32,
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
        Command::Connect { address, connections, requests, size } => {
            let load = Load::new(address, connections as usize, u64::from(requests), size as usize);
            let (times, rate) = load.run::<F>().await?;
            println!(
                "{} requests for {size} bytes over {connections} connections to {address} over {}: {rate:.0} per second",
                times.count(),
                F::NAME
            );
            let mut report = Report::new(F::KEY);
            report.times("request to answer", &times);
            report.add("rate", rate, "1/s");
            report.write(args.net.json.as_deref())?;
        }
    }
    Ok(())
}

async fn serve<F: Family>(address: SocketAddr) -> std::io::Result<()> {
    let listener = F::bind(address).await.map_err(tried(format_args!("listen on {address}")))?;
    println!("http://{address}/ over {}", F::NAME);
    accept_all::<F>(listener).await
}

async fn accept_all<F: Family>(listener: F::Listener) -> std::io::Result<()> {
    loop {
        let (stream, peer) = F::accept(&listener).await?;
        tokio::spawn(async move {
            let connection = server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await {
                eprintln!("{peer}: {}", why(error));
            }
        });
    }
}

/// What hyper says has gone wrong, and what was behind it.
fn why(error: hyper::Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let length = path.strip_prefix("/bytes/").and_then(|n| n.parse::<usize>().ok()).filter(|n| *n <= LONGEST);
    let (status, body) = match (path, length) {
        ("/", _) => (StatusCode::OK, Bytes::from_static(b"hello, memory\n")),
        (_, Some(length)) => (StatusCode::OK, Bytes::from(vec![b'.'; length])),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"there are / and /bytes/N here, N up to 16777216\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

/// What the client does.
struct Load {
    address: SocketAddr,
    connections: usize,
    requests: u64,
    size: usize,
    all_open: Barrier,
    bar: ProgressBar,
}

impl Load {
    fn new(address: SocketAddr, connections: usize, requests: u64, size: usize) -> Arc<Load> {
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} requests, {per_sec}");
        let bar = ProgressBar::new(connections as u64 * requests)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Arc::new(Load { address, connections, requests, size, all_open: Barrier::new(connections + 1), bar })
    }

    /// Opens all connections, then makes all requests. Returns how long each took, and how many there were in a second.
    async fn run<F: Family>(self: Arc<Load>) -> Result<(Durations, f64), Failure> {
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let load = self.clone();
            tasks.spawn(async move { load.connection::<F>().await });
        }
        // Those who fail to connect never get to the barrier: the first one to end before says why.
        let begin = tokio::select! {
            _ = self.all_open.wait() => Instant::now(),
            Some(ended) = tasks.join_next() => return Err(ended?.err().unwrap_or_else(|| "no request was made".into())),
        };
        let mut times = Durations::new();
        while let Some(ended) = tasks.join_next().await {
            for took in ended?? {
                times.record_nanos(took);
            }
        }
        self.bar.finish_and_clear();
        let rate = times.count() as f64 / begin.elapsed().as_secs_f64();
        Ok((times, rate))
    }

    /// Makes one connection's requests. Returns how long each took, in nanoseconds.
    async fn connection<F: Family>(&self) -> Result<Vec<u64>, Failure> {
        let stream = F::connect(self.address).await.map_err(tried(format_args!("connect to {}", self.address)))?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let peer = self.address;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{peer}: {}", why(error));
            }
        });
        self.all_open.wait().await;
        let mut times = Vec::with_capacity(self.requests as usize);
        for _ in 0..self.requests {
            let request = Request::get(format!("/bytes/{}", self.size)).header("host", self.address.to_string());
            let request = request.body(Empty::<Bytes>::new())?;
            // The last answer may be here before the connection's own task has come round to say that there is room for another request, and hyper
            // refuses what it has no room for.
            sender.ready().await.map_err(why)?;
            let begin = Instant::now();
            let response = sender.send_request(request).await.map_err(why)?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(why)?.to_bytes();
            times.push(begin.elapsed().as_nanos() as u64);
            if status != StatusCode::OK || body.len() != self.size {
                return Err(
                    format!("the server answered {status} with {} bytes: is it a `http` demo?", body.len()).into()
                );
            }
            self.bar.inc(1);
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Kernel TCP whose reads take a while to find nothing, and wake others meanwhile: what this task has woken goes on elsewhere before it does itself.
    struct Slow(TcpStream);

    impl AsyncRead for Slow {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let poll = Pin::new(&mut self.0).poll_read(cx, buf);
            if poll.is_pending() {
                // The task that was woken last is left to this thread, the others are anybody's.
                tokio::spawn(async {});
                std::thread::sleep(Duration::from_millis(1));
            }
            poll
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl Family for Slow {
        const NAME: &str = "slow TCP";
        const KEY: &str = "slow";
        type Listener = TcpListener;
        type Stream = Slow;

        async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
            TcpListener::bind(address).await
        }

        async fn accept(listener: &TcpListener) -> io::Result<(Slow, SocketAddr)> {
            listener.accept().await.map(|(stream, peer)| (Slow(stream), peer))
        }

        async fn connect(address: SocketAddr) -> io::Result<Slow> {
            TcpStream::connect(address).await.map(Slow)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_connection_that_is_slow_to_come_round_gets_all_its_requests() {
        let listener = Slow::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept_all::<Slow>(listener));
        let (times, _) = Load::new(address, 8, 50, 1024).run::<Slow>().await.unwrap();
        assert_eq!(times.count(), 8 * 50);
    }
}
