//! A frame, by the library's own parsers: what it is, in one line, or why a node refuses it.
//!
//! The line is made like the Info column of the Wireshark dissector (`tools/wireshark/vmmc.lua`), and a test compares the two.

use std::fmt::{self, Write};

use vmmc::wire::frame::Datagram;
use vmmc::wire::record::{BulkRecord, Declined, Errand, FetchRefusal, ImportStatus, Record, Refusal};
use vmmc::wire::{
    BULK_HEADER_LEN, BulkHeader, CHECKSUM_LEN, HEADER_LEN, HELLO_LEN, Header, Hello, Kind, Reader, Sack, WireError,
};

/// More records than this aren't told of in the line.
const MOST_RECORDS: usize = 6;

/// A packet that a node would take, if it knows its token.
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

/// What follows the header.
pub(crate) enum Body {
    /// Of a HELLO or WELCOME.
    Hello(Hello),
    /// Of DATA: each with the bytes that follow it.
    Records(Vec<(Record, Vec<u8>)>),
    /// Of an ACK, if there are any.
    Sack(Option<Sack>),
    /// Of CLOSE and RESET.
    Nothing,
}

impl Packet {
    /// Parses a frame of `length` bytes, of which `captured` are there. What isn't can't be checked.
    pub(crate) fn parse(captured: &[u8], length: usize) -> Result<Packet, WireError> {
        // What is missing must be something, so that the parsers find the lengths right.
        let mut frame = captured.to_vec();
        frame.resize(length.max(captured.len()), 0);
        let datagram = Datagram::parse(&frame, frame.len())?;
        let whole = datagram.start + datagram.length <= captured.len();
        let fragments = [&frame[..]];
        let mut reader = Reader::new(&fragments, datagram.start, datagram.length);
        let mut covered = reader.clone();
        covered.skip(CHECKSUM_LEN);
        let bytes = reader.array::<HEADER_LEN>().ok_or(WireError::Truncated("header"))?;
        let header = Header::parse(&bytes)?;
        let always = matches!(header.kind, Kind::Hello | Kind::Welcome | Kind::Reset);
        if always && !header.flags.checked {
            return Err(WireError::Checksum("missing"));
        }
        if whole {
            header.verify(covered.slices())?;
        }
        let v6 = datagram.source.is_ipv6();
        let end = captured.len().saturating_sub(datagram.start + datagram.length - reader.remaining());
        let body = parse_body(&header, &mut reader, end, v6)?;
        Ok(Packet { header, body })
    }
}

/// A packet of the bulk lane, which has a header of its own.
pub(crate) struct BulkPacket {
    header: BulkHeader,
    /// Bytes of payload.
    length: usize,
    /// Why a node would count it as lost.
    wrong: Option<WireError>,
}

impl BulkPacket {
    /// Parses a frame as [`Packet::parse`] does.
    pub(crate) fn parse(captured: &[u8], length: usize) -> Result<BulkPacket, WireError> {
        let mut frame = captured.to_vec();
        frame.resize(length.max(captured.len()), 0);
        let datagram = Datagram::parse(&frame, frame.len())?;
        let all = &frame[datagram.start..datagram.start + datagram.length];
        let (header, payload) = all.split_first_chunk::<BULK_HEADER_LEN>().ok_or(WireError::Truncated("header"))?;
        let (header, checksum) = BulkHeader::parse(header)?;
        let whole = datagram.start + datagram.length <= captured.len();
        let flags = all[6];
        let is_right = |checksum| header.checksum(flags, |take| take(payload)) == checksum;
        let wrong = checksum.filter(|&checksum| whole && !is_right(checksum)).map(|_| WireError::Checksum("packet's"));
        Ok(BulkPacket { header, length: payload.len(), wrong })
    }
}

impl fmt::Display for BulkPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BulkHeader { grant, segment, .. } = self.header;
        write!(f, "BULK bulk={grant} segment={segment} len={}", self.length)?;
        f.write_str(if self.wrong.is_some() { " [wrong checksum]" } else { "" })
    }
}

/// Parses what follows the header, as far as it has been captured: `captured` bytes.
fn parse_body(header: &Header, reader: &mut Reader<'_, '_>, captured: usize, v6: bool) -> Result<Body, WireError> {
    let all = reader.remaining();
    let whole = captured >= all;
    Ok(match header.kind {
        Kind::Hello | Kind::Welcome => {
            let bytes = reader.array::<HELLO_LEN>().ok_or(WireError::Truncated("hello"))?;
            let hello = Hello::parse(&bytes)?;
            if usize::from(hello.mtu) != if v6 { 48 } else { 28 } + HEADER_LEN + all {
                return Err(WireError::Inconsistent("MTU"));
            }
            Body::Hello(hello)
        }
        Kind::Data | Kind::Close if header.flags.sack => {
            return Err(WireError::Inconsistent("flag of selective acknowledgement"));
        }
        Kind::Data => {
            let mut records = Vec::new();
            loop {
                let before = all - reader.remaining();
                let record = match Record::parse(reader) {
                    Ok(Some(record)) => record,
                    // What isn't here is no record.
                    Err(error) if whole => return Err(error),
                    Ok(None) | Err(_) => break,
                };
                if before + record.emit().as_ref().len() > captured {
                    break;
                }
                let mut bytes = vec![0; record.body_len()];
                reader.fill(&mut bytes);
                let here = before + record.emit().as_ref().len() + bytes.len() <= captured;
                let is_missing = matches!(record, Record::Bulk(BulkRecord::Missing { .. }));
                if is_missing && here && bytes.chunks_exact(8).any(|range| range[..4] >= range[4..]) {
                    return Err(WireError::Inconsistent("range of segments"));
                }
                records.push((record, bytes));
            }
            Body::Records(records)
        }
        Kind::Ack if header.flags.sack && whole => Body::Sack(Some(Sack::parse(reader)?)),
        Kind::Ack | Kind::Close if all > 0 && !header.flags.sack => return Err(WireError::Inconsistent("length")),
        Kind::Ack => Body::Sack(None),
        Kind::Close | Kind::Reset => Body::Nothing,
    })
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { kind, flags, token, sequence, ack, credit, .. } = self.header;
        match kind {
            Kind::Hello => f.write_str("HELLO")?,
            Kind::Welcome => f.write_str("WELCOME")?,
            Kind::Data => write!(f, "DATA seq={sequence} ack={ack}")?,
            Kind::Ack => write!(f, "ACK ack={ack} credit={credit}")?,
            Kind::Close => write!(f, "CLOSE seq={sequence} ack={ack}")?,
            Kind::Reset => write!(f, "RESET token={token:#018x}")?,
        }
        match &self.body {
            Body::Hello(hello) => {
                write!(f, " mtu={} first={} mine={:#018x}", hello.mtu, hello.first, hello.token)?;
                f.write_str(if hello.options.checksum { " checksums" } else { "" })?;
            }
            Body::Records(records) => {
                for (record, bytes) in records.iter().take(MOST_RECORDS) {
                    write!(f, " {}", Line(record, bytes))?;
                }
                if records.len() > MOST_RECORDS {
                    write!(f, " and {} more", records.len() - MOST_RECORDS)?;
                }
            }
            Body::Sack(Some(sack)) => {
                let text = runs(sack, ack).replace(", ", ",");
                match text.get(..60) {
                    Some(begin) if text.len() > 60 => write!(f, " sack={begin}...")?,
                    _ => write!(f, " sack={text}")?,
                }
            }
            Body::Sack(None) | Body::Nothing => {}
        }
        for (is, text) in [
            (flags.ack_now, " ack-now"),
            (flags.provisional, " provisional"),
            (flags.late, " late"),
            (flags.throttled, " throttled"),
        ] {
            f.write_str(if is { text } else { "" })?;
        }
        Ok(())
    }
}

/// The numbers of the packets that are told of, in runs: `18, 20-23`.
pub(crate) fn runs(sack: &Sack, ack: u32) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for distance in sack.iter() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == distance => *last = distance,
            _ => runs.push((distance, distance)),
        }
    }
    let mut text = String::new();
    for (first, last) in runs {
        let [first, last] = [first, last].map(|distance| ack.wrapping_add(distance as u32));
        let comma = if text.is_empty() { "" } else { ", " };
        let written =
            if first == last { write!(text, "{comma}{first}") } else { write!(text, "{comma}{first}-{last}") };
        debug_assert!(written.is_ok());
    }
    text
}

/// A record, and the bytes that follow it.
struct Line<'a>(&'a Record, &'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Record::Put { grant, offset, length, notify } => {
                write!(f, "PUT grant={grant} off={offset} len={length}")?;
                notify.map_or(Ok(()), |notify| write!(f, " notify tag={}", notify.tag))
            }
            Record::Import { request, .. } => {
                write!(f, "IMPORT request={request} {:?}", String::from_utf8_lossy(self.1))
            }
            Record::Imported { request, status: ImportStatus::Granted, grant, length, .. } => {
                write!(f, "IMPORTED request={request} grant={grant} len={length}")
            }
            Record::Imported { request, status, .. } => {
                let status = match status {
                    ImportStatus::Granted => "granted",
                    ImportStatus::UnknownName => "unknown name",
                    ImportStatus::Denied => "denied",
                    ImportStatus::TooMany => "too many grants",
                };
                write!(f, "IMPORTED request={request} {status}")
            }
            Record::Release { grant } => write!(f, "RELEASE grant={grant}"),
            Record::Revoked { grant } => write!(f, "REVOKED grant={grant}"),
            Record::Refused { reason, grant, sequence } => {
                let reason = match reason {
                    Refusal::NoGrant => "no such grant",
                    Refusal::OutOfRange => "out of range",
                    Refusal::NotWritable => "not writable",
                    Refusal::Lent => "lent",
                };
                write!(f, "REFUSED grant={grant} seq={sequence} {reason}")
            }
            Record::Fetch { request, grant, offset, length } => {
                write!(f, "FETCH request={request} grant={grant} off={offset} len={length}")
            }
            Record::Fetched { request, at, length } => write!(f, "FETCHED request={request} at={at} len={length}"),
            Record::FetchRefused { reason, request } => {
                let reason = match reason {
                    FetchRefusal::NoGrant => "no such grant",
                    FetchRefusal::OutOfRange => "out of range",
                    FetchRefusal::NotReadable => "not readable",
                    FetchRefusal::TooMany => "too many",
                    FetchRefusal::Cancelled => "cancelled",
                };
                write!(f, "FETCH_REFUSED request={request} {reason}")
            }
            Record::FetchCancel { request } => write!(f, "FETCH_CANCEL request={request}"),
            Record::Bulk(record) => bulk(f, record, self.1),
        }
    }
}

/// A record about a transfer on the bulk lane, and the bytes that follow it.
fn bulk(f: &mut fmt::Formatter<'_>, record: BulkRecord, bytes: &[u8]) -> fmt::Result {
    match record {
        BulkRecord::Ask { transfer, errand, offset, segment, segments, rest } => {
            write!(f, "BULK_ASK transfer={transfer}")?;
            match errand {
                Errand::Put { grant, .. } => write!(f, " grant={grant}")?,
                Errand::Fetched { request } => write!(f, " request={request}")?,
            }
            write!(f, " off={offset} len={rest}+{segments}*{segment}")?;
            match errand {
                Errand::Put { notify: Some(notify), .. } => write!(f, " notify tag={}", notify.tag),
                _ => Ok(()),
            }
        }
        BulkRecord::Granted { transfer, grant } => write!(f, "BULK_GRANTED transfer={transfer} bulk={grant}"),
        BulkRecord::Declined { transfer, reason } => {
            let reason = match reason {
                Declined::Unable => "not by this lane",
                Declined::Unwanted => "not wanted",
            };
            write!(f, "BULK_DECLINED transfer={transfer} {reason}")
        }
        BulkRecord::Landed { grant, packets } => write!(f, "BULK_LANDED bulk={grant} packets={packets}"),
        BulkRecord::Missing { grant, .. } => {
            write!(f, "BULK_MISSING bulk={grant}")?;
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
            for (i, range) in bytes.chunks_exact(8).enumerate() {
                let (first, end) = (number(&range[..4]), number(&range[4..]));
                write!(f, "{}{first}-{}", if i == 0 { " " } else { "," }, end.saturating_sub(1))?;
            }
            Ok(())
        }
        BulkRecord::Done { transfer } => write!(f, "BULK_DONE transfer={transfer}"),
        BulkRecord::Cleared { transfer } => write!(f, "BULK_CLEARED transfer={transfer}"),
        BulkRecord::Cancel { transfer } => write!(f, "BULK_CANCEL transfer={transfer}"),
        BulkRecord::Sent { grant, questions } => write!(f, "BULK_SENT bulk={grant} questions={questions}"),
    }
}
