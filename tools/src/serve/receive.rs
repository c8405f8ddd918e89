//! Receives files: lets one client at a time put one into an export, hashes it while it arrives, and tells the verdict.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tracing::debug;
use vmmc::{Error, Export, Notification};

use super::reply::{Reply, read_open};
use super::{Shared, files};
use crate::output::say;
use crate::protocol::{Answer, BODY_AT, PROGRESS_UNIT, TRAILER_LEN, Trailer, is_door};
use crate::units::{Sha256Sum, Size};

/// After how long without news from a client another may take its place.
const IDLE: Duration = Duration::from_secs(10);
/// How much is hashed at once, bytes.
const CHUNK: usize = 256 << 10;

/// Receives files into `data`, as their senders tell in `control`. Keeps them in `directory`, if there is one.
pub(super) fn run(shared: &Shared, data: &Export, control: &Export, directory: Option<&Path>) -> Result<(), Error> {
    let eager = available_parallelism().is_ok_and(|cores| cores.get() > 2);
    let mut desk = Desk { shared, data, control, directory, session: None, eager };
    while !shared.ending() {
        match shared.next(control)? {
            Some(news) if is_door(news.offset) => desk.on_open(news),
            Some(news) if news.offset == BODY_AT => desk.on_body(news)?,
            Some(_) => {}
            None => desk.check(),
        }
    }
    Ok(())
}

/// Where puts into one export are dealt with.
struct Desk<'a> {
    shared: &'a Shared,
    data: &'a Export,
    control: &'a Export,
    directory: Option<&'a Path>,
    session: Option<Session>,
    /// Hash while bytes arrive. With two cores for everything that takes a fifth off the rate, and is left for the end.
    eager: bool,
}

/// A put under way.
struct Session {
    reply: Reply,
    intake: Intake,
    heard: Instant,
}

impl Desk<'_> {
    /// Somebody wants to put.
    fn on_open(&mut self, news: Notification) {
        let Some(open) = read_open(self.control, &news) else { return };
        if let Some(session) = self.session.as_ref().filter(|s| s.reply.is_of(news.peer, open)) {
            // It asks again, as if the answer were lost.
            let _ = session.reply.answer(&Answer::Ready { at: BODY_AT });
            return;
        }
        let reply = match Reply::open(&self.shared.node, news.peer, open) {
            Ok(reply) => reply,
            Err(error) => {
                debug!(target: "vmmc::serve", peer = %news.peer, %error, "a new client is not there any more");
                return;
            }
        };
        self.check();
        if let Some(busy) = self.busy_for(news.peer) {
            let why = format!("{busy} is putting a file into {:?}: try again when that is done", self.data.name());
            let _ = reply.answer(&Answer::Refused { why });
            return;
        }
        if let Some(old) = self.session.take() {
            let why = "has been idle for too long: another put has taken its place";
            let _ = old.reply.answer(&Answer::Failed { why: why.to_owned() });
            self.give_up(old.reply.peer(), &why);
        }
        if let Err(error) = reply.answer(&Answer::Ready { at: BODY_AT }) {
            debug!(target: "vmmc::serve", peer = %news.peer, %error, "a new client can't be answered");
            return;
        }
        say(format_args!("{} begins a put into {:?}", news.peer, self.data.name()));
        self.session = Some(Session { reply, intake: Intake::new(self.directory), heard: Instant::now() });
    }

    /// Who keeps `peer` from putting now.
    fn busy_for(&self, peer: SocketAddr) -> Option<SocketAddr> {
        // A node is one process: what the same address has begun before is over.
        let other = self.session.as_ref().filter(|s| s.reply.peer() != peer && s.heard.elapsed() < IDLE);
        other.map(|s| s.reply.peer())
    }

    /// Ends the put of a client that has died.
    fn check(&mut self) {
        if let Some(session) = &self.session
            && let Err(error) = session.reply.check()
        {
            let peer = session.reply.peer();
            self.session = None;
            self.give_up(peer, &error);
        }
    }

    fn give_up(&self, peer: SocketAddr, why: &dyn std::fmt::Display) {
        self.shared.tally.given_up.fetch_add(1, Ordering::Relaxed);
        say(format_args!("{peer}: its put into {:?} is given up: {why}", self.data.name()));
    }

    /// The client says how far it is, or that this is the end.
    fn on_body(&mut self, news: Notification) -> Result<(), Error> {
        let Some(session) = self.session.as_mut().filter(|s| s.reply.peer() == news.peer) else { return Ok(()) };
        session.heard = Instant::now();
        if news.length == 0 {
            let sent = u64::from(news.tag) * PROGRESS_UNIT;
            let end = if self.eager { sent.min(self.data.len() as u64) } else { 0 };
            return session.intake.advance(self.data, end);
        }
        let mut bytes = [0; TRAILER_LEN];
        if news.length == TRAILER_LEN as u64 {
            self.control.read(BODY_AT, &mut bytes)?;
        }
        let Some(trailer) = Trailer::parse(&bytes).filter(|t| t.length <= self.data.len() as u64) else {
            return Ok(());
        };
        if let Some(session) = self.session.take() {
            self.conclude(session, &trailer)?;
        }
        Ok(())
    }

    /// Compares what has arrived with what should have, and tells everyone.
    fn conclude(&self, session: Session, trailer: &Trailer) -> Result<(), Error> {
        let Session { reply, mut intake, .. } = session;
        if intake.done > trailer.length {
            intake = Intake::new(self.directory);
        }
        intake.advance(self.data, trailer.length)?;
        let sha256 = Sha256Sum(intake.hash.finalize().into());
        let whole = sha256 == trailer.sha256;
        let kept = match (whole, intake.file, self.directory) {
            (true, Some(file), Some(directory)) => file
                .map_err(|e| e.to_string())
                .and_then(|file| files::keep(file, directory, &trailer.name).map(Some).map_err(|e| e.to_string())),
            _ => Ok(None),
        };
        let (verdict, answer) = match (whole, kept) {
            (true, Ok(path)) => {
                let kept = path.as_ref().map(|p| format!(", kept as {}", p.display())).unwrap_or_default();
                // Where that is is nothing that the sender has to know.
                let file = path.as_ref().and_then(|p| p.file_name()).unwrap_or_default();
                let file = file.to_string_lossy().into_owned();
                (format!("verified (SHA-256 {sha256}){kept}"), Answer::Verified { sha256, file })
            }
            (true, Err(error)) => {
                (format!("verified (SHA-256 {sha256}), but not kept: {error}"), Answer::Failed { why: error })
            }
            (false, _) => {
                (format!("DAMAGED: SHA-256 {sha256} instead of {}", trailer.sha256), Answer::Damaged { sha256 })
            }
        };
        let (peer, size, name) = (reply.peer(), Size(trailer.length), files::safe_name(&trailer.name));
        say(format_args!("{peer} put {name} ({size}) into {:?}: {verdict}", self.data.name()));
        if let Err(error) = reply.answer(&answer) {
            debug!(target: "vmmc::serve", %peer, %error, "the verdict can't be told");
        }
        self.shared.finished_put(whole, matches!(answer, Answer::Verified { .. }));
        Ok(())
    }
}

/// What has been taken of a file that arrives: the same bytes are hashed and written.
struct Intake {
    hash: Sha256,
    file: Option<io::Result<NamedTempFile>>,
    /// How many bytes have been taken.
    done: u64,
    chunk: Vec<u8>,
}

impl Intake {
    fn new(directory: Option<&Path>) -> Intake {
        Intake { hash: Sha256::new(), file: directory.map(files::begin), done: 0, chunk: Vec::new() }
    }

    /// Takes the bytes up to `end`.
    fn advance(&mut self, data: &Export, end: u64) -> Result<(), Error> {
        self.chunk.resize(CHUNK, 0);
        while self.done < end {
            let wanted = (end - self.done).min(CHUNK as u64);
            let chunk = &mut self.chunk[..wanted as usize];
            data.read(self.done, chunk)?;
            self.hash.update(&chunk);
            if let Some(Ok(file)) = &mut self.file
                && let Err(error) = file.write_all(chunk)
            {
                // The disk is full, say: what has been written goes away now.
                self.file = Some(Err(error));
            }
            self.done += wanted;
        }
        Ok(())
    }
}
