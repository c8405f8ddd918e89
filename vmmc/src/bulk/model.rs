//! Two senders and a receiver, as the engine drives them, on a wire and a card that do their worst, against memory that is compared byte by byte.
//!
//! Beside the receiver's memory lies its *shadow*: what it should be. A transfer changes the shadow at once when it completes; all that isn't of an open
//! grant is always equal. So a packet that lands late, in the wrong place, or in memory that the application has again, doesn't go unnoticed.

mod wire;

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;

use self::wire::{Faults, Lane, Packet, Record, Records, Wire, checksum, faults};
use super::incoming::Incoming;
use super::outgoing::{MAX_AHEAD, Outgoing};
use super::permutation::Move;
use super::schedule::{Request, Schedule};
use crate::time::Time;

/// The lowest bytes of a transfer, which go before it.
const LOW: usize = 128;
/// Between what is sent to.
const GUARD: usize = 80;
const MOST_SEGMENTS: u32 = 24;
const REGIONS: usize = MAX_AHEAD + 1;
const STALL: Duration = Duration::from_nanos(100);
const DISTRUST: Duration = Duration::from_nanos(2000);
const ABANDONED: Duration = Duration::from_nanos(10_000);
/// Fill entries.
const ENTRIES: u32 = 40;
/// When the faults end, and when all must have ended.
const CALM: u64 = 30_000;
const END: u64 = 400_000;

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    faults: Faults,
    segment: usize,
    overlap: usize,
    checked: bool,
    transfers: u32,
    window: u64,
    /// When the second sender dies.
    death: Option<u64>,
}

/// What a transfer is to bring.
#[derive(Clone)]
struct Content {
    at: usize,
    bytes: Vec<u8>,
}

struct Sender {
    alive: bool,
    outgoing: Outgoing,
    contents: HashMap<u32, Content>,
    left: u32,
    inbox: Records,
    region: usize,
    /// Of each transfer, whether it was completed by the lane.
    completed: u32,
}

struct Grant {
    number: u32,
    peer: usize,
    transfer: u32,
    /// Where position 0 is.
    at: usize,
    segments: u32,
    incoming: Incoming,
    saved: HashMap<u32, Vec<u8>>,
}

struct World {
    case: Case,
    rng: Rng,
    now: u64,
    memory: Vec<u8>,
    shadow: Vec<u8>,
    wire: Wire,
    lane: Lane,
    senders: [Sender; 2],
    /// From each sender to the receiver.
    inboxes: [Records; 2],
    /// What they ask for, to see whether it comes so.
    expected: HashMap<(usize, u32), Content>,
    schedule: Schedule,
    trusted_at: [Time; 2],
    requests: HashMap<(usize, u32), (usize, u32)>,
    grants: Vec<Grant>,
    next_grant: u32,
    moves: usize,
    questions: usize,
    /// Landings that weren't kept.
    wasted: usize,
}

impl World {
    fn new(case: Case) -> World {
        let mut rng = Rng::with_seed(case.seed);
        let region = GUARD + LOW + MOST_SEGMENTS as usize * case.segment;
        let mut memory = vec![0; 2 * REGIONS * region + GUARD];
        rng.fill(&mut memory);
        let sender = |region| Sender {
            alive: true,
            outgoing: Outgoing::default(),
            contents: HashMap::new(),
            left: case.transfers,
            inbox: Records::default(),
            region,
            completed: 0,
        };
        World {
            rng,
            now: 0,
            shadow: memory.clone(),
            memory,
            wire: Wire::default(),
            lane: Lane::new(case.overlap),
            senders: [sender(0), sender(REGIONS)],
            inboxes: Default::default(),
            expected: HashMap::new(),
            schedule: Schedule::new(ENTRIES, 2),
            trusted_at: [Time::ZERO; 2],
            requests: HashMap::new(),
            grants: Vec::new(),
            next_grant: 0,
            moves: 0,
            questions: 0,
            wasted: 0,
            case,
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn faults(&self) -> Faults {
        if self.now < CALM { self.case.faults } else { Faults::default() }
    }

    /// Runs until all is done that can be.
    fn run(&mut self) {
        while !self.is_over() {
            assert!(
                self.now < END,
                "goes on for ever: {:?}",
                self.grants.iter().map(|grant| &grant.incoming).collect::<Vec<_>>()
            );
            self.now += 1;
            if self.case.death == Some(self.now) {
                self.die();
            }
            for peer in 0..self.senders.len() {
                self.send(peer);
            }
            let faults = self.faults();
            while let Some(packet) = self.wire.arrived(self.now) {
                self.lane.arrive(&mut self.rng, &faults, &mut self.memory, &packet);
            }
            if self.rng.u8(0..4) == 0 {
                self.serve();
            }
            if self.rng.f64() < faults.reopen {
                self.reopen();
            }
        }
        self.compare();
        assert_eq!(self.memory, self.shadow);
    }

    fn is_over(&self) -> bool {
        let sent = |sender: &Sender| !sender.alive || (sender.left == 0 && sender.contents.is_empty());
        let told = self.inboxes.iter().all(|inbox| inbox.0.is_empty());
        self.senders.iter().all(sent)
            && told
            && self.grants.is_empty()
            && self.schedule.is_empty()
            && self.wire.is_empty()
    }

    /// The second sender is no more. The receiver learns of it by its silence, or from the link.
    fn die(&mut self) {
        let peer = 1;
        self.senders[peer].alive = false;
        if self.rng.bool() {
            self.inboxes[peer] = Records::default();
            let open = self.schedule.forget(peer as u64);
            let theirs = self.grants.iter().filter(|grant| grant.peer == peer).count();
            assert_eq!(open.len(), theirs);
            while let Some(index) = self.grants.iter().position(|grant| grant.peer == peer) {
                self.abandon(index);
            }
        }
    }

    fn send(&mut self, peer: usize) {
        let Sender { alive: true, outgoing, contents, inbox, .. } = &mut self.senders[peer] else { return };
        while let Some(record) = inbox.next(self.now) {
            match record {
                Record::Granted { transfer, grant } => outgoing.on_granted(transfer, grant).unwrap(),
                Record::Declined { transfer } => {
                    outgoing.on_declined(transfer).unwrap();
                    let Content { at, bytes } = contents.remove(&transfer).unwrap();
                    self.inboxes[peer].send(self.now, Record::Put { at, bytes });
                }
                Record::Landed { grant, count } => outgoing.on_landed(grant, count).unwrap(),
                Record::Missing { grant, ranges } => _ = outgoing.on_missing(grant, &ranges).unwrap(),
                Record::Done { transfer } => {
                    outgoing.on_done(transfer).unwrap();
                    contents.remove(&transfer).unwrap();
                    self.senders[peer].completed += 1;
                    return;
                }
                Record::Put { .. } | Record::Bulk { .. } => unreachable!("the receiver sends none"),
            }
        }
        self.ask(peer);
        for _ in 0..self.rng.u8(0..4) {
            let sender = &mut self.senders[peer];
            let Some(next) = sender.outgoing.next_segment(self.case.window) else { return };
            sender.outgoing.sent(&next);
            let from = LOW + next.segment as usize * self.case.segment;
            let payload = sender.contents[&next.transfer].bytes[from..from + self.case.segment].to_vec();
            let packet = Packet::new(peer as u64, next.grant, next.segment, payload);
            let faults = self.faults();
            self.wire.send(self.now, &mut self.rng, &faults, packet);
        }
    }

    /// Now and then a transfer more, to memory that no unfinished one goes to.
    fn ask(&mut self, peer: usize) {
        let sender = &mut self.senders[peer];
        if sender.left == 0 || !sender.outgoing.may_ask() || self.rng.u8(0..10) != 0 {
            return;
        }
        let len = GUARD + LOW + MOST_SEGMENTS as usize * self.case.segment;
        let starts = (sender.region..sender.region + REGIONS).map(|region| GUARD + region * len);
        let free = starts.filter(|at| sender.contents.values().all(|content| content.at != *at)).collect::<Vec<_>>();
        let (at, segments) = (*self.rng.choice(&free).unwrap(), self.rng.u32(1..=MOST_SEGMENTS));
        let mut bytes = vec![0; LOW + segments as usize * self.case.segment];
        self.rng.fill(&mut bytes);
        let transfer = sender.outgoing.ask(segments).unwrap();
        sender.left -= 1;
        self.inboxes[peer].send(self.now, Record::Put { at, bytes: bytes[..LOW].to_vec() });
        self.inboxes[peer].send(self.now, Record::Bulk { transfer, at: at + LOW, segments });
        sender.contents.insert(transfer, Content { at, bytes: bytes.clone() });
        self.expected.insert((peer, transfer), Content { at, bytes });
    }

    /// What the receiver's engine does.
    fn serve(&mut self) {
        for peer in 0..self.inboxes.len() {
            while let Some(record) = self.inboxes[peer].next(self.now) {
                self.on_record(peer, record);
            }
        }
        for landing in self.lane.receive() {
            self.on_landing(&landing);
        }
        let (now, stalled) = (self.time(), |grant: &Grant| grant.incoming.quiet(Time::from_nanos(self.now)) >= STALL);
        if !self.lane.consistent
            && self.grants.iter().any(|grant| grant.incoming.is_complete() || stalled(grant) || self.rng.u8(0..20) == 0)
        {
            self.reopen();
        }
        if self.rng.u8(0..10) == 0 && self.lane.consistent {
            self.grants.iter_mut().for_each(|grant| grant.incoming.trust());
        }
        while let Some(index) = self.grants.iter().position(|grant| grant.incoming.is_complete()) {
            self.complete(index);
        }
        while let Some(index) = self.grants.iter().position(|grant| grant.incoming.quiet(now) >= ABANDONED) {
            self.abandon(index);
        }
        self.open();
        self.post();
        self.tell();
    }

    fn on_record(&mut self, peer: usize, record: Record) {
        match record {
            Record::Put { at, bytes } => {
                self.memory[at..at + bytes.len()].copy_from_slice(&bytes);
                self.shadow[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Record::Bulk { transfer, at, segments } => {
                let range = (at - self.lane.overlap) as u64..(at + segments as usize * self.case.segment) as u64;
                let entries = segments;
                let segment = self.case.segment as u32;
                let request = Request { peer: peer as u64, transfer, entries, segment, arena: 0, range };
                if self.time() >= self.trusted_at[peer] && self.schedule.request(request).is_ok() {
                    self.requests.insert((peer, transfer), (at, segments));
                } else {
                    self.senders[peer].inbox.send(self.now, Record::Declined { transfer });
                }
            }
            record => unreachable!("a sender sends no {record:?}"),
        }
    }

    fn on_landing(&mut self, landing: &wire::Landing) {
        let (now, len) = (self.time(), self.case.segment);
        for grant in &mut self.grants {
            let Some(position) = grant.incoming.position_of(landing.place) else { continue };
            let from = grant.at + position as usize * len;
            let right = checksum(landing.segment, &self.memory[from..from + len]) == landing.checksum;
            let intact = landing.grant == grant.number && (right || !self.case.checked);
            let landed = grant.incoming.landed(now, landing.place, landing.segment, intact).unwrap();
            assert_eq!(landed.position, position);
            assert!(intact || !landed.kept);
            self.wasted += usize::from(!landed.kept);
            if landed.restore {
                let saved = grant.saved.remove(&position).unwrap();
                self.memory[from - saved.len()..from].copy_from_slice(&saved);
            }
            assert!(self.case.overlap > 0 || !(landed.restore || landed.damaged.is_some()));
            return;
        }
        panic!("a landing in no place of an open grant");
    }

    /// Whether the log can be trusted is asked before, for afterwards nobody knows.
    fn reopen(&mut self) {
        let consistent = self.lane.consistent;
        self.lane.reopen();
        for grant in &mut self.grants {
            for position in grant.incoming.reopened(consistent) {
                let saved = grant.saved.remove(&position).unwrap();
                let from = grant.at + position as usize * self.case.segment;
                self.memory[from - saved.len()..from].copy_from_slice(&saved);
            }
            assert!(grant.saved.is_empty());
        }
        self.compare();
    }

    fn complete(&mut self, index: usize) {
        self.grants[index].incoming.trust();
        let Grant { number: _, peer, transfer, at, segments: _, incoming, saved } = self.grants.remove(index);
        assert!(saved.is_empty() && incoming.unused() == 0);
        let len = self.case.segment;
        let start = |position: u32| at + position as usize * len;
        let mut aside = Vec::new();
        for step in incoming.moves() {
            self.moves += 1;
            match step {
                Move::Save(from) => aside = self.memory[start(from)..start(from) + len].to_vec(),
                Move::Copy { from, to } => self.memory.copy_within(start(from)..start(from) + len, start(to)),
                Move::Restore(to) => self.memory[start(to)..start(to) + len].copy_from_slice(&aside),
            }
        }
        let Content { at, bytes } = &self.expected[&(peer, transfer)];
        assert_eq!(self.memory[*at..*at + bytes.len()], bytes[..], "transfer {transfer} of {peer}");
        self.shadow[*at..*at + bytes.len()].copy_from_slice(bytes);
        assert!(self.schedule.closed(peer as u64, transfer));
        self.senders[peer].inbox.send(self.now, Record::Done { transfer });
        self.compare();
    }

    /// Takes back what was granted: then the memory is the application's, which writes to it at once.
    fn abandon(&mut self, index: usize) {
        self.reopen();
        let Grant { peer, transfer, at, segments, .. } = self.grants.remove(index);
        self.schedule.closed(peer as u64, transfer);
        let end = at + segments as usize * self.case.segment;
        self.rng.fill(&mut self.memory[at..end]);
        self.shadow[at..end].copy_from_slice(&self.memory[at..end]);
        let now = self.time();
        self.grants.iter_mut().for_each(|other| other.incoming.held_up(now));
        self.trusted_at[peer] = now + DISTRUST;
        let waiting = self.schedule.withdraw(peer as u64);
        for transfer in waiting.into_iter().map(|request| request.transfer).chain([transfer]) {
            self.senders[peer].inbox.send(self.now, Record::Declined { transfer });
        }
        self.compare();
    }

    fn open(&mut self) {
        loop {
            let unused = self.grants.iter().map(|grant| grant.incoming.unused()).sum::<u32>();
            let next = self.schedule.next(ENTRIES - unused.min(ENTRIES), unused, None, |_| true);
            let Some(request) = next else { return };
            let (peer, transfer) = (request.peer as usize, request.transfer);
            let (at, segments) = self.requests[&(peer, transfer)];
            let incoming = Incoming::new(segments, self.lane.overlap, self.time()).unwrap();
            let number = self.next_grant;
            self.next_grant += 1;
            self.grants.push(Grant { number, peer, transfer, at, segments, incoming, saved: HashMap::new() });
            self.post();
            self.senders[peer].inbox.send(self.now, Record::Granted { transfer, grant: number });
        }
    }

    fn post(&mut self) {
        for grant in &mut self.grants {
            while let Some(position) = grant.incoming.next_to_post() {
                let from = grant.at + position as usize * self.case.segment;
                if grant.incoming.needs_saving(position) {
                    let saved = self.memory[from - self.lane.overlap..from].to_vec();
                    assert_eq!(grant.saved.insert(position, saved), None);
                }
                let place = self.lane.post(grant.peer as u64, grant.number, from);
                assert!(grant.incoming.posted(position, place));
            }
        }
    }

    fn tell(&mut self) {
        let now = self.time();
        let lively = self.grants.first().is_some_and(|first| first.incoming.quiet(now) < STALL);
        let mut first = true;
        for grant in &mut self.grants {
            let inbox = &mut self.senders[grant.peer].inbox;
            if grant.incoming.unreported() > 0 {
                inbox.send(self.now, Record::Landed { grant: grant.number, count: grant.incoming.report() });
            }
            if !std::mem::replace(&mut first, false) && lively {
                grant.incoming.held_up(now);
            }
            let ranges = grant.incoming.ask(now, STALL, 4);
            assert!(ranges.len() <= 4);
            if !ranges.is_empty() {
                self.questions += 1;
                inbox.send(self.now, Record::Missing { grant: grant.number, ranges });
            }
        }
    }

    /// Nothing but what is granted differs from what it should be.
    fn compare(&self) {
        let mut masked = self.memory.clone();
        for grant in &self.grants {
            let granted = grant.at - self.lane.overlap..grant.at + grant.segments as usize * self.case.segment;
            masked[granted.clone()].copy_from_slice(&self.shadow[granted]);
        }
        assert!(masked == self.shadow, "memory has changed that isn't granted");
    }
}

prop_compose! {
    fn cases()(
        seed: u64, mut faults in faults(), checked: bool, headers: bool, transfers in 1u32..8, window in 1u64..40,
        death in proptest::option::of(1u64..2000),
    ) -> Case {
        if !checked {
            faults.damage = 0.0;
        }
        let (segment, overlap) = if headers { (72, 66) } else { (8, 0) };
        Case { seed, faults, segment, overlap, checked, transfers, window, death }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever happens, what completes is whole, nothing else is written, and it comes to an end.
    #[test]
    fn whatever_the_wire_does(case in cases()) {
        World::new(case).run();
    }

    /// On a wire that only loses packets all come by the lane, and nothing is sent again that had landed.
    #[test]
    fn a_loss_costs_only_what_was_lost(seed: u64, loss in 0.0..0.05, transfers in 1u32..8, window in 1u64..40) {
        let faults = Faults { loss, ..Faults::default() };
        let case =
            Case { seed, faults, segment: 8, overlap: 0, checked: false, transfers, window, death: None };
        let mut world = World::new(case);
        world.run();
        prop_assert_eq!((world.senders[0].completed, world.senders[1].completed), (transfers, transfers));
        prop_assert_eq!(world.wasted, 0);
    }

    /// On a good wire one sender's transfers all come by the lane, nothing is moved, and nothing is asked for.
    #[test]
    fn a_good_wire_needs_no_moves(seed: u64, headers: bool, transfers in 1u32..8, window in 1u64..40) {
        let (segment, overlap) = if headers { (72, 66) } else { (8, 0) };
        let faults = Faults::default();
        let case = Case { seed, faults, segment, overlap, checked: true, transfers, window, death: Some(1) };
        let mut world = World::new(case);
        world.run();
        prop_assert_eq!(world.senders[0].completed, transfers);
        prop_assert_eq!((world.moves, world.questions, world.lane.reopened), (0, 0, 0));
    }
}
