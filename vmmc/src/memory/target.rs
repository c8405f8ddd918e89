//! Memory that data is delivered to, other than an export: the target of a redirect or a fetch.

use std::any::Any;

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
    /// Called in the middle of the node's work, so it had better be short, and calls nothing of the node's: that would wait for itself for ever. When it
    /// panics, the redirect or fetch has failed, and nothing else.
    fn store(&mut self, at: usize, bytes: &[u8]);
}

impl dyn Target {
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
