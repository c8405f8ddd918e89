//! Captures of a node's frames, over its socket: what `vmmc capture` stands on.
//!
//! ```text
//!   {"capture":{"snaplen":262144}}     ->     {"capture":{}}  and then the stream of `port::tap`, until the node closes,
//!                                                             or the client has shut down its way to it
//! ```
//!
//! A thread of its own serves each capture, from a buffer of bounded size that the engine fills and never waits for: a client that reads
//! too slowly misses frames, and is told how many. It looks into the buffer every few milliseconds rather than being woken for each frame.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::client::{classify, connect, parse};
use super::{Answer, MonitorError, Request};
use crate::port::tap::{self, CAPACITY, Capture, Item};

/// From one look into the buffer to the next; a link of 10 Gbit/s takes longer to fill it.
const TURN: Duration = Duration::from_millis(4);

/// The node's side: sends what is captured, until the capture ends or the client wants no more.
pub(super) fn serve(stream: &UnixStream, capture: Capture) {
    let mut bytes = serde_json::to_vec(&Answer::Capture {}).unwrap_or_default();
    bytes.push(b'\n');
    let mut more = true;
    // A client that has gone ends it: that is no error.
    while send_all(stream, &bytes).is_ok() && more {
        let hurry = bytes.len() > CAPACITY / 4;
        if wants_end(stream, if hurry { Duration::ZERO } else { TURN }) {
            let _ = send_all(stream, &capture.finish());
            break;
        }
        more = capture.take(&mut bytes);
    }
    // The other handle on it is the server's, until it next looks.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Not `write_all`: in a program that isn't one of Rust's, a client that has gone would end it with a signal.
fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sleeps for a while, unless the client closes its side, or says something, meanwhile.
fn wants_end(stream: &UnixStream, span: Duration) -> bool {
    let timeout = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)), Ok(n) if n > 0)
}

/// A capture of a node of this machine, which runs until it is dropped or [stopped](Stop::stop).
#[derive(Debug)]
pub struct Stream {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// Starts to capture the first `snaplen` bytes, Ethernet header included, of every frame that the node at `path` sends and receives.
/// Blocks for two seconds at the most.
///
/// # Errors
/// When the node can't be asked, or has [as many captures](tap::MAX_CAPTURES) as it may.
pub fn start(path: &Path, snaplen: u32) -> Result<Stream, MonitorError> {
    let failed = |source| classify(path, source);
    let connection = connect(path)?;
    let mut line = serde_json::to_vec(&Request::Capture { snaplen }).unwrap_or_default();
    line.push(b'\n');
    let sent = send_all(&connection, &line);
    let mut stream = BufReader::with_capacity(1 << 18, connection);
    let mut answer = Vec::new();
    stream.read_until(b'\n', &mut answer).map_err(failed)?;
    if answer.is_empty() {
        sent.map_err(failed)?;
    }
    match parse(path, &answer)? {
        Answer::Capture {} => {}
        other => return Err(other.refusal(path)),
    }
    stream.get_ref().set_read_timeout(None).map_err(failed)?;
    Ok(Stream { stream, path: path.to_owned() })
}

impl Stream {
    /// What comes next, and how many frames are missed before it. Blocks until something comes.
    ///
    /// # Errors
    /// When the node's process has been killed, or sends what is no stream.
    #[allow(clippy::should_implement_trait)] // It isn't over when it has failed once.
    pub fn next(&mut self) -> Result<(Item, u32), MonitorError> {
        tap::read(&mut self.stream).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => MonitorError::Gone(self.path.clone()),
            ErrorKind::InvalidData => {
                MonitorError::Nonsense { path: self.path.clone(), what: "this is no capture".to_owned() }
            }
            _ => classify(&self.path, source),
        })
    }

    /// Whether [`next`](Self::next) will have to wait.
    pub fn is_empty(&self) -> bool {
        self.stream.buffer().is_empty()
    }

    /// To stop it with, from another thread.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn stop_handle(&self) -> io::Result<Stop> {
        Ok(Stop(self.stream.get_ref().try_clone()?))
    }
}

/// Stops a [`Stream`].
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// Asks the node to end the capture: [`Stream::next`] still yields what there is until now, and then the end.
    pub fn stop(&self) {
        // It can only fail when it has ended.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Waits for the node no longer: [`Stream::next`] fails once it has yielded what has come.
    pub fn abandon(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Temp, watched};
    use super::*;
    use crate::port::tap::{Direction, MAX_CAPTURES};
    use crate::{Key, Node};

    /// Has the node say HELLO to nobody.
    fn talk(node: &Node) -> std::thread::JoinHandle<()> {
        let node = node.clone();
        std::thread::spawn(move || {
            node.import("10.0.0.9:7000".parse().unwrap(), "inbox", Key::PUBLIC).unwrap_err();
        })
    }

    /// Reads on to the end.
    fn finish(mut stream: Stream) {
        while stream.next().unwrap().0 != Item::End {}
    }

    #[test]
    fn frames_come_until_the_client_has_enough_or_the_node_closes() {
        let temp = Temp::new("capture");
        let (node, server) = watched(&temp.0, 1);
        let [mut one, two] = [100, 50].map(|snaplen| start(server.path(), snaplen).unwrap());
        let talking = talk(&node);
        let (Item::Frame(frame), 0) = one.next().unwrap() else { panic!("no frame") };
        assert_eq!((frame.direction, frame.bytes.len()), (Direction::Sent, 100));
        assert!(frame.length >= 1280, "a HELLO is padded");
        one.stop_handle().unwrap().stop();
        finish(one);
        talking.join().unwrap();
        drop(node);
        finish(two);
        drop(server);
    }

    #[test]
    fn there_are_only_so_many_and_those_that_are_gone_don_t_count() {
        let temp = Temp::new("captures");
        let (node, server) = watched(&temp.0, 1);
        let mut streams: Vec<_> = (0..MAX_CAPTURES).map(|_| start(server.path(), 100).unwrap()).collect();
        let refused = start(server.path(), 100).unwrap_err();
        assert!(refused.to_string().ends_with("end one of them"), "{refused}");
        streams.pop();
        // The node finds out soon.
        while start(server.path(), 100).is_err() {
            std::thread::sleep(TURN);
        }
        drop((streams, node, server));
    }

    #[test]
    fn an_end_that_isn_t_told_is_an_error() {
        let temp = Temp::new("broken");
        let (node, server) = watched(&temp.0, 1);
        let mut stream = start(server.path(), u32::MAX).unwrap();
        talk(&node).join().unwrap();
        drop(server);
        let end = std::iter::from_fn(|| Some(stream.next())).find_map(Result::err).unwrap();
        assert!(matches!(end, MonitorError::Gone(_)), "{end}");
        drop(node);
    }
}
