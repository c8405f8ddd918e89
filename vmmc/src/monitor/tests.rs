//! A node and those who watch it, over real sockets and threads. Nothing here asserts a time: what fails, hangs or is cut off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{choose, list_in};
use super::*;
use crate::node::Resolve;
use crate::port::sim::{Conditions, Network};
use crate::wire::frame::Mac;
use crate::{Error, Lane, Node, Progress};

struct Nowhere;
impl Resolve for Nowhere {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<Mac, Error> {
        Ok([2, 0, 0, 0, 0, 9])
    }
}

/// A wire to nowhere.
pub(super) fn lane(host: u8) -> Lane {
    let mac = [2, 0, 0, 0, 0, host];
    Lane {
        port: Box::new(Network::new(1, Conditions::default()).attach(mac)),
        interface: Some(format!("sim{host}")),
        address: [10, 0, 0, host].into(),
        udp_port: 7000,
        mac,
        vlan: None,
        mtu: 1500,
        resolver: Box::new(Nowhere),
        steering: None,
        binding: None,
        arena: None,
        no_bulk: None,
    }
}

/// A node, and a server for it in `directory`.
pub(super) fn watched(directory: &Path, host: u8) -> (Node, Server) {
    let node = Node::builder().monitor(false).progress(Progress::Thread { core: None }).open_on(lane(host)).unwrap();
    let server = Server::start_in(node.shared(), &[directory.to_owned()]).unwrap();
    (node, server)
}

/// A directory that goes with its value.
pub(crate) struct Temp(pub(crate) PathBuf);

impl Temp {
    pub(crate) fn new(name: &str) -> Temp {
        let path = std::env::temp_dir().join(format!("vmmc-monitor-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Temp(path)
    }
    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tell(path: &Path, bytes: &[u8]) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    BufReader::new(stream)
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn a_node_tells_what_it_has_counted_until_it_closes() {
    let temp = Temp::new("tells");
    let (node, server) = watched(&temp.0, 1);
    let path = server.path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&temp.0).unwrap().permissions().mode() & 0o777, 0o700);
    let _export = node.export("inbox").len(8192).create().unwrap();
    let (here, there) = (node.stats().unwrap(), ask(&path).unwrap());
    assert_eq!((there.local, there.exported_bytes, there.pid), (here.local, 8192, std::process::id()));
    assert_eq!((there.incarnation, there.interface.as_deref()), (here.incarnation, Some("sim1")));
    assert!(there.uptime >= here.uptime);
    drop(server);
    assert!(matches!(ask(&path), Err(MonitorError::Gone(_))));
    assert_eq!(temp.files(), 0);
}

#[test]
fn a_snapshot_survives_json() {
    let temp = Temp::new("json");
    let (node, _server) = watched(&temp.0, 1);
    let stats = node.stats().unwrap();
    let text = serde_json::to_string(&stats).unwrap();
    assert!(text.contains("\"uptime_ns\":") && text.contains("\"local\":\"10.0.0.1:7000\""), "{text}");
    assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
}

#[test]
fn nodes_are_found_and_dead_ones_cleared_away() {
    let temp = Temp::new("found");
    assert!(matches!(list_in(std::slice::from_ref(&temp.0)), Err(MonitorError::NoNodes { .. })));
    let servers = [watched(&temp.0, 1), watched(&temp.0, 2)];
    // What a process leaves that is killed: a socket that nobody listens on. And what is no socket of ours.
    drop(UnixListener::bind(temp.0.join("1.0.sock")).unwrap());
    std::fs::write(temp.0.join("notes"), "not ours").unwrap();
    let all = || list_in(std::slice::from_ref(&temp.0)).unwrap();
    assert_eq!(all().len(), 2);
    assert_eq!(temp.files(), 3, "the dead one's is gone, and what isn't ours is not");
    let one = |text: &str| choose(all(), Some(&text.parse().unwrap()));
    for (host, text) in [(1, "10.0.0.1"), (2, "10.0.0.2:7000"), (2, "sim2")] {
        let found = one(text).unwrap();
        assert_eq!((found.path.as_path(), found.pid), (servers[host - 1].1.path(), std::process::id()), "{text}");
    }
    let name = servers[0].1.path().file_stem().unwrap().to_str().unwrap();
    assert_eq!(one(name).unwrap().path, servers[0].1.path());
    let pid = std::process::id().to_string();
    for several in [choose(all(), None), one(&pid)] {
        let Err(MonitorError::SeveralNodes { nodes }) = several else { panic!("{several:?}") };
        assert!(nodes[0].contains("sim1") && nodes[1].contains("10.0.0.2:7000"), "{nodes:?}");
    }
    for none in ["10.0.0.1:7001", "10.0.0.3", "eth7", "1"] {
        assert!(matches!(one(none), Err(MonitorError::NoSuchNode { .. })), "{none}");
    }
}

#[test]
fn nonsense_is_answered_and_what_is_too_long_is_cut_off() {
    let temp = Temp::new("nonsense");
    let (_node, server) = watched(&temp.0, 1);
    for nonsense in ["\n", "{\n", "{\"colour\":{}}\n", "\u{0}\n", "[[[[[[[[\n", "{\"stats\":{}}{\"stats\":{}}\n"] {
        let mut client = tell(server.path(), nonsense.as_bytes());
        assert!(line(&mut client).starts_with("{\"error\":\"not a request: "), "{nonsense:?}");
        // Who has erred may ask again.
        client.get_mut().write_all(b"{\"stats\":{}}\n").unwrap();
        assert!(line(&mut client).starts_with("{\"stats\":{\"pid\":"));
    }
    let mut client = tell(server.path(), &[b'x'; MAX_REQUEST]);
    assert!(line(&mut client).contains("at most 4096 bytes"));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    // As many as there is room for, in pieces, at once.
    let mut client = tell(server.path(), b"{\"sta");
    client.get_mut().write_all(b"ts\":{}}\n\n\n{\"stats\":{}}\n{\"stats\"").unwrap();
    let answers: Vec<bool> = (0..4).map(|_| line(&mut client).starts_with("{\"stats")).collect();
    assert_eq!(answers, [true, false, false, true]);
    let mut client = tell(server.path(), &[b'\n'; MAX_REQUEST]);
    assert!((0..MAX_REQUEST).all(|_| line(&mut client).contains("not a request")));
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    let temp = Temp::new("mute");
    let (_node, server) = watched(&temp.0, 1);
    let mut greedy = UnixStream::connect(server.path()).unwrap();
    greedy.set_nonblocking(true).unwrap();
    // It asks until neither it nor the node has room for more.
    let (request, mut asked) = ("{\"stats\":{}}\n".repeat(100), 0);
    while asked < 64 << 20 {
        match greedy.write(request.as_bytes()) {
            Ok(n) => asked += n,
            Err(_) => break,
        }
        ask(server.path()).unwrap();
    }
    assert!(asked < 64 << 20, "the node has taken everything");
    ask(server.path()).unwrap();
}

#[test]
fn more_clients_than_it_serves_are_told_so() {
    let temp = Temp::new("many");
    let (_node, server) = watched(&temp.0, 1);
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| tell(server.path(), b"{\"stats\":{}}\n")).collect();
    assert!(clients.iter_mut().all(|client| line(client).starts_with("{\"stats\"")));
    let Err(MonitorError::Refused { why, .. }) = ask(server.path()) else { panic!("a ninth client is served") };
    assert!(why.contains("watched by 8 others"), "{why}");
    clients.pop();
    // Until it has noticed that there is room again.
    while ask(server.path()).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_node_that_is_stopped_does_not_hold_up_who_asks() {
    let temp = Temp::new("stopped");
    std::fs::create_dir(&temp.0).unwrap();
    std::fs::set_permissions(&temp.0, PermissionsExt::from_mode(0o700)).unwrap();
    let path = temp.0.join("1.0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // Those who have asked in vain stay in the queue of a node that takes nobody in, until there is no more room.
    rustix::net::listen(&listener, 1).unwrap();
    let _waiting: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(matches!(ask(&path), Err(MonitorError::Silent(_))));
    // It is listed all the same, and its socket left alone.
    let [found] = &list_in(std::slice::from_ref(&temp.0)).unwrap()[..] else { panic!("it isn't found") };
    assert!(matches!(found.stats, Err(MonitorError::Silent(_))) && path.exists());
}

#[test]
fn what_is_no_node_does_the_terminal_no_harm() {
    let temp = Temp::new("harm");
    std::fs::create_dir(&temp.0).unwrap();
    std::fs::set_permissions(&temp.0, PermissionsExt::from_mode(0o700)).unwrap();
    let path = temp.0.join("1.0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for answer in ["{\"error\":\"\\u001b[2J\"}\n", "{\"\\u001b[2J\":1}\n"] {
        std::thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(answer.as_bytes()).unwrap());
            let text = ask(&path).unwrap_err().to_string();
            assert!(text.contains("?[2J") && !text.contains('\u{1b}'), "{text:?}");
        });
    }
    // Nor is one asked to which a link leads.
    let links = Temp::new("links");
    std::fs::create_dir(&links.0).unwrap();
    std::os::unix::fs::symlink(&path, links.0.join("1.0.sock")).unwrap();
    assert!(matches!(list_in(std::slice::from_ref(&links.0)), Err(MonitorError::NoNodes { .. })));
}

#[test]
fn a_number_that_is_taken_is_left_alone() {
    let temp = Temp::new("taken");
    let (node, first) = watched(&temp.0, 1);
    let (pid, number) = place::parse(first.path().file_name().unwrap().to_str().unwrap()).unwrap();
    // As a process in another PID namespace may have them: all that come next.
    let taken: Vec<_> = (1..20).map(|n| temp.0.join(place::name(pid, number + n))).collect();
    let _listeners: Vec<_> = taken.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
    let second = Server::start_in(node.shared(), std::slice::from_ref(&temp.0)).unwrap();
    assert!(ask(second.path()).is_ok() && !taken.iter().any(|path| path == second.path()), "{:?}", second.path());
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    let temp = Temp::new("trust");
    std::fs::create_dir(&temp.0).unwrap();
    std::fs::set_permissions(&temp.0, PermissionsExt::from_mode(0o777)).unwrap();
    let other = Temp::new("trusted");
    let (node, _) = watched(&other.0, 1);
    let both = [temp.0.clone(), other.0.clone()];
    let server = Server::start_in(node.shared(), &both).unwrap();
    assert!(server.path().starts_with(&other.0));
    // A socket there isn't asked either.
    let _listener = UnixListener::bind(temp.0.join("2.0.sock")).unwrap();
    let Err(MonitorError::NoNodes { refused, .. }) = list_in(&both[..1]) else { panic!("it was looked into") };
    assert!(refused[0].contains("others can write into it"), "{refused:?}");
    // A link to a directory could lead anywhere.
    let link = Temp::new("link");
    std::os::unix::fs::symlink(&other.0, &link.0).unwrap();
    assert!(Server::start_in(node.shared(), std::slice::from_ref(&link.0)).is_none());
    std::fs::remove_file(&link.0).unwrap();
}

#[test]
fn selectors_have_a_text_form() {
    let parse = |text: &str| text.parse::<Selector>().unwrap();
    assert_eq!(parse("4711"), Selector::Process(4711, None));
    assert_eq!(parse("4711.1"), Selector::Process(4711, Some(1)));
    assert_eq!(parse("eth0.5"), Selector::Interface("eth0.5".into()));
    assert_eq!(parse("10.0.0.1"), Selector::Address([10, 0, 0, 1].into(), None));
    assert_eq!(parse("[fd77::2]:7000"), Selector::Address("fd77::2".parse().unwrap(), Some(7000)));
    assert_eq!(parse("fd77::2"), Selector::Address("fd77::2".parse().unwrap(), None));
    assert_eq!(parse("./1.0.sock"), Selector::Socket("./1.0.sock".into()));
    assert!("".parse::<Selector>().is_err());
}
