//! The bulk lane: whether a node would have one here, and why not.
//!
//! One check for whether there is a lane, which names the first thing in its way, and one for whether the NIC itself would read and write the arena. Without
//! a lane a node runs all the same, and copies large transfers once at either end: so most of this is a note.

use vmmc::DEFAULT_PORT;
use vmmc::node::{Origin, THRESHOLDS_ENV};
use vmmc::port::eager::{MAX_QUEUES, SINGLE_FRAME_MTU, pinned_bytes};
use xdp_prog::Features;

use super::interface::resized;
use super::machine::{MULTI_BUFFER, raise};
use super::{Check, Verdict, bytes, queues};
use crate::doctor::facts::{Machine, PortFacts, Switch};

const NAME: &str = "bulk lane";

/// A node's arena, unless it is told otherwise, bytes. The lane pins all of it.
const ARENA: u64 = 64 << 20;

/// Buffers of a packet that a driver must take for the lane to be zero-copy: one for the headers, two for a page's worth that begins anywhere.
const ZERO_COPY_SEGMENTS: u32 = 3;

/// Where packets to the node's bulk port arrive: the UDP port after its own.
const PORT: u16 = DEFAULT_PORT + 1;

/// Whether a node has a bulk lane here.
pub(super) fn lane(m: &Machine, port: &PortFacts, mtu: u32) -> Check {
    let name = &port.name;
    let n = port.rx_queues.min(port.tx_queues);
    let last = n.saturating_sub(1);
    let note = |found: String, mend: String| Check::new(NAME, Verdict::Note, format!("none: {found}"), mend);
    if !m.has(MULTI_BUFFER) {
        let found = "it needs AF_XDP multi-buffer, which Linux has had since 6.6".to_owned();
        return note(found, "install kernel 6.6 or later".to_owned());
    }
    if n < 2 {
        let PortFacts { rx_queues, tx_queues, .. } = *port;
        let all = match rx_queues == tx_queues {
            true => format!("{} in all", queues(n.max(1))),
            false => format!("{} for receiving and {tx_queues} for sending", queues(rx_queues)),
        };
        let found = format!("it needs a queue of its own, and {name} has {all}");
        return match can_grow(port) {
            true => note(found, another_queue(port)),
            false => Check::without_mend(NAME, Verdict::Note, format!("none: {found}: it can have no more")),
        };
    }
    if n > MAX_QUEUES {
        return Check::without_mend(NAME, Verdict::Note, "none, as long as there are too many queues");
    }
    match port.features {
        None => {
            let found = "it needs native XDP, of which nothing is known here".to_owned();
            return note(found, format!("vmmc doctor {name} --try"));
        }
        Some(Features { native: false, .. }) => {
            let found = "none: it needs native XDP";
            let mend = super::interface::generic(port).mend;
            return Check { name: NAME, verdict: Verdict::Note, found: found.to_owned(), mend };
        }
        Some(Features { multi_buffer: false, .. }) if mtu as usize > SINGLE_FRAME_MTU => {
            let found = format!("it needs native XDP, which the driver may refuse at an MTU of {mtu}");
            return note(found, format!("ip link set dev {name} mtu 3000"));
        }
        Some(_) => {}
    }
    if let Some(check) = steering(port, last) {
        return check;
    }
    let needed = pinned_bytes(last) + ARENA;
    // What is too little for the eager lane has been told.
    let too_little = |limit: &u64| (pinned_bytes(n)..needed).contains(limit);
    if let Some(limit) = m.memlock.filter(too_little).filter(|_| !m.capabilities.ipc_lock) {
        let found = format!(
            "it pins the arena, {} unless told otherwise, and {} of locked memory are allowed",
            bytes(ARENA),
            bytes(limit)
        );
        return note(found, raise(needed));
    }
    Check::ok(NAME, format!("on queue {last}; pins the arena, {} unless told otherwise", bytes(ARENA)))
}

/// Which sends would take it, as long as no program says otherwise. With a table that can't be used no node with a lane opens.
pub(super) fn threshold(m: &Machine, mtu: u32) -> Check {
    const NAME: &str = "bulk threshold";
    let (table, origin) = match &m.thresholds {
        Ok(found) => found,
        Err(error) => {
            let mend = format!("vmmc-bench thresholds --write FILE, or unset {THRESHOLDS_ENV}");
            return Check::new(NAME, Verdict::Problem, error, mend);
        }
    };
    let source = match origin {
        Origin::BuiltIn => "built in; `vmmc-bench thresholds` finds out what is best here".to_owned(),
        file => format!("from {file}"),
    };
    let found = match table.at(mtu as usize) {
        Some(from) => format!("sends of {from} bytes and more take the lane at MTU {mtu} ({source})"),
        None => match table.least_mtu().filter(|&least| least > mtu as usize) {
            Some(least) => format!("no send takes the lane at MTU {mtu}, but from {least} on ({source})"),
            None => format!("no send takes the lane at MTU {mtu} ({source})"),
        },
    };
    Check::ok(NAME, found)
}

/// Whether there is a way to more queues: on a NIC that says how many it can have, that isn't more than one; of a veth pair another can be made.
fn can_grow(port: &PortFacts) -> bool {
    let Some(channels) = port.ethtool.channels.filter(|_| port.kind.is_none()) else { return true };
    let apart = channels.rx.zip(channels.tx).map(|(rx, tx)| rx.min(tx));
    channels.combined.max(apart).is_none_or(|most| most > 1)
}

/// How to get one more queue.
fn another_queue(port: &PortFacts) -> String {
    let name = &port.name;
    let channels = port.ethtool.channels.unwrap_or_default();
    match (port.kind.as_deref(), channels.rx.zip(channels.tx)) {
        (Some("veth"), most) if most.is_none_or(|(rx, tx)| rx.min(tx) < 2) => {
            format!(
                "ip link add {name} numtxqueues 2 numrxqueues 2 type veth peer name PEER numtxqueues 2 numrxqueues 2"
            )
        }
        (Some("veth"), _) => format!("{}, and the same for its other end", resized(port, 2)),
        _ => resized(port, 2),
    }
}

/// Where a NIC chooses on which queue a packet arrives: what is not as it should be, the rest on all queues but the last, the lane's packets on that.
fn steering(port: &PortFacts, last: u32) -> Option<Check> {
    // A veth pair's packets arrive on the queue they were sent on.
    if port.kind.is_some() {
        return None;
    }
    let name = &port.name;
    if port.ethtool.hash_last.is_some_and(|queue| queue >= last) {
        let found =
            format!("none: it needs queue {last} for itself, and the hash spreads other packets over that, too");
        return Some(Check::new(NAME, Verdict::Note, found, format!("ethtool -X {name} equal {last}")));
    }
    if port.ethtool.bulk_filter == Some(last) {
        return None;
    }
    let found = format!("no filter steers its packets, those to UDP port {PORT}, to queue {last}: they don't reach it");
    let filter = format!("ethtool -N {name} flow-type udp4 dst-port {PORT} action {last}");
    Some(match port.ethtool.features.get("ntuple-filters") {
        Some(Switch { on: false, fixed: true }) => {
            Check::without_mend(NAME, Verdict::Warning, format!("{found}; this NIC has no filters"))
        }
        Some(Switch { on: false, .. }) => {
            Check::new(NAME, Verdict::Warning, found, format!("ethtool -K {name} ntuple on && {filter}"))
        }
        _ => Check::new(NAME, Verdict::Warning, found, filter),
    })
}

/// Whether the NIC reads and writes the arena itself, where there is a lane and its driver can.
pub(super) fn zero_copy(m: &Machine, port: &PortFacts) -> Option<Check> {
    const NAME: &str = "bulk zero-copy";
    let features = port.features.filter(|_| port.has_zero_copy())?;
    let segments = features.zero_copy_segments;
    if segments < ZERO_COPY_SEGMENTS {
        let found = format!(
            "no: the driver takes packets of {segments} buffer{} at the most, so the kernel copies each packet once",
            if segments == 1 { "" } else { "s" }
        );
        return Some(Check::ok(NAME, found));
    }
    let huge = m.huge_pages.unwrap_or(0);
    if huge < ARENA {
        let found = format!("no: the arena would have to be in huge pages, and {} of these are set aside", bytes(huge));
        // One more for what the lane takes for itself.
        let mend = format!("sysctl -w vm.nr_hugepages={}", (ARENA >> 21) + 1);
        return Some(Check::new(NAME, Verdict::Note, found, mend));
    }
    Some(Check::ok(NAME, format!("yes, with the arena in huge pages, of which {} are set aside", bytes(huge))))
}
