//! Things that happen in the middle of a transfer: memory is taken back, an export goes, hosts die and come again. What comes of that depends on when it happened; but every byte
//! that was announced is where it was said to be, memory that was given back stays as it is, and all that can go on does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::Target;
use vmmc::engine::{DirectSend, EngineError, ExportOptions, Notification, Place, RedirectId, Ticket, Wanted};
use vmmc::memory::{Buffer, DirectSource, Region};
use vmmc::port::Port;

use super::{bad, into_bytes, world};
use crate::world::{World, contents, export_options, key};

/// Length of the exports.
const LEN: usize = 300_000;

/// A send from a buffer that is under way.
pub struct Put {
    from: usize,
    import: u32,
    pub data: Vec<u8>,
    buffer: Arc<Buffer>,
    send: DirectSend,
    ticket: Option<Ticket>,
}

impl Put {
    pub fn new(world: &World, from: usize, import: u32, seed: u64, len: usize, offset: u64, notify: u32) -> Put {
        let host = &world.hosts[from];
        assert!(host.engine.is_direct(import, len), "there is no lane");
        let mut buffer = host.arena.buffer(len).unwrap();
        fastrand::Rng::with_seed(seed).fill(&mut buffer);
        let (data, buffer) = (buffer.to_vec(), Arc::new(buffer));
        let send = DirectSend::new(DirectSource::of_buffer(buffer.clone()), 0..len, offset, Some(notify));
        Put { from, import, data, buffer, send, ticket: None }
    }

    /// Does what there is room for. Returns whether all of it is delivered.
    pub fn go_on(&mut self, world: &mut World) -> Result<bool, EngineError> {
        let (now, host) = (world.now(), &mut world.hosts[self.from]);
        if let Some(ticket) = &self.ticket {
            return host.engine.is_delivered(ticket);
        }
        self.ticket = host.engine.send_direct(now, &mut host.port, self.import, &mut self.send)?;
        host.port.flush().unwrap();
        Ok(false)
    }

    pub fn steps(&mut self, world: &mut World, steps: usize) -> Result<bool, EngineError> {
        for _ in 0..steps {
            if self.go_on(world)? {
                return Ok(true);
            }
            world.step();
        }
        Ok(false)
    }

    pub fn finish(&mut self, world: &mut World) -> Result<(), EngineError> {
        world.until("a delivery", |world| self.go_on(world).map(|done| done.then_some(())).transpose())
    }

    /// The memory is the sender's again, and as it was.
    pub fn give_back(self) {
        drop(self.send);
        let buffer = Arc::try_unwrap(self.buffer).expect("somebody keeps what isn't sent any more");
        assert!(*buffer == self.data, "what was sent was written");
    }
}

pub fn export(world: &mut World, host: usize, name: &str, len: usize) -> (u32, Region) {
    world.export_as(host, ExportOptions { readable: true, ..export_options(name, key(), 100) }, len)
}

/// Imports, however often it takes until both sides know that one of them has been restarted.
fn import(world: &mut World, from: usize, to: usize) -> u32 {
    loop {
        match world.import(from, to, "inbox") {
            Ok(id) => return id,
            Err(EngineError::LinkEnded { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// All bytes that a notification is about are where it says.
fn check(news: &Notification, data: &[u8], region: &Region, targets: &HashMap<RedirectId, Vec<u8>>) {
    assert_eq!(news.length, data.len() as u64);
    let memory = contents(region);
    let mut at = 0;
    for piece in news.pieces() {
        assert_eq!(piece.range.start, at, "no gaps");
        let (start, end) = (piece.range.start as usize, piece.range.end as usize);
        let seen = match piece.place {
            Place::Redirect { redirect, at } => &targets[&redirect][at as usize..at as usize + end - start],
            _ => &memory[news.offset as usize + start..news.offset as usize + end],
        };
        let first = seen.iter().zip(&data[start..end]).position(|(a, b)| a != b);
        assert!(first.is_none(), "byte {:?} of {piece:?}", first.map(|n| start + n));
        at = piece.range.end;
    }
    assert_eq!(at, news.length);
}

fn wanted(rng: &mut fastrand::Rng) -> Wanted {
    let start = if rng.bool() { 0 } else { rng.u64(..LEN as u64 / 2) };
    let end = start + rng.u64(1..=LEN as u64 - start);
    if rng.bool() { Wanted::Range(start..end) } else { Wanted::Next(end - start) }
}

fn is_used(world: &World, host: usize) -> bool {
    world.hosts[host].port.bulk_counters().rx_packets > 0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn redirects_are_taken_back_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..400, posts in 1usize..4) {
        let mut world = world(2, seed, Some(strip));
        let mut rng = fastrand::Rng::with_seed(seed);
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let mut posted = Vec::new();
        for _ in 0..posts {
            let (wanted, host) = (wanted(&mut rng), &mut world.hosts[1]);
            let room = wanted.len() as usize;
            let target: Box<dyn Target> =
                if rng.u8(..4) > 0 { Box::new(host.arena.buffer(room).unwrap()) } else { Box::new(vec![0; room]) };
            posted.push(host.engine.redirect(id, wanted, target).unwrap());
        }
        let offset = rng.u64(..LEN as u64 / 2);
        let mut put = Put::new(&world, 0, import, seed, rng.usize(50_000..LEN - offset as usize), offset, 1);
        let _ = put.steps(&mut world, steps).unwrap();
        let mut targets = HashMap::new();
        for (number, &redirect) in posted.iter().enumerate() {
            if rng.bool() {
                let returned = world.hosts[1].take_redirect(id, redirect).unwrap();
                let ranges: Vec<_> = returned.received.ranges().collect();
                targets.insert(redirect, (into_bytes(returned.target), ranges));
            } else if rng.bool() {
                world.hosts[1].engine.stop_redirect(id, redirect);
            }
            if number == 0 {
                let _ = put.steps(&mut world, rng.usize(..100)).unwrap();
            }
        }
        put.finish(&mut world).unwrap();
        let news = world.notification(1, id);
        for redirect in posted {
            if let Some(returned) = world.hosts[1].take_redirect(id, redirect) {
                let ranges: Vec<_> = returned.received.ranges().collect();
                targets.insert(redirect, (into_bytes(returned.target), ranges));
            }
        }
        // What was said of each redirect when it was taken back is what the notification says.
        for (redirect, (_, ranges)) in &targets {
            let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let within = news.pieces().filter(|p| matches!(p.place, Place::Redirect { redirect: r, .. } if r == *redirect));
            let told: u64 = within.map(|piece| piece.range.end - piece.range.start).sum();
            prop_assert_eq!(bytes, told);
        }
        let bytes = targets.into_iter().map(|(id, (bytes, _))| (id, bytes)).collect();
        check(&news, &put.data, &region, &bytes);
        put.give_back();
    }

    #[test]
    fn memory_that_was_taken_back_is_left_alone(seed: u64, strip: bool, conditions in bad(), steps in 0usize..400) {
        let mut world = world(2, seed, Some(strip));
        let (id, _) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let host = &mut world.hosts[1];
        let target = Box::new(host.arena.buffer(LEN).unwrap());
        let redirect = host.engine.redirect(id, Wanted::Range(0..LEN as u64), target).unwrap();
        let mut put = Put::new(&world, 0, import, seed, LEN, 0, 1);
        let _ = put.steps(&mut world, steps).unwrap();
        let mut buffer: Buffer = world.hosts[1].take_redirect(id, redirect).unwrap().into_parts().0;
        buffer.fill(0x77);
        put.finish(&mut world).unwrap();
        prop_assert!(buffer.iter().all(|&byte| byte == 0x77), "written after it was given back");
        put.give_back();
    }

    #[test]
    fn exports_go_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..400) {
        let mut world = world(2, seed, Some(strip));
        let all = world.hosts[1].arena.available();
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let mut put = Put::new(&world, 0, import, seed, LEN, 0, 1);
        let early = put.steps(&mut world, steps).unwrap();
        world.hosts[1].engine.unexport(id);
        world.step();
        region.fill(0x77).unwrap();
        let end = put.finish(&mut world);
        prop_assert!(matches!(end, Err(EngineError::Revoked { .. })) || end.is_ok(), "{end:?}");
        prop_assert!(!early || end.is_ok());
        put.give_back();
        prop_assert!(contents(&region).iter().all(|&byte| byte == 0x77), "written after it was revoked");
        // The lane is there for the next.
        let (id, next) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        let mut put = Put::new(&world, 0, import, !seed, LEN, 0, 2);
        put.finish(&mut world).unwrap();
        let news = world.notification(1, id);
        prop_assert_eq!(news.tag, 2);
        check(&news, &put.data, &next, &HashMap::new());
        put.give_back();
        prop_assert!(is_used(&world, 1));
        world.hosts[1].engine.unexport(id);
        drop((region, next));
        world.run(Duration::from_secs(2));
        prop_assert_eq!(world.hosts[1].arena.available(), all);
    }

    #[test]
    fn senders_die_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..400, comes_back: bool) {
        let mut world = world(3, seed, Some(strip));
        let (id, region) = export(&mut world, 2, "inbox", 2 * LEN);
        let imports = [0, 1].map(|host| world.import(host, 2, "inbox").unwrap());
        world.network.set_conditions(conditions);
        let mut dying = Put::new(&world, 0, imports[0], seed, LEN, 0, 1);
        let mut other = Put::new(&world, 1, imports[1], !seed, LEN, LEN as u64, 2);
        for _ in 0..steps {
            // While nothing is on the way steps are long.
            if dying.go_on(&mut world).unwrap() & other.go_on(&mut world).unwrap() {
                break;
            }
            world.step();
        }
        if comes_back {
            world.reboot(0);
        } else {
            world.hosts[0].on = false;
        }
        let arrives = |world: &mut World, put: Put, tag| {
            let news = world.until("a notification", |world| {
                world.hosts[2].engine.take_notification(id).filter(|news| news.tag == tag)
            });
            check(&news, &put.data, &region, &HashMap::new());
            put.give_back();
        };
        other.finish(&mut world).unwrap();
        arrives(&mut world, other, 2);
        for round in 3..6 {
            let mut put = Put::new(&world, 1, imports[1], seed.wrapping_add(round), LEN, LEN as u64, round as u32);
            put.finish(&mut world).unwrap();
            arrives(&mut world, put, round as u32);
        }
        if comes_back {
            let import = import(&mut world, 0, 2);
            let mut put = Put::new(&world, 0, import, seed, LEN, 0, 7);
            put.finish(&mut world).unwrap();
            arrives(&mut world, put, 7);
        }
        prop_assert!(is_used(&world, 2));
    }

    #[test]
    // Not where the NIC writes by itself: it does so until the socket has gone, and nobody knows when that is.
    fn a_lane_that_can_not_be_opened_again_is_done_without(seed: u64, conditions in bad(), steps in 0usize..400, sender: bool) {
        let mut world = world(2, seed, Some(true));
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let host = &mut world.hosts[1];
        let target = Box::new(host.arena.buffer(LEN).unwrap());
        let redirect = host.engine.redirect(id, Wanted::Range(0..LEN as u64), target).unwrap();
        let control = world.hosts[usize::from(!sender)].port.control().unwrap();
        control.refuse_reopen(true);
        let other = export(&mut world, 0, "inbox", LEN);
        let back = self::import(&mut world, 1, 0);
        // What was in the way may be gone for good by now, and the lane with it: nothing more is sent by it then.
        if !world.hosts[1].engine.is_direct(back, LEN) {
            return Ok(());
        }
        let mut second = Put::new(&world, 1, back, !seed, LEN, 0, 2);
        let mut put = Put::new(&world, 0, import, seed, LEN, 0, 1);
        let _ = put.steps(&mut world, steps).unwrap();
        control.drop_admitted(1);
        world.until("both deliveries", |world| {
            (put.go_on(world).unwrap() & second.go_on(world).unwrap()).then_some(())
        });
        check(&world.notification(0, other.0), &second.data, &other.1, &HashMap::new());
        let news = world.notification(1, id);
        if let Some(returned) = world.hosts[1].take_redirect(id, redirect) {
            let targets = HashMap::from([(redirect, into_bytes(returned.target))]);
            check(&news, &put.data, &region, &targets);
        }
    }

    #[test]
    fn fetches_are_given_up_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..200) {
        let mut world = world(2, seed, Some(strip));
        let (_, region) = export(&mut world, 1, "inbox", LEN);
        let mut table = vec![0; LEN];
        fastrand::Rng::with_seed(seed).fill(&mut table);
        region.write(0, &table).unwrap();
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let fetch = |world: &mut World, offset: usize| {
            let (now, host) = (world.now(), &mut world.hosts[0]);
            let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(LEN - offset).unwrap()));
            host.engine.fetch(now, &mut host.port, import, offset as u64, &mut target).unwrap().expect("a fetch")
        };
        let (given_up, kept) = (fetch(&mut world, 0), fetch(&mut world, 1000));
        for _ in 0..steps {
            if world.hosts[0].engine.has_ended(kept) {
                break;
            }
            world.step();
        }
        let mut buffer: Buffer = world.hosts[0].cancel_fetch(given_up).unwrap().downcast();
        buffer.fill(0x77);
        let end = |world: &mut World, fetch| {
            world.until("a fetch's end", |w| w.hosts[0].fetched(fetch).map_err(|(error, _)| error).unwrap())
        };
        prop_assert!(into_bytes(end(&mut world, kept)) == table[1000..]);
        let again = fetch(&mut world, 2000);
        prop_assert!(into_bytes(end(&mut world, again)) == table[2000..]);
        prop_assert!(buffer.iter().all(|&byte| byte == 0x77), "written after it was given back");
        prop_assert!(is_used(&world, 0));
    }

    #[test]
    fn parts_are_lent_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..200, at in 0..LEN as u64 - 1000) {
        let mut world = world(2, seed, Some(strip));
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let mut put = Put::new(&world, 0, import, seed, LEN, 0, 1);
        let early = put.steps(&mut world, steps).unwrap();
        let loan = world.hosts[1].lend(id, at..at + 1000).unwrap();
        let before = loan.to_vec();
        let end = put.finish(&mut world);
        prop_assert!(matches!(end, Err(EngineError::RefusedLent { .. }) | Ok(())), "{end:?}");
        prop_assert!(!early || end.is_ok());
        put.give_back();
        prop_assert_eq!(&loan[..], &before[..]);
        drop(loan);
        let import = self::import(&mut world, 0, 1);
        let mut put = Put::new(&world, 0, import, !seed, LEN, 0, 2);
        put.finish(&mut world).unwrap();
        let news = world.until("a notification", |w| w.hosts[1].engine.take_notification(id).filter(|news| news.tag == 2));
        check(&news, &put.data, &region, &HashMap::new());
        put.give_back();
    }

    #[test]
    fn receivers_die_in_the_middle(seed: u64, strip: bool, conditions in bad(), steps in 0usize..400) {
        let mut world = world(2, seed, Some(strip));
        let (_, old) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        world.network.set_conditions(conditions);
        let mut put = Put::new(&world, 0, import, seed, LEN, 0, 1);
        let _ = put.steps(&mut world, steps).unwrap();
        world.reboot(1);
        let before = contents(&old);
        let end = put.finish(&mut world);
        prop_assert!(matches!(end, Err(EngineError::LinkEnded { .. }) | Ok(())), "{end:?}");
        put.give_back();
        let (id, region) = export(&mut world, 1, "inbox", LEN);
        let import = self::import(&mut world, 0, 1);
        let mut put = Put::new(&world, 0, import, !seed, LEN, 0, 2);
        put.finish(&mut world).unwrap();
        check(&world.notification(1, id), &put.data, &region, &HashMap::new());
        prop_assert!(contents(&old) == before, "a dead host's memory was written");
        prop_assert!(is_used(&world, 1));
        put.give_back();
    }
}
