//! Copies to and from memory that other threads may access at the same time.
//!
//! A plain `memcpy` that races is undefined behaviour. These copies are made of relaxed atomic accesses, so a race yields a mixture of
//! old and new bytes and nothing worse. To the language each byte is accessed on its own, whatever its neighbours are part of: so two copies
//! never access the same bytes in different sizes, which would be undefined behaviour again if they race; and bytes beside those that are
//! written are left alone, even in the same word: they may be lent as a slice.
//!
//! To the processor that would be slow, and Rust has no name for "these eight bytes at once, and each on its own". Where this module knows
//! the processor's, it is one instruction: whatever that does to eight bytes, or sixteen, as many accesses of one byte could do. Elsewhere, and for
//! Miri, it is as many.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// Bytes that are copied without a look at how many are left.
const BLOCK: usize = 8 * WORD;

/// Writes one byte.
///
/// # Safety
/// It must be valid for writes, and whoever else accesses it meanwhile must do so by the functions of this module.
unsafe fn put_byte(at: *mut u8, value: u8) {
    // SAFETY: a byte is aligned; the caller vouches for the rest.
    unsafe { AtomicU8::from_ptr(at) }.store(value, Relaxed);
}

/// Reads one byte.
///
/// # Safety
/// As for [`put_byte`], but for reads; and besides, others may read it however they like.
unsafe fn get_byte(at: *mut u8) -> u8 {
    // SAFETY: as above.
    unsafe { AtomicU8::from_ptr(at) }.load(Relaxed)
}

/// Writes a word as eight bytes.
///
/// # Safety
/// As for [`put_byte`], of each of them.
#[inline(always)]
unsafe fn put_word(at: *mut u8, value: [u8; WORD]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it does what eight relaxed stores of a byte could do, and nothing else.
    unsafe {
        std::arch::asm!("mov qword ptr [{at}], {value}", at = in(reg) at, value = in(reg) u64::from_ne_bytes(value), options(nostack, preserves_flags));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("str {value}, [{at}]", at = in(reg) at, value = in(reg) u64::from_ne_bytes(value), options(nostack, preserves_flags));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    for (i, byte) in value.into_iter().enumerate() {
        // SAFETY: the caller vouches for it.
        unsafe { put_byte(at.wrapping_add(i), byte) };
    }
}

/// Reads a word as eight bytes.
///
/// # Safety
/// As for [`get_byte`], of each of them.
#[inline(always)]
unsafe fn get_word(at: *mut u8) -> [u8; WORD] {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    let value: u64;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it does what eight relaxed loads of a byte could do, and nothing else.
    unsafe {
        std::arch::asm!("mov {value}, qword ptr [{at}]", at = in(reg) at, value = out(reg) value, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("ldr {value}, [{at}]", at = in(reg) at, value = out(reg) value, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    return value.to_ne_bytes();
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    // SAFETY: the caller vouches for them.
    std::array::from_fn(|i| unsafe { get_byte(at.wrapping_add(i)) })
}

/// Writes eight words, each as eight bytes.
///
/// # Safety
/// As for [`put_byte`], of each of them.
#[inline(always)]
unsafe fn put_block(at: *mut u8, value: &[u8; BLOCK]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it reads the value and does what 64 relaxed stores of a byte could do, and nothing else.
    unsafe {
        move_block(value.as_ptr(), at);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    for (i, word) in value.as_chunks::<WORD>().0.iter().enumerate() {
        // SAFETY: the caller vouches for it.
        unsafe { put_word(at.wrapping_add(i * WORD), *word) };
    }
}

/// Reads eight words, each as eight bytes.
///
/// # Safety
/// As for [`get_byte`], of each of them.
#[inline(always)]
unsafe fn get_block(at: *mut u8, value: &mut [u8; BLOCK]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it does what 64 relaxed loads of a byte could do, and writes the value.
    unsafe {
        move_block(at, value.as_mut_ptr());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    for (i, word) in value.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
        // SAFETY: the caller vouches for it.
        *word = unsafe { get_word(at.wrapping_add(i * WORD)) };
    }
}

/// Moves a block, a quarter at a time: every such processor has registers for that.
///
/// # Safety
/// One side is the caller's alone, and the other as for [`put_byte`] or [`get_byte`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
unsafe fn move_block(from: *const u8, to: *mut u8) {
    // SAFETY: the caller vouches for both sides; what the registers held is given up.
    unsafe {
        std::arch::asm!(
            "movups {a}, xmmword ptr [{from}]",
            "movups {b}, xmmword ptr [{from} + 16]",
            "movups {c}, xmmword ptr [{from} + 32]",
            "movups {d}, xmmword ptr [{from} + 48]",
            "movups xmmword ptr [{to}], {a}",
            "movups xmmword ptr [{to} + 16], {b}",
            "movups xmmword ptr [{to} + 32], {c}",
            "movups xmmword ptr [{to} + 48], {d}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// How many bytes from `at` on lie before a word, of `len`. Words are aligned, so that the processor moves each at once.
fn before_word(at: *mut u8, len: usize) -> usize {
    at.addr().wrapping_neg().rem_euclid(WORD).min(len)
}

/// Writes `source` to `target`.
///
/// # Safety
/// The `source.len()` bytes from `target` on must be valid for writes, and whoever else accesses them meanwhile must do so by the functions
/// of this module.
pub(super) unsafe fn store(target: *mut u8, source: &[u8]) {
    let (first, rest) = source.split_at(before_word(target, source.len()));
    let mut at = target;
    let bytes = |bytes: &[u8], at: &mut *mut u8| {
        for &byte in bytes {
            // SAFETY: of the bytes that the caller vouches for it is the next.
            unsafe { put_byte(*at, byte) };
            *at = at.wrapping_add(1);
        }
    };
    bytes(first, &mut at);
    let (blocks, rest) = rest.as_chunks::<BLOCK>();
    for block in blocks {
        // SAFETY: of the bytes that the caller vouches for these are the next.
        unsafe { put_block(at, block) };
        at = at.wrapping_add(BLOCK);
    }
    let (words, last) = rest.as_chunks::<WORD>();
    for &word in words {
        // SAFETY: of the bytes that the caller vouches for these are the next.
        unsafe { put_word(at, word) };
        at = at.wrapping_add(WORD);
    }
    bytes(last, &mut at);
}

/// Reads `target.len()` bytes from `source`.
///
/// # Safety
/// As for [`store`], but for reads; and besides, others may read them however they like.
pub(super) unsafe fn load(source: *mut u8, target: &mut [u8]) {
    let (first, rest) = target.split_at_mut(before_word(source, target.len()));
    let mut at = source;
    let bytes = |bytes: &mut [u8], at: &mut *mut u8| {
        for byte in bytes {
            // SAFETY: of the bytes that the caller vouches for it is the next.
            *byte = unsafe { get_byte(*at) };
            *at = at.wrapping_add(1);
        }
    };
    bytes(first, &mut at);
    let (blocks, rest) = rest.as_chunks_mut::<BLOCK>();
    for block in blocks {
        // SAFETY: of the bytes that the caller vouches for these are the next.
        unsafe { get_block(at, block) };
        at = at.wrapping_add(BLOCK);
    }
    let (words, last) = rest.as_chunks_mut::<WORD>();
    for word in words {
        // SAFETY: of the bytes that the caller vouches for these are the next.
        *word = unsafe { get_word(at) };
        at = at.wrapping_add(WORD);
    }
    bytes(last, &mut at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length() {
        let source: Vec<u8> = (1..=200).collect();
        for start in 0..9 {
            for len in (0..40).chain([60, 63, 64, 65, 71, 72, 73, 127, 128, 129, 200]) {
                #[repr(align(64))]
                struct Aligned([u8; 256]);
                let mut aligned = Aligned([0; 256]);
                let memory = &mut aligned.0;
                // SAFETY: start + len < 256, and nobody else knows the array.
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

    #[test]
    fn neighbours_in_the_same_word_are_left_alone() {
        use std::cell::UnsafeCell;
        #[repr(align(8))]
        struct Words(UnsafeCell<[u8; 64]>);
        // SAFETY: below.
        unsafe impl Sync for Words {}
        let words = Words(UnsafeCell::new([1; 64]));
        let rounds = if cfg!(miri) { 3 } else { 1000 };
        let start = words.0.get().cast::<u8>();
        std::thread::scope(|scope| {
            let words = &words;
            scope.spawn(move || {
                let start = words.0.get().cast::<u8>();
                for round in 0..rounds {
                    // SAFETY: the other thread reads bytes 21 to 42 as a slice, and all others by `load`.
                    unsafe {
                        store(start, &[round as u8; 21]);
                        store(start.wrapping_add(43), &[round as u8; 21]);
                    }
                }
            });
            // SAFETY: nobody writes these bytes.
            let between = unsafe { std::slice::from_raw_parts(start.wrapping_add(21), 22) };
            let mut seen = [0; 64];
            for _ in 0..rounds {
                assert_eq!(between, [1; 22]);
                // SAFETY: the bytes are there, and written by `store` alone.
                unsafe { load(start, &mut seen) };
                assert_eq!(seen[21..43], [1; 22]);
            }
        });
    }
}
