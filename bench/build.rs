//! Tells the program what it is built from: the git commit, the compiler, and the crates that AF_XDP is reached through.
//!
//! For the head of its HTML pages. What can't be found out is left empty: a build outside git is as good as any.

use std::env;
use std::fs;
use std::process::Command;

const CRATES: [&str; 4] = ["xsk-rs", "libxdp-sys", "libbpf-rs", "libbpf-sys"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let top = output("git", &["rev-parse", "--absolute-git-dir"]);
    if let Some(git) = &top {
        // HEAD names a branch; its log grows with every commit.
        for file in ["HEAD", "logs/HEAD"] {
            println!("cargo::rerun-if-changed={git}/{file}");
        }
    }
    tell("VMMC_COMMIT", output("git", &["rev-parse", "--short=12", "HEAD"]));
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    tell("VMMC_RUSTC", output(&rustc, &["--version"]));
    tell("VMMC_PROFILE", env::var("PROFILE").ok());
    tell("VMMC_CRATES", crates());
}

fn tell(name: &str, value: Option<String>) {
    println!("cargo::rustc-env={name}={}", value.unwrap_or_default());
}

/// What a program says in its first line, if it is there and content.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// Names and versions, from the workspace's lock file.
fn crates() -> Option<String> {
    const LOCK: &str = "../Cargo.lock";
    println!("cargo::rerun-if-changed={LOCK}");
    let lock = fs::read_to_string(LOCK).ok()?;
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        rest.split_once('"').map(|(version, _)| format!("{name} {version}"))
    };
    Some(CRATES.into_iter().filter_map(version).collect::<Vec<_>>().join(", "))
}
