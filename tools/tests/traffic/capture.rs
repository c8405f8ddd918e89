//! `vmmc capture`, of a node that is at work.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::hosts::{Finished, Hosts, Program, text};
use super::tshark;

const LENGTH: usize = 3 << 20;

fn command(hosts: &Hosts, args: &[&str]) -> Command {
    hosts.looking(&[&["capture"], args].concat())
}

/// Starts to capture what `node` does into a file, and waits until that has begun.
fn capture(hosts: &Hosts, node: &Program, args: &[&str]) -> (Program, PathBuf) {
    let file = hosts.files.path().join(format!("{}.pcapng", fs::read_dir(hosts.files.path()).unwrap().count()));
    let id = node.id().to_string();
    let args = [&[&id, "--write", text(&file)], args].concat();
    let mut program = Program::start(command(hosts, &args));
    // The file appears when the capture runs.
    while !file.exists() {
        if program.has_ended() {
            panic!("it doesn't capture: {:?}", program.finish());
        }
        thread::sleep(Duration::from_millis(5));
    }
    (program, file)
}

/// Ends a capture as Ctrl-C does. Returns what it says, which is that it has all.
fn interrupt(program: Program) -> String {
    program.signal(Signal::INT);
    let finished = program.finish();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    finished.err
}

/// A column of every packet that passes the filter.
fn column(file: &Path, filter: &str, field: &str) -> Vec<String> {
    let out = tshark::run(file, &["-Y", filter, "-T", "fields", "-e", field]);
    out.lines().map(str::to_owned).collect()
}

/// How many bytes of payload have been put into the export, by its name.
fn payload(file: &Path, filter: &str) -> usize {
    let filter = format!("vmmc.put.export == \"inbox\" && !vmmc.repeats && {filter}");
    let lengths = column(file, &filter, "vmmc.put.length");
    lengths.iter().flat_map(|packet| packet.split(',')).map(|length| length.parse::<usize>().unwrap()).sum()
}

#[test]
fn a_put_is_seen_whole_from_both_ends_of_it() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:8MiB"]);
    let (whole, file) = capture(&hosts, &server, &[]);
    let (short, headers) = capture(&hosts, &server, &["--snaplen", "128"]);
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&hosts.file("file", LENGTH))]);
    let said = interrupt(whole);
    let packets = column(&file, "frame", "frame.number").len();
    assert!(said.contains(&format!("\n{packets} packets captured, 0 missed (in {})", file.display())), "{said}");
    assert_eq!(payload(&file, "frame.packet_flags_direction == 1"), LENGTH);
    assert_eq!(payload(&file, "frame.packet_flags_direction == 2"), 0);
    assert!(column(&file, "frame.packet_flags_direction == 2 && vmmc", "frame.number").len() > 10);
    for wrong in ["!vmmc", "vmmc.malformed || vmmc.malformed.reserved || _ws.malformed", "vmmc.checksum.status != 1"] {
        assert_eq!(column(&file, wrong, "_ws.col.Info"), [""; 0], "{wrong}");
    }
    // From the first packet to the last, which a CLOSE that is repeated may follow, and the RESET that answers it.
    let kinds = column(&file, "frame", "vmmc.kind");
    assert!(kinds[0] == "1" && kinds[kinds.len() - 5..].iter().any(|kind| kind == "5"), "{kinds:?}");
    let interface = hosts.lab.host(2).interface.clone();
    assert!(column(&file, "frame", "frame.interface_name").iter().all(|name| *name == interface));

    interrupt(short);
    assert_eq!(payload(&headers, "frame"), LENGTH, "lengths are in the headers");
    assert!(column(&headers, "frame.cap_len > 128", "frame.number").is_empty());
    // It has run for longer.
    assert!(column(&headers, "frame", "frame.len").starts_with(&column(&file, "frame", "frame.len")));
    server.interrupt();
}

#[test]
fn lines_say_the_same_and_end_with_their_reader() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:8MiB"]);
    let id = server.id().to_string();
    let counted = Program::start(command(&hosts, &[&id, "--count", "3"]));
    let mut all = Program::start(command(&hosts, &[&id]));
    let mut shell = Command::new("sh");
    let pipe = format!("{} capture {id} | head -n 2", env!("CARGO_BIN_EXE_vmmc"));
    shell.args(["-c", &pipe]).env(vmmc::monitor::RUN_DIR, hosts.run_dir());
    let head = Program::start(shell);
    // However late they begin, there is more.
    let ping = hosts.start(1, &["ping", "10.77.0.2", "--interval", "0.001"]);
    let counted = counted.finish();
    assert!(counted.code() == Some(0) && counted.out.lines().count() == 3, "{counted:?}");
    let head = head.finish();
    assert!(head.code() == Some(0) && head.out.lines().count() == 2 && !head.err.contains("error"), "{head:?}");
    all.wait_for(" <- 10.77.0.1:7000  HELLO mtu=1500 ");
    for way in ["->", "<-"] {
        while !all.wait_for(&format!(" {way} 10.77.0.1:7000  DATA seq=")).contains(" PUT grant=") {}
    }
    interrupt(all);
    drop(ping);
    drop(server);
}

#[test]
fn a_capture_ends_with_its_node() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let (program, file) = capture(&hosts, &server, &[]);
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "10"]);
    server.interrupt();
    let finished = program.finish();
    assert!(finished.code() == Some(0) && finished.err.contains(" 0 missed"), "{finished:?}");
    assert!(column(&file, "vmmc", "frame.number").len() > 20);

    let server = hosts.serve(2, &[]);
    let (mut program, file) = capture(&hosts, &server, &[]);
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "10"]);
    // What has come by now isn't lost.
    while fs::metadata(&file).unwrap().len() < 2000 {
        assert!(!program.has_ended(), "{:?}", program.finish());
        thread::sleep(Duration::from_millis(5));
    }
    server.kill();
    let error = program.finish().err;
    assert!(error.contains("error: ") && error.contains("it was killed"), "{error}");
    assert!(column(&file, "vmmc", "frame.number").len() > 2, "the file is good nevertheless");
}

#[test]
fn a_slow_reader_is_told_what_it_has_missed() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &["--export", "inbox:64MiB"]);
    let mut capture = command(&hosts, &[&server.id().to_string(), "--write", "-"]);
    let mut capture = vmmc_lab::ChildGuard::spawn(capture.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
    let (mut out, mut err) = (capture.stdout.take().unwrap(), capture.stderr.take().unwrap());
    // Its beginning is there when it runs.
    let mut begin = [0; 8];
    std::io::Read::read_exact(&mut out, &mut begin).unwrap();
    hosts.ok(1, &["put", "10.77.0.2", "inbox", text(&hosts.file("large", 48 << 20))]);
    let file = hosts.files.path().join("slow.pcapng");
    let copy = thread::spawn({
        let file = file.clone();
        move || {
            let mut file = File::create(file).unwrap();
            std::io::Write::write_all(&mut file, &begin).unwrap();
            std::io::copy(&mut out, &mut file).unwrap()
        }
    });
    // What comes after the gap tells how large it is.
    hosts.ok(1, &["ping", "10.77.0.2", "--count", "5"]);
    let pid = rustix::process::Pid::from_raw(capture.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    copy.join().unwrap();
    assert!(capture.wait().unwrap().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut err, &mut said).unwrap();
    let numbers: Vec<u64> = said.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    let [captured, missed] = numbers[..2] else { panic!("{said}") };
    assert_eq!(column(&file, "frame", "frame.number").len() as u64, captured);
    assert!(missed > 1000 && said.contains("try --snaplen 128"), "{said}");
    let drops: Vec<u64> =
        column(&file, "frame.drop_count", "frame.drop_count").iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!(drops.iter().sum::<u64>(), missed, "all of them are before a packet that is there");
    assert!(server.interrupt().contains("1 puts verified"), "the node doesn't care");
}

#[test]
fn wireshark_is_started_with_the_dissector() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    // A wireshark without windows.
    let directory = tempfile::tempdir().unwrap();
    let (fake, out) = (directory.path().join("wireshark"), directory.path().join("out"));
    let script =
        format!("#!/bin/sh\n[ \"$*\" = \"-k -i - -X $5\" ] && exec tshark -X \"$5\" -r - >{}\n", out.display());
    fs::write(&fake, script).unwrap();
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut capture = command(&hosts, &[&server.id().to_string(), "--wireshark", "--count", "20"]);
    capture.env("PATH", path);
    let capture = Program::start(capture);
    let ping = hosts.start(1, &["ping", "10.77.0.2", "--interval", "0.001"]);
    let finished = capture.finish();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let shown = fs::read_to_string(out).unwrap();
    assert!(shown.lines().filter(|line| line.contains(" VMMC ")).count() == 20, "{shown}");
    drop((ping, server));
}

#[test]
fn what_can_t_be_is_explained() {
    let hosts = Hosts::new(2);
    let server = hosts.serve(2, &[]);
    let id = server.id().to_string();
    let run = |args: &[&str]| -> Finished { Program::start(command(&hosts, args)).finish() };
    let missing = hosts.files.path().join("no/file");
    for (args, part) in [
        (&["no-such-interface"][..], "no node is on interface no-such-interface"),
        (&[&id, "--write", text(&missing)], "No such file"),
    ] {
        let error = run(args).failure();
        assert!(error.contains(part), "{error}");
    }
    for args in [&["--snaplen", "0"][..], &["--count", "0"], &["--duration", "-1"], &["--wireshark", "--write", "-"]] {
        assert_eq!(run(args).code(), Some(2), "{args:?}");
    }
    // The other end of a terminal is one, too.
    let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let output = command(&hosts, &[&id, "--write", "-"]).stdout(terminal).stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("wireshark -k -i -"), "{error}");
    let lua = run(&["--dissector"]);
    assert_eq!(lua.out, fs::read_to_string(tshark::dissector()).unwrap());
    assert!(lua.err.contains("plugins"), "{lua:?}");
}
