//! A peer that opens links and acknowledges whatever it gets, and never says anything.

use std::time::Duration;

use vmmc::port::Port;
use vmmc::port::sim::Network;
use vmmc::wire::frame::{Datagram, Path};
use vmmc::wire::record::{Access, ImportStatus, Record};
use vmmc::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Hello, Kind, checksum};

/// Puts it on the network, at the Ethernet address `mac`.
pub fn run(net: &Network, mac: [u8; 6]) {
    start(net, mac, false);
}

/// Likewise, one that grants the first import, and says nothing more after that.
pub fn run_granting(net: &Network, mac: [u8; 6]) {
    start(net, mac, true);
}

fn start(net: &Network, mac: [u8; 6], grants: bool) {
    let (net, mut port) = (net.clone(), net.attach(mac));
    let (mut token, mut sequence) = (0, 1);
    std::thread::spawn(move || {
        let mut batch = Vec::new();
        loop {
            port.receive(&mut batch).unwrap();
            for packet in batch.drain(..) {
                let frame = port.fragments(&packet).concat();
                port.recycle(packet);
                let answer = answer(&frame, mac, &mut token, &mut sequence, grants);
                answer.into_iter().for_each(|answer| net.inject(&answer));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

/// It never has but one link: `token` is what its packets carry, and `sequence` the next one's number.
fn answer(frame: &[u8], mac: [u8; 6], token: &mut u64, sequence: &mut u32, grants: bool) -> Option<Vec<u8>> {
    let datagram = Datagram::parse(frame, frame.len()).ok()?;
    let bytes = &frame[datagram.start..][..datagram.length];
    let header = Header::parse(bytes[..HEADER_LEN].try_into().ok()?).ok()?;
    let (kind, mut body) = match header.kind {
        Kind::Hello => {
            let hello = Hello::parse(bytes[HEADER_LEN..][..vmmc::wire::HELLO_LEN].try_into().ok()?).ok()?;
            *token = hello.token;
            let welcome =
                Hello { incarnation: 1, token: 1 << 16, peer_incarnation: hello.incarnation, first: 1, ..hello };
            (Kind::Welcome, welcome.emit().to_vec())
        }
        Kind::Data if grants && *sequence == 1 => {
            // The first record is the IMPORT.
            let request = u32::from_be_bytes(bytes[HEADER_LEN + 4..][..4].try_into().ok()?);
            let access = Access { readable: true, ..Access::default() };
            let imported =
                Record::Imported { request, status: ImportStatus::Granted, grant: 1, access, length: 1 << 20 };
            (Kind::Data, imported.emit().as_ref().to_vec())
        }
        Kind::Data | Kind::Ack if header.flags.ack_now || header.kind == Kind::Data => (Kind::Ack, Vec::new()),
        _ => return None,
    };
    if kind == Kind::Welcome {
        // Its MTU field tells the truth.
        body.resize(bytes.len() - HEADER_LEN, 0);
    }
    let header = Header {
        kind,
        flags: Flags { checked: true, ..Flags::default() },
        token: *token,
        sequence: *sequence,
        ack: header.sequence.wrapping_add((header.kind == Kind::Data).into()),
        credit: 100,
        ..Header::default()
    };
    let header = Header { checksum: checksum([&header.emit()[CHECKSUM_LEN..], &body]), ..header };
    *sequence += u32::from(kind == Kind::Data);
    let path = Path {
        local: datagram.destination,
        remote: datagram.source,
        local_mac: mac,
        next_hop: datagram.source_mac,
        vlan: None,
    };
    let encap = path.encap().ok()?;
    let mut out = vec![0; encap.len()];
    encap.write(&mut out, HEADER_LEN + body.len());
    out.extend(header.emit());
    out.extend(body);
    Some(out)
}
