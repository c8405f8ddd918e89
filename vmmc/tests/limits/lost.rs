//! A bulk lane that can't be opened again keeps the memory that packets were to land in. What its owner gets in its place, and what he gets when there is no memory for that.

use std::any::Any;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmmc::Target;
use vmmc::engine::{DirectSend, EngineError, ExportOptions, RedirectEnd, Wanted};
use vmmc::memory::{Arena, Buffer, DirectSource};
use vmmc::port::Port;
use vmmc::port::sim::Conditions;

use crate::lanes::lane;
use crate::world::{World, contents, export_options, key, link_config};

const LEN: usize = 1 << 20;

/// What there is memory in for a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    System,
    Arena,
    Nowhere,
}

/// All that is left of an arena.
fn fill(arena: &Arena) -> Vec<Buffer> {
    let all = [LEN, 1 << 16, 1 << 12, 64].map(|len| std::iter::from_fn(move || arena.buffer(len).ok()));
    all.into_iter().flatten().collect()
}

/// Does something while the system has no descriptors to give, and so no arena.
fn without_descriptors<R>(work: impl FnOnce() -> R) -> R {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
    let done = work();
    setrlimit(Resource::Nofile, before).unwrap();
    done
}

/// The bytes that have come, and how long the target is. It is a buffer, whatever has become of it.
fn bytes(target: Box<dyn Target>) -> Vec<u8> {
    let any: &dyn Any = &*target;
    assert!(any.is::<Buffer>());
    target.downcast::<Buffer>().to_vec()
}

#[test]
fn what_a_lost_lane_keeps_is_copied_or_comes_back_empty() {
    let _alone = crate::alone();
    for memory in [Memory::System, Memory::Arena, Memory::Nowhere] {
        let lanes = (0..2).map(|host| Some(lane(host, true))).collect();
        let mut world = World::with_lanes(lanes, 1, Conditions::default(), link_config());
        let options = |name| ExportOptions { readable: true, ..export_options(name, key(), 10) };
        let (inbox, region) = world.export_as(1, options("inbox"), LEN);
        let (_, table) = world.export_as(0, options("table"), LEN);
        table.fill(0x77).unwrap();
        let (into_inbox, of_table) = (world.import(0, 1, "inbox").unwrap(), world.import(1, 0, "table").unwrap());

        let now = world.now();
        let receiver = &mut world.hosts[1];
        let target = |arena: &Arena| -> Box<dyn Target> { Box::new(arena.buffer(LEN).unwrap()) };
        let posted = target(&receiver.arena);
        let redirect = receiver.engine.redirect(inbox, Wanted::Range(0..LEN as u64), posted).unwrap();
        let mut reading = Some(target(&receiver.arena));
        let fetch = receiver.engine.fetch(now, &mut receiver.port, of_table, 0, &mut reading).unwrap().unwrap();
        receiver.port.flush().unwrap();
        let mut buffer = world.hosts[0].arena.buffer(LEN).unwrap();
        buffer.fill(0x33);
        let source = DirectSource::of_buffer(Arc::new(buffer));
        let mut send = DirectSend::new(source, 0..LEN, 0, Some(1));
        let mut ticket = None;
        world.until("some of the first of both", |world| {
            let (now, sender) = (world.now(), &mut world.hosts[0]);
            if ticket.is_none() {
                ticket = sender.engine.send_direct(now, &mut sender.port, into_inbox, &mut send).unwrap();
                sender.port.flush().unwrap();
            }
            let receiver = world.hosts[1].engine.counters();
            (receiver.rx_bulk_grants == 2 && receiver.rx_bulk_segments > LEN as u64 / 5000).then_some(())
        });

        let receiver = &mut world.hosts[1];
        receiver.port.control().unwrap().refuse_reopen(true);
        let filler = if memory == Memory::Nowhere { fill(&receiver.arena) } else { Vec::new() };
        let mut take = || {
            let returned = receiver.take_redirect(inbox, redirect).unwrap();
            (returned, receiver.cancel_fetch(fetch).unwrap())
        };
        let (returned, fetched) = if memory == Memory::System { take() } else { without_descriptors(take) };
        assert!(receiver.port.control().unwrap().posted() > 0, "nothing was kept");
        drop(filler);
        let expected = if memory == Memory::Nowhere { 0 } else { LEN };
        assert_eq!(returned.end, (expected == 0).then_some(RedirectEnd::Lost), "{memory:?}");
        let (received, fetched) = (bytes(returned.target), bytes(fetched));
        assert_eq!((received.len(), fetched.len()), (expected, expected), "{memory:?}");
        // What has landed lies at the end, in the one whose turn was first.
        let landed = [received.last() == Some(&0x33), fetched.last() == Some(&0x77)];
        assert_eq!(landed.contains(&true), expected > 0, "{memory:?}");
        // What was sent comes all the same, to where it goes without the redirect.
        let ticket = ticket.expect("all of it was asked for");
        world.delivered(0, ticket).unwrap();
        assert_eq!(contents(&region), [0x33; LEN]);
        assert_eq!(world.notification(1, inbox).tag, 1);
    }
}

#[test]
fn a_fetch_that_is_complete_says_that_its_target_is_lost() {
    let _alone = crate::alone();
    for memory in [Memory::Arena, Memory::Nowhere] {
        let lanes = (0..2).map(|host| Some(lane(host, true))).collect();
        let mut world = World::with_lanes(lanes, 1, Conditions::default(), link_config());
        let options = ExportOptions { readable: true, ..export_options("table", key(), 10) };
        let (_, table) = world.export_as(0, options, LEN);
        table.fill(0x77).unwrap();
        let import = world.import(1, 0, "table").unwrap();
        let (now, receiver) = (world.now(), &mut world.hosts[1]);
        let mut target: Option<Box<dyn Target>> = Some(Box::new(receiver.arena.buffer(LEN).unwrap()));
        let fetch = receiver.engine.fetch(now, &mut receiver.port, import, 0, &mut target).unwrap().unwrap();
        world.until("half of it", |world| {
            (world.hosts[1].engine.counters().rx_bulk_segments > LEN as u64 / 3000).then_some(())
        });
        let receiver = &mut world.hosts[1];
        receiver.port.control().unwrap().refuse_reopen(true);
        receiver.engine.clear_lane(&mut receiver.port);
        // It comes by the other lane, to the same memory.
        world.until("the end of the fetch", |world| world.hosts[1].engine.has_ended(fetch).then_some(()));
        let receiver = &mut world.hosts[1];
        let filler = if memory == Memory::Nowhere { fill(&receiver.arena) } else { Vec::new() };
        let fetched = without_descriptors(|| receiver.fetched(fetch));
        drop(filler);
        match fetched {
            Ok(Some(target)) if memory == Memory::Arena => assert_eq!(bytes(target), [0x77; LEN]),
            Err((EngineError::TargetLost, target)) if memory == Memory::Nowhere => assert!(target.is_empty()),
            Ok(_) => panic!("{memory:?}: it is given back"),
            Err((error, _)) => panic!("{memory:?}: {error}"),
        }
    }
}
