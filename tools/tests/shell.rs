//! `vmmc completions`, `vmmc man` and `VMMC_LOG`, as a shell uses them.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const VMMC: &str = env!("CARGO_BIN_EXE_vmmc");

fn vmmc(args: &[&str], log: Option<&str>) -> Output {
    let mut command = Command::new(VMMC);
    match log {
        Some(filter) => command.args(args).env("VMMC_LOG", filter),
        None => command.args(args).env_remove("VMMC_LOG"),
    };
    command.output().expect("vmmc can be started")
}

fn ok(args: &[&str]) -> Vec<u8> {
    let output = vmmc(args, None);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// What a program says of an input.
fn fed(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads all");
    child.wait_with_output().expect("it was started")
}

#[test]
fn bash_accepts_its_completions_and_completes() {
    let script = ok(&["completions", "bash"]);
    let output = fed("bash", &["-n"], &script);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let ask = "\nCOMP_WORDS=(vmmc lab ''); COMP_CWORD=2; COMP_LINE='vmmc lab '; COMP_POINT=9; _vmmc vmmc '' lab; \
               echo \"${COMPREPLY[@]}\"\n";
    let output = fed("bash", &["--norc"], &[&script, ask.as_bytes()].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(["up", "down", "status", "exec"].iter().all(|word| text.split_whitespace().any(|w| w == *word)), "{text}");
}

#[test]
fn pages_are_without_a_mistake() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("text");
    ok(&["man", "--dir", path]);
    let mut pages = 0;
    for page in fs::read_dir(path).expect("it was made") {
        let page = page.expect("it can be read").path();
        let text = fs::read(&page).expect("it can be read");
        assert!(text.starts_with(b".ie") || text.starts_with(b".TH"), "{}", page.display());
        // Where there is no groff nobody reads pages.
        if Command::new("groff").arg("--version").stdout(Stdio::null()).status().is_ok() {
            let output = fed("groff", &["-man", "-ww", "-z", "-Tutf8"], &text);
            assert!(output.status.success() && output.stderr.is_empty(), "{}: {output:?}", page.display());
        }
        pages += 1;
    }
    assert!(pages > 10);

    let output = vmmc(&["man", "--dir", "/dev/null/man"], None);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write man pages into /dev/null/man"), "{output:?}");
}

#[test]
fn a_bad_log_filter_is_complained_of() {
    for (filter, part) in
        [("debgu", "\"debgu\" is neither a level nor a target"), ("vmmc=loud", "\"loud\" is no level")]
    {
        let output = vmmc(&["man"], Some(filter));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with("error: VMMC_LOG is ") && error.contains(part), "{error}");
    }
    for filter in ["", "debug", "vmmc=trace,libbpf=off"] {
        let output = vmmc(&["man"], Some(filter));
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}
