//! Tests with a child made by `fork`: it has nothing of the memory that peers write into, and the parent keeps what it has.

use std::hint::black_box;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::{Arena, HugePages};

/// What became of a child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has done its work.
    Done,
    /// A signal has ended it.
    Signal(i32),
}

/// Forks, lets the child do `work`, and waits for its end. Because other threads may have held any lock, `work` takes none: it allocates
/// nothing, prints nothing and doesn't panic. It reads and writes memory, and that's it.
pub(crate) fn in_child(work: impl FnOnce()) -> End {
    // SAFETY: fork has no preconditions; what the child does until `_exit` is async-signal-safe, as fork in a process with threads asks.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain system call, on a value that lives; no core dumps of what ends as expected.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
        work();
        // SAFETY: nothing of the parent's is flushed, dropped or run.
        unsafe { libc::_exit(0) };
    }
    let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0).expect("fork failed");
    let status = loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(ended) => break ended.map(|(_, status)| status),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("waiting for the child failed: {error}"),
        }
    };
    match (status.and_then(WaitStatus::exit_status), status.and_then(WaitStatus::terminating_signal)) {
        (Some(0), None) => End::Done,
        (None, Some(signal)) => End::Signal(signal),
        _ => panic!("the child ended with {status:?}"),
    }
}

/// Writes a byte, or reads it, as a program does that knows the address.
pub(crate) fn touch(at: *mut u8, write: bool) {
    if write {
        // SAFETY: at worst nothing is there: for this, the process is a child.
        unsafe { at.write_volatile(99) };
    } else {
        // SAFETY: as above.
        black_box(unsafe { at.read_volatile() });
    }
}

#[test]
fn a_child_has_no_arena_and_its_parents_is_unharmed() {
    let arena = Arena::with(1 << 22, HugePages::WhenFree).unwrap();
    let mut buffer = arena.buffer(10_000).unwrap();
    buffer.fill(7);
    let region = arena.alloc(100).unwrap();
    region.fill(8).unwrap();
    let pages = arena.take_pages(1).unwrap();
    let page = arena.page_pointer(pages.start);
    touch(page, true);

    let mut own = 1_u8;
    assert_eq!(in_child(|| touch(&mut own, true)), End::Done, "a child may write its own memory");
    assert_eq!(own, 1, "and that isn't its parent's");
    let all = [buffer.as_mut_ptr(), buffer.as_mut_ptr().wrapping_add(9_999), page, arena.page_pointer(0)];
    for at in all {
        for write in [false, true] {
            assert_eq!(in_child(|| touch(at, write)), End::Signal(libc::SIGSEGV), "{at:p}, write: {write}");
        }
    }
    assert!(buffer.iter().all(|&byte| byte == 7));
    let mut seen = [0; 100];
    region.read(0, &mut seen).unwrap();
    assert_eq!(seen, [8; 100]);
    // SAFETY: the page is this test's alone.
    assert_eq!(unsafe { page.read_volatile() }, 99);
    arena.give_pages(pages);
}
