//! Paged buffers that are sent from where they lie: which bytes of the arena that is, and that they stay there.

use std::sync::Arc;

use super::*;
use crate::memory::{DirectSource, Origin};

/// All of `part`, which is pinned.
fn source(buffer: &Arc<PagedBuffer>, part: std::ops::Range<usize>) -> DirectSource {
    let hold = buffer.hold(part).into_owned();
    assert!(hold.is_pinned(), "{hold:?}");
    DirectSource::of_paged(buffer.clone(), hold)
}

/// Bytes of the arena, which nobody writes.
fn in_arena(arena: &Arena, at: u64, len: usize) -> Vec<u8> {
    let (page, at) = (arena.page_size(), at as usize);
    // SAFETY: the bytes are of pages that are held, of a buffer that isn't written.
    unsafe { std::slice::from_raw_parts(arena.page_pointer(at / page).wrapping_add(at % page), len) }.to_vec()
}

#[test]
fn runs_are_where_the_bytes_are() {
    let (arena, paging) = paging(256, always(128));
    let page = page_size();
    let mut whole = paging.map(80 * page).unwrap();
    fill(&mut whole);
    // A part of a mapping that doesn't begin where that does.
    let buffer = whole.split_off(16 * page).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    // Frames are in a row, then here and there, then in a row again.
    let mut order: Vec<usize> = (20..40).collect();
    rng.shuffle(&mut order);
    drop(buffer.hold(0..20 * page));
    order.into_iter().for_each(|number| drop(buffer.hold(number * page..number * page + 1)));
    let buffer = Arc::new(buffer);
    let source = source(&buffer, page + 7..60 * page - 3);
    let (mut most, mut one) = (0, 0);
    for _ in 0..2000 {
        let at = rng.usize(page + 7..60 * page - 4);
        let len = rng.usize(1..=(15 * page).min(60 * page - 3 - at));
        let runs: Vec<_> = source.runs(&arena, at, len).unwrap().collect();
        let bytes: Vec<u8> = runs.iter().flat_map(|&(at, len)| in_arena(&arena, at, len)).collect();
        assert!(bytes == buffer[at..at + len], "{at}..{}: {runs:?}", at + len);
        assert!(
            runs.iter().all(|(_, len)| *len > 0) && runs.windows(2).all(|run| run[0].0 + run[0].1 as u64 != run[1].0)
        );
        assert!(runs.len() <= (at + len - 1) / page - at / page + 1);
        (most, one) = (most.max(runs.len()), one + usize::from(runs.len() == 1 && len > 2 * page));
    }
    assert!(most > 8 && one > 100, "{most} runs, {one} times one");
    // Of the pages that aren't held nothing can be sent, nor anything of another arena.
    for (at, len) in [(page - 1, 2), (0, 1), (60 * page - 1, 2), (60 * page, 1), (64 * page, 1), (1, usize::MAX)] {
        assert!(source.runs(&arena, at, len).is_none(), "{len} from {at}");
    }
    assert!(source.runs(&Arena::new(1 << 20).unwrap(), 2 * page, 1).is_none());
    let mut seen = Vec::new();
    source.for_each(5000, 70_000, |bytes| seen.extend_from_slice(bytes));
    assert!(seen == buffer[5000..75_000] && source.bytes().unwrap() == &buffer[..] && source.len() == 64 * page);
    drop(whole);
}

#[test]
fn pages_stay_as_long_as_anybody_sends_from_them() {
    let (arena, paging) = paging(32, always(8));
    let page = page_size();
    let (mut buffer, other) = (paging.map(8 * page).unwrap(), paging.map(8 * page).unwrap());
    fill(&mut buffer);
    let buffer = Arc::new(buffer);
    let source = source(&buffer, 0..8 * page);
    drop(buffer);
    let runs: Vec<_> = source.runs(&arena, 0, 8 * page).unwrap().collect();
    let in_flight = source.clone();
    let source = source.into_origin().unwrap_err();
    // Neither others that want frames nor a lower budget move them.
    assert!(other.hold(0..8 * page).runs().all(|run| run.frame.is_none()));
    paging.set_budget(0);
    assert_eq!(paging.counters().held, 8);
    drop(source);
    assert!(in_flight.is_free());
    let bytes: Vec<u8> = runs.into_iter().flat_map(|(at, len)| in_arena(&arena, at, len)).collect();
    assert!(is_filled(&bytes));
    let Ok(Origin::Paged(buffer)) = in_flight.into_origin() else { panic!("it was made of another") };
    assert_eq!((paging.counters().pinned, arena.available()), (0, arena.len()));
    assert!(is_filled(&Arc::into_inner(buffer).unwrap()));
}
