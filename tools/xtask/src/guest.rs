//! `cargo xtask guest`: nodes on the drivers of real NICs, which QEMU emulates.
//!
//! QEMU and a recent kernel come from Debian, by apt-get with a configuration of its own, and are unpacked in the target directory: nothing
//! is installed, and root isn't needed. QEMU runs with the libraries it came with. The guest's first and only program is [a script](INIT), which shows
//! what `vmmc` says and does there, and checks it. Without KVM, so that it runs anywhere: that is for correctness, and not for speed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Failure, cargo, find, run, start, wait};

const INIT: &str = include_str!("guest/init.sh");
/// What the script says last.
const WELL: &str = "guest: all is well";

const PACKAGES: [&str; 4] = ["qemu-system-x86", "busybox-static", "xz-utils", "linux-image-amd64/trixie-backports"];
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A NIC that QEMU emulates.
struct Nic {
    name: &'static str,
    /// What QEMU calls it, with its settings.
    device: &'static str,
    /// Its driver and what that needs, in the order they are loaded.
    modules: &'static [&'static str],
}

const NICS: [Nic; 2] = [
    Nic { name: "igb", device: "igb", modules: &["dca", "i2c-algo-bit", "igb"] },
    Nic {
        name: "virtio",
        device: "virtio-net-pci,disable-legacy=on,iommu_platform=on,rx_queue_size=1024",
        modules: &["failover", "net_failover", "virtio_net"],
    },
];

/// Runs the guest with NICs of this kind, or first with one kind, then with the other.
pub(crate) fn guest(kind: Option<&str>) -> Result<(), Failure> {
    let nics: Vec<&Nic> = NICS.iter().filter(|nic| kind.is_none_or(|kind| kind == nic.name)).collect();
    if nics.is_empty() {
        return Err(other("the NICs are igb and virtio".to_owned()));
    }
    run(cargo().args(["build", "-p", "vmmc-tools"]))?;
    let this = env::current_exe().map_err(|error| other(format!("where xtask is can't be found: {error}")))?;
    // Ours is target/debug/xtask, wherever the target directory is.
    let target = this.ancestors().nth(2).unwrap_or(Path::new("target"));
    let guest = Guest { dir: target.join("guest"), vmmc: target.join("debug/vmmc") };
    guest.fetch()?;
    for nic in nics {
        guest.run(nic)?;
    }
    Ok(())
}

struct Guest {
    dir: PathBuf,
    vmmc: PathBuf,
}

impl Guest {
    /// Where the packages are unpacked.
    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Downloads and unpacks what isn't there.
    fn fetch(&self) -> Result<(), Failure> {
        let (apt, root, done) = (self.dir.join("apt"), self.root(), self.dir.join("unpacked"));
        if done.exists() {
            return Ok(());
        }
        if let Some(missing) = ["apt-get", "dpkg-deb"].into_iter().find(|program| find(program).is_none()) {
            return Err(other(format!(
                "there is no {missing} here: this takes Debian, or one of its kin, for QEMU and the guest's kernel"
            )));
        }
        if !Path::new(KEYS).exists() {
            return Err(other(format!("there is no {KEYS}: apt-get install debian-archive-keyring")));
        }
        for dir in ["lists/partial", "cache/archives/partial", "none"] {
            make(&apt.join(dir))?;
        }
        let suites =
            ["trixie", "trixie-backports"].map(|suite| format!("deb [signed-by={KEYS}] {MIRROR} {suite} main\n"));
        write(&apt.join("sources.list"), &suites.concat())?;
        // No package is installed there, as far as it knows.
        write(&apt.join("status"), "")?;
        let apt = apt.to_str().filter(|apt| !apt.contains(['"', '\n'])).ok_or_else(|| {
            other(format!(
                "the target directory is {}, and apt-get takes no quotes there: choose another",
                apt.display()
            ))
        })?;
        let config = format!(
            "Dir \"{apt}\"; Dir::Etc \"{apt}\"; Dir::State \"{apt}\"; Dir::State::status \"{apt}/status\"; Dir::Cache \"{apt}/cache\";\n\
             Dir::Etc::sourcelist \"{apt}/sources.list\"; Dir::Etc::sourceparts \"{apt}/none\"; Dir::Etc::preferencesparts \"{apt}/none\";\n\
             Dir::Etc::parts \"{apt}/none\"; APT::Architecture \"amd64\"; APT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\"; APT::Sandbox::User \"\"; Acquire::Languages \"none\";\n"
        );
        let file = self.dir.join("apt/apt.conf");
        write(&file, &config)?;
        let get = || {
            let mut command = Command::new("apt-get");
            command.env("APT_CONFIG", &file).arg("-q");
            command
        };
        run(get().arg("update"))?;
        run(get().args(["install", "--download-only", "-y"]).args(PACKAGES))?;
        println!("unpacking into {}", root.display());
        make(&root)?;
        let archives = self.dir.join("apt/cache/archives");
        for entry in fs::read_dir(&archives).map_err(at(&archives))?.flatten() {
            let package = entry.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                quietly(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
                fs::remove_file(&package).map_err(at(&package))?;
            }
        }
        write(&done, "")
    }

    /// A program of those that were unpacked, with the libraries that it came with.
    fn unpacked(&self, program: &str) -> Command {
        let lib = self.root().join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.root().join("usr/lib64/ld-linux-x86-64.so.2"));
        command.env("QEMU_MODULE_DIR", lib.join("qemu"));
        command.arg("--library-path").arg(lib).arg(self.root().join(program));
        command
    }

    /// The unpacked kernel's files.
    fn kernel(&self) -> Result<PathBuf, Failure> {
        let all = self.root().join("usr/lib/modules");
        let found = fs::read_dir(&all).map_err(at(&all))?.flatten().next();
        found.map(|entry| entry.path()).ok_or_else(|| other(format!("there is no kernel in {}", all.display())))
    }

    /// Makes the guest's file system: programs of this machine, their libraries, and the guest's modules. Returns it, packed.
    fn pack(&self, nic: &Nic) -> Result<PathBuf, Failure> {
        let files = self.dir.join("files");
        let _ = fs::remove_dir_all(&files);
        for dir in ["bin", "busybox", "proc", "sys", "dev", "tmp", "run", "modules"] {
            make(&files.join(dir))?;
        }
        let tool =
            |name| find(name).ok_or_else(|| other(format!("there is no {name} here: `cargo xtask setup` installs it")));
        let programs = [self.vmmc.clone(), tool("ip")?, tool("ethtool")?];
        let mut libraries = BTreeSet::new();
        for program in &programs {
            let said = output(Command::new("ldd").arg(program))?;
            libraries.extend(said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
            copy(program, &files.join("bin").join(program.file_name().unwrap_or_default()))?;
        }
        for library in libraries {
            copy(&library, &files.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
        let busybox = self.root().join("usr/bin/busybox");
        copy(&busybox, &files.join("bin/busybox"))?;
        symlink("/bin/busybox", files.join("bin/sh")).map_err(at(&files))?;
        write(&files.join("init"), INIT)?;
        fs::set_permissions(files.join("init"), PermissionsExt::from_mode(0o755)).map_err(at(&files))?;
        let kernel = self.kernel()?;
        let listed = output(Command::new("find").arg(&kernel).args(["-name", "*.ko.xz"]))?;
        let mut order = String::new();
        for module in nic.modules {
            let name = format!("{module}.ko");
            let packed = listed.lines().find(|path| path.ends_with(&format!("/{name}.xz")));
            let packed = packed.ok_or_else(|| other(format!("the guest's kernel has no module {module}")))?;
            let to = fs::File::create(files.join("modules").join(&name)).map_err(at(&files))?;
            quietly(self.unpacked("usr/bin/xz").arg("-dc").arg(packed).stdout(to))?;
            order += &format!("{name}\n");
        }
        write(&files.join("modules/order"), &order)?;
        let image = self.dir.join("initramfs");
        quietly(&mut archive(&files, &busybox, &image))?;
        Ok(image)
    }

    fn run(&self, nic: &Nic) -> Result<(), Failure> {
        let image = self.pack(nic)?;
        let log = self.dir.join(format!("{}.log", nic.name));
        println!("a guest with two NICs of the kind {}; what it says is in {} then", nic.name, log.display());
        let mut qemu = self.unpacked("usr/bin/qemu-system-x86_64");
        for data in ["share/qemu", "share/seabios", "lib/ipxe/qemu"] {
            qemu.arg("-L").arg(self.root().join("usr").join(data));
        }
        qemu.args(["-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", "1500M"]);
        qemu.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
        for number in 1..=2 {
            qemu.arg("-device").arg(format!("pcie-root-port,id=port{number},slot={number},chassis={number}"));
            qemu.arg("-netdev").arg(format!("hubport,id=hub{number},hubid=0"));
            let bus = format!("bus=port{number},netdev=hub{number},mac=52:54:00:00:00:0{number},romfile=");
            qemu.arg("-device").arg(format!("{},{bus}", nic.device));
        }
        qemu.arg("-kernel").arg(self.kernel()?.join("vmlinuz")).arg("-initrd").arg(image);
        qemu.arg("-append")
            .arg("console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable clocksource=tsc net.ifnames=0");
        // What hangs is ended: a run takes less than a minute where nothing else does.
        let mut limited = Command::new("timeout");
        limited.args(["-k", "5", "600"]).arg(qemu.get_program()).args(qemu.get_args());
        limited.envs(qemu.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        limited.stdout(fs::File::create(&log).map_err(at(&log))?);
        let status = wait(&mut start(&mut limited)?)?;
        let said = String::from_utf8_lossy(&fs::read(&log).map_err(at(&log))?).replace('\r', "");
        // The firmware has cleared the screen before.
        print!("{}", said.split_once("guest: begins").map_or("", |(_, rest)| rest));
        match said.contains(WELL) {
            true => Ok(()),
            false => Err(other(format!("the guest with {} failed ({status}): see {}", nic.name, log.display()))),
        }
    }
}

/// Has `busybox` pack a directory into `image`. The shell is given the paths as arguments, so that they may contain anything.
fn archive(directory: &Path, busybox: &Path, image: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"find . | "$1" cpio -o -H newc 2>/dev/null > "$2""#, "sh"]);
    command.arg(busybox).arg(image).current_dir(directory);
    command
}

fn other(text: String) -> Failure {
    Failure::Other(text)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| other(format!("{path}: {error}"))
}

fn make(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(at(dir))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(at(file))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    make(to.parent().unwrap_or(to))?;
    fs::copy(from, to).map(|_| ()).map_err(at(from))
}

/// Runs what needn't be shown.
fn quietly(command: &mut Command) -> Result<(), Failure> {
    let status = wait(&mut start(command)?)?;
    if status.success() { Ok(()) } else { Err(Failure::Status(crate::process::line(command), status)) }
}

fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| Failure::Start(crate::process::line(command), error))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_contain_anything() {
        let dir = env::temp_dir().join(format!("xtask {} it's \"quoted\" $(false); `false` *", std::process::id()));
        let files = dir.join("the files");
        make(&files).unwrap();
        write(&files.join("a file"), "").unwrap();
        // Of what it is told to pack, it packs the names.
        let busybox = dir.join("busy box");
        write(&busybox, "#!/bin/sh\necho \"$@\"\nexec sort\n").unwrap();
        fs::set_permissions(&busybox, PermissionsExt::from_mode(0o755)).unwrap();
        let image = dir.join("the image");
        let status = archive(&files, &busybox, &image).status().unwrap();
        let packed = fs::read_to_string(&image);
        fs::remove_dir_all(&dir).unwrap();
        assert!(status.success());
        assert_eq!(packed.unwrap(), "cpio -o -H newc\n.\n./a file\n");
    }
}
