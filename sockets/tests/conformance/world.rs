//! Where a test case runs: two hosts, a server's and a client's, and the sockets they have.
//!
//! | world | sockets | network |
//! |---|---|---|
//! | [`Tcp`] | the kernel's | a veth pair between two namespaces |
//! | [`Simulated`] | VMMC's | in memory, perfect |
//! | [`Lossy`] | VMMC's | in memory, loses 1% and repeats, reorders and damages |
//! | [`Laned`] | VMMC's | likewise, and both hosts have a bulk lane, which long writes take |
//! | [`Veth`] | VMMC's | a veth pair between two namespaces |

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use vmmc::port::sim::Conditions;
use vmmc_lab::{Host, LabConfig, TempLab};
use vmmc_sockets::{Stack, VmmcListener, VmmcStream};

use crate::common::simulated::{BAD, Hosts, PERFECT};
use crate::deviations::Deviation;
use crate::sockets::{Listener, Stream};

/// Whose sockets they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Tcp,
    Vmmc,
}

/// Two hosts, and sockets on them.
pub trait World: Send + Sync + Sized + 'static {
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;
    const FAMILY: Family;

    /// The seed decides what becomes of packets, where that can be decided.
    fn new(seed: u64) -> Self;
    /// The server's address.
    fn server(&self) -> IpAddr;
    /// The client's address.
    fn client(&self) -> IpAddr;
    /// An address of the same network that no host has.
    fn nobody(&self) -> IpAddr;

    /// Binds on the server, to the first of the addresses that works.
    fn bind_first(&self, addresses: &[SocketAddr]) -> io::Result<Self::Listener>;
    /// Binds on the server.
    fn bind(&self, address: SocketAddr) -> io::Result<Self::Listener>;
    /// Connects from the client to the first of the addresses that works.
    fn connect_first(&self, addresses: &[SocketAddr]) -> io::Result<Self::Stream>;
    /// Connects from the client.
    fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream>;
    fn connect_timeout(&self, address: SocketAddr, timeout: Duration) -> io::Result<Self::Stream>;
    /// Connects from the server's own host.
    fn connect_at_home(&self, address: SocketAddr) -> io::Result<Self::Stream>;

    /// A listener on the server.
    fn listen(&self) -> Self::Listener {
        self.bind(SocketAddr::new(self.server(), 0)).expect("binding to port 0")
    }

    /// Two streams that are connected: the client's and the server's.
    fn pair(&self) -> (Self::Stream, Self::Stream) {
        self.pair_at(&self.listen())
    }

    fn pair_at(&self, listener: &Self::Listener) -> (Self::Stream, Self::Stream) {
        let client = self.connect(listener.local_addr().expect("a listener has an address")).expect("connecting");
        let (server, _) = listener.accept().expect("accepting");
        (client, server)
    }

    /// Checks something in which TCP and VMMC differ.
    #[track_caller]
    fn differs(&self, deviation: Deviation, seen: impl std::fmt::Debug) {
        deviation.check(Self::FAMILY, &format!("{seen:?}"));
    }
}

/// A world with a seed of its own, which is shown when the test fails.
pub fn seeded<W: World>() -> W {
    let seed = fastrand::u64(..);
    println!("the network's seed is {seed}");
    W::new(seed)
}

/// Two hosts of a lab that lives as long as any test uses it: making one takes a while.
pub fn shared_lab() -> Arc<TempLab> {
    static LAB: Mutex<Weak<TempLab>> = Mutex::new(Weak::new());
    let mut shared = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let lab = Arc::new(new_lab());
        *shared = Arc::downgrade(&lab);
        lab
    })
}

fn new_lab() -> TempLab {
    TempLab::new(&LabConfig::default())
        .unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"))
}

/// Runs something on a host.
fn on<T: Send>(host: &Host, what: impl FnOnce() -> T + Send) -> T {
    host.enter(what).expect("entering a namespace")
}

/// The kernel's TCP.
pub struct Tcp {
    lab: Arc<TempLab>,
}

impl World for Tcp {
    type Stream = TcpStream;
    type Listener = TcpListener;
    const FAMILY: Family = Family::Tcp;

    fn new(_: u64) -> Tcp {
        Tcp { lab: shared_lab() }
    }
    fn server(&self) -> IpAddr {
        self.lab.host(2).address.into()
    }
    fn client(&self) -> IpAddr {
        self.lab.host(1).address.into()
    }
    fn nobody(&self) -> IpAddr {
        IpAddr::from([10, 77, 0, 99])
    }
    fn bind_first(&self, addresses: &[SocketAddr]) -> io::Result<TcpListener> {
        on(self.lab.host(2), || TcpListener::bind(addresses))
    }
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.bind_first(&[address])
    }
    fn connect_first(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        on(self.lab.host(1), || TcpStream::connect(addresses))
    }
    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connect_first(&[address])
    }
    fn connect_timeout(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        on(self.lab.host(1), || TcpStream::connect_timeout(&address, timeout))
    }
    fn connect_at_home(&self, address: SocketAddr) -> io::Result<TcpStream> {
        on(self.lab.host(2), || TcpStream::connect(address))
    }
}

/// Two stacks of VMMC.
struct Stacks {
    server: Stack,
    client: Stack,
}

impl Stacks {
    /// Makes one the process's own: there is one at a time.
    fn as_default(stack: &Stack) -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        stack.make_default();
        one
    }
}

/// Worlds of VMMC differ only in how their nodes are made, and in their addresses.
macro_rules! vmmc_world {
    ($world:ident, $network:ty, $server:expr, $client:expr, $nobody:expr, $new:expr) => {
        /// VMMC's sockets: see the module.
        pub struct $world {
            stacks: Stacks,
            // After the stacks: they say goodbye through it.
            _network: $network,
        }

        impl World for $world {
            type Stream = VmmcStream;
            type Listener = VmmcListener;
            const FAMILY: Family = Family::Vmmc;

            fn new(seed: u64) -> $world {
                let ([server, client], network) = $new(seed);
                $world { stacks: Stacks { server, client }, _network: network }
            }
            fn server(&self) -> IpAddr {
                IpAddr::from($server)
            }
            fn client(&self) -> IpAddr {
                IpAddr::from($client)
            }
            fn nobody(&self) -> IpAddr {
                IpAddr::from($nobody)
            }
            fn bind_first(&self, addresses: &[SocketAddr]) -> io::Result<VmmcListener> {
                let _one = Stacks::as_default(&self.stacks.server);
                VmmcListener::bind(addresses)
            }
            fn bind(&self, address: SocketAddr) -> io::Result<VmmcListener> {
                self.stacks.server.bind(address)
            }
            fn connect_first(&self, addresses: &[SocketAddr]) -> io::Result<VmmcStream> {
                let _one = Stacks::as_default(&self.stacks.client);
                VmmcStream::connect(addresses)
            }
            fn connect(&self, address: SocketAddr) -> io::Result<VmmcStream> {
                self.stacks.client.connect(address)
            }
            fn connect_timeout(&self, address: SocketAddr, timeout: Duration) -> io::Result<VmmcStream> {
                self.stacks.client.connect_timeout(address, timeout)
            }
            fn connect_at_home(&self, address: SocketAddr) -> io::Result<VmmcStream> {
                self.stacks.server.connect(address)
            }
        }
    };
}

/// Stacks on the hosts 2 and 1 of a simulated network.
fn simulated(seed: u64, conditions: Conditions) -> ([Stack; 2], Hosts) {
    let hosts = Hosts::new(seed, conditions);
    ([2, 1].map(|n| Stack::builder().open_on(hosts.lane(n)).expect("opening a stack")), hosts)
}

/// Likewise, with bulk lanes.
fn laned(seed: u64, conditions: Conditions) -> ([Stack; 2], Hosts) {
    let hosts = Hosts::new(seed, conditions);
    let builder = Stack::builder().bulk_owned(64 << 10).bulk_writes(64 << 10).node(|node| node.bulk_mtu(1280));
    ([2, 1].map(|n| builder.clone().open_on(hosts.lane_with_bulk(n)).expect("opening a stack")), hosts)
}

/// Stacks on the hosts 2 and 1 of a lab.
fn veth(_: u64) -> ([Stack; 2], TempLab) {
    let lab = new_lab();
    let open = |n| {
        let host = lab.host(n);
        let settings = Stack::builder().interface(&host.interface).address(host.address.into());
        on(host, || settings.open()).expect("opening a stack")
    };
    ([2, 1].map(open), lab)
}

vmmc_world!(Simulated, Hosts, [10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 99], |seed| simulated(seed, PERFECT));
vmmc_world!(Lossy, Hosts, [10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 99], |seed| simulated(seed, BAD));
vmmc_world!(Laned, Hosts, [10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 99], |seed| laned(seed, BAD));
vmmc_world!(Veth, TempLab, [10, 77, 0, 2], [10, 77, 0, 1], [10, 77, 0, 99], veth);
