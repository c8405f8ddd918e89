//! Runs a loaded program on a frame and says what it did: the action, and the one counter that moved.

use std::{os::fd::OwnedFd, thread, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use xdp_prog::{Action, Program, Verdicts};

/// An AF_XDP socket without rings, memory or queue: enough to stand in the program's map.
pub(crate) fn xdp_socket() -> OwnedFd {
    socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .expect("an AF_XDP socket (needs root, and a kernel with CONFIG_XDP_SOCKETS)")
}

/// Runs the program on `frame` and returns the verdict's name.
///
/// It panics unless exactly one counter moved, by one, and the action fits it.
pub(crate) fn verdict(program: &Program<'_>, frame: &[u8]) -> &'static str {
    tried(program, None, frame).0
}

/// The same, and the frame afterwards; perhaps on a queue of an interface.
pub(crate) fn tried(program: &Program<'_>, arrival: Option<(u32, u32)>, frame: &[u8]) -> (&'static str, Vec<u8>) {
    let before = program.maps().counters().unwrap();
    let trial = program.run_in(arrival, frame).unwrap();
    let after = program.maps().counters().unwrap();
    let verdict = only_change(&before, &after);
    let expected = match verdict {
        "redirected" | "bulk_admitted" => Action::Redirect,
        dropped if dropped.starts_with("bulk_") => Action::Drop,
        _ => Action::Pass,
    };
    assert_eq!(trial.action, expected, "action with verdict {verdict}");
    (verdict, trial.frame)
}

fn only_change(before: &Verdicts, after: &Verdicts) -> &'static str {
    let changes: Vec<_> = before
        .iter()
        .zip(after.iter())
        .filter(|(old, new)| old != new)
        .map(|((name, old), (_, new))| (name, new - old))
        .collect();
    match changes[..] {
        [(name, 1)] => name,
        _ => panic!("one counter must move by one, but these moved: {changes:?}"),
    }
}

/// Waits for what comes soon, but not at once.
pub(crate) fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("what was waited for never came");
}
