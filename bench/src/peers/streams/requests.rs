//! Requests and answers of one size over many connections at once: each side one thread. The client asks again on a connection as soon as it
//! has the answer to what it asked before (a closed loop).
//!
//! ```text
//!   client: one thread                        server: one thread
//!     Poll ── connection 0 ── request ──────►  Poll
//!       │                  ◄────── answer ──     │
//!       ├──── connection 1                       │
//!       └──── ...                                └── ...
//! ```
//!
//! All connections are open, and each has carried a byte to and fro, before anything is timed. One alone can do without
//! a [`Poll`]: by calls that wait.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use vmmc_histogram::Durations;

use super::{CLOSED, Poll, Stream, Transport, raise_descriptor_limit};
use crate::peers::{PeerError, processor_time};
use crate::spec::{Outcome, Spec};
use crate::worker::Session;

/// The client's account: what was answered between the end of the warm-up and the end of the run.
struct Answers {
    times: Durations,
    warmup: Duration,
    duration: Duration,
    begin: Instant,
    /// Processor time that had been used before.
    cpu: Duration,
    /// Before and after, too.
    all: u64,
}

impl Answers {
    fn start(spec: &Spec) -> Answers {
        let (warmup, duration) = (spec.warmup(), spec.duration());
        Answers { times: Durations::new(), warmup, duration, begin: Instant::now(), cpu: processor_time(), all: 0 }
    }

    /// Takes in that a request of `begun` has been answered `now`, and says whether there is to be another one.
    fn add(&mut self, begun: Instant, now: Instant) -> bool {
        self.all += 1;
        let at = now.duration_since(self.begin);
        if (self.warmup..self.duration).contains(&at) {
            self.times.record(now.duration_since(begun));
        }
        at < self.duration
    }

    fn outcome(self) -> Outcome {
        let cpu = processor_time() - self.cpu;
        let nanos = (self.duration - self.warmup).as_nanos() as u64;
        Outcome::Requests { latency: self.times.counts(), nanos }.used(cpu, self.all)
    }
}

/// A connection, and how far the message under way in each direction has got.
struct Conversation<S> {
    stream: S,
    token: u64,
    /// Of what this side sends: all of it when nothing is under way.
    sent: usize,
    /// Of what this side receives.
    got: usize,
    /// Whether room to send is waited for.
    stuck: bool,
    begun: Instant,
}

/// What has come of a look at a connection that was said to be readable.
#[derive(Debug, PartialEq)]
enum Pulled {
    Part,
    Message,
    End,
}

impl<S: Stream> Conversation<S> {
    fn new(mut stream: S, token: u64, message: &[u8], poll: &mut impl Poll<S>) -> Result<Self, PeerError> {
        stream.stop_waiting()?;
        poll.add(&stream, token)?;
        Ok(Conversation { stream, token, sent: message.len(), got: 0, stuck: false, begun: Instant::now() })
    }

    /// Begins to send a message.
    fn begin(&mut self, message: &[u8], poll: &mut impl Poll<S>) -> Result<(), PeerError> {
        self.sent = 0;
        self.push(message, poll)
    }

    /// Sends as much of it as there is room for.
    fn push(&mut self, message: &[u8], poll: &mut impl Poll<S>) -> Result<(), PeerError> {
        while self.sent < message.len() {
            match self.stream.try_send(&message[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(failed("sending", &e)),
            }
        }
        let stuck = self.sent < message.len();
        if stuck != self.stuck {
            poll.watch_room(&self.stream, self.token, stuck)?;
            self.stuck = stuck;
        }
        Ok(())
    }

    /// Receives once, up to the end of the message. What is left makes the connection readable again.
    fn pull(&mut self, room: &mut [u8]) -> Result<Pulled, PeerError> {
        match self.stream.try_receive(&mut room[self.got..]) {
            Ok(0) if self.got == 0 => Ok(Pulled::End),
            Ok(0) => Err("a connection ended in the middle of a message".into()),
            Ok(n) => {
                self.got += n;
                if self.got < room.len() {
                    return Ok(Pulled::Part);
                }
                self.got = 0;
                Ok(Pulled::Message)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Pulled::Part),
            Err(e) => Err(failed("receiving", &e)),
        }
    }
}

fn failed(what: &str, error: &io::Error) -> PeerError {
    format!("{what} on one connection of many: {error}").into()
}

/// The client's side over `spec.count` connections.
pub(super) fn ask_all<T: Transport>(transport: &T, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    raise_descriptor_limit()?;
    let mut poll = transport.poll()?;
    let (request, mut room) = (vec![7; spec.size], vec![0; spec.size]);
    let mut conversations = Vec::new();
    for token in 0..spec.count {
        let mut stream = transport.connect(session)?;
        stream.send_all(&[1])?;
        if !stream.receive_all(&mut [0])? {
            return Err(CLOSED.into());
        }
        conversations.push(Conversation::new(stream, token, &request, &mut poll)?);
    }
    let mut answers = Answers::start(spec);
    for conversation in &mut conversations {
        conversation.begun = Instant::now();
        conversation.begin(&request, &mut poll)?;
    }
    let (mut ready, mut asking) = (Vec::new(), conversations.len());
    while asking > 0 {
        poll.wait(&mut ready)?;
        for event in &ready {
            let conversation = &mut conversations[event.token as usize];
            if event.writable {
                conversation.push(&request, &mut poll)?;
            }
            if !event.readable {
                continue;
            }
            match conversation.pull(&mut room)? {
                Pulled::Part => {}
                Pulled::End => return Err(CLOSED.into()),
                Pulled::Message => {
                    let now = Instant::now();
                    if answers.add(conversation.begun, now) {
                        conversation.begun = now;
                        conversation.begin(&request, &mut poll)?;
                    } else {
                        asking -= 1;
                    }
                }
            }
        }
    }
    Ok(answers.outcome())
}

/// The server's side: until the client has closed all connections.
pub(super) fn answer_all<T: Transport>(
    transport: &T,
    listener: &T::Listener,
    spec: &Spec,
) -> Result<Outcome, PeerError> {
    raise_descriptor_limit()?;
    let mut poll = transport.poll()?;
    let (answer, mut room) = (vec![7; spec.size], vec![0; spec.size]);
    let mut conversations = Vec::new();
    for token in 0..spec.count {
        let mut stream = transport.accept(listener)?;
        if !stream.receive_all(&mut [0])? {
            return Err("the client closed a connection at once".into());
        }
        stream.send_all(&[1])?;
        conversations.push(Some(Conversation::new(stream, token, &answer, &mut poll)?));
    }
    let before = processor_time();
    let (mut ready, mut open) = (Vec::new(), conversations.len());
    while open > 0 {
        poll.wait(&mut ready)?;
        for event in &ready {
            let place = &mut conversations[event.token as usize];
            let Some(conversation) = place else { continue };
            if event.writable {
                conversation.push(&answer, &mut poll)?;
            }
            if !event.readable {
                continue;
            }
            match conversation.pull(&mut room)? {
                Pulled::Part => {}
                Pulled::Message => conversation.begin(&answer, &mut poll)?,
                Pulled::End => {
                    poll.remove(&conversation.stream)?;
                    *place = None;
                    open -= 1;
                }
            }
        }
    }
    Ok(Outcome::Nothing.used(processor_time() - before, 0))
}

/// The client's side over one connection, by calls that wait.
pub(super) fn ask_one<T: Transport>(transport: &T, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let mut stream = transport.connect(session)?;
    let (request, mut room) = (vec![7; spec.size], vec![0; spec.size]);
    let mut answers = Answers::start(spec);
    let mut begun = Instant::now();
    loop {
        stream.send_all(&request)?;
        if !stream.receive_all(&mut room)? {
            return Err(CLOSED.into());
        }
        let now = Instant::now();
        if !answers.add(begun, now) {
            return Ok(answers.outcome());
        }
        begun = now;
    }
}

/// The server's side of that.
pub(super) fn answer_one<T: Transport>(
    transport: &T,
    listener: &T::Listener,
    spec: &Spec,
) -> Result<Outcome, PeerError> {
    let mut stream = transport.accept(listener)?;
    let before = processor_time();
    let (answer, mut room) = (vec![7; spec.size], vec![0; spec.size]);
    while stream.receive_all(&mut room)? {
        stream.send_all(&answer)?;
    }
    Ok(Outcome::Nothing.used(processor_time() - before, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes and gives a few bytes at a time.
    struct Slow {
        room: usize,
        there: usize,
        ended: bool,
    }

    impl Stream for Slow {
        fn receive(&mut self, _: &mut [u8]) -> Result<usize, PeerError> {
            Err("nothing here waits".into())
        }
        fn send(&mut self, _: &[u8]) -> Result<usize, PeerError> {
            Err("nothing here waits".into())
        }
        fn end(&self) -> io::Result<()> {
            Ok(())
        }
        fn stop_waiting(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn try_receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let n = room.len().min(std::mem::take(&mut self.there));
            if n > 0 || self.ended { Ok(n) } else { Err(ErrorKind::WouldBlock.into()) }
        }
        fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(std::mem::take(&mut self.room));
            if n > 0 { Ok(n) } else { Err(ErrorKind::WouldBlock.into()) }
        }
    }

    #[derive(Default)]
    struct Watched(Vec<bool>);

    impl Poll<Slow> for Watched {
        fn add(&mut self, _: &Slow, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn watch_room(&mut self, _: &Slow, _: u64, watch: bool) -> io::Result<()> {
            self.0.push(watch);
            Ok(())
        }
        fn remove(&mut self, _: &Slow) -> io::Result<()> {
            Ok(())
        }
        fn wait(&mut self, _: &mut Vec<vmmc_sockets::Ready>) -> Result<(), PeerError> {
            Ok(())
        }
    }

    #[test]
    fn a_message_goes_out_as_there_is_room_which_is_watched_meanwhile() {
        let (message, mut poll) = ([7; 10], Watched::default());
        let slow = Slow { room: 4, there: 0, ended: false };
        let mut conversation = Conversation::new(slow, 3, &message, &mut poll).unwrap();
        conversation.begin(&message, &mut poll).unwrap();
        assert_eq!((conversation.sent, &poll.0[..]), (4, &[true][..]));
        conversation.push(&message, &mut poll).unwrap();
        assert_eq!((conversation.sent, poll.0.len()), (4, 1));
        conversation.stream.room = 100;
        conversation.push(&message, &mut poll).unwrap();
        assert_eq!((conversation.sent, &poll.0[..]), (10, &[true, false][..]));
        // Nothing is under way.
        conversation.push(&message, &mut poll).unwrap();
        assert_eq!(conversation.stream.room, 96 + 4 - 100);
    }

    #[test]
    fn a_message_comes_in_parts_and_the_end_only_between_two() {
        let (message, mut poll, mut room) = ([7; 10], Watched::default(), [0; 10]);
        let slow = Slow { room: 0, there: 0, ended: false };
        let mut conversation = Conversation::new(slow, 3, &message, &mut poll).unwrap();
        let mut pull = |there, ended| {
            (conversation.stream.there, conversation.stream.ended) = (there, ended);
            conversation.pull(&mut room)
        };
        assert_eq!(pull(0, false).unwrap(), Pulled::Part);
        assert_eq!(pull(6, false).unwrap(), Pulled::Part);
        assert_eq!(pull(4, false).unwrap(), Pulled::Message);
        assert_eq!(pull(10, false).unwrap(), Pulled::Message);
        assert_eq!(pull(1, false).unwrap(), Pulled::Part);
        assert!(pull(0, true).unwrap_err().to_string().contains("middle of a message"));
        let slow = Slow { room: 0, there: 0, ended: true };
        let mut other = Conversation::new(slow, 3, &message, &mut poll).unwrap();
        assert_eq!(other.pull(&mut room).unwrap(), Pulled::End);
    }

    #[test]
    fn answers_count_between_warm_up_and_end() {
        let spec = Spec { millis: 100, ..Spec::default() };
        let mut answers = Answers::start(&spec);
        let begin = answers.begin;
        let mut add = |ms| answers.add(begin + Duration::from_millis(ms - 2), begin + Duration::from_millis(ms));
        assert_eq!([5, 10, 50, 99, 100, 101].map(&mut add), [true, true, true, true, false, false]);
        let Outcome::Used { outcome, work: 6, .. } = answers.outcome() else { panic!("six requests") };
        let Outcome::Requests { latency, nanos: 90_000_000 } = *outcome else { panic!("no account of requests") };
        assert_eq!(latency.iter().map(|c| c.1).sum::<u64>(), 3);
    }
}
