//! An interface: whether a node can be on it, and how it would run.

use vmmc::port::eager::{MAX_QUEUES, SINGLE_FRAME_MTU, pinned_bytes};
use vmmc::wire::MIN_MTU;
use xdp_prog::{Features, Holder};

use super::machine::{MULTI_BUFFER, raise};
use super::{Check, Diagnosis, Verdict, bulk, bytes, queues};
use crate::doctor::facts::{InterfaceFacts, Look, Machine, PortFacts, Switch};

/// Receive rings shorter than this overflow while a node sleeps for a moment.
const SHORT_RING: u32 = 512;

/// All checks of an interface.
pub(in crate::doctor) fn interface(m: &Machine, name: &str, look: &Look) -> Diagnosis {
    let only = |check| Diagnosis { name: name.to_owned(), checks: vec![check], forecast: None };
    let facts = match look {
        Look::Absent { existing } => {
            let found = format!("there is no interface {name} in this network namespace, only {existing}");
            return only(Check::new("interface", Verdict::Problem, found, "vmmc doctor"));
        }
        Look::NotEthernet { kind } => {
            let found = format!("{name} carries no Ethernet frames (it is of type {kind})");
            return only(Check::new("interface", Verdict::Problem, found, "vmmc doctor"));
        }
        Look::Unreadable { why } => {
            return only(Check::without_mend("interface", Verdict::Problem, why.clone()));
        }
        Look::Found(facts) => facts,
    };
    let mut checks = vec![up(facts), address(facts)];
    checks.extend([vlan(facts), membership(facts)].into_iter().flatten());
    let mut forecast = None;
    if let Ok(port) = &facts.port {
        let mtu = facts.mtu.min(port.mtu);
        checks.extend([hook(m, port), mode(port, mtu), binding(m, port, mtu), queue_count(m, port)]);
        let others = [device(port), rings(port), spreading(port), offloads(port), tags(facts, port), moderation(port)];
        checks.extend(others.into_iter().flatten());
        let lane = bulk::lane(m, port, mtu);
        forecast = Some(foresee(m, port, mtu, lane.verdict == Verdict::Ok));
        let zero_copy = bulk::zero_copy(m, port).filter(|_| lane.verdict == Verdict::Ok);
        let threshold = (lane.verdict == Verdict::Ok).then(|| bulk::threshold(m, mtu));
        checks.extend([Some(lane), threshold, zero_copy].into_iter().flatten());
    }
    Diagnosis { name: facts.name.clone(), checks, forecast }
}

fn up(facts: &InterfaceFacts) -> Check {
    const NAME: &str = "link";
    let name = &facts.name;
    if !facts.up {
        return Check::new(NAME, Verdict::Problem, format!("{name} is down"), format!("ip link set {name} up"));
    }
    if let Ok(port) = facts.port.as_ref().map(|port| &port.name).map_err(|_| ())
        && facts.port.as_ref().is_ok_and(|port| !port.up)
    {
        return Check::new(NAME, Verdict::Problem, format!("{port} is down"), format!("ip link set {port} up"));
    }
    let kind = facts.port.as_ref().ok().map(describe).unwrap_or_default();
    if !facts.carrier {
        let found = format!("{name} is up{kind}, without carrier: nobody can be reached");
        let mend = "plug the cable in, or set the other end up (of a veth pair: ip link set PEER up)";
        return Check::new(NAME, Verdict::Warning, found, mend);
    }
    Check::ok(NAME, format!("up, with carrier{kind}"))
}

/// ", driver veth".
fn describe(port: &PortFacts) -> String {
    let driver = port.ethtool.driver.as_ref().or(port.kind.as_ref());
    driver.map(|driver| format!(", driver {driver}")).unwrap_or_default()
}

fn address(facts: &InterfaceFacts) -> Check {
    const NAME: &str = "address";
    let name = &facts.name;
    let list = facts.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match facts.address {
        Some(address) if facts.addresses.len() == 1 => Check::ok(NAME, address.to_string()),
        Some(address) => Check::ok(NAME, format!("{address}, unless another is asked for: of {list}")),
        None => {
            let found = match facts.addresses.is_empty() {
                true => format!("{name} has no IP address"),
                false => format!("{name} has only link-local addresses: {list}"),
            };
            Check::new(NAME, Verdict::Problem, found, format!("ip addr add ADDRESS/PREFIX dev {name}"))
        }
    }
}

fn vlan(facts: &InterfaceFacts) -> Option<Check> {
    const NAME: &str = "VLAN";
    match (&facts.port, facts.vlan) {
        (Err((why, mend)), _) => {
            Some(Check { name: NAME, verdict: Verdict::Problem, found: why.clone(), mend: mend.clone() })
        }
        (Ok(port), Some(id)) => {
            Some(Check::ok(NAME, format!("{id}, on {}: what follows is about that port", port.name)))
        }
        (Ok(_), None) => None,
    }
}

fn membership(facts: &InterfaceFacts) -> Option<Check> {
    let (kind, controller) = facts.controller.as_ref()?;
    let name = &facts.name;
    let found = format!(
        "{name} belongs to the {kind} {controller}: addresses and routes are usually there, and what is for them doesn't reach a node here"
    );
    Some(Check::new("membership", Verdict::Warning, found, format!("ip link set {name} nomaster")))
}

fn hook(m: &Machine, port: &PortFacts) -> Check {
    const NAME: &str = "XDP hook";
    let Some(holder) = &port.holder else { return Check::ok(NAME, "free") };
    let whose = if holder.is_vmmc() { "another VMMC node" } else { "another program" };
    let found = format!("{whose} has {}: {holder}", port.name);
    Check::new(NAME, Verdict::Problem, found, detach(m, port, holder))
}

/// The command that frees the hook.
fn detach(m: &Machine, port: &PortFacts, holder: &Holder) -> String {
    let name = &port.name;
    let pids: Vec<_> = holder.processes.iter().map(|process| process.pid.to_string()).collect();
    match (holder.link_id, &pids[..]) {
        (None, _) if !m.capabilities.sys_admin => format!("sudo vmmc doctor {name} (only root sees whose it is)"),
        (None, _) => format!("ip link set dev {name} {} off", if holder.generic { "xdpgeneric" } else { "xdp" }),
        (Some(link), []) => format!("bpftool link detach id {link}"),
        (Some(_), pids) => format!("kill {}", pids.join(" ")),
    }
}

fn mode(port: &PortFacts, mtu: u32) -> Check {
    const NAME: &str = "XDP mode";
    let name = &port.name;
    let Some(features) = port.features else {
        let found = "not known: kernels before 6.3 don't say what drivers can do";
        return Check::new(NAME, Verdict::Note, found, format!("vmmc doctor {name} --try"));
    };
    match features {
        Features { native: false, .. } => generic(port),
        Features { multi_buffer: false, .. } if mtu as usize > SINGLE_FRAME_MTU => {
            let found = format!(
                "native, but not for packets of several buffers: at an MTU of {mtu} the driver may refuse it, and generic mode is \
                 used, which is slower"
            );
            Check::new(NAME, Verdict::Warning, found, format!("ip link set dev {name} mtu 3000"))
        }
        Features { multi_buffer: true, .. } => Check::ok(NAME, "native, also for packets of several buffers"),
        Features { multi_buffer: false, .. } => Check::ok(NAME, "native"),
    }
}

pub(super) fn generic(port: &PortFacts) -> Check {
    const NAME: &str = "XDP mode";
    let name = &port.name;
    let slower = "generic, which costs a socket buffer and a copy for every packet";
    if port.kind.as_deref() != Some("veth") {
        let found = format!("{slower}: the driver has no XDP, or not as it is configured now");
        return Check::without_mend(NAME, Verdict::Warning, found);
    }
    let found = format!(
        "{slower}: the other end of this veth pair sends on more queues than {name} has for receiving ({})",
        port.rx_queues
    );
    let most = port.ethtool.channels.and_then(|channels| channels.rx).filter(|&most| most > port.rx_queues);
    let mend = match most {
        Some(most) => format!("ethtool -L {name} rx {most}"),
        None => format!("ethtool -L PEER tx {}, where the other end is", port.rx_queues),
    };
    Check::new(NAME, Verdict::Warning, found, mend)
}

/// How AF_XDP sockets will share packets with the driver: whether without copies, and whether in several frames.
fn expected(m: &Machine, port: &PortFacts, mtu: u32) -> Option<(bool, bool)> {
    let features = port.features?;
    let segments = features.zero_copy_segments > 1;
    let zero_copy = port.has_zero_copy() && (segments || mtu as usize <= SINGLE_FRAME_MTU);
    Some((zero_copy, if zero_copy { segments } else { m.has(MULTI_BUFFER) }))
}

fn binding(m: &Machine, port: &PortFacts, mtu: u32) -> Check {
    const NAME: &str = "MTU, sockets";
    let name = &port.name;
    let long = mtu as usize > SINGLE_FRAME_MTU;
    if (mtu as usize) < MIN_MTU {
        let found = format!("MTU {mtu}, and a node needs {MIN_MTU}");
        return Check::new(NAME, Verdict::Problem, found, format!("ip link set dev {name} mtu 1500"));
    }
    if long && !m.has(MULTI_BUFFER) {
        let found = format!("MTU {mtu} needs AF_XDP multi-buffer, which Linux has had since 6.6");
        return Check::new(NAME, Verdict::Problem, found, format!("ip link set dev {name} mtu {SINGLE_FRAME_MTU}"));
    }
    match expected(m, port, mtu) {
        None => {
            let found = format!("MTU {mtu}; whether packets are copied is not known");
            Check::new(NAME, Verdict::Note, found, format!("vmmc doctor {name} --try"))
        }
        Some((true, _)) => Check::ok(NAME, format!("MTU {mtu}, zero-copy")),
        Some((false, _)) if port.has_zero_copy() => {
            let found = format!(
                "MTU {mtu}, copy mode: the driver has zero-copy, but not for packets of several frames, which an MTU above \
                 {SINGLE_FRAME_MTU} needs"
            );
            Check::new(NAME, Verdict::Note, found, format!("ip link set dev {name} mtu {SINGLE_FRAME_MTU}"))
        }
        Some((false, _)) => Check::ok(NAME, format!("MTU {mtu}, copy mode (AF_XDP zero-copy is not to be had)")),
    }
}

/// The command that gives a port so many queues.
pub(super) fn resized(port: &PortFacts, n: u32) -> String {
    let name = &port.name;
    match port.ethtool.channels.unwrap_or_default() {
        channels if channels.combined.is_none() && channels.rx.is_some() => format!("ethtool -L {name} rx {n} tx {n}"),
        _ => format!("ethtool -L {name} combined {n}"),
    }
}

fn queue_count(m: &Machine, port: &PortFacts) -> Check {
    const NAME: &str = "queues";
    let n = port.rx_queues.max(1);
    let fewer = |n: u32| resized(port, n);
    if n > MAX_QUEUES {
        let found = format!("{}, and a node can have {MAX_QUEUES}", queues(n));
        return Check::new(
            NAME,
            Verdict::Problem,
            found,
            format!("{} (or give the node one: --queue 0)", fewer(MAX_QUEUES)),
        );
    }
    let needed = pinned_bytes(n);
    // What one queue needs is a matter of the machine.
    let enough_for_one = |limit: &u64| (pinned_bytes(1)..needed).contains(limit);
    if let Some(limit) = m.memlock.filter(enough_for_one).filter(|_| !m.capabilities.ipc_lock) {
        let found = format!("{} take {} of locked memory, and {} are allowed", queues(n), bytes(needed), bytes(limit));
        return Check::new(NAME, Verdict::Problem, found, format!("{} (or {})", fewer(1), raise(needed)));
    }
    let sending =
        if port.tx_queues == port.rx_queues { String::new() } else { format!(" ({} for sending)", port.tx_queues) };
    let found = format!("{}{sending}, {} of packet memory", queues(n), bytes(needed));
    if n as usize > m.cores {
        let found = format!("{found}: more than the {} cores, and the node looks at each in every turn", m.cores);
        return Check::new(NAME, Verdict::Note, found, fewer(1));
    }
    Check::ok(NAME, found)
}

/// What is known of particular drivers.
fn device(port: &PortFacts) -> Option<Check> {
    const NAME: &str = "driver";
    let note = |found: &str, mend: &str| Some(Check::new(NAME, Verdict::Note, found, mend));
    match port.ethtool.driver.as_deref()? {
        "igb" | "igc" | "ixgbe" | "i40e" | "ice" => note(
            "it may reset the link for up to 3 s when a node opens or closes: what is sent to it meanwhile is lost",
            "open the node before others look for it, or raise their Builder::connect_timeout",
        ),
        "virtio_net" if port.virtio_iommu == Some(false) => note(
            "it has zero-copy, but only where the host gives it an IOMMU, which this one doesn't: a node gets copy mode",
            "on the host, QEMU's -device virtio-net-pci,iommu_platform=on",
        ),
        "bridge" | "bonding" | "team" | "macvlan" | "ipvlan" | "tun" => Some(Check::new(
            NAME,
            Verdict::Warning,
            "a node on a port of this kind hasn't been tried: it may hear nothing",
            "vmmc doctor",
        )),
        _ => None,
    }
}

fn rings(port: &PortFacts) -> Option<Check> {
    const NAME: &str = "receive ring";
    let (now, most) = port.ethtool.rx_ring?;
    let found = format!("{now} of {most} entries");
    if now < SHORT_RING && now < most {
        let found = format!("{found}: a burst overflows it while the node sleeps");
        return Some(Check::new(NAME, Verdict::Note, found, format!("ethtool -G {} rx {most}", port.name)));
    }
    Some(Check::ok(NAME, found))
}

/// Where there are several queues, which one a packet arrives on.
fn spreading(port: &PortFacts) -> Option<Check> {
    const NAME: &str = "hash, filters";
    if port.rx_queues <= 1 {
        return None;
    }
    let name = &port.name;
    let hash = port.ethtool.hash_queues.map(|n| format!("the hash spreads flows over {}; ", queues(n)));
    let hash = hash.unwrap_or_default();
    match port.ethtool.features.get("ntuple-filters")? {
        Switch { on: true, .. } => {
            Some(Check::ok(NAME, format!("{hash}filters are on: a node's packets can be steered to one queue")))
        }
        Switch { fixed: false, .. } => {
            let found = format!("{hash}filters are off: they could steer a node's packets to one queue");
            Some(Check::new(NAME, Verdict::Note, found, format!("ethtool -K {name} ntuple on")))
        }
        Switch { fixed: true, .. } => Some(Check::ok(
            NAME,
            format!("{hash}no filters: the node listens on all queues but the bulk lane's, as it would anyway"),
        )),
    }
}

fn offloads(port: &PortFacts) -> Option<Check> {
    const NAME: &str = "offloads";
    let name = &port.name;
    if port.ethtool.is_on("large-receive-offload") {
        let found =
            "large-receive-offload is on: some drivers refuse native XDP then, others merge packets that belong apart";
        return Some(Check::new(NAME, Verdict::Warning, found, format!("ethtool -K {name} lro off")));
    }
    port.ethtool.is_on("rx-gro-hw").then(|| {
        let found = "rx-gro-hw is on: most drivers turn it off for XDP, some refuse native mode";
        Check::new(NAME, Verdict::Note, found, format!("ethtool -K {name} rx-gro-hw off"))
    })
}

/// Tags that the NIC takes off. For a node in a VLAN that is an obstacle, and told there.
fn tags(facts: &InterfaceFacts, port: &PortFacts) -> Option<Check> {
    let takes_off = facts.vlan.is_none() && port.kind.is_none() && port.ethtool.is_on("rx-vlan-offload");
    let found =
        "rx-vlan-offload is on: a node that is in no VLAN gets the packets of all VLANs that are for its address";
    let fixed = port.ethtool.features.get("rx-vlan-offload").is_some_and(|switch| switch.fixed);
    takes_off.then(|| match fixed {
        true => Check::without_mend("VLAN tags", Verdict::Note, format!("{found}; it can't be turned off")),
        false => Check::new("VLAN tags", Verdict::Note, found, format!("ethtool -K {} rxvlan off", port.name)),
    })
}

fn moderation(port: &PortFacts) -> Option<Check> {
    const NAME: &str = "moderation";
    let (usecs, adaptive) = (port.ethtool.rx_usecs, port.ethtool.adaptive_rx);
    if usecs.is_none() && adaptive.is_none() {
        return None;
    }
    if usecs.unwrap_or(0) == 0 && adaptive != Some(true) {
        return Some(Check::ok(NAME, "interrupts come at once"));
    }
    let how = if adaptive == Some(true) { "adaptively".to_owned() } else { format!("by {} us", usecs.unwrap_or(0)) };
    let found = format!("interrupts are delayed {how}: packets wait");
    let mend = format!("ethtool -C {} adaptive-rx off rx-usecs 0 tx-usecs 0", port.name);
    Some(Check::new(NAME, Verdict::Note, found, mend))
}

/// How a node would run.
fn foresee(m: &Machine, port: &PortFacts, mtu: u32, bulk: bool) -> String {
    let mode = match port.features {
        None => "XDP native or generic",
        Some(Features { native: true, .. }) => "native XDP",
        Some(_) => "generic XDP",
    };
    let copies = match expected(m, port, mtu) {
        None => "zero-copy or copy mode",
        Some((true, _)) => "zero-copy",
        Some((false, _)) => "copy mode",
    };
    let bulk = if bulk { ", bulk lane" } else { "" };
    format!("{mode}, {copies}, {}{bulk}", queues(port.rx_queues.max(1)))
}
