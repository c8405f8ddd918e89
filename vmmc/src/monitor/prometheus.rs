//! A snapshot as Prometheus reads it: in the OpenMetrics text format, or in the older one that all others read, too.
//!
//! Every sample says which node it is of (`interface`, `local`, and `node`, its incarnation, where two of several agree in these), and of a link, export or import which one. Units are base units: bytes and seconds.
//! Round-trip times are a histogram, so that those of several links can be added up.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::{ExportInfo, ImportInfo, LinkInfo};
use crate::link::{LinkState, RoundTrips};
use crate::node::Stats;
use crate::port::{ReceiveRings, SendRings};

/// The media type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of [`encode_plain`]'s text.
pub const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper edges of the round-trip histogram's buckets, seconds.
const EDGES: [f64; 16] = [
    2e-6,
    5e-6,
    10e-6,
    20e-6,
    50e-6,
    100e-6,
    200e-6,
    500e-6,
    1e-3,
    2e-3,
    5e-3,
    10e-3,
    50e-3,
    200e-3,
    1.0,
    f64::INFINITY,
];

/// The text of these nodes' snapshots.
pub fn encode(nodes: Vec<Stats>) -> String {
    let mut registry = Registry::with_prefix("vmmc");
    registry.register_collector(Box::new(Snapshot(nodes)));
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// The same in the older format, 0.0.4, which node_exporter's textfile collector reads, `promtool check metrics`, and whoever doesn't ask for OpenMetrics.
/// There a counter's family is called as its samples are, and units and the end aren't told.
pub fn encode_plain(nodes: Vec<Stats>) -> String {
    let text = encode(nodes);
    let mut plain = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    let mut is_counter = false;
    while let Some(line) = lines.next() {
        let renamed = match line.strip_prefix("# ").map(|comment| comment.splitn(3, ' ').collect::<Vec<_>>()).as_deref()
        {
            Some([what @ ("HELP" | "TYPE"), name, rest]) => {
                if *what == "HELP" {
                    // Its type comes next.
                    is_counter = lines.peek().is_some_and(|next| next.ends_with(" counter"));
                }
                let suffix = if is_counter { "_total" } else { "" };
                Some(format!("# {what} {name}{suffix} {rest}"))
            }
            Some(_) => continue,
            None => None,
        };
        plain.push_str(renamed.as_deref().unwrap_or(line));
        plain.push('\n');
    }
    plain
}

#[derive(Debug)]
struct Snapshot(Vec<Stats>);

/// Names and values.
type Labels = Vec<(&'static str, String)>;

/// What a sample is of, and its value.
type Sample<'a, V> = (Labels, &'a V);

/// Writes families of samples.
struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn counter<T>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: &[Sample<'_, T>],
        value: impl Fn(&T) -> u64,
    ) -> fmt::Result {
        self.family((MetricType::Counter, name, help, unit), samples, |of| ConstCounter::new(value(of)))
    }

    fn gauge<T>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: &[Sample<'_, T>],
        value: impl Fn(&T) -> f64,
    ) -> fmt::Result {
        self.family((MetricType::Gauge, name, help, unit), samples, |of| ConstGauge::new(value(of)))
    }

    fn family<T, M: EncodeMetric>(
        &mut self,
        (kind, name, help, unit): (MetricType, &str, &str, Option<Unit>),
        samples: &[Sample<'_, T>],
        metric: impl Fn(&T) -> M,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        samples.iter().try_for_each(|(labels, of)| metric(of).encode(family.encode_family(&labels.as_slice())?))
    }

    fn round_trips(&mut self, links: &[Sample<'_, LinkInfo>]) -> fmt::Result {
        if links.is_empty() {
            return Ok(());
        }
        let (name, help) =
            ("link_round_trip", "From sending a packet to its acknowledgement, without the peer's delay");
        let unit = Some(Unit::Seconds);
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, link) in links {
            let (sum, buckets) = buckets(&link.round_trips);
            let labels = labels.as_slice();
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, link.round_trips.count, &buckets, None)?;
        }
        Ok(())
    }
}

/// The sum of all, in seconds, and how many fall into each bucket.
fn buckets(times: &RoundTrips) -> (f64, Vec<(f64, u64)>) {
    let mut before = 0;
    let buckets = EDGES.map(|edge| {
        let span = if edge.is_finite() { Duration::from_secs_f64(edge) } else { Duration::MAX };
        let within = times.within(span);
        (edge, within - std::mem::replace(&mut before, within))
    });
    (times.total().as_secs_f64(), buckets.to_vec())
}

fn with(labels: &Labels, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
    labels.iter().cloned().chain(more).collect()
}

/// Samples of the parts of nodes.
fn parts<'a, T>(
    nodes: &[Sample<'a, Stats>],
    of: impl Fn(&'a Stats) -> &'a [T],
    labels: impl Fn(&T) -> Labels,
) -> Vec<Sample<'a, T>> {
    let each = nodes.iter().flat_map(|(node, stats)| of(stats).iter().map(move |part| (node, part)));
    each.map(|(node, part)| (with(node, labels(part)), part)).collect()
}

/// Samples of a few values of each of many, told apart by one more label.
fn by<'a, T>(
    samples: &[Sample<'a, T>],
    label: &'static str,
    values: impl Fn(&T) -> Vec<(&'static str, u64)>,
) -> Vec<(Labels, u64)> {
    let each = samples.iter().flat_map(|(labels, of)| values(of).into_iter().map(move |value| (labels, value)));
    each.map(|(labels, (name, value))| (with(labels, [(label, name.to_owned())]), value)).collect()
}

fn refs(samples: &[(Labels, u64)]) -> Vec<Sample<'_, u64>> {
    samples.iter().map(|(labels, value)| (labels.clone(), value)).collect()
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let node = |stats: &Stats| {
            let interface = stats.interface.clone().unwrap_or_default();
            let mut labels = vec![("interface", interface), ("local", stats.local.to_string())];
            // In another network namespace there may be a namesake, and a series must not appear twice.
            let namesake = |other: &&Stats| (&other.interface, other.local) == (&stats.interface, stats.local);
            if self.0.iter().filter(namesake).count() > 1 {
                labels.push(("node", format!("{:016x}", stats.incarnation)));
            }
            labels
        };
        let nodes: Vec<Sample<'_, Stats>> = self.0.iter().map(|stats| (node(stats), stats)).collect();
        let writer = &mut Writer { encoder };
        self.nodes(writer, &nodes)?;
        let peer = |link: &LinkInfo| vec![("peer", link.peer.to_string())];
        let mut all = parts(&nodes, |n| &n.links, peer);
        // Anybody can make these up, several from one address, and another address each time.
        all.retain(|(_, link)| link.state != LinkState::HalfOpen);
        links(writer, &all)?;
        exports(writer, &parts(&nodes, |n| &n.exports, |e: &ExportInfo| vec![("export", e.name.clone())]))?;
        // A node may import the same buffer twice.
        let import = |i: &ImportInfo| {
            vec![("peer", i.peer.to_string()), ("export", i.name.clone()), ("import", i.id.to_string())]
        };
        imports(writer, &parts(&nodes, |n| &n.imports, import))?;
        let queue = |r: &ReceiveRings| vec![("queue", r.queue.to_string())];
        let receive = parts(&nodes, |n| &n.rings.receive, queue);
        let send = parts(&nodes, |n| std::slice::from_ref(&n.rings.send), |s| vec![("queue", s.queue.to_string())]);
        rings(writer, &receive, &send)
    }
}

impl Snapshot {
    fn nodes(&self, w: &mut Writer<'_>, nodes: &[Sample<'_, Stats>]) -> fmt::Result {
        let bytes = || Some(Unit::Bytes);
        let processes: Vec<_> = nodes
            .iter()
            .map(|(labels, n)| {
                let process = [("pid", n.pid.to_string()), ("program", n.program.clone())];
                (with(labels, process.into_iter().chain([("incarnation", format!("{:016x}", n.incarnation))])), *n)
            })
            .collect();
        w.gauge("node", "1 for each node; its labels say which process it is of", None, &processes, |_| 1.0)?;
        let usable = |n: &Stats| f64::from(n.failure.is_none());
        w.gauge("usable", "0 while nothing can be sent or received: see `vmmc stats`", None, nodes, usable)?;
        w.gauge("uptime", "Time since the node opened", Some(Unit::Seconds), nodes, |n| n.uptime.as_secs_f64())?;
        w.gauge("mtu", "Largest IP packet the node sends", bytes(), nodes, |n| n.mtu as f64)?;
        w.gauge("arena", "Length of the arena", bytes(), nodes, |n| n.arena_bytes as f64)?;
        let page = |n: &Stats| n.arena_page_bytes as f64;
        w.gauge("arena_page", "Size of the arena's pages", bytes(), nodes, page)?;
        w.gauge("exported", "Of the arena, how much is exported", bytes(), nodes, |n| n.exported_bytes as f64)?;
        let utlb = by(nodes, "result", |n| vec![("hit", n.utlb.hits), ("miss", n.utlb.misses)]);
        w.counter("utlb_lookups", "Pages looked up in the UTLB", None, &refs(&utlb), |n| *n)?;
        let moved = by(nodes, "what", |n| {
            let c = n.utlb;
            let pages = [("pinned", c.pins), ("unpinned", c.unpins), ("dropped", c.dropped), ("copied", c.copied)];
            pages.into_iter().chain([("evicted", c.evictions), ("prefetched", c.prefetched)]).collect()
        });
        w.counter("utlb_pages", "What the UTLB has done with pages", None, &refs(&moved), |n| *n)?;
        let calls = by(nodes, "call", |n| vec![("pin", n.utlb.pin_calls), ("unpin", n.utlb.unpin_calls)]);
        w.counter("utlb_calls", "Calls that pinned and unpinned them", None, &refs(&calls), |n| *n)?;
        w.counter("utlb_failures", "Calls of these that failed", None, nodes, |n| n.utlb.failures)?;
        w.gauge("utlb_pinned_pages", "Pages of the arena that are pinned to", None, nodes, |n| n.utlb.pinned as f64)?;
        w.gauge("utlb_held_pages", "Of these, how many are in use", None, nodes, |n| n.utlb.held as f64)?;
        w.gauge("utlb_budget_pages", "How many pages may be pinned", None, nodes, |n| n.utlb.budget as f64)?;
        w.counter("delivered", "Written into exports, or redirects of them", bytes(), nodes, |n| {
            n.engine.delivered_bytes
        })?;
        w.counter("rx_copied", "Copied by user space on arrival", bytes(), nodes, |n| n.engine.rx_copied_bytes)?;
        let redirected =
            by(nodes, "how", |n| vec![("straight", n.engine.redirected_bytes), ("moved", n.engine.rx_moved_bytes)]);
        w.counter("redirected", "Taken by redirects, on arrival or later", bytes(), &refs(&redirected), |n| *n)?;
        w.counter("redirects", "Redirects posted", None, nodes, |n| n.engine.redirects)?;
        w.counter("redirects_ended", "Redirects that take nothing more", None, nodes, |n| n.engine.redirects_ended)?;
        w.counter("tx_copied", "Copied by user space into packets", bytes(), nodes, |n| n.engine.tx_copied_bytes)?;
        w.counter("sends", "Sends accepted", None, nodes, |n| n.engine.sends)?;
        w.counter("fetches", "Fetches accepted", None, nodes, |n| n.engine.fetches)?;
        w.counter("fetched", "Brought by fetches", bytes(), nodes, |n| n.engine.fetched_bytes)?;
        w.counter("served", "Fetched from exports", bytes(), nodes, |n| n.engine.served_bytes)?;
        w.counter("notifications", "Notifications delivered", None, nodes, |n| n.engine.notifications)?;
        w.counter("links_ended", "Links that have ended", None, nodes, |n| n.engine.links_ended)?;
        let refused = by(nodes, "reason", |n| {
            let c = n.engine;
            let packets = [("malformed", c.rx_malformed), ("foreign", c.rx_foreign), ("other_vlan", c.rx_other_vlan)];
            let rest = [("damaged", c.rx_damaged), ("unknown_link", c.rx_unknown), ("no_memory", c.rx_not_kept)];
            packets
                .into_iter()
                .chain(rest)
                .chain([("no_grant", c.refused_puts), ("fetch", c.refused_fetches)])
                .chain([("unasked", c.rx_unasked), ("hello", c.refused_hellos)])
                .collect()
        });
        w.counter("refused", "What arrived and was refused", None, &refs(&refused), |n| *n)?;
        let both = |tx, rx| vec![("transmit", tx), ("receive", rx)];
        let frames = by(nodes, "direction", |n| both(n.port.tx_packets, n.port.rx_packets));
        w.counter("port_packets", "Packets through the AF_XDP sockets", None, &refs(&frames), |n| *n)?;
        let lengths = by(nodes, "direction", |n| both(n.port.tx_bytes, n.port.rx_bytes));
        w.counter("port", "Bytes of these, Ethernet headers included", bytes(), &refs(&lengths), |n| *n)?;
        w.counter("port_wakeups", "System calls that woke the kernel to send", None, nodes, |n| n.port.wakeups)?;
        let lost = by(nodes, "reason", |n| {
            let p = n.port;
            vec![("no_frame", p.rx_no_frame), ("ring_full", p.rx_ring_full), ("tx_exhausted", p.tx_exhausted)]
        });
        w.counter("port_shortages", "Times frames or ring entries ran out", None, &refs(&lost), |n| *n)?;
        let faults = by(nodes, "fault", |n| {
            let (t, r) = (n.port.tx_faults, n.port.rx_faults);
            let lost = [("dropped", t.dropped + r.dropped), ("duplicated", t.duplicated + r.duplicated)];
            lost.into_iter()
                .chain([("delayed", t.delayed + r.delayed), ("corrupted", t.corrupted + r.corrupted)])
                .collect()
        });
        w.counter("faults", "Faults made on demand", None, &refs(&faults), |n| *n)?;
        bulk(w, nodes)?;
        let help = "Packets for the node that have arrived on queues where it doesn't hear them";
        w.counter("unheard", help, None, nodes, |n| n.unheard)?;
        let verdicts = by(nodes, "verdict", |n| n.verdicts.iter().flat_map(|verdicts| verdicts.iter()).collect());
        w.counter("steering_frames", "Frames the eBPF program saw, by verdict", None, &refs(&verdicts), |n| *n)
    }
}

/// The bulk lanes.
fn bulk(w: &mut Writer<'_>, nodes: &[Sample<'_, Stats>]) -> fmt::Result {
    let bytes = || Some(Unit::Bytes);
    let ways: Vec<_> = nodes
        .iter()
        .map(|(labels, n)| {
            let (mode, reason) = match (&n.bulk, &n.bulk_copied) {
                (None, _) => ("none", n.no_bulk.as_ref()),
                (Some(_), None) => ("zero_copy", None),
                (Some(_), why) => ("copy", why.as_ref()),
            };
            let reason = reason.map(|reason| ("reason", reason.clone()));
            (with(labels, [("mode", mode.to_owned())].into_iter().chain(reason)), *n)
        })
        .collect();
    let help = "1 for each node: how its bulk lane is bound, or why it has none";
    w.gauge("bulk_lane", help, None, &ways, |_| 1.0)?;
    let asked = by(nodes, "outcome", |n| {
        let c = n.engine;
        vec![("asked", c.tx_bulk_transfers), ("done", c.tx_bulk_done), ("declined", c.tx_bulk_declined)]
    });
    let help = "Transfers to peers on the bulk lane: those these were asked for, have all of, and have declined";
    w.counter("bulk_transfers_sent", help, None, &refs(&asked), |n| *n)?;
    let granted = by(nodes, "outcome", |n| {
        let c = n.engine;
        let ended = [("abandoned", c.rx_bulk_abandoned), ("declined", c.rx_bulk_declined)];
        [("granted", c.rx_bulk_grants), ("complete", c.rx_bulk_transfers)].into_iter().chain(ended).collect()
    });
    let help = "Transfers from peers on the bulk lane: those granted, of these those that are complete or were abandoned, and those declined";
    w.counter("bulk_transfers_received", help, None, &refs(&granted), |n| *n)?;
    let help = "Bytes of the transfers that are complete";
    w.counter("bulk_received", help, bytes(), nodes, |n| n.engine.rx_bulk_bytes)?;
    let help = "Of these, landed in one another's places, and copied to where they belong";
    w.counter("bulk_repaired", help, bytes(), nodes, |n| n.engine.rx_bulk_repaired_bytes)?;
    let segments = by(nodes, "what", |n| {
        let c = n.engine;
        let landed = [("landed", c.rx_bulk_segments), ("wasted", c.rx_bulk_wasted)];
        landed.into_iter().chain([("missing", c.rx_bulk_missing), ("asked_again", c.tx_bulk_asked_again)]).collect()
    });
    let help = "Segments that have landed, that were of no use, that were asked for again, and that peers have asked for again";
    w.counter("bulk_segments", help, None, &refs(&segments), |n| *n)?;
    let lanes: Vec<_> = nodes.iter().filter_map(|(node, n)| Some((node.clone(), n.bulk.as_ref()?))).collect();
    let both = |tx, rx| vec![("transmit", tx), ("receive", rx)];
    let packets = by(&lanes, "direction", |c| both(c.tx_packets, c.rx_packets));
    w.counter("bulk_packets", "Packets through the bulk lane's socket", None, &refs(&packets), |n| *n)?;
    let payload = by(&lanes, "direction", |c| both(c.tx_bytes, c.rx_bytes));
    w.counter("bulk_payload", "Bytes of their payload, which nobody copies", bytes(), &refs(&payload), |n| *n)?;
    w.counter("bulk_wakeups", "System calls that woke the kernel to send", None, &lanes, |c| c.wakeups)?;
    w.counter("bulk_places", "Places posted", None, &lanes, |c| c.places)?;
    let help = "Times the socket was closed and opened anew, to take back places";
    w.counter("bulk_reopened", help, None, &lanes, |c| c.reopened)?;
    let queue = |(node, n): &Sample<'_, Stats>| {
        let rings = n.bulk_rings?;
        Some((with(node, [("queue", rings.queue.to_string())]), rings))
    };
    let rings: Vec<_> = nodes.iter().filter_map(queue).collect();
    let rings: Vec<_> = rings.iter().map(|(labels, rings)| (labels.clone(), rings)).collect();
    w.gauge("bulk_waiting_places", "Places in which nothing has landed", None, &rings, |r| r.places as f64)?;
    let receive = by(&rings, "place", |r| {
        [("posted", r.posted), ("fill", r.fill), ("arrived", r.arrived)].map(|(name, n)| (name, n as u64)).to_vec()
    });
    let help = "Entries of the rings to receive with: those of places, of these those in the fill ring, and those in the RX ring";
    w.gauge("bulk_receive_entries", help, None, &refs(&receive), |n| *n as f64)?;
    w.gauge("bulk_sending_packets", "Packets that the kernel has to send", None, &rings, |r| r.sending as f64)?;
    let send = by(&rings, "place", |r| vec![("unsent", r.unsent as u64), ("completed", r.completed as u64)]);
    let help = "Entries of the TX ring and of the completion ring";
    w.gauge("bulk_send_entries", help, None, &refs(&send), |n| *n as f64)
}

fn links(w: &mut Writer<'_>, links: &[Sample<'_, LinkInfo>]) -> fmt::Result {
    let seconds = || Some(Unit::Seconds);
    let open = |l: &LinkInfo| f64::from(l.state == LinkState::Open);
    w.gauge("link_open", "Whether data may be exchanged on a link", None, links, open)?;
    let both = |tx, rx| vec![("transmit", tx), ("receive", rx)];
    let packets = by(links, "direction", |l| both(l.counters.tx_data, l.counters.rx_data));
    w.counter("link_packets", "Data packets of a link, without repetitions", None, &refs(&packets), |n| *n)?;
    let bytes = by(links, "direction", |l| both(l.counters.tx_bytes, l.counters.rx_bytes));
    w.counter("link", "Bytes of these, Ethernet headers included", Some(Unit::Bytes), &refs(&bytes), |n| *n)?;
    w.counter("link_retransmissions", "Packets sent again", None, links, |l| l.counters.tx_retransmitted)?;
    w.counter("link_timeouts", "Retransmission timeouts", None, links, |l| l.counters.timeouts)?;
    w.counter("link_acks", "Acknowledgements sent alone", None, links, |l| l.counters.tx_acks)?;
    let odd = by(links, "kind", |l| {
        let c = l.counters;
        let kinds = [("early", c.rx_early), ("again", c.rx_refused), ("damaged", c.rx_damaged)];
        kinds.into_iter().chain([("nonsense", c.rx_nonsense)]).collect()
    });
    w.counter("link_irregular", "Packets that arrived out of turn or damaged", None, &refs(&odd), |n| *n)?;
    w.round_trips(links)?;
    w.gauge("link_smoothed_rtt", "Smoothed round-trip time, 0 before the first", seconds(), links, |l| {
        l.rtt.unwrap_or_default().as_secs_f64()
    })?;
    w.gauge("link_heard", "Time since the peer was last heard", seconds(), links, |l| l.heard.as_secs_f64())?;
    w.gauge("link_mtu", "Largest IP packet agreed on", Some(Unit::Bytes), links, |l| l.mtu as f64)?;
    w.gauge("link_window_packets", "Packets congestion control allows under way", None, links, |l| l.window as f64)?;
    w.gauge("link_in_flight_packets", "Packets under way", None, links, |l| l.in_flight as f64)?;
    let credit = by(links, "direction", |l| both(l.credit_received, l.credit_given));
    w.gauge(
        "link_credit_packets",
        "Packets that may be sent before more room is granted",
        None,
        &refs(&credit),
        |n| *n as f64,
    )?;
    w.gauge("link_early_packets", "Packets kept that came too early", None, links, |l| l.early as f64)?;
    let grants = by(links, "direction", |l| vec![("given", l.grants as u64), ("held", l.grants_held as u64)]);
    w.gauge("link_grants", "Grants of a link, to its peer and from it", None, &refs(&grants), |n| *n as f64)?;
    let fetches = by(links, "direction", |l| both(l.jobs as u64, l.fetching as u64));
    w.gauge("link_fetches", "Fetches not answered in whole, by the way of their data", None, &refs(&fetches), |n| {
        *n as f64
    })?;
    let lane: Vec<_> = links.iter().filter_map(|(labels, l)| Some((labels.clone(), l.bulk_from.as_ref()?))).collect();
    let help = "Sends to the peer of so many bytes and more go by the bulk lane; none where this is missing";
    w.gauge("link_bulk_threshold", help, Some(Unit::Bytes), &lane, |from| *from as f64)?;
    let transfers = by(links, "direction", |l| both(l.transfers as u64, l.transfers_asked as u64));
    w.gauge("link_transfers", "Transfers on the bulk lane that aren't done", None, &refs(&transfers), |n| *n as f64)
}

fn exports(w: &mut Writer<'_>, exports: &[Sample<'_, ExportInfo>]) -> fmt::Result {
    w.gauge("export_length", "Length of an export", Some(Unit::Bytes), exports, |e| e.length as f64)?;
    w.gauge("export_importers", "Grants that peers hold", None, exports, |e| e.importers as f64)?;
    w.counter("export_written", "Written into an export, or redirects of it", Some(Unit::Bytes), exports, |e| e.bytes)?;
    w.counter("export_read", "Fetched from an export", Some(Unit::Bytes), exports, |e| e.read_bytes)?;
    w.gauge("export_redirects", "Redirects that wait for data", None, exports, |e| e.redirects as f64)?;
    let redirected = by(exports, "how", |e| vec![("straight", e.redirected_bytes), ("moved", e.moved_bytes)]);
    let help = "Of these, taken by redirects, on arrival or later";
    w.counter("export_redirected", help, Some(Unit::Bytes), &refs(&redirected), |n| *n)?;
    w.counter("export_notifications", "Notifications of an export", None, exports, |e| e.notifications)?;
    w.gauge("export_waiting", "Notifications that haven't been taken", None, exports, |e| e.waiting as f64)?;
    w.gauge("export_queue", "Notifications that may wait", None, exports, |e| e.queue as f64)
}

fn imports(w: &mut Writer<'_>, imports: &[Sample<'_, ImportInfo>]) -> fmt::Result {
    w.gauge("import_ready", "Whether sends may go", None, imports, |i| f64::from(i.ready))?;
    w.counter("import_sends", "Sends begun into an import", None, imports, |i| i.sends)?;
    w.counter("import", "Their bytes", Some(Unit::Bytes), imports, |i| i.bytes)?;
    w.counter("import_fetches", "Fetches begun from an import", None, imports, |i| i.fetches)?;
    w.counter("import_fetched", "Their bytes", Some(Unit::Bytes), imports, |i| i.fetched)
}

fn rings(w: &mut Writer<'_>, receive: &[Sample<'_, ReceiveRings>], send: &[Sample<'_, SendRings>]) -> fmt::Result {
    let received = by(receive, "place", |r| {
        let all =
            [("fill", r.fill), ("driver", r.driver), ("arrived", r.arrived), ("kept", r.kept), ("spare", r.spare)];
        all.map(|(name, n)| (name, n as u64)).to_vec()
    });
    w.gauge("receive_frames", "Frames of a queue, by where they are", None, &refs(&received), |n| *n as f64)?;
    let sent = by(send, "place", |s| {
        let all = [("free", s.free), ("kept", s.kept), ("unsent", s.unsent), ("completed", s.completed)];
        all.map(|(name, n)| (name, n as u64)).to_vec()
    });
    w.gauge("send_frames", "Frames to send from, by where they are", None, &refs(&sent), |n| *n as f64)
}

#[cfg(test)]
mod tests;
