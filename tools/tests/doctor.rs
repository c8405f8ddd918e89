//! `vmmc doctor` on a real lab, as root: what it says of interfaces in every condition, and that it is right.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vmmc_lab::{ChildGuard, LabConfig, TempLab};
use xdp_prog::damage::{Damage, Shares};

const VMMC: &str = env!("CARGO_BIN_EXE_vmmc");

fn lab(config: LabConfig) -> TempLab {
    TempLab::new(&config).unwrap_or_else(|error| panic!("these tests need root and network namespaces: {error}"))
}

fn run(mut command: Command) -> Output {
    command.env_remove("VMMC_LOG").output().expect("the program can be started")
}

/// Runs `vmmc doctor` on the first host.
fn doctor(lab: &TempLab, args: &[&str]) -> (Option<i32>, String) {
    let mut command = lab.host(1).command(VMMC);
    command.arg("doctor").args(args);
    let output = run(command);
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// Runs `vmmc doctor --json` on the first host. Returns its exit status, and what it says of the interface.
fn diagnosis(lab: &TempLab, args: &[&str]) -> (Option<i32>, Value) {
    let (status, text) = doctor(lab, &[args, &["--json"]].concat());
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["can_run"], Value::Bool(status == Some(0)), "{report}");
    assert_eq!(report["interfaces"].as_array().map(Vec::len), Some(1), "{report}");
    (status, report["interfaces"][0].clone())
}

/// The check of that name.
fn check<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let checks = diagnosis["checks"].as_array().expect("a list of checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} is not in {diagnosis}"))
}

#[track_caller]
fn assert_problem(diagnosis: &Value, name: &str, found: &str, mend: &str) {
    let check = check(diagnosis, name);
    let text = |key| check[key].as_str().unwrap_or_default();
    assert_eq!(text("verdict"), "problem", "{check}");
    assert!(text("found").contains(found) && text("mend").contains(mend), "{check}");
    let verdict = diagnosis["verdict"].as_str().expect("a sentence");
    assert!(verdict.starts_with("no node can run on vh1: "), "{verdict}");
}

/// Configures the first host.
fn ip(lab: &TempLab, args: &str) {
    let mut command = lab.host(1).command("ip");
    command.args(args.split(' '));
    let output = run(command);
    assert!(output.status.success(), "ip {args}: {output:?}");
}

/// What the kernel says of XDP on the first host's interface.
fn attached(lab: &TempLab) -> bool {
    let mut command = lab.host(1).command("ip");
    command.args(["link", "show", "dev", "vh1"]);
    String::from_utf8(run(command).stdout).expect("text").contains("prog/xdp")
}

#[test]
fn a_healthy_veth_and_what_is_foreseen_comes_true() {
    let lab = lab(LabConfig { queues: 2, ..LabConfig::default() });
    let (status, text) = doctor(&lab, &["vh1"]);
    assert_eq!(status, Some(0), "{text}");
    let sentence = "a node can run on vh1: native XDP, copy mode, 2 queues, bulk lane";
    assert_eq!(text.lines().last(), Some(sentence), "{text}");
    assert!(!text.contains('\x1b') && !text.contains("problem"), "{text}");
    assert!(!attached(&lab));

    let (status, vh1) = diagnosis(&lab, &["vh1", "--try"]);
    assert_eq!(status, Some(0), "{vh1}");
    let trial = check(&vh1, "trial")["found"].as_str().expect("text");
    assert!(trial.contains("10.77.0.1:7000: native XDP, copy mode, multi-buffer"), "{trial}");
    let forecast = vh1["forecast"].as_str().expect("text");
    assert!(trial.contains(", bulk lane in copy mode: ") && forecast.contains("2 queues, bulk lane in copy"), "{vh1}");
    assert!(!attached(&lab));

    // Without a name: every interface.
    let (status, text) = doctor(&lab, &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains(sentence) && text.contains("\na node can run on vh1\n"), "{text}");
    assert!(!text.contains("\nlo\n"), "{text}");
}

#[test]
fn a_veth_whose_other_end_sends_on_more_queues() {
    let lab = lab(LabConfig { queues: 2, ..LabConfig::default() });
    let mut narrow = lab.host(1).command("ethtool");
    narrow.args(["-L", "vh1", "rx", "1", "tx", "1"]);
    let output = run(narrow);
    assert!(output.status.success(), "{output:?}");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(0), "{vh1}");
    assert_eq!(check(&vh1, "XDP mode")["verdict"], "warning", "{vh1}");
    assert_eq!(vh1["forecast"], "generic XDP, copy mode, 1 queue", "{vh1}");
    assert_eq!(check(&vh1, "bulk lane")["verdict"], "note", "{vh1}");
    // What it says to do helps.
    let mend = check(&vh1, "XDP mode")["mend"].as_str().expect("a command").to_owned();
    let mut words = mend.split(' ');
    let mut command = lab.host(1).command(words.next().expect("a program"));
    command.args(words);
    assert!(run(command).status.success(), "{mend}");
    let vh1 = diagnosis(&lab, &["vh1"]).1;
    assert_eq!(vh1["forecast"], "native XDP, copy mode, 2 queues");
    // There is still but one to send on.
    let lane = check(&vh1, "bulk lane")["found"].as_str().expect("text").to_owned();
    assert!(lane.contains("2 queues for receiving and 1 for sending"), "{lane}");
}

#[test]
fn one_queue_is_too_few_for_a_bulk_lane() {
    let lab = lab(LabConfig { queues: 1, ..LabConfig::default() });
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!((status, &vh1["forecast"]), (Some(0), &Value::from("native XDP, copy mode, 1 queue")), "{vh1}");
    let lane = check(&vh1, "bulk lane");
    assert!(lane["found"].as_str().is_some_and(|found| found.contains("vh1 has 1 queue in all")), "{lane}");
    assert!(lane["mend"].as_str().is_some_and(|mend| mend.contains("numtxqueues 2")), "{lane}");
    let vh1 = diagnosis(&lab, &["vh1", "--try"]).1;
    let trial = check(&vh1, "trial")["found"].as_str().expect("text");
    assert!(
        trial.contains("; no bulk lane: vh1 has 1 queue") && !vh1["forecast"].as_str().unwrap().contains("bulk"),
        "{vh1}"
    );
}

#[test]
fn a_jumbo_mtu() {
    let lab = lab(LabConfig { mtu: 9000, queues: 1, ..LabConfig::default() });
    let (status, vh1) = diagnosis(&lab, &["vh1", "--try"]);
    assert_eq!(status, Some(0), "{vh1}");
    assert!(check(&vh1, "trial")["found"].as_str().expect("text").contains("multi-buffer"), "{vh1}");
    assert!(check(&vh1, "MTU, sockets")["found"].as_str().expect("text").starts_with("MTU 9000, copy mode"), "{vh1}");
}

#[test]
fn an_interface_that_is_down_or_absent_or_has_no_address() {
    let lab = lab(LabConfig::default());
    let host = lab.host(1);
    host.set_link(false).expect("it can be set down");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(1));
    assert_problem(&vh1, "link", "vh1 is down", "ip link set vh1 up");
    let (status, vh1) = diagnosis(&lab, &["vh1", "--try"]);
    assert_eq!(status, Some(1));
    assert!(check(&vh1, "trial")["found"].as_str().expect("text").contains("is down"), "{vh1}");
    host.set_link(true).expect("it can be set up");

    lab.host(2).set_link(false).expect("it can be set down");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!((status, check(&vh1, "link")["verdict"].as_str()), (Some(0), Some("warning")), "{vh1}");

    ip(&lab, "addr flush dev vh1");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(1));
    assert_problem(&vh1, "address", "vh1 has no IP address", "ip addr add ADDRESS/PREFIX dev vh1");

    let (status, absent) = diagnosis(&lab, &["absent0"]);
    assert_eq!(status, Some(1));
    assert!(check(&absent, "interface")["found"].as_str().expect("text").contains("only lo, vh1"), "{absent}");
    let (status, lo) = diagnosis(&lab, &["lo"]);
    assert_eq!(status, Some(1));
    assert!(check(&lo, "interface")["found"].as_str().expect("text").contains("no Ethernet frames"), "{lo}");
}

#[test]
fn a_port_of_a_bridge_and_the_bridge() {
    let lab = lab(LabConfig::default());
    ip(&lab, "link add br0 type bridge");
    ip(&lab, "link set vh1 master br0");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(0), "{vh1}");
    let membership = check(&vh1, "membership");
    assert_eq!(membership["verdict"], "warning", "{vh1}");
    assert!(membership["found"].as_str().expect("text").contains("belongs to the bridge br0"), "{vh1}");
    let (_, bridge) = diagnosis(&lab, &["br0"]);
    assert_eq!(check(&bridge, "driver")["verdict"], "warning", "{bridge}");
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn a_vlan() {
    let lab = lab(LabConfig::default());
    ip(&lab, "link add link vh1 name vh1.5 type vlan id 5");
    ip(&lab, "addr add 10.78.0.1/24 dev vh1.5");
    ip(&lab, "link set vh1.5 up");
    let (status, vlan) = diagnosis(&lab, &["vh1.5", "--try"]);
    assert_eq!(status, Some(0), "{vlan}");
    assert!(check(&vlan, "VLAN")["found"].as_str().expect("text").starts_with("5, on vh1"), "{vlan}");
    assert!(check(&vlan, "trial")["found"].as_str().expect("text").contains("10.78.0.1:7000"), "{vlan}");
}

#[test]
fn the_hook_is_held_by_a_node() {
    let lab = lab(LabConfig::default());
    let mut serve = lab.host(1).command(VMMC);
    serve.args(["serve", "--interface", "vh1", "--export", "inbox:4K"]).stdout(Stdio::piped());
    let mut serve = ChildGuard::spawn(&mut serve).expect("vmmc can be started");
    let lines = BufReader::new(serve.stdout.take().expect("it is piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("answering pings")), "it ended before it was ready");

    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(1));
    let kill = format!("kill {}", serve.id());
    assert_problem(&vh1, "XDP hook", "another VMMC node has vh1: XDP program \"vmmc_steer\"", &kill);
    // Trying it disturbs nobody.
    let (status, vh1) = diagnosis(&lab, &["vh1", "--try"]);
    assert_eq!(status, Some(1));
    assert_problem(&vh1, "trial", "already belongs to another VMMC node", "");
    assert!(attached(&lab) && serve.try_wait().expect("it was started").is_none());
}

#[test]
fn the_hook_is_held_by_a_foreign_program() {
    let lab = lab(LabConfig::default());
    let foreign = lab.host(1).enter(|| Damage::attach("vh1", Shares { dropped: 0.0, damaged: 0.0 }));
    let foreign =
        foreign.expect("the namespace can be entered").expect("a program can be attached: this test needs root");
    let (status, vh1) = diagnosis(&lab, &["vh1"]);
    assert_eq!(status, Some(1));
    assert_problem(&vh1, "XDP hook", "another program has vh1", &format!("kill {}", std::process::id()));
    drop(foreign);
    assert_eq!(diagnosis(&lab, &["vh1"]).0, Some(0));
}

#[test]
fn without_privileges() {
    let lab = lab(LabConfig::default());
    let doctor = |args: &[&str]| {
        let mut command = lab.host(1).command("prlimit");
        command
            .args(["--memlock=1048576", "setpriv", "--bounding-set=-all", "--inh-caps=-all", VMMC, "doctor"])
            .args(args);
        run(command)
    };
    let output = doctor(&["vh1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "problem  privileges      this process lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF",
        "-> run it as root (sudo), or once: sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep",
        "problem  locked memory   limited to 1 MiB for all processes of this user, and a node's packets take 24 MiB",
        "ulimit -l 24576",
        "\nno node can run on vh1: this process lacks CAP_NET_ADMIN",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    // It is right.
    let output = doctor(&["vh1", "--try"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("no node could be opened: "), "{text}");
}

#[test]
fn wrong_usage() {
    for args in [&["doctor", "--try"][..], &["doctor", "a", "b"], &["doctor", "--jsno"]] {
        let mut command = Command::new(VMMC);
        command.args(args);
        let output = run(command);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn thresholds_of_the_bulk_lane_are_those_that_a_file_says() {
    let lab = lab(LabConfig { mtu: 9000, ..LabConfig::default() });
    let files = tempfile::tempdir().expect("a temporary directory");
    let table = files.path().join("thresholds");
    let look = |file: &std::path::Path| {
        let mut command = lab.host(1).command(VMMC);
        command.args(["doctor", "vh1", "--try", "--json"]).env(vmmc::node::THRESHOLDS_ENV, file);
        let output = run(command);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code(), report["interfaces"][0].clone())
    };
    std::fs::write(&table, "1500 never\n9000 100000\n").expect("it can be written");
    let (status, vh1) = look(&table);
    let found = check(&vh1, "bulk threshold")["found"].as_str().expect("text").to_owned();
    let expected = format!("sends of 100000 bytes and more take the lane at MTU 9000 (from {})", table.display());
    assert_eq!((status, found), (Some(0), expected), "{vh1}");
    // With one that is none no node opens, and both say the line.
    std::fs::write(&table, "1500 never\n9000 much\n").expect("it can be written");
    let (status, vh1) = look(&table);
    assert_eq!(status, Some(1), "{vh1}");
    assert_problem(&vh1, "bulk threshold", "line 2: \"much\" is no size", "vmmc-bench thresholds");
    assert_problem(&vh1, "trial", "line 2: \"much\" is no size", "");
}
