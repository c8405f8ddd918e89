//! What pages cost: looking one up, pinning and unpinning a run, and copying instead. In one process, without a network.
//!
//! ```text
//!   hit    utlb    hold a page that is pinned, and release it, as each send does      beside the paper's figure
//!   copy   page    memcpy, 4096 bytes
//!   pin    utlb    hold 64 pages that aren't pinned       bare: the same copying and remapping without the UTLB
//!   unpin  utlb    give them up again                     bare
//! ```
//!
//! The UTLB's run and the bare one take turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use vmmc::memory::utlb::{Config, Rule};
use vmmc::memory::{Arena, Paging, Remapping};

use crate::peers::PeerError;
use crate::spec::{Outcome, Spec};

/// Which figures there are, in the order of [`Outcome::Times`]: metric, and of what.
pub(crate) const FIGURES: [(&str, &str); 7] = [
    ("hit", "utlb"),
    ("hit", "paper"),
    ("copy", "page"),
    ("pin 64", "utlb"),
    ("pin 64", BARE),
    ("unpin 64", "utlb"),
    ("unpin 64", BARE),
];

/// What the UTLB's work is compared with.
pub(crate) const BARE: &str = "bare";

/// "0.5 us at best": Chen et al., ASPLOS 1998, on a 200 MHz processor.
const PAPER_HIT: f64 = 500.0;

/// Pages of a run.
const RUN: usize = 64;

/// Pages that are looked up.
const PINNED: usize = 1024;

/// Look-ups between two looks at the clock.
const BATCH: usize = 1000;

/// Measures for as long as the spec says.
pub(crate) fn measure(spec: &Spec) -> Result<Outcome, PeerError> {
    let share = spec.duration() / 3;
    let arena = Arena::new(32 << 20)?;
    let page = arena.page_size();
    let (hit, copy) = (hit(&arena, page, share)?, copy(page, share));
    let [pin, bare_pin, unpin, bare_unpin] = pin(&arena, page, share)?;
    Ok(Outcome::Times(vec![hit, PAPER_HIT, copy, pin, bare_pin, unpin, bare_unpin]))
}

fn nanos(time: Duration, times: usize) -> f64 {
    time.as_nanos() as f64 / times as f64
}

/// Calls `step` again and again for a while, in batches, and says what one takes: the median of the batches.
fn each(time: Duration, mut step: impl FnMut(usize)) -> f64 {
    let (begin, mut batches) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let start = Instant::now();
        (0..BATCH).for_each(&mut step);
        batches.push(nanos(start.elapsed(), BATCH));
    }
    crate::report::median(&batches)
}

fn hit(arena: &Arena, page: usize, time: Duration) -> Result<f64, PeerError> {
    let paging = Paging::new(arena.clone(), Config { rule: Rule::Pin, ..Config::default() });
    let buffer = paging.map(PINNED * page)?;
    drop(buffer.hold(0..buffer.len()));
    let pinned = paging.counters().pinned;
    if pinned != PINNED as u64 {
        return Err(format!("of {PINNED} pages that fit, {pinned} were pinned").into());
    }
    // In no order that a processor could foresee, and each page as often as the others.
    let took = each(time, |turn| {
        let at = turn.wrapping_mul(769) % PINNED * page;
        drop(black_box(buffer.hold(at..at + 64)));
    });
    let missed = paging.counters().misses - PINNED as u64;
    if missed == 0 { Ok(took) } else { Err(format!("{missed} look-ups of pinned pages missed").into()) }
}

fn copy(page: usize, time: Duration) -> f64 {
    let (from, mut to) = (vec![1_u8; RUN * page], vec![0_u8; RUN * page]);
    each(time, |turn| {
        let at = turn % RUN * page;
        black_box(&mut to)[at..at + page].copy_from_slice(&black_box(&from)[at..at + page]);
    })
}

/// To pin a run and to unpin it: each by the UTLB, and bare.
fn pin(arena: &Arena, page: usize, time: Duration) -> Result<[f64; 4], PeerError> {
    let config = Config { rule: Rule::Pin, budget: Some(RUN * page), ..Config::default() };
    let (paging, mut bare) = (Paging::new(arena.clone(), config), Remapping::new(arena, RUN)?);
    let mut buffer = paging.map(RUN * page)?;
    buffer.write().fill(7);
    let (begin, mut times) = (Instant::now(), [const { Vec::new() }; 4]);
    while begin.elapsed() < time {
        let start = Instant::now();
        drop(buffer.hold(0..buffer.len()));
        let pinned = Instant::now();
        paging.set_budget(0);
        let unpinned = Instant::now();
        paging.set_budget(RUN * page);
        let alone = bare.once()?;
        for (times, took) in times.iter_mut().zip([pinned - start, alone.pin, unpinned - pinned, alone.unpin]) {
            times.push(nanos(took, 1));
        }
    }
    let calls = paging.counters().pin_calls;
    if calls != times[0].len() as u64 {
        return Err(format!("{} runs took {calls} calls to be pinned", times[0].len()).into());
    }
    Ok(times.map(|times| crate::report::median(&times)))
}
