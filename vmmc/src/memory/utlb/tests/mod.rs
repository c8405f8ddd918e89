//! The UTLB's books, with a pager that only counts: examples, and what may be relied on.

use std::collections::BTreeSet;

use super::*;

mod model;
mod rental;

/// Frames that don't exist. Checks that it is asked for nothing that can't be.
#[derive(Default)]
struct Counting {
    free: BTreeSet<u32>,
    pinned: BTreeSet<u64>,
    /// Frames that follow each other are given out one by one.
    scattered: bool,
    fail_pins: bool,
    fail_unpins: bool,
}

impl Counting {
    fn new(frames: u32) -> Counting {
        Counting { free: (0..frames).collect(), ..Counting::default() }
    }
}

impl Pager for Counting {
    fn take(&mut self, most: usize) -> Option<Range<u32>> {
        assert!(most > 0);
        let most = if self.scattered { 1 } else { most };
        let first = *self.free.first()?;
        let len = (first..).zip(&self.free).take(most).take_while(|(want, have)| want == *have).count() as u32;
        (first..first + len).for_each(|frame| assert!(self.free.remove(&frame)));
        Some(first..first + len)
    }

    fn give(&mut self, frames: Range<u32>) {
        assert!(!frames.is_empty());
        frames.for_each(|frame| assert!(self.free.insert(frame), "frame {frame} comes back twice"));
    }

    fn pin(&mut self, pages: Range<u64>, frames: Range<u32>) -> Result<(), MemoryError> {
        assert!(!pages.is_empty() && pages.end - pages.start == frames.len() as u64);
        if self.fail_pins {
            return Err(MemoryError::BadLength { len: 0 });
        }
        assert!(frames.into_iter().all(|frame| !self.free.contains(&frame)));
        pages.for_each(|page| assert!(self.pinned.insert(page), "page {page} is pinned twice"));
        Ok(())
    }

    fn unpin(&mut self, pages: Range<u64>) -> Result<(), MemoryError> {
        if self.fail_unpins {
            return Err(MemoryError::BadLength { len: 0 });
        }
        pages.for_each(|page| assert!(self.pinned.remove(&page), "page {page} isn't pinned"));
        Ok(())
    }
}

fn always(budget: usize) -> Utlb {
    Utlb::new(budget, Config { rule: Rule::Pin, ..Config::default() })
}

/// Holds and releases. Returns how many were pinned.
fn touch(utlb: &mut Utlb, pages: Range<u64>, pager: &mut Counting) -> u64 {
    let hold = utlb.hold(pages, pager);
    let pinned = hold.runs().filter(|run| run.frame.is_some()).map(|run| run.pages.end - run.pages.start).sum();
    utlb.release(hold, pager);
    pinned
}

#[test]
fn runs_are_pinned_and_unpinned_in_one_call() {
    let (mut utlb, mut pager) = (always(64), Counting::new(64));
    assert_eq!(touch(&mut utlb, 10..42, &mut pager), 32);
    assert_eq!(touch(&mut utlb, 0..64, &mut pager), 64);
    let counters = utlb.counters();
    assert_eq!((counters.pins, counters.pin_calls, counters.hits, counters.misses), (64, 3, 32, 64));
    assert_eq!(touch(&mut utlb, 100..132, &mut pager), 32);
    let counters = utlb.counters();
    assert_eq!((counters.unpins, counters.evictions, counters.unpin_calls), (32, 32, 1), "neighbours go together");
    assert_eq!(counters.pinned, 64);
}

#[test]
fn a_hold_has_its_pages_in_runs_as_long_as_can_be() {
    let (mut utlb, mut pager) = (always(8), Counting::new(8));
    assert_eq!(touch(&mut utlb, 4..5, &mut pager), 1);
    let hold = utlb.hold(0..12, &mut pager);
    let runs: Vec<_> = hold.runs().cloned().collect();
    let run = |pages, frame| Run { pages, frame };
    let expected = [run(0..4, Some(1)), run(4..5, Some(0)), run(5..8, Some(5)), run(8..12, None)];
    assert_eq!(runs, expected);
    utlb.release(hold, &mut pager);
    let hold = utlb.hold(7..7, &mut pager);
    assert!(hold.runs().next().is_none());
    utlb.release(hold, &mut pager);
}

#[test]
fn a_budget_that_is_lowered_waits_for_holds_and_writers() {
    let (mut utlb, mut pager) = (always(8), Counting::new(8));
    touch(&mut utlb, 0..8, &mut pager);
    let hold = utlb.hold(0..3, &mut pager);
    utlb.exclude(3..5);
    utlb.set_budget(1, &mut pager);
    assert_eq!((utlb.counters().pinned, utlb.counters().held), (5, 3));
    utlb.release(hold, &mut pager);
    assert_eq!(utlb.counters().pinned, 2);
    utlb.include(3..5, &mut pager);
    assert_eq!((utlb.counters().pinned, utlb.counters().evictions), (1, 0));
}

#[test]
fn pages_are_pinned_ahead_as_far_as_the_mapping_the_budget_and_writers_allow() {
    let config = Config { rule: Rule::Pin, prefetch: 4, ..Config::default() };
    let (mut utlb, mut pager) = (Utlb::new(10, config), Counting::new(16));
    utlb.map(100..110);
    utlb.map(110..120);
    touch(&mut utlb, 100..101, &mut pager);
    assert_eq!((utlb.counters().pins, utlb.counters().pin_calls, utlb.counters().prefetched), (5, 1, 4));
    touch(&mut utlb, 108..109, &mut pager);
    assert_eq!(utlb.counters().pins, 7, "the mapping ends at 110");
    utlb.exclude(114..116);
    touch(&mut utlb, 112..113, &mut pager);
    assert_eq!(utlb.frame(114), None, "it is written");
    let hold = utlb.hold(116..120, &mut pager);
    let more = utlb.hold(100..110, &mut pager);
    assert!(utlb.counters().pinned <= 10);
    utlb.release(hold, &mut pager);
    utlb.release(more, &mut pager);
    assert_eq!(touch(&mut utlb, 500..502, &mut pager), 2, "outside of every mapping there is no ahead");
    assert_eq!(utlb.frame(502), None);
}

#[test]
fn what_the_pager_cant_do_is_copied_or_stays() {
    let (mut utlb, mut pager) = (always(4), Counting::new(4));
    pager.fail_pins = true;
    assert_eq!(touch(&mut utlb, 0..4, &mut pager), 0);
    assert_eq!((utlb.counters().failures, utlb.counters().copied, pager.free.len()), (1, 4, 4));
    pager.fail_pins = false;
    assert_eq!(touch(&mut utlb, 0..4, &mut pager), 4);
    pager.fail_unpins = true;
    assert_eq!(touch(&mut utlb, 10..12, &mut pager), 0);
    assert_eq!((utlb.counters().pinned, utlb.counters().failures), (4, 2));
    pager.fail_unpins = false;
    assert_eq!(touch(&mut utlb, 10..12, &mut pager), 2);
    utlb.set_budget(0, &mut pager);
    assert_eq!((utlb.counters().pinned, pager.free.len()), (0, 4));
}

#[test]
fn frames_of_a_mapping_that_went_come_back_with_the_last_hold() {
    let (mut utlb, mut pager) = (always(8), Counting::new(8));
    utlb.map(0..6);
    let (first, second) = (utlb.hold(0..4, &mut pager), utlb.hold(2..6, &mut pager));
    utlb.unmap(0..6, &mut pager);
    assert_eq!((utlb.leaves(), pager.free.len(), utlb.counters().dropped), (0, 2, 6));
    // The addresses are somebody else's now.
    pager.pinned.clear();
    utlb.map(0..6);
    assert_eq!(touch(&mut utlb, 0..1, &mut pager), 1);
    utlb.release(first, &mut pager);
    assert_eq!(pager.free.len(), 3);
    utlb.release(second, &mut pager);
    assert_eq!((pager.free.len(), utlb.counters().pinned, utlb.counters().held), (7, 1, 0));
}

#[test]
fn names_and_json() {
    for rule in Rule::ALL {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
    }
    assert!("never".parse::<Rule>().is_err());
    let counters = always(3).counters();
    assert_eq!(serde_json::from_str::<Counters>(&serde_json::to_string(&counters).unwrap()).unwrap(), counters);
}
