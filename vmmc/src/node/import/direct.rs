//! Sends from where the bytes lie: by the bulk lane.

use std::ops::Range;
use std::time::Duration;

use super::{Away, Import, Parameters, Pending};
use crate::engine::DirectSend;
use crate::error::Error;
use crate::memory::DirectSource;
use crate::node::progress::Step;
use crate::node::source::{Held, Source};

/// How often a lane is asked to let go of what it has sent. It does as soon as the kernel has taken it, which it does within the call that sends.
const TRIES: usize = 1000;

impl Import {
    /// Whether a send of `length` bytes of this source would go by the bulk lane, if all of them lie in the arena.
    pub(super) fn takes_direct(&self, source: &impl Source, length: usize) -> bool {
        self.handle.direct.as_ref().is_some_and(|arena| source.is_in(arena))
            && self.handle.shared.enter().engine.is_direct(self.id, length)
    }
}

/// Begins a send of `part`, which the source has. Blocks while no more may be asked for.
pub(super) fn start<'i, H: Held>(
    import: &'i Import,
    source: DirectSource,
    part: Range<usize>,
    parameters: Parameters,
    timeout: Option<Duration>,
) -> Result<Pending<'i, H>, H::Failure> {
    let mut send = DirectSend::new(source.clone(), part, parameters.offset, parameters.notify);
    let shared = &import.handle.shared;
    let ticket = shared.wait(timeout, |core| {
        let before = send.done();
        let ticket = core.with(|engine, now, port| {
            let ticket = engine.send_direct(now, port, import.id, &mut send);
            if send.done() > before {
                engine.tick(now, port);
            }
            port.flush().map_err(Error::Wire).and_then(|()| Ok(ticket?))
        })?;
        Ok(match ticket {
            Some(ticket) => Step::Done(ticket),
            None if send.done() > before => Step::Moved,
            None => Step::Idle,
        })
    });
    drop(send);
    let after = timeout.unwrap_or_default();
    match ticket.and_then(|ticket| ticket.ok_or(Error::Timeout { what: "room for the whole send", after })) {
        Ok(ticket) => Ok(Pending { import, ticket, timeout, away: Away::Direct(source) }),
        Err(error) => Err(take_back::<H>(import, source).fail(error)),
    }
}

/// Has the lane let go of a source: of one that isn't sent to the end, nothing more is sent.
///
/// # Panics
/// When it doesn't, though it has been closed: that would be a mistake of this library.
pub(super) fn take_back<H: Held>(import: &Import, mut source: DirectSource) -> H {
    let_go(import, &source);
    loop {
        match source.into_origin() {
            Ok(origin) => return H::from_origin(origin).expect("a buffer that was sent is somebody else's, too"),
            // Another thread has it for a moment: the one that drives.
            Err(back) => source = back,
        }
        std::thread::yield_now();
    }
}

/// Has the lane let go of a source: of one that isn't sent to the end, nothing more is sent.
pub(in crate::node) fn let_go(import: &Import, source: &DirectSource) {
    let shared = &import.handle.shared;
    let mut core = shared.enter();
    core.with(|engine, now, port| engine.cancel_direct(now, port, source));
    for _ in 0..TRIES {
        // When the interface is down nothing is taken, and the lane closed in the end.
        let _ = core.port.flush();
        if source.is_free() {
            break;
        }
    }
    if !source.is_free() {
        core.with(|engine, _, port| engine.clear_lane(port));
    }
    shared.leave(&mut core);
}
