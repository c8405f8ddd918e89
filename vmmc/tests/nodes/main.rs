//! Nodes, with their threads and their sleep, over the simulated network. Nothing here asserts a time: what fails, hangs.
mod mute;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vmmc::node::Resolve;
use vmmc::port::sim::{Conditions, Network, SimPort};
use vmmc::port::{Layer, Port};
use vmmc::time::Time;
use vmmc::{Builder, Error, Key, Lane, Node, Progress};

struct Fixed([u8; 6]);
impl Resolve for Fixed {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<[u8; 6], Error> {
        Ok(self.0)
    }
}

/// A SimPort whose wire can be cut.
struct Wire {
    port: SimPort,
    cut: Arc<AtomicBool>,
}
impl Layer for Wire {
    fn inner(&self) -> &dyn Port {
        &self.port
    }
    fn inner_mut(&mut self) -> &mut dyn Port {
        &mut self.port
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(6)) } else { self.port.flush() }
    }
}

fn node(net: &Network, n: u8, cut: &Arc<AtomicBool>, builder: Builder) -> Node {
    let mac = |n| [2, 0, 0, 0, 0, n];
    let lane = Lane {
        port: Box::new(Wire { port: net.attach(mac(n)), cut: cut.clone() }),
        address: IpAddr::from([10, 0, 0, n]),
        udp_port: 7000,
        interface: None,
        mac: mac(n),
        vlan: None,
        mtu: 1500,
        resolver: Box::new(Fixed(mac(3 - n))),
        steering: None,
        binding: None,
    };
    builder.open_on(lane).unwrap()
}

fn run(net: &Network) {
    let net = net.clone();
    std::thread::spawn(move || {
        let start = Instant::now();
        loop {
            net.advance(Time::from_nanos(start.elapsed().as_nanos() as u64));
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_local_send_wakes_the_sleeping_leader() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let no = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &no, Node::builder());
    let inbox = n.export("a").key(Key::PUBLIC).notify(true).create().unwrap();
    let me = n.import("10.0.0.1:7000".parse().unwrap(), "a", Key::PUBLIC).unwrap();
    let waiter = std::thread::spawn(move || inbox.wait_notification(PATIENCE));
    // It has gone to sleep by then; if not, the test is only easier.
    std::thread::sleep(Duration::from_millis(300));
    me.send(b"x", 0).notify(1).wait().unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().tag, 1);
}

#[test]
fn waiters_learn_that_the_thread_has_ended() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    let cut = Arc::new(AtomicBool::new(false));
    let n = node(&net, 1, &cut, Node::builder().progress(Progress::Thread { core: None }));
    let inbox = n.export("a").key(Key::PUBLIC).notify(true).create().unwrap();
    let other = n.export("b").key(Key::PUBLIC).notify(true).create().unwrap();
    let waiter = std::thread::spawn(move || inbox.wait_notification(PATIENCE));
    cut.store(true, Ordering::Relaxed);
    // Something to send, so that the thread finds out.
    let import = n.import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC);
    assert!(matches!(import, Err(Error::Wire(_))), "{import:?}");
    for told in [waiter.join().unwrap(), other.wait_notification(PATIENCE)] {
        assert!(matches!(told, Err(Error::Wire(_))), "{told:?}");
    }
}

#[test]
fn an_import_that_is_never_answered_ends() {
    let net = Network::new(1, Conditions::default());
    run(&net);
    mute::run(&net, [2, 0, 0, 0, 0, 2]);
    let (no, short) = (Arc::new(AtomicBool::new(false)), Duration::from_millis(200));
    let n = node(&net, 1, &no, Node::builder().connect_timeout(short).peer_timeout(short));
    let import = n.import("10.0.0.2:7000".parse().unwrap(), "a", Key::PUBLIC);
    assert!(matches!(import, Err(Error::Timeout { what: "answer to an import", .. })), "{import:?}");
    // The peer is there: that is not why.
    let stats = n.stats().unwrap();
    assert!(stats.links.iter().any(|p| p.open), "{stats:?}");
}
