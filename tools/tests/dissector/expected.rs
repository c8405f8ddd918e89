//! What the dissector should show of a packet, by the library's parsers.

use serde_json::{Map, Value, json};
use vmmc::wire::record::{BulkRecord, Errand, Notify, Record};
use vmmc::wire::{Flags, HEADER_LEN, HELLO_LEN};

use crate::packet::{Body, Packet, runs};

type Tree = Map<String, Value>;

/// The fields of a packet's tree, as tshark's JSON has them, without those that other packets make.
pub fn tree(packet: &Packet, payload: &[u8]) -> Tree {
    let header = packet.header;
    let Flags { ack_now, sack, checked, provisional, late, throttled } = header.flags;
    let mut tree = Tree::new();
    put(&mut tree, "vmmc.checksum", format!("{:#010x}", header.checksum));
    let status = if checked { 1 } else { 3 };
    tree.insert("vmmc.checksum_tree".into(), json!({ "vmmc.checksum.status": status.to_string() }));
    put(&mut tree, "vmmc.version", vmmc::wire::VERSION);
    put(&mut tree, "vmmc.kind", header.kind as u8);
    put(&mut tree, "vmmc.flags", format!("{:#04x}", payload[6]));
    let mut flags = Tree::new();
    let named = [("ack_now", ack_now), ("sack", sack), ("checked", checked), ("provisional", provisional)];
    named
        .into_iter()
        .chain([("late", late), ("throttled", throttled)])
        .for_each(|(name, is)| put(&mut flags, &format!("vmmc.flags.{name}"), u8::from(is)));
    put(&mut flags, "vmmc.flags.reserved", "0x00");
    tree.insert("vmmc.flags_tree".into(), flags.into());
    put(&mut tree, "vmmc.reserved", "0x00");
    put(&mut tree, "vmmc.token", format!("{:#018x}", header.token));
    put(&mut tree, "vmmc.seq", header.sequence);
    put(&mut tree, "vmmc.ack", header.ack);
    put(&mut tree, "vmmc.credit", header.credit);
    put(&mut tree, "vmmc.ack_delay", header.ack_delay);
    put(&mut tree, "vmmc.marks", header.marks);
    put(&mut tree, "vmmc.reserved2", "0x0000");
    match &packet.body {
        Body::Hello(hello) => {
            put(&mut tree, "vmmc.hello.incarnation", format!("{:#018x}", hello.incarnation));
            put(&mut tree, "vmmc.hello.token", format!("{:#018x}", hello.token));
            put(&mut tree, "vmmc.hello.peer_incarnation", format!("{:#018x}", hello.peer_incarnation));
            put(&mut tree, "vmmc.hello.first", hello.first);
            put(&mut tree, "vmmc.hello.mtu", hello.mtu);
            let [checksum, bulk] = [hello.options.checksum, hello.options.bulk].map(u8::from);
            put(&mut tree, "vmmc.hello.options", format!("{:#04x}", checksum | bulk << 1));
            let options = json!({
                "vmmc.hello.options.checksum": checksum.to_string(),
                "vmmc.hello.options.bulk": bulk.to_string(),
                "vmmc.hello.options.reserved": "0x00",
            });
            tree.insert("vmmc.hello.options_tree".into(), options);
            put(&mut tree, "vmmc.hello.reserved", "0x00");
            put(&mut tree, "vmmc.hello.reserved2", "0x0000000000000000");
            put(&mut tree, "vmmc.hello.padding", hex(&payload[HEADER_LEN + HELLO_LEN..]));
        }
        Body::Records(records) => {
            let trees = records.iter().map(|(record, bytes)| self::record(record, bytes).into());
            tree.insert("vmmc.record".into(), list(trees.collect()));
        }
        Body::Sack(Some(sack)) => {
            let bytes = sack.emit();
            let words = bytes.as_ref().chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
            let words = words.map(|word| json!(format!("{word:#018x}")));
            tree.insert("vmmc.sack.word".into(), list(words.collect()));
            put(&mut tree, "vmmc.sack.packets", runs(sack, header.ack));
        }
        Body::Sack(None) | Body::Nothing => {}
    }
    tree
}

/// Fields of the same name: one is itself, several are a list.
fn list(mut fields: Vec<Value>) -> Value {
    if fields.len() == 1 { fields.remove(0) } else { fields.into() }
}

/// The fields of a record.
fn record(record: &Record, bytes: &[u8]) -> Tree {
    let mut tree = Tree::new();
    let tree_ref = &mut tree;
    let fixed = record.emit();
    put(tree_ref, "vmmc.record.kind", fixed.as_ref()[0]);
    match *record {
        Record::Put { grant, offset, length, notify } => {
            let flag = u8::from(notify.is_some());
            put(tree_ref, "vmmc.put.flags", format!("{flag:#04x}"));
            let flags = json!({ "vmmc.put.flags.notify": flag.to_string(), "vmmc.put.flags.reserved": "0x00" });
            tree_ref.insert("vmmc.put.flags_tree".into(), flags);
            put(tree_ref, "vmmc.put.length", length);
            put(tree_ref, "vmmc.put.grant", grant);
            put(tree_ref, "vmmc.put.offset", offset);
            if let Some(Notify { tag, total }) = notify {
                put(tree_ref, "vmmc.put.tag", tag);
                put(tree_ref, "vmmc.record.reserved", "00:00:00:00");
                put(tree_ref, "vmmc.put.total", total);
            }
            if length > 0 {
                put(tree_ref, "vmmc.put.data", hex(bytes));
            }
        }
        Record::Import { request, key, name } => {
            put(tree_ref, "vmmc.record.reserved", "00");
            put(tree_ref, "vmmc.import.name_length", name);
            put(tree_ref, "vmmc.import.request", request);
            put(tree_ref, "vmmc.import.key", hex(&key));
            put(tree_ref, "vmmc.import.name", String::from_utf8_lossy(bytes));
        }
        Record::Imported { request, status, grant, access, length } => {
            put(tree_ref, "vmmc.imported.status", status as u8);
            put(tree_ref, "vmmc.record.reserved", "00:00");
            put(tree_ref, "vmmc.imported.request", request);
            put(tree_ref, "vmmc.imported.grant", grant);
            let [notifies, readable, writable] = [access.notifies, access.readable, access.writable].map(u8::from);
            put(tree_ref, "vmmc.imported.flags", format!("{:#010x}", notifies | readable << 1 | writable << 2));
            let flags = json!({
                "vmmc.imported.flags.notifies": notifies.to_string(),
                "vmmc.imported.flags.readable": readable.to_string(),
                "vmmc.imported.flags.writable": writable.to_string(),
                "vmmc.imported.flags.reserved": "0x00000000",
            });
            tree_ref.insert("vmmc.imported.flags_tree".into(), flags);
            put(tree_ref, "vmmc.imported.length", length);
        }
        Record::Release { grant } => {
            put(tree_ref, "vmmc.record.reserved", "00:00:00");
            put(tree_ref, "vmmc.release.grant", grant);
        }
        Record::Revoked { grant } => {
            put(tree_ref, "vmmc.record.reserved", "00:00:00");
            put(tree_ref, "vmmc.revoked.grant", grant);
        }
        Record::Refused { reason, grant, sequence } => {
            put(tree_ref, "vmmc.refused.reason", reason as u8);
            put(tree_ref, "vmmc.record.reserved", json!(["00:00", "00:00:00:00"]));
            put(tree_ref, "vmmc.refused.grant", grant);
            put(tree_ref, "vmmc.refused.seq", sequence);
        }
        Record::Fetch { request, grant, offset, length } => {
            put(tree_ref, "vmmc.record.reserved", json!(["00:00:00", "00:00:00:00"]));
            put(tree_ref, "vmmc.fetch.request", request);
            put(tree_ref, "vmmc.fetch.grant", grant);
            put(tree_ref, "vmmc.fetch.offset", offset);
            put(tree_ref, "vmmc.fetch.length", length);
        }
        Record::Fetched { request, at, length } => {
            put(tree_ref, "vmmc.record.reserved", "00");
            put(tree_ref, "vmmc.fetched.length", length);
            put(tree_ref, "vmmc.fetched.request", request);
            put(tree_ref, "vmmc.fetched.at", at);
            put(tree_ref, "vmmc.fetched.data", hex(bytes));
        }
        Record::FetchRefused { reason, request } => {
            put(tree_ref, "vmmc.fetch_refused.reason", reason as u8);
            put(tree_ref, "vmmc.record.reserved", "00:00");
            put(tree_ref, "vmmc.fetch_refused.request", request);
        }
        Record::FetchCancel { request } => {
            put(tree_ref, "vmmc.record.reserved", "00:00:00");
            put(tree_ref, "vmmc.fetch_cancel.request", request);
        }
        Record::Bulk(record) => bulk(tree_ref, record, bytes),
    }
    tree
}

/// Those of a record about a transfer on the bulk lane.
fn bulk(tree: &mut Tree, record: BulkRecord, bytes: &[u8]) {
    match record {
        BulkRecord::Ask { transfer, errand, offset, segment, segments, rest } => {
            let (named, number, notify) = match errand {
                Errand::Put { grant, notify } => ("vmmc.bulk_ask.grant", grant, notify),
                Errand::Fetched { request } => ("vmmc.bulk_ask.request", request, None),
            };
            let [notifies, fetched] = [notify.is_some(), matches!(errand, Errand::Fetched { .. })].map(u8::from);
            put(tree, "vmmc.bulk_ask.flags", format!("{:#04x}", notifies | fetched << 1));
            let flags = json!({
                "vmmc.bulk_ask.flags.notify": notifies.to_string(),
                "vmmc.bulk_ask.flags.fetched": fetched.to_string(),
                "vmmc.bulk_ask.flags.reserved": "0x00",
            });
            tree.insert("vmmc.bulk_ask.flags_tree".into(), flags);
            put(tree, "vmmc.bulk_ask.rest", rest);
            put(tree, "vmmc.bulk.transfer", transfer);
            put(tree, named, number);
            put(tree, "vmmc.bulk_ask.segment", segment);
            put(tree, "vmmc.bulk_ask.segments", segments);
            put(tree, "vmmc.bulk_ask.offset", offset);
            let mut reserved = vec![json!("00:00:00:00")];
            if let Some(Notify { tag, total }) = notify {
                put(tree, "vmmc.bulk_ask.tag", tag);
                reserved.push(json!("00:00:00:00"));
                put(tree, "vmmc.bulk_ask.total", total);
            }
            put(tree, "vmmc.record.reserved", list(reserved));
            if rest > 0 {
                put(tree, "vmmc.bulk_ask.data", hex(bytes));
            }
        }
        BulkRecord::Granted { transfer, grant } => {
            put(tree, "vmmc.record.reserved", json!(["00:00:00", "00:00:00:00"]));
            put(tree, "vmmc.bulk.transfer", transfer);
            put(tree, "vmmc.bulk.grant", grant);
        }
        BulkRecord::Declined { transfer, reason } => {
            put(tree, "vmmc.bulk.reason", reason as u8);
            put(tree, "vmmc.record.reserved", "00:00");
            put(tree, "vmmc.bulk.transfer", transfer);
        }
        BulkRecord::Landed { grant, packets } => {
            put(tree, "vmmc.record.reserved", json!(["00:00:00", "00:00:00:00"]));
            put(tree, "vmmc.bulk.grant", grant);
            put(tree, "vmmc.bulk.packets", packets);
        }
        BulkRecord::Missing { grant, ranges } => {
            put(tree, "vmmc.record.reserved", "00");
            put(tree, "vmmc.bulk.ranges", ranges);
            put(tree, "vmmc.bulk.grant", grant);
            for (name, at) in [("vmmc.bulk.first", 0), ("vmmc.bulk.end", 4)] {
                let number = |range: &[u8]| u32::from_be_bytes(range[at..at + 4].try_into().unwrap()).to_string();
                put(tree, name, list(bytes.chunks_exact(8).map(|range| json!(number(range))).collect()));
            }
        }
        BulkRecord::Done { transfer } | BulkRecord::Cleared { transfer } | BulkRecord::Cancel { transfer } => {
            put(tree, "vmmc.record.reserved", "00:00:00");
            put(tree, "vmmc.bulk.transfer", transfer);
        }
        BulkRecord::Sent { grant, questions } => {
            put(tree, "vmmc.record.reserved", "00");
            put(tree, "vmmc.bulk.questions", questions);
            put(tree, "vmmc.bulk.grant", grant);
        }
    }
}

/// Fields, as text unless they are something else already.
fn put(tree: &mut Tree, field: &str, value: impl Into<Text>) {
    tree.insert(field.into(), value.into().0);
}

struct Text(Value);

impl From<Value> for Text {
    fn from(value: Value) -> Text {
        Text(value)
    }
}

macro_rules! as_text {
    ($($of:ty),*) => {
        $(impl From<$of> for Text {
            fn from(value: $of) -> Text {
                Text(Value::String(value.to_string()))
            }
        })*
    };
}

as_text!(u8, u16, u32, u64, &str, String, std::borrow::Cow<'_, str>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
