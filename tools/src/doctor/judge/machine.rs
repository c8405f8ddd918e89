//! The machine: kernel, privileges, memory.

use vmmc::port::eager::{SINGLE_FRAME_MTU, pinned_bytes};

use super::{Check, Verdict, bytes, missing};
use crate::doctor::facts::{Machine, Trial};

/// The oldest kernel that runs the steering program: XDP programs for packets of several buffers.
const OLDEST: (u32, u32) = (5, 18);
/// AF_XDP sockets that take packets of several frames.
pub(super) const MULTI_BUFFER: (u32, u32) = (6, 6);
/// Below this, a node and its default arena of 64 MiB are tight.
const LITTLE_MEMORY: u64 = 256 << 20;

/// All checks of the machine.
pub(in crate::doctor) fn machine(m: &Machine) -> Vec<Check> {
    let checks = [
        Some(kernel(m)),
        Some(privileges(m)),
        Some(sockets(m)),
        Some(program(m)),
        jit(m),
        Some(locked_memory(m)),
        memory(m),
        processors(m),
        ethtool(m),
    ];
    checks.into_iter().flatten().collect()
}

fn kernel(m: &Machine) -> Check {
    const NAME: &str = "kernel";
    let found = format!("Linux {} on {}", m.release, m.architecture);
    if !m.has(OLDEST) {
        let found = format!("{found}: a node needs {}.{}", OLDEST.0, OLDEST.1);
        return Check::new(NAME, Verdict::Problem, found, "install a newer kernel (any MTU: 6.6 or later)");
    }
    if !m.has(MULTI_BUFFER) {
        let found = format!("{found}: AF_XDP without multi-buffer, so an MTU up to {SINGLE_FRAME_MTU}");
        return Check::new(NAME, Verdict::Note, found, "install kernel 6.6 or later where a larger MTU is wanted");
    }
    if m.architecture != "x86_64" {
        let found = format!("{found}: nobody has tried it on this architecture");
        return Check::new(NAME, Verdict::Note, found, "cargo xtask test");
    }
    Check::ok(NAME, found)
}

fn privileges(m: &Machine) -> Check {
    const NAME: &str = "privileges";
    if m.confined {
        let found = "this process is in a user namespace, outside of which its capabilities count for nothing";
        return Check::new(
            NAME,
            Verdict::Problem,
            found,
            "run it as root outside of it (rootless containers are in one)",
        );
    }
    match missing(&m.capabilities)[..] {
        [] => Check::ok(NAME, "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"),
        ref missing => {
            let found = format!("this process lacks {}", missing.join(", "));
            Check::new(NAME, Verdict::Problem, found, setcap(m))
        }
    }
}

/// Gives this program what it needs, once and for all. Becoming root does too, and is what most will do.
fn setcap(m: &Machine) -> String {
    let path = &m.program_path;
    format!("run it as root (sudo), or once: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep {path}")
}

fn sockets(m: &Machine) -> Check {
    const NAME: &str = "AF_XDP sockets";
    match &m.sockets {
        Trial::Works => Check::ok(NAME, "one could be created"),
        Trial::Absent => Check::new(
            NAME,
            Verdict::Problem,
            "this kernel was built without them (CONFIG_XDP_SOCKETS)",
            "install your distribution's standard kernel",
        ),
        Trial::Denied if m.confined || !m.capabilities.net_raw => untried(NAME),
        Trial::Denied => Check::without_mend(
            NAME,
            Verdict::Problem,
            "creating one is forbidden, though this process has CAP_NET_RAW: by a container's seccomp filter or a security module?",
        ),
        Trial::Failed(why) => Check::without_mend(NAME, Verdict::Problem, format!("creating one fails: {why}")),
    }
}

fn program(m: &Machine) -> Check {
    const NAME: &str = "eBPF programs";
    match &m.program {
        Trial::Works => Check::ok(NAME, "the steering program could be loaded"),
        Trial::Denied => untried(NAME),
        // Old kernels and missing privilege have a check of their own, which says it better.
        Trial::Failed(_) if m.confined || !missing(&m.capabilities).is_empty() || !m.has(OLDEST) => untried(NAME),
        Trial::Absent => Check::new(
            NAME,
            Verdict::Problem,
            "this kernel was built without them (CONFIG_BPF_SYSCALL)",
            "install your distribution's standard kernel",
        ),
        Trial::Failed(why) => {
            let found = format!("{why}. Under kernel lockdown, and in most containers, it isn't allowed");
            Check::new(NAME, Verdict::Problem, found, "VMMC_LOG=libbpf=debug vmmc doctor")
        }
    }
}

fn untried(name: &'static str) -> Check {
    Check::without_mend(name, Verdict::Note, "can't be tried before the problem above is mended")
}

fn jit(m: &Machine) -> Option<Check> {
    const NAME: &str = "BPF compiler";
    match m.jit? {
        true => Some(Check::ok(NAME, "on")),
        false => {
            let found = "off: every packet's way through the steering program is interpreted";
            Some(Check::new(NAME, Verdict::Warning, found, "sysctl -w net.core.bpf_jit_enable=1"))
        }
    }
}

/// A UMEM is charged to the user's locked memory, unless the process has CAP_IPC_LOCK. What eBPF maps take has been the memory
/// control group's affair since Linux 5.11.
fn locked_memory(m: &Machine) -> Check {
    const NAME: &str = "locked memory";
    let needed = pinned_bytes(1);
    match m.memlock {
        _ if m.capabilities.ipc_lock && !m.confined => Check::ok(NAME, "unlimited (CAP_IPC_LOCK)"),
        None => Check::ok(NAME, "unlimited"),
        Some(limit) if limit < needed => {
            let found = format!(
                "limited to {} for all processes of this user, and a node's packets take {}",
                bytes(limit),
                bytes(needed)
            );
            Check::new(NAME, Verdict::Problem, found, raise(needed))
        }
        Some(limit) => Check::ok(NAME, format!("limited to {}: enough for a node on one queue", bytes(limit))),
    }
}

/// How to have more locked memory.
pub(super) fn raise(needed: u64) -> String {
    let kib = needed >> 10;
    format!("ulimit -l {kib} as root, or LimitMEMLOCK={needed} in a systemd unit, or CAP_IPC_LOCK as above")
}

fn memory(m: &Machine) -> Option<Check> {
    const NAME: &str = "memory";
    let available = m.available?;
    let huge = match m.huge_pages {
        Some(n) if n > 0 => format!("; {} of huge pages, which the arena is put in", bytes(n)),
        _ => "; huge pages: none, and none needed".to_owned(),
    };
    let found = format!("{} available{huge}", bytes(available));
    Some(match available < LITTLE_MEMORY {
        true => {
            let found =
                format!("{found}. A node takes {} and an arena, 64 MiB unless told otherwise", bytes(pinned_bytes(1)));
            Check::new(NAME, Verdict::Warning, found, "free -m, then end what isn't needed")
        }
        false => Check::ok(NAME, found),
    })
}

fn processors(m: &Machine) -> Option<Check> {
    const NAME: &str = "processors";
    let isolated = m.isolated.as_ref().map(|cores| format!(", isolated: {cores}")).unwrap_or_default();
    let cores = if m.cores == 1 { "1 core".to_owned() } else { format!("{} cores", m.cores) };
    if m.cores == 1 {
        let found = "1 core: whoever spins keeps the others from running";
        return Some(Check::without_mend(NAME, Verdict::Note, found));
    }
    Some(match m.governor.as_deref() {
        None => Check::ok(NAME, format!("{cores}{isolated}")),
        Some("performance") => Check::ok(NAME, format!("{cores}{isolated}, governor performance")),
        Some(governor) => {
            let found = format!("{cores}{isolated}, governor {governor}: latency varies with the clock");
            Check::new(NAME, Verdict::Note, found, "cpupower frequency-set --governor performance")
        }
    })
}

fn ethtool(m: &Machine) -> Option<Check> {
    let found = "not installed: rings, offloads, hash and moderation aren't known";
    (!m.ethtool).then(|| Check::new("ethtool", Verdict::Note, found, "apt-get install ethtool"))
}
