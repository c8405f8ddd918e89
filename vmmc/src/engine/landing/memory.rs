//! Memory of the program's that takes data in place of an export: a redirect's, or a fetch's.

use std::any::Any;

use crate::engine::{EngineError, Unfetched};
use crate::memory::{Buffer, DirectTarget, Panicked, Target};

/// What was posted. A buffer of an arena can become memory where packets land by themselves, and is a buffer again when it is given back.
pub(in crate::engine) enum Memory {
    /// Anybody's.
    Any(Box<dyn Target>),
    /// A buffer of an arena.
    Direct(DirectTarget),
    /// Only while it is being changed from one to the other.
    Gone,
}

impl Memory {
    /// As memory where packets land, if it is a buffer. Nobody else's type can pass for one: it couldn't be trusted to stay where it is.
    pub(in crate::engine) fn direct(&mut self) -> Option<&DirectTarget> {
        if let Memory::Any(target) = self
            && (&**target as &dyn Any).is::<Buffer>()
            && let Memory::Any(target) = std::mem::replace(self, Memory::Gone)
        {
            *self = Memory::Direct(DirectTarget::of_buffer(target.downcast::<Buffer>()));
        }
        if let Memory::Direct(target) = self { Some(target) } else { None }
    }

    /// Writes bytes that there is room for.
    pub(in crate::engine) fn try_store(&mut self, at: usize, bytes: &[u8]) -> Result<(), Panicked> {
        match self {
            Memory::Any(target) => target.try_store(at, bytes),
            Memory::Direct(target) => target.write(at as u64, bytes).map_err(|_| Panicked),
            Memory::Gone => Err(Panicked),
        }
    }

    /// As what was posted.
    ///
    /// Where the bulk lane couldn't be opened again, the port keeps memory in which packets may still land. Then it is another buffer of the same length, which holds the same.
    ///
    /// # Errors
    /// When there is no memory for that one: an empty one comes back in its place.
    pub(in crate::engine) fn give_back(self) -> Result<Box<dyn Target>, Unfetched> {
        match self {
            Memory::Any(target) => Ok(target),
            Memory::Direct(target) => {
                let (length, is_kept) = (target.len(), !target.is_free());
                let buffer = target.into_buffer_or_copy();
                if is_kept {
                    let is_copied = buffer.is_ok();
                    tracing::warn!(target: "vmmc::bulk", length, is_copied, "the bulk lane keeps a buffer");
                }
                match buffer {
                    Ok(buffer) => Ok(Box::new(buffer)),
                    Err(empty) => Err((EngineError::TargetLost, Box::new(empty))),
                }
            }
            Memory::Gone => unreachable!("a target has lost its memory"),
        }
    }
}
