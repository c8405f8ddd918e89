//! Senders that are slow, pause, die, trickle and lie: who lives and gets on keeps what it was granted, who doesn't loses it, and nobody keeps the lane from the others.

use std::time::Duration;

use vmmc::Target;
use vmmc::engine::{EngineError, Send};
use vmmc::time::Time;
use vmmc::wire::frame::Path;
use vmmc::wire::record::{BulkRecord, Declined, Errand, Record};
use vmmc::wire::{BULK_CHECKED, BulkHeader};

use super::chaos::{Put, export};
use super::{into_bytes, world};
use crate::fetch_hostile::Puppet;
use crate::world::{World, address};

const LEN: usize = 2_000_000;

const PERIOD: Duration = Duration::from_millis(20);

/// Of a puppet's transfers: segments, and bytes of each.
const SEGMENTS: u32 = 100;
const SEGMENT: u32 = 1000;

#[test]
fn who_pauses_keeps_what_it_was_granted() {
    for pause in [20, 200, 2000] {
        let mut world = world(2, 1, Some(true));
        export(&mut world, 1, "inbox", LEN);
        let import = world.import(0, 1, "inbox").unwrap();
        let mut put = Put::new(&world, 0, import, 1, LEN, 0, 1);
        let mut pauses = 0;
        while !put.steps(&mut world, 10).unwrap() {
            // Its machine lets it do nothing.
            world.hosts[0].on = false;
            world.run(Duration::from_millis(pause));
            world.hosts[0].on = true;
            pauses += 1;
        }
        let counters = world.hosts[1].engine.counters();
        assert_eq!((counters.rx_bulk_abandoned, counters.bulk_reopened, counters.rx_bulk_declined), (0, 0, 0));
        assert!(pauses >= 3, "{pauses} pauses");
    }
}

#[test]
fn who_shares_its_core_with_others_keeps_what_it_was_granted() {
    for every in [4, 20, 100] {
        let mut world = world(3, 1, Some(true));
        export(&mut world, 2, "inbox", LEN);
        let imports = [0, 1].map(|from| world.import(from, 2, "inbox").unwrap());
        // And the receiver does, too.
        world.hosts[0].looks_every = Some(Duration::from_millis(every));
        world.hosts[2].looks_every = Some(Duration::from_millis(every + 1));
        let mut slow = Put::new(&world, 0, imports[0], 1, LEN, 0, 1);
        let mut other = Put::new(&world, 1, imports[1], 2, LEN, 0, 1);
        world
            .until("both deliveries", |world| (slow.go_on(world).unwrap() & other.go_on(world).unwrap()).then_some(()));
        let counters = world.hosts[2].engine.counters();
        assert_eq!((counters.rx_bulk_abandoned, counters.bulk_reopened), (0, 0), "looking every {every} ms");
    }
}

#[test]
fn a_receiver_that_was_away_blames_nobody() {
    let mut world = world(3, 1, Some(true));
    export(&mut world, 2, "inbox", LEN);
    let imports = [0, 1].map(|from| world.import(from, 2, "inbox").unwrap());
    let mut put = [0, 1].map(|from| Put::new(&world, from, imports[from], 1, LEN, 0, 1));
    let mut done = [false; 2];
    while done != [true; 2] {
        for (put, done) in put.iter_mut().zip(&mut done) {
            *done |= put.go_on(&mut world).unwrap();
        }
        (0..100).for_each(|_| world.step());
        world.hosts[2].on = false;
        world.run(Duration::from_secs(3));
        world.hosts[2].on = true;
    }
    let counters = world.hosts[2].engine.counters();
    assert_eq!((counters.rx_bulk_abandoned, counters.bulk_reopened, counters.rx_bulk_declined), (0, 0, 0));
}

#[test]
fn who_dies_keeps_others_waiting_for_a_moment() {
    let mut world = world(3, 1, Some(true));
    export(&mut world, 2, "inbox", LEN);
    let imports = [0, 1].map(|from| world.import(from, 2, "inbox").unwrap());
    let mut dying = Put::new(&world, 0, imports[0], 1, LEN, 0, 1);
    assert!(!dying.steps(&mut world, 30).unwrap());
    assert!(world.hosts[2].engine.counters().rx_bulk_grants > 0);
    world.hosts[0].on = false;
    // Alone it might have been back.
    world.run(Duration::from_secs(5));
    assert_eq!(world.hosts[2].engine.counters().rx_bulk_abandoned, 0);
    let begin = world.now();
    Put::new(&world, 1, imports[1], 2, LEN, 0, 1).finish(&mut world).unwrap();
    let counters = world.hosts[2].engine.counters();
    assert!(counters.rx_bulk_abandoned > 0 && counters.bulk_reopened == 1, "{counters:?}");
    assert!(world.now().since(begin) < Duration::from_millis(200), "{:?}", world.now().since(begin));
    assert!(counters.rx_bulk_bytes > LEN as u64 * 9 / 10, "the other's went by the lane");
}

/// Host 0 has its own way of sending to host 1, on whose export it has a grant. Host 2 sends there, too.
struct Hostile {
    world: World,
    puppet: Puppet,
    grant: u32,
    inbox: u32,
    import: u32,
    next: u32,
    /// What it was granted: the transfer, the grant, and how many segments it hasn't sent.
    granted: Vec<(u32, u32, u32)>,
    /// All of a grant but its last segment it sends at once, and then one of them again and again.
    repeats: bool,
    told: Vec<Record>,
}

impl Hostile {
    fn new() -> Hostile {
        let mut world = world(4, 1, Some(true));
        // So that no step is long.
        world.hosts[3].looks_every = Some(Duration::from_millis(1));
        let (inbox, _) = export(&mut world, 1, "inbox", LEN);
        let import = world.import(2, 1, "inbox").unwrap();
        let tap = world.network.tap();
        world.import(0, 1, "inbox").unwrap();
        let puppet = Puppet::new(&mut world, tap, 0, 1);
        let (grant, next, granted, told) = (1 << 20, 0, Vec::new(), Vec::new());
        Hostile { world, puppet, grant, inbox, import, next, granted, repeats: false, told }
    }

    fn ask(&mut self) {
        self.ask_at(0);
    }

    fn ask_at(&mut self, offset: u64) {
        let errand = Errand::Put { grant: self.grant, notify: None };
        let transfer = self.next;
        self.next += 1;
        let ask = BulkRecord::Ask { transfer, errand, offset, segment: SEGMENT, segments: SEGMENTS, rest: 128 };
        self.puppet.add(&mut self.world, Record::Bulk(ask), &[0; 128]);
    }

    /// Hears what it is told, and says what it must, or its link would end.
    fn hear(&mut self) -> usize {
        let told = self.puppet.told();
        let mut ended = 0;
        for record in &told {
            match *record {
                Record::Bulk(BulkRecord::Granted { transfer, grant }) => {
                    // It may be said again before this side has acknowledged it.
                    self.granted.retain(|&(of, _, _)| of != transfer);
                    self.granted.push((transfer, grant, SEGMENTS));
                }
                Record::Bulk(BulkRecord::Declined { transfer, reason }) => {
                    if reason == Declined::Unable {
                        self.puppet.add(&mut self.world, Record::Bulk(BulkRecord::Cleared { transfer }), &[]);
                    }
                    self.granted.retain(|&(of, _, _)| of < transfer);
                    ended += 1;
                }
                Record::Bulk(BulkRecord::Done { transfer }) => {
                    self.granted.retain(|&(of, _, _)| of != transfer);
                    ended += 1;
                }
                _ => {}
            }
        }
        self.told.extend(told);
        ended
    }

    /// Sends a segment of the first grant.
    fn send(&mut self) {
        let Some((_, grant, left @ 1..)) = self.granted.first_mut() else { return };
        let (grant, first) = (*grant, *left - 1);
        if !self.repeats {
            *left = first;
            self.send_segment(grant, first, true);
            return;
        }
        *left = 1;
        (1..=first.max(1)).rev().for_each(|segment| self.send_segment(grant, segment, true));
    }

    /// Sends a segment; if it isn't to be `intact`, one whose checksum is wrong.
    fn send_segment(&mut self, grant: u32, segment: u32, intact: bool) {
        let payload = [1; SEGMENT as usize];
        let header = BulkHeader { token: self.puppet.token(), grant, segment };
        let mac = |host: usize| [2, 0, 0, 0, 0, host as u8 + 1];
        let mut remote = address(1);
        remote.set_port(7001);
        let path = Path { local: address(0), remote, local_mac: mac(0), next_hop: mac(1), vlan: None };
        let header = header.emit(Some(|take: &mut dyn FnMut(&[u8])| take(&payload)));
        assert!(header[6] & BULK_CHECKED != 0);
        let encap = path.encap().unwrap();
        let mut frame = vec![0; encap.len()];
        encap.write(&mut frame, header.len() + payload.len());
        frame.extend(header);
        frame.extend(payload.map(|byte| if intact { byte } else { !byte }));
        self.world.network.inject(&frame);
    }

    /// Host 2 puts something every 20 ms for four seconds, in which host 0 always asks for more, and sends a segment each `every`. Returns how many puts have arrived.
    fn beside(&mut self, every: Option<Duration>) -> u64 {
        let (begin, mut at) = (self.world.now(), self.world.now());
        let (mut done, mut asks_at, mut put) = (0, begin, None::<Put>);
        while self.world.now() < begin + Duration::from_secs(4) {
            self.hear();
            let most = if self.repeats { 1 } else { 2 };
            if self.granted.len() < most && self.world.now() >= asks_at {
                self.ask();
                asks_at = self.world.now() + Duration::from_millis(2);
            }
            if let Some(every) = every.filter(|_| self.world.now() >= at) {
                self.send();
                at = self.world.now() + every;
            }
            if put.is_none() && self.world.now() >= begin + PERIOD * done {
                put = Some(Put::new(&self.world, 2, self.import, done.into(), 100_000, 0, 1));
            }
            if let Some(going) = &mut put
                && going.go_on(&mut self.world).unwrap()
            {
                done += 1;
                put = None;
                while self.world.hosts[1].engine.take_notification(self.inbox).is_some() {}
            }
            self.world.step();
        }
        assert_eq!(self.world.hosts[1].engine.counters().links_ended, 0);
        done.into()
    }
}

#[test]
fn who_trickles_does_not_keep_the_lane_for_itself() {
    for every in [None, Some(490), Some(90), Some(9), Some(1)] {
        let mut hostile = Hostile::new();
        let done = hostile.beside(every.map(Duration::from_millis));
        let counters = hostile.world.hosts[1].engine.counters();
        assert!(done > 100, "a segment each {every:?} ms: {done} of 200 puts, {counters:?}");
        assert!(counters.bulk_reopened <= 10, "{counters:?}");
        assert!(counters.rx_bulk_grants > done / 2, "{done} puts, {counters:?}");
        assert!(hostile.told.iter().any(|r| matches!(r, Record::Bulk(BulkRecord::Granted { .. }))));
    }
}

#[test]
fn who_repeats_itself_does_not_keep_the_lane_for_itself() {
    for every in [90, 19, 2] {
        let mut hostile = Hostile::new();
        // Each repetition uses up its only place, and it gets another behind those of the other.
        hostile.repeats = true;
        let done = hostile.beside(Some(Duration::from_millis(every)));
        let counters = hostile.world.hosts[1].engine.counters();
        assert!(done > 100, "a repetition each {every} ms: {done} of 200 puts, {counters:?}");
        assert!(counters.bulk_reopened <= 10 && counters.rx_bulk_wasted > 0, "{counters:?}");
    }
}

#[test]
fn who_sends_damaged_packets_of_all_it_was_granted_is_blamed_once() {
    let mut hostile = Hostile::new();
    hostile.world.hosts[1].looks_every = Some(Duration::from_millis(2));
    (0..2).for_each(|number| hostile.ask_at(200_000 * number));
    hostile.world.run(Duration::from_millis(10));
    hostile.hear();
    assert_eq!(hostile.granted.len(), 2);
    for (_, grant, _) in hostile.granted.clone() {
        (0..SEGMENTS).for_each(|segment| hostile.send_segment(grant, segment, false));
    }
    let ended = |world: &mut World| (world.hosts[1].engine.counters().rx_bulk_abandoned > 0).then_some(());
    hostile.world.until("the end", ended);
    hostile.puppet.told();
    let counters = hostile.world.hosts[1].engine.counters();
    assert_eq!((counters.rx_bulk_abandoned, counters.rx_bulk_wasted), (2, 200), "{counters:?}");
    hostile.puppet.add(&mut hostile.world, Record::Bulk(BulkRecord::Cleared { transfer: 0 }), &[]);
    hostile.world.run(Duration::from_millis(25));
    hostile.ask();
    hostile.world.run(Duration::from_millis(5));
    // Another time it would be twice as long.
    assert_eq!(hostile.world.hosts[1].engine.counters().rx_bulk_grants, counters.rx_bulk_grants + 1);
}

#[test]
fn others_packets_of_another_length_do_not_take_the_place_of_a_damaged_one_s() {
    let mut hostile = Hostile::new();
    hostile.world.hosts[1].looks_every = Some(Duration::from_millis(1));
    (0..2).for_each(|number| hostile.ask_at(200_000 * number));
    hostile.world.run(Duration::from_millis(5));
    hostile.hear();
    let granted = hostile.granted.clone();
    assert_eq!(granted.len(), 2);
    // The other wants places for longer packets, all the time.
    let import = hostile.import;
    let next = |world: &World, half: u64| Put::new(world, 2, import, half, 700_000, 500_000 + 700_000 * half, 1);
    let mut puts = [0, 1].map(|half| next(&hostile.world, half));
    (0..5).for_each(|_| puts.iter_mut().for_each(|put| assert!(!put.steps(&mut hostile.world, 20).unwrap())));
    // All is in time for one look, and the last one is damaged: its place is posted anew, when the other could have its turn.
    for (number, (_, grant, _)) in (0..).zip(granted) {
        (0..SEGMENTS).rev().for_each(|segment| hostile.send_segment(grant, segment, number == 0 || segment > 0));
    }
    let (begin, mut delivered) = (hostile.world.now(), 0);
    while !hostile.granted.is_empty() && hostile.world.now() < begin + Duration::from_millis(400) {
        for (half, put) in (0..).zip(&mut puts) {
            if put.go_on(&mut hostile.world).unwrap() {
                *put = next(&hostile.world, half);
                delivered += 1;
            }
        }
        while hostile.world.hosts[1].engine.take_notification(hostile.inbox).is_some() {}
        let heard = hostile.told.len();
        hostile.hear();
        for number in heard..hostile.told.len() {
            if let Record::Bulk(BulkRecord::Missing { grant, .. }) = hostile.told[number] {
                hostile.send_segment(grant, 0, true);
            }
        }
        hostile.world.step();
    }
    let counters = hostile.world.hosts[1].engine.counters();
    assert_eq!(counters.rx_bulk_abandoned, 0, "{counters:?}");
    assert!(hostile.granted.is_empty(), "the other had {delivered} puts meanwhile: {counters:?}");
}

#[test]
fn who_says_that_all_was_sent_and_lies_is_found_out() {
    let mut hostile = Hostile::new();
    hostile.ask();
    hostile.world.run(Duration::from_micros(100));
    hostile.hear();
    let (_, grant, _) = hostile.granted[0];
    let begin = hostile.world.now();
    let mut questions = 0;
    while hostile.hear() == 0 {
        let asked = |record: &Record| matches!(record, Record::Bulk(BulkRecord::Missing { .. }));
        let so_far = hostile.told.iter().filter(|record| asked(record)).count();
        if so_far > questions || questions == 0 {
            questions = so_far;
            hostile.puppet.add(
                &mut hostile.world,
                Record::Bulk(BulkRecord::Sent { grant, questions: questions as u16 }),
                &[],
            );
        }
        hostile.world.step();
        assert!(hostile.world.now().since(begin) < Duration::from_secs(1), "{questions} questions");
    }
    assert!((5..20).contains(&questions), "{questions}");
    let counters = hostile.world.hosts[1].engine.counters();
    assert_eq!((counters.rx_bulk_abandoned, counters.bulk_reopened), (1, 1));
}

#[test]
fn who_comes_again_and_again_is_known_by_its_address() {
    let mut world = world(3, 1, Some(true));
    export(&mut world, 1, "inbox", LEN);
    let (mut granted, begin) = (0, world.now());
    for _ in 0..60 {
        let import = loop {
            match world.import(0, 1, "inbox") {
                Ok(import) => break import,
                Err(EngineError::LinkEnded { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let before = world.hosts[1].engine.counters().rx_bulk_grants;
        let mut put = Put::new(&world, 0, import, 1, LEN, 0, 1);
        let _ = put.steps(&mut world, 30);
        granted += u64::from(world.hosts[1].engine.counters().rx_bulk_grants > before);
        world.reboot(0);
    }
    let (reopened, span) = (world.hosts[1].engine.counters().bulk_reopened, world.now().since(begin));
    assert!(granted > 0 && reopened <= 10, "reopened {reopened} times in {span:?}, granted {granted} times");
    // Others have nothing to do with it.
    let import = world.import(2, 1, "inbox").unwrap();
    Put::new(&world, 2, import, 1, LEN, 0, 1).finish(&mut world).unwrap();
    assert_eq!(world.hosts[2].engine.counters().tx_bulk_declined, 0);
}

#[test]
fn what_is_fetched_while_it_is_written_comes_as_a_copy_soon() {
    for mtu in [1500, 9000] {
        let lanes = (0..2).map(|host| Some(crate::lanes::lane(host, true))).collect();
        let mut world = super::world_with(lanes, 1, mtu);
        let (_, region) = export(&mut world, 0, "table", LEN);
        let import = world.import(1, 0, "table").unwrap();
        world.hosts[0].port.written = Some(region);
        let (now, host) = (world.now(), &mut world.hosts[1]);
        let mut target: Option<Box<dyn Target>> = Some(Box::new(host.arena.buffer(LEN).unwrap()));
        let fetch = host.engine.fetch(now, &mut host.port, import, 0, &mut target).unwrap().expect("a fetch");
        let fetched = world.until("a fetch", |w| w.hosts[1].fetched(fetch).map_err(|(error, _)| error).unwrap());
        assert!(into_bytes(fetched).iter().any(|&byte| byte > 0));
        let (counters, took) = (world.hosts[1].engine.counters(), world.now().since(now));
        assert!(counters.rx_bulk_abandoned > 0, "it came by the lane: {counters:?}");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[test]
fn a_kernel_that_always_drops_costs_the_lane_and_nothing_else() {
    let mut world = world(2, 1, Some(true));
    export(&mut world, 1, "inbox", LEN);
    let import = world.import(0, 1, "inbox").unwrap();
    world.hosts[1].port.control().unwrap().drop_admitted(u64::MAX);
    Put::new(&world, 0, import, 1, LEN, 0, 1).finish(&mut world).unwrap();
    let reopened = world.hosts[1].engine.counters().bulk_reopened;
    assert!((2..20).contains(&reopened), "reopened {reopened} times");
    let now: Time = world.now();
    Put::new(&world, 0, import, 2, LEN, 0, 1).finish(&mut world).unwrap();
    let counters = world.hosts[1].engine.counters();
    assert_eq!(counters.bulk_reopened, reopened);
    assert!(world.now().since(now) < Duration::from_secs(1));
}

#[test]
fn who_takes_its_notifications_slowly_gets_them_by_the_lane() {
    let mut world = world(3, 1, Some(true));
    let (slow, _) = world.export(2, "slow", LEN, 1);
    export(&mut world, 2, "inbox", LEN);
    let (import, beside) = (world.import(0, 2, "slow").unwrap(), world.import(1, 2, "inbox").unwrap());
    for round in 0..5 {
        let mut put = Put::new(&world, 0, import, round, LEN, 0, round as u32);
        let mut next = Put::new(&world, 0, import, round, LEN, 0, round as u32);
        while !put.go_on(&mut world).unwrap() {
            world.step();
        }
        assert!(!next.steps(&mut world, 2000).unwrap(), "there is no room for its notification");
        // Nobody else waits for that.
        Put::new(&world, 1, beside, round, LEN, 0, 1).finish(&mut world).unwrap();
        assert!(world.hosts[2].engine.take_notification(slow).is_some());
        next.finish(&mut world).unwrap();
        assert!(world.hosts[2].engine.take_notification(slow).is_some());
    }
    assert_eq!(world.hosts[0].engine.counters().tx_bulk_declined, 0);
}

/// How long a receiver that looks seldom takes for some sends. With `talks` it has something of its own to say each time it looks.
fn sends_to_one_who_looks_seldom(talks: bool) -> Duration {
    const LEN: usize = 1_000_000;
    let mut world = world(2, 1, Some(true));
    let (inbox, _) = export(&mut world, 1, "inbox", LEN);
    export(&mut world, 0, "outbox", 100);
    let (import, back) = (world.import(0, 1, "inbox").unwrap(), world.import(1, 0, "outbox").unwrap());
    let mut start = world.now();
    for tag in 0..20 {
        if tag == 2 {
            // By now it is known how short the path is.
            world.hosts[1].looks_every = Some(Duration::from_millis(1));
            start = world.now();
        }
        let mut put = Put::new(&world, 0, import, tag, LEN, 0, 1);
        while !put.go_on(&mut world).unwrap() {
            if talks {
                let (now, host) = (world.now(), &mut world.hosts[1]);
                let mut send = Send::new(&[7; 8], 0);
                send.queued = true;
                // A packet that waits for more to say, and leaves before all else.
                if host.engine.coalesce(&mut host.port, back, &mut send).unwrap().is_none() {
                    host.engine.send(now, &mut host.port, back, &mut send).unwrap();
                }
            }
            world.step();
        }
        assert_eq!(world.notification(1, inbox).tag, 1);
        put.give_back();
    }
    world.now().since(start)
}

/// That a landing was seen late is said with the news of it, and not with whatever leaves before.
#[test]
fn a_receiver_that_looks_seldom_may_say_other_things() {
    let [silent, talking] = [false, true].map(sends_to_one_who_looks_seldom);
    assert!(talking < silent * 3 / 2, "{talking:?} instead of {silent:?}");
}
