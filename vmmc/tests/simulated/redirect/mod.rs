//! Redirects: whatever the network does and whenever they are posted, each byte is where it should be, and what is told of it is so.

mod corners;
mod model;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::{Engine, Notification, Place, RedirectEnd, RedirectId, Send, Wanted};
use vmmc::memory::Region;
use vmmc::port::sim::Conditions;

use self::model::{BLANK, Model, News};
use crate::world::{World, address, contents};

const EXPORT: usize = 6000;

/// The host that exports. It sends to itself, too.
const RECEIVER: usize = 1;

/// What a host has sent and hasn't arrived yet.
struct Sent {
    offset: usize,
    data: Vec<u8>,
    arrived: usize,
    notify: Option<u32>,
}

/// Three hosts that send, one of which exports, and what they should see.
struct Scene {
    world: World,
    rng: fastrand::Rng,
    export: u32,
    region: Region,
    imports: [u32; 3],
    on_the_way: [VecDeque<Sent>; 3],
    model: Model,
    bytes: u64,
    tag: u32,
}

/// Where each byte is that a notification is about.
fn places(news: &Notification) -> Vec<Place> {
    let mut places = Vec::new();
    for piece in news.pieces() {
        assert_eq!(piece.range.start, places.len() as u64, "no gaps: {news:?}");
        places.extend((0..piece.range.end - piece.range.start).map(|n| match piece.place {
            Place::Redirect { redirect, at } => Place::Redirect { redirect, at: at + n },
            other => other,
        }));
    }
    places
}

/// As many bytes as the export has got since the last time have arrived, of those that `source` has sent.
fn arrive(engine: &Engine, sent: &mut VecDeque<Sent>, bytes: &mut u64, model: &mut Model, source: usize) {
    let Some(info) = engine.exports().next() else { return };
    for _ in std::mem::replace(bytes, info.bytes)..info.bytes {
        let first = sent.front_mut().expect("more has arrived than was sent");
        model.arrive(first.offset + first.arrived, first.data[first.arrived]);
        first.arrived += 1;
        if first.arrived == first.data.len() {
            let Sent { offset, data, notify, .. } = sent.pop_front().expect("there is a first one");
            if let Some(tag) = notify {
                model.notify(offset, data.len(), tag, source);
            }
        }
    }
}

impl Scene {
    fn new(seed: u64, conditions: Conditions) -> Scene {
        let mut world = World::new(3, seed, Conditions::default());
        let (export, region) = world.export(RECEIVER, "inbox", EXPORT, 1000);
        let imports = [0, 1, 2].map(|host| world.import(host, RECEIVER, "inbox").unwrap());
        world.network.set_conditions(conditions);
        let rng = fastrand::Rng::with_seed(seed);
        let (model, on_the_way) = (Model::new(EXPORT), Default::default());
        Scene { world, rng, export, region, imports, on_the_way, model, bytes: 0, tag: 0 }
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.world.hosts[RECEIVER].engine
    }

    fn step(&mut self) {
        let Scene { world, model, on_the_way, bytes, .. } = self;
        world.step_seeing(|engine, host, source| {
            if host == RECEIVER && source < 3 {
                arrive(engine, &mut on_the_way[source], bytes, model, source);
            }
        });
    }

    /// Some of the export: now and then all of it, the beginning, or nothing.
    fn part(&mut self) -> std::ops::Range<usize> {
        let most = [1, 10, 100, 2000, EXPORT][self.rng.usize(..5)];
        let start = if self.rng.u8(..4) == 0 { 0 } else { self.rng.usize(..=EXPORT) };
        start..(start + self.rng.usize(..=most)).min(EXPORT)
    }

    fn send(&mut self) {
        let host = self.rng.usize(..3);
        let part = self.part();
        let notify = (self.rng.u8(..3) > 0).then_some(self.tag);
        self.tag += 1;
        if part.is_empty() {
            return;
        }
        let data: Vec<u8> = part.clone().map(|_| self.rng.u8(..)).collect();
        let mut send = Send::new(&data, part.start as u64);
        (send.notify, send.queued) = (notify, self.rng.bool());
        self.on_the_way[host].push_back(Sent { offset: part.start, data: data.clone(), arrived: 0, notify });
        loop {
            let now = self.world.now();
            let sender = &mut self.world.hosts[host];
            if sender.engine.send(now, &mut sender.port, self.imports[host], &mut send).unwrap().is_some() {
                break;
            }
            self.step();
        }
        if host == RECEIVER {
            let engine = &self.world.hosts[RECEIVER].engine;
            arrive(engine, &mut self.on_the_way[host], &mut self.bytes, &mut self.model, host);
        }
    }

    fn post(&mut self) {
        let part = self.part();
        let wanted = match self.rng.u8(..3) {
            0 => Wanted::Next(part.len() as u64),
            _ => Wanted::Range(part.start as u64..part.end as u64),
        };
        let room = part.len() + self.rng.usize(..2) * 50;
        let export = self.export;
        let id = self.engine().redirect(export, wanted.clone(), Box::new(vec![BLANK; room])).unwrap();
        self.model.post(id, wanted, room);
    }

    fn check(&self, id: RedirectId) {
        let expected = self.model.redirects.iter().find(|r| r.id == id).expect("the model knows it");
        let state = self.world.hosts[RECEIVER].engine.redirect_state(self.export, id);
        assert_eq!(state, Some((expected.received as u64, expected.end)));
    }

    /// Takes one of the redirects back.
    fn take(&mut self, number: usize) {
        let expected = self.model.redirects.remove(number);
        let export = self.export;
        let returned = self.world.hosts[RECEIVER].take_redirect(export, expected.id).expect("it hasn't been taken");
        assert_eq!(returned.end, expected.end);
        assert_eq!(returned.received.bytes(), expected.received as u64);
        let ranges: Vec<_> = returned.received.ranges().collect();
        assert_eq!(ranges, expected.ranges());
        assert_eq!(returned.received.prefix(), ranges.first().filter(|r| r.start == 0).map_or(0, |r| r.end));
        assert!(returned.into_parts::<Vec<u8>>().0 == expected.target, "a redirect holds other bytes");
        assert!(self.world.hosts[RECEIVER].take_redirect(export, expected.id).is_none());
        assert_eq!(self.engine().redirect_state(export, expected.id), None);
    }

    fn some_redirect(&mut self) -> Option<usize> {
        let count = self.model.redirects.len();
        (count > 0).then(|| self.rng.usize(..count))
    }

    fn compare(&self, news: Option<Notification>, expected: Option<News>) {
        let Some((news, expected)) = news.as_ref().zip(expected.as_ref()) else {
            assert!(news.is_none() && expected.is_none(), "{news:?} {expected:?}");
            return;
        };
        let said = (news.offset, news.length, news.tag, news.peer);
        let sender = address(expected.sender);
        assert_eq!(said, (expected.offset as u64, expected.places.len() as u64, expected.tag, sender));
        let places = places(news);
        let first = places.iter().zip(&expected.places).position(|(a, b)| a != b);
        assert!(places == expected.places, "byte {first:?} is at {:?}: {news:?}", first.map(|n| expected.places[n]));
    }

    fn take_notification(&mut self) {
        let export = self.export;
        let news = self.engine().take_notification(export);
        let expected = self.model.told(0);
        self.compare(news, expected);
    }

    fn take_notification_in(&mut self, number: usize) {
        let (export, id) = (self.export, self.model.redirects[number].id);
        let within = |p: &Place| matches!(*p, Place::Redirect { redirect, .. } if redirect == id);
        let first = self.model.waiting.iter().position(|news| news.places.iter().any(within));
        let expected = first.and_then(|number| self.model.told(number));
        let news = self.engine().take_notification_in(export, id).unwrap();
        self.compare(news, expected);
    }

    /// Something arrives. While nothing is on the way steps are long, and on a bad network a link may be taken for dead.
    fn run(&mut self) {
        for _ in 0..self.rng.u8(..20) {
            if self.on_the_way.iter().any(|sent| !sent.is_empty()) {
                self.step();
            }
        }
    }

    fn act(&mut self) {
        match self.rng.u8(..20) {
            0..7 => self.send(),
            7..10 => self.post(),
            10..14 => self.run(),
            14..16 => self.take_notification(),
            16 => {
                let part = self.part();
                self.model.claim(part.clone());
                let export = self.export;
                self.engine().forget(export, part.start as u64..part.end as u64);
            }
            dice => {
                let Some(number) = self.some_redirect() else { return };
                self.check(self.model.redirects[number].id);
                match dice {
                    17 => self.take(number),
                    18 => self.take_notification_in(number),
                    _ => {
                        let posted = &mut self.model.redirects[number];
                        posted.end = posted.end.or(Some(RedirectEnd::Stopped));
                        let (export, id) = (self.export, posted.id);
                        self.engine().stop_redirect(export, id);
                    }
                }
            }
        }
    }

    /// All that was sent arrives, and all that was posted comes back.
    fn conclude(mut self, revoke: bool) {
        let end = self.world.now() + Duration::from_secs(600);
        while self.on_the_way.iter().any(|sent| !sent.is_empty()) {
            assert!(self.world.now() < end, "something doesn't arrive");
            self.step();
        }
        let info = self.engine().exports().next().unwrap();
        let open = self.model.redirects.iter().filter(|r| r.end.is_none()).count();
        assert_eq!(info.redirects, open);
        assert_eq!((info.redirected_bytes, info.moved_bytes), (self.model.redirected, self.model.moved));
        let counters = self.engine().counters();
        assert_eq!((counters.redirected_bytes, counters.rx_moved_bytes), (info.redirected_bytes, info.moved_bytes));
        assert_eq!(counters.rx_copied_bytes, counters.delivered_bytes + counters.rx_moved_bytes);
        if revoke {
            let export = self.export;
            self.engine().unexport(export);
            for redirect in &mut self.model.redirects {
                redirect.end = redirect.end.or(Some(RedirectEnd::Revoked));
            }
        } else {
            while !self.model.waiting.is_empty() {
                self.take_notification();
            }
            self.take_notification();
        }
        while let Some(number) = self.some_redirect() {
            self.check(self.model.redirects[number].id);
            self.take(number);
        }
        assert!(contents(&self.region) == self.model.memory, "the default buffer holds other bytes");
        let counters = self.engine().counters();
        assert_eq!(counters.redirects, counters.redirects_ended);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_is_where_it_should_be(
        seed: u64,
        steps in 1usize..300,
        bad in any::<bool>(),
        loss in 0.0..0.2f64,
        duplication in 0.0..0.1f64,
        reordering in 0.0..0.3f64,
        detour in 1u64..500,
        revoke: bool,
    ) {
        let detour = Duration::from_micros(detour);
        let worse = Conditions { loss, duplication, reordering, detour, ..Conditions::default() };
        let mut scene = Scene::new(seed, if bad { worse } else { Conditions::default() });
        (0..steps).for_each(|_| scene.act());
        scene.conclude(revoke);
    }
}
