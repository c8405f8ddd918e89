//! How long a thread had to wait for a core.
//!
//! A thread that sleeps until a packet comes is woken by it, and so the packet has hardly waited: unless all cores were busy
//! with something else. Linux counts that time for each thread (`/proc/thread-self/schedstat`, the second number).

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

thread_local! {
    static FILE: Option<File> = File::open("/proc/thread-self/schedstat").ok();
    static BEFORE: Cell<u64> = const { Cell::new(0) };
}

/// How long this thread has waited for a core since the last call. Zero where the kernel doesn't say.
pub(super) fn waited() -> Duration {
    let mut text = [0; 64];
    // A thread that is ending may have closed the file already, and still have something to wait for.
    let length = FILE.try_with(|file| file.as_ref().and_then(|f| f.read_at(&mut text, 0).ok()));
    let Some(total) = length.ok().flatten().and_then(|length| parse(&text[..length])) else { return Duration::ZERO };
    Duration::from_nanos(total.saturating_sub(BEFORE.replace(total)))
}

fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts() {
        assert_eq!(parse(b"12345 678 9\n"), Some(678));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 x 3"), None);
    }

    #[test]
    fn it_may_be_asked_while_the_thread_ends() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                // A panic here would end the process.
                let _ = waited();
            }
        }
        thread_local! {
            static LATE: Late = const { Late };
        }
        // What was used first goes last.
        let ended = std::thread::spawn(|| LATE.with(|_| waited())).join();
        assert!(ended.is_ok());
    }

    #[test]
    fn it_never_goes_back() {
        assert!(waited() + waited() + waited() < Duration::from_secs(3600));
    }
}
