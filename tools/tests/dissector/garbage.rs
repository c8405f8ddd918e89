//! Packets that are damaged, cut short or nonsense: the dissector refuses what the library refuses, and never fails.

use std::time::Duration;

use vmmc::port::tap::{Direction, Frame};
use vmmc::wire::frame::Path;
use vmmc::wire::record::{BulkRecord, Errand, Notify, Record};
use vmmc::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Hello, Kind, checksum};

use crate::packet::Packet;
use crate::scene::payload;
use crate::{file, scene, tshark};

/// A frame around any payload.
fn wrap(payload: &[u8]) -> Frame {
    let path = Path {
        local: "10.77.0.1:7000".parse().unwrap(),
        remote: "10.77.0.2:7000".parse().unwrap(),
        local_mac: [2; 6],
        next_hop: [4; 6],
        vlan: None,
    };
    let encap = path.encap().unwrap();
    let mut bytes = vec![0; encap.len()];
    encap.write(&mut bytes, payload.len());
    bytes.extend(payload);
    Frame { time: Duration::from_secs(1), direction: Direction::Sent, rebuilt: false, length: bytes.len(), bytes }
}

/// Packets of a real capture after something has happened to them; many of them have right checksums again.
fn mangled(random: &mut fastrand::Rng) -> Vec<Frame> {
    let mut frames = Vec::new();
    let originals = scene::life();
    for _ in 0..3000 {
        let frame = &originals[random.usize(..originals.len())];
        if Packet::parse(&frame.bytes, frame.length).is_err() {
            continue;
        }
        let mut payload = payload(frame).to_vec();
        // The front of a packet is where its meaning is.
        let front = payload.len().min(HEADER_LEN + 48);
        match random.u8(..6) {
            0 => payload.truncate(random.usize(1..=payload.len())),
            1 => payload.resize(payload.len() + random.usize(1..20), random.u8(..)),
            2 => payload[random.usize(..front)] = random.u8(..8),
            3 => (0..3).for_each(|_| payload[random.usize(..front)] = random.u8(..)),
            4 => payload[random.usize(..front)] ^= 1 << random.u8(..8),
            _ => payload[4..front].iter_mut().for_each(|byte| *byte ^= u8::from(random.u8(..20) == 0)),
        }
        if payload.len() > CHECKSUM_LEN && random.u8(..4) > 0 {
            let sum = checksum([&payload[CHECKSUM_LEN..]]).to_be_bytes();
            payload[..CHECKSUM_LEN].copy_from_slice(&sum);
        }
        frames.push(wrap(&payload));
    }
    frames
}

/// A packet with a right checksum.
fn packet(kind: Kind, sack: bool, body: &[u8]) -> Frame {
    let flags = Flags { checked: true, sack, ..Flags::default() };
    let header = Header { kind, flags, token: 1, ..Header::default() };
    let header = Header { checksum: checksum([&header.emit()[CHECKSUM_LEN..], body]), ..header };
    wrap(&[&header.emit()[..], body].concat())
}

/// Packets each of which breaks one rule that chance doesn't hit.
fn rules_broken() -> Vec<Frame> {
    let hello = |token, mtu: u16, room: u16| {
        let mut body = Hello { token, mtu, ..Hello::default() }.emit().to_vec();
        body.resize(usize::from(room) - 28 - HEADER_LEN, 0);
        packet(Kind::Hello, false, &body)
    };
    let record = |record: Record| {
        let mut body = record.emit().as_ref().to_vec();
        body.resize(body.len() + record.body_len(), b'x');
        packet(Kind::Data, false, &body)
    };
    let notify = |total| Some(Notify { tag: 1, total });
    let put = |offset, notify| record(Record::Put { grant: 1, offset, length: 9, notify });
    let ask = |notify, offset, segment, segments| {
        let errand = Errand::Put { grant: 1, notify };
        record(Record::Bulk(BulkRecord::Ask { transfer: 1, errand, offset, segment, segments, rest: 0 }))
    };
    let import = |name| record(Record::Import { request: 1, key: [1; 16], name });
    vec![
        hello(0, 1500, 1500),
        hello(1, 1279, 1279),
        hello(1, 1500, 1501),
        packet(Kind::Ack, true, &[1; 136]),
        packet(Kind::Ack, true, &[1; 12]),
        packet(Kind::Ack, true, &[0; 8]),
        packet(Kind::Ack, true, &[]),
        packet(Kind::Ack, false, &[1; 8]),
        packet(Kind::Close, false, &[1]),
        packet(Kind::Close, true, &[1; 8]),
        packet(Kind::Data, true, Record::Release { grant: 1 }.emit().as_ref()),
        packet(Kind::Data, false, &[7; 8]),
        put(u64::MAX - 8, None),
        put(100, notify(8)),
        put(100, notify(110)),
        import(0),
        import(129),
        record(Record::Fetch { request: 1, grant: 1, offset: 7, length: 0 }),
        record(Record::Fetch { request: 1, grant: 1, offset: 7, length: u64::MAX - 6 }),
        record(Record::Fetched { request: 1, at: 7, length: 0 }),
        record(Record::Fetched { request: 1, at: u64::MAX - 8, length: 9 }),
        packet(Kind::Data, false, &[9, 0, 0, 0, 0, 0, 0, 1]),
        packet(Kind::Data, false, &[9, 6, 0, 0, 0, 0, 0, 1]),
        ask(None, 7, 0, 1),
        ask(None, 7, 1, 0),
        ask(None, u64::MAX - 8, 3, 3),
        ask(notify(8), 100, 3, 3),
        ask(notify(110), 100, 3, 3),
        packet(Kind::Data, false, &[13, 0, 0, 0, 0, 0, 0, 1]),
        packet(Kind::Data, false, &[13, 3, 0, 0, 0, 0, 0, 1]),
        packet(Kind::Data, false, &[15, 0, 0, 0, 0, 0, 0, 1]),
        packet(Kind::Data, false, &[&[15, 0, 0, 65, 0, 0, 0, 1][..], &[0, 0, 0, 1, 0, 0, 0, 2].repeat(65)].concat()),
        packet(Kind::Data, false, &[15, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 5]),
        packet(Kind::Data, false, &[20, 0, 0, 0, 0, 0, 0, 1]),
    ]
}

/// Their neighbours, which break none.
fn rules_kept() -> Vec<Frame> {
    let put = |offset, total| {
        let notify = Some(Notify { tag: 1, total });
        let fixed = Record::Put { grant: 1, offset, length: 9, notify }.emit();
        packet(Kind::Data, false, &[fixed.as_ref(), &[1; 9]].concat())
    };
    vec![
        packet(Kind::Ack, true, &[1; 128]),
        packet(Kind::Data, false, &[]),
        packet(Kind::Reset, false, &[1; 3]),
        put(u64::MAX - 9, u64::MAX),
        put(100, 9),
        put(100, 109),
    ]
}

#[test]
fn what_the_library_refuses_is_flagged_and_nothing_else() {
    let seed = crate::world::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut frames = mangled(&mut random);
    for length in 1..200 {
        frames.push(wrap(&(0..length).map(|_| random.u8(..)).collect::<Vec<_>>()));
    }
    for (frames, good) in [(rules_broken(), false), (rules_kept(), true)] {
        for (at, frame) in frames.iter().enumerate() {
            assert_eq!(Packet::parse(&frame.bytes, frame.length).is_ok(), good, "{at}");
        }
    }
    frames.extend(rules_broken());
    frames.extend(rules_kept());
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, &frames);
    let fields = ["-T", "fields", "-e", "frame.number", "-e", "vmmc.malformed", "-e", "vmmc.malformed.reserved"];
    let out = tshark::run(&capture, &[&fields[..], &["-e", "vmmc.checksum.bad", "-e", "_ws.col.Info"]].concat());
    let (mut good, mut bad) = (0, 0);
    for (frame, line) in frames.iter().zip(out.lines()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let flagged = columns[1..4].iter().any(|column| !column.is_empty());
        let parsed = Packet::parse(&frame.bytes, frame.length);
        match &parsed {
            Ok(packet) => assert!(!flagged, "a good packet is flagged: {packet}\n{line}"),
            Err(error) => assert!(flagged, "not flagged: {error}\n{line}"),
        }
        *(if parsed.is_ok() { &mut good } else { &mut bad }) += 1;
    }
    assert_eq!(out.lines().count(), frames.len());
    assert!(good > 300 && bad > 1000, "{good} good, {bad} bad");
}

#[test]
fn frames_that_are_cut_short_are_no_errors() {
    let mut random = fastrand::Rng::with_seed(crate::world::seed());
    let frames: Vec<Frame> = scene::life()
        .iter()
        .cloned()
        .map(|mut frame| {
            frame.bytes.truncate(42 + random.usize(..200));
            frame
        })
        .filter(|frame| Packet::parse(&frame.bytes, frame.length).is_ok())
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, &frames);
    let lines = tshark::run(
        &capture,
        &["-Y", "vmmc.malformed || vmmc.malformed.reserved || vmmc.checksum.bad || _ws.malformed"],
    );
    assert_eq!(lines, "");
    assert!(tshark::run(&capture, &["-Y", "vmmc.cut"]).lines().count() > 100);
    tshark::run(&capture, &["-V"]);
}

#[test]
fn a_capture_file_that_ends_early_is_shown_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let capture = file::write(&directory, scene::life());
    let bytes = std::fs::read(&capture).unwrap();
    std::fs::write(&capture, &bytes[..bytes.len() / 2 + 1]).unwrap();
    let output = tshark::raw(&capture, &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.lines().count() > 100 && !out.contains("Lua"), "{out}");
    assert!(err.contains("cut short") && !err.contains("Lua"), "{err}");
    assert!(output.status.code().is_some(), "no signal has ended it");
}
