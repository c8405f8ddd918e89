//! Running `ip`, and the few other things a lab does to the system.
//!
//! Each step is logged as the command line that would do it by hand.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::{env, panic};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::de::DeserializeOwned;

use crate::LabError;

/// Where iproute2 keeps the namespaces that have a name.
const NETNS_DIR: &str = "/run/netns";

/// Where `ip` is, also when `PATH` lacks the directories that only root's has.
pub(crate) fn program() -> Result<PathBuf, LabError> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join("ip"))
        .find(|file| file.is_file())
        .ok_or(LabError::IpNotInstalled)
}

/// Runs `ip` with these arguments and returns what it printed.
pub(crate) fn ip(args: &[&str]) -> Result<String, LabError> {
    let command = command_line(args);
    tracing::debug!("+ {command}");
    let output = Command::new(program()?)
        .args(args)
        // The messages are shown to the user within ours, which are in English.
        .env("LC_ALL", "C")
        // Ctrl-C is for this program, which may be about to remove a lab because of it.
        .process_group(0)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(source) => return Err(LabError::Spawn { command, source }),
    };
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = if message.is_empty() { output.status.to_string() } else { message };
        return Err(LabError::Command { command, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip` with these arguments, which make it print JSON, and parses that.
pub(crate) fn ip_json<T: DeserializeOwned>(args: &[&str]) -> Result<T, LabError> {
    let text = ip(args)?;
    // Asked for a list, `ip` prints nothing at all where the list is empty.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|source| LabError::Output { command: command_line(args), source })
}

fn command_line(args: &[&str]) -> String {
    format!("ip {}", args.join(" "))
}

/// Fails unless the process runs as root.
pub(crate) fn need_root(doing: &'static str) -> Result<(), LabError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let words: Vec<_> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Err(LabError::NotRoot { doing, command: words.join(" ") })
}

/// The path of a named namespace.
pub(crate) fn netns_path(namespace: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(namespace)
}

/// The names of all namespaces that have one.
pub(crate) fn netns_names() -> Result<Vec<String>, LabError> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        // The directory appears with the first namespace.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error("list", Path::new(NETNS_DIR), error)),
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Whether there is a namespace behind the name: a file left over without one is harmless.
pub(crate) fn is_netns(namespace: &str) -> bool {
    const NSFS_MAGIC: u32 = 0x6e73_6673;
    rustix::fs::statfs(netns_path(namespace)).is_ok_and(|statfs| u32::try_from(statfs.f_type) == Ok(NSFS_MAGIC))
}

/// Sets a `net` sysctl inside a namespace, as in `ipv6.conf.all.accept_dad`.
///
/// By the kernel's own files: the program `sysctl` is missing on small systems.
pub(crate) fn sysctl(namespace: &str, key: &str, value: &str) -> Result<(), LabError> {
    tracing::debug!("+ ip netns exec {namespace} sysctl -qw net.{key}={value}");
    let path = PathBuf::from(format!("/proc/sys/net/{}", key.replace('.', "/")));
    enter(namespace, || fs::write(&path, value))?
        .map_err(|source| file_error(&format!("write {value} to"), &path, source))
}

/// Runs `f` on a thread of its own inside the namespace and waits for its result.
pub(crate) fn enter<T: Send>(namespace: &str, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    need_root("entering a network namespace")?;
    let path = netns_path(namespace);
    let netns = File::open(&path).map_err(|source| file_error("open", &path, source))?;
    let inside = || {
        // Only this thread moves, and the threads and processes that it starts.
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|source| LabError::Enter { namespace: namespace.into(), source: source.into() })?;
        Ok(f())
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}

pub(crate) fn file_error(doing: &str, path: &Path, source: std::io::Error) -> LabError {
    LabError::File { doing: doing.into(), path: path.display().to_string(), source }
}
