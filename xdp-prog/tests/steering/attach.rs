//! The program on interfaces: attached, at work, and gone again.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    process::{self, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use tracing::{Dispatch, subscriber::NoSubscriber};
use xdp_prog::{Mode, Steering, SteeringError, Verdicts};

use crate::{
    netns::{Namespace, target},
    packet::{PORT, node_v4, node_v6},
    receiver::Receiver,
    trial::{eventually, xdp_socket},
};

#[test]
fn native_on_veth_and_detached_by_drop() {
    let namespace = Namespace::with_veth();
    assert!(!namespace.has_program("v0"));
    let steering = namespace.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    assert_eq!(steering.mode(), Mode::Native);
    assert_eq!(steering.mode().to_string(), "native");
    assert!(namespace.has_program("v0"));
    assert!(!namespace.has_program("v1"));
    drop(steering);
    assert!(!namespace.has_program("v0"));
}

#[test]
fn attaches_at_the_largest_mtu() {
    let namespace = Namespace::with_veth();
    namespace.ip("link set v0 mtu 65535");
    namespace.ip("link set v1 mtu 65535");
    let steering = namespace.run(|| Steering::attach(&target("v0", node_v6(), PORT))).unwrap();
    assert_eq!(steering.mode(), Mode::Native);
}

/// Attaches to `interface`, and returns the warnings, too.
fn attach_with_log(namespace: &Namespace, interface: &str) -> (Steering, String) {
    let log = Log::default();
    let writer = log.clone();
    let warnings = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let subscriber = warnings.with_writer(move || writer.clone()).finish();
    let attach = || Steering::attach(&target(interface, node_v4(), PORT));
    // While there is but one subscriber, a thread that has none and comes first to the place that logs switches it off for all.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::new()));
    let steering = namespace.run(|| tracing::subscriber::with_default(subscriber, attach)).unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (steering, text)
}

#[test]
fn native_without_a_warning() {
    let (steering, log) = attach_with_log(&Namespace::with_veth(), "v0");
    assert_eq!((steering.mode(), log.as_str()), (Mode::Native, ""));
}

#[test]
fn generic_where_the_driver_has_no_xdp_with_a_warning() {
    let namespace = Namespace::new();
    let (steering, log) = attach_with_log(&namespace, "lo");
    assert_eq!(steering.mode(), Mode::Generic);
    assert!(log.contains("WARN") && log.contains("the driver of lo has no XDP"), "{log}");
    drop(steering);
    assert!(!namespace.has_program("lo"));
}

#[test]
fn generic_where_the_driver_refuses_with_a_warning_that_tells_the_way_back() {
    let namespace = Namespace::with_refusing_veth();
    let (steering, log) = attach_with_log(&namespace, "v0");
    assert_eq!(steering.mode(), Mode::Generic);
    assert!(namespace.ip("link show dev v0").contains("xdpgeneric"));
    for part in ["WARN", "the driver of v0", "No space left", "generic mode", "ethtool -L v0", "mtu 1500", "lro off"] {
        assert!(log.contains(part), "{part:?} is not in: {log}");
    }
    drop(steering);
    assert!(!namespace.has_program("v0"));

    // One queue less at the peer, and the driver takes it.
    let fewer_queues = ["netns", "exec", &namespace.name, "ethtool", "-L", "v1", "tx", "1"];
    assert!(Command::new("ip").args(fewer_queues).status().unwrap().success());
    let (steering, log) = attach_with_log(&namespace, "v0");
    assert_eq!((steering.mode(), log.as_str()), (Mode::Native, ""));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn two_nodes_on_two_interfaces() {
    let namespace = Namespace::with_veth();
    let [one, two] =
        ["v0", "v1"].map(|interface| namespace.run(|| Steering::attach(&target(interface, node_v4(), PORT))));
    assert_eq!((one.unwrap().mode(), two.unwrap().mode()), (Mode::Native, Mode::Native));
}

/// Gives `here` the node's address on v0, and moves v1 to another host, which sends to it from there.
pub(crate) fn other_host(here: &Namespace) -> Namespace {
    let there = Namespace::new();
    here.ip(&format!("link set v1 netns {}", there.name));
    here.ip("addr add 10.77.0.1/24 dev v0");
    there.ip("addr add 10.77.0.2/24 dev v1");
    there.ip("link set v1 up");
    there
}

/// Waits until the counters are as wanted: a frame is counted soon after it was sent.
fn wait_for(steering: &Steering, wanted: impl Fn(&Verdicts) -> bool) -> Verdicts {
    let mut counters = Verdicts::default();
    eventually(|| {
        counters = steering.counters().unwrap();
        wanted(&counters)
    });
    counters
}

#[test]
fn the_kernel_gets_what_is_not_ours_and_the_socket_what_is() {
    let here = Namespace::with_veth();
    let there = other_host(&here);
    let steering = here.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    let sockets = here.run(|| {
        [PORT, PORT + 1].map(|port| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        })
    });
    let sender = there.run(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    let received = |socket: &UdpSocket| {
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).expect("the datagram sent to this socket");
        buffer[..length].to_vec()
    };

    // No AF_XDP socket yet: the kernel has it all. Even the ARP that comes before.
    sender.send_to(b"kernel", (node_v4(), PORT)).unwrap();
    assert_eq!(received(&sockets[0]), b"kernel");
    sender.send_to(b"other", (node_v4(), PORT + 1)).unwrap();
    assert_eq!(received(&sockets[1]), b"other");
    let counters = wait_for(&steering, |now| now.other_port == 1);
    assert_eq!((counters.no_socket, counters.redirected), (1, 0));
    assert!(counters.not_ip > 0, "ARP went by uncounted: {counters:?}");

    // Ours goes to the socket; it isn't bound, so it goes no further. The rest is as before.
    let xsk = here.run(xdp_socket);
    steering.register(0, xsk.as_fd()).unwrap();
    sender.send_to(b"node", (node_v4(), PORT)).unwrap();
    wait_for(&steering, |now| now.redirected == 1);
    sender.send_to(b"other", (node_v4(), PORT + 1)).unwrap();
    assert_eq!(received(&sockets[1]), b"other");

    // The socket closed, the kernel has it again, and never saw what went to the socket.
    // (Another test that is just starting a process keeps the socket open for that moment.)
    drop(xsk);
    eventually(|| {
        sender.send_to(b"again", (node_v4(), PORT)).unwrap();
        steering.counters().unwrap().no_socket > 1
    });
    assert_eq!(received(&sockets[0]), b"again");

    // And without the program nothing is counted, but all arrives.
    drop(steering);
    sender.send_to(b"last", (node_v4(), PORT)).unwrap();
    while received(&sockets[0]) != b"last" {}
}

#[test]
fn in_generic_mode_too_the_socket_gets_what_is_ours() {
    let here = Namespace::with_refusing_veth();
    let there = other_host(&here);
    let steering = here.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    assert_eq!(steering.mode(), Mode::Generic);
    let mut receiver = here.run(|| Receiver::bind("v0"));
    steering.register(0, receiver.as_fd()).unwrap();

    let sender = there.run(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    sender.send_to(b"other", (node_v4(), PORT + 1)).unwrap();
    sender.send_to(b"node", (node_v4(), PORT)).unwrap();
    let headers = 14 + 20 + 8;
    assert_eq!(&receiver.receive()[headers..], b"node");
    wait_for(&steering, |now| (now.redirected, now.other_port) == (1, 1));
}

/// Names the namespace in which `a_node_in_another_process` is to attach.
const CHILD_NAMESPACE: &str = "XDP_PROG_TEST_NAMESPACE";

/// The other process of the test below. By itself it has nothing to do.
#[test]
fn a_node_in_another_process() {
    let Ok(name) = env::var(CHILD_NAMESPACE) else {
        return;
    };
    let namespace = std::mem::ManuallyDrop::new(Namespace { name });
    let _steering = namespace.run(|| Steering::attach(&target("v0", node_v4(), PORT))).unwrap();
    println!("attached");
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_process_is_named_while_it_lives_and_leaves_nothing_behind() {
    killed_while_attached(&Namespace::with_veth(), Mode::Native);
    killed_while_attached(&Namespace::with_refusing_veth(), Mode::Generic);
}

fn killed_while_attached(namespace: &Namespace, mode: Mode) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "attach::a_node_in_another_process", "--nocapture"])
        .env(CHILD_NAMESPACE, &namespace.name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("attached")), "the other process could not attach");

    let attach = || namespace.run(|| Steering::attach(&target("v0", node_v4(), PORT)));
    let error = attach().unwrap_err();
    let SteeringError::OtherNode(holder) = &error else { panic!("{error}") };
    let pids: Vec<_> = holder.processes.iter().map(|process| process.pid).collect();
    assert!(pids.contains(&child.id()), "{pids:?}");
    assert_eq!(holder.generic, mode == Mode::Generic);
    assert_ne!(child.id(), process::id());
    let text = error.to_string();
    assert!(text.contains(&format!("{} (", child.id())), "{text}");
    assert!(text.contains("held by process") && text.contains("stop that process"), "{text}");

    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    // The kernel closes the link with the process, unless another test is just looking at it.
    eventually(|| !namespace.has_program("v0"));
    assert_eq!(attach().unwrap().mode(), mode);
}
