//! Memory when the system refuses more of it. A process of its own, because its limits are the process's.

#[path = "../simulated/lanes.rs"]
#[allow(dead_code)]
mod lanes;
mod lost;
#[path = "../simulated/world.rs"]
#[allow(dead_code)]
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmmc::memory::utlb::{Config, Rule};
use vmmc::memory::{Arena, MemoryError, Paging};

/// Limits are for one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn what_cant_be_mapped_is_copied_or_stays_and_no_byte_is_lost() {
    let _alone = alone();
    let paging = Paging::new(Arena::new(1 << 20).unwrap(), Config { rule: Rule::Pin, ..Config::default() });
    let page = paging.page_size();
    let mut buffer = paging.map(32 * page).unwrap();
    let value = |at: usize| (at ^ at >> 8 ^ at >> 16) as u8;
    buffer.write().iter_mut().enumerate().for_each(|(at, byte)| *byte = value(at));
    let whole = |buffer: &[u8]| buffer.iter().enumerate().all(|(at, &byte)| byte == value(at));
    drop(buffer.hold(0..8 * page));

    // No more addresses: every mapping fails.
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(1), ..before }).unwrap();
    let refused = paging.map(page);
    let hold = buffer.hold(4 * page..16 * page);
    let during = (whole(&buffer), paging.counters());
    let pinned: u64 = hold.runs().filter(|r| r.frame.is_some()).map(|r| r.pages.end - r.pages.start).sum();
    drop(hold);
    paging.set_budget(0);
    let after = (whole(&buffer), paging.counters());
    setrlimit(Resource::As, before).unwrap();

    assert!(matches!(refused, Err(MemoryError::Paged { .. })), "{refused:?}");
    assert!(during.0 && after.0, "bytes are lost");
    assert_eq!((pinned, during.1.pinned, during.1.copied, during.1.failures), (4, 8, 8, 1));
    assert_eq!((after.1.pinned, after.1.unpins), (8, 0));
    assert!(after.1.failures > during.1.failures);

    // What failed is made up for.
    paging.set_budget(16 * page);
    assert!(buffer.hold(0..16 * page).runs().all(|run| run.frame.is_some()));
    buffer.write()[0] = 1;
    paging.set_budget(0);
    assert_eq!((paging.counters().pinned, buffer[0]), (0, 1));
    buffer.write()[0] = value(0);
    assert!(whole(&buffer));
}
