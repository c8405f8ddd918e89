//! One host of a lab, and how to run something on it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

use crate::LabError;
use crate::config::{self, host_namespace, switch_namespace, switch_port};
use crate::ip::{self, ip};

/// A host of a lab: a network namespace with one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Its number, from 1.
    pub number: usize,
    /// Its name within the lab: `h1`.
    pub name: String,
    /// Its network namespace: `vmmc-h1`.
    pub namespace: String,
    /// Its interface in that namespace: `vh1`.
    pub interface: String,
    /// Its IPv4 address, 10.77.0.N; the prefix length is 24.
    pub address: Ipv4Addr,
    /// Its IPv6 address, fd77::N; the prefix length is 64.
    pub address6: Ipv6Addr,
    /// The MAC address of its interface.
    pub mac: [u8; 6],
    /// The namespace and the interface of the bridge's port it is plugged into.
    port: Option<(String, String)>,
}

impl Host {
    pub(crate) fn new(lab: &str, number: usize, has_switch: bool) -> Self {
        Self {
            number,
            name: format!("h{number}"),
            namespace: host_namespace(lab, number),
            interface: config::interface(number),
            address: config::address(number),
            address6: config::address6(number),
            mac: config::mac(number),
            port: has_switch.then(|| (switch_namespace(lab), switch_port(number))),
        }
    }

    /// A command that runs `program` on this host.
    ///
    /// It is `ip netns exec`, which becomes the program itself: the child's process id, exit status
    /// and signals are the program's. `/sys` shows the host's own interfaces. A child that is to end
    /// with its parent is started by [`ChildGuard::spawn`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // If `ip` isn't installed the error comes when the command is started.
        let mut command = Command::new(ip::program().unwrap_or_else(|_| "ip".into()));
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Runs `f` on this host, on a thread made for it, and waits for its result.
    ///
    /// Sockets opened by `f` belong to the host for good, wherever they are used afterwards; threads
    /// and processes started by `f` run on it. `/sys/class/net` still shows the interfaces of the
    /// calling process: only a [`command`](Self::command) sees the host's there. A panic of `f` is
    /// passed on.
    ///
    /// # Errors
    ///
    /// [`LabError::NotRoot`], or [`LabError::File`] and [`LabError::Enter`] when the namespace is gone.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        ip::enter(&self.namespace, f)
    }

    /// Runs `f` where the bridge is, with the name of the port that this host is plugged into, on a thread made for
    /// it, and waits for its result. There `f` can put something in the way of what the host sends.
    ///
    /// # Errors
    ///
    /// [`LabError::NoSwitch`] in a lab of two hosts, and those of [`enter`](Self::enter).
    pub fn enter_port<T: Send>(&self, f: impl FnOnce(&str) -> T + Send) -> Result<T, LabError> {
        let (switch, port) = self.port.as_ref().ok_or_else(|| LabError::NoSwitch(self.name.clone()))?;
        ip::enter(switch, || f(port))
    }

    /// Switches the interface on or off. Off, the other end of the veth pair loses its carrier.
    ///
    /// # Errors
    ///
    /// [`LabError::NotRoot`] or [`LabError::Command`].
    pub fn set_link(&self, up: bool) -> Result<(), LabError> {
        ip::need_root("switching an interface on or off")?;
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.namespace, "link", "set", &self.interface, state])?;
        if up {
            // Going down took the IPv6 address with it.
            let address = format!("{}/64", self.address6);
            let interface = &self.interface;
            ip(&["-n", &self.namespace, "address", "replace", &address, "dev", interface, "nodad"])?;
        }
        Ok(())
    }

    /// Sets the MTU of the interface and, where there is a switch, of the port it is plugged into.
    /// The other hosts keep theirs.
    ///
    /// # Errors
    ///
    /// [`LabError::Mtu`] outside [`MIN_MTU`](crate::MIN_MTU) to [`MAX_MTU`](crate::MAX_MTU),
    /// [`LabError::NotRoot`] or [`LabError::Command`].
    pub fn set_mtu(&self, mtu: u32) -> Result<(), LabError> {
        config::check_mtu(mtu)?;
        ip::need_root("changing an interface's MTU")?;
        let mtu = mtu.to_string();
        ip(&["-n", &self.namespace, "link", "set", &self.interface, "mtu", &mtu])?;
        if let Some((switch, port)) = &self.port {
            ip(&["-n", switch, "link", "set", port, "mtu", &mtu])?;
        }
        Ok(())
    }
}

/// A child process that is killed (SIGKILL) and waited for when this is dropped.
#[derive(Debug)]
pub struct ChildGuard(Option<Child>);

impl ChildGuard {
    /// Starts the command.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(|child| Self(Some(child)))
    }

    /// Gives the child up: it is no longer killed.
    pub fn into_child(mut self) -> Child {
        self.0.take().expect(GONE)
    }
}

const GONE: &str = "the child is there until into_child consumes the guard";

impl Deref for ChildGuard {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect(GONE)
    }
}

impl DerefMut for ChildGuard {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect(GONE)
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only if it has ended and been waited for already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
