//! The bulk lane as one sees it from outside: statistics, captures, faults; and that files go by it. But for those of the last test the nodes are this test's own, and send from
//! memory of their arenas.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use vmmc::monitor;
use vmmc::{Bulk, Export, Import, Key, Node, Progress};
use vmmc_lab::LabConfig;

use super::hosts::{Finished, Hosts, Program, text};
use super::tshark;

const LEN: usize = 1 << 20;
const FILE: usize = (9 << 20) + 77_777;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two hosts, each with a node that has a bulk lane, and where each can be watched.
struct Pair {
    hosts: Hosts,
    nodes: [Node; 2],
    sockets: [PathBuf; 2],
}

impl Pair {
    fn new(settings: impl Fn(vmmc::Builder) -> vmmc::Builder) -> Pair {
        let hosts = Hosts::with(&LabConfig { mtu: 9000, ..LabConfig::default() });
        let nodes = [1, 2].map(|number| {
            let host = hosts.lab.host(number);
            let builder = Node::builder().interface(&host.interface).bulk(Bulk::Require).bulk_threshold(64 << 10);
            let node = settings(builder.progress(Progress::Thread { core: None }).arena(8 * LEN));
            host.enter(|| node.open()).expect("a host").expect("a node with a bulk lane")
        });
        let all = monitor::list().expect("these two at least");
        let socket = |node: &Node| {
            let incarnation = node.stats().expect("it is open").incarnation;
            let found = all.iter().find(|f| f.stats.as_ref().is_ok_and(|stats| stats.incarnation == incarnation));
            found.expect("it can be watched").path.clone()
        };
        let sockets = [socket(&nodes[0]), socket(&nodes[1])];
        Pair { hosts, nodes, sockets }
    }

    fn inbox(&self) -> (Export, Import) {
        let inbox = self.nodes[1].export("inbox").len(LEN).key(Key::PUBLIC).notify(true).create().expect("an export");
        let peer = self.nodes[1].local();
        (inbox, self.nodes[0].import(peer, "inbox", Key::PUBLIC).expect("it is exported"))
    }

    /// Runs `vmmc` to look at one of them.
    fn look(&self, number: usize, args: &[&str]) -> String {
        let finished: Finished = self.hosts.look(&[args, &[text(&self.sockets[number - 1])]].concat());
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        finished.out
    }
}

fn send(node: &Node, remote: &Import, inbox: &Export, tag: u32) {
    let mut buffer = node.alloc(LEN).expect("there is room");
    fastrand::Rng::with_seed(tag.into()).fill(&mut buffer);
    let buffer = remote.send(buffer, 0).notify(tag).timeout(PATIENCE).wait().expect("it arrives");
    assert_eq!(inbox.wait_notification(PATIENCE).expect("it is announced").tag, tag);
    let mut seen = vec![0; LEN];
    inbox.read(0, &mut seen).expect("it is within");
    assert!(seen == buffer[..]);
}

#[test]
fn all_that_it_does_is_in_the_statistics() {
    let pair = Pair::new(|builder| builder);
    let (inbox, remote) = pair.inbox();
    (0..3).for_each(|tag| send(&pair.nodes[0], &remote, &inbox, tag));
    for (number, line) in [(1, " transfers done"), (2, " transfers granted complete")] {
        let table = pair.look(number, &["stats"]);
        assert!(table.contains("bulk lane queue 1, copy mode; ") && table.contains(line), "{table}");
        assert!(table.contains("Entries of the bulk lane's rings") && table.contains("64.0 KiB"), "{table}");
        let long = pair.look(number, &["stats", "--all"]).lines().map(|line| line.chars().count()).max();
        assert!(long <= Some(120), "it fits into 120 columns");
        let prometheus = pair.look(number, &["stats", "--prometheus"]);
        assert!(
            prometheus.contains("mode=\"copy\",reason=\"") && prometheus.contains("vmmc_link_bulk_threshold_bytes{")
        );
        let admitted = prometheus.lines().find(|line| line.contains("verdict=\"bulk_admitted\"")).expect("it is there");
        assert_eq!(number == 2, !admitted.ends_with(" 0"), "{admitted}");
    }
    let json: serde_json::Value = serde_json::from_str(&pair.look(2, &["stats", "--json"])).expect("JSON");
    let (node, engine) = (&json[0], &json[0]["engine"]);
    assert!(engine["rx_bulk_transfers"].as_u64() >= Some(3), "{json:#}");
    assert_eq!(node["bulk_rings"]["queue"], 1, "{json:#}");
    assert!(node["bulk"]["rx_bytes"].as_u64() > Some(2 * LEN as u64), "{json:#}");
    assert_eq!(node["links"][0]["bulk_from"], 64 << 10, "{json:#}");
}

#[test]
fn captures_see_its_packets_at_both_ends() {
    let pair = Pair::new(|builder| builder);
    let (inbox, remote) = pair.inbox();
    let captures = [1, 2].map(|number| {
        let file = pair.hosts.files.path().join(format!("{number}.pcapng"));
        let socket = text(&pair.sockets[number - 1]);
        let short: &[&str] = if number == 1 { &["--snaplen", "128"] } else { &[] };
        let args = [&["capture", socket, "--write", text(&file)], short].concat();
        let mut program = Program::start(pair.hosts.looking(&args));
        while !file.exists() {
            assert!(!program.has_ended(), "it doesn't capture");
            std::thread::sleep(Duration::from_millis(5));
        }
        (program, file)
    });
    send(&pair.nodes[0], &remote, &inbox, 1);
    let sent = pair.nodes[0].stats().expect("it is open").bulk.expect("it has one");
    let landed = pair.nodes[1].stats().expect("it is open").bulk.expect("it has one");
    for ((program, file), (way, count)) in captures.into_iter().zip([(2, sent.tx_packets), (1, landed.rx_packets)]) {
        program.signal(rustix::process::Signal::INT);
        let finished = program.finish();
        assert!(finished.code() == Some(0) && finished.err.contains(" 0 missed"), "{finished:?}");
        let shown = |filter: &str| tshark::run(&file, &["-Y", filter]).lines().count() as u64;
        assert_eq!(shown(&format!("vmmc.kind == 7 && frame.packet_flags_direction == {way}")), count);
        assert!(count > 100, "{count}");
        assert_eq!(shown("vmmc.checksum.bad || vmmc.malformed || !vmmc"), 0);
        // What isn't captured can't be checked.
        assert_eq!(shown("vmmc.kind == 7 && vmmc.checksum.status == 1"), if way == 1 { count } else { 0 });
        assert_eq!(shown("vmmc.kind == 7 && frame.comment"), if way == 1 { count } else { 0 });
        assert_eq!(shown("vmmc.kind == 7 && frame.cap_len > 128"), if way == 1 { count } else { 0 });
    }
    // As lines, too.
    let socket = text(&pair.sockets[1]).to_owned();
    let mut lines = Program::start(pair.hosts.looking(&["capture", &socket]));
    send(&pair.nodes[0], &remote, &inbox, 2);
    while !lines.has_ended() {
        // It may have begun too late.
        send(&pair.nodes[0], &remote, &inbox, 3);
        let line = lines.wait_for("");
        if line.contains(" <- 10.77.0.1:7000  BULK bulk=") {
            break;
        }
    }
    lines.signal(rustix::process::Signal::INT);
    assert!(lines.finish().out.contains(" BULK_DONE transfer="), "and the records about them");
}

#[test]
fn faults_are_made_in_its_packets_and_all_arrives_nevertheless() {
    let faults = "drop=2%,dup=1%,reorder=2%,corrupt=1%,seed=3".parse().expect("faults");
    let pair = Pair::new(|builder| builder.faults(faults));
    let (inbox, remote) = pair.inbox();
    (0..5).for_each(|tag| send(&pair.nodes[0], &remote, &inbox, tag));
    let [from, to] = [0, 1].map(|number| pair.nodes[number].stats().expect("it is open"));
    let made = from.port.tx_faults;
    assert!(made.dropped > 0 && made.corrupted > 0 && made.delayed > 0 && made.duplicated > 0, "{made:?}");
    // Of the segments, and not only of the records about them.
    assert!(to.engine.rx_bulk_missing > 0 && to.engine.rx_bulk_bytes > 0, "{:?}", to.engine);
}

/// Puts and gets a file whose length is no multiple of anything, and returns how many bytes the server has got and sent by the bulk lane meanwhile, and has had
/// declined.
fn files_by_lane(config: &LabConfig, client: &[&str]) -> [u64; 3] {
    let hosts = Hosts::with(config);
    let path = hosts.file("file", FILE);
    let kept = tempfile::tempdir().expect("a directory");
    let offer = format!("table:{}", text(&path));
    let server = hosts.serve(2, &["--export", "inbox:16MiB", "--write-to", text(kept.path()), "--file", &offer]);
    let out = hosts.ok(1, &[&["put", "10.77.0.2", "inbox", text(&path)], client].concat());
    assert!(out.contains("verified by the receiver (SHA-256 "), "{out}");
    let again = hosts.files.path().join("again");
    let out = hosts.ok(1, &[&["get", "10.77.0.2", "table", "--out", text(&again)], client].concat());
    assert!(out.contains("verified (SHA-256 "), "{out}");
    let original = fs::read(&path).expect("it is there");
    for copy in [kept.path().join("file"), again] {
        assert!(fs::read(&copy).expect("it is kept") == original, "{}", copy.display());
    }
    let stats = hosts.look(&["stats", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    // The client has ended, so that is the only node.
    let engine = &json[0]["engine"];
    server.interrupt();
    ["rx_bulk_bytes", "tx_bulk_bytes", "rx_bulk_declined"].map(|name| engine[name].as_u64().expect(name))
}

#[test]
fn files_go_by_it_where_there_is_one() {
    let jumbo = LabConfig { mtu: 9000, ..LabConfig::default() };
    let [put, got, declined] = files_by_lane(&jumbo, &[]);
    // All but what travels with the requests, and the last piece, which is short.
    let most = FILE as u64 / 10 * 8;
    assert!(put > most && got > most && declined == 0, "{put} and {got} of {FILE} bytes, {declined} declined");
    assert_eq!(files_by_lane(&jumbo, &["--no-bulk"]), [0; 3]);
    assert_eq!(files_by_lane(&LabConfig { queues: 1, ..jumbo }, &[]), [0; 3]);
}
