//! What happens in the capture: everything that can.

use std::sync::OnceLock;
use std::time::Duration;

use vmmc::Key;
use vmmc::Target;
use vmmc::engine::{ExportOptions, Send};
use vmmc::link;
use vmmc::port::sim::Conditions;
use vmmc::port::tap::{Capture, Direction, Frame, Item, Wire, read};
use vmmc::wire::frame::{Datagram, Path};
use vmmc::wire::record::{Access, BulkRecord, Declined, Errand, FetchRefusal, ImportStatus, Notify, Record, Refusal};
use vmmc::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Hello, Kind, checksum};

use crate::world::{World, export_options, forge, key, link_config, options};

/// Everything that a capture holds.
pub fn drain(capture: &Capture) -> Vec<Frame> {
    let mut bytes = Vec::new();
    capture.take(&mut bytes);
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (item, missed) = read(&mut rest).unwrap();
        assert_eq!(missed, 0, "it was read in time");
        match item {
            Item::Frame(frame) => frames.push(frame),
            Item::End => break,
        }
    }
    frames
}

/// The packet in a frame that has one.
pub fn payload(frame: &Frame) -> &[u8] {
    let datagram = Datagram::parse(&frame.bytes, frame.length).unwrap();
    &frame.bytes[datagram.start..][..datagram.length]
}

/// What host 0 has sent and received in a life that has seen it all.
pub fn life() -> &'static [Frame] {
    static FRAMES: OnceLock<Vec<Frame>> = OnceLock::new();
    FRAMES.get_or_init(live)
}

fn live() -> Vec<Frame> {
    let config = link::Config { mtu: 9000, ..link_config() };
    let good = Conditions { max_frame: 9018, ..Conditions::default() };
    let mut world = World::with(3, 7, good, config);
    let capture = world.hosts[0].tap.capture(usize::MAX).unwrap();
    let mut frames = Vec::new();

    // Handshakes of several sizes; imports that are granted and that aren't; writes of all lengths.
    let (inbox, _) = world.export(1, "inbox", 1 << 20, 100);
    let (back, _) = world.export(0, "zurück \"\\", 1 << 20, 100);
    world.network.set_conditions(Conditions { max_frame: 1518, ..good });
    let import = world.import(0, 1, "inbox").unwrap();
    world.run(Duration::from_millis(20));
    world.network.set_conditions(good);
    let other = world.import(0, 1, "inbox").unwrap();
    world.import(0, 1, "nothing").unwrap_err();
    let denied = world.begin_import(0, 1, "inbox", Key::PUBLIC).unwrap();
    world.until("the refusal", |w| w.hosts[0].engine.imported(denied).is_err().then_some(()));
    let backwards = world.import(1, 0, "zurück \"\\").unwrap();
    for length in [0, 1, 100, 5000, 200_000] {
        world.send(0, import, &vec![length as u8; length], 7, Some(length as u32)).unwrap();
        world.send(1, backwards, &vec![length as u8; length + 1], 7, None).unwrap();
    }
    for tag in 0..40 {
        let mut send = Send::new(b"small", tag.into());
        (send.notify, send.queued) = (Some(tag), true);
        world.submit(0, import, send).unwrap();
    }
    world.notification(1, inbox);
    world.run(Duration::from_millis(5));

    // Reads, of all lengths too; one is given up. Notifications that nobody takes.
    let readable = ExportOptions { readable: true, writable: false, ..export_options("readable", key(), 1) };
    world.export_as(1, readable, 1 << 20);
    let table = world.import(0, 1, "readable").unwrap();
    let fetches = [1, 100, 5000, 200_000, 1 << 20].map(|length| fetch(&mut world, table, length));
    world.run(Duration::from_micros(5));
    assert!(world.hosts[0].cancel_fetch(fetches[4]).is_some());
    for fetch in &fetches[..4] {
        world.until("a read", |w| w.hosts[0].fetched(*fetch).map_err(|(error, _)| error).unwrap());
    }
    world.export(0, "full", 100, 1);
    let full = world.import(1, 0, "full").unwrap();
    for tag in 0..3 {
        world.send(1, full, b"full", 0, Some(tag)).unwrap();
    }
    world.run(Duration::from_millis(5));
    let full = world.hosts[0].engine.exports().find(|export| export.name == "full").unwrap().id;
    for _ in 0..3 {
        world.notification(0, full);
    }
    world.run(Duration::from_millis(5));

    // Loss, repetition, damage, and marks of a congested switch.
    let bad = Conditions { loss: 0.05, corruption: 0.03, reordering: 0.05, rate: Some(1 << 30), ..good };
    world.network.set_conditions(Conditions { mark: Some(Duration::from_micros(20)), ..bad });
    for round in 0..8u32 {
        world.send(0, import, &vec![1; 150_000], 0, Some(round)).unwrap();
        world.send(1, backwards, &vec![2; 150_000], 0, Some(round)).unwrap();
        world.notification(0, back);
        frames.extend(drain(&capture));
    }
    // A host that rarely looks.
    world.hosts[0].looks_every = Some(Duration::from_millis(1));
    world.send(1, backwards, &vec![3; 100_000], 0, Some(9)).unwrap();
    world.run(Duration::from_millis(50));
    world.hosts[0].looks_every = None;
    world.network.set_conditions(good);

    // Grants that end; one of them while a write is under way.
    world.hosts[0].engine.unimport(other);
    world.run(Duration::from_millis(5));
    let ticket = world.send(0, import, b"too late", 0, None).unwrap();
    world.hosts[1].engine.unexport(inbox);
    world.delivered(0, ticket).unwrap_err();
    world.run(Duration::from_millis(5));

    // Strangers; a RESET answers them.
    let stranger = "10.9.0.1:7000".parse().unwrap();
    for record in unusual() {
        let header = Header { kind: Kind::Data, token: 99, sequence: 1, ..Header::default() };
        let mut body = record.emit().as_ref().to_vec();
        match record {
            Record::Bulk(BulkRecord::Missing { .. }) => body.extend(BulkRecord::missing_body(&[7..9, 1..2])),
            _ => body.resize(body.len() + record.body_len(), b'n'),
        }
        world.network.inject(&forge(stranger, [2, 0, 0, 0, 0, 99], 0, header, &body));
    }
    world.run(Duration::from_millis(5));

    // The end, and a new life without checksums.
    let now = world.now();
    world.hosts[0].engine.close(now);
    world.until("the close", |w| w.hosts[0].engine.is_closed().then_some(()));
    frames.extend(drain(&capture));
    for host in [0, 2] {
        world.restart(host, link::Config { options: options(false), ..link_config() });
    }
    let capture = world.hosts[0].tap.capture(usize::MAX).unwrap();
    world.export(2, "plain", 1000, 10);
    let plain = world.import(0, 2, "plain").unwrap();
    let ticket = world.send(0, plain, b"no checksum", 0, Some(1)).unwrap();
    world.delivered(0, ticket).unwrap();
    world.run(Duration::from_millis(1));
    // Whoever is restarted knows none of his links.
    world.restart(2, link_config());
    world.send(0, plain, b"who are you?", 0, None).unwrap();
    world.run(Duration::from_millis(5));
    frames.extend(drain(&capture));
    frames.extend(wrapped());
    frames
}

/// Host 0 begins to read from host 1.
fn fetch(world: &mut World, import: u32, length: usize) -> u32 {
    let (now, host) = (world.now(), &mut world.hosts[0]);
    let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0; length]));
    let mut wire = Wire::new(&mut host.port, &mut host.tap);
    host.engine.fetch(now, wire.port(), import, 0, &mut target).unwrap().expect("there are few")
}

/// How many packets there are of strangers.
pub const UNUSUAL: usize = 23;

/// Records that nodes which behave have no reason to send, and those about transfers, which these nodes have no lane for.
fn unusual() -> [Record; UNUSUAL] {
    let (grant, request) = (4, 5);
    let access = Access::default();
    let notify = Some(Notify { tag: 7, total: 9000 });
    let ask = |errand, offset, rest| {
        Record::Bulk(BulkRecord::Ask { transfer: 1, errand, offset, segment: 1440, segments: 6, rest })
    };
    [
        ask(Errand::Put { grant, notify: None }, u64::MAX - 9000, 9),
        ask(Errand::Put { grant, notify }, 1000, 1),
        ask(Errand::Fetched { request }, 0, 0),
        Record::Bulk(BulkRecord::Granted { transfer: 1, grant: 2 }),
        Record::Bulk(BulkRecord::Declined { transfer: 1, reason: Declined::Unable }),
        Record::Bulk(BulkRecord::Declined { transfer: u32::MAX, reason: Declined::Unwanted }),
        Record::Bulk(BulkRecord::Landed { grant: 2, packets: 4 }),
        Record::Bulk(BulkRecord::Missing { grant: 2, ranges: 2 }),
        Record::Bulk(BulkRecord::Done { transfer: 1 }),
        Record::Bulk(BulkRecord::Cleared { transfer: 1 }),
        Record::Bulk(BulkRecord::Cancel { transfer: 1 }),
        Record::Bulk(BulkRecord::Sent { grant: 2, questions: 3 }),
        Record::Imported { request, status: ImportStatus::TooMany, grant: 0, access, length: 0 },
        Record::Refused { reason: Refusal::OutOfRange, grant, sequence: u32::MAX },
        Record::Refused { reason: Refusal::NotWritable, grant, sequence: 0 },
        Record::Refused { reason: Refusal::Lent, grant, sequence: 1 },
        Record::Fetch { request, grant, offset: u64::MAX - 9, length: 9 },
        Record::Fetched { request, at: u64::MAX - 9, length: 9 },
        Record::FetchRefused { reason: FetchRefusal::NoGrant, request },
        Record::FetchRefused { reason: FetchRefusal::OutOfRange, request },
        Record::FetchRefused { reason: FetchRefusal::NotReadable, request },
        Record::FetchRefused { reason: FetchRefusal::TooMany, request },
        Record::Put { grant, offset: u64::MAX - 9, length: 9, notify: Some(Notify { tag: u32::MAX, total: u64::MAX }) },
    ]
}

/// Packets over IPv6, in a VLAN, and on a port that isn't the usual one.
fn wrapped() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (local, remote, vlan) in [
        ("[fd77::1]:7000", "[fd77::2]:7000", None),
        ("10.77.0.1:7000", "10.77.0.2:7000", Some(5)),
        ("10.77.0.1:4444", "10.77.0.2:5555", Some(5)),
    ] {
        let path = Path {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            local_mac: [2; 6],
            next_hop: [4; 6],
            vlan,
        };
        let encap = path.encap().unwrap();
        let hello = Hello { incarnation: 1, token: 2, mtu: 1280, first: u32::MAX, ..Hello::default() };
        let mut body = hello.emit().to_vec();
        body.resize(encap.payload_room(1280) - HEADER_LEN, 0);
        for (kind, body) in [(Kind::Hello, body), (Kind::Ack, Vec::new())] {
            let flags = Flags { checked: true, ..Flags::default() };
            let header = Header { kind, flags, token: 3, ..Header::default() };
            let header = Header { checksum: checksum([&header.emit()[CHECKSUM_LEN..], &body]), ..header };
            let mut bytes = vec![0; encap.len()];
            encap.write(&mut bytes, HEADER_LEN + body.len());
            bytes.extend(header.emit());
            bytes.extend(body);
            let (time, length) = (Duration::from_nanos(1_700_000_000_123_456_789), bytes.len());
            frames.push(Frame { time, direction: Direction::Received, rebuilt: false, length, bytes });
        }
    }
    frames
}
