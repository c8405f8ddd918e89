//! `cargo xtask setup`: the system packages that building and running need.
//!
//! What is missing is judged by what is there, not by the package manager's list: a clang that was
//! installed in another way will do. Nothing is done when nothing is missing.

use std::process::{Command, Stdio};

use crate::process::{Failure, as_root, find, run};

/// Something the workspace needs from the system.
struct Need {
    present: Test,
    /// Its packages on Debian and Ubuntu.
    apt: &'static str,
    /// Its packages on Fedora and its kin.
    dnf: &'static str,
    why: &'static str,
}

/// How to tell whether it is there.
enum Test {
    /// All of these programs.
    Programs(&'static [&'static str]),
    /// A library's development files, which pkg-config knows by this name.
    Library(&'static str),
}

const NEEDS: &[Need] = &[
    Need {
        present: Test::Programs(&["gcc", "cc"]),
        apt: "gcc libc6-dev",
        dnf: "gcc glibc-devel",
        why: "compiles libbpf and libxdp",
    },
    Need {
        present: Test::Programs(&["ld", "objcopy", "readelf"]),
        apt: "binutils",
        dnf: "binutils",
        why: "puts libxdp's eBPF programs into the library",
    },
    Need {
        present: Test::Programs(&["clang"]),
        apt: "clang",
        dnf: "clang",
        why: "compiles the eBPF programs; its library reads the C headers for Rust",
    },
    Need { present: Test::Programs(&["make"]), apt: "make", dnf: "make", why: "builds libbpf" },
    Need { present: Test::Programs(&["m4"]), apt: "m4", dnf: "m4", why: "generates libxdp's dispatcher" },
    Need {
        present: Test::Programs(&["pkg-config"]),
        apt: "pkg-config",
        dnf: "pkgconf-pkg-config",
        why: "finds the libraries",
    },
    Need {
        present: Test::Library("libelf"),
        apt: "libelf-dev",
        dnf: "elfutils-libelf-devel",
        why: "reads eBPF object files, in libbpf",
    },
    Need {
        present: Test::Library("zlib"),
        apt: "zlib1g-dev",
        dnf: "zlib-devel",
        why: "unpacks their sections, in libelf",
    },
    Need {
        present: Test::Programs(&["ip"]),
        apt: "iproute2",
        dnf: "iproute",
        why: "makes the hosts that the tests and the demo run on",
    },
    Need {
        present: Test::Programs(&["ethtool"]),
        apt: "ethtool",
        dnf: "ethtool",
        why: "sets the queues and offloads of interfaces",
    },
    Need {
        present: Test::Programs(&["tshark"]),
        apt: "tshark",
        dnf: "wireshark-cli",
        why: "tests the Wireshark dissector",
    },
];

/// What `cargo xtask browser` takes besides.
const BROWSER: &[Need] = &[
    Need {
        present: Test::Programs(&["chromium"]),
        apt: "chromium fonts-dejavu-core",
        dnf: "chromium dejavu-sans-fonts",
        why: "shows a page",
    },
    Need {
        present: Test::Programs(&["timeout"]),
        apt: "coreutils",
        dnf: "coreutils",
        why: "ends a browser that hangs",
    },
];

impl Need {
    fn is_missing(&self) -> bool {
        match self.present {
            Test::Programs(programs) => programs.iter().any(|program| find(program).is_none()),
            Test::Library(name) => !Command::new("pkg-config")
                .args(["--exists", name])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// Installs what is missing.
pub(crate) fn setup() -> Result<(), Failure> {
    install(NEEDS)
}

/// Installs a browser if there is none.
pub(crate) fn setup_browser() -> Result<(), Failure> {
    install(BROWSER)
}

fn install(all: &'static [Need]) -> Result<(), Failure> {
    let needs = missing(all);
    if needs.is_empty() {
        println!("System packages: everything needed is installed.");
        return Ok(());
    }
    println!("System packages: these are missing and will be installed:");
    let manager = ["apt-get", "dnf"].into_iter().find(|manager| find(manager).is_some());
    let is_dnf = manager == Some("dnf");
    let names = |need: &Need| if is_dnf { need.dnf } else { need.apt };
    for need in &needs {
        println!("  {:24} {}", names(need), need.why);
    }
    let packages = needs.iter().flat_map(|need| names(need).split(' '));

    match manager {
        Some("dnf") => run(as_root("dnf")?.args(["install", "-y"]).args(packages))?,
        Some(_) => {
            // sudo passes on no environment, so `env` stands behind it.
            let quietly = ["DEBIAN_FRONTEND=noninteractive", "apt-get"];
            run(as_root("env")?.args(quietly).args(["update", "-q"]))?;
            let install = ["install", "-y", "-q", "--no-install-recommends"];
            run(as_root("env")?.args(quietly).args(install).args(packages))?;
        }
        None => {
            return Err(Failure::Other(
                "neither apt-get nor dnf is here: install the packages listed above (these are \
                 their names on Debian) and try again"
                    .into(),
            ));
        }
    }
    match missing(all).first() {
        None => Ok(()),
        Some(need) => Err(Failure::Other(format!(
            "{} is installed, but what is needed of it is still not found: it {}",
            names(need),
            need.why
        ))),
    }
}

fn missing(all: &'static [Need]) -> Vec<&'static Need> {
    all.iter().filter(|need| need.is_missing()).collect()
}
