//! Misses: which of the pages that were looked up and aren't pinned are pinned now, and which are copied.

use std::ops::Range;

use super::{Entry, Hold, Pager, Rule, Run, Utlb};

/// How far from a run that is sent its neighbours are looked at, pages, each side: those that have been paid for are pinned with it.
const REACH: u64 = 64;

impl Utlb {
    /// Decides about the runs of `found` that aren't pinned.
    pub(super) fn admit(&mut self, found: Hold, pager: &mut dyn Pager) -> Hold {
        let mut hold = Hold::default();
        for Run { pages, frame } in found.runs {
            if let Some(first) = frame {
                pages.zip(first..).for_each(|(page, frame)| hold.push(page, Some(frame)));
                continue;
            }
            match self.config.rule {
                Rule::Pin => {
                    let wanted = self.ahead(self.room(pages.clone()));
                    self.pin(wanted, &pages, pager);
                }
                Rule::Copy => {}
                Rule::SkiRental => {
                    if let Some((wanted, share)) = self.weigh(&pages) {
                        let first = wanted.start;
                        self.pin(wanted, &pages, pager);
                        if self.table.get(first).frame().is_some() {
                            self.ledger.pay(share);
                        }
                    }
                }
            }
            for page in pages {
                let frame = self.admitted(page);
                hold.push(page, frame);
            }
        }
        hold
    }

    /// The frame that a missing page has got; without one it counts as copied.
    fn admitted(&mut self, page: u64) -> Option<u32> {
        let entry = self.table.get(page);
        let frame = entry.frame();
        if frame.is_none() {
            self.counters.copied += 1;
            if self.config.rule == Rule::SkiRental {
                let cost = u32::try_from(self.config.costs.copy_page).unwrap_or(u32::MAX);
                self.table.set(page, Entry::rented(entry.rent.saturating_add(cost)));
            }
        }
        frame
    }

    /// As much of the front of `pages` as could be pinned now.
    fn room(&self, pages: Range<u64>) -> Range<u64> {
        let most = self.budget.saturating_sub(self.frames.held) as u64;
        let end = self.frames.next_excluded(&pages).unwrap_or(pages.end);
        pages.start..end.min(pages.start.saturating_add(most)).max(pages.start)
    }

    /// How many pages have to go before so many more can be pinned.
    fn crowd(&self, pages: u64) -> u64 {
        if self.dry {
            return pages;
        }
        (self.frames.in_use as u64 + pages).saturating_sub(self.budget as u64)
    }

    /// By the ski-rental rule: which pages to pin, if any, now that `run` is to be sent, and how much of the debt that pays.
    fn weigh(&mut self, run: &Range<u64>) -> Option<(Range<u64>, u64)> {
        let own = self.room(run.clone());
        let pages = own.end - own.start;
        if pages == 0 {
            return None;
        }
        let costs = self.config.costs;
        let rent = own.clone().map(|page| u64::from(self.table.get(page).rent)).sum::<u64>();
        let paid = rent.saturating_add(costs.copy(pages));
        if paid < costs.pin_page.saturating_mul(pages) {
            return None;
        }
        let (wider, more) = if own == *run { self.widen(&own) } else { (own.clone(), 0) };
        for (wanted, paid) in [(wider, paid.saturating_add(more)), (own, paid)] {
            let pages = wanted.end - wanted.start;
            let evicted = self.crowd(pages);
            if paid > self.ledger.price(&costs, pages, evicted) {
                // As it stands now: what this run will owe itself isn't on its bill, and so not paid with it.
                let share = self.ledger.share(&costs, evicted);
                return Some((self.ahead(wanted), share));
            }
        }
        None
    }

    /// Adds to `run` those neighbours that have paid for what they add to the price of one call: what is sent as a whole once and then page by page
    /// isn't pinned page by page. Returns also what they have paid.
    fn widen(&mut self, run: &Range<u64>) -> (Range<u64>, u64) {
        let page_price = i64::try_from(self.config.costs.pin_page).unwrap_or(i64::MAX);
        let mut best = |pages: &mut dyn Iterator<Item = u64>| {
            let (mut gain, mut paid, mut reached) = (0i64, 0u64, (0i64, 0u64, 0u64));
            for (count, page) in (1..).zip(pages) {
                let entry = self.table.get(page);
                if entry.frame().is_some() || entry.rent == 0 || self.frames.is_excluded(page) {
                    break;
                }
                paid += u64::from(entry.rent);
                gain = gain.saturating_add(i64::from(entry.rent) - page_price);
                if gain > reached.0 {
                    reached = (gain, paid, count);
                }
            }
            (reached.1, reached.2)
        };
        let (before, left) = best(&mut (run.start.saturating_sub(REACH)..run.start).rev());
        let (after, right) = best(&mut (run.end..run.end.saturating_add(REACH)));
        let wider = run.start - left..run.end + right;
        let most = self.budget.saturating_sub(self.frames.held) as u64;
        if wider.end - wider.start > most { (run.clone(), 0) } else { (wider, before + after) }
    }

    /// Adds to `run` the pages that are to be pinned ahead.
    fn ahead(&mut self, run: Range<u64>) -> Range<u64> {
        let spare = (self.budget.saturating_sub(self.frames.held) as u64).saturating_sub(run.end - run.start);
        let most = u64::from(self.config.prefetch).min(spare);
        if most == 0 || run.is_empty() {
            return run;
        }
        let mapping = self.mappings.range(..run.end).next_back().map_or(run.end, |(_, &end)| end);
        let limit = mapping.min(run.end.saturating_add(most));
        let mut end = run.end;
        while end < limit && self.table.get(end).frame().is_none() && !self.frames.is_excluded(end) {
            end += 1;
        }
        run.start..end
    }

    /// Pins as many of `wanted` as it can, and holds those of `asked`.
    fn pin(&mut self, wanted: Range<u64>, asked: &Range<u64>, pager: &mut dyn Pager) {
        let mut page = wanted.start;
        self.evict(self.frames.in_use.saturating_add((wanted.end - page) as usize).saturating_sub(self.budget), pager);
        while page < wanted.end {
            let room = self.budget.saturating_sub(self.frames.in_use);
            let most = room.min((wanted.end - page) as usize);
            if most == 0 {
                return;
            }
            let mut taken = pager.take(most);
            self.dry = taken.is_none();
            if taken.is_none() && self.evict(most, pager) > 0 {
                taken = pager.take(most);
            }
            let Some(frames) = taken else { return };
            let pages = page..page + frames.len() as u64;
            if pager.pin(pages.clone(), frames.clone()).is_err() {
                self.counters.failures += 1;
                pager.give(frames);
                return;
            }
            if page > wanted.start {
                // The price was for one call.
                self.ledger.owe(self.config.costs.pin_call);
            }
            self.counters.pin_calls += 1;
            self.counters.pins += frames.len() as u64;
            for (page, frame) in pages.clone().zip(frames) {
                self.table.set(page, Entry::pinned(frame));
                self.frames.pinned(frame, page);
                self.policy.pinned(frame);
                if asked.contains(&page) {
                    self.frames.hold(frame);
                } else {
                    self.counters.prefetched += 1;
                }
            }
            page = pages.end;
        }
    }

    /// Makes room for others. Returns how many pages have gone.
    fn evict(&mut self, pages: usize, pager: &mut dyn Pager) -> usize {
        if pages == 0 {
            return 0;
        }
        let (gone, cost) = self.unpin(pages, pager);
        self.counters.evictions += gone as u64;
        self.ledger.owe(cost);
        gone
    }
}
