//! A descriptor that poll, epoll and whatever stands on them see as readable and writable when a stream is.
//!
//! It is one end of a pair of Unix sockets that carry nothing but these signals:
//!
//! ```text
//!   the stream is readable      one byte waits in the user's end
//!   the stream isn't writable   the user's end is full of bytes that nobody has read
//!   end of what comes           the other end is shut down for writing: EPOLLRDHUP, as with TCP
//!   the stream is over          the other end is closed: EPOLLHUP
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair, sockopt,
};

use super::watch::lock;

/// What a stream can do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// A read wouldn't block.
    pub readable: bool,
    /// A write wouldn't block.
    pub writable: bool,
    /// Nothing more comes.
    pub ended: bool,
    /// Nothing goes in either direction any more.
    pub over: bool,
}

#[derive(Debug)]
struct Inner {
    /// `None` once the stream is over.
    other: Option<OwnedFd>,
    /// What the descriptor shows.
    shown: State,
}

/// The pair.
#[derive(Debug)]
pub(crate) struct Descriptor {
    user: OwnedFd,
    inner: Mutex<Inner>,
}

impl Descriptor {
    /// Makes one that shows that writing is possible, and nothing else.
    pub(crate) fn new() -> io::Result<Descriptor> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (user, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The less room there is, the cheaper it is filled.
        sockopt::set_socket_send_buffer_size(&user, 1)?;
        let shown = State { writable: true, ..State::default() };
        Ok(Descriptor { user, inner: Mutex::new(Inner { other: Some(other), shown }) })
    }

    /// Has it show what `look` sees. Several threads may do that at once: what is seen last is shown last.
    pub(crate) fn show(&self, look: impl FnOnce() -> State) {
        let mut inner = lock(&self.inner);
        let state = look();
        let before = inner.shown;
        if before == state {
            return;
        }
        inner.shown = state;
        if state.over {
            // All at once: whoever sees that there is something to read sees the rest, too.
            inner.other = None;
            return;
        }
        // Errors mean that the signal stands already: the buffers are full, or empty.
        let Some(other) = &inner.other else { return };
        if state.ended && !before.ended {
            let _ = shutdown(other, Shutdown::Write);
        }
        match (before.readable, state.readable) {
            (false, true) => drop(send(other, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)),
            (true, false) => drain(self.user.as_fd()),
            _ => {}
        }
        match (before.writable, state.writable) {
            (true, false) => fill(self.user.as_fd()),
            (false, true) => drain(other.as_fd()),
            _ => {}
        }
    }
}

/// The descriptors of one stream or listener: all of them show the same, and each handle has one of its own.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Of the first handle that wanted one, and of those that are no clones.
    shared: OnceLock<Arc<Descriptor>>,
}

impl Own {
    /// The pair, if there is one.
    pub(crate) fn get(&self) -> Option<&Arc<Descriptor>> {
        self.shared.get()
    }

    /// The pair; makes it, and then calls `made`.
    pub(crate) fn get_or_make(&self, made: impl FnOnce(&Arc<Descriptor>)) -> io::Result<&Arc<Descriptor>> {
        if let Some(there) = self.shared.get() {
            return Ok(there);
        }
        let new = Arc::new(Descriptor::new()?);
        if self.shared.set(new.clone()).is_ok() {
            made(&new);
        }
        Ok(self.shared.get().unwrap_or_else(|| unreachable!("it has just been set")))
    }
}

impl Drop for Own {
    /// When this returns the descriptor is closed: whoever is just showing something on it is done soon.
    fn drop(&mut self) {
        let Some(descriptor) = self.shared.take() else { return };
        while Arc::strong_count(&descriptor) > 1 {
            std::thread::yield_now();
        }
    }
}

/// The descriptor of a handle that is a clone: the same pair under another number, as clones of sockets have.
#[derive(Debug, Default)]
pub(crate) struct Clone {
    number: OnceLock<OwnedFd>,
}

impl Clone {
    /// Makes it when it is first wanted.
    pub(crate) fn of(&self, descriptor: &Descriptor) -> io::Result<BorrowedFd<'_>> {
        if self.number.get().is_none() {
            let _ = self.number.set(descriptor.user.try_clone()?);
        }
        Ok(self.number.get().unwrap_or_else(|| unreachable!("it has just been set")).as_fd())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }
}

fn drain(fd: BorrowedFd<'_>) {
    let mut bytes = [0; 4096];
    while recv(fd, &mut bytes, RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0) {}
}

fn fill(fd: BorrowedFd<'_>) {
    let bytes = [0; 4096];
    for len in [bytes.len(), 64, 1] {
        while send(fd, &bytes[..len], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn seen(descriptor: &Descriptor) -> PollFlags {
        let flags = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
        let mut fds = [PollFd::new(descriptor, flags)];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        fds[0].revents()
    }

    #[test]
    fn every_state_shows() {
        let descriptor = Descriptor::new().unwrap();
        assert_eq!(seen(&descriptor), PollFlags::OUT);
        // All ways between all states but the last ones.
        let states: Vec<State> =
            (0..4).map(|bits| State { readable: bits & 1 > 0, writable: bits & 2 > 0, ..State::default() }).collect();
        for from in &states {
            for to in &states {
                for state in [from, to] {
                    descriptor.show(|| *state);
                    let mut expected = PollFlags::empty();
                    expected.set(PollFlags::IN, state.readable);
                    expected.set(PollFlags::OUT, state.writable);
                    assert_eq!(seen(&descriptor), expected, "{from:?} {to:?}");
                }
            }
        }
        descriptor.show(|| State { readable: true, writable: true, ended: true, over: false });
        assert_eq!(seen(&descriptor), PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP);
        descriptor.show(|| State { readable: true, writable: true, ended: true, over: true });
        assert!(seen(&descriptor).contains(PollFlags::IN | PollFlags::HUP));
    }
}
