//! UCX over TCP, by its own `ucx_perftest`: a communication library whose put is what VMMC's is, on kernel sockets.
//!
//! Both ends get the same list of tests as a batch, one for each spec, and do them over one connection by themselves. So everything has
//! been measured when the client's end is open, and each measurement only hands out what was printed. The tool counts iterations
//! where all other peers look at the clock: how many make up the time that is asked for is estimated beforehand, from how
//! fast it is on an ordinary machine. Of a latency's distribution it prints one percentile.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
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
    /// One-sided: `ucp_put_nbx`. Its ping-pong polls the memory that is written.
    Put,
    /// Two-sided, with matching by tags: `ucp_tag_send_nbx`, what MPI uses.
    Tag,
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

    /// A line for each spec; its first word comes back with the result.
    fn batch(&self, specs: &[Spec]) -> String {
        let line = |(place, spec): (usize, &Spec)| {
            let n = iterations(spec);
            format!("m{place} -t {} -s {} -n {n} -w {}\n", self.test(spec.bench), spec.size, (n / 10).max(1))
        };
        specs.iter().enumerate().map(line).collect()
    }
}

impl Peer for Ucx {
    fn name(&self) -> &'static str {
        match self.api {
            Api::Put => "ucx",
            Api::Tag => "ucx-tag",
        }
    }

    fn measures(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Lat | Bench::Bw | Bench::Rate)
    }

    fn missing(&self) -> Option<String> {
        let installed = env::split_paths(&env::var_os("PATH")?).any(|directory| directory.join(PROGRAM).is_file());
        (!installed).then(|| format!("{PROGRAM} isn't installed: apt-get install ucx-utils"))
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let batch = self.batch(specs);
        match side {
            Side::Server => {
                let port = free_port(session)?;
                let mut child = start(session, &["-p", &port.to_string()], &batch)?;
                await_listener(&mut child, port)?;
                session.ready(port)?;
                Ok(Box::new(UcxEnd { printed: HashMap::new(), place: 0, server: Some(child) }))
            }
            Side::Client => {
                let address = session.remote.address.to_string();
                let child = start(session, &[&address, "-p", &session.hello], &batch)?;
                let printed = parse(&finish(child)?)?;
                Ok(Box::new(UcxEnd { printed, place: 0, server: None }))
            }
        }
    }
}

/// One end: what it has measured, or the process that serves.
struct UcxEnd {
    printed: HashMap<String, Printed>,
    place: usize,
    server: Option<ChildGuard>,
}

impl UcxEnd {
    /// What the client has measured next; the server waits until that is done.
    fn next(&mut self, session: &Session) -> Result<Option<Printed>, PeerError> {
        if self.server.is_some() {
            while !session.stopped() {
                thread::sleep(Duration::from_micros(200));
            }
            return Ok(None);
        }
        let name = format!("m{}", self.place);
        self.place += 1;
        let missing = || format!("{PROGRAM} printed no result of test {} of {}", self.place, self.printed.len());
        Ok(Some(*self.printed.get(&name).ok_or_else(missing)?))
    }
}

impl End for UcxEnd {
    fn latency(&mut self, _: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        Ok(self
            .next(session)?
            .map_or(Outcome::Nothing, |printed| Outcome::Median { nanos: printed.median_micros * 1e3 }))
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        Ok(self.next(session)?.map_or(Outcome::Nothing, |printed| {
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

/// A port that nobody listens on at the moment.
fn free_port(session: &Session) -> Result<u16, PeerError> {
    Ok(TcpListener::bind((session.local.address, 0))?.local_addr()?.port())
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

/// Reads the table of results: the first line names the columns, the first column the tests.
fn parse(table: &str) -> Result<HashMap<String, Printed>, PeerError> {
    let unexpected = |what: &str| format!("{PROGRAM} printed something unexpected, {what}: {table:?}");
    let mut lines = table.lines().filter(|line| line.contains(','));
    let columns: Vec<&str> = lines.next().ok_or_else(|| unexpected("no table"))?.split(',').map(str::trim).collect();
    let column = |name: &str| {
        columns.iter().position(|column| *column == name).ok_or_else(|| unexpected(&format!("no column {name}")))
    };
    let (median, rate) = (column("50.0_percentile_lat")?, column("overall_mr")?);
    let mut tests = HashMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |at: usize| {
            let number: Option<f64> = fields.get(at).and_then(|field| field.parse().ok());
            number.filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| unexpected(&format!("the line {line:?}")))
        };
        let printed = Printed { median_micros: number(median)?, messages_per_second: number(rate)? };
        tests.insert(fields[0].to_owned(), printed);
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
stdin,iterations,50.0_percentile_lat,avg_lat,overall_lat,avg_bw,overall_bw,avg_mr,overall_mr
m0,2000,9.411,9.582,9.582,0.80,0.80,104359,104359
m1,  20,813.900,855.625,855.625,1168.74,1168.74,1169,1169
";

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let tests = parse(TABLE).unwrap();
        assert_eq!(tests.len(), 2);
        assert_eq!(tests["m0"], Printed { median_micros: 9.411, messages_per_second: 104_359.0 });
        assert_eq!(tests["m1"], Printed { median_micros: 813.9, messages_per_second: 1169.0 });
        let swapped = "x,overall_mr,50.0_percentile_lat\nm0,7,5\n";
        assert_eq!(parse(swapped).unwrap()["m0"], Printed { median_micros: 5.0, messages_per_second: 7.0 });
    }

    #[test]
    fn what_is_no_table_is_an_error_that_shows_it() {
        for text in
            ["", "hello", "a,b\n1,2\n", &TABLE.replace("9.411", "nan"), "x,overall_mr,50.0_percentile_lat\nm0,7"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("unexpected"), "{text}: {error}");
        }
    }

    #[test]
    fn a_batch_has_a_line_for_each_spec() {
        let spec = |bench, size| Spec { bench, size, samples: u64::MAX, millis: 30, ..Spec::default() };
        let specs = [spec(Bench::Lat, 8), spec(Bench::Bw, 1 << 20)];
        let batch = Ucx { api: Api::Put }.batch(&specs);
        let lines: Vec<&str> = batch.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("m0 -t ucp_put_lat -s 8 -n "), "{batch}");
        assert!(lines[1].starts_with("m1 -t ucp_put_bw -s 1048576 -n "), "{batch}");
        assert!(Ucx { api: Api::Tag }.batch(&specs).contains("-t tag_bw"));
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
