//! Records: what is written is read, and what nobody writes is refused.

use super::*;
use proptest::prelude::*;

fn any_record() -> impl Strategy<Value = Record> {
    let notify = (any::<u32>(), any::<u16>()).prop_map(|(tag, more)| (tag, u64::from(more)));
    prop_oneof![
        (any::<u32>(), 0u64..1 << 40, any::<u16>(), prop::option::of(notify)).prop_map(
            |(grant, offset, length, notify)| Record::Put {
                grant,
                offset,
                length,
                notify: notify.map(|(tag, more)| Notify { tag, total: u64::from(length) + more.min(offset) }),
            }
        ),
        (any::<u32>(), any::<[u8; 16]>(), 1u16..=128).prop_map(|(request, key, name)| Record::Import {
            request,
            key,
            name
        }),
        (any::<u32>(), 0u8..4, any::<u32>(), any::<[bool; 3]>(), any::<u64>()).prop_map(
            |(request, status, grant, [notifies, readable, writable], length)| Record::Imported {
                request,
                status: [ImportStatus::Granted, ImportStatus::UnknownName, ImportStatus::Denied, ImportStatus::TooMany]
                    [status as usize],
                grant,
                access: Access { notifies, readable, writable },
                length
            }
        ),
        any::<u32>().prop_map(|grant| Record::Release { grant }),
        any::<u32>().prop_map(|grant| Record::Revoked { grant }),
        (0usize..4, any::<u32>(), any::<u32>()).prop_map(|(reason, grant, sequence)| Record::Refused {
            reason: [Refusal::NoGrant, Refusal::OutOfRange, Refusal::NotWritable, Refusal::Lent][reason],
            grant,
            sequence
        }),
        (any::<u32>(), any::<u32>(), any::<u64>(), 1..=u64::MAX).prop_map(|(request, grant, offset, length)| {
            Record::Fetch { request, grant, offset: offset.min(u64::MAX - length), length }
        }),
        (any::<u32>(), any::<u64>(), 1..=u16::MAX).prop_map(|(request, at, length)| Record::Fetched {
            request,
            at: at.min(u64::MAX - u64::from(length)),
            length
        }),
        (0usize..5, any::<u32>()).prop_map(|(reason, request)| Record::FetchRefused {
            reason: [
                FetchRefusal::NoGrant,
                FetchRefusal::OutOfRange,
                FetchRefusal::NotReadable,
                FetchRefusal::TooMany,
                FetchRefusal::Cancelled
            ][reason],
            request
        }),
        any::<u32>().prop_map(|request| Record::FetchCancel { request }),
        any_bulk_record().prop_map(Record::Bulk),
    ]
}

fn any_bulk_record() -> impl Strategy<Value = BulkRecord> {
    let notify = prop::option::of((any::<u32>(), any::<u32>()));
    let ask = (any::<[u32; 2]>(), (1..=u32::MAX, 1..=u32::MAX), 0u64..1 << 40, any::<u16>(), notify, any::<bool>());
    prop_oneof![
        ask.prop_map(|([transfer, number], (segment, segments), offset, rest, notify, fetched)| {
            let length = u64::from(segment) * u64::from(segments) + u64::from(rest);
            let notify = notify.map(|(tag, more)| Notify { tag, total: length + u64::from(more).min(offset) });
            let errand = match fetched {
                true => Errand::Fetched { request: number },
                false => Errand::Put { grant: number, notify },
            };
            // Longer than there are addresses for is refused.
            let segments = if length.checked_add(offset).is_some() { segments } else { 1 };
            BulkRecord::Ask { transfer, errand, offset, segment, segments, rest }
        }),
        any::<[u32; 2]>().prop_map(|[transfer, grant]| BulkRecord::Granted { transfer, grant }),
        (any::<u32>(), prop_oneof![Just(Declined::Unable), Just(Declined::Unwanted)])
            .prop_map(|(transfer, reason)| BulkRecord::Declined { transfer, reason }),
        any::<[u32; 2]>().prop_map(|[grant, packets]| BulkRecord::Landed { grant, packets }),
        (any::<u32>(), 1..=MAX_MISSING as u16).prop_map(|(grant, ranges)| BulkRecord::Missing { grant, ranges }),
        any::<u32>().prop_map(|transfer| BulkRecord::Done { transfer }),
        any::<u32>().prop_map(|transfer| BulkRecord::Cleared { transfer }),
        any::<u32>().prop_map(|transfer| BulkRecord::Cancel { transfer }),
        (any::<u32>(), any::<u16>()).prop_map(|(grant, questions)| BulkRecord::Sent { grant, questions }),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read(records in prop::collection::vec(any_record(), 0..8), cut in 1usize..64) {
        let mut bytes = Vec::new();
        for record in &records {
            bytes.extend_from_slice(record.emit().as_ref());
            bytes.resize(bytes.len() + record.body_len(), 0x5a);
        }
        let fragments: Vec<&[u8]> = bytes.chunks(cut).collect();
        let mut reader = Reader::new(&fragments, 0, usize::MAX);
        for record in &records {
            prop_assert_eq!(Record::parse(&mut reader), Ok(Some(*record)));
            reader.skip(record.body_len());
        }
        prop_assert_eq!(Record::parse(&mut reader), Ok(None));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let fragments = [&bytes[..]];
        let mut reader = Reader::new(&fragments, 0, usize::MAX);
        while let Ok(Some(record)) = Record::parse(&mut reader) {
            prop_assert!(reader.remaining() >= record.body_len());
            reader.skip(record.body_len());
        }
    }
}

#[test]
fn every_reserved_bit_is_refused() {
    let put = Record::Put { grant: 1, offset: 2, length: 0, notify: Some(Notify { tag: 3, total: 0 }) };
    let imported =
        Record::Imported { request: 1, status: ImportStatus::Granted, grant: 2, access: Access::default(), length: 3 };
    let refused = Record::Refused { reason: Refusal::NoGrant, grant: 1, sequence: 2 };
    let import = Record::Import { request: 1, key: [0; 16], name: 1 };
    let fetch = Record::Fetch { request: 1, grant: 2, offset: 3, length: 4 };
    for (record, reserved) in [
        (put, vec![(1, 0xfe), (20, 0xff), (21, 0xff), (22, 0xff), (23, 0xff)]),
        (import, vec![(1, 0xff)]),
        (imported, vec![(2, 0xff), (3, 0xff), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xf8)]),
        (Record::Release { grant: 1 }, vec![(1, 0xff), (2, 0xff), (3, 0xff)]),
        (Record::Revoked { grant: 1 }, vec![(1, 0xff), (2, 0xff), (3, 0xff)]),
        (refused, vec![(2, 0xff), (3, 0xff), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xff)]),
        (fetch, vec![(1, 0xff), (2, 0xff), (3, 0xff), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xff)]),
        (Record::Fetched { request: 1, at: 2, length: 3 }, vec![(1, 0xff)]),
        (Record::FetchRefused { reason: FetchRefusal::NoGrant, request: 1 }, vec![(2, 0xff), (3, 0xff)]),
        (Record::FetchCancel { request: 1 }, vec![(1, 0xff), (2, 0xff), (3, 0xff)]),
    ] {
        for (at, mask) in reserved {
            for bit in (0..8).filter(|b| mask >> b & 1 == 1) {
                let mut bytes = record.emit().as_ref().to_vec();
                bytes.resize(bytes.len() + record.body_len(), 0);
                bytes[at] |= 1 << bit;
                let fragments = [&bytes[..]];
                let parsed = Record::parse(&mut Reader::new(&fragments, 0, usize::MAX));
                assert_eq!(parsed, Err(WireError::Reserved("record")), "{record:?}, byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_fetch_of_nothing_or_past_all_numbers_is_refused() {
    let parse = |record: Record| {
        let mut bytes = record.emit().as_ref().to_vec();
        bytes.resize(bytes.len() + record.body_len(), 0);
        Record::parse(&mut Reader::new(&[&bytes[..]], 0, usize::MAX))
    };
    for (offset, length) in [(0, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let fetch = Record::Fetch { request: 1, grant: 2, offset, length };
        assert_eq!(parse(fetch), Err(WireError::Inconsistent("FETCH's length")), "{fetch:?}");
    }
    for (at, length) in [(0, 0), (u64::MAX, 1), (u64::MAX - 8, 9)] {
        let fetched = Record::Fetched { request: 1, at, length };
        assert_eq!(parse(fetched), Err(WireError::Inconsistent("FETCHED's length")), "{fetched:?}");
    }
}
