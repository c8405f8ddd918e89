//! Turns: one process at a time makes or removes labs, on any number of threads.
//!
//! The lock is on a directory that every system has, since a file of its own would stay behind; it can't be on `/run/netns`,
//! where `ip` takes one itself. Whoever holds it may have been stopped, or hang. So a wait says for whom it is, and ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, major, minor};

use crate::LabError;
use crate::ip::file_error;

/// What is locked.
const PLACE: &str = "/run";

/// After how long a wait is told of.
const SOON: Duration = Duration::from_secs(1);

/// How long a wait lasts at most. Making the largest lab takes a few seconds, removing one in which a process doesn't end by itself up to twelve.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it lasts when [`interrupt`] has been called, of those who remove a lab.
const HURRY: Duration = Duration::from_secs(10);

/// How often a wait looks whether it has been interrupted.
const LOOK: Duration = Duration::from_millis(100);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on nobody in this process waits for other processes in order to make a lab: [`Lab::up`](crate::Lab::up) returns
/// [`LabError::Interrupted`] where it would. Who removes one still waits, ten seconds at most.
///
/// For handlers of SIGINT and SIGTERM. Never blocks.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// What a turn is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Make,
    Remove,
}

/// Waits for this process's turn, which lasts until the file is dropped.
pub(crate) fn take(purpose: Purpose) -> Result<File, LabError> {
    let looked = |waited| match (INTERRUPTED.load(Ordering::Relaxed), purpose) {
        (true, Purpose::Make) => Look::Interrupted,
        (true, Purpose::Remove) if waited >= HURRY => Look::Over,
        (false, _) if waited >= PATIENCE => Look::Over,
        _ => Look::Wait,
    };
    take_at(Path::new(PLACE), looked)
}

/// What to do after having waited for some time.
enum Look {
    Wait,
    Interrupted,
    Over,
}

fn take_at(path: &Path, looked: impl Fn(Duration) -> Look) -> Result<File, LabError> {
    let place = File::open(path).map_err(|source| file_error("open", path, source))?;
    if flock(&place, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(place);
    }
    // A thread that waits in the kernel is served in its turn, which one that asks again and again isn't. If it is served when nobody
    // wants that any more, it drops the file.
    let (send, turn) = mpsc::channel();
    thread::spawn(move || {
        let result = rustix::io::retry_on_intr(|| flock(&place, FlockOperation::LockExclusive));
        let _ = send.send(result.map(|()| place));
    });
    // Counted, not measured: who has been stopped himself meanwhile hasn't waited for anybody.
    let mut waited = Duration::ZERO;
    loop {
        match turn.recv_timeout(LOOK) {
            Ok(result) => return result.map_err(|source| file_error("lock", path, source.into())),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends before it ends"),
            Err(RecvTimeoutError::Timeout) => waited += LOOK,
        }
        if waited == SOON {
            tracing::warn!(
                target: "vmmc::lab",
                "one process at a time makes or removes labs: waiting for {}", holder(path)
            );
        }
        match looked(waited) {
            Look::Wait => {}
            Look::Interrupted => return Err(LabError::Interrupted),
            Look::Over => return Err(LabError::Busy { holder: holder(path), waited }),
        }
    }
}

/// Who has locked this, in words.
fn holder(path: &Path) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = fs::metadata(path).ok().and_then(|place| locker(&locks, place.dev(), place.ino()));
    match pid {
        Some(pid) if pid == process::id() => "another thread of this process".into(),
        Some(pid) => {
            // Its name at least, if it is one without a command line.
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let command = if words.trim().is_empty() { &name } else { &words }.trim();
            let stopped = if is_stopped(pid) { ", which is stopped" } else { "" };
            format!("process {pid} ({command}){stopped}")
        }
        // It is in a container that this process can't look into, or has just ended.
        None => "a process that can't be seen from here".into(),
    }
}

/// The process that has locked this file, as `/proc/locks` says: `1: FLOCK  ADVISORY  WRITE 4711 fe:00:246926 0 EOF`. Those who wait have an
/// arrow behind the number.
fn locker(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, at, ..] = words[..] else { return None };
        (at == place).then(|| pid.parse().ok()).flatten()
    })
}

fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("stopped"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::ChildGuard;

    /// A file that another process has locked, and that process.
    fn locked() -> (tempfile::NamedTempFile, ChildGuard) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut flock = Command::new("flock");
        let child = ChildGuard::spawn(flock.arg("--no-fork").arg(file.path()).args(["sleep", "1000"])).unwrap();
        let start = Instant::now();
        while !holder(file.path()).contains("sleep 1000") {
            assert!(start.elapsed() < Duration::from_secs(20), "flock locks nothing");
            thread::sleep(LOOK);
        }
        (file, child)
    }

    fn patient(waited: Duration) -> Look {
        if waited < 2 * LOOK { Look::Wait } else { Look::Over }
    }

    #[test]
    fn a_wait_ends_and_names_the_process_it_was_for() {
        let (file, child) = locked();
        let stop = format!("kill -STOP {}", child.id());
        assert!(Command::new("sh").args(["-c", &stop]).stdin(Stdio::null()).status().unwrap().success());
        let start = Instant::now();
        while !is_stopped(child.id()) {
            assert!(start.elapsed() < Duration::from_secs(20), "it doesn't stop");
        }
        let text = take_at(file.path(), patient).unwrap_err().to_string();
        let process = format!("process {} (sleep 1000), which is stopped", child.id());
        assert!(text.contains(&process) && text.contains("kill -CONT"), "{text}");
        let error = take_at(file.path(), |_| Look::Interrupted).unwrap_err();
        assert!(matches!(error, LabError::Interrupted), "{error}");
    }

    #[test]
    fn whoever_waits_is_served() {
        let (file, child) = locked();
        let turn = thread::spawn(move || take_at(file.path(), |_| Look::Wait).map(|turn| (turn, file)));
        drop(child);
        let (turn, file) = turn.join().unwrap().unwrap();
        // Another thread has to wait for this one, and a turn that nobody waited for any longer is given back.
        let text = take_at(file.path(), patient).unwrap_err().to_string();
        assert!(text.contains("another thread of this process"), "{text}");
        drop(turn);
        take_at(file.path(), |_| Look::Wait).unwrap();
    }

    #[test]
    fn who_waits_is_not_who_has_locked() {
        let locks = "1: FLOCK  ADVISORY  WRITE 10 fe:00:7 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 11 00:19:1234 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  12 00:19:1234 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 13 00:19:1234 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 00:19:1234 0 EOF\n";
        assert_eq!(locker(locks, 0x19, 1234), Some(14));
        assert_eq!(locker(locks, 0xfe00, 7), Some(10));
        assert_eq!(locker(locks, 0x19, 123), None);
    }
}
