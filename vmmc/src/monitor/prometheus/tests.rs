//! The text against the format's rules (OpenMetrics 1.0), and the server against those who don't know any.

use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::monitor::http::MAX_CONNECTIONS;
use crate::monitor::tests::lane;
use crate::{Error, Key, Node, Progress};

fn node() -> Node {
    let node = Node::builder().monitor(false).progress(Progress::Thread { core: None });
    node.metrics("127.0.0.1:0".parse().unwrap()).open_on(lane(1)).unwrap()
}

/// A snapshot with everything that there can be.
fn full() -> Stats {
    let node = node();
    let mut stats = node.stats().unwrap();
    let _export = node.export("in\"b\\o\nx").key(Key::PUBLIC).notify(true).create().unwrap();
    let _import = node.import(node.local(), "in\"b\\o\nx", Key::PUBLIC).unwrap();
    (stats.exports, stats.imports) = (node.stats().unwrap().exports, node.stats().unwrap().imports);
    let link = |peer: &str, counts| LinkInfo {
        peer: peer.parse().unwrap(),
        state: LinkState::Open,
        initiated: true,
        peer_incarnation: 1,
        mtu: 1500,
        checksum: true,
        rtt: Some(Duration::from_micros(3)),
        round_trips: RoundTrips::of(counts),
        in_flight: 1,
        window: 2,
        room: 3,
        credit_received: 4,
        credit_given: 5,
        early: 6,
        grants: 7,
        grants_held: 8,
        jobs: 10,
        fetching: 11,
        bulk_from: Some(14),
        transfers: 12,
        transfers_asked: 13,
        heard: Duration::from_millis(9),
        counters: Default::default(),
    };
    stats.links = vec![
        link("10.0.0.2:7000", vec![(1_900, 3), (2_100, 1), (11_000_000_000, 1)]),
        link("[fd77::2]:7000", Vec::new()),
        // The first one's peer has been restarted, or somebody says so.
        LinkInfo { state: LinkState::HalfOpen, ..link("10.0.0.2:7000", Vec::new()) },
    ];
    stats.verdicts = Some(Default::default());
    (stats.bulk, stats.bulk_rings) = (Some(Default::default()), Some(Default::default()));
    stats.bulk_copied = Some("an \"other\" reason".to_owned());
    stats
}

/// Name, labels and value of a sample.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        other if "\\\"".contains(other) => other,
                        other => panic!("escape {other} in {line}"),
                    }),
                    (_, other) => value.push(other),
                }
            };
            assert!(labels.insert(key.to_owned(), value).is_none(), "a label twice: {line}");
            rest = &after[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    let valid = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    assert!(valid(name) && labels.keys().all(|key| valid(key)), "{line}");
    (name.to_owned(), labels, value)
}

#[test]
fn the_text_keeps_the_format_s_rules() {
    let mut other = full();
    other.local = "10.0.0.9:7000".parse().unwrap();
    let text = encode(vec![full(), other, full()]);
    let lines = text.strip_suffix("# EOF\n").expect("it ends with its end");
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let (mut family, mut kind, mut samples) = (String::new(), String::new(), 0);
    for line in lines.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "family {name} twice");
                    family = name.to_owned();
                }
                "TYPE" => kind = text.to_owned(),
                "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (name, labels, value) = sample(line);
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_sum", "_count", "_bucket"],
            other => panic!("{other}"),
        };
        assert!(suffixes.contains(&suffix) && family.starts_with("vmmc_"), "{line}");
        assert!(value >= 0.0 && labels.contains_key("interface") && labels.contains_key("local"), "{line}");
        assert!(series.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "{line} twice");
        samples += 1;
    }
    assert!(samples > 200, "{samples}");
    let export = lines.lines().map(|line| line.starts_with("vmmc_export_written").then(|| sample(line)));
    assert_eq!(export.flatten().next().unwrap().1["export"], "in\"b\\o\nx");
}

/// Each counter and each state of the bulk lane has a value of its own, and each of these values is said.
#[test]
fn the_bulk_lane_is_all_there() {
    let mut stats = full();
    (stats.bulk_copied, stats.no_bulk) = (None, None);
    let json = |stats: &Stats| serde_json::to_value(stats).unwrap();
    let mut value = json(&stats);
    let mut numbers = Vec::new();
    let mut number = |field: &mut serde_json::Value| {
        numbers.push(900_001.0 + numbers.len() as f64);
        *field = (900_000 + numbers.len()).into();
    };
    // What never changes, and so is of no interest beside the others.
    let fixed = ["queue", "ring", "send_ring", "slots"];
    for part in ["bulk", "bulk_rings", "engine", "verdicts"] {
        let fields = value[part].as_object_mut().unwrap().iter_mut();
        let is_of_lane = |name: &str| name.contains("bulk") || part.starts_with("bulk");
        let counted = fields.filter(|(name, value)| {
            // The port says the same of its payload.
            value.is_u64() && is_of_lane(name) && !fixed.contains(&name.as_str()) && *name != "tx_bulk_bytes"
        });
        // The engine's is the port's: it counts attempts, too.
        counted.filter(|(name, _)| *name != "bulk_reopened").for_each(|(_, field)| number(field));
    }
    for name in ["bulk_from", "transfers", "transfers_asked"] {
        number(&mut value["links"][0][name]);
    }
    let stats: Stats = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(json(&stats), value);
    let text = encode(vec![stats]);
    let said: Vec<f64> = text.lines().filter(|line| !line.starts_with('#')).map(|line| sample(line).2).collect();
    let missing: Vec<_> = numbers.iter().filter(|number| !said.contains(number)).collect();
    assert!(missing.is_empty() && numbers.len() >= 30, "{missing:?} of {}: {value:#}\n{text}", numbers.len());
    assert!(text.contains("mode=\"zero_copy\"} 1"), "{text}");
    let lost = Stats { bulk: None, bulk_rings: None, no_bulk: Some("a \"reason\"".to_owned()), ..full() };
    assert!(encode(vec![lost]).contains(r#"mode="none",reason="a \"reason\""} 1"#));
}

#[test]
fn in_the_older_format_every_sample_s_family_is_described() {
    let text = encode_plain(vec![full()]);
    let described = |what: &str| -> BTreeMap<&str, &str> {
        let comments = text.lines().filter_map(|line| line.strip_prefix(what)?.split_once(' '));
        comments.collect()
    };
    let (help, types) = (described("# HELP "), described("# TYPE "));
    assert!(help.keys().eq(types.keys()) && help.values().all(|text| !text.is_empty()), "{text}");
    let mut samples = 0;
    for line in text.lines().filter(|line| !line.starts_with("# HELP") && !line.starts_with("# TYPE")) {
        // Whatever is no description is a sample, and no other comment.
        let (name, ..) = sample(line);
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        match family.map_or(types.get(&*name), |family| types.get(family).or(types.get(&*name))) {
            Some(&"counter") => assert!(name.ends_with("_total"), "{line}"),
            Some(&"gauge") => assert!(!name.ends_with("_total"), "{line}"),
            Some(&"histogram") => assert!(family.is_some(), "{line}"),
            other => panic!("{other:?}: {line}"),
        }
        samples += 1;
    }
    // The same samples as in the other format.
    let other = encode(vec![full()]);
    assert_eq!(samples, other.lines().filter(|line| !line.starts_with('#')).count());
}

#[test]
fn round_trips_fall_into_their_buckets() {
    let text = encode(vec![full()]);
    let of_first = |line: &&str| line.starts_with("vmmc_link_round_trip") && line.contains("10.0.0.2");
    let samples: Vec<_> = text.lines().filter(of_first).map(sample).collect();
    let value = |suffix: &str| samples.iter().find(|(name, ..)| name.ends_with(suffix)).unwrap().2;
    assert_eq!((value("_count"), value("_sum").round()), (5.0, 11.0));
    let edges: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|(_, labels, count)| Some((labels.get("le")?.replace("+Inf", "inf").parse().unwrap(), *count)))
        .collect();
    assert!(edges.is_sorted() && edges.iter().map(|e| e.1).is_sorted(), "{edges:?}");
    assert_eq!(
        (edges[0], edges[1], edges[14], edges[15]),
        ((2e-6, 3.0), (5e-6, 4.0), (1.0, 4.0), (f64::INFINITY, 5.0))
    );
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // One who is refused may be cut off before it has sent all it has to say.
    let _ = stream.read_to_string(&mut answer);
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn metrics_are_served_and_nothing_else() {
    let node = node();
    let address = node.metrics_address().unwrap();
    let answer = ask(address, GET);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/plain; version=0.0.4"));
    assert!(body.contains("\nvmmc_uptime_seconds{interface=\"sim1\",local=\"10.0.0.1:7000\"} "), "{body}");
    assert!(!body.contains("# EOF"), "{body}");
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405 "),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404 "),
        ("GET /metrics/../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404 "),
        ("no HTTP at all\r\n\r\n", "400 "),
        (&format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)), "431 "),
    ] {
        let answer = ask(address, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40}: {answer:.80}");
    }
    drop(node);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn who_asks_gets_the_format_it_prefers() {
    let node = node();
    let address = node.metrics_address().unwrap();
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, is_open) in [
        (prometheus, true),
        ("text/plain;q=0.5,application/openmetrics-text;version=1.0.0", true),
        ("application/openmetrics-text, text/plain", true),
        ("text/plain, application/openmetrics-text", true),
        ("text/plain;q=0, */*", true),
        ("application/*", true),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;q=0, */*;q=0.1", false),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.3", false),
        // Of a version that there isn't.
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
        ("*/*", false),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
        // They get something all the same.
        ("application/json", false),
        ("*/*;q=0", false),
    ] {
        let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let kind = if is_open { super::CONTENT_TYPE } else { super::PLAIN_CONTENT_TYPE };
        assert!(head.contains(&format!("content-type: {kind}")), "{accept}: {head}");
        assert_eq!(body.ends_with("# EOF\n"), is_open, "{accept}");
    }
    // Several fields are one list.
    let fields = "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;q=0.6";
    let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
    assert!(answer.contains(super::CONTENT_TYPE), "{answer}");
}

#[test]
fn those_who_say_nothing_hold_up_nobody_but_those_beyond_the_limit() {
    let node = node();
    let address = node.metrics_address().unwrap();
    let mut mute: Vec<_> = (1..MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(ask(address, GET).contains("vmmc_node"), "there is room for one");
    mute.push(TcpStream::connect(address).unwrap());
    assert_eq!(ask(address, GET), "", "there is none");
    mute.pop();
    while !ask(address, GET).contains("vmmc_node") {}
}

#[test]
fn an_address_that_is_taken_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let open = |address| Node::builder().monitor(false).metrics(address).open_on(lane(1));
    let Err(error @ Error::Metrics { .. }) = open(address) else { panic!("it was opened") };
    assert!(error.to_string().contains("ss -ltnp"), "{error}");
    let Err(error) = open("192.0.2.1:9".parse().unwrap()) else { panic!("it was opened") };
    assert!(error.to_string().contains("no such address"), "{error}");
}
