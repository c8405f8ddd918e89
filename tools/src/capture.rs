//! `vmmc capture`: what a running node sends and receives, as lines, as a pcapng file, or live in Wireshark.
//!
//! XDP takes these frames off the interface before tcpdump could see them, so the node itself hands out copies, over its
//! socket. See docs/capture.md.

mod lines;
mod packet;
mod pcapng;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use vmmc::monitor::capture::{self, Stream};
use vmmc::monitor::{Found, MonitorError, Selector, find};
use vmmc::port::tap::{Frame, Item};

use self::lines::Lines;
use self::pcapng::{About, Writer};
use crate::interrupt;
use crate::node_args::parse_seconds;
use crate::output::note;

/// The Wireshark dissector.
const DISSECTOR: &str = include_str!("../wireshark/vmmc.lua");

const AFTER_HELP: &str = "\
Examples:
  vmmc capture                                 one line for each packet of the only node there is
  vmmc capture vh1 -w FILE                     to look at with wireshark or tshark
  vmmc capture -w - | wireshark -k -i -        live
  mkdir -p ~/.local/lib/wireshark/plugins
  vmmc capture --dissector > ~/.local/lib/wireshark/plugins/vmmc.lua";

/// The arguments of `vmmc capture`.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The node: its process, interface, address or socket [default: the only one there is].
    node: Option<Selector>,
    /// Write a pcapng file, or "-" for standard output [default: a line for each packet].
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Capture only so many bytes of each frame, Ethernet header included.
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: u32,
    /// End after so many packets.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Show it live in Wireshark, which is started with the dissector.
    #[arg(long, conflicts_with = "write")]
    wireshark: bool,
    /// Print the Wireshark dissector, and how to install it, and do nothing else.
    #[arg(long, conflicts_with_all = ["node", "write", "count", "duration", "wireshark"])]
    dissector: bool,
}

/// What only a capture can fail with.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(
        "a pcapng file is nothing for a terminal: name a file (-w FILE), or pipe it on (-w - | wireshark -k -i -), or \
         leave -w away to have lines"
    )]
    Terminal,
    #[error("writing to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("writing to standard output")]
    Output { source: io::Error },
    #[error("starting wireshark (is it installed?)")]
    Wireshark { source: io::Error },
    #[error(
        "{0} captured, and then the node has ended and left some unsent: it was killed, or they weren't taken fast enough"
    )]
    Unfinished(u64),
}

/// How long a node may take to end a capture that it was asked to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `vmmc capture`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if args.dissector {
        return print_dissector();
    }
    let to_output = args.write.as_deref() == Some(Path::new("-"));
    if to_output && io::stdout().is_terminal() {
        return Err(CaptureError::Terminal.into());
    }
    let found = find(args.node.as_ref())?;
    let mut stream = capture::start(&found.path, args.snaplen)?;
    let mut wireshark = None;
    let mut sink = match &args.write {
        _ if args.wireshark => {
            let (child, pipe) = Wireshark::start()?;
            wireshark = Some(child);
            Sink::file(Box::new(pipe), &found, args.snaplen)
        }
        None => Ok(Sink::Lines(Lines::new(BufWriter::new(io::stdout())))),
        Some(_) if to_output => Sink::file(Box::new(io::stdout()), &found, args.snaplen),
        Some(path) => {
            let file = File::create(path).map_err(|source| CaptureError::Write { path: path.clone(), source })?;
            Sink::file(Box::new(file), &found, args.snaplen)
        }
    }
    .map_err(|source| output_error(&args, source))?;
    stop_when(&stream, args.duration)?;
    note(format_args!("capturing what node {found} sends and receives; Ctrl-C ends it"));

    let shown = args.write.is_some() && !to_output;
    let bar = if shown {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut counts = Counts::default();
    let copied = copy(&mut stream, &mut sink, args.count, &mut counts, &bar);
    let (missed, end) = match copied {
        Ok(missed) => (missed, Ok(ExitCode::SUCCESS)),
        Err(Failed::Node(MonitorError::Gone(_))) => (0, Err(CaptureError::Unfinished(counts.captured).into())),
        Err(Failed::Node(error)) => (0, Err(error.into())),
        // Whoever read it has seen enough: `| head`, or a window that was closed.
        Err(Failed::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            note(&counts);
            return Ok(ExitCode::SUCCESS);
        }
        Err(Failed::Output(error)) => return Err(output_error(&args, error).into()),
    };
    bar.finish_and_clear();
    counts.missed += u64::from(missed);
    match sink.finish(missed) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(output_error(&args, error).into()),
        _ => {}
    }
    match args.write.filter(|_| !to_output) {
        _ if end.is_err() => {}
        Some(path) => note(format_args!("{counts} (in {})", path.display())),
        None => note(&counts),
    }
    if let Some(mut wireshark) = wireshark {
        // The user may want to look at it for longer.
        wireshark.child.wait().map_err(|source| CaptureError::Wireshark { source })?;
    }
    end
}

fn output_error(args: &Args, source: io::Error) -> CaptureError {
    match &args.write {
        Some(path) if path.as_path() != Path::new("-") => CaptureError::Write { path: path.clone(), source },
        _ => CaptureError::Output { source },
    }
}

fn print_dissector() -> Result<ExitCode, Box<dyn Error>> {
    match io::stdout().write_all(DISSECTOR.as_bytes()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => return Err(CaptureError::Output { source }.into()),
        _ => {}
    }
    note("Wireshark and tshark find it as ~/.local/lib/wireshark/plugins/vmmc.lua, or given as -X lua_script:FILE");
    Ok(ExitCode::SUCCESS)
}

/// Has the capture end with Ctrl-C, or after a while; a node that doesn't end it then is given up.
fn stop_when(stream: &Stream, duration: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(stream.stop_handle()?);
    let stop_after = move |span| {
        let stop = stop.clone();
        drop(thread::spawn(move || {
            thread::sleep(span);
            stop.stop();
            thread::sleep(PATIENCE);
            stop.abandon();
        }));
    };
    if let Some(duration) = duration {
        stop_after(duration);
    }
    interrupt::catch(move || stop_after(Duration::ZERO))?;
    Ok(())
}

/// How much it has been.
#[derive(Default)]
struct Counts {
    captured: u64,
    missed: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packets = if self.captured == 1 { "packet" } else { "packets" };
        write!(f, "{} {packets} captured, {} missed", self.captured, self.missed)?;
        f.write_str(if self.missed > 0 { " because they weren't taken fast enough: try --snaplen 128" } else { "" })
    }
}

/// Why a capture didn't come to its end.
enum Failed {
    Node(MonitorError),
    Output(io::Error),
}

/// Writes what comes until it ends or is enough. Returns how many packets are missing after the last.
fn copy(
    stream: &mut Stream,
    sink: &mut Sink,
    count: Option<u64>,
    counts: &mut Counts,
    bar: &ProgressBar,
) -> Result<u32, Failed> {
    while count.is_none_or(|count| counts.captured < count) {
        if stream.is_empty() {
            // Live: whoever watches has what there is.
            sink.flush().map_err(Failed::Output)?;
            bar.set_message(counts.to_string());
        }
        let (frame, missed) = match stream.next().map_err(Failed::Node)? {
            (Item::Frame(frame), missed) => (frame, missed),
            (Item::End, missed) => return Ok(missed),
        };
        counts.captured += 1;
        counts.missed += u64::from(missed);
        sink.frame(&frame, missed).map_err(Failed::Output)?;
    }
    Ok(0)
}

/// Where packets go.
enum Sink {
    Lines(Lines<BufWriter<io::Stdout>>),
    File(Writer<BufWriter<Box<dyn Write>>>),
}

impl Sink {
    fn file(out: Box<dyn Write>, found: &Found, snaplen: u32) -> io::Result<Sink> {
        let interface = found.stats.as_ref().ok().and_then(|stats| stats.interface.clone()).unwrap_or_default();
        let about = About { comment: format!("node {found}"), interface, snaplen };
        Ok(Sink::File(Writer::new(BufWriter::with_capacity(1 << 17, out), about)?))
    }

    fn frame(&mut self, frame: &Frame, missed: u32) -> io::Result<()> {
        match self {
            Sink::Lines(lines) => lines.frame(frame, missed),
            Sink::File(file) => file.frame(frame, missed),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Lines(lines) => lines.flush(),
            Sink::File(file) => file.flush(),
        }
    }

    fn finish(self, missed: u32) -> io::Result<()> {
        match self {
            Sink::Lines(lines) => lines.finish(missed),
            Sink::File(file) => file.finish(missed).map(drop),
        }
    }
}

/// A Wireshark that shows what it is told.
struct Wireshark {
    child: Child,
    /// The dissector's file, which goes with it.
    _script: tempfile::NamedTempFile,
}

impl Wireshark {
    fn start() -> Result<(Wireshark, impl Write + use<>), CaptureError> {
        let start = || {
            let mut script = tempfile::Builder::new().suffix(".lua").tempfile()?;
            script.write_all(DISSECTOR.as_bytes())?;
            let mut option = std::ffi::OsString::from("lua_script:");
            option.push(script.path());
            let mut command = Command::new("wireshark");
            command.args(["-k", "-i", "-", "-X"]).arg(option).stdin(Stdio::piped()).stdout(Stdio::null());
            let mut child = command.spawn()?;
            let pipe = child.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
            Ok((Wireshark { child, _script: script }, pipe))
        };
        start().map_err(|source| CaptureError::Wireshark { source })
    }
}
