//! Memory that data is delivered to, other than an export: the target of a redirect or a fetch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Memory that is handed over to be written, and comes back afterwards. Meanwhile nobody else has it, so writing needs no care.
///
/// Arena buffers and paged buffers are targets, and so is any owned memory of the program's: `Vec<u8>` (as long as it is, not as its
/// capacity), `Box<[u8]>`, or a type of its own.
pub trait Target: Any + Send {
    /// How many bytes it takes. Always the same.
    fn len(&self) -> usize;

    /// Whether it takes none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `bytes` at `at`. Never called with a range that reaches past [`Target::len`].
    ///
    /// The whole node waits for it meanwhile, and it must not call the node: that would wait for itself. When it panics, nothing more is
    /// written to this target, and nothing else comes to harm.
    fn store(&mut self, at: usize, bytes: &[u8]);
}

/// A target has panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

impl dyn Target {
    /// [`Target::store`], which may be anybody's code, for those who must go on after it.
    pub(crate) fn try_store(&mut self, at: usize, bytes: &[u8]) -> Result<(), Panicked> {
        catch_unwind(AssertUnwindSafe(|| self.store(at, bytes))).map_err(|_| Panicked)
    }

    /// What it is.
    ///
    /// # Panics
    /// When it is something else.
    pub fn downcast<T: Target>(self: Box<Self>) -> T {
        let any: Box<dyn Any> = self;
        *any.downcast().unwrap_or_else(|_| panic!("this target is no {}", std::any::type_name::<T>()))
    }
}

impl Target for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Target for Box<[u8]> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
