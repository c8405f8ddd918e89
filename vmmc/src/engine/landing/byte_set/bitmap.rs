//! A bitmap that knows how many of each 4096 bits are set, so that long stretches of one kind are passed over at once.

use std::ops::Range;

/// Bits of a word.
const WORD: u64 = 64;

/// Bits of a block, which are counted together.
const BLOCK: u64 = 4096;

/// The bitmap.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    /// How many bits of each block are set.
    counts: Vec<u16>,
}

/// Those bits of word `word` that `range` has.
fn mask(word: u64, range: &Range<u64>) -> u64 {
    let first = range.start.saturating_sub(word * WORD).min(WORD);
    let end = range.end.saturating_sub(word * WORD).min(WORD);
    let below = |bit| if bit == WORD { u64::MAX } else { (1u64 << bit) - 1 };
    below(end) & !below(first)
}

/// The words that `range` has bits of.
fn words(range: &Range<u64>) -> Range<u64> {
    range.start / WORD..range.end.div_ceil(WORD)
}

/// The blocks that `range` has bits of.
fn blocks(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / BLOCK..range.end.div_ceil(BLOCK) }
}

impl Bitmap {
    /// `len` bits, none of which is set.
    pub(super) fn new(len: u64) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(WORD) as usize], counts: vec![0; len.div_ceil(BLOCK) as usize] }
    }

    /// The first block of `blocks` that has bits other than such.
    fn skip(&self, blocks: Range<u64>, such: bool) -> Option<u64> {
        let such = if such { BLOCK as u16 } else { 0 };
        let counts = &self.counts[blocks.start as usize..blocks.end as usize];
        counts.iter().position(|&count| count != such).map(|found| blocks.start + found as u64)
    }

    /// Sets or clears all bits of `range`. Returns how many of them were different.
    pub(super) fn change(&mut self, range: Range<u64>, to: bool) -> u64 {
        let mut changed = 0;
        let mut blocks = blocks(&range);
        while let Some(block) = self.skip(blocks.clone(), to) {
            blocks.start = block + 1;
            let part = range.start.max(block * BLOCK)..range.end.min(blocks.start * BLOCK);
            let mut differed = 0;
            for at in words(&part) {
                let (word, mask) = (&mut self.words[at as usize], mask(at, &part));
                let different = mask & if to { !*word } else { *word };
                *word ^= different;
                differed += different.count_ones() as u16;
            }
            let count = &mut self.counts[block as usize];
            *count = if to { *count + differed } else { *count - differed };
            changed += u64::from(differed);
        }
        changed
    }

    /// The first bit of `within` that is set, or that isn't.
    pub(super) fn first(&self, within: Range<u64>, set: bool) -> Option<u64> {
        let mut blocks = blocks(&within);
        while let Some(block) = self.skip(blocks.clone(), !set) {
            blocks.start = block + 1;
            let part = within.start.max(block * BLOCK)..within.end.min(blocks.start * BLOCK);
            for word in words(&part) {
                let bits = self.words[word as usize];
                let found = mask(word, &part) & if set { bits } else { !bits };
                if found != 0 {
                    return Some(word * WORD + u64::from(found.trailing_zeros()));
                }
            }
        }
        None
    }

    /// The last bit of `within` that is set.
    pub(super) fn last(&self, within: Range<u64>) -> Option<u64> {
        let blocks = blocks(&within);
        let counts = &self.counts[blocks.start as usize..blocks.end as usize];
        for (at, _) in counts.iter().enumerate().rev().filter(|&(_, &count)| count > 0) {
            let block = blocks.start + at as u64;
            let part = within.start.max(block * BLOCK)..within.end.min((block + 1) * BLOCK);
            for word in words(&part).rev() {
                let found = mask(word, &part) & self.words[word as usize];
                if found != 0 {
                    return Some(word * WORD + WORD - 1 - u64::from(found.leading_zeros()));
                }
            }
        }
        None
    }

    /// How much memory it takes, bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.words[..]) + size_of_val(&self.counts[..])
    }
}
