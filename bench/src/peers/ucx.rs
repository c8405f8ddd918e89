//! UCX over TCP, by its own `ucx_perftest`: what VMMC is, a library for messages and puts, on kernel sockets.
//!
//! Each measurement is a run of the tool, and a connection of its own: both ends get the same batch, of one test. The tool counts iterations
//! where all other peers look at the clock: how many make up the time that is asked for is estimated beforehand, from how
//! fast it is on an ordinary machine. Of a latency's distribution it prints one percentile.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use vmmc_lab::ChildGuard;

use super::{End, Patience, Peer, PeerError};
use crate::spec::{Bench, Outcome, Side, Spec};
use crate::tied;
use crate::worker::Session;

const PROGRAM: &str = "ucx_perftest";

/// Which of UCX's ways to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Two-sided, with matching by tags: `ucp_tag_send_nbx`, what MPI uses, and the fastest that UCX has over TCP.
    Tag,
    /// One-sided: `ucp_put_nbx`. Its ping-pong polls the memory that is written. A stream of large ones closes
    /// the receiver's TCP window time and again and has packets sent again, so its figures jump.
    Put,
}

/// The peer.
pub(crate) struct Ucx {
    pub(crate) api: Api,
}

impl Ucx {
    /// What `ucx_perftest -t` calls it.
    fn test(&self, bench: Bench) -> &'static str {
        match (self.api, bench) {
            (Api::Put, Bench::Lat) => "ucp_put_lat",
            (Api::Put, _) => "ucp_put_bw",
            (Api::Tag, Bench::Lat) => "tag_lat",
            (Api::Tag, _) => "tag_bw",
        }
    }

    /// The test; its first word comes back with the result.
    fn batch(&self, spec: &Spec) -> String {
        let n = iterations(spec);
        format!("m -t {} -s {} -n {n} -w {}\n", self.test(spec.bench), spec.size, (n / 10).max(1))
    }
}

impl Peer for Ucx {
    fn name(&self) -> &'static str {
        match self.api {
            Api::Tag => "ucx",
            Api::Put => "ucx-put",
        }
    }

    fn measures(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Lat | Bench::Bw | Bench::Rate)
    }

    fn needs(&self) -> Option<(&'static str, &'static str)> {
        Some((PROGRAM, "ucx-utils"))
    }

    fn open(&self, side: Side, _: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        if side == Side::Server {
            session.ready("")?;
        }
        Ok(Box::new(UcxEnd { ucx: Ucx { api: self.api }, side, runs: 0, server: None }))
    }
}

/// One end.
struct UcxEnd {
    ucx: Ucx,
    side: Side,
    /// How many runs there have been: both ends count them.
    runs: u16,
    /// The tool, when it listens.
    server: Option<ChildGuard>,
}

impl UcxEnd {
    /// Where the tool listens this time: where a connection has been there may be a rest of it.
    fn port(&self) -> String {
        /// The tool's own choice, and those that follow it, for so many runs.
        const FIRST: u16 = 13337;
        const PORTS: u16 = 4096;
        (FIRST + self.runs % PORTS).to_string()
    }

    /// What the client has measured; the server waits until that is done.
    fn run(&mut self, spec: &Spec, session: &Session) -> Result<Option<Printed>, PeerError> {
        if self.side == Side::Server {
            finish(self.server.take().ok_or("nobody has told it to listen")?)?;
            return Ok(None);
        }
        self.runs = self.runs.wrapping_add(1);
        let address = session.remote.address.to_string();
        let child = start(session, &[&address, "-p", &self.port()], &self.ucx.batch(spec))?;
        Ok(Some(parse(&finish(child)?)?))
    }
}

impl End for UcxEnd {
    fn prepare(&mut self, spec: &Spec, session: &Session) -> Result<(), PeerError> {
        self.runs = self.runs.wrapping_add(1);
        let port = self.port();
        let mut child = start(session, &["-p", &port], &self.ucx.batch(spec))?;
        await_listener(&mut child, port.parse()?)?;
        self.server = Some(child);
        Ok(())
    }

    fn latency(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let printed = self.run(spec, session)?;
        Ok(printed.map_or(Outcome::Nothing, |printed| Outcome::Median { nanos: printed.median_micros * 1e3 }))
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        Ok(self.run(spec, session)?.map_or(Outcome::Nothing, |printed| {
            let messages = printed.messages_per_second;
            Outcome::Stream { messages, bytes: (messages * spec.size as f64) as u64, nanos: 1_000_000_000 }
        }))
    }
}

/// How many messages, or round trips, last about as long as `spec` says.
fn iterations(spec: &Spec) -> u64 {
    /// What a message takes, one way and in a stream, and what each of its bytes adds, in microseconds.
    const ONE_WAY: (f64, f64) = (8.0, 1.0 / 900.0);
    const STREAMED: (f64, f64) = (4.0, 1.0 / 1200.0);
    let time = |(message, byte): (f64, f64)| message + byte * spec.size as f64;
    let each = if spec.bench == Bench::Lat { 2.0 * time(ONE_WAY) } else { time(STREAMED) };
    // The median of fewer says little, and a stream of fewer isn't one.
    ((spec.millis as f64 * 1e3 / each) as u64).min(spec.samples.max(1)).max(20)
}

/// Starts the tool on this host, on the worker's core, over TCP on the host's interface, with `batch` to do.
fn start(session: &Session, arguments: &[&str], batch: &str) -> Result<ChildGuard, PeerError> {
    let mut command = tied::command(PROGRAM)?;
    command
        .args(arguments)
        // From a file; results as comma-separated values, final ones only.
        .args(["-b", "/dev/stdin", "-v", "-f"])
        .env("UCX_TLS", "tcp")
        .env("UCX_NET_DEVICES", &session.local.interface)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ChildGuard::spawn(&mut command).map_err(|e| format!("starting {PROGRAM}: {e}"))?;
    // Closed at once, so that the list has an end.
    let mut stdin = child.stdin.take().ok_or("its standard input was asked for")?;
    stdin.write_all(batch.as_bytes()).map_err(|e| format!("telling {PROGRAM} what to do: {e}"))?;
    Ok(child)
}

/// Waits for the end, and returns what was printed.
fn finish(child: ChildGuard) -> Result<String, PeerError> {
    // It is this process's parent that loses patience, and all its children end with it.
    let output = child.into_child().wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(complaint(&format!("{PROGRAM} failed ({})", output.status), &[output.stderr, output.stdout].concat()))
}

/// UCX logs to standard output.
fn complaint(what: &str, said: &[u8]) -> PeerError {
    let said = String::from_utf8_lossy(said);
    let mut said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // What a reader needs is in the first error, not in what follows from it.
    said.sort_by_key(|line| !line.contains("ERROR"));
    format!("{what}: {}", said.first().unwrap_or(&"it said nothing")).into()
}

/// Waits until the tool listens: a client that comes before is turned away.
fn await_listener(child: &mut ChildGuard, port: u16) -> Result<(), PeerError> {
    let start = Instant::now();
    while !is_listening(&fs::read_to_string("/proc/self/net/tcp")?, port) {
        if let Some(status) = child.try_wait()? {
            let mut said = Vec::new();
            if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
                stderr.read_to_end(&mut said)?;
                stdout.read_to_end(&mut said)?;
            }
            return Err(complaint(&format!("{PROGRAM} ended before it listened ({status})"), &said));
        }
        if start.elapsed() > Patience::LIMIT {
            return Err(format!("{PROGRAM} hasn't begun to listen for {} s", Patience::LIMIT.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether `sockets`, the kernel's table of them, has one that listens on `port`.
fn is_listening(sockets: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let local = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(LISTEN)
    })
}

/// What the tool has found in one test.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Printed {
    /// Of a latency test: half of a round trip.
    median_micros: f64,
    messages_per_second: f64,
}

/// Reads the table of results: the first line names the columns, the second has the test's.
fn parse(table: &str) -> Result<Printed, PeerError> {
    let unexpected = |what: &str| format!("{PROGRAM} printed something unexpected, {what}: {table:?}");
    let mut lines = table.lines().filter(|line| line.contains(','));
    let columns: Vec<&str> = lines.next().ok_or_else(|| unexpected("no table"))?.split(',').map(str::trim).collect();
    let line = lines.next().ok_or_else(|| unexpected("no result"))?;
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let number = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        let at = at.ok_or_else(|| unexpected(&format!("no column {name}")))?;
        let number: Option<f64> = fields.get(at).and_then(|field| field.parse().ok());
        number.filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| unexpected(&format!("the line {line:?}")))
    };
    Ok(Printed { median_micros: number("50.0_percentile_lat")?, messages_per_second: number("overall_mr")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
stdin,iterations,50.0_percentile_lat,avg_lat,overall_lat,avg_bw,overall_bw,avg_mr,overall_mr
m,  2000,9.411,9.582,9.582,0.80,0.80,104359,104359
";

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        assert_eq!(parse(TABLE).unwrap(), Printed { median_micros: 9.411, messages_per_second: 104_359.0 });
        let swapped = "x,overall_mr,50.0_percentile_lat\nm,7,5\n";
        assert_eq!(parse(swapped).unwrap(), Printed { median_micros: 5.0, messages_per_second: 7.0 });
    }

    #[test]
    fn what_is_no_table_is_an_error_that_shows_it() {
        for text in ["", "hello", "a,b\n1,2\n", &TABLE.replace("9.411", "nan"), "x,overall_mr,50.0_percentile_lat\nm,7"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("unexpected"), "{text}: {error}");
        }
    }

    #[test]
    fn a_batch_says_what_the_spec_says() {
        let spec = |bench, size| Spec { bench, size, samples: u64::MAX, millis: 30, ..Spec::default() };
        let batch = |api, bench, size| Ucx { api }.batch(&spec(bench, size));
        assert!(batch(Api::Put, Bench::Lat, 8).starts_with("m -t ucp_put_lat -s 8 -n "));
        assert!(batch(Api::Put, Bench::Bw, 1 << 20).starts_with("m -t ucp_put_bw -s 1048576 -n "));
        assert!(batch(Api::Tag, Bench::Rate, 64).starts_with("m -t tag_bw -s 64 -n "));
    }

    #[test]
    fn larger_messages_are_sent_less_often() {
        let n = |bench, size, samples| iterations(&Spec { bench, size, samples, millis: 30, ..Spec::default() });
        assert!(n(Bench::Lat, 8, u64::MAX) > 1000);
        assert!((20..50).contains(&n(Bench::Bw, 1 << 20, u64::MAX)));
        assert_eq!(n(Bench::Lat, 256 << 20, u64::MAX), 20);
        assert_eq!(n(Bench::Lat, 8, 100), 100);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let sockets = "  sl  local_address rem_address   st tx_queue\n   \
                       0: 0100007F:1A0B 00000000:0000 0A 00000000:00000000\n   \
                       1: 0100007F:1A0C 0100007F:1A0B 01 00000000:00000000\n";
        assert!(is_listening(sockets, 0x1a0b));
        assert!(!is_listening(sockets, 0x1a0c) && !is_listening(sockets, 0xa0b));
    }
}
