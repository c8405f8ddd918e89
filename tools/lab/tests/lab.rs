//! Labs made for real, as root: what is in them, that they carry packets, and that nothing of them
//! stays behind.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vmmc_lab::{Change, ChildGuard, Host, Lab, LabConfig, LabError, TempLab, down_on_signal};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Longer than anything here takes, so that a failure is an error and not a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lab whose name the test chooses, removed at the end.
struct Named(String);

impl Named {
    fn new(part: &str) -> Self {
        Self(format!("vmmctmp-{}-{part}", process::id()))
    }

    fn config(&self) -> LabConfig {
        LabConfig { name: self.0.clone(), ..LabConfig::default() }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let down = Lab::down(&self.0);
        // A test that has failed already has more to say.
        assert!(thread::panicking() || down.is_ok(), "{down:?}");
    }
}

fn namespaces(prefix: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// The kernel's number of the host's namespace.
fn identity(host: &Host) -> Result<u64> {
    Ok(fs::metadata(format!("/run/netns/{}", host.namespace))?.ino())
}

fn output(host: &Host, program: &str, args: &[&str]) -> Result<String> {
    let output = host.command(program).args(args).output()?;
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Sends one datagram there and one back.
fn udp_echo(from: &Host, to: &Host, address: IpAddr, len: usize) -> Result<()> {
    let server = to.enter(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => "0.0.0.0".parse()?,
        IpAddr::V6(_) => "::".parse()?,
    };
    let client = from.enter(|| UdpSocket::bind(SocketAddr::new(unspecified, 0)))??;
    server.set_read_timeout(Some(PATIENCE))?;
    client.set_read_timeout(Some(PATIENCE))?;

    let sent: Vec<u8> = (0..len).map(|i| i as u8).collect();
    client.send_to(&sent, server.local_addr()?)?;
    let mut buffer = vec![0; len + 1];
    let (received, sender) = server.recv_from(&mut buffer)?;
    assert_eq!(buffer[..received], sent);
    server.send_to(&buffer[..received], sender)?;
    assert_eq!(client.recv(&mut buffer)?, len);
    Ok(())
}

#[test]
fn two_hosts_reach_each_other_at_once_by_ipv4_and_ipv6() -> Result {
    let lab = TempLab::new(&LabConfig::default())?;
    assert_eq!(lab.hosts().len(), 2);
    for (from, to) in [(1, 2), (2, 1)] {
        let (from, to) = (lab.host(from), lab.host(to));
        udp_echo(from, to, to.address.into(), 100)?;
        udp_echo(from, to, to.address6.into(), 100)?;
    }
    let host = lab.host(2);
    assert_eq!(host.name, "h2");
    assert_eq!(host.interface, "vh2");
    assert_eq!(host.address.to_string(), "10.77.0.2");
    assert_eq!(host.address6.to_string(), "fd77::2");
    let mac = output(host, "cat", &["/sys/class/net/vh2/address"])?;
    assert_eq!(mac.trim(), "02:56:4d:4d:43:02");
    Ok(())
}

#[test]
fn tcp_works_and_sockets_outlive_the_closure() -> Result {
    let lab = TempLab::new(&LabConfig::default())?;
    let (h1, h2) = (lab.host(1), lab.host(2));
    let listener = h2.enter(|| TcpListener::bind((h2.address, 0)))??;
    let address = listener.local_addr()?;
    let mut client = h1.enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    client.write_all(b"hello")?;
    let (mut server, from) = listener.accept()?;
    assert_eq!(from.ip(), h1.address);
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"hello");
    Ok(())
}

#[test]
fn every_pair_of_hosts_reaches_each_other_through_the_switch() -> Result {
    let lab = TempLab::new(&LabConfig { hosts: 4, mtu: 9000, ..LabConfig::default() })?;
    for from in lab.hosts() {
        for to in lab.hosts().iter().filter(|to| *to != from) {
            // Fills a frame of the largest size: a bridge port of 1500 would not pass it on.
            udp_echo(from, to, to.address.into(), 9000 - 28)?;
            udp_echo(from, to, to.address6.into(), 9000 - 48)?;
        }
    }
    Ok(())
}

#[test]
fn sixty_four_hosts_are_possible() -> Result {
    let lab = TempLab::new(&LabConfig { hosts: 64, queues: 1, ..LabConfig::default() })?;
    udp_echo(lab.host(1), lab.host(64), lab.host(64).address.into(), 1)?;
    udp_echo(lab.host(64), lab.host(33), lab.host(33).address6.into(), 1)?;
    Ok(())
}

#[test]
fn mtu_and_queues_are_as_asked_for() -> Result {
    for hosts in [2, 3] {
        for (mtu, queues) in [(1280, 1), (65535, 4)] {
            let lab = TempLab::new(&LabConfig { hosts, mtu, queues, ..LabConfig::default() })?;
            for host in lab.hosts() {
                let path = format!("/sys/class/net/{}", host.interface);
                let read = output(host, "cat", &[&format!("{path}/mtu")])?;
                assert_eq!(read.trim(), mtu.to_string());
                let list = output(host, "ls", &[&format!("{path}/queues")])?;
                let count = |kind| list.lines().filter(|line| line.starts_with(kind)).count();
                assert_eq!(count("tx-"), queues as usize);
                assert_eq!(count("rx-"), queues as usize);
            }
        }
    }
    Ok(())
}

#[test]
fn hosts_can_differ_in_mtu_and_links_go_down_and_up() -> Result {
    for hosts in [2, 3] {
        let lab = TempLab::new(&LabConfig { hosts, ..LabConfig::default() })?;
        let (h1, h2) = (lab.host(1), lab.host(2));
        h1.set_mtu(9000)?;
        let status = Lab::status(lab.name())?;
        assert_eq!((status.hosts[0].mtu, status.hosts[1].mtu), (9000, 1500));
        assert_eq!(status.problem, None, "a changed MTU is no damage");
        assert!(matches!(h1.set_mtu(100), Err(LabError::Mtu(100))));
        h2.set_mtu(9000)?;
        udp_echo(h1, h2, h2.address.into(), 8000)?;

        h2.set_link(false)?;
        assert_eq!(Lab::status(lab.name())?.hosts[1].state, "down");
        h2.set_link(true)?;
        let deadline = Instant::now() + PATIENCE;
        while Lab::status(lab.name())?.hosts[1].state != "up" {
            assert!(Instant::now() < deadline, "the link does not come up again");
            thread::sleep(Duration::from_millis(5));
        }
        udp_echo(h1, h2, h2.address.into(), 10)?;
        udp_echo(h1, h2, h2.address6.into(), 10)?;
    }
    Ok(())
}

#[test]
fn up_and_down_can_be_repeated() -> Result {
    let named = Named::new("repeat");
    assert!(matches!(Lab::open(&named.0), Err(LabError::NoSuchLab(_))));
    assert!(matches!(Lab::status(&named.0), Err(LabError::NoSuchLab(_))));
    assert!(!Lab::down(&named.0)?);

    let lab = Lab::up(&named.config())?;
    assert_eq!(lab.change(), &Change::Created);
    let before = identity(lab.host(1))?;
    let mut sleeper = ChildGuard::spawn(lab.host(1).command("sleep").arg("1000"))?;
    let again = Lab::up(&named.config())?;
    assert_eq!(again.change(), &Change::Unchanged);
    assert_eq!(identity(again.host(1))?, before);
    assert!(sleeper.try_wait()?.is_none(), "an unchanged lab keeps its processes");

    let status = Lab::status(&named.0)?;
    assert_eq!(status.problem, None);
    assert_eq!(status.switch, None);
    assert_eq!(status.hosts.len(), 2);
    assert_eq!(status.hosts[0].state, "up");
    assert_eq!(status.hosts[0].xdp, None);
    assert_eq!(Lab::open(&named.0)?.hosts(), lab.hosts());

    assert!(Lab::down(&named.0)?);
    assert!(!Lab::down(&named.0)?);
    assert_eq!(namespaces(&named.0), BTreeSet::new());
    sleeper.wait()?;
    Ok(())
}

#[test]
fn a_different_lab_is_rebuilt() -> Result {
    let named = Named::new("differ");
    let base = named.config();
    Lab::up(&base)?;
    let variants = [
        LabConfig { mtu: 9000, ..base.clone() },
        LabConfig { queues: 1, ..base.clone() },
        LabConfig { hosts: 3, ..base.clone() },
        LabConfig { hosts: 5, ..base.clone() },
        LabConfig { hosts: 4, ..base.clone() },
        base.clone(),
    ];
    for config in &variants {
        let lab = Lab::up(config)?;
        assert!(matches!(lab.change(), Change::Rebuilt(_)), "{:?}", lab.change());
        assert_eq!(lab.hosts().len(), config.hosts);
        let expected = config.hosts + usize::from(config.hosts > 2);
        assert_eq!(namespaces(&named.0).len(), expected);
        udp_echo(lab.host(1), lab.host(2), lab.host(2).address.into(), 10)?;
    }
    Ok(())
}

/// Something that can happen to a lab, given the name of it.
type Damage = (&'static str, usize, fn(&str) -> Vec<String>);

#[test]
fn a_half_there_lab_is_noticed_and_repaired() -> Result {
    fn words(text: String) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }
    let damages: [Damage; 8] = [
        ("host 2 gone", 2, |lab| words(format!("netns delete {lab}-h2"))),
        ("host 1 gone", 2, |lab| words(format!("netns delete {lab}-h1"))),
        ("interface gone", 2, |lab| words(format!("-n {lab}-h1 link delete vh1"))),
        ("address gone", 2, |lab| words(format!("-n {lab}-h1 address delete 10.77.0.1/24 dev vh1"))),
        ("last host gone", 3, |lab| words(format!("netns delete {lab}-h3"))),
        ("switch gone", 3, |lab| words(format!("netns delete {lab}-switch"))),
        ("bridge gone", 3, |lab| words(format!("-n {lab}-switch link delete br0"))),
        ("port unplugged", 3, |lab| words(format!("-n {lab}-switch link set port2 nomaster"))),
    ];
    let named = Named::new("damaged");
    for (what, hosts, damage) in damages {
        let config = LabConfig { hosts, ..named.config() };
        Lab::up(&config)?;
        let status = Command::new("ip").args(damage(&named.0)).status()?;
        assert!(status.success(), "{what}");

        assert!(Lab::status(&named.0)?.problem.is_some(), "{what}");
        let error = Lab::open(&named.0).expect_err(what);
        assert!(matches!(error, LabError::Damaged { .. }), "{what}: {error}");

        let lab = Lab::up(&config)?;
        assert!(matches!(lab.change(), Change::Rebuilt(_)), "{what}: {:?}", lab.change());
        udp_echo(lab.host(1), lab.host(hosts), lab.host(hosts).address.into(), 10)?;
    }
    Ok(())
}

#[test]
fn a_name_without_a_namespace_behind_it_is_no_obstacle() -> Result {
    let named = Named::new("stale");
    // Makes the directory, if this is the first lab ever.
    drop(TempLab::new(&LabConfig::default())?);
    fs::write(format!("/run/netns/{}-h2", named.0), "")?;
    assert!(matches!(Lab::status(&named.0), Err(LabError::NoSuchLab(_))));
    let lab = Lab::up(&named.config())?;
    udp_echo(lab.host(1), lab.host(2), lab.host(2).address.into(), 10)?;
    Ok(())
}

#[test]
fn a_namespace_of_somebody_else_is_left_alone() -> Result {
    let name = format!("vmmctmp-{}-other", process::id());
    let namespace = format!("{name}-h1");
    assert!(Command::new("ip").args(["netns", "add", &namespace]).status()?.success());
    let config = LabConfig { name: name.clone(), ..LabConfig::default() };
    let results = [
        Lab::up(&config).map(drop),
        Lab::down(&name).map(drop),
        Lab::open(&name).map(drop),
        Lab::status(&name).map(drop),
    ];
    let still_there = namespaces(&name);
    assert!(Command::new("ip").args(["netns", "delete", &namespace]).status()?.success());
    for result in results {
        assert!(matches!(result, Err(LabError::NotOurs(other)) if other == namespace));
    }
    assert_eq!(still_there, BTreeSet::from([namespace]));
    Ok(())
}

#[test]
fn two_labs_do_not_see_each_other() -> Result {
    let labs = [TempLab::new(&LabConfig::default())?, TempLab::new(&LabConfig::default())?];
    let listeners = labs.each_ref().map(|lab| {
        let host = lab.host(2);
        host.enter(|| TcpListener::bind((host.address, 7000)))
    });
    for (lab, listener) in labs.iter().zip(listeners) {
        let listener = listener??;
        let address = listener.local_addr()?;
        let mut client = lab.host(1).enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
        client.write_all(lab.name().as_bytes())?;
        drop(client);
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        assert_eq!(text, lab.name());
    }
    let [first, second] = labs;
    drop(first);
    udp_echo(second.host(1), second.host(2), second.host(2).address.into(), 10)?;
    Ok(())
}

#[test]
fn many_threads_can_make_labs_at_once() {
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| TempLab::new(&LabConfig::default()).map(drop).unwrap());
        }
    });
}

#[test]
fn the_guard_removes_the_lab_and_its_processes_after_a_panic() -> Result {
    let mut name = String::new();
    let mut child = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = TempLab::new(&LabConfig { hosts: 3, ..LabConfig::default() }).unwrap();
        name = lab.name().to_owned();
        child = lab.host(2).command("sleep").arg("1000").spawn().ok();
        assert_eq!(namespaces(&name).len(), 4);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(namespaces(&name), BTreeSet::new());
    let status = child.expect("sleep was started").wait()?;
    assert!(!status.success(), "{status}");
    Ok(())
}

#[test]
fn a_process_that_ignores_sigterm_is_killed() -> Result {
    let named = Named::new("stubborn");
    let lab = Lab::up(&named.config())?;
    let mut child = lab
        .host(1)
        .command("sh")
        .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0; 6];
    child.stdout.take().expect("it is piped").read_exact(&mut ready)?;
    let processes = &Lab::status(&named.0)?.hosts[0].processes;
    assert!(processes.iter().any(|process| process.pid == child.id() as i32), "{processes:?}");
    assert!(Lab::down(&named.0)?);
    assert!(!child.wait()?.success());
    Ok(())
}

#[test]
fn a_temporary_lab_whose_owner_was_killed_is_removed_by_the_next() -> Result {
    // The process id of a process that has ended and been waited for.
    let mut owner = Command::new("true").spawn()?;
    owner.wait()?;
    let name = format!("vmmctmp-{}-1", owner.id());
    Lab::up(&LabConfig { name: name.clone(), ..LabConfig::default() })?;
    drop(TempLab::new(&LabConfig::default())?);
    assert_eq!(namespaces(&name), BTreeSet::new());

    // It may have been killed before it could mark a namespace as the lab's.
    Lab::up(&LabConfig { name: name.clone(), ..LabConfig::default() })?;
    for host in ["h2", "h3"] {
        let namespace = format!("{name}-{host}");
        let _ = Command::new("ip").args(["netns", "delete", &namespace]).output()?;
        assert!(Command::new("ip").args(["netns", "add", &namespace]).status()?.success());
    }
    drop(TempLab::new(&LabConfig::default())?);
    assert_eq!(namespaces(&name), BTreeSet::new());
    Ok(())
}

#[test]
fn a_signal_removes_temporary_labs() -> Result {
    const CHILD: &str = "VMMC_LAB_TEST_CHILD";
    // This program starts itself once more, with only this test, as the one to be signalled.
    if std::env::var_os(CHILD).is_some() {
        down_on_signal()?;
        let lab = TempLab::new(&LabConfig::default())?;
        println!("\nlab {}", lab.name());
        thread::sleep(PATIENCE);
        return Err("no signal came".into());
    }
    for signal in ["INT", "TERM"] {
        let mut child = ChildGuard::spawn(
            Command::new(std::env::current_exe()?)
                .args(["--exact", "a_signal_removes_temporary_labs", "--nocapture"])
                .env(CHILD, "1")
                .stdout(Stdio::piped()),
        )?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let name = output
            .lines()
            .find_map(|line| Some(line.ok()?.strip_prefix("lab ")?.to_owned()))
            .expect("the child names its lab");
        assert_eq!(namespaces(&name).len(), 2);
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status()?.success());
        assert_eq!(child.wait()?.code(), Some(130));
        assert_eq!(namespaces(&name), BTreeSet::new());
    }
    Ok(())
}

#[test]
fn a_child_guard_kills_what_it_started() -> Result {
    let lab = TempLab::new(&LabConfig::default())?;
    let child = ChildGuard::spawn(lab.host(1).command("sleep").arg("1000"))?;
    let pid = child.id();
    assert!(fs::exists(format!("/proc/{pid}"))?);
    drop(child);
    assert!(!fs::exists(format!("/proc/{pid}"))?);
    Ok(())
}

#[test]
fn a_panic_inside_a_host_is_passed_on() -> Result {
    let lab = TempLab::new(&LabConfig::default())?;
    let result = catch_unwind(AssertUnwindSafe(|| lab.host(1).enter(|| panic!("inside"))));
    let payload = result.expect_err("the closure panicked");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"inside"));
    Ok(())
}

#[test]
fn the_bridge_s_port_of_a_host_can_be_entered() -> Result {
    let lab = TempLab::new(&LabConfig { hosts: 3, ..LabConfig::default() })?;
    for host in lab.hosts() {
        let carrier = |port: &str| Command::new("ip").args(["-json", "link", "show", "dev", port]).output();
        let output = host.enter_port(carrier)??;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success() && text.contains("\"master\":\"br0\""), "{text}");
    }
    let pair = TempLab::new(&LabConfig::default())?;
    let error = pair.host(1).enter_port(|_| ()).unwrap_err();
    assert!(matches!(&error, LabError::NoSwitch(host) if host == "h1"), "{error}");
    Ok(())
}

#[test]
fn entering_a_lab_that_is_gone_is_an_error() -> Result {
    let lab = TempLab::new(&LabConfig::default())?;
    let host = lab.host(1).clone();
    drop(lab);
    let error = host.enter(|| ()).expect_err("the namespace is gone");
    assert!(error.to_string().contains(&host.namespace), "{error}");
    assert!(matches!(host.set_mtu(1500), Err(LabError::Command { .. })));
    Ok(())
}

#[test]
fn a_lab_leaves_the_rest_of_the_system_alone() -> Result {
    let interfaces = || -> Result<BTreeSet<_>> {
        Ok(fs::read_dir("/sys/class/net")?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<_>>()?)
    };
    let before = interfaces()?;
    let named = Named::new("traces");
    Lab::up(&LabConfig { hosts: 3, ..named.config() })?;
    assert_eq!(interfaces()?, before, "interfaces exist inside the namespaces only");
    Lab::down(&named.0)?;
    assert_eq!(interfaces()?, before);
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    assert!(!mounts.contains(&named.0), "{mounts}");
    Ok(())
}

#[test]
fn bad_names_and_numbers_are_refused_before_anything_is_done() {
    let base = LabConfig::default();
    for bad in [
        LabConfig { name: "a/b".into(), ..base.clone() },
        LabConfig { hosts: 1, ..base.clone() },
        LabConfig { mtu: 70000, ..base.clone() },
        LabConfig { queues: 0, ..base },
    ] {
        assert!(Lab::up(&bad).is_err(), "{bad:?}");
    }
    assert!(matches!(Lab::down("../etc"), Err(LabError::Name(_))));
}
