//! `vmmc lab` as a user runs it, as root.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Output, Stdio};
use std::thread;

struct Cli {
    lab: String,
}

impl Cli {
    fn new(part: &str) -> Self {
        Self { lab: format!("clitest-{part}-{}", process::id()) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmmc"));
        command.args(["lab", "--name", &self.lab]).args(args).env_remove("VMMC_LOG");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("vmmc can be started")
    }

    /// Runs a command that is to succeed, and returns what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that is to fail, and returns its error message.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let down = self.run(&["down"]);
        if thread::panicking() {
            return;
        }
        assert!(down.status.success(), "{down:?}");
        let left = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for entry in left {
            let name = entry.file_name().into_string().expect("text");
            assert!(!name.starts_with(&self.lab), "{name} is left over");
        }
    }
}

#[test]
fn from_up_to_down() {
    let cli = Cli::new("story");
    let text = cli.ok(&["up", "--hosts", "3", "--mtu", "9000", "--queues", "3"]);
    for part in ["3 hosts", "bridge", "MTU 9000", "3 queues", "10.77.0.3 fd77::3", "exec h1 --"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let again = cli.ok(&["up", "--hosts", "3", "--mtu", "9000", "--queues", "3"]);
    assert!(again.contains("was up already"), "{again}");

    let status = cli.ok(&["status"]);
    let host = format!("{}-h2", cli.lab);
    let row = status.lines().find(|line| line.contains(&host)).expect("h2 is listed");
    let cells: Vec<_> = row.split_whitespace().collect();
    let expected = ["h2", &host, "vh2", "10.77.0.2", "fd77::2", "9000", "3", "up", "-", "-"];
    assert_eq!(cells, expected);

    let rebuilt = cli.ok(&["up"]);
    assert!(rebuilt.contains("made anew (it has 3 hosts)"), "{rebuilt}");
    assert!(cli.ok(&["down"]).contains("is removed"));
    assert!(cli.ok(&["down"]).contains("There was no lab"));
}

#[test]
fn exec_runs_on_the_host_and_passes_on_the_exit_status() {
    let cli = Cli::new("exec");
    cli.ok(&["up"]);
    for host in ["h2", "2"] {
        let text = cli.ok(&["exec", host, "--", "ls", "/sys/class/net"]);
        assert!(text.lines().any(|line| line == "vh2"), "{text}");
    }
    let output = cli.run(&["exec", "h1", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    let output = cli.run(&["exec", "h1", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15));

    let error = cli.fails(&["exec", "h3", "--", "true"]);
    assert!(error.contains("no host h3: its hosts are h1, h2"), "{error}");
    let error = cli.fails(&["exec", "h1", "--", "no-such-program"]);
    assert!(error.contains("no-such-program"), "{error}");
    assert!(!cli.fails(&["exec", "h1"]).is_empty());
}

#[test]
fn status_lists_processes_and_damage() {
    let cli = Cli::new("status");
    cli.ok(&["up"]);
    let mut sleeper = cli
        .command(&["exec", "h1", "--", "sh", "-c", "echo ready; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("vmmc can be started");
    let mut ready = [0; 6];
    let pipe = sleeper.stdout.as_mut().expect("it is piped");
    std::io::Read::read_exact(pipe, &mut ready).expect("sh says that it runs");
    let status = cli.ok(&["status"]);
    assert!(status.contains(&sleeper.id().to_string()), "{status}");

    let host = format!("{}-h2", cli.lab);
    let delete = Command::new("ip").args(["netns", "delete", &host]).status();
    assert!(delete.expect("ip can be started").success());
    let output = cli.run(&["status"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains(&format!("damaged ({host} is missing)")), "{text}");
    let error = cli.fails(&["exec", "h1", "--", "true"]);
    assert!(error.contains("damaged"), "{error}");

    cli.ok(&["down"]);
    assert!(!sleeper.wait().expect("it was started").success());
}

#[test]
fn verbose_shows_the_commands() {
    let cli = Cli::new("verbose");
    let output = cli.run(&["up", "--verbose"]);
    assert!(output.status.success());
    let log = String::from_utf8(output.stderr).expect("text");
    let add = format!("+ ip netns add {}-h1", cli.lab);
    assert!(log.lines().any(|line| line.ends_with(&add)), "{log}");
}

#[test]
fn bad_input_is_explained() {
    let cli = Cli::new("bad");
    let cases: [(&[&str], &str); 7] = [
        (&["up", "--hosts", "1"], "choose 2 to 64"),
        (&["up", "--hosts", "65"], "choose 2 to 64"),
        (&["up", "--mtu", "1000"], "choose 1280 to 65535"),
        (&["up", "--queues", "0"], "choose 1 to 64"),
        (&["up", "--name", "a/b"], "can't be a lab's name"),
        (&["status"], "there is no lab"),
        (&["exec", "h1", "--", "true"], "there is no lab"),
    ];
    for (args, message) in cases {
        let error = cli.fails(args);
        assert!(error.contains(message), "{args:?}: {error}");
    }
}

#[test]
fn without_root_the_error_says_what_to_run() {
    let program = env!("CARGO_BIN_EXE_vmmc");
    // A copy, since the directory of the original may be closed to others.
    let copy = std::env::temp_dir().join(format!("vmmc-clitest-{}", process::id()));
    fs::copy(program, &copy).expect("the program can be copied");
    let output =
        std::os::unix::process::CommandExt::uid(Command::new(&copy).args(["lab", "up"]).current_dir("/"), 65534)
            .output();
    fs::remove_file(&copy).expect("the copy can be removed");
    let output = output.expect("vmmc can be started as another user: this test needs root");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("text");
    let expected = format!("creating a network namespace needs root: sudo {} lab up", copy.display());
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn without_iproute2_the_error_says_what_to_install() {
    // `ip` is looked for in the places where every system has it, so they are hidden: in a mount
    // namespace of its own.
    let script = format!(
        "set -e; for dir in /usr/sbin /sbin; do [ -d $dir ] && mount -t tmpfs none $dir; done; \
         PATH=/nowhere exec {} lab up",
        env!("CARGO_BIN_EXE_vmmc")
    );
    let output =
        Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().expect("unshare can be started");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains("install iproute2"), "{error}");
}

#[test]
fn an_interrupted_up_leaves_nothing() {
    let cli = Cli::new("stop");
    let mut up = cli.command(&["up", "--hosts", "40"]);
    let mut up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vmmc can be started");
    let first = format!("/run/netns/{}-h1", cli.lab);
    while !fs::exists(&first).expect("it can be looked for") {
        assert!(up.try_wait().expect("it was started").is_none(), "it ended too early: this test needs root");
        thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it still runs");
    let output = up.wait_with_output().expect("it was started");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains("interrupted: the lab is removed again"), "{error}");
    assert!(cli.ok(&["down"]).contains("There was no lab"));
}

#[test]
fn an_interrupted_down_is_completed() {
    let cli = Cli::new("rest");
    cli.ok(&["up", "--hosts", "20"]);
    let mut down = cli.command(&["down"]);
    let mut down = down.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vmmc can be started");
    let first = format!("/run/netns/{}-h1", cli.lab);
    while fs::exists(&first).expect("it can be looked for") {
        assert!(down.try_wait().expect("it was started").is_none(), "it ended too early: this test needs root");
        thread::yield_now();
    }
    // It may be done before the signal comes.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&down), rustix::process::Signal::INT);
    let output = down.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{output:?}");
    assert!(cli.ok(&["down"]).contains("There was no lab"));
}
