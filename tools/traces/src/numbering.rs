//! Small numbers for pages that lie all over an address space.
//!
//! A program's heap, its stack and its libraries lie far apart, and a table of all the pages between them would be large. So
//! pages that are touched get new numbers, in the same order. Neighbours stay neighbours, and what lies apart stays apart: of
//! an untouched stretch up to [`GAP`] pages are left, more than anybody fetches ahead.

use std::collections::BTreeMap;

use crate::Reference;

/// How much of an untouched stretch is left, in pages.
pub const GAP: u64 = 64;

/// Old numbers of pages and their new ones.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    /// The touched stretches, from first page to the page behind the last, and the first page's new number.
    stretches: BTreeMap<u64, (u64, u64)>,
    touched: u64,
    end: u64,
}

impl Numbering {
    /// The numbering for these references.
    pub fn new(references: impl IntoIterator<Item = Reference>) -> Numbering {
        let mut stretches: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for reference in references {
            let (mut begin, mut end) = (reference.page, reference.end());
            // Those that overlap or touch it become one with it.
            while let Some((&first, &(last, _))) = stretches.range(..=end).next_back().filter(|(_, s)| s.0 >= begin) {
                if first <= begin && last >= end {
                    (begin, end) = (first, last);
                    break;
                }
                stretches.remove(&first);
                (begin, end) = (begin.min(first), end.max(last));
            }
            stretches.insert(begin, (end, 0));
        }
        let (mut next, mut behind, mut touched) = (0, 0, 0);
        for (&begin, (end, new)) in &mut stretches {
            next += (begin - behind).min(GAP);
            *new = next;
            next += *end - begin;
            touched += *end - begin;
            behind = *end;
        }
        Numbering { stretches, touched, end: next }
    }

    /// How many pages are touched.
    pub fn touched(&self) -> u64 {
        self.touched
    }

    /// The number behind the largest new one.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The reference with its new number; `None` if it isn't among those that the numbering is for.
    pub fn renumber(&self, reference: Reference) -> Option<Reference> {
        let (begin, (end, new)) = self.stretches.range(..=reference.page).next_back()?;
        let known = reference.end() <= *end;
        known.then(|| Reference { page: new + (reference.page - begin), count: reference.count })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn reference(page: u64, count: u32) -> Reference {
        Reference { page, count }
    }

    #[test]
    fn neighbours_stay_neighbours_and_gaps_shrink() {
        let numbering =
            Numbering::new([reference(1 << 40, 2), reference(1000, 1), reference(1003, 2), reference(1001, 1)]);
        assert_eq!((numbering.touched(), numbering.end()), (6, 64 + 5 + 64 + 2));
        let new = |page| numbering.renumber(reference(page, 1)).map(|r| r.page);
        assert_eq!([1000, 1001, 1003, 1004].map(new), [Some(64), Some(65), Some(67), Some(68)]);
        assert_eq!((new(1 << 40), new(1002), new(999)), (Some(69 + 64), None, None));
        assert_eq!(numbering.renumber(reference(1003, 3)), None);
        assert_eq!(Numbering::new([]).end(), 0);
    }

    proptest! {
        #[test]
        fn a_numbering_keeps_order_and_count(list in prop::collection::vec((0u64..2000, 1u32..40), 0..60)) {
            let list: Vec<Reference> = list.into_iter().map(|(page, count)| reference(page, count)).collect();
            let numbering = Numbering::new(list.iter().copied());
            let touched: BTreeSet<u64> = list.iter().flat_map(|r| r.page..r.end()).collect();
            prop_assert_eq!(numbering.touched(), touched.len() as u64);
            let new: Vec<u64> = touched.iter().map(|p| numbering.renumber(reference(*p, 1)).unwrap().page).collect();
            for (old, new) in touched.iter().zip(touched.iter().skip(1)).zip(new.windows(2)) {
                let (apart, now) = (old.1 - old.0, new[1] - new[0]);
                prop_assert_eq!(now, apart.min(GAP + 1));
            }
            for reference in list {
                prop_assert!(numbering.renumber(reference).is_some_and(|new| new.end() <= numbering.end()));
            }
        }
    }
}
