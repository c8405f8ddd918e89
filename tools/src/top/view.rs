//! What `vmmc top` looks like: from top to bottom the nodes there are, the one that is shown, its links, exports, imports and rings.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};
use vmmc::Stats;
use vmmc::link::LinkState;

use super::model::{Model, Now};
use crate::figures::{bits, bytes, percent, plain, rate, span};
use crate::stats::{interface, rare};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const LOUD: Style = Style::new().add_modifier(Modifier::REVERSED);

/// How many queues have a line.
const QUEUES: usize = 4;

/// Between two columns.
const SPACE: u16 = 1;

/// How wide a bar is.
const BAR: usize = 20;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let trouble = if model.trouble.is_some() { 2 } else { 0 };
    let [nodes, trouble_at, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(trouble),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(names(model), nodes);
    if let Some(text) = &model.trouble {
        frame.render_widget(Paragraph::new(text.as_str()).style(LOUD).wrap(Wrap { trim: true }), trouble_at);
    }
    let help = format!("q quit   tab, arrows: node   + - interval: {}", span(model.interval));
    frame.render_widget(Paragraph::new(help).style(FAINT), keys);
    match model.now() {
        Some(now) => draw_node(frame, body, now),
        None if model.trouble.is_none() => frame.render_widget(Paragraph::new("\nasking the node ..."), body),
        None => {}
    }
}

/// The nodes there are, the one that is shown among them or, when it has gone, in front of them.
fn names(model: &Model) -> Line<'_> {
    let mut line = vec![Span::styled("vmmc top ", BOLD)];
    let shown = |text| Span::styled(format!(" {text} "), LOUD);
    if model.nodes.iter().all(|node| node.path != model.shown.path) {
        line.push(shown(&model.shown.text));
    }
    for node in &model.nodes {
        line.push(if node.path == model.shown.path {
            shown(&node.text)
        } else {
            Span::raw(format!(" {} ", node.text))
        });
    }
    Line::from(line)
}

fn draw_node(frame: &mut Frame<'_>, area: Rect, now: Now<'_>) {
    let stats = now.latest;
    let (head, tail) = (head(now), tail(now));
    // A table has a heading, a row for each entry, and an empty line behind.
    let height = |entries: usize| Constraint::Max(if entries == 0 { 0 } else { entries.min(1000) as u16 + 2 });
    let [head_at, links_at, exports_at, imports_at, tail_at] = Layout::vertical([
        Constraint::Length(head.len() as u16 + 1),
        height(stats.links.len()),
        height(stats.exports.len()),
        height(stats.imports.len()),
        Constraint::Min(tail.len().min(QUEUES + 3) as u16),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), head_at);
    if !stats.links.is_empty() {
        frame.render_widget(links(area.width, now), links_at);
    }
    if !stats.exports.is_empty() {
        frame.render_widget(exports(area.width, now), exports_at);
    }
    if !stats.imports.is_empty() {
        frame.render_widget(imports(area.width, now), imports_at);
    }
    frame.render_widget(Paragraph::new(tail), tail_at);
}

/// A rate, or that there is none yet.
fn or_none(rate: Option<f64>, text: impl Fn(f64) -> String) -> String {
    rate.map_or_else(|| "-".to_owned(), text)
}

fn head(now: Now<'_>) -> Vec<Line<'static>> {
    let stats = now.latest;
    let mode = stats.mode.map(|mode| format!(", XDP in {mode} mode")).unwrap_or_default();
    let packets = |of: fn(&Stats) -> u64| or_none(now.rate(of), rate);
    let lengths = |of: fn(&Stats) -> u64| or_none(now.rate(of), bits);
    let (up, local, interface) = (span(stats.uptime), stats.local, interface(stats));
    let wire = format!(
        "frames   sent {}/s, {}   received {}/s, {}   wakeups {}/s",
        packets(|s| s.port.tx_packets),
        lengths(|s| s.port.tx_bytes),
        packets(|s| s.port.rx_packets),
        lengths(|s| s.port.rx_bytes),
        packets(|s| s.port.wakeups),
    );
    let work = format!(
        "engine   sends {}/s   notifications {}/s   delivered {}",
        packets(|s| s.engine.sends),
        packets(|s| s.engine.notifications),
        lengths(|s| s.engine.delivered_bytes),
    );
    let copies = format!(
        "copied   into packets {}   out of packets {}",
        lengths(|s| s.engine.tx_copied_bytes),
        lengths(|s| s.engine.rx_copied_bytes),
    );
    let lane = match (&stats.bulk_rings, &stats.no_bulk) {
        (Some(rings), _) => Some(format!(
            "bulk     sent {}/s, {}   received {}/s, {}   {}, queue {}",
            packets(|s| s.bulk.map_or(0, |lane| lane.tx_packets)),
            lengths(|s| s.bulk.map_or(0, |lane| lane.tx_bytes)),
            packets(|s| s.bulk.map_or(0, |lane| lane.rx_packets)),
            lengths(|s| s.bulk.map_or(0, |lane| lane.rx_bytes)),
            if stats.bulk_copied.is_none() { "zero-copy" } else { "copy mode" },
            rings.queue,
        )),
        (None, Some(reason)) => Some(format!("bulk     none: {}", plain(reason, 300))),
        (None, None) => None,
    };
    let lines = [
        Line::styled(format!("{local} on {interface}, MTU {}{mode}, up {up}", stats.mtu), BOLD),
        Line::raw(wire),
        Line::raw(work),
        Line::raw(copies),
    ];
    lines.into_iter().chain(lane.map(Line::raw)).collect()
}

/// A table of these columns: title and width. All but the first are figures, and stand right. The last are left out where the terminal has
/// no room for them: a figure that is cut off would be another figure.
fn table(room: u16, columns: &[(&'static str, u16)], rows: Vec<Vec<String>>) -> Table<'static> {
    let mut used = 0;
    let fits = columns.iter().take_while(|(_, width)| {
        used += width + SPACE;
        used <= room + SPACE
    });
    let columns = &columns[..fits.count().max(1)];
    let cell = |i: usize, text: String| {
        let line = if i == 0 { Line::from(text) } else { Line::from(text).right_aligned() };
        Cell::from(line)
    };
    let row =
        |cells: Vec<String>| Row::new(cells.into_iter().take(columns.len()).enumerate().map(|(i, text)| cell(i, text)));
    let titles = row(columns.iter().map(|(title, _)| (*title).to_owned()).collect()).style(BOLD);
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    Table::new(rows.into_iter().map(row).collect::<Vec<_>>(), widths).header(titles).column_spacing(SPACE)
}

fn links(room: u16, now: Now<'_>) -> Table<'static> {
    let mut links: Vec<_> = now.latest.links.iter().collect();
    // Where there is no room for all, those with most traffic.
    links.sort_by_key(|link| {
        let bytes = now.link_rate(link, |l| l.counters.tx_bytes + l.counters.rx_bytes).unwrap_or_default();
        (std::cmp::Reverse(bytes as u64), link.peer)
    });
    let rows = links.into_iter().map(|link| {
        let (tx, again) = (
            now.link_rate(link, |l| l.counters.tx_data),
            now.link_rate(link, |l| l.counters.tx_retransmitted).unwrap_or_default(),
        );
        let times = now.round_trips(link);
        let time = |time| if times.count == 0 { "-".to_owned() } else { span(time) };
        let state = if link.state == LinkState::Open { String::new() } else { format!(" ({})", link.state) };
        vec![
            format!("{}{state}", link.peer),
            or_none(tx, rate),
            or_none(now.link_rate(link, |l| l.counters.tx_bytes), bits),
            or_none(now.link_rate(link, |l| l.counters.rx_data), rate),
            or_none(now.link_rate(link, |l| l.counters.rx_bytes), bits),
            or_none(tx, |tx| percent(again, tx + again)),
            time(times.p50),
            time(times.p99),
            format!("{}/{}", link.in_flight, link.window),
            link.credit_received.to_string(),
            span(link.heard),
            // Given to the peer, and had from it.
            format!("{}+{}", link.grants, link.grants_held),
        ]
    });
    table(
        room,
        &[
            ("link", 22),
            ("sent/s", 7),
            ("", 11),
            ("recv/s", 7),
            ("", 11),
            ("again", 6),
            ("RTT 50%", 8),
            ("99%", 8),
            ("way/win", 9),
            ("credit", 6),
            ("heard", 8),
            ("grants", 6),
        ],
        rows.collect(),
    )
}

fn exports(room: u16, now: Now<'_>) -> Table<'static> {
    let mut exports: Vec<_> = now.latest.exports.iter().collect();
    exports.sort_by_key(|export| {
        let bytes = now.export_rate(export, |e| e.bytes).unwrap_or_default();
        (std::cmp::Reverse(bytes as u64), export.name.clone())
    });
    let rows = exports.into_iter().map(|export| {
        vec![
            plain(&export.name, 22),
            bytes(export.length),
            or_none(now.export_rate(export, |e| e.bytes), bits),
            or_none(now.export_rate(export, |e| e.notifications), rate),
            format!("{}/{}", export.waiting, export.queue),
            export.importers.to_string(),
        ]
    });
    let columns =
        [("export", 22), ("length", 9), ("written", 12), ("notified/s", 10), ("waiting", 12), ("importers", 9)];
    table(room, &columns, rows.collect())
}

fn imports(room: u16, now: Now<'_>) -> Table<'static> {
    let mut imports: Vec<_> = now.latest.imports.iter().collect();
    imports.sort_by_key(|import| {
        let sends = now.import_rate(import, |i| i.sends).unwrap_or_default();
        (std::cmp::Reverse(sends as u64), import.name.clone())
    });
    let rows = imports.into_iter().map(|import| {
        vec![
            plain(&import.name, 22),
            if import.length == 0 { "-".to_owned() } else { bytes(import.length) },
            or_none(now.import_rate(import, |i| i.bytes), bits),
            or_none(now.import_rate(import, |i| i.sends), rate),
            import.peer.to_string(),
            if import.ready { "" } else { "not ready" }.to_owned(),
        ]
    });
    let columns = [("import", 22), ("length", 9), ("written", 12), ("sends/s", 10), ("of", 22), ("", 9)];
    table(room, &columns, rows.collect())
}

/// The rings, the verdicts, and what has gone wrong just now.
fn tail(now: Now<'_>) -> Vec<Line<'static>> {
    let rings = &now.latest.rings;
    let mut lines = Vec::new();
    for queue in rings.receive.iter().take(QUEUES) {
        let bar = bar(queue.fill, queue.frames);
        let rest = format!("{} arrived, {} kept, {} spare", queue.arrived, queue.kept, queue.spare);
        lines.push(Line::raw(format!(
            "receive {:>2} {bar} {} of {} in the fill ring, {rest}",
            queue.queue, queue.fill, queue.frames
        )));
    }
    if let Some(more) = rings.receive.len().checked_sub(QUEUES + 1) {
        lines.push(Line::styled(format!("and {} queues more", more + 1), FAINT));
    }
    let send = rings.send;
    if send.frames > 0 {
        let bar = bar(send.free, send.frames);
        let rest = format!("{} in the TX ring, {} in the completion ring", send.unsent, send.completed);
        lines.push(Line::raw(format!("send    {:>2} {bar} {} of {} free, {rest}", send.queue, send.free, send.frames)));
    }
    if let Some(lane) = now.latest.bulk_rings {
        let bar = bar(lane.posted, lane.ring);
        let posted = format!("{} of {} entries posted, for {} places", lane.posted, lane.ring, lane.places);
        let rest = format!("{} arrived, {} packets to send", lane.arrived, lane.sending);
        lines.push(Line::raw(format!("bulk    {:>2} {bar} {posted}, {rest}", lane.queue)));
    }
    if let Some(verdicts) = now.latest.verdicts {
        let count = |stats: &Stats, name: &str| {
            stats.verdicts.and_then(|v| v.iter().find(|(n, _)| *n == name)).map_or(0, |(_, count)| count)
        };
        let rates = verdicts.iter().filter_map(|(name, _)| {
            let rate_of = now.rate(|stats| count(stats, name)).filter(|rate| *rate > 0.0)?;
            Some(format!("{} {}/s", name.replace('_', " "), rate(rate_of)))
        });
        let rates: Vec<String> = rates.collect();
        let rates = if rates.is_empty() { "nothing".to_owned() } else { rates.join(", ") };
        lines.push(Line::raw(format!("steering   {rates}")));
    }
    let odd = rare(now.latest).into_iter().enumerate().filter_map(|(i, (what, _))| {
        let new = now.added(|stats| rare(stats)[i].1);
        (new > 0).then(|| format!("{new} {what}"))
    });
    let odd: Vec<String> = odd.collect();
    if !odd.is_empty() {
        lines.push(Line::styled(format!("just now   {}", odd.join(", ")), BOLD));
    }
    lines
}

/// So much of a whole.
fn bar(part: usize, whole: usize) -> String {
    let full = (part * BAR).div_ceil(whole.max(1)).min(BAR);
    format!("[{}{}]", "#".repeat(full), " ".repeat(BAR - full))
}

#[cfg(test)]
mod tests;
