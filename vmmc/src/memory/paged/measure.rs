//! What pinning, unpinning and copying cost here.

use std::hint::black_box;
use std::time::Instant;

use super::{PagedBuffer, Paging};
use crate::memory::utlb::{Config, Costs, Rule};
use crate::memory::{Arena, MemoryError};

/// Pages of a long run.
const RUN: usize = 64;

/// Times each is measured: the median counts.
const ROUNDS: usize = 31;

impl Costs {
    /// Measures them on this machine as it is now, with a small arena in ordinary pages made for it. Takes some milliseconds.
    ///
    /// ```
    /// use vmmc::Node;
    /// use vmmc::memory::utlb::{Config, Costs};
    ///
    /// let costs = Costs::measure()?;
    /// let builder = Node::builder().interface("eth0").utlb(Config { costs, ..Config::default() });
    /// # Ok::<(), vmmc::memory::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn measure() -> Result<Costs, MemoryError> {
        let page = rustix::param::page_size();
        let config = Config { rule: Rule::Pin, budget: Some(RUN * page), ..Config::default() };
        let paging = Paging::new(Arena::new(2 * RUN * page)?, config);
        let mut buffer = paging.map(RUN * page)?;
        buffer.write().fill(1);
        let (pin_one, unpin_one) = moves(&paging, &buffer, page);
        let (pin_run, unpin_run) = moves(&paging, &buffer, RUN * page);
        let mut copy = vec![0; RUN * page];
        let copied = median(|| copy.copy_from_slice(black_box(&buffer)));
        black_box(&copy);
        let (pin_call, pin_page) = line(pin_one, pin_run);
        let (unpin_call, unpin_page) = line(unpin_one, unpin_run);
        // These are the costs of pages of 4096 bytes, whatever the machine's are.
        let per = |cost: u64| (cost * 4096).div_ceil(page as u64);
        let copy_page = per(copied / RUN as u64).max(1);
        Ok(Costs { pin_call, pin_page: per(pin_page), unpin_call, unpin_page: per(unpin_page), copy_page })
    }
}

/// What pinning and unpinning the first `len` bytes takes, ns.
fn moves(paging: &Paging, buffer: &PagedBuffer, len: usize) -> (u64, u64) {
    let mut unpinning = Vec::with_capacity(ROUNDS);
    let mut pinning = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        // As a program finds them that has just written them.
        black_box(buffer.iter().step_by(paging.page_size()).fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
        pinning.push(timed(|| drop(buffer.hold(0..len))));
        unpinning.push(timed(|| paging.set_budget(0)));
        paging.set_budget(buffer.len());
    }
    (middle(pinning), middle(unpinning))
}

/// What a call and a page of it cost, if one page takes `one` and a run takes `run`.
fn line(one: u64, run: u64) -> (u64, u64) {
    let page = run.saturating_sub(one) / (RUN as u64 - 1);
    (one.saturating_sub(page), page)
}

fn median(mut work: impl FnMut()) -> u64 {
    middle((0..ROUNDS).map(|_| timed(&mut work)).collect())
}

fn timed(work: impl FnOnce()) -> u64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
}

fn middle(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn something_is_measured() {
        let costs = Costs::measure().unwrap();
        assert!(costs.copy_page > 0 && costs.pin(1) > 0 && costs.unpin(1) > 0, "{costs:?}");
        assert_eq!(line(100, 100 + 63 * 7), (93, 7));
        assert_eq!(line(100, 50), (100, 0));
    }
}
