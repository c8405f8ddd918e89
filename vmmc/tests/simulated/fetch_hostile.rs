//! Remote read with a peer that keeps to no rule: it gets nothing that it wasn't granted, and breaks nothing but its own link.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use vmmc::LinkEnd;
use vmmc::Target;
use vmmc::engine::{EngineError, ExportOptions};
use vmmc::port::sim::Conditions;
use vmmc::wire::frame::Datagram;
use vmmc::wire::record::{FetchRefusal, MAX_FETCHES, Record};
use vmmc::wire::{HEADER_LEN, Header, Kind, Reader};

use crate::fetch::{begin, bytes, end, table};
use crate::world::{World, address, contents, export_options, forge, key, link_config, seed};

/// Speaks in a host's stead, on the link that it had with another.
pub struct Puppet {
    host: usize,
    to: usize,
    tap: Receiver<Vec<u8>>,
    header: Header,
}

impl Puppet {
    /// Takes the place of `host`, which must have said something since `tap` was made.
    pub fn new(world: &mut World, tap: Receiver<Vec<u8>>, host: usize, to: usize) -> Puppet {
        world.run(Duration::from_millis(5));
        world.hosts[host].on = false;
        let said = |frame: Vec<u8>| parse(&frame, host).map(|(header, _)| header);
        let last = tap.try_iter().filter_map(said).filter(|h| matches!(h.kind, Kind::Data | Kind::Ack)).last().unwrap();
        let sequence = last.sequence.wrapping_add(u32::from(last.kind == Kind::Data));
        Puppet { host, to, tap, header: Header { kind: Kind::Data, sequence, credit: 200, ..last } }
    }

    /// What the other host calls the link.
    pub fn token(&self) -> u64 {
        self.header.token
    }

    /// Says this, in a packet of its own.
    pub fn say(&mut self, world: &mut World, record: Record, body: &[u8]) {
        self.add(world, record, body);
        world.run(Duration::from_micros(20));
    }

    /// Likewise, and goes on before it can have been heard.
    pub fn add(&mut self, world: &mut World, record: Record, body: &[u8]) {
        let body = [record.emit().as_ref(), body].concat();
        let mac = world.hosts[self.host].mac;
        world.network.inject(&forge(address(self.host), mac, self.to, self.header, &body));
        self.header.sequence = self.header.sequence.wrapping_add(1);
    }

    /// What it has been told since it was last asked.
    pub fn told(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for (header, body) in self.tap.try_iter().filter_map(|frame| parse(&frame, self.to)) {
            if header.kind != Kind::Data {
                continue;
            }
            self.header.ack = header.sequence.wrapping_add(1);
            let fragments = [&body[..]];
            let mut reader = Reader::new(&fragments, 0, usize::MAX);
            while let Ok(Some(record)) = Record::parse(&mut reader) {
                reader.skip(record.body_len());
                records.push(record);
            }
        }
        records
    }
}

/// A packet's header and body, if it is from `host`.
fn parse(frame: &[u8], host: usize) -> Option<(Header, Vec<u8>)> {
    let datagram = Datagram::parse(frame, frame.len()).ok()?;
    let packet = &frame[datagram.start..][..datagram.length];
    let header = Header::parse(packet).ok()?;
    (datagram.source == address(host)).then(|| (header, packet[HEADER_LEN..].to_vec()))
}

/// Host 0 has imported a table of host 1's, and what it says from now on is made up. The grant, too.
fn hostile_requester(world: &mut World, readable: bool) -> (Puppet, u32) {
    let options = ExportOptions { readable, ..export_options("table", key(), 10) };
    world.export_as(1, options, 1_000_000);
    let tap = world.network.tap();
    world.import(0, 1, "table").unwrap();
    let granted = world.hosts[1].engine.peers().next().unwrap().grants;
    assert_eq!(granted, 1);
    (Puppet::new(world, tap, 0, 1), 1 << 20)
}

fn refusals(records: &[Record]) -> Vec<(u32, FetchRefusal)> {
    let refusal = |record: &Record| match *record {
        Record::FetchRefused { request, reason } => Some((request, reason)),
        _ => None,
    };
    records.iter().filter_map(refusal).collect()
}

#[test]
fn what_the_requester_doesn_t_check_the_exporter_does() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, grant) = hostile_requester(&mut world, true);
    for (request, grant, offset, length) in [
        (1, grant + 1, 0, 1),
        (2, grant, 0, 1_000_001),
        (3, grant, 1_000_000, 1),
        (4, grant, 1 << 63, 1),
        (5, grant, 1, u64::MAX - 1),
    ] {
        puppet.say(&mut world, Record::Fetch { request, grant, offset, length }, &[]);
    }
    use FetchRefusal::{NoGrant, OutOfRange};
    let expected = [(1, NoGrant), (2, OutOfRange), (3, OutOfRange), (4, OutOfRange), (5, OutOfRange)];
    assert_eq!(refusals(&puppet.told()), expected);
    // A refused one doesn't spoil the grant, as a send past the end does.
    puppet.say(&mut world, Record::Fetch { request: 6, grant, offset: 999_999, length: 1 }, &[]);
    assert_eq!(puppet.told(), [Record::Fetched { request: 6, at: 0, length: 1 }]);
    let put = Record::Put { grant, offset: 1_000_000, length: 1, notify: None };
    puppet.say(&mut world, put, b"x");
    puppet.say(&mut world, Record::Fetch { request: 7, grant, offset: 0, length: 1 }, &[]);
    assert_eq!(refusals(&puppet.told()), [(7, NoGrant)]);
    assert_eq!(world.hosts[1].engine.counters().refused_fetches, 6);
    assert_eq!(world.hosts[1].engine.counters().served_bytes, 1);
}

#[test]
fn an_export_that_isn_t_readable_stays_secret() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, grant) = hostile_requester(&mut world, false);
    puppet.say(&mut world, Record::Fetch { request: 1, grant, offset: 0, length: 1 }, &[]);
    assert_eq!(refusals(&puppet.told()), [(1, FetchRefusal::NotReadable)]);
    assert_eq!(world.hosts[1].engine.counters().served_bytes, 0);
}

#[test]
fn a_read_only_export_is_left_alone() {
    let mut world = World::new(2, seed(), Conditions::default());
    let options = ExportOptions { writable: false, ..export_options("table", key(), 10) };
    let (_, region) = world.export_as(1, options, 100);
    let tap = world.network.tap();
    world.import(0, 1, "table").unwrap();
    let mut puppet = Puppet::new(&mut world, tap, 0, 1);
    puppet.say(&mut world, Record::Put { grant: 1 << 20, offset: 0, length: 4, notify: None }, b"evil");
    assert_eq!(contents(&region), [0; 100]);
    assert_eq!(world.hosts[1].engine.counters().refused_puts, 1);
    assert!(matches!(puppet.told()[..], [Record::Refused { .. }]));
}

#[test]
fn a_flood_of_fetches_takes_bounded_room() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, grant) = hostile_requester(&mut world, true);
    // Nothing is acknowledged, so none of these is ever done.
    for request in 0..2000 {
        puppet.say(&mut world, Record::Fetch { request, grant, offset: 0, length: 1_000_000 }, &[]);
    }
    let link = world.hosts[1].engine.peers().next().unwrap();
    assert_eq!(link.jobs, MAX_FETCHES);
    assert!(refusals(&puppet.told()).iter().all(|&(_, reason)| reason == FetchRefusal::TooMany));
    world.run(Duration::from_secs(10));
    assert_eq!(world.hosts[1].engine.peers().count(), 0, "a peer that acknowledges nothing is dead");
}

#[test]
fn the_same_request_twice_and_cancelling_what_isn_t_there() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, grant) = hostile_requester(&mut world, true);
    puppet.say(&mut world, Record::FetchCancel { request: 9 }, &[]);
    puppet.say(&mut world, Record::Fetch { request: 1, grant, offset: 0, length: 1_000_000 }, &[]);
    puppet.say(&mut world, Record::Fetch { request: 1, grant, offset: 0, length: 1_000_000 }, &[]);
    assert_eq!(world.hosts[1].engine.peers().next().unwrap().jobs, 2);
    puppet.say(&mut world, Record::FetchCancel { request: 1 }, &[]);
    assert_eq!(world.hosts[1].engine.peers().next().unwrap().jobs, 0);
}

/// Host 0 fetches 5000 bytes from host 1, which is no longer itself.
fn hostile_exporter(world: &mut World) -> (Puppet, u32) {
    table(world, 1, 10_000);
    let tap = world.network.tap();
    let import = world.import(0, 1, "table").unwrap();
    let puppet = Puppet::new(world, tap, 1, 0);
    let fetch = begin(world, 0, import, 0, 5000).unwrap();
    (puppet, fetch)
}

#[test]
fn pieces_that_weren_t_asked_for_end_the_link() {
    for (at, length) in [(1, 10), (4999, 1), (5000, 1), (u64::MAX - 10, 10), (9, 10)] {
        let mut world = World::new(2, seed(), Conditions::default());
        let (mut puppet, request) = hostile_exporter(&mut world);
        puppet.say(&mut world, Record::Fetched { request, at: 0, length: 10 }, &[1; 10]);
        puppet.say(&mut world, Record::Fetched { request, at, length }, &vec![1; length.into()]);
        let ended = world.until("the end", |w| w.hosts[0].fetched(request).err());
        assert!(matches!(ended.0, EngineError::LinkEnded { end: LinkEnd::Violation(_), .. }), "{at}: {}", ended.0);
        let kept = bytes(ended.1);
        assert!(kept[..10] == [1; 10] && kept[10..] == [0; 4990], "{at}");
        assert_eq!(world.hosts[0].engine.peers().count(), 0);
    }
}

#[test]
fn more_than_was_asked_for_ends_the_link() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, request) = hostile_exporter(&mut world);
    for at in [0, 1300, 2600] {
        puppet.say(&mut world, Record::Fetched { request, at, length: 1300 }, &[1; 1300]);
    }
    puppet.say(&mut world, Record::Fetched { request, at: 3900, length: 1101 }, &[1; 1101]);
    let ended = world.until("the end", |w| w.hosts[0].fetched(request).err());
    assert!(matches!(ended.0, EngineError::LinkEnded { end: LinkEnd::Violation(_), .. }), "{}", ended.0);
}

#[test]
fn answers_to_nothing_are_counted_and_passed_over() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, request) = hostile_exporter(&mut world);
    puppet.say(&mut world, Record::Fetched { request: request + 1, at: 0, length: 10 }, &[1; 10]);
    puppet.say(&mut world, Record::Fetched { request: 0, at: 0, length: 10 }, &[1; 10]);
    puppet.say(&mut world, Record::FetchRefused { request: 77, reason: FetchRefusal::NoGrant }, &[]);
    assert_eq!(world.hosts[0].engine.counters().rx_unasked, 3);
    for (at, length) in [(0, 1400), (1400, 1400), (2800, 1400), (4200, 800)] {
        puppet.say(&mut world, Record::Fetched { request, at, length }, &vec![2; length.into()]);
    }
    // Its end, and then once more.
    puppet.say(&mut world, Record::Fetched { request, at: 5000, length: 1 }, &[3]);
    puppet.say(&mut world, Record::FetchRefused { request, reason: FetchRefusal::Cancelled }, &[]);
    assert_eq!(world.hosts[0].engine.counters().rx_unasked, 5);
    assert_eq!(world.hosts[0].engine.peers().next().unwrap().fetching, 0);
    assert_eq!(end(&mut world, 0, request), Ok(vec![2; 5000]));
}

#[test]
fn every_refusal_gives_the_memory_back() {
    for reason in [
        FetchRefusal::NoGrant,
        FetchRefusal::OutOfRange,
        FetchRefusal::NotReadable,
        FetchRefusal::TooMany,
        FetchRefusal::Cancelled,
    ] {
        let mut world = World::new(2, seed(), Conditions::default());
        let (mut puppet, request) = hostile_exporter(&mut world);
        puppet.say(&mut world, Record::Fetched { request, at: 0, length: 10 }, &[1; 10]);
        puppet.say(&mut world, Record::FetchRefused { request, reason }, &[]);
        let (error, target) = world.until("the end", |w| w.hosts[0].fetched(request).err());
        assert!(!error.to_string().is_empty());
        assert_eq!(bytes(target).iter().map(|&b| usize::from(b)).sum::<usize>(), 10, "{reason:?}");
        assert_eq!(world.hosts[0].engine.peers().count(), 1, "{reason:?} is no breach");
    }
}

#[test]
fn pieces_without_credit_end_the_link() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, request) = hostile_exporter(&mut world);
    // Other records need no credit, but use up numbers that it would be for.
    for _ in 0..link_config().credit {
        puppet.add(&mut world, Record::Release { grant: 77 }, &[]);
    }
    puppet.say(&mut world, Record::Fetched { request, at: 0, length: 10 }, &[1; 10]);
    let (error, target) = world.until("the end", |w| w.hosts[0].fetched(request).err());
    assert!(matches!(error, EngineError::LinkEnded { end: LinkEnd::Violation(_), .. }), "{error}");
    assert_eq!(bytes(target), [0; 5000]);
}

#[test]
fn a_peer_that_never_answers_keeps_no_memory() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (mut puppet, request) = hostile_exporter(&mut world);
    world.run(Duration::from_millis(100));
    assert!(matches!(world.hosts[0].fetched(request), Ok(None)));
    let target = world.hosts[0].cancel_fetch(request).unwrap();
    assert_eq!(target.len(), 5000);
    world.run(Duration::from_micros(50));
    assert!(puppet.told().contains(&Record::FetchCancel { request }));
    // Whatever it says now, nobody's memory is written, and the number is nobody else's.
    puppet.say(&mut world, Record::Fetched { request, at: 0, length: 1400 }, &[1; 1400]);
    let import = world.hosts[0].engine.imports().next().unwrap().id;
    let (now, host) = (world.now(), &mut world.hosts[0]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0; 100]));
    let next = host.engine.fetch(now, &mut host.port, import, 0, &mut target).unwrap().unwrap();
    assert_ne!(next, request);
    puppet.say(&mut world, Record::FetchRefused { request, reason: FetchRefusal::Cancelled }, &[]);
    assert_eq!(world.hosts[0].engine.peers().next().unwrap().fetching, 1);
}
