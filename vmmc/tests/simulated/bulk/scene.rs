//! Runs a [`Program`], and writes down all that the hosts can see of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use vmmc::Target;
use vmmc::engine::{DirectSend, ExportOptions, Piece, Place, RedirectId, Returned, Send, Ticket, Wanted};
use vmmc::memory::{Arena, Buffer, DirectSource, Region};
use vmmc::port::Port;

use super::into_bytes;
use super::program::{Act, Epoch, From, Post, Program, Put, Read, bytes};
use crate::world::{World, address, contents, export_options, key};

/// What a target holds before anything has come.
const BLANK: u8 = 0x5a;

/// What lies around the memory that is used.
const CANARY: u8 = 0xc5;

/// What has come of a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of each export, in the order they came, sender by sender.
    pub told: Vec<Told>,
    /// Of each redirect: what it has got, and all of its memory.
    pub redirects: Vec<(Vec<Range<u64>>, Vec<u8>)>,
    /// The exports' memory after each epoch.
    pub regions: Vec<Vec<u8>>,
    pub reads: Vec<Vec<u8>>,
}

/// A notification, but for what two runs may call by different names.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    export: usize,
    sender: usize,
    offset: u64,
    length: u64,
    tag: u32,
    pieces: Vec<Somewhere>,
}

/// A part of what was sent, and in which redirect it is, and where in it, if in any.
type Somewhere = (Range<u64>, Option<(usize, u64)>);

/// Hosts `0..senders` send, and the next one receives.
pub struct Scene {
    pub world: World,
    pub receiver: usize,
    exports: Vec<(u32, Region)>,
    /// Of each sender: of its own export, and of the shared one.
    imports: Vec<[u32; 2]>,
    /// Memory next to all that packets come to.
    canaries: Vec<Region>,
    outcome: Outcome,
    /// The kernels drop packets that were let in, when these numbers say so.
    pub drops: Option<fastrand::Rng>,
}

/// A send that has begun.
enum Going<'a> {
    Eager(Send<'a>),
    Direct(DirectSend, Source),
}

/// What a sender is about.
struct Sender<'a> {
    acts: VecDeque<(&'a Act, &'a [u8])>,
    going: Option<Going<'a>>,
    tickets: Vec<Ticket>,
    sources: Vec<Source>,
    reads: Vec<u32>,
}

/// Memory that is sent from, and what it held.
struct Source {
    buffer: Arc<Buffer>,
    held: Vec<u8>,
}

pub fn canary(arena: &Arena) -> Region {
    let region = arena.alloc(300).unwrap();
    region.fill(CANARY).unwrap();
    region
}

impl Scene {
    pub fn new(mut world: World, program: &Program) -> Scene {
        let receiver = program.senders;
        let mut canaries = vec![canary(&world.hosts[receiver].arena)];
        let mut exports = Vec::new();
        for (number, &len) in program.exports.iter().enumerate() {
            let options = export_options(&format!("inbox {number}"), key(), 1000);
            exports.push(world.export_as(receiver, ExportOptions { readable: true, ..options }, len));
            canaries.push(canary(&world.hosts[receiver].arena));
        }
        let mut import = |sender, export: usize| world.import(sender, receiver, &format!("inbox {export}")).unwrap();
        let imports = (0..program.senders).map(|n| [import(n, n), import(n, program.shared())]).collect();
        Scene { world, receiver, exports, imports, canaries, outcome: Outcome::default(), drops: None }
    }

    /// Does all that the program says.
    pub fn run(mut self, program: &Program) -> (Outcome, World) {
        program.epochs.iter().for_each(|epoch| self.epoch(epoch));
        for canary in &self.canaries {
            assert!(contents(canary).iter().all(|&byte| byte == CANARY), "bytes beside the memory were written");
        }
        (self.outcome, self.world)
    }

    fn epoch(&mut self, epoch: &Epoch) {
        let data: Vec<Vec<Vec<u8>>> = epoch.acts.iter().map(|acts| acts.iter().map(data).collect()).collect();
        let mut senders: Vec<Sender<'_>> = epoch
            .acts
            .iter()
            .zip(&data)
            .map(|(acts, data)| Sender {
                acts: acts.iter().zip(data.iter().map(Vec::as_slice)).collect(),
                going: None,
                tickets: Vec::new(),
                sources: Vec::new(),
                reads: Vec::new(),
            })
            .collect();
        let mut posted: Vec<RedirectId> = Vec::new();
        let end = self.world.now() + Duration::from_secs(600);
        for step in 0.. {
            self.post_until(epoch, &mut posted, step);
            for (number, sender) in senders.iter_mut().enumerate() {
                self.go_on(number, sender);
            }
            if senders.iter().enumerate().all(|(number, sender)| self.is_done(number, sender)) {
                // With nothing on the way steps would be long.
                self.post_until(epoch, &mut posted, usize::MAX);
                break;
            }
            if let Some(drops) = &mut self.drops
                && drops.u8(..50) == 0
                && let Some(control) = self.world.hosts[drops.usize(..=self.receiver)].port.control()
            {
                control.drop_admitted(drops.u64(1..3));
            }
            assert!(self.world.now() < end, "something doesn't arrive: {}", self.state());
            self.world.step();
        }
        for (number, sender) in senders.into_iter().enumerate() {
            self.conclude(number, sender);
        }
        self.write_down(epoch, &posted);
    }

    fn state(&self) -> String {
        let hosts = self.world.hosts.iter();
        hosts.map(|host| format!("{:?} {:?}\n", host.engine.counters(), host.port.bulk_counters())).collect()
    }

    fn post_until(&mut self, epoch: &Epoch, posted: &mut Vec<RedirectId>, step: usize) {
        while let Some(post) = epoch.posts.get(posted.len()).filter(|post| post.after <= step) {
            posted.push(self.post(post));
        }
    }

    fn post(&mut self, post: &Post) -> RedirectId {
        let room = post.wanted.len() as usize + post.spare;
        let host = &mut self.world.hosts[self.receiver];
        let target: Box<dyn Target> = if post.in_buffer {
            let mut buffer = host.arena.buffer(room).unwrap();
            buffer.fill(BLANK);
            self.canaries.push(canary(&host.arena));
            Box::new(buffer)
        } else {
            Box::new(vec![BLANK; room])
        };
        host.engine.redirect(self.exports[post.export].0, post.wanted.clone(), target).unwrap()
    }

    /// Does as much as there is room for.
    fn go_on<'a>(&mut self, number: usize, sender: &mut Sender<'a>) {
        loop {
            if sender.going.is_some() {
                if !self.send(number, sender) {
                    return;
                }
                continue;
            }
            match sender.acts.front() {
                None => return,
                Some((Act::Put(put), data)) => sender.going = Some(self.begin(number, put, data)),
                Some((Act::Read(read), _)) => match self.fetch(number, read) {
                    Some(fetch) => sender.reads.push(fetch),
                    None => return,
                },
            }
            if sender.going.is_none() {
                sender.acts.pop_front();
            }
        }
    }

    fn import(&self, number: usize, export: usize) -> u32 {
        self.imports[number][usize::from(export != number)]
    }

    fn begin<'a>(&mut self, number: usize, put: &Put, data: &'a [u8]) -> Going<'a> {
        let import = self.import(number, put.export);
        let host = &mut self.world.hosts[number];
        if let From::Buffer(skip) = put.from
            && host.engine.is_direct(import, data.len())
        {
            let mut buffer = host.arena.buffer(skip + data.len()).unwrap();
            buffer[skip..].copy_from_slice(data);
            let source = Source { held: buffer.to_vec(), buffer: Arc::new(buffer) };
            let from = DirectSource::of_buffer(source.buffer.clone());
            let part = skip..skip + data.len();
            return Going::Direct(DirectSend::new(from, part, put.range.start as u64, put.notify), source);
        }
        let mut send = Send::new(data, put.range.start as u64);
        send.notify = put.notify;
        Going::Eager(send)
    }

    /// Goes on with a send. Returns whether it is over.
    fn send(&mut self, number: usize, sender: &mut Sender<'_>) -> bool {
        let (Some((Act::Put(put), _)), Some(going)) = (sender.acts.front(), &mut sender.going) else { return true };
        let import = self.import(number, put.export);
        let now = self.world.now();
        let host = &mut self.world.hosts[number];
        let ticket = match going {
            Going::Eager(send) => host.engine.send(now, &mut host.port, import, send),
            Going::Direct(send, _) => host.engine.send_direct(now, &mut host.port, import, send),
        };
        host.port.flush().unwrap();
        let Some(ticket) = ticket.unwrap() else { return false };
        sender.tickets.push(ticket);
        if let Some(Going::Direct(_, source)) = sender.going.take() {
            sender.sources.push(source);
        }
        sender.acts.pop_front();
        true
    }

    fn fetch(&mut self, number: usize, read: &Read) -> Option<u32> {
        let import = self.import(number, read.export);
        let now = self.world.now();
        let host = &mut self.world.hosts[number];
        let len = read.range.len();
        let target: Box<dyn Target> = match read.into_buffer && len > 0 {
            true => Box::new(host.arena.buffer(len).unwrap()),
            false => Box::new(vec![0; len]),
        };
        host.engine.fetch(now, &mut host.port, import, read.range.start as u64, &mut Some(target)).unwrap()
    }

    fn is_done(&self, number: usize, sender: &Sender<'_>) -> bool {
        let engine = &self.world.hosts[number].engine;
        let is_delivered = |ticket: &Ticket| engine.is_delivered(ticket).unwrap();
        let is_read = |&fetch: &u32| engine.has_ended(fetch);
        sender.acts.is_empty() && sender.tickets.iter().all(is_delivered) && sender.reads.iter().all(is_read)
    }

    /// Memory comes back as it was, and what was read with it.
    fn conclude(&mut self, number: usize, sender: Sender<'_>) {
        for source in sender.sources {
            let buffer = Arc::try_unwrap(source.buffer).expect("nobody has it any more");
            assert!(*buffer == source.held, "what was sent was written");
        }
        for fetch in sender.reads {
            let target = self.world.hosts[number].fetched(fetch).map_err(|(error, _)| error);
            self.outcome.reads.push(into_bytes(target.unwrap().expect("it has ended")));
        }
    }

    fn write_down(&mut self, epoch: &Epoch, posted: &[RedirectId]) {
        let host = &mut self.world.hosts[self.receiver];
        let engine = &mut host.engine;
        let place = |piece: &Piece| match piece.place {
            Place::Redirect { redirect, at } => {
                Some((posted.iter().position(|&id| id == redirect).expect("it is posted"), at))
            }
            _ => None,
        };
        let mut told = Vec::new();
        for (export, (id, _)) in self.exports.iter().enumerate() {
            while let Some(news) = engine.take_notification(*id) {
                let pieces = joined(news.pieces().map(|piece| (piece.range.clone(), place(&piece))));
                let sender = (0..epoch.acts.len()).find(|&n| address(n) == news.peer);
                let (sender, length) = (sender.expect("it is one of them"), news.length);
                told.push(Told { export, sender, offset: news.offset, length, tag: news.tag, pieces });
            }
        }
        // Each sender's come in order; whose come first is chance.
        told.sort_by_key(|told| (told.export, told.sender));
        self.outcome.told.extend(told);
        for (post, &id) in epoch.posts.iter().zip(posted) {
            let returned: Returned =
                engine.take_redirect(&mut host.port, self.exports[post.export].0, id).expect("it is posted");
            let ranges = returned.received.ranges().collect();
            self.outcome.redirects.push((ranges, into_bytes(returned.target)));
        }
        for post in epoch.posts.iter().filter(|post| post.after > 0) {
            // What has come before it was posted is here, too.
            let Wanted::Range(range) = &post.wanted else { continue };
            let blank = vec![BLANK; (range.end - range.start) as usize];
            self.exports[post.export].1.write(range.start, &blank).unwrap();
        }
        for (id, region) in &self.exports {
            engine.forget(*id, 0..region.len() as u64);
            self.outcome.regions.push(contents(region));
        }
    }
}

fn data(act: &Act) -> Vec<u8> {
    match act {
        Act::Put(put) => bytes(put),
        Act::Read(_) => Vec::new(),
    }
}

/// Pieces that go on where the one before ends are one.
fn joined(pieces: impl Iterator<Item = Somewhere>) -> Vec<Somewhere> {
    let mut joined: Vec<Somewhere> = Vec::new();
    for (range, place) in pieces {
        match joined.last_mut() {
            Some((last, before))
                if last.end == range.start
                    && before.map(|(redirect, at)| (redirect, at + last.end - last.start)) == place =>
            {
                last.end = range.end;
            }
            _ => joined.push((range, place)),
        }
    }
    joined
}
