//! Selective acknowledgement: which packets past the one expected next have arrived.
//!
//! A bitmap in words of 64 bits, as many as there is something to tell in, so that a single gap costs 8 bytes and not the
//! whole reach of 1024 packets.

use super::{Reader, WireError};

/// How many packets past the cumulative acknowledgement a [`Sack`] tells of.
pub const SACK_BITS: u64 = 64 * WORDS as u64;

const WORDS: usize = 16;
const WORD_LEN: usize = 8;

/// A bitmap over the [`SACK_BITS`] packets that follow the one expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sack {
    words: [u64; WORDS],
    /// How many of them there are on the wire.
    used: usize,
}

impl Sack {
    /// Marks the packet `distance` after the one expected next as received; `distance` is 1 to [`SACK_BITS`], others are
    /// ignored.
    pub fn insert(&mut self, distance: u64) {
        if (1..=SACK_BITS).contains(&distance) {
            let (word, bit) = ((distance - 1) / 64, (distance - 1) % 64);
            self.words[word as usize] |= 1 << bit;
            self.used = self.used.max(word as usize + 1);
        }
    }

    /// The distances marked, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0..).zip(&self.words[..self.used]).flat_map(|(word, &bits)| {
            let later = |&bits: &u64| Some(bits & (bits - 1)).filter(|&b| b != 0);
            std::iter::successors(Some(bits).filter(|&b| b != 0), later)
                .map(move |bits| word * 64 + u64::from(bits.trailing_zeros()) + 1)
        })
    }

    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Parses the rest of a packet: whole words, at most [`SACK_BITS`], the last of which isn't zero. Bit 0 of the first byte is the
    /// packet after the one expected next.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(reader: &mut Reader<'_, '_>) -> Result<Sack, WireError> {
        let mut sack = Sack::default();
        while reader.remaining() > 0 {
            let place = sack.words.get_mut(sack.used).ok_or(WireError::Inconsistent("length of acknowledgements"))?;
            let word = reader.array::<WORD_LEN>().ok_or(WireError::Truncated("acknowledgement"))?;
            *place = u64::from_le_bytes(word);
            sack.used += 1;
        }
        if sack.used == 0 || sack.words[sack.used - 1] == 0 {
            return Err(WireError::Inconsistent("acknowledgements"));
        }
        Ok(sack)
    }

    /// The bitmap's bytes.
    pub fn emit(&self) -> impl AsRef<[u8]> + use<> {
        let mut bytes = smallvec::SmallVec::<[u8; WORDS * WORD_LEN]>::new();
        self.words[..self.used].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Sack, WireError> {
        Sack::parse(&mut Reader::new(&[bytes], 0, bytes.len()))
    }

    #[test]
    fn a_single_gap_costs_one_word() {
        let mut sack = Sack::default();
        assert!(sack.is_empty());
        [0, 1, 64, SACK_BITS + 1].into_iter().for_each(|d| sack.insert(d));
        assert_eq!(sack.emit().as_ref().len(), 8);
        assert_eq!(sack.iter().collect::<Vec<_>>(), [1, 64]);
        sack.insert(SACK_BITS);
        assert_eq!(sack.emit().as_ref().len(), 128);
    }

    proptest! {
        #[test]
        fn what_is_marked_arrives(distances in prop::collection::btree_set(1..=SACK_BITS, 1..100)) {
            let mut sack = Sack::default();
            distances.iter().for_each(|&d| sack.insert(d));
            prop_assert_eq!(parse(sack.emit().as_ref()), Ok(sack));
            prop_assert_eq!(sack.iter().collect::<Vec<_>>(), distances.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn what_is_parsed_is_emitted(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(sack) = parse(&bytes) {
                prop_assert_eq!(sack.emit().as_ref().to_vec(), bytes);
            }
        }
    }
}
