//! The translation table: virtual page number -> frame, or what has been paid for it so far.
//!
//! Two levels, as in the paper. A leaf has the entries of 512 neighbouring pages and fills a page itself. Leaves are made on demand
//! and go with the last entry. The directory that finds them is a hash table, since an address space has room for 2^27 leaves and more; the last leaf
//! is remembered, so that neighbours don't need it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Entries of a leaf.
const LEAF: u64 = 512;

/// No frame.
const NONE: u32 = u32::MAX;

/// What is known of a page. The default is what is known of one that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    frame: u32,
    /// What copying it has cost since it was last pinned, ns.
    pub rent: u32,
}

impl Entry {
    const EMPTY: Entry = Entry { frame: NONE, rent: 0 };

    /// The frame it is pinned to.
    pub(super) fn frame(self) -> Option<u32> {
        (self.frame != NONE).then_some(self.frame)
    }

    pub(super) fn pinned(frame: u32) -> Entry {
        debug_assert_ne!(frame, NONE);
        Entry { frame, rent: 0 }
    }

    pub(super) fn rented(rent: u32) -> Entry {
        Entry { frame: NONE, rent }
    }
}

struct Leaf {
    entries: [Entry; LEAF as usize],
    /// Entries that aren't empty.
    used: u32,
}

/// Page numbers are spread by a multiplication: they come from no adversary.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// The table.
pub(super) struct Table {
    directory: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    leaves: Vec<Option<Box<Leaf>>>,
    /// Places in `leaves` that are free.
    free: Vec<u32>,
    /// The leaf that was used last, and its place.
    last: (u64, u32),
}

impl Table {
    pub(super) fn new() -> Table {
        Table { directory: HashMap::default(), leaves: Vec::new(), free: Vec::new(), last: (u64::MAX, 0) }
    }

    fn find(&mut self, leaf: u64) -> Option<u32> {
        if self.last.0 != leaf {
            self.last = (leaf, *self.directory.get(&leaf)?);
        }
        Some(self.last.1)
    }

    /// What is known of a page.
    pub(super) fn get(&mut self, page: u64) -> Entry {
        let Some(place) = self.find(page / LEAF) else { return Entry::EMPTY };
        match &self.leaves[place as usize] {
            Some(leaf) => leaf.entries[(page % LEAF) as usize],
            None => Entry::EMPTY,
        }
    }

    /// Writes what is known of a page.
    pub(super) fn set(&mut self, page: u64, entry: Entry) {
        let (number, empty) = (page / LEAF, entry == Entry::EMPTY);
        let place = match self.find(number) {
            Some(place) => place,
            None if empty => return,
            None => self.grow(number),
        };
        let Some(leaf) = &mut self.leaves[place as usize] else { return };
        let old = std::mem::replace(&mut leaf.entries[(page % LEAF) as usize], entry);
        leaf.used += u32::from(!empty);
        leaf.used -= u32::from(old != Entry::EMPTY);
        if leaf.used == 0 {
            self.leaves[place as usize] = None;
            self.free.push(place);
            self.directory.remove(&number);
            self.last = (u64::MAX, 0);
        }
    }

    fn grow(&mut self, number: u64) -> u32 {
        let leaf = Some(Box::new(Leaf { entries: [Entry::EMPTY; LEAF as usize], used: 0 }));
        let place = match self.free.pop() {
            Some(place) => {
                self.leaves[place as usize] = leaf;
                place
            }
            None => {
                self.leaves.push(leaf);
                (self.leaves.len() - 1) as u32
            }
        };
        self.directory.insert(number, place);
        self.last = (number, place);
        place
    }

    /// Forgets all that is known of `pages`, and calls `pinned` for each that has a frame, in ascending order.
    pub(super) fn clear(&mut self, pages: Range<u64>, mut pinned: impl FnMut(u64, u32)) {
        // Most of a large mapping may never have been sent: only what there is costs time.
        let numbers = pages.start / LEAF..pages.end.div_ceil(LEAF);
        let mut leaves: Vec<u64> = if numbers.end.saturating_sub(numbers.start) < self.directory.len() as u64 {
            numbers.filter(|number| self.directory.contains_key(number)).collect()
        } else {
            self.directory.keys().copied().filter(|number| numbers.contains(number)).collect()
        };
        leaves.sort_unstable();
        for number in leaves {
            let first = number * LEAF;
            for page in pages.start.max(first)..pages.end.min(first.saturating_add(LEAF)) {
                if let Some(frame) = self.get(page).frame() {
                    pinned(page, frame);
                }
                self.set(page, Entry::EMPTY);
            }
        }
    }

    /// Leaves in use.
    pub(super) fn leaves(&self) -> usize {
        self.directory.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_come_on_demand_and_go_with_the_last_entry() {
        let mut table = Table::new();
        assert_eq!(table.get(7), Entry::EMPTY);
        assert_eq!(table.leaves(), 0);
        for page in [0, 511, 512, 1 << 40] {
            table.set(page, Entry::pinned(page as u32 % 1000));
        }
        assert_eq!(table.leaves(), 3);
        table.set(511, Entry::EMPTY);
        assert_eq!(table.leaves(), 3);
        table.set(0, Entry::EMPTY);
        assert_eq!(table.leaves(), 2);
        let mut seen = Vec::new();
        table.clear(100..(1 << 40) + 1, |page, frame| seen.push((page, frame)));
        assert_eq!(seen, [(512, 512), (1 << 40, (1u64 << 40) as u32 % 1000)]);
        assert_eq!(table.leaves(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 256 }))]
        #[test]
        fn is_a_map(steps in prop::collection::vec((0u64..2000, 0u32..4, 1u64..700), 1..if cfg!(miri) { 10 } else { 200 })) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            for (page, what, len) in steps {
                match what {
                    0 => {
                        table.set(page, Entry::pinned(len as u32));
                        model.insert(page, Entry::pinned(len as u32));
                    }
                    1 => {
                        table.set(page, Entry::rented(len as u32));
                        model.insert(page, Entry::rented(len as u32));
                    }
                    2 => {
                        table.set(page, Entry::EMPTY);
                        model.remove(&page);
                    }
                    _ => {
                        let mut seen = Vec::new();
                        table.clear(page..page + len, |page, frame| seen.push((page, frame)));
                        let there: Vec<_> = model.range(page..page + len).map(|(&p, &e)| (p, e)).collect();
                        let pinned = there.iter().filter_map(|&(p, e)| Some((p, e.frame()?)));
                        prop_assert_eq!(seen, pinned.collect::<Vec<_>>());
                        for (page, _) in there {
                            model.remove(&page);
                        }
                    }
                }
                let leaves: std::collections::BTreeSet<_> = model.keys().map(|p| p / LEAF).collect();
                prop_assert_eq!(table.leaves(), leaves.len());
            }
            for page in (0..2700).step_by(if cfg!(miri) { 97 } else { 1 }) {
                prop_assert_eq!(table.get(page), model.get(&page).copied().unwrap_or(Entry::EMPTY));
            }
        }
    }
}
