//! What an idle connection holds in memory: of either process, and of the kernel.
//!
//! One connection is opened, used and closed beforehand, so that what is needed only once is there. Then `spec.count` are opened, a small
//! message goes to and fro on each, and nothing more happens. When neither side's memory has changed for a while (or after the time that the spec
//! gives), the growth is divided by their number.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::{CLOSED, Stream, Transport, raise_descriptor_limit};
use crate::peers::PeerError;
use crate::spec::{Outcome, Side, Spec};
use crate::worker::Session;

/// How often memory is looked at, and for how long it must not have changed.
const LOOK: Duration = Duration::from_millis(250);
const QUIET: Duration = Duration::from_secs(3);

/// What is no change, bytes.
const SLACK: u64 = 64 << 10;

/// How long one side waits for the other to have settled, beyond the time that itself may take.
const GRACE: Duration = Duration::from_secs(20);

/// Either side.
pub(crate) fn measure<T: Transport>(
    transport: &T,
    side: Side,
    spec: &Spec,
    session: &Session,
) -> Result<Outcome, PeerError> {
    raise_descriptor_limit()?;
    let listener = match side {
        Side::Server => Some(transport.listen(session)?),
        Side::Client => None,
    };
    let mut message = vec![7; spec.size];
    let mut open = || -> Result<T::Stream, PeerError> {
        match &listener {
            None => {
                let mut stream = transport.connect(session)?;
                stream.send_all(&message)?;
                if stream.receive_all(&mut message)? { Ok(stream) } else { Err(CLOSED.into()) }
            }
            Some(listener) => {
                let mut stream = transport.accept(listener)?;
                if !stream.receive_all(&mut message)? {
                    return Err("the client closed a connection at once".into());
                }
                stream.send_all(&message)?;
                Ok(stream)
            }
        }
    };
    // The rehearsal. As in earnest, the server learns of the end by the client's.
    let first = open()?;
    finish(first, side)?;
    settle(spec.duration())?;
    let before = Memory::now()?;
    let mut streams = Vec::with_capacity(spec.count as usize);
    for _ in 0..spec.count {
        streams.push(open()?);
    }
    settle(spec.duration())?;
    let after = Memory::now()?;
    // Neither side closes before the other has looked.
    let one = streams.first_mut().ok_or("no connection was asked for")?;
    one.stop_waiting()?;
    if side == Side::Server {
        one.try_send(&[1])?;
    }
    let came = soon(one, spec.duration() + GRACE)?;
    if (came > 0) != (side == Side::Client) {
        return Err("the other side has closed before it was told that it may".into());
    }
    let each = |now: u64, then: u64| (now as f64 - then as f64) / spec.count as f64;
    // The kernel's memory is that of both sides: told once, by the one that measures while the other one certainly has its connections.
    let kernel = side == Side::Client;
    Ok(Outcome::Held {
        process: each(after.process, before.process),
        arena: each(after.arena, before.arena),
        slab: kernel.then(|| each(after.slab, before.slab)),
        buffers: kernel.then(|| each(after.buffers, before.buffers)),
    })
}

/// Closes a connection, the client first.
fn finish(mut stream: impl Stream, side: Side) -> Result<(), PeerError> {
    if side == Side::Client {
        stream.end()?;
    }
    if stream.receive(&mut [0])? > 0 {
        return Err("more came than one message".into());
    }
    Ok(())
}

/// Waits until this process's memory keeps still, and no longer than `most`.
fn settle(most: Duration) -> Result<(), PeerError> {
    let begin = Instant::now();
    let (mut since, mut held) = (begin, Memory::now()?.own());
    while since.elapsed() < QUIET && begin.elapsed() < most {
        thread::sleep(LOOK);
        let now = Memory::now()?.own();
        if now.abs_diff(held) > SLACK {
            (since, held) = (Instant::now(), now);
        }
    }
    Ok(())
}

/// Waits for a byte or the end, seldom enough that it isn't work.
fn soon(stream: &mut impl Stream, most: Duration) -> Result<usize, PeerError> {
    let begin = Instant::now();
    loop {
        match stream.try_receive(&mut [0]) {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock && begin.elapsed() < most => thread::sleep(LOOK / 5),
            Err(e) => return Err(format!("waiting until the other side has looked at its memory: {e}").into()),
        }
    }
}
