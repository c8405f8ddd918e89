//! Where the sockets are.
//!
//! In `/run/vmmc`, which belongs to root; for a node of another user, in a directory of that user's. A directory that somebody else could put a socket
//! into is never used: who connects there would be told anything.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The environment variable that says where sockets are, instead of all other places.
pub const RUN_DIR: &str = "VMMC_RUN_DIR";

/// Root's.
const SYSTEM: &str = "/run/vmmc";

/// How a socket's name ends.
const SUFFIX: &str = ".sock";

/// The directories in which this process's nodes have their sockets: in the first of these that can be used.
///
/// `VMMC_RUN_DIR` alone, if it is set; else `/run/vmmc`, `$XDG_RUNTIME_DIR/vmmc`, and `/tmp/vmmc-UID`.
pub fn directories() -> Vec<PathBuf> {
    if let Some(given) = std::env::var_os(RUN_DIR).filter(|given| !given.is_empty()) {
        return vec![given.into()];
    }
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = Path::new("/tmp").join(format!("vmmc-{}", geteuid().as_raw()));
    [Some(SYSTEM.into()), user.map(|user| user.join("vmmc")), Some(own)].into_iter().flatten().collect()
}

/// Where to look for nodes: in [`directories`]; root also in those of the other users.
pub(super) fn everywhere() -> Vec<PathBuf> {
    let mut all = directories();
    if std::env::var_os(RUN_DIR).is_none_or(|given| given.is_empty()) && geteuid().is_root() {
        let inside = |parent: &str| fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
        all.extend(inside("/run/user").map(|user| user.join("vmmc")));
        let user = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("vmmc-")?.parse::<u32>().ok();
        all.extend(inside("/tmp").filter(|path| user(path).is_some()));
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    all
}

/// Makes a directory, if need be, that only this user can use.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    // Its parents as usual, itself for this user alone.
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match trust(directory)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user")),
    }
}

/// Whether a directory is this user's.
///
/// # Errors
/// When it isn't there, or anybody but its owner could put something into it; or it is neither this user's nor root's, and this user isn't root.
pub(super) fn trust(directory: &Path) -> io::Result<bool> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return refuse("it is no directory");
    }
    if found.mode() & 0o022 != 0 {
        return refuse("others can write into it: chmod go-w it, if you know who they are");
    }
    let user = geteuid();
    let own = found.uid() == user.as_raw();
    if !own && found.uid() != 0 && !user.is_root() {
        return refuse("it belongs to another user");
    }
    Ok(own)
}

/// The name of the socket of a process's node.
pub(super) fn name(pid: u32, number: u32) -> String {
    format!("{pid}.{number}{SUFFIX}")
}

/// Process and number of the node whose socket has this name.
pub(super) fn parse(name: &str) -> Option<(u32, u32)> {
    let (pid, number) = name.strip_suffix(SUFFIX)?.split_once('.')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}
