//! What a peer can do to the account of what went where: make it long, and not make it wrong.
//!
//! That each byte is where it should be is tested with whole engines, in `tests/simulated/redirect`.

use std::collections::VecDeque;

use super::whereabouts::MOST;
use super::{Landed, Landing, MOST_RUNS, Place, RedirectEnd, RedirectId, Wanted};
use crate::engine::EngineCounters;
use crate::engine::exports::Notification;
use crate::memory::{Arena, Target, Writer};
use crate::wire::Reader;

const LEN: u64 = 1 << 16;

struct Scene {
    landing: Landing,
    region: Writer,
    waiting: VecDeque<Notification>,
    counters: EngineCounters,
}

impl Scene {
    fn new() -> Scene {
        let region = Arena::new(1 << 17).unwrap().alloc(LEN as usize).unwrap().writer().unwrap();
        let landing = Landing::new(LEN as usize, true);
        Scene { landing, region, waiting: VecDeque::new(), counters: EngineCounters::default() }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let data = [bytes];
        let mut reader = Reader::new(&data, 0, bytes.len());
        self.landing.store(&mut self.region, at, &mut reader, bytes.len() as u64, &mut self.counters).unwrap();
    }

    fn notify(&mut self, offset: u64, length: u64) {
        let landed = self.landing.landed(offset..offset + length);
        let peer = ([10, 0, 0, 1], 7000).into();
        self.waiting.push_back(Notification { offset, length, tag: 0, peer, landed });
    }

    fn post(&mut self, id: u64, wanted: Wanted, target: impl Target) -> Result<(), super::Returned> {
        let posted = (RedirectId(id), wanted, Box::new(target) as Box<dyn Target>);
        self.landing.post(&self.region, posted, &mut self.waiting, &mut self.counters)
    }

    fn take(&mut self, id: u64) -> super::Returned {
        self.landing.take(RedirectId(id), &mut self.counters).unwrap()
    }

    /// Nothing takes more than it may.
    fn check_bounds(&self) {
        let (runs, forgotten) = self.landing.whereabouts.size();
        let bitmap = LEN as usize / 8 + LEN as usize / 4096 * 2 + 2048;
        assert!(runs <= MOST && forgotten <= bitmap, "{runs} runs, {forgotten} bytes");
        assert!(self.landing.unclaimed.memory() <= bitmap);
        let listed: usize = self.waiting.iter().map(|news| news.landed.listed()).sum();
        assert!(listed <= MOST + self.waiting.len(), "{listed} pieces in notifications");
    }

    /// Where each byte is that the last notification is about.
    fn places(&self) -> Vec<Place> {
        let news = self.waiting.back().unwrap();
        let mut places = Vec::new();
        for piece in news.pieces() {
            assert_eq!(piece.range.start, places.len() as u64);
            places.extend((0..piece.range.end - piece.range.start).map(|by| piece.place.advanced(by)));
        }
        assert_eq!(places.len() as u64, news.length);
        places
    }
}

fn in_redirect(id: u64, at: u64) -> Place {
    Place::Redirect { redirect: RedirectId(id), at }
}

#[test]
fn scattered_bytes_make_nothing_grow() {
    let mut scene = Scene::new();
    scene.post(1, Wanted::Range(0..LEN / 2), vec![0; LEN as usize]).unwrap();
    for round in 0..2 {
        // Every other byte of the export: for the first half there is a redirect.
        for at in (0..LEN).step_by(2) {
            scene.put(at + round, &[1 + round as u8]);
            if at % 64 == 0 {
                scene.notify(0, LEN);
                scene.check_bounds();
            }
        }
        // For the second half there is one after the first round.
        scene.post(2 + round, Wanted::Range(0..LEN), vec![0; LEN as usize]).unwrap();
        scene.check_bounds();
    }
    // All was taken by one or another.
    assert_eq!(scene.counters.redirected_bytes + scene.counters.rx_moved_bytes, LEN);
    assert_eq!(scene.landing.unclaimed.count(), 0);
    let (first, late) = (scene.take(1), scene.take(2));
    assert_eq!(first.end, Some(RedirectEnd::Full));
    let (target, received) = first.into_parts::<Vec<u8>>();
    assert_eq!((received.bytes(), received.prefix()), (LEN / 2, LEN / 2));
    assert!((0..LEN as usize / 2).all(|at| target[at] == 1 + (at % 2) as u8));
    assert_eq!(late.received.bytes(), LEN / 2, "the second half, in two rounds");
    assert_eq!(scene.counters.redirects_ended, 2);
    // The notifications are taken, and leave nothing behind.
    while let Some(news) = scene.waiting.pop_front() {
        scene.landing.told(&news);
    }
    scene.put(0, &[3; 10]);
    scene.notify(0, 10);
    assert_eq!(scene.waiting[0].landed, Landed::Redirect { redirect: RedirectId(3), at: 0 });
}

#[test]
fn what_is_not_known_is_not_said() {
    let mut scene = Scene::new();
    scene.post(1, Wanted::Range(0..LEN), vec![0; LEN as usize]).unwrap();
    // More runs than are kept, all of them in the redirect.
    for at in (0..4 * MOST as u64).step_by(2) {
        scene.put(at, &[7]);
    }
    scene.check_bounds();
    for start in (0..4 * MOST as u64).step_by(128) {
        scene.notify(start, 128);
        let (mut known, mut unknown) = (0, 0);
        for (at, place) in (start..).zip(scene.places()) {
            match place {
                Place::Unknown => unknown += 1,
                _ if at % 2 == 1 => assert_eq!(place, Place::Default, "nothing has come for it"),
                place => {
                    assert_eq!(place, in_redirect(1, at));
                    known += 1;
                }
            }
        }
        // The older ones are forgotten, the last ones never are.
        assert!(known + unknown >= 64, "{known} {unknown}");
        assert!(start < 3 * MOST as u64 || known == 64, "{known} at {start}");
        assert!(start >= MOST as u64 || unknown > 0, "{unknown} at {start}");
        let news = scene.waiting.pop_back().unwrap();
        scene.landing.told(&news);
    }
    // Whatever comes anew is known again.
    scene.put(0, &[1; 100]);
    scene.notify(0, 100);
    let places = scene.places();
    assert!((0..100).all(|at| places[at as usize] == if at % 2 == 1 { in_redirect(1, at) } else { Place::Default }));
}

#[test]
fn a_moved_send_of_very_many_pieces_says_nothing_wrong() {
    let mut scene = Scene::new();
    for at in (0..4 * MOST as u64).step_by(2) {
        scene.put(at, &[9]);
    }
    for start in [0, 100, 2 * MOST as u64, 4 * MOST as u64 - 100] {
        scene.notify(start, 100);
    }
    scene.notify(0, LEN);
    scene.post(1, Wanted::Range(0..LEN), vec![0; LEN as usize]).unwrap();
    scene.check_bounds();
    assert!(scene.places().iter().all(|place| *place == Place::Unknown), "it has too many pieces");
    scene.waiting.pop_back();
    let (mut known, mut unknown) = (0, 0);
    while let Some(start) = scene.waiting.back().map(|news| news.offset) {
        for (at, place) in (start..).zip(scene.places()) {
            match place {
                Place::Unknown => unknown += 1,
                Place::Default => assert_eq!(at % 2, 1),
                place => {
                    assert_eq!(place, in_redirect(1, at));
                    known += 1;
                }
            }
        }
        scene.waiting.pop_back();
    }
    assert!(known >= 100 && unknown > 0, "{known} known, {unknown} not");
}

/// Takes so many bytes.
struct Fragile(usize);

impl Target for Fragile {
    fn len(&self) -> usize {
        1000
    }

    fn store(&mut self, _: usize, bytes: &[u8]) {
        self.0 = self.0.checked_sub(bytes.len()).expect("this target is meant to panic");
    }
}

#[test]
fn what_lies_in_too_many_runs_is_not_moved() {
    let len = 4 * MOST_RUNS as u64;
    let mut region = Arena::new(1 << 20).unwrap().alloc(len as usize).unwrap().writer().unwrap();
    let mut landing = Landing::new(len as usize, false);
    let (data, mut counters) = ([&[1][..]], EngineCounters::default());
    for at in (0..2 * MOST_RUNS as u64).step_by(2) {
        landing.store(&mut region, at, &mut Reader::new(&data, 0, 1), 1, &mut counters).unwrap();
    }
    assert!(!landing.is_scattered(&Wanted::Next(1)));
    landing.store(&mut region, len - 1, &mut Reader::new(&data, 0, 1), 1, &mut counters).unwrap();
    assert!(landing.is_scattered(&Wanted::Next(1)) && landing.is_scattered(&Wanted::Range(0..len)));
    assert!(!landing.is_scattered(&Wanted::Range(0..len / 4)));
    landing.claim(0..10);
    assert!(!landing.is_scattered(&Wanted::Range(0..len)));
}

#[test]
fn a_target_that_panics_ends_and_harms_nobody() {
    let mut scene = Scene::new();
    scene.post(1, Wanted::Next(1000), Fragile(100)).unwrap();
    scene.post(2, Wanted::Next(50), vec![0; 50]).unwrap();
    scene.put(0, &[1; 100]);
    scene.put(100, &[2; 100]);
    scene.notify(0, 200);
    let places = scene.places();
    assert!((0..100).all(|at| places[at as usize] == in_redirect(1, at)));
    assert!((0..50).all(|at| places[100 + at as usize] == in_redirect(2, at)));
    assert!(places[150..].iter().all(|place| *place == Place::Default));
    let fragile = scene.take(1);
    assert_eq!((fragile.end, fragile.received.bytes()), (Some(RedirectEnd::Panicked), 100));
    assert_eq!(scene.take(2).into_parts::<Vec<u8>>().0, [2; 50]);
    // And when it is posted: what it would not take stays where it is.
    let (fragile, received) = scene.post(3, Wanted::Next(1000), Fragile(20)).unwrap_err().into_parts::<Fragile>();
    assert_eq!((fragile.0, received.bytes()), (20, 0));
    scene.post(4, Wanted::Next(50), vec![0; 50]).unwrap();
    assert_eq!(scene.take(4).into_parts::<Vec<u8>>().0, [2; 50]);
}

#[test]
fn what_several_targets_refuse_keeps_its_place() {
    let mut scene = Scene::new();
    scene.post(1, Wanted::Next(1000), Fragile(0)).unwrap();
    scene.post(2, Wanted::Range(0..50), Fragile(0)).unwrap();
    let bytes: Vec<u8> = (0..100).collect();
    scene.put(0, &bytes);
    let mut kept = [0; 100];
    scene.region.read(0, &mut kept).unwrap();
    assert_eq!(kept[..], bytes);
}

#[test]
fn a_redirect_of_nothing_is_full() {
    let mut scene = Scene::new();
    for wanted in [Wanted::Range(5..5), Wanted::Range(LEN..LEN), Wanted::Next(0)] {
        scene.post(1, wanted, Vec::new()).unwrap();
        assert_eq!(scene.landing.state(RedirectId(1)), Some((0, Some(RedirectEnd::Full))));
        scene.put(0, &[1]);
        assert_eq!(scene.take(1).received.ranges().count(), 0);
    }
}
