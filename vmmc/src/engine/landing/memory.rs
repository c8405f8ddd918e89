//! Memory of the program's that takes data in place of an export: a redirect's, or a fetch's.

use std::any::Any;

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
    /// # Panics
    /// When the system has no memory for that one.
    pub(in crate::engine) fn give_back(self) -> Box<dyn Target> {
        match self {
            Memory::Any(target) => target,
            Memory::Direct(target) => Box::new(target.into_buffer().unwrap_or_else(|kept| {
                tracing::warn!(target: "vmmc::bulk", length = kept.len(), "the bulk lane keeps a buffer: a copy of it is given back");
                kept.copied().expect("there is memory for a copy")
            })),
            Memory::Gone => unreachable!("a target has lost its memory"),
        }
    }
}
