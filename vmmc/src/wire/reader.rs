//! Reading a packet that lies in pieces.
//!
//! A packet longer than one UMEM frame arrives in several fragments (AF_XDP multi-buffer). [`Fragments`] is the
//! list of them, [`Reader`] a cursor over it: headers are copied out (a few bytes, even across a seam), payload
//! is handed on as slices, so that it is copied once, to where it belongs.

use smallvec::SmallVec;

/// The pieces of a packet, in order. One, unless the packet is longer than a frame.
pub type Fragments<'a> = SmallVec<[&'a [u8]; 2]>;

/// A cursor over the bytes of a packet.
#[derive(Clone, Debug)]
pub struct Reader<'a, 'f> {
    current: &'a [u8],
    rest: &'f [&'a [u8]],
    remaining: usize,
}

impl<'a, 'f> Reader<'a, 'f> {
    /// A reader of `length` bytes from byte `start` on; shorter when there are fewer.
    pub fn new(fragments: &'f [&'a [u8]], start: usize, length: usize) -> Reader<'a, 'f> {
        // Nearly every packet lies in one piece.
        if let [only] = fragments {
            let current = only.get(start..).unwrap_or_default();
            return Reader { current, rest: &[], remaining: length.min(current.len()) };
        }
        let mut reader = Reader { current: &[], rest: fragments, remaining: usize::MAX };
        let total: usize = fragments.iter().map(|f| f.len()).sum();
        reader.skip(start.min(total));
        reader.remaining = length.min(total.saturating_sub(start));
        reader
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// The next bytes that lie together, at most `limit` of them; empty at the end.
    pub fn chunk(&mut self, limit: usize) -> &'a [u8] {
        let limit = limit.min(self.remaining);
        while self.current.is_empty() && limit > 0 {
            let Some((first, rest)) = self.rest.split_first() else {
                return &[];
            };
            (self.current, self.rest) = (first, rest);
        }
        let (chunk, rest) = self.current.split_at(limit.min(self.current.len()));
        self.current = rest;
        self.remaining -= chunk.len();
        chunk
    }

    /// Copies out the next `N` bytes, or none of them when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.remaining < N {
            return None;
        }
        if let Some((out, rest)) = self.current.split_first_chunk::<N>() {
            (self.current, self.remaining) = (rest, self.remaining - N);
            return Some(*out);
        }
        let mut out = [0; N];
        self.fill(&mut out);
        Some(out)
    }

    /// Copies out the next bytes, as many as `out` has room for or there are. Returns how many.
    pub fn fill(&mut self, out: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < out.len() {
            let chunk = self.chunk(out.len() - filled);
            if chunk.is_empty() {
                break;
            }
            out[filled..filled + chunk.len()].copy_from_slice(chunk);
            filled += chunk.len();
        }
        filled
    }

    /// Passes over `count` bytes, or to the end.
    pub fn skip(&mut self, mut count: usize) {
        while count > 0 {
            match self.chunk(count).len() {
                0 => return,
                n => count -= n,
            }
        }
    }

    /// The slices that hold everything left, without moving the cursor.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a, 'f> {
        let mut reader = self.clone();
        std::iter::from_fn(move || match reader.chunk(usize::MAX) {
            [] => None,
            chunk => Some(chunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_in_pieces_is_reading_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            start in 0usize..30,
            length in 0usize..40,
            steps in prop::collection::vec(1usize..7, 0..12),
        ) {
            let whole: Vec<u8> = pieces.concat();
            let expected: Vec<u8> = whole.iter().copied().skip(start).take(length).collect();
            let fragments: Vec<&[u8]> = pieces.iter().map(|p| &p[..]).collect();
            let mut reader = Reader::new(&fragments, start, length);
            prop_assert_eq!(reader.remaining(), expected.len());
            prop_assert_eq!(reader.slices().collect::<Vec<_>>().concat(), expected.clone());
            let mut got = Vec::new();
            for step in steps {
                if step == 4 {
                    let left = reader.remaining();
                    match reader.array::<4>() {
                        Some(bytes) => got.extend(bytes),
                        None => prop_assert!(left < 4),
                    }
                } else {
                    got.extend(reader.chunk(step));
                }
            }
            prop_assert_eq!(&expected[..got.len()], &got[..]);
            prop_assert_eq!(reader.remaining(), expected.len() - got.len());
        }
    }
}
