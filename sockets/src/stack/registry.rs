//! The stacks that `VmmcListener::bind` and `VmmcStream::connect` use, which aren't told which: one for each interface, opened when it is first wanted.
//!
//! They live until the program ends. What was sent last is then still on its way, and with TCP the kernel would see to it; here the last thread that
//! knows of them waits, for a second at the most, until it has arrived.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use vmmc::route::{Interface, RouteError, Routes};

use super::{Stack, StackBuilder};
use crate::error::from_node;
use crate::wait::lock;

/// How long what was sent last may take to arrive when the program ends.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Registry {
    /// By the name of the interface.
    stacks: HashMap<String, Stack>,
    /// What the program has said to use.
    chosen: Option<Stack>,
}

fn registry() -> &'static Mutex<Registry> {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(Mutex::default)
}

/// Dropped when its thread ends.
struct AtExit(Cell<bool>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if !self.0.get() || std::thread::current().name() != Some("main") {
            return;
        }
        let stacks: Vec<Stack> = {
            let registry = lock(registry());
            registry.stacks.values().chain(&registry.chosen).cloned().collect()
        };
        stacks.iter().for_each(|stack| stack.settle(LINGER));
    }
}

thread_local! {
    static AT_EXIT: AtExit = const { AtExit(Cell::new(false)) };
}

/// Has the thread that calls this wait at its end, if it is the last: stacks may be opened on its behalf by another.
pub(crate) fn settle_at_exit() {
    AT_EXIT.with(|exit| exit.0.set(true));
}

/// Makes a stack the one that is used for everything.
pub(super) fn choose(stack: &Stack) {
    settle_at_exit();
    lock(registry()).chosen = Some(stack.clone());
}

/// What a stack is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// To be reached at this address, which may be the unspecified one.
    Local(IpAddr),
    /// To reach this one.
    Remote(IpAddr),
}

/// The process-wide stack for an address.
///
/// # Errors
/// When there is no interface for it, or it can't be opened.
pub(crate) fn stack_for(wanted: Wanted) -> io::Result<Stack> {
    settle_at_exit();
    if let Some(chosen) = &lock(registry()).chosen {
        return Ok(chosen.clone());
    }
    let (interface, address) = choose_interface(wanted)?;
    // Whoever comes meanwhile waits: there is one stack to an interface.
    let mut registry = lock(registry());
    // One whose node has failed is of no use any more: perhaps the interface is back.
    if let Some(stack) = registry.stacks.get(&interface.name).filter(|stack| stack.inner().failure().is_none()) {
        return Ok(stack.clone());
    }
    let mut builder = StackBuilder::new().interface(&interface.name);
    if let Some(address) = address {
        builder = builder.address(address);
    }
    if let Some(port) = variable("VMMC_PORT")? {
        let udp_port = port.parse().ok().filter(|port| *port > 0);
        let udp_port = udp_port.ok_or_else(|| invalid(format!("VMMC_PORT is {port:?}, and may be 1 to 65535")))?;
        builder = builder.port(udp_port);
    }
    registry.stacks.remove(&interface.name);
    let stack = builder.open()?;
    registry.stacks.insert(interface.name.clone(), stack.clone());
    Ok(stack)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn variable(name: &str) -> io::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(invalid(format!("{name} isn't Unicode"))),
    }
}

/// The interface that an address belongs to, or that leads to it, and which of its addresses to use, if that matters.
fn choose_interface(wanted: Wanted) -> io::Result<(Interface, Option<IpAddr>)> {
    let route = |error: RouteError| from_node(error.into());
    let mut routes = Routes::open().map_err(route)?;
    if let Some(name) = variable("VMMC_INTERFACE")? {
        let interface = routes.interface(&name).map_err(route)?;
        let own = match wanted {
            Wanted::Local(address) if interface.addresses.iter().any(|(own, _)| *own == address) => Some(address),
            _ => None,
        };
        return Ok((interface, own));
    }
    let mut all = Vec::new();
    for name in routes.names().map_err(route)? {
        // Those that are no Ethernet ports, or have gone meanwhile, aren't meant.
        all.extend(routes.interface(&name).ok().filter(|interface| interface.default_address().is_ok()));
    }
    let names = || all.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(", ");
    match wanted {
        Wanted::Local(address) if !address.is_unspecified() => {
            let found = all.iter().find(|interface| interface.addresses.iter().any(|(own, _)| *own == address));
            let text =
                || format!("no Ethernet interface has the address {address}: those with addresses are: {}", names());
            found
                .map(|interface| (interface.clone(), Some(address)))
                .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, text()))
        }
        Wanted::Local(_) => match &all[..] {
            [one] => Ok((one.clone(), None)),
            _ => Err(invalid(format!(
                "which interface to listen on? Bind to the address of one, or set VMMC_INTERFACE: those with addresses are: {}",
                names()
            ))),
        },
        Wanted::Remote(peer) => {
            let own = all.iter().find(|interface| interface.addresses.iter().any(|(own, _)| *own == peer));
            if let Some(interface) = own {
                return Ok((interface.clone(), Some(peer)));
            }
            let mut last = None;
            for interface in &all {
                let sources =
                    interface.addresses.iter().map(|(own, _)| *own).filter(|own| own.is_ipv4() == peer.is_ipv4());
                for source in sources {
                    match routes.next_hop(interface, source, peer) {
                        Ok(_) => return Ok((interface.clone(), Some(source))),
                        Err(error) => last = Some(error),
                    }
                }
            }
            Err(match last {
                Some(error) => route(error),
                None => io::Error::new(
                    io::ErrorKind::NetworkUnreachable,
                    format!("no Ethernet interface leads to {peer}: those with addresses are: {}", names()),
                ),
            })
        }
    }
}
