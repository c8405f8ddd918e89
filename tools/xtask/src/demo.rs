//! `cargo xtask demo`: VMMC at work, for somebody who sees it for the first time.
//!
//! Two hosts on this machine; on one a program that exports a buffer, on the other one that writes
//! a file into it; then the latency of a small write, beside that of the bare wire and of kernel TCP; then
//! programs with stream sockets, over VMMC and over kernel TCP.
//! Whatever happens, the hosts, the processes and the files are gone at the end.

mod sockets;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::Value;

use crate::process::{Failure, as_root, cargo, check_interrupted, end, is_root, run, start};
use crate::setup::setup;

/// Tells an xtask started by sudo that everything is built.
pub(crate) const BUILT: &str = "--built";

/// The lab's name: two demos at once have a lab each.
fn lab() -> String {
    format!("demo{}", process::id())
}

const FILE_MIB: u64 = 256;
/// How long the receiver may take to say that it is ready.
const READY_TIME: Duration = Duration::from_secs(20);

/// Installs, builds, and runs the demo.
pub(crate) fn demo() -> Result<(), Failure> {
    // Before the long build, not after it.
    as_root("true")?;
    setup()?;
    heading("Building");
    run(cargo().args(["build", "--release", "-p", "vmmc-tools", "-p", "vmmc-bench"]).args(sockets::BUILD))?;
    if is_root() {
        return run_built();
    }
    println!("The demo makes network namespaces, which needs root: it goes on by sudo.");
    let xtask = env::current_exe().map_err(|error| other("find this program", error))?;
    run(as_root(xtask)?.args(["demo", BUILT]))
}

/// Runs the demo with what has been built, as root.
pub(crate) fn run_built() -> Result<(), Failure> {
    if !is_root() {
        return Err(Failure::Other("`demo --built` is for root: use `cargo xtask demo`".into()));
    }
    let programs = Programs::find()?;
    // Dropped in the opposite order: the receiver, the lab, the files.
    let scratch = Scratch::new()?;
    let lab = DemoLab(&programs);
    let story = story(&programs, &scratch);
    heading("Cleaning up");
    drop(lab);
    drop(scratch);
    print_summary(&story?);
    Ok(())
}

/// What the summary tells.
struct Story {
    put_time: Duration,
    rows: Vec<Value>,
    sockets: Vec<sockets::Comparison>,
}

fn story(programs: &Programs, scratch: &Scratch) -> Result<Story, Failure> {
    heading("Two hosts, h1 and h2, joined by a veth pair");
    run(Command::new(&programs.vmmc).args(["lab", "--name", &lab(), "up"]))?;

    heading(&format!("h1 writes a file of {FILE_MIB} MiB into memory that h2 exports"));
    let file = scratch.random_file(FILE_MIB << 20)?;
    let file = file.as_path();
    let export = format!("inbox:{FILE_MIB}MiB");
    let receiver = Receiver::start(programs.on("h2").arg(&programs.vmmc).args([
        "serve",
        "--interface",
        "vh2",
        "--export",
        &export,
    ]))?;
    let begin = Instant::now();
    run(programs
        .on("h1")
        .arg(&programs.vmmc)
        .args(["put", "10.77.0.2", "inbox"])
        .arg(file)
        .args(["--interface", "vh1"]))?;
    let put_time = begin.elapsed();

    heading("Round trips from h1 to h2");
    run(programs.on("h1").arg(&programs.vmmc).args(["ping", "10.77.0.2", "--interface", "vh1"]))?;
    drop(receiver);

    heading("The latency of a 64-byte write, beside the bare wire and kernel TCP");
    let json = scratch.0.join("latency.json");
    run(Command::new(&programs.bench).args(["lat", "--json"]).arg(&json))?;
    let rows = read_rows(&json)?;

    let sockets = sockets::compare(programs, &scratch.0, file)?;
    Ok(Story { put_time, rows, sockets })
}

/// The rows that a program has written.
fn read_rows(json: &Path) -> Result<Vec<Value>, Failure> {
    let text = fs::read_to_string(json).map_err(|error| other("read the measurements", error))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Other(format!("{} is not what was measured: {error}", json.display())))
}

fn print_summary(story: &Story) {
    heading("What you have seen");
    let seconds = story.put_time.as_secs_f64();
    let gigabits = (FILE_MIB << 20) as f64 * 8.0 / seconds / 1e9;
    println!(
        "A program on h1 wrote {FILE_MIB} MiB straight into the memory of a program on h2, which found\n\
         the SHA-256 right: {seconds:.1} s from start to end, hashing included ({gigabits:.1} Gbit/s).\n"
    );
    println!("One-way latency of 64 bytes, in microseconds, both sides spinning:\n");
    println!("  {:<40} {:>8} {:>8} {:>8}", "", "half", "99%", "99.9%");
    for (peer, what) in [
        ("floor", "the wire: AF_XDP alone, no protocol"),
        ("vmmc", "VMMC: reliable write with notification"),
        ("tcp", "kernel TCP on the same wire"),
    ] {
        let cell = |metric| match value(&story.rows, peer, metric) {
            Some(value) => format!("{value:.2}"),
            None => "-".into(),
        };
        println!("  {what:<40} {:>8} {:>8} {:>8}", cell("p50"), cell("p99"), cell("p999"));
    }
    println!("\n  (half of all writes took at most the first figure, 99% the second ...)");
    if let (Some(vmmc), Some(tcp)) = (value(&story.rows, "vmmc", "p50"), value(&story.rows, "tcp", "p50")) {
        println!("\nHere and now kernel TCP takes {:.1} times as long as VMMC.", tcp / vmmc);
    }
    sockets::print(&story.sockets);
    println!("\nTo go on by hand: `vmmc lab up`, with the `vmmc` that was built here, and `vmmc help`.");
}

/// The first value of `metric` that was measured for `peer`.
fn value(rows: &[Value], peer: &str, metric: &str) -> Option<f64> {
    rows.iter().find(|row| row["peer"] == peer && row["metric"] == metric)?["value"].as_f64()
}

/// The programs that were built.
struct Programs {
    vmmc: PathBuf,
    bench: PathBuf,
    /// Where the examples are.
    examples: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        // Ours is target/debug/xtask, wherever the target directory is.
        let xtask = env::current_exe().map_err(|error| other("find this program", error))?;
        let target = xtask.ancestors().nth(2).unwrap_or(Path::new("target"));
        let release = target.join("release");
        Ok(Self { vmmc: release.join("vmmc"), bench: release.join("vmmc-bench"), examples: release.join("examples") })
    }

    /// A command that runs what is added to it on a host.
    fn on(&self, host: &str) -> Command {
        let mut command = Command::new(&self.vmmc);
        command.args(["lab", "--name", &lab(), "exec", host, "--"]);
        command
    }
}

/// The lab, which is removed when this is dropped.
struct DemoLab<'a>(&'a Programs);

impl Drop for DemoLab<'_> {
    fn drop(&mut self) {
        // In a process group of its own, where a second Ctrl-C doesn't reach it.
        let down = Command::new(&self.0.vmmc).args(["lab", "--name", &lab(), "down"]).process_group(0).status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("xtask: the lab is left over: `vmmc lab --name {} down` removes it", lab());
        }
    }
}

/// A directory for the demo's files, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("vmmc-demo-{}", process::id()));
        fs::create_dir(&path).map_err(|error| other(&format!("make the directory {}", path.display()), error))?;
        Ok(Self(path))
    }

    fn random_file(&self, len: u64) -> Result<PathBuf, Failure> {
        let path = self.0.join("random");
        let write = || -> io::Result<u64> {
            let mut random = File::open("/dev/urandom")?.take(len);
            io::copy(&mut random, &mut File::create(&path)?)
        };
        write().map_err(|error| other(&format!("write {}", path.display()), error))?;
        check_interrupted()?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {} is left over: {error}", self.0.display());
        }
    }
}

/// The program on h2, which is ended when this is dropped.
struct Receiver(Child);

impl Receiver {
    /// Starts it and waits for its first line, which says that it is ready. Its lines are shown.
    fn start(command: &mut Command) -> Result<Self, Failure> {
        println!("$ {} &", crate::process::line(command));
        let mut receiver = Self(start(command.stdout(Stdio::piped()))?);
        let (say, ready) = mpsc::channel();
        if let Some(output) = receiver.0.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    println!("  h2 | {line}");
                    // Nobody listens after the first.
                    let _ = say.send(());
                }
            });
        }
        let deadline = Instant::now() + READY_TIME;
        loop {
            check_interrupted()?;
            match ready.recv_timeout(Duration::from_millis(50)) {
                Ok(()) => return Ok(receiver),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => {
                    return Err(Failure::Other("the receiver on h2 did not get ready".into()));
                }
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

fn other(doing: &str, error: io::Error) -> Failure {
    Failure::Other(format!("could not {doing}: {error}"))
}
