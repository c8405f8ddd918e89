//! What hosts do in a test of the bulk lane, drawn at random, such that what comes of it doesn't depend on how fast it goes or which way.
//!
//! A program is a row of *epochs*. In one, each of several senders writes into an export of its own and into one that all share, and reads some of it; and the receiver
//! redirects some. Each byte of an export is written at most once in an epoch, and senders have their own parts of the shared one: so whatever overtakes what, the same
//! bytes come to lie in the same places. All is done before the next epoch begins.

use std::ops::Range;

use vmmc::engine::Wanted;

/// Where the bytes of a send lie.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// In memory of the program's.
    Slice,
    /// In a buffer of the arena, so many bytes behind its start.
    Buffer(usize),
}

#[derive(Clone, Debug)]
pub struct Put {
    pub export: usize,
    pub range: Range<usize>,
    pub notify: Option<u32>,
    pub from: From,
    pub salt: u64,
}

#[derive(Clone, Debug)]
pub struct Read {
    pub export: usize,
    pub range: Range<usize>,
    pub into_buffer: bool,
}

/// What a sender does, in this order.
#[derive(Clone, Debug)]
pub enum Act {
    Put(Put),
    Read(Read),
}

#[derive(Clone, Debug)]
pub struct Post {
    pub export: usize,
    pub wanted: Wanted,
    /// Bytes of the target that aren't wanted.
    pub spare: usize,
    pub in_buffer: bool,
    /// Not before the senders begin, but so many steps later.
    pub after: usize,
}

#[derive(Clone, Debug)]
pub struct Epoch {
    /// What each sender does.
    pub acts: Vec<Vec<Act>>,
    /// In this order.
    pub posts: Vec<Post>,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub senders: usize,
    /// Length of each export: one for each sender, and the shared one.
    pub exports: Vec<usize>,
    pub epochs: Vec<Epoch>,
}

struct Draw {
    rng: fastrand::Rng,
    tag: u32,
}

impl Program {
    /// A program of so many epochs. Sends are `most` bytes long at the most, and exports twice that.
    pub fn draw(seed: u64, senders: usize, epochs: usize, most: usize) -> Program {
        let mut draw = Draw { rng: fastrand::Rng::with_seed(seed), tag: 0 };
        let exports = (0..=senders).map(|_| draw.rng.usize(most..=2 * most)).collect::<Vec<_>>();
        let epochs = (0..epochs).map(|_| draw.epoch(senders, &exports, most)).collect();
        Program { senders, exports, epochs }
    }

    pub fn shared(&self) -> usize {
        self.senders
    }
}

impl Draw {
    fn epoch(&mut self, senders: usize, exports: &[usize], most: usize) -> Epoch {
        let shared = senders;
        let mut posts = Vec::new();
        for (export, &len) in exports.iter().enumerate() {
            // Nobody knows in which order the bytes of several senders come.
            let in_order = export != shared;
            for _ in 0..self.rng.usize(..4) {
                let range = self.range(0..len, most);
                if range.is_empty() {
                    continue;
                }
                // If one comes late, what it takes doesn't depend on when; if it takes the next bytes, it would.
                let next = in_order && self.rng.u8(..3) == 0;
                let wanted = match next {
                    true => Wanted::Next(range.len() as u64),
                    false => Wanted::Range(range.start as u64..range.end as u64),
                };
                let after = if next || self.rng.bool() { 0 } else { self.rng.usize(..400) };
                let (spare, in_buffer) = (self.rng.usize(..2) * 100, self.rng.u8(..4) > 0);
                posts.push(Post { export, wanted, spare, in_buffer, after });
            }
        }
        // They are posted one after the other.
        posts.sort_by_key(|post| post.after);
        let acts = (0..senders).map(|sender| self.acts(sender, senders, exports, &posts, most)).collect();
        Epoch { acts, posts }
    }

    fn acts(&mut self, sender: usize, senders: usize, exports: &[usize], posts: &[Post], most: usize) -> Vec<Act> {
        let shared = senders;
        let part = exports[shared] / senders;
        let mut acts = Vec::new();
        for (export, within) in [(sender, 0..exports[sender]), (shared, sender * part..(sender + 1) * part)] {
            let puts = self.pieces(within.clone(), most).into_iter().map(|range| {
                self.tag += 1;
                let notify = (self.rng.u8(..3) > 0).then_some(self.tag);
                let from = match self.rng.u8(..6) {
                    0 => From::Slice,
                    1 | 2 => From::Buffer(self.rng.usize(..5000)),
                    _ => From::Buffer(0),
                };
                Act::Put(Put { export, range, notify, from, salt: self.rng.u64(..) })
            });
            acts.extend(puts.collect::<Vec<_>>());
            // What is read doesn't depend on when others write or redirect.
            if posts.iter().all(|post| post.export != export) && self.rng.bool() {
                let range = self.range(within, most);
                acts.push(Act::Read(Read { export, range, into_buffer: self.rng.u8(..4) > 0 }));
            }
        }
        // What is read was written before.
        if self.rng.bool() {
            acts.reverse();
            acts.sort_by_key(|act| matches!(act, Act::Read(_)));
        }
        acts
    }

    /// Some pieces that don't overlap, in any order.
    fn pieces(&mut self, within: Range<usize>, most: usize) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut at = within.start;
        for _ in 0..self.rng.usize(..4) {
            let range = self.range(at..within.end, most);
            at = range.end;
            if !range.is_empty() {
                pieces.push(range);
            }
        }
        self.rng.shuffle(&mut pieces);
        pieces
    }

    /// Somewhere in there, short or long.
    fn range(&mut self, within: Range<usize>, most: usize) -> Range<usize> {
        let most = [100, 3000, most / 4, most, most][self.rng.usize(..5)].min(most).min(within.len());
        let len = self.rng.usize(..=most);
        let gap = within.len() - len;
        let start = within.start + if self.rng.bool() { 0 } else { self.rng.usize(..=gap.min(most)) };
        start..start + len
    }
}

/// The bytes of a send.
pub fn bytes(put: &Put) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(put.salt);
    let mut bytes = vec![0; put.range.len()];
    rng.fill(&mut bytes);
    bytes
}
