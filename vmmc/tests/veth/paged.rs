//! A paged buffer far larger than the arena is sent whole, through a window of a few megabytes, and verified.

use std::sync::mpsc;
use vmmc::Progress;
use vmmc::memory::utlb::{Config, Rule};

use crate::hosts::{KEY, PATIENCE, address, lab, open_with};

const MIB: usize = 1 << 20;

/// What a page has: a part of the same bytes for all, from a place of its own, and its number in front. Quickly made and compared.
struct Pages(Vec<u8>);

impl Pages {
    const LEN: usize = 4096;

    fn new() -> Pages {
        let bytes = (0..2 * Self::LEN as u64).map(|at| (at * at).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[1]);
        Pages(bytes.collect())
    }

    fn rest(&self, number: usize) -> &[u8] {
        &self.0[number * 7 % Self::LEN..][..Self::LEN - 8]
    }

    fn write(&self, number: usize, page: &mut [u8]) {
        let (front, rest) = page.split_at_mut(8);
        front.copy_from_slice(&number.to_le_bytes());
        rest.copy_from_slice(self.rest(number));
    }

    fn is(&self, number: usize, page: &[u8]) -> bool {
        page[..8] == number.to_le_bytes() && &page[8..] == self.rest(number)
    }
}

#[test]
fn a_gibibyte_from_an_arena_of_four_mebibytes() {
    let lab = lab(2, 65535);
    let thread = Progress::Thread { core: None };
    // All is pinned, so all of it goes through the two mebibytes that the UTLB may take.
    let config = Config { rule: Rule::Pin, ..Config::default() };
    let a = open_with(&lab, 1, |b| b.arena(4 * MIB).utlb(config).progress(thread)).unwrap();
    let b = open_with(&lab, 2, |b| b.arena(8 * MIB).progress(thread)).unwrap();
    let (all, piece) = (1024 * MIB, 2 * MIB);
    let inbox = b.export("window").len(2 * piece).key(KEY).notify(true).create().unwrap();
    let remote = a.import(address(&lab, 2), "window", KEY).unwrap();

    let mut buffer = a.map(all).unwrap();
    let pages = Pages::new();
    buffer.write().chunks_mut(Pages::LEN).enumerate().for_each(|(number, page)| pages.write(number, page));

    // The halves of the window that may be written.
    let (free, is_free) = mpsc::channel();
    (0..2).for_each(|_| free.send(()).unwrap());
    std::thread::scope(|scope| {
        let (remote, buffer) = (&remote, &buffer);
        scope.spawn(move || {
            for number in 0..all / piece {
                is_free.recv_timeout(PATIENCE).unwrap();
                let at = number * piece;
                let send = remote.send(buffer, (number % 2 * piece) as u64).part(at..at + piece);
                send.notify(number as u32).start().unwrap();
            }
        });
        let mut seen = vec![0; piece];
        for number in 0..all / piece {
            let news = inbox.wait_notification(PATIENCE).unwrap();
            assert_eq!((news.tag, news.length), (number as u32, piece as u64));
            inbox.read(news.offset, &mut seen).unwrap();
            for (page, own) in seen.chunks(Pages::LEN).zip(number * (piece / Pages::LEN)..) {
                assert!(pages.is(own, page), "page {own} isn't what was sent");
            }
            // At the end nobody waits for it.
            let _ = free.send(());
        }
    });
    let utlb = a.utlb().counters();
    let page = a.utlb().page_size();
    assert_eq!(utlb.pins as usize, all / page, "{utlb:?}");
    assert_eq!((utlb.copied, utlb.failures, utlb.budget as usize), (0, 0, 2 * MIB / page));
    assert_eq!((utlb.evictions, utlb.pinned), (utlb.pins - utlb.budget, utlb.budget));
    for (number, page) in buffer.chunks(Pages::LEN).enumerate() {
        assert!(pages.is(number, page), "page {number} isn't what was written");
    }
}
