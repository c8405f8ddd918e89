//! What is drawn, in a terminal in memory.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use vmmc::engine::LinkInfo;
use vmmc::link::{LinkCounters, RoundTrips};
use vmmc::monitor::{Found, MonitorError};
use vmmc::node::Resolve;
use vmmc::port::sim::{Conditions, Network};
use vmmc::{Lane, Node};

use super::super::model::{Label, Model};
use super::*;

struct Nowhere;

impl Resolve for Nowhere {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<[u8; 6], vmmc::Error> {
        Ok([2; 6])
    }
}

/// A snapshot of a node that has an export, and links to so many peers.
fn snapshot(host: u8, links: u8) -> Stats {
    let lane = Lane {
        port: Box::new(Network::new(1, Conditions::default()).attach([2, 0, 0, 0, 0, host])),
        interface: Some(format!("eth{host}")),
        address: [10, 0, 0, host].into(),
        udp_port: 7000,
        mac: [2, 0, 0, 0, 0, host],
        vlan: None,
        mtu: 1500,
        resolver: Box::new(Nowhere),
        steering: None,
        binding: None,
        arena: None,
        no_bulk: None,
    };
    let node = Node::builder().monitor(false).open_on(lane).unwrap();
    let _export = node.export("in\x1bbox").len(1 << 20).notify(true).create().unwrap();
    let mut stats = node.stats().unwrap();
    stats.program = "prog".to_owned();
    stats.verdicts = Some(Default::default());
    let link = |peer| LinkInfo {
        peer: ([10, 0, 1, peer], 7000).into(),
        state: LinkState::Open,
        initiated: true,
        peer_incarnation: 1,
        mtu: 1500,
        checksum: true,
        rtt: None,
        round_trips: RoundTrips::of(vec![(9_000_000, 1000)]),
        in_flight: 3,
        window: 77,
        room: 0,
        credit_received: 0,
        credit_given: 0,
        early: 0,
        grants: 0,
        grants_held: 0,
        jobs: 0,
        fetching: 0,
        bulk_from: None,
        transfers: 0,
        transfers_asked: 0,
        heard: Duration::ZERO,
        counters: LinkCounters::default(),
    };
    stats.links = (0..links).map(link).collect();
    stats
}

/// The same node, two seconds later.
fn later(before: &Stats) -> Stats {
    let mut stats = before.clone();
    stats.uptime += Duration::from_secs(2);
    stats.port.tx_packets += 3_000_000;
    stats.port.rx_bytes += 2_500_000_000;
    stats.port.rx_ring_full += 17;
    if let (Some(lane), Some(rings)) = (&mut stats.bulk, &mut stats.bulk_rings) {
        lane.rx_packets += 40_000;
        lane.rx_bytes += 2_500_000_000;
        (rings.queue, rings.ring, rings.posted, rings.places) = (1, 4096, 288, 18);
        stats.engine.rx_bulk_missing += 3;
    }
    stats.exports[0].notifications += 500;
    if let Some(verdicts) = &mut stats.verdicts {
        verdicts.not_ip += 8;
    }
    if let Some(link) = stats.links.last_mut() {
        link.counters.tx_data += 990;
        link.counters.tx_retransmitted += 10;
        link.counters.tx_bytes += 1_000_000;
        link.round_trips = RoundTrips::of(vec![(5_000, 98), (250_000, 2), (9_000_000, 1000)]);
    }
    stats
}

fn found(name: &str, stats: &Stats) -> Found {
    Found { path: name.into(), pid: 4711, number: 0, stats: Ok(stats.clone()) }
}

fn model(stats: &Stats) -> Model {
    Model::new(Label::of(&found("a", stats)), Duration::from_secs(1))
}

fn sample(model: &mut Model, stats: Stats) {
    model.sampled(Path::new("a"), Ok(Box::new(stats)));
}

/// The lines that are drawn.
fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let cells: Vec<_> = terminal.backend().buffer().content().chunks(width.into()).map(<[_]>::to_vec).collect();
    cells.iter().map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect()
}

/// The line that begins with this, its words.
fn line(lines: &[String], begin: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("no {begin:?} in\n{}", lines.join("\n")));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn rates_are_of_the_time_between_two_snapshots() {
    let first = snapshot(1, 2);
    let mut model = model(&first);
    assert!(drawn(&model, 120, 30).concat().contains("asking the node"));
    sample(&mut model, first.clone());
    assert!(drawn(&model, 120, 30).concat().contains("sent -/s"), "one snapshot has no rates");
    sample(&mut model, later(&first));
    let lines = drawn(&model, 120, 30);
    assert!(lines[0].contains("4711.0 prog eth1"), "{}", lines[0]);
    let frames = line(&lines, "frames").join(" ");
    assert!(frames.contains("sent 1.50 M/s") && frames.contains("received 0/s, 10.0 Gbit/s"), "{frames}");
    let busy = line(&lines, "10.0.1.1:7000").join(" ");
    assert_eq!(
        busy, "10.0.1.1:7000 495 4.00 Mbit/s 0 0 bit/s 1.00% 5.00 us 250 us 3/77 0 0 ns 0+0",
        "only the latest round trips"
    );
    let links: Vec<_> = lines.iter().filter(|line| line.starts_with("10.0.1.")).collect();
    assert!(links[0].starts_with("10.0.1.1"), "the busiest is first");
    assert_eq!(line(&lines, "in?box").join(" "), "in?box 1.00 MiB 0 bit/s 250 0/1024 0");
    assert_eq!(line(&lines, "steering").join(" "), "steering not ip 4/s");
    assert_eq!(line(&lines, "just now").join(" "), "just now 17 dropped from a full RX ring");
    // A figure that was cut off would be another figure.
    let narrow = line(&drawn(&model, 80, 30), "10.0.1.1:7000").join(" ");
    assert_eq!(narrow, "10.0.1.1:7000 495 4.00 Mbit/s 0 0 bit/s 1.00% 5.00 us");
    // With a bulk lane it says what that does, and without why there is none.
    let mut first = Stats { bulk: Some(Default::default()), bulk_rings: Some(Default::default()), ..first };
    for (mode, why) in [("zero-copy", None), ("copy mode", Some("the driver has no such thing".to_owned()))] {
        first.bulk_copied = why;
        sample(&mut model, first.clone());
        sample(&mut model, later(&first));
        let lane = line(&drawn(&model, 120, 30), "bulk     ").join(" ");
        assert_eq!(lane, format!("bulk sent 0/s, 0 bit/s received 20.0 k/s, 10.0 Gbit/s {mode}, queue 1"));
    }
    let with = drawn(&model, 120, 30);
    let rings = line(&with, "bulk     1 [##").join(" ");
    assert!(rings.ends_with("288 of 4096 entries posted, for 18 places, 0 arrived, 0 packets to send"), "{rings}");
    assert!(line(&with, "just now").join(" ").ends_with("3 segments asked for again"));
    (first.bulk, first.bulk_rings, first.no_bulk) = (None, None, Some("it is\x1btoo old".to_owned()));
    sample(&mut model, first);
    assert_eq!(line(&drawn(&model, 120, 30), "bulk").join(" "), "bulk none: it is?too old");
    assert!(lines[29].starts_with("q quit") && lines[29].contains("interval: 1.00 s"));
}

#[test]
fn a_node_that_has_ended_keeps_its_last_figures_until_it_comes_back() {
    let (first, other) = (snapshot(1, 1), snapshot(2, 0));
    let mut model = model(&first);
    sample(&mut model, first.clone());
    sample(&mut model, later(&first));
    model.sampled(Path::new("a"), Err(MonitorError::Gone("a".into())));
    let text = drawn(&model, 120, 30).join("\n");
    assert!(
        text.contains("this node has ended") && text.contains("10.0.1.0:7000") && text.contains("sent -/s"),
        "{text}"
    );
    // Another one is no successor, but can be chosen.
    model.found(&[found("b", &other)]);
    assert_eq!(model.shown.path, Path::new("a"));
    model.step(1);
    assert_eq!((model.shown.path.as_path(), model.trouble.as_ref()), (Path::new("b"), None));
    model.sampled(Path::new("b"), Err(MonitorError::Gone("b".into())));
    model.found(&[]);
    assert!(drawn(&model, 120, 30)[0].contains("eth2"), "its name stays");
    model.step(1);
    model.found(&[found("c", &other)]);
    assert_eq!((model.shown.path.as_path(), model.trouble.as_ref()), (Path::new("c"), None), "it is back");
    // What was asked of the one before is of no interest.
    sample(&mut model, first);
    assert!(model.now().is_none());
}

#[test]
fn another_life_of_a_node_begins_anew() {
    let first = snapshot(1, 1);
    let mut model = model(&first);
    sample(&mut model, first.clone());
    let mut second = later(&first);
    second.incarnation ^= 1;
    sample(&mut model, second);
    assert!(drawn(&model, 120, 30).concat().contains("sent -/s"));
}

#[test]
fn a_node_that_is_stopped_is_no_reason_to_end() {
    let first = snapshot(1, 1);
    let mut model = model(&first);
    model.sampled(Path::new("a"), Err(MonitorError::Silent("a".into())));
    assert!(drawn(&model, 120, 10).concat().contains("does not answer"));
    model.found(&[Found { stats: Err(MonitorError::Silent("a".into())), ..found("a", &first) }]);
    assert!(drawn(&model, 120, 10)[0].contains("eth1"), "its name stays");
    sample(&mut model, first.clone());
    assert_eq!(model.trouble, None);
    // Nor is one whose interface has gone.
    let failure = Some("no such device".to_owned());
    sample(&mut model, Stats { failure, ..later(&first) });
    assert!(drawn(&model, 120, 10).concat().contains("no such device"));
}

#[test]
fn it_can_be_drawn_on_anything() {
    let mut first = snapshot(1, 100);
    first.rings.receive = vec![first.rings.receive[0]; 32];
    let mut model = model(&first);
    sample(&mut model, first.clone());
    sample(&mut model, later(&first));
    model.trouble = Some("something".to_owned());
    for (width, height) in [(1, 1), (3, 2), (20, 3), (80, 24), (120, 40), (500, 200)] {
        assert_eq!(drawn(&model, width, height).len(), usize::from(height));
    }
    assert!(drawn(&model, 120, 40).join("\n").contains("and 28 queues more"));
}

#[test]
fn the_interval_stays_within_its_bounds() {
    let mut model = model(&snapshot(1, 0));
    for longer in [true, false] {
        (0..20).for_each(|_| model.pace(longer));
        assert_eq!(model.interval, Duration::from_millis(if longer { 60_000 } else { 100 }));
    }
}
