//! `cargo xtask`: from a fresh clone to a running demo or a tested tree, in one command.
//!
//! This program needs nothing but Rust. It installs the system packages that the rest of the
//! workspace needs ([`setup`]), builds it, and runs the demo ([`demo`]), the tests ([`mod@test`]) or the fuzz targets ([`fuzz`]),
//! has an interpreter look for undefined behaviour ([`mod@miri`]), looks at a report in a browser ([`browser`]), or tries nodes on emulated NICs ([`mod@guest`]).

mod browser;
mod demo;
mod fuzz;
mod guest;
mod miri;
mod nightly;
mod process;
mod setup;
mod test;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use process::Failure;

const HELP: &str = "\
Installs what VMMC needs, builds it, and runs its demo or its tests.

Usage: cargo xtask COMMAND

  demo            Show VMMC at work between two hosts on this machine: one writes a file into the
                  other's memory, then the latency is measured beside kernel TCP's
  test [ARGS]     Run every test of the workspace; ARGS go to `cargo test`
  fuzz [SECONDS]  Run every fuzz target for 60 seconds, or so many; needs a nightly compiler and cargo-fuzz
  miri [TESTS]    Run the tests of the library's memory, or TESTS, in an interpreter that notices undefined behaviour; needs a
                  nightly compiler and Miri
  browser [FILE]  Open FILE, a page of `vmmc-bench --html` or `vmmc utlb run --html`, or one made for the purpose, in
                  headless Chromium, check it, and leave screenshots; installs Chromium
  guest [NIC]     Run vmmc on the driver of igb, or virtio, or of first one, then the other, in a machine that QEMU emulates; downloads QEMU
                  and a kernel from Debian, 170 MB, into the target directory
  setup           Only install the system packages that building and running need
  help            This

demo, test, fuzz, miri, and browser without FILE begin with setup. The tests, the demo and setup need root; started by another user they
build as that user and call sudo for the rest.
";

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();

    process::catch_signals();
    let result = match (command.to_str(), rest.as_slice()) {
        (Some("demo"), []) => demo::demo(),
        (Some("demo"), [built]) if built == demo::BUILT => demo::run_built(),
        (Some("test"), args) => test::test(args),
        (Some("fuzz"), []) => fuzz::fuzz(None),
        (Some("fuzz"), [seconds]) => fuzz::fuzz(Some(seconds)),
        (Some("miri"), args) => miri::miri(args),
        (Some("browser"), []) => browser::browser(None),
        (Some("browser"), [file]) => browser::browser(Some(file)),
        (Some("guest"), []) => guest::guest(None),
        (Some("guest"), [nic]) => guest::guest(nic.to_str()),
        (Some("setup"), []) => setup::setup(),
        (Some("help" | "--help" | "-h"), _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            eprintln!("xtask: interrupted");
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
