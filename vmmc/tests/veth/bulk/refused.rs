//! Bad circumstances and bad packets: errors that say what to do, and memory that stays as it is.

use vmmc::memory::MemoryError;
use vmmc::port::bulk::MAX_SEGMENT;
use vmmc::port::eager::EagerPort;
use vmmc_lab::LabConfig;

use super::*;
use crate::hosts::pattern;

#[test]
fn without_a_second_queue_it_says_how_to_get_one() {
    let config = LabConfig { queues: 1, ..LabConfig::default() };
    let lab = TempLab::new(&config).unwrap_or_else(|error| panic!("this test needs root: {error}"));
    let (steering, arena) = (steering(lab.host(2)), Arena::new(1 << 20).unwrap());
    let one = open_lane(lab.host(2), 0, &arena, &steering).err().unwrap();
    assert!(matches!(one, BulkError::OneQueue { .. }), "{one:?}");
    assert!(one.to_string().contains("ethtool -L vh2 combined 2"), "{one}");
    let none = open_lane(lab.host(2), 1, &arena, &steering).err().unwrap();
    assert!(matches!(none, BulkError::NoQueue { queue: 1, .. }), "{none:?}");
}

#[test]
fn a_queue_that_is_taken_is_left_to_who_has_it() {
    let mut pair = Pair::new(1500, 16 << 20);
    let arena = Arena::new(1 << 20).unwrap();
    let second = open_lane(pair.lab.host(2), QUEUE, &arena, &pair.to.steering).err().unwrap();
    assert!(matches!(second, BulkError::Busy { queue: QUEUE, .. }), "{second:?}");
    placement::transfer(&mut pair, 1000, 1);

    let lab = lab(2, 1500);
    let host = lab.host(2);
    let eager = host.enter(|| EagerPort::open(&host.interface, &[0, QUEUE], 1500)).unwrap().unwrap();
    let steering = steering(host);
    let error = open_lane(host, QUEUE, &arena, &steering).err().unwrap();
    assert!(matches!(error, BulkError::Busy { .. }), "{error:?}");
    drop(eager);
    open_lane(host, QUEUE, &arena, &steering).unwrap();
}

#[test]
fn without_interface_privilege_or_memory_it_says_what_is_missing() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let lab = lab(2, 1500);
    let (steering, arena) = (steering(lab.host(2)), Arena::new(1 << 20).unwrap());
    let mut elsewhere = lab.host(2).clone();
    elsewhere.interface = "nic9".into();
    let absent = open_lane(&elsewhere, QUEUE, &arena, &steering).err().unwrap();
    assert!(matches!(absent, BulkError::NoInterface { .. }) && absent.to_string().contains("nic9"), "{absent:?}");
    let config =
        BulkConfig { interface: "vh2".into(), queue: QUEUE, headers: HEADERS, zero_copy: ZeroCopy::WhenPossible };
    let open = |kept: CapabilitySet| {
        // Of this thread alone, which ends here.
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept }).unwrap();
        BulkLane::open(&config, &arena, steering.clone()).err().unwrap()
    };
    let unprivileged = lab.host(2).enter(|| open(CapabilitySet::empty())).unwrap();
    assert!(matches!(unprivileged, BulkError::Privilege { .. }), "{unprivileged:?}");
    assert!(unprivileged.to_string().contains("CAP_NET_RAW"), "{unprivileged}");
    let full = Arena::new(1 << 16).unwrap();
    let _all = full.buffer((1 << 16) - vmmc::memory::GUARD).unwrap();
    let error = open_lane(lab.host(2), QUEUE, &full, &steering).err().unwrap();
    assert!(matches!(error, BulkError::Memory(_)), "{error:?}");
}

#[test]
fn packets_that_no_place_is_for_land_nowhere() {
    let mut pair = Pair::new(1500, 16 << 20);
    let source = pair.source(&pattern(1448, 1));
    let right = pair.run(5, 1000);
    let target = pair.target(3000, 9);
    // Before anything is posted, and before it is admitted.
    pair.send(&right, 0, &source, 0);
    assert_eq!(pair.landings(), []);
    assert_eq!(pair.to.lane.post(&right, &target, 1000), Some(0));
    pair.send(&right, 0, &source, 0);
    assert_eq!(pair.landings(), []);
    pair.to.lane.admit();
    for wrong in [
        Run { grant: 6, ..right },
        Run { token: TOKEN + 1, ..right },
        Run { segment: 999, ..right },
        Run { segment: 1001, ..right },
        Run { segment: 1448, ..right },
        Run { segment: 1, ..right },
    ] {
        pair.send(&wrong, 0, &source, 0);
        assert_eq!(pair.landings(), [], "{wrong:?}");
    }
    let genuine = std::mem::replace(&mut pair.encap, encap(&pair.lab, PORT + 2));
    pair.send(&right, 0, &source, 0);
    assert_eq!(pair.landings(), []);
    pair.encap = genuine;
    let verdicts = pair.to.steering.counters().unwrap();
    assert_eq!((verdicts.bulk_no_place, verdicts.bulk_stale, verdicts.bulk_length), (2, 3, 4));
    // The place is still there, for whom it is.
    pair.send(&right, 3, &source, 0);
    assert_eq!(pair.landings(), [Landing { place: 0, grant: 5, segment: 3, checksum: None }]);
    // And only once.
    pair.send(&right, 4, &source, 0);
    assert_eq!(pair.landings(), []);
    assert!(pair.to.lane.is_consistent());
    let buffer = target.into_buffer().unwrap();
    assert!(buffer[1000..2000] == pattern(1448, 1)[..1000]);
    assert!(buffer[..1000].iter().chain(&buffer[2000..]).all(|&byte| byte == 9));
}

#[test]
fn sources_are_kept_until_the_kernel_is_done_with_them() {
    let mut pair = Pair::new(65535, 16 << 20);
    let buffer = Arc::new(pair.from.arena.buffer(60_000).unwrap());
    let source = DirectSource::of_buffer(buffer.clone());
    let run = pair.run(1, 60_000);
    for _ in 0..20 {
        pair.send(&run, 0, &source, 0);
    }
    drop(source);
    assert_eq!(Arc::strong_count(&buffer), 2);
    pair.from.lane.flush().unwrap();
    // The kernel has copied them, and says so by and by.
    let start = std::time::Instant::now();
    while Arc::strong_count(&buffer) > 1 {
        pair.from.lane.flush().unwrap();
        assert!(start.elapsed() < crate::hosts::PATIENCE, "a source is never let go of");
    }
    // Reopening lets go of what was never sent.
    pair.send(&run, 0, &DirectSource::of_buffer(buffer.clone()), 0);
    pair.from.lane.reopen().unwrap();
    assert_eq!(Arc::strong_count(&buffer), 1);
}

#[test]
fn what_can_t_be_posted_or_sent_is_refused() {
    let mut pair = Pair::new(1500, 16 << 20);
    let lane = &mut pair.to.lane;
    assert_eq!((lane.overlap(), lane.max_segment()), (0, MAX_SEGMENT));
    // Whoever asks is told why.
    let why = lane.why_copied().expect("a veth pair has no zero-copy mode");
    assert!(why.contains("no XDP_ZEROCOPY"), "{why}");
    let run = |segment| Run { token: 1, peer: address(pair.lab.host(1), PORT), grant: 1, segment };
    let arena = &pair.to.arena;
    let target = DirectTarget::of_buffer(arena.buffer(100_000).unwrap());
    for segment in [0, 1, 13, MAX_SEGMENT as u32 + 1, u32::MAX] {
        assert_eq!((lane.room(segment as usize), lane.post(&run(segment), &target, 0)), (0, None), "{segment}");
    }
    assert_eq!(lane.post(&run(100), &target, 100_000 - 99), None, "past the end");
    let foreign = DirectTarget::of_buffer(Arena::new(1 << 20).unwrap().buffer(1000).unwrap());
    assert_eq!(lane.post(&run(100), &foreign, 0), None, "of another arena");
    let source = DirectSource::of_region(arena.alloc(1000).unwrap());
    let Err(MemoryError::Exhausted { largest, .. }) = arena.buffer(1 << 30) else { panic!("too much room") };
    let last = DirectTarget::of_buffer(arena.buffer(largest).unwrap());
    assert_eq!(lane.post(&run(100), &last, last.len() - 100), None, "too near the arena's end");
    assert!(lane.post(&run(100), &last, last.len() - 4096).is_some());
    for (at, len) in [(0, 0), (1, 1000), (1001, 0), (0, usize::MAX)] {
        assert!(!lane.submit(&pair.encap, &[0; 24], &source, at, len), "{at} {len}");
    }
    assert!(!lane.submit(&pair.encap, &[0; 250], &source, 0, 1000), "a header that is none");
    assert!(lane.submit(&pair.encap, &[0; 24], &source, 0, 1000));
    // As much as there is room for, and no more.
    let room = lane.room(1448);
    for _ in 0..room {
        assert!(lane.post(&run(1448), &target, 0).is_some());
    }
    assert_eq!((lane.room(1448), lane.post(&run(1448), &target, 0)), (0, None));
}
