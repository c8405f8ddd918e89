//! Connections that are opened, carry a byte to and fro, and are closed again, one after another or several at a time.
//!
//! The server accepts one after another. It closes first, so that TCP's TIME_WAIT is at the port that is always the same,
//! and the client's don't run out.

use std::thread;
use std::time::{Duration, Instant};

use vmmc_histogram::Durations;

use super::{CLOSED, Stream, Transport};
use crate::peers::{PeerError, processor_time};
use crate::spec::{Outcome, Spec};
use crate::worker::Session;

/// What a client says on the last of all connections, and on those before.
const LAST: u8 = 1;
const MORE: u8 = 0;

/// The server's side.
pub(super) fn serve<T: Transport>(transport: &T, listener: &T::Listener) -> Result<Outcome, PeerError> {
    let mut said = [MORE];
    let mut before = None;
    while said != [LAST] {
        let mut stream = transport.accept(listener)?;
        before.get_or_insert_with(processor_time);
        if !stream.receive_all(&mut said)? {
            return Err("the client closed a connection at once".into());
        }
        stream.send_all(&said)?;
    }
    let cpu = before.map_or(Duration::ZERO, |before| processor_time() - before);
    Ok(Outcome::Nothing.used(cpu, 0))
}

/// The client's side: `spec.count` threads, or none where one connection at a time is enough.
pub(super) fn measure<T: Transport>(transport: &T, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
    let (begin, before) = (Instant::now(), processor_time());
    let (times, all) = if spec.count <= 1 {
        open_and_close(transport, spec, session, begin)?
    } else {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..spec.count).map(|_| scope.spawn(|| open_and_close(transport, spec, session, begin))).collect();
            let (mut times, mut all) = (Durations::new(), 0);
            for thread in threads {
                let (own, connections) = thread.join().map_err(|_| "a thread that connects has panicked")??;
                times.add(&own);
                all += connections;
            }
            Ok::<_, PeerError>((times, all))
        })?
    };
    let cpu = processor_time() - before;
    once(transport, session, LAST)?;
    let nanos = (spec.duration() - spec.warmup()).as_nanos() as u64;
    Ok(Outcome::Requests { latency: times.counts(), nanos }.used(cpu, all))
}

/// One connection after another until the time is over: how long each took of those that count, and how many there were.
fn open_and_close<T: Transport>(
    transport: &T,
    spec: &Spec,
    session: &Session,
    begin: Instant,
) -> Result<(Durations, u64), PeerError> {
    let (mut times, mut all) = (Durations::new(), 0);
    loop {
        let start = Instant::now();
        once(transport, session, MORE)?;
        let end = Instant::now();
        all += 1;
        let at = end.duration_since(begin);
        if at >= spec.duration() {
            return Ok((times, all));
        }
        if at >= spec.warmup() {
            times.record(end - start);
        }
    }
}

/// One connection from its opening to its end.
fn once<T: Transport>(transport: &T, session: &Session, what: u8) -> Result<(), PeerError> {
    let mut stream = transport.connect(session)?;
    stream.send_all(&[what])?;
    let mut back = [0];
    if !stream.receive_all(&mut back)? {
        return Err(CLOSED.into());
    }
    if back != [what] || stream.receive(&mut back)? != 0 {
        return Err("the server said what it shouldn't".into());
    }
    Ok(())
}
