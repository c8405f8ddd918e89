//! A link under siege: garbage, forgeries, replays and a peer gone mad between real traffic.
//!
//! Host 0 and host 1 write into each other's memory; host 2, which has nothing to do with them, writes into host 1's. A
//! [`Siege`] lets anything arrive between their packets, in any order. Its steps are of two kinds:
//!
//! * What an *outsider* can do, who sees everything, repeats and damages it, but doesn't make packets with a live link's
//!   token and a right checksum. Nothing of that may have an effect on anybody.
//! * What only the *peer* can do: packets of the link between 0 and 1, with token and checksum as they should be, that say
//!   whatever they like. This may ruin that link, and what 0 and 1 have granted each other. It must not touch other memory
//!   nor other links, and must be over when the peer starts anew.
//!
//! [`run`] is also the body of the fuzz target `link`, and an input of one is an input of the other.

mod packets;

use std::sync::mpsc::Receiver;
use std::time::Duration;

use arbitrary::Arbitrary;
use vmmc::Target;
use vmmc::engine::{ExportOptions, Key, RedirectId, Send, Wanted};
use vmmc::memory::Region;
use vmmc::port::Port;
use vmmc::port::sim::Conditions;
use vmmc::wire::{BulkHeader, CHECKSUM_LEN, Flags, HEADER_LEN, Header, Hello, Kind, checksum};

use self::packets::{Captured, Head, PACKET, Piece, frame, lane_frame};
use crate::lanes::lane;
use crate::world::{Host, World, contents, export_options as options, key, link_config};

/// What happens, and in which order.
#[derive(Arbitrary, Debug)]
pub struct Siege {
    pub steps: Vec<Step>,
}

/// One thing that happens. Hosts are 0 or 1; `back` counts back among the frames of their link.
#[derive(Arbitrary, Clone, Debug)]
pub enum Step {
    /// Time passes: so many times 5 us.
    Run(u8),
    /// Real traffic. What is `lost` must be repeated, and what arrives meanwhile comes first.
    Send { forth: bool, offset: u16, length: u16, notify: bool, queued: bool, lost: bool },
    /// Real traffic of the third host.
    SendOther { offset: u16, length: u16, queued: bool },
    /// Real traffic: a remote read, which may be given up at once.
    Fetch { forth: bool, offset: u16, length: u16, cancel: bool, lost: bool },
    /// Any bytes arrive.
    Raw { forth: bool, bytes: Vec<u8> },
    /// A whole packet arrives, of a stranger or in the peer's name, with a token out of the air.
    Forge { forth: bool, stranger: Option<u8>, token: u64, head: Head, body: Vec<Piece> },
    /// A HELLO or WELCOME of its proper length, likewise.
    ForgeHello {
        forth: bool,
        stranger: Option<u8>,
        welcome: bool,
        incarnation: u64,
        token: u64,
        mtu: u16,
        checked: bool,
    },
    /// A frame of the link arrives once more.
    Replay { back: u8 },
    /// Likewise, with one byte changed, and the checksum as it was.
    Damage { back: u8, at: u16, bits: u8 },
    /// The peer sends any packet.
    Betray { forth: bool, head: Head, body: Vec<Piece> },
    /// The peer says something, in the packet that comes next.
    Say { forth: bool, body: Vec<Piece> },
    /// The peer sends a packet to the bulk lane.
    Land { forth: bool, grant: u8, segment: u8, length: u8, checked: bool },
    /// A frame of the link with one byte changed, and the checksum made right.
    Alter { back: u8, at: u16, bits: u8 },
}

const UDP: std::ops::Range<usize> = 34..PACKET;
const EXPORT: usize = 5000;
const GUARD: usize = 4096;
const MAX_STEPS: usize = 100;

struct Scene {
    world: World,
    tap: Receiver<Vec<u8>>,
    captured: Captured,
    /// Of hosts 0 and 1, and of what host 2 writes into.
    regions: [Region; 3],
    models: [Vec<u8>; 3],
    imports: [u32; 3],
    exports: [(usize, u32); 3],
    guards: Vec<Region>,
    /// Fetches under way, by who has begun them.
    fetches: Vec<(usize, u32)>,
    /// Of an export that nobody has imported: it waits for data in vain.
    redirect: (u32, RedirectId),
    betrayed: bool,
}

/// Lives through a siege.
///
/// # Panics
/// When something happens that must not.
pub fn run(siege: &Siege) {
    let mut scene = Scene::new();
    for step in siege.steps.iter().take(MAX_STEPS) {
        scene.step(step);
        scene.drain();
    }
    scene.conclude();
}

impl Scene {
    fn new() -> Scene {
        let lanes = (0..3).map(|host| Some(lane(host, true))).collect();
        let mut world = World::with_lanes(lanes, 1, Conditions::default(), link_config());
        let tap = world.network.tap();
        let mut guards = Vec::new();
        let mut export = |world: &mut World, host: usize, name: &str, key: Key| {
            guards.push(world.hosts[host].arena.alloc(GUARD).unwrap());
            let region = world.hosts[host].arena.alloc(EXPORT).unwrap();
            guards.push(world.hosts[host].arena.alloc(GUARD).unwrap());
            let options = ExportOptions { readable: true, ..options(name, key, 4) };
            ((host, world.hosts[host].engine.export(options, region.clone()).unwrap()), region)
        };
        let other_key = Key::new([9; 16]);
        let (export_0, region_0) = export(&mut world, 0, "inbox", key());
        let (export_1, region_1) = export(&mut world, 1, "inbox", key());
        let (other, other_region) = export(&mut world, 1, "other", other_key);
        // Exported, and imported by nobody.
        let ((_, lonely), secret) = export(&mut world, 1, "secret", other_key);
        guards.push(secret);
        let (wanted, target) = (Wanted::Next(EXPORT as u64), Box::new(vec![0; EXPORT]));
        let redirect = (lonely, world.hosts[1].engine.redirect(lonely, wanted, target).unwrap());
        let begun = world.begin_import(2, 1, "other", other_key).unwrap();
        world.until("the third host's import", |w| w.hosts[2].engine.imported(begun).unwrap());
        let imports = [world.import(0, 1, "inbox").unwrap(), world.import(1, 0, "inbox").unwrap(), begun];
        let mut scene = Scene {
            world,
            tap,
            captured: Captured::default(),
            regions: [region_1, region_0, other_region],
            models: std::array::from_fn(|_| vec![0; EXPORT]),
            imports,
            exports: [export_1, export_0, other],
            guards,
            fetches: Vec::new(),
            redirect,
            betrayed: false,
        };
        // So that there is something to repeat.
        for (from, notify) in [(0, false), (1, true), (2, true)] {
            scene.send(from, 0, 2000, notify, false);
        }
        scene
    }

    fn step(&mut self, step: &Step) {
        self.captured.update(&self.tap);
        match *step {
            Step::Run(count) => self.world.run(Duration::from_micros(5) * count.into()),
            Step::Send { forth, offset, length, notify, queued, lost } => {
                let loss = if lost { 1.0 } else { 0.0 };
                self.world.network.set_conditions(Conditions { loss, ..Conditions::default() });
                self.send(usize::from(!forth), offset, length, notify, queued);
                self.world.network.set_conditions(Conditions::default());
            }
            Step::SendOther { offset, length, queued } => self.send(2, offset, length, true, queued),
            Step::Fetch { forth, offset, length, cancel, lost } => {
                let loss = if lost { 1.0 } else { 0.0 };
                self.world.network.set_conditions(Conditions { loss, ..Conditions::default() });
                self.fetch(usize::from(!forth), offset, length, cancel);
                self.world.network.set_conditions(Conditions::default());
            }
            Step::Raw { forth, ref bytes } => {
                let frame = [&[2, 0, 0, 0, 0, 1 + u8::from(forth)][..], bytes].concat();
                self.world.network.inject(&frame);
            }
            Step::Forge { forth, stranger, token, ref head, ref body } => {
                let to = usize::from(forth);
                let near = self.captured.heads[to];
                // Nobody guesses 64 bits, but a fuzzer reads them in comparisons.
                if token != near.token {
                    self.world.network.inject(&frame(
                        to,
                        stranger,
                        head.header(token, near),
                        &self.captured.body(to, body),
                    ));
                }
            }
            Step::ForgeHello { forth, stranger, welcome, incarnation, token, mtu, checked } => {
                let kind = if welcome { Kind::Welcome } else { Kind::Hello };
                let mtu = mtu.clamp(1280, 1500);
                let hello = Hello { incarnation, token, mtu, peer_incarnation: 0, ..Hello::default() };
                let known = self.captured.heads.iter().any(|head| head.token == token);
                let mut body = hello.emit().to_vec();
                body.resize(usize::from(mtu) - 28 - HEADER_LEN, 0);
                let flags = Flags { checked, ..Flags::default() };
                if !known {
                    self.world.network.inject(&frame(
                        usize::from(forth),
                        stranger,
                        Header { kind, flags, ..Header::default() },
                        &body,
                    ));
                }
            }
            Step::Replay { back } => {
                if let Some(frame) = self.captured.back(back) {
                    self.world.network.inject(frame);
                }
            }
            Step::Damage { back, at, bits } => {
                let Some(mut frame) = self.captured.back(back).cloned() else { return };
                let at = usize::from(at) % frame.len();
                // UDP's own checksum is not used: who changes a port makes a packet of somebody else.
                if at >= 12 && !UDP.contains(&at) {
                    frame[at] ^= bits;
                    self.world.network.inject(&frame);
                }
            }
            Step::Betray { forth, ref head, ref body } => {
                let to = usize::from(forth);
                let near = self.captured.heads[to];
                self.betrayed = true;
                self.world.network.inject(&frame(
                    to,
                    None,
                    head.header(near.token, near),
                    &self.captured.body(to, body),
                ));
            }
            Step::Say { forth, ref body } => {
                let to = usize::from(forth);
                self.betrayed = true;
                let body = self.captured.body(to, body);
                self.world.network.inject(&frame(to, None, self.captured.next(to), &body));
            }
            Step::Land { forth, grant, segment, length, checked } => {
                let to = usize::from(forth);
                let token = self.captured.heads[to].token;
                let header = BulkHeader { token, grant: (grant % 16).into(), segment: (segment % 24).into() };
                self.betrayed = true;
                self.world.network.inject(&lane_frame(to, header, length, checked));
            }
            Step::Alter { back, at, bits } => {
                let Some(mut frame) = self.captured.back(back).cloned() else { return };
                let covered = PACKET + CHECKSUM_LEN;
                let at = covered + usize::from(at) % (frame.len() - covered);
                frame[at] ^= bits;
                let sum = checksum([&frame[covered..]]);
                frame[PACKET..covered].copy_from_slice(&sum.to_be_bytes());
                self.betrayed = true;
                self.world.network.inject(&frame);
            }
        }
    }

    /// Sends what fits into the export. Waits for room, unless the link may have been ruined.
    fn send(&mut self, from: usize, offset: u16, length: u16, notify: bool, queued: bool) {
        let offset = usize::from(offset) % EXPORT;
        let length = (usize::from(length) % 4000 + 1).min(EXPORT - offset);
        let data: Vec<u8> = (0..length).map(|i| (i ^ i >> 8 ^ offset) as u8 | 1).collect();
        let mut send = Send::new(&data, offset as u64);
        (send.notify, send.queued) = (notify.then_some(7), queued);
        let end = self.world.now() + Duration::from_secs(60);
        loop {
            let now = self.world.now();
            let host = &mut self.world.hosts[from];
            match host.engine.send(now, &mut host.port, self.imports[from], &mut send) {
                Ok(Some(_)) => break,
                _ if self.betrayed && from < 2 => return,
                Ok(None) => assert!(now < end, "host {from} can't send"),
                Err(error) => panic!("host {from} can't send: {error}"),
            }
            self.world.network.set_conditions(Conditions::default());
            self.world.step();
            self.drain();
        }
        self.models[from][offset..offset + length].copy_from_slice(&data);
    }

    /// Begins to fetch what fits into the export. What has begun is looked at in the end.
    fn fetch(&mut self, from: usize, offset: u16, length: u16, cancel: bool) {
        let offset = usize::from(offset) % EXPORT;
        let length = (usize::from(length) % 4000).min(EXPORT - offset);
        let now = self.world.now();
        let host = &mut self.world.hosts[from];
        let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0; length]));
        match host.engine.fetch(now, &mut host.port, self.imports[from], offset as u64, &mut target) {
            Ok(Some(id)) if cancel => assert!(host.cancel_fetch(id).is_some()),
            Ok(Some(id)) => self.fetches.push((from, id)),
            Ok(None) => assert!(target.is_some()),
            Err(error) => assert!(self.betrayed && target.is_some(), "host {from} can't fetch: {error}"),
        }
    }

    /// Everything that was fetched is there, and a fetch brings what is in the other's memory now.
    fn see_fetched(&mut self) {
        for (host, fetch) in std::mem::take(&mut self.fetches) {
            self.fetched(host, fetch);
        }
        for host in 0..3 {
            let now = self.world.now();
            let Host { engine, port, .. } = &mut self.world.hosts[host];
            let mut target: Option<Box<dyn Target>> = Some(Box::new(vec![0; EXPORT]));
            let fetch = engine.fetch(now, port, self.imports[host], 0, &mut target).unwrap().expect("a fetch");
            let bytes: Vec<u8> = self.fetched(host, fetch).downcast();
            assert!(bytes == self.models[host], "host {host} has fetched other bytes");
        }
    }

    fn fetched(&mut self, host: usize, fetch: u32) -> Box<dyn Target> {
        let end = self.world.now() + Duration::from_secs(60);
        loop {
            match self.world.hosts[host].fetched(fetch) {
                Ok(Some(target)) => return target,
                Ok(None) => assert!(self.world.now() < end, "what host {host} fetches doesn't arrive"),
                Err((error, _)) => panic!("host {host} can't fetch: {error}"),
            }
            self.world.step();
            self.drain();
        }
    }

    /// Sends and sees it arrive.
    fn send_and_see(&mut self, from: usize) {
        let data = [0xaa; 100];
        let mut send = Send::new(&data, 50);
        send.notify = Some(8);
        self.models[from][50..150].copy_from_slice(&data);
        let (end, mut ticket) = (self.world.now() + Duration::from_secs(60), None);
        loop {
            let now = self.world.now();
            let host = &mut self.world.hosts[from];
            let engine = &mut host.engine;
            ticket = ticket.or_else(|| engine.send(now, &mut host.port, self.imports[from], &mut send).unwrap());
            if ticket.is_some_and(|ticket| engine.is_delivered(&ticket).unwrap()) {
                break;
            }
            assert!(now < end, "what host {from} sends doesn't arrive");
            self.world.step();
            self.drain();
        }
        assert!(contents(&self.regions[from]) == self.models[from], "host {from} has sent other bytes");
    }

    /// The applications take their notifications.
    fn drain(&mut self) {
        for (host, export) in self.exports {
            while let Some(news) = self.world.hosts[host].engine.take_notification(export) {
                assert!(news.offset + news.length <= EXPORT as u64, "{news:?}");
            }
        }
    }

    fn conclude(mut self) {
        self.send_and_see(2);
        if !self.betrayed {
            self.send_and_see(0);
            self.send_and_see(1);
            self.see_fetched();
        }
        // A fetch may be without end when the peer is mad; its memory comes back all the same.
        for (host, fetch) in std::mem::take(&mut self.fetches) {
            assert!(self.world.hosts[host].cancel_fetch(fetch).is_some());
        }
        // Links that nobody has confirmed are gone by then.
        self.check_bounds();
        self.quiet(Duration::from_secs(3));
        self.check_bounds();
        if self.betrayed {
            self.world.restart(0, link_config());
            let import = self.world.begin_import(0, 1, "inbox", key()).unwrap();
            let end = self.world.now() + Duration::from_secs(60);
            while self.world.hosts[0].engine.imported(import).unwrap().is_none() {
                assert!(self.world.now() < end, "the restarted host can't import");
                self.world.step();
                self.drain();
            }
            self.exports[1] = self.exports[0];
            self.imports[0] = import;
            self.models[0] = contents(&self.regions[0]);
            self.send_and_see(0);
            self.quiet(Duration::from_secs(3));
        }
        self.send_and_see(2);
        for (number, guard) in self.guards.iter().enumerate() {
            assert!(contents(guard).iter().all(|&b| b == 0), "memory {number}, which nobody was granted, has changed");
        }
        let (lonely, id) = self.redirect;
        assert_eq!(
            self.world.hosts[1].engine.redirect_state(lonely, id),
            Some((0, None)),
            "a redirect has taken something"
        );
        if !self.betrayed {
            self.quiet(Duration::from_secs(1));
            for host in &self.world.hosts {
                let (free, all) = (host.port.rx_headroom(), host.port.rx_capacity());
                assert_eq!(free, all, "a packet was not given back");
            }
        }
    }

    fn quiet(&mut self, span: Duration) {
        self.drain();
        self.world.run(span);
        self.drain();
    }

    fn check_bounds(&self) {
        for host in &self.world.hosts {
            assert!(host.engine.peers().count() <= 64 + 2, "half-open links without bound");
            let (free, all) = (host.port.rx_headroom(), host.port.rx_capacity());
            assert!(free + 3 >= all / 4, "{free} of {all} frames are free");
        }
    }
}

#[cfg(test)]
mod tests {
    use arbitrary::{Arbitrary, Unstructured};
    use proptest::prelude::*;

    use super::packets::Piece;
    use super::{Siege, Step, run};

    /// Steps, made of bytes as the fuzzer makes them.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop::collection::vec(any::<u8>(), 8..150)
            .prop_filter_map("too short", |bytes| Step::arbitrary(&mut Unstructured::new(&bytes)).ok());
        prop::collection::vec(step, 0..50)
    }

    /// Mostly what a sender may say, and mostly so that it is granted something: else the link ends with the first step.
    fn on_the_lane([which, kind, transfer, grant, segment, segments, offset, rest, more, a, b, c]: [u8; 12]) -> Step {
        let forth = which & 128 == 0;
        let bulk = |kind: u8| {
            let kind = if kind < 250 { [0, 0, 0, 13, 14, 15, 64][usize::from(kind % 7)] } else { kind };
            let segment = if segment < 250 { 1 } else { segment };
            let notify = (b > 250).then_some((7, u64::from(c) * 10));
            let (segments, offset) = (u16::from(segments % 5) + 1, u16::from(offset % 16) * 100);
            Piece::Bulk { kind, transfer, grant: grant % 6, segment, segments, offset, notify, rest: rest | 128 }
        };
        match which % 8 {
            0 => Step::Run(a),
            1..=4 => {
                Step::Land { forth, grant: a % 6, segment: b % 6, length: if c < 230 { 1 } else { c }, checked: c > 9 }
            }
            _ => Step::Say { forth, body: vec![bulk(kind), bulk(more)] },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn anything_happens(steps in steps()) {
            run(&Siege { steps });
        }

        /// The peer is only about the lane: it asks, is granted, lands, and cancels, whatever it is told.
        #[test]
        fn anything_happens_on_the_bulk_lane(seeds in prop::collection::vec(any::<[u8; 12]>(), 1..60)) {
            let steps = seeds.into_iter().map(on_the_lane).collect();
            run(&Siege { steps });
        }

        #[test]
        fn anything_outsiders_can_do_happens(mut steps in steps()) {
            steps.retain(|step| !matches!(step, Step::Betray { .. } | Step::Say { .. } | Step::Land { .. } | Step::Alter { .. }));
            run(&Siege { steps });
        }
    }
}
