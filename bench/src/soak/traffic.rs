//! The messages of a soak: from a seed, the same ones at both sides.
//!
//! They come in *batches*. Each batch goes into one half of the exported buffer, the next into the other. Its messages are
//! of 1 byte to 1 MiB, as many small ones as large ones on a scale of powers of two, and lie where they lie in no order,
//! some end to end, some with gaps. No two messages have the same content.
//!
//! ```text
//!   half 0:  batch 0, 2, 4 ...               half 1:  batch 1, 3, 5 ...         control
//!   [  #7 | #2 |   #0  |  |#3#9 ...        ] [ #4 |  |#1 |    #0      |   ... ] [ batch ]
//! ```

use fastrand::Rng;

/// Length of a half, bytes.
pub(super) const HALF: usize = 8 << 20;

/// Where the control words go, behind the halves.
pub(super) const CONTROL: u64 = 2 * HALF as u64;

/// Length of the exported buffer, bytes.
pub(super) const BUFFER: usize = 2 * HALF + size_of::<u64>();

/// Tag of the control word that says with which batch the sender begins, and of the one that says before which it ends.
pub(super) const BEGIN: u32 = u32::MAX;
pub(super) const END: u32 = u32::MAX - 1;

/// Length of the longest messages, bytes.
pub(crate) const LARGEST: usize = 1 << 20;

const WIDEST_GAP: usize = 4096;

/// The most messages of a batch.
const MOST: usize = 1 << 12;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Counts all messages there could be, with gaps where batches have fewer than the most.
    pub(super) number: u64,
    /// Where it goes in the buffer.
    pub(super) offset: u64,
    /// How long it is, bytes.
    pub(super) length: usize,
    /// Whether it may wait to share a packet.
    pub(super) queued: bool,
}

impl Message {
    /// Its notification's tag. None of the control words' tags.
    pub(super) fn tag(&self) -> u32 {
        self.number as u32 & (u32::MAX >> 1)
    }

    /// Writes its content into `bytes`, which are as many as it has.
    pub(super) fn fill(&self, seed: u64, bytes: &mut [u8]) {
        content(seed, self.number).fill(bytes);
        // Cleared memory is zero: a byte that has arrived never is.
        bytes.iter_mut().for_each(|byte| *byte = (*byte).max(1));
    }
}

/// The numbers that message `number` is made of.
fn content(seed: u64, number: u64) -> Rng {
    // Consecutive seeds give sequences that begin alike: mix them first.
    Rng::with_seed(Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..))
}

/// The messages of batch `number`, in the order in which they are sent.
pub(super) fn batch(seed: u64, number: u64) -> Vec<Message> {
    let mut random = content(!seed, number);
    let mut places = Vec::new();
    let mut end = 0;
    while places.len() < MOST {
        // Every other pair lies end to end.
        let gap = if random.bool() { 0 } else { random.usize(..WIDEST_GAP) };
        let length = (2f64.powf(random.f64() * LARGEST.ilog2() as f64 + 0.5) as usize).clamp(1, LARGEST);
        if end + gap + length > HALF {
            break;
        }
        places.push((end + gap, length));
        end += gap + length;
    }
    // What is left over moves them all.
    let shift = random.usize(..=HALF - end);
    random.shuffle(&mut places);
    let base = (number % 2) as usize * HALF + shift;
    let message = |(index, (at, length)): (usize, (usize, usize))| Message {
        number: number * MOST as u64 + index as u64,
        offset: (base + at) as u64,
        length,
        queued: length < 512 && random.bool(),
    };
    places.into_iter().enumerate().map(message).collect()
}

/// Where the half of batch `number` begins in the buffer.
pub(super) fn half(number: u64) -> u64 {
    number % 2 * HALF as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lie_apart_and_within_their_half() {
        for number in 0..50 {
            let messages = batch(3, number);
            let mut places: Vec<_> = messages.iter().map(|m| (m.offset, m.offset + m.length as u64)).collect();
            places.sort_unstable();
            assert!(places[0].0 >= half(number) && places.last().unwrap().1 <= half(number) + HALF as u64);
            assert!(places.windows(2).all(|w| w[0].1 <= w[1].0), "batch {number}");
            assert!(messages.windows(2).all(|w| w[1].number == w[0].number + 1));
        }
    }

    #[test]
    fn all_sizes_occur_and_both_ways_to_send() {
        let messages: Vec<_> = (0..200).flat_map(|number| batch(1, number)).collect();
        let any = |f: &dyn Fn(&Message) -> bool| messages.iter().any(f);
        assert!(any(&|m| m.length == 1) && any(&|m| m.length == LARGEST));
        for power in 0..20 {
            assert!(any(&|m| m.length.ilog2() == power), "2^{power}");
        }
        assert!(any(&|m| m.queued) && any(&|m| !m.queued && m.length < 512));
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(batch(5, 7), batch(5, 7));
        assert_ne!(batch(5, 7), batch(6, 7));
        let text = |seed, number| {
            let mut bytes = [0; 64];
            Message { number, offset: 0, length: 64, queued: false }.fill(seed, &mut bytes);
            bytes
        };
        assert_eq!(text(1, 2), text(1, 2));
        for other in [text(1, 3), text(2, 2), text(2, 3)] {
            let same = text(1, 2).iter().zip(other).filter(|(a, b)| **a == *b).count();
            assert!(same < 16, "{same} of 64 bytes are the same");
        }
        assert!(text(1, 2).iter().all(|b| *b != 0));
    }

    #[test]
    fn no_message_has_a_control_word_s_tag() {
        let last = Message { number: u64::MAX, offset: 0, length: 1, queued: false };
        assert!(last.tag() < END && END < BEGIN);
    }
}
