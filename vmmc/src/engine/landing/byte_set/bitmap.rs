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

impl Bitmap {
    /// `len` bits, none of which is set.
    pub(super) fn new(len: u64) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(WORD) as usize], counts: vec![0; len.div_ceil(BLOCK) as usize] }
    }

    /// Sets or clears all bits of `range`. Returns how many of them were different.
    pub(super) fn change(&mut self, range: Range<u64>, to: bool) -> u64 {
        let mut changed = 0;
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            let count = &mut self.counts[block as usize];
            if u64::from(*count) == if to { BLOCK } else { 0 } {
                continue;
            }
            let part = range.start.max(block * BLOCK)..range.end.min((block + 1) * BLOCK);
            let mut differed = 0;
            for at in words(&part) {
                let (word, mask) = (&mut self.words[at as usize], mask(at, &part));
                let different = mask & if to { !*word } else { *word };
                *word ^= different;
                differed += different.count_ones() as u16;
            }
            *count = if to { *count + differed } else { *count - differed };
            changed += u64::from(differed);
        }
        changed
    }

    /// The first bit of `within` that is set, or that isn't.
    pub(super) fn first(&self, within: Range<u64>, set: bool) -> Option<u64> {
        let mut at = within.start;
        while at < within.end {
            let block = at / BLOCK;
            if u64::from(self.counts[block as usize]) == if set { 0 } else { BLOCK } {
                at = (block + 1) * BLOCK;
                continue;
            }
            let part = at..within.end.min((block + 1) * BLOCK);
            for word in words(&part) {
                let bits = self.words[word as usize];
                let found = mask(word, &part) & if set { bits } else { !bits };
                if found != 0 {
                    return Some(word * WORD + u64::from(found.trailing_zeros()));
                }
            }
            at = part.end;
        }
        None
    }

    /// The last bit of `within` that is set.
    pub(super) fn last(&self, within: Range<u64>) -> Option<u64> {
        let mut end = within.end;
        while end > within.start {
            let block = (end - 1) / BLOCK;
            let part = within.start.max(block * BLOCK)..end;
            if self.counts[block as usize] > 0 {
                for word in words(&part).rev() {
                    let found = mask(word, &part) & self.words[word as usize];
                    if found != 0 {
                        return Some(word * WORD + WORD - 1 - u64::from(found.leading_zeros()));
                    }
                }
            }
            end = part.start;
        }
        None
    }

    /// How much memory it takes, bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.words[..]) + size_of_val(&self.counts[..])
    }
}
