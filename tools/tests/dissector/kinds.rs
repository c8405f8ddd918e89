//! Every kind of packet and record, field by field.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};
use vmmc::port::tap::{Direction, Frame};
use vmmc::wire::frame::Path;
use vmmc::wire::record::Record;
use vmmc::wire::{BulkHeader, Header, Kind, Reader, WireError};

use crate::packet::{Body, BulkPacket, Packet};
use crate::scene::payload;
use crate::{expected, file, scene, tshark};

/// What other packets contribute to a packet's tree, and what calls attention to something in it.
fn without_context(tree: &mut Map<String, Value>) {
    tree.retain(|field, value| {
        if let Value::Object(inner) = value {
            without_context(inner);
        }
        if let Value::Array(list) = value {
            list.iter_mut().filter_map(Value::as_object_mut).for_each(without_context);
        }
        let context = ["vmmc.token.receiver", "vmmc.token.announced_in", "vmmc.put.export", "_ws.expert"];
        let empty = field.ends_with("_tree") && value.as_object().is_some_and(Map::is_empty);
        !context.contains(&field.as_str()) && !field.starts_with("vmmc.repeats") && !empty
    });
}

/// Whether it is a packet but for its checksum.
fn is_damaged(frame: &Frame) -> bool {
    matches!(Packet::parse(&frame.bytes, frame.length), Err(WireError::Checksum("packet's")))
}

#[test]
fn every_field_is_what_the_library_says() {
    let frames = scene::life();
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, frames);
    let trees = file::trees(&capture, &[]);
    let lines = tshark::run(&capture, &["-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"]);
    assert_eq!((trees.len(), lines.lines().count()), (frames.len(), frames.len()));
    let mut compared = 0;
    for ((frame, tree), line) in frames.iter().zip(&trees).zip(lines.lines()) {
        let Ok(packet) = Packet::parse(&frame.bytes, frame.length) else { continue };
        let number = compared;
        compared += 1;
        let mut seen = tree.get("vmmc").unwrap_or_else(|| panic!("{packet} isn't taken for one: {line}")).clone();
        let seen = seen.as_object_mut().unwrap();
        without_context(seen);
        let wanted = expected::tree(&packet, payload(frame));
        for (field, value) in &wanted {
            assert_eq!(seen.get(field), Some(value), "{field} of packet {number}: {packet}");
        }
        assert_eq!(*seen, wanted, "fields of packet {number}: {packet}");
        // Context isn't in the library's line.
        let mut info = line.strip_prefix("VMMC\t").expect("the protocol").replace(" [repeated]", "");
        while let Some(at) = info.find(" (") {
            let end = info[at..].find(')').expect("it is closed") + at;
            info.replace_range(at..=end, "");
        }
        assert_eq!(info, packet.to_string());
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn nothing_that_the_library_knows_is_missing() {
    let frames = scene::life();
    assert!(frames.iter().any(|f| f.direction == Direction::Sent));
    let packets: Vec<Packet> = frames.iter().filter_map(|f| Packet::parse(&f.bytes, f.length).ok()).collect();
    assert!(frames.iter().filter(|frame| is_damaged(frame)).count() > 5);

    // What the parsers take is in the capture: kinds, flags, and the bytes of records that say what they are.
    let template = Header { kind: Kind::Ack, ..Header::default() }.emit();
    let with = |at: usize, byte: u8| {
        let mut bytes = template;
        bytes[at] = byte;
        Header::parse(&bytes).is_ok()
    };
    let known: BTreeSet<u8> = (0..=255).filter(|&kind| with(5, kind)).collect();
    let seen: BTreeSet<u8> = packets.iter().map(|p| p.header.kind as u8).collect();
    assert_eq!(seen, known, "kinds of packets");

    let known: BTreeSet<u8> = (0..8).map(|bit| 1 << bit).filter(|&flag| with(6, flag)).collect();
    let flags = packets.iter().map(|p| p.header.emit()[6]).fold(0, |all, flags| all | flags);
    assert_eq!((0..8).map(|bit| 1 << bit).filter(|flag| flags & flag != 0).collect::<BTreeSet<u8>>(), known);

    // The first two bytes of a record, over fixed parts that are zero but for lengths.
    let takes = |kind: u8, detail: u8| {
        (0..2).any(|length| {
            let mut bytes = [0; 64];
            bytes[..4].copy_from_slice(&[kind, detail, 0, length]);
            // The length of a fetch, and of a whole send; the segments of a transfer, and the length of the send that it is of.
            bytes[31] = 1;
            if kind == 11 {
                (bytes[15], bytes[19], bytes[31], bytes[47]) = (1, 1, 0, 2);
            }
            matches!(Record::parse(&mut Reader::new(&[&bytes], 0, 64)), Ok(Some(_)))
        })
    };
    let known: BTreeSet<(u8, u8)> =
        (0..=255).flat_map(|kind| (0..=255).map(move |detail| (kind, detail))).filter(|&(k, d)| takes(k, d)).collect();
    let mut seen = BTreeSet::new();
    for packet in &packets {
        if let Body::Records(records) = &packet.body {
            seen.extend(records.iter().map(|(record, _)| (record.emit().as_ref()[0], record.emit().as_ref()[1])));
        }
    }
    assert_eq!(seen, known, "kinds of records, and their flags, states and reasons");
    assert_eq!(
        known.len(),
        2 + 1 + 4 + 1 + 1 + 4 + 1 + 1 + 5 + 1 + (3 + 1 + 2 + 6),
        "what is written above finds all of them"
    );

    let sacks = packets.iter().filter(|p| matches!(p.body, Body::Sack(Some(_))));
    assert!(sacks.count() > 5);
    for wanted in [|h: &Header| h.marks > 0, |h: &Header| h.ack_delay > 0, |h: &Header| h.credit > 0] {
        assert!(packets.iter().any(|p| wanted(&p.header)));
    }
    let sizes: BTreeSet<u16> =
        packets.iter().filter_map(|p| if let Body::Hello(hello) = &p.body { Some(hello.mtu) } else { None }).collect();
    assert!(sizes.is_superset(&[1500, 4352, 9000].into()), "probes of the MTU: {sizes:?}");
    for checksum in [false, true] {
        let hellos = |p: &&Packet| matches!(&p.body, Body::Hello(hello) if hello.options.checksum == checksum);
        assert!(packets.iter().filter(hellos).count() > 1);
    }
}

#[test]
fn packets_are_linked_to_each_other() {
    let frames = scene::life();
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, frames);
    let count = |filter: &str| tshark::run(&capture, &["-Y", filter, "-2"]).lines().count();
    assert!(count("vmmc.put.export == \"inbox\"") > 100);
    assert!(count("vmmc.record.kind == 1 && !vmmc.put.export") < 20, "strangers' only");
    assert_eq!(count("vmmc.record.kind == 7 && vmmc.put.export == \"readable\""), 5);
    assert!(count("vmmc.repeats") > 5);
    assert!(count("vmmc.checksum.bad") > 5);
    assert_eq!(
        count("vmmc.kind == 3 && !vmmc.checksum.bad && !vmmc.token.announced_in"),
        scene::UNUSUAL,
        "strangers' only"
    );
    assert_eq!(count("udp.port == 5555 && vmmc"), 2, "found by its looks");
    assert_eq!(count("frame.interface_name == \"vh1\""), frames.len());
    assert_eq!(count("frame.drop_count == 3"), 1);
    for (direction, bits) in [(Direction::Received, 1), (Direction::Sent, 2)] {
        let there = frames.iter().filter(|f| f.direction == direction).count();
        assert_eq!(count(&format!("frame.packet_flags_direction == {bits}")), there);
    }
    let times = tshark::run(&capture, &["-T", "fields", "-e", "frame.time_epoch", "-Y", "udp.port == 5555"]);
    assert!(times.lines().all(|time| time == "1700000000.123456789"), "{times}");
}

#[test]
fn checksums_can_be_left_alone_and_ports_chosen() {
    let frames = scene::life();
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, frames);
    let count = |filter, args: &[&str]| tshark::run(&capture, &[&["-Y", filter], args].concat()).lines().count();
    assert_eq!(count("vmmc.checksum.status < 2", &["-o", "vmmc.verify:FALSE"]), 0);
    // Without its port it is found by its looks, but for what is damaged.
    let moved = ["-o", "vmmc.ports:6000-6001,7001"];
    assert!(count("vmmc", &moved) > 300);
    let damaged: Vec<Frame> = frames.iter().filter(|f| is_damaged(f)).cloned().collect();
    let capture = file::write(&directory, &damaged);
    let bad = |args: &[&str]| tshark::run(&capture, &[&["-Y", "vmmc.checksum.bad"], args].concat()).lines().count();
    assert!(bad(&[]) > 5);
    assert_eq!(bad(&moved), 0);
}

#[test]
fn packets_of_the_bulk_lane_are_shown() {
    let frame = |(local, remote): (&str, &str), damage: u8, checked: bool| {
        let path = Path {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            local_mac: [2; 6],
            next_hop: [4; 6],
            vlan: None,
        };
        let encap = path.of_bulk().encap().unwrap();
        let payload = |take: &mut dyn FnMut(&[u8])| take(b"a segment");
        let header = BulkHeader { token: 5, grant: 6, segment: 7 }.emit(checked.then_some(payload));
        let mut bytes = vec![0; encap.len()];
        encap.write(&mut bytes, header.len() + 9);
        bytes.extend([&header[..], b"a segment"].concat());
        *bytes.last_mut().unwrap() ^= damage;
        Frame { time: Duration::from_secs(1), direction: Direction::Sent, rebuilt: false, length: bytes.len(), bytes }
    };
    let (usual, other) = (("10.77.0.1:7000", "10.77.0.2:7000"), ("[fd77::1]:4444", "[fd77::2]:5555"));
    let frames = [frame(usual, 0, true), frame(usual, 0, false), frame(usual, 1, true), frame(other, 0, true)];
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, &frames);
    let fields = ["vmmc.kind", "vmmc.bulk.grant", "vmmc.bulk.segment", "vmmc.checksum.status", "vmmc.checksum.bad"];
    let fields = fields.iter().chain(&["_ws.col.Info"]).flat_map(|field| ["-e", field]);
    let out = tshark::run(&capture, &["-T", "fields"].into_iter().chain(fields).collect::<Vec<_>>());
    let info = "BULK bulk=6 segment=7 len=9";
    let expected = [
        format!("7\t6\t7\t1\t\t{info}"),
        format!("7\t6\t7\t3\t\t{info}"),
        format!("7\t6\t7\t0\t1\t{info} [wrong checksum]"),
        format!("7\t6\t7\t1\t\t{info}"),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    // The library's line is the same.
    let lines = frames.iter().map(|frame| BulkPacket::parse(&frame.bytes, frame.length).unwrap().to_string());
    assert!(lines.eq(expected.iter().map(|line| line.rsplit('\t').next().unwrap())));
    assert!(BulkPacket::parse(&frames[0].bytes[..50], 50).is_err());
    // What isn't there isn't found wrong.
    let cut = BulkPacket::parse(&frames[2].bytes[..66], frames[2].length).unwrap().to_string();
    assert_eq!(cut, info);
}

#[test]
fn packets_that_have_landed_say_that_their_headers_are_built_again() {
    let lanes = (0..2).map(|host| Some(crate::lanes::lane(host, true))).collect();
    let link = vmmc::link::Config { mtu: 9000, ..crate::world::link_config() };
    let conditions = vmmc::port::sim::Conditions { max_frame: 9018, ..Default::default() };
    let mut world = crate::world::World::with_lanes(lanes, 1, conditions, link);
    let capture = world.hosts[1].tap.capture(usize::MAX).unwrap();
    let (inbox, _) = world.export(1, "inbox", 1 << 17, 8);
    let import = world.import(0, 1, "inbox").unwrap();
    let (now, host) = (world.now(), &mut world.hosts[0]);
    let buffer = std::sync::Arc::new(host.arena.buffer(1 << 17).unwrap());
    let source = vmmc::memory::DirectSource::of_buffer(buffer);
    let mut send = vmmc::engine::DirectSend::new(source, 0..1 << 17, 0, Some(1));
    host.engine.send_direct(now, &mut host.port, import, &mut send).unwrap().expect("all of it is asked for");
    world.notification(1, inbox);
    let frames = scene::drain(&capture);
    let directory = tempfile::tempdir().unwrap();
    let file = file::write(&directory, &frames);
    let fields = ["vmmc.kind", "vmmc.checksum.status", "frame.packet_flags_direction", "frame.comment"];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let args = ["-Y", "vmmc.kind == 7", "-T", "fields"];
    let out = tshark::run(&file, &args.into_iter().chain(fields).collect::<Vec<_>>());
    let landed = frames.iter().filter(|frame| frame.rebuilt).count();
    assert!(landed > 10 && out.lines().count() == landed, "{landed}: {out}");
    for line in out.lines() {
        assert!(line.starts_with("7\t1\t0x00000001\t") && line.contains("headers off"), "{line}");
    }
    let comments = tshark::run(&file, &["-Y", "vmmc.kind != 7", "-T", "fields", "-e", "frame.comment"]);
    assert!(!comments.contains("headers"), "{comments}");
}
