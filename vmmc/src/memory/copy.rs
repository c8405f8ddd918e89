//! Copies to and from memory that other threads may access at the same time.
//!
//! A plain `memcpy` that races is undefined behaviour. These copies are made of relaxed atomic accesses, eight bytes
//! at a time where the shared side is aligned, so a race yields a mixture of old and new bytes and nothing worse.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// The aligned word that byte `at` lies in, and where in it.
fn word_of(at: *mut u8) -> (*mut u64, usize) {
    let offset = at as usize % WORD;
    (at.wrapping_sub(offset).cast(), offset)
}

/// Writes `source` to `target`.
///
/// # Safety
/// All aligned words of which `target` and the `source.len()` bytes from there on are part must be valid for reads and writes,
/// and whoever else accesses them meanwhile must do so by the functions of this module: accesses of different sizes
/// that race are undefined behaviour, so every access here is of one whole word.
pub(super) unsafe fn store(target: *mut u8, source: &[u8]) {
    let (mut word, offset) = word_of(target);
    let (first, rest) = source.split_at(if offset == 0 { 0 } else { source.len().min(WORD - offset) });
    let merge = |word: *mut u64, at: usize, bytes: &[u8]| {
        // SAFETY: an aligned word that holds bytes the caller vouches for.
        let word = unsafe { AtomicU64::from_ptr(word) };
        let _ = word.fetch_update(Relaxed, Relaxed, |old| {
            let mut new = old.to_ne_bytes();
            new[at..at + bytes.len()].copy_from_slice(bytes);
            Some(u64::from_ne_bytes(new))
        });
    };
    if !first.is_empty() {
        merge(word, offset, first);
        word = word.wrapping_add(1);
    }
    let words = rest.chunks_exact(WORD);
    let last = words.remainder();
    for bytes in words {
        let value = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        // SAFETY: all of this word is within the range the caller vouches for.
        unsafe { AtomicU64::from_ptr(word) }.store(value, Relaxed);
        word = word.wrapping_add(1);
    }
    if !last.is_empty() {
        merge(word, 0, last);
    }
}

/// Reads `target.len()` bytes from `source`.
///
/// # Safety
/// As for [`store`].
pub(super) unsafe fn load(source: *mut u8, target: &mut [u8]) {
    let (mut word, offset) = word_of(source);
    let length = target.len();
    let (first, rest) = target.split_at_mut(if offset == 0 { 0 } else { length.min(WORD - offset) });
    let mut next = || {
        // SAFETY: the caller vouches for every aligned word that holds one of the bytes.
        let value = unsafe { AtomicU64::from_ptr(word) }.load(Relaxed);
        word = word.wrapping_add(1);
        value.to_ne_bytes()
    };
    if !first.is_empty() {
        first.copy_from_slice(&next()[offset..offset + first.len()]);
    }
    let mut words = rest.chunks_exact_mut(WORD);
    for bytes in &mut words {
        bytes.copy_from_slice(&next());
    }
    let last = words.into_remainder();
    if !last.is_empty() {
        last.copy_from_slice(&next()[..last.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length() {
        let source: Vec<u8> = (1..=64).collect();
        for start in 0..9 {
            for len in 0..40 {
                #[repr(align(64))]
                struct Aligned([u8; 64]);
                let mut aligned = Aligned([0; 64]);
                let memory = &mut aligned.0;
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
