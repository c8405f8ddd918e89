//! Nodes as `vmmc stats` sees them from outside their network namespaces, alive and killed; and what Prometheus fetches.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use vmmc::Stats;

use super::hosts::{Hosts, text};

/// The nodes there are.
fn nodes(hosts: &Hosts, args: &[&str]) -> Vec<Stats> {
    let finished = hosts.look(&[&["stats", "--json"], args].concat());
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    serde_json::from_str(&finished.out).unwrap_or_else(|error| panic!("{error}: {}", finished.out))
}

fn table(hosts: &Hosts, args: &[&str]) -> String {
    let finished = hosts.look(&[&["stats"], args].concat());
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    finished.out
}

#[test]
fn what_a_node_has_done_can_be_seen_from_outside() {
    let hosts = Hosts::new(2);
    assert!(hosts.look(&["stats"]).failure().contains("no node can be seen"));
    let server = hosts.serve(2, &["--export", "inbox:4M"]);
    let file = hosts.file("file", 3 << 20);
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&file)]);
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "100"]);

    let [node] = &nodes(&hosts, &[])[..] else { panic!("one node") };
    assert_eq!((node.program.as_str(), node.interface.as_deref()), ("vmmc", Some("vh2")));
    let export = |name: &str| node.exports.iter().find(|e| e.name == name).expect("it is exported");
    assert_eq!((export("inbox").length, export("inbox").bytes), (4 << 20, 3 << 20));
    assert_eq!(export("vmmc.ping").notifications, 101, "a hundred, and a first to get to know each other");
    let verdicts = node.verdicts.expect("a real interface has a program");
    assert!(verdicts.redirected >= node.port.rx_packets && node.port.rx_packets > 2000, "{node:?}");
    for selector in ["vh2", "10.77.0.2", "10.77.0.2:7000", &node.pid.to_string(), &format!("{}.0", node.pid)] {
        assert_eq!(nodes(&hosts, &[selector])[0].incarnation, node.incarnation, "{selector}");
    }
    // With a link, while it is used.
    let ping = hosts.start(1, &["ping", "10.77.0.2", "--duration", "0"]);
    while !nodes(&hosts, &["vh2"])[0].links.iter().any(|link| link.round_trips.count > 0) {}
    let report = table(&hosts, &["vh2", "--all"]);
    assert_eq!(nodes(&hosts, &[]).len(), 2);
    ping.interrupt();
    for part in [
        "10.77.0.2:7000 on vh2, MTU 1500",
        "3.00 MiB",
        "inbox.put",
        "fill ring",
        "redirected",
        "RTT 50%",
        "10.77.0.1:7000  open",
        "malformed frames",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
    let long = report.lines().find(|line| line.chars().count() > 120);
    assert_eq!(long, None, "it fits into 120 columns");
    assert!(!table(&hosts, &[]).contains("malformed frames"), "what hasn't happened isn't shown");
    assert!(table(&hosts, &["--list"]).contains("10.77.0.2:7000"));
    assert!(table(&hosts, &["--prometheus"]).contains("vmmc_export_written_bytes_total{interface=\"vh2\""));
    let set = |state: &str| {
        let set = hosts.lab.host(2).command("ip").args(["link", "set", "vh2", state]).status().expect("ip is there");
        assert!(set.success());
    };
    set("down");
    let report = table(&hosts, &[]);
    set("up");
    assert!(report.contains("TROUBLE") && report.contains("vh2 is down"), "{report}");
    let error = hosts.look(&["stats", "vh9"]).failure();
    assert!(error.contains("no node is on interface vh9") && error.contains("vh2  10.77.0.2:7000"), "{error}");

    // It goes without a word, and leaves its socket.
    server.kill();
    let left = || std::fs::read_dir(hosts.run_dir()).expect("it is there").count();
    assert_eq!(left(), 1);
    assert!(hosts.look(&["stats"]).failure().contains("no node can be seen"));
    assert_eq!(left(), 0);
    // One that ends in order doesn't.
    hosts.serve(2, &[]).interrupt();
    assert_eq!(left(), 0);
}

#[test]
fn top_without_a_terminal_says_what_to_use() {
    let hosts = Hosts::new(2);
    let _server = hosts.serve(2, &[]);
    assert!(hosts.look(&["top"]).failure().contains("`vmmc stats`"));
}

#[test]
fn metrics_are_served_where_one_asks_for_them() {
    let hosts = Hosts::new(2);
    let _server = hosts.serve(2, &["--metrics", "10.77.0.2:9464"]);
    let address: SocketAddr = "10.77.0.2:9464".parse().expect("an address");
    let fetch = move || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = hosts.lab.host(1).enter(fetch).expect("a host").expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\n# TYPE vmmc_sends_total counter\n"),
        "{answer}"
    );
    let error = hosts.fails(1, &["serve", "--metrics", "10.77.0.9:9464"]);
    assert!(error.contains("10.77.0.9:9464") && error.contains("no such address"), "{error}");
}
