//! Compiles the steering program, and those for tests if they are asked for, with clang, and generates their Rust skeletons.
//!
//! Besides Rust this needs two things from the system: `clang` (with its BPF back end, which every
//! distribution enables) and the kernel's exported headers. The `<bpf/...>` headers need no package:
//! libbpf-cargo carries those of the libbpf it was built with.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use libbpf_cargo::SkeletonBuilder;

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=src/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    if let Err(error) = Command::new(&clang).arg("--version").output() {
        return Err(format!(
            "the steering program is compiled by clang, but `{}` does not run: {error}\n\
             install it (apt-get install clang, dnf install clang), or set CLANG to where it is",
            clang.display(),
        ));
    }
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by cargo")?);
    compile("steer", &clang, &output)?;
    for (program, feature) in [("damage", "CARGO_FEATURE_DAMAGE"), ("queues", "CARGO_FEATURE_QUEUES")] {
        if env::var_os(feature).is_some() {
            compile(program, &clang, &output)?;
        }
    }
    Ok(())
}

fn compile(program: &str, clang: &OsStr, output: &Path) -> Result<(), String> {
    SkeletonBuilder::new()
        .source(format!("src/bpf/{program}.bpf.c"))
        .clang(clang)
        .clang_args(arguments())
        .build_and_generate(output.join(format!("{program}.skel.rs")))
        .map_err(|error| {
            let text = format!("{error:#}");
            let advice = if text.contains("file not found") {
                "\nthe kernel's headers are missing: apt-get install linux-libc-dev, \
                 or dnf install kernel-headers"
            } else if text.contains("unknown target") || text.contains("No available targets") {
                "\nthis clang was built without the BPF back end: \
                 set CLANG to one that lists bpf under --print-targets"
            } else {
                ""
            };
            text + advice
        })
}

/// The instruction set, of which version 3 has the atomic instructions that the gate needs (Linux 5.12), and where
/// `<asm/...>` is. Debian keeps these headers apart for every architecture, and `-target bpf` makes clang forget
/// which architecture's to look in.
fn arguments() -> Vec<String> {
    let variable = |name| env::var(name).unwrap_or_default();
    let triple = match variable("CARGO_CFG_TARGET_ARCH").as_str() {
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "powerpc64" if variable("CARGO_CFG_TARGET_ENDIAN") == "little" => "powerpc64le-linux-gnu".to_owned(),
        "x86" => "i386-linux-gnu".to_owned(),
        architecture => format!("{architecture}-linux-gnu"),
    };
    let directory = Path::new("/usr/include").join(triple);
    let mut arguments = vec!["-mcpu=v3".to_owned()];
    if directory.is_dir() {
        arguments.push(format!("-I{}", directory.display()));
    }
    arguments
}
