//! Leaving out what repeats: programs touch the same few pages thousands of times in a row, and no policy differs in that.

use std::collections::VecDeque;

use crate::Reference;

/// Leaves out references to one of the last few.
///
/// With a window of 1 these are repetitions in a row. With more it is Smith's *stack deletion*: a reference that would hit in an
/// LRU of so many entries goes, so that what remains is what a small cache in front would let through.
#[derive(Debug)]
pub(crate) struct Collapse {
    window: usize,
    /// The last ones, the latest first.
    recent: VecDeque<Reference>,
}

impl Collapse {
    /// With a window of 0 nothing is left out.
    pub(crate) fn new(window: usize) -> Collapse {
        Collapse { window, recent: VecDeque::new() }
    }

    /// Whether the reference stays.
    pub(crate) fn keeps(&mut self, reference: Reference) -> bool {
        let found = self.recent.iter().position(|recent| *recent == reference);
        if let Some(place) = found {
            self.recent.remove(place);
        }
        self.recent.push_front(reference);
        self.recent.truncate(self.window);
        found.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(window: usize, pages: &[u64]) -> Vec<u64> {
        let mut collapse = Collapse::new(window);
        pages.iter().copied().filter(|page| collapse.keeps(Reference { page: *page, count: 1 })).collect()
    }

    #[test]
    fn what_repeats_goes() {
        assert_eq!(kept(0, &[1, 1, 2]), [1, 1, 2]);
        assert_eq!(kept(1, &[1, 1, 2, 2, 1, 1, 1]), [1, 2, 1]);
        // 3 pushes 1 out of the last two, and not 2, which has been used since.
        assert_eq!(kept(2, &[1, 2, 1, 2, 3, 2, 1]), [1, 2, 3, 1]);
        // A longer transfer from the same page is another.
        let mut collapse = Collapse::new(1);
        assert!([1, 2].iter().all(|&count| collapse.keeps(Reference { page: 7, count })));
    }
}
