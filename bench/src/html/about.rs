//! What was run, when, and on what: the facts without which a figure means nothing.
//!
//! What can't be found out is left out.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use vmmc_page::document::Fact;
use vmmc_page::theme::distinct;

use crate::spec::{Spec, Topology};

/// A run of the program, for the head of its page.
pub(crate) struct Run {
    /// When it began.
    pub(crate) started: SystemTime,
    /// How long it took.
    pub(crate) took: Duration,
    /// How often each peer was measured: `9 rounds`, or `9 to 11 rounds` where that differs.
    pub(crate) rounds: String,
    /// What was measured.
    pub(crate) specs: Vec<Spec>,
}

/// Facts about a run, this machine, and this program. `ucx` is whether UCX took part.
pub(super) fn facts(run: &Run, ucx: bool) -> Vec<Fact> {
    let processor = processor();
    let built = [
        format!("vmmc {}", env!("CARGO_PKG_VERSION")),
        match env!("VMMC_COMMIT") {
            "" => String::new(),
            commit => format!("commit {commit}"),
        },
        env!("VMMC_RUSTC").to_owned(),
        match env!("VMMC_PROFILE") {
            "release" => String::new(),
            profile => format!("{profile} build: slower than a release build"),
        },
    ];
    let facts = [
        ("Started", started(run.started)),
        ("Took", format!("{}, {}", seconds(run.took), run.rounds)),
        ("Network", network(&run.specs)),
        ("Processes", processes(&run.specs)),
        ("Processor", processor),
        ("Memory", meminfo("MemTotal")),
        ("System", [system(), kernel()].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(", ")),
        ("Program", built.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")),
        ("Built on", env!("VMMC_CRATES").to_owned()),
        ("UCX", if ucx { ucx_version() } else { String::new() }),
    ];
    facts.into_iter().filter(|fact| !fact.1.is_empty()).collect()
}

pub(crate) fn started(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

fn seconds(took: Duration) -> String {
    match took.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn network(specs: &[Spec]) -> String {
    let kinds = distinct(specs.iter().map(Spec::topology)).into_iter().map(|topology| match topology {
        Topology::Alone => "simulated, in one process".to_owned(),
        Topology::Pair => "two network namespaces joined by a veth pair".to_owned(),
        Topology::Bridge(hosts) => format!("{hosts} network namespaces, each on a veth pair, joined by a bridge"),
    });
    let mtus = distinct(specs.iter().map(|spec| spec.mtu)).iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    format!("{}; MTU {mtus}", kinds.collect::<Vec<_>>().join("; "))
}

fn processes(specs: &[Spec]) -> String {
    const PINNED: &str = "each pinned to a core of its own, spinning unless a peer’s name says that it blocks";
    const FREE: &str = "on whichever core the scheduler chooses, asleep when there is nothing to do";
    let benches = |pinned| {
        let names = specs.iter().map(|spec| spec.bench).filter(|bench| bench.pins() == pinned);
        distinct(names).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match [benches(true), benches(false)] {
        [_, free] if free.is_empty() => PINNED.into(),
        [pinned, _] if pinned.is_empty() => FREE.into(),
        [pinned, free] => format!("{pinned}: {PINNED}; {free}: {FREE}"),
    }
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = of("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let mut parts = vec![of("model name").unwrap_or_else(|| std::env::consts::ARCH.into())];
    parts.push(if cores == 1 { "1 core".into() } else { format!("{cores} cores") });
    if virtual_machine {
        parts.push(match dmi() {
            None => "virtual machine".into(),
            Some(product) => format!("virtual machine ({product})"),
        });
    }
    if let Ok(governor) = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
        parts.push(format!("frequency governor {}", governor.trim()));
    }
    parts.join(", ")
}

/// What the machine, or its hypervisor, calls itself.
fn dmi() -> Option<String> {
    let read = |name| fs::read_to_string(format!("/sys/class/dmi/id/{name}")).ok();
    let name = [read("sys_vendor")?, read("product_name")?].map(|part| part.trim().to_owned()).join(" ");
    Some(name).filter(|name| !name.trim().is_empty())
}

fn meminfo(key: &str) -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| format!("{:.1} GiB", kib / f64::from(1 << 20))).unwrap_or_default()
}

fn system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} ({})", release.trim(), std::env::consts::ARCH)
}

fn ucx_version() -> String {
    let output = Command::new("ucx_info").arg("-v").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    version_in(&text).unwrap_or_default()
}

/// The first version number: `ucx_info -v` says `# Version 1.13.1` or `# Library version: 1.17.0`.
fn version_in(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.to_lowercase().contains("version"))?;
    line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Bench;

    #[test]
    fn the_version_of_ucx() {
        for text in ["# Version 1.13.1\n# Git branch", "# Library version: 1.13.1\n# Library path: /usr"] {
            assert_eq!(version_in(text).as_deref(), Some("1.13.1"));
        }
        assert_eq!(version_in("not found"), None);
    }

    #[test]
    fn the_facts_of_this_machine_are_there() {
        let specs = vec![
            Spec { mtu: 9000, ..Spec::default() },
            Spec { bench: Bench::Incast, mtu: 9000, count: 4, ..Spec::default() },
        ];
        let run = Run {
            started: SystemTime::UNIX_EPOCH,
            took: Duration::from_secs(125),
            rounds: "9 to 11 rounds".into(),
            specs,
        };
        let facts = facts(&run, false);
        let of = |key| facts.iter().find(|fact| fact.0 == key).map_or("", |fact| &fact.1);
        assert_eq!(of("Started"), "1970-01-01 00:00 UTC");
        assert_eq!(of("Took"), "2 min 5 s, 9 to 11 rounds");
        assert!(of("Network").contains("veth pair; 5 network namespaces") && of("Network").ends_with("MTU 9000"));
        assert!(of("Processor").contains("core") && of("System").contains("Linux ") && of("Memory").contains("GiB"));
        assert!(of("Program").starts_with("vmmc ") && of("Program").contains("rustc "), "{facts:?}");
        assert!(of("Built on").contains("xsk-rs "), "{facts:?}");
        assert!(facts.iter().all(|fact| !fact.1.is_empty() && fact.0 != "UCX"));
    }
}
