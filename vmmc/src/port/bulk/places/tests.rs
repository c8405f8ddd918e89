//! Places in ordinary memory: rings with a kernel that is a part of the test, and a gate with a program that is another.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::rings::Descriptor;
use super::super::rings::testing::Memory;
use super::*;
use crate::memory::Buffer;

const ARENA: usize = 1 << 20;

/// The kernel: takes places from the fill ring, and packets from nowhere.
struct Kernel {
    fill: Consumer<AtomicU64>,
    rx: Producer<SharedDescriptor>,
}

impl Kernel {
    /// A packet of so many bytes lands, behind its program.
    fn land(&mut self, length: usize, spoil: impl Fn(usize, &mut Descriptor)) {
        for (i, done) in (0..length).step_by(FRAGMENT).enumerate() {
            let address = self.fill.pop().expect("a place");
            let rest = length - done;
            let options = if rest > FRAGMENT { CONTINUED } else { 0 };
            let address = address | HEADROOM << OFFSET_SHIFT;
            let mut descriptor = Descriptor { address, length: rest.min(FRAGMENT) as u32, options };
            spoil(i, &mut descriptor);
            assert!(self.rx.push(descriptor));
        }
        self.fill.release();
        self.rx.publish();
    }
}

/// The lane's side.
struct Lane {
    places: Places,
    fill: Producer<AtomicU64>,
    rx: Consumer<SharedDescriptor>,
    gate: Arc<GateMap>,
    arena: Arena,
    target: DirectTarget,
}

impl Lane {
    fn post(&mut self, run: &Run, at: usize) -> Option<u64> {
        self.places.post(run, &self.target, at, &self.arena, &mut self.fill, &self.gate)
    }

    fn admit(&mut self) {
        self.places.admit(&mut self.fill, &self.gate);
    }

    fn room(&self, segment: usize) -> usize {
        self.places.room(segment, &self.fill, &self.gate)
    }

    fn receive(&mut self) -> Vec<Landing> {
        let mut batch = Vec::new();
        self.places.receive(&mut self.rx, &self.gate, &mut batch);
        batch
    }
}

/// Runs a test on both.
fn with(test: impl FnOnce(&mut Lane, &mut Kernel)) {
    let fill = Memory::addresses(RX_RING as usize, u32::MAX - 5);
    let rx = Memory::descriptors(RX_RING as usize, 0);
    // SAFETY: both outlive what is made of them here.
    let ((fill, taken), (landed, rx)) = unsafe { (fill.sides(), rx.sides()) };
    let arena = Arena::new(ARENA).unwrap();
    let buffer: Buffer = arena.buffer(ARENA / 2).unwrap();
    let target = DirectTarget::of_buffer(buffer);
    let mut lane = Lane { places: Places::new(0), fill, rx, gate: Arc::new(GateMap::in_memory()), arena, target };
    test(&mut lane, &mut Kernel { fill: taken, rx: landed });
}

fn run(grant: u32, segment: usize) -> Run {
    Run { token: 1, peer: ([10, 0, 0, 1], 7000).into(), grant, segment: segment as u32 }
}

#[test]
fn a_place_is_entries_that_follow_each_other() {
    with(|lane, kernel| {
        lane.places.headers = 86;
        let start = lane.target.place(&lane.arena, 1001, 1).unwrap();
        let v6 = Run { peer: "[fd77::1]:7000".parse().unwrap(), ..run(2, 7680 - 86) };
        assert_eq!(lane.post(&run(1, 3 * 3840 - 66), 1001), Some(0));
        assert_eq!(lane.post(&v6, 1001), Some(1));
        assert_eq!(kernel.fill.pop(), None, "not before it is admitted");
        lane.admit();
        let first = start - 66 - 256;
        assert_eq!([(); 3].map(|()| kernel.fill.pop()), [Some(first), Some(first + 3840), Some(first + 7680)]);
        let first = start - 86 - 256;
        assert_eq!([(); 3].map(|()| kernel.fill.pop()), [Some(first), Some(first + 3840), None]);
    });
}

#[test]
fn runs_are_used_again_when_all_their_places_are() {
    with(|lane, kernel| {
        for grant in 0..RUNS as u32 {
            for _ in 0..2 {
                assert!(lane.post(&run(grant, 100), 0).is_some());
            }
        }
        assert_eq!((lane.room(100), lane.post(&run(99, 100), 0)), (0, None), "no run is left");
        assert_eq!(lane.post(&run(RUNS as u32 - 1, 100), 0), Some(32), "but the last goes on");
        lane.admit();
        for grant in [0, 0, 1] {
            lane.gate.let_in(grant, 7, None);
            kernel.land(100, |_, _| ());
        }
        assert_eq!(lane.receive().len(), 3);
        assert_eq!(lane.post(&run(99, 100), 0), Some(33));
        assert_eq!(lane.post(&run(98, 100), 0), None, "of run 1 there is a place left");
    });
}

#[test]
fn there_is_room_for_as_many_entries_as_a_ring_has() {
    with(|lane, kernel| {
        assert_eq!((lane.room(3840), lane.room(3841), lane.room(13), lane.room(MAX_SEGMENT + 1)), (4096, 2048, 0, 0));
        let mut posted = 0;
        while lane.post(&run(1, 3841), 0).is_some() {
            posted += 1;
        }
        assert_eq!((posted, lane.room(100)), (2048, 0));
        lane.admit();
        lane.gate.let_in(1, 0, None);
        kernel.land(3841, |_, _| ());
        assert_eq!(lane.room(100), 0, "nobody has looked at what landed");
        lane.receive();
        assert_eq!((lane.room(3840), lane.room(3841)), (2, 1));
    });
}

#[test]
fn targets_are_kept_until_they_have_landed() {
    with(|lane, kernel| {
        lane.post(&run(1, 100), 0);
        lane.admit();
        assert!(!lane.target.is_free());
        lane.gate.let_in(1, 0, Some(5));
        kernel.land(100, |_, _| ());
        assert_eq!(lane.receive(), [Landing { place: 0, grant: 1, segment: 0, checksum: Some(5) }]);
        assert!(lane.target.is_free() && lane.places.is_empty());
        lane.post(&run(1, 100), 0);
        lane.places.restart(9);
        assert!(lane.target.is_free());
        assert_eq!(lane.post(&run(1, 100), 0), Some(9));
    });
}

#[test]
fn what_can_t_be_is_noticed_and_nothing_is_believed_after_it() {
    type Spoil = fn(usize, &mut Descriptor);
    let spoiled: [Spoil; 5] = [
        |i, d| d.address += u64::from(i == 1),
        |i, d| d.length -= u32::from(i == 1),
        |i, d| d.length -= u32::from(i == 0),
        |i, d| d.options ^= u32::from(i == 0),
        |i, d| d.options ^= u32::from(i == 1),
    ];
    for spoil in spoiled {
        with(|lane, kernel| {
            for _ in 0..3 {
                lane.post(&run(1, 5000), 0);
            }
            lane.admit();
            lane.gate.let_in(1, 0, None);
            kernel.land(5000, spoil);
            lane.gate.let_in(1, 0, None);
            kernel.land(5000, |_, _| ());
            assert_eq!(lane.receive(), []);
            assert!(lane.places.is_lost() && !lane.target.is_free());
            assert_eq!((lane.room(100), lane.post(&run(1, 100), 0)), (0, None));
            lane.places.restart(2);
            assert!(!lane.places.is_lost() && lane.room(100) > 0);
        });
    }
    // A packet that nobody has let in, and one that no place was posted for.
    with(|lane, kernel| {
        lane.post(&run(1, 100), 0);
        lane.admit();
        kernel.land(100, |_, _| ());
        assert_eq!((lane.receive(), lane.places.is_lost()), (vec![], true));
    });
    with(|lane, kernel| {
        assert!(kernel.rx.push(Descriptor { address: 256, length: 100, options: 0 }));
        kernel.rx.publish();
        assert_eq!((lane.receive(), lane.places.is_lost()), (vec![], true));
    });
}

#[test]
fn a_packet_may_come_in_parts() {
    with(|lane, kernel| {
        lane.post(&run(1, 5000), 0);
        lane.admit();
        lane.gate.let_in(1, 3, None);
        let first = kernel.fill.pop().unwrap();
        let second = kernel.fill.pop().unwrap();
        kernel.rx.push(Descriptor { address: first + 256, length: 3840, options: CONTINUED });
        kernel.rx.publish();
        assert_eq!(lane.receive(), []);
        kernel.rx.push(Descriptor { address: second + 256, length: 1160, options: 0 });
        kernel.rx.publish();
        assert_eq!(lane.receive().len(), 1);
        assert!(!lane.places.is_lost());
    });
}

#[test]
fn no_entry_crosses_a_piece_of_the_nic_s() {
    with(|lane, _| {
        lane.places.piece = 1 << 16;
        let begin = lane.target.place(&lane.arena, 0, 1).unwrap() as usize;
        let boundary = begin.next_multiple_of(1 << 16) - begin;
        // The entry begins 256 before, and has 4096 bytes.
        assert!(lane.post(&run(1, 100), boundary - 3840).is_some());
        assert!(lane.post(&run(1, 100), boundary - 3839).is_none());
        assert!(lane.post(&run(1, 100), boundary + 255).is_none());
        assert!(lane.post(&run(1, 100), boundary + 256).is_some());
    });
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "Miri needs minutes for it, and has the rings' own test with two threads")]
    fn a_kernel_on_another_thread_is_followed(segments in prop::collection::vec((14usize..12_000, 1usize..5), 1..60)) {
        with(|lane, kernel| {
            let all: Vec<_> = segments.iter().zip(0..).flat_map(|(&(segment, count), grant)| vec![(segment, grant); count]).collect();
            let gate = lane.gate.clone();
            let packets = all.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for (i, (segment, grant)) in packets.into_iter().enumerate() {
                        while gate.used() >= gate.posted() {
                            std::thread::yield_now();
                        }
                        gate.let_in(grant, i as u32, None);
                        kernel.land(segment, |_, _| ());
                    }
                });
                let (mut posted, mut landed) = (0, Vec::new());
                while landed.len() < all.len() {
                    while let Some(&(segment, grant)) = all.get(posted) {
                        if lane.post(&run(grant, segment), 17 * posted).is_none() {
                            break;
                        }
                        posted += 1;
                    }
                    lane.admit();
                    landed.extend(lane.receive());
                    assert!(!lane.places.is_lost());
                    std::thread::yield_now();
                }
                for (i, landing) in landed.iter().enumerate() {
                    let expected = Landing { place: i as u64, grant: all[i].1, segment: i as u32, checksum: None };
                    assert_eq!(*landing, expected);
                }
            });
        });
    }
}

#[test]
fn where_a_nic_writes_first_there_is_room_for_the_packet_and_nothing_else() {
    with(|lane, _| {
        // The kernel copies what the gate has let in, and no more than that.
        assert!(lane.post(&run(1, 1000), 0).is_some());
        lane.places.headers = 86;
        let v6 = |segment| Run { peer: "[fd77::1]:7000".parse().unwrap(), ..run(3, segment) };
        for segment in [14, 1000, 3773, 3775, 3840, 7613, 7615] {
            assert_eq!(lane.post(&run(2, segment), 200), None, "{segment}");
        }
        for entries in 1..=16 {
            lane.places.restart(0);
            assert!(lane.post(&run(2, entries * 3840 - 66), 200).is_some());
            assert!(lane.post(&v6(entries * 3840 - 66), 200).is_none());
            assert!(lane.post(&v6(entries * 3840 - 86), 200).is_some());
        }
    });
}
