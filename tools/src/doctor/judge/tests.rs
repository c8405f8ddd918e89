//! Bad machines and bad interfaces, one table each. Every row changes one thing of what is well, and says which check is to notice,
//! how bad it finds it, and what has to stand in what it says.

use vmmc::engine::Thresholds;
use vmmc::node::Origin;
use xdp_prog::{Features, Holder, Process};

use super::super::facts::{Capabilities, Channels, Ethtool, InterfaceFacts, Look, Machine, PortFacts, Switch, Trial};
use super::Verdict::{Note, Ok, Problem, Warning};
use super::{Check, Verdict, interface, machine};

fn healthy_machine() -> Machine {
    Machine {
        release: "6.12.0-amd64".to_owned(),
        version: Some((6, 12)),
        architecture: "x86_64".to_owned(),
        cores: 8,
        jit: Some(true),
        sockets: Trial::Works,
        program: Trial::Works,
        capabilities: Capabilities { net_admin: true, net_raw: true, bpf: true, ipc_lock: true, sys_admin: true },
        confined: false,
        memlock: Some(8 << 20),
        available: Some(16 << 30),
        huge_pages: Some(0),
        governor: Some("performance".to_owned()),
        isolated: None,
        ethtool: true,
        thresholds: Result::Ok((Thresholds::from(65536, 8000), Origin::BuiltIn)),
        program_path: "/usr/bin/vmmc".to_owned(),
    }
}

/// A NIC with everything, and nothing in the way.
fn healthy_port() -> PortFacts {
    let features = [("ntuple-filters", true), ("large-receive-offload", false), ("rx-vlan-offload", false)];
    PortFacts {
        name: "eth0".to_owned(),
        up: true,
        mtu: 1500,
        rx_queues: 4,
        tx_queues: 4,
        kind: None,
        features: Some(Features { native: true, multi_buffer: true, zero_copy: true, zero_copy_segments: 1 }),
        virtio_iommu: None,
        holder: None,
        ethtool: Ethtool {
            driver: Some("mlx5_core".to_owned()),
            channels: Some(Channels { rx: None, tx: None, combined: Some(63) }),
            rx_ring: Some((1024, 8192)),
            features: features.map(|(name, on)| (name.to_owned(), Switch { on, fixed: false })).into(),
            hash_queues: Some(4),
            hash_last: Some(2),
            bulk_filter: Some(3),
            rx_usecs: Some(0),
            adaptive_rx: Some(false),
        },
    }
}

fn healthy_interface() -> InterfaceFacts {
    InterfaceFacts {
        name: "eth0".to_owned(),
        up: true,
        carrier: true,
        mtu: 1500,
        address: Some([192, 0, 2, 1].into()),
        addresses: vec![[192, 0, 2, 1].into()],
        controller: None,
        vlan: None,
        port: Result::Ok(healthy_port()),
    }
}

/// The one check that isn't well. That there is no bulk lane counts only where nothing else is the matter.
#[track_caller]
fn the_bad(checks: &[Check], row: &str) -> Option<Check> {
    let mut bad: Vec<_> = checks.iter().filter(|check| check.verdict != Ok).collect();
    if bad.len() > 1 {
        bad.retain(|check| (check.name, check.verdict) != ("bulk lane", Note));
    }
    assert!(bad.len() <= 1, "{row}: {bad:?}");
    bad.first().map(|&check| check.clone())
}

#[track_caller]
fn assert_is(bad: Option<Check>, row: &str, name: &str, verdict: Verdict, found: &str, mend: &str) {
    let bad = bad.unwrap_or_else(|| panic!("{row}: nothing was noticed"));
    assert_eq!((bad.name, bad.verdict), (name, verdict), "{row}: {bad:?}");
    assert!(bad.found.contains(found), "{row}: {bad:?}");
    assert!(bad.mend.as_deref().unwrap_or_default().contains(mend), "{row}: {bad:?}");
}

#[test]
fn a_healthy_machine_and_interface() {
    let m = healthy_machine();
    let checks = machine(&m);
    assert_eq!(the_bad(&checks, "machine"), None);
    let diagnosis = interface(&m, "eth0", &Look::Found(healthy_interface().into()));
    assert_eq!(the_bad(&diagnosis.checks, "interface"), None);
    assert!(diagnosis.can_run(&checks));
    assert_eq!(diagnosis.sentence(&checks), "a node can run on eth0: native XDP, zero-copy, 4 queues, bulk lane");
}

#[test]
fn machines() {
    type Row = (&'static str, fn(&mut Machine), &'static str, Verdict, &'static str, &'static str);
    let rows: [Row; 15] = [
        (
            "user namespace",
            |m| (m.confined, m.memlock) = (true, None),
            "privileges",
            Problem,
            "user namespace",
            "outside",
        ),
        ("old kernel", |m| m.version = Some((5, 10)), "kernel", Problem, "needs 5.18", "newer kernel"),
        ("no multi-buffer", |m| m.version = Some((6, 1)), "kernel", Note, "MTU up to 3822", "6.6"),
        ("untried architecture", |m| m.architecture = "riscv64".into(), "kernel", Note, "riscv64", "xtask test"),
        ("one capability", |m| m.capabilities.bpf = false, "privileges", Problem, "CAP_BPF", "/usr/bin/vmmc"),
        ("no AF_XDP", |m| m.sockets = Trial::Absent, "AF_XDP sockets", Problem, "CONFIG_XDP_SOCKETS", "install"),
        ("AF_XDP forbidden", |m| m.sockets = Trial::Denied, "AF_XDP sockets", Problem, "seccomp", ""),
        ("AF_XDP fails", |m| m.sockets = Trial::Failed("no fds".into()), "AF_XDP sockets", Problem, "no fds", ""),
        ("no eBPF", |m| m.program = Trial::Absent, "eBPF programs", Problem, "CONFIG_BPF", "install"),
        (
            "eBPF fails",
            |m| m.program = Trial::Failed("refused".into()),
            "eBPF programs",
            Problem,
            "refused",
            "VMMC_LOG",
        ),
        ("no JIT", |m| m.jit = Some(false), "BPF compiler", Warning, "interpreted", "bpf_jit_enable=1"),
        ("memlock", |m| m.capabilities.ipc_lock = false, "locked memory", Problem, "8 MiB", "ulimit -l 24576"),
        ("memory", |m| m.available = Some(100 << 20), "memory", Warning, "100 MiB available", "free -m"),
        ("governor", |m| m.governor = Some("powersave".into()), "processors", Note, "powersave", "cpupower"),
        ("no ethtool", |m| m.ethtool = false, "ethtool", Note, "not installed", "apt-get install ethtool"),
    ];
    for (row, change, name, verdict, found, mend) in rows {
        let mut m = healthy_machine();
        change(&mut m);
        let checks = machine(&m);
        assert_is(the_bad(&checks, row), row, name, verdict, found, mend);
        let diagnosis = interface(&m, "eth0", &Look::Found(healthy_interface().into()));
        assert_eq!(diagnosis.can_run(&checks), verdict != Problem, "{row}");
    }
}

#[test]
fn without_any_privilege_the_rest_is_not_blamed() {
    let mut m = healthy_machine();
    m.capabilities = Capabilities { net_admin: false, net_raw: false, bpf: false, ipc_lock: false, sys_admin: false };
    (m.sockets, m.program, m.memlock, m.jit) = (Trial::Denied, Trial::Denied, None, None);
    let checks = machine(&m);
    let problems: Vec<_> = checks.iter().filter(|check| check.verdict == Problem).map(|check| check.name).collect();
    assert_eq!(problems, ["privileges"]);
    let diagnosis = interface(&m, "eth0", &Look::Found(healthy_interface().into()));
    let sentence = diagnosis.sentence(&checks);
    assert!(sentence.contains("lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF -> run it as root"), "{sentence}");
    // Another's program is seen, but not whose it is.
    let mut facts = healthy_interface();
    facts.port.as_mut().unwrap().holder = Some(Holder { program_name: String::new(), ..holder(None, &[]) });
    let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
    assert_is(the_bad(&diagnosis.checks, "hook"), "hook", "XDP hook", Problem, "(id 12)", "sudo vmmc doctor eth0");
}

fn holder(link_id: Option<u32>, pids: &[u32]) -> Holder {
    Holder {
        interface: "eth0".into(),
        program_id: 12,
        program_name: "filter".into(),
        generic: false,
        link_id,
        processes: pids.iter().map(|&pid| Process { pid, command: "cat".into() }).collect(),
    }
}

fn port(facts: &mut InterfaceFacts) -> &mut PortFacts {
    facts.port.as_mut().unwrap()
}

fn features(facts: &mut InterfaceFacts) -> &mut Features {
    port(facts).features.as_mut().unwrap()
}

fn mtu(facts: &mut InterfaceFacts, mtu: u32) {
    facts.mtu = mtu;
    port(facts).mtu = mtu;
}

fn switch(facts: &mut InterfaceFacts, feature: &str, on: bool) {
    port(facts).ethtool.features.insert(feature.to_owned(), Switch { on, fixed: false });
}

fn veth(facts: &mut InterfaceFacts) {
    let port = port(facts);
    (port.kind, port.ethtool) = (Some("veth".to_owned()), Ethtool::default());
    port.features = Some(Features { native: true, multi_buffer: true, zero_copy: false, zero_copy_segments: 1 });
}

#[test]
fn interfaces() {
    type Row = (&'static str, fn(&mut InterfaceFacts), &'static str, Verdict, &'static str, &'static str);
    let rows: [Row; 27] = [
        ("down", |i| i.up = false, "link", Problem, "eth0 is down", "ip link set eth0 up"),
        ("no carrier", |i| i.carrier = false, "link", Warning, "nobody can be reached", "other end up"),
        ("port down", |i| (i.name, port(i).up) = ("eth0.5".into(), false), "link", Problem, "eth0 is down", "eth0 up"),
        (
            "no address",
            |i| (i.address, i.addresses) = (None, vec![]),
            "address",
            Problem,
            "no IP address",
            "ip addr add ADDRESS/PREFIX dev eth0",
        ),
        ("link-local", |i| i.address = None, "address", Problem, "only link-local addresses: 192.0.2.1", "ip addr add"),
        (
            "in a bridge",
            |i| i.controller = Some(("bridge".into(), "br0".into())),
            "membership",
            Warning,
            "belongs to the bridge br0",
            "ip link set eth0 nomaster",
        ),
        (
            "VLAN tags taken off",
            |i| i.port = Err(("eth0 takes VLAN tags off".into(), Some("ethtool -K eth0 rxvlan off".into()))),
            "VLAN",
            Problem,
            "takes VLAN tags off",
            "rxvlan off",
        ),
        (
            "held by a node",
            |i| port(i).holder = Some(Holder { program_name: "vmmc_steer".into(), ..holder(Some(3), &[7]) }),
            "XDP hook",
            Problem,
            "another VMMC node has eth0",
            "kill 7",
        ),
        (
            "held by a process",
            |i| port(i).holder = Some(holder(Some(3), &[7, 9])),
            "XDP hook",
            Problem,
            "another program",
            "kill 7 9",
        ),
        (
            "pinned",
            |i| port(i).holder = Some(holder(Some(3), &[])),
            "XDP hook",
            Problem,
            "filter",
            "bpftool link detach id 3",
        ),
        (
            "attached directly",
            |i| port(i).holder = Some(holder(None, &[])),
            "XDP hook",
            Problem,
            "filter",
            "ip link set dev eth0 xdp off",
        ),
        (
            "attached in generic mode",
            |i| port(i).holder = Some(Holder { generic: true, ..holder(None, &[]) }),
            "XDP hook",
            Problem,
            "filter",
            "xdpgeneric off",
        ),
        ("generic only", |i| features(i).native = false, "XDP mode", Warning, "no XDP", ""),
        (
            "veth with a wide peer",
            |i| {
                veth(i);
                features(i).native = false;
                port(i).ethtool.channels = Some(Channels { rx: Some(8), tx: Some(8), combined: None });
            },
            "XDP mode",
            Warning,
            "the other end of this veth pair",
            "ethtool -L eth0 rx 8",
        ),
        (
            "native without multi-buffer",
            |i| {
                mtu(i, 9000);
                (features(i).multi_buffer, features(i).zero_copy) = (false, false);
            },
            "XDP mode",
            Warning,
            "the driver may refuse",
            "mtu 3000",
        ),
        ("small MTU", |i| mtu(i, 1000), "MTU, sockets", Problem, "MTU 1000", "mtu 1500"),
        ("zero-copy, but not at 9000", |i| mtu(i, 9000), "MTU, sockets", Note, "copy mode", "mtu 3822"),
        (
            "too many queues",
            |i| (port(i).rx_queues, port(i).tx_queues) = (64, 64),
            "queues",
            Problem,
            "can have 32",
            "ethtool -L eth0 combined 32",
        ),
        (
            "more queues than cores",
            |i| {
                (port(i).rx_queues, port(i).tx_queues) = (16, 16);
                port(i).ethtool.bulk_filter = Some(15);
            },
            "queues",
            Note,
            "8 cores",
            "combined 1",
        ),
        (
            "veth with many queues",
            |i| {
                veth(i);
                (port(i).rx_queues, port(i).tx_queues) = (33, 33);
                port(i).ethtool.channels = Some(Channels { rx: Some(64), tx: Some(64), combined: None });
            },
            "queues",
            Problem,
            "33 queues",
            "ethtool -L eth0 rx 32 tx 32",
        ),
        (
            "driver that resets",
            |i| port(i).ethtool.driver = Some("igb".into()),
            "driver",
            Note,
            "up to 3 s",
            "connect_timeout",
        ),
        (
            "virtio without an IOMMU",
            |i| (port(i).ethtool.driver, port(i).virtio_iommu) = (Some("virtio_net".into()), Some(false)),
            "driver",
            Note,
            "a node gets copy mode",
            "iommu_platform=on",
        ),
        (
            "short ring",
            |i| port(i).ethtool.rx_ring = Some((256, 4096)),
            "receive ring",
            Note,
            "256 of 4096",
            "-G eth0 rx 4096",
        ),
        ("filters off", |i| switch(i, "ntuple-filters", false), "hash, filters", Note, "4 queues", "ntuple on"),
        ("LRO", |i| switch(i, "large-receive-offload", true), "offloads", Warning, "large-receive", "lro off"),
        (
            "tags taken off, no VLAN",
            |i| switch(i, "rx-vlan-offload", true),
            "VLAN tags",
            Note,
            "all VLANs",
            "rxvlan off",
        ),
        ("moderation", |i| port(i).ethtool.rx_usecs = Some(50), "moderation", Note, "by 50 us", "ethtool -C eth0"),
    ];
    let m = healthy_machine();
    for (row, change, name, verdict, found, mend) in rows {
        let mut facts = healthy_interface();
        change(&mut facts);
        let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
        assert_is(the_bad(&diagnosis.checks, row), row, name, verdict, found, mend);
        assert_eq!(diagnosis.can_run(&machine(&m)), verdict != Problem, "{row}");
    }
}

#[test]
fn what_kernel_and_interface_do_together() {
    // MTU 9000 on a kernel without AF_XDP multi-buffer.
    let mut m = healthy_machine();
    m.version = Some((6, 1));
    let mut facts = healthy_interface();
    mtu(&mut facts, 9000);
    port(&mut facts).features = None;
    let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
    let problem = diagnosis.checks.iter().find(|check| check.verdict == Problem).cloned();
    assert_is(problem, "MTU 9000", "MTU, sockets", Problem, "since 6.6", "ip link set dev eth0 mtu 3822");
    // A kernel that doesn't tell what drivers can do.
    let mut facts = healthy_interface();
    port(&mut facts).features = None;
    let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
    let unknown: Vec<_> = diagnosis.checks.iter().filter(|check| check.verdict == Note).collect();
    let (lane, unknown): (Vec<&Check>, Vec<_>) = unknown.into_iter().partition(|check| check.name == "bulk lane");
    assert_eq!((lane.len(), unknown.len()), (1, 2));
    assert!(lane[0].found.contains("since 6.6"), "{lane:?}");
    assert!(unknown.iter().all(|check| check.mend.as_deref() == Some("vmmc doctor eth0 --try")), "{unknown:?}");
    assert_eq!(
        diagnosis.sentence(&[]),
        "a node can run on eth0: XDP native or generic, zero-copy or copy mode, 4 queues"
    );
    // Locked memory that is enough for two queues and not for four.
    let mut m = healthy_machine();
    (m.capabilities.ipc_lock, m.memlock) = (false, Some(24 << 20));
    assert_eq!(the_bad(&machine(&m), "memlock"), None);
    let diagnosis = interface(&m, "eth0", &Look::Found(healthy_interface().into()));
    assert_is(the_bad(&diagnosis.checks, "memlock"), "memlock", "queues", Problem, "32 MiB", "combined 1");
}

#[test]
fn virtio_has_zero_copy_where_the_host_gives_it_an_iommu() {
    for (iommu, sentence) in
        [(true, "native XDP, zero-copy, 4 queues, bulk lane"), (false, "native XDP, copy mode, 4 queues, bulk lane")]
    {
        let mut facts = healthy_interface();
        (port(&mut facts).ethtool.driver, port(&mut facts).virtio_iommu) = (Some("virtio_net".into()), Some(iommu));
        let diagnosis = interface(&healthy_machine(), "eth0", &Look::Found(facts.into()));
        assert_eq!(diagnosis.sentence(&[]), format!("a node can run on eth0: {sentence}"));
    }
}

#[test]
fn one_queue_copy_mode_is_well_on_a_veth_but_there_is_no_bulk_lane() {
    let mut facts = healthy_interface();
    veth(&mut facts);
    (port(&mut facts).rx_queues, port(&mut facts).tx_queues) = (1, 1);
    let diagnosis = interface(&healthy_machine(), "eth0", &Look::Found(facts.into()));
    assert_is(the_bad(&diagnosis.checks, "veth"), "veth", "bulk lane", Note, "has 1 queue in all", "numtxqueues 2");
    assert_eq!(diagnosis.sentence(&[]), "a node can run on eth0: native XDP, copy mode, 1 queue");
}

#[test]
fn bulk_lanes() {
    type Row = (&'static str, fn(&mut Machine, &mut InterfaceFacts), Verdict, &'static str, &'static str);
    let rows: [Row; 11] = [
        (
            "a NIC that can have one queue",
            |_, i| {
                (port(i).rx_queues, port(i).tx_queues) = (1, 1);
                port(i).ethtool.channels = Some(Channels { rx: None, tx: None, combined: Some(1) });
            },
            Note,
            "eth0 has 1 queue in all: it can have no more",
            "",
        ),
        (
            "a NIC with one queue",
            |_, i| (port(i).rx_queues, port(i).tx_queues) = (1, 1),
            Note,
            "needs a queue of its own",
            "ethtool -L eth0 combined 2",
        ),
        (
            "one queue for sending",
            |_, i| port(i).tx_queues = 1,
            Note,
            "needs a queue of its own",
            "ethtool -L eth0 combined 2",
        ),
        (
            "a veth that could have more",
            |_, i| {
                veth(i);
                (port(i).rx_queues, port(i).tx_queues) = (1, 1);
                port(i).ethtool.channels = Some(Channels { rx: Some(2), tx: Some(2), combined: None });
            },
            Note,
            "needs a queue of its own",
            "ethtool -L eth0 rx 2 tx 2, and the same for its other end",
        ),
        ("an old kernel", |m, _| m.version = Some((6, 1)), Note, "since 6.6", "install kernel 6.6"),
        (
            "the hash's share",
            |_, i| port(i).ethtool.hash_last = Some(3),
            Note,
            "needs queue 3 for itself",
            "ethtool -X eth0 equal 3",
        ),
        (
            "no filter",
            |_, i| port(i).ethtool.bulk_filter = None,
            Warning,
            "UDP port 7001, to queue 3",
            "ethtool -N eth0 flow-type udp4 dst-port 7001 action 3",
        ),
        (
            "a filter to another queue",
            |_, i| port(i).ethtool.bulk_filter = Some(1),
            Warning,
            "to queue 3",
            "dst-port 7001 action 3",
        ),
        (
            "a NIC without filters",
            |_, i| {
                port(i).ethtool.bulk_filter = None;
                port(i).ethtool.features.insert("ntuple-filters".to_owned(), Switch { on: false, fixed: true });
            },
            Warning,
            "has no filters",
            "",
        ),
        (
            "little locked memory",
            |m, _| (m.capabilities.ipc_lock, m.memlock) = (false, Some(64 << 20)),
            Note,
            "pins the arena, 64 MiB unless told otherwise, and 64 MiB of locked memory are allowed",
            "ulimit -l",
        ),
        ("generic mode", |_, i| features(i).native = false, Note, "none: it needs native XDP", ""),
    ];
    for (row, change, verdict, found, mend) in rows {
        let (mut m, mut facts) = (healthy_machine(), healthy_interface());
        change(&mut m, &mut facts);
        let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
        let lane = diagnosis.checks.iter().find(|check| check.name == "bulk lane").cloned();
        assert_is(lane, row, "bulk lane", verdict, found, mend);
        assert!(diagnosis.can_run(&[]) && !diagnosis.sentence(&[]).contains("bulk lane,"), "{row}");
        assert!(!diagnosis.forecast.unwrap().contains("bulk lane"), "{row}");
        assert!(diagnosis.checks.iter().all(|check| check.name != "bulk zero-copy"), "{row}");
    }
    // Where the filters are off as well both are named, each with its command.
    let mut facts = healthy_interface();
    port(&mut facts).ethtool.bulk_filter = None;
    switch(&mut facts, "ntuple-filters", false);
    let diagnosis = interface(&healthy_machine(), "eth0", &Look::Found(facts.into()));
    let lane = diagnosis.checks.into_iter().find(|check| check.name == "bulk lane").unwrap();
    assert!(lane.mend.unwrap().starts_with("ethtool -K eth0 ntuple on && ethtool -N eth0 "));
}

#[test]
fn the_thresholds_that_hold_are_told_and_where_they_come_from() {
    let found = |mtu, table: &str, origin: Origin| {
        let (mut m, mut facts) = (healthy_machine(), healthy_interface());
        m.thresholds = Result::Ok((table.parse().unwrap(), origin));
        (facts.mtu, port(&mut facts).mtu) = (mtu, mtu);
        let checks = interface(&m, "eth0", &Look::Found(facts.into())).checks;
        checks.into_iter().find(|check| check.name == "bulk threshold").map(|check| check.found)
    };
    let (table, file) = ("1500 never\n9000 262144\n20000 never", Origin::File("/etc/there".into()));
    for (mtu, expected) in [
        (1500, "no send takes the lane at MTU 1500, but from 9000 on (from /etc/there)"),
        (9216, "sends of 262144 bytes and more take the lane at MTU 9216 (from /etc/there)"),
        (65535, "no send takes the lane at MTU 65535 (from /etc/there)"),
    ] {
        assert_eq!(found(mtu, table, file.clone()).as_deref(), Some(expected));
    }
    assert!(found(9000, table, Origin::BuiltIn).unwrap().contains("(built in; `vmmc-bench thresholds`"));
    // A bad table is a problem where there is a lane, and of no interest where there is none.
    let bad = Machine { thresholds: Err("/etc/there: line 3: no".to_owned()), ..healthy_machine() };
    let check = |facts: InterfaceFacts| {
        let checks = interface(&bad, "eth0", &Look::Found(facts.into())).checks;
        checks.into_iter().find(|check| check.name == "bulk threshold")
    };
    let found = check(healthy_interface());
    assert_is(found, "a bad table", "bulk threshold", Problem, "line 3", "vmmc-bench thresholds");
    let mut without = healthy_interface();
    features(&mut without).native = false;
    assert_eq!(check(without), None);
}

#[test]
fn a_bulk_lane_is_zero_copy_where_packets_have_several_buffers_and_pages_are_huge() {
    for (segments, huge, verdict, found, mend) in [
        (1, 0, Ok, "packets of 1 buffer at the most", ""),
        (17, 0, Note, "0 bytes of these are set aside", "sysctl -w vm.nr_hugepages=33"),
        (17, 128 << 20, Ok, "128 MiB are set aside", ""),
    ] {
        let (mut m, mut facts) = (healthy_machine(), healthy_interface());
        m.huge_pages = Some(huge);
        features(&mut facts).zero_copy_segments = segments;
        let diagnosis = interface(&m, "eth0", &Look::Found(facts.into()));
        let check = diagnosis.checks.into_iter().find(|check| check.name == "bulk zero-copy");
        assert_is(check, found, "bulk zero-copy", verdict, found, mend);
    }
}

#[test]
fn what_is_no_ethernet_interface() {
    let m = healthy_machine();
    for (look, found) in [
        (Look::Absent { existing: "lo, eth1".into() }, "no interface eth0 in this network namespace, only lo, eth1"),
        (Look::NotEthernet { kind: "loopback".into() }, "of type loopback"),
        (Look::Unreadable { why: "the kernel is out of order".into() }, "out of order"),
    ] {
        let diagnosis = interface(&m, "eth0", &look);
        assert!(!diagnosis.can_run(&machine(&m)));
        let sentence = diagnosis.sentence(&machine(&m));
        assert!(sentence.starts_with("no node can run on eth0: ") && sentence.contains(found), "{sentence}");
    }
}
