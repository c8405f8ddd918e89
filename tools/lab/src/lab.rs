//! Making, finding and removing labs.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::config::{self, LabConfig, check_name, host_namespace, switch_namespace, switch_port};
use crate::inspect::{BRIDGE, MARK, View, own_names, processes};
use crate::ip::{enter, ip, is_netns, need_root, sysctl};
use crate::turn::{self, Purpose};
use crate::{Host, LabError, LabStatus};

/// How long the kernel may take to report new interfaces as usable.
const READY_TIME: Duration = Duration::from_secs(10);
/// How long processes have to end by themselves after SIGTERM.
const TERM_TIME: Duration = Duration::from_secs(2);
/// How long they may take to end after SIGKILL.
const KILL_TIME: Duration = Duration::from_secs(10);

/// A lab that is up.
///
/// This is a handle: dropping it leaves the lab as it is.
#[derive(Clone, Debug)]
pub struct Lab {
    name: String,
    hosts: Vec<Host>,
    change: Change,
}

/// What [`Lab::up`] had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was no lab of that name.
    Created,
    /// There was one just like it, and it was left alone.
    Unchanged,
    /// There was one that differed, in this for example: it was removed and made anew.
    Rebuilt(String),
}

impl Lab {
    /// Makes a lab, or finds that it is there already.
    ///
    /// A lab of that name which differs from `config` in anything, or is only partly there, is
    /// removed as by [`down`](Self::down), processes included, and made anew. On return the
    /// interfaces are up and pass packets. When something fails, nothing is left behind.
    ///
    /// # Errors
    ///
    /// Those of [`LabConfig::check`], [`LabError::NotRoot`], [`LabError::IpNotInstalled`],
    /// [`LabError::NotOurs`], [`LabError::Command`], [`LabError::File`], [`LabError::Damaged`] when
    /// the interfaces don't get ready within ten seconds, [`LabError::Interrupted`], and those of [`down`](Self::down).
    pub fn up(config: &LabConfig) -> Result<Self, LabError> {
        config.check()?;
        need_root("creating a network namespace")?;
        let _turn = turn::take(Purpose::Make)?;

        let view = View::of(&config.name)?;
        let change = match view.difference(config) {
            None => Change::Unchanged,
            Some(_) if view.is_empty() => Change::Created,
            Some(difference) => Change::Rebuilt(difference),
        };
        if change != Change::Unchanged {
            remove(&config.name)?;
            build(config).and_then(|()| wait_until_ready(config)).inspect_err(|_| discard(&config.name))?;
        }
        Ok(Self::handle(&config.name, config.hosts, change))
    }

    /// Finds a lab that is up.
    ///
    /// # Errors
    ///
    /// [`LabError::NoSuchLab`]; [`LabError::Damaged`] if parts of it are missing;
    /// [`LabError::Name`], [`LabError::NotRoot`], [`LabError::IpNotInstalled`].
    pub fn open(name: &str) -> Result<Self, LabError> {
        let view = existing(name)?;
        match view.damage() {
            Some(problem) => Err(LabError::Damaged { name: name.into(), problem }),
            None => Ok(Self::handle(name, view.host_count(), Change::Unchanged)),
        }
    }

    /// Removes a lab and everything in it; says whether there was one.
    ///
    /// Processes in its namespaces get SIGTERM and, if they are still there after two seconds,
    /// SIGKILL. A process outside that has sockets inside keeps them, without any interface.
    ///
    /// # Errors
    ///
    /// [`LabError::Name`], [`LabError::NotRoot`], [`LabError::IpNotInstalled`],
    /// [`LabError::NotOurs`], [`LabError::Inside`], [`LabError::Stuck`] and [`LabError::Command`]; [`LabError::Busy`] when another process
    /// has been making or removing labs for a minute.
    pub fn down(name: &str) -> Result<bool, LabError> {
        check_name(name)?;
        need_root("removing a network namespace")?;
        let _turn = turn::take(Purpose::Remove)?;
        remove(name)
    }

    /// Says how a lab is, also when parts of it are missing.
    ///
    /// # Errors
    ///
    /// [`LabError::NoSuchLab`], [`LabError::Name`], [`LabError::NotRoot`],
    /// [`LabError::IpNotInstalled`].
    pub fn status(name: &str) -> Result<LabStatus, LabError> {
        existing(name)?.status()
    }

    fn handle(name: &str, hosts: usize, change: Change) -> Self {
        Self {
            name: name.into(),
            hosts: (1..=hosts).map(|number| Host::new(name, number, hosts > 2)).collect(),
            change,
        }
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What [`up`](Self::up) had to do for this lab.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// The hosts, number 1 first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Host `number`, counted from 1.
    ///
    /// # Panics
    ///
    /// If there is none; [`find`](Self::find) returns an error instead.
    pub fn host(&self, number: usize) -> &Host {
        assert!(
            (1..=self.hosts.len()).contains(&number),
            "lab {} has the hosts 1 to {}, not {number}",
            self.name,
            self.hosts.len()
        );
        &self.hosts[number - 1]
    }

    /// The host that a user calls `h1`, or just `1`.
    ///
    /// # Errors
    ///
    /// [`LabError::NoSuchHost`].
    pub fn find(&self, host: &str) -> Result<&Host, LabError> {
        self.hosts.iter().find(|known| known.name == host || known.number.to_string() == host).ok_or_else(|| {
            let names: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            LabError::NoSuchHost { lab: self.name.clone(), host: host.into(), hosts: names.join(", ") }
        })
    }
}

fn existing(name: &str) -> Result<View, LabError> {
    check_name(name)?;
    need_root("looking into a network namespace")?;
    let view = View::of(name)?;
    if view.is_empty() {
        return Err(LabError::NoSuchLab(name.into()));
    }
    view.check_ours()?;
    Ok(view)
}

fn build(config: &LabConfig) -> Result<(), LabError> {
    let lab = &config.name;
    let switch = switch_namespace(lab);
    let mtu = config.mtu.to_string();

    if config.has_switch() {
        add_namespace(&switch)?;
        // The switch forwards, and says nothing itself.
        sysctl(&switch, "ipv6.conf.all.disable_ipv6", "1")?;
        sysctl(&switch, "ipv6.conf.default.disable_ipv6", "1")?;
        // Without these a port would stay silent for 15 seconds, and multicast be filtered.
        let options = ["stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"];
        let add = ["-n", &switch, "link", "add", BRIDGE, "mtu", &mtu, "type", "bridge"];
        ip(&[add.as_slice(), &options].concat())?;
        ip(&["-n", &switch, "link", "set", BRIDGE, "up"])?;
    }
    for number in 1..=config.hosts {
        let namespace = host_namespace(lab, number);
        add_namespace(&namespace)?;
        sysctl(&namespace, "ipv6.conf.all.disable_ipv6", "0")?;
        // Addresses are usable at once, and nobody asks for routers.
        sysctl(&namespace, "ipv6.conf.all.accept_dad", "0")?;
        sysctl(&namespace, "ipv6.conf.default.accept_dad", "0")?;
        sysctl(&namespace, "ipv6.conf.default.accept_ra", "0")?;
        sysctl(&namespace, "ipv6.conf.default.router_solicitations", "0")?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    }
    if config.has_switch() {
        for number in 1..=config.hosts {
            let port = switch_port(number);
            add_veth(config, number, (&port, &switch), None)?;
            ip(&["-n", &switch, "link", "set", &port, "master", BRIDGE, "up"])?;
            if config.queues > 1 {
                enter(&switch, || xdp_prog::queues::keep(&port))?.map_err(LabError::Bridge)?;
            }
        }
    } else {
        let peer = (config::interface(2), host_namespace(lab, 2));
        add_veth(config, 1, (&peer.0, &peer.1), Some(2))?;
    }
    for number in 1..=config.hosts {
        let namespace = host_namespace(lab, number);
        let interface = config::interface(number);
        let address = format!("{}/24", config::address(number));
        let address6 = format!("{}/64", config::address6(number));
        ip(&["-n", &namespace, "address", "add", &address, "dev", &interface])?;
        ip(&["-n", &namespace, "address", "add", &address6, "dev", &interface, "nodad"])?;
        ip(&["-n", &namespace, "link", "set", &interface, "up"])?;
    }
    Ok(())
}

fn add_namespace(namespace: &str) -> Result<(), LabError> {
    ip(&["netns", "add", namespace])?;
    ip(&["-n", namespace, "link", "set", "lo", "alias", MARK])?;
    Ok(())
}

/// Adds a veth pair from host `number` to `peer` (an interface and its namespace), which is host
/// `peer_number` or a port of the switch. Both ends are born inside their namespaces, so that no
/// name can clash with another outside.
fn add_veth(config: &LabConfig, number: usize, peer: (&str, &str), peer_number: Option<usize>) -> Result<(), LabError> {
    let namespace = host_namespace(&config.name, number);
    let interface = config::interface(number);
    let (mtu, queues) = (config.mtu.to_string(), config.queues.to_string());
    let size = ["mtu", &mtu, "numtxqueues", &queues, "numrxqueues", &queues];
    let mac = config::mac_text(config::mac(number));

    let mut args = vec!["link", "add", &interface, "netns", &namespace, "address", &mac];
    args.extend(size);
    args.extend(["type", "veth", "peer", "name", peer.0, "netns", peer.1]);
    let peer_mac = peer_number.map(|number| config::mac_text(config::mac(number)));
    if let Some(mac) = &peer_mac {
        args.extend(["address", mac]);
    }
    args.extend(size);
    ip(&args).map(drop)
}

/// Waits until the kernel has told every interface that the other end is there too; until then it
/// would drop what is sent.
fn wait_until_ready(config: &LabConfig) -> Result<(), LabError> {
    // The kernel collects such news for up to a second; newer ones hurry when asked about a single
    // interface (not about all of them).
    for number in 1..=config.hosts {
        let namespace = host_namespace(&config.name, number);
        let interface = config::interface(number);
        ip(&["-n", &namespace, "link", "show", "dev", &interface])?;
    }
    let deadline = Instant::now() + READY_TIME;
    while let Some(problem) = View::of(&config.name)?.difference(config) {
        if Instant::now() > deadline {
            return Err(LabError::Damaged { name: config.name.clone(), problem });
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Removes what a failed attempt has made, even where namespaces can be made but not looked into.
/// The error to tell is the one that made it fail.
fn discard(lab: &str) {
    if remove(lab).is_err() {
        for name in own_names(lab).unwrap_or_default() {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn remove(lab: &str) -> Result<bool, LabError> {
    let names = own_names(lab)?;
    let view = View::of(lab)?;
    view.check_ours()?;
    for namespace in view.namespaces() {
        end_processes(&namespace.name)?;
    }
    for namespace in view.namespaces() {
        // The kernel takes namespaces down in its own time, and not while a socket is open in one.
        // The interfaces are gone when this returns.
        for interface in namespace.interfaces() {
            match ip(&["-n", &namespace.name, "link", "delete", interface]) {
                // The other end of a pair that is gone already.
                Err(LabError::Command { message, .. }) if message.contains("Cannot find device") => {}
                other => drop(other?),
            }
        }
    }
    for name in &names {
        ip(&["netns", "delete", name])?;
    }
    Ok(!names.is_empty())
}

fn end_processes(namespace: &str) -> Result<(), LabError> {
    let start = Instant::now();
    let mut signal = None;
    loop {
        let left = processes(namespace)?;
        if left.is_empty() || !is_netns(namespace) {
            return Ok(());
        }
        if left.iter().any(|found| found.pid == process::id().cast_signed()) {
            return Err(LabError::Inside(namespace.into()));
        }
        let due = match start.elapsed() {
            time if time < TERM_TIME => Signal::TERM,
            time if time < TERM_TIME + KILL_TIME => Signal::KILL,
            _ => {
                let pids: Vec<_> = left.iter().map(|found| found.pid.to_string()).collect();
                return Err(LabError::Stuck { namespace: namespace.into(), processes: pids.join(" ") });
            }
        };
        if signal != Some(due) || due == Signal::KILL {
            for pid in left.iter().filter_map(|found| Pid::from_raw(found.pid)) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, due);
            }
            signal = Some(due);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
