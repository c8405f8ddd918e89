//! Threads that write, read and send their own parts of one buffer while others push its pages in and out.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A value for each place, writer and round.
fn value(part: usize, round: usize, at: usize) -> u8 {
    pattern(at + 7919 * round + 104_729 * part)
}

#[test]
fn neighbours_lose_nothing_while_pages_come_and_go() {
    for policy in PolicyKind::ALL {
        let config = Config { policy, prefetch: 2, ..always(6) };
        let (arena, paging) = paging(32, config);
        let page = paging.page_size();
        let mut rest = paging.map(24 * page + 100).unwrap();
        let reader = paging.map(8 * page).unwrap();
        let mut parts = Vec::new();
        for _ in 0..3 {
            let tail = rest.split_off(6 * page).unwrap();
            parts.push(std::mem::replace(&mut rest, tail));
        }
        parts.push(rest);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = parts
                .iter_mut()
                .enumerate()
                .map(|(number, part)| {
                    scope.spawn(move || {
                        for round in 0..60 {
                            {
                                // All but the last byte of each end, so that what is next to them must stay, too.
                                let mut bytes = part.write();
                                bytes.iter_mut().enumerate().for_each(|(at, b)| *b = value(number, round, at));
                            }
                            let len = part.len();
                            let hold = part.hold(round % 5 * 1000..len - round % 3 * 2000);
                            for at in (0..len).step_by(13).chain([len - 1]) {
                                assert_eq!(part[at], value(number, round, at), "part {number}, round {round}");
                            }
                            drop(hold);
                        }
                    })
                })
                .collect();
            // Pushes the others' pages out.
            scope.spawn(|| {
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    drop(reader.hold(round % 6 * page..(round % 6 + 2) * page));
                    paging.set_budget((round % 7) * page);
                    assert!(reader.iter().all(|&byte| byte == 0));
                }
            });
            let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(ends.into_iter().all(|end| end.is_ok()));
        });
        let counters = paging.counters();
        assert!(counters.pins > 0 && counters.unpins > 0, "{policy}: {counters:?}");
        assert_eq!(counters.failures, 0);
        drop((parts, reader));
        assert_eq!(arena.available(), arena.len());
    }
}

#[test]
fn readers_see_no_gap_while_a_page_moves() {
    let (_, paging) = paging(32, always(4));
    let page = paging.page_size();
    let mut buffer = paging.map(4 * page).unwrap();
    fill(&mut buffer);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Atomic loads would be another instruction: a program reads plainly.
                assert!(is_filled(std::hint::black_box(&buffer)));
            }
        });
        for _ in 0..1500 {
            drop(buffer.hold(0..buffer.len()));
            paging.set_budget(0);
            paging.set_budget(4 * page);
            if reader.is_finished() {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().is_ok());
    });
    assert!(paging.counters().pins > 1000);
}
