//! The tables of `vmmc stats`, for a terminal of 120 columns.

use std::fmt::Write;
use std::time::Duration;

use vmmc::Stats;
use vmmc::monitor::Found;

use crate::figures::{bytes, count, percent, plain, span};
use crate::table::Column::{Figure, Rare, Text};
use crate::table::Table;

/// How long names may be.
const NAME: usize = 32;

/// Which nodes there are.
pub(super) fn list(nodes: &[Found]) -> String {
    let columns = [Text("node"), Text("program"), Text("interface"), Text("address"), Figure("links")];
    let more = [Figure("exports"), Figure("imports"), Figure("up")];
    let mut table = Table::new(&[&columns[..], &more[..]].concat(), true);
    let mut silent = String::new();
    for node in nodes {
        let Ok(stats) = &node.stats else {
            let _ = writeln!(silent, "  {node}");
            continue;
        };
        table.row(vec![
            format!("{}.{}", node.pid, node.number),
            plain(&stats.program, NAME),
            interface(stats),
            stats.local.to_string(),
            stats.links.len().to_string(),
            stats.exports.len().to_string(),
            stats.imports.len().to_string(),
            span(stats.uptime),
        ]);
    }
    format!("{table}{silent}")
}

pub(crate) fn interface(stats: &Stats) -> String {
    plain(stats.interface.as_deref().unwrap_or("(simulated)"), NAME)
}

/// All about one node.
pub(super) fn node(name: &str, stats: &Stats, all: bool) -> String {
    let mut text = head(name, stats, all);
    for (title, part) in [
        ("Links", links(stats, all)),
        ("Traffic of links: data packets, without repetitions", traffic(stats, all)),
        ("Exports", exports(stats, all)),
        ("Imports", imports(stats)),
        ("Receive frames, by where they are", receive(stats, all)),
        ("Send frames, by where they are", send(stats)),
        ("The bulk lane, by link", transfers(stats)),
        ("Entries of the bulk lane's rings, by where they are", lane(stats)),
    ] {
        if let Some(table) = part {
            let _ = write!(text, "\n{title}\n{table}");
        }
    }
    if let Some(verdicts) = stats.verdicts {
        let shown = verdicts.iter().filter(|(_, n)| all || *n > 0);
        let shown: Vec<String> = shown.map(|(name, n)| format!("{} {}", name.replace('_', " "), count(n))).collect();
        let shown = if shown.is_empty() { vec!["none yet".to_owned()] } else { shown };
        let _ =
            writeln!(text, "\nFrames the eBPF program saw on the interface\n  {}", wrapped(&shown, 116).join("\n  "));
    }
    text
}

fn head(name: &str, stats: &Stats, all: bool) -> String {
    let Stats { engine, port, .. } = stats;
    let vlan = stats.vlan.map(|vlan| format!(" (VLAN {vlan})")).unwrap_or_default();
    let mode = stats.mode.map(|mode| format!(", XDP in {mode} mode")).unwrap_or_default();
    let copy = match stats.binding {
        None => "",
        Some(binding) if binding.zero_copy => ", zero-copy",
        Some(_) => ", copy mode",
    };
    let program = plain(&stats.program, NAME);
    let mut text = format!(
        "Node {name} ({program}): {} on {}{vlan}, MTU {}{mode}{copy}, up {}\n",
        stats.local,
        interface(stats),
        stats.mtu,
        span(stats.uptime)
    );
    if let Some(failure) = &stats.failure {
        let _ = writeln!(text, "  TROUBLE   {}", plain(failure, 110));
    }
    let mut line = |label: &str, text_of: String| {
        let _ = writeln!(text, "  {label:<10}{text_of}");
    };
    let Stats { exported_bytes, arena_bytes, arena_page_bytes, .. } = *stats;
    let pages = bytes(arena_page_bytes);
    line("arena", format!("{} of {} exported, in pages of {pages}", bytes(exported_bytes), bytes(arena_bytes)));
    let utlb = stats.utlb;
    if all || utlb.lookups > 0 {
        let hits = if utlb.lookups == 0 { String::new() } else { percent(utlb.hits as f64, utlb.lookups as f64) };
        let hits = if hits.is_empty() { String::new() } else { format!(" ({hits} hits)") };
        let now = format!("{} of {} pages pinned, {} held", count(utlb.pinned), count(utlb.budget), count(utlb.held));
        line("UTLB", format!("{now}; {} looked up{hits}", count(utlb.lookups)));
        let pins = format!("{} pinned, {} unpinned", count(utlb.pins), count(utlb.unpins));
        line("", format!("{pins}, {} copied instead", count(utlb.copied)));
    }
    // What fetches have brought is copied as what is sent is.
    let came = engine.delivered_bytes + engine.fetched_bytes;
    let copied = |copied| if came == 0 { String::new() } else { percent(copied, came as f64) };
    line(
        "received",
        format!(
            "{} delivered into exports{}, {} notifications; {} frames, {}",
            bytes(engine.delivered_bytes),
            match copied(engine.rx_copied_bytes as f64).as_str() {
                "" => String::new(),
                share => format!(" ({share} copied)"),
            },
            count(engine.notifications),
            count(port.rx_packets),
            bytes(port.rx_bytes)
        ),
    );
    let per_wakeup = match port.wakeups {
        0 => String::new(),
        wakeups => format!(", {:.1} per wakeup", port.tx_packets as f64 / wakeups as f64),
    };
    line(
        "sent",
        format!(
            "{} sends, {} copied into packets; {} frames, {}{per_wakeup}",
            count(engine.sends),
            bytes(engine.tx_copied_bytes),
            count(port.tx_packets),
            bytes(port.tx_bytes)
        ),
    );
    match (&stats.bulk, &stats.no_bulk) {
        (Some(lane), _) => {
            let rings = stats.bulk_rings.unwrap_or_default();
            let mode = if stats.bulk_copied.is_none() { "zero-copy" } else { "copy mode" };
            let (sent, packets) = (bytes(lane.tx_bytes), count(lane.tx_packets));
            let transfers = format!("{} of {} transfers", count(engine.tx_bulk_done), count(engine.tx_bulk_transfers));
            line(
                "bulk lane",
                format!("queue {}, {mode}; {sent} sent in {packets} packets, {transfers} done", rings.queue),
            );
            let (received, landed) = (bytes(engine.rx_bulk_bytes), count(lane.rx_packets));
            let transfers = format!("{} of {}", count(engine.rx_bulk_transfers), count(engine.rx_bulk_grants));
            let order = match engine.rx_bulk_repaired_bytes {
                0 => String::new(),
                copied => format!(", {} put in order after losses", bytes(copied)),
            };
            line("", format!("{received} received in {landed} packets, {transfers} transfers granted complete{order}"));
            if let Some(why) = stats.bulk_copied.as_ref().filter(|_| all) {
                line("", format!("no zero-copy: {}", plain(why, 400)));
            }
        }
        (None, Some(reason)) => {
            for (i, part) in wrapped(&[format!("none: {}", plain(reason, 300))], 106).into_iter().enumerate() {
                line(if i == 0 { "bulk lane" } else { "" }, part);
            }
        }
        (None, None) => {}
    }
    if all || engine.fetches > 0 || engine.served_bytes > 0 {
        let (fetches, fetched) = (count(engine.fetches), bytes(engine.fetched_bytes));
        line(
            "fetched",
            format!("{fetched} by {fetches} fetches; {} by others, from exports", bytes(engine.served_bytes)),
        );
    }
    let odd: Vec<String> = rare(stats)
        .into_iter()
        .filter(|(_, n)| all || *n > 0)
        .map(|(what, n)| format!("{} {what}", count(n)))
        .collect();
    for (i, few) in wrapped(&odd, 106).into_iter().enumerate() {
        line(if i == 0 { "besides" } else { "" }, few);
    }
    text
}

/// The parts, with commas between them, in lines of at most so many characters.
fn wrapped(parts: &[String], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() < most => *line += &format!(", {part}"),
            last => {
                if let Some(line) = last {
                    *line += ",";
                }
                lines.push(part.clone());
            }
        }
    }
    lines
}

/// What rarely happens.
pub(crate) fn rare(stats: &Stats) -> Vec<(&'static str, u64)> {
    let Stats { engine, port, .. } = stats;
    let faults = |f: vmmc::port::fault::FaultCounters| f.dropped + f.duplicated + f.delayed + f.corrupted;
    vec![
        ("links ended", engine.links_ended),
        ("malformed frames", engine.rx_malformed),
        ("frames for others", engine.rx_foreign),
        ("frames of other VLANs", engine.rx_other_vlan),
        ("damaged packets", engine.rx_damaged),
        ("packets of unknown links", engine.rx_unknown),
        ("sends refused", engine.refused_puts),
        ("fetches refused", engine.refused_fetches),
        ("answers nobody asked for", engine.rx_unasked),
        ("handshakes refused", engine.refused_hellos),
        ("early packets not kept", engine.rx_not_kept),
        ("dropped for want of a frame", port.rx_no_frame),
        ("dropped from a full RX ring", port.rx_ring_full),
        ("times out of TX frames", port.tx_exhausted),
        ("transfers that peers declined", engine.tx_bulk_declined),
        ("transfers declined", engine.rx_bulk_declined),
        ("transfers abandoned", engine.rx_bulk_abandoned),
        ("segments sent again", engine.tx_bulk_asked_again),
        ("segments asked for again", engine.rx_bulk_missing),
        ("bulk packets for nothing", engine.rx_bulk_wasted),
        ("times the bulk lane was opened anew", engine.bulk_reopened),
        ("packets on queues where nobody hears them", stats.unheard),
        ("failures to pin or unpin", stats.utlb.failures),
        ("faults made in what was sent", faults(port.tx_faults)),
        ("faults made in what came", faults(port.rx_faults)),
    ]
}

fn links(stats: &Stats, all: bool) -> Option<Table> {
    let mut table = Table::new(
        &[
            Text("peer"),
            Text("state"),
            Figure("RTT 50%"),
            Figure("90%"),
            Figure("99%"),
            Figure("99.9%"),
            Figure("max"),
            Figure("under way"),
            Figure("credit"),
            Figure("given"),
            Rare("kept"),
            Figure("heard"),
            Rare("no CRC"),
        ],
        all,
    );
    for link in &stats.links {
        let times = &link.round_trips;
        let time = |time: Duration| if times.count == 0 { "-".to_owned() } else { span(time) };
        table.row(vec![
            link.peer.to_string(),
            link.state.to_string(),
            time(times.p50),
            time(times.p90),
            time(times.p99),
            time(times.p999),
            time(times.max),
            format!("{} of {}", link.in_flight, link.window),
            link.credit_received.to_string(),
            link.credit_given.to_string(),
            link.early.to_string(),
            span(link.heard),
            u8::from(!link.checksum).to_string(),
        ]);
    }
    (!stats.links.is_empty()).then_some(table)
}

fn traffic(stats: &Stats, all: bool) -> Option<Table> {
    let mut table = Table::new(
        &[
            Text("peer"),
            Figure("sent"),
            Figure("bytes"),
            Figure("received"),
            Figure("bytes"),
            Figure("MTU"),
            Rare("again"),
            Rare("timeouts"),
            Rare("early"),
            Rare("twice"),
            Rare("damaged"),
            Rare("odd"),
            Rare("grants"),
            Rare("serving"),
        ],
        all,
    );
    for link in &stats.links {
        let counters = link.counters;
        table.row(vec![
            link.peer.to_string(),
            count(counters.tx_data),
            bytes(counters.tx_bytes),
            count(counters.rx_data),
            bytes(counters.rx_bytes),
            link.mtu.to_string(),
            count(counters.tx_retransmitted),
            count(counters.timeouts),
            count(counters.rx_early),
            count(counters.rx_refused),
            count(counters.rx_damaged),
            count(counters.rx_nonsense),
            match (link.grants, link.grants_held) {
                (0, 0) => "0".to_owned(),
                (given, held) => format!("{given}+{held}"),
            },
            match (link.jobs, link.fetching) {
                (0, 0) => "0".to_owned(),
                (theirs, ours) => format!("{theirs}+{ours}"),
            },
        ]);
    }
    (!stats.links.is_empty()).then_some(table)
}

fn exports(stats: &Stats, all: bool) -> Option<Table> {
    let mut table = Table::new(
        &[
            Text("name"),
            Figure("length"),
            Text("open to"),
            Figure("importers"),
            Figure("written"),
            Figure("read"),
            Figure("notifications"),
            Figure("waiting"),
            Rare("redirects"),
            Rare("redirected"),
            Rare("moved"),
        ],
        all,
    );
    for export in &stats.exports {
        let access = match (export.public, export.allowed) {
            (true, _) => "everyone".to_owned(),
            (false, 0) => "key".to_owned(),
            (false, peers) => format!("key, {peers} peers"),
        };
        let notifies = |text: String| if export.notify { text } else { "-".to_owned() };
        table.row(vec![
            plain(&export.name, NAME),
            bytes(export.length),
            access,
            count(export.importers),
            if export.writable { bytes(export.bytes) } else { "-".to_owned() },
            if export.readable { bytes(export.read_bytes) } else { "-".to_owned() },
            notifies(count(export.notifications)),
            notifies(format!("{} of {}", export.waiting, export.queue)),
            count(export.redirects as u64),
            bytes(export.redirected_bytes),
            bytes(export.moved_bytes),
        ]);
    }
    (!stats.exports.is_empty()).then_some(table)
}

fn imports(stats: &Stats) -> Option<Table> {
    let mut table = Table::new(
        &[
            Text("name"),
            Text("of"),
            Figure("length"),
            Figure("sends"),
            Figure("bytes"),
            Figure("fetches"),
            Figure("bytes"),
            Text("state"),
        ],
        true,
    );
    for import in &stats.imports {
        table.row(vec![
            plain(&import.name, NAME),
            import.peer.to_string(),
            if import.length == 0 { "-".to_owned() } else { bytes(import.length) },
            count(import.sends),
            bytes(import.bytes),
            count(import.fetches),
            bytes(import.fetched),
            match &import.error {
                Some(error) => plain(error, 36),
                None if import.ready => "ready".to_owned(),
                None => "asked for".to_owned(),
            },
        ]);
    }
    (!stats.imports.is_empty()).then_some(table)
}

fn receive(stats: &Stats, all: bool) -> Option<Table> {
    let columns = [Text("queue"), Figure("frames"), Figure("fill ring"), Rare("driver"), Figure("RX ring")];
    let mut table = Table::new(&[&columns[..], &[Figure("kept"), Figure("spare")]].concat(), all);
    for queue in &stats.rings.receive {
        table.row(vec![
            queue.queue.to_string(),
            queue.frames.to_string(),
            format!("{} of {}", queue.fill, queue.ring),
            queue.driver.to_string(),
            format!("{} of {}", queue.arrived, queue.ring),
            queue.kept.to_string(),
            queue.spare.to_string(),
        ]);
    }
    (!stats.rings.receive.is_empty()).then_some(table)
}

fn send(stats: &Stats) -> Option<Table> {
    let send = stats.rings.send;
    let columns = [Text("queue"), Figure("frames"), Figure("free"), Figure("in packets"), Figure("TX ring")];
    let mut table = Table::new(&[&columns[..], &[Figure("completion ring")]].concat(), true);
    table.row(vec![
        send.queue.to_string(),
        send.frames.to_string(),
        send.free.to_string(),
        send.kept.to_string(),
        format!("{} of {}", send.unsent, send.ring),
        format!("{} of {}", send.completed, send.ring),
    ]);
    (send.frames > 0).then_some(table)
}

fn transfers(stats: &Stats) -> Option<Table> {
    let columns = [Text("peer"), Figure("sends from"), Figure("transfers to it"), Figure("from it")];
    let mut table = Table::new(&columns, true);
    for link in &stats.links {
        table.row(vec![
            link.peer.to_string(),
            link.bulk_from.map_or_else(|| "-".to_owned(), |from| bytes(from as u64)),
            link.transfers.to_string(),
            link.transfers_asked.to_string(),
        ]);
    }
    (stats.bulk.is_some() && !stats.links.is_empty()).then_some(table)
}

fn lane(stats: &Stats) -> Option<Table> {
    let rings = stats.bulk_rings?;
    let columns = [Text("queue"), Figure("places"), Figure("their entries"), Figure("fill ring"), Figure("RX ring")];
    let more = [Figure("packets to send"), Figure("TX ring"), Figure("completion ring")];
    let mut table = Table::new(&[&columns[..], &more[..]].concat(), true);
    table.row(vec![
        rings.queue.to_string(),
        rings.places.to_string(),
        rings.posted.to_string(),
        format!("{} of {}", rings.fill, rings.ring),
        format!("{} of {}", rings.arrived, rings.ring),
        format!("{} of {}", rings.sending, rings.slots),
        format!("{} of {}", rings.unsent, rings.send_ring),
        format!("{} of {}", rings.completed, rings.send_ring),
    ]);
    Some(table)
}
