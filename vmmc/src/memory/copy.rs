//! Copies to and from memory that other threads may access at the same time.
//!
//! A plain `memcpy` that races is undefined behaviour. These copies are made of relaxed atomic accesses, eight bytes
//! at a time where the shared side is aligned, so a race yields a mixture of old and new bytes and nothing worse.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// How many of `len` bytes at `at` come before the first aligned word.
fn head(at: *const u8, len: usize) -> usize {
    at.align_offset(WORD).min(len)
}

/// Writes `source` to `target`.
///
/// # Safety
/// `target` must be valid for writes of `source.len()` bytes, and whoever else accesses these bytes meanwhile must
/// do so by the functions of this module.
pub(super) unsafe fn store(target: *mut u8, source: &[u8]) {
    let (first, rest) = source.split_at(head(target, source.len()));
    let words = rest.chunks_exact(WORD);
    let last = words.remainder();
    let mut at = target;
    let bytes = |mut at: *mut u8, bytes: &[u8]| {
        for &byte in bytes {
            // SAFETY: within the range the caller vouches for; a byte is always aligned.
            unsafe {
                AtomicU8::from_ptr(at).store(byte, Relaxed);
                at = at.add(1);
            }
        }
        at
    };
    at = bytes(at, first);
    for word in words {
        let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
        // SAFETY: within the range the caller vouches for, and `head` has brought `at` to a word boundary.
        unsafe {
            AtomicU64::from_ptr(at.cast()).store(word, Relaxed);
            at = at.add(WORD);
        }
    }
    bytes(at, last);
}

/// Reads `target.len()` bytes from `source`.
///
/// # Safety
/// `source` must be valid for reads and writes of `target.len()` bytes, and whoever else accesses these bytes
/// meanwhile must do so by the functions of this module.
pub(super) unsafe fn load(source: *mut u8, target: &mut [u8]) {
    let (first, rest) = target.split_at_mut(head(source, target.len()));
    let mut words = rest.chunks_exact_mut(WORD);
    let mut at = source;
    let bytes = |mut at: *mut u8, bytes: &mut [u8]| {
        for byte in bytes {
            // SAFETY: within the range the caller vouches for; a byte is always aligned.
            unsafe {
                *byte = AtomicU8::from_ptr(at).load(Relaxed);
                at = at.add(1);
            }
        }
        at
    };
    at = bytes(at, first);
    for word in &mut words {
        // SAFETY: within the range the caller vouches for, and `head` has brought `at` to a word boundary.
        let value = unsafe { AtomicU64::from_ptr(at.cast()).load(Relaxed) };
        word.copy_from_slice(&value.to_ne_bytes());
        // SAFETY: still within that range, or one past its end.
        at = unsafe { at.add(WORD) };
    }
    bytes(at, words.into_remainder());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length() {
        let source: Vec<u8> = (1..=64).collect();
        for start in 0..9 {
            for len in 0..40 {
                let mut memory = [0u8; 64];
                // SAFETY: start + len < 64, and nobody else knows the array.
                unsafe { store(memory.as_mut_ptr().add(start), &source[..len]) };
                assert!(memory[..start].iter().all(|&b| b == 0));
                assert_eq!(&memory[start..start + len], &source[..len]);
                assert!(memory[start + len..].iter().all(|&b| b == 0));
                let mut back = vec![0; len];
                // SAFETY: as above.
                unsafe { load(memory.as_mut_ptr().add(start), &mut back) };
                assert_eq!(back, &source[..len]);
            }
        }
    }
}
