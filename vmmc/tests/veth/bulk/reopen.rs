//! Taking back what is posted: the memory is the program's again, and stays as it is, whatever still comes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmmc::memory::Buffer;

use super::*;
use crate::hosts::{PATIENCE, pattern};

/// How long a taken-back buffer is watched, and how often something is taken back.
const WATCHED: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 20;

fn unchanged(mut buffer: Buffer, value: u8) {
    buffer.fill(value);
    std::thread::sleep(WATCHED);
    assert!(buffer.iter().all(|&byte| byte == value), "the kernel has written into memory that was taken back");
}

/// Takes everything back. On a machine that is busy enough the kernel needs longer than a call waits; then another one is due.
fn reopen(lane: &mut BulkLane) {
    let start = Instant::now();
    while let Err(error) = lane.reopen() {
        assert!(start.elapsed() < PATIENCE, "{error}");
    }
}

/// Ends the sender, whatever happens to the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn in_the_middle(mtu: u32) {
    let mut pair = Pair::new(mtu, 16 << 20);
    let segment = pair.segment().min(pair.to.lane.max_segment());
    let places = 100.min(pair.to.lane.room(segment));
    let source = pair.source(&pattern(segment, 1));
    let (stop, grant) = (AtomicBool::new(false), AtomicU32::new(0));
    let encap = pair.encap.clone();
    let (from, to, peer) = (&mut pair.from.lane, &mut pair.to.lane, address(pair.lab.host(1), PORT));
    let run = |grant| Run { token: TOKEN, peer, grant, segment: segment as u32 };
    std::thread::scope(|scope| {
        // Packets of the present grant and of all before, without end.
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(7);
            while !stop.load(Ordering::Relaxed) {
                let newest = grant.load(Ordering::Relaxed);
                let grant = if rng.bool() { newest } else { rng.u32(..=newest) };
                let header = BulkHeader { token: TOKEN, grant, segment: 0 }.emit(None::<fn(&mut dyn FnMut(&[u8]))>);
                if !from.submit(&encap, &header, &source, 0, segment) || rng.u8(..8) == 0 {
                    from.flush().unwrap();
                }
            }
        });
        let _stopped = Stop(&stop);
        let mut landed_in_vain = 0;
        let mut last = None;
        for round in 1..=ROUNDS {
            let mut target = DirectTarget::of_buffer(pair.to.arena.buffer(places * segment).unwrap());
            for at in (0..places).rev() {
                let number = to.post(&run(round), &target, at * segment).unwrap();
                assert!(last.is_none_or(|last| number > last), "{number} is of a place that was used");
            }
            to.admit();
            grant.store(round, Ordering::Relaxed);
            // Every other time before anything can have landed.
            let (enough, start) = (usize::from(round % 2 == 0) * places / 3, Instant::now());
            let mut landings = Vec::new();
            while landings.len() < enough {
                to.receive(&mut landings).unwrap();
                assert!(start.elapsed() < PATIENCE, "nothing lands");
            }
            last = landings.last().map(|landing| landing.place).or(last);
            landed_in_vain += landings.len();
            assert!(to.is_consistent());
            if landings.len() < places {
                target = target.into_buffer().expect_err("places are posted there");
            }
            reopen(to);
            unchanged(target.into_buffer().expect("everything is taken back"), round as u8);
        }
        assert!(landed_in_vain > 0);
    });
    assert_eq!(pair.to.lane.counters().reopened, u64::from(ROUNDS));
    placement::transfer(&mut pair, segment, ROUNDS + 1);
}

#[test]
fn nothing_is_written_after_it_whatever_the_sender_sends() {
    in_the_middle(1500);
    in_the_middle(65535);
}

#[test]
fn frames_of_an_old_grant_hit_neither_what_was_taken_back_nor_what_is_posted_since() {
    let mut pair = Pair::new(1500, 16 << 20);
    let source = pair.source(&pattern(1000, 1));
    let (old, new) = (pair.run(1, 1000), pair.run(2, 1000));
    let taken_back = pair.target(1000, 0);
    pair.to.lane.post(&old, &taken_back, 0).unwrap();
    pair.to.lane.admit();
    reopen(&mut pair.to.lane);
    let mut taken_back = taken_back.into_buffer().unwrap();
    taken_back.fill(3);
    let posted = pair.target(1000, 4);
    pair.to.lane.post(&new, &posted, 0).unwrap();
    pair.to.lane.admit();
    for number in 0..10_000 {
        pair.send(&old, number, &source, 0);
    }
    assert_eq!(pair.landings(), []);
    assert!(taken_back.iter().all(|&byte| byte == 3));
    assert_eq!(pair.to.steering.counters().unwrap().bulk_stale, 10_000);
    reopen(&mut pair.to.lane);
    assert!(posted.into_buffer().unwrap().iter().all(|&byte| byte == 4));
}

#[test]
fn who_sleeps_on_it_neither_keeps_it_alive_nor_misses_what_lands() {
    let mut pair = Pair::new(1500, 16 << 20);
    let sleeping = pair.to.lane.readable().unwrap().try_clone_to_owned().unwrap();
    let woken = AtomicU32::new(0);
    let source = pair.source(&pattern(1000, 1));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
                let ready = poll(&mut [PollFd::new(&sleeping, PollFlags::IN)], Some(&timeout)).unwrap();
                woken.fetch_add(ready as u32, Ordering::Relaxed);
            });
        }
        let target = pair.target(1000, 0);
        for grant in 0..5 {
            pair.to.lane.post(&pair.run(grant, 1000), &target, 0).unwrap();
            pair.to.lane.admit();
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(woken.load(Ordering::Relaxed), 0);
            reopen(&mut pair.to.lane);
        }
        let run = pair.run(9, 1000);
        pair.to.lane.post(&run, &target, 0).unwrap();
        pair.to.lane.admit();
        pair.send(&run, 0, &source, 0);
        pair.from.lane.flush().unwrap();
    });
    assert_eq!((woken.into_inner(), pair.landings().len()), (3, 1));
}

#[test]
fn without_the_interface_nothing_can_be_posted_and_the_memory_is_free() {
    for again in [false, true] {
        without_the_interface(again);
    }
}

/// With `again` there is one of the same name by then.
fn without_the_interface(again: bool) {
    let mut pair = Pair::new(1500, 16 << 20);
    let (target, run) = (pair.target(1000, 0), pair.run(1, 1000));
    pair.to.lane.post(&run, &target, 0).unwrap();
    pair.to.lane.admit();
    let name = pair.lab.host(2).interface.clone();
    ip(&pair, &format!("link delete {name}"));
    if again {
        ip(
            &pair,
            &format!(
                "link add {name} up numtxqueues 2 numrxqueues 2 type veth peer name other numtxqueues 2 numrxqueues 2"
            ),
        );
    }
    let error = pair.to.lane.reopen().unwrap_err();
    assert!(error.to_string().contains(&format!("no interface {name}")), "{error}");
    assert!(!pair.to.lane.is_consistent());
    assert_eq!((pair.to.lane.room(1000), pair.to.lane.tx_room(1000)), (0, 0));
    let (source, other) =
        (DirectSource::of_buffer(Arc::new(pair.to.arena.buffer(1000).unwrap())), pair.target(1000, 0));
    assert_eq!(pair.to.lane.post(&run, &other, 0), None);
    assert!(!pair.to.lane.submit(&pair.encap, &[0; 24], &source, 0, 1000));
    assert_eq!(pair.landings(), []);
    pair.to.lane.admit();
    assert!(target.into_buffer().is_ok(), "the kernel has stopped the interface's queues");
}

fn ip(pair: &Pair, arguments: &str) {
    assert!(pair.lab.host(2).command("ip").args(arguments.split(' ')).status().unwrap().success(), "{arguments}");
}

#[test]
fn an_interface_may_get_another_name() {
    let mut pair = Pair::new(1500, 16 << 20);
    let (source, run) = (pair.source(&pattern(1000, 1)), pair.run(1, 1000));
    let target = pair.target(1000, 0);
    pair.to.lane.post(&run, &target, 0).unwrap();
    pair.to.lane.admit();
    ip(&pair, &format!("link set {} down", pair.lab.host(2).interface));
    ip(&pair, &format!("link set {} name another", pair.lab.host(2).interface));
    ip(&pair, "link set another up");
    pair.to.lane.reopen().unwrap();
    assert!(target.into_buffer().is_ok());
    let target = pair.target(1000, 0);
    pair.to.lane.post(&run, &target, 0).unwrap();
    pair.to.lane.admit();
    pair.send(&run, 0, &source, 0);
    assert_eq!(pair.landings().len(), 1);
}

#[test]
fn closing_takes_back_what_is_posted() {
    let mut pair = Pair::new(1500, 16 << 20);
    let (target, run) = (pair.target(1000, 0), pair.run(1, 1000));
    let source = pair.source(&pattern(1000, 1));
    pair.to.lane.post(&run, &target, 0).unwrap();
    pair.to.lane.admit();
    let End { lane, steering, arena } = pair.to;
    drop(lane);
    let target = target.into_buffer().expect("the lane is closed");
    // Another one on the same program goes on from there.
    let lane = open_lane(pair.lab.host(2), QUEUE, &arena, &steering).unwrap();
    pair.to = End { lane, steering, arena };
    pair.send(&run, 0, &source, 0);
    assert_eq!(pair.landings(), []);
    unchanged(target, 7);
    placement::transfer(&mut pair, 1000, 2);
}

/// Prints how long it takes, with arenas of several lengths. To be run in a release build, on a machine that does nothing else.
#[test]
#[ignore = "measures, and proves nothing"]
fn how_long_it_takes() {
    for mib in [16, 64, 256, 1024] {
        let mut pair = Pair::new(1500, mib << 20);
        let run = pair.run(1, 1000);
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                let target = pair.target(1000, 0);
                pair.to.lane.post(&run, &target, 0).unwrap();
                pair.to.lane.admit();
                let start = Instant::now();
                reopen(&mut pair.to.lane);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!(
            "arena {mib:>4} MiB: {:.1?} at best, {:.1?} in the middle, {:.1?} at most",
            times[0], times[10], times[19]
        );
    }
}
