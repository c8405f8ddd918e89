//! Paged buffers: that no byte is lost or wrong, whatever moves.

use rustix::param::page_size;

use super::{PagedBuffer, Paging};
use crate::memory::fork_test::{End, in_child, touch};
use crate::memory::utlb::{Config, PolicyKind, Rule};
use crate::memory::{Arena, HugePages, MemoryError, Target};

mod direct;
mod model;
mod threads;

/// An arena of so many pages, and the UTLB over it.
fn paging(pages: usize, config: Config) -> (Arena, Paging) {
    let arena = Arena::new(pages * page_size()).unwrap();
    (arena.clone(), Paging::new(arena, config))
}

fn always(budget: usize) -> Config {
    Config { budget: Some(budget * page_size()), rule: Rule::Pin, ..Config::default() }
}

/// A byte for each place, with no period that a page has.
fn pattern(at: usize) -> u8 {
    (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[5]
}

fn fill(buffer: &mut PagedBuffer) {
    buffer.write().iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(at));
}

fn is_filled(buffer: &[u8]) -> bool {
    buffer.iter().enumerate().all(|(at, &byte)| byte == pattern(at))
}

#[test]
fn content_and_address_stay_through_pinning_and_unpinning() {
    let (arena, paging) = paging(64, always(16));
    let page = paging.page_size();
    let mut buffer = paging.map(100 * page + 17).unwrap();
    assert!(buffer.iter().all(|&byte| byte == 0));
    assert!(buffer.as_ptr().addr().is_multiple_of(page));
    fill(&mut buffer);
    let at = buffer.as_ptr();
    for start in (0..100 * page).step_by(7 * page) {
        let hold = buffer.hold(start..(start + 10_000).min(buffer.len()));
        assert!(hold.runs().all(|run| run.frame.is_some()), "{hold:?}");
        // What the frames hold is what the program reads.
        for run in hold.runs() {
            let first = run.pages.start as usize * page - at.addr();
            let last = ((run.pages.end - run.pages.start) as usize * page).min(buffer.len() - first);
            let frame = arena.page_pointer(run.frame.unwrap() as usize);
            // SAFETY: nobody writes to the frames of a page that is held and not excluded.
            assert_eq!(unsafe { std::slice::from_raw_parts(frame, last) }, &buffer[first..first + last]);
        }
        assert!(is_filled(&buffer));
    }
    let counters = paging.counters();
    assert!(counters.pinned == 16 && counters.evictions > 0 && counters.copied == 0, "{counters:?}");
    buffer.write()[5] ^= 0xFF;
    assert_eq!(buffer[5], !pattern(5));
    buffer.write()[5] ^= 0xFF;
    paging.set_budget(0);
    assert!(is_filled(&buffer));
    assert_eq!((buffer.as_ptr(), paging.counters().pinned, arena.available()), (at, 0, arena.len()));
}

#[test]
fn what_is_written_while_pinned_is_kept_when_unpinned_and_seen_in_the_frame() {
    let (arena, paging) = paging(16, always(4));
    let mut buffer = paging.map(2 * page_size()).unwrap();
    drop(buffer.hold(0..1));
    buffer.write()[..4].copy_from_slice(b"this");
    let hold = buffer.hold(0..1);
    let frame = hold.runs().next().unwrap().frame.unwrap();
    // SAFETY: the page is held, and not written.
    assert_eq!(unsafe { std::slice::from_raw_parts(arena.page_pointer(frame as usize), 4) }, b"this");
    drop(hold);
    paging.set_budget(0);
    assert_eq!(&buffer[..5], b"this\0");
}

#[test]
fn pages_that_are_written_stay_where_they_are() {
    let (_, paging) = paging(16, always(2));
    let page = page_size();
    let (mut written, other) = (paging.map(2 * page).unwrap(), paging.map(4 * page).unwrap());
    drop(written.hold(0..2 * page));
    let mut guard = written.write();
    guard[0] = 1;
    // No room, because nothing may move: copied. Never a deadlock.
    let hold = other.hold(0..4 * page);
    assert!(hold.runs().all(|run| run.frame.is_none()));
    assert_eq!(paging.counters().copied, 4);
    drop(hold);
    paging.set_budget(0);
    assert_eq!(paging.counters().pinned, 2);
    guard[page] = 2;
    drop(guard);
    assert_eq!((paging.counters().pinned, written[0], written[page]), (0, 1, 2));
    // A guard that is forgotten doesn't keep them for ever.
    paging.set_budget(2 * page);
    std::mem::forget(written.write());
    written.write()[1] = 3;
    assert!(written.hold(0..2 * page).runs().all(|run| run.frame.is_some()));
    // Pages of a part that is written aren't pinned ahead either.
    assert_eq!(&written[..2], [1, 3]);
}

#[test]
fn nothing_of_a_part_that_is_gone_is_pinned_ahead() {
    let (arena, paging) = paging(16, Config { prefetch: 8, ..always(16) });
    let page = page_size();
    let mut first = paging.map(9 * page).unwrap();
    let mut gone = first.split_off(3 * page).unwrap();
    let last = gone.split_off(3 * page).unwrap();
    drop(gone.hold(0..3 * page));
    assert_eq!(paging.counters().pinned, 3 + 3);
    drop(gone);
    assert_eq!(paging.counters().pinned, 3);
    // Somebody else has the frames now that still are behind the addresses of what is gone: to look there would be a race.
    let other = arena.buffer(arena.available() - 4 * page).unwrap();
    drop(first.hold(0..page));
    let counters = paging.counters();
    assert_eq!((counters.pinned, counters.copied), (6, 0), "{counters:?}");
    drop((first, other, last));
    assert_eq!((paging.counters().pinned, arena.available()), (0, arena.len()));
}

#[test]
fn a_transfer_larger_than_the_budget_is_pinned_in_part_and_copied_in_part() {
    let (_, paging) = paging(64, always(8));
    let mut buffer = paging.map(20 * page_size()).unwrap();
    fill(&mut buffer);
    for round in 1..=3 {
        let hold = buffer.hold(0..buffer.len());
        let frames = hold.runs().map(|run| (run.frame.is_some(), run.pages.end - run.pages.start));
        let pinned: u64 = frames.filter(|(pinned, _)| *pinned).map(|(_, pages)| pages).sum();
        assert_eq!(pinned, 8);
        let counters = paging.counters();
        // It doesn't evict what it has just pinned.
        assert_eq!((counters.pins, counters.evictions, counters.copied, counters.held), (8, 0, 12 * round, 8));
        assert!(is_filled(&buffer));
    }
}

#[test]
fn an_exhausted_arena_has_sends_copied_and_gives_what_it_gets_back() {
    let (arena, paging) = paging(16, always(1000));
    let mut buffer = paging.map(40 * page_size()).unwrap();
    fill(&mut buffer);
    let all = arena.buffer(14 * page_size()).unwrap();
    let hold = buffer.hold(0..buffer.len());
    let counters = paging.counters();
    assert!(counters.pinned <= 1 && counters.copied >= 39 && counters.failures == 0, "{counters:?}");
    drop((hold, all));
    let hold = buffer.hold(0..buffer.len());
    assert_eq!(paging.counters().held, 16);
    assert!(matches!(arena.buffer(1), Err(MemoryError::Exhausted { .. })));
    drop(hold);
    // Pages of others make way for those that are sent now, as with a budget that is used up.
    let other = paging.map(3 * page_size()).unwrap();
    assert!(other.hold(0..other.len()).runs().all(|run| run.frame.is_some()));
    assert!(is_filled(&buffer));
    drop((buffer, other));
    assert_eq!(arena.available(), arena.len());
}

#[test]
fn a_buffer_may_be_dropped_while_a_transfer_holds_its_pages() {
    let (arena, paging) = paging(16, always(8));
    let mut buffer = paging.map(4 * page_size()).unwrap();
    fill(&mut buffer);
    let hold = buffer.hold(0..buffer.len()).into_owned();
    let frame = hold.runs().next().unwrap().frame.unwrap();
    drop(buffer);
    assert!(arena.available() < arena.len());
    // SAFETY: the pages are held: they are nobody else's yet.
    let bytes = unsafe { std::slice::from_raw_parts(arena.page_pointer(frame as usize), 4 * page_size()) };
    assert!(is_filled(bytes));
    drop(hold);
    assert_eq!((arena.available(), paging.counters().pinned, paging.counters().dropped), (arena.len(), 0, 4));
}

#[test]
fn parts_are_split_and_joined_at_pages_only() {
    let (arena, paging) = paging(16, always(8));
    let page = paging.page_size();
    let mut whole = paging.map(4 * page + 10).unwrap();
    fill(&mut whole);
    assert!(matches!(whole.split_off(page + 1), Err(MemoryError::InsidePage { at, .. }) if at == page + 1));
    assert!(matches!(whole.split_off(5 * page), Err(MemoryError::OutOfRange { .. })));
    let mut tail = whole.split_off(3 * page).unwrap();
    let end = tail.split_off(tail.len()).unwrap();
    assert!(end.is_empty() && end.hold(0..0).runs().next().is_none());
    assert_eq!((whole.len(), tail.len()), (3 * page, page + 10));
    assert_eq!(tail.as_ptr(), whole.as_ptr().wrapping_add(3 * page));
    assert!(whole.write_part(0..whole.len() + 1).is_err());
    let tail = whole.unsplit(end).unwrap_err();
    assert!(tail.is_empty());
    drop(tail);
    let stranger = paging.map(1).unwrap();
    assert!(whole.unsplit(stranger).is_err());
    let middle = whole.split_off(page).unwrap();
    drop(middle.hold(0..1));
    let back = whole.unsplit(middle);
    assert!(back.is_ok());
    assert!(is_filled(&whole));
    // A part that goes gives its frames and its memory back; the others aren't concerned.
    let last = whole.split_off(2 * page).unwrap();
    drop(last.hold(0..page));
    assert_eq!(paging.counters().pinned, 2);
    drop(last);
    assert_eq!(paging.counters().pinned, 1);
    assert!(is_filled(&whole));
    drop(whole);
    assert_eq!(arena.available(), arena.len());
}

#[test]
fn it_is_a_target() {
    let (_, paging) = paging(16, always(8));
    let mut buffer = paging.map(2 * page_size()).unwrap();
    drop(buffer.hold(0..1));
    Target::store(&mut buffer, page_size() - 2, b"word");
    assert_eq!(&buffer[page_size() - 3..page_size() + 3], b"\0word\0");
    assert_eq!(Target::len(&buffer), 2 * page_size());
}

#[test]
fn bad_lengths_are_errors() {
    let (_, paging) = paging(16, always(8));
    for len in [0, usize::MAX, isize::MAX as usize] {
        assert!(matches!(paging.map(len), Err(MemoryError::BadLength { .. })), "{len}");
    }
    let error = paging.map(1 << 55).unwrap_err();
    assert!(matches!(error, MemoryError::Paged { .. }), "{error}");
    // A huge one costs nothing before it is touched.
    let mut vast = paging.map(1 << 40).unwrap();
    vast.write_part((1 << 40) - 1..1 << 40).unwrap()[0] = 1;
    drop(vast.hold((1 << 40) - 1..1 << 40));
    assert_eq!(vast[(1 << 40) - 1], 1);
}

#[test]
fn a_child_has_no_paged_buffer_and_its_parents_is_unharmed() {
    let (_, paging) = paging(16, always(8));
    let page = paging.page_size();
    let mut buffer = paging.map(4 * page).unwrap();
    fill(&mut buffer);
    drop(buffer.hold(0..2 * page));
    drop(buffer.hold(3 * page..4 * page));
    let held = buffer.hold(0..page);
    let check = |what: &str| {
        for place in 0..4 {
            let at = buffer.as_ptr().wrapping_add(place * page + 5).cast_mut();
            for write in [false, true] {
                assert_eq!(in_child(|| touch(at, write)), End::Signal(libc::SIGSEGV), "{what}, page {place}");
            }
        }
        assert!(is_filled(&buffer), "{what}");
    };
    check("while pinned");
    drop(held);
    paging.set_budget(0);
    check("once unpinned");
}

/// Huge pages if the machine has four free ones, ordinary ones otherwise.
#[test]
fn the_pages_are_the_arenas() {
    let arena = Arena::with(8 << 20, HugePages::WhenFree).unwrap();
    let paging = Paging::new(arena.clone(), always(usize::MAX / page_size()));
    let page = paging.page_size();
    let mut buffer = paging.map(3 * page + 5).unwrap();
    fill(&mut buffer);
    drop(buffer.hold(page..page + 1));
    assert_eq!(paging.counters().pinned, 1);
    buffer.write()[page] ^= 1;
    assert_eq!(buffer[page], pattern(page) ^ 1);
    buffer.write()[page] ^= 1;
    let at = buffer.as_ptr().wrapping_add(page).cast_mut();
    assert_eq!(in_child(|| touch(at, true)), End::Signal(libc::SIGSEGV));
    paging.set_budget(0);
    assert!(is_filled(&buffer));
    drop(buffer);
    assert_eq!(arena.available(), arena.len());
}

#[test]
fn scattered_sends_dont_use_up_the_processs_mappings() {
    let (_, paging) = paging(64, Config { policy: PolicyKind::Random, ..always(8) });
    let page = paging.page_size();
    let buffer = paging.map(2000 * page).unwrap();
    let of_it = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (start, end) = (buffer.as_ptr().addr(), buffer.as_ptr().addr() + buffer.len());
        let starts = maps.lines().filter_map(|line| usize::from_str_radix(line.split('-').next()?, 16).ok());
        starts.filter(|at| (start..end).contains(at)).count()
    };
    assert_eq!(of_it(), 1);
    for place in (0..2000).map(|i| i * 997 % 2000) {
        drop(buffer.hold(place * page..place * page + 1));
    }
    assert!(of_it() <= 17, "{}", of_it());
    paging.set_budget(0);
    assert_eq!(of_it(), 1);
}

#[test]
fn a_large_budget_leaves_the_process_mappings_of_its_own() {
    let most: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let pages = most / 8 + 500;
    let (_, paging) = paging(2 * pages, always(2 * pages));
    let page = paging.page_size();
    let buffer = paging.map(2 * pages * page).unwrap();
    for place in 0..pages {
        assert!(buffer.hold(2 * place * page..2 * place * page + 1).runs().all(|run| run.frame.is_some()));
    }
    let counters = paging.counters();
    assert!(counters.pinned <= most as u64 / 8 && counters.evictions >= 500 && counters.failures == 0, "{counters:?}");
    // What lies in rows isn't concerned.
    paging.set_budget(0);
    paging.set_budget(2 * pages * page);
    drop(buffer.hold(0..buffer.len()));
    assert_eq!((paging.counters().pinned, paging.counters().failures), (2 * pages as u64, 0));
}

#[test]
fn the_memory_of_a_part_that_is_dropped_goes_back_to_the_system() {
    let (_, paging) = paging(16, always(8));
    let page = paging.page_size();
    let mut whole = paging.map(64 * page).unwrap();
    fill(&mut whole);
    // What the system has in memory of the mapping at this address, bytes.
    let resident = |at: *const u8| {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", at.addr());
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).expect("no mapping begins there");
        rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    assert_eq!(resident(whole.as_ptr()), 64 * page);
    let tail = whole.split_off(24 * page).unwrap();
    assert_eq!(resident(whole.as_ptr()), 64 * page);
    drop(tail);
    assert_eq!(resident(whole.as_ptr()), 24 * page);
    assert!(is_filled(&whole));
}
