//! The packets of a siege: frames of the link as they went by, and packets made after their likeness.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use arbitrary::Arbitrary;
use vmmc::Key;
use vmmc::wire::frame::Path;
use vmmc::wire::record::{Access, BulkRecord, Declined, Errand, FetchRefusal, ImportStatus, Notify, Record, Refusal};
use vmmc::wire::{BulkHeader, CHECKSUM_LEN, Flags, HEADER_LEN, Header, Kind, Reader, checksum};

use crate::world::{address, key};

/// Where in a frame the packet begins: after Ethernet, IPv4 and UDP.
pub const PACKET: usize = 42;

/// A header. Numbers are relative to the link's own.
#[derive(Arbitrary, Clone, Debug)]
pub struct Head {
    kind: u8,
    flags: u8,
    sequence: i16,
    ack: i16,
    credit: u16,
    ack_delay: u16,
    marks: u16,
}

/// A piece of a body.
#[derive(Arbitrary, Clone, Debug)]
pub enum Piece {
    Raw(Vec<u8>),
    /// `grant` is relative to the link's own.
    Put {
        grant: u8,
        offset: u64,
        notify: Option<(u32, u64)>,
        data: Vec<u8>,
    },
    Import {
        request: u32,
        name: u8,
        good_key: bool,
    },
    Imported {
        request: u32,
        status: u8,
        grant: u32,
        length: u64,
    },
    Release(u8),
    Revoked(u8),
    Refused {
        reason: bool,
        grant: u8,
        sequence: i16,
    },
    Fetch {
        request: u32,
        grant: u8,
        offset: u64,
        length: u64,
    },
    /// `request` is relative to the newest of its receiver.
    Fetched {
        request: u8,
        at: u64,
        data: Vec<u8>,
    },
    FetchRefused {
        request: u8,
        reason: u8,
    },
    FetchCancel(u8),
    /// Of transfers on the bulk lane: their numbers, those of grants, and what they are about, are small or near.
    Bulk {
        kind: u8,
        transfer: u8,
        grant: u8,
        segment: u8,
        segments: u16,
        offset: u16,
        notify: Option<(u32, u64)>,
        rest: u8,
    },
}

/// How long segments of transfers are, bytes: too short, right, too long.
const SEGMENTS: [u32; 8] = [14, 100, 100, 100, 1000, 13, 1446, 1 << 20];

/// Of the link between hosts 0 and 1.
#[derive(Default)]
pub struct Captured {
    frames: Vec<Vec<u8>>,
    /// The newest header towards each, and the newest grant in a PUT towards it.
    pub heads: [Header; 2],
    grants: [u32; 2],
    /// The newest request in a FETCH towards each.
    requests: [u32; 2],
}

impl Captured {
    /// Keeps the frames of the link between hosts 0 and 1 that have been sent since this was last called.
    pub fn update(&mut self, tap: &Receiver<Vec<u8>>) {
        for frame in tap.try_iter() {
            let Some((to, from)) = frame.get(5).zip(frame.get(11)) else { continue };
            let Ok(header) = Header::parse(frame.get(PACKET..).unwrap_or_default()) else { continue };
            // RESETs are the answers to packets that were forged here.
            if to + from != 3 || header.kind == Kind::Reset {
                continue;
            }
            let to = usize::from(to - 1);
            if matches!(header.kind, Kind::Data | Kind::Ack) {
                self.heads[to] = header;
            }
            let first = || Record::parse(&mut Reader::new(&[&frame[..]], PACKET + HEADER_LEN, usize::MAX));
            match (header.kind == Kind::Data).then(first) {
                Some(Ok(Some(Record::Put { grant, .. }))) => self.grants[to] = grant,
                Some(Ok(Some(Record::Fetch { grant, request, .. }))) => {
                    (self.grants[to], self.requests[to]) = (grant, request);
                }
                _ => {}
            }
            self.frames.push(frame);
        }
    }

    /// The header of the DATA packet that comes next towards a host.
    pub fn next(&mut self, to: usize) -> Header {
        let near = &mut self.heads[to];
        let sequence = near.sequence.wrapping_add(u32::from(near.kind == Kind::Data));
        *near = Header {
            kind: Kind::Data,
            sequence,
            credit: 100,
            flags: Flags { checked: true, ..Flags::default() },
            ..*near
        };
        *near
    }

    /// One of the frames that went by, counted from the last; half of all numbers mean the last four.
    pub fn back(&self, back: u8) -> Option<&Vec<u8>> {
        let range = if back < 128 { 4 } else { self.frames.len() };
        self.frames.iter().rev().nth(usize::from(back) % range.max(1))
    }

    /// The body that the pieces make.
    pub fn body(&self, to: usize, pieces: &[Piece]) -> Vec<u8> {
        let mut body = Vec::new();
        for piece in pieces {
            let near = self.grants[to];
            let mut add = |record: Record, bytes: &[u8]| {
                body.extend_from_slice(record.emit().as_ref());
                body.extend_from_slice(bytes);
            };
            match *piece {
                Piece::Raw(ref bytes) => body.extend(bytes),
                Piece::Put { grant, offset, notify, ref data } => {
                    let notify = notify.map(|(tag, total)| Notify { tag, total });
                    // Never zero, so that it shows.
                    let data: Vec<u8> = data.iter().map(|b| b | 1).collect();
                    let length = data.len() as u16;
                    add(Record::Put { grant: near ^ u32::from(grant), offset, length, notify }, &data);
                }
                Piece::Import { request, name, good_key } => {
                    let name = ["inbox", "other", "secret", "nothing"][usize::from(name % 4)];
                    let key = if good_key { key() } else { Key::PUBLIC }.to_bytes();
                    add(Record::Import { request, key, name: name.len() as u16 }, name.as_bytes());
                }
                Piece::Imported { request, status, grant, length } => {
                    let all =
                        [ImportStatus::Granted, ImportStatus::UnknownName, ImportStatus::Denied, ImportStatus::TooMany];
                    let access =
                        Access { notifies: status > 127, readable: status & 64 != 0, writable: status & 32 == 0 };
                    let status = all[usize::from(status % 4)];
                    add(Record::Imported { request, status, grant, access, length }, &[]);
                }
                Piece::Release(grant) => add(Record::Release { grant: near ^ u32::from(grant) }, &[]),
                Piece::Revoked(grant) => {
                    let grant = self.grants[1 - to] ^ u32::from(grant);
                    add(Record::Revoked { grant }, &[]);
                }
                Piece::Refused { reason, grant, sequence } => {
                    let reason = if reason { Refusal::NoGrant } else { Refusal::OutOfRange };
                    let grant = self.grants[1 - to] ^ u32::from(grant);
                    let sequence = self.heads[to].ack.wrapping_add_signed(sequence.into());
                    add(Record::Refused { reason, grant, sequence }, &[]);
                }
                Piece::Fetch { request, grant, offset, length } => {
                    add(Record::Fetch { request, grant: near ^ u32::from(grant), offset, length }, &[]);
                }
                Piece::Fetched { request, at, ref data } => {
                    let (request, length) = (self.requests[1 - to] ^ u32::from(request), data.len() as u16);
                    add(Record::Fetched { request, at, length }, data);
                }
                Piece::FetchRefused { request, reason } => {
                    let request = self.requests[1 - to] ^ u32::from(request);
                    let all = [
                        FetchRefusal::NoGrant,
                        FetchRefusal::OutOfRange,
                        FetchRefusal::NotReadable,
                        FetchRefusal::TooMany,
                        FetchRefusal::Cancelled,
                    ];
                    add(Record::FetchRefused { request, reason: all[usize::from(reason % 5)] }, &[]);
                }
                Piece::Bulk { kind, transfer, grant, segment, segments, offset, notify, rest } => {
                    let (transfer, bulk) = (u32::from(transfer % 16), u32::from(grant % 16));
                    let segments = u32::from(if segments < 0xf000 { segments % 20 } else { segments });
                    let count = u16::from(rest % 4);
                    let record = match kind % 16 {
                        0..=7 => {
                            let notify = notify.map(|(tag, total)| Notify { tag, total });
                            let errand = if kind & 64 == 0 {
                                Errand::Put { grant: near ^ u32::from(grant / 128), notify }
                            } else {
                                Errand::Fetched { request: self.requests[1 - to] ^ u32::from(grant / 128) }
                            };
                            let segment = SEGMENTS[usize::from(segment % 8)];
                            let (offset, rest) = (u64::from(offset) % 6000, rest.into());
                            BulkRecord::Ask { transfer, errand, offset, segment, segments, rest }
                        }
                        8 => BulkRecord::Granted { transfer, grant: bulk },
                        9 if kind & 128 == 0 => BulkRecord::Declined { transfer, reason: Declined::Unable },
                        9 => BulkRecord::Declined { transfer, reason: Declined::Unwanted },
                        10 => BulkRecord::Landed { grant: bulk, packets: segments },
                        11 => BulkRecord::Missing { grant: bulk, ranges: count },
                        12 => BulkRecord::Done { transfer },
                        13 => BulkRecord::Cleared { transfer },
                        14 => BulkRecord::Cancel { transfer },
                        _ => BulkRecord::Sent { grant: bulk, questions: count },
                    };
                    let body = match record {
                        BulkRecord::Ask { .. } => vec![1; rest.into()],
                        BulkRecord::Missing { .. } => {
                            let ranges =
                                (0..u32::from(count)).rev().map(|n| 2 * n..2 * n + 1 + u32::from(segment) / 200);
                            BulkRecord::missing_body(&ranges.collect::<Vec<_>>())
                        }
                        _ => Vec::new(),
                    };
                    add(Record::Bulk(record), &body);
                }
                Piece::FetchCancel(request) => {
                    add(Record::FetchCancel { request: self.requests[to] ^ u32::from(request) }, &[]);
                }
            }
        }
        body.truncate(1400);
        body
    }
}

impl Head {
    /// The header, near to one that is known.
    pub fn header(&self, token: u64, near: Header) -> Header {
        let kinds = [Kind::Data, Kind::Ack, Kind::Hello, Kind::Welcome, Kind::Close, Kind::Reset];
        Header {
            kind: kinds[usize::from(self.kind % 6)],
            flags: Flags {
                ack_now: self.flags & 1 != 0,
                sack: self.flags & 2 != 0,
                checked: self.flags & 4 == 0,
                provisional: self.flags & 8 != 0,
                late: self.flags & 16 != 0,
                throttled: self.flags & 32 != 0,
            },
            checksum: 0,
            token,
            sequence: near.sequence.wrapping_add_signed(self.sequence.into()),
            ack: near.ack.wrapping_add_signed(self.ack.into()),
            credit: self.credit,
            ack_delay: self.ack_delay,
            marks: self.marks,
        }
    }
}

/// A packet for the bulk lane of host `to`, as from its peer, with a right checksum or none. It never is all zeros.
pub fn lane_frame(to: usize, header: BulkHeader, segment: u8, checked: bool) -> Vec<u8> {
    let payload = vec![1; SEGMENTS[usize::from(segment % 7)] as usize];
    let bytes = header.emit(checked.then_some(|take: &mut dyn FnMut(&[u8])| take(&payload)));
    let mut path = path(to, address(1 - to));
    path.remote.set_port(path.remote.port() + 1);
    let encap = path.encap().unwrap();
    let mut frame = vec![0; encap.len()];
    encap.write(&mut frame, bytes.len() + payload.len());
    frame.extend(bytes);
    frame.extend(payload);
    frame
}

/// The way to host `to` from its peer's Ethernet address.
fn path(to: usize, local: SocketAddr) -> Path {
    Path {
        local,
        remote: address(to),
        local_mac: [2, 0, 0, 0, 0, 2 - to as u8],
        next_hop: [2, 0, 0, 0, 0, 1 + to as u8],
        vlan: None,
    }
}

/// A packet for host `to`, as from its peer or from a stranger.
pub fn frame(to: usize, stranger: Option<u8>, header: Header, body: &[u8]) -> Vec<u8> {
    let local = match stranger {
        Some(stranger) => format!("10.9.0.{stranger}:7000").parse().unwrap(),
        None => address(1 - to),
    };
    let path = path(to, local);
    let sum = if header.flags.checked { checksum([&header.emit()[CHECKSUM_LEN..], body]) } else { 0 };
    let header = Header { checksum: sum, ..header };
    let encap = path.encap().unwrap();
    let mut frame = vec![0; encap.len()];
    encap.write(&mut frame, HEADER_LEN + body.len());
    frame.extend(header.emit());
    frame.extend(body);
    frame
}
