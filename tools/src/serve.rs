//! `vmmc serve`: exports buffers, says what arrives in them, answers pings and checks files that are put.
//!
//! Every export has a thread that waits for its notifications, so that none holds up another. Those that wait drive the
//! node, unless it was given a core, where it has a thread of its own.
//!
//! ```text
//!   NAME        announce   a line for every send that announces itself
//!   NAME.put    receive    one file at a time: hashed while it arrives, then the verdict
//!   vmmc.ping   echo       what comes goes back; a second thread meets new clients
//! ```
//!
//! Files that are offered have none: who fetches them does so alone.

mod announce;
mod echo;
mod files;
mod offer;
mod receive;
mod reply;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use vmmc::memory::Arena;
use vmmc::{Export, Key, Node, Notification};

use crate::interrupt;
use crate::node_args::{Driver, NodeArgs};
use crate::output::say;
use crate::protocol::{BODY_AT, PING_EXPORT, PING_SLOTS, TRAILER_LEN, ping_slot, put_export};
use crate::units::{Size, short_peer};

/// The arguments of `vmmc serve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A buffer to export, may be given several times.
    #[arg(long = "export", value_name = "NAME:SIZE", value_parser = parse_export, default_value = "inbox:256MiB")]
    exports: Vec<Buffer>,
    /// The exports' key, 32 hexadecimal digits, or "random".
    #[arg(long, value_name = "HEX", value_parser = parse_key, conflicts_with = "public")]
    key: Option<Key>,
    /// Let everyone write into the exports; this is the default.
    #[arg(long)]
    public: bool,
    /// Keep files that are put, in this directory. Nothing there is overwritten.
    #[arg(long, value_name = "DIR")]
    write_to: Option<PathBuf>,
    /// A file to offer to `vmmc get`, read once at the start; may be given several times.
    #[arg(long = "file", value_name = "NAME:PATH", value_parser = offer::parse)]
    files: Vec<offer::Offer>,
    /// Let those who may write into the exports also fetch what is there.
    #[arg(long)]
    readable: bool,
    /// Don't answer pings.
    #[arg(long)]
    no_ping: bool,
    /// End after the first complete put, with exit status 1 if it was damaged or can't be kept.
    #[arg(long)]
    once: bool,
    /// Memory to make exports of [default: what they need].
    #[arg(long, value_name = "SIZE")]
    arena: Option<Size>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What to export.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Buffer {
    name: String,
    size: Size,
}

/// How often the threads look whether they shall end, and whether their clients are still there.
const TICK: Duration = Duration::from_millis(250);

/// How often the main thread looks how the node is.
const CARE: Duration = Duration::from_secs(1);

/// What the main thread waits for.
enum Event {
    /// The user wants it to end.
    Stop,
    /// A file has arrived; whole, and kept where it should be, or not.
    Put { good: bool },
    /// A thread can't go on.
    Failed(vmmc::Error),
}

/// What has happened, for the summary.
#[derive(Default)]
struct Tally {
    announced: AtomicU64,
    pings: AtomicU64,
    verified: AtomicU64,
    damaged: AtomicU64,
    given_up: AtomicU64,
}

/// What the threads share.
struct Shared {
    node: Node,
    stop: AtomicBool,
    tally: Tally,
    events: Sender<Event>,
}

/// What one of the threads does.
type Job<'a> = Box<dyn FnOnce() -> Result<(), vmmc::Error> + Send + 'a>;

/// Runs `vmmc serve`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let key = args.key.unwrap_or(Key::PUBLIC);
    if let Some(directory) = &args.write_to {
        files::check(directory)?;
    }
    let found = args.files.iter().map(offer::Found::find).collect::<Result<Vec<_>, _>>()?;
    let (tell, events) = mpsc::channel();
    let stop = tell.clone();
    interrupt::catch(move || drop(stop.send(Event::Stop)))?;

    let ping_len = ping_slot(PING_SLOTS);
    let put_len = BODY_AT + TRAILER_LEN as u64;
    let buffers = args.exports.iter().flat_map(|b| [b.size.0, put_len]);
    let offers = found.iter().flat_map(|file| [file.length(), TRAILER_LEN as u64]);
    let footprint = |len| Arena::footprint(usize::try_from(len).unwrap_or(usize::MAX)) as u64;
    let needed = buffers.chain(offers).chain([ping_len]).map(footprint).fold(0, u64::saturating_add);
    let arena = args.arena.map_or(needed, |size| size.0);
    // The thread that answers pings always waits, so there is one to drive the node. A ping that is answered by
    // the thread that took it off the wire is back in 6 us; on two busy cores it takes 100 if one thread wakes another.
    let driver = if args.no_ping || args.node.core.is_some() { Driver::Thread } else { Driver::Caller };
    let node = args.node.open(None, driver, arena, Duration::from_micros(50))?;
    let export = |name: &str, len: u64, key, readable| {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        node.export(name).len(len).key(key).notify(true).readable(readable).create()
    };
    let mut pairs = Vec::new();
    for Buffer { name, size } in &args.exports {
        pairs.push((export(name, size.0, key, args.readable)?, export(&put_export(name), put_len, key, false)?));
    }
    let ping = (!args.no_ping).then(|| export(PING_EXPORT, ping_len, Key::PUBLIC, false)).transpose()?;
    let _offered = found.iter().map(|file| file.offer(&node, key)).collect::<Result<Vec<_>, _>>()?;
    welcome(&args, &found, &node, key)?;

    let shared = Shared { node, stop: AtomicBool::new(false), tally: Tally::default(), events: tell };
    let shared = &shared;
    let directory = args.write_to.as_deref();
    let mut jobs: Vec<(&str, Job<'_>)> = Vec::new();
    for (data, control) in &pairs {
        jobs.push(("announce", Box::new(|| announce::run(shared, data))));
        jobs.push(("receive", Box::new(move || receive::run(shared, data, control, directory))));
    }
    if let Some(ping) = &ping {
        jobs.push(("echo", Box::new(|| echo::run(shared, ping))));
    }
    let result = thread::scope(|scope| {
        let started = jobs.into_iter().try_for_each(|(name, run)| {
            let body = move || {
                if let Err(error) = run() {
                    // Nobody listens any more when all are ending.
                    let _ = shared.events.send(Event::Failed(error));
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, body).map(drop)
        });
        let result = started.map_err(Box::from).and_then(|()| wait_for_end(shared, &events, args.once));
        shared.stop.store(true, Ordering::Relaxed);
        result
    });
    farewell(shared)?;
    args.node.say_faults(&shared.node)?;
    result
}

/// Waits until there is a reason to end. Meanwhile, says so when the interface goes down, and when it is up again: peers that fall silent
/// are all that the node itself would notice.
fn wait_for_end(shared: &Shared, events: &mpsc::Receiver<Event>, once: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut trouble = None;
    loop {
        match events.recv_timeout(CARE) {
            Ok(Event::Stop) => return Ok(ExitCode::SUCCESS),
            Ok(Event::Put { good: true }) if once => return Ok(ExitCode::SUCCESS),
            Ok(Event::Put { good: false }) if once => return Ok(ExitCode::FAILURE),
            Ok(Event::Put { .. }) => {}
            Ok(Event::Failed(error)) => return Err(error.into()),
            // There is always a sender, the one that is shared: it is just that nothing happens.
            Err(_) => {
                let now = shared.node.stats()?.failure;
                if now != trouble {
                    say(now.as_ref().map_or("the trouble is over".to_owned(), |now| format!("trouble: {now}")));
                    trouble = now;
                }
            }
        }
    }
}

impl Shared {
    /// The next notification of an export; `None` every now and then.
    fn next(&self, export: &Export) -> Result<Option<Notification>, vmmc::Error> {
        match export.wait_notification(TICK) {
            Ok(news) => Ok(Some(news)),
            Err(vmmc::Error::Timeout { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn finished_put(&self, whole: bool, good: bool) {
        let count = if whole { &self.tally.verified } else { &self.tally.damaged };
        count.fetch_add(1, Ordering::Relaxed);
        let _ = self.events.send(Event::Put { good });
    }
}

/// Says what there is, and how to use it from another host.
fn welcome(args: &Args, found: &[offer::Found], node: &Node, key: Key) -> Result<(), vmmc::Error> {
    let stats = node.stats()?;
    let local = stats.local;
    let mode = stats.mode.map(|mode| format!(", XDP in {mode} mode")).unwrap_or_default();
    say(format_args!("listening on {local} ({}{mode})", args.node.interface));
    let peer = short_peer(local);
    let may = if args.readable { "everyone may write and read" } else { "everyone may write" };
    let (who, option) = match key {
        Key::PUBLIC => (may.to_owned(), String::new()),
        key => (format!("key {key}"), format!(" --key {key}")),
    };
    for Buffer { name, size } in &args.exports {
        say(format_args!(
            "exporting {name:?}, {size}, {who}: vmmc put {peer} {} FILE --interface IF{option}",
            quoted(name)
        ));
    }
    for file in found {
        let (name, size) = (file.name(), Size(file.length()));
        say(format_args!("offering {name:?}, {size}: vmmc get {peer} {} --interface IF{option}", quoted(name)));
    }
    if !args.no_ping {
        say(format_args!("answering pings: vmmc ping {peer} --interface IF"));
    }
    if let Some(directory) = &args.write_to {
        say(format_args!("keeping files in {}", directory.display()));
    }
    Ok(())
}

/// Says what has been.
fn farewell(shared: &Shared) -> Result<(), vmmc::Error> {
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let Tally { announced, pings, verified, damaged, given_up } = &shared.tally;
    let engine = shared.node.stats()?.engine;
    let (bytes, fetched) = (engine.delivered_bytes, engine.served_bytes);
    say(format_args!(
        "received {bytes} bytes: {} sends announced, {} puts verified, {} damaged, {} given up, {} pings answered; {fetched} bytes fetched",
        count(announced),
        count(verified),
        count(damaged),
        count(given_up),
        count(pings),
    ));
    Ok(())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn parse_export(text: &str) -> Result<Buffer, String> {
    let (name, size) = text.rsplit_once(':').ok_or("an export is NAME:SIZE, like inbox:256MiB")?;
    check_name(name)?;
    match size.parse()? {
        Size(0) => Err("an export has at least one byte".to_owned()),
        size => Ok(Buffer { name: name.to_owned(), size }),
    }
}

/// Whether an export can have this name.
fn check_name(name: &str) -> Result<(), String> {
    // NAME.put and NAME.get have to fit into the 128 bytes of a name, too.
    if !(1..=124).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err("an export's name has 1 to 124 bytes, none of them a control character".to_owned());
    }
    if name.starts_with("vmmc.") {
        return Err("names that begin with \"vmmc.\" are this program's own".to_owned());
    }
    Ok(())
}

fn parse_key(text: &str) -> Result<Key, String> {
    match text {
        "random" => Key::random().map_err(|e| e.to_string()),
        hex => hex.parse().map_err(|e: vmmc::engine::BadKey| format!("{e}, nor \"random\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_parsed() {
        let buffer = |name: &str, size| Ok(Buffer { name: name.to_owned(), size: Size(size) });
        assert_eq!(parse_export("inbox:4K"), buffer("inbox", 4096));
        assert_eq!(parse_export("a:b:1"), buffer("a:b", 1));
        for bad in ["inbox", "inbox:", ":4K", "inbox:0", "inbox:x", "vmmc.ping:4K", "a\nb:1", &format!("{:125}:1", "")]
        {
            assert!(parse_export(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("inbox"), "inbox");
        assert_eq!(quoted("my box's"), r"'my box'\''s'");
    }
}
